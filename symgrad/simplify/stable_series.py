"""Stable forms by Taylor series: quotients and differences that vanish at 0.

``f(x)/x`` is accurate as it stands where f is, but its derivative is a difference of
two numbers that nearly agree. Near 0 a polynomial takes its place, whose derivatives
are polynomials; so it is with ``f(x) - x`` and ``1/f(x) - 1/x``, whose values cancel.
Beyond the radius stands what was written. Coefficients are exact until rounded.

Source: DLMF 4.6, 4.19, 4.24, 4.33, 4.38, 7.6, for the series.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache, partial, reduce
from math import factorial, pi, sqrt
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import Node
from symgrad.ops import apply
from symgrad.simplify.order import in_order
from symgrad.simplify.rule import REAL
from symgrad.simplify.stable_algebra import (
    UNIT,
    Poly,
    multiple,
    polynomial,
    product,
    to_node,
)
from symgrad.simplify.stable_step import (
    among,
    below,
    expm1,
    kept,
    log1p,
    power,
    sin,
    sinh,
    stable,
    tan,
    tanh,
    times_constant,
    u,
    v,
    w,
    where,
)
from symgrad.simplify.stable_terms import (
    ONE,
    Term,
    args,
    is_call,
    number,
    split_coefficient,
    terms,
    times,
    total,
    without,
)

# --------------------------------------------------------------------------------------
# Series
# --------------------------------------------------------------------------------------

_ENOUGH = 2.0**-58
"""Terms below this, relative to the first, are left out."""
_MOST = 40


def _inverse_series(found: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of 1/p for a series p that starts with 1."""
    result = [Fraction(1)]
    for k in range(1, len(found)):
        result.append(
            -sum((found[j] * result[k - j] for j in range(1, k + 1)), Fraction(0))
        )
    return result


def _product_series(a: Sequence[Fraction], b: Sequence[Fraction]) -> list[Fraction]:
    return [sum(a[j] * b[k - j] for j in range(k + 1)) for k in range(len(a))]  # type: ignore[misc]


def _alternating(found: Sequence[Fraction]) -> list[Fraction]:
    return [c if k % 2 == 0 else -c for k, c in enumerate(found)]


@cache
def _odd(op: str) -> tuple[Fraction, ...]:
    """op(x)/x as a series in x*x."""
    ks = range(_MOST)
    found = {
        "sinh": lambda: [Fraction(1, factorial(2 * k + 1)) for k in ks],
        "atanh": lambda: [Fraction(1, 2 * k + 1) for k in ks],
        "asin": lambda: [
            Fraction(factorial(2 * k), factorial(k) ** 2 * 4**k * (2 * k + 1))
            for k in ks
        ],
        "tanh": lambda: _product_series(
            _odd("sinh"), _inverse_series([Fraction(1, factorial(2 * k)) for k in ks])
        ),
        "erf": lambda: [Fraction((-1) ** k, factorial(k) * (2 * k + 1)) for k in ks],
        "sin": lambda: _alternating(_odd("sinh")),
        "atan": lambda: _alternating(_odd("atanh")),
        "asinh": lambda: _alternating(_odd("asin")),
        "tan": lambda: _alternating(_odd("tanh")),
    }
    return tuple(found[op]())


@cache
def _exprel() -> tuple[Fraction, ...]:
    """(exp(x) - 1)/x as a series in x."""
    return tuple(Fraction(1, factorial(k + 1)) for k in range(_MOST))


def _horner(x: Node, found: Sequence[Fraction], reach: float) -> Node:
    """The series at x, for abs(x) up to ``reach``."""
    size, kept_terms = abs(float(found[0])), []
    for k, c in enumerate(found):
        if k > 2 and abs(float(c)) * (k + 1) * reach**k < _ENOUGH * size:
            break
        kept_terms.append(float(c))
    result = graph.const(kept_terms[-1])
    for c in reversed(kept_terms[:-1]):
        result = c + (x * result if in_order(x, result) else result * x)
    return result


# --------------------------------------------------------------------------------------
# Functions over their argument
# --------------------------------------------------------------------------------------

RADII = {
    "sinh": 1.0, "tan": 0.5, "tanh": 0.5, "asin": 0.5, "asinh": 0.5, "atan": 0.5,
    "atanh": 0.5, "erf": 1.0,
}  # fmt: skip
"""Where the series of odd functions are used."""

OVER_ARGUMENT = frozenset((*RADII, "sin", "expm1", "log1p"))
"""Functions that are 0 at 0, with a slope."""


