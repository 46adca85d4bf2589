"""Summary statistics of one exposure: PSF, stars, background, noise, coordinates (reference: summary-stats.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.background import BackgroundList
from streamchar.characterize.base import Task
from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.cosmic_rays import CosmicRays
from streamchar.characterize.depth import FiducialConditions, measure_depth, zenith_distance
from streamchar.characterize.measurement.higher_moments import ORDERS, HigherOrderMomentsSource
from streamchar.characterize.measurement.neighbours import undisturbed
from streamchar.characterize.psf.measure import PsfMeasurement
from streamchar.characterize.psf.width import effective_fwhm
from streamchar.characterize.statistics import clipped
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Exposure, Moments, Psf
from streamchar.kernels import higher_moments
from streamchar.robust import MAD_TO_SIGMA, median_of_sorted

Array = NDArray[np.float64]
NAN = float("nan")
COPIED = {
    "PSF_ADAPTIVE_THRESHOLD_VALUE": "psf_adaptive_threshold_value",
    "PSF_ADAPTIVE_INCLUDE_THRESHOLD_MULTIPLIER": "psf_adaptive_include_threshold_multiplier",
    "REF_CAT_SOURCE_DENSITY": "ref_cat_source_density",
    "SFM_ASTROM_OFFSET_MEAN": "astrom_offset_mean",
    "SFM_ASTROM_OFFSET_STD": "astrom_offset_std",
}
"""Figures that earlier or later steps leave in the exposure's metadata, by their names there (section 6)."""
OTHERS_TOGETHER = 32
"""Stars that distances are measured from at a time: the nearest of so few already shows of most places that others are farther."""
GRID_BAD_PLANES = ("BAD", "CR", "EDGE", "INTRP", "NO_DATA", "SAT", "SUSPECT")


class SummaryConfig(Configuration):
    """How the summary statistics are sampled."""

    psf_grid_sampling: int = Field(default=192, ge=1)
    """Spacing of the grid on which the PSF model's variation is judged, in pixels."""
    psf_distance_sampling: int = Field(default=32, ge=1)
    """Spacing of the grid on which the distance to the nearest PSF star is judged, in pixels."""
    star_signal_to_noise_min: float = Field(default=50.0, ge=0)
    """Stars with a lower PSF-flux signal to noise are left out of the residuals."""
    star_signal_to_noise_max: float = Field(default=1000.0, gt=0)
    """Stars with a higher PSF-flux signal to noise are left out of the residuals."""
    mag_lim_signal_to_noise: float = Field(default=5.0, gt=0)
    """Signal to noise at the magnitude limit."""
    max_effective_transparency: float = Field(default=np.inf, gt=0)
    """Largest factor of the effective time from the zero point."""
    fiducials: Mapping[str, FiducialConditions] = dict.fromkeys("ugrizy", FiducialConditions())
    """By band: what effective times refer to."""


def _figure(unit: str, doc: str) -> float:
    value: float = field(default=NAN, metadata={"unit": unit, "doc": doc})
    return value


def _count(doc: str) -> int:
    value: int = field(default=0, metadata={"unit": "", "doc": doc})
    return value


