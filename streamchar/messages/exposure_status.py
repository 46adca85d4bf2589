"""The record that closes an event: exactly one, whatever happened."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import model_validator

from streamchar.messages.base import (
    Band,
    Count,
    Digest,
    Instrument,
    Listed,
    Message,
    Name,
    Outcome,
    Part,
    Provenance,
    Reason,
    StageTiming,
    Tense,
    Time,
    Uri,
    unit,
)
from streamchar.messages.identifiers import event_key, product_id


class SourcePosition(Part):
    """Where the event was read."""

    topic: Name
    """Topic."""
    partition: Annotated[Count, unit("1")]
    """Partition."""
    offset: Annotated[Count, unit("1")]
    """Offset of the event's record."""


class ProductDescription(Part):
    """One product and where it is."""

    product: Name
    """What it is: the message type, or the name of a stored file such as ``exposure``."""
    topic: Name | None = None
    """Topic it was published to; absent for stored files."""
    partition: Annotated[Count | None, unit("1")] = None
    """Partition, when known; the record's key leads to it otherwise."""
    key: Name | None = None
    """Key of its records."""
    messages: Annotated[Count | None, unit("1")] = None
    """Number of records, the manifest included."""
    rows: Annotated[Count | None, unit("1")] = None
    """Rows of a catalogue."""
    size_bytes: Annotated[Count | None, unit("byte")] = None
    """Bytes published or stored."""
    digest: Digest | None = None
    """SHA-256 of the product: of the message, of the whole catalogue as in its manifest, or of the stored file."""
    uri: Uri | None = None
    """Where a stored file is."""


class ExposureStatus(Message):
    """What became of one event. Exactly one per event, also for the unreadable and the crashed.

    An event is a record of the input topic that repeats no earlier one; ``source`` is its position. Its identifier
    follows from that position and not from outcome or configuration: should at-least-once delivery make services publish
    it twice, even with another outcome or configuration the second time, readers that drop repeated identifiers see the
    first one only.

    A dead letter that an operator replays is announced anew, at another position: it is an event of its own, with the
    same ``event_id`` and its own status. The one with the latest ``published_at`` tells how an exposure stands.

    Identity is absent when the event was too malformed to tell it; ``source`` then says which record it was.
    """

    topic_type: ClassVar[str] = "exposure-status"

    message_type: Literal["exposure-status"] = "exposure-status"
    """Which message this is; also in the header ``ce_type``."""

    message_id: Name = ""
    """Identifier: a UUID (version 5) of instrument, exposure, detector, message type, event and ``source``. Also in
    the header ``ce_id``."""
    event_id: Name
    """Identifier of the event; made from ``source`` when the event does not tell one."""
    instrument: Instrument | None = None
    """Name of the camera."""
    exposure: Annotated[Count | None, unit("1")] = None
    """Exposure (visit) number."""
    detector: Annotated[Count | None, unit("1")] = None
    """Detector number within the camera."""
    band: Band = None
    """Filter band."""
    tense: Tense = "current"
    """Whether this is about the sky as it is now, a test, or a replay."""
    config_digest: Digest
    """SHA-256 of the configuration in force."""
    outcome: Outcome
    """What became of the event: succeeded, degraded (products published with reservations), failed or expired."""
    reasons: Listed[Reason] = ()
    """Why the outcome is not plain success."""
    attempts: Annotated[Count, unit("1")] = 1
    """How often characterization was tried; 0 when it was not."""
    source: SourcePosition
    """Where the event was read."""
    created_at: Time | None = None
    """When the event was made (UTC)."""
    received_at: Time | None = None
    """When the event was read (UTC)."""
    published_at: Time
    """When this record was handed to the broker (UTC)."""
    timings: Listed[StageTiming] = ()
    """Time spent by stage."""
    products: Listed[ProductDescription] = ()
    """What was published or stored, and where."""
    provenance: Provenance
    """What made this record."""

    @model_validator(mode="after")
    def _fill_identifier(self) -> Self:
        if not self.message_id:
            place = (self.source.topic, self.source.partition, self.source.offset)
            identifier = product_id(self.key, self.message_type, None, self.event_id, *place)
            object.__setattr__(self, "message_id", identifier)
        return self

    @property
    def identifier(self) -> str:
        """Identifier of the message, the header ``ce_id``."""
        return self.message_id

    @property
    def key(self) -> str:
        """Key of the Kafka record: ``instrument/exposure/detector``, or the event's identifier without those."""
        if self.instrument is None or self.exposure is None or self.detector is None:
            return self.event_id
        return event_key(self.instrument, self.exposure, self.detector)
