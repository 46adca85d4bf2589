"""What the page shows, computed from the visits: plain lists and maps that become JSON. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.dashboard.layout import Outline
from streamchar.dashboard.visits import GRADES, OUTCOMES, Detail, Visit, Visits

VISIT_COLUMNS = (
    "instrument",
    "exposure",
    "at",
    "band",
    "tense",
    "frames",
    "succeeded",
    "degraded",
    "failed",
    "expired",
    "seeing",
    "seeing_low",
    "seeing_high",
    "fwhm",
    "ellipticity",
    "ellipticity_low",
    "ellipticity_high",
    "stars",
    "sources",
    "sky",
    "latency",
    "latency_max",
    "grade",
    "cells",
)
"""Columns of a visit. Medians over the frames, with low and high their 10th and 90th percentiles, sources their sum;
latency in seconds; ``cells`` is given for the latest visits only, see :func:`cells`."""

CELL_VISITS = 12
LATENCY_LIMIT = 60.0
"""Seconds from the end of an exposure within which its results should be published."""

LATENCY_FRAMES = 2_000
LIGHTS = 60
LIGHT_VISITS = 200
REASONS = 30
GRID_FRAMES = 40
"""Cameras with more detectors have so small ones on the page that the variation within them cannot be seen."""

_CELL_CODES = {"waiting": -1, "succeeded": -2, "degraded": -2, "failed": -3, "expired": -4}
_BAD_FRACTION = 0.1


def visit_row(visit: Visit, *, with_cells: bool = False) -> list[Any]:
    """Return the values of :data:`VISIT_COLUMNS` for a visit."""
    frames = visit.frames
    outcomes = np.bincount(frames["outcome"], minlength=len(OUTCOMES))
    ellipticity = np.hypot(frames["e1"], frames["e2"])
    latencies, _ = visit.latencies
    return [
        *visit.key,
        round(visit.at, 3),
        visit.band,
        visit.tense,
        len(frames),
        *(int(number) for number in outcomes[1:]),
        *quantiles(frames["seeing"], (0.5, 0.1, 0.9), 3),
        *quantiles(frames["fwhm"], (0.5,), 3),
        *quantiles(ellipticity, (0.5, 0.1, 0.9), 4),
        *quantiles(frames["stars"], (0.5,), 0),
        _total(frames["sources"]),
        *quantiles(frames["sky"], (0.5,), 2),
        *quantiles(latencies, (0.5, 1.0), 2),
        worst_grade(frames["grade"]),
        cells(visit) if with_cells else None,
    ]


def cells(visit: Visit) -> list[list[int]]:
    """Return detectors and their FWHM for a small map, in thousandths of an arcsecond (of a pixel without seeing).

    Negative values say that there is none: -1 waiting, -2 no PSF, -3 failed, -4 expired.
    """
    frames = np.sort(visit.frames, order="detector")
    width = np.where(np.isfinite(frames["seeing"]), frames["seeing"], frames["fwhm"])
    values = [
        _CELL_CODES[OUTCOMES[outcome]] if not math.isfinite(value) else round(1000 * value)
        for outcome, value in zip(frames["outcome"].tolist(), width.tolist(), strict=True)
    ]
    return [frames["detector"].tolist(), values]


def totals(visits: Visits) -> dict[str, Any]:
    """Count the night's frames by outcome, and say how long it has lasted."""
    outcomes = np.zeros(len(OUTCOMES), np.int64)
    for visit in visits:
        outcomes += np.bincount(visit.frames["outcome"], minlength=len(OUTCOMES))
    first = next(iter(visits), None)
    return {
        "visits": len(visits),
        "frames": visits.frame_count,
        **{name: int(number) for name, number in zip(OUTCOMES, outcomes, strict=True)},
        "began": None if first is None else round(first.at, 3),
        "newest": round(visits.newest, 3) or None,
    }


