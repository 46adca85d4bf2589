"""Pictures and diagrams of a characterization: each ``draw_...`` draws one thing into given axes.

Matplotlib is needed only when something is drawn. Colours are those of Okabe & Ito (2008) and perceptually uniform
maps, which colour-blind readers and black-and-white printers can tell apart.
"""

from streamchar.characterize.drawing.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    new_figure,
    say,
)
from streamchar.characterize.drawing.charts import draw_size_magnitude, draw_timings, draw_whiskers
from streamchar.characterize.drawing.diagrams import (
    PsfWhiskers,
    SizeMagnitude,
    StarStamps,
    Whiskers,
    star_stamps,
)
from streamchar.characterize.drawing.images import (
    draw_background,
    draw_cosmic_rays,
    draw_difference,
    draw_field,
    draw_footprints,
    draw_image,
    draw_outline,
    draw_psf_stars,
    draw_sources,
)
from streamchar.characterize.drawing.mosaics import draw_psf_grid, draw_star_stamps

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "VERMILLION",
    "PsfWhiskers",
    "SizeMagnitude",
    "StarStamps",
    "Whiskers",
    "draw_background",
    "draw_cosmic_rays",
    "draw_difference",
    "draw_field",
    "draw_footprints",
    "draw_image",
    "draw_outline",
    "draw_psf_grid",
    "draw_psf_stars",
    "draw_size_magnitude",
    "draw_sources",
    "draw_star_stamps",
    "draw_timings",
    "draw_whiskers",
    "new_figure",
    "say",
    "star_stamps",
]
