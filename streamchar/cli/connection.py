"""Options by which a command is told which brokers, topics and group it is about: those of ``streamchar serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamchar.kafka.contact import leave_logging_to_the_application
from streamchar.stream.settings import ServiceSettings, load_settings

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings, the one the service runs with.")
]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option(
        "-c",
        metavar="NAME=VALUE",
        help="Override one setting, for example kafka.bootstrap=broker:9092 or kafka.group=night; may be repeated.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def connect(config: Path | None, override: list[str] | None) -> ServiceSettings:
    """Load the settings of the service, and leave the Kafka client's log out: errors say it better.

    Raises
    ------
    ConfigurationError
        A setting is wrong.
    """
    leave_logging_to_the_application()
    return load_settings(config, override or [])
