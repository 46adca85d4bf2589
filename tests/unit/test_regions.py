"""Regions and PSF files: what DS9 and PSFEx's readers find is what was measured."""

import re

import galsim
import galsim.des
import numpy as np
import pytest
from astropy.table import Table

from streamchar.characterize import CharacterizeImage
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.psf.measure import PsfStars
from streamchar.products import write_products, write_psf
from streamchar.regions import HEADER, star_regions, write_regions
from streamchar.telescope import named_scene, simulate_exposure

LINE = re.compile(r"^(ellipse|circle|box|point)\(([^)]*)\) # .*?tag=\{([a-z_]+)\}")


@pytest.fixture(scope="module")
def result():
    return CharacterizeImage().run(simulate_exposure(named_scene("cosmic-rays", size=512), 3).exposure)


@pytest.fixture(scope="module")
def regions(result, tmp_path_factory):
    path = write_regions(tmp_path_factory.mktemp("regions") / "a.reg", result)
    text = path.read_text()
    assert text.startswith(HEADER)
    found = {}
    for line in text.removeprefix(HEADER).splitlines():
        shape, numbers, tag = LINE.match(line).groups()
        found.setdefault(tag, []).append((shape, [float(number) for number in numbers.split(",")]))
    return found


def test_every_source_is_at_its_fits_position(result, regions):
    catalog = result.catalog
    x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
    known = np.isfinite(x) & np.isfinite(y)
    assert len(regions["source"]) == known.sum() > 10
    places = np.array([numbers[:2] for _, numbers in regions["source"]])
    np.testing.assert_allclose(places, np.stack([x, y], 1)[known] + 1, atol=0.006)


def test_ellipses_have_the_moments_of_the_sources(result, regions):
    catalog = result.catalog
    known = np.isfinite(catalog["slot_Centroid_x"]) & np.isfinite(catalog["slot_Centroid_y"])
    moments = np.stack([catalog[f"slot_Shape_{name}"][known] for name in ("xx", "yy", "xy")], 1)
    count = 0
    for (shape, numbers), (xx, yy, xy) in zip(regions["source"], moments, strict=True):
        if shape != "ellipse":
            continue
        a, b, angle = numbers[2] / 3, numbers[3] / 3, np.radians(numbers[4])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.diag([a * a, b * b]) @ turn.T
        np.testing.assert_allclose(matrix, [[xx, xy], [xy, yy]], rtol=0.02, atol=0.03)
        count += 1
    assert count > 10


def test_the_stars_of_the_fit_are_marked(result, regions):
    stars = result.psf_measurement.stars
    assert len(regions["psf_used"]) == stars.used.sum() > 5


def test_stars_are_told_apart():
    x, y = np.array([1.0, 10.0, 20.0, np.nan]), np.array([2.0, 11.0, 21.0, 3.0])
    used, reserved = np.array([True, False, False, True]), np.array([False, True, False, False])
    stars = PsfStars(np.arange(4), x, y, np.ones(4), used, reserved, np.ones(4))
    lines = list(star_regions(stars))
    assert [LINE.match(line)[1] for line in lines] == ["circle", "box", "point"]
    assert [LINE.match(line)[3] for line in lines] == ["psf_used", "psf_reserved", "psf_rejected"]
    assert lines[0].startswith("circle(2.00,3.00,")


def test_cosmic_rays_lie_in_their_boxes(result, regions):
    inside = np.zeros(result.exposure.shape, bool)
    for _, (x, y, width, height, _) in regions["cosmic_ray"]:
        left, bottom = round(x - 1 - (width - 1) / 2), round(y - 1 - (height - 1) / 2)
        inside[bottom : bottom + int(height), left : left + int(width)] = True
    hit = (result.exposure.mask & result.exposure.bits("CR")) != 0
    assert len(regions["cosmic_ray"]) == result.cosmic_rays.count > 0
    assert (inside | ~hit).all()


def test_galsim_draws_the_psf_that_was_written(result, tmp_path):
    path = write_psf(tmp_path / "a.psf.fits", result.exposure.psf, result.psf_measurement)
    x, y = 200.0, 300.0
    drawn = galsim.des.DES_PSFEx(str(path)).getPSF(galsim.PositionD(x + 1, y + 1))
    size = result.exposure.psf.size[0]
    image = drawn.drawImage(nx=size, ny=size, scale=1.0, method="no_pixel").array
    expected = result.exposure.psf.kernel_images(x, y)[0]
    assert np.abs(image - expected).max() < 0.02 * expected.max()


def test_an_analytic_psf_is_written_as_its_image(tmp_path):
    psf = GaussianPsf(1.8, 31, (70.0, 60.0))
    path = write_psf(tmp_path / "a.psf.fits", psf)
    drawn = galsim.des.DES_PSFEx(str(path)).getPSF(galsim.PositionD(10, 10))
    image = drawn.drawImage(nx=31, ny=31, scale=1.0, method="no_pixel").array
    expected = psf.kernel_images(70.0, 60.0)[0]
    np.testing.assert_allclose(image, expected, atol=0.002 * expected.max())


@pytest.mark.parametrize("kind", ["fits", "parquet", "ecsv", "votable"])
def test_the_catalogue_is_written_in_each_kind_of_file(result, kind, tmp_path):
    paths = write_products(result, tmp_path, "a", table_format=kind, regions=True)
    assert set(paths) == {"catalog", "background", "psf", "regions", "summary"}
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths.values()}
    formats = {"ecsv": "ascii.ecsv"}
    table = Table.read(paths["catalog"], format=formats.get(kind, kind))
    assert table.colnames == list(result.catalog.columns)
    np.testing.assert_array_equal(
        np.asarray(table["base_PsfFlux_instFlux"]), result.catalog["base_PsfFlux_instFlux"]
    )
    assert str(table["base_PsfFlux_instFlux"].unit) == "ct"
