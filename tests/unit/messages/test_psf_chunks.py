"""A PSF model comes back bit by bit, in one message or several."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.messages import (
    IncompleteCatalogError,
    MalformedMessageError,
    MessageTooLargeError,
    ProductIdentity,
    Provenance,
    PsfModel,
    decode,
    encode_psf_model,
)
from streamchar.messages.codec import validate
from streamchar.messages.psf_chunks import join_psf_model

MODEL = PsfModel(
    **ProductIdentity("event", "DemoCam", 42, 3, "sha256:" + "ab" * 32).fields(),
    kind="psfex",
    width=41,
    height=41,
    sampling=0.5,
    x_powers=(0, 1, 0),
    y_powers=(0, 0, 1),
    provenance=Provenance(software_version="1"),
)


def decoded(arrays, **options):
    return [decode(message.value) for message in encode_psf_model(MODEL, arrays, **options)]


def test_a_typical_model_is_one_message():
    arrays = {"basis": np.random.default_rng(1).normal(size=(6, 83, 83)).astype("f4")}
    (part,) = decoded(arrays)
    model, found = join_psf_model([part])
    assert (model.chunk, model.chunks, model.first_rows) == (0, 1, ())
    assert found["basis"].tobytes() == arrays["basis"].tobytes()


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=4),
        st.tuples(st.sampled_from(["<f4", "<f8", "<i4"]), st.integers(0, 30), st.integers(1, 9)),
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40)
def test_large_models_are_split_and_joined(shapes, random):
    generator = np.random.default_rng(3)
    arrays = {
        name: generator.integers(0, 255, (count, side, 64 * np.dtype(dtype).itemsize), np.uint8).view(dtype)
        for name, (dtype, count, side) in shapes.items()
    }
    messages = encode_psf_model(MODEL, arrays, max_chunk_bytes=30_000)
    assert all(len(message.value) <= 30_000 for message in messages)
    parts = [decode(message.value) for message in messages]
    random.shuffle(parts)
    _, found = join_psf_model(parts)
    assert {name: (a.shape, a.dtype, a.tobytes()) for name, a in found.items()} == {
        name: (a.shape, a.dtype, a.tobytes()) for name, a in arrays.items()
    }
    assert len({part.message_id for part in parts}) == len(parts)


def test_missing_and_repeated_parts():
    parts = decoded({"basis": np.zeros((40, 30, 30))}, max_chunk_bytes=30_000)
    assert len(parts) > 2
    for wrong in ([], parts[1:], parts[:-1], [*parts, parts[0]]):
        with pytest.raises(IncompleteCatalogError):
            join_psf_model(wrong)


def test_a_part_cannot_claim_any_number_of_siblings():
    plain = decoded({})[0].model_dump()
    for chunks in (2**40, 4097, 0):
        with pytest.raises(MalformedMessageError):
            validate(PsfModel, {**plain, "chunks": chunks})


def test_an_element_that_does_not_fit():
    with pytest.raises(MessageTooLargeError):
        encode_psf_model(MODEL, {"basis": np.zeros((2, 100, 100))}, max_chunk_bytes=30_000)


def test_the_example_evaluates_to_a_point_source():
    from streamchar.messages.examples import make_examples

    model, arrays = join_psf_model([make_examples()["psf-model"]["full"]])
    u = (1000.0 - model.x_offset) / model.x_scale
    v = (3000.0 - model.y_offset) / model.y_scale
    terms = [u**m * v**n for m, n in zip(model.x_powers, model.y_powers, strict=True)]
    image = np.tensordot(terms, arrays["basis"], 1)
    assert np.unravel_index(image.argmax(), image.shape) == (10, 10)
