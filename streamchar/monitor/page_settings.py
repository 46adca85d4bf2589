"""The settings of the live page of the night."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from streamchar.configuration import Configuration

DetectorNumber = Annotated[int, Field(ge=0)]
Place = tuple[float, float, Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]

REPORT_FIELDS = ("instrument", "exposure", "detector", "event_id")
"""What a report's address may be made of."""


class CameraLayout(Configuration):
    """Where the detectors of a camera are in the focal plane, seen with x to the right and y upwards."""

    rows: int = Field(1, ge=1, le=1000)
    """Rows of equal detectors, numbered from 0 row by row from the lower left."""

    columns: int = Field(1, ge=1, le=1000)
    """Columns of equal detectors."""

    places: dict[Annotated[DetectorNumber, Field(strict=False)], Place] = Field(default_factory=dict)
    """Instead of rows and columns, for each detector the x and y of its lower left corner, its width and its height,
    in any unit."""


class DashboardSettings(Configuration):
    """The live page of the night."""

    enabled: bool = False
    """Whether ``streamchar serve`` also serves the page, from a process of its own."""

    host: str = "127.0.0.1"
    """Address to listen on; the loopback address unless told otherwise. The page needs no password: put a proxy that
    asks for one before it when others can reach the address."""

    port: int = Field(8751, ge=0, le=65535)
    """Port; 0 for any free one."""

    names: tuple[str, ...] = ()
    """Host names under which browsers may ask for the page, besides addresses and ``localhost``. Others are refused:
    otherwise any web site could read the page by giving its own name our address (DNS rebinding)."""

    max_pages: int = Field(100, ge=1)
    """Most pages that are kept up to date at the same time."""

    span: float = Field(24.0, gt=0, le=7 * 24)
    """Hours to read back at the start, and to remember."""

    gap: float = Field(5.0, gt=0)
    """Hours without exposures that separate one night from the next."""

    metrics: tuple[str, ...] = ()
    """Addresses of services' metrics, such as ``http://127.0.0.1:8750/metrics``, for workers and lag. The service that
    serves the page adds its own."""

    report: str = ""
    """Address of the report of an exposure, for example
    ``https://archive.example.org/{instrument}/{exposure}/{detector}.html``; empty for no links."""

    roots: tuple[Path, ...] = ()
    """Folders below which thumbnails may be read (products named ``thumbnail`` in the status, with a ``file:`` URI)."""

    cameras: dict[str, CameraLayout] = Field(default_factory=dict)
    """Focal planes by instrument. Where none is given it is taken from the detectors' places on the sky, and without
    celestial coordinates drawn as a grid by detector number."""

    @field_validator("report")
    @classmethod
    def _check_report(cls, report: str) -> str:
        names = {name for _, name, _, _ in string.Formatter().parse(report) if name is not None}
        if unknown := sorted(names - set(REPORT_FIELDS)):
            raise ValueError(f"{{{unknown[0]}}} is none of {{{'}, {'.join(REPORT_FIELDS)}}}")
        return _web_address(report) if report else report

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_web_address, metrics))


def _web_address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError(f"'{text[:100]}' is no http:// or https:// address")
    return text
