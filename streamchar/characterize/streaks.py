"""Satellite streaks: subtracted before detection, or masked after it as the reference does (deblend-and-streaks.md section 2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.base import Task
from streamchar.characterize.hough import HoughLines, find_hough_lines, group_lines, outline
from streamchar.characterize.line_search import (
    GAUSSIAN_IQR,
    PROFILE_POWER,
    Line,
    LineSearchConfig,
    find_lines,
)
from streamchar.characterize.statistics import quartiles
from streamchar.characterize.streak_fit import FitLimits, StreakFit, fit_streak
from streamchar.characterize.streak_profile import subtract_line
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Exposure

Array = NDArray[np.float64]

SAMPLED_ROWS = 64
"""Rows of pixels from which the noise is measured."""


@frozen
class Streaks:
    """Streaks of an exposure.

    A streak is the line (x - width/2) cos θ + (y - height/2) sin θ = ρ with the cross profile F (1 + d²/σ²)^-2.5.

    Attributes
    ----------
    rho
        float64 (n): ρ, pixels.
    theta
        float64 (n): θ, degrees, 0 to 180.
    width
        float64 (n): σ, pixels; the FWHM is 1.13 σ.
    brightness
        float64 (n): F, image units.
    masked_fraction
        Fraction of the exposure's pixels with the streak plane set by the task.
    """

    rho: Array
    theta: Array
    width: Array
    brightness: Array
    masked_fraction: float = 0.0

    def __len__(self) -> int:
        return len(self.rho)

    def __repr__(self) -> str:
        return f"Streaks({len(self)} streaks, {self.masked_fraction:.2%} of the pixels masked)"

    @classmethod
    def from_lines(
        cls, lines: tuple[Line, ...], shape: tuple[int, int], masked_fraction: float = 0.0
    ) -> Streaks:
        """Express lines by their distance and direction from the middle of the exposure."""
        rho, theta = np.empty(len(lines)), np.empty(len(lines))
        for i, line in enumerate(lines):
            along, across = (shape[0], shape[1]) if line.steep else (shape[1], shape[0])
            # across - slope along = start, seen from the middle; the normal is (1, -slope) in (across, along).
            distance = (line.start - 0.5 * across + 0.5 * line.slope * along) * line.cosine
            normal = (1.0, -line.slope) if line.steep else (-line.slope, 1.0)
            angle = np.degrees(np.arctan2(normal[1], normal[0]))
            if not 0.0 <= angle < 180.0:
                angle, distance = (angle + 180.0) % 180.0, -distance
            rho[i], theta[i] = distance, angle
        width, brightness = (
            np.array([getattr(line, name) for line in lines], np.float64) for name in ("width", "brightness")
        )
        return cls(rho, theta, width, brightness, masked_fraction)


class SubtractStreaksConfig(Configuration):
    """Settings of :class:`SubtractStreaks`."""

    search: LineSearchConfig = LineSearchConfig()
    """Which lines are streaks."""
    max_radius: float = Field(default=60.0, gt=0, le=200)
    """Distance from the line beyond which nothing is subtracted, pixels."""
    max_excess: float = Field(default=1.0, gt=0)
    """Pixels are masked where the variance of the residuals exceeds theirs by this factor of it."""
    streaks_mask_plane: str = "STREAK"
    """Plane for the pixels where the subtraction is not good enough."""
    bad_mask_planes: tuple[str, ...] = ("NO_DATA", "BAD", "SAT", "INTRP")
    """Planes whose pixels are left out of the search and of the profiles; those unknown to the exposure are ignored."""


class SubtractStreaks(Task[SubtractStreaksConfig]):
    """Find streaks that cross the exposure, subtract them and mask only what the subtraction spoils.

    The reference masks whole streaks, after detection, and loses what is near them. This task runs before cosmic rays are
    looked for and sources detected, on the background-subtracted exposure.
    """

    config_class = SubtractStreaksConfig
    default_name = "subtract_streaks"

    def run(self, exposure: Exposure) -> Streaks:
        """Subtract the streaks of an exposure.

        Parameters
        ----------
        exposure
            Background subtracted. Its image loses the streaks, its variance grows by the scatter of what is left of them, and
            the streak plane is cleared and set where that scatter is too large. Without a streak nothing changes.

        Returns
        -------
        Streaks
            The most conspicuous first.
        """
        with self.timer("run"):
            lines = self.find(exposure)
            exposure.planes = exposure.planes.including(self.config.streaks_mask_plane)
            fraction = self.subtract(exposure, lines) if lines else 0.0
            self.record("streaks", len(lines))
            self.record("masked_fraction", fraction)
            return Streaks.from_lines(lines, exposure.shape, fraction)

    def find(self, exposure: Exposure) -> tuple[Line, ...]:
        """Find streaks without changing the exposure."""
        return find_lines(exposure.image, exposure.mask, self._bad_bits(exposure), self.config.search)

    def subtract(self, exposure: Exposure, lines: tuple[Line, ...]) -> float:
        """Subtract lines, the brightest first; return the fraction of the pixels masked."""
        bad = self._bad_bits(exposure)
        rows = np.s_[:: max(1, exposure.shape[0] // SAMPLED_ROWS)]
        level = quartiles(exposure.image[rows], exposure.mask[rows], bad)
        noise = GAUSSIAN_IQR * level.interquartile_range
        masked = np.zeros(exposure.shape, np.bool_)
        for line in sorted(lines, key=lambda line: -line.brightness):
            masked |= subtract_line(
                exposure,
                line,
                bad,
                noise,
                max_radius=self.config.max_radius,
                max_excess=self.config.max_excess,
            )
        exposure.clear_planes(self.config.streaks_mask_plane)
        exposure.set_plane(self.config.streaks_mask_plane, masked)
        return float(masked.mean())

    def _bad_bits(self, exposure: Exposure) -> int:
        return exposure.present_bits(*self.config.bad_mask_planes)


class MaskStreaksConfig(Configuration):
    """Settings of :class:`MaskStreaks`."""

    minimum_kernel_height: float = Field(default=0.0, ge=0)
    """Smallest height of a cluster's Gaussian, relative to the greatest."""
    abs_minimum_kernel_height: float = Field(default=5.0, ge=0)
    """Smallest height of a cluster's Gaussian."""
    cluster_minimum_size: int = Field(default=50, ge=2)
    """Fewest pixels of a chain of edge pixels, and of a straight part of one."""
    cluster_minimum_deviation: float = Field(default=2.0, gt=0)
    """Deviation from a straight line that is never too large, pixels."""
    delta: float = Field(default=0.2, gt=0)
    """Bin of the votes, pixels and degrees."""
    n_sigma: float = Field(default=2.0, gt=0)
    """Extent of a cluster's Gaussian, standard deviations."""
    n_sigma_mask: float = Field(default=5.0, gt=0)
    """Half width of the mask in units of the profile's σ."""
    rho_bin_size: float = Field(default=40.0, gt=0)
    """Distance within which lines are one streak, pixels."""
    theta_bin_size: float = Field(default=2.0, gt=0)
    """Angle within which lines are one streak, degrees."""
    inv_sigma: float = Field(default=0.1, gt=0)
    """Inverse width that the fit of the profile starts from, 1/pixel."""
    footprint_threshold: float = Field(default=0.01, ge=0)
    """Brightness of the fitted streak down to which pixels are masked, image units."""
    d_chi2_tolerance: float = Field(default=0.1, ge=0)
    """Change of the reduced χ² at which the fit ends."""
    max_fit_iter: int = Field(default=100, ge=1)
    """Steps of the fit."""
    detected_mask_plane: str = "DETECTED"
    """Plane whose outlines are searched."""
    only_mask_detected: bool = True
    """Mask only pixels of that plane."""
    streaks_mask_plane: str = "STREAK"
    """Plane that is set, added when the exposure does not have it."""
    bad_mask_planes: tuple[str, ...] = ("NO_DATA", "INTRP", "BAD", "SAT", "EDGE")
    """Planes whose pixels and neighbours have no outlines and do not count in the fit."""
    max_streak_width: float = Field(default=0.0, ge=0)
    """Largest width of the mask, pixels; 0 for no limit."""
    saturated_detections_dilation: int = Field(default=250, ge=0)
    """Distance from saturated detected pixels without outlines, pixels."""


