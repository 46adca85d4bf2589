"""Every kernel has a plain definition that it is compared with, and bears what planes and catalogues can hold."""

import ast
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from streamchar import kernels
from tests.measurement_scenes import bare_scene

DEFINED_BY = {
    "Scene": "test_one_source_at_a_time",
    "paint_spans": "test_later_spans_win",
    "or_spans": "test_bits_are_added",
    "clear_spans": "test_bits_are_added",
    "footprint_bits": "test_bits_of_footprints",
    "footprints_contain": "test_footprints_contain",
    "window_bits": "test_bits_of_windows",
    "cut_windows": "test_windows",
    "grow_merging": "element",
    "grow_each": "element",
    "find_cosmic_rays": "scan",
    "bright_maxima": "test_bright_maxima",
    "clear_bits": "test_bits_are_cleared",
    "count_bits": "test_bits_twin",
    "group_quartiles": "test_group_quartiles",
    "line_scores": "test_line_scores",
    "refresh_peaks": "test_refreshing_is_detecting_in_the_box_of_each_footprint",
    "merge_peaks": "test_merging_equals_merging_sorted_lists_one_after_the_other",
    "detect": "label_pixel_by_pixel",
    "lanczos_resample": "weights",
    "psf_draw_transposed": "test_transpose",
    "split_bytes": "test_transposed_and_back",
    "join_bytes": "test_transposed_and_back",
    "split_footprints": "summits_standing_alone",
}
"""The function or test with the plain definition of a kernel, where its name does not say that it is the twin."""