def near_zero(op: str, x: Node) -> tuple[Node, Node]:
    """Whether x is near 0, and op(x)/x there."""
    if op == "sin":
        return below(x, 1.0), apply("spherical_j0", x)
    if op == "expm1":
        return below(x, 1.0), _horner(x, _exprel(), 1.0)
    if op == "log1p":  # log1p(x) = 2*atanh(s)
        s = x / (2.0 + x)
        return below(x, 0.5), 2.0 / (2.0 + x) * _horner(s * s, _odd("atanh"), 1 / 9)
    radius = RADII[op]
    series = _horner(x * x, _odd(op), radius * radius)
    if op == "erf":
        series = 2.0 / sqrt(pi) * series
    return below(x, radius), series


def argument_over_expm1(x: Node) -> Node:
    """``x/expm1(x)``, and its limit at 0; not 1/exprel(x), whose derivative has the
    square of what overflows."""
    near, series = near_zero("expm1", x)
    return where(near, ONE / series, kept(x, -0.0) / expm1(x))


class _Factor(NamedTuple):
    """``node**sign``; for a function of OVER_ARGUMENT, its name and argument."""

    node: Node
    sign: int
    op: str = ""
    x: Node = ONE


class _Parts(NamedTuple):
    """A product: functions, a monomial, and other factors."""

    functions: list[_Factor]
    monomial: Poly
    others: list[_Factor]


def _parts(node: Node) -> _Parts | None:
    functions: list[_Factor] = []
    others: list[_Factor] = []
    monomial: Poly = {UNIT: Fraction(1)}
    for factor, sign in _factors(node):
        known = _function(factor)
        if known is not None:
            functions.append(_Factor(factor, sign, *known))
            continue
        found = polynomial(factor)
        if len(found) == 1:
            monomial = _raised(monomial, found, sign)
        elif found:
            others.append(_Factor(factor, sign))
        else:
            return None
    return _Parts(functions, monomial, others) if functions else None


def _function(node: Node) -> tuple[str, Node] | None:
    """The name and the argument of a function of OVER_ARGUMENT; log(abs(1 + x)) in two
    cases is log1p(x) near 0."""
    if is_call(node, "where") and is_call(args(node)[1], "log1p"):
        node = args(node)[1] if is_call(args(node)[2], "log") else node
    if not isinstance(node, graph.Call) or not is_call(node, *OVER_ARGUMENT):
        return None
    return node.op, node.args[0]


def _factors(node: Node, sign: int = 1, depth: int = 8) -> list[tuple[Node, int]]:
    """The factors of a product; powers of functions as often as they occur."""
    if depth and is_call(node, "mul", "div"):
        a, b = args(node)
        other = sign if is_call(node, "mul") else -sign
        return [*_factors(a, sign, depth - 1), *_factors(b, other, depth - 1)]
    if depth and is_call(node, "neg"):
        return [(graph.const(-1.0), sign), *_factors(args(node)[0], sign, depth - 1)]
    if is_call(node, "pow") and is_call(args(node)[0], *OVER_ARGUMENT):
        base, n = args(node)
        k = number(n)
        if k is not None and k in (2, 3, 4):
            return [(base, sign)] * int(k)
    return [(node, sign)]


def _raised(p: Poly, q: Poly, sign: int) -> Poly:
    """``p * q**sign`` of two monomials."""
    ((m, c),), ((n, d),) = p.items(), q.items()
    powers = dict(m)
    for atom, k in n:
        powers[atom] = powers.get(atom, 0) + sign * k
    return {frozenset((a, k) for a, k in powers.items() if k): c * Fraction(d) ** sign}


def _meets(x: Poly, sign: int, other: Poly) -> bool:
    """Has ``x**sign * other`` a lower power of something than ``other**-1``?"""
    ((m, _),), ((n, _),) = x.items(), other.items()
    powers = dict(n)
    return any(k * sign * powers.get(atom, 0) < 0 for atom, k in m)


def removable(node: Node) -> Node | None:
    """``tan(x)/x``, ``expm1(a*x)/expm1(b*x)``, ``n*log1p(x/n)``, ...: each function
    over its argument, and the arguments cancelled."""
    parts = _parts(node)
    if parts is None or len(parts.functions) > 4:
        return None
    chosen = [f for f in parts.functions if _is_removable(f, parts)]
    if not chosen:
        return _of_sums(parts)
    near = parts.monomial
    for f in chosen:
        near = _raised(near, polynomial(f.x), f.sign)
    if not _atoms(*(polynomial(f.x) for f in chosen)) - _atoms(near):
        return None  # a pole, or a zero, is left: the derivative's parts do not cancel
    others = [f for f in (*parts.functions, *parts.others) if f not in chosen]
    return _in_cases(chosen, near, parts.monomial, others)


