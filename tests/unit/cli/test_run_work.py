"""One exposure at the desk: whatever happens to it is told, and never more than one sentence long."""

import functools
import http.server
import shutil
import threading

import numpy as np
import pytest
from astropy.io import fits

from streamchar.characterize.config import CharacterizeImageConfig
from streamchar.cli.run_inputs import Input
from streamchar.cli.run_pool import WorkerLostError
from streamchar.cli.run_work import Desk, Outputs, Plan, failed
from streamchar.image.access import Access
from streamchar.image.fits import ReadOptions, write_exposure
from streamchar.monitor.grades import GradeLimits
from streamchar.telescope import named_scene, simulate_exposure


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    exposure = simulate_exposure(named_scene("sparse", size=200), 5).exposure
    write_exposure(folder / "a.fits.gz", exposure)
    return folder


def desk(outputs, limits=None):
    return Desk(
        Plan(CharacterizeImageConfig(), ReadOptions(), Access(plain_http=True), outputs, limits or {})
    )


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_a_file_is_read_from_a_server(folder):
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            found, missing = (
                desk(Outputs()).attempt(Input(f"{address}/{name}", "x")) for name in ("a.fits.gz", "b.fits")
            )
        finally:
            server.shutdown()
            thread.join()
    assert found.error is None
    assert found.summary.source_count > 0
    assert missing.error.code == "file_missing"


def test_products_that_cannot_be_written_fail_the_exposure(folder, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    made = desk(Outputs(gone))
    shutil.rmtree(gone)
    attempt = made.attempt(Input(str(folder / "a.fits.gz"), "a"))
    assert attempt.outcome == "failed"
    assert attempt.error.code == "unwritable_products"
    assert str(gone) in str(attempt.error)
    # What was measured is told all the same.
    assert attempt.summary.source_count > 0


def test_an_exposure_that_is_refused_has_a_report_with_its_pixels(tmp_path):
    header = fits.Header({"GAIN": 2.0, "RDNOISE": 5.0})
    fits.PrimaryHDU(np.full((60, 60), 7, np.float32), header).writeto(tmp_path / "flat.fits")
    attempt = desk(Outputs(tmp_path, report=True)).attempt(Input(str(tmp_path / "flat.fits"), "flat"))
    assert attempt.outcome == attempt.entry.outcome == "failed"
    assert attempt.entry.thumbnail
    assert "every usable pixel has the same value" in (tmp_path / "flat.report.html").read_text()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".fits"] == ["flat.report.html"]


def test_an_exposure_of_which_nothing_is_left_has_a_report(tmp_path):
    error = WorkerLostError(source="a.fits", end="was killed by SIGKILL")
    attempt = failed(Input("a.fits", "a"), error, Outputs(tmp_path, report=True), 3.0)
    assert attempt.outcome == attempt.entry.outcome == "failed"
    assert "was killed by SIGKILL" in (tmp_path / attempt.entry.href).read_text()
    assert failed(Input("a.fits", "a"), error, Outputs(tmp_path / "gone", report=True)).entry is None


def test_the_grade_is_that_of_the_service(folder, tmp_path):
    limits = {"default": {"seeing": GradeLimits(yellow=0.01, orange=0.02, red=100.0)}}
    attempt = desk(Outputs(tmp_path, report=True), limits).attempt(Input(str(folder / "a.fits.gz"), "a"))
    assert attempt.entry.grade == "orange"


def test_one_failure_does_not_change_the_next_exposure(folder, tmp_path):
    made = desk(Outputs())
    good = Input(str(folder / "a.fits.gz"), "a")
    first = made.attempt(good)
    assert made.attempt(Input(str(tmp_path / "none.fits"), "none")).error.code == "file_missing"
    second = made.attempt(good)
    assert str(second.summary) == str(first.summary)
