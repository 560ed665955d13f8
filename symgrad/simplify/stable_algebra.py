"""Sums read as terms and polynomials, with exact rational coefficients.

What the stable forms have in common is that something cancels as a formula that would
cancel as rounded numbers: the ``x`` of ``(x + 1) - x``. Here such sums are formed
exactly. Everything is bounded: large expressions are left as they are, as atoms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import isfinite
from typing import TypeAlias

from symgrad import graph
from symgrad.graph import FLOAT, Call, Const, Node
from symgrad.simplify.facts import Fact
from symgrad.simplify.order import key

ONE, ZERO = graph.const(1.0), graph.const(0.0)

MOST_TERMS = 12
"""Longer sums are not searched, and longer polynomials not formed."""
_DEEPEST = 12
HIGHEST_POWER = 4

Term: TypeAlias = tuple[Fraction, Node]
Exact: TypeAlias = Fraction | int
Monomial: TypeAlias = frozenset[tuple[Node, int]]
Poly: TypeAlias = dict[Monomial, Exact]
"""Whole coefficients are of Python's type int, whose arithmetic is much faster."""
Degrees: TypeAlias = dict[Node, tuple[int, int]]
"""Bounds of the powers of atoms."""
UNIT: Monomial = frozenset()
_NOTHING: Poly = {}
_SIGNS = frozenset(("abs", "sign"))

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


# --------------------------------------------------------------------------------------
# Terms of a sum
# --------------------------------------------------------------------------------------


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


# --------------------------------------------------------------------------------------
# Building
# --------------------------------------------------------------------------------------


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


# --------------------------------------------------------------------------------------
# Polynomials
# --------------------------------------------------------------------------------------


def polynomial(node: Node) -> Poly:
    """``node`` as a polynomial in atoms, with negative powers of single ones.

    Large and other expressions are atoms.
    """
    found = _expanded(node)
    return {frozenset(((node, 1),)): 1} if found is None else found


@Fact
def _expanded(node: Node) -> Poly | None:
    """The polynomial, unless the node is an atom."""
    return _polynomial(node, _DEEPEST)


def _within(node: Node, depth: int) -> Poly:
    """The polynomial that is found ``depth`` operations deep, or is known."""
    if _expanded.is_known(node):
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
    inverse = inverted(q)
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
        found = inverted(found)
    return None if found is None or len(found) > MOST_TERMS else found


def inverted(p: Poly) -> Poly | None:
    """``1/p``, of a single term."""
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


def degrees(monomials: Iterable[Monomial]) -> Degrees:
    """Of each atom the lowest and the highest power."""
    listed = [dict(m) for m in monomials]
    atoms = {a for m in listed for a in m}
    result: Degrees = {}
    for atom in atoms:
        powers = [m.get(atom, 0) for m in listed]
        result[atom] = min(powers), max(powers)
    return result


def degrees_of(node: Node) -> Degrees:
    """Bounds of the powers in the polynomial of a node."""
    found = _expanded_degrees(node)
    return {node: (1, 1)} if found is None else found


@Fact
def _expanded_degrees(node: Node) -> Degrees | None:
    found = _expanded(node)
    return None if found is None else degrees(found)


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
