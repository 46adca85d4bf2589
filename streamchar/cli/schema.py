"""``streamchar schema``: what is in the products, known before any pixel is read."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(help="Print what is in the products.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Print what is in the products."""


@app.command()
def catalog(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Print the columns of the source catalogue: name, dtype, unit and meaning."""
    from streamchar.characterize import CharacterizeImage

    schema = CharacterizeImage().schema
    if as_json:
        columns = [{"name": c.name, "dtype": c.dtype, "unit": c.unit, "doc": c.doc} for c in schema]
        typer.echo(json.dumps({"columns": columns, "aliases": dict(schema.aliases)}, indent=2))
        return
    table = Table(header_style="bold")
    for heading in ("column", "dtype", "unit", "meaning"):
        table.add_column(heading, overflow="fold")
    for column in schema:
        table.add_row(column.name, column.dtype, column.unit, column.doc)
    Console().print(table)
