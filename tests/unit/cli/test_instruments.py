"""``streamchar instruments``: which profile fits a file, what it maps, and what is missing."""

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from streamchar.cli import build
from streamchar.image.profiles import InstrumentProfile, load_profiles, read_profile
from streamchar.image.profiles.model import Companion, Keys, Value
from tests import fits_files


def call(*arguments):
    return CliRunner().invoke(build(["instruments"]), ["instruments", *map(str, arguments)])


def test_list_names_all_profiles(tmp_path):
    (tmp_path / "mine.toml").write_text('name = "my-camera"\ntitle = "mine [of all]"\npriority = 200\n')
    result = call("list", "--profiles", tmp_path)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    for name in load_profiles():
        assert any(line.split()[:1] == [name] for line in lines), name
    assert any("my-camera" in line and "mine [of all]" in line for line in lines)


@pytest.mark.parametrize("name", sorted(load_profiles()))
def test_show_prints_toml_that_is_the_same_profile(name, tmp_path):
    result = call("show", name)
    assert result.exit_code == 0, result.output
    path = tmp_path / "shown.toml"
    path.write_text(result.stdout)
    assert read_profile(path).model_copy(update={"extends": ""}) == load_profiles()[name].model_copy(
        update={"extends": ""}
    )


def test_every_setting_is_explained():
    result = call("explain")
    assert result.exit_code == 0, result.output
    lines = [line.partition(" (")[0] for line in result.stdout.splitlines()]
    for model in (InstrumentProfile, Keys, Value, Companion):
        for name in model.model_fields:
            assert f"  {name}" in lines, name
            assert lines[lines.index(f"  {name}") + 1].startswith("      ")
    assert {"profile", "Rule", "Companion", "Value", "Table", "MaskPlane"} <= set(lines)


def test_check_tells_profile_companions_and_mapping(tmp_path):
    image = fits_files.decam(tmp_path)
    result = call("check", f"{image}#N4")
    assert result.exit_code == 0, result.output
    for words in (
        "recognised by: decam-instcal (priority 100), plain (priority 0)",
        "extension 2: N4, image of 56 x 40",
        str(image).replace("_ooi_", "_ood_"),
        "GAINA and GAINB",
        "can be characterized",
    ):
        assert words in result.stdout, words
    assert "weight in weight file" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "holds 2 images (N2, N4), say which"),
        (("--profile", "plain"), "plain needs the gain: header key GAIN or EGAIN is missing (or say --gain)"),
        (("--profile", "unheard-of"), "neither a known profile"),
    ],
)
def test_check_fails_with_the_fix(tmp_path, arguments, words):
    result = call("check", fits_files.decam(tmp_path), *arguments)
    assert result.exit_code == 1
    assert words in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_check_refuses_pixels_that_cannot_be_characterized(tmp_path):
    path = tmp_path / "constant.fits"
    fits.PrimaryHDU(np.ones((40, 40), np.float32)).writeto(path)
    result = call("check", path, "--gain", "2", "--rdnoise", "5")
    assert result.exit_code == 1
    assert "every usable pixel has the same value" in result.output
    assert call("check", tmp_path / "absent.fits").exit_code == 1
