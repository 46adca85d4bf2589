"""base_SdssShape: adaptive moments about a fixed centre, with their errors (reference: measurement.md section 5)."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import Array, MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.configuration import Configuration
from streamchar.kernels import sdss_shape_scene

UNWEIGHTED, UNWEIGHTED_BAD, SHIFT, MAX_ITER = 1, 2, 4, 8
"""Bits of the kernel."""


class SdssShapeConfig(Configuration):
    """Settings of base_SdssShape."""

    background: float = 0.0
    """Subtracted from the pixels."""
    max_iter: int = Field(default=100, ge=1)
    """Rounds of the fit."""
    max_shift: float = Field(default=2.0, ge=2, le=10)
    """Largest distance of the weighted centroid from the start along an axis, in pixels."""
    tol1: float = Field(default=1e-5, gt=0)
    """Convergence of the ellipticity."""
    tol2: float = Field(default=1e-4, gt=0)
    """Convergence of the size."""
    do_measure_psf: bool = True
    """Store the moments of the PSF too."""


class SdssShape(Plugin[SdssShapeConfig]):
    """Moments of the elliptical Gaussian weight that matches the source, about the centroid.

    A fit that does not converge falls back to unweighted moments, with flags. NaN pixels under the weight give NaN.
    """

    name = "base_SdssShape"
    order = 1.0
    config_class = SdssShapeConfig
    centroid_alias = True

    @property
    def columns(self) -> tuple[Column, ...]:
        """Moments, centroid, flux, their errors, the PSF's moments, flags."""
        name = self.name
        axes = (("xx", "along x"), ("yy", "along y"), ("xy", "mixed"))
        psf = [
            Column(f"{name}_psf_{axis}", "<f8", "pixel^2", f"second moment of the PSF, {doc}")
            for axis, doc in axes
        ]
        return (
            *(
                Column(f"{name}_{axis}", "<f8", "pixel^2", f"adaptive second moment, {doc}")
                for axis, doc in axes
            ),
            *(
                Column(f"{name}_{axis}Err", "<f4", "pixel^2", f"standard error of the moment, {doc}")
                for axis, doc in axes
            ),
            Column(f"{name}_x", "<f8", "pixel", "x of the weighted centroid"),
            Column(f"{name}_y", "<f8", "pixel", "y of the weighted centroid"),
            Column(f"{name}_instFlux", "<f8", "count", "flux of the matched Gaussian"),
            Column(f"{name}_instFluxErr", "<f8", "count", "standard error of that flux"),
            *(psf if self.config.do_measure_psf else ()),
            flag(f"{name}_flag", "the moments failed or are doubtful"),
            flag(f"{name}_flag_unweightedBad", "the unweighted moments failed too"),
            flag(f"{name}_flag_unweighted", "the adaptive fit failed: the moments are unweighted"),
            flag(f"{name}_flag_shift", "the weighted centroid moved too far"),
            flag(f"{name}_flag_maxIter", "the fit took too many rounds"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill moments, flux, errors and flags."""
        catalog, centres = context.catalog, context.centres()
        xx, yy, xy, x, y, amplitude, bits = sdss_shape_scene(
            context.scene,
            np.ascontiguousarray(centres.x),
            np.ascontiguousarray(centres.y),
            context.negative(),
            max_iter=self.config.max_iter,
            max_shift=self.config.max_shift,
            tol1=self.config.tol1,
            tol2=self.config.tol2,
            background=self.config.background,
        )
        variance = _variance_at(context, centres.x, centres.y)
        errors = moment_errors(amplitude, xx, yy, xy, variance)
        area = 2.0 * np.pi * np.sqrt(xx * yy - xy * xy)
        columns = {"xx": xx, "yy": yy, "xy": xy, "x": x, "y": y, "instFlux": area * amplitude}
        columns |= {
            "instFluxErr": area * errors[:, 0],
            "xxErr": errors[:, 1],
            "yyErr": errors[:, 2],
            "xyErr": errors[:, 3],
        }
        for suffix, column in columns.items():
            catalog[f"{self.name}_{suffix}"] = column
        if self.config.do_measure_psf:
            moments = context.templates.centred.shapes(*context.start_pixels)
            for axis in ("xx", "yy", "xy"):
                catalog[f"{self.name}_psf_{axis}"] = getattr(moments, axis)
        failed = ~np.isfinite(xx + yy + xy) | ((bits & (UNWEIGHTED | UNWEIGHTED_BAD | SHIFT)) != 0)
        catalog[f"{self.name}_flag"] |= failed | centres.flagged
        for suffix, bit in (
            ("unweightedBad", UNWEIGHTED_BAD),
            ("unweighted", UNWEIGHTED),
            ("shift", SHIFT),
            ("maxIter", MAX_ITER),
        ):
            catalog[f"{self.name}_flag_{suffix}"] |= (bits & bit) != 0


def moment_errors(amplitude: Array, xx: Array, yy: Array, xy: Array, variance: Array) -> Array:
    """Standard errors of a fitted Gaussian on a constant background.

    Parameters
    ----------
    amplitude, xx, yy, xy
        float64 (n): central intensity and moments.
    variance
        float64 (n): background variance of a pixel.

    Returns
    -------
    errors
        float64 (n, 4) of amplitude, xx, yy, xy; NaN for unusable input.
    """
    det = xx * yy - xy * xy
    usable = (det > 0) & (variance > 0) & np.isfinite(amplitude) & (amplitude != 0)
    a, p, q, r, d, v = (np.where(usable, value, 1.0) for value in (amplitude, xx, yy, xy, det, variance))
    p, q, r = np.where(usable, p, 1.0), np.where(usable, q, 1.0), np.where(usable, r, 0.0)
    f = np.pi * np.sqrt(d) / v
    g, h = 3.0 * f * a * a / (16.0 * d * d), f * a / (4.0 * d)
    fisher = np.empty((len(a), 4, 4))
    fisher[:, 0, 0] = f
    fisher[:, 0, 1] = fisher[:, 1, 0] = h * q
    fisher[:, 0, 2] = fisher[:, 2, 0] = h * p
    fisher[:, 0, 3] = fisher[:, 3, 0] = -2.0 * h * r
    fisher[:, 1, 1] = g * q * q
    fisher[:, 2, 2] = g * p * p
    fisher[:, 3, 3] = 4.0 * g * (r * r + d / 3.0)
    fisher[:, 1, 2] = fisher[:, 2, 1] = fisher[:, 3, 3] / 4.0
    fisher[:, 1, 3] = fisher[:, 3, 1] = -2.0 * g * q * r
    fisher[:, 2, 3] = fisher[:, 3, 2] = -2.0 * g * p * r
    covariance = np.linalg.inv(fisher)
    errors = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return np.where(usable[:, None], errors, np.nan)


def _variance_at(context: MeasurementContext, x: Array, y: Array) -> Array:
    height, width = context.exposure.shape
    column, row = np.floor(x + 0.5), np.floor(y + 0.5)
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    found = np.full(len(x), np.nan)
    found[inside] = context.exposure.variance[row[inside].astype(np.intp), column[inside].astype(np.intp)]
    return found
