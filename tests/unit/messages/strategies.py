"""Hypothesis strategies that follow the models' own types and limits."""

from __future__ import annotations

import types
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from streamchar.messages.columns import ColumnBlock, pack_array

DIGESTS = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
DTYPES = ["|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8"]


def arrays(dtype: str, shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Any bit patterns of a type: signalling NaN, infinities, denormals and signed zeros are among them."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    anything = st.binary(min_size=size, max_size=size).map(
        lambda raw: np.frombuffer(raw, dtype).reshape(shape)
    )
    constant = hnp.from_dtype(np.dtype(dtype)).map(lambda value: np.full(shape, value, dtype))
    return anything | constant


blocks = st.builds(
    lambda name, values: pack_array(name, values, "adu"),
    st.text(min_size=1, max_size=20),
    st.sampled_from(DTYPES).flatmap(lambda dtype: arrays(dtype, (3, 2))),
)


def messages(model: type[BaseModel], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Strategy for instances of a model; fields with a default may be left out."""
    required, optional = {}, {}
    for name, field in model.model_fields.items():
        if name in ("message_type", "schema_version", "message_id"):
            continue
        strategy = fixed[name] if name in fixed else of(field.annotation, field.metadata)
        (required if field.is_required() else optional)[name] = strategy
    return st.fixed_dictionaries(required, optional=optional).map(lambda fields: model(**fields))


def of(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    """Strategy for one annotated type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return of(arguments[0], [*metadata, *arguments[1:]])
    if origin in (Union, types.UnionType):
        return st.one_of([of(choice, metadata) for choice in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(of(arguments[0], []), max_size=4).map(tuple)
    if origin is tuple:
        return st.tuples(*[of(item, []) for item in arguments])
    if origin is dict:
        return st.dictionaries(of(arguments[0], []), of(arguments[1], []), max_size=4)
    if annotation is ColumnBlock:
        return blocks
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return messages(annotation, **GROUPS.get(annotation.__name__, {}))
    return scalar(annotation, limits(metadata))


def limits(metadata: list[Any]) -> dict[str, Any]:
    """Constraints by name from a field's metadata."""
    found: dict[str, Any] = {}
    for item in metadata:
        parts = item.metadata if isinstance(item, FieldInfo) else [item]
        for part in parts:
            for name in ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern"):
                value = getattr(part, name, None)
                if value is not None:
                    found[name] = value
    return found


def scalar(annotation: Any, limit: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Strategy for a plain type within limits."""
    if annotation is type(None):
        return st.none()
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.integers(limit.get("ge", -(2**63)), limit.get("le", 2**63 - 1))
    if annotation is float:
        return st.floats(
            limit.get("ge", limit.get("gt")),
            limit.get("le", limit.get("lt")),
            exclude_min="gt" in limit,
            exclude_max="lt" in limit,
            allow_nan=False,
            allow_infinity=False,
        )
    if annotation is datetime:
        return st.datetimes(timezones=st.just(UTC))
    if annotation is str and "pattern" in limit:
        return (
            DIGESTS
            if "sha256" in limit["pattern"]
            else st.from_regex(limit["pattern"], fullmatch=True, alphabet=st.characters(codec="utf-8"))
        )
    if annotation is str:
        return st.text(min_size=limit.get("min_length", 0), max_size=12)
    raise NotImplementedError(annotation)


def _grid() -> dict[str, st.SearchStrategy[Any]]:
    numbers = st.tuples(*[st.floats(-1e6, 1e6)] * 3)
    return dict.fromkeys(("x", "y", "ixx", "iyy", "ixy"), numbers)


GROUPS = {"PsfGrid": _grid()}
