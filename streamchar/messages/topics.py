"""Where each message goes, and how its topic is best configured."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from streamchar.frozen import frozen

PREFIX = "streamchar"
MAJOR = 1

EXPOSURE_READY = f"{PREFIX}.exposure-ready.v{MAJOR}"
PSF_QUALITY = f"{PREFIX}.psf-quality.v{MAJOR}"
SOURCE_CATALOG = f"{PREFIX}.source-catalog.v{MAJOR}"
PSF_MODEL = f"{PREFIX}.psf-model.v{MAJOR}"
EXPOSURE_STATUS = f"{PREFIX}.exposure-status.v{MAJOR}"
RETRY = f"{EXPOSURE_READY}.retry"
DLQ = f"{EXPOSURE_READY}.dlq"

DAY_MS = 24 * 3600 * 1000
MAX_MESSAGE_BYTES = 1_048_588
"""The broker's own default limit of a record batch; chunks stay well below it."""


@frozen
class TopicConfiguration:
    """Recommended configuration of a topic.

    Attributes
    ----------
    partitions
        Number of partitions; the input's bounds how many service processes share the work.
    retention_ms
        How long records are kept, in milliseconds.
    max_message_bytes
        Largest record batch, in bytes.
    compression
        The topic's ``compression.type``; catalogues are compressed column by column already.
    """

    partitions: int
    retention_ms: int
    max_message_bytes: int = MAX_MESSAGE_BYTES
    compression: str = "producer"

    def settings(self) -> dict[str, str]:
        """Return the broker's settings for the topic by name. Records are never compacted away."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
            "compression.type": self.compression,
        }


RECOMMENDED: Mapping[str, TopicConfiguration] = MappingProxyType(
    {
        "exposure-ready": TopicConfiguration(12, 7 * DAY_MS),
        "psf-quality": TopicConfiguration(3, 30 * DAY_MS, compression="lz4"),
        "source-catalog": TopicConfiguration(12, 3 * DAY_MS),
        "psf-model": TopicConfiguration(6, 3 * DAY_MS),
        "exposure-status": TopicConfiguration(3, 30 * DAY_MS, compression="lz4"),
        "exposure-ready.retry": TopicConfiguration(3, 7 * DAY_MS),
        "exposure-ready.dlq": TopicConfiguration(3, 30 * DAY_MS),
    }
)
"""Recommended configuration by topic type."""


@frozen
class TopicNames:
    """Names of the topics.

    Attributes
    ----------
    prefix
        First part of every name, for installations that share a cluster.

    Examples
    --------
    >>> TopicNames().psf_quality
    'streamchar.psf-quality.v1'
    >>> TopicNames("site.streamchar").dlq
    'site.streamchar.exposure-ready.v1.dlq'
    """

    prefix: str = PREFIX

    def name_of(self, topic_type: str) -> str:
        """Return the topic of a type of :data:`RECOMMENDED`, for example ``Encoded.topic_type``.

        Raises
        ------
        KeyError
            There is no such type.
        """
        if topic_type not in RECOMMENDED:
            raise KeyError(f"no topic type '{topic_type}'; known are {', '.join(RECOMMENDED)}")
        base, _, suffix = topic_type.partition(".")
        return f"{self.prefix}.{base}.v{MAJOR}" + (f".{suffix}" if suffix else "")

    @property
    def exposure_ready(self) -> str:
        """Where exposures are announced."""
        return self.name_of("exposure-ready")

    @property
    def psf_quality(self) -> str:
        """Where quality records go."""
        return self.name_of("psf-quality")

    @property
    def source_catalog(self) -> str:
        """Where catalogue chunks and manifests go."""
        return self.name_of("source-catalog")

    @property
    def psf_model(self) -> str:
        """Where PSF models go."""
        return self.name_of("psf-model")

    @property
    def exposure_status(self) -> str:
        """Where the status of every event goes."""
        return self.name_of("exposure-status")

    @property
    def retry(self) -> str:
        """Where events wait for another attempt."""
        return self.name_of("exposure-ready.retry")

    @property
    def dlq(self) -> str:
        """Where events end that cannot be processed (dead letters)."""
        return self.name_of("exposure-ready.dlq")

    def all(self) -> dict[str, TopicConfiguration]:
        """Return the recommended configuration of every topic by name."""
        return {self.name_of(kind): configuration for kind, configuration in RECOMMENDED.items()}
