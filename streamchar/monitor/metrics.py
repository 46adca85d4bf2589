"""All metrics in one list, and the registry built from it.

Workers send changes with their results and the coordinator applies them: one registry, no files shared between
processes. No label has the exposure or the detector as value: series must stay few. Which exposure a figure came from
is told by exemplars, which Prometheus reads in the OpenMetrics format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import choose_encoder

from streamchar.frozen import frozen

Kind = Literal["counter", "gauge", "histogram"]

LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 300)
"""Seconds; 60 s is an edge because it is the objective for alerts."""

MAX_SERIES = 1000
"""Most label sets of one metric. Instruments and bands are named by messages: whatever those say, memory is bounded."""

OTHER = "other"
"""Value of all labels of what comes beyond :data:`MAX_SERIES`."""

_EXEMPLAR_LENGTH = 100
"""OpenMetrics allows 128 characters for an exemplar's labels, their names included."""

SHORT_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Seconds, for what should be quick."""


@frozen
class Definition:
    """A metric.

    Attributes
    ----------
    name
        Full name; ends in its unit, counters in ``_total``.
    kind
        "counter", "gauge" or "histogram".
    unit
        Unit, empty for plain numbers.
    labels
        Names of the labels.
    help
        One sentence.
    buckets
        Upper edges of a histogram.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


