"""base_SkyCoord: sky positions of the centroids, with errors (reference: measurement.md section 11)."""

from __future__ import annotations

import numpy as np

from streamchar.characterize.catalog import Column
from streamchar.characterize.measurement.context import MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin, PluginConfig

STEP = 0.5
"""Half the step of the numerical derivatives of the coordinates, in pixels."""


class SkyCoord(Plugin[PluginConfig]):
    """Coordinates of the centroid slot, and its errors carried to the sky by the local derivatives.

    Errors are lengths on the sky (right ascension times cos declination). Without celestial coordinates, or where the
    centroid is NaN, everything is NaN; nothing is flagged. ``coord_ra`` and ``coord_dec`` are the catalogue's own.
    """

    name = "base_SkyCoord"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Errors of the coordinates."""
        return (
            Column("coord_raErr", "<f4", "rad", "standard error along right ascension, on the sky"),
            Column("coord_decErr", "<f4", "rad", "standard error along declination"),
            Column("coord_ra_dec_Cov", "<f4", "rad^2", "covariance of the two, on the sky"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill coordinates and errors."""
        sky, catalog = context.exposure.sky, context.catalog
        if sky is None:
            return
        x, y = (catalog[f"{self.slots.centroid}_{axis}"] for axis in "xy")
        steps = np.array([[0, 0], [STEP, 0], [-STEP, 0], [0, STEP], [0, -STEP]])
        positions = sky.to_sky(np.add.outer(steps[:, 0], x), np.add.outer(steps[:, 1], y))
        ra, dec = map(np.radians, positions)
        if "coord_ra" in catalog:
            catalog["coord_ra"], catalog["coord_dec"] = ra[0], dec[0]
        prefix = self.slots.centroid
        if f"{prefix}_xErr" not in catalog:
            return
        ra_x, ra_y = (_turn(ra[k] - ra[k + 1]) * np.cos(dec[0]) / (2 * STEP) for k in (1, 3))
        dec_x, dec_y = ((dec[k] - dec[k + 1]) / (2 * STEP) for k in (1, 3))
        x2, y2 = (catalog[f"{prefix}_{axis}Err"].astype(np.float64) ** 2 for axis in "xy")
        catalog["coord_raErr"] = np.sqrt(ra_x**2 * x2 + ra_y**2 * y2)
        catalog["coord_decErr"] = np.sqrt(dec_x**2 * x2 + dec_y**2 * y2)
        catalog["coord_ra_dec_Cov"] = ra_x * dec_x * x2 + ra_y * dec_y * y2


def _turn(
    angle: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return (angle + np.pi) % (2 * np.pi) - np.pi
