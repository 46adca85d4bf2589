"""Interpolation over defects: the published weights, the edges, and exactness on smooth images."""

import numpy as np
import pytest

from streamchar.characterize.errors import MissingPsfError
from streamchar.characterize.interpolation import (
    InterpolateConfig,
    defect_pixels,
    interpolate_defects,
    kriging_weights,
)
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.repair import Repair, RepairConfig
from streamchar.image import Exposure


def weights(length, good, bad):
    """Weights for a run of ``length``, good pixels named by offset from the nearer end."""
    positions = {"L2": -2.0, "L1": -1.0, "R1": float(length), "R2": length + 1.0}
    return kriging_weights(np.array([positions[g] for g in good]), np.array([float(bad)]))[0]


ALL = ("L2", "L1", "R1", "R2")


@pytest.mark.parametrize(
    ("length", "good", "bad", "published"),
    [
        (1, ALL, 0, (-0.2737, 0.7737, 0.7737, -0.2737)),
        (2, ALL, 0, (-0.4793, 1.1904, 0.5212, -0.2323)),
        (3, ALL, 1, (-0.3144, 0.8144, 0.8144, -0.3144)),
        (1, ("L1", "L2"), 0, (1.4288, -0.4288)),
        (2, ("L1", "L2"), 1, (1.0933, -0.0933)),
        (3, ("L1", "L2"), 2, (0.6968, 0.3032)),
        (4, ("L1", "L2"), 3, (0.5370, 0.4630)),
        (5, ("L1", "L2"), 4, (0.5041, 0.4959)),
        (6, ("L1", "L2"), 5, (0.5003, 0.4997)),
        (9, ("L1", "L2"), 8, (0.5, 0.5)),
        (2, ("L1", "R1"), 0, (0.7297, 0.2703)),
        (40, ALL, 20, (0.25, 0.25, 0.25, 0.25)),
        (40, ("L1", "R1", "R2"), 20, (0.4707, 0.2646, 0.2646)),
        (40, ("L1", "R1"), 20, (0.5, 0.5)),
    ],
)
def test_published_weights(length, good, bad, published):
    found = weights(length, good, bad)
    # The tables sum to 1 only to their last digit.
    np.testing.assert_allclose(found, published, atol=1.1e-4)
    assert found.sum() == pytest.approx(1)


def scene(shape=(20, 40), value=100.0):
    image = np.full(shape, value, np.float32) + np.random.default_rng(0).normal(0, 1, shape).astype(
        np.float32
    )
    return Exposure(image, np.zeros(shape, np.int32), np.full(shape, 4, np.float32))


def one_row(values, bad, **settings):
    exposure = Exposure(
        np.float32(values)[None], np.zeros((1, len(values)), np.int32), np.ones((1, len(values)), np.float32)
    )
    where = np.zeros((1, len(values)), bool)
    where[0, bad] = True
    interpolate_defects(exposure, where, InterpolateConfig(**settings))
    return exposure.image[0]


def test_a_column_defect_uses_two_pixels_a_side():
    exposure = scene()
    before = exposure.image.copy()
    exposure.image[:, 10] = np.nan
    count = interpolate_defects(
        exposure, defect_pixels(exposure.shape, np.array([[10, 0, 10, 19]])), InterpolateConfig()
    )
    assert count == 20
    expected = before[:, [8, 9, 11, 12]] @ np.array([-0.2737, 0.7737, 0.7737, -0.2737])
    np.testing.assert_allclose(exposure.image[:, 10], expected, rtol=1e-4)
    assert ((exposure.mask & exposure.bits("INTRP")) != 0)[:, 10].all()
    assert (exposure.mask != 0).sum() == 20
    np.testing.assert_allclose(exposure.variance, 4, rtol=1e-6)
    untouched = np.arange(40) != 10
    np.testing.assert_array_equal(exposure.image[:, untouched], before[:, untouched])


def test_runs_with_one_good_pixel_between_them():
    values = np.arange(12.0) ** 2
    found = one_row(values, [3, 5])
    good = values[[1, 2, 4]] @ weights(1, ("L2", "L1", "R1"), 0)
    assert found[3] == pytest.approx(good, rel=1e-5)
    assert found[5] == pytest.approx(values[[4, 6, 7]] @ weights(1, ("L1", "R1", "R2"), 0), rel=1e-5)


def test_short_runs_at_the_edge_use_the_other_side():
    values = np.arange(20.0) + 5
    found = one_row(values, [0, 1, 19])
    np.testing.assert_allclose(
        found[:2], [values[2:4] @ [1.0933, -0.0933], values[2:4] @ [1.4288, -0.4288]], rtol=1e-4
    )
    assert found[19] == pytest.approx(values[[18, 17]] @ [1.4288, -0.4288], rel=1e-4)


