"""``streamchar run``: real frames give the known answer, bad input gives one clear sentence."""

import json
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

from streamchar.image.fits import write_exposure
from tests.sdss import read_frame

HEADER = {"GAIN": 2.0, "RDNOISE": 5.0}


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "streamchar.cli", "run", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"COLUMNS": "120", "PATH": "", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        timeout=120,
    )


def plain(path, pixels, header=HEADER):
    fits.PrimaryHDU(np.asarray(pixels, np.float32), fits.Header(header)).writeto(path)
    return path


def noise(*shape):
    return np.random.default_rng(1).normal(100, 5, shape)


def bad_file(kind, folder):
    path = folder / "bad.fits"
    if kind == "text":
        path.write_text("no FITS at all\n" * 50)
    elif kind == "truncated":
        whole = plain(folder / "whole.fits", noise(200, 200)).read_bytes()
        path.write_bytes(whole[:60_000])
    elif kind == "all NaN":
        plain(path, np.full((200, 200), np.nan))
    elif kind == "10 x 10":
        plain(path, noise(10, 10))
    elif kind == "no gain":
        plain(path, noise(200, 200), {})
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no such file"),
        ("text", "is not a FITS file"),
        ("truncated", "is truncated"),
        ("all NaN", "no pixel of the image is finite"),
        ("10 x 10", "the image is 10 x 10 pixels"),
        ("no gain", "GAIN is missing"),
    ],
)
def test_bad_input_gives_one_sentence(kind, words, tmp_path):
    finished = run(bad_file(kind, tmp_path))
    assert finished.returncode == 11
    assert "Traceback" not in finished.stderr + finished.stdout
    assert words in finished.stderr
    assert finished.stderr.count("bad.fits") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-c", "detection.treshold_value=4", "x.fits"], "did you mean 'detection.threshold_value'"),
        (["--preset", "worst", "x.fits"], "known are best, reference"),
        (["--config", "gone.toml", "x.fits"], "cannot be read"),
        ([], "Missing argument"),
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments, words):
    finished = run(*arguments)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    assert words in " ".join(finished.stderr.replace("│", " ").split())


@pytest.fixture(scope="module")
def sdss_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdss")
    frame = read_frame("r")
    path = write_exposure(folder / "r.fits", frame.exposure)
    return frame, folder / "out", run(path, folder / "gone.fits", "-o", folder / "out", "--save-exposure")


def test_a_bad_file_does_not_keep_the_others_from_being_done(sdss_run):
    _, out, finished = sdss_run
    assert finished.returncode == 11
    assert "succeeded" in finished.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        f"r.{product}"
        for product in ("background.fits", "catalog.fits", "exposure.fits", "psf.fits", "summary.json")
    ]


def test_the_width_is_that_which_sdss_measured(sdss_run):
    frame, out, finished = sdss_run
    record = json.loads((out / "r.summary.json").read_text())
    width = record["summary"]["psf_fwhm_arcsec"]
    assert width == pytest.approx(frame.psf_width, rel=0.05)
    assert f"{width:.2f}″" in finished.stdout
    assert record["outcome"] == "succeeded"
    assert record["units"]["psf_fwhm"] == "pixel"


def test_astropy_reads_the_catalog(sdss_run):
    _, out, _ = sdss_run
    table = QTable.read(out / "r.catalog.fits")
    assert len(table) > 90
    assert table["base_SdssCentroid_x"].unit == "pixel"
    assert table["base_PixelFlags_flag_saturated"].dtype == bool
    assert np.isfinite(table["coord_ra"]).mean() > 0.95
    assert len(set(table["id"])) == len(table)
