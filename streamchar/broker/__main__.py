"""Run the broker: ``python -m streamchar.broker --port 9092 --data-dir night``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import sys
from typing import Any

from streamchar.broker.config import BrokerSettings
from streamchar.broker.server import EmbeddedBroker, run_until_terminated
from streamchar.configuration import merge, parse_override, validate
from streamchar.errors import StreamcharError


def allow_many_files() -> None:
    """Raise the limit on open files as far as it may be: every partition keeps one open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def announce(broker: EmbeddedBroker) -> None:
    """Print the one line that tells a parent process where to connect."""
    print(f"listening on {broker.bootstrap}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run until terminated and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m streamchar.broker", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=9092, help="port to listen on; 0 chooses a free one")
    parser.add_argument("--data-dir", default="broker-data", help="directory of the data")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    tree: dict[str, Any] = {"host": options.host, "port": options.port, "data_dir": options.data_dir}
    try:
        for text in options.set:
            merge(tree, parse_override(text, BrokerSettings))
        allow_many_files()
        asyncio.run(run_until_terminated(validate(BrokerSettings, tree, "broker"), announce))
    except StreamcharError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
