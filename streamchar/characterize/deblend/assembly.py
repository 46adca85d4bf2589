"""Sets of footprints joined to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.footprints import Footprints, Numbers, offsets, shares


def joined(sets: Sequence[Footprints], order: Numbers | None = None) -> Footprints:
    """Footprints of several sets; when some divide their pixels, those of the other sets own theirs whole.

    Parameters
    ----------
    sets
        At least one.
    order
        int64 (n): the footprints by their number when the sets are counted one after the other; in that order when omitted.
    """

    def all_of(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(each, name) for each in sets])

    def starts(name: str) -> Numbers:
        return offsets(np.concatenate([np.diff(getattr(each, name)) for each in sets]))

    together = Footprints(
        sets[0].shape,
        all_of("span_y"),
        all_of("span_x0"),
        all_of("span_x1"),
        starts("span_start"),
        all_of("peak_x"),
        all_of("peak_y"),
        all_of("peak_value"),
        all_of("peak_significance"),
        starts("peak_start"),
    )
    if order is None:
        order = np.arange(len(together))
    else:
        together = together.select(order)
    if all(each.share is None for each in sets):
        return together
    return replace(together, share=shares(sets, order))