DEFINITIONS: tuple[Definition, ...] = (
    # Events
    Definition("streamchar_events_received_total", "counter", "", ("topic",), "Events read."),
    Definition(
        "streamchar_events_total",
        "counter",
        "",
        ("instrument", "outcome"),
        "Events whose status was published: succeeded, degraded, failed, expired.",
    ),
    Definition(
        "streamchar_event_failures_total",
        "counter",
        "",
        ("category", "reason"),
        "Failed attempts by reason code.",
    ),
    Definition(
        "streamchar_retries_total", "counter", "", ("where",), "Further attempts: in_process or topic."
    ),
    Definition(
        "streamchar_dead_letters_total", "counter", "", ("reason",), "Events sent to the dead letters."
    ),
    Definition(
        "streamchar_offsets_skipped_total",
        "counter",
        "",
        ("topic",),
        "Offsets that were gone before they could be read (retention, or a topic created anew).",
    ),
    Definition(
        "streamchar_duplicates_total",
        "counter",
        "",
        ("instrument",),
        "Events announced again, which were not processed again.",
    ),
    Definition(
        "streamchar_incomplete_visits_total",
        "counter",
        "",
        ("instrument",),
        "Visits with detectors that were never announced; counted by the owner of the first input partition.",
    ),
    Definition(
        "streamchar_missing_detectors_total",
        "counter",
        "",
        ("instrument",),
        "Detectors of visits that were never announced; counted by the owner of the first input partition.",
    ),
    Definition(
        "streamchar_degraded_reasons_total", "counter", "", ("reason",), "Degraded results by reason code."
    ),
    Definition(
        "streamchar_implausible_results_total",
        "counter",
        "",
        ("instrument", "quantity"),
        "Results with an impossible value of a quantity; they count for the breaker as dead letters do.",
    ),
    Definition(
        "streamchar_end_to_end_seconds",
        "histogram",
        "s",
        ("instrument",),
        "From the creation of the event to the publication of its outcome.",
        LATENCY_BUCKETS,
    ),
    Definition(
        "streamchar_shutter_to_published_seconds",
        "histogram",
        "s",
        ("instrument",),
        "From the end of the exposure (its mid-time in UTC and its length, as announced) to the publication of its outcome; replays older than limits.expire_after are left out.",
        LATENCY_BUCKETS,
    ),
    Definition(
        "streamchar_queue_seconds",
        "histogram",
        "s",
        (),
        "From the reading of an event to the start of its first attempt.",
        LATENCY_BUCKETS,
    ),
    Definition(
        "streamchar_attempt_seconds",
        "histogram",
        "s",
        (),
        "Duration of an attempt in a worker.",
        LATENCY_BUCKETS,
    ),
    Definition(
        "streamchar_stage_seconds",
        "histogram",
        "s",
        ("stage",),
        "Elapsed time of a stage of the characterization.",
        SHORT_BUCKETS,
    ),
    Definition(
        "streamchar_publish_seconds",
        "histogram",
        "s",
        (),
        "Duration of a publication with its commit.",
        SHORT_BUCKETS,
    ),
    Definition("streamchar_published_messages_total", "counter", "", ("topic",), "Messages published."),
    Definition("streamchar_published_bytes_total", "counter", "byte", ("topic",), "Bytes published."),
    # Flow
    Definition("streamchar_events_in_flight", "gauge", "", (), "Events started and not yet published."),
    Definition("streamchar_events_delayed", "gauge", "", (), "Events that wait for their next attempt."),
    Definition("streamchar_events_backlog", "gauge", "", (), "Events read and not started."),
    Definition("streamchar_worker_queue_events", "gauge", "", (), "Events that wait for a worker."),
    Definition(
        "streamchar_publication_queue_events",
        "gauge",
        "",
        (),
        "Finished events that wait for their publication to begin.",
    ),
    Definition(
        "streamchar_result_bytes_in_flight", "gauge", "byte", (), "Bytes finished and not yet published."
    ),
    Definition("streamchar_credits", "gauge", "", (), "Events that may still be started."),
    Definition("streamchar_partitions_assigned", "gauge", "", (), "Input partitions owned."),
    Definition("streamchar_partitions_paused", "gauge", "", (), "Input partitions not being read."),
    Definition("streamchar_consumer_lag", "gauge", "", ("topic", "partition"), "Events not yet finished."),
    Definition(
        "streamchar_high_water_offset",
        "gauge",
        "",
        ("topic", "partition"),
        "Offset of the next event that will be announced, for partitions owned.",
    ),
    Definition(
        "streamchar_low_water_offset",
        "gauge",
        "",
        ("topic", "partition"),
        "Offset of the first event that is not finished, which is the one committed, for partitions owned.",
    ),
    Definition(
        "streamchar_oldest_unfinished_seconds",
        "gauge",
        "s",
        (),
        "Age of the oldest event that was read and not finished.",
    ),
    Definition("streamchar_rebalances_total", "counter", "", (), "Assignments of partitions."),
    Definition(
        "streamchar_last_commit_timestamp_seconds", "gauge", "s", (), "When offsets were last committed."
    ),
    # Process
    Definition("streamchar_workers_ready", "gauge", "", (), "Worker processes that are ready."),
    Definition("streamchar_workers_busy", "gauge", "", (), "Worker processes at work."),
    Definition(
        "streamchar_workers_spare", "gauge", "", (), "Worker processes kept ready to replace a lost one."
    ),
    Definition(
        "streamchar_workers_configured",
        "gauge",
        "",
        (),
        "Worker processes there should be (workers.count), spares not counted.",
    ),
    Definition("streamchar_worker_ends_total", "counter", "", ("cause",), "Ended worker processes by cause."),
    Definition(
        "streamchar_worker_start_seconds",
        "histogram",
        "s",
        (),
        "Time a worker took to become ready.",
        SHORT_BUCKETS,
    ),
    Definition(
        "streamchar_worker_peak_bytes", "gauge", "byte", (), "Peak resident size of the last ended worker."
    ),
    Definition(
        "streamchar_loop_lag_seconds", "histogram", "s", (), "Delay of the event loop.", SHORT_BUCKETS
    ),
    Definition(
        "streamchar_publication_blocked",
        "gauge",
        "",
        (),
        "1 while nothing can be published because the brokers are away or the group must be joined anew.",
    ),
    Definition("streamchar_breaker_open", "gauge", "", (), "1 while the breaker stops the intake."),
    Definition(
        "streamchar_build_info",
        "gauge",
        "",
        ("version", "python", "config_digest"),
        "Always 1; versions of the software and of Python, digest of the characterization's configuration.",
    ),
    # Sky and PSF: the latest exposure
    Definition("streamchar_psf_fwhm_arcsec", "gauge", "arcsec", ("instrument", "band"), "FWHM of the PSF."),
    Definition("streamchar_psf_fwhm_pixels", "gauge", "pixel", ("instrument", "band"), "FWHM of the PSF."),
    Definition(
        "streamchar_psf_ellipticity_ratio",
        "gauge",
        "",
        ("instrument", "band"),
        "Ellipticity sqrt(e1^2 + e2^2) of the PSF.",
    ),
    Definition("streamchar_psf_stars", "gauge", "", ("instrument", "band"), "Stars the PSF was fitted to."),
    Definition(
        "streamchar_psf_stars_reserved",
        "gauge",
        "",
        ("instrument", "band"),
        "Stars withheld from the fit of the PSF.",
    ),
    Definition(
        "streamchar_psf_candidates",
        "gauge",
        "",
        ("instrument", "band"),
        "Stars chosen by the star selector.",
    ),
    Definition(
        "streamchar_psf_size_residual_ratio",
        "gauge",
        "",
        ("instrument", "band"),
        "Scatter of star minus model trace radius over the median radius, on reserved stars when there are any.",
    ),
    Definition(
        "streamchar_psf_size_bias_pixels",
        "gauge",
        "pixel",
        ("instrument", "band"),
        "Median of star minus model trace radius, on reserved stars when there are any.",
    ),
    Definition(
        "streamchar_psf_ellipticity_residual_ratio",
        "gauge",
        "",
        ("instrument", "band"),
        "Scatter of star minus model ellipticity, both components in quadrature, on reserved stars when there are any.",
    ),
    Definition(
        "streamchar_psf_size_spread_pixels",
        "gauge",
        "pixel",
        ("instrument", "band"),
        "Largest minus smallest trace radius of the PSF over the detector.",
    ),
    Definition(
        "streamchar_aperture_correction_scatter_ratio",
        "gauge",
        "",
        ("instrument", "band"),
        "Scatter of the stars about the aperture correction of the PSF flux.",
    ),
    Definition("streamchar_sky_level", "gauge", "adu", ("instrument", "band"), "Sky level."),
    Definition("streamchar_sky_noise", "gauge", "adu", ("instrument", "band"), "Noise of the sky."),
    Definition(
        "streamchar_cosmic_ray_ratio",
        "gauge",
        "",
        ("instrument", "band"),
        "Fraction of pixels hit by cosmic rays.",
    ),
    Definition(
        "streamchar_exposure_sources",
        "gauge",
        "",
        ("instrument", "band"),
        "Sources in the catalogue.",
    ),
    Definition(
        "streamchar_quality_grade",
        "gauge",
        "",
        ("instrument", "band"),
        "Quality grade: 0 green, 1 yellow, 2 orange, 3 red, -1 unknown.",
    ),
    Definition(
        "streamchar_last_exposure_timestamp_seconds",
        "gauge",
        "s",
        ("instrument", "band"),
        "When an exposure was last characterized: the age of all figures of this instrument and band.",
    ),
    Definition("streamchar_sources_total", "counter", "", (), "Sources measured."),
    Definition(
        "streamchar_exposures_without_stars_total",
        "counter",
        "",
        ("instrument",),
        "Exposures without a usable star.",
    ),
    Definition(
        "streamchar_quality_grades_total",
        "counter",
        "",
        ("instrument", "band", "grade"),
        "Exposures by quality grade.",
    ),
)
"""Every metric of the service; documentation and dashboards are checked against it."""


