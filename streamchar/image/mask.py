"""Named mask planes: which bit of the mask means what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from streamchar.image.errors import UnknownMaskPlaneError

STANDARD_PLANES: Mapping[str, str] = MappingProxyType(
    {
        "BAD": "defective pixel",
        "SAT": "saturated",
        "INTRP": "interpolated",
        "CR": "cosmic ray",
        "EDGE": "unusable border",
        "DETECTED": "in a positive footprint",
        "DETECTED_NEGATIVE": "in a negative footprint",
        "SUSPECT": "unreliable value",
        "NO_DATA": "no data",
        "VIGNETTED": "vignetted",
        "STREAK": "linear streak",
    }
)
"""Plane names in bit order with their meaning (reference: outputs.md section 3)."""

MAX_PLANES = 31
"""Planes an int32 mask can hold (the sign bit is never used)."""


class MaskPlanes(Mapping[str, int]):
    """An immutable mapping of plane name to bit number (0 to 30).

    Parameters
    ----------
    bits
        Plane name to bit number; the standard planes in their standard order when omitted.
    """

    __slots__ = ("_bits",)

    def __init__(self, bits: Mapping[str, int] | None = None) -> None:
        chosen = {name: bit for bit, name in enumerate(STANDARD_PLANES)} if bits is None else dict(bits)
        if len(set(chosen.values())) != len(chosen) or any(
            not 0 <= bit < MAX_PLANES for bit in chosen.values()
        ):
            raise ValueError(f"mask planes need different bits from 0 to {MAX_PLANES - 1}, got {chosen}")
        self._bits = chosen

    def __getitem__(self, name: str) -> int:
        try:
            return self._bits[name]
        except KeyError:
            raise UnknownMaskPlaneError(plane=name, known=", ".join(self._bits)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._bits

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    def __repr__(self) -> str:
        return f"MaskPlanes({self._bits})"

    def value(self, *names: str) -> int:
        """Bitwise OR of the named planes' values.

        Raises
        ------
        UnknownMaskPlaneError
            When a name is not among the planes.
        """
        result = 0
        for name in names:
            result |= 1 << self[name]
        return result

    def present_value(self, *names: str) -> int:
        """Bitwise OR of the values of those of the named planes that there are."""
        result, bits = 0, self._bits
        for name in names:
            if name in bits:
                result |= 1 << bits[name]
        return result

    def including(self, *names: str) -> MaskPlanes:
        """Return planes that also hold ``names``, new ones on the lowest free bits."""
        if all(name in self._bits for name in names):
            return self
        bits = dict(self._bits)
        free = (bit for bit in range(MAX_PLANES) if bit not in self._bits.values())
        for name in names:
            if name not in bits:
                bits[name] = next(free)
        return MaskPlanes(bits)
