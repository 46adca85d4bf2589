"""Records in, whole catalogues and PSF models out: pure bookkeeping, without Kafka or clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from streamchar.messages.base import ProductMessage
from streamchar.messages.catalog import Catalog
from streamchar.messages.catalog_chunks import combined_digest, digest_of
from streamchar.messages.codec import decode
from streamchar.messages.errors import (
    IncompleteCatalogError,
    IncompletePsfError,
    MessageError,
    UnsupportedSchemaError,
)
from streamchar.messages.psf_conversion import PublishedPsf
from streamchar.messages.psf_model import PsfModel
from streamchar.messages.source_catalog import CatalogChunk, CatalogManifest

Partition = tuple[str, int]
Product = TypeVar("Product")

MAX_PENDING_BYTES = 256 * 1024 * 1024
REMEMBERED = 100_000


class Record(Protocol):
    """A Kafka record; :class:`aiokafka.ConsumerRecord` is one."""

    @property
    def topic(self) -> str:
        """Topic."""
        ...

    @property
    def partition(self) -> int:
        """Partition."""
        ...

    @property
    def offset(self) -> int:
        """Offset."""
        ...

    @property
    def value(self) -> bytes | None:
        """Value."""
        ...

    @property
    def headers(self) -> Iterable[tuple[str, bytes]]:
        """Headers."""
        ...


class Memory:
    """Remembers the latest identifiers, a bounded number of them.

    Parameters
    ----------
    size
        How many are remembered.
    """

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._seen: OrderedDict[object, None] = OrderedDict()

    def __contains__(self, item: object) -> bool:
        return item in self._seen

    def add(self, item: object) -> None:
        """Remember an identifier, and forget the oldest when there are too many."""
        self._seen[item] = None
        self._seen.move_to_end(item)
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)


@dataclass(slots=True)
class _Pending(ABC):
    """What has been seen of one product."""

    key: str
    first_offset: int
    last_seen: float
    size: int = 0

    @abstractmethod
    def problem(self, why: str) -> MessageError:
        """Say what is missing."""


P = TypeVar("P", bound=_Pending)


class Assembler(ABC, Generic[P, Product]):
    """Puts products together from the parts of them that come, of any number of partitions.

    Parts may come in whatever order and however often. A product that was complete before is dropped when it comes
    again.

    Parameters
    ----------
    timeout
        Seconds without a new part after which an incomplete product is reported and forgotten.
    max_pending_bytes
        Bytes of incomplete products kept; beyond, the one that waited longest is reported and forgotten.
    remembered
        How many complete products are remembered to recognise repeats.
    wanted
        Whether a part is of interest.
    """

    def __init__(
        self,
        *,
        timeout: float = 60.0,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        remembered: int = REMEMBERED,
        wanted: Callable[[ProductMessage], bool] = lambda _: True,
    ) -> None:
        self._timeout = timeout
        self._limit = max_pending_bytes
        self._wanted = wanted
        self._done = Memory(remembered)
        self._pending: dict[Partition, OrderedDict[Hashable, P]] = {}
        self._size = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes of the incomplete products."""
        return self._size

    def feed(self, record: Record, now: float) -> list[Product | MessageError]:
        """Take a record and return what it completes: products, and errors about what cannot be completed.

        Parameters
        ----------
        record
            A record of the product's topic.
        now
            Any clock that does not run backwards, in seconds.
        """
        try:
            message = decode(record.value or b"", record.headers)
        except MessageError as error:
            return [error]
        if not isinstance(message, ProductMessage) or not self._is_part(message):
            return [
                UnsupportedSchemaError(
                    message_type=message.message_type,
                    schema_version=message.schema_version,
                    known=f"{', '.join(self._known())} in this topic",
                )
            ]
        identity = self._identity(message)
        if identity in self._done:
            return []
        if not self._wanted(message):
            # Only the last part may tell that the whole is not wanted.
            if identity in self._pending.get((record.topic, record.partition), {}):
                self._forget((record.topic, record.partition), identity)
            return []
        pending = self._pending_of(record, message, identity, now)
        self._take(pending, message, record.value or b"")
        found: list[Product | MessageError] = []
        if self._is_whole(pending):
            self._forget((record.topic, record.partition), identity)
            try:
                found.append(self._build(pending))
                self._done.add(identity)
            except MessageError as error:
                found.append(error)
        return [*found, *self._evict()]

    def expire(self, now: float) -> list[MessageError]:
        """Report and forget the incomplete products of which nothing came for too long."""
        late = [
            (partition, identity)
            for partition, products in self._pending.items()
            for identity, pending in products.items()
            if now - pending.last_seen >= self._timeout
        ]
        why = f"nothing came for {self._timeout:g} s"
        return [self._forget(partition, identity).problem(why) for partition, identity in late]

    def oldest_needed_offset(self, partition: Partition) -> int | None:
        """Return the offset from which reading must begin again so that no pending product is lost."""
        offsets = [pending.first_offset for pending in self._pending.get(partition, {}).values()]
        return min(offsets, default=None)

    def drop(self, partition: Partition) -> None:
        """Forget the incomplete products of a partition that is read by somebody else now."""
        for identity in list(self._pending.get(partition, {})):
            self._forget(partition, identity)

    @abstractmethod
    def _known(self) -> tuple[str, ...]:
        """Names of the messages that are parts."""

    def _is_part(self, message: ProductMessage) -> bool:
        return message.message_type in self._known()

    def _identity(self, message: ProductMessage) -> Hashable:
        return message.key, message.event_id, message.config_digest

    @abstractmethod
    def _begin(self, message: ProductMessage, offset: int, now: float) -> P:
        """Begin a product with its first part."""

    @abstractmethod
    def _take(self, pending: P, message: ProductMessage, value: bytes) -> None:
        """Add a part."""

    @abstractmethod
    def _is_whole(self, pending: P) -> bool:
        """Whether every part is there."""

    @abstractmethod
    def _build(self, pending: P) -> Product:
        """Make the product of its parts, or raise a MessageError."""

    def _pending_of(self, record: Record, message: ProductMessage, identity: Hashable, now: float) -> P:
        products = self._pending.setdefault((record.topic, record.partition), OrderedDict())
        pending = products.get(identity)
        if pending is None:
            pending = products[identity] = self._begin(message, record.offset, now)
        pending.last_seen = now
        products.move_to_end(identity)
        return pending

    def _grow(self, pending: P, size: int) -> None:
        pending.size += size
        self._size += size

    def _evict(self) -> list[MessageError]:
        found: list[MessageError] = []
        while self._size > self._limit:
            _, partition, identity = min(
                (
                    (next(iter(products.values())).last_seen, partition, next(iter(products)))
                    for partition, products in self._pending.items()
                    if products
                ),
                key=lambda waiting: waiting[:2],
            )
            found.append(self._forget(partition, identity).problem("too much is pending"))
        return found

    def _forget(self, partition: Partition, identity: Hashable) -> P:
        pending = self._pending[partition].pop(identity)
        self._size -= pending.size
        return pending


