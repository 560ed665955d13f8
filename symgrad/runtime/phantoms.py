"""Arrays of given shapes that take no memory: to compile before there are data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad.errors import ArgumentError
from symgrad.language.syntax import (
    Ellipsis_,
    Expr,
    Name,
    NewAxis,
    Program,
    Slice,
    Subscript,
    walk,
)


def empty_like_shapes(
    values: Mapping[str, Any], wrt: Sequence[str], dtype: str, program: Program
) -> dict[str, Any]:
    """For ``specialize``: a tuple stands for an array of that shape.

    What the program indexes with is int64, other data have the type ``dtype``. The
    memory is never touched.
    """
    result: dict[str, Any] = {}
    indices = index_names(program)
    for name, value in values.items():
        if isinstance(value, tuple) and all(_is_length(k) for k in value):
            data = np.int64 if name in indices else dtype
            kind = np.dtype(np.float64 if name in wrt else data)
            result[name] = _phantom(name, tuple(map(int, value)), kind)
        elif isinstance(value, tuple) and any(isinstance(k, str) for k in value):
            raise ArgumentError(
                f"the shape {value} of {name} must be made of integers: any number of "
                "rows will do, such as 1000"
            )
        else:
            result[name] = value
    return result


def _is_length(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def index_names(program: Program) -> set[str]:
    """The names inside subscripts, such as ``i`` of ``a[i]``, also by assignment."""
    assigned = {a.name: a.value for a in program.assignments}
    found: set[str] = set()
    parts = walk(*assigned.values(), program.result)
    queue: list[Expr] = [
        item
        for part in parts
        if isinstance(part, Subscript)
        for item in part.items
        if not isinstance(item, (Slice, NewAxis, Ellipsis_))
    ]
    while queue:
        names = [n.id for n in walk(*queue) if isinstance(n, Name)]
        fresh = [name for name in names if name not in found]
        found.update(fresh)
        queue = [assigned[name] for name in fresh if name in assigned]
    return found


def _phantom(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of this shape that takes no memory; nobody may look at its elements."""
    if any(length < 0 for length in shape):
        raise ArgumentError(f"the shape {shape} of {name} has a negative length")
    steps = [dtype.itemsize]
    for length in shape[:0:-1]:
        steps.append(steps[-1] * max(1, length))
    strides = steps[: len(shape)][::-1]
    return np.lib.stride_tricks.as_strided(np.zeros((), dtype), shape, strides)
