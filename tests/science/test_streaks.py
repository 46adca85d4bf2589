"""Streaks of known place and brightness: found, subtracted, masked; and what must not be taken for one."""

import numpy as np
import pytest

from streamchar.characterize.background import SubtractBackground
from streamchar.characterize.hough import HoughLines, find_hough_lines, group_lines, outline
from streamchar.characterize.line_search import LineSearchConfig, find_lines
from streamchar.characterize.streaks import (
    MaskStreaks,
    MaskStreaksConfig,
    Streaks,
    SubtractStreaks,
    SubtractStreaksConfig,
)
from streamchar.image import Exposure
from tests.measurement_scenes import add_gaussian

SIZE = 1024
NOISE = 10.0
WIDTH = 2.0


def sky(seed, shape=(SIZE, SIZE), noise=NOISE):
    return np.random.default_rng(seed).normal(0, noise, shape).astype(np.float32)


def add_stars(image, count, seed, brightest=2e6):
    rng = np.random.default_rng(seed)
    height, width = image.shape
    flux = 500 * rng.random(count) ** -1.2
    for x, y, f in zip(
        rng.uniform(0, width, count), rng.uniform(0, height, count), flux.clip(0, brightest), strict=True
    ):
        add_gaussian(image, x, y, f, WIDTH**2, WIDTH**2, reach=20)


def distance(shape, rho, theta):
    """Signed distance of every pixel from the line x cos θ + y sin θ = ρ about the middle."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    angle = np.radians(theta)
    return (x - shape[1] / 2) * np.cos(angle) + (y - shape[0] / 2) * np.sin(angle) - rho


def add_streak(image, rho, theta, peak, *, seed=None, width=WIDTH):
    """A Gaussian streak; with a seed, its photons add to the noise as the sky's do (gain 1)."""
    light = peak * np.exp(-0.5 * (distance(image.shape, rho, theta) / width) ** 2)
    if seed is not None:
        light += np.sqrt(light) * np.random.default_rng(seed).normal(size=image.shape)
    image += light.astype(np.float32)


def exposure_of(image, variance=None):
    variance = np.full(image.shape, NOISE**2) if variance is None else variance
    return Exposure(image, np.zeros(image.shape, np.int32), variance.astype(np.float32))


def find(image, mask=None):
    mask = np.zeros(image.shape, np.int32) if mask is None else mask
    return Streaks.from_lines(find_lines(image, mask, 2), image.shape)


def farthest(shape, rho, theta, streak_rho, streak_theta):
    """Largest distance of a found line from the true one inside the image."""
    inside = np.abs(distance(shape, streak_rho, streak_theta)) < 0.5
    return np.abs(distance(shape, rho, theta))[inside].max() - 0.5


LINES = [
    (0.0, 45.0),
    (100.0, 3.0),
    (-150.0, 88.0),
    (200.0, 135.0),
    (-50.0, 160.0),
    (333.0, 20.0),
    (10.0, 70.0),
]


