"""Arrays come back bit by bit, whatever is in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamchar.messages.columns import ColumnBlock, FlagBlock, pack_array, pack_flags
from streamchar.messages.errors import MalformedMessageError
from tests.unit.messages.strategies import DTYPES, arrays

shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=12)


@given(st.data(), st.sampled_from(DTYPES), shapes, st.booleans())
def test_arrays_round_trip(data, dtype, shape, compress):
    values = data.draw(arrays(dtype, shape))
    block = pack_array("name", values, "adu", compress=compress)
    again = ColumnBlock.model_validate(block.model_dump())
    assert again == block
    decoded = again.values()
    assert decoded.dtype == np.dtype(dtype)
    assert decoded.shape == shape
    assert decoded.tobytes() == values.tobytes()


@given(st.integers(0, 40), st.integers(0, 20), st.randoms(use_true_random=False))
def test_flags_round_trip(rows, count, random):
    columns = {
        f"flag {n}": np.array([random.random() < 0.3 for _ in range(rows)], bool) for n in range(count)
    }
    block = pack_flags(columns, rows)
    decoded = FlagBlock.model_validate(block.model_dump()).values()
    assert list(decoded) == list(columns)
    for name, values in columns.items():
        assert decoded[name].dtype == np.bool_
        np.testing.assert_array_equal(decoded[name], values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_byte_order_and_memory_layout_do_not_matter(dtype):
    values = np.arange(200, dtype=dtype).reshape(10, 20)
    expected = pack_array("a", values)
    assert pack_array("a", values.astype(np.dtype(dtype).newbyteorder(">"))) == expected
    assert pack_array("a", np.asfortranarray(values)) == expected
    assert pack_array("a", np.repeat(values, 2, axis=1)[:, ::2]) == expected


@pytest.mark.parametrize(
    "values", [np.zeros(3, object), np.zeros(3, "U4"), np.zeros(3, "c16"), np.zeros(3, "M8[s]")]
)
def test_types_a_message_cannot_carry(values):
    with pytest.raises(TypeError):
        pack_array("a", values)


@pytest.mark.parametrize("shape", [(), (1, 1, 1, 1, 1)])
def test_shapes_a_message_cannot_carry(shape):
    with pytest.raises(ValueError, match="shape"):
        pack_array("a", np.zeros(shape))


def test_compressible_columns_shrink_and_noise_does_not_grow():
    noise = np.random.default_rng(1).integers(0, 2**63, 10_000).view("<f8")
    assert len(pack_array("a", np.full(10_000, np.nan)).data) < 100
    assert len(pack_array("a", np.arange(10_000)).data) < 16_000
    block = pack_array("a", noise)
    assert len(block.data) + len(block.high) <= noise.nbytes


def test_planes_are_ordered_from_the_least_significant_byte():
    values = np.array([0x0807060504030201, 0x1817161514131211], "<u8").repeat(4)
    block = pack_array("a", values)
    assert block.encoding == "planes"
    again = ColumnBlock(
        name="a",
        dtype="<u8",
        shape=(8,),
        encoding="planes",
        data=b"".join(bytes([low] * 4 + [low + 0x10] * 4) for low in range(1, 7)),
        high=bytes([7] * 4 + [0x17] * 4 + [8] * 4 + [0x18] * 4),
    )
    np.testing.assert_array_equal(again.values(), values)


def test_bits_are_packed_from_the_least_significant():
    block = pack_flags({"a": np.array([True, False, False, True] + [False] * 5)}, 9)
    assert block.data == bytes([0b1001, 0])


def test_damaged_compressed_bytes_are_malformed():
    block = pack_array("a", np.zeros(10_000))
    damaged = bytearray(block.high)
    damaged[-1] ^= 0xFF
    with pytest.raises(MalformedMessageError):
        ColumnBlock.model_validate({**block.model_dump(), "high": bytes(damaged)}).values()
