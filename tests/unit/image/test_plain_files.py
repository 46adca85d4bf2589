"""Files read without astropy: the same exposure as with it, bit by bit, and coordinates to a billionth of a degree."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from streamchar.errors import StreamcharError
from streamchar.image import Exposure
from streamchar.image.cards import CARD, parse_header
from streamchar.image.claims import FileLimits
from streamchar.image.fits import ReadOptions, read_exposure
from streamchar.image.opening import opened
from streamchar.image.plain_file import PlainFile
from streamchar.image.sky import AstropyCoordinates, TangentCoordinates
from tests import fits_files

DATA = Path(__file__).parents[2] / "data"
FILES = sorted(path for path in DATA.rglob("*.fit*") if path.is_file())
OPTIONS = ReadOptions(gain=2.0, read_noise=5.0)
TPV_DEGREES = [0, 1, 1, 1, *[2] * 3, *[3] * 5, *[4] * 5, *[5] * 7, *[6] * 7, *[7] * 9]
X, Y = np.meshgrid(np.linspace(-500.0, 9000.0, 4), np.linspace(-500.0, 9000.0, 3))


def outcome(path, **arguments):
    """The exposure of a file, or what is wrong with it."""
    try:
        return read_exposure(path, OPTIONS, **arguments)
    except StreamcharError as error:
        return error.code, str(error)


def by_astropy(monkeypatch, path, **arguments):
    """What comes of a file when astropy reads it, whatever it is."""
    with monkeypatch.context() as patch:
        patch.setattr("streamchar.image.opening.plain_file", lambda *_: None)
        return outcome(path, **arguments)


def assert_same(one, other):
    """Both are the same exposure, or the same error."""
    if not isinstance(one, Exposure) or not isinstance(other, Exposure):
        assert one == other
        return
    for plane in ("image", "mask", "variance"):
        assert getattr(one, plane).dtype == getattr(other, plane).dtype
        assert getattr(one, plane).tobytes() == getattr(other, plane).tobytes()
    for name in ("planes", "identity", "observation", "source"):
        assert getattr(one, name) == getattr(other, name)
    assert repr(one.metadata) == repr(other.metadata)
    assert (one.sky is None) == (other.sky is None)
    if one.sky is not None:
        np.testing.assert_allclose(one.sky.to_sky(X, Y), other.wcs.all_pix2world(X, Y, 0), rtol=0, atol=1e-9)
        assert one.pixel_scale == pytest.approx(other.pixel_scale, rel=1e-12)
        assert one.wcs.to_header(relax=True) == other.wcs.to_header(relax=True)


def is_plain(path):
    """Whether astropy is left out."""
    with opened(path, FileLimits()) as hdus:
        return isinstance(hdus, PlainFile)


def test_the_files_of_all_instruments_are_the_same_exposures(tmp_path, monkeypatch):
    paths = fits_files.seeds(tmp_path)
    for path in paths.values():
        assert_same(outcome(path, detector=60), by_astropy(monkeypatch, path, detector=60))
    plain = {name for name, path in paths.items() if is_plain(path)}
    assert plain == {"own", "plain", "plain-gz", "sdss", "ztf"}


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_have_the_same_outcome(tmp_path, monkeypatch):
    paths = fits_files.seeds(tmp_path)
    for number in range(120):
        path = paths[("own", "plain", "ztf")[number % 3]]
        whole = path.read_bytes()
        path.write_bytes(fits_files.mutate(whole, number))
        assert_same(outcome(path), by_astropy(monkeypatch, path))
        path.write_bytes(whole)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_stored_files_are_the_same_exposures(path, monkeypatch):
    assert_same(outcome(path), by_astropy(monkeypatch, path))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
def test_pixels_of_all_types_are_the_same(tmp_path, monkeypatch, dtype):
    path = tmp_path / "a.fits"
    values = np.random.default_rng(1).integers(0, 200, (40, 50)).astype(dtype)
    fits.PrimaryHDU(values, fits.Header(fits_files.TAN)).writeto(path)
    assert is_plain(path) == (dtype != "u4")
    assert_same(outcome(path), by_astropy(monkeypatch, path))


@pytest.mark.parametrize(
    "card",
    [
        ("BSCALE", 2.0),
        ("BZERO", 100.0),
        ("BLANK", 7),
        ("TITLE", "key: 5.0"),
        ("LONGTEXT", "x" * 100),
        ("NOTHING", None),
        ("QUOTED", "it's"),
        ("HIERARCH ESO DET NAME", "x"),
        ("small", 1),
    ],
)
def test_what_is_not_plain_is_left_to_astropy(tmp_path, monkeypatch, card):
    path = tmp_path / "a.fits"
    hdu = fits.PrimaryHDU(np.random.default_rng(1).integers(0, 200, (40, 50), np.int16))
    hdu.header[card[0]] = card[1]
    hdu.writeto(path, output_verify="ignore")
    content = path.read_bytes().replace(b"SMALL   =", b"small   =")
    path.write_bytes(content)
    assert not is_plain(path)
    assert_same(outcome(path), by_astropy(monkeypatch, path))


KEYS = st.sampled_from(
    ["GAIN    = ", "A_0_1   = ", "HIERARCH LONG_NAME_OF_KEY = ", "COMMENT ", "        ", "X-Y     = "]
)
TEXTS = st.text(st.sampled_from("AZaz09 .:+-'/&TFED=_"), max_size=30)
VALUES = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False).map(lambda x: repr(x).upper()),
    TEXTS.map(lambda text: f"'{text}'"),
    TEXTS,
    st.sampled_from(["T", "F", "1.", ".5D3", "-0", "+7", "007", "1E5", "T / true", "5/five", "'' / none"]),
)


@given(KEYS, st.integers(0, 20), VALUES)
@example("GAIN    = ", 0, "'a''b'")
@example("HIERARCH LONG_NAME_OF_KEY = ", 3, "-1.5D-3 / number")
def test_a_card_means_what_it_means_to_astropy(key, blanks, value):
    line = (key + " " * blanks + value)[:CARD].ljust(CARD)
    header = parse_header((line + "END".ljust(CARD)).encode())
    assume(header is not None)
    card = fits.Card.fromstring(line)
    assert list(header) == [card.keyword]
    found = header.get(card.keyword)
    assert (found[0] if isinstance(found, tuple) else found) == card.value
    assert isinstance(found, tuple) or type(found) is type(card.value)


def test_of_equal_keys_the_first_counts_and_comments_are_joined():
    header = fits.Header([("A", 1), ("COMMENT", "one"), ("A", 2), ("COMMENT", "two"), ("", "three")])
    plain = parse_header(header.tostring().encode())
    assert list(plain) == list(header)
    assert (plain.get("a"), str(plain.get("COMMENT")), "B" in plain) == (1, str(header["COMMENT"]), False)
    assert plain.to_text() == header.tostring()


@settings(max_examples=60)
@given(
    ra=st.floats(0.0, 359.999),
    dec=st.floats(-89.9, 89.9),
    scale=st.floats(1e-6, 1e-3),
    turn=st.floats(0.0, 360.0),
    kind=st.sampled_from(["TAN", "TAN-SIP", "TPV"]),
    steps=st.booleans(),
    seed=st.integers(0, 99),
)
def test_coordinates_are_those_of_astropy(ra, dec, scale, turn, kind, steps, seed):
    steps = steps and kind != "TPV"
    dice = np.random.default_rng(seed)
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    header = {"CTYPE1": f"RA---{kind}", "CTYPE2": f"DEC--{kind}", "CRVAL1": ra, "CRVAL2": dec}
    header |= {"CRPIX1": dice.uniform(-5e3, 5e3), "CRPIX2": dice.uniform(-5e3, 5e3)}
    for name, value in {"1_1": -cosine, "1_2": sine, "2_1": sine, "2_2": cosine}.items():
        header[f"{'PC' if steps else 'CD'}{name}"] = value if steps else scale * value
    if steps:
        header |= {"CDELT1": scale, "CDELT2": 1.1 * scale}
    if kind == "TAN-SIP":
        header |= {"A_ORDER": 4, "B_ORDER": 2, "A_2_0": 1e-6, "A_1_3": -1e-14, "B_1_1": 2e-6, "B_0_2": -1e-6}
    if kind == "TPV":
        for axis in (1, 2):
            for number, degree in enumerate(TPV_DEGREES):
                if (number + seed) % 3:  # each term moves the corners by a thousandth of their distance
                    header[f"PV{axis}_{number}"] = dice.normal(0, 1e-3) * (1.5e4 * scale) ** (1 - degree)
        header |= {"PV1_1": 1.01, "PV2_1": 0.99}
    cards = fits.Header(header)
    text = (cards.tostring(endcard=False, padding=False) + "END".ljust(CARD)).encode()
    sky = _coordinates(parse_header(text))
    assert isinstance(sky, TangentCoordinates)
    np.testing.assert_allclose(sky.to_sky(X, Y), WCS(cards).all_pix2world(X, Y, 0), rtol=0, atol=1e-9)
    assert sky.pixel_scale == pytest.approx(AstropyCoordinates(WCS(cards)).pixel_scale, rel=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"},
        {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"},
        {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN"},
        {"CRVAL1": -10.0},
        {"CRVAL2": 90.0},
        {"LONPOLE": 90.0},
        {"CUNIT1": "arcsec"},
        {"PV1_1": 2.0},
        {"PC1_1": 1.0},
        {"CROTA2": 10.0},
        {"CRPIX1": True},
        {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "CDELT1": 2.0},
        {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_40": 1.0},
    ],
)
def test_other_coordinates_are_left_to_astropy(changes):
    header = fits.Header({**fits_files.TAN, **changes})
    text = (header.tostring(endcard=False, padding=False) + "END".ljust(CARD)).encode()
    from streamchar.image.sky import tangent_coordinates

    assert tangent_coordinates(parse_header(text), None) is None


def test_positions_that_are_nan_have_no_coordinates(tmp_path):
    sky = read_exposure(fits_files.streamchar(tmp_path)).sky
    ra, dec = sky.to_sky([1.0, np.nan], [2.0, 3.0])
    assert np.isnan([ra[1], dec[1]]).all()
    assert np.isfinite([ra[0], dec[0]]).all()


def test_an_exposure_shares_its_coordinates_with_copies_and_pickles(tmp_path):
    exposure = read_exposure(fits_files.streamchar(tmp_path))
    assert exposure.copy().sky is exposure.sky
    again = pickle.loads(pickle.dumps(exposure))
    np.testing.assert_array_equal(again.sky.to_sky(X, Y), exposure.sky.to_sky(X, Y))
    wcs = exposure.wcs
    assert exposure.wcs is wcs
    exposure.wcs = wcs
    assert isinstance(exposure.sky, AstropyCoordinates)


def test_a_file_that_becomes_shorter_while_it_is_read_is_truncated(tmp_path):
    path = fits_files.streamchar(tmp_path)
    with opened(path, FileLimits()) as hdus:
        with path.open("r+b") as file:
            file.truncate(10_000)
        with pytest.raises(StreamcharError, match="is truncated"):
            _ = hdus["VARIANCE"].data


def test_reading_and_locating_a_plain_file_imports_no_astropy(tmp_path):
    path = fits_files.streamchar(tmp_path)
    code = (
        "import sys; from streamchar.image.fits import read_exposure; "
        f"exposure = read_exposure({str(path)!r}); exposure.sky.to_sky(3, 4); exposure.pixel_scale; repr(exposure); "
        "print({'astropy', 'scipy', 'ssl', 'urllib.request'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def _coordinates(header):
    from streamchar.image.coordinates import read_coordinates
    from streamchar.image.profiles.model import Coordinates

    return read_coordinates(header, Coordinates(), "a.fits")