class TestSearch:
    @pytest.mark.parametrize(("rho", "theta"), LINES)
    @pytest.mark.parametrize("peak", [0.5, 1.0, 5.0, 50.0])
    def test_finds_and_places_a_streak(self, rho, theta, peak):
        image = sky(1)
        add_streak(image, rho, theta, peak * NOISE)
        streaks = find(image)
        assert len(streaks) == 1
        assert farthest(image.shape, rho, theta, streaks.rho[0], streaks.theta[0]) < max(1.0 / peak, 0.15)
        # The fitted profile has broader wings than a Gaussian: its peak is a few percent higher.
        assert streaks.brightness[0] == pytest.approx(peak * NOISE, rel=0.06 + 0.1 / peak)

    def test_finds_a_faint_streak_among_stars(self):
        image = sky(2)
        add_stars(image, 1500, 3)
        before = find(image)
        add_streak(image, 60.0, 110.0, NOISE)
        after = find(image)
        assert (len(before), len(after)) == (0, 1)
        assert farthest(image.shape, 60.0, 110.0, after.rho[0], after.theta[0]) < 1.0

    def test_finds_all_of_several(self):
        image = sky(4)
        peaks = [2, 4, 8, 16, 32, 50, 3]
        for (rho, theta), peak in zip(LINES, peaks, strict=True):
            add_streak(image, rho, theta, peak * NOISE)
        streaks = find(image)
        assert len(streaks) == len(LINES)
        for rho, theta in LINES:
            offsets = [
                farthest(image.shape, rho, theta, *found)
                for found in zip(streaks.rho, streaks.theta, strict=True)
            ]
            assert min(offsets) < 0.5

    @pytest.mark.parametrize("shape", [(300, 1200), (1200, 300), (257, 513)])
    def test_any_shape(self, shape):
        image = sky(5, shape)
        add_streak(image, 20.0, 30.0, 3 * NOISE)
        streaks = find(image)
        assert len(streaks) == 1
        assert farthest(image.shape, 20.0, 30.0, streaks.rho[0], streaks.theta[0]) < 0.6

    @pytest.mark.parametrize(("rho", "theta"), [(0.0, 45.0), (100.0, 3.0), (-60.0, 88.0), (-50.0, 160.0)])
    @pytest.mark.parametrize("peak", [0.4, 50.0])
    def test_finds_wide_streaks_in_small_images(self, rho, theta, peak):
        image = sky(9, (512, 512))
        add_streak(image, rho, theta, peak * NOISE, width=3.4)
        streaks = find(image)
        assert len(streaks) == 1
        assert farthest(image.shape, rho, theta, streaks.rho[0], streaks.theta[0]) < 2.0

    @pytest.mark.parametrize("theta", [45.0, 135.0, 225.0, 315.0])
    @pytest.mark.parametrize(("length", "found"), [(160.0, 0), (225.0, 1)])
    def test_lengths_are_measured_along_the_line(self, theta, length, found):
        image = sky(10, (512, 512))
        add_streak(image, 256 * np.sqrt(2) - length / 2, theta, 20 * NOISE)
        assert len(find(image)) == found

    def test_unusable_pixels_do_not_matter(self):
        image = sky(6)
        add_streak(image, 40.0, 60.0, 5 * NOISE)
        image[:, 300:340] = np.nan
        mask = np.zeros(image.shape, np.int32)
        mask[500:560] = 2
        image[500:560] = 1e6
        streaks = find(image, mask)
        assert len(streaks) == 1
        assert farthest(image.shape, 40.0, 60.0, streaks.rho[0], streaks.theta[0]) < 0.3

    def test_leaves_the_image_alone_and_is_deterministic(self):
        image = sky(7)
        add_streak(image, 40.0, 60.0, 5 * NOISE)
        before = image.copy()
        mask = np.zeros(image.shape, np.int32)
        assert find_lines(image, mask, 0) == find_lines(image, mask, 0)
        np.testing.assert_array_equal(image, before)

    @pytest.mark.parametrize(
        "image",
        [
            np.zeros((SIZE, SIZE), np.float32),
            np.full((SIZE, SIZE), np.nan, np.float32),
            sky(1, (64, 64)),
            sky(1, (1, 1)),
            sky(1, (1, 2000)),
        ],
        ids=["constant", "nan", "small", "pixel", "row"],
    )
    def test_nothing_to_find(self, image):
        assert len(find(image)) == 0

    def test_limits(self):
        image = sky(8)
        add_streak(image, 0.0, 45.0, 5 * NOISE)
        add_streak(image, 100.0, 120.0, 5 * NOISE)
        mask = np.zeros(image.shape, np.int32)
        assert len(find_lines(image, mask, 0, LineSearchConfig(max_streaks=1))) == 1
        assert len(find_lines(image, mask, 0, LineSearchConfig(max_streaks=0))) == 0
        assert len(find_lines(image, mask, 0, LineSearchConfig(min_length=1200))) <= 1


