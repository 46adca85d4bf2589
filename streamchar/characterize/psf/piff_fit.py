"""Determiner piff: the PSF fitted by Piff, drawn by us (reference: psf.md section 6; Jarvis et al. 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.chebyshev import terms
from streamchar.characterize.errors import TooFewPsfStarsError
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.characterize.psf.result import PsfFit
from streamchar.characterize.psf.samples import Array, Samples, cut_samples
from streamchar.characterize.psf.sizes import OddSize
from streamchar.configuration import Configuration
from streamchar.errors import MissingPackageError
from streamchar.frozen import frozen
from streamchar.image import Exposure


class PiffConfig(Configuration):
    """Settings of the piff determiner, named as in the reference. It needs ``pip install 'streamchar[piff]'``."""

    spatial_order: int = Field(default=2, ge=0, le=6)
    """Degree of the polynomials over the exposure; lowered when stars are few."""
    model_size: OddSize = Field(default=25, ge=5)
    """Width of the model in its own pixels, odd."""
    sampling_size: float = Field(default=1.0, gt=0)
    """Width of a pixel of the model in pixels."""
    stamp_size: OddSize = Field(default=25, ge=5)
    """Width of stamps and PSF images in pixels, odd."""
    interpolant_order: int = Field(default=11, ge=2, le=20)
    """Order of the Lanczos interpolation of the model."""
    outlier_n_sigma: float = Field(default=4.0, gt=0)
    """Stars with a chi-square less probable than so many standard deviations are removed."""
    outlier_max_remove: float = Field(default=0.05, ge=0, le=1)
    """Largest fraction of the stars removed in an iteration."""
    max_snr: float = Field(default=200.0, gt=0)
    """Weights of brighter stars are lowered to this signal to noise."""
    zero_weight_mask_bits: tuple[str, ...] = ("BAD", "CR", "INTRP", "SAT", "SUSPECT", "NO_DATA")
    """Pixels with one of these planes have no weight."""
    minimum_unmasked_fraction: float = Field(default=0.5, ge=0, le=1)
    """Stars with a smaller fraction of usable pixels are dropped."""
    piff_max_iter: int = Field(default=15, ge=1)
    """Largest number of iterations."""
    piff_pixel_grid_fit_center: bool = True
    """Fit the stars' centres too."""
    photometric_flux_field: str = "base_PsfFlux_instFlux"
    """Flux column that the fit starts from."""


@frozen
class _Packages:
    """The optional packages this needs."""

    galsim: Any
    piff: Any

    @classmethod
    def load(cls) -> _Packages:
        try:
            import galsim
            import piff
        except ImportError as error:
            raise MissingPackageError(what="the determiner piff", package=error.name, extra="piff") from error
        return cls(galsim, piff)


def fit_piff(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PiffConfig
) -> PsfFit:
    """Fit Piff's pixel grid with polynomial interpolation to the stars in rows ``index`` of the catalogue.

    The solution is taken over exactly, as component images times monomials of the position; it is drawn by our own Lanczos
    interpolation of the same order.

    Raises
    ------
    MissingPackageError
        When Piff is not installed.
    TooFewPsfStarsError
        No usable star.
    """
    packages = _Packages.load()
    flux = catalog[config.photometric_flux_field][index].astype(np.float64)
    samples = cut_samples(
        exposure, catalog, index, size=config.stamp_size, flux=flux, bad_planes=config.zero_weight_mask_bits
    )
    # Stamps count within the circle they hold.
    share = samples.usable.mean(axis=(1, 2)) / (np.pi / 4)
    samples = samples.take(share >= config.minimum_unmasked_fraction)
    if len(samples) == 0:
        raise TooFewPsfStarsError(stars=0, candidates=len(index), needed=1)
    degree = config.spatial_order
    while degree > 0 and terms(degree) > len(samples):
        degree -= 1
    psf = _solve(packages, samples, degree, config)
    used = np.array([not star.is_flagged for star in psf.stars])
    order = np.argsort(samples.index[used])
    chi2 = np.array([star.fit.chisq / max(star.fit.dof, 1) for star in psf.stars])[used]
    reasons = ("psf_order_lowered",) if degree < config.spatial_order else ()
    model = _model(packages, psf, samples.take(used), degree, config)
    return PsfFit(model, samples.index[used][order], chi2[order], degree, reasons)


