"""``streamchar config show``: prints what --config reads back, explains it, and keeps secrets."""

import pytest
from typer.testing import CliRunner

from streamchar.cli.config import app
from streamchar.errors import ConfigurationError


def show(*arguments):
    result = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_what_is_shown_is_read_back(tmp_path):
    path = tmp_path / "all.toml"
    path.write_text(show("-c", "workers.count=7", "-c", "characterize.detection.threshold_value=4.5"))
    assert "threshold_value = 4.5" in path.read_text()
    assert "count = 7" in path.read_text()
    assert show("--config", str(path)) == path.read_text()


def test_every_setting_is_explained():
    lines = show("--explain").splitlines()
    settings = [
        number for number, line in enumerate(lines) if " = " in line and not line.startswith(("#", "["))
    ]
    assert len(settings) > 200
    assert all(lines[number - 1].startswith("#") for number in settings)


def test_a_password_is_not_shown():
    assert "hunter2" not in show("-c", "kafka.sasl_password=hunter2")


def test_an_unknown_setting_is_refused():
    with pytest.raises(ConfigurationError, match=r"did you mean 'kafka\.bootstrap'"):
        show("-c", "kafka.bootstrp=x")
