"""What goes over the wire: typed models, msgpack codec, chunked columnar catalogues, schema versions."""

from streamchar.messages import topics
from streamchar.messages.base import (
    SCHEMA_VERSION,
    Message,
    Outcome,
    ProductIdentity,
    Provenance,
    Reason,
    StageTiming,
    Tense,
    known,
)
from streamchar.messages.catalog_chunks import encode_catalog
from streamchar.messages.codec import Encoded, decode, decode_exposure_ready, encode
from streamchar.messages.errors import (
    IncompleteCatalogError,
    MalformedMessageError,
    MessageError,
    MessageTooLargeError,
    UnsupportedSchemaError,
)
from streamchar.messages.exposure_ready import ExposureReady
from streamchar.messages.exposure_status import ExposureStatus, ProductDescription, SourcePosition
from streamchar.messages.identifiers import event_id, event_key, position_id, product_id
from streamchar.messages.psf_chunks import encode_psf_model
from streamchar.messages.psf_model import PsfModel
from streamchar.messages.psf_quality import PsfGrid, PsfQuality, ReservedStarResiduals, SummaryStatistics
from streamchar.messages.source_catalog import CatalogChunk, CatalogManifest
from streamchar.messages.topics import TopicNames

__all__ = [
    "SCHEMA_VERSION",
    "CatalogChunk",
    "CatalogManifest",
    "Encoded",
    "ExposureReady",
    "ExposureStatus",
    "IncompleteCatalogError",
    "MalformedMessageError",
    "Message",
    "MessageError",
    "MessageTooLargeError",
    "Outcome",
    "ProductDescription",
    "ProductIdentity",
    "Provenance",
    "PsfGrid",
    "PsfModel",
    "PsfQuality",
    "Reason",
    "ReservedStarResiduals",
    "SourcePosition",
    "StageTiming",
    "SummaryStatistics",
    "Tense",
    "TopicNames",
    "UnsupportedSchemaError",
    "decode",
    "decode_exposure_ready",
    "encode",
    "encode_catalog",
    "encode_psf_model",
    "event_id",
    "event_key",
    "known",
    "position_id",
    "product_id",
    "topics",
]
