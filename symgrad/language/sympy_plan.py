"""What the reader of SymPy expressions is made of: plans, and small trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from symgrad.errors import SymPyError
from symgrad.language.syntax import Apply, Expr, Number


class Reader(Protocol):
    """What a plan may ask of the reader."""

    def name(self, symbol: Any) -> str:
        """The name of a symbol, which no other symbol may share."""
        ...


class Plan(NamedTuple):
    """How to read one expression: its parts, then the tree from the parts' trees."""

    parts: Sequence[Any]  # SymPy expressions; a syntax tree is passed through as it is
    make: Callable[[list[Expr]], Expr]


Planner: TypeAlias = Callable[[Reader, Any], Plan]


def leaf(tree: Expr) -> Plan:
    return Plan((), lambda _: tree)


def apply(function: str, *args: Expr) -> Apply:
    return Apply(function, args)


def fold(function: str) -> Callable[[list[Expr]], Expr]:
    """Combine any number of parts with a binary function, from the left."""

    def make(parts: list[Expr]) -> Expr:
        result = parts[0]
        for part in parts[1:]:
            result = apply(function, result, part)
        return result

    return make


def number(value: int | float) -> Expr:
    """A number as the language writes it: a sign, and a literal without one."""
    if isinstance(value, int) and abs(value) >= 2**63:
        value = float(value)
    return apply("neg", Number(-value)) if value < 0 else Number(value)


def refused(reason: str) -> Planner:
    """The row of a class that cannot be read; ``{}`` stands for the expression."""

    def plan(_: Reader, expr: Any) -> Plan:
        raise SymPyError(reason.format(expr))

    return plan


def function_of(name: str) -> Planner:
    """The row of a class that is a function of the language under another name."""
    return lambda _, expr: Plan(expr.args, lambda parts: apply(name, *parts))


def folded(name: str) -> Planner:
    """The row of a class with any number of arguments, for a binary function."""
    return lambda _, expr: Plan(expr.args, fold(name))


def same_as_part(_: Reader, expr: Any) -> Plan:
    """The row of a class that means what its only argument means."""
    return Plan(expr.args, lambda parts: parts[0])
