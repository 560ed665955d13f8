"""SymPy expressions as syntax trees.

Every class that is understood has a row in ``plans()`` of :mod:`sympy_scalars` or
:mod:`sympy_arrays`. A row says which parts of an expression must be read first, and how
the tree is made from them; the reader keeps a stack of its own, so that depth does not
matter. What has no row is refused by name.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from symgrad.errors import SymPyError
from symgrad.language.names import nearest
from symgrad.language.sympy_arrays import DENSE
from symgrad.language.sympy_plan import Plan, Planner
from symgrad.language.syntax import (
    Apply,
    Assignment,
    Bind,
    Expr,
    Name,
    Number,
    Program,
    Subscript,
    Text,
)


def from_sympy(expr: Any) -> Program:
    """The syntax tree of a SymPy expression.

    Accepts what ``to_sympy`` makes and what SymPy users write: symbols, numbers,
    arithmetic, elementary functions, ``Piecewise``, relations, ``Indexed``, ``Sum`` and
    ``Product`` with finite limits, and matrix expressions.

    Raises:
        SymPyError: something in it has no meaning in a real formula; the message names
            it.
    """
    import sympy

    from symgrad.language import heads

    if isinstance(expr, (int, float)):
        expr = sympy.Float(expr) if isinstance(expr, float) else sympy.Integer(expr)
    if isinstance(expr, sympy.MatrixBase):
        raise SymPyError(DENSE)
    if not isinstance(expr, sympy.Basic):
        raise SymPyError(f"expected a SymPy expression, not {type(expr).__name__}")
    reader = Reader()
    if not isinstance(expr, heads.Let):
        return Program((), reader.read(expr))
    values = [reader.read(value) for _, value in expr.definitions]
    names = [str(name) for name, _ in expr.definitions]
    assignments = tuple(map(Assignment, names, values))
    return Program(assignments, reader.read(expr.body))


class Reader:
    """Reads with an explicit stack; an object that occurs twice is read once."""

    def __init__(self) -> None:
        self.done: dict[int, Expr] = {}
        self.keep: list[Any] = []  # ids stay valid as long as the objects live
        self.symbols: dict[str, Any] = {}
        self.dummies: dict[Any, int] = {}
        self.plans = _plans()

    def read(self, root: Any) -> Expr:
        pending: list[tuple[Any, Plan | None]] = [(root, None)]
        while pending:
            expr, plan = pending.pop()
            if id(expr) in self.done:
                continue
            if plan is None:
                plan = self.plan(expr)
                pending.append((expr, plan))
                pending.extend((p, None) for p in plan.parts if not _is_tree(p))
                continue
            parts = [p if _is_tree(p) else self.done[id(p)] for p in plan.parts]
            self.done[id(expr)] = plan.make(parts)
            self.keep.append(expr)
        return self.done[id(root)]

    def plan(self, expr: Any) -> Plan:
        for cls in type(expr).__mro__:
            found = self.plans.get(cls)
            if found is not None:
                return found(self, expr)
        raise SymPyError(_refusal(expr))

    def name(self, symbol: Any) -> str:
        """The name of a symbol, which no other symbol may share."""
        import sympy

        if isinstance(symbol, sympy.Dummy):  # SymPy's own bound indices
            number = self.dummies.setdefault(symbol, len(self.dummies))
            return f"_{symbol.name}_{number}"
        known = self.symbols.setdefault(symbol.name, symbol)
        if known != symbol:
            raise SymPyError(
                f"two different symbols are called `{symbol.name}`: they differ in "
                "their assumptions; use one symbol for one name"
            )
        return symbol.name


def _is_tree(part: Any) -> bool:
    return isinstance(part, (Number, Name, Text, Apply, Subscript, Bind))


def _refusal(expr: Any) -> str:
    name = type(expr).__name__
    near = nearest(name)
    advice = f"; the language has `{near}`" if near else ""
    return f"SymPy's `{name}` has no meaning in symgrad{advice}"


@lru_cache(maxsize=1)
def _plans() -> dict[type, Planner]:
    """The row of each SymPy class that is understood, or refused for a reason."""
    from symgrad.language import sympy_arrays, sympy_scalars

    return {**sympy_scalars.plans(), **sympy_arrays.plans()}
