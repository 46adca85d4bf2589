"""Each instrument's files become the exposure that their documentation describes; profiles are TOML, and checked."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from streamchar.errors import ConfigurationError
from streamchar.image import Exposure
from streamchar.image.errors import (
    AmbiguousProfileError,
    CompanionMissingError,
    InvalidExposureError,
    UnknownInstrumentError,
)
from streamchar.image.fits import ReadOptions, read_exposure
from streamchar.image.profiles import Facts, InstrumentProfile, ProfileSet, load_profiles, read_profile
from tests import fits_files
from tests.sdss import FRAME, read_frame

DECAM = Path(__file__).parents[2] / "data" / "decam-c4d_170316_062107-z-N2"
DECAM_IMAGE = DECAM / "c4d_170316_062107_ooi_z_ls9.N2.fits.fz"


def planes_at(exposure, y, x):
    return {name for name, bit in exposure.planes.items() if exposure.mask[y, x] >> bit & 1}


def test_decam_real_cutout():
    exposure = Exposure.read(DECAM_IMAGE)
    assert str(exposure.identity) == "DECam/630780/33"
    assert exposure.identity.band == "z"
    observation = exposure.observation
    assert observation.gain == pytest.approx(0.5 * (3.87047534931607 + 3.88300553808994))
    assert observation.read_noise == pytest.approx(0.5 * (5.959384 + 6.163348))
    assert observation.saturation == pytest.approx(45845.4416955499)
    assert observation.exposure_time == 107.0
    assert observation.mid_time == pytest.approx(57828.26285591 + 53.5 / 86400, abs=1e-9)
    assert exposure.metadata["SEEING"] == pytest.approx(3.691442 * 0.2637)

    # Code 5 is a cosmic ray: the muon track of this frame, and nothing else is marked.
    codes = fits.getdata(DECAM / "c4d_170316_062107_ood_z_ls9.N2.fits.fz", 1)
    assert set(np.unique(codes)) == {0, 5}
    for plane in ("CR", "SUSPECT"):
        np.testing.assert_array_equal(exposure.mask & exposure.bits(plane) != 0, codes == 5)
    assert np.median(exposure.image[codes == 5]) > np.median(exposure.image) + 20

    # The weight is the inverse variance of the pixels, photons of the sources included.
    weight = fits.getdata(DECAM / "c4d_170316_062107_oow_z_ls9.N2.fits.fz", 1).astype(np.float64)
    good = weight > 0
    np.testing.assert_array_equal(good, codes == 0)
    np.testing.assert_allclose(exposure.variance[good], 1 / weight[good], rtol=1e-6)
    photons = exposure.image / observation.gain + (observation.read_noise / observation.gain) ** 2
    np.testing.assert_allclose(exposure.variance[good], photons[good], rtol=0.1)
    np.testing.assert_allclose(exposure.variance[~good], photons[~good], rtol=1e-5)
    quiet = good[:, 1:] & good[:, :-1] & (np.abs(exposure.image[:, 1:] - 3170) < 100)
    steps = np.diff(exposure.image, axis=1)[quiet]
    scatter = 1.4826 * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2)
    assert scatter == pytest.approx(np.sqrt(np.median(exposure.variance)), rel=0.05)

    assert exposure.pixel_scale == pytest.approx(0.2623, abs=2e-4)
    header = fits.getheader(DECAM_IMAGE, 1)
    assert header["CTYPE1"] == "RA---TPV"
    np.testing.assert_array_equal(
        exposure.wcs.all_pix2world([[3.0, 5.0]], 0), WCS(header).all_pix2world([[3.0, 5.0]], 0)
    )
    exposure.check()


def test_sdss_real_frame_is_that_of_the_other_reader():
    exposure = read_exposure(FRAME / "fpC-006377-r4-0399.fit.gz")
    frame = read_frame("r")
    other = frame.exposure
    np.testing.assert_array_equal(exposure.image, other.image)
    np.testing.assert_allclose(exposure.variance, other.variance, rtol=1e-6)
    np.testing.assert_array_equal(exposure.mask, other.mask)
    assert exposure.identity == other.identity
    assert exposure.observation.gain == other.observation.gain
    assert exposure.observation.read_noise == pytest.approx(other.observation.read_noise)
    assert exposure.metadata["SEEING"] == pytest.approx(frame.psf_width)
    # The other reader takes the time of the middle row of the field from another file.
    assert exposure.observation.mid_time == pytest.approx(other.observation.mid_time, abs=1e-6)
    np.testing.assert_array_equal(
        exposure.wcs.all_pix2world([[3.0, 5.0]], 0), other.wcs.all_pix2world([[3.0, 5.0]], 0)
    )


def test_every_code_of_decam_has_its_plane(tmp_path):
    path = fits_files.decam(tmp_path)
    exposure = read_exposure(f"{path}#N4")
    assert exposure.identity.detector == 60
    expected = [
        {"BAD"},
        {"NO_DATA"},
        {"SAT"},
        {"SAT"},
        {"CR", "SUSPECT"},
        {"SUSPECT"},
        {"SUSPECT"},
        {"STREAK", "SUSPECT"},
    ]
    assert [planes_at(exposure, 1, x) for x in range(1, 9)] == expected
    assert np.count_nonzero(exposure.mask) == 8
    assert (exposure.variance > 0).all()
    assert exposure.observation.gain == 4.0


def test_old_decam_files_hold_bits(tmp_path):
    path = fits_files.decam(tmp_path, "V3.4.1")
    exposure = read_exposure(f"{path}#N2")
    # Pixels 1 to 8 hold these numbers as bits now: 1 bad, 2 saturated, 4 interpolated, 8 nothing.
    assert [planes_at(exposure, 1, x) for x in (1, 2, 3, 4, 7, 8)] == [
        {"BAD"},
        {"SAT"},
        {"BAD", "SAT"},
        {"INTRP"},
        {"BAD", "SAT", "INTRP"},
        {"NO_DATA"},  # no known bit, but no weight either
    ]


def test_afw_layout_ignores_the_archive(tmp_path):
    exposure = read_exposure(fits_files.afw(tmp_path))
    assert str(exposure.identity) == "HSC/1228/49"
    assert exposure.identity.band == "i"
    assert exposure.observation.mid_time == pytest.approx(61366.12784143518, abs=1e-9)
    assert exposure.planes["BRIGHT_OBJECT"] == 14
    assert planes_at(exposure, 2, 3) == {"SAT"}
    assert planes_at(exposure, 4, 5) == {"BRIGHT_OBJECT"}
    np.testing.assert_allclose(exposure.variance, 225, rtol=1e-3)


def test_lco_frame(tmp_path):
    exposure = read_exposure(fits_files.banzai(tmp_path))
    assert str(exposure.identity) == "fa12/202601040123/0"
    assert exposure.identity.band == "r"
    assert exposure.observation.unit == "electron"
    np.testing.assert_allclose(exposure.variance, 18.0**2)
    assert [planes_at(exposure, 0, x) for x in range(5)] == [
        {"BAD"},
        {"SAT"},
        {"BAD"},
        {"CR", "SUSPECT"},
        set(),
    ]


def test_ztf_sources_are_no_defects(tmp_path):
    exposure = read_exposure(fits_files.ztf(tmp_path))
    assert str(exposure.identity) == "ZTF/98765432/26"
    assert exposure.identity.band == "r"
    expected = [{"STREAK", "SUSPECT"}, set(), {"BAD"}, {"BAD"}, {"BAD"}, {"SUSPECT"}, {"SUSPECT"}]
    expected += [{"CR", "SUSPECT"}, {"SAT"}, {"BAD"}, {"NO_DATA"}, set(), {"SUSPECT"}]
    assert [planes_at(exposure, 0, x) for x in range(13)] == expected
    image = exposure.image
    np.testing.assert_allclose(exposure.variance, np.maximum(image, 0) / 6.2 + (10.3 / 6.2) ** 2, rtol=1e-5)
    assert exposure.observation.mid_time == pytest.approx(60700.25 + 15 / 86400)


def test_sdss_spans_are_cut_at_the_border(tmp_path):
    exposure = read_exposure(fits_files.sdss(tmp_path))
    rows = {int(y): np.flatnonzero(exposure.mask[y] & exposure.bits("INTRP")).tolist() for y in (2, 3, 39)}
    assert rows == {2: [3, 4, 5, 6], 3: [0], 39: [50, 51, 52, 53, 54, 55]}
    assert np.median(exposure.image) == pytest.approx(120, abs=2)


MINE = """
name = "mycamera"
title = "counts a second, error and quality in files of their own"
priority = 200

