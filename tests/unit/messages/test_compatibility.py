"""Every change that would break a reader or a writer is found; additions are not."""

from __future__ import annotations

import copy

import pytest

from streamchar.messages.compatibility import breaking_changes, version_of
from streamchar.messages.psf_quality import PsfQuality
from streamchar.messages.schemas import make_schema

SCHEMA = make_schema(PsfQuality)


def changed(change):
    schema = copy.deepcopy(SCHEMA)
    change(schema)
    return schema


def rename(schema):
    schema["properties"]["fwhm"] = schema["properties"].pop("psf_fwhm")


BREAKING = {
    "removed": lambda s: s["properties"].pop("seeing"),
    "renamed": rename,
    "unit": lambda s: s["properties"]["seeing"].update(unit="pixel"),
    "type": lambda s: s["properties"]["n_sources"].update(type="number"),
    "limit loosened": lambda s: s["properties"]["seeing"].pop("minimum"),
    "limit added": lambda s: s["properties"]["seeing"].update(maximum=10),
    "choice removed": lambda s: s["properties"]["outcome"]["enum"].remove("expired"),
    "choice added": lambda s: s["properties"]["outcome"]["enum"].append("lost"),
    "now required": lambda s: s["required"].append("seeing"),
    "no longer required": lambda s: s["required"].remove("exposure"),
    "nested": lambda s: s["$defs"]["StageTiming"]["properties"]["cpu"].update(unit="ms"),
    "nested removed": lambda s: s["$defs"]["StageTiming"]["properties"].pop("cpu"),
    "closed": lambda s: s.update(additionalProperties=False),
}

HARMLESS = {
    "nothing": lambda s: None,
    "new field": lambda s: s["properties"].update(
        airmass={"type": "number", "unit": "1", "description": "Airmass."}
    ),
    "new group": lambda s: s["$defs"].update(Moon={"type": "object", "properties": {}, "required": []}),
    "reworded": lambda s: s["properties"]["seeing"].update(description="The same in other words."),
    "version": lambda s: s.update({"$id": "urn:streamchar:schema:psf-quality:v1.1"}),
}


@pytest.mark.parametrize("name", BREAKING)
def test_breaking(name):
    assert breaking_changes(SCHEMA, changed(BREAKING[name]))


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name):
    assert breaking_changes(SCHEMA, changed(HARMLESS[name])) == []


def test_versions_are_ordered_as_numbers():
    assert version_of("v1.10.json") > version_of("v1.9.json") > version_of("1.0")
