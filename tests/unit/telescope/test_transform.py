"""Images from transforms against integrals over pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf

from streamchar.telescope.interpolation import ChebyshevNodes
from streamchar.telescope.transform import FrequencyGrid, images, sampled


def gaussian(grid: FrequencyGrid, sigma: float) -> np.ndarray:
    kx, ky = grid.kx, grid.ky[:, None]
    pixel = np.sinc(kx / (2 * np.pi)) * np.sinc(ky / (2 * np.pi))
    return (np.exp(-0.5 * sigma**2 * (kx**2 + ky**2)) * pixel).astype(np.complex64)[None]


def integrated(size: int, sigma: float, shift: float) -> np.ndarray:
    edges = np.arange(size + 1) - size // 2 - 0.5 - shift
    return np.diff(0.5 * erf(edges / (np.sqrt(2) * sigma)))


@given(
    st.floats(0.35, 3.0),
    st.floats(-0.5, 0.5, width=32),
    st.floats(-0.5, 0.5, width=32),
    st.sampled_from([32, 64]),
)
def test_pixels_hold_the_integral_of_the_profile(sigma: float, dx: float, dy: float, size: int) -> None:
    grid = FrequencyGrid.covering(size, 6.0 / sigma)
    image = images(gaussian(grid, sigma), grid, np.array([dx], np.float32), np.array([dy], np.float32))[0]
    expected = integrated(size, sigma, dy)[:, None] * integrated(size, sigma, dx)
    assert np.abs(image - expected).max() < 1e-5 * expected.max()


def test_coarser_grids_are_part_of_the_fine_one() -> None:
    fine = FrequencyGrid.covering(128, 2.0)
    coarse, window = fine.coarser(4)
    assert coarse.size == 32
    assert fine.kx[window[1]] == pytest.approx(coarse.kx)
    assert fine.ky[window[0]] == pytest.approx(coarse.ky, abs=1e-6)


def test_sampling_between_pixels() -> None:
    grid = FrequencyGrid.covering(64, 3.0)
    points = np.array([-1.3, 0.0, 0.25])
    values = sampled(gaussian(grid, 2.0), grid, points, points[:2])[0]
    edges = points[:, None] + np.array([-0.5, 0.5])
    profile = np.diff(0.5 * erf(edges / (np.sqrt(2) * 2.0)), axis=1)[:, 0]
    assert values == pytest.approx(profile[:2, None] * profile, abs=1e-6)


def test_chebyshev_weights_reproduce_polynomials() -> None:
    nodes = ChebyshevNodes(4, (-10.0, 110.0), (0.0, 50.0))
    x, y = nodes.positions()
    random = np.random.default_rng(1)
    at_x, at_y = random.uniform(-10, 110, 20), random.uniform(0, 50, 20)

    def cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        u, v = x / 100, y / 50
        return 1 + u - 2 * v + u**3 - 3 * u * v**2 + u**3 * v**3

    assert nodes.weights(at_x, at_y) @ cubic(x, y) == pytest.approx(cubic(at_x, at_y), abs=1e-5)
