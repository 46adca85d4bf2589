"""Stars a few at a time: what is made of their stamps on the way stays in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

STARS_AT_ONCE = 64


def parts(count: int) -> Iterator[slice]:
    """Yield slices that together are all of ``count`` stars."""
    for start in range(0, count, STARS_AT_ONCE):
        yield slice(start, start + STARS_AT_ONCE)