def _in_cases(
    chosen: Sequence[_Factor], near: Poly, far: Poly, others: Sequence[_Factor]
) -> Node:
    """``far`` times the chosen functions; ``near`` times them over their arguments
    where these are all near 0. The other case is hidden from this row."""
    conditions, series = zip(*(near_zero(f.op, f.x) for f in chosen), strict=True)
    small = reduce(partial(apply, "and"), dict.fromkeys(conditions))
    first, *more = chosen
    hidden = [f._replace(node=kept(f.node, -0.0)) for f in more]
    forms = [_Factor(x, f.sign) for x, f in zip(series, chosen, strict=True)]
    outside: Poly = far if len(far) == 1 and UNIT not in far else {UNIT: _only(far)}
    plain = _Factor(kept(to_node(outside), -0.0), 1)
    return where(
        small,
        _built(near, [*forms, *others]),
        _built({UNIT: Fraction(1)}, [plain, first, *hidden, *others]),
    )


def _atoms(*polys: Poly) -> set[Node]:
    return {atom for p in polys for m in p for atom, _ in m}


def _only(p: Poly) -> Fraction:
    (c,) = p.values()
    return Fraction(c)


def _is_removable(f: _Factor, parts: _Parts) -> bool:
    own = polynomial(f.x)
    if len(own) != 1 or UNIT in own:
        return False
    if _meets(own, f.sign, parts.monomial):
        return True
    for g in parts.functions:
        other = polynomial(g.x)
        if g.sign == -f.sign and len(other) == 1 and f.node is not g.node:
            ((m, _),), ((n, _),) = own.items(), other.items()
            powers = dict(n)
            if any(k * powers.get(atom, 0) > 0 for atom, k in m):
                return True
    return False


def _built(monomial: Poly, factors: Sequence[_Factor]) -> Node:
    ((m, c),) = monomial.items()
    result = to_node({m: Fraction(1)})
    for f in factors:
        if f.sign > 0:
            result = times(result, f.node)
    for f in factors:
        if f.sign < 0:
            result = result / f.node
    return times_constant(Fraction(c), result)


def _of_sums(parts: _Parts) -> Node | None:
    """``expm1(b - a)/(b - a)``, and ``(n + 1)*log1p(x/n)``, of which one term has what
    cancels."""
    for f in parts.functions:
        own = polynomial(f.x)
        for g in parts.others:
            found = polynomial(g.node)
            functions = [h for h in parts.functions if h is not f]
            rest = [h for h in (*functions, *parts.others) if h is not g]
            if len(own) > 1 and g.sign == -f.sign:
                scale = ratio_of(own, found)
                if scale is not None:
                    near = _raised(parts.monomial, scale, f.sign)
                    hidden = _Factor(kept(g.node, -0.0), g.sign)
                    return _in_two(f, near, parts.monomial, rest, hidden)
            if len(own) == 1 and f.sign == g.sign == 1 and len(found) <= 3:
                inner = _weighted(f, own, found)
                if inner is not None:
                    return _built(parts.monomial, [*rest, _Factor(inner, 1)])
    return None


def _in_two(
    f: _Factor, near: Poly, far: Poly, others: Sequence[_Factor], hidden: _Factor
) -> Node:
    """As :func:`_in_cases`, with a factor that the first case lacks."""
    small, series = near_zero(f.op, f.x)
    return where(
        small,
        _built(near, [_Factor(series, f.sign), *others]),
        _built(far, [f, *others, hidden]),
    )


def ratio_of(p: Poly, q: Poly) -> Poly | None:
    """p/q, if it is one monomial."""
    if len(p) != len(q) or not p:
        return None
    m, c = next(iter(p.items()))
    for n, d in q.items():
        scale = _raised({m: c}, {n: d}, -1)
        if product(scale, q) == p:
            return scale
    return None


def _weighted(f: _Factor, own: Poly, weights: Poly) -> Node | None:
    """A sum of weights times a function, those weights apart that cancel in it."""
    meeting = {m: c for m, c in weights.items() if _meets(own, 1, {m: c})}
    if not meeting or UNIT in own:
        return None
    rest = {m: c for m, c in weights.items() if m not in meeting}
    scale = product(meeting, own)
    if scale is None:
        return None
    small, series = near_zero(f.op, f.x)
    near = to_node(scale) * series
    if rest:
        near = near + to_node(rest) * (f.x * series)
    return where(small, near, kept(to_node(weights), -0.0) * f.node)


def power_of_one_plus(node: Node) -> Node | None:
    """``(1 + x/n)**n -> exp(x*log1p(x/n)/(x/n))`` where x/n is small."""
    base, n = args(node)
    parts = terms(base)
    one: Term = (Fraction(1), ONE)
    if one not in parts or len(parts) != 2 or number(n) is not None:
        return None
    small = total(without(parts, one))
    exponent = removable(n * log1p(small))
    if exponent is None:
        return None
    return where(below(small, 0.5), apply("exp", exponent), power(kept(base, -0.0), n))