class Metrics:
    """A registry with all metrics of :data:`DEFINITIONS`.

    An unknown name is a programming error in the coordinator (``KeyError``); changes that come from workers are
    applied with :meth:`apply`, which refuses unknown ones quietly.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._definitions = {definition.name: definition for definition in DEFINITIONS}
        self._collectors = {definition.name: self._make(definition) for definition in DEFINITIONS}
        self._series: dict[str, set[tuple[str, ...]]] = {definition.name: set() for definition in DEFINITIONS}

    def change(
        self,
        name: str,
        value: float = 1.0,
        labels: Mapping[str, str] | None = None,
        exposure: str | None = None,
    ) -> None:
        """Increment a counter, set a gauge, or observe a value for a histogram.

        Parameters
        ----------
        name
            A name of :data:`DEFINITIONS`.
        value
            Increment, value or observation.
        labels
            Label values by name; beyond :data:`MAX_SERIES` different ones all become :data:`OTHER`.
        exposure
            Which exposure it came from, ``instrument/exposure/detector``: the exemplar of counters and histograms.

        Raises
        ------
        KeyError
            The metric is not defined.
        ValueError
            The labels are not those of the definition.
        """
        collector = self._collectors[name]
        child = collector.labels(**self._bounded(name, labels)) if labels else collector
        exemplar = {"exposure": exposure[:_EXEMPLAR_LENGTH]} if exposure else None
        match child:
            case Counter():
                child.inc(value, exemplar)
            case Gauge():
                child.set(value)
            case Histogram():
                child.observe(value, exemplar)

    def apply(self, name: str, value: float, labels: Mapping[str, str], exposure: str | None = None) -> bool:
        """Apply a change that a worker made; False when it is none of ours."""
        definition = self._definitions.get(name)
        if definition is None or set(labels) != set(definition.labels):
            return False
        if definition.kind == "counter" and not value >= 0:
            return False
        self.change(name, value, labels, exposure)
        return True

    def clear(self, name: str) -> None:
        """Remove all labelled series of a metric, for example those of partitions that were given away."""
        self._collectors[name].clear()
        self._series[name].clear()

    def text(self) -> bytes:
        """Return all metrics in the Prometheus text format, which has no exemplars."""
        return generate_latest(self.registry)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics and their content type.

        Parameters
        ----------
        accept
            The request's ``Accept`` header: OpenMetrics, with exemplars, for those who ask for it; otherwise the
            Prometheus text format.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _bounded(self, name: str, labels: Mapping[str, str]) -> Mapping[str, str]:
        """Return the labels, or others in their place when the metric has too many series already."""
        series = self._series[name]
        values = tuple(labels[label] for label in sorted(labels))
        if values not in series:
            if len(series) >= MAX_SERIES:
                return dict.fromkeys(labels, OTHER)
            series.add(values)
        return labels

    def _make(self, definition: Definition) -> Counter | Gauge | Histogram:
        name, text, labels = definition.name, definition.help, definition.labels
        if definition.kind == "counter":
            return Counter(name, text, labels, registry=self.registry)
        if definition.kind == "gauge":
            return Gauge(name, text, labels, registry=self.registry)
        return Histogram(name, text, labels, registry=self.registry, buckets=definition.buckets)
