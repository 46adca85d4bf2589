"""The small record that tells within seconds how good an exposure is."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from streamchar.messages.base import (
    Count,
    Listed,
    Name,
    Outcome,
    Part,
    ProductMessage,
    Provenance,
    Reason,
    StageTiming,
    finite_values,
    unit,
)

Grade = Literal["green", "yellow", "orange", "red", "unknown"]
"""How an exposure compares with the limits configured for its instrument and band."""


class SummaryStatistics(Part):
    """Summary statistics of the exposure, as the reference defines them; absent when not known.

    Moments are second central moments; T is the trace radius sqrt((Ixx + Iyy)/2), e1 = (Ixx - Iyy)/(Ixx + Iyy),
    e2 = 2 Ixy/(Ixx + Iyy). Scatter is 1.4826 times the median absolute deviation.
    """

    psf_sigma: Annotated[float | None, unit("pixel", ge=0)] = None
    """Determinant radius of the PSF at the centre of the detector."""
    psf_ixx: Annotated[float | None, unit("pixel2")] = None
    """PSF moment Ixx at the centre."""
    psf_iyy: Annotated[float | None, unit("pixel2")] = None
    """PSF moment Iyy at the centre."""
    psf_ixy: Annotated[float | None, unit("pixel2")] = None
    """PSF moment Ixy at the centre."""
    psf_area: Annotated[float | None, unit("pixel2", ge=0)] = None
    """Effective area of the PSF at the centre, (sum K)^2 / sum K^2."""
    psf_trace_radius_delta: Annotated[float | None, unit("pixel")] = None
    """Largest minus smallest trace radius of the PSF over the detector."""
    psf_ap_flux_delta: Annotated[float | None, unit("1")] = None
    """Largest minus smallest fraction of the PSF's flux within max(2 pixels, 3 psf_sigma) over the detector."""
    psf_ap_corr_sigma_scaled_delta: Annotated[float | None, unit("pixel-1")] = None
    """Largest minus smallest aperture correction of the PSF flux over the detector, divided by psf_sigma."""
    n_psf_star: Annotated[Count | None, unit("1")] = None
    """Stars used in the PSF model."""
    psf_star_delta_e1_median: Annotated[float | None, unit("1")] = None
    """Median of e1 of the stars minus e1 of the model."""
    psf_star_delta_e2_median: Annotated[float | None, unit("1")] = None
    """Median of e2 of the stars minus e2 of the model."""
    psf_star_delta_e1_scatter: Annotated[float | None, unit("1", ge=0)] = None
    """Scatter of e1 of the stars minus e1 of the model."""
    psf_star_delta_e2_scatter: Annotated[float | None, unit("1", ge=0)] = None
    """Scatter of e2 of the stars minus e2 of the model."""
    psf_star_delta_size_median: Annotated[float | None, unit("pixel")] = None
    """Median of T of the stars minus T of the model."""
    psf_star_delta_size_scatter: Annotated[float | None, unit("pixel", ge=0)] = None
    """Scatter of T of the stars minus T of the model."""
    psf_star_scaled_delta_size_scatter: Annotated[float | None, unit("1", ge=0)] = None
    """psf_star_delta_size_scatter divided by the median T of the stars."""
    star_e_median: Annotated[float | None, unit("1", ge=0)] = None
    """Median ellipticity sqrt(e1^2 + e2^2) of the stars."""
    star_un_normalized_e_median: Annotated[float | None, unit("pixel2", ge=0)] = None
    """Median of sqrt((Ixx - Iyy)^2 + (2 Ixy)^2) of the stars."""
    star_coma1_median: Annotated[float | None, unit("1")] = None
    """Median of the standardised moments M30 + M12 of the stars."""
    star_coma2_median: Annotated[float | None, unit("1")] = None
    """Median of M21 + M03 of the stars."""
    star_trefoil1_median: Annotated[float | None, unit("1")] = None
    """Median of M30 - 3 M12 of the stars."""
    star_trefoil2_median: Annotated[float | None, unit("1")] = None
    """Median of 3 M21 - M03 of the stars."""
    star_kurtosis_median: Annotated[float | None, unit("1")] = None
    """Median of M40 + 2 M22 + M04 of the stars."""
    star_e41_median: Annotated[float | None, unit("1")] = None
    """Median of M40 - M04 of the stars."""
    star_e42_median: Annotated[float | None, unit("1")] = None
    """Median of 2 (M31 + M13) of the stars."""
    max_dist_to_nearest_psf: Annotated[float | None, unit("pixel", ge=0)] = None
    """Largest distance of a good pixel to the nearest PSF star."""
    psf_te1_e1: Annotated[float | None, unit("1")] = None
    """Two-point correlation of star-minus-model e1 in one bin from 1e-6 to 1 arcmin (visit level)."""
    psf_te1_e2: Annotated[float | None, unit("1")] = None
    """Two-point correlation of star-minus-model e2 in one bin from 1e-6 to 1 arcmin (visit level)."""
    psf_te1_ex: Annotated[float | None, unit("1")] = None
    """Cross-correlation of star-minus-model e1 and e2 in one bin from 1e-6 to 1 arcmin (visit level)."""
    psf_te2_e1: Annotated[float | None, unit("1")] = None
    """Two-point correlation of star-minus-model e1 in one bin from 5 to 100 arcmin (visit level)."""
    psf_te2_e2: Annotated[float | None, unit("1")] = None
    """Two-point correlation of star-minus-model e2 in one bin from 5 to 100 arcmin (visit level)."""
    psf_te2_ex: Annotated[float | None, unit("1")] = None
    """Cross-correlation of star-minus-model e1 and e2 in one bin from 5 to 100 arcmin (visit level)."""
    psf_te3_e1: Annotated[float | None, unit("1")] = None
    """Two-point correlation of star-minus-model e1 from 1e-6 to 5 arcmin, median over detectors (visit level)."""
    psf_te3_e2: Annotated[float | None, unit("1")] = None
    """Two-point correlation of star-minus-model e2 from 1e-6 to 5 arcmin, median over detectors (visit level)."""
    psf_te3_ex: Annotated[float | None, unit("1")] = None
    """Cross-correlation of e1 and e2 from 1e-6 to 5 arcmin, median over detectors (visit level)."""
    psf_te4_e1: Annotated[float | None, unit("1")] = None
    """Two-point correlation of star-minus-model e1 from 5 to 20 arcmin, median over detectors (visit level)."""
    psf_te4_e2: Annotated[float | None, unit("1")] = None
    """Two-point correlation of star-minus-model e2 from 5 to 20 arcmin, median over detectors (visit level)."""
    psf_te4_ex: Annotated[float | None, unit("1")] = None
    """Cross-correlation of e1 and e2 from 5 to 20 arcmin, median over detectors (visit level)."""
    ra_corners: Annotated[tuple[float, float, float, float] | None, unit("deg", strict=False)] = None
    """Right ascension of the corners of the detector, counter-clockwise from the lower left."""
    dec_corners: Annotated[tuple[float, float, float, float] | None, unit("deg", strict=False)] = None
    """Declination of the corners of the detector, counter-clockwise from the lower left."""
    ra: Annotated[float | None, unit("deg", ge=0, lt=360)] = None
    """Right ascension of the centre of the detector."""
    dec: Annotated[float | None, unit("deg", ge=-90, le=90)] = None
    """Declination of the centre of the detector."""
    pixel_scale: Annotated[float | None, unit("arcsec pixel-1", gt=0)] = None
    """Pixel scale at the centre."""
    zenith_distance: Annotated[float | None, unit("deg", ge=0, le=180)] = None
    """Zenith distance of the centre at the middle of the exposure."""
    exp_time: Annotated[float | None, unit("s", ge=0)] = None
    """Exposure time."""
    zero_point: Annotated[float | None, unit("mag")] = None
    """Magnitude of one image unit over the whole exposure."""
    sky_bg: Annotated[float | None, unit("adu")] = None
    """Sky level in image units: sum over the background models of the median of their bins."""
    sky_noise: Annotated[float | None, unit("adu", ge=0)] = None
    """Clipped standard deviation of the background-subtracted image, in image units."""
    mean_var: Annotated[float | None, unit("adu2", ge=0)] = None
    """Clipped mean of the variance, in image units squared."""
    mag_lim: Annotated[float | None, unit("mag")] = None
    """Magnitude of a point source with a signal-to-noise ratio of 5."""
    eff_time: Annotated[float | None, unit("s", ge=0)] = None
    """Exposure time that reaches mag_lim under fiducial conditions."""
    eff_time_psf_sigma_scale: Annotated[float | None, unit("1", ge=0)] = None
    """Factor of the effective exposure time from the PSF width."""
    eff_time_sky_bg_scale: Annotated[float | None, unit("1")] = None
    """Factor of the effective exposure time from the sky level."""
    eff_time_zero_point_scale: Annotated[float | None, unit("1", ge=0)] = None
    """Factor of the effective exposure time from the zero point."""
    psf_adaptive_threshold_value: Annotated[float | None, unit("1")] = None
    """Detection threshold chosen for the PSF stars, in standard deviations."""
    psf_adaptive_include_threshold_multiplier: Annotated[float | None, unit("1")] = None
    """Multiple of the detection threshold a PSF star's peak must exceed."""
    ref_cat_source_density: Annotated[float | None, unit("deg-2", ge=0)] = None
    """Density of reference sources."""
    astrom_offset_mean: Annotated[float | None, unit("arcsec", ge=0)] = None
    """Mean offset of matched sources from the reference."""
    astrom_offset_std: Annotated[float | None, unit("arcsec", ge=0)] = None
    """Standard deviation of the offsets of matched sources from the reference."""

    @classmethod
    def from_values(cls, values: Mapping[str, float | int | tuple[float, ...] | None]) -> Self:
        """Make the record from measured values; ``None``, NaN and infinities become absent.

        Parameters
        ----------
        values
            By field name; names that are not statistics are an error.
        """
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            raise KeyError(f"not summary statistics: {', '.join(unknown)}")
        scalars = {name: value for name, value in values.items() if not isinstance(value, tuple)}
        corners = {
            name: value
            for name, value in values.items()
            if isinstance(value, tuple)
            and len(finite_values(dict(zip("0123", value, strict=False)))) == len(value)
        }
        return cls.model_validate({**finite_values(scalars), **corners})


