"""Stable forms of logarithms and exponentials: sums of exponentials, densities, tails.

Sources: Blanchard, Higham & Higham, IMA J. Numer. Anal. 41 (2021) 2311, for shifted
sums of exponentials; Maechler, Accurately computing log(1 - exp(-|a|)), 2012.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import reduce
from itertools import permutations
from math import inf
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import Const, Index, Node, Reduce
from symgrad.ops import apply
from symgrad.simplify.rule import REAL, provably_nonnegative
from symgrad.simplify.stable_algebra import (
    ONE,
    Term,
    args,
    constant,
    difference,
    is_call,
    multiple,
    number,
    over,
    polynomial,
    radicand,
    split_coefficient,
    terms,
    times,
    total,
    without,
)
from symgrad.simplify.stable_step import (
    absolute,
    below,
    cosh,
    double,
    erf,
    erfc,
    exp,
    expm1,
    half,
    joined,
    kept,
    log,
    log1p,
    logaddexp,
    maximum,
    negative,
    opposite,
    plain_difference,
    power,
    sigmoid,
    sin,
    sinh,
    softplus,
    sqrt,
    stable,
    tanh,
    times_constant,
    u,
    unguarded,
    unpowered,
    v,
    w,
    where,
)
from symgrad.simplify.stable_sums import (
    argument,
    gap,
    log_of_ratio,
    symmetric_log,
    with_form,
)

log1mexp, logerfc = (lambda x: apply("log1mexp", x)), (lambda x: apply("logerfc", x))
_UNIT = (Fraction(1), ONE)

# --------------------------------------------------------------------------------------
# Sums of exponentials
# --------------------------------------------------------------------------------------


class Exponential(NamedTuple):
    """``c * factor * exp(exponent)``; the exponent None is 0."""

    c: Fraction
    factor: Node
    exponent: Node | None


def as_exponential(c: Fraction, node: Node) -> Exponential:
    """A product with its exponentials joined."""
    factor, exponent = _split_exponentials(node)
    k, factor = split_coefficient(factor)
    return Exponential(c * k, factor, exponent)


def _split_exponentials(node: Node, depth: int = 6) -> tuple[Node, Node | None]:
    if is_call(node, "exp"):
        return ONE, args(node)[0]
    if not depth or not is_call(node, "mul", "div", "neg"):
        return node, None
    (a, x), *more = (_split_exponentials(n, depth - 1) for n in args(node))
    if is_call(node, "neg"):
        return (node, None) if x is None else (-a, x)
    ((b, y),) = more
    if x is None and y is None:
        return node, None
    if is_call(node, "mul"):
        return times(a, b), _plus(x, y)
    return over(a, b), _plus(x, None if y is None else negative(y))


def _plus(x: Node | None, y: Node | None) -> Node | None:
    if x is None or y is None:
        return y if x is None else x
    return total(joined(terms(x), terms(y))) if terms(x) and terms(y) else x + y


def exponentials(node: Node) -> list[Exponential]:
    """A sum of which at least one term has an exponential; else nothing.

    A hyperbolic cosine counts as its two exponentials.
    """
    found: list[Exponential] = []
    for c, part in terms(node):
        if is_call(part, "cosh"):
            (x,) = args(part)
            found += [Exponential(c / 2, ONE, x), Exponential(c / 2, ONE, negative(x))]
        elif is_call(part, "expm1"):
            found += [Exponential(c, ONE, args(part)[0]), Exponential(-c, ONE, None)]
        else:
            found.append(as_exponential(c, part))
    if not any(e.exponent is not None for e in found):
        return []
    constants = [e for e in found if e.factor is ONE and e.exponent is None]
    if len(constants) > 1:
        rest = [e for e in found if e not in constants]
        c = sum((e.c for e in constants), Fraction(0))
        found = [*rest, Exponential(c, ONE, None)] if c else rest
    return found


def are_positive(parts: Sequence[Exponential]) -> bool:
    """Positive literals times exponentials?"""
    return all(e.c > 0 and e.factor is ONE for e in parts)


def with_log(e: Exponential) -> Node:
    """log of a positive term: its exponent plus the logarithm of its literal."""
    x = graph.const(0.0) if e.exponent is None else e.exponent
    if e.c == 1:
        return x
    return log(constant(e.c)) if e.exponent is None else x + log(constant(e.c))


def log_of_exponentials(parts: Sequence[Exponential]) -> Node:
    """log(sum(c*exp(x))) for positive c, by logaddexp."""
    plain = [e for e in parts if e.c == 1 and e.exponent is None]
    if len(parts) == 2 and plain:
        (other,) = (e for e in parts if e is not plain[0])
        return softplus(with_log(other))
    return reduce(logaddexp, (with_log(e) for e in parts))


def top_of(parts: Sequence[Exponential]) -> Node:
    """The largest exponent, held constant: a shift changes no derivative.

    Of terms whose factor is zero the exponent does not count.
    """
    found = []
    for e in parts:
        x = graph.const(0.0) if e.exponent is None else e.exponent
        if e.factor is not ONE:
            x = where(graph.comparison("eq", e.factor, 0.0), -1e300, x)
        found.append(x)
    return graph.call("stop_gradient", reduce(maximum, found))


def shifted(e: Exponential, shift: Node) -> Node:
    """The term times exp(-shift)."""
    x = -shift if e.exponent is None else e.exponent - shift
    return times_constant(e.c, times(e.factor, exp(x)))


def shifted_sum(parts: Sequence[Exponential], shift: Node) -> Node:
    """The sum times exp(-shift)."""
    return reduce(lambda a, b: a + b, (shifted(e, shift) for e in parts))


def reduced_exponentials(node: Node) -> Exponential | None:
    """The body of a sum over indices, if it has an exponential that varies."""
    if not isinstance(node, Reduce) or node.kind != "sum":
        return None
    e = as_exponential(Fraction(1), node.body)
    if e.exponent is None or e.exponent.free.isdisjoint(node.indices) or is_shifted(e):
        return None
    return e


def reduced_top(node: Reduce, e: Exponential) -> Node:
    """The largest exponent of a sum, held constant; 0 if it is infinite."""
    assert e.exponent is not None
    top = graph.reduce_("max", node.indices, e.exponent)
    finite = graph.call("isfinite", top, type=graph.BOOL)
    return graph.call("stop_gradient", where(finite, top, 0.0))


def shifted_reduce(node: Reduce, e: Exponential, shift: Node) -> Node:
    """The sum over indices times exp(-shift)."""
    return graph.reduce_("sum", node.indices, shifted(e, shift))


def is_shifted(e: Exponential) -> bool:
    """Is a constant maximum subtracted from the exponent already?"""
    x = e.exponent
    return x is not None and (
        (is_call(x, "neg") and is_call(args(x)[0], "stop_gradient"))
        or any(is_call(a, "stop_gradient") for a in getattr(x, "args", ()))
        or any(is_call(n, "stop_gradient") for _, n in terms(x))
    )


def log_of_sum(node: Node) -> Node | None:
    """``log(1 + exp(x)) -> softplus(x)``, ``log(exp(x) + exp(y)) -> logaddexp``, other
    sums of exponentials shifted by the largest exponent."""
    inside = args(node)[0]
    c, rest = split_coefficient(inside)
    if is_call(rest, "cosh") and c != 2:
        return None  # not near 1: log_of_product
    parts = exponentials(inside)
    if not 2 <= len(parts) <= 6:
        return None
    if are_positive(parts):
        return log_of_exponentials(parts)
    if all(e.factor is ONE for e in parts):
        return _log_of_difference(parts)
    if any(is_shifted(e) for e in parts):
        return None
    shift = top_of(parts)
    return shift + log(shifted_sum(parts, shift))


def _log_of_difference(parts: Sequence[Exponential]) -> Node | None:
    """log(exp(a) - exp(b)) = a + log(1 - exp(b - a))."""
    if len(parts) != 2:
        return None
    large, small = sorted(parts, key=lambda e: -e.c)
    if not large.c > 0 > small.c:
        return None
    a, b = with_log(large), with_log(small._replace(c=-small.c))
    lacking = log1mexp(_minus(b, a))
    return lacking if number(a) == 0 else a + lacking


def _minus(a: Node, b: Node) -> Node:
    result = _plus(a, negative(b))
    assert result is not None
    return result


def log_of_difference(node: Node) -> Node | None:
    """``log(exp(a) - exp(b))`` where the difference was split into cases already."""
    inside = unguarded(args(node)[0])
    if inside is args(node)[0]:
        return None
    parts = exponentials(inside)
    if not parts or not all(e.factor is ONE for e in parts):
        return None
    return _log_of_difference(parts)


def log_of_sigmoids_apart(node: Node) -> Node | None:
    """``log(sigmoid(a) - sigmoid(b))`` by logarithms of the factors of the difference,
    as an ordinal regression has it."""
    product_ = unguarded_product(args(node)[0])
    if product_ is None:
        return None
    a, b, apart = product_
    lacking = log1mexp(negative(apart))
    return lacking - softplus(negative(a)) - softplus(b)


def unguarded_product(node: Node) -> tuple[Node, Node, Node] | None:
    """(a, b, a - b) of the difference of sigmoid(a) and sigmoid(b), in two cases."""
    if not is_call(node, "where") or not is_call(args(node)[2], "fma"):
        return None
    near = args(node)[1]
    _, minus, plus_ = args(args(node)[2])
    if not is_call(near, "mul") or not is_call(minus, "neg"):
        return None
    other, lacking = args(minus)[0], args(near)[1]
    if not (is_call(plus_, "sigmoid") and is_call(other, "sigmoid")):
        return None
    if is_call(lacking, "neg") and is_call(args(lacking)[0], "expm1"):
        apart = negative(args(args(lacking)[0])[0])
        return args(plus_)[0], args(other)[0], apart
    return None


def log_of_mixed_sigmoids(node: Node) -> Node | None:
    """``log(sigmoid(x) + sigmoid(-x)*exp(y)) -> log1p(sigmoid(-x)*expm1(y))`` where
    that is near 0: what is certain is inflated."""
    parts = terms(args(node)[0])
    if len(parts) != 2 or any(c != 1 for c, _ in parts):
        return None
    for (_, one), (_, other) in permutations(parts, 2):
        x = argument(one, "sigmoid")
        rest = [f for f in factors(other) if f[0] is not one]
        exps = [f for f, sign in rest if sign > 0 and is_call(f, "exp")]
        lows = [f for f, sign in rest if sign > 0 and is_call(f, "sigmoid")]
        if x is None or len(rest) != 2 or not exps or not lows:
            continue
        if opposite(args(lows[0])[0], x):
            lacking = lows[0] * expm1(args(exps[0])[0])
            high = graph.comparison("gt", lacking, -0.5)
            return where(high, log1p(where(high, lacking, 0.0)), log(kept(one, other)))
    return None


def log_of_expm1(node: Node) -> Node | None:
    """``log(1 - exp(-x)) -> log1mexp(-x)``, ``log(exp(x) - 1) -> x + log1mexp(-x)``."""
    c, x = split_coefficient(args(node)[0])
    if is_call(x, "sinh"):
        (y,) = args(x)
        return None if c != 2 else y + log1mexp(negative(double(y)))
    if not is_call(x, "expm1") or abs(c) != 1:
        return None
    (y,) = args(x)
    return log1mexp(y) if c < 0 else y + log1mexp(negative(y))


def log_of_reduced(node: Node) -> Node | None:
    """``log(sum(exp(z))) -> logsumexp(z)``; with weights, a shifted sum."""
    inside = args(node)[0]
    e = reduced_exponentials(inside)
    if e is None:
        return None
    assert isinstance(inside, Reduce) and e.exponent is not None
    if e.factor is ONE and e.c == 1:
        return graph.reduce_("logsumexp", inside.indices, e.exponent)
    shift = reduced_top(inside, e)
    return shift + log(shifted_reduce(inside, e, shift))


def logsumexp_minus_element(node: Node) -> Node | None:
    """``logsumexp(z) - z[k] -> softplus(logsumexp of the others - z[k])``, as precise
    where z[k] is far above the others: a confident cross-entropy; so its derivative."""
    parts = terms(node)
    for p in parts:
        if not isinstance(p[1], Reduce) or p[1].kind != "logsumexp":
            continue
        if len(p[1].indices) != 1:
            continue
        (j,), body = p[1].indices, p[1].body
        place = _element_in(parts, -p[0], body, j)
        if place is None:
            continue
        element = graph.substitute(body, {j: place})
        taken = tuple((-p[0] * c, n) for c, n in terms(element))
        if taken and all(t in parts for t in taken):
            taken_up = (body.free - {j}) | place.free
            (k,) = graph.canonical_indices([j.extent], taken_up)
            same = graph.comparison("eq", k, place)
            body = graph.substitute(body, {j: k})
            rest = graph.reduce_("logsumexp", [k], where(same, -inf, body))
            form = softplus(plain_difference(rest, element))
            return with_form(parts, (p, *taken), p[0], form)
    return None


def _element_in(
    parts: Sequence[Term], scale: Fraction, body: Node, j: Index
) -> Node | None:
    """The k for which some of the parts are ``scale`` times the body at j = k."""
    for c, piece in terms(body):
        if j in piece.free:
            for q in parts:
                same = q[0] == scale * c
                place = _place_of(q[1], piece, j) if same else None
                if place is not None:
                    return place
    return None


def _place_of(x: Node, body: Node, j: Index) -> Node | None:
    """The k for which ``x`` is the body at j = k; not for a k that runs over all."""
    pending, place = [(body, x)], None
    for _ in range(_LARGEST_ELEMENT):
        if not pending:
            break
        a, b = pending.pop()
        if a is j:
            place = b if place is None else place
            if b is not place:
                return None
        elif a is not b:
            alike = type(a) is type(b) and len(a.children) == len(b.children)
            if not alike or j not in a.free:
                return None
            pending.extend(zip(a.children, b.children, strict=True))
    if place is None or pending or isinstance(place, Index):
        return None
    return place if graph.substitute(body, {j: place}) is x else None


_LARGEST_ELEMENT = 100

# --------------------------------------------------------------------------------------
# Products
# --------------------------------------------------------------------------------------


def factors(node: Node, sign: int = 1, depth: int = 12) -> list[tuple[Node, int]]:
    """The factors of a product with exponents 1 and -1."""
    if depth and is_call(node, "mul", "div"):
        a, b = args(node)
        other = sign if is_call(node, "mul") else -sign
        return [*factors(a, sign, depth - 1), *factors(b, other, depth - 1)]
    if depth and is_call(node, "neg"):
        return [(graph.const(-1.0), sign), *factors(args(node)[0], sign, depth - 1)]
    return [(node, sign)]


_ALONE = 4  # powers up to here may stay in the product


def _log_of_cases(node: Node) -> Node | None:
    """log of a factor in two cases of which one may overflow by itself."""
    condition, yes, no = args(node)
    far = log_of_product(log(no))
    return None if far is None else where(condition, log(yes), far)


def _log_factor(node: Node) -> Node | None:
    """log of a factor that may overflow or underflow by itself; it is not negative."""
    node = unpowered(node)
    if is_call(node, "exp"):
        return args(node)[0]
    if is_call(node, "sigmoid"):
        return -softplus(negative(args(node)[0]))
    if is_call(node, "sqrt"):
        inside = _log_factor(args(node)[0])
        return None if inside is None else 0.5 * inside
    if is_call(node, "cosh"):
        return _log_cosh(args(node)[0])
    if is_call(node, "sinh"):
        return _log_sinh(args(node)[0])
    if is_call(node, "where"):
        return _log_of_cases(node)
    if is_call(node, "pow"):
        base, n = args(node)
        if is_call(base, "exp"):
            return n * args(base)[0]
        if _is_wild(base):
            return n * log(base if _safe_base(base, number(n)) else absolute(base))
        k = number(n)
        if k is None or abs(k) > _ALONE or k.denominator > 2:
            return n * log(base if _safe_base(base, k) else absolute(base))
    if isinstance(node, Reduce):
        if node.kind == "prod":
            inner = node.body
            inner = inner if provably_nonnegative(inner) else absolute(inner)
            return graph.reduce_("sum", node.indices, log(inner))
        if reduced_exponentials(node) is not None:
            return log_of_reduced(log(node))
    if _is_wild(node):
        return log(node if provably_nonnegative(node) else absolute(node))
    if exponentials(node) and are_positive(exponentials(node)):
        return log_of_sum(log(node))
    return None


def _is_wild(node: Node) -> bool:
    """A sum with a power that may overflow?"""
    if not is_call(node, "add", "sub"):
        return False
    return any(
        is_call(f, "pow") and number(args(f)[1]) is None
        for _, part in terms(node)
        for f, _ in factors(unpowered(part))
    )


def _log_sinh(x: Node) -> Node:
    """log(abs(sinh(x)))."""
    size = absolute(x)
    return kept(size - log(graph.const(2.0)), log1mexp(-2.0 * size))


def _safe_base(base: Node, n: Fraction | None) -> bool:
    """May log(base) stand for log(abs(base))?"""
    if n is not None and n.denominator != 1:
        return True  # the power is defined for base >= 0 only
    return provably_nonnegative(base)


def _log_cosh(x: Node) -> Node:
    """Near 0 by log1p(2*sinh(x/2)**2), beyond by exponentials that cannot overflow."""
    near = sinh(where(below(x, 1.0), half(x), 0.5))
    far = kept(absolute(x) - log(graph.const(2.0)), log1p(exp(-2.0 * absolute(x))))
    return where(below(x, 1.0), log1p(2.0 * (near * near)), far)


def log_cosh_by_softplus(node: Node) -> Node | None:
    """``softplus(2*x) - x - log(2) -> log(cosh(x))``."""
    parts = terms(node)
    for p in parts:
        inside = argument(p[1], "softplus")
        log2 = next((t for t in parts if _is_log_2(t, -p[0])), None)
        if inside is None or log2 is None:
            continue
        taken = tuple((-p[0] * c / 2, n) for c, n in terms(inside))
        if taken and all(t in parts for t in taken):
            return with_form(parts, (p, log2, *taken), p[0], _log_cosh(half(inside)))
    return None


def entropy_of_sigmoid(node: Node) -> Node | None:
    """``softplus(x) - x*sigmoid(x)``, which is even, from its side without
    cancellation."""
    parts = terms(node)
    for p in parts:
        x = argument(p[1], "softplus")
        if x is None:
            continue
        for q in parts:
            if multiple(polynomial(q[1]), q[0]) != multiple(
                polynomial(x * sigmoid(x)), -p[0]
            ):
                continue
            y = negative(x)
            high = kept(softplus(y), x * sigmoid(y))
            low = kept(p[1], -(x * sigmoid(x)))
            form = where(graph.comparison("gt", x, 0.0), high, low)
            return with_form(parts, (p, q), p[0], form)
    return None


_LOG_2 = Fraction(0.6931471805599453)


def _is_log_2(term: Term, c: Fraction) -> bool:
    """Is this ``c*log(2)``, also as a rounded literal?"""
    if term[1] is ONE:
        return abs(term[0] / c - _LOG_2) <= Fraction(1, 2**52)
    inside = argument(term[1], "log")
    return inside is not None and number(inside) == 2 and term[0] == c


def log_of_product(node: Node) -> Node | None:
    """``log(exp(-x*x/2)/sqrt(2*pi)) -> -x*x/2 - log(sqrt(2*pi))``; factors that cannot
    overflow stay together."""
    found = factors(args(node)[0])
    logs: list[tuple[Node, int]] = []
    rest = ONE
    signs_known = True
    for factor, sign in found:
        own = _log_factor(factor)
        if own is None:
            rest = times(rest, factor) if sign > 0 else over(rest, factor)
            continue
        logs.append((own, sign))
        if is_call(factor, "pow", "sinh", "add", "sub") or isinstance(factor, Reduce):
            signs_known = signs_known and _never_negative(factor)
    if not logs:
        return None
    result: list[Term] = []
    for own, sign in logs:
        result.append((Fraction(sign), own))
    if rest is not ONE:
        result.append(_log_of_rest(rest, signs_known))
    flat = joined(*(_scaled_terms(s, n) for s, n in result))
    return total(flat)


def _scaled_terms(c: Fraction, node: Node) -> tuple[Term, ...]:
    found = terms(node)
    return tuple((c * k, n) for k, n in found) if found else ((c, node),)


def _log_of_rest(rest: Node, positive: bool) -> Term:
    """log(1/x) is -log(x): 1/x overflows before x is zero."""
    sign = Fraction(1)
    if is_call(rest, "div") and args(rest)[0] is ONE:
        sign, rest = Fraction(-1), args(rest)[1]
    return sign, log(rest if positive else absolute(rest))


def _never_negative(factor: Node) -> bool:
    if is_call(factor, "sinh", "add", "sub"):
        return provably_nonnegative(factor)
    if is_call(factor, "pow"):
        base, n = args(factor)
        k = number(n)
        even = k is not None and k.denominator == 1 and k % 2 == 0
        return even or _safe_base(base, k)
    return not (isinstance(factor, Reduce) and factor.kind == "prod") or (
        provably_nonnegative(factor)
    )


# --------------------------------------------------------------------------------------
# Logarithms near 1, and inverse hyperbolic functions
# --------------------------------------------------------------------------------------


def log_of_one_plus(node: Node) -> Node | None:
    """``log(1 + x) -> log1p(x)``; of longer sums only where they are near 1."""
    inside = unguarded(args(node)[0])
    size = is_call(inside, "abs")
    parts = terms(args(inside)[0] if size else inside)
    if _UNIT not in parts or not 2 <= len(parts) <= 6:
        return None
    rest = without(parts, _UNIT)
    small = total(rest)
    if len(rest) == 1 and not size:
        return log1p(small)
    plain = kept(graph.const(1.0), small)
    far = log(absolute(plain) if size else plain)
    return where(below(small, 0.25), log1p(small), far)


def log_of_quotient(node: Node) -> Node | None:
    """``log((1 + x)/(1 - x)) -> 2*atanh(x)``; ``log(a/b)`` by log1p where a - b
    simplifies."""
    inside = args(node)[0]
    if not is_call(inside, "div"):
        return None
    a, b = args(inside)
    if a is ONE:
        near = log_of_one_plus(log(b))
        return -(log(b) if near is None else near)
    if isinstance(a, Const) or isinstance(b, Const):
        return None
    if is_call(a, "sigmoid") and is_call(b, "sigmoid"):
        x, y = args(a)[0], args(b)[0]
        return x if negative(x) is y or negative(y) is x else None
    form = symmetric_log(a, b)
    if form is not None:
        return form
    apart = gap(a, b)
    return None if apart is None else log_of_ratio(a, b, apart)


def log_of_sum_with_root(node: Node) -> Node | None:
    """``log(x + sqrt(x*x + 1)) -> asinh(x)``, with ``x*x - 1`` ``acosh(x)``."""
    parts = terms(unguarded(args(node)[0]))
    if len(parts) != 2:
        return None
    for (c, root), (d, x) in (parts, parts[::-1]):
        inside = radicand(root)
        if inside is None or c != 1 or abs(d) != 1:
            continue
        rest = terms(_expanded(inside, x))
        if rest == ((Fraction(1), ONE),):
            return apply("asinh", times_constant(d, x))
        if rest == ((Fraction(-1), ONE),) and d == 1:
            return apply("acosh", x)
    return None


def _expanded(inside: Node, x: Node) -> Node:
    """inside - x*x, as a polynomial."""
    apart = difference(inside, x * x)
    return graph.const(0.0) if apart is None else apart


def log_near_one(node: Node) -> Node | None:
    """log of cos, tanh, erf and erfc by how much they lack to 1."""
    c, x = split_coefficient(args(node)[0])
    if is_call(x, "erfc") and c in (1, Fraction(1, 2)):
        name = "logerfc" if c == 1 else "loghalferfc"
        return apply(name, args(x)[0])
    if c != 1:
        return None
    if is_call(x, "tanh"):
        twice = negative(double(args(x)[0]))
        return log1mexp(twice) - softplus(twice)
    if is_call(x, "erf"):
        (y,) = args(x)
        high = graph.comparison("gt", y, 0.5)
        tail = erfc(where(high, y, 1.0))
        return where(high, log1p(-tail), log(kept(x, -0.0)))
    if is_call(x, "cos"):
        root = sin(args(x)[0])
        high = graph.comparison("gt", x, 0.75)
        square = where(high, root * root, 0.0)
        return where(high, 0.5 * log1p(-square), log(kept(x, -0.0)))
    return None


def log1p_of_special(node: Node) -> Node | None:
    """``log1p(exp(x)) -> softplus(x)``, ``log1p(-exp(x)) -> log1mexp(x)``, ..."""
    inside = args(node)[0]
    c, x = split_coefficient(inside)
    if is_call(x, "sigmoid") and c == -1:
        return -softplus(args(x)[0])
    if is_call(x, "expm1") and c == 1:
        return args(x)[0]
    if is_call(x, "tanh") and abs(c) == 1:
        y = times_constant(c, args(x)[0])
        return log(graph.const(2.0)) - softplus(negative(double(y)))
    parts = exponentials(inside)
    if not parts:
        return None
    if c == -1 and is_call(x, "exp"):
        return log1mexp(args(x)[0])
    whole = [*parts, Exponential(Fraction(1), ONE, None)]
    if len(whole) > 6 or not are_positive(whole):
        return None
    return log_of_exponentials(whole)


def other_bases(base: float) -> Callable[[Node], Node | None]:
    """log2 and log10 by the forms of log."""

    def rewrite(node: Node) -> Node | None:
        inner = log(args(node)[0])
        for form in (log_of_sum, log_of_expm1, log_of_reduced, log_of_product,
                     log_of_one_plus, log_of_quotient):  # fmt: skip
            found = form(inner)
            if found is not None:
                return found / log(graph.const(base))
        return None

    return rewrite


# --------------------------------------------------------------------------------------
# Exponentials
# --------------------------------------------------------------------------------------


def exp_of_logs(node: Node) -> Node | None:
    """``exp(x + log(y)) -> y*exp(x)``, ``exp(y*log(x)) -> x**y``. The exponential in
    two halves: y may be small where exp(x) overflows. Powers, which may overflow while
    the rest underflows, are formed where there is no rest."""
    found = terms(args(node)[0])
    bases = [_exp_of_term(c, part) for c, part in found]
    if all(base is None for base in bases):
        return None
    known = [base for base in bases if base is not None]
    if len(known) == len(bases):
        apart = len(known) > 2 or any(is_call(base, "pow") for base in known)
        return None if apart and len(known) > 1 else _product_of_bases(known)
    logs = [k for k, (c, part) in enumerate(found) if is_call(part, "log", "log1p")]
    taken = [k for k in logs if bases[k] is not None and abs(found[k][0]) == 1]
    if len(taken) != 1:
        return None
    (k,) = taken
    root = exp(half(total(found[:k] + found[k + 1 :])))
    (c, _), base = found[k], bases[k]
    assert base is not None
    return root / args(base)[1] * root if c < 0 else base * root * root


def _product_of_bases(bases: Iterable[Node]) -> Node:
    outside = ONE
    for base in bases:
        if is_call(base, "div") and args(base)[0] is ONE:
            outside = over(outside, args(base)[1])
        else:
            outside = times(outside, base)
    return outside


def _exp_of_term(c: Fraction, part: Node) -> Node | None:
    if is_call(part, "log"):
        (x,) = args(part)
        return x if c == 1 else ONE / x if c == -1 else power(x, constant(c))
    if is_call(part, "log1p") and c == 1:
        return 1.0 + args(part)[0]
    if is_call(part, "mul"):
        a, b = args(part)
        for x, n in ((a, b), (b, a)):
            if is_call(x, "log") and not is_call(n, "log"):
                return power(args(x)[0], times_constant(c, n))
    return None


# --------------------------------------------------------------------------------------
# Zero times infinity
# --------------------------------------------------------------------------------------


def zero_times_log(node: Node) -> Node | None:
    """``x*log(y)`` is 0 where x and y are: the argument of the logarithm becomes 1
    there, and the derivatives are finite."""
    for factor, other in (args(node), args(node)[::-1]):
        parts = terms(other)
        if number(factor) is not None or not 1 <= len(parts) <= 4:
            continue
        if not any(_has_pole(part) for _, part in parts):
            continue
        changed = [(c, _without_pole(factor, part)) for c, part in parts]
        if all(new is old for (_, new), (_, old) in zip(changed, parts, strict=True)):
            continue
        return factor * total(changed)
    return None


def _has_pole(part: Node) -> bool:
    return is_call(part, "log", "log1p", "log2", "log10")


def _without_pole(factor: Node, part: Node) -> Node:
    """log(y) with 1 for y where factor and y are zero."""
    if not _has_pole(part):
        return part
    assert isinstance(part, graph.Call)
    (y,) = args(part)
    pole = -1.0 if part.op == "log1p" else 0.0
    if is_call(y, "where") or not _may_be(y, pole) or not _go_together(factor, y):
        return part
    at = args(y)[0] if is_call(y, "div") else y
    zero = graph.comparison("eq", factor, 0.0)
    if at is not factor:
        zero = apply("and", zero, graph.comparison("eq", at, pole))
    return apply(part.op, where(zero, pole + 1.0, y))


def _go_together(factor: Node, y: Node) -> bool:
    """Whether both may be meant to be zero at once: the factor is in y, or is a weight
    such as a label, one for each y. Else the logarithm stays as it is, so that it can
    leave a loop that the factor depends on, or be computed once."""
    if factor in graph.walk(y):
        return True
    varying = [node for _, node in terms(factor) if node is not ONE]
    weights = len(varying) == 1 and isinstance(varying[0], graph.Load)
    return weights and factor.free == y.free


_NEVER_ZERO = frozenset(("exp", "cosh", "softplus", "sigmoid", "erfc"))


def _may_be(y: Node, pole: float) -> bool:
    if isinstance(y, Const) or (isinstance(y, graph.Call) and y.op in _NEVER_ZERO):
        return False
    if pole == -1.0:
        c, rest = split_coefficient(y)
        return c < 0 or not provably_nonnegative(rest)
    first = [c for c, part in terms(y) if part is ONE and c > 0]
    rest = [c * 1 for c, part in terms(y) if part is not ONE]
    positive = first and all(
        c > 0 and provably_nonnegative(part) for c, part in terms(y) if part is not ONE
    )
    return not (positive and rest)


# --------------------------------------------------------------------------------------
# The rows
# --------------------------------------------------------------------------------------

_ROW = graph.index(4)
_X = graph.load(graph.input_("rows", (4,)), [_ROW])
_THIRD: dict[Index, Node] = {_ROW: graph.const(2)}


def _sum(body: Node) -> Node:
    return graph.reduce_("sum", [_ROW], body)


_WIDE = (1.0, 850.0)

# fmt: off
LOGS = (
    stable("log-of-mixed-sigmoids", "log", log_of_mixed_sigmoids,
           (log(sigmoid(u) + sigmoid(-u)*exp(-v)),), u=(5.0, 30.0), v=(0.1, 3.0)),
    stable("entropy-of-sigmoid", "sub,add", entropy_of_sigmoid,
           (softplus(u) - u*sigmoid(u), v + u*sigmoid(u) - softplus(u)),
           u=(10.0, 300.0), v=(1e-99, 1e-90)),
    stable("log-cosh-by-softplus", "sub,add", log_cosh_by_softplus,
           (u + softplus(-2.0*u) - log(graph.const(2.0)),), u=(1e-9, 1e-3)),
    stable("log-of-expm1", "log", log_of_expm1,
           (log(-expm1(u)), log(expm1(-u)), log(2.0*sinh(-u))), u=(-3000.0, -1e-9)),
    stable("log-of-sum-of-exps", "log", log_of_sum,
           (log(1.0 + exp(u)), log(exp(u) + exp(v)), log(exp(u) + exp(v) + 3.0),
            log(2.0*cosh(u)), log(w*exp(u) + (1.0 - w)*exp(v))),
           u=_WIDE, v=_WIDE, w=(0.1, 0.9)),
    stable("log-of-difference-of-exps", "log", log_of_difference,
           (log(where(below(u - v, 1.0), exp(v)*expm1(u - v), kept(exp(u), -exp(v)))),),
           u=(900.0, 3000.0), v=(1.0, 800.0)),
    stable("log-of-sigmoids-apart", "log", log_of_sigmoids_apart,
           (log(where(below(u - v, 1.0), sigmoid(u)*sigmoid(-v)*-expm1(v - u),
                      kept(sigmoid(u), -sigmoid(v)))),),
           u=(900.0, 3000.0), v=(1.0, 800.0)),
    stable("log-of-summed-exps", "log", log_of_reduced,
           (log(_sum(exp(_X))), log(_sum(_X*_X*exp(_X)))), rows=_WIDE),
    stable("log-near-one", "log", log_near_one,
           (log(apply("cos", u)), log(tanh(v)), log(erf(v)), log(erfc(v)),
            log(0.5*erfc(v))), u=(1e-9, 0.5), v=(4.0, 18.0)),
    stable("log-of-product", "log", log_of_product,
           (log(exp(-u*u)/sqrt(v)), log(power(v, u)*exp(-v)/w), log(cosh(u)),
            log(w*sigmoid(-u)), log(graph.reduce_("prod", [_ROW], _X*_X)),
            log(v/sinh(u)), log(v/power(1.0 + power(v, w), 4.0))),
           u=(30.0, 3000.0), v=(2.0, 100.0), w=(2.0, 9.0), rows=(1e-100, 1e-90)),
    stable("log-with-root", "log", log_of_sum_with_root,
           (log(u + apply("hypot", u, 1.0)), log(v + sqrt(v*v - 1.0))),
           u=(1e-9, 1e-4), v=(1e200, 1e300)),
    stable("log-of-quotient", "log", log_of_quotient,
           (log((1.0 + u)/(1.0 - u)), log((v + 1.0)/v), log(sigmoid(u)/sigmoid(-u)),
            log(1.0/(1.0 - u))),
           u=(1e-9, 1e-4), v=(1e5, 1e12)),
    stable("log1p", "log", log_of_one_plus,
           (log(1.0 + u), log(1.0 - u), log(1.0 + u + u*v),
            log(absolute(1.0 + u))), u=(1e-12, 1e-3),
           v=(0.1, 1.0)),
    stable("log1p-of-exp", "log1p", log1p_of_special,
           (log1p(exp(u)), log1p(2.0*exp(u)), log1p(-exp(-u)), log1p(-sigmoid(u))),
           u=_WIDE),
    stable("log-of-expm1-plus-one", "log1p", log1p_of_special,
           (log1p(expm1(u)), log1p(tanh(-u))), u=(10.0, 850.0)),
    stable("logsumexp-minus-element", "sub,add", logsumexp_minus_element,
           (graph.reduce_("logsumexp", [_ROW], _X) - graph.substitute(_X, _THIRD),),
           rows=(1.0, 3000.0)),
    stable("log2", "log2", other_bases(2.0), (apply("log2", 1.0 + exp(u)),),
           u=(600.0, 850.0)),
    stable("log10", "log10", other_bases(10.0), (apply("log10", 1.0 + u),),
           u=(1e-12, 1e-3)),
    stable("exp-of-logs", "exp", exp_of_logs,
           (exp(0.01*u + log(v)), exp(-u*log(v)), exp(log(v) - log(w)),
            exp(0.01*u - log(w))),
           u=(1.0, 60.0), v=(2.0, 1e4), w=(1e10, 1e100)),
)
ZERO_TIMES_LOG = stable(
    "zero-times-log", "mul", zero_times_log,
    (u*log(u), u*log(v), (1.0 - u)*log1p(-u), u*(log(u) - log(v))), REAL)
# fmt: on
