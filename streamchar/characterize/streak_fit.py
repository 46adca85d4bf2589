"""The reference's fit of a streak's line and width to the pixels around it (deblend-and-streaks.md section 2.2 step 5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.line_search import PROFILE_POWER
from streamchar.frozen import frozen

Array = NDArray[np.float64]

REGION = 10.0
"""Half width of the fitted region in units of the first σ."""

ROW = 5.0
"""Length along the streak of the rows that are judged together, pixels."""

OUTLIER = 3.0
"""Rows whose reduced χ² exceeds the mean by so many standard deviations are left out."""

LINE_SEARCH_ROUNDS = 20
"""Most evaluations of Brent's search along a step."""


@frozen
class StreakFit:
    """A fitted streak, in coordinates from the middle of the image.

    Attributes
    ----------
    rho, theta
        Pixels and degrees.
    sigma
        σ of the profile F (1 + d²/σ²)^-2.5, pixels.
    brightness
        F, image units.
    converged
        Whether the fit ended well; the values are the last ones in any case.
    """

    rho: float
    theta: float
    sigma: float
    brightness: float
    converged: bool


@frozen
class FitLimits:
    """When a fit ends.

    Attributes
    ----------
    inverse_sigma
        1/σ to start from, 1/pixel.
    tolerance
        Change of χ²/n that is none.
    max_iterations
        Newton steps.
    max_shift, max_turn
        Largest distance from the start, pixels and degrees.
    """

    inverse_sigma: float
    tolerance: float
    max_iterations: int
    max_shift: float
    max_turn: float


class _Pixels:
    """The pixels around the first line with their weights, and χ² of a line."""

    def __init__(
        self,
        image: NDArray[np.float32],
        variance: NDArray[np.float32],
        usable: NDArray[np.bool_],
        detected: NDArray[np.bool_],
        rho: float,
        theta: float,
        half: float,
    ):
        height, width = image.shape
        y, x = np.ogrid[:height, :width]
        u, v = x - 0.5 * width, y - 0.5 * height
        cosine, sine = np.cos(np.radians(theta)), np.sin(np.radians(theta))
        inside = np.abs(u * cosine + v * sine - rho) < half
        rows, columns = np.nonzero(inside)
        self.x, self.y = columns - 0.5 * width, rows - 0.5 * height
        self.data = image[rows, columns].astype(np.float64)
        spread = variance[rows, columns].astype(np.float64)
        good = usable[rows, columns] & np.isfinite(self.data) & np.isfinite(spread) & (spread > 0)
        self.data[~good] = 0.0
        self.weight = np.where(good, 1.0 / np.where(good, spread, 1.0), 0.0)
        along = np.floor((self.y * cosine - self.x * sine) / ROW).astype(np.int64)
        self.row = along - along.min(initial=0)
        self._leave_out_undetected(detected[rows, columns])

    def _leave_out_undetected(self, detected: NDArray[np.bool_]) -> None:
        count = np.bincount(self.row)
        fraction = np.bincount(self.row, detected) / np.maximum(count, 1)
        lit = fraction[fraction > 0]
        if len(lit):
            self.weight[(fraction < 0.5 * np.median(lit))[self.row]] = 0.0

    def distance(self, rho: float, theta: float) -> Array:
        angle = np.radians(theta)
        return np.asarray(self.x * np.cos(angle) + self.y * np.sin(angle) - rho)

    def fit_brightness(self, parameters: Array) -> tuple[Array, float, float]:
        """Profile, F and χ²/n."""
        distance = self.distance(parameters[0], parameters[1])
        profile = (1.0 + (distance * parameters[2]) ** 2) ** -PROFILE_POWER
        norm = float((self.weight * profile * profile).sum())
        brightness = float((self.weight * profile * self.data).sum()) / norm if norm > 0 else 0.0
        residual = self.data - brightness * profile
        return profile, brightness, float((self.weight * residual**2).sum()) / self.used

    @property
    def used(self) -> int:
        return max(int(np.count_nonzero(self.weight)), 1)

    def newton(self, parameters: Array) -> Array | None:
        """Gauss-Newton step, or ``None`` when the Hessian is not positive definite."""
        rho, theta, inverse = parameters
        distance = self.distance(rho, theta)
        profile, brightness, _ = self.fit_brightness(parameters)
        scaled = 1.0 + (distance * inverse) ** 2
        slope = -2.0 * PROFILE_POWER * brightness * scaled ** (-PROFILE_POWER - 1.0) * inverse * distance
        angle = np.radians(theta)
        turn = (self.y * np.cos(angle) - self.x * np.sin(angle)) * (np.pi / 180.0)
        design = np.stack([-slope * inverse, slope * inverse * turn, slope * distance], axis=1)
        hessian = design.T @ (design * self.weight[:, None])
        gradient = design.T @ (self.weight * (self.data - brightness * profile))
        if not np.isfinite(hessian).all() or not (np.linalg.eigvalsh(hessian) > 0).all():
            return None
        return np.asarray(np.linalg.solve(hessian, gradient))

    def leave_out_outliers(self, parameters: Array) -> bool:
        """Give rows that do not fit no weight; whether there was a new one."""
        profile, brightness, _ = self.fit_brightness(parameters)
        chi2 = np.bincount(self.row, self.weight * (self.data - brightness * profile) ** 2)
        count = np.bincount(self.row, self.weight > 0)
        used = count > 0
        reduced = chi2[used] / count[used]
        bad = np.zeros(len(count), np.bool_)
        bad[used] = reduced > reduced.mean() + OUTLIER * reduced.std()
        self.weight[bad[self.row]] = 0.0
        return bool(bad.any())


