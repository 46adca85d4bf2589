"""The base of every expected failure: a stable code, a sentence, and the values that explain it."""

from __future__ import annotations

import os
from typing import ClassVar, Self

Value = str | int | float | bool | None


class StreamcharError(Exception):
    """An expected failure that says what went wrong and carries the values.

    Subclasses set ``code`` (stable, machine readable, used as reason code in messages and metrics),
    ``template`` (one sentence with the values as named fields) and, where another attempt may help, ``retryable``.

    Parameters
    ----------
    **values
        What the template names; kept in ``values`` for messages, logs and metrics.
    """

    code: ClassVar[str] = "error"
    template: ClassVar[str] = "{detail}"
    retryable: ClassVar[bool] = False

    def __init__(self, **values: Value) -> None:
        self.values: dict[str, Value] = values
        super().__init__(self.template.format(**values))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.values)


def _rebuild(kind: type[StreamcharError], values: dict[str, Value]) -> StreamcharError:
    return kind(**values)


class ConfigurationError(StreamcharError):
    """A setting is unknown, out of range or of the wrong type."""

    code = "configuration"
    template = "{where}: {detail}"

    @classmethod
    def at(cls, where: str, detail: str) -> Self:
        """Name the place (file and field) and what to do about it."""
        return cls(where=where, detail=detail)


class MissingPackageError(StreamcharError):
    """An optional package is not installed."""

    code = "missing_package"
    template = "{what} needs {package}, which is not installed; say: pip install 'streamchar[{extra}]'"


def listening_problem(error: OSError) -> str:
    """Say why an address cannot be listened on, in the system's words without the address, which asyncio repeats."""
    number = error.errno or 0  # negative when it is the name that is not known
    return os.strerror(number) if number > 0 else error.strerror or str(error)
