"""``streamchar config``: show and explain the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from streamchar.configuration import description_of

app = typer.Typer(help="Show and explain the settings.", no_args_is_help=True)


@app.command()
def show(
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("-c", help="Override one setting, as name=value; may be repeated.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Write what each setting means above it.")
    ] = False,
) -> None:
    """Print the settings in force, as TOML that --config reads back.

    Example: streamchar config show --config night.toml -c workers.count=4 --explain
    """
    from streamchar.stream.characterize_job import load_config
    from streamchar.stream.settings import load_settings

    settings = load_settings(config, override or [])
    service = settings.model_copy(update={"characterize": load_config(settings.characterize)})
    typer.echo("\n".join(_lines(service, (), explain)))


def _lines(group: BaseModel, path: tuple[str, ...], explain: bool) -> list[str]:
    lines: list[str] = []
    inner: list[str] = []
    for name in type(group).model_fields:
        value = getattr(group, name)
        if isinstance(value, BaseModel):
            inner += _lines(value, (*path, name), explain)
            continue
        if explain:
            lines += [f"# {line}" for line in description_of(type(group), name).splitlines()]
        lines.append(f"# {name} is not set" if value is None else f"{name} = {toml_value(value)}")
    header = [f"\n[{'.'.join(path)}]"] if path and lines else []
    return [*header, *lines, *inner]


def toml_value(value: object) -> str:
    """Write a value as in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict) and not value:
        return "{}"
    if isinstance(value, dict):
        return (
            "{ "
            + ", ".join(f"{toml_value(str(key))} = {toml_value(item)}" for key, item in value.items())
            + " }"
        )
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
