"""Reports: figures in words, pictures that show what is there, pages for whatever there was."""

import base64
import io
import re

import numpy as np
import pytest
from astropy.wcs import WCS
from PIL import Image

from streamchar.characterize import CharacterizationResult, CharacterizeImage
from streamchar.characterize.background import BackgroundList
from streamchar.characterize.psf.measure import PsfStars
from streamchar.characterize.summary import Summary
from streamchar.image import Exposure, Identity, UnreadableExposureError
from streamchar.image.preview import Stretch, gray
from streamchar.monitor.grades import Assessment, Exceeded
from streamchar.report import Entry, Subject, pictures, report, tables, write_index, write_report
from streamchar.report.views import MANY_STARS, sky_directions, star_layer
from streamchar.telescope import named_scene, simulate_exposure


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA"))


def noise(*shape):
    return np.random.default_rng(1).normal(100.0, 5.0, shape).astype(np.float32)


def exposure(*shape):
    return Exposure.from_image(noise(*shape), gain=2.0, read_noise=5.0, identity=Identity("Cam", 7, 2, "r"))


@pytest.fixture(scope="module")
def characterized():
    simulated = simulate_exposure(named_scene("normal", size=320), 3).exposure
    before = simulated.image.copy()
    return before, CharacterizeImage().run(simulated)


class TestPictures:
    @pytest.mark.parametrize("shape", [(40, 60), (900, 700), (3000, 40)])
    def test_a_star_is_where_it_is(self, shape):
        image = noise(*shape)
        height, width = shape
        y, x = height // 4, width // 5
        image[y - 2 : y + 3, x - 2 : x + 3] += 5000
        shown = decoded(pictures.picture(image, Stretch.of(image)))[..., 0]
        assert max(shown.shape) <= pictures.MAX_SIDE
        row, column = (part.mean() for part in np.nonzero(shown < shown.min() + 30))
        # The last row of the image is on top.
        assert (row + 0.5) / shown.shape[0] == pytest.approx(1 - y / height, abs=0.06)
        assert (column + 0.5) / shown.shape[1] == pytest.approx(x / width, abs=0.06)

    @pytest.mark.parametrize("value", [np.nan, 0.0, 1e30])
    def test_pixels_without_a_scale(self, value):
        image = np.full((50, 60), value, np.float32)
        assert decoded(pictures.picture(image, Stretch.of(image))).shape == (50, 60, 4)

    def test_outlines_surround_each_label(self):
        labels = np.zeros((1000, 1000), np.int32)
        labels[100:200, 300:400] = 1
        labels[100:200, 400:500] = 2
        drawn = decoded(pictures.outlines(labels))[::-1, :, 3] > 0
        assert drawn.shape == labels.shape
        assert drawn[[150, 150, 150, 100], [300, 399, 400, 350]].all()
        assert not drawn[[150, 150, 90], [350, 450, 350]].any()

    def test_a_single_cosmic_ray_pixel_is_seen_on_a_large_exposure(self):
        mask = np.zeros((4000, 4000), bool)
        mask[1000, 3000] = True
        drawn = decoded(pictures.marks(mask))[::-1, :, 3] > 0
        row, column = (part.mean() for part in np.nonzero(drawn))
        assert drawn.sum() >= 9
        assert row == pytest.approx(drawn.shape[0] / 4, abs=2)
        assert column == pytest.approx(drawn.shape[1] * 3 / 4, abs=2)

    def test_the_mask_shows_cosmic_rays_on_top(self):
        planes = exposure(60, 80)
        planes.set_plane("DETECTED", np.ones((60, 80), bool))
        hit = np.zeros((60, 80), bool)
        hit[10:14, 20:30] = True
        planes.set_plane("CR", hit)
        shown = decoded(pictures.mask_picture(planes))[::-1]
        assert tuple(shown[12, 25, :3]) == (0xD5, 0x5E, 0x00)
        assert tuple(shown[40, 40, :3]) == (0xA8, 0xD5, 0xC4)
        assert not decoded(pictures.mask_picture(exposure(60, 80)))[..., 3].any()

    def test_missing_pixels_are_grey(self):
        image = noise(50, 50)
        image[:10] = np.nan
        assert set(gray(image, 100)[-10:].ravel()) == {204}


class TestDirections:
    @pytest.mark.parametrize("angle", [0, 30, 90, 200])
    @pytest.mark.parametrize("flipped", [False, True])
    def test_north_and_east_are_those_of_the_header(self, angle, flipped):
        turned = exposure(100, 100)
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        sign = 1 if flipped else -1
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [359.9999, 40.0], [50, 50]
        wcs.wcs.cd = 1e-4 * np.array([[sign * cosine, sign * -sine], [sine, cosine]])
        turned.wcs = wcs
        north, east = sky_directions(turned)
        assert north == pytest.approx((sine, cosine), abs=1e-3)
        assert east == pytest.approx((sign * cosine, sign * -sine), abs=1e-3)

    def test_without_coordinates_there_are_none(self):
        assert sky_directions(exposure(100, 100)) is None