class PsfGrid(Part):
    """Moments of the PSF model on a grid over the detector. Points where they are not known are left out.

    All lists have the same length.
    """

    x: Annotated[Listed[float], unit("pixel")]
    """Column of each point."""
    y: Annotated[Listed[float], unit("pixel")]
    """Row of each point."""
    ixx: Annotated[Listed[float], unit("pixel2")]
    """Moment Ixx at each point."""
    iyy: Annotated[Listed[float], unit("pixel2")]
    """Moment Iyy at each point."""
    ixy: Annotated[Listed[float], unit("pixel2")]
    """Moment Ixy at each point."""

    @model_validator(mode="after")
    def _same_lengths(self) -> Self:
        if len({len(self.x), len(self.y), len(self.ixx), len(self.iyy), len(self.ixy)}) != 1:
            raise ValueError("the lists of the PSF grid differ in length")
        return self


class ReservedStarResiduals(Part):
    """Stars minus model for stars that were withheld from the fit: an honest measure of the model."""

    n_stars: Annotated[Count, unit("1")]
    """Reserved stars measured."""
    size_median: Annotated[float | None, unit("1")] = None
    """Median of (T_star - T_model)/T_model."""
    size_scatter: Annotated[float | None, unit("1", ge=0)] = None
    """Scatter of (T_star - T_model)/T_model."""
    e1_median: Annotated[float | None, unit("1")] = None
    """Median of e1 of the stars minus e1 of the model."""
    e1_scatter: Annotated[float | None, unit("1", ge=0)] = None
    """Scatter of e1 of the stars minus e1 of the model."""
    e2_median: Annotated[float | None, unit("1")] = None
    """Median of e2 of the stars minus e2 of the model."""
    e2_scatter: Annotated[float | None, unit("1", ge=0)] = None
    """Scatter of e2 of the stars minus e2 of the model."""
    chi2_median: Annotated[float | None, unit("1", ge=0)] = None
    """Median reduced chi-square of the stars' pixels against the model."""