class TestNoStreak:
    def check(self, image, mask=None):
        streaks = find(image, mask)
        assert len(streaks) == 0, streaks

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("count", [0, 300, 4000])
    def test_stars(self, seed, count):
        image = sky(seed)
        add_stars(image, count, seed)
        self.check(image)

    @pytest.mark.parametrize("flagged", [True, False])
    def test_columns_and_rows_of_the_detector(self, flagged):
        image = sky(11)
        image[:, 400] += 30 * NOISE
        image[:, 700:702] -= 20 * NOISE
        image[333] += 5 * NOISE
        mask = np.zeros(image.shape, np.int32)
        mask[:, [400, 700, 701]] = mask[333] = 2 * flagged
        self.check(image, mask)

    @pytest.mark.parametrize("flagged", [True, False])
    def test_bleed_trails(self, flagged):
        image = sky(12)
        mask = np.zeros(image.shape, np.int32)
        for x, top, bottom in ((200, 100, 700), (600, 300, 500), (800, 0, 600)):
            add_gaussian(image, x, (top + bottom) / 2, 3e7, WIDTH**2, WIDTH**2)
            image[top:bottom, x - 2 : x + 3] = 6e4
            if flagged:
                mask[top:bottom, x - 2 : x + 3] = 2
        self.check(image, mask)

    def test_halos_and_diffraction_spikes(self):
        image = sky(13)
        y, x = np.indices(image.shape)
        r = np.hypot(x - 450, y - 550)
        image += (2e5 / (1 + (r / 8) ** 2) ** 1.5).astype(np.float32)
        along, across = (x - 450) + (y - 550), (x - 450) - (y - 550)
        for a, b in ((along, across), (across, along)):
            spike = 80 * NOISE * np.exp(-np.abs(a) / 120) * np.exp(-0.5 * (b / 3) ** 2)
            image += np.where(np.abs(a) < 420, spike, 0).astype(np.float32)
        self.check(image)

    def test_edge_on_galaxies(self):
        image = sky(14)
        rng = np.random.default_rng(14)
        for x, y in rng.uniform(50, SIZE - 50, (30, 2)):
            add_gaussian(image, x, y, 3e5, 400, 6, 20, reach=80)
        self.check(image)

    def test_steps_and_bands_of_the_sky(self):
        image = sky(15)
        image[:, 512:] += 3 * NOISE
        image[200:300] += 2 * NOISE
        self.check(image)


