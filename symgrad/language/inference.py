"""The size symbols in the limits of explicit sums: what ``n`` is in ``(i, 0, n - 1)``.

SymPy's sums name their length by a symbol that is no data. It follows from the arrays:
the index may run as far as the axes that it subscripts allow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sized
from dataclasses import dataclass
from typing import Protocol

from symgrad.language.syntax import (
    Apply,
    Bind,
    Ellipsis_,
    Expr,
    Name,
    NewAxis,
    Number,
    Program,
    Subscript,
    program_roots,
    walk,
)


class _HasShape(Protocol):
    @property
    def shape(self) -> Sized: ...


@dataclass(frozen=True, slots=True)
class Use:
    """The size is the length of ``axis`` of the input ``array``, plus ``offset``."""

    array: str
    axis: int
    offset: int


def unknown_sizes(
    program: Program, specs: Mapping[str, _HasShape], constants: Collection[str]
) -> dict[str, list[Use]]:
    """Per name that only the limits of sums explain, the axes that determine it."""
    nodes = walk(*program_roots(program))
    binds = [node for node in nodes if isinstance(node, Bind)]
    if not binds:
        return {}
    known = {*specs, *constants, *(a.name for a in program.assignments)}
    known.update(bind.index for bind in binds)
    result: dict[str, list[Use]] = {}
    for bind in binds:
        limit = _offset(bind.upper)
        if limit is None or limit[0] in known:
            continue
        name, upper = limit  # the index runs up to name + upper
        for use in _uses(bind, specs):
            # name + upper + use.offset is the last element: length - 1
            entry = Use(use.array, use.axis, -1 - use.offset - upper)
            result.setdefault(name, []).append(entry)
    return result


def first_elements_left_out(
    program: Program, specs: Mapping[str, _HasShape], constants: Collection[str]
) -> list[str]:
    """Warnings of sums over ``(i, 1, n)`` with an inferred n: arrays count from 0."""
    sizes = unknown_sizes(program, specs, constants)
    if not sizes:
        return []
    binds = [n for n in walk(*program_roots(program)) if isinstance(n, Bind)]
    found: dict[str, None] = {}
    for bind in binds:
        size, past = _offset(bind.upper) or ("", 0)
        if size in sizes and past >= 0 and _integer(bind.lower) == 1:
            found.update(dict.fromkeys(_left_out(bind, size, specs)))
    return list(found)


def _left_out(bind: Bind, size: str, specs: Mapping[str, _HasShape]) -> list[str]:
    least: dict[tuple[str, int], int] = {}
    for use in _uses(bind, specs):
        place = use.array, use.axis
        least[place] = min(use.offset, least.get(place, use.offset))
    return [
        f"the {'product' if bind.kind == 'prod' else 'sum'} over `{bind.index}` from 1 "
        f"to `{size}` never reads element 0 of `{array}`"
        f"{f' (axis {axis})' if len(specs[array].shape) > 1 else ''}: arrays count "
        f"from 0; write ({bind.index}, 0, {size} - 1)"
        for (array, axis), offset in least.items()
        if offset >= 0
    ]


def _uses(bind: Bind, specs: Mapping[str, _HasShape]) -> list[Use]:
    """Where ``index + offset`` subscripts an axis of an input, inside the sum."""
    found: list[Use] = []
    for node in walk(bind.body):
        if not isinstance(node, Subscript) or not isinstance(node.base, Name):
            continue
        array = node.base.id
        if array not in specs or len(node.items) > len(specs[array].shape):
            continue
        for axis, item in enumerate(node.items):
            if isinstance(item, (NewAxis, Ellipsis_)):
                break
            place = _offset(item)
            if place is not None and place[0] == bind.index:
                found.append(Use(array, axis, place[1]))
    return found


def _offset(expr: object) -> tuple[str, int] | None:
    """``(name, offset)`` of an expression ``name + offset``, or None."""
    offset = 0
    while isinstance(expr, Apply) and expr.function in ("add", "sub"):
        left, right = expr.args
        number = _integer(right)
        if number is None and expr.function == "add":
            left, number = right, _integer(left)
        if number is None:
            return None
        offset += number if expr.function == "add" else -number
        expr = left
    return (expr.id, offset) if isinstance(expr, Name) else None


def _integer(expr: Expr) -> int | None:
    if isinstance(expr, Apply) and expr.function == "neg":
        inner = _integer(expr.args[0])
        return None if inner is None else -inner
    if isinstance(expr, Number) and isinstance(expr.value, int):
        return expr.value
    return None
