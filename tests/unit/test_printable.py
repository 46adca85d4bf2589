"""Text of others commands neither the terminal nor the colours of our own."""

import pytest
from rich.text import Text

from streamchar.printable import as_markup, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain\n\tü 星", "plain\n\tü 星"), ("\x1b[2J\x07\r", "\\x1b[2J\\x07\\r"), ("\u202eabc", "\\u202eabc")],
)
def test_nothing_commands_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert Text.from_markup(as_markup(f"[bold]{text}")).plain == f"[bold]{shown}"
