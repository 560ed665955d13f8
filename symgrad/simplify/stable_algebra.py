"""Polynomials in atoms, with exact rational coefficients.

Large expressions, and those that are no polynomials, are atoms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias
from weakref import WeakKeyDictionary

from symgrad import graph
from symgrad.graph import FLOAT, Call, Node
from symgrad.simplify.order import key
from symgrad.simplify.stable_terms import (
    MOST_TERMS,
    ONE,
    ZERO,
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


Poly: TypeAlias = dict[Monomial, Fraction]


UNIT: Monomial = frozenset()


_polys: WeakKeyDictionary[Node, Poly] = WeakKeyDictionary()


def polynomial(node: Node, depth: int = _DEEPEST) -> Poly:
    """``node`` as a polynomial in atoms, with negative powers of single ones.

    Large and other expressions are atoms.
    """
    found = _polys.get(node)
    if found is None:
        found = _polynomial(node, depth) if depth else None
        if found is None or len(found) > MOST_TERMS:
            found = {frozenset(((node, 1),)): Fraction(1)}
        if depth == _DEEPEST:
            _polys[node] = found
    return found


def _polynomial(node: Node, depth: int) -> Poly | None:
    value = number(node)
    if value is not None:
        return {UNIT: value} if value else {}
    if not isinstance(node, Call) or node.type != FLOAT:
        return None
    if node.op == "pow":
        return _power(node, depth)
    if node.op not in ("add", "sub", "mul", "div", "neg"):
        return None
    first, *rest = (polynomial(a, depth - 1) for a in node.args)
    if node.op == "neg":
        return multiple(first, Fraction(-1))
    if node.op == "add":
        return plus(first, rest[0])
    if node.op == "sub":
        return plus(first, multiple(rest[0], Fraction(-1)))
    if node.op == "mul":
        return product(first, rest[0])
    inverse = reciprocal(rest[0])
    return None if inverse is None else product(first, inverse)


def _power(node: Call, depth: int) -> Poly | None:
    n = number(node.args[1])
    if n is None or n.denominator != 1 or not 2 <= abs(n) <= HIGHEST_POWER:
        return None
    base = polynomial(node.args[0], depth - 1)
    found: Poly | None = base
    for _ in range(abs(int(n)) - 1):
        found = None if found is None else product(found, base)
    return found if n > 0 or found is None else reciprocal(found)


def reciprocal(p: Poly) -> Poly | None:
    if len(p) != 1:
        return None
    ((m, c),) = p.items()
    return {frozenset((a, -n) for a, n in m): 1 / c}


def multiple(p: Poly, c: Fraction) -> Poly:
    """``c * p``."""
    return {m: c * k for m, k in p.items()}


def plus(p: Poly, q: Poly) -> Poly:
    """``p + q``."""
    result = dict(p)
    for m, c in q.items():
        result[m] = result.get(m, Fraction(0)) + c
    return {m: c for m, c in result.items() if c}


def product(p: Poly, q: Poly) -> Poly | None:
    """``p * q``; None if it has too many terms."""
    if len(p) * len(q) > 4 * MOST_TERMS:
        return None
    result: Poly = {}
    for m, c in p.items():
        for n, d in q.items():
            both = _join(m, n)
            result[both] = result.get(both, Fraction(0)) + c * d
    return {m: c for m, c in result.items() if c}


def _join(m: Monomial, n: Monomial) -> Monomial:
    if not m or not n:
        return m or n
    powers = dict(m)
    for atom, k in n:
        powers[atom] = powers.get(atom, 0) + k
    if any(is_call(a, "abs", "sign") for a in powers):
        _join_signs(powers)
    return frozenset((a, k) for a, k in powers.items() if k)


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
    before, after = _degrees(m for p in parts for m in p), _degrees(whole)
    if not whole:
        return any(parts)
    for atom, (low, high) in before.items():
        new_low, new_high = after.get(atom, (0, 0))
        if new_high < high or new_low > low:
            return True
    return False


def _degrees(monomials: Iterable[Monomial]) -> dict[Node, tuple[int, int]]:
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