@frozen
class Summary:
    """Statistics of one exposure; NaN where they cannot be had. Each field's unit and meaning is in its metadata.

    Star statistics with the prefix ``psf_star_`` are of reserved stars (those the fit has not seen) when there are
    any, else of the used ones; those with ``psf_used_star_`` are of the used ones.
    """

    psf_sigma: float = _figure("pixel", "determinant radius of the PSF at the centre")
    psf_fwhm: float = _figure("pixel", "effective FWHM at the centre, from a fit of two Gaussians")
    psf_fwhm_arcsec: float = _figure("arcsec", "the same on the sky")
    psf_e1: float = _figure("", "(Ixx - Iyy)/(Ixx + Iyy) of the PSF at the centre")
    psf_e2: float = _figure("", "2 Ixy/(Ixx + Iyy) of the PSF at the centre")
    psf_ixx: float = _figure("pixel2", "second moment of the PSF at the centre")
    psf_iyy: float = _figure("pixel2", "second moment of the PSF at the centre")
    psf_ixy: float = _figure("pixel2", "second moment of the PSF at the centre")
    psf_area: float = _figure("pixel", "effective area of the PSF at the centre, 1 / sum of squares")
    psf_trace_radius_delta: float = _figure("pixel", "range of the PSF's trace radius over the detector")
    psf_ap_flux_delta: float = _figure("", "range of the PSF's flux within three sigma over the detector")
    psf_ap_corr_sigma_scaled_delta: float = _figure(
        "pixel-1", "range of the PSF aperture correction over the PSF sigma"
    )
    n_psf_candidate: int = _count("stars the selector found")
    n_psf_star: int = _count("stars used in the PSF fit")
    n_psf_reserved: int = _count("stars kept out of the fit")
    psf_star_delta_e1_median: float = _figure("", "median of star minus model e1")
    psf_star_delta_e1_scatter: float = _figure("", "scatter of star minus model e1")
    psf_star_delta_e2_median: float = _figure("", "median of star minus model e2")
    psf_star_delta_e2_scatter: float = _figure("", "scatter of star minus model e2")
    psf_star_delta_size_median: float = _figure("pixel", "median of star minus model trace radius")
    psf_star_delta_size_scatter: float = _figure("pixel", "scatter of star minus model trace radius")
    psf_star_scaled_delta_size_scatter: float = _figure(
        "", "that scatter over the median trace radius of the stars"
    )
    psf_used_star_delta_e1_median: float = _figure("", "median of star minus model e1, stars of the fit")
    psf_used_star_delta_e1_scatter: float = _figure("", "scatter of star minus model e1, stars of the fit")
    psf_used_star_delta_e2_median: float = _figure("", "median of star minus model e2, stars of the fit")
    psf_used_star_delta_e2_scatter: float = _figure("", "scatter of star minus model e2, stars of the fit")
    psf_used_star_delta_size_median: float = _figure(
        "pixel", "median of star minus model radius, stars of the fit"
    )
    psf_used_star_delta_size_scatter: float = _figure(
        "pixel", "scatter of star minus model radius, stars of the fit"
    )
    star_e_median: float = _figure("", "median ellipticity of the stars, all used and reserved")
    star_un_normalized_e_median: float = _figure("pixel2", "median of the moments' unnormalised ellipticity")
    star_coma1_median: float = _figure("", "median of M30 + M12 of the stars, standardised moments")
    star_coma2_median: float = _figure("", "median of M21 + M03")
    star_trefoil1_median: float = _figure("", "median of M30 - 3 M12")
    star_trefoil2_median: float = _figure("", "median of 3 M21 - M03")
    star_kurtosis_median: float = _figure("", "median of M40 + 2 M22 + M04; 2 for a Gaussian")
    star_e41_median: float = _figure("", "median of M40 - M04")
    star_e42_median: float = _figure("", "median of 2 (M31 + M13)")
    max_dist_to_nearest_psf: float = _figure(
        "pixel", "largest distance of a good pixel to the nearest star of the fit"
    )
    ra: float = _figure("deg", "right ascension of the centre")
    dec: float = _figure("deg", "declination of the centre")
    ra_corners: tuple[float, ...] = field(
        default=(NAN,) * 4,
        metadata={
            "unit": "deg",
            "doc": "right ascension of the corners, counter-clockwise from the first pixel",
        },
    )
    dec_corners: tuple[float, ...] = field(
        default=(NAN,) * 4,
        metadata={"unit": "deg", "doc": "declination of the corners, counter-clockwise from the first pixel"},
    )
    pixel_scale: float = _figure("arcsec", "size of a pixel at the centre")
    zenith_distance: float = _figure("deg", "zenith distance of the centre at the middle of the exposure")
    exp_time: float = _figure("s", "exposure time")
    zero_point: float = _figure("mag", "magnitude of one image unit over the whole exposure")
    sky_bg: float = _figure("adu", "sky level, sum of the medians of the background models")
    sky_noise: float = _figure("adu", "clipped standard deviation of the background-subtracted image")
    mean_var: float = _figure("adu2", "clipped mean of the variance plane")
    mag_lim: float = _figure("mag", "magnitude of a star at the limiting signal to noise")
    eff_time: float = _figure("s", "time that reaches that limit under fiducial conditions")
    eff_time_psf_sigma_scale: float = _figure("", "factor of the effective time from the PSF width")
    eff_time_sky_bg_scale: float = _figure("", "factor of the effective time from the sky level")
    eff_time_zero_point_scale: float = _figure("", "factor of the effective time from the zero point")
    psf_adaptive_threshold_value: float = _figure(
        "", "detection threshold chosen for the PSF stars, from the metadata"
    )
    psf_adaptive_include_threshold_multiplier: float = _figure(
        "", "multiple of it that a PSF star's peak must exceed, from the metadata"
    )
    ref_cat_source_density: float = _figure("deg-2", "density of reference sources, from the metadata")
    astrom_offset_mean: float = _figure("arcsec", "mean offset from reference sources, from the metadata")
    astrom_offset_std: float = _figure("arcsec", "standard deviation of these offsets, from the metadata")
    cosmic_ray_count: int = _count("cosmic rays found in the last repair")
    cosmic_ray_pixel_fraction: float = _figure("", "fraction of pixels in cosmic rays")
    source_count: int = _count("sources in the catalogue")

    @classmethod
    def units(cls) -> dict[str, str]:
        """Unit of every field, empty where it has none."""
        return {item.name: item.metadata["unit"] for item in fields(cls)}


