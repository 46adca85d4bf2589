"""What an interactive session shows: one line each, a small table with the pixels, figures of chosen panels."""

import base64
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from streamchar.characterize import CharacterizationResult, CharacterizeImage
from streamchar.characterize.background import BackgroundList
from streamchar.characterize.panels import PANELS, UnknownPanelError, plot
from streamchar.image import Exposure, Identity
from streamchar.image.preview import gray, png
from streamchar.telescope import named_scene, simulate_exposure


@pytest.fixture(scope="module")
def result():
    return CharacterizeImage().run(simulate_exposure(named_scene("normal", size=320), 3).exposure)


def noise(*shape):
    return np.random.default_rng(1).normal(100.0, 5.0, shape)


def thumbnail(html):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", html)[1]))))


def test_reprs_are_one_line(result):
    texts = [repr(part) for part in (result, result.exposure, result.catalog, result.background)]
    assert all("\n" not in text and len(text) < 160 for text in texts)
    assert "320 x 320 px" in texts[1]
    assert texts[0].startswith("CharacterizationResult(SIMCAM/")


@pytest.mark.parametrize("shape", [(50, 60), (1000, 3000), (1, 1)])
def test_a_notebook_shows_the_pixels_of_an_exposure(shape):
    html = Exposure.from_image(noise(*shape), gain=1.0, read_noise=1.0)._repr_html_()
    assert f"{shape[1]} x {shape[0]} pixels" in html
    assert max(thumbnail(html).shape) <= 224


@pytest.mark.parametrize("image", [np.zeros((0, 0)), np.zeros((2, 3, 4)), np.full((40, 40), np.nan)])
def test_pixels_that_are_no_exposure_are_described_as_well(image):
    exposure = Exposure.from_image(image, gain=1.0, read_noise=1.0)
    assert "Exposure(" in repr(exposure)
    assert "<table" in exposure._repr_html_()


def test_what_a_header_says_is_text_in_a_notebook():
    identity = Identity("<script>alert(1)</script>", 1, 2, "<b>")
    exposure = Exposure.from_image(noise(40, 40), gain=1.0, read_noise=1.0, identity=identity)
    for html in (exposure._repr_html_(), CharacterizationResult(exposure, BackgroundList())._repr_html_()):
        assert "<script" not in html
        assert "<b>" not in html


def test_a_notebook_shows_the_figures_of_a_result(result):
    html = result._repr_html_()
    assert f"{result.summary.psf_fwhm:.2f} pixels" in html
    assert f"{len(result.catalog)} x" in html
    assert thumbnail(html).std() > 5


def test_a_thumbnail_needs_no_plotting_library():
    code = (
        "import sys, numpy as np\n"
        "sys.modules['matplotlib'] = sys.modules['PIL'] = None\n"
        "from streamchar.image import Exposure\n"
        "print(Exposure.from_image(np.eye(50), gain=1.0, read_noise=1.0)._repr_html_())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert thumbnail(done.stdout).shape == (50, 50)


def test_png_is_read_by_others():
    pixels = gray(noise(70, 33), 1000)
    assert (np.asarray(Image.open(io.BytesIO(png(pixels)))) == pixels).all()


def test_any_panels_make_a_figure(result):
    figure = result.plot()
    assert len(figure.axes) == 6
    drawn = np.asarray(Image.open(io.BytesIO(figure._repr_png_())).convert("L"))
    assert min(drawn.shape) > 500
    assert len(np.unique(drawn)) > 50
    assert len(result.plot("sizes").axes) == 1
    assert len(plot(result, ["timings", "correction", "residuals", "cosmic_rays"]).axes) == 6


def test_panels_of_nothing_say_so():
    planes = Exposure.from_image(noise(40, 50), gain=1.0, read_noise=1.0)
    figure = CharacterizationResult(planes, BackgroundList()).plot(*PANELS)
    words = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"no background was measured", "no PSF was measured", "no sources were measured"} <= words
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_an_unknown_panel_is_refused_with_the_nearest(result):
    with pytest.raises(UnknownPanelError, match=r"there is no panel 'whisker'.*did you mean 'whiskers'"):
        result.plot("whisker")
