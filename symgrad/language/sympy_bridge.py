"""Syntax trees as SymPy expressions, and back.

``to_sympy`` evaluates nothing: ``x/x`` stays ``x/x``. Sums and products use SymPy's
``Add``, ``Mul``, ``Pow`` and its own functions where they mean the same; all else is a
head of ours. ``from_sympy`` reads what ``to_sympy`` wrote into the same tree again
(:func:`syntax.same`), and reads any real formula that SymPy users write.

The two agree by these conventions: ``a - b`` is ``Add(a, Mul(-1, b))``, ``-a`` is
``Mul(-1, a)``, ``a/b`` is ``Mul(a, Pow(b, -1))``, ``1/b`` is ``Pow(b, -1)``,
``sqrt(a)`` is ``Pow(a, 1/2)``, and a run ``a + b - c`` is one ``Add``. What would be
read as one of these but is written in another way, such as ``a + (-b)``, is kept apart
by a ``Group``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from symgrad.language.sympy_reader import from_sympy
from symgrad.language.sympy_scalars import SYMPY_FUNCTIONS
from symgrad.language.syntax import (
    Apply,
    Bind,
    Ellipsis_,
    Expr,
    Item,
    Name,
    NewAxis,
    Number,
    Program,
    Slice,
    Subscript,
    Text,
    children,
)

__all__ = ["from_sympy", "to_sympy"]

_SUMS, _PRODUCTS = ("add", "sub"), ("mul", "div")


def to_sympy(program: Program) -> Any:
    """``program`` as an unevaluated SymPy expression; assignments become a ``Let``."""
    import sympy

    from symgrad.language import heads

    writer = Writer()
    result = writer.write(program.result)
    if not program.assignments:
        return result
    definitions = [
        sympy.Tuple(sympy.Symbol(a.name), writer.write(a.value))
        for a in program.assignments
    ]
    return heads.Let(*definitions, result)


class Writer:
    """Converts expressions bottom-up with a stack of its own; shared parts once."""

    def __init__(self) -> None:
        import sympy

        from symgrad.language import heads
        from symgrad.language.function_heads import head

        self.sympy = sympy
        self.head = head
        self.heads = heads
        self.done: dict[Expr, Any] = {}
        self.minus_one = sympy.S.NegativeOne
        self.native = {
            name: getattr(sympy, other) for name, other in SYMPY_FUNCTIONS.items()
        }

    def write(self, root: Expr) -> Any:
        pending: list[tuple[Expr, tuple[Expr, ...] | None]] = [(root, None)]
        while pending:
            node, parts = pending.pop()
            if node in self.done:
                continue
            if parts is None:
                parts = _operands(node)
                pending.append((node, parts))
                pending.extend((p, None) for p in parts if p not in self.done)
                continue
            result = self.convert(node)
            hash(result)  # remembered, so that hashing a deep tree later is shallow
            self.done[node] = result
        return self.done[root]

    def convert(self, node: Expr) -> Any:
        """``node``, whose operands are done."""
        if isinstance(node, Number):
            value = self.number(node.value)
            # Grouped, a truth value may stand among the terms of a sum.
            is_bool = isinstance(node.value, bool)
            return self.new(self.heads.Group, value) if is_bool else value
        if isinstance(node, Name):
            return self.sympy.Symbol(node.id)
        if isinstance(node, Text):
            return self.sympy.core.symbol.Str(node.value)
        if isinstance(node, Subscript):
            items = [self.item(item) for item in node.items]
            return self.new(self.heads.Item, self.done[node.base], *items)
        if isinstance(node, Bind):
            return self.bind(node)
        return self.apply(node)

    def new(self, cls: Any, *args: Any) -> Any:
        """An instance of a SymPy class, past its constructor: nothing evaluates."""
        result = self.sympy.Basic.__new__(cls, *args)
        _ = result.is_commutative  # remembered while its arguments' answers are at hand
        return result

    def number(self, value: int | float) -> Any:
        if isinstance(value, bool):
            return self.sympy.true if value else self.sympy.false
        if isinstance(value, int):
            return self.sympy.Integer(value)
        if value == 0.0 and math.copysign(1.0, value) < 0:
            return self.new(self.heads.NegativeZero)
        return self.sympy.Float(value)

    def item(self, item: Item) -> Any:
        heads = self.heads
        if isinstance(item, NewAxis):
            return heads.NewAxisPart()
        if isinstance(item, Ellipsis_):
            return heads.DotsPart()
        if isinstance(item, Slice):
            parts = (item.start, item.stop, item.step)
            ends = [heads.Missing() if p is None else self.done[p] for p in parts]
            return heads.SlicePart(*ends)
        return self.done[item]

    def bind(self, node: Bind) -> Any:
        """``Sum``, ``Product`` or ``Over``; a binder right inside shares its limits."""
        index = self.sympy.Symbol(node.index)
        lower, upper = self.done[node.lower], self.done[node.upper]
        limits = [self.sympy.Tuple(index, lower, upper)]
        body = self.done[node.body]
        if isinstance(node.body, Bind) and node.body.kind == node.kind:
            limits = [*body.limits, *limits]
            body = body.args[0]
        kinds = {"sum": self.sympy.Sum, "prod": self.sympy.Product}
        if node.kind in kinds:
            result = self.sympy.Basic.__new__(kinds[node.kind], body, *limits)
            result.is_commutative = True
            return result
        kind = self.sympy.core.symbol.Str(node.kind)
        return self.new(self.heads.Over, body, kind, *limits)

    # --- operators and functions ---

    def apply(self, node: Apply) -> Any:
        special = _OPERATORS.get(node.function)
        if special is not None:
            return special(self, node)
        args = [self.done[a] for a in node.args]
        native = self.native.get(node.function)
        if native is not None:
            return self.new(native, *args)
        words = [self.heads.Keyword(w, self.literal(v)) for w, v in node.keywords]
        return self.new(self.head(node.function), *args, *words)

    def literal(self, value: Expr) -> Any:
        """The value of a keyword: a number or a tuple of numbers."""
        if isinstance(value, Apply):
            return self.sympy.Tuple(*map(self.literal, value.args))
        assert isinstance(value, Number)
        return self.number(value.value)

    def sum(self, node: Apply) -> Any:
        terms = []
        for sign, operand in _spine(node, _SUMS):
            term = self.done[operand]
            if sign == "sub":
                term = self.negative(operand, term)
            elif sign == "add" and self.is_negative(term):
                term = self.new(self.heads.Group, term)
            terms.append(term)
        return self.sympy.Add._from_args(terms)

    def product(self, node: Apply) -> Any:
        spine = _spine(node, _PRODUCTS)
        if len(spine) == 2 and spine[1][0] == "div" and _is_one(spine[0][1]):
            return self.power_of(self.done[spine[1][1]], self.minus_one)
        factors = []
        for sign, operand in spine:
            factor = self.done[operand]
            if sign == "div":
                factor = self.power_of(factor, self.minus_one)
            elif factor is self.minus_one if sign == "first" else is_reciprocal(factor):
                factor = self.new(self.heads.Group, factor)
            factors.append(factor)
        return self.sympy.Mul._from_args(factors)

    def negate(self, node: Apply) -> Any:
        return self.negative(node.args[0], self.done[node.args[0]])

    def negative(self, operand: Expr, value: Any) -> Any:
        literal = operand.value if isinstance(operand, Number) else False
        if literal > 0 and not isinstance(literal, bool):
            return self.number(-literal)
        if self.is_negative(value):
            value = self.new(self.heads.Group, value)
        return self.sympy.Mul._from_args([self.minus_one, value])

    def is_negative(self, term: Any) -> bool:
        """Whether the reader would take ``term`` of a sum for something subtracted."""
        if isinstance(term, self.sympy.Mul):
            term = term.args[0]
        return isinstance(term, self.sympy.Number) and bool(term < 0)

    def power(self, node: Apply) -> Any:
        base, exponent = (self.done[a] for a in node.args)
        if exponent is self.minus_one:
            exponent = self.new(self.heads.Group, exponent)
        return self.power_of(base, exponent)

    def root(self, node: Apply) -> Any:
        return self.power_of(self.done[node.args[0]], self.sympy.S.Half)

    def power_of(self, base: Any, exponent: Any) -> Any:
        result = self.sympy.Basic.__new__(self.sympy.Pow, base, exponent)
        result.is_commutative = base.is_commutative and exponent.is_commutative
        return result


_OPERATORS: dict[str, Callable[[Writer, Apply], Any]] = {
    "add": Writer.sum,
    "sub": Writer.sum,
    "mul": Writer.product,
    "div": Writer.product,
    "neg": Writer.negate,
    "pow": Writer.power,
    "sqrt": Writer.root,
}


def _operands(node: Expr) -> tuple[Expr, ...]:
    """What must be converted before ``node``: a run of + and - is taken as one."""
    if isinstance(node, Apply):
        if node.function in _SUMS:
            return tuple(operand for _, operand in _spine(node, _SUMS))
        if node.function in _PRODUCTS:
            return tuple(operand for _, operand in _spine(node, _PRODUCTS))
        return node.args
    return children(node)


def _is_one(node: Expr) -> bool:
    return isinstance(node, Number) and type(node.value) is int and node.value == 1


def is_reciprocal(value: Any) -> bool:
    """Whether the reader would take ``value`` in a product for a divisor."""
    return value.is_Pow and value.args[1] == -1 and value.args[1].is_Integer


def _spine(node: Expr, functions: tuple[str, str]) -> list[tuple[str, Expr]]:
    """The operands of a left-leaning run, each with its operator, "first" for one."""
    result: list[tuple[str, Expr]] = []
    while isinstance(node, Apply) and node.function in functions:
        result.append((node.function, node.args[1]))
        node = node.args[0]
    result.append(("first", node))
    return result[::-1]