class TestSubtraction:
    def make(self, peak, seed=21, rho=60.0, theta=110.0):
        image = sky(seed)
        variance = np.full(image.shape, NOISE**2)
        light = peak * NOISE * np.exp(-0.5 * (distance(image.shape, rho, theta) / WIDTH) ** 2)
        add_streak(image, rho, theta, peak * NOISE, seed=seed + 100)
        return image, variance + light

    @pytest.mark.parametrize("peak", [0.5, 3.0, 10.0, 50.0])
    def test_leaves_only_noise(self, peak):
        image, variance = self.make(peak)
        exposure = exposure_of(image, variance)
        streaks = SubtractStreaks().run(exposure)
        assert len(streaks) == 1
        away = np.abs(distance(image.shape, 60.0, 110.0))
        scaled = exposure.image / np.sqrt(variance)
        for low, high in ((0, 1.5), (1.5, 3), (3, 6), (6, 12)):
            ring = scaled[(away >= low) & (away < high)]
            assert abs(ring.mean()) < 0.1 + 3 / np.sqrt(len(ring))
            assert ring.std() == pytest.approx(1.0, abs=0.1)
        assert streaks.masked_fraction < 0.001

    def test_stars_under_the_streak_keep_their_flux(self):
        image, variance = self.make(20.0)
        rng = np.random.default_rng(3)
        angle = np.radians(110.0)
        stars = []
        for s, d in zip(np.arange(-400, 401, 50), rng.uniform(-4, 4, 17), strict=True):
            x = SIZE / 2 + (60 + d) * np.cos(angle) - s * np.sin(angle)
            y = SIZE / 2 + (60 + d) * np.sin(angle) + s * np.cos(angle)
            stars.append((x, y))
            add_gaussian(image, x, y, 2e4, WIDTH**2, WIDTH**2)
        exposure = exposure_of(image, variance)
        SubtractStreaks().run(exposure)
        rows, columns = np.indices(image.shape)
        ratio, error = [], []
        for x, y in stars:
            inside = np.hypot(columns - x, rows - y) < 7
            ratio.append(exposure.image[inside].sum() / 2e4)
            error.append(np.sqrt(variance[inside].sum()) / 2e4)
        pull = (np.array(ratio) - 1) / np.array(error)
        assert abs(pull.mean()) < 1.0
        assert pull.std() < 1.6

    @pytest.mark.parametrize(("rho", "theta"), [(440.0, 8.0), (-430.0, 95.0), (500.0, 1.0), (-495.0, 90.6)])
    def test_light_beside_the_border_is_subtracted_where_the_line_has_left_the_image(self, rho, theta):
        # Wide wings, as those of bright satellites: they reach 40 pixels into the image from outside it.
        peak, width = 400.0, 4.0
        shape = (SIZE, SIZE) if abs(rho) < 500 else (2 * SIZE, 2 * SIZE)
        rho = rho if abs(rho) < 500 else rho + np.sign(rho) * SIZE / 2
        away = distance(shape, rho, theta)
        light = peak * NOISE * (1 + (away / width) ** 2) ** -2.5
        image = sky(24, shape) + np.sqrt(light) * np.random.default_rng(25).normal(size=shape)
        exposure = exposure_of((image + light).astype(np.float32), NOISE**2 + light)
        assert len(SubtractStreaks().run(exposure)) == 1
        left = (exposure.image - image) / np.sqrt(NOISE**2 + light)
        y, x = np.indices(shape)
        border = np.minimum.reduce([x, y, shape[1] - 1 - x, shape[0] - 1 - y])
        for near in ((border < 40) & (np.abs(away) < 40), border >= 40):
            assert np.abs(left[near]).max() < 1.0

    @pytest.mark.parametrize(("rho", "theta"), [(40.1, 90.0), (40.3, 90.01), (30.25, 0.005)])
    def test_along_rows_and_columns_whose_pixels_are_at_few_distances(self, rho, theta):
        away = distance((SIZE, SIZE), rho, theta)
        light = 100 * NOISE * (1 + (away / 4.0) ** 2) ** -2.5
        image = sky(26)
        exposure = exposure_of((image + light).astype(np.float32), NOISE**2 + light)
        assert len(SubtractStreaks().run(exposure)) == 1
        assert np.abs((exposure.image - image) / np.sqrt(NOISE**2 + light)).max() < 1.0

    def test_what_cannot_be_subtracted_is_masked_and_counted_as_noise(self):
        image = sky(22)
        y, x = np.indices(image.shape)
        flicker = 1 + 0.8 * np.sin((x + y) / 6.0)
        away = distance(image.shape, 0.0, 135.0)
        image += (40 * NOISE * flicker * np.exp(-0.5 * (away / WIDTH) ** 2)).astype(np.float32)
        exposure = exposure_of(image)
        streaks = SubtractStreaks().run(exposure)
        assert len(streaks) == 1
        masked = (exposure.mask & exposure.bits("STREAK")) != 0
        assert masked[np.abs(away) < 2].mean() > 0.95
        assert not masked[np.abs(away) > 12].any()
        assert streaks.masked_fraction == pytest.approx(masked.mean())
        # What is not masked is no noisier than the variance says.
        beside = ~masked & (np.abs(away) < 12)
        scatter = exposure.image[beside].std() / np.sqrt(exposure.variance[beside].mean())
        assert scatter < 1.2

    def test_without_a_streak_nothing_changes(self):
        image = sky(23)
        exposure = exposure_of(image.copy())
        streaks = SubtractStreaks().run(exposure)
        assert len(streaks) == 0
        np.testing.assert_array_equal(exposure.image, image)
        np.testing.assert_array_equal(exposure.variance, np.float32(NOISE**2))
        assert not exposure.mask.any()

    def test_planes_the_exposure_does_not_have(self):
        config = SubtractStreaksConfig(bad_mask_planes=("NO_DATA", "XTALK"), streaks_mask_plane="TRAIL")
        image, variance = self.make(5.0)
        exposure = exposure_of(image, variance)
        assert len(SubtractStreaks(config).run(exposure)) == 1
        assert "TRAIL" in exposure.planes


