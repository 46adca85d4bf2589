"""ext_photometryKron_KronFlux: flux within an ellipse whose size follows the source's own profile (Kron 1980)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import Array, MeasurementContext, Shapes
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.configuration import Configuration

_REASONS = {
    "edge": "the ellipse leaves the image",
    "bad_shape": "no usable shape",
    "bad_radius": "the Kron radius is not positive",
    "small_radius": "the Kron radius is below that of the PSF",
    "used_minimum_radius": "the configured least radius was used",
    "used_psf_radius": "the Kron radius of the PSF was used",
}


class KronFluxConfig(Configuration):
    """Settings of ext_photometryKron_KronFlux."""

    n_sigma_for_radius: float = Field(default=6.0, gt=0)
    """Ellipse in which the Kron radius is measured, in units of the shape slot's sigma."""
    n_radius_for_flux: float = Field(default=2.5, gt=0)
    """Kron radii at which the flux is measured."""
    enforce_minimum_radius: bool = True
    """Use the least radius where the measured one is smaller or cannot be had."""
    minimum_radius: float = Field(default=0.0, ge=0)
    """Least radius in pixels; 0 for the Kron radius of the PSF."""


class KronFlux(Plugin[KronFluxConfig]):
    """Flux within an ellipse of the shape slot's form and 2.5 Kron radii, pixels cut exactly by the ellipse.

    The Kron radius is the flux-weighted mean elliptical radius; ``radius`` is the geometric mean of its semi-axes. That of
    a Gaussian is sigma sqrt(pi/2). Sums over ellipses are those of sep (Bertin & Arnouts 1996; Barbary 2016). No sky is
    subtracted and masks are ignored; NaN in the ellipse gives NaN.
    """

    name = "ext_photometryKron_KronFlux"
    config_class = KronFluxConfig
    centroid_alias = True
    shape_alias = True

    @property
    def columns(self) -> tuple[Column, ...]:
        """Flux, error, radii and flags."""
        name = self.name
        return (
            Column(f"{name}_instFlux", "<f8", "count", "flux within the Kron ellipse"),
            Column(f"{name}_instFluxErr", "<f8", "count", "standard error of the flux"),
            Column(f"{name}_radius", "<f8", "pixel", "Kron radius"),
            Column(f"{name}_psf_radius", "<f8", "pixel", "Kron radius of the PSF"),
            flag(f"{name}_flag", "the flux failed or is doubtful"),
            *(flag(f"{name}_flag_{reason}", doc) for reason, doc in _REASONS.items()),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill flux, error, radii and flags."""
        catalog, name, config = context.catalog, self.name, self.config
        psf_radius = np.sqrt(0.5 * np.pi) * np.asarray(context.psf_shapes.determinant_radius)
        least = np.full(len(context), config.minimum_radius) if config.minimum_radius > 0 else psf_radius
        shapes, centres = context.shapes(), context.centres()
        found = np.full((len(context), 3), np.nan)
        truncated = np.zeros(len(context), np.bool_)
        for i, ellipse in _ellipses(shapes):
            with context.shown(i):
                found[i], truncated[i] = self._measure(
                    context, float(centres.x[i]), float(centres.y[i]), ellipse, float(least[i])
                )
        radius, flux, variance = found.T
        # What the profile itself gave, before the least radius took its place.
        positive = radius > 0
        enforced = shapes.usable & config.enforce_minimum_radius & ~(radius >= least)
        catalog[f"{name}_instFlux"] = flux
        catalog[f"{name}_instFluxErr"] = np.sqrt(variance)
        catalog[f"{name}_radius"] = np.where(enforced, least, radius)
        catalog[f"{name}_psf_radius"] = psf_radius
        reasons = {
            "edge": truncated,
            "bad_shape": ~shapes.usable,
            "bad_radius": shapes.usable & ~positive,
            "small_radius": positive & (radius < psf_radius),
            "used_minimum_radius": enforced & (config.minimum_radius > 0),
            "used_psf_radius": enforced & (config.minimum_radius == 0),
        }
        for reason, which in reasons.items():
            catalog[f"{name}_flag_{reason}"] |= which
        catalog[f"{name}_flag"] |= centres.flagged | shapes.flagged | truncated | ~np.isfinite(flux)

    def _measure(
        self,
        context: MeasurementContext,
        x: float,
        y: float,
        ellipse: tuple[float, float, float],
        least: float,
    ) -> tuple[tuple[float, float, float], bool]:
        import sep

        image, size = context.exposure.image, float(np.sqrt(ellipse[0] * ellipse[1]))
        place = tuple(np.array([value]) for value in (x, y, *ellipse))
        scale, outside = sep.kron_radius(image, *place, self.config.n_sigma_for_radius)
        truncated, radius = bool(outside[0] & sep.APER_TRUNC), float(scale[0]) * size
        used = least if self.config.enforce_minimum_radius and not radius >= least else radius
        if not used > 0:
            return (radius, np.nan, np.nan), truncated
        reach = self.config.n_radius_for_flux * used / size
        flux, error, outside = sep.sum_ellipse(image, *place, reach, var=context.exposure.variance, subpix=0)
        truncated |= bool(outside[0] & sep.APER_TRUNC)
        return (radius, float(flux[0]), float(error[0]) ** 2), truncated


def _ellipses(shapes: Shapes) -> Iterator[tuple[int, tuple[float, float, float]]]:
    """Semi-axes and angle of each usable shape: the longer, the shorter, radians from x in [-pi/2, pi/2]."""
    half_sum, half_difference = 0.5 * (shapes.xx + shapes.yy), 0.5 * (shapes.xx - shapes.yy)
    root = np.hypot(half_difference, shapes.xy)
    axes: tuple[Array, ...] = (
        np.sqrt(half_sum + root),
        np.sqrt(np.maximum(half_sum - root, 0.0)),
        0.5 * np.arctan2(shapes.xy, half_difference),
    )
    for i in np.flatnonzero(shapes.usable):
        yield int(i), (float(axes[0][i]), float(axes[1][i]), float(axes[2][i]))
