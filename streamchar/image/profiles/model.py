"""What an instrument profile says: how the FITS files of a camera become an exposure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from streamchar.configuration import Configuration

IMAGE_FILE = "image"
"""Role of the file that was asked for; companions have roles of their own."""


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
"""A regular expression of Python."""

Numbers = tuple[Annotated[int, Field(ge=0, le=2**31)], ...]


class Rule(Configuration):
    """Conditions that a file of the profile fulfils, all of them."""

    headers: dict[str, Pattern] = Field(default_factory=dict)
    """Regular expressions that the whole values of these keys match, in the primary header or that of the image."""

    absent: tuple[str, ...] = ()
    """Keys that neither header has."""

    extensions: tuple[str, ...] = ()
    """Names of extensions that exist."""

    file_name: Pattern = ""
    """Regular expression found in the file's name; empty for any name."""


class Companion(Configuration):
    """A further file that belongs to the image, found by its name."""

    find: Pattern
    """Regular expression that is replaced in the image's file name."""

    replace: str
    """What it is replaced by; ``\\1`` stands for the first group."""

    required: bool = True
    """Whether the exposure cannot be read without it."""

    description: str = ""
    """What it holds."""


class Table(Configuration):
    """One number in a binary table."""

    file: str = IMAGE_FILE
    """Role of the file."""

    hdu: str | int
    """Name or number of the extension."""

    column: str
    """Name of the column; its first row is read."""

    element_key: str = ""
    """Header key of the image whose value says which element of a vector is meant, for example ``FILTER``."""

    elements: tuple[str, ...] = ()
    """Values of that key in the order of the elements."""


def _short_value(value: Any) -> Any:
    """Accept a key, a list of keys or a number in place of the whole table."""
    if isinstance(value, str):
        return {"keys": (value,)}
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple):
        return {"keys": tuple(value)}
    if isinstance(value, int | float):
        return {"value": value}
    return value


class Value(Configuration):
    """Where a value is found. In TOML also short: a key, a list of keys, or a number.

    The first source that gives something is used: the header keys, the table, the constant.
    """

    keys: tuple[str, ...] = ()
    """Header keys; the first that is present and not empty, unless ``combine`` says otherwise."""

    combine: Literal["first", "mean", "min", "max", "sum"] = "first"
    """What is made of several keys: all but ``first`` need numbers under every one of them."""

    factors: tuple[float, ...] = ()
    """Factors of the keys before they are combined, for example 10000 and 1."""

    table: Table | None = None
    """A cell of a binary table."""

    value: str | int | float | None = None
    """A constant."""

    pattern: Pattern = ""
    """Regular expression searched in the text; its first group (or the whole match) is the value, and without a
    match there is none."""

    map: dict[str, str | int | float] = Field(default_factory=dict)
    """Replacements of whole values; a value that is not named stays as it is."""

    multiply: float = 1.0
    """Factor of the number."""

    add: float = 0.0
    """Added to the number after multiplication."""

    time: Literal["", "jd", "iso"] = ""
    """For times that are not MJD: a Julian Date, or a calendar date as text (``2026-11-22T03:04:05``)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.keys and self.table is None and self.value is None:
            raise ValueError("names no keys, no table and no value")
        if self.factors and len(self.factors) != len(self.keys):
            raise ValueError(f"has {len(self.factors)} factors for {len(self.keys)} keys")
        return self


Source = Annotated[Value, BeforeValidator(_short_value)]


class Place(Configuration):
    """Which extension of which file."""

    file: str = IMAGE_FILE
    """Role of the file."""

    hdu: str | int | tuple[str, ...] = "first"
    """A number, a name (EXTNAME or EXTTYPE), several names of which the first that exists counts, ``first`` for the
    first two-dimensional image, or ``same`` for the extension of the image's name or number."""


class ImagePlane(Place):
    """The pixels."""

    choose: bool = False
    """Whether a file holds one image for each detector, of which the caller names one (``file.fits#N4``) or which is
    the one whose detector number was announced."""

    offset: Source | None = None
    """Added to the pixels, for example minus a software bias."""

    scale: Source | None = None
    """Factor of the pixels after the offset, for example the exposure time of count rates."""


