"""Sums and products taken apart into terms and factors, and put together again.

A part that something else uses too is never taken apart: it is computed anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import frexp, isfinite
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import FLOAT, Call, Const, Index, Node, Size

Inner = Callable[[Node], bool]
"""Is this a node that nothing else uses?"""

SUMS = frozenset(("add", "sub"))
PRODUCTS = frozenset(("mul", "div"))


class Product(NamedTuple):
    """``number * prod(above) / prod(below)``."""

    number: float
    above: tuple[Node, ...]
    below: tuple[Node, ...]

    def key(self) -> tuple[frozenset[tuple[Node, int]], ...]:
        """The same for products that differ by a number only."""
        return tuple(frozenset(Counter(f).items()) for f in (self.above, self.below))

    def over(self, other: Product) -> Product:
        """The product divided by another, of which it has all factors."""
        above, below = list(self.above), list(self.below)
        for f in other.above:
            above.remove(f)
        for f in other.below:
            below.remove(f)
        return Product(self.number / other.number, tuple(above), tuple(below))

    def without(self, factor: Node) -> Product:
        """The product without one occurrence of a factor above."""
        k = self.above.index(factor)
        return self._replace(above=self.above[:k] + self.above[k + 1 :])


def tame(x: float) -> bool:
    """Neither zero nor near the ends of float32, so that products stay in range."""
    return isfinite(x) and 1e-18 < abs(x) < 1e18


def _is_power_of_two(x: float) -> bool:
    return abs(frexp(x)[0]) == 0.5


def is_float_call(node: Node, ops: frozenset[str]) -> bool:
    """Is this a floating-point call of one of ``ops``?"""
    return isinstance(node, Call) and node.op in ops and node.type == FLOAT


# --------------------------------------------------------------------------------------
# Taking apart
# --------------------------------------------------------------------------------------


def split_sum(root: Node, inner: Inner) -> list[tuple[bool, Node]]:
    """The terms of a sum, each with whether it is subtracted."""
    terms: list[tuple[bool, Node]] = []
    pending = [(False, root)]
    while pending:
        minus, node = pending.pop()
        opens = node is root or inner(node)
        if opens and isinstance(node, Call) and node.op in SUMS:
            a, b = node.args
            pending += [(minus ^ (node.op == "sub"), b), (minus, a)]
        elif opens and isinstance(node, Call) and node.op == "neg":
            pending.append((not minus, node.args[0]))
        else:
            terms.append((minus, node))
    return terms


def split_product(root: Node, inner: Inner) -> Product:
    """The factors of a product or quotient; literals are multiplied together."""
    number, divisor, sides = 1.0, 1.0, ([], [])
    pending = [(root, 0)]
    while pending:
        node, side = pending.pop()
        op, args = _opened(node) if node is root or inner(node) else ("", [])
        if op == "mul":
            pending += [(a, side) for a in reversed(args)]
        elif op == "div":
            pending += [(args[1], 1 - side), (args[0], side)]
        elif op == "neg":
            number = -number
            pending.append((args[0], side))
        elif isinstance(node, Const) and tame(float(node.value)):
            if side:
                divisor *= node.value
            else:
                number *= node.value
        else:
            sides[side].append(node)
    if abs(number) != 1.0 or _is_power_of_two(divisor):
        number, divisor = number / divisor, 1.0
    if divisor != 1.0:  # a division by 3 is more accurate than a product with 1/3
        sides[1].append(graph.const(divisor))
    return _cancelled(Product(number, tuple(sides[0]), tuple(sides[1])))


def _opened(node: Node) -> tuple[str, Sequence[Node]]:
    return (node.op, node.args) if isinstance(node, Call) else ("", [])


def _cancelled(product: Product) -> Product:
    """Without lengths that stand above and below: lengths are finite, and where one is
    zero the quotient was undefined."""
    above, below = list(product.above), list(product.below)
    for factor in product.above:
        if factor in below and is_length(factor):
            above.remove(factor)
            below.remove(factor)
    return product._replace(above=tuple(above), below=tuple(below))


def is_length(node: Node) -> bool:
    """Is this a run-time length as a number?"""
    return (
        isinstance(node, Call) and node.op == "cast" and isinstance(node.args[0], Size)
    )


# --------------------------------------------------------------------------------------
# Putting together
# --------------------------------------------------------------------------------------


def build_product(product: Product) -> Node:
    """The product with what varies least first, so that it is computed least often.

    No reciprocals: a factor below without one above on its level divides at the end.
    """
    result: Node | None = None
    number: float | None = None if product.number == 1.0 else product.number
    waiting: list[Node] = []
    for above, below in _levels(product):
        if number is not None and above:
            result = _times(result, graph.const(number))
            number = None
        for factor in above:
            result = _times(result, factor)
        waiting += below
        if result is not None and waiting and (above or below):
            result, waiting = result / _product(waiting), []
    if result is None:
        result = graph.const(product.number)
    elif number is not None:
        result = graph.const(number) * result
    return result / _product(waiting) if waiting else result


def _levels(product: Product) -> list[tuple[list[Node], list[Node]]]:
    """Factors above and below by their free indices, fewest first."""
    levels: dict[frozenset[Index], tuple[list[Node], list[Node]]] = {}
    for side, factors in enumerate((product.above, product.below)):
        for factor in factors:
            levels.setdefault(factor.free, ([], []))[side].append(factor)
    return [levels[free] for free in sorted(levels, key=len)]


def _times(result: Node | None, factor: Node) -> Node:
    return factor if result is None else result * factor


def _product(factors: Sequence[Node]) -> Node:
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result


def build_sum(terms: Iterable[Product]) -> Node:
    """The sum of some products; differences where a number is negative."""
    result: Node | None = None
    first: list[Product] = []
    for term in terms:
        if term.number < 0 and result is None:
            first.append(term)  # not first, if another can be
        elif term.number < 0:
            assert result is not None
            result = result - build_product(term._replace(number=-term.number))
        else:
            part = build_product(term)
            result = part if result is None else result + part
    for term in first:
        if result is None:
            result = build_product(term)
        else:
            result = result - build_product(term._replace(number=-term.number))
    assert result is not None
    return result
