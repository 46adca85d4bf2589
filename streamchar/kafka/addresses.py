"""Addresses of brokers: what is wrong with a list of them, before the client stumbles over it. Pure."""

from __future__ import annotations


def problem_of(bootstrap: str) -> str:
    """Say why a text is no list of addresses ``host:port``, or nothing when it is one.

    >>> problem_of("broker:9092, [::1]:9092, broker")
    ''
    >>> problem_of("kafka://broker:9092")
    "'kafka://broker:9092' is a URL"
    >>> problem_of("broker:nine")
    "'nine' is no port"
    """
    for part in bootstrap.split(","):
        address = part.strip()
        if "/" in address:
            return f"'{address}' is a URL"
        if address.count(":") > 1 and not address.startswith("["):
            continue  # version 6 without brackets; the client takes what follows the last colon for the port, if anything
        host, colon, port = address.rpartition(":")
        if address.endswith("]") or not colon:
            host, port = address, "9092"
        if not host:
            return f"a host is missing in '{bootstrap}'"
        if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            return f"'{port[:16]}' is no port"
    return ""
