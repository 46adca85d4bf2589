"""Settings of the pixel_basis determiner."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamchar.characterize.psf.sizes import OddSize
from streamchar.configuration import Configuration


class PixelBasisConfig(Configuration):
    """Settings of the pixel_basis determiner."""

    stamp_size: OddSize = Field(default=31, ge=11)
    """Least width of stamps and PSF images in pixels, odd."""
    stamp_fwhm: float = Field(default=7.0, gt=0)
    """Their width in full widths at half maximum, where that is more and at most ``max_stamp_size``."""
    max_stamp_size: int = Field(default=101, ge=11)
    """Largest width of stamps in pixels."""
    samples_per_fwhm: float = Field(default=3.8, ge=2)
    """Super-pixels per full width at half maximum in the fit: enough for the PSF's band, no more, since finer ones
    only carry noise."""
    published_samples_per_fwhm: float = Field(default=7.5, ge=2)
    """The same of the published model, whose super-pixels are a whole fraction of a pixel: its shorter interpolation
    kernel needs a finer grid."""
    lanczos: int = Field(default=4, ge=2, le=11)
    """Order of the published model's interpolation; 4 is what PSFEx files are read with."""
    spatial_order: int = Field(default=4, ge=0, le=8)
    """Degree of the spatial polynomial, or the largest one cross-validation may choose."""
    order_selection: Literal["cross_validation", "fixed"] = "cross_validation"
    """Whether the degree is chosen by how well it predicts stars left out, or is ``spatial_order``."""
    stars_per_term: float = Field(default=1.8, ge=1)
    """Stars needed for each spatial term."""
    min_stars: int = Field(default=3, ge=1)
    """Stars needed for a constant pixel model."""
    bad_mask_planes: tuple[str, ...] = ("BAD", "SAT", "INTRP", "CR", "NO_DATA", "STREAK", "SUSPECT")
    """Pixels carrying one of them are left out."""
    photometric_flux_field: str = "base_PsfFlux_instFlux"
    """Flux column to start from."""
    reject_flagged_centroids: bool = True
    """Leave stars with a flagged centroid out."""
    accuracy: float = Field(default=0.001, ge=0, lt=1)
    """Relative error of the model added to the pixel noise: bounds the weight of the brightest stars."""
    core_radius: float = Field(default=2.5, gt=0)
    """Radius in FWHM within which the PSF may vary over the field; the wings beyond are the same everywhere."""
    information: float = Field(default=0.96, gt=0, le=1)
    """Of the stars only the brightest are fitted that together hold this part of what all tell."""
    max_stars: int = Field(default=600, ge=1)
    """At most so many, and a few in every part of the field."""
    rounds: int = Field(default=3, ge=1)
    """Fits, each followed by a refit of fluxes and positions and by rejection."""
    iterations: int = Field(default=4, ge=2)
    """Conjugate-gradient steps a round when stars are many; up to 40 when they are few, where steps are cheap and
    the brightest stars need them."""
    unlike_stretch: float = Field(default=3.0, gt=0)
    """Relative size and ellipticity are expected to change as by a stretch of the mean image. By how much the relative change
    of a super-pixel may depart from that, per unit of either: half of the change itself (``prior``)."""
    prior: float = Field(default=6.0, gt=0)
    """Expected relative change of a super-pixel per unit of relative size or ellipticity, of which half the square is that of
    second order; shrinks what is noise."""
    departure: float = Field(default=0.06, gt=0)
    """Expected relative change that follows neither: where the stars tell of them they are fitted all the same."""
    neighbours: int = Field(default=3, ge=0)
    """At most so many undetected sources are found beside a star in each round, and subtracted."""
    n_sigma_neighbour: float = Field(default=3.0, gt=0)
    """Their least signal to noise."""
    neighbour_tolerance: float = Field(default=0.02, ge=0, lt=1)
    """Relative error of the model allowed for when they are looked for."""
    n_sigma_pixel: float = Field(default=6.0, gt=0)
    """Pixels farther from the model, in standard deviations, are left out."""
    n_sigma_star: float = Field(default=5.0, gt=0)
    """Stars whose size or ellipticity departs from its neighbours' by more standard deviations are left out."""
    n_sigma_chi2: float = Field(default=5.0, gt=0)
    """Stars whose chi-square exceeds the median by more robust standard deviations are left out."""