@dataclass(slots=True)
class _PendingCatalog(_Pending):
    """Chunks are kept by digest: a redelivery may have made other ones."""

    chunks: dict[str, CatalogChunk] = field(default_factory=dict)
    manifest: CatalogManifest | None = None

    def missing(self) -> list[int]:
        """Numbers of the chunks that are still needed."""
        if self.manifest is not None:
            return [chunk.chunk for chunk in self.manifest.chunks if chunk.digest not in self.chunks]
        present = {chunk.chunk for chunk in self.chunks.values()}
        expected = max((chunk.chunks for chunk in self.chunks.values()), default=0)
        return [number for number in range(expected) if number not in present]

    def problem(self, why: str) -> IncompleteCatalogError:
        missing = ", ".join(map(str, self.missing()[:20])) or "none"
        manifest = "there" if self.manifest is not None else "missing"
        return IncompleteCatalogError(
            key=self.key,
            detail=f"{why} with the manifest {manifest} and missing chunks: {missing}",
            offset=self.first_offset,
        )


class CatalogAssembler(Assembler[_PendingCatalog, Catalog]):
    """Assembles catalogues: one is complete with its manifest and every chunk whose digest the manifest names."""

    def _known(self) -> tuple[str, ...]:
        return "catalog-chunk", "catalog-manifest"

    def _begin(self, message: ProductMessage, offset: int, now: float) -> _PendingCatalog:
        return _PendingCatalog(message.key, offset, now)

    def _take(self, pending: _PendingCatalog, message: ProductMessage, value: bytes) -> None:
        if isinstance(message, CatalogManifest):
            pending.manifest = message
        elif isinstance(message, CatalogChunk):
            digest = digest_of(value)
            if digest not in pending.chunks:
                pending.chunks[digest] = message
                self._grow(pending, len(value))

    def _is_whole(self, pending: _PendingCatalog) -> bool:
        return pending.manifest is not None and not pending.missing()

    def _build(self, pending: _PendingCatalog) -> Catalog:
        manifest = pending.manifest
        assert manifest is not None
        if combined_digest(chunk.digest for chunk in manifest.chunks) != manifest.digest:
            raise pending.problem("the manifest contradicts its own digest")
        return Catalog.from_chunks(manifest, [pending.chunks[chunk.digest] for chunk in manifest.chunks])


@dataclass(slots=True)
class _PendingPsf(_Pending):
    expected: int = 0
    parts: dict[int, PsfModel] = field(default_factory=dict)

    def problem(self, why: str) -> IncompletePsfError:
        missing = [str(number) for number in range(self.expected) if number not in self.parts]
        return IncompletePsfError(
            key=self.key,
            detail=f"{why} with missing parts: {', '.join(missing[:20])}",
            offset=self.first_offset,
        )


class PsfAssembler(Assembler[_PendingPsf, PublishedPsf]):
    """Assembles PSF models: one is complete when each of its numbered messages has come.

    Messages of different versions of the software, or divided otherwise, are never mixed.
    """

    def _known(self) -> tuple[str, ...]:
        return ("psf-model",)

    def _identity(self, message: ProductMessage) -> Hashable:
        assert isinstance(message, PsfModel)
        identity = message.key, message.event_id, message.config_digest
        return (*identity, message.chunks, message.provenance) if message.chunks > 1 else identity

    def _begin(self, message: ProductMessage, offset: int, now: float) -> _PendingPsf:
        assert isinstance(message, PsfModel)
        return _PendingPsf(message.key, offset, now, expected=message.chunks)

    def _take(self, pending: _PendingPsf, message: ProductMessage, value: bytes) -> None:
        assert isinstance(message, PsfModel)
        if message.chunk not in pending.parts:
            pending.parts[message.chunk] = message
            self._grow(pending, len(value))

    def _is_whole(self, pending: _PendingPsf) -> bool:
        return len(pending.parts) == pending.expected

    def _build(self, pending: _PendingPsf) -> PublishedPsf:
        return PublishedPsf.from_parts(list(pending.parts.values()))