def _solve(packages: _Packages, samples: Samples, degree: int, config: PiffConfig) -> Any:
    piff, galsim = packages.piff, packages.galsim
    wcs = galsim.PixelScale(1.0)
    weights = _weights(samples, config.max_snr)
    stars = [_star(packages, samples, weights, i, wcs) for i in range(len(samples))]
    psf = piff.SimplePSF(
        piff.PixelGrid(
            scale=config.sampling_size,
            size=config.model_size,
            interp=galsim.Lanczos(config.interpolant_order),
            centered=config.piff_pixel_grid_fit_center,
        ),
        piff.BasisPolynomial(order=degree, keys=("x", "y")),
        outliers=[piff.ChisqOutliers(nsigma=config.outlier_n_sigma, max_remove=config.outlier_max_remove)],
        max_iter=config.piff_max_iter,
    )
    psf.fit(stars, {0: wcs}, None)
    return psf


def _weights(samples: Samples, max_snr: float) -> Array:
    """Inverse sky variance of usable pixels, lowered for bright stars: float64 (n, V, V)."""
    weights = samples.usable / samples.sky_variance[:, None, None]
    signal = (weights * samples.pixels**2).sum(axis=(1, 2))
    count = samples.usable.sum(axis=(1, 2))
    ratio = np.maximum(signal - count, 0.0) / np.sqrt(signal)
    weights *= np.minimum(1.0, (max_snr / np.maximum(ratio, 1.0)) ** 2)[:, None, None]
    return np.asarray(weights)


def _star(packages: _Packages, samples: Samples, weights: Array, i: int, wcs: Any) -> Any:
    galsim, piff, half = packages.galsim, packages.piff, samples.size // 2
    x0, y0 = (round(float(v[i] - d[i])) - half for v, d in ((samples.x, samples.dx), (samples.y, samples.dy)))
    image, weight = (
        galsim.Image(np.ascontiguousarray(values), xmin=x0, ymin=y0, wcs=wcs)
        for values in (samples.pixels[i], weights[i])
    )
    position = galsim.PositionD(float(samples.x[i]), float(samples.y[i]))
    return piff.Star(piff.StarData(image, position, weight=weight), None)


def _model(packages: _Packages, psf: Any, used: Samples, degree: int, config: PiffConfig) -> PixelBasisPsf:
    """The same model as components times monomials: the grid's values at enough places fix their polynomials."""
    polynomial = PositionPolynomial.over(used.x, used.y, degree)
    nodes = 0.5 * np.cos(np.pi * (np.arange(2 * degree + 1) + 0.5) / (2 * degree + 1))
    u, v = (axis.ravel() for axis in np.meshgrid(nodes, nodes))
    x, y = polynomial.x_offset + u * polynomial.x_scale, polynomial.y_offset + v * polynomial.y_scale
    targets = [
        packages.piff.Star.makeTarget(x=a, y=b, stamp_size=config.stamp_size)
        for a, b in zip(x, y, strict=True)
    ]
    values = np.array([star.fit.params for star in psf.interp.interpolateList(targets)])
    coefficients = np.linalg.lstsq(polynomial.basis(x, y), values, rcond=None)[0]
    components = np.ascontiguousarray(coefficients.reshape(-1, config.model_size, config.model_size))
    components /= components[0].sum()
    return PixelBasisPsf(
        components,
        SpatialBasis.monomials(polynomial),
        config.sampling_size,
        config.stamp_size,
        (float(used.x.mean()), float(used.y.mean())),
        config.interpolant_order,
    )
