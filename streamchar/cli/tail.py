"""``streamchar tail``: the latest products, and those that follow, as rows or as JSON."""

from __future__ import annotations

import enum
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from streamchar.cli.connection import ConfigOption, OverrideOption
from streamchar.cli.lines import Column, Lines
from streamchar.cli.subscriber import (
    BandsOption,
    BootstrapOption,
    DetectorsOption,
    InstrumentsOption,
    PrefixOption,
    consumer_options,
    run_until_told,
    settings_for,
    warnings_as_lines,
)
from streamchar.printable import as_markup

if TYPE_CHECKING:
    from streamchar.client import Catalog, ExposureStatus, PsfQuality, PublishedPsf

_STYLES = {"succeeded": "green", "degraded": "yellow", "failed": "red", "expired": "magenta"}
_GRADES = {"green": "green", "yellow": "yellow", "orange": "dark_orange", "red": "red"}


class ProductChoice(enum.StrEnum):
    """What can be looked at."""

    QUALITY = "quality"
    CATALOG = "catalog"
    STATUS = "status"
    PSF = "psf"


class OutcomeChoice(enum.StrEnum):
    """What can become of an event."""

    SUCCEEDED = "succeeded"
    DEGRADED = "degraded"
    FAILED = "failed"
    EXPIRED = "expired"


