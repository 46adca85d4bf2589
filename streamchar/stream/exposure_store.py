"""Characterized exposures in a store: a folder, or a bucket of S3. Runs in the worker.

The name follows from event and configuration, and the file from the result, so that a redelivery writes the same bytes
to the same place.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from streamchar.characterize import CharacterizationResult
from streamchar.errors import StreamcharError
from streamchar.image.access import s3_filesystem
from streamchar.messages import ExposureReady, ProductDescription
from streamchar.messages.identifiers import product_id
from streamchar.stored import write_stored
from streamchar.stream.store_settings import StoreSettings

PRODUCT = "exposure"
"""Name of the product in the status record."""


class StoreError(StreamcharError):
    """A characterized exposure could not be stored."""

    code = "store_failed"
    template = "{uri}: the characterized exposure could not be stored ({detail})"
    retryable = True


class ExposureStore:
    """Keeps characterized exposures.

    Parameters
    ----------
    settings
        With an address.
    config_digest
        Digest of the configuration in force; part of every name.
    """

    def __init__(self, settings: StoreSettings, config_digest: str) -> None:
        if settings.uri is None:
            raise ValueError("a store needs an address")
        self._settings, self._digest = settings, config_digest
        self._root = settings.uri.rstrip("/")

    def address(self, event: ExposureReady) -> str:
        """Return where the exposure of an event belongs."""
        name = product_id(event.key, PRODUCT, self._digest, event.event_id)
        place = f"{quote(event.instrument, safe='').replace('.', '%2E')}/{event.exposure}/{event.detector}"
        root = self._root if urlsplit(self._root).scheme else f"file://{quote(self._root)}"
        return f"{root}/{quote(place)}/{name}.fits"

    def put(self, event: ExposureReady, result: CharacterizationResult) -> ProductDescription:
        """Store a characterized exposure, whole or not at all, and describe it.

        Raises
        ------
        StoreError
            It could not be stored; another attempt may help.
        """
        uri = self.address(event)
        try:
            digest, size = (
                self._put_s3(uri, result) if uri.startswith("s3://") else self._put_file(uri, result)
            )
        except OSError as error:
            raise StoreError(uri=uri, detail=error.strerror or str(error) or type(error).__name__) from error
        return ProductDescription(product=PRODUCT, uri=uri, digest=f"sha256:{digest}", size_bytes=size)

    def _put_file(self, uri: str, result: CharacterizationResult) -> tuple[str, int]:
        path = Path(unquote(urlsplit(uri).path))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_stored(path, result, compression=self._settings.compression)
        return _digest(path)

    def _put_s3(self, uri: str, result: CharacterizationResult) -> tuple[str, int]:
        filesystem, failures = s3_filesystem(self._settings.endpoint, self._settings.timeout)
        with tempfile.TemporaryDirectory(prefix="streamchar-") as folder:
            path = Path(folder) / "exposure.fits"
            write_stored(path, result, compression=self._settings.compression)
            try:
                # An object appears when its upload is complete.
                filesystem.put_file(str(path), uri.removeprefix("s3://"))
            except failures as error:
                raise StoreError(uri=uri, detail=str(error)[:200] or type(error).__name__) from error
            return _digest(path)


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
