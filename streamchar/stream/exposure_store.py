"""Characterized exposures and their thumbnails in a store: a folder, or a bucket of S3. Runs in the worker.

The name follows from event and configuration, and the file from the result, so that a redelivery writes the same bytes
to the same place.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from streamchar.characterize import CharacterizationResult
from streamchar.errors import StreamcharError
from streamchar.image.access import s3_filesystem
from streamchar.image.fits_writing import replacing
from streamchar.image.preview import gray, png
from streamchar.messages import ExposureReady, ProductDescription
from streamchar.messages.identifiers import product_id
from streamchar.stored import write_stored
from streamchar.stream.store_settings import StoreSettings

PRODUCT, THUMBNAIL = "exposure", "thumbnail"
"""Names of the products in the status record."""

THUMBNAIL_SIDE = 256
"""Longer side of a thumbnail, pixels."""

_ENDINGS = {PRODUCT: ".fits", THUMBNAIL: ".png"}

Write = Callable[[Path], object]


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

    def address(self, event: ExposureReady, product: str = PRODUCT) -> str:
        """Return where a product of an event belongs."""
        name = product_id(event.key, product, self._digest, event.event_id)
        place = f"{quote(event.instrument, safe='').replace('.', '%2E')}/{event.exposure}/{event.detector}"
        root = self._root if urlsplit(self._root).scheme else f"file://{quote(self._root)}"
        return f"{root}/{quote(place)}/{name}{_ENDINGS[product]}"

    def put(self, event: ExposureReady, result: CharacterizationResult) -> tuple[ProductDescription, ...]:
        """Store what is to be kept of a characterized exposure, each file whole or not at all, and describe the files.

        Raises
        ------
        StoreError
            One could not be stored; another attempt may help.
        """
        settings, found = self._settings, []
        if settings.exposures:
            compression = settings.compression
            found.append(
                self._keep(event, PRODUCT, lambda path: write_stored(path, result, compression=compression))
            )
        if settings.thumbnails:
            image = result.exposure.image
            found.append(
                self._keep(event, THUMBNAIL, lambda path: path.write_bytes(png(gray(image, THUMBNAIL_SIDE))))
            )
        return tuple(found)

    def _keep(self, event: ExposureReady, product: str, write: Write) -> ProductDescription:
        uri = self.address(event, product)
        try:
            digest, size = self._put_s3(uri, write) if uri.startswith("s3://") else _put_file(uri, write)
        except OSError as error:
            raise StoreError(uri=uri, detail=error.strerror or str(error) or type(error).__name__) from error
        return ProductDescription(product=product, uri=uri, digest=f"sha256:{digest}", size_bytes=size)

    def _put_s3(self, uri: str, write: Write) -> tuple[str, int]:
        filesystem, failures = s3_filesystem(self._settings.endpoint, self._settings.timeout)
        with tempfile.TemporaryDirectory(prefix="streamchar-") as folder:
            path = Path(folder) / "file"
            write(path)
            try:
                # An object appears when its upload is complete.
                filesystem.put_file(str(path), uri.removeprefix("s3://"))
            except failures as error:
                raise StoreError(uri=uri, detail=str(error)[:200] or type(error).__name__) from error
            return _digest(path)


def _put_file(uri: str, write: Write) -> tuple[str, int]:
    path = Path(unquote(urlsplit(uri).path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        write(temporary)
        return _digest(temporary)


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
