"""From open FITS files and an instrument profile to an exposure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen
from streamchar.image import headers
from streamchar.image.cards import PlainHeader
from streamchar.image.coordinates import read_coordinates
from streamchar.image.errors import InvalidExposureError
from streamchar.image.exposure import Exposure, Identity, Observation
from streamchar.image.headers import Sources
from streamchar.image.mask import MaskPlanes
from streamchar.image.mask_reading import named_planes, painted, translated
from streamchar.image.metadata import metadata_of
from streamchar.image.opening import FitsFile, FitsHeader, card_value
from streamchar.image.profiles.loader import Facts
from streamchar.image.profiles.model import IMAGE_FILE, InstrumentProfile, Place

Plane = NDArray[np.float32]


@frozen
class Wanted:
    """What the caller knows better than the file.

    Attributes
    ----------
    hdu
        Name or number of the image's extension; empty to let the profile choose.
    detector
        Detector number, to choose among the images of a file.
    gain, read_noise
        Electrons per image unit, electrons; ``None`` leaves them to the header.
    """

    hdu: str = ""
    detector: int | None = None
    gain: float | None = None
    read_noise: float | None = None


def facts_of(file: FitsFile, name: str, hdu: str = "") -> Facts:
    """Return what a file tells about itself; a file without any image has its primary header only."""
    candidates = images(file)
    chosen = _named(file, hdu) if hdu else None
    image = chosen if chosen is not None else candidates[0] if candidates else None
    shown = [file[0].header] if image is None or image is file[0] else [file[0].header, image.header]
    return Facts(name, tuple(_name(item) for item in file), tuple(map(_facts, shown)))


def _facts(header: FitsHeader) -> Mapping[str, Any]:
    if isinstance(header, PlainHeader):
        return header.values
    return {key: card_value(header, key) for key in header}


def images(file: FitsFile) -> list[Any]:
    """Return the extensions with a two-dimensional image, in order."""
    return [hdu for hdu in file if hdu.is_image and len(hdu.shape) == 2 and min(hdu.shape) > 0]


def assemble(
    files: Mapping[str, FitsFile],
    names: Mapping[str, str],
    profile: InstrumentProfile,
    wanted: Wanted,
) -> Exposure:
    """Build the exposure that a profile sees in open files.

    Parameters
    ----------
    files
        By role; ``image`` is the file that was asked for.
    names
        Their names, for messages.
    profile
        What they mean.
    wanted
        What the caller knows better.

    Returns
    -------
    Exposure
        float32, int32 and float32 planes in native byte order; not yet checked (:meth:`Exposure.check`).

    Raises
    ------
    InvalidExposureError
        Names the file, the extension or key, and how it is mended.
    UnreadableExposureError
        Pixels or headers are damaged.
    """
    return _Assembly(files, names, profile, wanted).exposure()


class _Assembly:
    def __init__(
        self,
        files: Mapping[str, FitsFile],
        names: Mapping[str, str],
        profile: InstrumentProfile,
        wanted: Wanted,
    ) -> None:
        self._files, self._names, self._profile, self._wanted = files, names, profile, wanted
        self._image_hdu = self._choose_image()
        header = headers.merged(files[IMAGE_FILE][0].header, self._image_hdu.header)
        self._sources = Sources(header, files, names)

    def exposure(self) -> Exposure:
        image = _plane(self._image_hdu, np.float32, self._names[IMAGE_FILE])
        scale = self._adjust(image)
        observation = self._observation()
        variance = self._variance(image, observation, scale)
        mask, planes = self._mask(image.shape)
        self._mark(image, mask, variance, planes, observation)
        metadata = metadata_of(self._files[IMAGE_FILE], self._names[IMAGE_FILE])
        seeing = headers.number(self._sources, self._profile.keys.seeing, minimum=0.0)
        if seeing:
            metadata.setdefault("SEEING", seeing)
        return Exposure(
            image,
            mask,
            variance,
            planes=planes,
            wcs=read_coordinates(self._sources.header, self._profile.wcs, self._names[IMAGE_FILE]),
            identity=self._identity(),
            observation=observation,
            metadata=metadata,
            source=self._names[IMAGE_FILE],
        )

    def _choose_image(self) -> Any:
        file, path, rules = self._files[IMAGE_FILE], self._names[IMAGE_FILE], self._profile.image
        if self._wanted.hdu:
            hdu = _named(file, self._wanted.hdu)
            if hdu is None or hdu not in images(file):
                raise InvalidExposureError(
                    path=path, detail=f"has no image '{self._wanted.hdu}'; it holds {_listing(file)}"
                )
            return hdu
        if rules.choose and len(candidates := images(file)) > 1:
            return self._by_detector(candidates)
        return self._find(rules)

    def _by_detector(self, candidates: list[Any]) -> Any:
        file, path = self._files[IMAGE_FILE], self._names[IMAGE_FILE]
        detector = self._wanted.detector
        for hdu in candidates if detector is not None else ():
            sources = Sources(headers.merged(file[0].header, hdu.header), self._files, self._names)
            if headers.natural(sources, self._profile.keys.detector) == detector:
                return hdu
        asked = "say which" if detector is None else f"none is detector {detector}; say which"
        raise InvalidExposureError(
            path=path,
            detail=f"holds {len(candidates)} images ({_listing(file)}), {asked}, for example "
            f"{path}#{_name(candidates[0]) or 1}",
        )

    def _find(self, place: Place) -> Any:
        """Extension of a place, which must be a two-dimensional image.

        Raises
        ------
        InvalidExposureError
            It does not exist.
        """
        file, path = self._files[place.file], self._names[place.file]
        found = images(file)
        if place.hdu == "first":
            if not found:
                raise InvalidExposureError(path=path, detail="holds no two-dimensional image")
            return found[0]
        for choice in (place.hdu,) if isinstance(place.hdu, str | int) else place.hdu:
            hdu = self._same(file) if choice == "same" else _named(file, choice)
            if hdu is not None and hdu in found:
                return hdu
        wanted = place.hdu if isinstance(place.hdu, str | int) else " or ".join(place.hdu)
        if wanted == "same":
            wanted = _name(self._image_hdu) or self._files[IMAGE_FILE].index(self._image_hdu)
        raise InvalidExposureError(
            path=path,
            detail=f"the profile {self._profile.name} needs an image extension '{wanted}'; it holds {_listing(file)}",
        )

    def _same(self, file: FitsFile) -> Any:
        """Extension named as the image's, or of its number where names are missing."""
        name = _name(self._image_hdu)
        if name and (hdu := _named(file, name)) is not None:
            return hdu
        found, originals = images(file), images(self._files[IMAGE_FILE])
        if len(found) == 1 == len(originals):
            return found[0]
        number = self._files[IMAGE_FILE].index(self._image_hdu)
        return file[number] if not name and number < len(file) else None

    def _adjust(self, image: Plane) -> float:
        """Add the offset and apply the scale, in place; return the scale."""
        rules = self._profile.image
        offset = headers.number(self._sources, rules.offset)
        if offset:
            image += np.float32(offset)
        if rules.scale is None:
            return 1.0
        scale = headers.number(self._sources, rules.scale)
        if scale is None or scale <= 0:
            raise self._missing("scale of the image", " or ".join(rules.scale.keys))
        image *= np.float32(scale)
        return scale

    def _observation(self) -> Observation:
        keys, sources = self._profile.keys, self._sources
        exposure_time = headers.number(sources, keys.exposure_time, minimum=0.0)
        mid_time, start = headers.number(sources, keys.mid_time), headers.number(sources, keys.start_time)
        if mid_time is None and start is not None:
            mid_time = start + 0.5 * (exposure_time or 0.0) / 86_400.0
        gain = self._wanted.gain or headers.number(sources, keys.gain, minimum=1e-6)
        read_noise = self._wanted.read_noise
        if read_noise is None:
            read_noise = headers.number(sources, keys.read_noise, minimum=0.0)
        dark = headers.number(sources, keys.dark_variance, minimum=0.0)
        if read_noise is None and dark is not None and gain is not None:
            read_noise = gain * dark**0.5
        return Observation(
            exposure_time=exposure_time,
            mid_time=mid_time,
            gain=gain,
            read_noise=read_noise,
            saturation=headers.number(sources, keys.saturation),
            zero_point=headers.number(sources, keys.zero_point),
            latitude=headers.number(sources, keys.latitude),
            longitude=headers.number(sources, keys.longitude),
            elevation=headers.number(sources, keys.elevation),
            unit=headers.text(sources, keys.unit) or "adu",
        )

    def _identity(self) -> Identity:
        keys, sources = self._profile.keys, self._sources
        instrument = headers.text(sources, keys.instrument)
        return Identity(
            instrument or self._names[IMAGE_FILE].rpartition("/")[2].split(".")[0],
            headers.natural(sources, keys.exposure),
            headers.natural(sources, keys.detector),
            headers.text(sources, keys.band) or "",
        )

    def _variance(self, image: Plane, observation: Observation, scale: float) -> Plane:
        rules = self._profile.variance
        if rules.kind == "noise":
            self._need_noise(observation)
            return _noise(image, observation)
        plane = _plane(self._find(rules), np.float32, self._names[rules.file])
        self._same_shape("variance", plane, image, rules)
        if rules.kind == "error":
            np.square(plane, out=plane)
        elif rules.kind == "weight":
            with np.errstate(divide="ignore"):
                np.divide(np.float32(1.0), plane, out=plane)
        if scale != 1.0:
            plane *= np.float32(scale**2)
        return plane

    def _mask(self, shape: tuple[int, ...]) -> tuple[NDArray[np.int32], MaskPlanes]:
        rules = self._profile.mask
        height, width = shape
        if rules is None or (rules.file not in self._files and not rules.required):
            return np.zeros(shape, np.int32), MaskPlanes()
        path = self._names[rules.file]
        if rules.kind == "spans":
            planes = MaskPlanes().including(*rules.planes)
            return painted(self._files[rules.file], rules, planes, (height, width), path), planes
        hdu = self._find(rules)
        if rules.kind == "named":
            mask, planes = _plane(hdu, np.int32, path), named_planes(hdu.header, rules.prefix, path)
        else:
            planes = MaskPlanes().including(*rules.planes)
            mask = translated(_data(hdu, path), rules, planes, path)
        self._same_shape("mask", mask, np.empty(shape, np.bool_), rules)
        return mask, planes

    def _mark(
        self,
        image: Plane,
        mask: NDArray[np.int32],
        variance: Plane,
        planes: MaskPlanes,
        observation: Observation,
    ) -> None:
        """Set the planes that follow from the values: no data, saturated, unusable variance."""
        profile = self._profile
        if profile.mask is None:
            mask[~np.isfinite(image)] |= planes.value("NO_DATA")
        if profile.saturate and observation.saturation is not None:
            mask[image >= observation.saturation] |= planes.value("SAT")
        if profile.variance.kind == "noise" or not profile.variance.unusable:
            return
        unusable = ~(np.isfinite(variance) & (variance > 0))
        if not unusable.any():
            return
        mask[unusable & (mask == 0)] |= planes.value(*profile.variance.unusable)
        if observation.gain is not None and observation.read_noise is not None:
            variance[unusable] = _noise(image[unusable], observation)

    def _same_shape(self, what: str, plane: NDArray[Any], image: NDArray[Any], place: Place) -> None:
        if plane.shape != image.shape:
            raise InvalidExposureError(
                path=self._names[place.file],
                detail=f"the {what} is {plane.shape[1]} x {plane.shape[0]} pixels, "
                f"the image {image.shape[1]} x {image.shape[0]}",
            )

    def _need_noise(self, observation: Observation) -> None:
        for name, value, option in (
            ("gain", observation.gain, "--gain"),
            ("read_noise", observation.read_noise, "--rdnoise"),
        ):
            if value is None:
                raise self._missing(
                    name.replace("_", " "),
                    headers.key_names(self._profile.keys, name),
                    f" (or say {option})",
                )

    def _missing(self, what: str, keys: str, hint: str = "") -> InvalidExposureError:
        present = [
            f"{key} = {str(card_value(self._sources.header, key))[:30]!r}"
            for key in keys.split(" or ")
            if key and key in self._sources.header
        ]
        state = f"{', '.join(present)} is no usable number" if present else f"header key {keys} is missing"
        return InvalidExposureError(
            path=self._names[IMAGE_FILE],
            detail=f"the profile {self._profile.name} needs the {what}: {state}{hint}",
        )


