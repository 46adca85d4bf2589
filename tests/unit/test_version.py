"""The version is told in two places, which agree."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import streamchar


def test_the_package_knows_its_version_without_asking_the_installation():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert streamchar.__version__ == project["version"] == version("streamchar")
