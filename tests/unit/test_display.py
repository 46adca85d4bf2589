"""Debug pictures: every drawing copes with normal, empty and NaN-ridden input, and pictures show what is there."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread

from streamchar.characterize import CharacterizationResult, drawing
from streamchar.characterize.aperture_correction import CORRECTED
from streamchar.characterize.background import BackgroundConfig, BackgroundList, fit_background
from streamchar.characterize.base import Timing
from streamchar.characterize.chebyshev import ChebyshevField
from streamchar.characterize.debug_pictures import PictureDisplay, picture_of_psf, picture_of_sources
from streamchar.characterize.display import POINTS, REPEATED, no_display, parse_points
from streamchar.characterize.drawing.canvas import MAX_SIDE, any_in_blocks, blocks, nice
from streamchar.characterize.drawing.charts import MAX_WHISKERS
from streamchar.characterize.drawing.images import outlines
from streamchar.characterize.footprints import Footprints
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.psf.measure import PsfMeasurement, PsfStars
from streamchar.cli.run import run as run_command
from streamchar.errors import ConfigurationError
from streamchar.image import Exposure
from streamchar.image.fits import write_exposure
from streamchar.telescope import named_scene, simulate_exposure
from tests.science import figures

SHAPE = (120, 150)


def canvas():
    figure = drawing.new_figure(4, 3, dpi=60)
    # A layout that adapts moves everything a little at every drawing.
    figure.set_layout_engine("none")
    return figure, figure.subplots()


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def rng():
    return np.random.default_rng(7)


def image():
    return rng().normal(100, 5, SHAPE).astype(np.float32)


def footprints(shape=SHAPE):
    """Two touching squares."""
    y = np.r_[10:20, 10:20].astype(np.int32)
    x0 = np.repeat([10, 20], 10).astype(np.int32)
    peaks = np.array([14, 24], np.int32)
    return Footprints(
        shape,
        y,
        x0,
        x0 + np.int32(9),
        np.array([0, 10, 20]),
        peaks,
        np.full(2, 14, np.int32),
        np.ones(2, np.float32),
        np.ones(2),
        np.arange(3),
    )


def stars(count=12, nan=False):
    x, y = rng().uniform(30, 90, (2, count))
    flux = rng().uniform(1e3, 1e4, count)
    if nan:
        x, flux = np.full(count, np.nan), np.full(count, np.nan)
    number = np.arange(count)
    reserved = number % 4 == 0
    return PsfStars(number, x, y, flux, ~reserved & (number != 1), reserved, np.ones(count))


def measurement(count=12, nan=False):
    chosen, psf = stars(count, nan), GaussianPsf(1.8, 21, (70.0, 60.0))
    numbers = (count, int(chosen.used.sum()), int(chosen.reserved.sum()))
    return PsfMeasurement(psf, chosen, *numbers, 0, 1.0, (70.0, 60.0))


def exposure(found=None, nan=False):
    planes = Exposure.from_image(image() * 0, gain=1.0, read_noise=5.0)
    planes.image[...] = rng().normal(0, 5, SHAPE)
    planes.variance[...] = 25.0
    for x, y, flux in zip(found.stars.x, found.stars.y, found.stars.flux, strict=True) if found else ():
        if np.isfinite(x):
            stamp = found.psf.images(x, y)
            rows, columns = stamp.images[0].shape
            top, left = int(stamp.y0[0]), int(stamp.x0[0])
            planes.image[top : top + rows, left : left + columns] += flux * stamp.images[0]
    if nan:
        planes.image[...] = np.nan
    return planes


def sizes(count=200, nan=False):
    magnitude, radius = rng().uniform(-14, -8, count), rng().uniform(1, 5, count)
    if nan:
        magnitude[:] = np.nan
    number = np.arange(count)
    return drawing.SizeMagnitude(magnitude, radius, number % 3 == 0, number % 7 == 1)


def whiskers(count=50, nan=False):
    x, y = rng().uniform(0, 120, (2, count))
    e1, e2 = rng().normal(0, 0.02, (2, count))
    if nan:
        e1[:] = np.nan
    return drawing.Whiskers(x, y, e1, e2, SHAPE)


class NanPsf:
    """A model without a single number."""

    def kernel_images(self, x, y):
        return np.full((np.size(x), 9, 9), np.nan)


class NanField:
    def evaluate(self, x, y):
        return np.full(np.shape(x), np.nan)


def timings(count=5):
    names = [f"characterize_image.step{number}.run" for number in range(count)]
    return [Timing("characterize_image.run", 1.0, 1.0), *(Timing(name, 0.1, 0.1) for name in names)][
        : count and None
    ]


NAN_IMAGE = np.full(SHAPE, np.nan, np.float32)
HOLES = np.where(np.arange(150) % 3 == 0, np.nan, image())

INTO_AN_IMAGE = {
    "footprints": (drawing.draw_footprints, footprints()),
    "no footprints": (drawing.draw_footprints, Footprints.empty(SHAPE)),
    "sources": (lambda axes, data: drawing.draw_sources(axes, *data), rng().uniform(0, 100, (2, 9))),
    "no sources": (lambda axes, data: drawing.draw_sources(axes, *data), np.empty((2, 0))),
    "sources nowhere": (lambda axes, data: drawing.draw_sources(axes, *data), np.full((2, 3), np.nan)),
    "stars": (drawing.draw_psf_stars, stars()),
    "no stars": (drawing.draw_psf_stars, stars(0)),
    "stars nowhere": (drawing.draw_psf_stars, stars(5, nan=True)),
    "cosmic rays": (drawing.draw_cosmic_rays, image() > 108),
    "no cosmic rays": (drawing.draw_cosmic_rays, np.zeros(SHAPE, bool)),
    "outline": (drawing.draw_outline, image() > 108),
}
NOTHING_TO_SEE = {"no footprints", "no sources", "sources nowhere", "no stars", "no cosmic rays"}

ALONE = {
    "image": (drawing.draw_image, image()),
    "image with holes": (drawing.draw_image, HOLES),
    "image of NaN": (drawing.draw_image, NAN_IMAGE),
    "image of zeros": (drawing.draw_image, np.zeros(SHAPE, np.float32)),
    "image of infinities": (drawing.draw_image, np.where(image() > 105, np.inf, -np.inf)),
    "background": (drawing.draw_background, np.add.outer(np.arange(120.0), np.arange(150.0))),
    "constant background": (drawing.draw_background, np.full(SHAPE, 7.0)),
    "background of NaN": (drawing.draw_background, NAN_IMAGE),
    "background with holes": (drawing.draw_background, HOLES),
    "difference": (lambda axes, data: drawing.draw_difference(axes, data, label="a"), image() - 100),
    "no difference": (lambda axes, data: drawing.draw_difference(axes, data, label="a"), np.zeros(SHAPE)),
    "difference of NaN": (lambda axes, data: drawing.draw_difference(axes, data, label="a"), NAN_IMAGE),
    "field": (
        lambda axes, data: drawing.draw_field(axes, data, SHAPE, label="a"),
        ChebyshevField(np.array([[1.0, 0.1], [0.2, 0.0]]), 150, 120),
    ),
    "constant field": (
        lambda axes, data: drawing.draw_field(axes, data, SHAPE, label="a"),
        ChebyshevField.constant(1.0, 150, 120),
    ),
    "field of NaN": (lambda axes, data: drawing.draw_field(axes, data, SHAPE, label="a"), NanField()),
    "psf grid": (
        lambda axes, data: drawing.draw_psf_grid(axes, data, SHAPE),
        GaussianPsf(1.8, 21, (70.0, 60.0)),
    ),
    "psf of NaN": (lambda axes, data: drawing.draw_psf_grid(axes, data, SHAPE), NanPsf()),
    "stamps": (drawing.draw_star_stamps, drawing.star_stamps(exposure(measurement()), measurement())),
    "no stamps": (drawing.draw_star_stamps, drawing.star_stamps(exposure(), measurement(0))),
    "stamps of NaN": (
        drawing.draw_star_stamps,
        drawing.star_stamps(exposure(nan=True), measurement()),
    ),
    "sizes": (drawing.draw_size_magnitude, sizes()),
    "no sizes": (drawing.draw_size_magnitude, sizes(0)),
    "sizes of NaN": (drawing.draw_size_magnitude, sizes(20, nan=True)),
    "whiskers": (lambda axes, data: drawing.draw_whiskers(axes, data, label="a"), whiskers()),
    "many whiskers": (
        lambda axes, data: drawing.draw_whiskers(axes, data, label="a"),
        whiskers(2 * MAX_WHISKERS),
    ),
    "no whiskers": (lambda axes, data: drawing.draw_whiskers(axes, data, label="a"), whiskers(0)),
    "whiskers of NaN": (lambda axes, data: drawing.draw_whiskers(axes, data, label="a"), whiskers(nan=True)),
    "whiskers and model": (
        lambda axes, data: drawing.draw_whiskers(axes, data, label="a", model=whiskers(30)),
        whiskers(),
    ),
    "round whiskers": (
        lambda axes, data: drawing.draw_whiskers(axes, data, label="a"),
        drawing.Whiskers(np.ones(3), np.ones(3), np.zeros(3), np.zeros(3), SHAPE),
    ),
    "timings": (drawing.draw_timings, timings()),
    "no timings": (drawing.draw_timings, []),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_drawing_shows_something_whatever_it_is_given(name):
    draw, data = ALONE[name]
    figure, axes = canvas()
    empty = pixels(figure).copy()
    draw(axes, data)
    shown = pixels(figure)
    assert shown.shape == empty.shape == (180, 240, 3)
    assert (shown != empty).any()


@pytest.mark.parametrize("name", INTO_AN_IMAGE)
def test_what_is_drawn_into_an_image_shows_and_leaves_the_part_shown(name):
    draw, data = INTO_AN_IMAGE[name]
    figure, axes = canvas()
    drawing.draw_image(axes, image())
    before, limits = pixels(figure).copy(), axes.axis()
    draw(axes, data)
    assert (pixels(figure) != before).any() == (name not in NOTHING_TO_SEE)
    assert axes.axis() == limits == (-0.5, 149.5, -0.5, 119.5)


def test_footprints_outside_the_part_shown_are_not_drawn():
    _, axes = canvas()
    drawing.draw_image(axes, image()[60:, 60:], origin=(60, 60))
    drawing.draw_footprints(axes, footprints())
    assert len(axes.collections[0].get_segments()) == 0


def test_outlines_run_between_pixels_and_tell_touching_footprints_apart():
    labels = np.zeros((5, 8), int)
    labels[1:3, 2:4], labels[1:3, 4:5] = 1, 2
    found = {tuple(map(tuple, line)) for line in outlines(labels).tolist()}
    assert found == {
        ((1.5, 0.5), (1.5, 2.5)),
        ((3.5, 0.5), (3.5, 2.5)),
        ((4.5, 0.5), (4.5, 2.5)),
        ((1.5, 0.5), (4.5, 0.5)),
        ((1.5, 2.5), (4.5, 2.5)),
    }
    assert outlines(np.zeros((3, 4), int)).shape == (0, 2, 2)
    assert len(outlines(np.ones((3, 4), int))) == 4


def test_large_images_are_drawn_from_means_of_their_finite_pixels():
    plane = np.arange(float(4 * (2 * MAX_SIDE + 1))).reshape(4, -1)
    plane[0, 0] = np.nan
    plane[:3, 3:6] = np.nan
    small = blocks(plane)
    assert small.shape == (2, -(-plane.shape[1] // 3))
    assert small[0, 0] == pytest.approx(np.nanmean(plane[:3, :3]))
    assert np.isnan(small[0, 1])
    assert small[1, -1] == pytest.approx(plane[3:, 3 * (small.shape[1] - 1) :].mean())
    assert blocks(plane[:, :MAX_SIDE]).shape == (4, MAX_SIDE)


def test_a_single_pixel_of_a_large_mask_is_seen():
    mask = np.zeros((3 * MAX_SIDE, 40), bool)
    mask[100, 7] = True
    assert np.argwhere(any_in_blocks(mask)).tolist() == [[33, 2]]


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, 0.0), (1.0, 1.0), (4.99, 2.0), (0.07, 0.05), (930.0, 500.0)]
)
def test_scales_have_round_lengths(value, expected):
    assert nice(value) == pytest.approx(expected)


def test_medians_over_cells_keep_ellipticity_and_place():
    many = drawing.Whiskers(
        np.repeat([10.0, 140.0], 5), np.full(10, 60.0), np.repeat([0.1, -0.2], 5), np.zeros(10), SHAPE
    )
    few = many.averaged(2)
    assert few.x.tolist() == [10.0, 140.0]
    assert few.e1.tolist() == [0.1, -0.2]
    assert many.rms == pytest.approx(np.sqrt(0.25 * (0.01 + 0.04)))
    assert len(whiskers(nan=True).averaged(4)) == 0


def test_stamps_are_the_brightest_and_their_residuals_are_noise():
    found = measurement(12)
    # One star at a time: neighbours would show in each other's residuals.
    for star in np.flatnonzero(found.stars.used)[:3]:
        alone = found.stars
        alone = PsfStars(*(getattr(alone, name)[star : star + 1] for name in alone.__slots__))
        single = PsfMeasurement(found.psf, alone, 1, 1, 0, 0, 1.0, (70.0, 60.0))
        stamps = drawing.star_stamps(exposure(single), single)
        assert stamps.stars.max() == pytest.approx(1.0, abs=0.1)
        assert stamps.residuals.std() == pytest.approx(1.0, abs=0.15)
        assert stamps.worst[0] == np.abs(stamps.residuals).max()


def test_stamps_come_used_before_reserved_and_bright_before_faint():
    found = measurement(40)
    stamps = drawing.star_stamps(exposure(found), found, count=4)
    assert stamps.reserved.tolist() == [False] * 4 + [True] * 4
    flux = found.stars.flux
    expected = np.sort(flux[found.stars.used])[::-1][:4]
    peak = exposure(found).image
    x, y = (np.floor(part + 0.5).astype(int) for part in (found.stars.x, found.stars.y))
    order = np.argsort(-np.where(found.stars.used, flux, 0))[:4]
    np.testing.assert_array_equal(flux[order], expected)
    middle = stamps.stars.shape[1] // 2
    scale = stamps.stars[:4, middle, middle] / peak[y[order], x[order]]
    assert np.all(scale > 0)


def test_the_locus_is_that_of_the_used_stars():
    plane = drawing.SizeMagnitude(
        np.zeros(5), np.array([2.0, 2.1, 1.9, np.nan, 9.0]), np.arange(5) < 4, np.zeros(5, bool)
    )
    middle, scatter = plane.locus
    assert middle == 2.0
    assert scatter == pytest.approx(0.14826)
    assert np.isnan(sizes(0).locus).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("repair", {"repair"}),
        ("repair, measure,psf", {"repair", "measure", "psf"}),
        ("all", set(POINTS)),
        ("psf,all", set(POINTS)),
        ("", set()),
    ],
)
def test_points_are_read(text, expected):
    assert parse_points(text) == expected


@pytest.mark.parametrize(
    ("text", "hint"), [("repiar", "repair"), ("mesure_iter", "measure_iter"), ("al", "all")]
)
def test_an_unknown_point_is_refused_with_the_nearest(text, hint):
    with pytest.raises(ConfigurationError, match=f"there is no point '{text}' .*; did you mean '{hint}'"):
        parse_points(f"psf,{text}")
    with pytest.raises(ConfigurationError, match=r"'xyzzy' \(known are repair_iter, .*, all\)$"):
        parse_points("xyzzy")


def test_a_missing_plotting_library_is_one_sentence_with_the_fix(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Exception, match=r"pictures need matplotlib.*pip install 'streamchar\[plots\]'$"):
        PictureDisplay(tmp_path, ["psf"], "a")


def test_nothing_is_imported_or_read_without_pictures(tmp_path):
    code = (
        "import sys\n"
        "from streamchar.characterize import CharacterizeImage\n"
        "from streamchar.characterize.display import no_display\n"
        "assert no_display('psf', None) is None\n"
        "print('matplotlib' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
    # A point that was not asked for does not even look at the result.
    display = PictureDisplay(tmp_path, ["psf"], "a")
    display("repair", None)
    assert no_display("repair", None) is None
    assert list(tmp_path.iterdir()) == []


def test_no_global_state_of_pyplot_is_touched(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from streamchar.characterize import drawing\n"
        "figure = drawing.new_figure(2, 2)\n"
        "drawing.draw_timings(figure.subplots(), [])\n"
        "figure.savefig(Path(sys.argv[1]) / 'a.png')\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.fixture
def coarse(monkeypatch):
    """Pictures that are quick to write."""
    fine = drawing.new_figure
    monkeypatch.setattr(drawing, "new_figure", lambda width, height: fine(width, height, dpi=30))


@pytest.fixture(scope="module")
def characterized():
    """What a characterization leaves, with the least a picture needs."""
    found = measurement()
    planes = exposure(found)
    planes.set_plane("CR", np.abs(planes.image) > 18)
    planes.set_plane("DETECTED", planes.image > 25)
    planes.psf = found.psf
    background = BackgroundList(
        [fit_background(planes.image + 100, planes.mask, 0, BackgroundConfig(bin_size=32))]
    )
    count = len(found.stars)
    columns = {
        "slot_Centroid_x": found.stars.x,
        "slot_Centroid_y": found.stars.y,
        "slot_PsfFlux_instFlux": found.stars.flux,
        "slot_Shape_xx": np.full(count, 3.2),
        "slot_Shape_yy": np.full(count, 3.2),
        "slot_Shape_xy": np.zeros(count),
        "calib_psf_used": found.stars.used,
        "calib_psf_reserved": found.stars.reserved,
    }

    class Catalog(dict):
        def __len__(self):
            return count

    catalog = Catalog(columns)
    catalog.footprints = Footprints(
        SHAPE,
        *(np.array(part, np.int32) for part in (found.stars.y, found.stars.x, found.stars.x + 3)),
        np.arange(count + 1),
        *(np.array(part, np.int32) for part in (found.stars.x, found.stars.y)),
        np.ones(count, np.float32),
        np.ones(count),
        np.arange(count + 1),
    )
    return CharacterizationResult(
        planes,
        background,
        catalog,
        found,
        SimpleNamespace(count=3),
        {f"{name}_instFlux": ChebyshevField.constant(1.0, 150, 120) for name in CORRECTED},
    )


def test_every_point_writes_a_picture_with_its_iteration_and_changes_nothing(characterized, tmp_path, coarse):
    planes = characterized.exposure
    before = planes.copy()
    display = PictureDisplay(tmp_path, POINTS, "night.1")
    for point in (*POINTS[:4], *POINTS):
        display(point, characterized)
    expected = {f"night.1.debug.{point}.iteration{number}.png" for point in REPEATED for number in (1, 2)}
    expected |= {"night.1.debug.repair.png", "night.1.debug.measure.png"}
    assert {path.name for path in tmp_path.iterdir()} == expected == {path.name for path in display.paths}
    for name in ("image", "mask", "variance"):
        np.testing.assert_array_equal(getattr(planes, name), getattr(before, name))
    for path in display.paths:
        picture = imread(path)
        assert picture.shape[0] >= 180
        assert picture.shape[1] >= 390
        assert len(np.unique(picture[..., :3].reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize("nan", [False, True])
def test_an_exposure_without_any_product_is_drawn(tmp_path, coarse, nan):
    planes = exposure(nan=nan)
    display = PictureDisplay(tmp_path, POINTS, "a")
    for point in POINTS:
        display(point, CharacterizationResult(planes, BackgroundList()))
    assert len(display.paths) == len(POINTS)


def test_pictures_of_a_large_exposure_stay_small(coarse):
    planes = Exposure.from_image(rng().normal(0, 5, (40, 3000)), gain=1.0, read_noise=5.0)
    planes.psf = GaussianPsf(1.8, 21, (70.0, 60.0))
    result = CharacterizationResult(planes, BackgroundList())
    for picture in (picture_of_sources, picture_of_psf):
        shown = [artist for axes in picture(result).axes for artist in axes.images]
        assert all(max(artist.get_array().shape[:2]) <= MAX_SIDE for artist in shown)


def test_run_writes_the_pictures_that_were_asked_for(tmp_path):
    simulated = simulate_exposure(named_scene("normal", size=400), 3).exposure
    write_exposure(tmp_path / "night.fits.gz", simulated)
    arguments = ["--debug", "repair,psf", "-o", "out", "-c", "psf_iterations=2", "night.fits.gz"]
    done = subprocess.run(
        [sys.executable, "-m", "streamchar.cli", "run", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pictures == [
        "night.debug.psf.iteration1.png",
        "night.debug.psf.iteration2.png",
        "night.debug.repair.png",
    ]
    for name in pictures:
        picture = imread(tmp_path / "out" / name)
        assert picture.shape[1] > 1200
        assert len(np.unique(picture[..., :3].reshape(-1, 3), axis=0)) > 100


def test_run_refuses_pictures_before_it_reads_anything(tmp_path):
    missing, output = [tmp_path / "missing.fits"], tmp_path / "out"
    with pytest.raises(ConfigurationError, match="did you mean 'repair'"):
        run_command(missing, output=output, debug="repiar")
    with pytest.raises(ConfigurationError, match="needs a directory: add --output"):
        run_command(missing, debug="repair")
    assert not output.exists()


def test_a_scene_is_compared_with_its_truth_in_one_figure(tmp_path, coarse, capsys):
    figures.main(["sparse", "--size", "300", "--output", str(tmp_path)])
    (path,) = tmp_path.iterdir()
    assert path.name == "sparse-300-1-best.png"
    assert "used and" in capsys.readouterr().out
    assert imread(path).shape == (360, 570, 4)