def tail(
    product: Annotated[ProductChoice, typer.Argument(help="What to show.")],
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="How many of the past are shown.")] = 10,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on each line.")] = False,
    data: Annotated[
        bool,
        typer.Option("--data", help="With --json and catalog: the columns' values too; NaN becomes null."),
    ] = False,
    instrument: InstrumentsOption = None,
    band: BandsOption = None,
    detector: DetectorsOption = None,
    outcome: Annotated[
        list[OutcomeChoice] | None, typer.Option(help="Only with this outcome; may be repeated.")
    ] = None,
    bootstrap: BootstrapOption = None,
    prefix: PrefixOption = None,
    config: ConfigOption = None,
    override: OverrideOption = None,
) -> None:
    """Show the latest quality records, catalogues, statuses or PSF models, and with --follow those to come.

    Reads committed records only, without a group: it takes nothing away from anybody. Catalogues are put together and
    verified before they are shown.

    Examples: streamchar tail quality -f
              streamchar tail status --outcome failed --json | jq .reasons
              streamchar tail catalog -n 1 --json --data > catalog.json
    """
    settings = settings_for(config, override, bootstrap, prefix)
    wanted: dict[str, Any] = {
        "instrument": instrument,
        "band": band,
        "detector": detector,
        "outcome": [choice.value for choice in outcome] if outcome else None,
        "topics": settings.topics.names,
        "consumer_options": consumer_options(settings),
    }
    printer = _JsonLines(data) if as_json else _Rows(product)
    tailing = _Tail(settings.kafka.bootstrap, product, wanted, printer.show)
    with warnings_as_lines():
        try:
            run_until_told(tailing.run(last, follow=follow), sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whatever is still buffered has no reader: the interpreter must not try to write it at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass(frozen=True)
class _Tail:
    """Reads backwards from the end in ever larger steps until enough was found, then goes on."""

    bootstrap: str
    product: ProductChoice
    wanted: Mapping[str, Any]
    show: Callable[[Any], None]

    async def run(self, last: int, *, follow: bool) -> None:
        """Show the last ``last`` products, and those that follow."""
        from streamchar.client import subscribe

        back, seen = 0, {}
        if last:
            back, found = await self._past(last)
            seen = dict.fromkeys(map(identity_of, found))
            for item in list(found)[-last:]:
                self.show(item)
        if follow:
            # What was looked at before is read again and left out, so that nothing falls between.
            async for item in subscribe(
                self.bootstrap, products=(self.product.value,), from_end=back, **self.wanted
            ):
                if identity_of(item) not in seen:
                    self.show(item)

    async def _past(self, last: int) -> tuple[int, Iterable[Any]]:
        """Return how far back was read, in offsets, and what was found there, in the order of its events."""
        from streamchar.client import subscribe

        back = max(64, 8 * last)
        while True:
            subscription = subscribe(
                self.bootstrap, products=(self.product.value,), from_end=back, stop_at_end=True, **self.wanted
            )
            found: list[Any] = [item async for item in subscription]
            if len(found) >= last or subscription.reads_all:
                return back, sorted(found, key=_order)
            back *= 8


def identity_of(item: Any) -> str:
    """What tells one product from another."""
    message = _message(item)
    return f"{message.message_id} {message.event_id}"


def _message(item: Any) -> Any:
    """The message that describes a product."""
    return getattr(item, "manifest", None) or getattr(item, "model", None) or item


def _order(item: Any) -> tuple[Any, ...]:
    """Oldest first: partitions are read side by side, so that what comes from several is out of order."""
    message = _message(item)
    published = getattr(message, "published_at", None)
    return (published.timestamp() if published else 0.0, message.exposure or 0, message.detector or 0)


class _JsonLines:
    """Prints one JSON object on each line."""

    def __init__(self, data: bool) -> None:
        self._data = data

    def show(self, item: Any) -> None:
        """Print a product."""
        sys.stdout.write(
            json.dumps(describe(item, data=self._data), ensure_ascii=False, allow_nan=False) + "\n"
        )
        sys.stdout.flush()


def describe(item: Any, *, data: bool = False) -> dict[str, Any]:
    """Return a product as plain values: the message without its arrays, and on request a catalogue's values."""
    message = _message(item)
    plain: dict[str, Any] = message.model_dump(mode="json", exclude_none=True, exclude={"arrays", "chunks"})
    if data and message is not item and hasattr(item, "columns"):
        plain["data"] = {name: _listed(values.tolist()) for name, values in item.columns.items()}
    return plain


def _listed(values: Any) -> Any:
    if isinstance(values, list):
        return [_listed(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


class _Rows:
    """Prints one row for each product, below headings."""

    def __init__(self, product: ProductChoice) -> None:
        columns, self._cells = _LAYOUTS[product]
        self._console = Console(file=sys.stdout, highlight=False)
        self._lines = Lines(self._console, columns)

    def show(self, item: Any) -> None:
        """Print a product."""
        with self._console.capture() as captured:
            self._lines.show(Text.from_markup(cell) for cell in self._cells(item))
        sys.stdout.write(captured.get())
        sys.stdout.flush()


def _who(message: Any) -> list[str]:
    known = message.instrument, message.exposure, message.detector, message.band
    instrument, exposure, detector, band = ("" if value is None else as_markup(str(value)) for value in known)
    return [instrument, exposure, detector, band, _colored(getattr(message, "outcome", None), _STYLES)]


def _colored(text: str | None, styles: Mapping[str, str]) -> str:
    return "–" if text is None else f"[{styles.get(text, 'dim')}]{text}[/]"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _codes(reasons: Iterable[Any]) -> str:
    return as_markup(", ".join(dict.fromkeys(reason.code for reason in reasons)))


def _quality_cells(quality: PsfQuality) -> list[str]:
    known = quality.psf_e1 is not None and quality.psf_e2 is not None
    ellipticity = math.hypot(quality.psf_e1 or 0.0, quality.psf_e2 or 0.0) if known else None
    return [
        *_who(quality),
        _colored(quality.grade, _GRADES),
        _number(quality.seeing, 2),
        _number(ellipticity, 3),
        _number(quality.n_psf_used, 0),
        _number(quality.n_sources, 0),
        _number(quality.statistics.sky_bg if quality.statistics else None, 1),
        _codes(quality.reasons),
    ]


def _status_cells(status: ExposureStatus) -> list[str]:
    begun = status.created_at or status.received_at
    latency = (status.published_at - begun).total_seconds() if begun else None
    return [
        f"{status.published_at:%m-%d %H:%M:%S}",
        *_who(status),
        str(status.attempts),
        "–" if latency is None else f"{latency:.1f} s",
        _codes(status.reasons),
    ]


def _catalog_cells(catalog: Catalog) -> list[str]:
    manifest = catalog.manifest
    flags = sum(column.dtype == "?" for column in manifest.columns)
    size = sum(chunk.size_bytes for chunk in manifest.chunks)
    return [
        *_who(manifest),
        f"{len(catalog):,}",
        f"{len(manifest.columns) - flags} + {flags}",
        str(len(manifest.chunks)),
        f"{size / 1000:,.0f} kB",
    ]


def _psf_cells(psf: PublishedPsf) -> list[str]:
    model = psf.model
    height, width = psf.size
    return [
        *_who(model),
        as_markup(model.kind),
        f"{width} x {height}",
        str(max(model.x_powers, default=0)),
        _number(model.n_stars, 0),
        _number(model.fwhm, 2),
        _number(model.chi2, 2),
    ]


_IDENTITY = [("instrument", 12), ("exposure", -15), ("det", -4), ("band", 4), ("outcome", 9)]
_LAYOUTS: dict[ProductChoice, tuple[list[Column], Callable[[Any], list[str]]]] = {
    ProductChoice.QUALITY: (
        [
            *_IDENTITY,
            ("grade", 7),
            ("seeing″", -7),
            ("ellipt", -6),
            ("stars", -5),
            ("sources", -7),
            ("sky", -8),
            ("reasons", 0),
        ],
        _quality_cells,
    ),
    ProductChoice.STATUS: (
        [("published", 14), *_IDENTITY, ("tries", -5), ("latency", -9), ("reasons", 0)],
        _status_cells,
    ),
    ProductChoice.CATALOG: (
        [*_IDENTITY, ("sources", -8), ("columns + flags", -15), ("chunks", -6), ("size", -10)],
        _catalog_cells,
    ),
    ProductChoice.PSF: (
        [
            *_IDENTITY,
            ("kind", 8),
            ("images", -9),
            ("degree", -6),
            ("stars", -5),
            ("fwhm px", -7),
            ("chi2", -6),
        ],
        _psf_cells,
    ),
}
"""Headings with their widths, negative when flush right and 0 when open, and what fills them."""
