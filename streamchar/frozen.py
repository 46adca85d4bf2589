"""Frozen dataclasses with slots that share what only shows and compares them.

``dataclass`` writes and compiles six methods for every class, which took a seventh of a worker's start; here a class gets
only the three of its own that make its instances and keep them as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def frozen(kind: type[T], /) -> type[T]: ...


@overload
def frozen(*, eq: bool) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(kind: type[T] | None = None, /, *, eq: bool = True) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a class a dataclass with slots whose instances cannot be changed, as ``dataclass(frozen=True, slots=True)`` does.

    Parameters
    ----------
    kind
        The class.
    eq
        Whether instances are compared, and hashed, by the values of their fields; otherwise by identity.
    """

    def make(kind: type[T]) -> type[T]:
        made = dataclass(frozen=True, slots=True, eq=False, repr=False)(kind)
        shared: dict[str, Any] = {"__repr__": _describe}
        if eq:
            shared |= {"__eq__": _equal, "__hash__": _hash}
        for name, method in shared.items():
            setattr(made, name, method)
        return made

    return make if kind is None else make(kind)


def _describe(self: Any) -> str:
    shown = (f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, item.name) for item in fields(self) if item.compare)


def _equal(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))
