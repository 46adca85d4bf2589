"""The event that starts everything: an exposure is ready to be characterized."""

from typing import Annotated, ClassVar, Literal

from streamchar.messages.base import (
    Band,
    Count,
    Digest,
    Instrument,
    Listed,
    Message,
    Name,
    Tense,
    Time,
    Uri,
    unit,
)
from streamchar.messages.identifiers import event_key


class ExposureReady(Message):
    """An exposure of one detector, its instrument signature removed, can be read at ``uri``."""

    topic_type: ClassVar[str] = "exposure-ready"

    message_type: Literal["exposure-ready"] = "exposure-ready"
    """Which message this is; also in the header ``ce_type``."""

    event_id: Name
    """Identifier of the event, chosen by the announcer; the same when it is announced again."""

    instrument: Instrument
    """Name of the camera."""

    exposure: Annotated[Count, unit("1")]
    """Exposure (visit) number."""

    detector: Annotated[Count, unit("1")]
    """Detector number within the camera."""

    uri: Uri
    """Where the exposure is: a path, ``file:``, ``s3:`` or ``https:`` address."""

    uris: Listed[Uri] = ()
    """Further files that belong to it (mask, weight), in the order the instrument's profile expects."""

    checksum: Digest | None = None
    """SHA-256 of the bytes at ``uri``."""

    size_bytes: Annotated[Count | None, unit("byte")] = None
    """Size of the file at ``uri``."""

    band: Band = None
    """Filter band; absent when unknown."""

    exposure_time: Annotated[float | None, unit("s", ge=0)] = None
    """Open-shutter time."""

    mid_time: Annotated[float | None, unit("d")] = None
    """Middle of the exposure as Modified Julian Date."""

    ra: Annotated[float | None, unit("deg", ge=0, lt=360)] = None
    """Right ascension of the telescope's pointing, ICRS."""

    dec: Annotated[float | None, unit("deg", ge=-90, le=90)] = None
    """Declination of the telescope's pointing, ICRS."""

    created_at: Time
    """When the event was made (UTC)."""

    config_digest: Digest | None = None
    """Digest of the configuration the announcer expects; absent: whatever the service runs with."""

    tense: Tense = "current"
    """Whether this is about the sky as it is now, a test, or a replay."""

    @property
    def identifier(self) -> str:
        """Identifier of the event, the header ``ce_id``."""
        return self.event_id

    @property
    def key(self) -> str:
        """Key of the Kafka record, ``instrument/exposure/detector``."""
        return event_key(self.instrument, self.exposure, self.detector)