def _noise(image: Plane, observation: Observation) -> Plane:
    """Photon and read noise in image units squared."""
    assert observation.gain is not None
    assert observation.read_noise is not None
    photons = np.maximum(image, 0) / np.float32(observation.gain)
    return np.asarray(photons + np.float32((observation.read_noise / observation.gain) ** 2), np.float32)


def _named(file: FitsFile, choice: str | int) -> Any:
    """Extension of a name (EXTNAME or EXTTYPE) or number, ``None`` without one."""
    if isinstance(choice, str):
        for hdu in file:
            if _name(hdu) == choice.strip().upper():
                return hdu
        if not choice.isdecimal():
            return None
    number = int(choice)
    return file[number] if 0 <= number < len(file) else None


def _name(hdu: Any) -> str:
    name = card_value(hdu.header, "EXTNAME") or card_value(hdu.header, "EXTTYPE") or ""
    return str(name).strip().upper()[:68]


def _listing(file: FitsFile) -> str:
    names = [_name(hdu) or f"number {file.index(hdu)}" for hdu in images(file)]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return shown or "no two-dimensional image"


def _data(hdu: Any, path: str) -> NDArray[Any]:
    data = hdu.data
    if data is None or data.ndim != 2:
        raise InvalidExposureError(path=path, detail=f"extension '{_name(hdu)}' holds no image")
    return np.asarray(data)


def _plane(hdu: Any, dtype: type[Any], path: str) -> NDArray[Any]:
    """Return a plane of its own in native byte order; the extension forgets its data, which would take as much again."""
    data = _data(hdu, path)
    del hdu.data
    if data.flags.c_contiguous and data.flags.writeable:
        if data.dtype == dtype:
            return data
        if data.dtype == np.dtype(dtype).newbyteorder():
            data.byteswap(inplace=True)
            return data.view(dtype)
    if dtype is np.int32 and data.dtype.kind not in "iub":
        data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(data, dtype=dtype, order="C", copy=True)