class TestReference:
    def make(self, streaks, seed=31, size=600):
        """Streaks with their detected pixels."""
        image = sky(seed, (size, size))
        detected = np.zeros(image.shape, bool)
        for rho, theta, peak in streaks:
            add_streak(image, rho, theta, peak * NOISE)
            detected |= np.abs(distance(image.shape, rho, theta)) < 6
        exposure = exposure_of(image)
        exposure.set_plane("DETECTED", detected)
        return exposure, detected

    def test_masks_streaks(self):
        truth = [(50.0, 30.0, 20.0), (-100.0, 120.0, 10.0)]
        exposure, detected = self.make(truth)
        before = exposure.image.copy()
        streaks = MaskStreaks().run(exposure)
        assert len(streaks) == 2
        for rho, theta, peak in truth:
            i = np.abs(streaks.theta - theta).argmin()
            assert streaks.rho[i] == pytest.approx(rho, abs=0.2)
            assert streaks.theta[i] == pytest.approx(theta, abs=0.05)
            assert streaks.brightness[i] == pytest.approx(peak * NOISE, rel=0.1)
        masked = (exposure.mask & exposure.bits("STREAK")) != 0
        np.testing.assert_array_equal(masked, detected)
        assert streaks.masked_fraction == pytest.approx(masked.mean())
        np.testing.assert_array_equal(exposure.image, before)

    def test_mask_beyond_detections_and_width(self):
        exposure, _ = self.make([(50.0, 30.0, 20.0)])
        free = MaskStreaks(MaskStreaksConfig(only_mask_detected=False, max_streak_width=6.0))
        streaks = free.run(exposure)
        away = np.abs(distance(exposure.shape, streaks.rho[0], streaks.theta[0]))
        np.testing.assert_array_equal((exposure.mask & exposure.bits("STREAK")) != 0, away < 3.0)

    def test_saturated_detections_hide_their_surroundings(self):
        exposure, detected = self.make([(0.0, 30.0, 20.0)])
        exposure.mask[300, 300] |= exposure.bits("SAT")
        assert detected[300, 300]
        assert len(MaskStreaks().run(exposure)) == 0
        assert len(MaskStreaks(MaskStreaksConfig(saturated_detections_dilation=20)).run(exposure)) == 1

    def test_no_streak_in_round_detections_or_none(self):
        exposure, _ = self.make([])
        assert len(MaskStreaks().run(exposure)) == 0
        y, x = np.indices(exposure.shape)
        for cx, cy, r in ((100, 100, 12), (300, 420, 40), (500, 80, 5)):
            exposure.set_plane("DETECTED", np.hypot(x - cx, y - cy) < r)
        streaks = MaskStreaks().run(exposure)
        assert len(streaks) == 0
        assert not (exposure.mask & exposure.bits("STREAK")).any()

    def test_outline_of_a_rectangle(self):
        lit = np.zeros((30, 40), bool)
        lit[10:20, 8:30] = True
        edges = outline(lit)
        rows, columns = np.nonzero(edges)
        assert edges.any()
        border = np.minimum.reduce(
            [abs(rows - 9.5), abs(rows - 19.5), abs(columns - 7.5), abs(columns - 29.5)]
        )
        assert border.max() == 0.5
        assert not outline(np.zeros((30, 40), bool)).any()
        assert not outline(np.ones((2, 2), bool)).any()

    @pytest.mark.parametrize(("rho", "theta"), [(20.0, 35.0), (-60.0, 90.0), (0.0, 1.0), (33.0, 151.0)])
    def test_a_line_of_pixels(self, rho, theta):
        edges = np.abs(distance((300, 400), rho, theta)) < 0.5
        lines = find_hough_lines(edges)
        assert len(lines) >= 1
        turned = abs(lines.theta[0] - theta)
        assert min(turned, 180 - turned) < 0.5
        assert abs(lines.rho[0] if turned < 90 else -lines.rho[0]) == pytest.approx(abs(rho), abs=1.5)

    def test_grouping(self):
        rng = np.random.default_rng(1)
        rho = np.concatenate([rng.normal(100, 10, 8), rng.normal(-200, 10, 5)])
        theta = np.concatenate([rng.normal(40, 0.5, 8), rng.normal(120, 0.5, 5)])
        groups = group_lines(HoughLines(rho, theta), 40.0, 2.0)
        order = np.argsort(groups.theta)
        np.testing.assert_allclose(groups.theta[order], [theta[:8].mean(), theta[8:].mean()])
        np.testing.assert_allclose(groups.rho[order], [rho[:8].mean(), rho[8:].mean()])
        assert len(group_lines(HoughLines(rho[:0], theta[:0]), 40.0, 2.0)) == 0


