"""Pixels as data URIs: the exposure in grey, outlines and marks as transparent layers, the mask in colours."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.drawing import BLUE, GREEN, ORANGE, PURPLE, VERMILLION
from streamchar.characterize.errors import MissingPlotsError
from streamchar.frozen import frozen
from streamchar.image import Exposure, preview

if TYPE_CHECKING:
    from PIL.Image import Image

Bits = NDArray[np.bool_]

MAX_SIDE = 1024
"""Longest side of a picture of an exposure."""
THUMBNAIL_SIDE = 144
"""Longest side of a picture in the index."""

_SHARP_SIDE = 400
"""Smaller pictures are kept without loss: single pixels are seen in them."""
_QUALITY = 82
_MARKS_ACROSS = 300
_FINE_SIDE = 900


@frozen
class PlaneColor:
    """A mask plane and the colour it is drawn in."""

    name: str
    color: str
    sparse: bool = False


PLANE_COLORS: tuple[PlaneColor, ...] = (
    PlaneColor("DETECTED", "#A8D5C4"),
    PlaneColor("EDGE", "#B9B9B9"),
    PlaneColor("NO_DATA", "#8C8C8C"),
    PlaneColor("BAD", "#4D4D4D"),
    PlaneColor("SUSPECT", ORANGE),
    PlaneColor("INTRP", "#56B4E9"),
    PlaneColor("STREAK", BLUE),
    PlaneColor("SAT", PURPLE, sparse=True),
    PlaneColor("CR", VERMILLION, sparse=True),
)
"""Later ones are drawn over earlier ones; sparse ones are grown so that they are seen."""


def picture(image: preview.Plane, stretch: preview.Stretch, max_side: int = MAX_SIDE) -> str:
    """Draw pixels in inverted grey."""
    pixels = preview.gray(image, max_side, stretch)
    if max(pixels.shape) <= _SHARP_SIDE and max_side > THUMBNAIL_SIDE:
        return _uri(preview.png(pixels), "png")
    buffer = io.BytesIO()
    _image(pixels, "L").save(buffer, "WEBP", quality=_QUALITY, method=4)
    return _uri(buffer.getvalue(), "webp")


def outlines(labels: NDArray[np.integer[Any]], color: str = GREEN) -> str:
    """Draw lines around every label, (height, width) with 0 outside, on a transparent ground.

    Small exposures are drawn in finer pixels, so that the lines are thin; on large ones only the outer borders of
    blocks are kept.
    """
    finer = max(1, _FINE_SIDE // int(max(labels.shape)))
    width = preview.block_width(labels.shape, MAX_SIDE)
    padded = np.pad(np.kron(labels[::width, ::width], np.ones((finer, finer), labels.dtype)), 1)
    border = np.zeros(padded.shape, np.bool_)
    # On both sides of the edge: two pixels wide.
    for axis in (0, 1):
        differs = np.diff(padded, axis=axis) != 0
        first, second = (slice(None, -1), slice(1, None))
        border[(first, slice(None)) if axis == 0 else (slice(None), first)] |= differs
        border[(second, slice(None)) if axis == 0 else (slice(None), second)] |= differs
    return _layers([(border[1:-1, 1:-1], color)], MAX_SIDE)


def marks(mask: Bits, color: str = VERMILLION) -> str:
    """Draw the true pixels of a mask, grown where they would be too small to be seen, on a transparent ground."""
    return _layers([(_grown(mask), color)], MAX_SIDE)


def mask_picture(exposure: Exposure) -> str:
    """Draw the mask planes of :data:`PLANE_COLORS` on a transparent ground."""
    drawn = []
    for plane in PLANE_COLORS:
        if plane.name in exposure.planes:
            bits = (exposure.mask & exposure.bits(plane.name)) != 0
            drawn.append((_grown(bits) if plane.sparse else bits, plane.color))
    return _layers(drawn, MAX_SIDE)


def _grown(mask: Bits) -> Bits:
    from scipy.ndimage import binary_dilation

    width = preview.block_width(mask.shape, MAX_SIDE)
    hit = preview.any_in_blocks(mask, width)
    radius = max(hit.shape) // _MARKS_ACROSS
    if radius < 1:
        return mask
    grown = binary_dilation(hit, iterations=radius)
    return np.asarray(np.kron(grown, np.ones((width, width), np.bool_))[: mask.shape[0], : mask.shape[1]])


def _layers(layers: Sequence[tuple[Bits, str]], max_side: int) -> str:
    """Draw masks over one another in a picture of few colours, all else transparent."""
    shape = layers[0][0].shape if layers else (1, 1)
    width = preview.block_width(shape, max_side)
    index = np.zeros(tuple(-(-length // width) for length in shape), np.uint8)
    palette = [0, 0, 0]
    for number, (mask, color) in enumerate(layers, start=1):
        index[preview.any_in_blocks(mask, width)] = number
        palette += [int(color[start : start + 2], 16) for start in (1, 3, 5)]
    image = _image(np.ascontiguousarray(index[::-1]), "P")
    image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0, optimize=True)
    return _uri(buffer.getvalue(), "png")


def _image(pixels: NDArray[np.uint8], mode: str) -> Image:
    try:
        # Matplotlib brings it along: the extra "plots" has both.
        from PIL import Image
    except ImportError as error:
        raise MissingPlotsError from error
    height, width = pixels.shape
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