[[recognise]]
headers = { INSTRUME = "MYCAM" }
absent = ["RAWDATA"]

[files.error]
find = "_sci"
replace = "_err"

[files.quality]
find = "_sci"
replace = "_dq"
required = false

[image]
hdu = "first"
offset = { keys = ["PEDESTAL"], multiply = -1 }
scale = "EXPTIME"

[mask]
file = "quality"
kind = "bits"
required = false
planes = { BAD = [0, 3], HOT = [1] }

[variance]
file = "error"
kind = "error"
unusable = ["BAD"]

[keys]
exposure = { keys = ["OBSID"], pattern = "^X(\\\\d+)" }
detector = { keys = ["CHIP"], map = { red = 1, blue = 2 } }
band = { keys = ["FILTNAM"], value = "clear" }
exposure_time = "EXPTIME"
mid_time = { keys = ["JD"], time = "jd" }
start_time = { keys = ["DATE-OBS"], time = "iso" }
gain = { keys = ["GAIN1", "GAIN2"], combine = "max" }
saturation = { keys = ["SAT"], multiply = 2, add = 1 }
unit = { value = "electron" }
"""


@pytest.fixture
def mycamera(tmp_path):
    """A camera that nobody has heard of, and its profile in a configured folder."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mycamera.toml").write_text(MINE)
    header = {"INSTRUME": "MYCAM", "PEDESTAL": 50.0, "EXPTIME": 4.0, "OBSID": "X0042-a", "CHIP": "blue"}
    header |= {"JD": 2460000.75, "GAIN1": 1.0, "GAIN2": 1.5, "SAT": 1000}
    image = np.full((40, 50), 60, np.float32)
    image[0, 0] = 61
    error = np.full((40, 50), 2, np.float32)
    error[5, 5] = 0
    fits.PrimaryHDU(image, fits.Header(header)).writeto(tmp_path / "a_sci.fits")
    fits.PrimaryHDU(error).writeto(tmp_path / "a_err.fits")
    return tmp_path