class PsfQuality(ProductMessage):
    """How good one exposure of one detector is. One record, a few kilobytes, published within seconds."""

    topic_type: ClassVar[str] = "psf-quality"

    message_type: Literal["psf-quality"] = "psf-quality"
    """Which message this is; also in the header ``ce_type``."""

    outcome: Outcome
    """Whether the characterization succeeded, or succeeded with reservations (degraded)."""
    reasons: Listed[Reason] = ()
    """Why the outcome is not plain success."""
    exposure_time: Annotated[float | None, unit("s", ge=0)] = None
    """Open-shutter time."""
    mid_time: Annotated[float | None, unit("d")] = None
    """Middle of the exposure as Modified Julian Date."""
    width: Annotated[Count | None, unit("pixel")] = None
    """Width of the image."""
    height: Annotated[Count | None, unit("pixel")] = None
    """Height of the image."""
    image_unit: Annotated[str | None, Field(max_length=64)] = None
    """Unit of the image in FITS notation; where a statistic is given in adu, read this unit."""

    psf_fwhm: Annotated[float | None, unit("pixel", ge=0)] = None
    """Effective full width at half maximum of the PSF at the centre of the detector, from a fit of two Gaussians."""
    seeing: Annotated[float | None, unit("arcsec", ge=0)] = None
    """psf_fwhm on the sky; absent without celestial coordinates."""
    psf_e1: Annotated[float | None, unit("1", ge=-1, le=1)] = None
    """Ellipticity of the PSF at the centre along rows and columns."""
    psf_e2: Annotated[float | None, unit("1", ge=-1, le=1)] = None
    """Ellipticity of the PSF at the centre along the diagonals."""
    psf_fwhm_spread: Annotated[float | None, unit("pixel", ge=0)] = None
    """Standard deviation of the PSF's full width at half maximum over the detector."""
    psf_kind: Name | None = None
    """Which PSF model was fitted, for example ``psfex``."""
    psf_spatial_order: Annotated[Count | None, unit("1")] = None
    """Polynomial order with which the PSF varies over the detector."""
    psf_chi2: Annotated[float | None, unit("1", ge=0)] = None
    """Reduced chi-square of the PSF fit."""
    n_psf_candidates: Annotated[Count | None, unit("1")] = None
    """Stars chosen by the star selector."""
    n_psf_used: Annotated[Count | None, unit("1")] = None
    """Stars the PSF model was fitted to."""
    n_psf_reserved: Annotated[Count | None, unit("1")] = None
    """Stars withheld from the fit."""
    n_sources: Annotated[Count | None, unit("1")] = None
    """Sources in the catalogue."""
    n_cosmic_rays: Annotated[Count | None, unit("1")] = None
    """Cosmic rays found."""
    cosmic_ray_fraction: Annotated[float | None, unit("1", ge=0, le=1)] = None
    """Fraction of pixels hit by cosmic rays."""
    star_cosmic_ray_fraction: Annotated[float | None, unit("1", ge=0, le=1)] = None
    """Fraction of bright point-like peaks touched by cosmic-ray pixels: high when the finder eats stars."""
    bad_pixel_fraction: Annotated[float | None, unit("1", ge=0, le=1)] = None
    """Fraction of pixels that are bad, saturated or without data."""
    aperture_correction: Annotated[float | None, unit("1")] = None
    """Median aperture correction of the PSF flux."""
    aperture_correction_scatter: Annotated[float | None, unit("1", ge=0)] = None
    """Scatter of the stars about the aperture correction of the PSF flux."""

    statistics: SummaryStatistics = SummaryStatistics()
    """Summary statistics as the reference defines them."""
    psf_grid: PsfGrid | None = None
    """Moments of the PSF model over the detector; absent without a PSF model."""
    reserved_stars: ReservedStarResiduals | None = None
    """Residuals of the reserved stars; absent when none was reserved."""
    grade: Grade = "unknown"
    """Quality grade."""
    grade_reasons: Listed[Reason] = ()
    """Which limits were exceeded."""
    timings: Listed[StageTiming] = ()
    """Time spent by stage."""
    provenance: Provenance
    """What made this record."""
