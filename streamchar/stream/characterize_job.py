"""What a worker does with an event: find the file, read the exposure, characterize it, encode the products."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamchar.characterize.config import CharacterizeImageConfig
from streamchar.characterize.task import CharacterizationResult, CharacterizeImage
from streamchar.configuration import merge, validate
from streamchar.errors import ConfigurationError
from streamchar.image.fits import ReadOptions
from streamchar.messages import ExposureReady, decode_exposure_ready
from streamchar.messages.catalog_chunks import MAX_CHUNK_BYTES
from streamchar.monitor.grades import GradeLimits, Limits
from streamchar.monitor.nonsense import PlausibleRange, Ranges
from streamchar.stream.errors import ConfigurationMismatchError
from streamchar.stream.fetch import ExposureReader, FetchSettings
from streamchar.stream.job import Assignment, Job, JobResult
from streamchar.stream.products import Publisher
from streamchar.stream.store_settings import StoreSettings

if TYPE_CHECKING:
    from streamchar.stream.exposure_store import ExposureStore

PRESETS = ("best", "reference")


def characterize(settings: Mapping[str, Any]) -> Job:
    """Build the job: called once in each worker.

    Parameters
    ----------
    settings
        ``characterize`` (tree of settings, optionally with ``preset``), ``config_digest``, ``fetch``,
        ``read``, ``store``, ``max_value_bytes``, ``grades``, ``plausible`` and ``source``.

    Raises
    ------
    ConfigurationError
        A setting is wrong.
    """
    limits = {
        name: {quantity: GradeLimits.model_validate(limit) for quantity, limit in group.items()}
        for name, group in settings.get("grades", {}).items()
    }
    plausible = {
        name: {quantity: PlausibleRange.model_validate(limit) for quantity, limit in group.items()}
        for name, group in settings.get("plausible", {}).items()
    }
    return CharacterizeJob(
        CharacterizeImage(load_config(settings["characterize"])),
        config_digest=settings["config_digest"],
        reader=ExposureReader(
            FetchSettings.model_validate(settings["fetch"]),
            ReadOptions.model_validate(settings.get("read", {})),
        ),
        store=_store(StoreSettings.model_validate(settings.get("store", {})), settings["config_digest"]),
        limits=limits,
        plausible=plausible,
        source=settings.get("source", "streamchar"),
        max_value_bytes=settings.get("max_value_bytes", MAX_CHUNK_BYTES),
    )


def _store(settings: StoreSettings, config_digest: str) -> ExposureStore | None:
    if settings.uri is None:
        return None
    from streamchar.stream.exposure_store import ExposureStore

    return ExposureStore(settings, config_digest)


class CharacterizeJob:
    """Characterizes the exposure of one event after another, with one task that is built once.

    Parameters
    ----------
    task
        The characterization.
    config_digest
        Digest of its configuration, written into every product.
    reader
        Reads the exposures.
    store
        Keeps the characterized exposures; they are not kept without.
    limits
        Of the quality grades.
    plausible
        Ranges outside which a result is nonsense.
    source
        Who publishes, for the header ``ce_source``.
    max_value_bytes
        Largest value of a message; catalogues and PSF models are divided accordingly.
    """

    def __init__(
        self,
        task: CharacterizeImage,
        *,
        config_digest: str,
        reader: ExposureReader,
        store: ExposureStore | None = None,
        limits: Limits,
        plausible: Ranges,
        source: str = "streamchar",
        max_value_bytes: int = MAX_CHUNK_BYTES,
    ) -> None:
        self._task = task
        self._digest = config_digest
        self._reader = reader
        self._store = store
        self._publisher = Publisher(
            config_digest, limits, source, min(MAX_CHUNK_BYTES, max_value_bytes), plausible
        )

    def __call__(self, assignment: Assignment) -> JobResult:
        """Characterize the exposure of an event.

        Raises
        ------
        StreamcharError
            The event, its file or its pixels cannot be used; its class says whether another attempt may help.
        """
        event = decode_exposure_ready(assignment.value, assignment.headers)
        if event.config_digest is not None and event.config_digest != self._digest:
            raise ConfigurationMismatchError(expected=event.config_digest, actual=self._digest)
        cpu, wall = time.process_time(), time.perf_counter()
        exposure = self._reader.read(event)
        timings = [("read", time.process_time() - cpu, time.perf_counter() - wall)]
        result = self._task.run(exposure).raise_if_failed()
        traceparent = dict(assignment.headers).get("traceparent")
        if self._store is None:
            return self._encode(event, result, timings, traceparent)
        cpu, wall = time.process_time(), time.perf_counter()
        stored = [kept.model_dump(exclude_none=True) for kept in self._store.put(event, result)]
        timings.append(("store", time.process_time() - cpu, time.perf_counter() - wall))
        encoded = self._encode(event, result, timings, traceparent)
        return replace(encoded, products=(*encoded.products, *stored))

    def _encode(
        self,
        event: ExposureReady,
        result: CharacterizationResult,
        timings: Sequence[tuple[str, float, float]],
        traceparent: bytes | None,
    ) -> JobResult:
        return self._publisher.encode(event, result, timings, traceparent)


def load_config(tree: Mapping[str, Any]) -> CharacterizeImageConfig:
    """Build the configuration from settings over a preset (``preset = "best"`` or ``"reference"``).

    Raises
    ------
    ConfigurationError
        The preset or a setting is wrong.
    """
    changes = dict(tree)
    preset = changes.pop("preset", "best")
    if preset not in PRESETS:
        raise ConfigurationError.at(
            "characterize.preset", f"'{preset}' is no preset; known are {', '.join(PRESETS)}"
        )
    base = CharacterizeImageConfig.preset(preset).model_dump()
    return validate(CharacterizeImageConfig, merge(base, changes), "characterize")


def digest_of(config: CharacterizeImageConfig) -> str:
    """Digest of a configuration: equal for equal values, whatever their order or origin."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
