"""The published files are those the models make, and every version ever published stays readable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from astropy.units import Unit
from jsonschema import Draft202012Validator

from streamchar.messages import decode
from streamchar.messages.base import SCHEMA_VERSION
from streamchar.messages.codec import MESSAGE_TYPES
from streamchar.messages.compatibility import breaking_changes, version_of
from streamchar.messages.examples import make_examples
from streamchar.messages.schemas import SchemaChangedError, files, main, make_schema, write
from streamchar.messages.source_catalog import CatalogChunk
from streamchar.messages.topics import RECOMMENDED, TopicNames

ROOT = Path(__file__).parents[3] / "schemas"
SCHEMAS = sorted(ROOT.glob("*/v*.json"))
EXAMPLES = sorted(path for kind in ("json", "msgpack") for path in ROOT.glob(f"*/examples/v*.{kind}"))
GENERATED = files()


def label(path):
    return f"{path.relative_to(ROOT)}"


def read(path):
    headers = [("content-type", b"application/json")] if path.suffix == ".json" else []
    return decode(path.read_bytes(), headers)


def content(message):
    """Everything in a message, arrays decoded: compressed bytes may differ between zstd versions."""
    plain = message.model_dump(mode="json", exclude_none=True)
    if isinstance(message, CatalogChunk):
        arrays = {name: values.tobytes() for name, values in message.arrays().items()}
        return {**plain, "columns": None, "flags": None}, arrays
    arrays = {block.name: block.values().tobytes() for block in getattr(message, "arrays", ())}
    # The digests of a manifest are those of compressed bytes.
    unstable = ("digest", "chunks") if message.message_type == "catalog-manifest" else ("arrays",)
    return {name: value for name, value in plain.items() if name not in unstable}, arrays


@pytest.mark.parametrize("path", [path for path in GENERATED if "/examples/" not in path])
def test_published_schema_is_the_generated_one(path):
    assert (ROOT / path).read_bytes() == GENERATED[path], (
        "a published schema may not change: raise SCHEMA_VERSION in streamchar/messages/base.py and run make schemas"
    )


@pytest.mark.parametrize("path", [path for path in GENERATED if "/examples/" in path])
def test_published_example_is_the_generated_one(path):
    published = ROOT / path
    assert content(read(published)) == content(_decode(path))


def _decode(path):
    headers = [("content-type", b"application/json")] if path.endswith(".json") else []
    return decode(GENERATED[path], headers)


def test_every_message_has_its_files():
    assert {path.parent.name for path in SCHEMAS} == set(MESSAGE_TYPES)
    assert set(make_examples()) == set(MESSAGE_TYPES)


@pytest.mark.parametrize("path", EXAMPLES, ids=label)
def test_examples_of_every_version_decode(path):
    message = read(path)
    assert message.message_type == path.parts[-3]
    assert message.schema_version == path.name.removeprefix("v").split("-")[0]


@pytest.mark.parametrize("path", EXAMPLES, ids=label)
def test_examples_are_valid(path):
    version = path.name.split("-")[0]
    schema = json.loads((path.parent.parent / f"{version}.json").read_text())
    Draft202012Validator(schema).validate(read(path).model_dump(mode="json", exclude_none=True))


@pytest.mark.parametrize("path", SCHEMAS, ids=label)
def test_new_messages_are_valid_for_older_minors(path):
    schema = json.loads(path.read_text())
    Draft202012Validator.check_schema(schema)
    if version_of(path.name)[0] != version_of(SCHEMA_VERSION)[0]:
        pytest.skip("another major version")
    for message in make_examples()[path.parent.name].values():
        Draft202012Validator(schema).validate(message.model_dump(mode="json", exclude_none=True))


@pytest.mark.parametrize("path", SCHEMAS, ids=label)
def test_inside_a_major_version_there_are_only_additions(path):
    if version_of(path.name)[0] == version_of(SCHEMA_VERSION)[0]:
        new = make_schema(MESSAGE_TYPES[path.parent.name])
        assert breaking_changes(json.loads(path.read_text()), new) == []


def properties(schema, place=""):
    for name, field in schema.get("properties", {}).items():
        yield f"{place}.{name}", field
    for name, definition in schema.get("$defs", {}).items():
        yield from properties(definition, f"{place}.{name}")


@pytest.mark.parametrize("name", list(MESSAGE_TYPES))
def test_every_field_has_a_description_and_a_unit(name):
    fields = dict(properties(make_schema(MESSAGE_TYPES[name]), name))
    assert len(fields) > 10
    for place, field in fields.items():
        assert len(field["description"]) > 5, place
        assert "unit" in field, place
        numeric = any(f'"type": "{kind}"' in json.dumps(field) for kind in ("number", "integer"))
        assert (field["unit"] is not None) == numeric, place
        if field["unit"] not in (None, "1"):
            Unit(field["unit"], format="fits", parse_strict="raise")


def test_writing_again_changes_nothing(tmp_path):
    assert len(write(tmp_path)) == len(GENERATED)
    assert write(tmp_path) == []


def test_a_changed_schema_of_a_published_version_is_not_overwritten(tmp_path, capsys):
    write(tmp_path)
    path = tmp_path / "psf-quality" / f"v{SCHEMA_VERSION}.json"
    schema = json.loads(path.read_text())
    schema["properties"]["seeing"]["unit"] = "pixel"
    path.write_text(json.dumps(schema))
    before = path.read_bytes()
    with pytest.raises(SchemaChangedError, match="SCHEMA_VERSION"):
        write(tmp_path)
    assert path.read_bytes() == before
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path)])
    assert caught.value.code == 1
    assert "psf-quality" in capsys.readouterr().err


def test_the_readme_names_every_topic_and_its_recommended_configuration():
    text = (ROOT / "README.md").read_text()
    for kind, configuration in RECOMMENDED.items():
        days = configuration.retention_ms // 86_400_000
        row = f"| `{TopicNames().name_of(kind)}` |"
        line = next(line for line in text.splitlines() if line.startswith(row))
        assert f"| {configuration.partitions} | {days} d |" in line
    for name in MESSAGE_TYPES:
        assert f"`{name}`" in text
