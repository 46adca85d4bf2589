"""Catalogues as Parquet files by night and instrument: each catalogue is one file, which appears whole or not at all."""

from __future__ import annotations

import fcntl
import importlib
import os
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np

from streamchar.characterize.catalog import Column
from streamchar.errors import MissingPackageError, StreamcharError
from streamchar.messages.catalog import Catalog
from streamchar.tables import DescribedTable, import_pyarrow

UNKNOWN_NIGHT = "unknown"
"""Night of catalogues that do not tell when they were observed. Hive's own name for null stops pandas and pyarrow."""

INCOMING = ".incoming"
"""Folder of files that are being written, below the archive; readers of partitioned data skip names with a dot."""

_MJD_ZERO = datetime(1858, 11, 17, tzinfo=UTC)


class StoreError(StreamcharError):
    """The place of the archive cannot be used."""

    code = "archive_store"
    template = "the archive at {place} cannot be written: {detail}"


class Store(Protocol):
    """A place where files appear whole or not at all."""

    def put(self, name: str, content: bytes) -> None:
        """Write a file, in place of an older one of that name; when this returns it is there for good.

        Raises
        ------
        StoreError
            It cannot be written; the older one is as it was.
        """
        ...


class LocalStore:
    """Files below a folder: written aside, flushed to disk, then renamed.

    What a killed process left behind is removed by the next one. Several processes may write at the same time: each
    holds a lock on what it is writing.

    Parameters
    ----------
    root
        The folder; made when it does not exist.

    Raises
    ------
    StoreError
        The folder cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / INCOMING
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
        except OSError as error:
            raise StoreError(place=str(root), detail=str(error)) from error

    def put(self, name: str, content: bytes) -> None:
        """Write a file; see :class:`Store`."""
        target = self._root / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            while not self._write(target, content):
                continue
            for folder in (target.parent, *target.parent.parents):
                _flush_folder(folder)
                if folder == self._root:
                    break
        except OSError as error:
            raise StoreError(place=str(target), detail=str(error)) from error

    def _write(self, target: Path, content: bytes) -> bool:
        """Write aside and rename; not so when somebody took it for a leftover before it was locked."""
        temporary = self._incoming / f"{uuid.uuid4().hex}.part"
        try:
            with temporary.open("xb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not os.fstat(file.fileno()).st_nlink:
                    return False
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(target)
                return True
        finally:
            temporary.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        for path in self._incoming.glob("*.part"):
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
            except (BlockingIOError, FileNotFoundError):
                # Somebody else is writing it, or has just finished.
                continue


class ObjectStore:
    """Objects below an address such as ``s3://bucket/catalogues``: there, an object appears whole by itself.

    Parameters
    ----------
    address
        Any address that fsspec knows.
    **options
        For its file system; credentials and endpoint are otherwise found as usual, for S3 by the environment.

    Raises
    ------
    MissingPackageError
        The package for this kind of address is not installed.
    StoreError
        The kind of address is not known.
    """

    def __init__(self, address: str, **options: Any) -> None:
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(address, **options)
        except ImportError as error:
            raise MissingPackageError(what=f"the archive at {address}", package="s3fs", extra="s3") from error
        except ValueError as error:
            raise StoreError(place=address, detail=str(error)) from error

    def put(self, name: str, content: bytes) -> None:
        """Write an object; see :class:`Store`."""
        place = f"{self._root.rstrip('/')}/{name}"
        try:
            self._files.pipe_file(place, content)
        except _service_errors() as error:
            raise StoreError(place=place, detail=str(error) or type(error).__name__) from error


def _service_errors() -> tuple[type[Exception], ...]:
    """What a file system raises; S3's own client too, which fsspec lets through: missing credentials, for example."""
    try:
        errors = importlib.import_module("botocore.exceptions")
    except ImportError:
        return OSError, ValueError
    return OSError, ValueError, errors.BotoCoreError, errors.ClientError


def open_store(output: str) -> Store:
    """Return the store at a folder, a ``file:`` address or an address of an object store.

    Raises
    ------
    StoreError, MissingPackageError
        It cannot be used.
    """
    scheme, separator, rest = output.partition("://")
    if not separator:
        return LocalStore(Path(output))
    return LocalStore(Path(rest)) if scheme == "file" else ObjectStore(output)


def night_of(mid_time: float | None) -> str:
    """Return the night of a moment, the date at which it began: the calendar date twelve hours before, in UTC.

    Parameters
    ----------
    mid_time
        Modified Julian Date; not known when ``None``.

    Examples
    --------
    >>> night_of(61071.1348)  # 2026-01-31T03:14 UTC
    '2026-01-30'
    """
    if mid_time is None or not -100_000 < mid_time < 1_000_000:
        return UNKNOWN_NIGHT
    night: date = (_MJD_ZERO + timedelta(days=mid_time - 0.5)).date()
    return night.isoformat()


def file_name(catalog: Catalog) -> str:
    """Return where a catalogue goes: its night, its instrument, and a name that follows from its identifier.

    The same product, however often it is delivered, has the same name; another configuration gives another one.

    Examples
    --------
    ``night=2026-01-30/instrument=DemoCam/2026013100042-003-21dfc4b1cd7e.parquet``
    """
    manifest = catalog.manifest
    identifier = "".join(character for character in manifest.message_id if character.isalnum())[:12]
    name = f"{manifest.exposure}-{manifest.detector:03d}-{identifier}.parquet"
    instrument = quote(manifest.instrument, safe=" ")
    return f"night={night_of(manifest.mid_time)}/instrument={instrument}/{name}"


def to_parquet(catalog: Catalog) -> bytes:
    """Return the content of the file: the catalogue, with ``exposure``, ``detector`` and ``band`` in each row.

    Night and instrument are told by the folders, as readers of partitioned data expect.

    Raises
    ------
    MissingPackageError
        pyarrow is not installed.
    """
    table, manifest = catalog.table, catalog.manifest
    band = np.array(manifest.band or "")
    about = [
        (Column("exposure", "<i8", "", "exposure (visit) number"), manifest.exposure),
        (Column("detector", "<i8", "", "detector number within the camera"), manifest.detector),
        (Column("band", band.dtype.str, "", "filter band, empty when it is not known"), band),
    ]
    added = {
        column: np.full(len(catalog), value, column.dtype)
        for column, value in about
        if column.name not in catalog
    }
    columns = (*added, *table.columns)
    data = {**{column.name: values for column, values in added.items()}, **table.data}
    return DescribedTable(columns, data, table.metadata, table.aliases).to_parquet()


@dataclass
class Archive:
    """Puts catalogues into a store and keeps count.

    Attributes
    ----------
    store
        Where.
    catalogs, sources, size
        How many catalogues, sources and bytes were written.

    Raises
    ------
    MissingPackageError
        pyarrow is not installed.
    """

    store: Store
    catalogs: int = 0
    sources: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        import_pyarrow()

    def add(self, catalog: Catalog) -> str:
        """Write a catalogue; when this returns its file is in place. Return the file's name.

        Raises
        ------
        StoreError, MissingPackageError
            It was not written.
        """
        name, content = file_name(catalog), to_parquet(catalog)
        self.store.put(name, content)
        self.catalogs += 1
        self.sources += len(catalog)
        self.size += len(content)
        return name


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
