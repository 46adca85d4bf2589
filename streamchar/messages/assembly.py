"""Records in, whole catalogues out: pure bookkeeping, without Kafka or clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from streamchar.messages.catalog import Catalog
from streamchar.messages.catalog_chunks import combined_digest, digest_of
from streamchar.messages.codec import decode
from streamchar.messages.errors import IncompleteCatalogError, MessageError, UnsupportedSchemaError
from streamchar.messages.source_catalog import CatalogChunk, CatalogManifest

Partition = tuple[str, int]
Identity = tuple[str, str, str]

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
class _Pending:
    """What has been seen of one catalogue. Chunks are kept by digest: a redelivery may have made other ones."""

    key: str
    first_offset: int
    last_seen: float
    chunks: dict[str, CatalogChunk] = field(default_factory=dict)
    size: int = 0
    manifest: CatalogManifest | None = None

    def missing(self) -> list[int]:
        """Numbers of the chunks that are still needed."""
        if self.manifest is not None:
            return [chunk.chunk for chunk in self.manifest.chunks if chunk.digest not in self.chunks]
        present = {chunk.chunk for chunk in self.chunks.values()}
        expected = max((chunk.chunks for chunk in self.chunks.values()), default=0)
        return [number for number in range(expected) if number not in present]

    def is_whole(self) -> bool:
        return self.manifest is not None and not self.missing()

    def problem(self, why: str) -> IncompleteCatalogError:
        missing = ", ".join(map(str, self.missing()[:20])) or "none"
        manifest = "there" if self.manifest is not None else "missing"
        return IncompleteCatalogError(
            key=self.key,
            detail=f"{why} with the manifest {manifest} and missing chunks: {missing}",
            offset=self.first_offset,
        )


Found = Catalog | MessageError


class CatalogAssembler:
    """Assembles catalogues from chunks and manifests as they come, of any number of partitions.

    A catalogue is complete with its manifest and every chunk whose digest the manifest names, in whatever order and
    however often they come. One that was complete before is dropped when it comes again.

    Parameters
    ----------
    timeout
        Seconds without a new part after which an incomplete catalogue is reported and forgotten.
    max_pending_bytes
        Bytes of incomplete catalogues kept; beyond, the one that waited longest is reported and forgotten.
    remembered
        How many complete catalogues are remembered to recognise repeats.
    wanted
        Whether a chunk or manifest is of interest.
    """

    def __init__(
        self,
        *,
        timeout: float = 60.0,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        remembered: int = REMEMBERED,
        wanted: Callable[[CatalogChunk | CatalogManifest], bool] = lambda _: True,
    ) -> None:
        self._timeout = timeout
        self._limit = max_pending_bytes
        self._wanted = wanted
        self._done = Memory(remembered)
        self._pending: dict[Partition, OrderedDict[Identity, _Pending]] = {}
        self._size = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes of the incomplete catalogues."""
        return self._size

    def feed(self, record: Record, now: float) -> list[Found]:
        """Take a record and return what it completes: catalogues, and errors about what cannot be completed.

        Parameters
        ----------
        record
            A record of the source-catalog topic.
        now
            Any clock that does not run backwards, in seconds.
        """
        value = record.value or b""
        try:
            message = decode(value, record.headers)
        except MessageError as error:
            return [error]
        if not isinstance(message, CatalogChunk | CatalogManifest):
            return [
                UnsupportedSchemaError(
                    message_type=message.message_type,
                    schema_version=message.schema_version,
                    known="catalog-chunk, catalog-manifest in this topic",
                )
            ]
        identity = (message.key, message.event_id, message.config_digest)
        if identity in self._done or not self._wanted(message):
            return []
        pending = self._pending_of(record, identity, now)
        if isinstance(message, CatalogManifest):
            pending.manifest = message
        else:
            self._add(pending, message, value)
        found: list[Found] = []
        if pending.is_whole():
            self._forget((record.topic, record.partition), identity)
            found.append(self._finish(identity, pending))
        return found + self._evict()

    def expire(self, now: float) -> list[MessageError]:
        """Report and forget the incomplete catalogues of which nothing came for too long."""
        late = [
            (partition, identity)
            for partition, catalogues in self._pending.items()
            for identity, pending in catalogues.items()
            if now - pending.last_seen >= self._timeout
        ]
        why = f"nothing came for {self._timeout:g} s"
        return [self._forget(partition, identity).problem(why) for partition, identity in late]

    def oldest_needed_offset(self, partition: Partition) -> int | None:
        """Return the offset from which reading must begin again so that no pending catalogue is lost."""
        offsets = [pending.first_offset for pending in self._pending.get(partition, {}).values()]
        return min(offsets, default=None)

    def drop(self, partition: Partition) -> None:
        """Forget the incomplete catalogues of a partition that is read by somebody else now."""
        for identity in list(self._pending.get(partition, {})):
            self._forget(partition, identity)

    def _pending_of(self, record: Record, identity: Identity, now: float) -> _Pending:
        catalogues = self._pending.setdefault((record.topic, record.partition), OrderedDict())
        pending = catalogues.get(identity)
        if pending is None:
            pending = catalogues[identity] = _Pending(identity[0], record.offset, now)
        pending.last_seen = now
        catalogues.move_to_end(identity)
        return pending

    def _add(self, pending: _Pending, chunk: CatalogChunk, value: bytes) -> None:
        digest = digest_of(value)
        if digest not in pending.chunks:
            pending.chunks[digest] = chunk
            pending.size += len(value)
            self._size += len(value)

    def _finish(self, identity: Identity, pending: _Pending) -> Found:
        manifest = pending.manifest
        assert manifest is not None
        if combined_digest(chunk.digest for chunk in manifest.chunks) != manifest.digest:
            return pending.problem("the manifest contradicts its own digest")
        try:
            catalog = Catalog.from_chunks(
                manifest, [pending.chunks[chunk.digest] for chunk in manifest.chunks]
            )
        except MessageError as error:
            return error
        self._done.add(identity)
        return catalog

    def _evict(self) -> list[Found]:
        found: list[Found] = []
        while self._size > self._limit:
            oldest = min(
                (
                    (next(iter(catalogues.values())).last_seen, partition, next(iter(catalogues)))
                    for partition, catalogues in self._pending.items()
                    if catalogues
                ),
            )
            _, partition, identity = oldest
            found.append(self._forget(partition, identity).problem("too much is pending"))
        return found

    def _forget(self, partition: Partition, identity: Identity) -> _Pending:
        pending = self._pending[partition].pop(identity)
        self._size -= pending.size
        return pending
