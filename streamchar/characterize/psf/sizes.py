"""Widths of images that have a central pixel."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError("a central pixel is needed: an odd number of pixels")
    return size


OddSize = Annotated[int, AfterValidator(_odd)]
"""Setting of a width in pixels, odd."""
