"""A PSF model to messages, one when it fits, and messages back to a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.messages.catalog_chunks import MAX_CHUNK_BYTES
from streamchar.messages.codec import Encoded, encode
from streamchar.messages.columns import ColumnBlock, check_total, pack_array
from streamchar.messages.errors import IncompletePsfError, MessageTooLargeError
from streamchar.messages.psf_model import PsfModel

FIXED_BYTES = 16_384

MAX_MODEL_BYTES = 64 * 1024 * 1024
"""Largest PSF model that is put together, in bytes once decoded."""


def encode_psf_model(
    description: PsfModel,
    arrays: Mapping[str, NDArray[Any]],
    *,
    max_chunk_bytes: int = MAX_CHUNK_BYTES,
    time: datetime | None = None,
    source: str = "streamchar",
    traceparent: bytes | None = None,
) -> list[Encoded]:
    """Encode a PSF model; arrays too large for one message are split along their first axis.

    Parameters
    ----------
    description
        The model without its arrays.
    arrays
        The arrays by name, of one to four axes. They come back bit by bit.
    max_chunk_bytes
        Largest value of a record, in bytes. Kept whatever the values: arrays are counted uncompressed.
    time, source, traceparent
        Headers, see :func:`streamchar.messages.codec.encode`.

    Raises
    ------
    MessageTooLargeError
        A single element of an array's first axis does not fit into a message.
    """
    groups = _divide(arrays, max_chunk_bytes - FIXED_BYTES)
    time = time or datetime.now(UTC)
    shared = description.model_dump(exclude={"message_id", "chunk", "chunks", "arrays", "first_rows"})
    messages = []
    for number, group in enumerate(groups):
        part = PsfModel(
            **shared,
            chunk=number,
            chunks=len(groups),
            arrays=tuple(pack_array(name, arrays[name][first:last]) for name, first, last in group),
            first_rows=tuple(first for _, first, _ in group) if len(groups) > 1 else (),
        )
        messages.append(encode(part, time=time, source=source, traceparent=traceparent))
    return messages


def join_psf_model(parts: Sequence[PsfModel]) -> tuple[PsfModel, dict[str, NDArray[Any]]]:
    """Put the messages of one PSF model together.

    Parameters
    ----------
    parts
        All messages of the model, in any order.

    Returns
    -------
    tuple
        The first message, and the whole arrays by name.

    Raises
    ------
    IncompletePsfError
        A message is missing or repeated, or the arrays do not continue each other.
    MessageTooLargeError
        The arrays together declare more than ``MAX_MODEL_BYTES``.
    """
    ordered = sorted(parts, key=lambda part: part.chunk)
    if not ordered or [part.chunk for part in ordered] != list(range(ordered[0].chunks)):
        numbers = ", ".join(str(part.chunk) for part in ordered[:20])
        raise IncompletePsfError(key=ordered[0].key if ordered else "", detail=f"parts {numbers or 'none'}")
    check_total([block for part in ordered for block in part.arrays], MAX_MODEL_BYTES)
    pieces: dict[str, list[NDArray[Any]]] = {}
    for part in ordered:
        for block, first in zip(part.arrays, part.first_rows or (0,) * len(part.arrays), strict=True):
            present = pieces.setdefault(block.name, [])
            if first != sum(len(piece) for piece in present) or _differ(present, block):
                raise IncompletePsfError(key=part.key, detail=f"array {block.name} does not continue")
            present.append(block.values())
    return ordered[0], {name: np.concatenate(found) for name, found in pieces.items()}


def _differ(present: Sequence[NDArray[Any]], block: ColumnBlock) -> bool:
    return bool(present) and (present[0].shape[1:], present[0].dtype.str) != (block.shape[1:], block.dtype)


def _divide(arrays: Mapping[str, NDArray[Any]], room: int) -> list[list[tuple[str, int, int]]]:
    """Divide arrays into groups of (name, first, last) that fit into ``room`` bytes each."""
    groups: list[list[tuple[str, int, int]]] = [[]]
    free = room
    for name, values in arrays.items():
        size = values.nbytes // len(values) if len(values) else 0
        if size > room:
            raise MessageTooLargeError(what=f"one element of the array {name}", size=size, limit=room)
        first = 0
        while True:
            last = len(values) if size == 0 else min(len(values), first + free // size)
            if last > first or len(values) == 0:
                groups[-1].append((name, first, last))
                free -= size * (last - first)
            if last == len(values):
                break
            first, free = last, room
            groups.append([])
    return [group for group in groups if group] or [[]]
