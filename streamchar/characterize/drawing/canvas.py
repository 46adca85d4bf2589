"""What all drawings share: the figure, colours, labels, and images made small enough to draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.errors import MissingPlotsError
from streamchar.image import preview

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

BLUE, ORANGE, GREEN, VERMILLION, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
GREY = "#7F7F7F"
"""Colours of the marks: used stars, reserved stars, footprints, cosmic rays, the stellar locus; other sources."""

MAX_SIDE = 1024
"""Images with a longer side are drawn from the means of square blocks of pixels."""

MISSING = "0.8"
"""Grey of pixels without a value."""


def new_figure(width: float, height: float, *, dpi: float = 110.0) -> Figure:
    """Return an empty figure that belongs to no window and no global state.

    Parameters
    ----------
    width, height
        Inches.
    dpi
        Pixels per inch.

    Raises
    ------
    MissingPlotsError
        When matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401

        from streamchar.characterize.drawing.shown import ShownFigure
    except ImportError as error:
        raise MissingPlotsError from error
    return ShownFigure(width, height, dpi)


def blocks(plane: NDArray[np.floating[Any]]) -> Array:
    """Means of square blocks, leaving out what is not finite; the last blocks of a side may hold fewer pixels."""
    return preview.block_means(plane, _width(plane.shape))


def any_in_blocks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether any pixel of a block is true; blocks as in :func:`blocks`."""
    return preview.any_in_blocks(mask, _width(mask.shape))


def _width(shape: tuple[int, ...]) -> int:
    return preview.block_width(shape, MAX_SIDE)


def extent(shape: tuple[int, ...], origin: tuple[int, int] = (0, 0)) -> tuple[float, float, float, float]:
    """Edges left, right, bottom, top of an image in pixels of the exposure, the last blocks of its sides completed.

    Parameters
    ----------
    shape
        Of the image before it was drawn from blocks.
    origin
        Exposure pixel (x, y) of its first pixel.
    """
    factor = _width(shape)
    height, width = (-(-length // factor) * factor for length in shape)
    x, y = origin
    return x - 0.5, x + width - 0.5, y - 0.5, y + height - 0.5


def nice(value: float) -> float:
    """Round to 1, 2 or 5 times a power of ten, not above the value; 0 for 0."""
    if not value > 0:
        return 0.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(power * max(step for step in (1, 2, 5) if step * power <= value * (1 + 1e-9)))


def color_map(name: str) -> Any:
    """Return a colour map that draws missing values in grey."""
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=MISSING)


def color_bar(axes: Axes, drawn: Any, label: str) -> None:
    """Add a colour bar with a label beside the axes."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    # Inset, so that the bar is as tall as axes of fixed proportions.
    bar = figure.colorbar(drawn, cax=axes.inset_axes((1.03, 0.0, 0.045, 1.0)))
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def pixel_labels(axes: Axes) -> None:
    """Label the axes as pixels of the exposure."""
    axis_labels(axes, "x (pixel)", "y (pixel)")


def axis_labels(axes: Axes, x: str, y: str) -> None:
    """Label the axes in the size that all drawings share."""
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7)


def legend(axes: Axes) -> None:
    """Add a legend where it hides least, when something has a label."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize=7, framealpha=0.85, borderpad=0.3, handletextpad=0.4)


def keep_limits(axes: Axes, draw: Callable[[], object]) -> None:
    """Draw without changing what part of the exposure is shown."""
    limits = axes.axis()
    draw()
    axes.axis(limits)


def say(axes: Axes, text: str) -> None:
    """Write one sentence into axes that have nothing to show."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color="0.35")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
