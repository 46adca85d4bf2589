"""Which round peaks are taken for stars, and how many of them carry a cosmic ray."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamchar.characterize.star_loss import RoundPeaks


def peaks(sigmas):
    ordered = np.sort(np.array(sigmas, float))
    number = np.arange(len(ordered), dtype=np.int32)
    return RoundPeaks(number + 1, 2 * number + 1, ordered)


def fullest(sigmas, psf_sigma):
    """The most widths of which the largest is at most 1.15 / 0.85 of the least, the least such widths first."""
    near = sorted(s for s in sigmas if 0.4 * psf_sigma < s < 1.5 * psf_sigma)
    windows = [[s for s in near if low <= s <= low * (1.15 / 0.85)] for low in near]
    return max(windows, key=len, default=[])


@given(st.lists(st.integers(3, 30).map(lambda tenths: tenths / 10), max_size=30), st.sampled_from([1.0, 2.0]))
def test_stars_have_the_most_common_width_near_the_psf(sigmas, psf_sigma):
    expected = fullest(sigmas, psf_sigma)
    found = peaks(sigmas).point_like(psf_sigma)
    assert found.count == len(expected)
    np.testing.assert_equal(found.sigma, np.median(expected) if expected else np.nan)
    ordered = sorted(sigmas)
    np.testing.assert_array_equal([ordered[y - 1] for y in found.y], expected)
    np.testing.assert_array_equal(found.x, 2 * found.y - 1)


def test_none_are_near_a_psf_of_unknown_width():
    assert peaks([1.0, 1.1]).point_like(float("nan")).count == 0


def test_a_star_is_touched_at_its_peak_or_a_side_of_it():
    stars = peaks([1.0, 1.0, 1.0]).point_like(1.0)
    mask = np.zeros((6, 8), np.int32)
    mask[1, 2] = 8
    mask[2, 3] = 4
    mask[4, 6] = 8
    loss = stars.loss(mask, 8)
    assert (loss.peaks, loss.touched, loss.sigma) == (3, 1, 1.0)
    mask[3, 6] = 8
    assert stars.loss(mask, 8).touched == 2
    assert peaks([]).point_like(1.0).loss(mask, 8).fraction == 0.0
