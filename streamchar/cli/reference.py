"""The reference of all settings as a document. Run as a module to write it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from streamchar.cli.config import toml_value
from streamchar.configuration import description_of
from streamchar.monitor.documentation import write_document

_HEAD = """\
# Settings

Everything that can be set, with its default. This file is generated from the models by `make docs`.

Settings come from one TOML file (`--config night.toml`), then from the environment
(`STREAMCHAR__KAFKA__BOOTSTRAP=...`: sections and names in capitals, joined by two underscores), then from the command
line (`-c kafka.bootstrap=...`); the later wins. A name that does not exist is refused, with the nearest one that does.
Nothing behind the equals sign (`-c workers.deadline=`) unsets a setting that may be absent. `streamchar config show`
prints the settings in force.

`streamchar run` and the Python class `CharacterizeImageConfig` take the settings below `characterize` without that
word: `-c detection.threshold_value=4`. Their defaults are those of the preset `best`; with
`preset = "reference"` they are what the reference task does by default.
"""


def make_document() -> str:
    """Return the document in Markdown: a table for each section."""
    from streamchar.characterize.config import CharacterizeImageConfig
    from streamchar.stream.settings import ServiceSettings

    service, science = ServiceSettings(), CharacterizeImageConfig()
    parts = [*_sections(service, ()), *_sections(science, ("characterize",))]
    return "\n".join([_HEAD, *parts])


def _sections(group: BaseModel, path: tuple[str, ...]) -> Iterator[str]:
    rows: list[str] = []
    inner: list[str] = []
    for name in type(group).model_fields:
        value = getattr(group, name)
        if isinstance(value, BaseModel):
            inner += _sections(value, (*path, name))
        elif (*path, name) != ("characterize",):
            meaning = " ".join(description_of(type(group), name).split())
            meaning = meaning.replace("``", "`").replace("|", "\\|")
            default = "not set" if value is None else f"`{toml_value(value)}`"
            rows.append(f"| `{name}` | {default} | {meaning} |")
    if rows:
        title = ".".join(path) or "At the top"
        yield f"## {title}\n"
        yield "| setting | default | meaning |\n| --- | --- | --- |"
        yield "\n".join(rows) + "\n"
    yield from inner


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the document into a file."""
    write_document(make_document, arguments)


if __name__ == "__main__":
    main()
