"""Arrays as typed, checked bytes: little-endian columns split into byte planes, and flags as packed bits."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
import zstandard
from numpy.typing import NDArray
from pydantic import Field, model_validator

from streamchar.kernels import join_bytes, split_bytes
from streamchar.messages.base import Count, Data, Listed, Name, Part, unit
from streamchar.messages.errors import MalformedMessageError, MessageTooLargeError

MAX_BLOCK_BYTES = 64 * 1024 * 1024
"""Largest array a message may declare, in bytes once decoded."""

HIGH_PLANES = 2
SMALLEST_COMPRESSED = 64
NOISE_SAMPLE = 64
MAX_WINDOW = 8 * 1024 * 1024

DType = Literal["|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8"]
"""The types an array may have: unsigned, signed and floating, little-endian."""

DTYPES: frozenset[str] = frozenset(get_args(DType))
_ITEM_BYTES: Mapping[str, int] = {dtype: int(dtype[2:]) for dtype in get_args(DType)}
MAX_AXES = 4
Shape = Annotated[tuple[Count, ...], unit("1", strict=False, min_length=1, max_length=MAX_AXES)]


class ColumnBlock(Part):
    """One array. Nothing is allocated for it before its declared size has been checked.

    With encoding ``raw`` the elements follow each other in C order in ``data``. With ``planes`` the bytes are
    regrouped: the first (least significant) byte of all elements, then the second of all, and so on. ``high`` holds
    the two most significant planes, ``data`` the others. Each of the two is a zstd frame that declares its content
    size, or the plain bytes when its length equals their number. Signs and exponents of neighbouring values are
    alike and compress well, low mantissa bytes hardly do, so the two are kept apart.
    """

    name: Name
    """Name of the column."""
    dtype: DType
    """Type of the elements in NumPy notation."""
    unit: Annotated[str, Field(max_length=64)] = ""
    """Unit in FITS notation, empty when the column has none."""
    shape: Shape
    """Number of elements along each axis, slowest first."""
    encoding: Literal["raw", "planes"] = "raw"
    """How the bytes are arranged."""
    data: Data
    """The bytes, or the less significant planes of them."""
    high: Data | None = None
    """The two most significant planes; absent with encoding raw."""

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        size = self.size_bytes
        # An empty axis does not excuse the length of the others.
        if (largest := max(size, *self.shape)) > MAX_BLOCK_BYTES:
            raise MessageTooLargeError(what=f"column {self.name}", size=largest, limit=MAX_BLOCK_BYTES)
        itemsize = _ITEM_BYTES[self.dtype]
        if self.encoding == "raw":
            if len(self.data) != size or self.high is not None:
                raise ValueError(f"{len(self.data)} bytes of data do not make the declared {size}")
            return self
        if itemsize <= HIGH_PLANES or self.high is None:
            raise ValueError("only elements of four or eight bytes can be split into planes")
        count = size // itemsize
        _check_part(self.data, size - HIGH_PLANES * count)
        _check_part(self.high, HIGH_PLANES * count)
        return self

    @property
    def size_bytes(self) -> int:
        """Size of the decoded array in bytes, as declared."""
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]

    def values(self, decompressor: zstandard.ZstdDecompressor | None = None) -> NDArray[Any]:
        """Decode the array; it may be read-only.

        Parameters
        ----------
        decompressor
            One to be used again for many columns; making one costs as much as a small column.

        Raises
        ------
        MalformedMessageError
            The compressed bytes are damaged.
        """
        dtype = np.dtype(self.dtype)
        if self.encoding == "raw":
            return np.frombuffer(self.data, dtype).reshape(self.shape)
        out = np.empty(self.shape, dtype)
        self.read_into(out, decompressor)
        return out

    def read_into(self, out: NDArray[Any], decompressor: zstandard.ZstdDecompressor | None = None) -> None:
        """Decode the array into another one of the same type and shape, which must be contiguous.

        Raises
        ------
        MalformedMessageError
            The compressed bytes are damaged.
        """
        assert out.shape == self.shape
        assert out.dtype.str == self.dtype
        assert out.flags.c_contiguous
        if self.high is None:
            out[...] = np.frombuffer(self.data, out.dtype).reshape(self.shape)
            return
        decompressor = decompressor or make_decompressor()
        itemsize, count = out.dtype.itemsize, out.size
        high = HIGH_PLANES * count
        low = _expand(self.data, out.nbytes - high, decompressor)
        elements = out.view(np.uint8).reshape(count, itemsize)
        join_bytes(
            np.frombuffer(low, np.uint8),
            np.frombuffer(_expand(self.high, high, decompressor), np.uint8),
            elements,
        )


class FlagBlock(Part):
    """Boolean columns as packed bits, one run of bits after another, least significant bit first.

    Each column takes ceil(rows/8) bytes; unused bits are zero. ``data`` is the plain bytes when its length equals
    their number, and a zstd frame that declares its content size otherwise.
    """

    names: Listed[Name]
    """Names of the columns, in the order of their bits."""
    rows: Annotated[Count, unit("1")]
    """Number of rows."""
    data: Data
    """The packed bits."""

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        size = max(self.size_bytes, self.rows)
        if size > MAX_BLOCK_BYTES:
            raise MessageTooLargeError(what="flag columns", size=size, limit=MAX_BLOCK_BYTES)
        _check_part(self.data, self.packed_bytes)
        return self

    @property
    def size_bytes(self) -> int:
        """Size of the decoded columns in bytes, as declared."""
        return len(self.names) * self.rows

    @property
    def packed_bytes(self) -> int:
        """Size of the packed bits in bytes, as declared."""
        return len(self.names) * ((self.rows + 7) // 8)

    def values(self) -> dict[str, NDArray[np.bool_]]:
        """Decode the columns: bool arrays of length ``rows`` by name."""
        width = (self.rows + 7) // 8
        packed = np.frombuffer(_expand(self.data, self.packed_bytes, make_decompressor()), np.uint8).reshape(
            len(self.names), width
        )
        bits = np.unpackbits(packed, axis=1, count=self.rows, bitorder="little").view(np.bool_)
        return dict(zip(self.names, bits, strict=True))


def make_compressor() -> zstandard.ZstdCompressor:
    """Return a compressor for :func:`pack_array` and :func:`pack_flags`. Not to be shared between threads."""
    # Planes are short and hold hardly any repeats but runs: a small table of long matches is faster than level 1 and
    # compresses better, since what is left to the entropy coder keeps its distribution.
    parameters = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST,
        window_log=17,
        hash_log=10,
        chain_log=6,
        search_log=1,
        min_match=7,
        target_length=0,
        write_content_size=True,
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


def make_decompressor() -> zstandard.ZstdDecompressor:
    """Return a decompressor for :meth:`ColumnBlock.values`. Not to be shared between threads."""
    return zstandard.ZstdDecompressor(max_window_size=MAX_BLOCK_BYTES)


def pack_array(
    name: str,
    values: NDArray[Any],
    unit: str = "",
    *,
    compressor: zstandard.ZstdCompressor | None = None,
    compress: bool = True,
) -> ColumnBlock:
    """Encode an array; the result is the same for the same values on every machine.

    Parameters
    ----------
    name, unit, values, compressor, compress
        See :func:`plain_array`.

    Raises
    ------
    TypeError, ValueError
        See :func:`plain_array`.
    """
    # What is made here need not be checked again.
    return ColumnBlock.model_construct(
        **plain_array(name, values, unit, compressor=compressor, compress=compress)
    )


def plain_array(
    name: str,
    values: NDArray[Any],
    unit: str = "",
    *,
    compressor: zstandard.ZstdCompressor | None = None,
    compress: bool = True,
) -> dict[str, Any]:
    """Encode an array as the map that goes over the wire, without a model: much of the time for a small one.

    Parameters
    ----------
    name, unit
        Name and FITS unit.
    values
        Any shape of one to four axes and any allowed type, in any byte order and memory layout.
    compressor
        One to be used again for many columns.
    compress
        Whether to split into byte planes and compress those where it gains.

    Raises
    ------
    TypeError
        The type is not one a message may carry.
    ValueError
        The array has no axis or too many.
    """
    code = values.dtype.str
    if code not in DTYPES:
        code = values.dtype.newbyteorder("<").str
    if code not in DTYPES:
        raise TypeError(f"column {name}: a message cannot carry values of type {values.dtype}")
    if not 1 <= values.ndim <= MAX_AXES:
        raise ValueError(f"column {name}: a message cannot carry an array of shape {values.shape}")
    array = np.ascontiguousarray(values, code)
    count, itemsize = array.size, _ITEM_BYTES[code]
    plain: dict[str, Any] = {"name": name, "dtype": code, "unit": unit, "shape": values.shape}
    if not compress or itemsize <= HIGH_PLANES or array.nbytes < SMALLEST_COMPRESSED:
        return {**plain, "encoding": "raw", "data": array.tobytes()}
    low, high = split_bytes(array.view(np.uint8).reshape(count, itemsize))
    compressor = compressor or make_compressor()
    noisy = "f" in code and _is_noise(low[:count])
    plain["encoding"] = "planes"
    plain["data"] = low if noisy else _shrink(low, compressor)
    plain["high"] = _shrink(high, compressor)
    return plain


def _is_noise(plane: bytes) -> bool:
    """Whether the lowest mantissa bytes are so varied that compressing would be time wasted."""
    middle = len(plane) // 2
    return len(set(plane[middle : middle + NOISE_SAMPLE])) > NOISE_SAMPLE // 4


def pack_flags(
    columns: Mapping[str, NDArray[np.bool_]],
    rows: int,
    compressor: zstandard.ZstdCompressor | None = None,
) -> FlagBlock:
    """Encode boolean columns of length ``rows``."""
    if not columns:
        return FlagBlock(names=(), rows=rows, data=b"")
    stacked = np.stack([np.asarray(column, np.bool_) for column in columns.values()])
    packed = np.packbits(stacked, axis=1, bitorder="little")
    return FlagBlock(
        names=tuple(columns), rows=rows, data=_shrink(packed.tobytes(), compressor or make_compressor())
    )


def check_total(blocks: Sequence[ColumnBlock | FlagBlock], limit: int = MAX_BLOCK_BYTES) -> None:
    """Refuse a message whose arrays together declare more than ``limit`` bytes.

    Raises
    ------
    MessageTooLargeError
        They do.
    """
    total = sum(block.size_bytes for block in blocks)
    if total > limit:
        raise MessageTooLargeError(what="arrays of the message together", size=total, limit=limit)


def _shrink(plain: bytes, compressor: zstandard.ZstdCompressor) -> bytes:
    if len(plain) < SMALLEST_COMPRESSED:
        return plain
    frame = compressor.compress(plain)
    return frame if len(frame) < len(plain) else plain


def _check_part(data: bytes, size: int) -> None:
    """Refuse bytes that are neither ``size`` plain ones nor a frame that declares exactly as many."""
    if len(data) == size:
        return
    if len(data) > size:
        raise ValueError(f"{len(data)} bytes of data for {size} declared")
    try:
        frame = zstandard.get_frame_parameters(data)
    except zstandard.ZstdError as error:
        raise ValueError(
            f"{len(data)} bytes of data are neither the declared {size} nor a zstd frame"
        ) from error
    if frame.content_size != size:
        raise ValueError(f"the zstd frame declares {frame.content_size} bytes, the shape {size}")
    if frame.window_size > MAX_WINDOW and frame.window_size > size:
        raise ValueError(f"the zstd frame asks for a window of {frame.window_size} bytes")


def _expand(data: bytes, size: int, decompressor: zstandard.ZstdDecompressor) -> bytes:
    if len(data) == size:
        return data
    try:
        plain = decompressor.decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedMessageError(message_type="column", detail=f"zstd: {error}") from error
    if len(plain) != size:
        raise MalformedMessageError(message_type="column", detail=f"{len(plain)} bytes instead of {size}")
    return plain
