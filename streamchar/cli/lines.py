"""Rows of text in columns, as people read and grep them: nothing is wrapped or cut off, however narrow the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

Column = tuple[str, int]
"""Heading and width in characters, negative for cells that end on the right."""


class Lines:
    """Prints rows, the first one below the headings.

    Parameters
    ----------
    console
        Where to.
    columns
        Headings and widths; the last cell may be of any length.
    """

    def __init__(self, console: Console, columns: Sequence[Column]) -> None:
        self._console, self._columns = console, columns
        self._begun = False

    def show(self, cells: Iterable[Text]) -> None:
        """Print a row."""
        if not self._begun:
            self._print(Text(name, "bold") for name, _ in self._columns)
            self._begun = True
        self._print(cells)

    def _print(self, cells: Iterable[Text]) -> None:
        line = Text()
        for cell, (_, width) in zip(cells, self._columns, strict=True):
            padding = " " * (abs(width) - cell.cell_len)
            line.append_text(Text(padding) + cell if width < 0 else cell + Text(padding)).append("  ")
        line.rstrip()
        self._console.print(line, soft_wrap=True)


def fitted(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> list[Column]:
    """Widen columns to their headings and to their widest cells."""
    names = [name for name, _ in columns]
    cells = zip(names, *rows, strict=True)
    return [
        (name, (-1 if width < 0 else 1) * max(abs(width), *map(cell_len, those)))
        for (name, width), those in zip(columns, cells, strict=True)
    ]
