"""Sums read as terms, with exact rational coefficients.

What the stable forms have in common is that something cancels as a formula that would
cancel as rounded numbers: the ``x`` of ``(x + 1) - x``. Here sums are taken apart and
put together again. Everything is bounded: long sums have no terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import isfinite
from typing import TypeAlias

from symgrad import graph
from symgrad.graph import FLOAT, Call, Const, Node
from symgrad.simplify.facts import Fact

ONE, ZERO = graph.const(1.0), graph.const(0.0)


MOST_TERMS = 12
"""Longer sums are not searched, and longer polynomials not formed."""


Term: TypeAlias = tuple[Fraction, Node]


Exact: TypeAlias = Fraction | int


_NO_COEFFICIENT = Fraction(1)


def is_call(node: Node, *ops: str) -> bool:
    """Is this a call of one of these operations on floating-point values?"""
    return isinstance(node, Call) and node.op in ops and node.type == FLOAT


def args(node: Node) -> tuple[Node, ...]:
    """The arguments of a Call."""
    assert isinstance(node, Call), node
    return node.args


def number(node: Node) -> Fraction | None:
    """The value of a finite literal."""
    if not isinstance(node, Const) or not isfinite(node.value):
        return None
    return Fraction(node.value)


def terms(node: Node) -> tuple[Term, ...]:
    """``node`` as a sum of coefficients times nodes that are no sums; (c, ONE) for a
    constant. Equal nodes are one term. Empty if there are too many."""
    pending = [n for n in _sums_in(node) if not _terms.is_known(n)]
    while pending:
        top = args(pending[-1])
        missing = [n for a in top for n in _sums_in(a) if not _terms.is_known(n)]
        if missing:
            pending.extend(missing)
        else:
            _terms(pending.pop())
    return _terms_or_one(node) or ()


def _is_sum(node: Node) -> bool:
    return isinstance(node, Call) and node.op in ("add", "sub") and node.type == FLOAT


def _sums_in(node: Node) -> tuple[Node, ...]:
    """The sum that ``node`` is, or is a multiple of."""
    rest = node if _is_sum(node) else split_coefficient(node)[1]
    return (rest,) if _is_sum(rest) else ()


def _terms_or_one(node: Node) -> tuple[Term, ...] | None:
    if _is_sum(node):
        return _terms(node)
    c, rest = split_coefficient(node)
    if rest is node or not _is_sum(rest):
        return ((c, rest),) if c else ()
    inner = _terms(rest)
    return inner and tuple([(_multiplied(c, k), n) for k, n in inner])


@Fact
def _terms(node: Node) -> tuple[Term, ...] | None:
    """Those of a sum, from the summands'; None if there are none, or too many."""
    first, second = (_terms_or_one(a) for a in args(node))
    if first is None or second is None:
        return None
    if is_call(node, "sub"):
        second = [(-c, n) for c, n in second]
    total = {n: c for c, n in first}
    for c, n in second:
        total[n] = total[n] + c if n in total else c
    found = tuple([(c, n) for n, c in total.items() if c])
    return found if 0 < len(found) <= MOST_TERMS else None


def split_coefficient(node: Node) -> Term:
    """``node`` as a literal coefficient times the rest."""
    if is_call(node, "neg", "mul", "div"):
        return _coefficient(node) or (_NO_COEFFICIENT, node)
    value = number(node)
    return (_NO_COEFFICIENT, node) if value is None else (value, ONE)


@Fact
def _coefficient(node: Node) -> Term | None:
    found = _split(node, 6)
    return None if found[1] is node else found


def _split(node: Node, depth: int) -> Term:
    value = number(node)
    if value is not None:
        return value, ONE
    if depth == 0 or not is_call(node, "neg", "mul", "div"):
        return _NO_COEFFICIENT, node
    (c, a), *more = [_split(x, depth - 1) for x in args(node)]
    if is_call(node, "neg"):
        return -c, a
    ((d, b),) = more
    if (c is _NO_COEFFICIENT and d is _NO_COEFFICIENT) or d == 0:
        return _NO_COEFFICIENT, node
    if is_call(node, "mul"):
        return _multiplied(c, d), times(a, b)
    return (c if d is _NO_COEFFICIENT else c / d), over(a, b)


def _multiplied(c: Fraction, d: Fraction) -> Fraction:
    """The product, without the work where one is no coefficient at all."""
    return d if c is _NO_COEFFICIENT else c if d is _NO_COEFFICIENT else c * d


def constant(value: Exact) -> Node:
    """A literal; a quotient of two where no double is the value."""
    nearest = float(value)
    if Fraction(nearest) == value:
        return graph.const(nearest)
    above, below = float(value.numerator), float(value.denominator)
    if Fraction(above) == value.numerator and Fraction(below) == value.denominator:
        return graph.const(above) / graph.const(below)
    return graph.const(nearest)


def times(a: Node, b: Node) -> Node:
    """``a * b``; one as a factor is left out."""
    return b if a is ONE else a if b is ONE else a * b


def over(a: Node, b: Node) -> Node:
    """``a / b``; one as a divisor is left out."""
    return a if b is ONE else a / b


def scaled(c: Exact, node: Node) -> Node:
    """``c * node``, with a division where that is exact and the product is not."""
    if node is ONE:
        return constant(c)
    if c == 1:
        return node
    if c == -1:
        return -node
    if c.numerator in (1, -1) and Fraction(float(c)) != c:
        return over(node if c > 0 else -node, constant(Fraction(c.denominator)))
    if is_call(node, "div") and args(node)[0] is ONE:
        return constant(c) / args(node)[1]
    return constant(c) * node


def total(parts: Iterable[tuple[Exact, Node]]) -> Node:
    """The sum of terms, those that are added first."""
    found = [(c, n) for c, n in parts if c]
    if not found:
        return ZERO
    found.sort(key=lambda term: term[0] < 0)
    result = scaled(*found[0])
    for c, node in found[1:]:
        if c < 0:
            result = result - scaled(-c, node)
        else:
            result = result + scaled(c, node)
    return result


def without(parts: Sequence[Term], *used: Term) -> tuple[Term, ...]:
    """The terms that are not among ``used``."""
    return tuple(t for t in parts if t not in used)