def test_a_new_camera_is_a_toml_file(mycamera):
    options = ReadOptions(profile_directories=(mycamera / "profiles",))
    exposure = read_exposure(mycamera / "a_sci.fits", options)
    assert exposure.image[1, 1] == 40.0
    assert exposure.variance[1, 1] == pytest.approx(4 * 16)
    assert planes_at(exposure, 5, 5) == {"BAD"}
    assert str(exposure.identity) == "a_sci/42/2"
    assert exposure.identity.band == "clear"
    assert exposure.observation.mid_time == 60000.25
    assert exposure.observation.gain == 1.5
    assert exposure.observation.saturation == 2001
    assert exposure.observation.unit == "electron"

    quality = np.zeros((40, 50), np.uint8)
    quality[1, :4] = [1, 2, 4, 8]
    fits.PrimaryHDU(quality).writeto(mycamera / "a_dq.fits.gz")  # packed, unlike the image
    exposure = read_exposure(mycamera / "a_sci.fits", profile=str(mycamera / "profiles" / "mycamera.toml"))
    assert [planes_at(exposure, 1, x) for x in range(4)] == [{"BAD"}, {"HOT"}, set(), {"BAD"}]


def test_without_the_profile_the_camera_is_plain_and_lacks_its_gain(mycamera):
    with pytest.raises(InvalidExposureError, match="profile plain needs the gain: header key GAIN or EGAIN"):
        read_exposure(mycamera / "a_sci.fits")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("EXPTIME", "soon"), "scale of the image: EXPTIME = 'soon' is no usable number"),
        (("INSTRUME", "OTHER"), "GAIN or EGAIN is missing"),
        (("RAWDATA", True), "GAIN or EGAIN is missing"),
    ],
)
def test_errors_name_file_key_and_fix(mycamera, change, words):
    fits.setval(mycamera / "a_sci.fits", change[0], value=change[1])
    options = ReadOptions(profile_directories=(mycamera / "profiles",))
    with pytest.raises(InvalidExposureError, match=words) as caught:
        read_exposure(mycamera / "a_sci.fits", options)
    assert "a_sci.fits" in str(caught.value)


def test_companions_that_are_missing_or_do_not_fit_are_named(mycamera):
    options = ReadOptions(profile_directories=(mycamera / "profiles",))
    fits.PrimaryHDU(np.ones((10, 50), np.float32)).writeto(mycamera / "a_err.fits", overwrite=True)
    with pytest.raises(
        InvalidExposureError, match=r"a_err.fits: the variance is 50 x 10 pixels, the image 50 x 40"
    ):
        read_exposure(mycamera / "a_sci.fits", options)
    (mycamera / "a_err.fits").unlink()
    with pytest.raises(
        CompanionMissingError, match=r"a_err.fits: no such file; the profile mycamera needs the error"
    ):
        read_exposure(mycamera / "a_sci.fits", options)
    renamed = (mycamera / "a_sci.fits").rename(mycamera / "b.fits")
    with pytest.raises(
        InvalidExposureError, match=r"b.fits: .*needs its error file, and the name does not match '_sci'"
    ):
        read_exposure(renamed, options)


