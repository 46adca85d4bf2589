"""A night for tests of the live page: announcements, quality records and statuses as the service publishes them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from streamchar.messages import (
    ExposureReady,
    ExposureStatus,
    Message,
    ProductDescription,
    Provenance,
    PsfGrid,
    PsfQuality,
    Reason,
    SourcePosition,
    StageTiming,
    SummaryStatistics,
)

DIGEST = "sha256:" + "0" * 64
PROVENANCE = Provenance(software_version="1")
GRADES = ((0.9, "green"), (1.1, "yellow"), (1.4, "orange"), (9.0, "red"))


@dataclass(frozen=True)
class SimulatedNight:
    """What a camera of ``rows`` by ``columns`` detectors brings in a night.

    ``corner_gap`` detectors are left out at each corner of the square; ``on_sky`` gives the detectors celestial
    coordinates; ``grid`` adds the PSF over each detector.
    """

    instrument: str = "TESTCAM"
    rows: int = 3
    columns: int = 3
    corner: int = 0
    bands: tuple[str, ...] = ("g", "r", "i")
    begin: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(minutes=5))
    cadence: float = 35.0
    delay: float = 8.0
    exposure_time: float | None = None
    on_sky: bool = True
    grid: bool = True
    seed: int = 1
    failures: float = 0.0
    reason: str = "invalid_exposure"

    @property
    def detectors(self) -> list[tuple[int, int, int]]:
        """Number, row and column of each detector."""
        places = [
            (row, column)
            for row in range(self.rows)
            for column in range(self.columns)
            if not (
                min(row, self.rows - 1 - row) < self.corner
                and min(column, self.columns - 1 - column) < self.corner
            )
        ]
        return [(number, row, column) for number, (row, column) in enumerate(places)]

    def conditions(self, visit: int) -> tuple[str, float, float, float]:
        """Band, seeing and ellipticity (e1, e2) of a visit."""
        band = self.bands[(visit // 20) % len(self.bands)]
        random = np.random.default_rng([self.seed, visit])
        seeing = 0.85 + 0.16 * math.sin(visit / 17) + 0.07 * math.sin(visit / 4.3) + 0.03 * random.normal()
        seeing *= {"g": 1.06, "r": 1.0, "i": 0.96}.get(band, 1.0)
        return band, seeing, 0.03 * math.sin(visit / 9), 0.03 * math.cos(visit / 11)

    def visit(self, visit: int) -> Iterator[tuple[ExposureReady, PsfQuality | None, ExposureStatus]]:
        """Yield announcement, quality record (None for a failure) and status of each detector."""
        band, seeing, e1, e2 = self.conditions(visit)
        created = self.begin + timedelta(seconds=visit * self.cadence)
        random = np.random.default_rng([self.seed, visit, 1])
        for detector, row, column in self.detectors:
            common = {"event_id": f"{self.instrument}-{visit}-{detector}", "instrument": self.instrument}
            common |= {"exposure": visit, "detector": detector, "band": band}
            timing = {} if self.exposure_time is None else self._observed(created)
            ready = ExposureReady(
                **common, uri=f"/data/{visit}/{detector}.fits", created_at=created, **timing
            )
            failed = random.uniform() < self.failures
            degraded = not failed and random.uniform() < self.failures
            outcome = "failed" if failed else "degraded" if degraded else "succeeded"
            published = created + timedelta(seconds=self.delay + float(random.gamma(2.0, 1.0)))
            reasons = ()
            if failed:
                reasons = (Reason(code=self.reason, message=f"no pixel of {ready.uri} is finite"),)
            elif degraded:
                reasons = (Reason(code="psf_order_lowered", message="too few stars"),)
            status = ExposureStatus(
                **common,
                config_digest=DIGEST,
                outcome=outcome,
                reasons=reasons,
                source=SourcePosition(topic="t", partition=0, offset=detector),
                created_at=created,
                received_at=created,
                published_at=published,
                products=()
                if failed
                else (ProductDescription(product="psf-quality", topic="streamchar.psf-quality.v1"),),
                provenance=PROVENANCE,
            )
            quality = None
            if not failed:
                u, v = (column + 0.5) / self.columns - 0.5, (row + 0.5) / self.rows - 0.5
                width = seeing * (1 + 0.25 * (u * u + v * v) + 0.01 * random.normal())
                quality = PsfQuality(
                    **common,
                    **timing,
                    config_digest=DIGEST,
                    outcome=outcome,
                    reasons=reasons,
                    width=4000,
                    height=4000,
                    psf_fwhm=width / 0.2,
                    seeing=width if self.on_sky else None,
                    psf_e1=e1 + 0.06 * (u * u - v * v),
                    psf_e2=e2 + 0.12 * u * v,
                    n_psf_used=int(random.integers(40, 160)),
                    n_sources=int(random.integers(800, 2400)),
                    cosmic_ray_fraction=float(random.uniform(1e-4, 3e-4)),
                    statistics=self._statistics(row, column),
                    psf_grid=self._grid(u, v, e1, e2) if self.grid else None,
                    grade=next(grade for limit, grade in GRADES if width < limit),
                    timings=(StageTiming(stage="characterize", cpu=1.1, wall=1.3),),
                    provenance=PROVENANCE,
                )
            yield ready, quality, status

    def messages(self, visit: int) -> list[Message]:
        """All messages of a visit in the order in which they are published."""
        triples = list(self.visit(visit))
        found: list[Message] = [ready for ready, _, _ in triples]
        for _, quality, status in triples:
            found += [status] if quality is None else [quality, status]
        return found

    def _observed(self, created: datetime) -> dict[str, float]:
        assert self.exposure_time is not None
        middle = created.timestamp() - 2.0 - 0.5 * self.exposure_time
        return {"mid_time": middle / 86400.0 + 40587.0, "exposure_time": self.exposure_time}

    def _statistics(self, row: int, column: int) -> SummaryStatistics:
        values: dict[str, float | tuple[float, ...]] = {"sky_bg": 420.0 + 3 * row, "pixel_scale": 0.2}
        if self.on_sky:
            size, pitch = 0.222, 0.232
            # The sky is seen mirrored and turned by 30 degrees, as by a camera on a rotator.
            corners = [(0, 0), (size, 0), (size, size), (0, size)]
            x = np.array([column * pitch + dx for dx, _ in corners])
            y = np.array([row * pitch + dy for _, dy in corners])
            east = -(x * math.cos(0.52) - y * math.sin(0.52))
            north = x * math.sin(0.52) + y * math.cos(0.52)
            dec = -20.0 + north
            values |= {
                "ra_corners": tuple(150.0 + east / np.cos(np.radians(dec))),
                "dec_corners": tuple(dec),
            }
        return SummaryStatistics.from_values(values)

    def _grid(self, u: float, v: float, e1: float, e2: float) -> PsfGrid:
        steps = (np.arange(5) + 0.5) / 5
        x, y = (axis.ravel() for axis in np.meshgrid(4000 * steps - 0.5, 4000 * steps - 0.5))
        du, dv = (
            u + (x / 4000 - 0.5) / self.columns,
            v + (y / 4000 - 0.5) / self.rows,
        )
        trace = 8.0 * (1 + 0.25 * (du**2 + dv**2)) ** 2
        first, second = e1 + 0.06 * (du**2 - dv**2), e2 + 0.12 * du * dv
        moments = {
            "ixx": 0.5 * trace * (1 + first),
            "iyy": 0.5 * trace * (1 - first),
            "ixy": 0.5 * trace * second,
        }
        columns = {"x": x, "y": y, **moments}
        return PsfGrid(**{name: tuple(values.tolist()) for name, values in columns.items()})