# --------------------------------------------------------------------------------------
# Less their first term
# --------------------------------------------------------------------------------------


def _less_argument(op: str, x: Node) -> Node:
    """``op(x) - x``."""
    plain = kept(apply(op, x), -x)
    if op == "log1p":  # x = 2*s/(1 - s)
        s = x / (2.0 + x)
        rest = 2.0 * (s * s * s) * _horner(s * s, _odd("atanh")[1:], 1 / 9)
        return where(below(x, 0.5), rest - s * x, plain)
    if op == "expm1":
        return where(below(x, 1.0), x * x * _horner(x, _exprel()[1:], 1.0), plain)
    radius = RADII.get(op, 1.0)
    near = x * x * x * _horner(x * x, _odd(op)[1:], radius * radius)
    return where(below(x, radius), near, plain)


_LESS = ("sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "log1p",
         "expm1")  # fmt: skip


def less_argument(node: Node) -> Node | None:
    """``sin(x) - x``, ``exp(x) - 1 - x``, ``log(1 + x) - x`` near 0."""
    parts = terms(node)
    for p in parts:
        if not is_call(p[1], *_LESS):
            continue
        assert isinstance(p[1], graph.Call)
        (x,) = p[1].args
        taken = tuple((-p[0] * c, n) for c, n in terms(x))
        if taken and all(t in parts for t in taken):
            rest = without(parts, p, *taken)
            form = times_constant(p[0], _less_argument(p[1].op, x))
            return total((*rest, split_coefficient(form))) if rest else form
    return None


@cache
def _reciprocal(op: str) -> tuple[Fraction, ...]:
    """(1/op(x) - 1/x)/x as a series in x*x; of expm1, 1/op(x) - 1/x + 1/2 over x."""
    if op == "expm1":
        return tuple(_inverse_series(_exprel())[2::2])
    return tuple(_inverse_series(_odd(op))[1:])


def _less_pole(op: str, x: Node) -> Node:
    """``1/op(x) - 1/x``."""
    near = x * _horner(x * x, _reciprocal(op), 1.0)
    if op == "expm1":
        near = near - 0.5
    plain = kept(ONE / apply(op, x), -1.0 / kept(x, -0.0))
    return where(below(x, 1.0), near, plain)


@among("div div")
def less_pole(node: Node) -> Node | None:
    """``1/tanh(x) - 1/x``, ``1/x - 1/tan(x)``, ``1/(exp(x) - 1) - 1/x`` near 0."""
    parts = terms(node)
    for p in parts:
        if not is_call(p[1], "div") or args(p[1])[0] is not ONE:
            continue
        f = args(p[1])[1]
        if not is_call(f, "sin", "tan", "sinh", "tanh", "expm1"):
            continue
        assert isinstance(f, graph.Call)
        pole = polynomial(f.args[0])
        if len(pole) != 1 or UNIT in pole:
            continue
        wanted = multiple(_raised({UNIT: Fraction(1)}, pole, -1), -p[0])
        for q in parts:
            if multiple(polynomial(q[1]), q[0]) == wanted:
                rest = without(parts, p, q)
                form = times_constant(p[0], _less_pole(f.op, f.args[0]))
                return total((*rest, split_coefficient(form))) if rest else form
    return None


# --------------------------------------------------------------------------------------
# The rows
# --------------------------------------------------------------------------------------

# fmt: off
SERIES = (
    stable("less-argument", "sub,add", less_argument,
           (sin(u) - u, u - tan(u), expm1(u) - u, v + log1p(u) - u, u - tanh(u)),
           rounded=True, u=(1e-6, 1e-2), v=(1e-14, 1e-13)),
    stable("less-pole", "sub,add", less_pole,
           (1.0/tanh(u) - 1.0/u, 1.0/u - 1.0/tan(u), 1.0/expm1(u) - 1.0/u),
           rounded=True, u=(1e-6, 1e-2)),
    stable("over-argument", "div,mul", removable,
           (tan(u)/u, u/sinh(u), v*log1p(u/v), (v + 1.0)*log1p(u/v),
            expm1(u*v)/expm1(u*w), sinh(1.0/u)*u, expm1(u - v)/(u - v)),
           REAL, rounded=True),
    stable("power-of-one-plus", "pow", power_of_one_plus,
           (power(1.0 + u/v, v),), rounded=True, u=(0.5, 2.0), v=(1e6, 1e12)),
)
# fmt: on
