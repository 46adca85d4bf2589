"""From the result of a characterization to the messages that are published. Pure; runs in the worker."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from streamchar import __version__
from streamchar.characterize.base import Timing
from streamchar.characterize.reasons import Reason as CharacterizationReason
from streamchar.characterize.summary import Summary
from streamchar.characterize.task import CharacterizationResult
from streamchar.image import Exposure
from streamchar.messages import (
    Encoded,
    ExposureReady,
    ProductDescription,
    Provenance,
    PsfGrid,
    PsfModel,
    PsfQuality,
    Reason,
    ReservedStarResiduals,
    StageTiming,
    SummaryStatistics,
    encode,
    known,
)
from streamchar.messages.base import ProductIdentity
from streamchar.messages.catalog_chunks import MAX_CHUNK_BYTES, encode_catalog
from streamchar.messages.psf_chunks import encode_psf_model
from streamchar.messages.psf_conversion import describe_psf, psf_kind
from streamchar.monitor.grades import Assessment, Exceeded, Limits, assess, limits_for
from streamchar.monitor.nonsense import Implausible, Ranges, implausible, ranges_for
from streamchar.robust import median, scatter
from streamchar.stream.job import JobResult, Message, MetricDelta

GRID_POINTS = 5
"""Points of the PSF grid along each axis."""

GRADE_NUMBERS: Mapping[str, int] = MappingProxyType(
    {"green": 0, "yellow": 1, "orange": 2, "red": 3, "unknown": -1}
)
"""Values of the gauge of the quality grade."""

_STAGE_DEPTH = 2
_STATISTICS = tuple(name for name in SummaryStatistics.model_fields if name in Summary.units())


@dataclass(frozen=True)
class Publisher:
    """Encodes results.

    Attributes
    ----------
    config_digest
        Digest of the configuration in force.
    limits
        Of the quality grades.
    source
        Who publishes.
    max_chunk_bytes
        Largest value of a message.
    plausible
        Ranges outside which a result is nonsense.
    """

    config_digest: str
    limits: Limits
    source: str = "streamchar"
    max_chunk_bytes: int = MAX_CHUNK_BYTES
    plausible: Ranges = field(default_factory=dict)

    def encode(
        self,
        event: ExposureReady,
        result: CharacterizationResult,
        extra_timings: Sequence[tuple[str, float, float]] = (),
        traceparent: bytes | None = None,
    ) -> JobResult:
        """Return everything that is published about a characterized exposure.

        Parameters
        ----------
        event
            What announced it.
        result
            Not a failed one.
        extra_timings
            Stage, CPU seconds and elapsed seconds of what came before the characterization.
        traceparent
            Trace context of the event, passed on.
        """
        cpu, wall = time.process_time(), time.perf_counter()
        now = datetime.now(UTC)
        headers: dict[str, Any] = {"time": now, "source": self.source, "traceparent": traceparent}
        identity = ProductIdentity(
            event.event_id,
            event.instrument,
            event.exposure,
            event.detector,
            self.config_digest,
            event.band or result.exposure.identity.band or None,
            event.tense,
        )
        provenance = Provenance(software_version=__version__)
        observed: dict[str, Any] = {
            "exposure_time": event.exposure_time or known(result.exposure.observation.exposure_time),
            "mid_time": event.mid_time or known(result.exposure.observation.mid_time),
        }
        products = {
            "source-catalog": list(self._catalog(result, identity, provenance, observed, headers)),
            "psf-model": list(self._psf(result, identity, provenance, headers)),
        }
        timings = (
            *extra_timings,
            *stage_timings(result.timings),
            ("encode", time.process_time() - cpu, time.perf_counter() - wall),
        )
        quality, assessment, nonsense = self._quality(result, identity, provenance, observed, timings)
        products = {"psf-quality": [encode(quality, **headers)], **products}
        reasons = tuple(reason.model_dump(exclude_none=True) for reason in map(wire_reason, result.reasons))
        return JobResult(
            outcome=outcome_of(result),
            reasons=reasons,
            messages=tuple(
                Message(encoded.topic_type, encoded.key, encoded.value, tuple(encoded.headers))
                for messages in products.values()
                for encoded in messages
            ),
            products=tuple(
                describe(name, messages, result) for name, messages in products.items() if messages
            ),
            timings=timings,
            metrics=tuple(metric_changes(result.summary, quality, nonsense)),
            summary={"grade": assessment.grade, "implausible": [item.quantity for item in nonsense]},
        )

    def _catalog(
        self,
        result: CharacterizationResult,
        identity: ProductIdentity,
        provenance: Provenance,
        observed: Mapping[str, Any],
        headers: Mapping[str, Any],
    ) -> Iterable[Encoded]:
        catalog = result.catalog
        if catalog is None:
            return []
        return encode_catalog(
            catalog.schema.columns,
            catalog.columns,
            identity=identity,
            provenance=provenance,
            aliases=dict(catalog.schema.aliases),
            metadata=catalog.metadata,
            outcome=outcome_of(result),
            exposure_time=observed["exposure_time"],
            mid_time=observed["mid_time"],
            max_chunk_bytes=self.max_chunk_bytes,
            **headers,
        )

    def _psf(
        self,
        result: CharacterizationResult,
        identity: ProductIdentity,
        provenance: Provenance,
        headers: Mapping[str, Any],
    ) -> Iterable[Encoded]:
        psf = result.exposure.psf
        if psf is None:
            return []
        image_height, image_width = result.exposure.shape
        description, arrays = describe_psf(psf)
        model = PsfModel(
            **identity.fields(),
            **description,
            image_width=image_width,
            image_height=image_height,
            fwhm=known(result.summary.psf_fwhm),
            n_stars=result.summary.n_psf_star,
            chi2=known(result.psf_measurement.chi2) if result.psf_measurement is not None else None,
            outcome=outcome_of(result),
            provenance=provenance,
        )
        return encode_psf_model(model, arrays, max_chunk_bytes=self.max_chunk_bytes, **headers)

    def _quality(
        self,
        result: CharacterizationResult,
        identity: ProductIdentity,
        provenance: Provenance,
        observed: Mapping[str, Any],
        timings: Sequence[tuple[str, float, float]],
    ) -> tuple[PsfQuality, Assessment, tuple[Implausible, ...]]:
        summary, exposure = result.summary, result.exposure
        statistics: dict[str, Any] = {name: getattr(summary, name) for name in _STATISTICS}
        figures = figures_of(result)
        values = {**statistics, **figures}
        where = identity.instrument, identity.band
        nonsense = implausible(values, ranges_for(self.plausible, *where))
        assessment = assess(values, limits_for(self.limits, *where))
        if nonsense:
            assessment = replace(assessment, grade="red")
        height, width = exposure.shape
        quality = PsfQuality(
            **identity.fields(),
            **observed,
            **figures,
            outcome=outcome_of(result),
            reasons=tuple(map(wire_reason, result.reasons)),
            width=width,
            height=height,
            image_unit=exposure.observation.unit[:64],
            psf_kind=psf_kind(exposure.psf) if exposure.psf is not None else None,
            statistics=SummaryStatistics.from_values(statistics),
            psf_grid=psf_grid(exposure),
            reserved_stars=reserved_stars(summary),
            grade=assessment.grade,
            grade_reasons=(*map(impossible_reason, nonsense), *map(limit_reason, assessment.exceeded)),
            timings=tuple(StageTiming(stage=stage, cpu=cpu, wall=wall) for stage, cpu, wall in timings),
            provenance=provenance,
        )
        return quality, assessment, nonsense


def limit_reason(item: Exceeded) -> Reason:
    """Say which limit of the grades was reached."""
    return Reason(code=item.quantity, values={"value": item.value, "limit": item.limit, "grade": item.grade})


def impossible_reason(item: Implausible) -> Reason:
    """Say which value is impossible; an infinite one is left out of the reason's values."""
    values = {"value": item.value, "least": item.possible.least, "most": item.possible.most, "grade": "red"}
    return Reason(
        code=f"implausible_{item.quantity}",
        values={
            name: value
            for name, value in values.items()
            if value is not None and not (isinstance(value, float) and math.isinf(value))
        },
    )


