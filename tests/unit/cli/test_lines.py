"""Rows in columns: whole in any terminal."""

from io import StringIO

from rich.console import Console
from rich.text import Text

from streamchar.cli.lines import Lines, fitted


def test_columns_fit_their_widest_cells_and_nothing_is_cut_off() -> None:
    rows = [["a", "1", "free"], ["星星星", "12345", "and as long as it likes"], ["", "", ""]]
    columns = fitted([("name", 0), ("n", -3), ("text", 0)], rows)
    assert columns == [("name", 6), ("n", -5), ("text", 23)]
    console = Console(file=StringIO(), width=10, markup=False, highlight=False)
    lines = Lines(console, columns)
    for row in rows:
        lines.show(map(Text, row))
    assert console.file.getvalue().splitlines() == [
        "name        n  text",
        "a           1  free",
        "星星星  12345  and as long as it likes",
        "",
    ]


def test_without_rows_headings_are_as_wide_as_they_are() -> None:
    assert fitted([("name", 0), ("n", -3)], []) == [("name", 4), ("n", -3)]
