"""Pixels in the page: a picture with layers that can be switched off, a scale bar and the directions of the sky."""

from __future__ import annotations

import numpy as np

from streamchar.characterize.drawing.canvas import nice
from streamchar.characterize.psf.measure import PsfStars
from streamchar.frozen import frozen
from streamchar.image import Exposure
from streamchar.report.html import Html, element, join

MANY_STARS = 200
"""More stars than that have smaller marks; more candidates than that, which did not become PSF stars, have none."""

_BAR_FRACTION = 0.25
_STAR_RADIUS = 0.009
_SMALLEST_MARK = 0.45
_SMALLEST_AREA = 1e-20
_MOST_ELONGATED = 5


@frozen
class Layer:
    """Something laid over a picture.

    Attributes
    ----------
    kind
        Name by which it is switched: a CSS class.
    content
        An ``img`` or ``svg`` element.
    """

    kind: str
    content: Html


def image_layer(kind: str, uri: str) -> Layer:
    """Lay a transparent picture of the whole view over it."""
    return Layer(kind, element("img", src=uri, alt="", class_=f"layer {kind}"))


def star_layer(stars: PsfStars, shape: tuple[int, int]) -> Layer:
    """Mark the PSF stars: used ones by circles, reserved ones by squares, other candidates, when they are few, by crosses.

    The more there are, the smaller the marks.
    """
    height, width = shape
    other = ~stars.used & ~stars.reserved
    shown = np.isfinite(stars.x) & np.isfinite(stars.y)
    if np.count_nonzero(other) > MANY_STARS:
        shown &= ~other
    crowding = min(1.0, max(_SMALLEST_MARK, (MANY_STARS / max(1, int(np.count_nonzero(shown)))) ** 0.5))
    radius = max(_STAR_RADIUS * crowding * max(shape), 4.0)
    marks = []
    for number in np.flatnonzero(shown):
        # Pixel edges, and y downward: the view's first pixel is at the bottom left.
        x, y = float(stars.x[number]) + 0.5, height - 0.5 - float(stars.y[number])
        kind = "used" if stars.used[number] else "reserved" if stars.reserved[number] else "other"
        chi2 = f", χ² {stars.chi2[number]:.2f}" if np.isfinite(stars.chi2[number]) else ""
        title = f"{kind} star at ({stars.x[number]:.1f}, {stars.y[number]:.1f}), flux {stars.flux[number]:.4g}{chi2}"
        marks.append(_mark(kind, x, y, radius, title))
    content = element(
        "svg",
        *marks,
        class_="layer stars",
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    return Layer("stars", content)


def view(
    picture: str,
    shape: tuple[int, int],
    *,
    description: str,
    heading: str,
    caption: object = None,
    layers: tuple[Layer, ...] = (),
    exposure: Exposure | None = None,
    class_: str = "",
) -> Html:
    """Build a figure of pixels.

    Parameters
    ----------
    picture
        Data URI of the pixels; empty for a blank ground.
    shape
        Height and width of the shown part of the exposure, in pixels.
    description
        What it shows, for those who do not see it.
    heading
        Of the figure.
    caption
        Text or HTML below it.
    layers
        Laid over it, in order.
    exposure
        For the scale bar and the compass; without it, and on narrow strips, there are none.
    class_
        Further CSS classes of the figure.
    """
    height, width = shape
    base = element("img", src=picture, alt=description, class_="pixels") if picture else None
    legible = 1 / _MOST_ELONGATED < width / height < _MOST_ELONGATED
    frame = (
        None
        if exposure is None or not legible
        else join(_scale_bar(width, exposure.pixel_scale), _compass(exposure))
    )
    stack = element(
        "div",
        base,
        *(layer.content for layer in layers),
        frame,
        class_="sky",
        style=f"--ratio:{width / height:.5f}",
        role=None if picture else "img",
        aria_label=None if picture else description,
    )
    return element(
        "figure",
        element("h3", heading),
        stack,
        None if caption is None else element("figcaption", caption),
        class_=f"view {class_}".rstrip(),
    )


def _mark(kind: str, x: float, y: float, radius: float, title: str) -> Html:
    inner = element("title", title)
    if kind == "used":
        return element("circle", inner, cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{radius:.1f}", class_=kind)
    if kind == "reserved":
        side = f"{2 * radius:.1f}"
        return element(
            "rect", inner, x=f"{x - radius:.1f}", y=f"{y - radius:.1f}", width=side, height=side, class_=kind
        )
    path = f"M{x - radius:.1f} {y - radius:.1f}l{2 * radius:.1f} {2 * radius:.1f}m0 {-2 * radius:.1f}l{-2 * radius:.1f} {2 * radius:.1f}"
    return element("path", inner, d=path, class_=kind)


def _scale_bar(width: int, pixel_scale: float | None) -> Html | None:
    scale = pixel_scale if pixel_scale and np.isfinite(pixel_scale) else None
    length = nice(_BAR_FRACTION * width * (scale or 1.0))
    if not length:
        return None
    if scale is None:
        label = f"{length:g} px"
    elif length >= 60:
        length = 60 * nice(length / 60)
        label = f"{length / 60:g}′"
    else:
        label = f"{length:g}″"
    percent = 100 * length / (scale or 1.0) / width
    return element("span", label, class_="scalebar", style=f"width:{percent:.3f}%", aria_hidden="true")


def _compass(exposure: Exposure) -> Html | None:
    """Return arrows to the north and the east at the centre of the exposure; none where they cannot be told."""
    directions = sky_directions(exposure)
    if directions is None:
        return None
    arrows = []
    for label, (x, y) in zip("NE", directions, strict=True):
        # Screen coordinates: y points down.
        arrows.append(element("path", d=f"M0 0L{22 * x:.1f} {-22 * y:.1f}"))
        arrows.append(element("text", label, x=f"{31 * x:.1f}", y=f"{-31 * y:.1f}"))
    return element("svg", *arrows, class_="compass", viewBox="-40 -40 80 80", aria_hidden="true")


def sky_directions(exposure: Exposure) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Unit vectors (x, y) in pixels to the north and to the east at the centre; ``None`` without usable coordinates."""
    if exposure.sky is None:
        return None
    height, width = exposure.shape
    x, y = 0.5 * width, 0.5 * height
    try:
        ra, dec = exposure.sky.to_sky([x, x + 1, x], [y, y, y + 1])
    except ValueError:  # a WcsError: the header's coordinates cannot be evaluated
        return None
    eastward = ((ra - ra[0] + 180) % 360 - 180) * np.cos(np.radians(dec[0]))
    jacobian = np.array([eastward[1:], dec[1:] - dec[0]], np.float64)
    if not np.isfinite(jacobian).all() or abs(np.linalg.det(jacobian)) < _SMALLEST_AREA:
        return None
    to_east, to_north = (column / np.hypot(*column) for column in np.linalg.inv(jacobian).T)
    return (float(to_north[0]), float(to_north[1])), (float(to_east[0]), float(to_east[1]))
