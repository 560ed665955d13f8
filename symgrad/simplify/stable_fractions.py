"""Fractions of polynomials, and differences in which something cancels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from weakref import WeakKeyDictionary

from symgrad.graph import Node
from symgrad.simplify.stable_algebra import (
    HIGHEST_POWER,
    Monomial,
    Poly,
    cancels,
    multiple,
    plus,
    polynomial,
    product,
    reciprocal,
    to_node,
)
from symgrad.simplify.stable_terms import Term, args, is_call, number

_MOST_DIVISORS = 8


@dataclass(frozen=True)
class Ratio:
    """A polynomial over a product of sums, each as often as it occurs."""

    above: Poly
    below: tuple[Node, ...] = ()


_DEEPEST_RATIO = 6


_ratios: WeakKeyDictionary[Node, Ratio | None] = WeakKeyDictionary()


def ratio(node: Node, depth: int = _DEEPEST_RATIO) -> Ratio | None:
    """``node`` as a fraction whose divisors are sums; None if it is too large."""
    if node in _ratios:
        return _ratios[node]
    found = _ratio(node, depth)
    if depth == _DEEPEST_RATIO:
        _ratios[node] = found
    return found


def _ratio(node: Node, depth: int) -> Ratio | None:
    if depth and is_call(node, "div"):
        a, b = args(node)
        first = ratio(a, depth - 1)
        if first is None:
            return None
        divisor = polynomial(b)
        inverse = reciprocal(divisor)
        if inverse is not None:
            above = product(first.above, inverse)
            return None if above is None else Ratio(above, first.below)
        return Ratio(first.above, (*first.below, *_factors(b)))
    if depth and is_call(node, "mul"):
        a, b = (ratio(x, depth - 1) for x in args(node))
        if a is None or b is None:
            return None
        above = product(a.above, b.above)
        return None if above is None else Ratio(above, (*a.below, *b.below))
    return Ratio(polynomial(node))


def _factors(node: Node, depth: int = 4) -> tuple[Node, ...]:
    if depth and is_call(node, "mul"):
        a, b = args(node)
        return (*_factors(a, depth - 1), *_factors(b, depth - 1))
    if depth and is_call(node, "pow"):
        base, n = args(node)
        k = number(n)
        if k is not None and k.denominator == 1 and 2 <= k <= HIGHEST_POWER:
            return _factors(base, depth - 1) * int(k)
    return (node,)


def raised(r: Ratio, below: Sequence[Node]) -> Poly | None:
    """The numerator of ``r`` over the larger denominator ``below``."""
    missing = list(below)
    for node in r.below:
        missing.remove(node)
    found: Poly | None = r.above
    for node in missing:
        found = None if found is None else product(found, polynomial(node))
    return found


def common_denominator(ratios: Sequence[Ratio]) -> tuple[Node, ...]:
    """Each divisor as often as it occurs in the fraction that has it most."""
    result: list[Node] = []
    for r in ratios:
        for node in dict.fromkeys(r.below):
            missing = r.below.count(node) - result.count(node)
            result.extend([node] * missing)
    return tuple(result)


def sum_of_fractions(ratios: Sequence[Ratio]) -> Node | None:
    """The sum over a common denominator, if something cancels in the numerator.

    Divided by one factor after the other, so that no product of them overflows.
    """
    below = common_denominator(ratios)
    if len(below) > _MOST_DIVISORS:
        return None
    parts: list[Poly] = []
    whole: Poly = {}
    for r in ratios:
        part = raised(r, below)
        if part is None:
            return None
        parts.append(part)
        whole = plus(whole, part)
    if len(whole) > 6 or not cancels(parts, whole):
        return None
    result = to_node(whole)
    if not whole:
        return result
    for node in below:
        result = result / node
    return result


def difference(a: Node, b: Node) -> Node | None:
    """``a - b`` as a formula in which something has cancelled, or None."""
    return cancelled(((Fraction(1), a), (Fraction(-1), b)))


def cancelled(parts: Sequence[Term]) -> Node | None:
    """A sum as a formula in which something has cancelled, or None."""
    polys = [multiple(polynomial(node), c) for c, node in parts]
    seen: dict[Monomial, Fraction] = {}
    meets = False
    for p in polys:
        for m, c in p.items():
            meets = meets or seen.get(m) == -c
            seen[m] = seen.get(m, Fraction(0)) + c
    if meets:
        whole = {m: c for m, c in seen.items() if c}
        if len(whole) <= 6 and cancels(polys, whole):
            return to_node(whole)
    found = _by_radicals(polys)
    if found is not None:
        return found
    if not any(_has_divisor(node) for _, node in parts):
        return None
    ratios = []
    for c, node in parts:
        r = ratio(node)
        if r is None:
            return None
        ratios.append(Ratio(multiple(r.above, c), r.below))
    return sum_of_fractions(ratios)


def radicand(node: Node) -> Node | None:
    """a of sqrt(a); x*x + y*y of hypot(x, y)."""
    if is_call(node, "sqrt"):
        return args(node)[0]
    if is_call(node, "hypot"):
        x, y = args(node)
        return x * x + y * y
    return None


def _by_radicals(polys: Sequence[Poly]) -> Node | None:
    """``1/r - x*x/r**3 -> y*y/r**3`` for r = hypot(x, y): over one power of the root,
    whose square is known."""
    roots = {
        a: k
        for p in polys
        for m in p
        for a, k in m
        if k < -1 and radicand(a) is not None
    }
    for root in roots:
        low = min(k for p in polys for m in p for a, k in m if a is root)
        lift: Poly = {frozenset(((root, -low),)): Fraction(1)}
        raised_polys = [_with_squares(product(p, lift), root) for p in polys]
        known = [p for p in raised_polys if p is not None]
        if len(known) < len(polys):
            return None
        whole: Poly = {}
        for p in known:
            whole = plus(whole, p)
        if whole and len(whole) <= 6 and cancels(known, whole):
            result = to_node(whole)
            for _ in range(-low):
                result = result / root
            return result
    return None


def _with_squares(p: Poly | None, root: Node) -> Poly | None:
    """The polynomial with the squares of a root multiplied out."""
    inside = radicand(root)
    if p is None or inside is None:
        return None
    result: Poly = {}
    for m, c in p.items():
        powers = dict(m)
        k = powers.pop(root, 0)
        if k > HIGHEST_POWER or k < 0:
            return None
        powers[root] = k % 2
        part: Poly | None = {frozenset((a, n) for a, n in powers.items() if n): c}
        for _ in range(k // 2):
            part = None if part is None else product(part, polynomial(inside))
        if part is None:
            return None
        result = plus(result, part)
    return result


def _has_divisor(node: Node, depth: int = 4) -> bool:
    if is_call(node, "div"):
        return True
    return bool(
        depth
        and is_call(node, "mul", "neg", "add", "sub")
        and any(_has_divisor(a, depth - 1) for a in args(node))
    )