class MaskPlane(Place):
    """The mask: how its pixels say what is wrong with those of the image."""

    kind: Literal["named", "bits", "values", "spans"] = "bits"
    """``named``: bits that the extension's own header names by keys ``<prefix><plane>``. ``bits``: bits of known
    meaning. ``values``: each pixel holds one code. ``spans``: one binary table for each meaning, whose rows hold
    (y, first x, last x) triples of 16-bit integers (SDSS fpM)."""

    prefix: str = "MP_"
    """Beginning of the keys that name planes, for ``named``."""

    planes: dict[str, Numbers] = Field(default_factory=dict)
    """Our planes and the bit numbers, codes or extension numbers that set them; others are dropped."""

    required: bool = True
    """Whether the exposure cannot be read without it; otherwise its mask is then empty."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "named" and self.planes:
            raise ValueError("planes are named by the file itself with kind = 'named'; leave 'planes' out")
        if self.kind != "named" and not self.planes:
            raise ValueError(f"kind = '{self.kind}' needs 'planes'")
        if self.kind == "bits" and any(bit > 31 for bits in self.planes.values() for bit in bits):
            raise ValueError("bit numbers go from 0 to 31")
        return self


class VariancePlane(Place):
    """The variance, or what it is made from."""

    kind: Literal["variance", "weight", "error", "noise"] = "noise"
    """``variance`` in image unit squared; ``weight``: its inverse; ``error``: its square root; ``noise``: made from
    gain and read noise, no extension is read."""

    unusable: tuple[str, ...] = ("NO_DATA",)
    """Planes set on pixels whose variance is not finite and positive and that carry no other plane. Their variance is
    made from gain and read noise where these are known."""


class Keys(Configuration):
    """Who took the exposure, and how."""

    instrument: Source | None = None
    """Name of the camera."""
    exposure: Source | None = None
    """Exposure (visit) number."""
    detector: Source | None = None
    """Detector number."""
    band: Source | None = None
    """Filter band."""
    exposure_time: Source | None = None
    """Seconds."""
    mid_time: Source | None = None
    """Middle of the exposure, MJD."""
    start_time: Source | None = None
    """Beginning, MJD; used with the exposure time where the middle is not told."""
    gain: Source | None = None
    """Electrons per image unit, after ``image.scale``."""
    read_noise: Source | None = None
    """Electrons."""
    dark_variance: Source | None = None
    """Variance of pixels without light, image unit squared; in place of the read noise."""
    saturation: Source | None = None
    """Level of saturation in image units, after ``image.offset`` and ``image.scale``."""
    unit: Source | None = None
    """Unit of the pixels, after ``image.scale``."""
    zero_point: Source | None = None
    """Magnitude of one image unit over the whole exposure, after ``image.scale``."""
    latitude: Source | None = None
    """Of the telescope, degrees, north positive."""
    longitude: Source | None = None
    """Of the telescope, degrees, east positive."""
    elevation: Source | None = None
    """Of the telescope, metres."""
    seeing: Source | None = None
    """FWHM of stars as the camera's own pipeline measured it, arcseconds; kept as metadata ``SEEING`` for
    comparison."""


class Coordinates(Configuration):
    """The world coordinates in the header."""

    use: bool = True
    """Whether they are read."""

    rename: dict[str, str] = Field(default_factory=dict)
    """Keys with outdated names and what they are called now."""

    drop: tuple[str, ...] = ()
    """Keys that are ignored, as file-name patterns: ``PV*``."""


class InstrumentProfile(Configuration):
    """How the FITS files of a camera become an exposure."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    """Short name: lower-case letters, digits and hyphens."""

    title: str
    """What it is for, in a few words."""

    description: str = ""
    """What one should know: versions, units, where the facts are documented."""

    extends: str = ""
    """Name of a profile whose settings hold where this one says nothing."""

    priority: int = 100
    """Of several profiles that recognise a file, the one with the highest priority is used. Built in are 100 for
    cameras, 50 for streamchar's own layout, 0 for plain images; those of a configured directory should use 200."""

    recognise: tuple[Rule, ...] = ()
    """A file is of this profile when one of these rules holds; without any it must be named."""

    files: dict[str, Companion] = Field(default_factory=dict)
    """Further files by role, in the order in which an announcement lists them."""

    image: ImagePlane = ImagePlane()
    """The pixels."""

    mask: MaskPlane | None = None
    """The mask; without it, only pixels that are not finite or are saturated are marked."""

    variance: VariancePlane = VariancePlane()
    """The variance."""

    saturate: bool = False
    """Set SAT on pixels at or above ``keys.saturation``."""

    keys: Keys = Keys()
    """Identity, times, gain."""

    wcs: Coordinates = Coordinates()
    """World coordinates."""

    @field_validator("files")
    @classmethod
    def _no_image_role(cls, files: Mapping[str, Companion]) -> Mapping[str, Companion]:
        if IMAGE_FILE in files:
            raise ValueError("'image' is the file that was asked for; give companions other roles")
        return files

    @model_validator(mode="after")
    def _check_roles(self) -> Self:
        roles = {IMAGE_FILE, *self.files}
        places = {"mask": self.mask, "variance": self.variance}
        used = {name: place.file for name, place in places.items() if place is not None}
        for name in Keys.model_fields:
            source = getattr(self.keys, name)
            if source is not None and source.table is not None:
                used[f"keys.{name}"] = source.table.file
        for name, role in used.items():
            if role not in roles:
                raise ValueError(f"{name} is in the file '{role}', which 'files' does not describe")
        return self
