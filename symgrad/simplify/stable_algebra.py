"""Polynomials in atoms, with exact rational coefficients.

Large expressions, and those that are no polynomials, are atoms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

from symgrad import graph
from symgrad.graph import FLOAT, Call, Node
from symgrad.simplify.facts import Fact
from symgrad.simplify.order import key
from symgrad.simplify.stable_terms import (
    MOST_TERMS,
    ONE,
    ZERO,
    Exact,
    args,
    is_call,
    number,
    over,
    scaled,
    times,
    total,
)

_DEEPEST = 12


HIGHEST_POWER = 4


Monomial: TypeAlias = frozenset[tuple[Node, int]]


Poly: TypeAlias = dict[Monomial, Exact]
"""Whole coefficients are of Python's type int, whose arithmetic is much faster."""


UNIT: Monomial = frozenset()


_NOTHING: Poly = {}


_SIGNS = frozenset(("abs", "sign"))


def polynomial(node: Node) -> Poly:
    """``node`` as a polynomial in atoms, with negative powers of single ones.

    Large and other expressions are atoms.
    """
    found = expanded(node)
    return {frozenset(((node, 1),)): 1} if found is None else found


@Fact
def expanded(node: Node) -> Poly | None:
    """The polynomial, unless the node is an atom."""
    return _polynomial(node, _DEEPEST)


def _within(node: Node, depth: int) -> Poly:
    """The polynomial that is found ``depth`` operations deep, or is known."""
    if expanded.is_known(node):
        return polynomial(node)
    found = _polynomial(node, depth) if depth else None
    return {frozenset(((node, 1),)): 1} if found is None else found


def _whole(c: Fraction) -> Exact:
    return c.numerator if c.denominator == 1 else c


def _polynomial(node: Node, depth: int) -> Poly | None:
    value = number(node)
    if value is not None:
        return {UNIT: _whole(value)} if value else {}
    if not isinstance(node, Call) or node.type != FLOAT:
        return None
    if node.op == "pow":
        return _power(node, depth)
    if node.op not in ("add", "sub", "mul", "div", "neg"):
        return None
    found = _combined(node.op, *[_within(a, depth - 1) for a in node.args])
    return None if found is None or len(found) > MOST_TERMS else found


def _combined(op: str, p: Poly, q: Poly = _NOTHING) -> Poly | None:
    if op == "neg":
        return multiple(p, -1)
    if op == "add":
        return plus(p, q)
    if op == "sub":
        return plus(p, multiple(q, -1))
    if op == "mul":
        return product(p, q)
    inverse = reciprocal(q)
    return None if inverse is None else product(p, inverse)


def _power(node: Call, depth: int) -> Poly | None:
    n = number(node.args[1])
    if n is None or n.denominator != 1 or not 2 <= abs(n) <= HIGHEST_POWER:
        return None
    base = _within(node.args[0], depth - 1)
    found: Poly | None = base
    for _ in range(abs(int(n)) - 1):
        found = None if found is None else product(found, base)
    if found is not None and n < 0:
        found = reciprocal(found)
    return None if found is None or len(found) > MOST_TERMS else found


def reciprocal(p: Poly) -> Poly | None:
    if len(p) != 1:
        return None
    ((m, c),) = p.items()
    return {frozenset((a, -n) for a, n in m): _whole(Fraction(1) / c)}


def multiple(p: Poly, c: Exact) -> Poly:
    """``c * p``."""
    return p if c == 1 else {m: c * k for m, k in p.items()}


def plus(p: Poly, q: Poly) -> Poly:
    """``p + q``."""
    result = dict(p)
    for m, c in q.items():
        result[m] = result[m] + c if m in result else c
    return {m: c for m, c in result.items() if c}


