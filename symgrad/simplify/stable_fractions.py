"""Fractions of polynomials, and differences in which something cancels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple, TypeAlias

from symgrad.graph import Node
from symgrad.simplify.facts import Fact
from symgrad.simplify.stable_algebra import (
    HIGHEST_POWER,
    Poly,
    cancels,
    degrees,
    expanded,
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


def ratio(node: Node) -> Ratio | None:
    """``node`` as a fraction whose divisors are sums; None if it is too large."""
    if is_call(node, "div", "mul"):
        return _quotient(node)
    return Ratio(polynomial(node))


@Fact
def _quotient(node: Node) -> Ratio | None:
    return _ratio(node, _DEEPEST_RATIO)


def _ratio(node: Node, depth: int) -> Ratio | None:
    if _quotient.is_known(node):
        return _quotient(node)
    if depth and is_call(node, "div"):
        a, b = args(node)
        first = _ratio(a, depth - 1)
        if first is None:
            return None
        divisor = polynomial(b)
        inverse = reciprocal(divisor)
        if inverse is not None:
            above = product(first.above, inverse)
            return None if above is None else Ratio(above, first.below)
        return Ratio(first.above, (*first.below, *_factors(b)))
    if depth and is_call(node, "mul"):
        a, b = (_ratio(x, depth - 1) for x in args(node))
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


def common_denominator(ratios: Sequence[Ratio | Outline]) -> tuple[Node, ...]:
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


Degrees: TypeAlias = dict[Node, tuple[int, int]]
"""Bounds of the powers of atoms."""


class Outline(NamedTuple):
    """Of a fraction, bounds of the powers in the numerator; the divisors."""

    degrees: Degrees
    below: tuple[Node, ...] = ()


def _outline(node: Node, depth: int = _DEEPEST_RATIO) -> Outline:
    """What ``_ratio`` would find, without multiplying anything."""
    if depth and is_call(node, "div", "mul"):
        if depth == _DEEPEST_RATIO or _outlined.is_known(node):
            return _outlined(node)
        return _outline_of_parts(node, depth)
    return Outline(_degrees_of(node))


@Fact
def _outlined(node: Node) -> Outline:
    return _outline_of_parts(node, _DEEPEST_RATIO)


def _outline_of_parts(node: Node, depth: int) -> Outline:
    a, b = args(node)
    first = _outline(a, depth - 1)
    if is_call(node, "mul"):
        second = _outline(b, depth - 1)
        degrees = _degrees_added(first.degrees, second.degrees, 1)
        return Outline(degrees, (*first.below, *second.below))
    if reciprocal(polynomial(b)) is not None:
        degrees = _degrees_added(first.degrees, _degrees_of(b), -1)
        return Outline(degrees, first.below)
    return Outline(first.degrees, (*first.below, *_factors(b)))


def _degrees_added(p: Degrees, q: Degrees, sign: int) -> Degrees:
    """Bounds of the powers in a product; in a quotient, if ``sign`` is -1."""
    result = dict(p)
    for atom, (low, high) in q.items():
        least, most = result.get(atom, (0, 0))
        added = (low, high) if sign > 0 else (-high, -low)
        result[atom] = least + added[0], most + added[1]
    return result


def _are_apart(outlines: Sequence[Outline]) -> bool:
    """Can nothing cancel in the sum? For any two numerators over the common denominator
    there is an atom whose powers in one are all higher than in the other, so that they
    have no term in common; or there are too many divisors.

    Only bounds of the powers are added up, which takes a tenth of the time.
    """
    below = common_denominator(outlines)
    if len(below) > _MOST_DIVISORS:
        return True
    bounds = [_over(outline, below) for outline in outlines]
    if any(is_call(atom, "abs", "sign") for found in bounds for atom in found):
        return False  # x*sign(x) is abs(x)
    none = (0, 0)
    for one, other in combinations(bounds, 2):
        for atom in one.keys() | other.keys():
            (low, high), (least, most) = one.get(atom, none), other.get(atom, none)
            if high < least or most < low:
                break
        else:
            return False
    return True


def _over(outline: Outline, below: Sequence[Node]) -> Degrees:
    """Bounds of the powers in the numerator over the larger denominator ``below``."""
    result = outline.degrees
    for node in dict.fromkeys(below):
        for _ in range(below.count(node) - outline.below.count(node)):
            result = _degrees_added(result, _degrees_of(node), 1)
    return result


def _degrees_of(node: Node) -> Degrees:
    found = _expanded_degrees(node)
    return {node: (1, 1)} if found is None else found


@Fact
def _expanded_degrees(node: Node) -> Degrees | None:
    found = expanded(node)
    return None if found is None else degrees(found)


def difference(a: Node, b: Node) -> Node | None:
    """``a - b`` as a formula in which something has cancelled, or None."""
    return cancelled(((Fraction(1), a), (Fraction(-1), b)))


def cancelled(parts: Sequence[Term]) -> Node | None:
    """A sum as a formula in which something has cancelled, or None."""
    found = _by_terms(parts)
    if found is None:
        found = _by_radicals(parts)
    if found is None and any(_divisor_depth(node) <= _DIVISORS for _, node in parts):
        found = _by_fractions(parts)
    return found


def _by_terms(parts: Sequence[Term]) -> Node | None:
    """Like terms of the polynomials added."""
    bases = [polynomial(node) for _, node in parts]
    if len(set().union(*bases)) == sum(map(len, bases)):
        return None  # no two are alike
    polys = [multiple(p, c) for (c, _), p in zip(parts, bases, strict=True)]
    seen: Poly = {}
    meets = False
    for p in polys:
        for m, c in p.items():
            if m in seen:
                meets = meets or seen[m] == -c
            seen[m] = seen[m] + c if m in seen else c
    whole = {m: c for m, c in seen.items() if c}
    if not meets or len(whole) > 6 or not cancels(polys, whole):
        return None
    return to_node(whole)


def _by_fractions(parts: Sequence[Term]) -> Node | None:
    """Over a common denominator."""
    if _are_apart([_outline(node) for _, node in parts]):
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


@Fact
def _roots_below(node: Node) -> tuple[Node, ...]:
    """The roots by whose square or a higher power a term of ``node`` is divided."""
    found = (
        a for m in polynomial(node) for a, k in m if k < -1 and radicand(a) is not None
    )
    return tuple(dict.fromkeys(found))


def _by_radicals(parts: Sequence[Term]) -> Node | None:
    """``1/r - x*x/r**3 -> y*y/r**3`` for r = hypot(x, y): over one power of the root,
    whose square is known."""
    roots = dict.fromkeys(root for _, node in parts for root in _roots_below(node))
    polys = [multiple(polynomial(node), c) for c, node in parts] if roots else []
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


_DIVISORS = 4
"""How deep in a sum or product a quotient makes it a fraction."""


@Fact
def _divisor_depth(node: Node) -> int:
    """How deep in sums and products the first quotient is, if not too deep."""
    return _depth_of_divisor(node, _DIVISORS)


def _depth_of_divisor(node: Node, limit: int) -> int:
    if is_call(node, "div"):
        return 0
    if not limit or not is_call(node, "mul", "neg", "add", "sub"):
        return _DIVISORS + 1
    if _divisor_depth.is_known(node):
        return _divisor_depth(node)
    return 1 + min(_depth_of_divisor(a, limit - 1) for a in args(node))
