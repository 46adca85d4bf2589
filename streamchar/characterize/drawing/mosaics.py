"""Many small images side by side: the PSF over the exposure, stars and what the model leaves of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamchar.characterize.drawing.canvas import (
    BLUE,
    MISSING,
    ORANGE,
    Array,
    axis_labels,
    color_bar,
    color_map,
    say,
)
from streamchar.characterize.drawing.diagrams import StarStamps
from streamchar.image import Psf

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RESIDUAL_LIMIT = 5.0
_STAMPS_IN_A_ROW = 6


def draw_psf_grid(axes: Axes, psf: Psf, shape: tuple[int, int], *, count: int = 5) -> None:
    """Draw the PSF where it stands on a grid over the exposure, each with its contour at half of the maximum.

    Parameters
    ----------
    psf
        The model.
    shape
        Height and width of the exposure in pixels.
    count
        Positions along each side.
    """
    height, width = shape
    x, y = ((np.arange(count) + 0.5) / count * length - 0.5 for length in (width, height))
    grid_x, grid_y = (part.ravel() for part in np.meshgrid(x, y))
    stamps = _cropped(psf.kernel_images(grid_x, grid_y))
    size = stamps.shape[1]
    mosaic = (
        stamps.reshape(count, count, size, size).transpose(0, 2, 1, 3).reshape(count * size, count * size)
    )
    shown = np.ma.masked_invalid(np.arcsinh(mosaic / 0.003))
    axes.imshow(
        shown,
        cmap=color_map("magma_r"),
        origin="lower",
        vmin=0,
        vmax=float(np.arcsinh(1 / 0.003)),
        interpolation="nearest",
    )
    if np.isfinite(mosaic).any() and np.nanmax(mosaic) > 0.5:
        axes.contour(np.where(np.isfinite(mosaic), mosaic, 0.0), [0.5], colors=[BLUE], linewidths=0.8)
    for edge in range(1, count):
        axes.axhline(edge * size - 0.5, color=MISSING, lw=0.6)
        axes.axvline(edge * size - 0.5, color=MISSING, lw=0.6)
    centres = (np.arange(count) + 0.5) * size - 0.5
    axes.set_xticks(centres, [f"{value:.0f}" for value in x])
    axes.set_yticks(centres, [f"{value:.0f}" for value in y])
    axis_labels(axes, "at x (pixel)", "at y (pixel)")
    axes.set_title(f"{size} px wide, asinh, line at half maximum", loc="right", fontsize=7, color="0.35")


def draw_star_stamps(axes: Axes, stamps: StarStamps) -> None:
    """Draw stars above what is left of them after subtracting the model, used stars first, then reserved ones.

    The number under each residual is the largest in standard deviations.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    rows = [
        (kind, chosen[start : start + _STAMPS_IN_A_ROW])
        for kind, chosen in (
            ("used", np.flatnonzero(~stamps.reserved)),
            ("reserved", np.flatnonzero(stamps.reserved)),
        )
        for start in range(0, len(chosen), _STAMPS_IN_A_ROW)
    ]
    if not rows:
        say(axes, "no PSF stars")
        return
    size = stamps.stars.shape[1]
    columns = max(len(chosen) for _, chosen in rows)
    canvas = np.ones((2 * len(rows) * size, columns * size, 4))
    norm = Normalize(-_RESIDUAL_LIMIT, _RESIDUAL_LIMIT)
    grey, diverging = color_map("gray_r"), color_map("RdBu_r")
    softening = 0.01
    deepest = np.arcsinh(1 / softening)
    worst = stamps.worst
    for row, (kind, chosen) in enumerate(rows):
        for column, star in enumerate(chosen):
            across = slice(column * size, (column + 1) * size)
            top = 2 * row * size
            light = np.arcsinh(np.clip(stamps.stars[star], -softening, None) / softening) / deepest
            canvas[top : top + size, across] = grey(np.ma.masked_invalid(light)[::-1])
            residual = np.ma.masked_invalid(stamps.residuals[star])
            canvas[top + size : top + 2 * size, across] = diverging(norm(residual))[::-1]
            axes.annotate(
                f"{worst[star]:.0f}σ",
                (across.stop - 1.0, top + 2 * size - 1.5),
                ha="right",
                fontsize=6,
                color="0.25",
            )
        color = BLUE if kind == "used" else ORANGE
        for offset, label in ((0.5, kind), (1.5, "residual")):
            axes.annotate(
                label,
                (-0.02 * columns * size, (2 * row + offset) * size),
                rotation=90,
                ha="right",
                va="center",
                fontsize=8,
                color=color,
                annotation_clip=False,
            )
    axes.imshow(canvas, interpolation="nearest")
    for edge in range(1, 2 * len(rows)):
        axes.axhline(edge * size - 0.5, color="0.5" if edge % 2 else "black", lw=0.5 if edge % 2 else 1)
    for edge in range(1, columns):
        axes.axvline(edge * size - 0.5, color="0.5", lw=0.5)
    axes.set_axis_off()
    color_bar(axes, ScalarMappable(norm, colormaps["RdBu_r"]), "star − model (σ of the pixel)")


def _cropped(stamps: Array) -> Array:
    """Unit peak, and no more around it than three times the width at half maximum on either side."""
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = stamps / stamps.max(axis=(1, 2), keepdims=True)
        area = float(np.max((scaled > 0.5).sum(axis=(1, 2)), initial=1))
    middle = stamps.shape[1] // 2
    reach = min(middle, int(np.ceil(3 * np.sqrt(area))))
    inner = slice(middle - reach, middle + reach + 1)
    return np.asarray(scaled[:, inner, inner])
