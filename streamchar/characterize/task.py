"""The characterization of one exposure, step by step as in the reference (README.md section 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import hypot, isfinite
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.aperture_correction import (
    ApplyApertureCorrections,
    MeasureApertureCorrections,
    NormalizedCalibrationFlux,
)
from streamchar.characterize.background import BackgroundList, SubtractBackground
from streamchar.characterize.base import Metadata, Task, Timing
from streamchar.characterize.catalog import Column, Schema, SourceCatalog
from streamchar.characterize.classification import CatalogCalculation
from streamchar.characterize.config import CharacterizeImageConfig
from streamchar.characterize.cosmic_rays import CosmicRays
from streamchar.characterize.deblend import DEBLEND_COLUMNS, SourceDeblend
from streamchar.characterize.detection import Detection, DetectSources
from streamchar.characterize.display import Display, no_display
from streamchar.characterize.errors import (
    ApertureCorrectionError,
    CharacterizationError,
    NormalizationError,
    PsfWidthError,
    TooManyCosmicRaysError,
)
from streamchar.characterize.identifiers import IdGenerator
from streamchar.characterize.measurement import SingleFrameMeasurement
from streamchar.characterize.psf.measure import MeasurePsf, PsfMeasurement
from streamchar.characterize.psf.simple import InstallSimplePsf
from streamchar.characterize.psf.width import average_sigma
from streamchar.characterize.reasons import Reason
from streamchar.characterize.repair import Repair
from streamchar.characterize.streaks import MaskStreaks, Streaks, SubtractStreaks
from streamchar.characterize.summary import ComputeSummary, Summary
from streamchar.configuration import named_in
from streamchar.frozen import frozen
from streamchar.image import Exposure
from streamchar.image.field import Field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from streamchar.characterize.panels import Panel

Outcome = Literal["succeeded", "degraded", "failed"]

BASE_MEMORY = 100 << 20
"""Bytes of a process that has imported everything and characterized a small exposure: 94 MB after 512 x 512."""
BYTES_PER_PIXEL = 16
"""Bytes for each pixel at the peak: three planes take 12, sources and stars 1 to 3 (the more, the more are measured)."""
BYTES_OF_LEVEL = 4
"""Bytes for each pixel of the local background that peaks are found above, when that is asked for."""

SOURCE_COLUMNS = (
    Column("id", "<i8", "", "unique source identifier"),
    Column("coord_ra", "<f8", "rad", "right ascension of the centroid"),
    Column("coord_dec", "<f8", "rad", "declination of the centroid"),
    Column("parent", "<i8", "", "identifier of the blend that the source was separated from, 0 for none"),
)


@frozen
class Resources:
    """What a run needs.

    Attributes
    ----------
    cores
        Processor cores.
    memory
        Bytes.
    """

    cores: int
    memory: int


@dataclass(slots=True)
class CharacterizationResult:
    """Everything the characterization of one exposure made, up to the step that failed if one did.

    Attributes
    ----------
    exposure
        Background subtracted, cosmic rays replaced; mask, PSF and aperture corrections attached.
    background
        The models that were subtracted, in order.
    catalog
        The measured sources, or ``None`` when nothing was detected yet.
    psf_measurement
        The PSF model with its stars, or ``None`` before the first fit.
    cosmic_rays
        What the last repair found.
    streaks
        The satellite streaks that were subtracted or, failing that, masked; ``None`` when they were not looked for.
    aperture_corrections
        Correction fields by flux column name, or ``None``.
    summary
        Statistics of the whole exposure.
    reasons
        Why the result is degraded; empty when it is not.
    error
        The expected failure that ended the run early, or ``None``.
    timings
        CPU and elapsed seconds of every step.
    metadata
        Values the tasks recorded, by full task name.
    """

    exposure: Exposure
    background: BackgroundList
    catalog: SourceCatalog | None = None
    psf_measurement: PsfMeasurement | None = None
    cosmic_rays: CosmicRays | None = None
    streaks: Streaks | None = None
    aperture_corrections: dict[str, Field] | None = None
    summary: Summary = field(default_factory=Summary)
    reasons: tuple[Reason, ...] = ()
    error: CharacterizationError | None = None
    timings: tuple[Timing, ...] = ()
    metadata: dict[str, Metadata] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """``succeeded``, ``degraded`` (with reasons) or ``failed`` (with an error)."""
        if self.error is not None:
            return "failed"
        return "degraded" if self.reasons else "succeeded"

    def raise_if_failed(self) -> CharacterizationResult:
        """Raise the error that ended the run early, else return the result itself."""
        if self.error is not None:
            raise self.error
        return self

    def __repr__(self) -> str:
        sources = 0 if self.catalog is None else len(self.catalog)
        return (
            f"CharacterizationResult({self.exposure.identity}: {self.outcome}, {sources} sources, "
            f"PSF FWHM {self.summary.psf_fwhm:.2f} px)"
        )

    def plot(self, *panels: Panel) -> Figure:
        """Draw the result; see :func:`streamchar.characterize.panels.plot`.

        Parameters
        ----------
        *panels
            Of ``image``, ``cosmic_rays``, ``background``, ``sizes``, ``whiskers``, ``residuals``, ``psf``, ``stamps``,
            ``correction`` and ``timings``; the most telling six when omitted.

        Returns
        -------
        matplotlib.figure.Figure
            Save it with ``savefig``; a notebook shows it.

        Raises
        ------
        MissingPlotsError
            When matplotlib is not installed.
        """
        from streamchar.characterize.panels import DEFAULT_PANELS, plot

        return plot(self, panels or DEFAULT_PANELS)

    def _repr_html_(self) -> str:
        """What a notebook shows: the pixels and a table."""
        from streamchar.image.notebook import card

        return card(f"{self.exposure.identity}: {self.outcome}", self.described(), self.exposure.image)

    def described(self) -> dict[str, str]:
        """Return the result in words, by name; what is not known is left out."""
        summary, unit = self.summary, self.exposure.observation.unit
        arcsec = f" ({summary.psf_fwhm_arcsec:.2f} arcsec)" if isfinite(summary.psf_fwhm_arcsec) else ""
        rows = {
            "error": "" if self.error is None else str(self.error),
            "reasons": ", ".join(reason.code for reason in self.reasons),
            "PSF FWHM": f"{summary.psf_fwhm:.2f} pixels{arcsec}" if isfinite(summary.psf_fwhm) else "",
            "PSF ellipticity": f"{hypot(summary.psf_e1, summary.psf_e2):.3f}"
            if isfinite(summary.psf_e1)
            else "",
            "PSF stars": f"{summary.n_psf_star} used, {summary.n_psf_reserved} reserved",
            "sources": ""
            if self.catalog is None
            else f"{len(self.catalog)} x {len(self.catalog.columns)} columns",
            "cosmic rays": "" if self.cosmic_rays is None else str(self.cosmic_rays.count),
            "sky": f"{summary.sky_bg:.2f} ± {summary.sky_noise:.2f} {unit}"
            if isfinite(summary.sky_bg)
            else "",
        }
        return {name: value for name, value in rows.items() if value}


class CharacterizeImage(Task[CharacterizeImageConfig]):
    """Measure the PSF, the background and the bright sources of an exposure, and repair its cosmic rays.

    Parameters
    ----------
    config
        Settings; preset ``best`` when omitted.
    display
        Called at the points of :data:`~streamchar.characterize.display.POINTS`; shows nothing unless given.

    Examples
    --------
    >>> import numpy as np
    >>> from streamchar.characterize import CharacterizeImage
    >>> from streamchar.image import Exposure, Identity
    >>> random = np.random.default_rng(1)
    >>> y, x = np.mgrid[:400, :400]
    >>> pixels = random.normal(100.0, 5.0, x.shape)
    >>> for x0, y0 in random.uniform(30, 370, (40, 2)):
    ...     pixels += 2e3 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.7**2))
    >>> exposure = Exposure.from_image(pixels, gain=4.0, read_noise=0.0, identity=Identity("DemoCam", 42, 3, "r"))
    >>> result = CharacterizeImage().run(exposure)
    >>> result.outcome
    'succeeded'
    >>> print(f"FWHM {result.summary.psf_fwhm:.1f} pixels, true {1.7 * 2.355:.1f}")
    FWHM 4.0 pixels, true 4.0
    >>> table = result.catalog.to_table()
    >>> table["base_PsfFlux_instFlux"].unit
    Unit("ct")
    >>> figure = result.plot("image", "sizes", "psf")
    """

    config_class = CharacterizeImageConfig
    default_name = "characterize_image"

    def __init__(
        self, config: CharacterizeImageConfig | None = None, *, display: Display = no_display, **place: Any
    ) -> None:
        super().__init__(config, **place)
        self.display = display
        config = self.config
        self.background = self.make_subtask(SubtractBackground, config.background, "background")
        self.subtract_streaks = self.make_subtask(
            SubtractStreaks, config.subtract_streaks, "subtract_streaks"
        )
        self.install_simple_psf = self.make_subtask(
            InstallSimplePsf, config.install_simple_psf, "install_simple_psf"
        )
        self.repair = self.make_subtask(Repair, config.repair, "repair")
        self.detection = self.make_subtask(DetectSources, config.detection, "detection")
        self.deblend = self.make_subtask(SourceDeblend, config.deblend, "deblend")
        self.measurement = self.make_subtask(SingleFrameMeasurement, config.measurement, "measurement")
        self.measure_psf = self.make_subtask(MeasurePsf, config.measure_psf, "measure_psf")
        self.mask_streaks = self.make_subtask(MaskStreaks, config.mask_streaks, "mask_streaks")
        self.normalized_calibration_flux = self.make_subtask(
            NormalizedCalibrationFlux, config.normalized_calibration_flux, "normalized_calibration_flux"
        )
        self.measure_ap_corr = self.make_subtask(
            MeasureApertureCorrections, config.measure_ap_corr, "measure_ap_corr"
        )
        self.apply_ap_corr = self.make_subtask(
            ApplyApertureCorrections, config.apply_ap_corr, "apply_ap_corr"
        )
        self.catalog_calculation = self.make_subtask(
            CatalogCalculation, config.catalog_calculation, "catalog_calculation"
        )
        self.compute_summary_stats = self.make_subtask(
            ComputeSummary, config.compute_summary_stats, "compute_summary_stats"
        )
        self.schema = self._make_schema()
        self._psf_columns = self._columns_for_psf()

    def run(
        self,
        exposure: Exposure,
        background: BackgroundList | None = None,
        id_generator: IdGenerator | None = None,
    ) -> CharacterizationResult:
        """Characterize one exposure.

        Parameters
        ----------
        exposure
            Instrument signature removed, sky kept. Its planes are modified in place.
        background
            Models already subtracted from it; those subtracted here are appended.
        id_generator
            Makes the source ids; by default from the exposure's identity.

        Returns
        -------
        CharacterizationResult
            With ``error`` set, and the products of the steps before it, when a step failed in an expected way.

        Raises
        ------
        InvalidExposureError
            When the pixels cannot be those of an exposure.
        """
        unusable = exposure.check(max_bad_fraction=self.config.max_bad_fraction)
        self.empty_metadata()
        ids = id_generator or IdGenerator.for_exposure(exposure.identity, self.config.id_generator)
        result = CharacterizationResult(exposure, background or BackgroundList())
        with self.timer("run"):
            try:
                self._characterize(result, ids, unusable)
            except CharacterizationError as error:
                result.error = error
            if self.config.do_compute_summary_stats:
                result.summary = self.compute_summary_stats.run(
                    exposure, result.background, result.catalog, result.psf_measurement, result.cosmic_rays
                )
        result.timings = tuple(self.timings())
        result.metadata = self.get_full_metadata()
        return result

    def _characterize(self, result: CharacterizationResult, ids: IdGenerator, unusable: int) -> None:
        exposure = result.exposure
        with self._unusable_pixels_masked(result, unusable):
            self.background.run(exposure, result.background)
            if self.config.do_subtract_streaks:
                result.streaks = self.subtract_streaks.run(exposure)
        if exposure.psf is None and not self.config.do_measure_psf:
            self.install_simple_psf.run(exposure)

        rounds = self.config.psf_iterations if self.config.do_measure_psf else 1
        for number in range(rounds):
            last = number == rounds - 1
            # A round that starts from a Gaussian takes nothing but the width from the one before.
            self.detect_measure_and_estimate_psf(
                result, ids, preliminary=not last and self.config.use_simple_psf
            )

        result.cosmic_rays = self._repair(result, keep_crs=None)
        self.display("repair", result)
        self._drop_unconfirmed(result)
        assert result.catalog is not None
        if self.config.do_mask_streaks:
            masked = self.mask_streaks.run(exposure)
            result.streaks = result.streaks or masked
        self.measurement.run(result.catalog, exposure, exposure_id=ids.catalog_id)
        self._correct_apertures(result)
        self.catalog_calculation.run(result.catalog)
        self._fill_coordinates(result.catalog, exposure)
        self.display("measure", result)

    def detect_measure_and_estimate_psf(
        self, result: CharacterizationResult, ids: IdGenerator, *, preliminary: bool = False
    ) -> None:
        """Run one round: mask cosmic rays, detect, measure, fit the PSF. Updates ``result`` in place.

        Parameters
        ----------
        preliminary
            Another round follows that starts from a Gaussian as wide as the PSF found here.
        """
        exposure = result.exposure
        if exposure.psf is None or (self.config.do_measure_psf and self.config.use_simple_psf):
            self.install_simple_psf.run(exposure)
        result.cosmic_rays = self._repair(result, keep_crs=True)
        self.display("repair_iter", result)

        detection = self.detection.run(exposure, background=result.background)
        # Blends say no more about the width of the PSF than other sources.
        only_width = preliminary and self.config.measure_psf.preliminary == "constant"
        catalog = result.catalog = self._make_catalog(
            exposure, detection, ids, deblend=self.config.do_deblend and not only_width
        )
        self.display("background_iter", result)

        columns = self._psf_columns
        # Another task in the place of the PSF's measurement may want everything.
        rough = only_width and columns is not None
        wanted = self._bright_enough(
            catalog, self.config.psf_width_min_sources if rough else self.config.psf_min_sources
        )
        self.measurement.run(
            catalog, exposure, exposure_id=ids.catalog_id, wanted=wanted, columns=columns, rough=rough
        )
        self.display("measure_iter", result)
        if self.config.do_measure_psf:
            result.psf_measurement = self.measure_psf.run(
                exposure, catalog, exposure_id=ids.catalog_id, preliminary=preliminary
            )
            _replace_reasons(result, "psf_", "no_psf", new=result.psf_measurement.reasons)
        self._check_psf(exposure)
        self.display("psf", result)

    def run_quantum(
        self, read: Callable[[], Exposure], write: Callable[[CharacterizationResult], None]
    ) -> CharacterizationResult:
        """Characterize what ``read`` gives and hand the products to ``write``: references in, products out.

        Parameters
        ----------
        read
            Fetches the exposure, wherever it is kept.
        write
            Stores or publishes the products; not called when the characterization raises.
        """
        result = self.run(read())
        write(result)
        return result

    def get_schema_catalogs(self) -> dict[str, SourceCatalog]:
        """Return an empty catalogue with the columns of every product that has some."""
        return {"source_catalog": SourceCatalog(self.schema, 0)}

    def get_all_schema_catalogs(self) -> dict[str, SourceCatalog]:
        """Return :meth:`get_schema_catalogs` of this task and all below it; only this one makes catalogues."""
        return self.get_schema_catalogs()

    def get_resource_config(self, shape: tuple[int, int]) -> Resources:
        """Estimate what a process needs that characterizes exposures of (height, width) pixels, one after the other."""
        height, width = shape
        each = BYTES_PER_PIXEL + BYTES_OF_LEVEL * self.config.detection.do_temp_local_background
        return Resources(cores=1, memory=BASE_MEMORY + each * height * width)

    def _repair(self, result: CharacterizationResult, *, keep_crs: bool | None) -> CosmicRays | None:
        before = result.cosmic_rays if self._pixels_stay else None
        try:
            cosmic_rays = self.repair.run(result.exposure, keep_crs=keep_crs, before=before)
        except TooManyCosmicRaysError as error:
            if self.config.require_cr_for_psf:
                raise
            _replace_reasons(result, "too_many_cosmic_rays", "cosmic_ray_", new=(Reason.from_error(error),))
            return None
        _replace_reasons(result, "too_many_cosmic_rays", "cosmic_ray_", new=cosmic_rays.reasons)
        return cosmic_rays

    @property
    def _pixels_stay(self) -> bool:
        """Whether image and variance are the same at every repair; whoever replaced a task may do with them what he likes."""
        return not (self.config.detection.re_estimate_background or self.config.subtasks)

    def _make_catalog(
        self, exposure: Exposure, detection: Detection, ids: IdGenerator, *, deblend: bool
    ) -> SourceCatalog:
        if not deblend:
            catalog = SourceCatalog(self.schema, len(detection.footprints), detection.footprints)
            catalog["id"] = ids.source_ids(len(catalog))
            return catalog
        deblended = self.deblend.run(exposure, detection.blended, detection.footprints)
        count = len(deblended)
        catalog = SourceCatalog(self.schema, count, deblended.footprints)
        # The blends themselves are not in the catalogue: their identifiers follow those of the sources.
        unique = ids.source_ids(count + len(detection.blended))
        catalog["id"] = unique[:count]
        catalog["parent"] = np.where(deblended.separated, unique[count + deblended.parent], 0)
        for name, values in deblended.columns().items():
            catalog[name] = values
        return catalog

    def _bright_enough(self, catalog: SourceCatalog, least: int) -> NDArray[np.bool_] | None:
        """Sources that may become stars of the PSF, at least so many, or ``None`` when all are to be measured."""
        config, footprints = self.config, catalog.footprints
        multiplier = config.psf_include_threshold_multiplier
        assert footprints is not None
        if multiplier is None or not config.do_measure_psf or len(catalog) <= least:
            return None
        significance = np.maximum.reduceat(footprints.peak_significance, footprints.peak_start[:-1])
        faintest = np.partition(significance, -least)[-least]
        wanted = significance >= min(multiplier * config.detection.threshold_value, faintest)
        return None if wanted.all() else np.asarray(wanted)

    def _columns_for_psf(self) -> list[str] | None:
        """Columns that the PSF's measurement reads, or ``None`` when all are to be measured."""
        config = self.config
        if not (config.measure_for_psf_only and config.do_measure_psf) or "measure_psf" in config.subtasks:
            return None
        return [config.measurement.slots.psf_flux, *named_in(config.measure_psf)]

    def _drop_unconfirmed(self, result: CharacterizationResult) -> None:
        """Leave out sources that were nothing but the cosmic rays found in the last repair."""
        catalog, measurement = result.catalog, result.psf_measurement
        assert catalog is not None
        assert catalog.footprints is not None
        if not self.detection.config.do_confirm:
            return
        kept = self.detection.confirm(result.exposure, catalog.footprints) | catalog["calib_psf_candidate"]
        if kept.all():
            return
        result.catalog = catalog.take(kept)
        if measurement is not None:
            rows = np.cumsum(kept) - 1
            stars = replace(measurement.stars, index=rows[measurement.stars.index])
            result.psf_measurement = replace(measurement, stars=stars)

    def _check_psf(self, exposure: Exposure) -> None:
        assert exposure.psf is not None
        sigma = average_sigma(exposure.psf)
        self.record("psf_sigma", sigma)
        if not np.isfinite(sigma):
            raise PsfWidthError(sigma=sigma)

    def _correct_apertures(self, result: CharacterizationResult) -> None:
        exposure, catalog = result.exposure, result.catalog
        assert catalog is not None
        corrections: dict[str, Field] = {}
        if self.config.do_normalized_calibration:
            try:
                corrections.update(self.normalized_calibration_flux.run(catalog, exposure))
            except NormalizationError as error:
                result.reasons += (Reason.from_error(error),)
        if self.config.do_ap_corr:
            try:
                corrections.update(self.measure_ap_corr.run(catalog, exposure))
            except ApertureCorrectionError as error:
                result.reasons += (Reason.from_error(error),)
            else:
                self.apply_ap_corr.run(catalog, corrections)
        result.aperture_corrections = exposure.aperture_corrections = corrections or None

    @contextmanager
    def _unusable_pixels_masked(self, result: CharacterizationResult, count: int) -> Iterator[None]:
        """Mask pixels without a finite value and positive variance, and leave the sky model's value in them."""
        if not count:
            yield
            return
        exposure = result.exposure
        unusable = exposure.unusable()
        exposure.set_plane("NO_DATA", unusable)
        exposure.variance[unusable] = np.median(exposure.variance[~unusable])
        yield
        exposure.image[unusable] = 0.0
        fraction = count / unusable.size
        values = {"pixels": count, "fraction": fraction}
        result.reasons += (
            Reason("unusable_pixels", f"{count} pixels ({fraction:.2%}) hold no usable value", values),
        )

    def _fill_coordinates(self, catalog: SourceCatalog, exposure: Exposure) -> None:
        if exposure.sky is None or not len(catalog):
            return
        ra, dec = exposure.sky.to_sky(catalog["slot_Centroid_x"], catalog["slot_Centroid_y"])
        catalog["coord_ra"] = np.radians(ra)
        catalog["coord_dec"] = np.radians(dec)

    def _make_schema(self) -> Schema:
        columns = [*SOURCE_COLUMNS, *self.measure_psf.columns, *self.measurement.columns]
        if self.config.do_deblend:
            columns += DEBLEND_COLUMNS
        if self.config.do_normalized_calibration:
            columns += self.normalized_calibration_flux.columns
        if self.config.do_ap_corr:
            columns += [*self.measure_ap_corr.columns, *self.apply_ap_corr.columns]
        columns += self.catalog_calculation.columns
        aliases = {**self.measurement.aliases}
        if self.config.do_normalized_calibration:
            aliases.update(self.normalized_calibration_flux.aliases)
        return Schema(tuple(columns), aliases)


def _replace_reasons(result: CharacterizationResult, *prefixes: str, new: Iterable[Reason | str]) -> None:
    # A later round judges anew: only what still holds at the end is a reason.
    kept = tuple(reason for reason in result.reasons if not reason.code.startswith(prefixes))
    result.reasons = kept + tuple(Reason.known(item) if isinstance(item, str) else item for item in new)
