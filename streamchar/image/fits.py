"""Exposures from FITS: from an address to pixels, by the instrument profile that fits, within declared limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import Field

from streamchar.frozen import frozen
from streamchar.image.access import (
    Access,
    LocalFile,
    file_name,
    local_file,
    sibling,
    split_extension,
)
from streamchar.image.assembly import Wanted, assemble, facts_of
from streamchar.image.claims import FileLimits
from streamchar.image.errors import CompanionMissingError, FileMissingError, InvalidExposureError
from streamchar.image.exposure import Exposure
from streamchar.image.fits_writing import replacing, write_exposure, write_hdus
from streamchar.image.opening import FitsFile, card_value, opened, reading
from streamchar.image.profiles import InstrumentProfile, ProfileSet, load_profiles
from streamchar.image.profiles.model import IMAGE_FILE

__all__ = [
    "ReadOptions",
    "choose_profile",
    "companion_addresses",
    "inspect_file",
    "read_exposure",
    "replacing",
    "write_exposure",
    "write_hdus",
]

_PACKED = (".gz", ".fz")


class ReadOptions(FileLimits):
    """What may be read, how it is understood, and what the header leaves out."""

    gain: float | None = Field(default=None, gt=0)
    """Electrons per image unit; overrides the header."""
    read_noise: float | None = Field(default=None, ge=0)
    """Electrons; overrides the header."""
    profile: str | None = None
    """Instrument profile: a name, or the path of a TOML file; recognised from the header when absent."""
    profile_directories: tuple[Path, ...] = ()
    """Folders with TOML files of further profiles."""


def read_exposure(
    source: str | Path,
    options: ReadOptions | None = None,
    *,
    profile: str | InstrumentProfile | None = None,
    access: Access | None = None,
    checksum: str | None = None,
    companions: Sequence[str] = (),
    detector: int | None = None,
    profiles: ProfileSet | None = None,
) -> Exposure:
    """Read an exposure from FITS.

    Parameters
    ----------
    source
        Path, ``file://``, ``https://`` or ``s3://`` address of a FITS file, also tile-compressed or in gzip; an
        extension may follow: ``file.fits.fz#N4``.
    options
        Limits, the instrument profile, and values for keys the header lacks.
    profile
        Instrument profile, in place of that of ``options``.
    access
        Which addresses may be read; any when omitted.
    checksum
        SHA-256 that the file at ``source`` must have.
    companions
        Addresses of further files (mask, weight), in the order in which the profile describes them; found by their
        names when omitted.
    detector
        Detector number, to choose among the images of a file.
    profiles
        Profiles already loaded, in place of the directories of ``options``.

    Returns
    -------
    Exposure
        float32, int32 and float32 planes in native byte order; not yet checked (:meth:`Exposure.check`).

    Raises
    ------
    AccessError
        The address may not be read, or does not answer.
    UnreadableExposureError
        The file is missing, truncated or not FITS.
    InvalidExposureError
        It does not hold what the profile says.
    ExposureTooLargeError
        It claims more than the limits allow.
    UnknownInstrumentError, AmbiguousProfileError, ConfigurationError
        No profile, or more than one, fits; or the named one is wrong.
    """
    options = options or ReadOptions()
    access = access or Access()
    uri, hdu = split_extension(str(source))
    known = load_profiles(options.profile_directories) if profiles is None else profiles
    with ExitStack() as stack:
        file = stack.enter_context(local_file(uri, access, checksum))
        hdus = stack.enter_context(opened(file.path, options, uri))
        chosen = choose_profile(hdus, file, known, profile or options.profile, hdu)
        files, names = {IMAGE_FILE: hdus}, {IMAGE_FILE: uri}
        for role, found in _companions(chosen, uri, companions, access, stack):
            files[role], names[role] = stack.enter_context(opened(found.path, options, found.uri)), found.uri
        with reading(uri):
            return assemble(files, names, chosen, Wanted(hdu, detector, options.gain, options.read_noise))


def choose_profile(
    hdus: FitsFile, file: LocalFile, known: ProfileSet, named: str | InstrumentProfile | None, hdu: str = ""
) -> InstrumentProfile:
    """Return the profile that was named, or else the one that recognises an open file.

    Parameters
    ----------
    hdus, file
        The file, and where it came from.
    known
        Profiles.
    named
        A profile, its name, or the path of its TOML file.
    hdu
        Name or number of the extension that is asked for; the first image when empty.
    """
    if isinstance(named, InstrumentProfile):
        return named
    if named:
        return known.named(named)
    with reading(file.uri):
        facts = facts_of(hdus, file.name, hdu)
    return known.recognise(facts, file.uri)


def companion_addresses(profile: InstrumentProfile, uri: str) -> dict[str, tuple[str, ...]]:
    """Return where the further files of an image may be, by role: packed or not.

    Empty where the image's name does not tell.
    """
    name = file_name(uri)
    places = {}
    for role, companion in profile.files.items():
        other, count = re.subn(companion.find, companion.replace, name)
        bare = next((other.removesuffix(suffix) for suffix in _PACKED if other.endswith(suffix)), other)
        names = dict.fromkeys((other, bare, *(bare + suffix for suffix in _PACKED)))
        places[role] = tuple(sibling(uri, item) for item in names) if count and other != name else ()
    return places


def _companions(
    profile: InstrumentProfile, uri: str, given: Sequence[str], access: Access, stack: ExitStack
) -> Iterator[tuple[str, LocalFile]]:
    if len(given) > len(profile.files):
        detail = f"{len(given)} further files were announced, the profile {profile.name} knows {len(profile.files)}"
        raise InvalidExposureError(path=uri, detail=detail)
    guessed = companion_addresses(profile, uri)
    for number, (role, companion) in enumerate(profile.files.items()):
        places = (given[number],) if number < len(given) else guessed[role]
        found = _first_present(places, access, stack)
        if found is not None:
            yield role, found
        elif companion.required and not places:
            raise InvalidExposureError(
                path=uri,
                detail=f"the profile {profile.name} needs its {role} file, and the name does not match "
                f"'{companion.find}' which would lead to it; announce it among the further files, or rename",
            )
        elif companion.required:
            raise CompanionMissingError(uri=places[0], role=role, image=uri, profile=profile.name)


def _first_present(places: Sequence[str], access: Access, stack: ExitStack) -> LocalFile | None:
    for place in places:
        try:
            return stack.enter_context(local_file(place, access))
        except FileMissingError:
            continue
    return None


@frozen
class Inspection:
    """What a file looks like to the instrument profiles.

    Attributes
    ----------
    profile
        The one in force.
    lines
        For people: what recognises the file, its images, and where the profile looks for further files.
    """

    profile: InstrumentProfile
    lines: tuple[str, ...]


def inspect_file(
    source: str | Path, known: ProfileSet, named: str | None, limits: FileLimits, access: Access | None = None
) -> Inspection:
    """Tell which profiles recognise a file and where the one in force looks for further files.

    Raises
    ------
    StreamcharError
        The file cannot be opened, or no profile is in force.
    """
    uri, hdu = split_extension(str(source))
    with local_file(uri, access or Access()) as file, opened(file.path, limits, uri) as hdus:
        with reading(uri):
            facts = facts_of(hdus, file.name, hdu)
        matching = ", ".join(
            f"{profile.name} (priority {profile.priority})" for profile in known.matching(facts)
        )
        chosen = choose_profile(hdus, file, known, named, hdu)
        found = [_outline(number, item) for number, item in enumerate(hdus)]
    lines = [f"recognised by: {matching or 'none'}", f"profile: {chosen.name}, {chosen.title}"]
    lines += [f"extension {line}" for line in found if line]
    for role, places in companion_addresses(chosen, uri).items():
        place = places[0] if places else f"not told by the name; the pattern is {chosen.files[role].find}"
        lines.append(f"{role} file ({chosen.files[role].description}): {place}")
    return Inspection(chosen, tuple(lines))


def _outline(number: int, hdu: Any) -> str:
    name = card_value(hdu.header, "EXTNAME") or card_value(hdu.header, "EXTTYPE") or "without a name"
    if not hdu.is_image or len(hdu.shape) != 2:
        return ""
    height, width = hdu.shape
    return f"{number}: {str(name).strip()[:68]}, image of {width} x {height}"
