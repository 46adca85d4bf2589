"""Frozen dataclasses with slots that share their methods.

``dataclass`` writes and compiles six methods for every class, which took a seventh of a worker's start; here a class gets
only an ``__init__`` of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields
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
        made = dataclass(slots=True, eq=False, repr=False)(kind)
        for name, method in (_SHARED | _BY_VALUE if eq else _SHARED).items():
            setattr(made, name, method)
        return made

    return make if kind is None else make(kind)


def _set_once(self: Any, name: str, value: Any) -> None:
    # ``__init__`` sets every field once, and so do copying and unpickling.
    if hasattr(self, name):
        raise FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _refuse(_self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _describe(self: Any) -> str:
    shown = (f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, item.name) for item in fields(self) if item.compare)


def _equal(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


_SHARED: dict[str, Any] = {"__setattr__": _set_once, "__delattr__": _refuse, "__repr__": _describe}
_BY_VALUE: dict[str, Any] = {"__eq__": _equal, "__hash__": _hash}
