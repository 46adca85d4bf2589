"""A PSF model comes off the wire as the model that went on it, bit by bit; what cannot be evaluated is refused."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.psf.io import read_psfex
from streamchar.characterize.psf.moffat import MoffatPsf
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.image import Psf
from streamchar.messages import (
    MessageTooLargeError,
    ProductIdentity,
    Provenance,
    PsfModel,
    decode,
    encode_psf_model,
)
from streamchar.messages.codec import validate
from streamchar.messages.errors import UnsupportedPsfError
from streamchar.messages.examples import make_examples
from streamchar.messages.psf_conversion import PublishedPsf, describe_psf

IDENTITY = ProductIdentity("event", "DemoCam", 42, 3, "sha256:" + "ab" * 32)
X, Y = np.array([0.0, 100.3, 4000.0, np.nan]), np.array([5.5, 2000.0, 17.25, 3.0])


def pixel_basis(seed, degree, count, *, side=21, step=0.5, single=False):
    generator = np.random.default_rng(seed)
    polynomial = PositionPolynomial(degree, *generator.uniform(1, 4000, 4).tolist())
    components = generator.normal(size=(count, side, side)) + np.exp(-np.hypot(*np.mgrid[-10:11, -10:11]) / 3)
    if single:
        components = components.astype(np.float32).astype(np.float64)
    mixing = generator.normal(size=(polynomial.terms, count))
    position = (float(generator.uniform(0, 4000)), float(generator.uniform(0, 4000)))
    return PixelBasisPsf(
        components, SpatialBasis(polynomial, mixing), step, 11, position, int(generator.integers(2, 6))
    )


def send(psf, **options):
    fields, arrays = describe_psf(psf)
    model = PsfModel(**IDENTITY.fields(), **fields, provenance=Provenance(software_version="1"))
    return [decode(message.value, message.headers) for message in encode_psf_model(model, arrays, **options)]


def assert_identical(received, sent, count=4):
    for method in ("kernel_images", "images", "shapes"):
        ours, theirs = (getattr(psf, method)(X[:count], Y[:count]) for psf in (received, sent))
        if method == "kernel_images":
            assert ours.tobytes() == theirs.tobytes()
        else:
            names = ("images", "x0", "y0") if method == "images" else ("xx", "yy", "xy")
            for name in names:
                assert getattr(ours, name).tobytes() == getattr(theirs, name).tobytes()
    assert received.size == sent.size
    np.testing.assert_array_equal(received.average_position, sent.average_position)


@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(1, 7), st.booleans())
@settings(max_examples=25)
def test_pixel_basis_models_come_back_bit_by_bit(seed, degree, count, single):
    psf = pixel_basis(seed, degree, count, single=single)
    parts = send(psf, max_chunk_bytes=30_000)
    assert all(
        part.arrays[0].dtype == ("<f4" if single else "<f8")
        for part in parts
        if part.arrays[0].name == "basis"
    )
    random.Random(seed).shuffle(parts)
    received = PublishedPsf.from_parts(parts)
    assert isinstance(received, Psf)
    assert_identical(received, psf)
    assert received.psf.components.tobytes() == psf.components.tobytes()
    assert received.psf.spatial.mixing.tobytes() == psf.spatial.mixing.tobytes()
    assert received.psf.spatial.polynomial == psf.spatial.polynomial


@pytest.mark.parametrize(
    "psf",
    [
        GaussianPsf(1.4915, 25, (100.25, 7.5)),
        GaussianPsf(0.1 + 0.2, 3, (float("nan"), 1.0)),
        MoffatPsf(2.2, 2.1, -0.3, 3.5, 31, (1000.125, 999.0)),
    ],
)
def test_analytic_models_come_back(psf):
    received = PublishedPsf.from_parts(send(psf))
    assert_identical(received, psf, count=3)
    assert received.model.recipe


def test_it_can_be_written_for_other_programs(tmp_path):
    psf = PublishedPsf.from_parts([make_examples()["psf-model"]["full"]])
    read = read_psfex(psf.write(tmp_path / "psf.fits"))
    np.testing.assert_allclose(read.kernel_images(500.0, 700.0), psf.kernel_images(500.0, 700.0), atol=2e-5)
    with pytest.raises(UnsupportedPsfError, match="analytic"):
        PublishedPsf.from_parts(send(GaussianPsf(1.0, 5))).write(tmp_path / "other.fits")


@pytest.mark.parametrize("name", ["minimal", "full"])
def test_the_examples_can_be_evaluated(name):
    psf = PublishedPsf.from_parts([make_examples()["psf-model"][name]])
    images = psf.kernel_images([0.0, 2000.0], [0.0, 1000.0])
    np.testing.assert_allclose(images.sum(axis=(1, 2)), 1.0)
    assert images.argmax() == images[0].size // 2
    assert "DemoCam/2026013100042/3" in repr(psf)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "airy"}, "airy"),
        ({"kind": "moffat"}, "qxx"),
        ({"resampling": "lanczos99"}, "lanczos99"),
        ({"resampling": "spline"}, "spline"),
        ({"polynomial": "chebyshev"}, "chebyshev"),
        ({"x_powers": (0, 0, 1), "y_powers": (0, 1, 0)}, "powers"),
        ({"x_powers": (), "y_powers": ()}, "powers"),
        ({"x_powers": (2**62, 0, 1), "y_powers": (0, 0, 1)}, "powers"),
        ({"x_scale": 0.0}, "scale"),
        ({"width": 12, "height": 12}, "odd"),
        ({"height": 13}, "square"),
        ({"arrays": ()}, "basis"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(change, words):
    plain = make_examples()["psf-model"]["full"].model_dump()
    with pytest.raises(UnsupportedPsfError, match=words):
        PublishedPsf.from_parts([validate(PsfModel, {**plain, **change})])


def test_images_too_large_to_be_drawn_are_refused():
    plain = make_examples()["psf-model"]["minimal"].model_dump()
    with pytest.raises(MessageTooLargeError, match="width"):
        PublishedPsf.from_parts([validate(PsfModel, {**plain, "width": 2**40 + 1, "height": 2**40 + 1})])


def test_a_model_of_another_package_cannot_be_sent():
    class Strange(GaussianPsf):
        pass

    with pytest.raises(TypeError, match="Strange"):
        describe_psf(Strange(1.0, 5))
