"""The command line: one module per command, registered here."""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import re
import sys
from io import TextIOWrapper
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from streamchar.errors import StreamcharError
from streamchar.printable import printable
from streamchar.stream.heap import made_to_stay

_COMMANDS = {
    "run": ("streamchar.cli.run", "run"),
    "serve": ("streamchar.cli.serve", "serve"),
    "demo": ("streamchar.cli.demo", "demo"),
    "telescope": ("streamchar.cli.telescope", "telescope"),
    "broker": ("streamchar.cli.broker", "broker"),
    "watch": ("streamchar.cli.watch", "watch"),
    "tail": ("streamchar.cli.tail", "tail"),
    "archive": ("streamchar.cli.archive", "archive"),
    "dashboard": ("streamchar.cli.dashboard", "dashboard"),
    "lag": ("streamchar.cli.lag", "lag"),
    "verify": ("streamchar.cli.verify", "verify"),
    "plan": ("streamchar.cli.plan", "plan"),
}
_GROUPS = {
    "config": ("streamchar.cli.config", "app"),
    "instruments": ("streamchar.cli.instruments", "app"),
    "schema": ("streamchar.cli.schema", "app"),
    "topics": ("streamchar.cli.topics", "app"),
    "dlq": ("streamchar.cli.dlq", "app"),
}

_ENVIRONMENT = {
    # Parallelism is by process; read when NumPy is imported, here and in the processes started from here.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Pydantic would look for them in all installed packages.
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}

_ANY_BYTES = ("surrogateescape", "utf-8")
"""How Python writes where no locale is set: file names come out as they are."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a disk says that takes no more; what else is wrong with a file is told where it is opened."""


def build(arguments: list[str]) -> typer.Typer:
    """Assemble the application; only the command that is named is imported, so that each starts fast."""
    app = typer.Typer(
        name="streamchar",
        help="Characterize every astronomical exposure the moment it lands: PSF, cosmic rays, background and sources.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_version)
    named = next((word for word in arguments if word in {**_COMMANDS, **_GROUPS}), None)
    for name, (module, attribute) in _COMMANDS.items():
        if named in (None, name):
            command = getattr(importlib.import_module(module), attribute)
            app.command(name, help=_flowing(command.__doc__ or ""))(command)
    for name, (module, attribute) in _GROUPS.items():
        if named in (None, name):
            group = getattr(importlib.import_module(module), attribute)
            for each in group.registered_commands:
                each.help = _flowing(each.callback.__doc__ or "")
            app.add_typer(group, name=name)
    return app


def _flowing(text: str) -> str:
    """Join lines that end where the source's do, so that help fits any terminal; shorter ones end where they are meant to."""
    return re.sub(r"(?m)^(.{90,})\n(?=\S)", r"\1 ", inspect.cleandoc(text))


def _version(
    version: bool = typer.Option(
        False,
        "--version",
        help="Print the version and exit.",
        is_eager=True,
        callback=lambda wanted: _print_version() if wanted else None,
    ),
) -> None:
    pass


def _print_version() -> None:
    from streamchar import __version__

    typer.echo(f"streamchar {__version__}")
    raise typer.Exit


def main() -> None:
    """Run the command line; expected failures become one sentence and exit code 2."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if isinstance(sys.stdout, TextIOWrapper) and (sys.stdout.errors, sys.stdout.encoding) != _ANY_BYTES:
        # A seconds' sign, or the name of a file, must not end a command whose terminal has no such character.
        sys.stdout.reconfigure(errors="replace")
    try:
        with made_to_stay():
            app = build(sys.argv[1:])
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # at the end of the process it is too late to say that this failed
    except StreamcharError as error:
        _end_with(str(error))
    except BrokenPipeError:
        _drop_output()
        sys.exit(1)  # as the command line's library ends when nobody reads any more
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        _drop_output()
        _end_with(f"the output cannot be written: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)


def _end_with(sentence: str) -> NoReturn:
    told = Text.assemble(("error:", "bold red"), f" {printable(sentence)}")
    Console(stderr=True).print(told, soft_wrap=True)
    sys.exit(2)


def _drop_output() -> None:
    """Let what is still to be written go nowhere, or else Python tries it again at its end and complains."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
