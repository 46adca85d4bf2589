"""The source catalogue on the wire: row chunks of columns, then a manifest that says what the whole is."""

from typing import Annotated, Any, ClassVar, Literal, Self

from numpy.typing import NDArray
from pydantic import Field, model_validator

from streamchar.messages.base import (
    MAX_ELEMENTS,
    Count,
    Digest,
    Listed,
    Name,
    Outcome,
    Part,
    ProductMessage,
    Provenance,
    Text,
    Value,
    unit,
)
from streamchar.messages.columns import ColumnBlock, FlagBlock, check_total, make_decompressor


class CatalogChunk(ProductMessage):
    """Consecutive rows of a catalogue. Carries no times, so that the same catalogue gives the same bytes."""

    topic_type: ClassVar[str] = "source-catalog"

    message_type: Literal["catalog-chunk"] = "catalog-chunk"
    """Which message this is; also in the header ``ce_type``."""
    chunk: Annotated[Count, unit("1")]
    """Number of the chunk, from 0."""
    chunks: Annotated[Count, unit("1", ge=1, le=MAX_ELEMENTS)]
    """Number of chunks of the catalogue."""
    first_row: Annotated[Count, unit("1")]
    """Row of the catalogue with which the chunk begins."""
    rows: Annotated[Count, unit("1")]
    """Rows in the chunk."""
    columns: Listed[ColumnBlock]
    """Numerical columns, each with ``rows`` elements."""
    flags: FlagBlock
    """Boolean columns."""

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        if self.chunk >= self.chunks:
            raise ValueError(f"chunk {self.chunk} of {self.chunks}")
        wrong = [block.name for block in self.columns if block.shape[0] != self.rows]
        if wrong or self.flags.rows != self.rows:
            raise ValueError(f"columns with another number of rows than {self.rows}: {wrong or 'flags'}")
        names = [block.name for block in self.columns] + list(self.flags.names)
        if len(set(names)) != len(names):
            raise ValueError("two columns have the same name")
        check_total(self.blocks)
        return self

    @property
    def blocks(self) -> tuple[ColumnBlock | FlagBlock, ...]:
        """All that holds values."""
        return (*self.columns, self.flags)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Decode all columns: arrays of length ``rows`` by name; they may be read-only.

        Raises
        ------
        MalformedMessageError
            Compressed bytes are damaged.
        """
        decompressor = make_decompressor()
        numbers = {block.name: block.values(decompressor) for block in self.columns}
        return {**numbers, **self.flags.values()}

    def _identifying_parts(self) -> tuple[int | str, ...]:
        return (self.chunk,)


class CatalogColumn(Part):
    """What a column of the catalogue means."""

    name: Name
    """Name of the column."""
    dtype: Annotated[str, Field(pattern=r"^(\?|\|[ui]1|<[ui][248]|<f[48])$")]
    """Type in NumPy notation, ``?`` for a flag."""
    unit: Annotated[str, Field(max_length=64)] = ""
    """Unit in FITS notation, empty when the column has none."""
    doc: Text = ""
    """Meaning, in one sentence."""


class ChunkDescription(Part):
    """What one chunk must be."""

    chunk: Annotated[Count, unit("1")]
    """Number of the chunk."""
    first_row: Annotated[Count, unit("1")]
    """Row with which it begins."""
    rows: Annotated[Count, unit("1")]
    """Rows in it."""
    size_bytes: Annotated[Count, unit("byte")]
    """Size of the message's value."""
    digest: Digest
    """SHA-256 of the message's value."""


class CatalogManifest(ProductMessage):
    """Closes a catalogue: only with it, and with every chunk it names, is the catalogue whole."""

    topic_type: ClassVar[str] = "source-catalog"

    message_type: Literal["catalog-manifest"] = "catalog-manifest"
    """Which message this is; also in the header ``ce_type``."""
    rows: Annotated[Count, unit("1")]
    """Rows of the catalogue."""
    chunks: Listed[ChunkDescription]
    """The chunks, in order; none for an empty catalogue."""
    columns: Listed[CatalogColumn]
    """All columns in their order."""
    digest: Digest
    """SHA-256 over the concatenated digests of the chunks, each as 32 raw bytes."""
    aliases: Annotated[dict[Name, Name], Field(max_length=1024)] = Field(default_factory=dict)
    """Other names of columns: an alias is a prefix that stands for another prefix."""
    metadata: Annotated[dict[Name, Value | Listed[float]], unit("1", max_length=1024)] = Field(
        default_factory=dict
    )
    """Further values about the catalogue as a whole."""
    exposure_time: Annotated[float | None, unit("s", ge=0)] = None
    """Open-shutter time."""
    mid_time: Annotated[float | None, unit("d")] = None
    """Middle of the exposure as Modified Julian Date."""
    outcome: Outcome | None = None
    """What became of the event this catalogue belongs to: succeeded or degraded. Since version 1.1."""
    provenance: Provenance
    """What made this catalogue."""

    @model_validator(mode="after")
    def _check_chunks(self) -> Self:
        first = 0
        for number, chunk in enumerate(self.chunks):
            if (chunk.chunk, chunk.first_row) != (number, first):
                raise ValueError(f"chunk {chunk.chunk} at row {chunk.first_row} is out of order")
            first += chunk.rows
        if first != self.rows:
            raise ValueError(f"the chunks hold {first} rows, the catalogue {self.rows}")
        return self