def fit_streak(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    usable: NDArray[np.bool_],
    detected: NDArray[np.bool_],
    rho: float,
    theta: float,
    limits: FitLimits,
) -> StreakFit | None:
    """Fit a streak's line, width and brightness by Newton steps with a search along each.

    Parameters
    ----------
    image, variance
        float32 (height, width).
    usable, detected
        bool (height, width): pixels that count, and pixels in footprints.
    rho, theta
        First line, pixels and degrees from the middle of the image.
    limits
        Start and end of the iteration.

    Returns
    -------
    StreakFit
        ``None`` when no pixel near the line is usable.
    """
    from scipy.optimize import minimize_scalar

    pixels = _Pixels(image, variance, usable, detected, rho, theta, REGION / limits.inverse_sigma)
    if not pixels.weight.any():
        return None
    start = np.array([rho, theta, limits.inverse_sigma])
    parameters = start
    chi2 = pixels.fit_brightness(parameters)[2]
    converged = False
    for _ in range(limits.max_iterations):
        step = pixels.newton(parameters)
        if step is None:
            break

        def along(factor: float, at: Array = parameters, by: Array = step) -> float:
            return pixels.fit_brightness(at + factor * by)[2]

        factor = 1.0
        if abs(along(1.0) - chi2) >= 1e-12:
            found = minimize_scalar(
                along, bracket=(0.0, 1.0), method="brent", options={"maxiter": LINE_SEARCH_ROUNDS}
            )
            factor = float(found.x)
        parameters = parameters + factor * step
        new_outliers = pixels.leave_out_outliers(parameters)
        before, chi2 = chi2, pixels.fit_brightness(parameters)[2]
        if not np.isfinite(parameters).all() or not pixels.weight.any():
            break
        if abs(chi2 - before) <= limits.tolerance and not new_outliers:
            converged = True
            break
    moved = np.abs(parameters - start)
    converged &= moved[0] <= limits.max_shift and moved[1] <= limits.max_turn
    converged &= abs(parameters[0]) <= 0.75 * np.hypot(*image.shape)
    brightness = pixels.fit_brightness(parameters)[1]
    with np.errstate(divide="ignore"):
        sigma = float(abs(1.0 / parameters[2]))
    return StreakFit(float(parameters[0]), float(parameters[1]), sigma, brightness, bool(converged))
