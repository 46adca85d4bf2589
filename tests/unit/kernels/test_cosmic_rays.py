"""The cosmic-ray kernels against literal Python: every pixel tested in raster order, nothing skipped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.kernels import cosmic_ray_candidates, find_cosmic_rays, replace_pixels

BAD, INTRP, SAT, CR = 1, 4, 2, 8
VETO = BAD | INTRP | SAT
SETTINGS = {
    "background": 10.0,
    "horizontal": 0.29,
    "vertical": 0.28,
    "diagonal": 0.24,
    "min_sigma": 6.0,
    "noise_factor": 2.0,
    "min_counts": 150.0,
    "iterations": 6,
    "max_pixels": 100_000,
    "bad_bits": VETO,
    "near_bits": INTRP,
    "unused_bits": 0,
    "cosmic_bit": CR,
    "offsets": np.empty((0, 2), np.int32),
    "thresholds": np.empty((1, 1, 0)),
    "seed_reach": 2.3,
    "seed_noise_factor": 4.5,
    "growth_sigma": 3.5,
    "growth_noise_factor": 1.5,
    "filled_factor": 0.7,
}
OFFSETS = np.array([(0, 1), (1, -1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 1), (3, 0), (0, 3)], np.int32)
LEAST_THRESHOLD = 0.02


def pairs(sigma=1.6, sharper=0.9, rows=2, columns=3):
    """Far pairs of a Gaussian that widens along x and y: settings of the kernel."""
    widths = sigma * (1.0 + 0.05 * np.arange(rows)[:, None, None] + 0.03 * np.arange(columns)[:, None])
    ratios = np.exp(-0.5 * (OFFSETS**2).sum(axis=1) / widths**2)
    return {
        "offsets": OFFSETS,
        "thresholds": ratios ** (1 / sharper**2),
        "unused_bits": VETO,
        "near_bits": INTRP | SAT,
    }


def stands_out(image, mask, variance, y, x, kind, p):
    """The mean of a pair above which a pixel is too high, or None."""
    height, width = image.shape
    sigmas, factor, reach = (
        (max(p["min_sigma"], 0.0), p["seed_noise_factor"], p["seed_reach"])
        if kind == "seed"
        else (p["growth_sigma"], p["growth_noise_factor"], np.inf)
    )
    rows, columns, _ = p["thresholds"].shape
    thresholds = p["thresholds"][y * rows // height, x * columns // width]
    with np.errstate(all="ignore"):
        peak, noise = float(image[y, x]) - p["background"], float(variance[y, x])
        if not peak > sigmas * np.sqrt(noise):
            return None
        for (dy, dx), threshold in zip(p["offsets"].astype(int), thresholds, strict=True):
            a, b = (y - dy, x - dx), (y + dy, x + dx)
            if not all(0 <= q[0] < height and 0 <= q[1] < width for q in (a, b)):
                continue
            planes = mask[a] | mask[b]
            if planes & p["unused_bits"]:
                continue
            if planes & p["cosmic_bit"]:
                threshold *= p["filled_factor"]
            if not threshold >= LEAST_THRESHOLD or dy**2 + dx**2 > reach**2:
                continue
            mean = (image[a] + image[b]) * np.float32(0.5)
            error = np.sqrt(threshold**2 * noise + 0.25 * (float(variance[a]) + float(variance[b])))
            if threshold * peak - (float(mean) - p["background"]) > factor * error:
                return mean
    return None


def passes(image, mask, variance, y, x, sigmas, factor, p, *, far=False):
    """The mean that a pixel found to be too sharp is replaced by, or None."""
    v, level = float(image[y, x]), p["background"]
    pairs = {
        "ns": ((y + 1, x), (y - 1, x), p["vertical"]),
        "we": ((y, x - 1), (y, x + 1), p["horizontal"]),
        "swne": ((y - 1, x - 1), (y + 1, x + 1), p["diagonal"]),
        "nwse": ((y + 1, x - 1), (y - 1, x + 1), p["diagonal"]),
    }
    with np.errstate(all="ignore"):
        means = {
            k: np.float32(np.inf)
            if (mask[a] | mask[b]) & p["unused_bits"]
            else np.float32((image[a] + image[b]) / np.float32(2))
            for k, (a, b, _) in pairs.items()
        }
        d0 = np.sqrt(float(variance[y, x]))
        if v < 0:
            return None
        if sigmas < 0:
            if v < -sigmas:
                return None
        elif all(v < float(m) + sigmas * d0 for m in means.values()):
            return None
        for k, (a, b, threshold) in pairs.items():
            error = np.sqrt(float(variance[a]) + float(variance[b])) / 2
            if threshold * (v - level - factor * d0) > float(means[k]) - level + factor * error:
                return means[k]
    return stands_out(image, mask, variance, y, x, "seed", p) if far else None


def scan(image, mask, variance, p):
    height, width = image.shape
    recorded = []
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            value = passes(image, mask, variance, y, x, p["min_sigma"], p["noise_factor"], p, far=True)
            if value is None or mask[y, x] & p["bad_bits"]:
                continue
            around = mask[y - 1 : y + 2, x - 1 : x + 2].copy()
            around[1, 1] = 0
            if (around & p["near_bits"]).any():
                continue
            recorded.append((y, x, image[y, x]))
            image[y, x] = value
    return recorded


def spans_of(pixels):
    spans = []
    for y, x in sorted(pixels):
        if spans and spans[-1][0] == y and spans[-1][2] == x - 1:
            spans[-1][2] = x
        else:
            spans.append([y, x, x])
    return spans


def group(recorded):
    spans = spans_of([(y, x) for y, x, _ in recorded])
    alias = list(range(len(spans)))

    def root(i):
        while alias[i] != i:
            i = alias[i]
        return i

    for i, (y, x0, x1) in enumerate(spans):
        for j in range(i + 1, len(spans)):
            y2, a, b = spans[j]
            if y2 == y + 1 and a <= x1 + 1 and b >= x0 - 1 and root(i) != root(j):
                alias[root(i)] = root(j)
    groups = {}
    for i, (y, x0, x1) in enumerate(spans):
        groups.setdefault(root(i), []).extend((y, x) for x in range(x0, x1 + 1))
    return [groups[k] for k in sorted(groups)]


def restore(image, recorded):
    for y, x, value in reversed(recorded):
        image[y, x] = value


def replacement(image, mask, variance, y, x, background, excluded):
    """The designed estimate from unmasked pixels, or None when there is none near."""
    height, width = image.shape

    def usable(b, a):
        return 0 <= b < height and 0 <= a < width and not mask[b, a] & excluded and np.isfinite(image[b, a])

    found, errors = [], []
    for dy, dx, near, far in (
        (0, 1, 0.7737, -0.2737),
        (1, 0, 0.7737, -0.2737),
        (1, 1, 0.7358, -0.2358),
        (1, -1, 0.7358, -0.2358),
    ):
        at = {k: (y + k * dy, x + k * dx) for k in (-2, -1, 1, 2)}
        if not all(usable(*p) for p in at.values()):
            continue
        value = sum((near if abs(k) == 1 else far) * float(image[p]) for k, p in at.items())
        error = np.sqrt(sum((near if abs(k) == 1 else far) ** 2 * float(variance[p]) for k, p in at.items()))
        if value > background - 2 * error:
            found.append(value)
            errors.append(error)
    if found:
        lowest = [0, 0, 0.5641895835, 0.8462843753, 1.0293753730][len(found)]
        return min(found) + lowest * np.mean(errors)
    lines = []
    for dy, dx in ((0, 1), (1, 0)):
        ends = {}
        for sign in (-1, 1):
            for k in range(1, 33):
                b, a = y + sign * k * dy, x + sign * k * dx
                if usable(b, a):
                    ends[sign] = (k, float(image[b, a]))
                    break
        if len(ends) == 2:
            (i, low), (j, high) = ends[-1], ends[1]
            lines.append((j * low + i * high) / (i + j))
        elif ends:
            lines.append(next(iter(ends.values()))[1])
    return np.mean(lines) if lines else None


def replace_twin(image, mask, variance, footprints, background, excluded):
    unfounded = []
    for pixels in footprints:
        for y, x in pixels:
            value = replacement(image, mask, variance, y, x, background, excluded)
            if value is None:
                unfounded.append(y * image.shape[1] + x)
            image[y, x] = background if value is None else value
    return unfounded


def grow(image, mask, variance, footprints, p):
    height, width = image.shape
    grown = 0
    for _ in range(p["iterations"]):
        for k, pixels in enumerate(footprints):
            extra = set()
            for y, x0, x1 in spans_of(pixels):
                if not 2 <= y < height - 2:
                    continue
                x0, x1 = (min(max(x, 2), width - 3) for x in (x0, x1))
                for b in range(y - 1, y + 2):
                    for a in range(x0 - 1, x1 + 2):
                        value = passes(image, mask, variance, b, a, p["min_sigma"] / 2, 0.0, p)
                        if value is not None:
                            image[b, a] = value
                            extra.add((b, a))
            grown += len(extra)
            footprints[k] = sorted(set(pixels) | extra)
            for b, a in extra:
                mask[b, a] |= p["cosmic_bit"]
        if grown == 0:
            return


def spread(image, mask, variance, footprints, p):
    """Growth by pairs near and far: the pixels of a pass are all judged before any is replaced."""
    height, width = image.shape
    for _ in range(p["iterations"]):
        added = []
        for pixels in footprints:
            near = {
                (b, a)
                for y, x in pixels
                for b in range(max(y - 1, 0), min(y + 2, height))
                for a in range(max(x - 1, 0), min(x + 2, width))
            }
            added.append(
                sorted(
                    q
                    for q in near
                    if not mask[q] & (p["cosmic_bit"] | p["bad_bits"])
                    and stands_out(image, mask, variance, *q, "growth", p) is not None
                )
            )
        if not any(added):
            return
        for k, extra in enumerate(added):
            footprints[k] = sorted(set(footprints[k]) | set(extra))
            for q in extra:
                mask[q] |= p["cosmic_bit"]
        replace_twin(image, mask, variance, added, p["background"], p["bad_bits"] | p["cosmic_bit"])


def twin(image, mask, variance, p):
    """Footprints as lists of pixels; the mask is modified, the image is not."""
    work = image.copy()
    recorded = scan(work, mask, variance, p)
    footprints = group(recorded)
    restore(work, recorded)
    with np.errstate(all="ignore"):
        footprints = [
            f
            for f in footprints
            if not np.sum([np.float32(work[q] - p["background"]) for q in f], dtype=np.float32)
            < p["min_counts"]
        ]
    for f in footprints:
        for q in f:
            mask[q] |= p["cosmic_bit"]
    replace_twin(work, mask, variance, footprints, p["background"], p["bad_bits"] | p["cosmic_bit"])
    if len(p["offsets"]):
        spread(work, mask, variance, footprints, p)
    elif min(image.shape) >= 5:
        grow(work, mask, variance, footprints, p)
    return footprints


def run(image, mask, variance, **changes):
    return find_cosmic_rays(image, mask, variance, **{**SETTINGS, **changes})


def footprints_of(y, x0, x1, start):
    return [
        [(int(y[k]), x) for k in range(start[i], start[i + 1]) for x in range(x0[k], x1[k] + 1)]
        for i in range(len(start) - 1)
    ]


def compare(image, mask, variance, **changes):
    p = {**SETTINGS, **changes}
    ours, theirs, before = mask.copy(), mask.copy(), image.copy()
    complete, pixels, *spans = run(image, ours, variance, **changes)
    expected = twin(image, theirs, variance, p)
    assert complete
    assert pixels == np.count_nonzero(theirs & CR)
    np.testing.assert_array_equal(image, before)
    assert footprints_of(*spans) == expected
    np.testing.assert_array_equal(ours, theirs)
    candidates, again = cosmic_ray_candidates(image, variance, p["min_sigma"]), mask.copy()
    for one, other in zip(
        run(image, again, variance, candidates=candidates, **changes)[2:], spans, strict=True
    ):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again, ours)
    return expected


def scene(seed, shape=(40, 48), hits=12):
    """Sky, a star, single hits and tracks, masked and missing pixels."""
    rng = np.random.default_rng(seed)
    image = rng.normal(10, 5, shape)
    y, x = np.indices(shape)
    image += 3000 * np.exp(-0.5 * ((x - 20.3) ** 2 + (y - 15.6) ** 2) / rng.uniform(0.8, 2.0) ** 2)
    for _ in range(hits):
        b, a, length, angle = (
            rng.integers(shape[0]),
            rng.integers(shape[1]),
            rng.integers(1, 9),
            rng.uniform(0, np.pi),
        )
        for k in range(length):
            yy, xx = int(b + k * np.sin(angle)), int(a + k * np.cos(angle))
            if 0 <= yy < shape[0] and 0 <= xx < shape[1]:
                image[yy, xx] += rng.uniform(20, 900)
    mask = np.zeros(shape, np.int32)
    for bit in (BAD, INTRP, SAT):
        mask[rng.random(shape) < 0.01] |= bit
    variance = np.where(rng.random(shape) < 0.5, 25.0, 30.0).astype(np.float32)
    image[rng.random(shape) < 0.003] = np.nan
    image[rng.random(shape) < 0.001] = np.inf
    variance[rng.random(shape) < 0.003] = np.nan
    return image.astype(np.float32), mask, variance


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_same_footprints_as_the_literal_algorithm(seed):
    compare(*scene(seed))


def test_scenes_are_not_empty():
    assert sum(len(compare(*scene(seed))) for seed in range(3)) > 10


@pytest.mark.parametrize(
    "changes",
    [
        {"min_sigma": -120.0},
        {"iterations": 0},
        {"min_counts": 0.0},
        {"noise_factor": 0.0},
        {"background": 0.0},
    ],
)
def test_other_settings(changes):
    for seed in (1, 2):
        compare(*scene(seed), **changes)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 2.5))
def test_same_footprints_by_far_pairs(seed, sigma):
    compare(*scene(seed), **pairs(sigma))


@pytest.mark.parametrize(
    "changes",
    [
        {"min_sigma": -120.0},
        {"iterations": 0},
        {"seed_reach": 1.0},
        {"seed_reach": 4.0},
        {"filled_factor": 0.0},
        {"filled_factor": 1.0},
        {"growth_sigma": 0.0, "growth_noise_factor": 0.0, "iterations": 3},
    ],
)
def test_other_settings_of_far_pairs(changes):
    for seed in (1, 2):
        compare(*scene(seed), **{**pairs(), **changes})


def test_far_pairs_find_wide_hits_whole():
    """Three by three pixels of one height: none is sharp next to its nearest neighbours but the corners."""
    image = np.full((30, 30), 10, np.float32)
    image[10:13, 14:17] = 500
    found = compare(image, np.zeros((30, 30), np.int32), np.full((30, 30), 25, np.float32), **pairs())
    assert found == [[(y, x) for y in range(10, 13) for x in range(14, 17)]]


def test_bad_pixels_are_no_evidence_unless_used():
    """A dead column makes every pixel beside it sharp."""
    image = np.full((30, 30), 100, np.float32)
    image[:, 12] = -300
    mask, variance = (
        np.where(np.arange(30) == 12, BAD, 0) + np.zeros((30, 1)),
        np.full((30, 30), 25, np.float32),
    )
    image[15, 11] += 60
    mask = mask.astype(np.int32)
    assert compare(image, mask, variance, background=100.0, unused_bits=VETO) == []
    assert compare(image, mask, variance, background=100.0, min_counts=10.0) != []
    mask[:] = BAD
    mask[15, 11] = 0
    image[15, 11] = 9000
    assert compare(image, mask, variance, **pairs()) == []


def test_thresholds_must_fit_the_offsets():
    image, mask = np.zeros((6, 7), np.float32), np.zeros((6, 7), np.int32)
    with pytest.raises(ValueError, match="thresholds"):
        run(image, mask, image.copy(), offsets=OFFSETS)
    with pytest.raises(ValueError, match="thresholds"):
        run(image, mask, image.copy(), **{**pairs(), "thresholds": np.zeros((0, 1, len(OFFSETS)))})


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_dense_hits(seed):
    """Every third pixel hit: replaced values matter to the pixels after them all the time."""
    rng = np.random.default_rng(seed)
    image = (
        10 + np.where(rng.random((24, 30)) < 0.3, rng.uniform(50, 500, (24, 30)), rng.normal(0, 3, (24, 30)))
    ).astype(np.float32)
    mask, variance = np.zeros((24, 30), np.int32), np.full((24, 30), 9, np.float32)
    compare(image, mask, variance, min_counts=30.0)
    compare(image, mask, variance, min_counts=30.0, **pairs())


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (3, 3), (3, 20), (4, 4), (5, 5), (20, 3)])
def test_tiny_planes(shape):
    rng = np.random.default_rng(0)
    image = (10 + 500 * (rng.random(shape) < 0.3)).astype(np.float32)
    compare(image, np.zeros(shape, np.int32), np.full(shape, 9, np.float32))
    compare(image, np.zeros(shape, np.int32), np.full(shape, 9, np.float32), **pairs())


def test_nothing_finite():
    image = np.full((20, 20), np.nan, np.float32)
    assert compare(image, np.zeros((20, 20), np.int32), np.ones((20, 20), np.float32)) == []


def test_hit_on_the_border_is_not_found():
    image, variance = np.full((20, 20), 10, np.float32), np.full((20, 20), 9, np.float32)
    image[0, 5] = image[10, 19] = 900
    assert compare(image, np.zeros((20, 20), np.int32), variance) == []
    image[1, 12] = 900
    assert compare(image, np.zeros((20, 20), np.int32), variance) == [[(1, 12)]]


def test_too_many_pixels_leave_everything_as_it_was():
    image, mask, variance = scene(5)
    first = run(image, mask.copy(), variance, iterations=0, min_counts=-np.inf)[1]
    assert first > 5
    for limit in (first - 1, 0):
        before, planes = image.copy(), mask.copy()
        complete, count, y, x0, x1, start = run(image, planes, variance, max_pixels=limit)
        assert not complete
        assert count == limit + 1
        assert len(y) == len(x0) == len(x1) == 0
        assert list(start) == [0]
        np.testing.assert_array_equal(image, before)
        np.testing.assert_array_equal(planes, mask)


def test_growth_can_overflow_too():
    rng = np.random.default_rng(0)
    image = (10 + 600 * (rng.random((60, 60)) < 0.25)).astype(np.float32)
    mask, variance = np.zeros((60, 60), np.int32), np.full((60, 60), 9, np.float32)
    before = image.copy()
    for more in ({}, pairs()):
        limit = run(image, mask.copy(), variance, **{**more, "iterations": 0})[1]
        complete, *_ = run(image, mask, variance, max_pixels=limit, **more)
        assert not complete
        np.testing.assert_array_equal(image, before)
        assert not mask.any()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.9))
def test_replacement(seed, fraction):
    rng = np.random.default_rng(seed)
    image, mask, variance = scene(seed, (36, 40))
    mask[rng.random(mask.shape) < fraction] |= CR
    footprints = [[(int(y), int(x)) for y, x in np.argwhere(mask & CR)]]
    spans = spans_of(footprints[0])
    y, x0, x1 = (np.array([s[k] for s in spans], np.int32) for k in range(3))
    expected = image.copy()
    unfounded = replace_twin(expected, mask, variance, footprints, 10.0, VETO | CR)
    found = replace_pixels(image, mask, variance, y, x0, x1, 10.0, VETO | CR)
    np.testing.assert_allclose(image, expected, rtol=1e-6)
    assert list(found) == unfounded


def test_replacement_without_any_good_pixel():
    image = np.full((6, 7), 900, np.float32)
    mask = np.full((6, 7), CR, np.int32)
    rows = np.arange(6, dtype=np.int32)
    found = replace_pixels(image, mask, image.copy(), rows, rows * 0, rows * 0 + 6, 10.0, CR)
    assert list(found) == list(range(42))
    np.testing.assert_array_equal(image, 10.0)


def test_shapes_and_spans_are_checked():
    image, mask, one = np.zeros((6, 7), np.float32), np.zeros((6, 7), np.int32), np.ones(1, np.int32)
    with pytest.raises(ValueError):
        run(image, mask[:, :6].copy(), image.copy())
    with pytest.raises(ValueError, match="outside"):
        replace_pixels(image, mask, image.copy(), one * 6, one, one, 0.0, CR)
    with pytest.raises(ValueError, match="excluded"):
        replace_pixels(image, mask, image.copy(), one, one, one, 0.0, CR)


def candidates_twin(image, variance, min_sigma):
    """Flat indices of the pixels that are high enough above the lowest of their pairs, or beside a NaN."""
    v, s = image.astype(np.float64), variance.astype(np.float64)
    height, width = v.shape
    with np.errstate(invalid="ignore"):
        pairs = np.stack(
            [
                (
                    v[1 - dy : height - 1 - dy, 1 - dx : width - 1 - dx]
                    + v[1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]
                )
                / 2
                for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1))
            ]
        )
        here, noise = v[1:-1, 1:-1], np.sqrt(s[1:-1, 1:-1])
        high = (
            (here >= np.nanmin(np.where(np.isnan(pairs), np.inf, pairs), axis=0) + min_sigma * noise)
            if min_sigma >= 0
            else here >= -min_sigma
        )
        beside_nan = np.isnan(pairs.sum(axis=0)) & (min_sigma >= 0)
        usable = (here >= 0) & (s[1:-1, 1:-1] >= 0 if min_sigma >= 0 else True)
    y, x = np.nonzero(usable & (high | beside_nan))
    return (y + 1) * width + x + 1


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 30), st.integers(1, 150)),
    min_sigma=st.sampled_from([6.0, 1.0, 0.0, -40.0]),
)
def test_candidates(seed, shape, min_sigma):
    image, _, variance = scene(seed, shape)
    variance[np.random.default_rng(seed).random(shape) < 0.01] *= -1
    found = cosmic_ray_candidates(image, variance, min_sigma)
    assert (np.diff(found) > 0).all()
    slack = 1e-5 if min_sigma > 0 else 0.0
    certain = candidates_twin(image, variance, min_sigma * (1 + slack)) if min(shape) > 2 else []
    possible = candidates_twin(image, variance, min_sigma * (1 - slack)) if min(shape) > 2 else []
    assert set(certain) <= set(found.tolist()) <= set(possible)


@pytest.mark.parametrize("wrong", [[5], [0], [8 * 6 - 3], [14, 13], [13, 13], [12], [17], [-1], [500]])
def test_candidates_that_cannot_be(wrong):
    plane = np.zeros((8, 6), np.float32)
    with pytest.raises(ValueError, match="candidates must ascend and keep off the border"):
        run(plane, np.zeros((8, 6), np.int32), plane, candidates=np.array(wrong, np.int64))


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 6), np.float32).T, np.zeros((6, 8)), np.zeros((6, 8), np.float32)[:, ::2]]
)
def test_planes_to_be_modified_are_never_converted(wrong):
    """A conversion would modify a copy, silently."""
    mask, one = np.zeros(wrong.shape, np.int32), np.ones(1, np.int32)
    right = np.zeros(wrong.shape, np.float32)
    with pytest.raises(TypeError):
        run(wrong, mask, right)
    with pytest.raises(TypeError):
        run(right, wrong, right)
    with pytest.raises(TypeError):
        replace_pixels(wrong, mask + CR, right, one, one, one, 0.0, CR)
