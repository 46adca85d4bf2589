"""Determiner pca: principal components of star images whose weights are polynomials of the position (reference: psf.md section 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.chebyshev import terms
from streamchar.characterize.errors import TooFewPsfStarsError
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.characterize.psf.result import PsfFit
from streamchar.characterize.psf.samples import Array, Flags, Samples, cut_samples
from streamchar.characterize.psf.sizes import OddSize
from streamchar.characterize.statistics import clipped
from streamchar.configuration import Configuration
from streamchar.image import Exposure
from streamchar.kernels import lanczos_resample, psf_draw

_LANCZOS = 5
_FILL_ROUNDS = 10
_FILLED = 10.0
"""Counts by which the gaps of the stamps may still change when they count as filled."""
_LEAST_SCATTER = 1e-4


class PcaConfig(Configuration):
    """Settings of the pca determiner, named as in the reference."""

    n_eigen_components: int = Field(default=4, ge=1, le=20)
    """Principal components; fewer when there are fewer stars."""
    spatial_order: int = Field(default=2, ge=0, le=6)
    """Degree of the components' weights over the exposure; lowered when stars are few."""
    size_cell_x: int = Field(default=256, ge=1)
    """Width of a cell in pixels."""
    size_cell_y: int = Field(default=256, ge=1)
    """Height of a cell in pixels."""
    constant_weight: bool = False
    """Every star counts the same in the components, as in the reference, which spends most of them on the centroid errors
    of faint stars; otherwise as much as its flux."""
    n_star_per_cell: int = Field(default=3, ge=0)
    """Brightest stars of a cell that make the components; 0 for all."""
    n_star_per_cell_spatial_fit: int = Field(default=5, ge=0)
    """Brightest stars of a cell that fix the weights; 0 for all."""
    n_iter_for_psf: int = Field(default=3, ge=1)
    """Rounds of fitting and rejecting."""
    lam: float = Field(default=0.05, ge=0)
    """Variance added for each count of a star's light: the model is not that good."""
    reduced_chi2_for_psf_candidates: float = Field(default=2.0, gt=0)
    """Stars above it are rejected, worst first, a larger part of them in each round."""
    spatial_reject: float = Field(default=3.0, gt=0)
    """Stars whose weights leave the polynomial by more standard deviations are rejected likewise."""
    stamp_size: OddSize = Field(default=41, ge=11)
    """Width of stamps and PSF images in pixels, odd."""
    bad_mask_planes: tuple[str, ...] = ("BAD", "CR", "INTRP", "SAT")
    """Pixels with one of these planes are filled from the other stars."""
    photometric_flux_field: str = "base_PsfFlux_instFlux"
    """Flux column that orders and normalises the stars."""


@dataclass(slots=True)
class _Candidates:
    """Stamps, the cell of each, and which are still in the fit.

    Attributes
    ----------
    samples
        Stamps and what is known of their pixels.
    cell
        int64 (n).
    good
        bool (n): not rejected in this round.
    """

    samples: Samples
    cell: NDArray[np.int64]
    good: Flags

    def brightest(self, per_cell: int) -> NDArray[np.int64]:
        """Numbers of the brightest good stars of each cell; of all good ones for 0."""
        good = np.flatnonzero(self.good)
        if per_cell == 0:
            return good
        order = good[np.lexsort((-self.samples.flux[good], self.cell[good]))]
        first = np.searchsorted(self.cell[order], self.cell[order])
        return np.sort(order[np.arange(len(order)) - first < per_cell])


def fit_pca(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PcaConfig
) -> PsfFit:
    """Fit the model to the stars in rows ``index`` of the catalogue.

    Stamps are used within the circle they hold. Gaps are filled in the stars' own pixels, before they are shifted to the
    middle of theirs, where the reference fills the shifted ones.

    Raises
    ------
    TooFewPsfStarsError
        No usable star.
    """
    stars = _candidates(exposure, catalog, index, config)
    if not stars.good.any():
        raise TooFewPsfStarsError(stars=0, candidates=len(index), needed=1)
    for number in range(config.n_iter_for_psf):
        stars.good[:] = True
        psf = _fit(stars, config)
        share = (number + 1) / config.n_iter_for_psf
        chi2 = _chi2(stars.samples, psf, config.lam)
        _reject(stars, np.where(chi2 > config.reduced_chi2_for_psf_candidates, chi2, 0.0), share)
        for excess in _spatial_excess(stars.samples, psf, config.spatial_reject).T:
            _reject(stars, excess, share)
    psf = _fit(stars, config)
    used = np.flatnonzero(stars.good)
    order = used[np.argsort(stars.samples.index[used])]
    degree = psf.spatial.polynomial.degree
    reasons = ("psf_order_lowered",) if degree < config.spatial_order else ()
    chi2 = _chi2(stars.samples.take(order), psf, config.lam)
    return PsfFit(psf, stars.samples.index[order], chi2, degree, reasons)


