"""Settings given with ``-c``: a name is a name also where it looks like a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamchar.cli import build


class _ToldError(Exception):
    """Ends a command once its settings are known."""


@pytest.mark.parametrize(
    ("words", "step", "name"),
    [
        ("telescope --exposures 1 -o", "streamchar.cli.telescope._operate", "scene.camera.name"),
        ("run nothing.fits -o", "streamchar.cli.run._outputs", "measure_psf.star_selector.flagged.field"),
    ],
)
def test_a_number_is_a_name_where_a_name_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, step: str, name: str
) -> None:
    def tell(*_: Any, **__: Any) -> None:
        raise _ToldError

    arguments = [*words.split(), str(tmp_path), "-c", f"{name}=42"]
    app = build(arguments)
    monkeypatch.setattr(step, tell)
    assert isinstance(CliRunner().invoke(app, arguments).exception, _ToldError)