def test_an_extension_can_be_named_and_must_exist(tmp_path):
    path = fits_files.decam(tmp_path)
    with pytest.raises(
        InvalidExposureError, match=r"holds 2 images \(N2, N4\), say which, for example .*#N2"
    ):
        read_exposure(path)
    with pytest.raises(InvalidExposureError, match="has no image 'S9'; it holds N2, N4"):
        read_exposure(f"{path}#S9")
    by_number = read_exposure(f"{path}#2")
    np.testing.assert_array_equal(by_number.image, read_exposure(f"{path}#n4").image)
    odd = tmp_path / "odd#name.fits"
    odd.write_bytes(fits_files.plain(tmp_path).read_bytes())
    assert read_exposure(odd).shape == (fits_files.HEIGHT, fits_files.WIDTH)


def test_profiles_are_chosen_by_priority_and_never_by_chance(tmp_path):
    facts = Facts("a.fits", ("", "IMAGE", "MASK", "VARIANCE"), ({"INSTRUME": "MYCAM"},))
    known = load_profiles()
    assert [profile.name for profile in known.matching(facts)] == ["streamchar", "plain"]
    rule = [{"headers": {"INSTRUME": "MY.*"}}]
    same = [InstrumentProfile(name=name, title="t", recognise=rule, priority=200) for name in ("a", "b")]
    with pytest.raises(AmbiguousProfileError, match="profiles a, b all recognise it"):
        ProfileSet([*known.values(), *same]).recognise(facts, "a.fits")
    with pytest.raises(
        UnknownInstrumentError, match=r"a.fits: no instrument profile recognises it; name one of a, b"
    ):
        ProfileSet(same).recognise(Facts("a.fits", ("",), ({"INSTRUME": "NOT MY"},)), "a.fits")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"', "'title': Field required"),
        ('name = "X y"\ntitle = "t"', "'name'"),
        ('name = "x"\ntitle = "t"\nprioriti = 3', "did you mean 'priority'"),
        (
            'name = "x"\ntitle = "t"\nextends = "absent"',
            "there is no profile 'absent'; known are decam-instcal",
        ),
        ('name = "x"\ntitle = "t"\nextends = "x"', "extends itself"),
        ('name = "x"\ntitle = "t"\n[mask]\nkind = "bits"', "needs 'planes'"),
        ('name = "x"\ntitle = "t"\n[mask]\nplanes = { BAD = [99] }', "bit numbers go from 0 to 31"),
        (
            'name = "x"\ntitle = "t"\n[variance]\nfile = "weight"',
            "variance is in the file 'weight', which 'files'",
        ),
        ('name = "x"\ntitle = "t"\n[files.image]\nfind = "a"\nreplace = "b"', "give companions other roles"),
        (
            'name = "x"\ntitle = "t"\n[keys]\ngain = { keys = ["A"], pattern = "(" }',
            "is not a regular expression",
        ),
        (
            'name = "x"\ntitle = "t"\n[keys]\ngain = { keys = ["A", "B"], factors = [1] }',
            "1 factors for 2 keys",
        ),
        ('name = "x"\ntitle = "t"\n[keys]\ngain = {}', "names no keys, no table and no value"),
        ("name = ", "is not valid TOML"),
    ],
)
def test_wrong_profiles_are_refused_in_one_sentence(tmp_path, text, words):
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_profile(path)
    assert str(caught.value).startswith(str(path))


def test_built_in_profiles_say_what_they_are():
    for profile in load_profiles().values():
        assert profile.title
        assert profile.description
        assert profile.recognise


def test_a_profile_that_extends_another_takes_over_what_it_does_not_say(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text('name = "x"\ntitle = "t"\nextends = "decam-instcal"\n[keys]\ngain = 3.0\n')
    profile, base = read_profile(path), load_profiles()["decam-instcal"]
    assert profile.keys.gain.value == 3.0
    assert profile.keys.exposure == base.keys.exposure
    assert profile.mask == base.mask
    assert tomllib.loads(path.read_text())["name"] == profile.name
