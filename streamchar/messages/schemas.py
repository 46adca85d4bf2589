"""The published contract as files: JSON Schemas and examples. Run as a module to write them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from streamchar.configuration import description_of
from streamchar.errors import StreamcharError
from streamchar.messages.base import SCHEMA_VERSION, Message
from streamchar.messages.codec import MESSAGE_TYPES, pack
from streamchar.messages.examples import make_examples

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]


class SchemaChangedError(StreamcharError):
    """A published version of a schema would be written with another content."""

    code = "schema_changed"
    template = (
        "{path} is published and differs from what the models say: raise SCHEMA_VERSION in "
        "streamchar/messages/base.py to add a minor version beside it"
    )


def make_schema(model: type[Message]) -> Json:
    """Return the JSON Schema (draft 2020-12) of a message's decoded map.

    Every field has a description and a unit; the unit is null for fields that are not numbers. Fields that may be
    unknown are not required and never null. Fields the schema does not know are allowed, so that a message of a newer
    minor version is valid too.

    Parameters
    ----------
    model
        One of :data:`streamchar.messages.codec.MESSAGE_TYPES`.
    """
    raw = model.model_json_schema(schema_generator=GenerateJsonSchema, mode="validation")
    models = _models_by_name(model)
    definitions = {
        name: _object(schema, models[name]) for name, schema in sorted(raw.get("$defs", {}).items())
    }
    name = str(model.model_fields["message_type"].default)
    head: Json = {
        "$schema": DIALECT,
        "$id": f"urn:streamchar:schema:{name}:v{SCHEMA_VERSION}",
        "title": name,
    }
    schema = {**head, **_object(raw, model)}
    return {**schema, "$defs": definitions} if definitions else schema


def files(examples: Mapping[str, Mapping[str, Message]] | None = None) -> dict[str, bytes]:
    """Return all generated files of the current version: content by path below the schema directory.

    Parameters
    ----------
    examples
        Messages by type and name; those of :func:`streamchar.messages.examples.make_examples` when omitted.
    """
    found: dict[str, bytes] = {}
    for name, model in MESSAGE_TYPES.items():
        found[f"{name}/v{SCHEMA_VERSION}.json"] = _to_json(make_schema(model))
    for name, messages in (examples or make_examples()).items():
        for label, message in messages.items():
            base = f"{name}/examples/v{SCHEMA_VERSION}-{label}"
            found[f"{base}.json"] = _to_json(message.model_dump(mode="json", exclude_none=True))
            found[f"{base}.msgpack"] = pack(message)
    return found


def write(directory: Path) -> list[Path]:
    """Write the current version below ``directory``; files of older versions stay as they are.

    Returns
    -------
    list of Path
        The files that were written because they were absent or, for examples, different.

    Raises
    ------
    SchemaChangedError
        A schema of this version is there already and differs. Nothing was written then.
    """
    generated = {directory / path: content for path, content in files().items()}
    for path, content in generated.items():
        if path.parent.name != "examples" and path.exists() and path.read_bytes() != content:
            raise SchemaChangedError(path=str(path))
    changed = [
        path for path, content in generated.items() if not path.exists() or path.read_bytes() != content
    ]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(generated[path])
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the schemas and examples; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m streamchar.messages.schemas", description=__doc__)
    parser.add_argument("directory", type=Path, help="where to write, normally 'schemas'")
    try:
        changed = write(parser.parse_args(arguments).directory)
    except SchemaChangedError as error:
        parser.exit(1, f"{error}\n")
    for path in changed:
        print(path)
    return 0


def _to_json(value: Json) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _models_by_name(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    pending: list[Any] = [model]
    while pending:
        kind = pending.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind.__name__ in found:
                continue
            found[kind.__name__] = kind
            pending.extend(field.annotation for field in kind.model_fields.values())
        else:
            pending.extend(getattr(kind, "__args__", ()))
    return found


def _object(schema: Json, model: type[BaseModel]) -> Json:
    """Order and complete the schema of one group of fields."""
    properties = {
        name: _property(schema["properties"][name], field, description_of(model, name))
        for name, field in model.model_fields.items()
    }
    return {
        "type": "object",
        "description": _one_line(schema["description"]),
        "properties": properties,
        "required": [name for name, field in model.model_fields.items() if _always_written(model, name)],
    }


def _always_written(model: type[BaseModel], name: str) -> bool:
    """Whether a reader can rely on the field. Announcers of exposures may leave out whatever has a default."""
    field = model.model_fields[name]
    if model is MESSAGE_TYPES["exposure-ready"]:
        return field.is_required()
    return (
        field.is_required()
        or field.get_default(call_default_factory=False) is not None
        or (field.default_factory is not None)
    )


def _property(schema: Json, field: FieldInfo, description: str) -> Json:
    extra = field.json_schema_extra
    unit = extra.get("unit") if isinstance(extra, dict) else None
    described = {"description": _one_line(description), "unit": unit}
    return {**described, **_without_null(_clean(schema))}


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _clean(schema: Any) -> Any:
    """Drop what pydantic adds for its own use."""
    if isinstance(schema, list):
        return [_clean(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = {"title", "default", "description", "unit"}
    return {name: _clean(value) for name, value in schema.items() if name not in dropped}


def _without_null(schema: Json) -> Json:
    """Turn "a value or null" into the value: what is not known is left out."""
    choices = schema.get("anyOf", [])
    kept = [choice for choice in choices if choice != {"type": "null"}]
    if len(kept) == len(choices):
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**rest, **kept[0]} if len(kept) == 1 else {**rest, "anyOf": kept}


if __name__ == "__main__":
    raise SystemExit(main())