def latency(visits: Visits) -> dict[str, Any]:
    """Median, 95th percentile and largest latency of the frames finished last, and how many of them took too long."""
    parts: list[NDArray[np.float64]] = []
    count = 0
    origins: set[str] = set()
    for visit in reversed(visits):
        values, from_closed = visit.latencies
        if len(values):
            parts.append(values)
            count += len(values)
            origins.add("shutter" if from_closed else "announcement")
        if count >= LATENCY_FRAMES:
            break
    values = np.concatenate(parts) if parts else np.empty(0)
    median, high, largest = quantiles(values, (0.5, 0.95, 1.0), 2)
    return {
        "p50": median,
        "p95": high,
        "max": largest,
        "frames": count,
        "late": int(np.count_nonzero(values > LATENCY_LIMIT)),
        "limit": LATENCY_LIMIT,
        "from": origins.pop() if len(origins) == 1 else "either",
    }


def lights(visits: Visits) -> list[dict[str, Any]]:
    """Return the grade of the latest graded visit of each instrument and band, and what the visits before it had."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for visit in islice(reversed(visits), LIGHT_VISITS):
        key = visit.key[0], visit.band or ""
        finished = visit.frames["outcome"] > 0
        if not finished.any():
            continue
        light = found.get(key)
        if light is None:
            if len(found) >= LIGHTS:
                continue
            light = found[key] = {
                "instrument": key[0],
                "band": key[1],
                "grade": worst_grade(visit.frames["grade"]),
                "at": round(visit.at, 3),
                "exposure": visit.key[1],
                "counts": [0] * len(GRADES),
            }
        light["counts"][GRADES.index(worst_grade(visit.frames["grade"]))] += 1
    return sorted(found.values(), key=lambda light: (light["instrument"], light["band"]))


def reasons(visits: Visits) -> list[list[Any]]:
    """Return outcome, reason code and number of frames, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    for visit in visits:
        frames = visit.frames
        coded = frames[frames["codes"] > 0]
        pairs, numbers = np.unique(
            coded["outcome"].astype(np.int64) << 16 | coded["codes"], return_counts=True
        )
        for pair, number in zip(pairs.tolist(), numbers.tolist(), strict=True):
            for code in visits.codes(pair & 0xFFFF):
                counts[OUTCOMES[pair >> 16], code] += number
    return [[outcome, code, number] for (outcome, code), number in counts.most_common(REASONS)]


def failures(visits: Visits, limit: int = 60) -> list[dict[str, Any]]:
    """Return the latest events without products, newest first."""
    ordered = sorted(visits.failures, key=lambda failure: -failure.at)[:limit]
    return [
        {
            "at": round(failure.at, 3),
            "outcome": failure.outcome,
            "event_id": failure.event_id,
            "instrument": failure.instrument,
            "exposure": failure.exposure,
            "detector": failure.detector,
            "code": failure.code,
            "text": failure.text[:500],
        }
        for failure in ordered
    ]


def frame_list(visit: Visit, visits: Visits) -> Iterator[dict[str, Any]]:
    """Describe each frame of a visit; what is not known is None."""
    latencies = _latency_by_detector(visit)
    with_grids = len(visit) <= GRID_FRAMES
    for row in np.sort(visit.frames, order="detector"):
        detector = int(row["detector"])
        detail = visit.details.get(detector)
        yield {
            "detector": detector,
            "outcome": OUTCOMES[row["outcome"]],
            "grade": GRADES[row["grade"]],
            "codes": list(visits.codes(int(row["codes"]))),
            **{
                name: _number(float(row[name]), digits)
                for name, digits in (
                    ("seeing", 3),
                    ("fwhm", 3),
                    ("e1", 4),
                    ("e2", 4),
                    ("stars", 0),
                    ("sources", 0),
                    ("sky", 2),
                    ("cosmic_rays", 6),
                    ("work", 2),
                    ("announced", 3),
                    ("published", 3),
                )
            },
            "latency": _number(latencies.get(detector, math.nan), 2),
            "detailed": detail is not None,
            **_explanation(detail),
            "grid": shape_grid(detail, row) if detail is not None and with_grids else None,
        }


