"""The exposure and smooth maps over it: pixels, outlines, marks, background, corrections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.drawing.canvas import (
    BLUE,
    GREEN,
    ORANGE,
    VERMILLION,
    Array,
    any_in_blocks,
    blocks,
    color_bar,
    color_map,
    extent,
    keep_limits,
    legend,
    nice,
    pixel_labels,
    say,
)
from streamchar.characterize.footprints import Footprints
from streamchar.characterize.psf.measure import PsfStars
from streamchar.image.field import Field
from streamchar.image.preview import Stretch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Segments = NDArray[np.float64]

_FEW_STARS = 200
_MARKS_ACROSS = 400
"""A mark is at least about this fraction of the image wide."""


def draw_image(
    axes: Axes,
    image: NDArray[np.floating[Any]],
    *,
    origin: tuple[int, int] = (0, 0),
    pixel_scale: float | None = None,
    unit: str = "",
) -> None:
    """Draw pixels in inverted grey with a robust asinh stretch and a scale bar.

    Parameters
    ----------
    axes
        Where to draw; its limits become those of the image, in pixels of the exposure.
    image
        (height, width), background subtracted or not; pixels that are not finite are drawn in light grey.
    origin
        Exposure pixel (x, y) of the first pixel.
    pixel_scale
        Arcseconds per pixel; without it the scale bar is in pixels.
    unit
        Unit of the pixels, for the caption.
    """
    stretch = Stretch.of(image)
    shown = stretch.apply(blocks(image))
    low, high = stretch.limits
    axes.imshow(
        np.ma.masked_invalid(shown),
        cmap=color_map("gray_r"),
        origin="lower",
        extent=extent(image.shape, origin),
        interpolation="nearest",
        vmin=low,
        vmax=high,
    )
    pixel_labels(axes)
    _draw_scale_bar(axes, image.shape[1], pixel_scale)
    caption = f"asinh, σ = {stretch.sigma:.3g} {unit}".rstrip() + f", black at {np.sinh(high):.0f} σ"
    axes.annotate(
        caption,
        (1, 1),
        (0, 3),
        "axes fraction",
        "offset points",
        ha="right",
        va="bottom",
        fontsize=7,
        color="0.35",
    )


def draw_footprints(axes: Axes, footprints: Footprints, *, color: str = GREEN) -> None:
    """Outline footprints along the edges of their pixels; touching footprints are told apart."""
    _draw_outlines(axes, footprints.label_image(), color)


def draw_sources(axes: Axes, x: Array, y: Array, *, color: str = GREEN) -> None:
    """Mark positions in pixels with small crosses."""
    known = np.isfinite(x) & np.isfinite(y)
    keep_limits(axes, lambda: axes.plot(x[known], y[known], "+", color=color, ms=4, mew=0.7))


def draw_psf_stars(axes: Axes, stars: PsfStars) -> None:
    """Mark the PSF candidates: used ones, reserved ones, those the fit left out; with a legend that counts them."""
    kinds = (
        (stars.used, "o", BLUE, "used"),
        (stars.reserved, "s", ORANGE, "reserved"),
        (~stars.used & ~stars.reserved, "x", VERMILLION, "not used"),
    )

    few = len(stars) <= _FEW_STARS

    def draw() -> None:
        for which, marker, color, label in kinds:
            if not which.any():
                continue
            axes.plot(
                stars.x[which],
                stars.y[which],
                marker,
                mfc="none",
                mec=color,
                ms=7 if few else 4,
                mew=1.2 if few else 0.8,
                label=f"{int(which.sum())} {label}",
            )
        legend(axes)

    keep_limits(axes, draw)


def draw_cosmic_rays(axes: Axes, mask: NDArray[np.bool_], *, origin: tuple[int, int] = (0, 0)) -> None:
    """Lay pixels hit by cosmic rays over an image.

    Parameters
    ----------
    mask
        bool (height, width). Hits are grown on large images, so that those of a single pixel can be seen.
    origin
        Exposure pixel (x, y) of the first pixel.
    """
    from matplotlib.colors import to_rgba
    from scipy.ndimage import binary_dilation

    hit = any_in_blocks(mask)
    if radius := max(hit.shape) // _MARKS_ACROSS:
        hit = binary_dilation(hit, iterations=radius)
    overlay = np.zeros((*hit.shape, 4))
    overlay[hit] = to_rgba(VERMILLION, 0.85)
    edges = extent(mask.shape, origin)
    keep_limits(
        axes, lambda: axes.imshow(overlay, origin="lower", extent=edges, interpolation="nearest", zorder=2)
    )


def draw_outline(
    axes: Axes, mask: NDArray[np.bool_], *, origin: tuple[int, int] = (0, 0), color: str = VERMILLION
) -> None:
    """Outline the true pixels of a mask; for pictures in which single pixels can be seen."""
    _draw_outlines(axes, mask.astype(np.int8), color, origin)


def outlines(labels: NDArray[np.integer[Any]]) -> Segments:
    """Return the lines between pixels of different labels, and around those at the border.

    Parameters
    ----------
    labels
        (height, width), 0 outside of everything.

    Returns
    -------
    float64 (n, 2, 2)
        Start and end (x, y) of each line in pixels; pixel centres are whole numbers.
    """
    padded = np.pad(labels, 1)
    upright = _runs((padded[1:-1, 1:] != padded[1:-1, :-1]).T)
    level = _runs(padded[1:, 1:-1] != padded[:-1, 1:-1])
    # A run is (line, start, end): the line lies before the pixel of its number.
    upright = upright[:, [[0, 1], [0, 2]]]
    level = level[:, [[1, 0], [2, 0]]]
    return np.concatenate([upright, level]) - 0.5


def draw_background(axes: Axes, plane: NDArray[np.floating[Any]], *, unit: str = "") -> None:
    """Draw a background model in colour, with contours and a colour bar.

    Parameters
    ----------
    plane
        (height, width) in image units.
    unit
        For the label of the colour bar.
    """
    _draw_smooth(axes, blocks(plane), extent(plane.shape), f"background ({unit})" if unit else "background")


def draw_field(axes: Axes, field: Field, shape: tuple[int, int], *, label: str) -> None:
    """Draw a quantity that varies smoothly over the exposure, an aperture correction for example.

    Parameters
    ----------
    field
        Evaluated on 64 x 64 points.
    shape
        Height and width of the exposure in pixels.
    label
        What it is, with its unit.
    """
    height, width = shape
    x, y = np.meshgrid(*((np.arange(64) + 0.5) / 64 * length - 0.5 for length in (width, height)))
    values = np.asarray(field.evaluate(x.ravel(), y.ravel())).reshape(x.shape)
    _draw_smooth(axes, values, (-0.5, width - 0.5, -0.5, height - 0.5), label)


def draw_difference(
    axes: Axes,
    plane: NDArray[np.floating[Any]],
    *,
    label: str,
    limit: float | None = None,
    origin: tuple[int, int] = (0, 0),
) -> None:
    """Draw something that should be zero everywhere, red where positive, with mean and rms.

    Parameters
    ----------
    plane
        (height, width); pixels that are not finite are left out.
    label
        What it is, with its unit.
    limit
        Value of the deepest colours; the 99.5th percentile of the absolute values when omitted.
    origin
        Exposure pixel (x, y) of the first pixel.
    """
    values = plane[np.isfinite(plane)].astype(np.float64)
    if limit is None:
        limit = float(np.quantile(np.abs(values), 0.995)) if values.size else 1.0
    limit = limit or 1.0
    shown = np.ma.masked_invalid(blocks(plane))
    drawn = axes.imshow(
        shown,
        cmap=color_map("RdBu_r"),
        vmin=-limit,
        vmax=limit,
        origin="lower",
        extent=extent(plane.shape, origin),
        interpolation="nearest",
    )
    color_bar(axes, drawn, label)
    pixel_labels(axes)
    if values.size:
        rms = float(np.sqrt(np.mean(values**2)))
        axes.set_title(f"mean {values.mean():+.3g}, rms {rms:.3g}", loc="right", fontsize=8, color="0.35")


def _draw_smooth(
    axes: Axes, values: NDArray[np.floating[Any]], edges: tuple[float, float, float, float], label: str
) -> None:
    finite = values[np.isfinite(values)]
    if finite.size and np.ptp(finite) <= 1e-9 * np.abs(finite).max():
        # A scale of colours would suggest a variation that there is not.
        say(axes, f"{label}: {finite.flat[0]:.5g} everywhere")
        return
    drawn = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=color_map("cividis"),
        origin="lower",
        extent=edges,
        interpolation="nearest",
    )
    if finite.size and min(values.shape) > 1:
        lines = axes.contour(
            np.ma.masked_invalid(values), 6, colors="white", linewidths=0.7, extent=edges, origin="lower"
        )
        axes.clabel(lines, fontsize=7)
    color_bar(axes, drawn, label)
    pixel_labels(axes)


def _draw_outlines(
    axes: Axes, labels: NDArray[np.integer[Any]], color: str, origin: tuple[int, int] = (0, 0)
) -> None:
    from matplotlib.collections import LineCollection

    segments = outlines(labels) + np.array(origin, np.float64)
    left, right = sorted(axes.get_xlim())
    bottom, top = sorted(axes.get_ylim())
    low, high = segments.min(axis=1), segments.max(axis=1)
    seen = (high[:, 0] >= left) & (low[:, 0] <= right) & (high[:, 1] >= bottom) & (low[:, 1] <= top)
    axes.add_collection(LineCollection(list(segments[seen]), colors=color, linewidths=0.8), autolim=False)


def _runs(edges: NDArray[np.bool_]) -> Array:
    bounded = np.pad(edges.astype(np.int8), ((0, 0), (1, 1)))
    change = np.diff(bounded, axis=1)
    row, start = np.nonzero(change == 1)
    _, end = np.nonzero(change == -1)
    return np.stack([row, start, end], axis=1).astype(np.float64).reshape(-1, 3)


def _draw_scale_bar(axes: Axes, width: int, pixel_scale: float | None) -> None:
    from matplotlib.patheffects import withStroke

    scale = pixel_scale if pixel_scale and np.isfinite(pixel_scale) else None
    length = nice(0.25 * width * (scale or 1.0))
    if not length:
        return
    if scale is None:
        text = f"{length:g} px"
    elif length >= 60:
        length = 60 * nice(length / 60)
        text = f"{length / 60:g}′"
    else:
        text = f"{length:g}″"
    fraction = length / (scale or 1.0) / width
    halo = [withStroke(linewidth=4, foreground="white")]
    axes.plot(
        [0.04, 0.04 + fraction],
        [0.04, 0.04],
        transform=axes.transAxes,
        color="black",
        lw=2,
        solid_capstyle="butt",
        path_effects=halo,
        zorder=5,
    )
    axes.annotate(
        text,
        (0.04 + 0.5 * fraction, 0.05),
        xycoords="axes fraction",
        ha="center",
        va="bottom",
        fontsize=8,
        path_effects=halo,
        zorder=5,
    )
