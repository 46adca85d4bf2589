"""From an announcement to the exposure: what may be read, by which instrument profile. Runs in the worker."""

from __future__ import annotations

from pathlib import Path

from streamchar.image import Exposure, Identity
from streamchar.image.access import Access
from streamchar.image.fits import ReadOptions, read_exposure
from streamchar.image.profiles import load_profiles
from streamchar.messages import ExposureReady


class FetchSettings(Access):
    """Which addresses the service may read; nothing unless it is named here."""

    roots: tuple[Path, ...] = ()
    """Folders below which exposures must lie, symbolic links resolved. Empty: no file may be read."""

    hosts: tuple[str, ...] = ()
    """Hosts that may be asked by ``https://``, as ``host``, ``host:port`` or ``*.example.org``. Redirections to other
    hosts are never followed. Empty: none."""

    buckets: tuple[str, ...] = ()
    """Buckets of S3 that may be read, as ``bucket`` or ``bucket/prefix``. Empty: none."""


class ExposureReader:
    """Reads the exposures that are announced.

    Parameters
    ----------
    access
        Which addresses may be read.
    options
        Limits and instrument profile.

    Raises
    ------
    ConfigurationError
        A folder of profiles, or the profile that is named, is wrong.
    """

    def __init__(self, access: Access, options: ReadOptions | None = None) -> None:
        self._access, self._options = access, options or ReadOptions()
        self._profiles = load_profiles(self._options.profile_directories)
        named = self._options.profile
        self._profile = None if named is None else self._profiles.named(named)

    def read(self, event: ExposureReady) -> Exposure:
        """Read the exposure of an event; the announcement says which exposure it is.

        Headers of files are often silent or wrong about that.

        Raises
        ------
        StreamcharError
            Says what cannot be read and why; ``retryable`` says whether another attempt may help.
        """
        exposure = read_exposure(
            event.uri,
            self._options,
            profile=self._profile,
            access=self._access,
            checksum=event.checksum,
            companions=event.uris,
            detector=event.detector,
            profiles=self._profiles,
        )
        band = event.band or exposure.identity.band
        exposure.identity = Identity(event.instrument, event.exposure, event.detector, band)
        return exposure
