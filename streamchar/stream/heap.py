"""The heap of a process that handles one exposure after another: what is freed is kept, what stays is left alone."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, Self

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""

_NEVER = 2**31 - 1

_PR_SET_THP_DISABLE = 41
"""Option of prctl(2)."""


def prepare_heap() -> None:
    """Arrange the memory of a process for exposures, before it allocates their planes."""
    keep_freed_memory()
    allow_huge_pages(False)


def keep_freed_memory() -> bool:
    """Let the C library keep freed planes instead of giving every one back to the system; returns whether it does.

    By default each plane is a mapping of its own whose pages the system clears when they are touched, again for every
    temporary array: a tenth to a third of the CPU time of an exposure. The process stays as large as it ever was, which
    the next exposure needs anyway. Only the GNU C library can be told.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER))
    return all(mallopt(name, value) == 1 for name, value in settings)


def allow_huge_pages(allowed: bool) -> None:
    """Let the system put pages of 2 MB below large arrays, where NumPy asks for them, or only its small ones; Linux only.

    Huge pages save a hundredth of an exposure once they are there. Virtual machines that give free memory back to their
    host get it back page by page when a free block of 2 MB is used again: that took the first exposure of a process up to
    0.8 s, where small pages, which the system finds among those it freed last, take 0.12 s (0.02 to 0.05 s more than huge
    ones on a machine that has its memory for itself).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, int(not allowed), 0, 0, 0)


class Leftovers:
    """What an exposure leaves behind in reference cycles: its planes hang on the frames of errors that libraries caught.

    Collected between exposures, so that no two of them are in memory at once, and not in between while this is entered:
    looking for them dozens of times took a twentieth of a small exposure. What the first one made and kept are
    modules that were imported on demand; they are not looked at again. As more exposures are to be expected then, the
    system may replace the small pages it left by huge ones, which it does in the background.
    """

    def __init__(self) -> None:
        self._first = True

    def __enter__(self) -> Self:
        self._was_enabled = gc.isenabled()
        gc.disable()
        return self

    def __exit__(self, *error: object) -> None:
        if self._was_enabled:
            gc.enable()

    def collect(self) -> None:
        """Free them."""
        gc.collect()
        if self._first:
            gc.freeze()
            allow_huge_pages(True)
            self._first = False


@contextmanager
def made_to_stay() -> Iterator[None]:
    """Import and build what a process needs until its end, without looking for garbage in between nor ever after in it.

    Modules make hundreds of thousands of objects and next to no garbage: collecting takes a tenth of a worker's start, and
    looking at them again each time takes a part of every exposure.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def leave(status: int) -> NoReturn:
    """End the process as it is, after writing what was printed.

    To free one by one the hundreds of thousands of objects that the system takes back at once is a hundredth of what a
    process with one exposure costs.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
