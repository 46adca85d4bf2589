"""Satellite streaks: found before detection and subtracted, or masked as the reference does (deblend-and-streaks.md section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.base import Task
from streamchar.characterize.line_search import GAUSSIAN_IQR, Line, LineSearchConfig, find_lines
from streamchar.characterize.statistics import quartiles
from streamchar.characterize.streak_profile import subtract_line
from streamchar.configuration import Configuration
from streamchar.image import Exposure

Array = NDArray[np.float64]

SAMPLED_ROWS = 64
"""Rows of pixels from which the noise is measured."""


@dataclass(frozen=True, slots=True)
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
            the streak plane is cleared and set where that scatter is too large; untouched (but for the plane) without a streak.

        Returns
        -------
        Streaks
            The most conspicuous first.
        """
        with self.timer("run"):
            lines = self.find(exposure)
            plane = self.config.streaks_mask_plane
            if plane not in exposure.planes:
                exposure.planes = exposure.planes.including(plane)
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
        return exposure.bits(*(name for name in self.config.bad_mask_planes if name in exposure.planes))