class TestTables:
    @pytest.mark.parametrize(
        ("fraction", "words"), [(0.0, "0 %"), (1e-9, "< 0.001 %"), (0.00049, "0.049 %"), (0.21234, "21.2 %")]
    )
    def test_fractions(self, fraction, words):
        assert tables.percent(fraction) == words

    def test_figures_that_are_not_known_are_dashes(self):
        assert tables.figure(float("nan")) == tables.fixed(float("inf"), 2) == tables.seeing(Summary()) == "–"
        assert tables.seeing(Summary(psf_fwhm=2.5)) == "2.50 px"
        assert tables.seeing(Summary(psf_fwhm=2.5, psf_fwhm_arcsec=0.8)) == "0.80″"

    def test_a_page_is_reproducible_and_tells_the_grade_in_words(self, characterized):
        before, result = characterized
        assessment = Assessment("red", (Exceeded("seeing", 2.0, 1.5, "red"),))
        subject = Subject("a.fits", result.exposure, before, result, None, assessment)
        pages = [re.sub(r"<footer>.*?</footer>", "", report(subject)) for _ in range(2)]
        # The same exposure gives the same page, and it needs nothing from elsewhere.
        page = pages[0]
        assert page == pages[1]
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
        assert "✕ red: limit 1.5" in page
        assert "grade red" in page
        assert ">seeing<" in page.replace("</th>", "<")


class TestPages:
    @pytest.mark.parametrize("shape", [(40, 40), (33, 700)])
    def test_a_result_without_products(self, shape):
        planes = exposure(*shape)
        result = CharacterizationResult(planes, BackgroundList())
        page = report(Subject("a.fits", planes, planes.image, result))
        assert "Mask planes" in page
        assert "Point-spread function" not in page

    @pytest.mark.parametrize(
        "image", [np.zeros((0, 0)), np.zeros((3, 4, 5)), np.full((5, 5), np.nan), np.zeros((1, 1))]
    )
    def test_pixels_that_are_no_exposure(self, image, tmp_path):
        planes = Exposure.from_image(image, gain=1.0, read_noise=1.0)
        error = UnreadableExposureError(path="a.fits", detail="<is> damaged")
        entry = write_report(tmp_path / "a.html", Subject("a.fits", planes, planes.image, None, error))
        assert entry.outcome == "failed"
        assert "&lt;is&gt; damaged" in (tmp_path / "a.html").read_text()

    def test_names_that_are_no_text_are_no_obstacle(self, tmp_path):
        odd = "a\udcff.fits"  # how Python writes a byte of a file name that is no UTF-8
        entry = write_report(
            tmp_path / "a.html", Subject(odd, error=UnreadableExposureError(path=odd, detail="x"))
        )
        write_index(tmp_path / "index.html", [entry])
        for name in ("a.html", "index.html"):
            assert "a?.fits" in (tmp_path / name).read_text()

    def test_nothing_half_written_replaces_a_report(self, tmp_path, monkeypatch):
        path = tmp_path / "a.html"
        path.write_text("old")
        monkeypatch.setattr("streamchar.report.page.report", lambda subject: None)
        with pytest.raises(TypeError):
            write_report(path, Subject("a.fits"))
        assert [found.name for found in tmp_path.iterdir()] == ["a.html"]
        assert path.read_text() == "old"


class TestIndex:
    def test_lines_are_in_order_and_links_are_quoted(self, tmp_path):
        entries = [
            Entry("a b.fits", "Cam/1/1", "succeeded", "a b#1.report.html", summary=Summary(psf_fwhm=2.0)),
            Entry("<b>.fits", "<b>.fits", "failed", "b.report.html", error="<no>"),
            Entry("c.fits", "Cam/1/3", "degraded", "c.html", "red", summary=Summary(psf_fwhm=3.0)),
        ]
        write_index(tmp_path / "index.html", entries)
        page = (tmp_path / "index.html").read_text()
        assert re.findall(r'<a href="([^"]*)"', page) == ["a%20b%231.report.html", "b.report.html", "c.html"]
        assert "<b>" not in page
        assert "&lt;no&gt;" in page
        assert "2.00 to 3.00" in page
        assert "grade red" in page

    def test_no_entry(self, tmp_path):
        write_index(tmp_path / "index.html", [])
        assert "0 exposures" in (tmp_path / "index.html").read_text()


class TestStarMarks:
    def stars(self, used, other):
        count = used + other
        place = np.linspace(5.0, 95.0, count)
        chosen = np.arange(count) < used
        return PsfStars(np.arange(count), place, place, place, chosen, np.zeros(count, bool), np.ones(count))

    def test_each_star_is_marked_where_it_is(self):
        content = star_layer(self.stars(2, 1), (100, 100)).content
        assert re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', content) == [
            ("5.5", "94.5"),
            ("50.5", "49.5"),
        ]
        assert content.count('class="other"') == 1

    def test_very_many_candidates_do_not_hide_the_exposure(self):
        content = star_layer(self.stars(3, MANY_STARS + 1), (100, 100)).content
        assert content.count("<circle") == 3
        assert 'class="other"' not in content

    def test_many_stars_have_smaller_marks(self):
        few, many = (
            float(re.search(r' r="([\d.]+)"', star_layer(self.stars(count, 0), (4000, 4000)).content)[1])
            for count in (100, 1000)
        )
        assert many < 0.6 * few