def shape_grid(detail: Detail, row: np.void) -> list[list[float]] | None:
    """Return place, width and ellipticity of the PSF over a detector, from its moments.

    Returns
    -------
    list
        For each point x and y from 0 to 1 over the detector, the FWHM in the unit of ``seeing`` (of ``fwhm`` without
        seeing), e1 and e2. The FWHM follows from that at the centre by the trace radius. None without a grid.
    """
    grid, size = detail.grid, detail.size
    if grid is None or size is None or not grid.size:
        return None
    x, y, xx, yy, xy = grid.astype(np.float64)
    trace = xx + yy
    center = np.argmin(np.hypot(x - 0.5 * (size[0] - 1), y - 0.5 * (size[1] - 1)))
    width = float(row["seeing"] if math.isfinite(row["seeing"]) else row["fwhm"])
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = np.stack(
            [
                (x + 0.5) / size[0],
                (y + 0.5) / size[1],
                width * np.sqrt(trace / trace[center]),
                (xx - yy) / trace,
                2 * xy / trace,
            ],
            axis=1,
        )
    good = columns[np.isfinite(columns).all(axis=1)]
    return [[round(value, 4) for value in point] for point in good.tolist()]


def outlines(layout: Mapping[int, Outline]) -> dict[str, list[float]]:
    """Return the corners of each detector in one row of eight numbers, scaled so that the camera is 1000 wide or high."""
    if not layout:
        return {}
    points = np.concatenate(list(layout.values()))
    low = points.min(axis=0)
    extent = float(np.ptp(points, axis=0).max()) or 1.0
    return {
        str(detector): np.round((outline - low) * 1000.0 / extent, 1).ravel().tolist()
        for detector, outline in layout.items()
    }


def worst_grade(grades: ArrayLike) -> str:
    """Return the grade that a tenth of the graded frames, at least one, have or exceed; "unknown" without any."""
    known = np.sort(np.asarray(grades))
    known = known[known > 0]
    if not len(known):
        return GRADES[0]
    return GRADES[known[len(known) - max(1, math.floor(_BAD_FRACTION * len(known)))]]


def quantiles(values: ArrayLike, fractions: Sequence[float], digits: int) -> list[float | None]:
    """Return quantiles of the finite values, linearly interpolated; None where there are none."""
    finite = np.asarray(values, np.float64)
    finite = np.sort(finite[np.isfinite(finite)])
    if not len(finite):
        return [None] * len(fractions)
    places = np.asarray(fractions) * (len(finite) - 1)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, len(finite) - 1)
    found = finite[below] + (places - below) * (finite[above] - finite[below])
    return [_number(value, digits) for value in found.tolist()]


def _explanation(detail: Detail | None) -> dict[str, Any]:
    if detail is None:
        return {"event_id": "", "attempts": None, "reasons": [], "grade_reasons": [], "products": []}
    return {
        "event_id": detail.event_id,
        "attempts": detail.attempts or None,
        "reasons": [{"code": reason.code, "text": reason.message or ""} for reason in detail.reasons],
        "grade_reasons": [
            {"code": reason.code, "values": dict(reason.values)} for reason in detail.grade_reasons
        ],
        "products": [
            {"name": product.product, "topic": product.topic, "uri": product.uri, "rows": product.rows}
            for product in detail.products
        ],
    }


def _latency_by_detector(visit: Visit) -> dict[int, float]:
    finished = visit.frames[np.isfinite(visit.frames["published"])]
    values, _ = visit.latencies
    if len(values) != len(finished):
        return {}
    return dict(zip(finished["detector"].tolist(), values.tolist(), strict=True))


def _total(values: NDArray[np.float32]) -> int | None:
    finite = values[np.isfinite(values)]
    return int(finite.sum(dtype=np.float64)) if len(finite) else None


def _number(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    return round(value) if digits == 0 else round(value, digits)