class TestSimulatedCamera:
    """Streaks through the simulated camera's atmosphere, among its stars, galaxies, cosmic rays and defects."""

    def simulate(self, name, seed, *, streaks=True, size=1024):
        from streamchar.telescope import named_scene, simulate_exposure

        scene = named_scene(name, size=size)
        if not streaks:
            none = scene.streaks.model_copy(update={"count": 0, "probability": 0.0})
            scene = scene.model_copy(update={"streaks": none})
        simulated = simulate_exposure(scene, seed)
        SubtractBackground().run(simulated.exposure)
        return simulated.exposure, simulated.truth

    def count(self, exposure, truth):
        """Streaks found to a pixel, and false ones."""
        streaks = Streaks.from_lines(SubtractStreaks().find(exposure), exposure.shape)
        found = set()
        for line in truth.streaks:
            y, x = np.indices(exposure.shape)
            on = line.distance(x, y) < 0.5
            for i, (rho, theta) in enumerate(zip(streaks.rho, streaks.theta, strict=True)):
                if np.abs(distance(exposure.shape, rho, theta)[on]).max() < 1.5:
                    found.add(i)
        return len(found), len(streaks) - len(found)

    def test_finds_five_satellites_among_saturated_stars(self):
        exposure, truth = self.simulate("streaks", 1)
        assert self.count(exposure, truth) == (5, 0)

    def test_finds_none_where_there_is_none(self):
        assert self.count(*self.simulate("crowded", 2, streaks=False)) == (0, 0)

    @pytest.mark.truth
    def test_table(self):
        found = false = empty = 0
        for seed in range(40, 50):
            results = self.count(*self.simulate("streaks", seed))
            found, false = found + results[0], false + results[1]
        scenes = ("normal", "sharp", "poor", "dense", "crowded", "cosmic-rays", "streaks", "gradients")
        for name in scenes:
            for seed in range(50, 53):
                empty += self.count(*self.simulate(name, seed, streaks=False))[1]
        print(
            f"\nstreaks found {found} of 50, false {false}; false in {3 * len(scenes)} scenes without: {empty}"
        )
        assert found >= 49
        assert false + empty == 0
