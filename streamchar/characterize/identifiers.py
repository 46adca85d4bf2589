"""Identifiers: one number per detector image, and source numbers that never repeat in a survey (reference: outputs.md section 5)."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from streamchar.characterize.errors import CharacterizationError
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Identity

ID_BITS = 63
"""Bits of an identifier: an int64 without its sign."""


class IdentifierRangeError(CharacterizationError):
    """An exposure or detector number does not fit the survey's limits."""

    code = "identifier_range"
    template = "{quantity} {value} is out of range: ids are packed for 0 to {limit} ({setting})"


class IdentifierOverflowError(CharacterizationError):
    """More sources than the bits left for counting them."""

    code = "identifier_overflow"
    template = "{sources} sources exceed the {limit} that {bits} bits can count"


class PackerConfig(Configuration):
    """How many exposures and detectors the survey has; without both, ids are plain counters."""

    n_detectors: int | None = Field(default=None, ge=1)
    """Detectors of the camera: the largest detector number plus one."""
    n_observations: int | None = Field(default=None, ge=1)
    """Exposures of the survey: the largest exposure number plus one."""


class IdGeneratorConfig(Configuration):
    """Settings of :class:`IdGenerator`."""

    release_id: int = Field(default=0, ge=0)
    """Which processing of the survey this is."""
    n_releases: int = Field(default=64, ge=1)
    """Processings the ids leave room for."""
    packer: PackerConfig = PackerConfig()
    """Limits of exposure and detector numbers."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.release_id >= self.n_releases:
            raise ValueError(f"release_id {self.release_id} must be below n_releases {self.n_releases}")
        if self.packer.n_detectors is not None and self.packer.n_observations is not None:
            packed = (self.packer.n_detectors * self.packer.n_observations - 1).bit_length()
            used = (self.n_releases - 1).bit_length() + packed
            if used >= ID_BITS:
                raise ValueError(
                    f"releases, exposures and detectors need {used} bits of {ID_BITS}; none count sources"
                )
        return self


@frozen
class SourceIdentity:
    """What a source id says.

    Attributes
    ----------
    release, exposure, detector
        Where the source was measured; 0 when the id is a plain counter.
    counter
        Number of the source in its catalogue, from 1.
    """

    release: int
    exposure: int
    detector: int
    counter: int


@frozen
class IdGenerator:
    """Makes the ids of one detector image.

    A source id is ``catalog_id << counter_bits | counter`` with ``catalog_id = packed + 2**packed_bits * release``
    and ``packed = detector + n_detectors * exposure``: unique across exposures, detectors and releases, positive,
    and increasing with the counter.

    Attributes
    ----------
    catalog_id
        Number of the detector image; seeds noise and star reservation. 0 when ids are plain counters.
    packed_bits
        Bits of the packed exposure and detector.
    counter_bits
        Bits left for the sources.
    n_detectors
        Detectors of the camera.
    """

    catalog_id: int = 0
    packed_bits: int = 0
    counter_bits: int = ID_BITS
    n_detectors: int = 1

    @classmethod
    def for_exposure(cls, identity: Identity, config: IdGeneratorConfig | None = None) -> IdGenerator:
        """Make the generator of an exposure.

        Parameters
        ----------
        identity
            Exposure and detector number.
        config
            Limits of the survey. Without ``packer.n_detectors`` and ``packer.n_observations`` nothing guarantees
            that packed numbers fit, so the ids are 1, 2, 3, ... and unique only with the exposure's own identity.

        Raises
        ------
        IdentifierRangeError
            When the exposure or detector number is negative or beyond the limits.
        """
        config = config or IdGeneratorConfig()
        n_detectors, n_observations = config.packer.n_detectors, config.packer.n_observations
        if n_detectors is None or n_observations is None:
            return cls()
        _check("detector", identity.detector, n_detectors, "id_generator.packer.n_detectors")
        _check("exposure", identity.exposure, n_observations, "id_generator.packer.n_observations")
        packed_bits = (n_detectors * n_observations - 1).bit_length()
        catalog_id = identity.detector + n_detectors * identity.exposure + (config.release_id << packed_bits)
        counter_bits = ID_BITS - packed_bits - (config.n_releases - 1).bit_length()
        return cls(catalog_id, packed_bits, counter_bits, n_detectors)

    def source_ids(self, count: int) -> NDArray[np.int64]:
        """Ids of ``count`` sources in catalogue order, int64, counted from 1.

        Raises
        ------
        IdentifierOverflowError
            When the counter bits do not suffice.
        """
        limit = 2**self.counter_bits - 1
        if count > limit:
            raise IdentifierOverflowError(sources=count, limit=limit, bits=self.counter_bits)
        return np.arange(1, count + 1, dtype=np.int64) + (self.catalog_id << self.counter_bits)

    def unpack(self, source_id: int) -> SourceIdentity:
        """Read back what an id of this survey says; the inverse of :meth:`source_ids` for any of its exposures."""
        catalog_id, counter = divmod(int(source_id), 2**self.counter_bits)
        release, packed = divmod(catalog_id, 2**self.packed_bits)
        exposure, detector = divmod(packed, self.n_detectors)
        return SourceIdentity(release, exposure, detector, counter)


def _check(quantity: str, value: int, count: int, setting: str) -> None:
    if not 0 <= value < count:
        raise IdentifierRangeError(quantity=quantity, value=value, limit=count - 1, setting=setting)
