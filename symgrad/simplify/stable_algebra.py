"""Sums read as terms, polynomials and fractions, with exact rational coefficients.

What the stable forms have in common is that something cancels as a formula that would
cancel as rounded numbers: the ``x`` of ``(x + 1) - x``. Here such sums are formed
exactly. Everything is bounded: large expressions are left as they are, as atoms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from typing import TypeAlias
from weakref import WeakKeyDictionary

from symgrad import graph
from symgrad.graph import FLOAT, Call, Const, Node
from symgrad.simplify.order import key

ONE, ZERO = graph.const(1.0), graph.const(0.0)

MOST_TERMS = 12
"""Longer sums are not searched, and longer polynomials not formed."""
_DEEPEST = 12
_HIGHEST_POWER = 4
_MOST_DIVISORS = 8

Term: TypeAlias = tuple[Fraction, Node]
Monomial: TypeAlias = frozenset[tuple[Node, int]]
Poly: TypeAlias = dict[Monomial, Fraction]
UNIT: Monomial = frozenset()

_NO_COEFFICIENT = Fraction(1)

_terms: WeakKeyDictionary[Node, tuple[Term, ...]] = WeakKeyDictionary()
_polys: WeakKeyDictionary[Node, Poly] = WeakKeyDictionary()


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


# --------------------------------------------------------------------------------------
# Terms of a sum
# --------------------------------------------------------------------------------------


def terms(node: Node) -> tuple[Term, ...]:
    """``node`` as a sum of coefficients times nodes that are no sums; (c, ONE) for a
    constant. Equal nodes are one term. Empty if there are too many."""
    found = _terms.get(node)
    if found is None:
        found = _terms[node] = _collect(node)
    return found


def _collect(root: Node) -> tuple[Term, ...]:
    sums = (a for a in root.children if is_call(a, "add", "sub"))
    if is_call(root, "add", "sub") and any(_terms.get(a) == () for a in sums):
        return ()  # long sums are found out once, not at every prefix
    total: dict[Node, Fraction] = {}
    pending: list[Term] = [(_NO_COEFFICIENT, root)]
    steps = 0
    while pending:
        (c, node), steps = pending.pop(), steps + 1
        if steps > 4 * MOST_TERMS:
            return ()
        if is_call(node, "add"):
            pending.extend((c, a) for a in reversed(args(node)))
        elif is_call(node, "sub"):
            a, b = args(node)
            pending.extend(((-c, b), (c, a)))
        else:
            factor, rest = split_coefficient(node)
            if is_call(rest, "add", "sub") and rest is not node:
                pending.append((_multiplied(c, factor), rest))
            else:
                k = _multiplied(c, factor)
                total[rest] = total[rest] + k if rest in total else k
    found = tuple((c, node) for node, c in total.items() if c)
    return found if len(found) <= MOST_TERMS else ()


def split_coefficient(node: Node, depth: int = 6) -> Term:
    """``node`` as a literal coefficient times the rest."""
    value = number(node)
    if value is not None:
        return value, ONE
    if depth == 0 or not is_call(node, "neg", "mul", "div"):
        return _NO_COEFFICIENT, node
    (c, a), *more = (split_coefficient(x, depth - 1) for x in args(node))
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


# --------------------------------------------------------------------------------------
# Building
# --------------------------------------------------------------------------------------


def constant(value: Fraction) -> Node:
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


def scaled(c: Fraction, node: Node) -> Node:
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


def total(parts: Iterable[Term]) -> Node:
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


# --------------------------------------------------------------------------------------
# Polynomials
# --------------------------------------------------------------------------------------


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
    inverse = _inverse(rest[0])
    return None if inverse is None else product(first, inverse)


def _power(node: Call, depth: int) -> Poly | None:
    n = number(node.args[1])
    if n is None or n.denominator != 1 or not 2 <= abs(n) <= _HIGHEST_POWER:
        return None
    base = polynomial(node.args[0], depth - 1)
    found: Poly | None = base
    for _ in range(abs(int(n)) - 1):
        found = None if found is None else product(found, base)
    return found if n > 0 or found is None else _inverse(found)


def _inverse(p: Poly) -> Poly | None:
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


# --------------------------------------------------------------------------------------
# Fractions
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ratio:
    """A polynomial over a product of sums, each as often as it occurs."""

    above: Poly
    below: tuple[Node, ...] = ()


def ratio(node: Node, depth: int = 6) -> Ratio | None:
    """``node`` as a fraction whose divisors are sums; None if it is too large."""
    if depth and is_call(node, "div"):
        a, b = args(node)
        first = ratio(a, depth - 1)
        if first is None:
            return None
        divisor = polynomial(b)
        inverse = _inverse(divisor)
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
        if k is not None and k.denominator == 1 and 2 <= k <= _HIGHEST_POWER:
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
        if k > _HIGHEST_POWER or k < 0:
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