def calls_below(tree):
    """Names that each test made by hypothesis uses, itself or in the functions of its module."""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    names = {
        name: {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
        for name, node in functions.items()
    }
    for name, node in functions.items():
        if not any(
            isinstance(mark, ast.Call) and ast.unparse(mark.func) == "given" for mark in node.decorator_list
        ):
            continue
        reached, new = {name}, names[name]
        while new - reached:
            reached |= new
            new = set().union(*(names.get(each, set()) for each in reached))
        yield reached


@pytest.fixture(scope="module", name="properties")
def read_properties():
    """For every kernel: all that some property test of it reaches."""
    found = {name: set() for name in kernels.__all__}
    for path in Path(__file__).parent.glob("test_*.py"):
        for reached in calls_below(ast.parse(path.read_text())):
            for name in reached & found.keys():
                found[name] |= reached
    return found


@pytest.mark.parametrize("name", kernels.__all__)
def test_it_is_compared_with_its_definition(name, properties):
    twins = (
        [DEFINED_BY[name]] if name in DEFINED_BY else [other for other in properties[name] if "twin" in other]
    )
    assert any(twin in properties[name] for twin in twins), f"no property test compares {name} with a twin"


def planes(height, width, value=None, masked=False):
    """Pixels of noise, or all of one value."""
    rng = np.random.default_rng(7)
    image = rng.normal(20, 5, (height, width)).astype(np.float32)
    if value is not None:
        image[...] = value
    return SimpleNamespace(
        image=image,
        variance=np.full((height, width), 25, np.float32),
        mask=np.full((height, width), int(masked), np.int32),
    )


GAUSSIAN = np.exp(-0.2 * np.square(np.mgrid[-3:4, -3:4]).sum(axis=0))
GAUSSIAN /= GAUSSIAN.sum()


def stamps(x, y):
    """One image of a point source for each position, on the nearest pixels."""
    images = np.repeat(GAUSSIAN[None], len(x), axis=0)
    corners = (
        np.floor(np.nan_to_num(np.clip(axis, -1e6, 1e6)) + 0.5).astype(np.int64) - 3 for axis in (x, y)
    )
    return images, *corners


def boxes(p, x, y):
    height, width = p.image.shape
    places = [
        np.clip(np.nan_to_num(axis), 0, n - 1).astype(np.int32) for axis, n in ((x, width), (y, height))
    ]
    low, high = (
        [np.clip(place + step, 0, n - 1) for place, n in zip(places, (width, height), strict=True)]
        for step in (-6, 6)
    )
    return np.stack([*low, *high], axis=1).astype(np.int32)


def moments(n):
    return np.full(n, 3.0), np.full(n, 2.5), np.full(n, 0.4)


MEASURING = {
    "sdss_shape_image": lambda p, x, y: kernels.sdss_shape_image(p.image, x, y),
    "sdss_shape_scene": lambda p, x, y: kernels.sdss_shape_scene(
        bare_scene(p.image), x, y, np.zeros(len(x), bool)
    ),
    "sdss_shape": lambda p, x, y: kernels.sdss_shape(
        np.repeat(p.image[None, :9, :9], len(x), axis=0), np.minimum(x, 8), np.minimum(y, 8)
    ),
    "sdss_centroid": lambda p, x, y: kernels.sdss_centroid(
        *(bare_scene(p.image), p.variance, x, y, np.zeros(len(x), bool), GAUSSIAN[None], np.full(len(x), 1.6))
    ),
    "hsm_moments": lambda p, x, y: kernels.hsm_moments(
        bare_scene(p.image), p.mask, 1, boxes(p, x, y), x, y, np.full(len(x), 1.6)
    ),
    "hsm_moments_of_stamps": lambda p, x, y: kernels.hsm_moments_of_stamps(
        np.repeat(p.image[None, :9, :9].astype(float), len(x), axis=0), np.abs(x) + 1
    ),
    "gaussian_flux": lambda p, x, y: kernels.gaussian_flux(bare_scene(p.image), x, y, *moments(len(x))),
    "higher_moments": lambda p, x, y: kernels.higher_moments(bare_scene(p.image), x, y, *moments(len(x))),
    "blend_sums": lambda p, x, y: kernels.blend_sums(bare_scene(p.image), p.variance, x, y, *moments(len(x))),
    "psf_fit": lambda p, x, y: kernels.psf_fit(
        *(bare_scene(p.image), p.variance, p.mask, 1, np.arange(len(x)), *stamps(x, y)),
        position=True,
        reject=5.0,
    ),
    "psf_flux": lambda p, x, y: kernels.psf_flux(bare_scene(p.image), p.variance, p.mask, 1, *stamps(x, y)),
    "circular_apertures": lambda p, x, y: kernels.circular_apertures(
        bare_scene(p.image), p.variance, x, y, np.array([1.5, 4.0])
    ),
    "sinc_aperture": lambda p, x, y: kernels.sinc_aperture(
        bare_scene(p.image), p.variance, x, y, GAUSSIAN.astype(np.float32), 2.0
    ),
    "cut_windows": lambda p, x, y: kernels.cut_windows(p.image, *stamps(x, y)[1:], 2),
    "window_bits": lambda p, x, y: kernels.window_bits(p.mask, *stamps(x, y)[1:], 2),
}
"""Kernels that measure sources at (x, y), one row of each result a source."""


def rows(result):
    """The results as arrays with one row a source."""
    return [np.asarray(each) for each in (result if isinstance(result, tuple) else (result,))]


def places(n, height, width):
    """Positions at the corners, on the borders, beside the plane, nowhere, and inside."""
    rng = np.random.default_rng(n)
    x, y = rng.uniform(0, width - 1, n), rng.uniform(0, height - 1, n)
    border = [0.0, width - 1.0, -0.5, width - 0.5, -30.0, 1e9, np.nan, np.inf]
    x[: len(border)] = border[:n]
    y[len(border) : 2 * len(border)] = (
        [0.0, height - 1.0, -0.5, height - 0.5, -30.0, -1e9, np.nan, -np.inf]
    )[: max(n - len(border), 0)]
    return x, y


@pytest.mark.parametrize("name", MEASURING)
class TestMeasuring:
    def test_no_source(self, name):
        for result in rows(MEASURING[name](planes(12, 13), np.empty(0), np.empty(0))):
            assert len(result) == 0

    @pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (40, 50)])
    @pytest.mark.parametrize(
        ("value", "masked"), [(None, False), (np.nan, False), (np.inf, False), (None, True)]
    )
    def test_any_place_on_any_plane(self, name, shape, value, masked):
        """Each source by itself gives the same as all together, and the image stays what it was."""
        p = planes(*shape, value, masked)
        before, (x, y) = p.image.copy(), places(20, *shape)
        together = rows(MEASURING[name](p, x, y))
        np.testing.assert_array_equal(p.image, before)
        for i in range(len(x)):
            alone = rows(MEASURING[name](p, x[i : i + 1], y[i : i + 1]))
            for one, all_of_them in zip(alone, together, strict=True):
                np.testing.assert_array_equal(one[0], all_of_them[i])

    def test_ten_thousand_sources(self, name):
        p = planes(60, 70)
        x, y = places(10_000, 60, 70)
        together = rows(MEASURING[name](p, x, y))
        for i in range(0, 10_000, 997):
            alone = rows(MEASURING[name](p, x[i : i + 1], y[i : i + 1]))
            for one, all_of_them in zip(alone, together, strict=True):
                assert len(all_of_them) == 10_000
                np.testing.assert_array_equal(one[0], all_of_them[i])