def figures_of(result: CharacterizationResult) -> dict[str, Any]:
    """Figures of the quality record that have a field of their own; None where not known."""
    summary, exposure, fit, rays = result.summary, result.exposure, result.psf_measurement, result.cosmic_rays
    figures: dict[str, Any] = {
        "psf_fwhm": known(summary.psf_fwhm),
        "seeing": known(summary.psf_fwhm_arcsec),
        "psf_e1": known(summary.psf_e1),
        "psf_e2": known(summary.psf_e2),
        "psf_spatial_order": fit.order if fit is not None else None,
        "psf_chi2": known(fit.chi2) if fit is not None else None,
        "n_psf_candidates": summary.n_psf_candidate,
        "n_psf_used": summary.n_psf_star,
        "n_psf_reserved": summary.n_psf_reserved,
        "n_sources": summary.source_count,
        "n_cosmic_rays": summary.cosmic_ray_count,
        "cosmic_ray_fraction": known(summary.cosmic_ray_pixel_fraction),
        "star_cosmic_ray_fraction": rays.star_loss.fraction if rays is not None else None,
        "bad_pixel_fraction": bad_pixel_fraction(exposure),
    }
    corrections = exposure.aperture_corrections or {}
    field = corrections.get("base_PsfFlux_instFlux")
    if field is not None:
        height, width = exposure.shape
        figures["aperture_correction"] = known(
            float(np.ravel(field.evaluate([0.5 * (width - 1)], [0.5 * (height - 1)]))[0])
        )
        figures["aperture_correction_scatter"] = known(aperture_correction_scatter(result))
    return figures


