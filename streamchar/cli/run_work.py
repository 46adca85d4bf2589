"""One exposure of ``streamchar run``: read, characterize, write the products and the report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamchar.characterize import CharacterizationResult, CharacterizeImage
from streamchar.characterize.config import CharacterizeImageConfig
from streamchar.characterize.debug_pictures import PictureDisplay
from streamchar.characterize.display import Display, Point, no_display
from streamchar.characterize.reasons import Reason
from streamchar.characterize.summary import Summary
from streamchar.cli.run_inputs import Input
from streamchar.errors import StreamcharError
from streamchar.frozen import frozen
from streamchar.image import Exposure
from streamchar.image.access import Access
from streamchar.image.fits import ReadOptions
from streamchar.monitor.grades import Assessment, Limits, assess, limits_for
from streamchar.products import write_products
from streamchar.report.page import write_report
from streamchar.report.subject import Entry, Outcome, Subject
from streamchar.tables import FileFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray


class UnwritableProductsError(StreamcharError):
    """The products of an exposure cannot be written."""

    code = "unwritable_products"
    template = "{path}: cannot be written: {detail}"


@frozen
class Outputs:
    """What is written, and where.

    Attributes
    ----------
    directory
        Existing directory, or ``None`` when nothing is written.
    table_format
        Kind of file of the catalogue.
    regions, exposure, report
        Whether to write DS9 regions, the characterized exposure, the report.
    points
        Points at which to write pictures.
    """

    directory: Path | None = None
    table_format: FileFormat = "fits"
    regions: bool = False
    exposure: bool = False
    report: bool = False
    points: frozenset[Point] = frozenset()


@frozen
class Plan:
    """What is done with every exposure.

    Attributes
    ----------
    config
        Of the characterization.
    options, access
        How and whence files are read.
    outputs
        What is written.
    limits
        Of the quality grades.
    """

    config: CharacterizeImageConfig
    options: ReadOptions
    access: Access
    outputs: Outputs
    limits: Limits


@frozen
class Attempt:
    """What became of one exposure: small, so that it can be sent from a worker process.

    Attributes
    ----------
    input
        Which.
    seconds
        Elapsed from reading to the products.
    outcome
        ``succeeded``, ``degraded`` or ``failed``.
    summary
        Figures, or ``None`` when there are none.
    reasons
        Why it is degraded.
    error
        Why it failed, or ``None``.
    entry
        Its line in the index of reports, when reports are written.
    """

    input: Input
    seconds: float
    outcome: Outcome
    summary: Summary | None = None
    reasons: tuple[Reason, ...] = ()
    error: StreamcharError | None = None
    entry: Entry | None = None


class Desk:
    """Characterizes one exposure after the other by the same plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.task = CharacterizeImage(plan.config)
        self._configuration: Mapping[str, Any] = (
            plan.config.model_dump(mode="json") if plan.outputs.report else {}
        )

    def attempt(self, chosen: Input) -> Attempt:
        """Characterize one exposure; expected failures are in the result."""
        start = time.perf_counter()
        outputs = self.plan.outputs
        exposure: Exposure | None = None
        before: NDArray[np.float32] | None = None
        result: CharacterizationResult | None = None
        error: StreamcharError | None = None
        self.task.display = self._display(chosen)
        try:
            exposure = Exposure.read(chosen.source, self.plan.options, access=self.plan.access)
            before = exposure.image.copy() if outputs.report else None
            result = self.task.run(exposure)
            error = result.error
            self._write(chosen, result)
        except StreamcharError as failure:
            error = failure
        seconds = time.perf_counter() - start
        subject = Subject(
            chosen.source, exposure, before, result, error, self._grade(result), self._configuration, seconds
        )
        entry = None
        if outputs.report and outputs.directory is not None:
            try:
                entry = report_of(subject, chosen, outputs.directory)
            except UnwritableProductsError as failure:
                error = error or failure
        return Attempt(
            chosen,
            seconds,
            "failed" if error is not None else subject.outcome,
            None if result is None else result.summary,
            () if result is None else result.reasons,
            error,
            entry,
        )

    def _display(self, chosen: Input) -> Display:
        outputs = self.plan.outputs
        if not outputs.points or outputs.directory is None:
            return no_display
        return PictureDisplay(outputs.directory, outputs.points, chosen.stem)

    def _write(self, chosen: Input, result: CharacterizationResult) -> None:
        outputs = self.plan.outputs
        if outputs.directory is None:
            return
        try:
            write_products(
                result,
                outputs.directory,
                chosen.stem,
                exposure=outputs.exposure,
                table_format=outputs.table_format,
                regions=outputs.regions,
            )
        except OSError as error:
            raise _unwritable(outputs.directory, error) from error

    def _grade(self, result: CharacterizationResult | None) -> Assessment | None:
        if result is None or not self.plan.limits:
            return None
        # The quantities of the psf-quality message, as in the service.
        from streamchar.stream.products import figures_of

        identity = result.exposure.identity
        values = {**asdict(result.summary), **figures_of(result)}
        return assess(values, limits_for(self.plan.limits, identity.instrument, identity.band))


def report_of(subject: Subject, chosen: Input, directory: Path) -> Entry:
    """Write the report of an attempt.

    Raises
    ------
    UnwritableProductsError
        The file cannot be written.
    """
    try:
        return write_report(directory / f"{chosen.stem}.report.html", subject)
    except OSError as error:
        raise _unwritable(directory, error) from error


def failed(chosen: Input, error: StreamcharError, outputs: Outputs, seconds: float = 0.0) -> Attempt:
    """Return the attempt at an exposure of which nothing is left but the error, with its report."""
    entry = None
    if outputs.report and outputs.directory is not None:
        try:
            entry = report_of(Subject(chosen.source, error=error, seconds=seconds), chosen, outputs.directory)
        except UnwritableProductsError:
            # Already failed, for a reason that says more.
            entry = None
    return Attempt(chosen, seconds, "failed", error=error, entry=entry)


def _unwritable(directory: Path, error: OSError) -> UnwritableProductsError:
    path = str(error.filename or directory)
    return UnwritableProductsError(path=path, detail=error.strerror or str(error))