def _candidates(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PcaConfig
) -> _Candidates:
    flux_flag = config.photometric_flux_field.removesuffix("_instFlux") + "_flag"
    if flux_flag in catalog:
        index = index[~catalog[flux_flag][index]]
    flux = catalog[config.photometric_flux_field][index].astype(np.float64)
    samples = cut_samples(
        exposure, catalog, index, size=config.stamp_size, flux=flux, bad_planes=config.bad_mask_planes
    )
    columns = exposure.shape[1] // config.size_cell_x + 1
    cell = (samples.y // config.size_cell_y).astype(np.int64) * columns
    cell += (samples.x // config.size_cell_x).astype(np.int64)
    return _Candidates(samples, cell, np.ones(len(samples), np.bool_))


def _reject(stars: _Candidates, badness: Array, share: float) -> None:
    """Reject a share of the stars with positive badness, worst first."""
    worst = np.argsort(-badness)[: int(np.count_nonzero(badness > 0) * share + 0.5)]
    if stars.good[worst].sum() < stars.good.sum():
        stars.good[worst] = False


def _fit(stars: _Candidates, config: PcaConfig) -> PixelBasisPsf:
    samples = stars.samples
    components = _components(samples.take(stars.brightest(config.n_star_per_cell)), config)
    fitted = samples.take(stars.brightest(config.n_star_per_cell_spatial_fit))
    degree = config.spatial_order
    while degree > 0 and terms(degree) > len(fitted):
        degree -= 1
    polynomial = PositionPolynomial.over(fitted.x, fitted.y, degree)
    mixing = _weights(fitted, components, polynomial)
    position = float(fitted.x.mean()), float(fitted.y.mean())
    spatial = SpatialBasis(polynomial, mixing)
    return PixelBasisPsf(components, spatial, 1.0, samples.size, position, _LANCZOS)


def _components(samples: Samples, config: PcaConfig) -> Array:
    """Principal components of the stars: the first of unit sum, the others of sum zero and unit norm, float64 (k, V, V)."""
    stamps = _mirrored(samples)
    components = _principal(_centred(samples, stamps), samples.flux, config)
    for _ in range(_FILL_ROUNDS):
        fits = _shifted(components, samples)
        filled = np.where(
            samples.usable, samples.pixels, np.einsum("nk,knij->nij", _amplitudes(samples, fits), fits)
        )
        change = np.abs(filled - stamps).max(initial=0.0)
        stamps = filled
        components = _principal(_centred(samples, stamps), samples.flux, config)
        if change < _FILLED:
            break
    return components


def _mirrored(samples: Samples) -> Array:
    """Stamps with gaps taken from the other side of the star where that is known."""
    other, known = samples.pixels[:, ::-1, ::-1], samples.usable[:, ::-1, ::-1]
    return np.asarray(np.where(samples.usable, samples.pixels, np.where(known, other, 0.0)))


def _centred(samples: Samples, stamps: Array) -> Array:
    return lanczos_resample(np.ascontiguousarray(stamps), samples.dx, samples.dy, 1.0, samples.size, _LANCZOS)


def _principal(images: Array, flux: Array, config: PcaConfig) -> Array:
    weight = 1.0 / flux if config.constant_weight else np.full(len(flux), 1.0 / flux.mean())
    normalised = (images * weight[:, None, None]).reshape(len(images), -1)
    _, vectors = np.linalg.eigh(normalised @ normalised.T / len(images))
    components = (vectors[:, ::-1][:, : config.n_eigen_components].T @ normalised).reshape(
        -1, *images.shape[1:]
    )
    size = images.shape[1]
    offset = np.arange(size) - size // 2
    radius = np.hypot(offset[:, None], offset)
    inside, rim = radius <= 0.5 * size, (radius <= 0.5 * size) & (radius > 0.5 * size - 2)
    components -= components[:, rim].mean(axis=1)[:, None, None]
    components *= inside
    components[0] /= components[0].sum()
    for component in components[1:]:
        component -= component.sum() * components[0]
        component /= np.sqrt(np.square(component).sum()) or 1.0
    return np.ascontiguousarray(components)


def _shifted(components: Array, samples: Samples) -> Array:
    """Every component at the sub-pixel position of every star: float64 (k, n, V, V)."""
    drawn = [
        psf_draw(
            component[None],
            np.ones((len(samples), 1)),
            samples.dx,
            samples.dy,
            samples.size,
            1.0,
            _LANCZOS,
        )
        for component in components
    ]
    return np.stack(drawn)


def _amplitudes(samples: Samples, fits: Array) -> Array:
    """Unweighted least-squares amplitudes of the shifted components on the usable pixels: float64 (n, k)."""
    known = samples.usable.astype(np.float64)
    normal = np.einsum("knij,lnij,nij->nkl", fits, fits, known, optimize=True)
    right = np.einsum("knij,nij->nk", fits, samples.pixels * known, optimize=True)
    return np.asarray((np.linalg.pinv(normal) @ right[:, :, None])[:, :, 0])


def _weights(samples: Samples, components: Array, polynomial: PositionPolynomial) -> Array:
    """Coefficients of the components' weights in the polynomial, that of the first being 1: float64 (terms, k)."""
    mixing = np.zeros((polynomial.terms, len(components)))
    mixing[0, 0] = 1.0
    fits = _shifted(components, samples)
    # All other components have no flux.
    flux = _amplitudes(samples, fits)[:, 0]
    bright = flux > 0
    if len(components) == 1 or not bright.any():
        return mixing
    basis, known = polynomial.basis(samples.x, samples.y)[bright], samples.usable[bright]
    rest = fits[1:, bright]
    residual = np.where(known, samples.pixels[bright] / flux[bright, None, None] - fits[0, bright], 0.0)
    right = np.einsum("ns,knij,nij->ks", basis, rest, residual, optimize=True)
    products = np.einsum("knij,lnij,nij->nkl", rest, rest, known.astype(np.float64), optimize=True)
    normal = np.einsum("ns,nt,nkl->kslt", basis, basis, products, optimize=True)
    unknowns = right.size
    solution = np.linalg.lstsq(normal.reshape(unknowns, unknowns), right.ravel(), rcond=None)[0]
    mixing[:, 1:] = solution.reshape(right.shape).T
    return mixing


def _chi2(samples: Samples, psf: PixelBasisPsf, lam: float) -> Array:
    """Reduced chi-square of every star with its amplitude fitted: float64 (n)."""
    models = psf.images(samples.x, samples.y).images
    light = np.maximum(samples.pixels, 0.0)
    variance = samples.sky_variance[:, None, None] + (samples.signal_variance[:, None, None] + lam) * light
    weights = np.where(samples.usable, 1.0 / variance, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        amplitude = (weights * models * samples.pixels).sum(axis=(1, 2)) / (weights * models**2).sum(
            axis=(1, 2)
        )
        residual = samples.pixels - amplitude[:, None, None] * models
        count = samples.usable.sum(axis=(1, 2))
        return np.asarray((weights * residual**2).sum(axis=(1, 2)) / (count - 1))


def _spatial_excess(samples: Samples, psf: PixelBasisPsf, limit: float) -> Array:
    """How far the weights of each star leave the polynomial, beyond the limit in standard deviations: float64 (n, k - 1)."""
    amplitudes = _amplitudes(samples, _shifted(psf.components, samples))
    with np.errstate(invalid="ignore", divide="ignore"):
        residuals = (amplitudes / amplitudes[:, :1] - psf.spatial(samples.x, samples.y))[:, 1:]
    excess = np.zeros_like(residuals)
    for k, values in enumerate(residuals.T):
        statistics = clipped(np.ascontiguousarray(values[None], np.float32))
        scatter = max(statistics.standard_deviation, _LEAST_SCATTER)
        deviation = np.abs(values - statistics.mean) / scatter
        excess[:, k] = np.where(deviation > limit, deviation, 0.0)
    return np.nan_to_num(excess)
