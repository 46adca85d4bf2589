"""Examples in docstrings run as they are printed."""

import doctest
import importlib
from pathlib import Path

import pytest

import streamchar

ROOT = Path(streamchar.__file__).parent


def modules_with_examples():
    for path in sorted(ROOT.rglob("*.py")):
        if ">>> " in path.read_text():
            parts = path.relative_to(ROOT.parent).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__")


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_the_examples_of_a_module_run(name):
    module = importlib.import_module(name)
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    done = doctest.testmod(module, optionflags=options)
    assert done.failed == 0


def test_the_examples_that_users_read_first_are_among_them():
    names = set(modules_with_examples())
    assert {
        "streamchar.characterize.task",
        "streamchar.configuration",
        "streamchar.image.exposure",
    } <= names