class ComputeSummary(Task[SummaryConfig]):
    """Compute the summary statistics from whatever products there are."""

    config_class = SummaryConfig
    default_name = "compute_summary_stats"

    def run(
        self,
        exposure: Exposure,
        background: BackgroundList,
        catalog: SourceCatalog | None,
        psf_measurement: PsfMeasurement | None,
        cosmic_rays: CosmicRays | None,
    ) -> Summary:
        """Compute them; figures whose ingredients are missing stay NaN."""
        with self.timer("run"):
            sky = _coordinates(exposure)
            found: dict[str, Any] = {
                **self._noise(exposure, background, cosmic_rays),
                **sky,
                "source_count": 0 if catalog is None else len(catalog),
            }
            if exposure.psf is not None:
                found.update(self._psf_model(exposure, exposure.psf, sky.get("pixel_scale", NAN)))
            if catalog is not None and psf_measurement is not None:
                found.update(self._stars(exposure, catalog, psf_measurement))
            found.update(self._depth(exposure, found))
            found.update(
                {
                    name: float(exposure.metadata[key])
                    for key, name in COPIED.items()
                    if key in exposure.metadata
                }
            )
            return Summary(**found)

    def _depth(self, exposure: Exposure, found: Mapping[str, Any]) -> dict[str, float]:
        observation = exposure.observation
        depth = measure_depth(
            observation,
            psf_sigma=found.get("psf_sigma", NAN),
            psf_area=found.get("psf_area", NAN),
            sky_bg=found["sky_bg"],
            fiducial=self.config.fiducials.get(exposure.identity.band),
            max_transparency=self.config.max_effective_transparency,
            signal_to_noise=self.config.mag_lim_signal_to_noise,
        )
        return {
            "zenith_distance": zenith_distance(observation, found.get("ra", NAN), found.get("dec", NAN)),
            "zero_point": NAN if observation.zero_point is None else observation.zero_point,
            **{item.name: getattr(depth, item.name) for item in fields(depth)},
        }

    def _noise(
        self, exposure: Exposure, background: BackgroundList, cosmic_rays: CosmicRays | None
    ) -> dict[str, Any]:
        unreliable = exposure.bits("NO_DATA", "SUSPECT")
        noise = clipped(exposure.image, exposure.mask, unreliable, iterations=2)
        variance = clipped(exposure.variance, exposure.mask, unreliable, iterations=2)
        found: dict[str, Any] = {
            "exp_time": NAN
            if exposure.observation.exposure_time is None
            else exposure.observation.exposure_time,
            "sky_bg": background.sky_level if len(background) else NAN,
            "sky_noise": noise.standard_deviation,
            "mean_var": variance.mean,
        }
        if cosmic_rays is not None:
            found["cosmic_ray_count"] = cosmic_rays.count
            found["cosmic_ray_pixel_fraction"] = cosmic_rays.pixels / exposure.image.size
        return found

    def _psf_model(self, exposure: Exposure, psf: Psf, pixel_scale: float) -> dict[str, float]:
        height, width = exposure.shape
        grid_x, grid_y = _good_grid(exposure, self.config.psf_grid_sampling)
        # The centre first, then the grid.
        x, y = np.append(0.5 * (width - 1), grid_x), np.append(0.5 * (height - 1), grid_y)
        shape, images = psf.shapes(x, y), psf.kernel_images(x, y)
        sigma, kernel = float(shape.determinant_radius[0]), images[0]
        fwhm = effective_fwhm(kernel)
        found = {
            "psf_sigma": sigma,
            "psf_fwhm": fwhm,
            "psf_fwhm_arcsec": fwhm * pixel_scale,
            "psf_e1": float(shape.e1[0]),
            "psf_e2": float(shape.e2[0]),
            "psf_ixx": float(shape.xx[0]),
            "psf_iyy": float(shape.yy[0]),
            "psf_ixy": float(shape.xy[0]),
            "psf_area": float(kernel.sum() ** 2 / np.square(kernel).sum()),
        }
        if not len(grid_x):
            return found
        circle = circle_weights(max(2.0, 3.0 * sigma), psf.size)
        aperture = images[1:].reshape(len(grid_x), -1) @ circle.reshape(-1)
        found["psf_trace_radius_delta"] = float(np.ptp(shape.trace_radius[1:]))
        found["psf_ap_flux_delta"] = float(np.ptp(aperture)) if (aperture >= 0).all() else NAN
        correction = (exposure.aperture_corrections or {}).get("base_PsfFlux_instFlux")
        if correction is not None:
            values = correction.evaluate(grid_x, grid_y)
            if np.isfinite(values).all():
                found["psf_ap_corr_sigma_scaled_delta"] = float(np.ptp(values)) / sigma
        return found

    def _stars(
        self, exposure: Exposure, catalog: SourceCatalog, measurement: PsfMeasurement
    ) -> dict[str, Any]:
        used, reserved = catalog["calib_psf_used"], catalog["calib_psf_reserved"]
        found: dict[str, Any] = {
            "n_psf_candidate": int(catalog["calib_psf_candidate"].sum()),
            "n_psf_star": int(used.sum()),
            "n_psf_reserved": int(reserved.sum()),
        }
        with np.errstate(invalid="ignore", divide="ignore"):
            signal_to_noise = catalog["slot_PsfFlux_instFlux"] / catalog["slot_PsfFlux_instFluxErr"]
        good = (
            ~catalog["slot_Shape_flag"]
            & ~catalog["slot_PsfFlux_flag"]
            & (signal_to_noise > self.config.star_signal_to_noise_min)
            & (signal_to_noise < self.config.star_signal_to_noise_max)
        )
        used, reserved = used & good, reserved & good
        everything = used | reserved
        if not everything.any():
            return found
        shapes = _shapes(catalog, everything)
        model = measurement.psf.shapes(
            catalog["slot_Centroid_x"][everything], catalog["slot_Centroid_y"][everything]
        )
        radius = shapes.trace_radius
        differences = np.stack(
            [shapes.e1 - model.e1, shapes.e2 - model.e2, radius - model.trace_radius], axis=1
        )
        if used.any():
            found.update(_residuals("psf_used_star", differences[used[everything]]))
            found["max_dist_to_nearest_psf"] = self._largest_distance(exposure, catalog, used)
        tested = (reserved if reserved.any() else used)[everything]
        found.update(_residuals("psf_star", differences[tested]))
        scatter = found["psf_star_delta_size_scatter"]
        found["psf_star_scaled_delta_size_scatter"] = scatter / float(_medians(radius[tested]))
        ellipticity = [np.hypot(shapes.e1, shapes.e2), np.hypot(shapes.xx - shapes.yy, 2 * shapes.xy)]
        normalized, un_normalized = _medians(np.stack(ellipticity, axis=1)).tolist()
        found.update(star_e_median=normalized, star_un_normalized_e_median=un_normalized)
        found.update(_asymmetries(exposure, catalog, everything))
        return found

    def _largest_distance(
        self, exposure: Exposure, catalog: SourceCatalog, stars: NDArray[np.bool_]
    ) -> float:
        x, y = _good_grid(exposure, self.config.psf_distance_sampling)
        if not len(x):
            return NAN
        places = np.stack([x, y], axis=1)
        others = np.stack([catalog["slot_Centroid_x"][stars], catalog["slot_Centroid_y"][stars]])
        return largest_distance(places, others)