@pytest.mark.parametrize("length", [7, 9])
def test_long_runs_at_the_edge_taper_to_the_fallback(length):
    values = np.full(40, 50.0)
    left = one_row(values, slice(0, length), fallback_value_type="user", fallback_user_value=10.0)
    filled = length - 6
    np.testing.assert_array_equal(left[:filled], 10.0)
    sides = ("L1", "R1", "R2") if filled == 1 else ALL
    good = np.where(np.isin(sides, ("L1", "L2")), 10.0, 50.0)
    for k in range(6):
        assert left[filled + k] == pytest.approx(good @ weights(6, sides, k), rel=1e-5)
    right = one_row(values, slice(40 - length, 40), fallback_value_type="user", fallback_user_value=10.0)
    np.testing.assert_allclose(right[::-1], left, rtol=1e-5)
    no_taper = one_row(values, slice(0, length), use_fallback_value_at_edge=False)
    np.testing.assert_allclose(no_taper, 50.0)


@pytest.mark.parametrize(
    ("kind", "value"), [("mean", -4.0), ("median", -5.0), ("meanclip", -5.0), ("user", -7.0)]
)
@pytest.mark.parametrize("allowed", [True, False])
def test_rows_without_a_good_pixel_get_the_fallback(kind, value, allowed):
    exposure = scene((50, 40), -5.0)
    exposure.image[-1] = 45.0
    bad = np.zeros(exposure.shape, bool)
    bad[7] = True
    settings = InterpolateConfig(
        fallback_value_type=kind, fallback_user_value=-7.0, negative_fallback_allowed=allowed
    )
    interpolate_defects(exposure, bad, settings)
    np.testing.assert_allclose(exposure.image[7], value if allowed else 0.0, atol=0.15)


def test_transposed_works_on_columns():
    a, b = scene((20, 40)), scene((20, 40))
    b = Exposure(np.ascontiguousarray(a.image.T), a.mask.T.copy(), a.variance.T.copy())
    bad = np.random.default_rng(2).random(a.shape) < 0.2
    interpolate_defects(a, bad, InterpolateConfig())
    interpolate_defects(b, bad.T.copy(), InterpolateConfig(transpose=True))
    np.testing.assert_array_equal(a.image, b.image.T)
    np.testing.assert_array_equal(a.mask, b.mask.T)


def test_nan_among_the_good_pixels():
    values = np.full(20, 8.0)
    values[8] = np.nan
    assert one_row(values, [10])[10] == 8.0
    assert one_row(values, [7])[7] != one_row(values, [7])[7]


def test_random_defects_on_a_smooth_image():
    y, x = np.indices((200, 200))
    image = (1000 * np.exp(-0.5 * ((x - 100) ** 2 + (y - 100) ** 2) / 20**2) + 100).astype(np.float32)
    exposure = Exposure(image.copy(), np.zeros(image.shape, np.int32), image.copy())
    bad = np.random.default_rng(3).random(image.shape) < 0.05
    exposure.image[bad] = 1e6
    interpolate_defects(exposure, bad, InterpolateConfig())
    assert np.abs(exposure.image - image)[:, 2:-2].max() < 15


def test_boxes_are_clipped_and_nothing_is_nothing():
    bad = defect_pixels((10, 12), np.array([[-5, -5, 1, 0], [10, 8, 50, 50], [20, 20, 30, 30]]))
    assert bad.sum() == 2 + 4
    exposure = scene()
    before = exposure.image.copy()
    assert interpolate_defects(exposure, np.zeros(exposure.shape, bool), InterpolateConfig()) == 0
    np.testing.assert_array_equal(exposure.image, before)


def test_within_repair():
    exposure = scene((40, 40))
    exposure.image[:, 10] = np.nan
    task = Repair(RepairConfig(do_cosmic_ray=False))
    with pytest.raises(MissingPsfError):
        task.run(exposure)
    exposure.psf = GaussianPsf(1.5, 11)
    found = task.run(exposure, defects=np.array([[10, 0, 10, 39]]))
    assert found.count == 0
    assert np.isfinite(exposure.image).all()
    assert task.metadata["interpolated_pixel_count"] == [1]
    exposure.image[:, 10] = np.nan
    Repair(RepairConfig(do_cosmic_ray=False, do_interpolate=False)).run(
        exposure, defects=np.array([[10, 0, 10, 39]])
    )
    assert np.isnan(exposure.image[:, 10]).all()