class MaskStreaks(Task[MaskStreaksConfig]):
    """Mask streaks along the outlines of detected pixels, as the reference does."""

    config_class = MaskStreaksConfig
    default_name = "mask_streaks"

    def run(self, exposure: Exposure) -> Streaks:
        """Find and mask streaks; the image is not changed.

        Parameters
        ----------
        exposure
            After detection. The streak plane is set in its mask, in addition to what is set already.

        Returns
        -------
        Streaks
            Those whose fit converged.

        Raises
        ------
        UnknownMaskPlaneError
            When the plane of detections or a bad plane does not exist.
        """
        config = self.config
        with self.timer("run"):
            detected = (exposure.mask & exposure.bits(config.detected_mask_plane)) != 0
            lines = self.find(exposure, detected)
            streaks = group_lines(lines, config.rho_bin_size, config.theta_bin_size)
            fits = self._fit(exposure, detected, streaks)
            masked = self._masked(exposure, detected, fits)
            exposure.planes = exposure.planes.including(config.streaks_mask_plane)
            exposure.set_plane(config.streaks_mask_plane, masked)
            for name, value in (
                ("original_lines", len(lines)),
                ("line_clusters", len(streaks)),
                ("streaks", len(fits)),
            ):
                self.record(name, value)
            rho, theta, width, brightness = (
                np.array([getattr(fit, name) for fit in fits], np.float64)
                for name in ("rho", "theta", "sigma", "brightness")
            )
            return Streaks(rho, theta, width, brightness, float(masked.mean()))

    def find(self, exposure: Exposure, detected: NDArray[np.bool_]) -> HoughLines:
        """Lines along the outlines of the detected pixels, before grouping."""
        config = self.config
        edges = outline(detected) & ~self._ignored(exposure, detected)
        return find_hough_lines(
            edges,
            min_size=config.cluster_minimum_size,
            min_deviation=config.cluster_minimum_deviation,
            delta=config.delta,
            min_height=config.minimum_kernel_height,
            min_absolute_height=config.abs_minimum_kernel_height,
            n_sigma=config.n_sigma,
        )

    def _ignored(self, exposure: Exposure, detected: NDArray[np.bool_]) -> NDArray[np.bool_]:
        from scipy.ndimage import binary_dilation, distance_transform_edt

        bad = (exposure.mask & exposure.bits(*self.config.bad_mask_planes)) != 0
        ignored = np.asarray(binary_dilation(bad), np.bool_)
        saturated = detected & ((exposure.mask & exposure.bits("SAT")) != 0)
        if saturated.any():
            ignored |= distance_transform_edt(~saturated) <= self.config.saturated_detections_dilation
        return ignored

    def _fit(self, exposure: Exposure, detected: NDArray[np.bool_], streaks: HoughLines) -> list[StreakFit]:
        config = self.config
        usable = (exposure.mask & exposure.bits(*config.bad_mask_planes)) == 0
        limits = FitLimits(
            inverse_sigma=config.inv_sigma,
            tolerance=config.d_chi2_tolerance,
            max_iterations=config.max_fit_iter,
            max_shift=2.0 * config.rho_bin_size,
            max_turn=2.0 * config.theta_bin_size,
        )
        fits = (
            fit_streak(exposure.image, exposure.variance, usable, detected, rho, theta, limits)
            for rho, theta in zip(streaks.rho.tolist(), streaks.theta.tolist(), strict=True)
        )
        return [fit for fit in fits if fit is not None and fit.converged]

    def _masked(
        self, exposure: Exposure, detected: NDArray[np.bool_], fits: list[StreakFit]
    ) -> NDArray[np.bool_]:
        height, width = exposure.shape
        y, x = np.ogrid[:height, :width]
        masked = np.zeros(exposure.shape, np.bool_)
        for fit in fits:
            half = self.config.n_sigma_mask * fit.sigma
            if self.config.max_streak_width > 0:
                half = min(half, 0.5 * self.config.max_streak_width)
            level = abs(fit.brightness) / max(self.config.footprint_threshold, 1e-30)
            if level <= 1.0:
                continue
            half = min(half, fit.sigma * np.sqrt(level ** (1.0 / PROFILE_POWER) - 1.0))
            angle = np.radians(fit.theta)
            distance = (x - 0.5 * width) * np.cos(angle) + (y - 0.5 * height) * np.sin(angle) - fit.rho
            masked |= np.abs(distance) < half
        return masked & detected if self.config.only_mask_detected else masked
