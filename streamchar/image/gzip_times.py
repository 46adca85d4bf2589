"""Tile-compressed FITS files that do not tell when they were written, so that equal exposures give equal files.

Every tile that gzip compressed carries the time of compression in bytes 4 to 7 of its stream (RFC 1952); zero means
that no time is available.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamchar.image.claims import FileLimits, HduClaim, scan

_TIME = np.arange(4, 8)
_MAGIC = (0x1F, 0x8B)


def clear_times(path: Path) -> None:
    """Set the times in all tiles of a file to zero, in place."""
    with path.open("rb") as file:
        claims = scan(file, str(path), FileLimits())
    compressed = [claim for claim in claims if claim.is_compressed]
    if not compressed:
        return
    data = np.memmap(path, np.uint8, "r+")
    for claim in compressed:
        starts = _tiles(data, claim)
        starts = starts[(data[starts] == _MAGIC[0]) & (data[starts + 1] == _MAGIC[1])]
        data[starts[:, None] + _TIME] = 0
    data.flush()


def _tiles(data: NDArray[np.uint8], claim: HduClaim) -> NDArray[np.int64]:
    """Positions in the file of all streams that the descriptors of a table lead to, int64 (n)."""
    rows, width = int(claim.keys["NAXIS2"]), int(claim.keys["NAXIS1"])
    begin = claim.offset + claim.header_bytes
    table = data[begin : begin + rows * width].reshape(rows, width)
    starts = [np.zeros(0, np.int64)]
    for column, kind in claim.descriptors():
        pairs = np.ascontiguousarray(table[:, column : column + 2 * np.dtype(kind).itemsize]).view(kind)
        used = pairs[:, 0] > _TIME[-1]
        starts.append(begin + rows * width + pairs[used, 1].astype(np.int64))
    return np.concatenate(starts)
