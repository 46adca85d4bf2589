"""What the Grafana dashboards show: panels as data, and the JSON made from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["timeseries", "stat", "bargauge", "state-timeline", "heatmap", "table"]
GRID_WIDTH = 24
ROW_HEIGHT = 8
SOURCE = {"type": "prometheus", "uid": "prometheus"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes
    ----------
    title, description, unit
        What it shows; the unit by Grafana's identifier.
    queries
        PromQL expressions and their legends.
    kind
        Grafana's panel type.
    width
        Of 24 columns.
    limits
        Values from which on it is yellow and red.
    exemplars
        Whether single exposures are shown as points.
    """

    title: str
    description: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: Kind = "timeseries"
    width: int = 8
    limits: tuple[float, float] | None = None
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard: titled rows of panels.

    Attributes
    ----------
    uid, title, description
        What it is.
    rows
        Panels by title of the row.
    variables
        Label names that can be chosen, with the metric they are taken from.
    """

    uid: str
    title: str
    description: str
    rows: dict[str, tuple[Panel, ...]]
    variables: dict[str, str] = field(default_factory=dict)


_WHERE = '{instrument=~"$instrument",band=~"$band"}'
_FRESH = f"and (time() - streamchar_last_exposure_timestamp_seconds{_WHERE} < 600)"
_LEGEND = "{{instrument}} {{band}}"


def _quality(title: str, description: str, unit: str, metric: str, **options: Any) -> Panel:
    query = f"quantile by (instrument, band) (0.5, {metric}{_WHERE} {_FRESH})"
    return Panel(title, description, unit, ((query, _LEGEND),), **options)


NIGHT = Dashboard(
    "streamchar-night",
    "streamchar: night quality",
    "What the sky and the telescope deliver: PSF, sky, grades. Figures older than ten minutes are left out.",
    {
        "Point-spread function": (
            Panel(
                "Seeing",
                "FWHM of the PSF at the centre of the detectors, median over the processes.",
                "arcsec",
                (
                    (
                        f"instrument_band:streamchar_psf_fwhm_arcsec:median{_WHERE}",
                        _LEGEND,
                    ),
                ),
                width=12,
                limits=(2.0, 3.0),
            ),
            Panel(
                "Ellipticity",
                "sqrt(e1^2 + e2^2) of the PSF, median over the processes: tracking, wind, alignment.",
                "none",
                ((f"instrument_band:streamchar_psf_ellipticity_ratio:median{_WHERE}", _LEGEND),),
                width=12,
                limits=(0.1, 0.2),
            ),
            _quality(
                "FWHM in pixels",
                "FWHM of the PSF in pixels; below 2 the image is undersampled.",
                "pixel",
                "streamchar_psf_fwhm_pixels",
            ),
            _quality(
                "Size spread over the field",
                "Largest minus smallest trace radius over the detector: tilt, curvature, focus.",
                "pixel",
                "streamchar_psf_size_spread_pixels",
            ),
            Panel(
                "Stars",
                "Stars found, used for the PSF, and withheld to test it.",
                "short",
                tuple(
                    (
                        f"quantile by (instrument, band) (0.5, {metric}{_WHERE} {_FRESH})",
                        f"{what} {_LEGEND}",
                    )
                    for metric, what in (
                        ("streamchar_psf_candidates", "found"),
                        ("streamchar_psf_stars", "used"),
                        ("streamchar_psf_stars_reserved", "withheld"),
                    )
                ),
            ),
        ),
        "How well the model fits stars it has not seen": (
            _quality(
                "Size residual",
                "Scatter of star minus model radius over the radius, on withheld stars.",
                "percentunit",
                "streamchar_psf_size_residual_ratio",
            ),
            _quality(
                "Size bias",
                "Median of star minus model radius; not zero means a wrong model.",
                "pixel",
                "streamchar_psf_size_bias_pixels",
            ),
            _quality(
                "Ellipticity residual",
                "Scatter of star minus model ellipticity, on withheld stars.",
                "none",
                "streamchar_psf_ellipticity_residual_ratio",
            ),
            _quality(
                "Aperture correction",
                "Relative scatter of the stars about the aperture correction of the PSF flux.",
                "percentunit",
                "streamchar_aperture_correction_scatter_ratio",
            ),
            _quality(
                "Sources",
                "Sources in the catalogue of an exposure: clouds lower it.",
                "short",
                "streamchar_exposure_sources",
            ),
            _quality(
                "Cosmic rays",
                "Fraction of pixels hit by cosmic rays; a jump means that stars are eaten, or a light leak.",
                "percentunit",
                "streamchar_cosmic_ray_ratio",
            ),
        ),
        "Sky and grades": (
            _quality("Sky level", "Level of the sky: moon, twilight, clouds.", "ADU", "streamchar_sky_level"),
            _quality("Sky noise", "Standard deviation of the sky.", "ADU", "streamchar_sky_noise"),
            Panel(
                "Grade of the latest exposures",
                "Worst grade of the latest exposures: 0 green, 1 yellow, 2 orange, 3 red, -1 no limits configured.",
                "none",
                ((f"max by (instrument, band) (streamchar_quality_grade{_WHERE} {_FRESH})", _LEGEND),),
                kind="state-timeline",
                limits=(1, 3),
            ),
            Panel(
                "Exposures by grade",
                "Graded exposures in five minutes.",
                "short",
                (
                    (
                        f"sum by (grade) (increase(streamchar_quality_grades_total{_WHERE}[5m]))",
                        "{{grade}}",
                    ),
                ),
            ),
            Panel(
                "Impossible results",
                "Results outside the possible range of a quantity, in fifteen minutes.",
                "short",
                (
                    (
                        (
                            "sum by (instrument, quantity) (increase("
                            'streamchar_implausible_results_total{instrument=~"$instrument"}[15m]))'
                        ),
                        "{{instrument}} {{quantity}}",
                    ),
                ),
            ),
            Panel(
                "Exposures without stars",
                "Exposures without a usable star, in fifteen minutes: clouds, closed dome, defocus.",
                "short",
                (
                    (
                        (
                            "sum by (instrument) (increase("
                            'streamchar_exposures_without_stars_total{instrument=~"$instrument"}[15m]))'
                        ),
                        "{{instrument}}",
                    ),
                ),
            ),
        ),
    },
    {"instrument": "streamchar_psf_fwhm_pixels", "band": "streamchar_psf_fwhm_pixels"},
)

_AT = '{instance=~"$instance"}'


def _sum(metric: str, label: str = "") -> str:
    by = f" by ({label})" if label else ""
    return f"sum{by} ({metric}{_AT})"


def _rate(metric: str, label: str) -> str:
    return f"sum by ({label}) (rate({metric}{_AT}[5m]))"


SERVICE = Dashboard(
    "streamchar-service",
    "streamchar: service health",
    "Whether the service keeps up: latency, queues, workers, failures.",
    {
        "At a glance": (
            Panel(
                "Processes up",
                "Services that answer the scrape.",
                "short",
                (('sum(up{job="streamchar"})', "up"),),
                "stat",
                4,
            ),
            Panel(
                "Breaker",
                "1 when a service has stopped its intake.",
                "short",
                ((f"max(streamchar_breaker_open{_AT})", "open"),),
                "stat",
                4,
                (1, 1),
            ),
            Panel(
                "Brokers away",
                "1 when nothing can be published.",
                "short",
                ((f"max(streamchar_publication_blocked{_AT})", "blocked"),),
                "stat",
                4,
                (1, 1),
            ),
            Panel(
                "Lag",
                "Events that are not finished, all partitions.",
                "short",
                ((_sum("streamchar_consumer_lag"), "events"),),
                "stat",
                4,
                (50, 200),
            ),
            Panel(
                "Oldest event",
                "Age of the oldest event in hand.",
                "s",
                ((f"max(streamchar_oldest_unfinished_seconds{_AT})", "age"),),
                "stat",
                4,
                (60, 300),
            ),
            Panel(
                "Versions",
                "Software that runs.",
                "short",
                (("count by (version) (streamchar_build_info)", "{{version}}"),),
                "stat",
                4,
            ),
        ),
        "Latency": (
            Panel(
                "From announcement to publication",
                "Median and 99th percentile; the objective is 60 s. Points are single exposures.",
                "s",
                (
                    ("instrument:streamchar_end_to_end_seconds:p50_5m", "median {{instrument}}"),
                    (
                        (
                            "histogram_quantile(0.99, sum by (instrument, le) "
                            f"(rate(streamchar_end_to_end_seconds_bucket{_AT}[5m])))"
                        ),
                        "99 % {{instrument}}",
                    ),
                ),
                width=12,
                limits=(30, 60),
                exemplars=True,
            ),
            Panel(
                "From shutter to publication",
                "99th percentile, from the end of the exposure; only where mid-time and length are announced.",
                "s",
                (("instrument:streamchar_shutter_to_published_seconds:p99_5m", "{{instrument}}"),),
                width=6,
                limits=(30, 60),
            ),
            Panel(
                "Within 60 s",
                "Fraction of the events of 15 minutes that were published within 60 s of their announcement.",
                "percentunit",
                (("instrument:streamchar_within_60s:ratio_rate15m", "{{instrument}}"),),
                width=6,
            ),
            Panel(
                "Time by stage",
                "Mean elapsed time of each stage of the characterization.",
                "s",
                (("stage:streamchar_stage_seconds:mean5m", "{{stage}}"),),
                width=12,
            ),
            Panel(
                "Waiting, working, publishing",
                "99th percentile of the time in the queue, in the worker, and for publication with commit.",
                "s",
                tuple(
                    (
                        f"histogram_quantile(0.99, sum by (le) (rate({metric}_bucket{_AT}[5m])))",
                        what,
                    )
                    for metric, what in (
                        ("streamchar_queue_seconds", "queue"),
                        ("streamchar_attempt_seconds", "worker"),
                        ("streamchar_publish_seconds", "publication"),
                    )
                ),
                width=12,
                exemplars=True,
            ),
        ),
        "Flow": (
            Panel(
                "Events by outcome",
                "Events finished each second.",
                "ops",
                (("sum by (outcome) (instrument_outcome:streamchar_events:rate5m)", "{{outcome}}"),),
            ),
            Panel(
                "Received",
                "Events read each second, by topic.",
                "ops",
                ((_rate("streamchar_events_received_total", "topic"), "{{topic}}"),),
            ),
            Panel(
                "Published",
                "Bytes published each second, by topic.",
                "Bps",
                ((_rate("streamchar_published_bytes_total", "topic"), "{{topic}}"),),
            ),
            Panel(
                "Messages",
                "Messages published each second, by topic.",
                "ops",
                ((_rate("streamchar_published_messages_total", "topic"), "{{topic}}"),),
            ),
            Panel(
                "Queues",
                "Events read and not started, waiting for a worker, in flight, delayed, waiting for publication.",
                "short",
                (
                    (_sum("streamchar_events_backlog"), "backlog"),
                    (_sum("streamchar_worker_queue_events"), "for a worker"),
                    (_sum("streamchar_events_in_flight"), "in flight"),
                    (_sum("streamchar_events_delayed"), "delayed"),
                    (_sum("streamchar_publication_queue_events"), "for publication"),
                ),
            ),
            Panel(
                "Credits",
                "Events that may still be started; 0 for long means that workers are the limit.",
                "short",
                ((f"streamchar_credits{_AT}", "{{instance}}"),),
            ),
            Panel(
                "Bytes in flight",
                "Finished and not yet published.",
                "bytes",
                ((f"streamchar_result_bytes_in_flight{_AT}", "{{instance}}"),),
            ),
            Panel(
                "Lag by partition",
                "Events not finished, by input partition.",
                "short",
                ((f"streamchar_consumer_lag{_AT}", "{{topic}} {{partition}}"),),
            ),
            Panel(
                "Progress by partition",
                "Announced and finished events each second: high and low water marks.",
                "ops",
                (
                    (f"sum by (topic) (rate(streamchar_high_water_offset{_AT}[5m]))", "announced {{topic}}"),
                    (f"sum by (topic) (rate(streamchar_low_water_offset{_AT}[5m]))", "finished {{topic}}"),
                ),
            ),
            Panel(
                "Partitions",
                "Owned and paused input partitions.",
                "short",
                (
                    (f"streamchar_partitions_assigned{_AT}", "owned {{instance}}"),
                    (f"streamchar_partitions_paused{_AT}", "paused {{instance}}"),
                ),
            ),
            Panel(
                "Rebalances",
                "Assignments of partitions in ten minutes; many mean that members come and go.",
                "short",
                ((f"increase(streamchar_rebalances_total{_AT}[10m])", "{{instance}}"),),
            ),
            Panel(
                "Age of the last commit",
                "Time since something was published and committed.",
                "s",
                (("instance:streamchar_commit_age_seconds:now", "{{instance}}"),),
                limits=(300, 600),
            ),
        ),
        "Failures": (
            Panel(
                "Failed attempts",
                "Failed attempts in five minutes, by reason.",
                "short",
                ((f"sum by (reason) (increase(streamchar_event_failures_total{_AT}[5m]))", "{{reason}}"),),
                exemplars=True,
            ),
            Panel(
                "Retries",
                "Further attempts in five minutes, in the process and through the retry topic.",
                "short",
                ((f"sum by (where) (increase(streamchar_retries_total{_AT}[5m]))", "{{where}}"),),
            ),
            Panel(
                "Dead letters",
                "Events given up, in five minutes, by reason.",
                "short",
                ((f"sum by (reason) (increase(streamchar_dead_letters_total{_AT}[5m]))", "{{reason}}"),),
                exemplars=True,
            ),
            Panel(
                "Degraded",
                "Results with something left out, in five minutes, by reason.",
                "short",
                ((f"sum by (reason) (increase(streamchar_degraded_reasons_total{_AT}[5m]))", "{{reason}}"),),
            ),
            Panel(
                "Announced twice",
                "Repeated announcements in five minutes, which are not processed again.",
                "short",
                (
                    (
                        f"sum by (instrument) (increase(streamchar_duplicates_total{_AT}[5m]))",
                        "{{instrument}}",
                    ),
                ),
            ),
            Panel(
                "Never announced",
                "Incomplete visits and their missing detectors, and offsets that were gone, in an hour.",
                "short",
                (
                    (f"sum(increase(streamchar_incomplete_visits_total{_AT}[1h]))", "visits"),
                    (f"sum(increase(streamchar_missing_detectors_total{_AT}[1h]))", "detectors"),
                    (f"sum(increase(streamchar_offsets_skipped_total{_AT}[1h]))", "offsets skipped"),
                ),
            ),
        ),
        "Processes": (
            Panel(
                "Workers",
                "Configured, ready, busy and spare worker processes.",
                "short",
                tuple(
                    (_sum(f"streamchar_workers_{state}"), state)
                    for state in ("configured", "ready", "busy", "spare")
                ),
            ),
            Panel(
                "Ended workers",
                "Worker processes that ended in five minutes, by cause; closed and recycled are on purpose.",
                "short",
                ((f"sum by (cause) (increase(streamchar_worker_ends_total{_AT}[5m]))", "{{cause}}"),),
            ),
            Panel(
                "Memory of workers",
                "Peak resident size of the last worker that ended.",
                "bytes",
                ((f"streamchar_worker_peak_bytes{_AT}", "{{instance}}"),),
            ),
            Panel(
                "Start of workers",
                "Mean time a worker takes to become ready.",
                "s",
                (
                    (
                        (
                            f"sum(rate(streamchar_worker_start_seconds_sum{_AT}[15m])) / "
                            f"sum(rate(streamchar_worker_start_seconds_count{_AT}[15m]))"
                        ),
                        "start",
                    ),
                ),
            ),
            Panel(
                "Lag of the event loop",
                "99th percentile: the coordinator's heartbeats and publications are late by this.",
                "s",
                (("instance:streamchar_loop_lag_seconds:p99_5m", "{{instance}}"),),
                limits=(0.2, 0.5),
            ),
            Panel(
                "Sources",
                "Sources measured each second.",
                "ops",
                ((f"sum(rate(streamchar_sources_total{_AT}[5m]))", "sources"),),
            ),
        ),
    },
    {"instance": "streamchar_build_info"},
)

DASHBOARDS = (NIGHT, SERVICE)

# Okabe and Ito's colours can be told apart by everybody.
_COLOURS = {"green": "#009E73", "yellow": "#E69F00", "red": "#D55E00"}


def make_dashboard(dashboard: Dashboard) -> dict[str, Any]:
    """Return Grafana's JSON of a dashboard."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in dashboard.rows.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": top, "w": GRID_WIDTH, "h": 1},
            }
        )
        top, left = top + 1, 0
        for panel in row:
            if left + panel.width > GRID_WIDTH:
                top, left = top + ROW_HEIGHT, 0
            place = {"x": left, "y": top, "w": panel.width, "h": ROW_HEIGHT}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
            left += panel.width
        top += ROW_HEIGHT
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["streamchar"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "15s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "graphTooltip": 1,
        "templating": {"list": [_variable(*item) for item in dashboard.variables.items()]},
        "annotations": {"list": [_annotations()]},
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": _COLOURS["green"], "value": None}]
    if panel.limits is not None:
        steps += [
            {"color": _COLOURS[name], "value": value}
            for name, value in zip(("yellow", "red"), panel.limits, strict=True)
        ]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
    }
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 2,
            "showPoints": "auto",
            "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "exemplar": panel.exemplars,
            }
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _variable(label: str, metric: str) -> dict[str, Any]:
    return {
        "name": label,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values({metric}, {label})",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _annotations() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "enable": True,
        "datasource": SOURCE,
        "expr": 'ALERTS{alertname=~"Streamchar.*",alertstate="firing"}',
        "iconColor": _COLOURS["red"],
        "titleFormat": "{{alertname}}",
    }
