"""Header cards without astropy: those of the usual kinds are read here, a header with any other is left to astropy.

Usual are keys in capitals with a text, a truth value or a decimal number (FITS standard 4.0, section 4.2), HIERARCH keys of
one word, and comments. A card that continues, that hides a key in its text, that has no value or breaks a rule is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

BLOCK = 2880
"""Bytes of a FITS block."""
CARD = 80
"""Bytes of a header card."""
CARDS_KEPT = 8192
"""Cards that are remembered with what they say: most cards of a camera's headers are the same in all of them."""

_COMMENTS = ("COMMENT", "HISTORY", "")
_CARD = re.compile(
    r"(?:(?P<key>[A-Z0-9_-]+) *(?<=^.{8})|HIERARCH (?P<long>[A-Z][A-Z0-9_]{8,}) *)= +"
    r"(?:'(?P<text>[^']*)'|(?P<truth>[TF])|(?P<whole>[+-]?\d+)|(?P<real>[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[ED]))(?:[ED][+-]?\d+)?))"
    r" *(?:/.*)?"
)
_HIDDEN = re.compile(r": |&$")
"""In a text: perhaps a key and its number, which astropy takes apart; or the next card continues it."""


class Comments(tuple[str, ...]):
    """Lines of comments under one key."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(self)


class Card(NamedTuple):
    """A line of a header.

    Attributes
    ----------
    key
        In capitals, without HIERARCH; empty for a comment without one.
    value
        Text without trailing blanks, truth value, number, or the line of a comment.
    image
        Its 80 characters.
    """

    key: str
    value: str | bool | int | float
    image: str


class PlainHeader:
    """A header of usual cards; it answers questions about keys as astropy's does.

    Parameters
    ----------
    cards
        In order. Of equal keys the first one counts.
    """

    def __init__(self, cards: Iterable[Card]) -> None:
        self._cards = tuple(cards)

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """By key: the first value of equal ones, and the comments under one key together."""
        values: dict[str, Any] = {}
        for card in self._cards:
            if card.key in _COMMENTS:
                values[card.key] = Comments((*values.get(card.key, ()), str(card.value)))
            else:
                values.setdefault(card.key, card.value)
        return values

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, in small or capital letters."""
        values = self.values
        return values[key] if key in values else values.get(_plain_key(key), default)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _plain_key(key) in self.values

    def __iter__(self) -> Iterator[str]:
        return (card.key for card in self._cards)

    def completed_by(self, other: PlainHeader) -> PlainHeader:
        """Return this header after those cards of another whose keys it lacks; comments without a key are left out."""
        missing = (card for card in other._cards if card.key and card.key not in self.values)
        return PlainHeader((*missing, *self._cards))

    def to_text(self) -> str:
        """All cards, with their end, as they stand in a file."""
        text = "".join([*(card.image for card in self._cards), "END".ljust(CARD)])
        return text.ljust(-(-len(text) // BLOCK) * BLOCK)


def parse_header(data: bytes) -> PlainHeader | None:
    """Read a header; ``None`` when a card is not of the usual kinds.

    Parameters
    ----------
    data
        Blocks of a header with its END.
    """
    cards: list[Card] = []
    text = data.decode("latin-1")
    for begin in range(0, len(text), CARD):
        line = text[begin : begin + CARD]
        if line.startswith("END") and data[begin : begin + CARD].rstrip() == b"END":
            return PlainHeader(cards)
        card = _parse(line)
        if card is None:
            return None
        cards.append(card)
    return None


@lru_cache(maxsize=CARDS_KEPT)
def _parse(line: str) -> Card | None:
    if not (line.isascii() and line.isprintable()):
        return None
    key = line[:8].rstrip()
    if key in _COMMENTS:
        return Card(key, line[8:].rstrip(), line)
    match = _CARD.fullmatch(line)
    if match is None:
        return None
    value: str | bool | int | float
    if (text := match["text"]) is not None:
        if _HIDDEN.search(text.rstrip()):
            return None
        value = text.rstrip()
    elif match["truth"]:
        value = match["truth"] == "T"
    else:
        value = int(match["whole"]) if match["whole"] else float(match["real"].replace("D", "E"))
    return Card(match["long"] or match["key"], value, line)


def _plain_key(key: str) -> str:
    return key.upper().removeprefix("HIERARCH ")
