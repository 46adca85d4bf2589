"""From a FITS file to encoded messages, as a worker does it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from streamchar.characterize.base import Task, Timing
from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.task import CharacterizationResult, CharacterizeImage
from streamchar.stream.characterize_job import CharacterizeJob, characterize, digest_of, load_config
from streamchar.stream.heap import Leftovers
from streamchar.stream.job import Assignment, JobResult
from tests.benchmarks.processes import forget_peak, peak_bytes

LEFTOVERS = Leftovers()
SUBJECT = CharacterizeImage.default_name


class ObservedJob(CharacterizeJob):
    """The worker's job; remembers timings and catalogue of the last result, but not its pixels."""

    timings: tuple[Timing, ...] = ()
    catalog: SourceCatalog | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Build the job as a worker does from what the coordinator sends it."""
        job = characterize(settings)
        job.__class__ = cls
        assert isinstance(job, cls)
        return job

    def _encode(self, event: Any, result: CharacterizationResult, *rest: Any) -> JobResult:
        self.timings, self.catalog = result.timings, result.catalog
        return super()._encode(event, result, *rest)


def settings_of(path: Path, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the worker's job that may read ``path``."""
    config = load_config(configuration)
    return {
        "characterize": config.model_dump(mode="json"),
        "config_digest": digest_of(config),
        "fetch": {"roots": [str(path.parent)], "max_bytes": 4 << 30},
        "grades": {},
    }


def announcement(path: Path) -> Assignment:
    """Announce a file."""
    event = {
        "event_id": "bench",
        "instrument": "SIMCAM",
        "exposure": 1,
        "detector": 0,
        "uri": str(path),
        "created_at": "2026-01-02T03:04:05Z",
    }
    return Assignment(json.dumps(event).encode(), (("content-type", b"application/json"),))


def make_job(path: Path, configuration: Mapping[str, Any]) -> ObservedJob:
    """Build the worker's job of a configuration."""
    return ObservedJob.of(settings_of(path, configuration))


def measure(path: str, settings: Mapping[str, Any], runs: int, memory: bool = False) -> dict[str, Any]:
    """Characterize a file once to warm up, then ``runs`` times.

    Returns
    -------
    dict
        ``first`` and ``cpu`` (a list): CPU seconds of the exposures; ``stages``: their CPU seconds by stage, a list
        each; ``passes``: the least CPU seconds of each pass of the repeated stages; ``peak_bytes`` of the process;
        ``rows``, ``bytes`` and ``outcome`` of the products; with ``memory``, ``stage_peaks`` in bytes.
    """
    file = Path(path)
    job = ObservedJob.of(settings)
    with LEFTOVERS:
        return _measured(job, file, runs, memory)


def _measured(job: ObservedJob, file: Path, runs: int, memory: bool) -> dict[str, Any]:
    first, result = _timed(job, file)
    passes = [_passes(job.timings)]
    cpu = []
    stages: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(runs):
        seconds, result = _timed(job, file)
        cpu.append(seconds)
        passes.append(_passes(job.timings))
        for stage, spent, _wall in result.timings:
            stages[stage].append(spent)
    products = {product["product"]: product for product in result.products}
    found: dict[str, Any] = {
        "first": first,
        "cpu": cpu,
        "stages": stages,
        "passes": {
            stage: [min(turns) for turns in zip(*(one[stage] for one in passes), strict=True)]
            for stage in passes[0]
        },
        "peak_bytes": peak_bytes(),
        "rows": products.get("source-catalog", {}).get("rows", 0),
        "bytes": sum(len(bytes(message.value)) for message in result.messages),
        "outcome": result.outcome,
        "reasons": [reason["code"] for reason in result.reasons],
    }
    if memory:
        with _peaks_recorded(job) as found["stage_peaks"]:
            job(announcement(file))
    return found


def _timed(job: CharacterizeJob, path: Path) -> tuple[float, JobResult]:
    event = announcement(path)
    start = time.process_time()
    result = job(event)
    LEFTOVERS.collect()
    return time.process_time() - start, result


def _passes(timings: Iterable[Timing]) -> dict[str, list[float]]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for timing in timings:
        parts = timing.name.split(".")
        if len(parts) == 3:
            found[parts[1]].append(timing.cpu)
    return found


@contextmanager
def _peaks_recorded(job: ObservedJob) -> Iterator[dict[str, int]]:
    """Record the largest resident size during each stage of the run inside; costs time, so not for timing."""
    peaks: dict[str, int] = {}
    original = Task.timer

    @contextmanager
    def during(stage: str) -> Iterator[None]:
        forget_peak()
        yield
        peaks[stage] = max(peaks.get(stage, 0), peak_bytes())

    @contextmanager
    def timer(task: Task[Any], step: str) -> Iterator[None]:
        parts = task.get_full_name().split(".")
        if len(parts) == 2 and parts[0] == SUBJECT and step == "run":
            with during(parts[1]), original(task, step):
                yield
        else:
            with original(task, step):
                yield

    def watched(stage: str, method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            with during(stage):
                return method(*arguments)

        return call

    Task.timer = timer  # type: ignore[assignment]
    job._reader.read = watched("read", job._reader.read)  # type: ignore[method-assign]
    job._encode = watched("encode", job._encode)  # type: ignore[method-assign]
    try:
        yield peaks
    finally:
        Task.timer = original  # type: ignore[method-assign]
