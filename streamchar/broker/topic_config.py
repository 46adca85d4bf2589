"""The settings a topic may have, with Apache Kafka's names, defaults and checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from streamchar.broker.config import BrokerSettings
from streamchar.broker.errors import ErrorCode, RefusedError
from streamchar.frozen import frozen

_LONGEST = (1 << 63) - 1


def _integer(low: int, high: int = _LONGEST) -> Callable[[str], bool]:
    def valid(value: str) -> bool:
        try:
            return low <= int(value) <= high
        except ValueError:
            return False

    return valid


def _fraction(value: str) -> bool:
    try:
        return 0.0 <= float(value) <= 1.0
    except ValueError:
        return False


def _one_of(*choices: str) -> Callable[[str], bool]:
    return lambda value: value in choices


def _cleanup_policy(value: str) -> bool:
    return bool(value) and {part.strip() for part in value.split(",")} <= {"delete", "compact"}


_VALID: dict[str, Callable[[str], bool]] = {
    "cleanup.policy": _cleanup_policy,
    "compression.type": _one_of("producer"),
    "delete.retention.ms": _integer(0),
    "file.delete.delay.ms": _integer(0),
    "flush.messages": _integer(1),
    "flush.ms": _integer(0),
    "index.interval.bytes": _integer(0),
    "max.compaction.lag.ms": _integer(1),
    "max.message.bytes": _integer(0, 0x7FFFFFFF),
    "message.timestamp.after.max.ms": _integer(0),
    "message.timestamp.before.max.ms": _integer(0),
    "message.timestamp.type": _one_of("CreateTime"),
    "min.cleanable.dirty.ratio": _fraction,
    "min.compaction.lag.ms": _integer(0),
    "min.insync.replicas": _integer(1, 1),
    "preallocate": _one_of("false"),
    "retention.bytes": _integer(-1),
    "retention.ms": _integer(-1),
    "segment.bytes": _integer(1024),
    "segment.index.bytes": _integer(4),
    "segment.jitter.ms": _integer(0),
    "segment.ms": _integer(1),
    "unclean.leader.election.enable": _one_of("false"),
}


@frozen
class ConfigValue:
    """One effective setting."""

    value: str
    overridden: bool


def check_overrides(overrides: Mapping[str, str | None]) -> dict[str, str]:
    """Return the overrides as they will be kept.

    Raises
    ------
    RefusedError
        ``INVALID_CONFIG`` for a name that Kafka does not know or a value this broker cannot honour.
    """
    for name, value in overrides.items():
        valid = _VALID.get(name)
        if valid is None:
            raise RefusedError(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {name}")
        if value is None or not valid(value):
            raise RefusedError(ErrorCode.INVALID_CONFIG, f"Invalid value {value} for configuration {name}")
    return {name: value for name, value in overrides.items() if value is not None}


class TopicConfig:
    """Effective settings of one topic: its overrides above the broker's defaults."""

    def __init__(self, overrides: Mapping[str, str], settings: BrokerSettings) -> None:
        self.overrides = dict(overrides)
        self._defaults = {
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "max.message.bytes": str(settings.max_message_bytes),
            "message.timestamp.after.max.ms": "3600000",
            "message.timestamp.before.max.ms": str(_LONGEST),
            "message.timestamp.type": "CreateTime",
            "min.insync.replicas": "1",
            "retention.bytes": str(settings.retention_bytes),
            "retention.ms": str(settings.retention_ms),
            "segment.bytes": str(settings.segment_bytes),
            "segment.ms": str(settings.segment_ms),
        }

    def integer(self, name: str) -> int:
        """Return a numeric setting."""
        return int(self.overrides.get(name, self._defaults[name]))

    @property
    def deletes(self) -> bool:
        """Whether retention applies."""
        return "delete" in self.overrides.get("cleanup.policy", "delete")

    def describe(self) -> dict[str, ConfigValue]:
        """Return all effective settings by name."""
        values = {name: ConfigValue(value, False) for name, value in self._defaults.items()}
        return values | {name: ConfigValue(value, True) for name, value in self.overrides.items()}
