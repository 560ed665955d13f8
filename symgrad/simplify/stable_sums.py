"""Stable forms of sums and differences: what cancels, cancels as a formula.

A sum is read as terms (stable_terms.py), so that ``a + exp(x) - 1`` is recognised
however it is written. Most forms are those of Hamming, Numerical Methods for Scientists
and Engineers (2nd ed., 1973), chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations, permutations

from symgrad import graph
from symgrad.graph import Node
from symgrad.ops import apply
from symgrad.simplify.rule import REAL
from symgrad.simplify.stable_algebra import (
    Monomial,
    Poly,
    cancels,
    multiple,
    plus,
    polynomial,
    product,
    to_node,
)
from symgrad.simplify.stable_differences import (
    complement,
    complement_of_square,
    cosh_minus_sinh,
    difference_of_arctangents,
    difference_of_cosh,
    difference_of_cosines,
    difference_of_erf,
    difference_of_exponentials,
    difference_of_powers,
    difference_of_sigmoids,
    difference_of_sines,
    difference_of_sinh,
    difference_of_squares,
    difference_of_tangents,
    difference_of_tanh,
    exponential_minus_one,
    log_odds_of_normal,
    power_minus_one,
    second_difference_of_exp,
    sigmoids_apart,
    softplus_minus_argument,
    sum_of_exponentials,
    with_form,
)
from symgrad.simplify.stable_fractions import cancelled, difference, radicand
from symgrad.simplify.stable_step import (
    absolute,
    among,
    atan,
    atanh,
    below,
    cos,
    cosh,
    divided,
    erf,
    erfc,
    exp,
    expm1,
    hypot,
    joined,
    kept,
    log,
    log1p,
    negative,
    power,
    scaled_terms,
    sigmoid,
    sin,
    sinh,
    softplus,
    sqrt,
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
    args,
    is_call,
    number,
    over,
    terms,
    total,
    without,
)
from symgrad.simplify.stable_variance import distance, variance


@among("where where")
def sum_of_cases(node: Node) -> Node | None:
    """``where(p, a, b) + where(p, c, d) -> where(p, a + c, b + d)``: what cancels in a
    case is found there."""
    parts = terms(node)
    for p, q in combinations(parts, 2):
        if not (is_call(p[1], "where") and is_call(q[1], "where")):
            continue
        (condition, *one), (other, *two) = args(p[1]), args(q[1])
        if condition is other:
            cases = (
                joined(scaled_terms(p[0], a), scaled_terms(q[0], b))
                for a, b in zip(one, two, strict=True)
            )
            form = where(condition, *map(total, cases))
            return with_form(parts, (p, q), Fraction(1), form)
    return None


def cancel_terms(node: Node) -> Node | None:
    """``(x + 1)**2 - 1 -> x*(x + 2)`` and ``1/(x + 1) - 1/x -> -1/(x*(x + 1))``."""
    a, b = args(node)
    sign = Fraction(1 if is_call(node, "add") else -1)
    found = cancelled(((Fraction(1), a), (sign, b)))
    parts = terms(node)
    if found is None and len(parts) > 2:
        found = cancelled(parts)
    return None if found is node else found


def gap(a: Node, b: Node) -> Node | None:
    """``a - b`` as a formula in which something has cancelled: as a fraction, or by a
    form of differences."""
    found = difference(a, b)
    if found is not None:
        return found
    parts = joined(terms(a), tuple((-c, n) for c, n in terms(b)))
    if not 1 < len(parts) <= 4:
        return None
    node = total(parts)
    if node.type != a.type or not is_call(node, "add", "sub"):
        return None
    for form in (*_UNDER_FACTOR, complement_of_square, variance):
        found = form(node)
        if found is not None:
            return found
    return None


def _plus_one(node: Node) -> tuple[str, Node] | None:
    """What a logarithm is of: log(a) -> a, log1p(u) -> 1 + u."""
    if is_call(node, "log"):
        return "log", args(node)[0]
    if is_call(node, "log1p"):
        return "log1p", args(node)[0] + 1.0
    return None


def log_of_ratio(a: Node, b: Node, gap: Node) -> Node:
    """log(a/b), where a - b = gap: log1p of a positive number, so nothing cancels."""
    up = graph.comparison("gt", gap / b, 0.0)
    ratio = where(up, gap / b, -gap / a)
    return where(up, 1.0, -1.0) * log1p(ratio)


@among("log log", "log log1p", "log1p log1p")
def difference_of_logs(node: Node) -> Node | None:
    """``log(a) - log(b) -> log1p((a - b)/b)`` where a - b simplifies."""
    parts = terms(node)
    found = [(t, a[1]) for t in parts if (a := _plus_one(t[1])) is not None]
    for (p, a), (q, b) in permutations(found, 2):
        if p[0] != -q[0] or p[0] < 0:
            continue
        form = symmetric_log(a, b)
        if form is None:
            apart = gap(a, b)
            form = None if apart is None else log_of_ratio(a, b, apart)
        if form is not None:
            return with_form(parts, (p, q), p[0], form)
    return None


def symmetric_log(a: Node, b: Node) -> Node | None:
    """log((1 + u)/(1 - u)) = 2*atanh(u); also of multiples."""
    middle = plus(polynomial(a), polynomial(b))
    if len(middle) != 1:
        return None
    apart = plus(polynomial(a), multiple(polynomial(b), Fraction(-1)))
    if len(apart) != 1:
        return None
    ((m, c),), ((n, d),) = middle.items(), apart.items()
    if m or c == 0:
        return None
    return 2.0 * atanh(to_node({n: Fraction(d) / c}))


@among("mul mul")
def weighted_logs(node: Node) -> Node | None:
    """``(n+1)*log(n+1) - n*log(n) -> n*log1p(1/n) + log(n+1)``."""
    parts = [t for t in terms(node) if is_call(t[1], "mul")]
    found = [(t, split) for t in parts if (split := _log_factor(t[1])) is not None]
    for (p, (a, f)), (q, (b, g)) in permutations(found, 2):
        if p[0] < 0:
            continue
        both = cancelled(((p[0], f), (q[0], g)))
        apart = difference(a, b)
        if both is None or apart is None or both.type != node.type:
            continue
        near = times_constant(-q[0], g) * log_of_ratio(a, b, apart) + both * log(a)
        far = kept(times_constant(p[0], p[1]), times_constant(q[0], q[1]))
        form = where(below(apart / b, 1.0), near, far)
        return with_form(terms(node), (p, q), Fraction(1), form)
    return None


def _log_factor(node: Node) -> tuple[Node, Node] | None:
    """``f * log(a)`` as (a, f)."""
    for x, f in (args(node), args(node)[::-1]):
        found = _plus_one(x)
        if found is not None:
            return found[1], f
    return None


@among("sqrt sqrt", "sqrt hypot", "hypot hypot")
def difference_of_roots(node: Node) -> Node | None:
    """``sqrt(a) - sqrt(b) -> (a - b)/(sqrt(a) + sqrt(b))`` where a - b simplifies."""
    parts = terms(node)
    roots = [(t, a) for t in parts if (a := radicand(t[1])) is not None]
    for (p, a), (q, b) in permutations(roots, 2):
        if p[0] != -q[0] or p[0] < 0:
            continue
        apart = gap(a, b)
        if apart is not None:
            return with_form(parts, (p, q), p[0], divided(apart, p[1] + q[1]))
    return None


@among("div div", "div 1")
def difference_of_inverse_roots(node: Node) -> Node | None:
    """``1/sqrt(a) - 1/sqrt(b) -> (b - a)/(sqrt(a)*sqrt(b)*(sqrt(a) + sqrt(b)))``."""
    parts = terms(node)
    roots = [(t, r) for t in parts if (r := _inverse_root(t[1])) is not None]
    for (p, r), (q, s) in permutations(roots, 2):
        if p[0] == -q[0] and p[0] > 0:
            apart = difference(_squared(s), _squared(r))
            if apart is not None:
                return with_form(parts, (p, q), p[0], over(over(apart / (r + s), r), s))
    return None


def _squared(root: Node) -> Node:
    inside = radicand(root)
    return ONE if inside is None else inside


def _inverse_root(node: Node) -> Node | None:
    """r of 1/r, if r is a square root or 1."""
    if node is ONE:
        return ONE
    if not is_call(node, "div") or args(node)[0] is not ONE:
        return None
    return args(node)[1] if radicand(args(node)[1]) is not None else None


@among("sqrt", "hypot")
def conjugate(node: Node) -> Node | None:
    """``r + sqrt(a) -> (a - r**2)/(sqrt(a) - r)`` where r < 0 and a - r**2 simplifies:
    the quadratic formula, and ``sqrt(1 + x) - 1``."""
    parts = terms(node)
    for p in parts:
        a = radicand(p[1])
        if a is None or not 2 <= len(parts) <= 4:
            continue
        sign = 1 if p[0] > 0 else -1
        rest = tuple((sign * c, n) for c, n in without(parts, p))
        r, root = total(rest), times_constant(sign * p[0], p[1])
        above = _conjugate_product(p[0], a, r)
        if above is None:
            continue
        better = divided(above, kept(root, negative(r)))
        known = number(r)
        if known is not None:
            if known > 0:
                continue
            return times_constant(Fraction(sign), better)
        chosen = where(graph.comparison("lt", r, 0.0), better, kept(root, r))
        return times_constant(Fraction(sign), chosen)
    return None


def _conjugate_product(c: Fraction, a: Node, r: Node) -> Node | None:
    """c**2*a - r**2, if it simplifies."""
    base = polynomial(r)
    square = product(base, base)
    if square is None:
        return None
    inside, below_ = polynomial(a), multiple(square, Fraction(-1))
    inside = multiple(inside, c * c)
    whole = plus(inside, below_)
    if whole and len(whole) <= 4 and cancels((inside, below_), whole):
        return to_node(whole)
    known = number(r)  # 1 of sqrt(a/b) - 1
    if known is None or not is_call(a, "div"):
        return None
    return cancelled(((c * c, a), (-(known * known), ONE)))


@among("div 1")
def quotient_minus_one(node: Node) -> Node | None:
    """``a/b - 1 -> (a - b)/b`` where a - b simplifies."""
    parts = terms(node)
    literal = next((t for t in parts if t[1] is ONE), None)
    for p in parts:
        if literal is None or not is_call(p[1], "div") or p[0] * literal[0] > 0:
            continue
        a, b = args(p[1])
        apart = gap(times_constant(p[0] / -literal[0], a), b)
        if apart is not None:
            return with_form(parts, (p, literal), -literal[0], apart / b)
    return None


_UNDER_FACTOR = (
    exponential_minus_one,
    complement,
    difference_of_exponentials,
    difference_of_sigmoids,
    difference_of_logs,
    difference_of_sines,
    difference_of_cosines,
    difference_of_roots,
    difference_of_sinh,
    difference_of_cosh,
    difference_of_tanh,
    sigmoids_apart,
)


@among("mul", "div", "pow", "neg")
def under_common_factor(node: Node) -> Node | None:
    """``y*exp(x) - y -> y*expm1(x)``: forms of two terms that share a factor."""
    parts = terms(node)
    if not 2 <= len(parts) <= 4:
        return None
    for (c, a), (d, b) in combinations(parts, 2):
        split = _split_common(a, b)
        if split is None:
            continue
        common, x, y = split
        inner = total(((c, x), (d, y)))
        for form in _UNDER_FACTOR:
            found = form(inner)
            if found is not None:
                return with_form(parts, ((c, a), (d, b)), Fraction(1), common * found)
    return None


def _split_common(a: Node, b: Node) -> tuple[Node, Node, Node] | None:
    """The common factor of two products, and what they have beside it: a call or 1."""
    p, q = polynomial(a), polynomial(b)
    if len(p) != 1 or len(q) != 1:
        return None
    ((m, c),), ((n, d),) = p.items(), q.items()
    other = dict(n)
    common = frozenset((x, k) for x, k in _shared_powers(m, other) if k)
    if not common or c != 1 or d != 1:
        return None
    inverse: Poly = {frozenset((x, -k) for x, k in common): 1}
    x, y = (product(r, inverse) for r in (p, q))
    if x is None or y is None or not (_is_single(x) and _is_single(y)):
        return None
    return to_node({common: Fraction(1)}), to_node(x), to_node(y)


def _shared_powers(m: Monomial, other: dict[Node, int]) -> Iterator[tuple[Node, int]]:
    for x, k in m:
        n = other.get(x, 0)
        yield x, min(k, n) if k > 0 and n > 0 else max(k, n) if k < 0 and n < 0 else 0


def _is_single(p: Poly) -> bool:
    ((m, _),) = p.items()
    return not m or (len(m) == 1 and all(k == 1 for _, k in m))


_ROW = graph.index(4)


_X = graph.load(graph.input_("rows", (4,)), [_ROW])


_MEAN = graph.reduce_("sum", [_ROW], _X) / 4.0


_MEAN_SQUARE = graph.reduce_("sum", [_ROW], _X * _X) / 4.0


_Y = graph.load(graph.input_("others", (4,)), [_ROW])


def _sum(body: Node) -> Node:
    return graph.reduce_("sum", [_ROW], body)


# fmt: off
SUMS = (
    stable("sum-of-cases", "sub,add", sum_of_cases,
           (where(u > 0.0, v, w) - 2.0*where(u > 0.0, w, 0.0),), REAL),
    stable("variance", "sub,add", variance,
           (_MEAN_SQUARE - _MEAN * _MEAN,), rows=(1e4, 1.001e4)),
    stable("difference-of-squares", "sub,add", difference_of_squares,
           (u*u - v*v, power(u, 2.0) - 1.0), u=(1e155, 1e160), v=(1e155, 1e160)),
    stable("cancel-terms", "sub,add", cancel_terms,
           (1.0/(u + 1.0) - 1.0/u, (u + v) * (u + v) - u*u,
            1.0/(u + 1.0) - 2.0/u + 1.0/(u - 1.0)), u=(1e3, 1e12), v=(1e-3, 1.0)),
    stable("second-difference-of-exp", "sub,add", second_difference_of_exp,
           (exp(u) - 2.0 + exp(-u), expm1(u) + expm1(-u)), u=(1e-8, 1e-2)),
    stable("exp-minus-one", "sub,add", exponential_minus_one,
           (exp(u) - 1.0, v + exp(-u) - 1.0, 2.0 - 2.0*exp(u)),
           u=(1e-12, 1e-2), v=(1e-9, 1e-3)),
    stable("difference-of-exps", "sub,add", difference_of_exponentials,
           (exp(u + v) - exp(u), exp(u) - exp(v), exp(u) - exp(-u)),
           u=(1e-4, 1e-3), v=(1e-9, 1e-7)),
    stable("sum-of-exps", "add,sub", sum_of_exponentials, (exp(u) + exp(-u),), REAL),
    stable("difference-of-logs", "sub,add", difference_of_logs,
           (log(u + 1.0) - log(u), log1p(u) - log(u)), u=(1e3, 1e12)),
    stable("symmetric-logs", "sub,add", difference_of_logs,
           (log1p(u) - log1p(-u), log(1.0 + u) - log(1.0 - u)), u=(1e-9, 1e-3)),
    stable("weighted-logs", "sub,add", weighted_logs,
           ((u + 1.0)*log(u + 1.0) - u*log(u),), u=(1e6, 1e12)),
    stable("difference-of-roots", "sub,add", difference_of_roots,
           (sqrt(u + 1.0) - sqrt(u), 2.0*sqrt(u - v) - 2.0*sqrt(u + v)),
           u=(1e6, 1e12), v=(1e-3, 1.0)),
    stable("difference-of-inverse-roots", "sub,add", difference_of_inverse_roots,
           (1.0/sqrt(u) - 1.0/sqrt(u + 1.0),), u=(1e6, 1e12)),
    stable("inverse-root-minus-one", "sub,add", difference_of_inverse_roots,
           (1.0/sqrt(1.0 - u) - 1.0,), u=(1e-9, 1e-3)),
    stable("difference-of-sigmoids", "sub,add", difference_of_sigmoids,
           (sigmoid(u) - sigmoid(-u), v - 2.0*sigmoid(-u) + 2.0*sigmoid(u),
            softplus(u) - softplus(-u)),
           u=(1e-9, 1e-3), v=(1e-9, 1e-6)),
    stable("conjugate", "sub,add", conjugate,
           (sqrt(u*u + v) - u, 2.0*sqrt(0.25*u*u + 1.0) - u,
            hypot(u, 1.0) - u), u=(1e4, 1e7), v=(1e-3, 1.0)),
    stable("root-minus-one", "sub,add", conjugate,
           (sqrt(1.0 + u) - 1.0, 1.0 - sqrt(1.0 - u)), u=(1e-9, 1e-3)),
    stable("difference-of-powers", "sub,add", difference_of_powers,
           (power(u + 1.0, 0.3) - power(u, 0.3),), u=(1e6, 1e12)),
    stable("near-power-minus-one", "sub,add", power_minus_one,
           (power(1.0 + u, v) - 1.0, power(v, u) - 1.0), u=(1e-9, 1e-3), v=(0.1, 9.0)),
    stable("difference-of-sines", "sub,add", difference_of_sines,
           (sin(u + v) - sin(u),), u=(0.1, 1.0), v=(1e-9, 1e-3)),
    stable("difference-of-cosines", "sub,add", difference_of_cosines,
           (cos(u + v) - cos(u),), u=(0.1, 1.0), v=(1e-9, 1e-3)),
    stable("difference-of-tangents", "sub,add", difference_of_tangents,
           (tan(u + v) - tan(u),), u=(0.1, 1.0), v=(1e-9, 1e-3)),
    stable("difference-of-arctangents", "sub,add", difference_of_arctangents,
           (atan(u + 1.0) - atan(u),), u=(1e3, 1e9)),
    stable("difference-of-sinh", "sub,add", difference_of_sinh,
           (sinh(u + v) - sinh(u),), u=(0.1, 1.0), v=(1e-9, 1e-3)),
    stable("difference-of-cosh", "sub,add", difference_of_cosh,
           (cosh(u + v) - cosh(u),), u=(0.1, 1.0), v=(1e-9, 1e-3)),
    stable("difference-of-tanh", "sub,add", difference_of_tanh,
           (tanh(u + v) - tanh(u),), u=(0.1, 1.0), v=(1e-9, 1e-3)),
    stable("sigmoids-apart", "sub,add", sigmoids_apart,
           (sigmoid(u + v) - sigmoid(u),), u=(0.1, 1.0), v=(1e-9, 1e-3)),
    stable("log-odds-of-normal", "sub,add", log_odds_of_normal,
           (apply("loghalferfc", -u) - apply("loghalferfc", u),), u=(1e-9, 1e-3)),
    stable("distance", "sub,add", distance,
           (_sum(_X*_X) - 2.0*_sum(_X*_Y) + _sum(_Y*_Y),),
           rows=(1e5, 1.001e5), others=(1e5, 1.001e5)),
    stable("difference-of-erf", "sub,add", difference_of_erf,
           (erf(u + v) - erf(u), erfc(u) - erfc(u + v)), rounded=True,
           u=(0.1, 20.0), v=(1e-9, 2.0)),
    stable("cosh-minus-sinh", "sub,add", cosh_minus_sinh,
           (cosh(u) - sinh(u),), u=(5.0, 300.0)),
    stable("quotient-minus-one", "sub,add", quotient_minus_one,
           (1.0/cos(u) - 1.0, _MEAN_SQUARE/(_MEAN*_MEAN) - 1.0),
           u=(1e-9, 1e-3), rows=(1e4, 1.001e4)),
    stable("complement-of-square", "sub,add", complement_of_square,
           (1.0 - cos(u)*cos(u),), u=(1e-9, 1e-3)),
    stable("complement", "sub,add", complement,
           (1.0 - cos(u), cosh(u) - 1.0, sigmoid(u) - 0.5, 1.0 - erfc(u)),
           u=(1e-9, 1e-3)),
    stable("softplus-minus-argument", "sub,add", softplus_minus_argument,
           (softplus(u) - u, v + softplus(-u) + u), u=(10.0, 300.0), v=(1e-99, 1e-90)),
    stable("softsign-slope", "sub,add", cancel_terms,
           (1.0/(1.0 + absolute(u))
            - u/(1.0 + absolute(u))/(1.0 + absolute(u))*apply("sign", u),),
           u=(1e6, 1e9)),
    stable("under-common-factor", "sub,add", under_common_factor,
           (v*exp(u) - v, v*cos(u)/w - v/w, v*sigmoid(u)*w - v*w*sigmoid(-u)),
           u=(1e-9, 1e-3)),
    stable("complement-in-the-tail", "sub,add", complement,
           (1.0 - sigmoid(u), 1.0 - tanh(u), 1.0 - erf(u), tanh(-u) + 1.0),
           u=(2.0, 20.0)),
)
