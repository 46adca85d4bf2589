"""Text of others on its way to a terminal: it commands neither the terminal nor the colours of our own."""

from __future__ import annotations

from rich.markup import escape


def printable(text: str) -> str:
    """Show characters that would command the terminal as escapes; line ends and tabs stay."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1]
        for character in text
    )


def as_markup(text: str) -> str:
    """Return markup that shows the text as it is."""
    return escape(printable(text))