def pixels_apart(n, width):
    """n footprints of three pixels in a row, apart from each other, and a plane that holds them."""
    per_row = width // 5
    number = np.arange(n, dtype=np.int32)
    y, x0 = 2 * (number // per_row), 5 * (number % per_row)
    height = 2 * (n // per_row + 1)
    spans = (
        y.astype(np.int32),
        x0.astype(np.int32),
        (x0 + 2).astype(np.int32),
        np.arange(n + 1, dtype=np.int64),
    )
    return planes(height, width), spans, ((x0 + 1).astype(np.int32), y.astype(np.int32), spans[3])


def part(spans, peaks, first, end):
    """Some of the footprints."""
    one = slice(first, end)
    start = np.arange(end - first + 1, dtype=np.int64)
    return (*(values[one] for values in spans[:3]), start), (*(values[one] for values in peaks[:2]), start)


def fitted(p, spans, peaks):
    x, y = (axis.astype(float) for axis in peaks[:2])
    wanted, images = np.ones(len(x), bool), stamps(x, y)
    return kernels.fit_point_sources(
        *(p.image, p.variance, p.mask, 1, *spans, peaks[2], wanted, x, y, *images, *images, 2.0, 3.0, True)
    )


def templates(p, spans, peaks):
    wanted = np.ones(len(peaks[0]), bool)
    return kernels.symmetric_templates(
        *(p.image, p.variance, p.mask, 1, *spans, *peaks, wanted, True, 9, 1, GAUSSIAN, 3.0)
    )


def apportioned(p, spans, peaks):
    values, start, rectangles, _ = templates(p, spans, peaks)
    points = np.zeros(len(peaks[0]), bool)
    return kernels.apportion(
        *p.image.shape, *spans, *peaks, values, start, rectangles, points, 2, 1, 0.001, 9
    )


def split(p, spans, _):
    return kernels.split_footprints(p.image, p.variance, 0, *spans, 0.0, 0.0, 0.0)[4:7]


OF_FOOTPRINTS = {
    "find_peaks": lambda p, spans, _: kernels.find_peaks(p.image, *spans, False)[:3],
    "footprint_bits": lambda p, spans, _: kernels.footprint_bits(p.mask, *spans),
    "footprints_contain": lambda p, spans, peaks: kernels.footprints_contain(
        *spans, *(axis.astype(float) for axis in peaks[:2])
    ),
    "grow_each": lambda p, spans, _: kernels.grow_each(*spans, *p.image.shape, np.array([0, 1, 0], np.int32))[
        :3
    ],
    "symmetric_templates": lambda *all_of_them: templates(*all_of_them)[2:],
    "fit_point_sources": fitted,
    "apportion": lambda *all_of_them: apportioned(*all_of_them)[5],
    "split_footprints": split,
}
"""Kernels that look at one footprint after the other; what they give for some is part of what they give for all."""


@pytest.mark.parametrize("name", OF_FOOTPRINTS)
class TestOfFootprints:
    def test_none(self, name):
        p, spans, peaks = pixels_apart(4, 20)
        for result in rows(OF_FOOTPRINTS[name](p, *part(spans, peaks, 0, 0))):
            assert len(result) == 0

    def test_ten_thousand(self, name):
        p, spans, peaks = pixels_apart(10_000, 500)
        together = rows(OF_FOOTPRINTS[name](p, spans, peaks))
        halves = [
            rows(OF_FOOTPRINTS[name](p, *part(spans, peaks, *ends))) for ends in ((0, 4321), (4321, 10_000))
        ]
        for whole, first, second in zip(together, *halves, strict=True):
            assert len(whole) >= 10_000
            np.testing.assert_array_equal(whole, np.concatenate([first, second]))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
    def test_any_pixels(self, name, value):
        p, spans, peaks = pixels_apart(30, 20)
        p.image[...] = value
        p.mask[...] = 1
        before = p.image.copy()
        for result in rows(OF_FOOTPRINTS[name](p, spans, peaks)):
            assert len(result) >= 30
        np.testing.assert_array_equal(p.image, before)


def spans_of(result):
    return result[0] if isinstance(result[0], tuple) else result


DETECTING = {
    "detect": lambda p: spans_of(kernels.detect(p.image, p.variance, 5.0, 1.0, 1, True)),
    "smooth": lambda p: kernels.smooth(p.image, np.ones(1, np.float32), np.empty_like(p.image)),
    "bin_statistics": lambda p: kernels.bin_statistics(
        p.image, p.mask, 1, *(np.array([0, n // 2, n]) for n in p.image.shape), True, 3, 3.0
    ),
    "sample_statistics": lambda p: kernels.sample_statistics(
        p.image.ravel(), p.mask.ravel(), 1, True, 3, 3.0
    ),
    "block_means": lambda p: kernels.block_means(p.image, p.mask, 1, 2, -1e3, 1e3),
    "bright_maxima": lambda p: kernels.bright_maxima(p.image, 20.0),
    "stand_out": lambda p: kernels.stand_out(
        p.image, np.ones(2, np.float32), p.variance, 2.0, np.array([2, 1], np.int32)
    ),
    "count_bits": lambda p: kernels.count_bits(p.mask, 1),
    "count_usable": lambda p: kernels.count_usable(p.image, p.variance),
    "cosmic_ray_candidates": lambda p: kernels.cosmic_ray_candidates(p.image, p.variance, 1.0),
    "add_grid": lambda p: kernels.add_grid(p.image.copy(), np.ones((1, 1)), np.zeros(1), np.zeros(1), 3, 1.0),
    "add_separable": lambda p: kernels.add_separable(
        p.image.copy(), np.ones((p.image.shape[0], 1)), np.ones((1, p.image.shape[1])), 1.0
    ),
}
"""Kernels that go through a plane."""


@pytest.mark.parametrize("name", DETECTING)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (7, 9)])
@pytest.mark.parametrize(
    ("value", "masked"), [(None, False), (np.nan, False), (np.inf, False), (-np.inf, True), (None, True)]
)
def test_any_plane(name, shape, value, masked):
    """Planes are read, not changed, and equal ones give equal results."""
    p = planes(*shape, value, masked)
    before = p.image.copy()
    first, second = (DETECTING[name](p) for _ in range(2))
    np.testing.assert_array_equal(p.image, before)
    if first is not None:
        for one, other in zip(rows(first), rows(second), strict=True):
            np.testing.assert_array_equal(one, other)