def product(p: Poly, q: Poly) -> Poly | None:
    """``p * q``; None if it has too many terms."""
    if len(p) * len(q) > 4 * MOST_TERMS:
        return None
    if len(q) == 1:
        p, q = q, p
    if len(p) == 1:
        ((m, c),) = p.items()
        if not m:
            return multiple(q, c)
        result = {_join(m, n): d for n, d in q.items()}
        if len(result) == len(q):
            return multiple(result, c)
    result: Poly = {}
    for m, c in p.items():
        for n, d in q.items():
            both, k = _join(m, n), c * d
            result[both] = result[both] + k if both in result else k
    return {m: c for m, c in result.items() if c}


def _join(m: Monomial, n: Monomial) -> Monomial:
    if not m or not n:
        return m or n
    powers = dict(m)
    for atom, k in n:
        powers[atom] = powers.get(atom, 0) + k
    for atom in powers:
        if isinstance(atom, Call) and atom.op in _SIGNS:
            _join_signs(powers)
            break
    if 0 in powers.values():
        return frozenset([(a, k) for a, k in powers.items() if k])
    return frozenset(powers.items())


def _join_signs(powers: dict[Node, int]) -> None:
    """``x*sign(x)`` is ``abs(x)``, and ``abs(x)**2`` is ``x**2``."""
    for atom in list(powers):
        if is_call(atom, "sign") and powers[atom] == 1:
            (x,) = args(atom)
            if powers.get(x, 0) > 0:
                size = graph.call("abs", x)
                powers[atom], powers[x] = 0, powers[x] - 1
                powers[size] = powers.get(size, 0) + 1
    for atom in list(powers):
        if is_call(atom, "abs") and powers[atom] >= 2:
            (x,) = args(atom)
            whole = powers[atom] - powers[atom] % 2
            powers[atom] -= whole
            powers[x] = powers.get(x, 0) + whole


def cancels(parts: Sequence[Poly], whole: Poly) -> bool:
    """Did the highest or lowest power of some atom in the parts leave their sum?

    Then the parts agree to leading order where that atom is large, or small: rounded
    numbers would have cancelled there.
    """
    if not whole:
        return any(parts)
    before, after = degrees(m for p in parts for m in p), degrees(whole)
    for atom, (low, high) in before.items():
        new_low, new_high = after.get(atom, (0, 0))
        if new_high < high or new_low > low:
            return True
    return False


def degrees(monomials: Iterable[Monomial]) -> dict[Node, tuple[int, int]]:
    listed = [dict(m) for m in monomials]
    atoms = {a for m in listed for a in m}
    result = {}
    for atom in atoms:
        powers = [m.get(atom, 0) for m in listed]
        result[atom] = min(powers), max(powers)
    return result


def to_node(p: Poly) -> Node:
    """A polynomial as a product of the powers common to all terms, and the rest."""
    if not p:
        return ZERO
    common = None
    for m in p:
        powers = dict(m)
        if common is None:
            common = powers
        else:
            common = {a: _shared(k, powers.get(a, 0)) for a, k in common.items()}
    shared = frozenset((a, k) for a, k in (common or {}).items() if k)
    inverse = frozenset((a, -k) for a, k in shared)
    rest = [(c, _product_node(_join(m, inverse))) for m, c in p.items()]
    rest.sort(key=lambda t: key(t[1]))
    if len(rest) == 1:
        return scaled(rest[0][0], _product_node(shared))
    outside, above, below = total(rest), *_sides(shared)
    for factor in above:
        outside = factor * outside
    for factor in below:
        outside = outside / factor
    return outside


def _shared(k: int, n: int) -> int:
    if k > 0 and n > 0:
        return min(k, n)
    return max(k, n) if k < 0 and n < 0 else 0


def _sides(m: Monomial) -> tuple[list[Node], list[Node]]:
    powers = sorted(m, key=lambda t: key(t[0]))
    above = [a for a, k in powers for _ in range(k)]
    return above, [a for a, k in powers for _ in range(-k)]


def _product_node(m: Monomial) -> Node:
    above, below = _sides(m)
    result = ONE
    for factor in above:
        result = times(result, factor)
    for factor in below:
        result = over(result, factor)
    return result