def largest_distance(places: Array, others: Array) -> float:
    """Largest distance of any of some places, float64 (n, 2), from the nearest of others, float64 (2, m); n and m positive."""
    # The square of a distance but for that of the place itself is a plain product.
    lifted = np.column_stack([-2.0 * others.T, np.square(others).sum(axis=0)])
    left = np.vstack([places.T, np.ones(len(places)), np.square(places).sum(axis=1)])
    nearest = np.full(len(places), np.inf)
    greatest, parts = 0.0, 1 + len(lifted) // OTHERS_TOGETHER
    for i in range(parts):
        nearest = np.minimum(nearest, _least_squares(left, lifted[i::parts]))
        farthest = int(nearest.argmax())
        greatest = max(greatest, float(_least_squares(left[:, farthest : farthest + 1], lifted)[0]))
        # Who has somebody nearer than that already is not the farthest.
        rest = nearest > greatest
        left, nearest = left[:, rest], nearest[rest]
        if not len(nearest):
            break
    return float(np.sqrt(greatest))


def _least_squares(places: Array, others: Array) -> Array:
    """Squares of the distances from the nearest, both as :func:`largest_distance` lifts them."""
    parts = np.array_split(places, 1 + places.shape[1] // 2048, axis=1)
    return np.concatenate([(others @ part[:3]).min(axis=0) + part[3] for part in parts])


def circle_weights(radius: float, size: tuple[int, int], oversampling: int = 11) -> Array:
    """Fraction of every pixel inside a circle about the middle pixel's centre, to about 1/oversampling².

    Parameters
    ----------
    radius
        Pixels.
    size
        Height and width of the result.
    oversampling
        Points along each side of a pixel.
    """
    fine = (np.arange(oversampling) + 0.5) / oversampling - 0.5
    reach = int(np.ceil(min(radius, max(size)) + 0.5))

    def near(length: int) -> tuple[slice, Array]:
        middle = length // 2
        pixels = np.arange(max(middle - reach, 0), min(middle + reach + 1, length))
        return slice(pixels[0], pixels[-1] + 1), (pixels[:, None] - middle + fine) ** 2

    (rows, y2), (columns, x2) = near(size[0]), near(size[1])
    weights = np.zeros(size)
    weights[rows, columns] = (y2[:, None, :, None] + x2[:, None, :] <= radius * radius).mean(axis=(2, 3))
    return weights


def _good_grid(exposure: Exposure, sampling: int) -> tuple[Array, Array]:
    good = (exposure.mask[::sampling, ::sampling] & exposure.bits(*GRID_BAD_PLANES)) == 0
    y, x = np.nonzero(good)
    return x.astype(np.float64) * sampling, y.astype(np.float64) * sampling


def _shapes(catalog: SourceCatalog, which: NDArray[np.bool_]) -> Moments:
    return Moments(*(catalog[f"slot_Shape_{name}"][which] for name in ("xx", "yy", "xy")))


def _residuals(prefix: str, differences: Array) -> dict[str, float]:
    """Medians and scatters of stars minus model: e1, e2 and radius in the columns of float64 (n, 3)."""
    middle = _medians(differences)
    scatter = MAD_TO_SIGMA * _medians(np.abs(differences - middle))
    return {
        f"{prefix}_delta_{name}_{kind}": float(value)
        for kind, values in (("median", middle), ("scatter", scatter))
        for name, value in zip(("e1", "e2", "size"), values, strict=True)
    }


def _medians(values: Array) -> Array:
    """Medians along the first axis, which is not empty; NaN where there is one."""
    ordered = np.sort(values, axis=0)
    return np.where(np.isnan(ordered[-1]), NAN, median_of_sorted(ordered))


def _asymmetries(exposure: Exposure, catalog: SourceCatalog, which: NDArray[np.bool_]) -> dict[str, float]:
    name = HigherOrderMomentsSource.name
    if f"{name}_30" in catalog:
        moments = [catalog[f"{name}_{order}"][which] for order in ORDERS]
    else:
        # PSF stars have no near neighbours that would have to be hidden.
        places = (catalog[f"slot_Shape_{axis}"][which] for axis in ("x", "y", "xx", "yy", "xy"))
        moments = [*higher_moments(undisturbed(exposure.image), *map(np.ascontiguousarray, places)).T]
    m30, m21, m12, m03, m40, m31, m22, m13, m04 = moments
    combinations = {
        "coma1": m30 + m12,
        "coma2": m21 + m03,
        "trefoil1": m30 - 3 * m12,
        "trefoil2": 3 * m21 - m03,
        "kurtosis": m40 + 2 * m22 + m04,
        "e41": m40 - m04,
        "e42": 2 * (m31 + m13),
    }
    table = np.stack(list(combinations.values()), axis=1)
    known = np.isfinite(table)
    ordered = np.sort(np.where(known, table, NAN), axis=0)
    count, column = known.sum(axis=0), np.arange(len(combinations))
    # The median of none is NaN.
    medians = 0.5 * (ordered[(count - 1) // 2, column] + ordered[count // 2, column])
    return {f"star_{name}_median": float(value) for name, value in zip(combinations, medians, strict=True)}


def _coordinates(exposure: Exposure) -> dict[str, Any]:
    if exposure.sky is None:
        return {}
    height, width = exposure.shape
    left, bottom, right, top = -0.5, -0.5, width - 0.5, height - 0.5
    middle_x, middle_y = 0.5 * (left + right), 0.5 * (bottom + top)
    x = [left, right, right, left, middle_x, middle_x - 0.5, middle_x + 0.5, middle_x, middle_x]
    y = [bottom, bottom, top, top, middle_y, middle_y, middle_y, middle_y - 0.5, middle_y + 0.5]
    ra, dec = exposure.sky.to_sky(x, y)
    return {
        "ra": float(ra[4]),
        "dec": float(dec[4]),
        "ra_corners": tuple(map(float, ra[:4])),
        "dec_corners": tuple(map(float, dec[:4])),
        "pixel_scale": _scale(ra[5:], dec[5:]),
    }


def _scale(ra: Array, dec: Array) -> float:
    """Square root of a pixel's area on the sky in arcseconds, from the middles of its left, right, lower and upper sides in degrees."""
    along = np.mod(np.diff(ra)[::2] + 180.0, 360.0) - 180.0
    east, north = along * np.cos(np.radians(dec.mean())), np.diff(dec)[::2]
    return float(3600.0 * np.sqrt(np.abs(east[0] * north[1] - east[1] * north[0])))
