"""Settings of the store of characterized exposures; apart from it, since reading settings must not load the science."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from streamchar.configuration import Configuration


class StoreSettings(Configuration):
    """Whether and where characterized exposures are kept."""

    uri: str | None = None
    """Folder or bucket for the characterized exposures (image, mask, variance, PSF, coordinates, aperture
    corrections, background): a path, ``file:///data/characterized`` or ``s3://bucket/prefix``; absent: they are not
    kept. The status record tells address and SHA-256 of each."""

    exposures: bool = True
    """Keep the exposures themselves."""

    thumbnails: bool = True
    """Keep a small picture (PNG) of each, which the live page shows when its ``dashboard.roots`` hold the store."""

    compression: Literal["none", "gzip", "rice"] = "none"
    """``gzip``: planes compressed without loss. ``rice``: image and variance are quantised to a sixteenth of their
    noise and take about a quarter of the space."""

    endpoint: str | None = None
    """Address of the S3 service, when it is not Amazon's or that of ``AWS_ENDPOINT_URL``."""

    timeout: float = Field(20.0, gt=0)
    """Seconds to wait for an answer of the S3 service."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.uri is None:
            return self
        parts = urlsplit(self.uri)
        if parts.scheme not in {"", "file", "s3"} or (parts.scheme == "s3" and not parts.netloc):
            raise ValueError("uri is a path, file:///folder or s3://bucket/prefix")
        if parts.scheme == "file" and parts.netloc not in {"", "localhost"}:
            raise ValueError("a file:// address names no other host: file:///folder")
        if parts.scheme == "" and not Path(self.uri).is_absolute():
            raise ValueError("a path must begin with /, since other machines read it too")
        return self