def aperture_correction_scatter(result: CharacterizationResult) -> float:
    """Relative scatter of the stars' corrected PSF flux over the reference flux; NaN without a correction.

    It is 1.4826 times the median absolute deviation from the median.
    """
    catalog = result.catalog
    if catalog is None or "apcorr_base_PsfFlux_used" not in catalog:
        return math.nan
    used = catalog["apcorr_base_PsfFlux_used"]
    ratio = catalog["base_PsfFlux_instFlux"][used] / catalog["slot_CalibFlux_instFlux"][used]
    if not ratio.size:
        return math.nan
    middle = float(median(ratio))
    return float(scatter(ratio, middle)) / middle


def bad_pixel_fraction(exposure: Exposure) -> float:
    """Fraction of pixels that are bad, saturated or without data."""
    names = [name for name in ("BAD", "SAT", "NO_DATA") if name in exposure.planes]
    return exposure.count(*names) / exposure.mask.size


def psf_grid(exposure: Exposure) -> PsfGrid | None:
    """Moments of the PSF at points spread evenly over the detector; points where they are not known are left out."""
    if exposure.psf is None:
        return None
    height, width = exposure.shape
    steps = (np.arange(GRID_POINTS) + 0.5) / GRID_POINTS
    x, y = np.tile(steps * width - 0.5, GRID_POINTS), np.repeat(steps * height - 0.5, GRID_POINTS)
    shapes = exposure.psf.shapes(x, y)
    good = np.isfinite(shapes.xx) & np.isfinite(shapes.yy) & np.isfinite(shapes.xy)
    columns = {"x": x, "y": y, "ixx": shapes.xx, "iyy": shapes.yy, "ixy": shapes.xy}
    return PsfGrid(**{name: tuple(values[good].tolist()) for name, values in columns.items()})


def reserved_stars(summary: Summary) -> ReservedStarResiduals | None:
    """Residuals of the stars that were withheld from the fit; None when none was."""
    if not summary.n_psf_reserved:
        return None
    return ReservedStarResiduals(
        n_stars=summary.n_psf_reserved,
        size_scatter=known(summary.psf_star_scaled_delta_size_scatter),
        e1_median=known(summary.psf_star_delta_e1_median),
        e1_scatter=known(summary.psf_star_delta_e1_scatter),
        e2_median=known(summary.psf_star_delta_e2_median),
        e2_scatter=known(summary.psf_star_delta_e2_scatter),
    )


def outcome_of(result: CharacterizationResult) -> Literal["succeeded", "degraded"]:
    """What becomes of an event whose characterization did not fail."""
    return "degraded" if result.reasons else "succeeded"


def wire_reason(reason: CharacterizationReason) -> Reason:
    """Turn a reason of the characterization into that of the message; values that are not finite are left out."""
    values = {
        name: value
        for name, value in reason.values.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }
    return Reason(code=reason.code, values=values, message=reason.detail or None)


def stage_timings(timings: Iterable[Timing]) -> tuple[tuple[str, float, float], ...]:
    """Sum repeated timings and keep the upper stages, so that the set of names stays small."""
    sums: dict[str, tuple[float, float]] = {}
    for timing in timings:
        parts = timing.name.split(".")[1:]
        stage = ".".join(part for part in parts if part != "run") or "characterize"
        if stage.count(".") < _STAGE_DEPTH:
            cpu, wall = sums.get(stage, (0.0, 0.0))
            sums[stage] = (cpu + timing.cpu, wall + timing.wall)
    return tuple((stage, max(0.0, cpu), max(0.0, wall)) for stage, (cpu, wall) in sums.items())


def describe(name: str, messages: Sequence[Encoded], result: CharacterizationResult) -> dict[str, Any]:
    """Describe a published product for the status record."""
    rows = len(result.catalog) if name == "source-catalog" and result.catalog is not None else None
    description = ProductDescription(
        product=name,
        key=messages[0].key.decode(),
        messages=len(messages),
        rows=rows,
        size_bytes=sum(len(message.value) for message in messages),
    )
    return description.model_dump(exclude_none=True)


def metric_changes(
    summary: Summary, quality: PsfQuality, nonsense: Sequence[Implausible]
) -> Iterator[MetricDelta]:
    """Changes of the metrics that describe the sky and the PSF; a gauge whose value is not known keeps its last one."""
    instrument = {"instrument": quality.instrument}
    labels = {**instrument, "band": quality.band or ""}
    gauges = {
        "streamchar_psf_fwhm_arcsec": summary.psf_fwhm_arcsec,
        "streamchar_psf_fwhm_pixels": summary.psf_fwhm,
        "streamchar_psf_ellipticity_ratio": math.hypot(summary.psf_e1, summary.psf_e2),
        "streamchar_psf_stars": summary.n_psf_star,
        "streamchar_psf_stars_reserved": summary.n_psf_reserved,
        "streamchar_psf_candidates": summary.n_psf_candidate,
        "streamchar_psf_size_residual_ratio": summary.psf_star_scaled_delta_size_scatter,
        "streamchar_psf_size_bias_pixels": summary.psf_star_delta_size_median,
        "streamchar_psf_ellipticity_residual_ratio": math.hypot(
            summary.psf_star_delta_e1_scatter, summary.psf_star_delta_e2_scatter
        ),
        "streamchar_psf_size_spread_pixels": summary.psf_trace_radius_delta,
        "streamchar_aperture_correction_scatter_ratio": quality.aperture_correction_scatter,
        "streamchar_sky_level": summary.sky_bg,
        "streamchar_sky_noise": summary.sky_noise,
        "streamchar_cosmic_ray_ratio": summary.cosmic_ray_pixel_fraction,
        "streamchar_exposure_sources": summary.source_count,
        "streamchar_quality_grade": GRADE_NUMBERS[quality.grade],
        "streamchar_last_exposure_timestamp_seconds": time.time(),
    }
    for name, value in gauges.items():
        if value is not None and math.isfinite(value):
            yield MetricDelta(name, float(value), labels)
    yield MetricDelta("streamchar_sources_total", float(summary.source_count))
    if not summary.n_psf_star:
        yield MetricDelta("streamchar_exposures_without_stars_total", 1.0, instrument)
    for item in nonsense:
        yield MetricDelta(
            "streamchar_implausible_results_total", 1.0, {**instrument, "quantity": item.quantity}
        )
    yield MetricDelta("streamchar_quality_grades_total", 1.0, {**labels, "grade": quality.grade})
