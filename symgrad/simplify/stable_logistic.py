"""Stable forms of quotients of exponentials: logistic functions, tanh, softmax."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce

from symgrad import graph
from symgrad.graph import Node, Reduce
from symgrad.simplify.stable_exponentials import (
    Exponential,
    are_positive,
    as_exponential,
    exponentials,
    factors,
    is_shifted,
    product_of,
    reduced_exponentials,
    reduced_top,
    shifted,
    shifted_reduce,
    shifted_sum,
    top_of,
)
from symgrad.simplify.stable_step import (
    exp,
    half,
    log,
    opposite,
    plain_difference,
    sigmoid,
    sinh,
    tanh,
    times_constant,
    unguarded,
)
from symgrad.simplify.stable_terms import (
    ONE,
    args,
    constant,
    is_call,
    number,
    split_coefficient,
    times,
)


def logistic(node: Node) -> Node | None:
    """``1/(1 + exp(-x)) -> sigmoid(x)`` and ``exp(x)/(exp(x) + exp(y)) ->
    sigmoid(x - y)``, as often as such a factor occurs."""
    a, b = args(node)
    found = factors(b)
    for k, (factor, sign) in enumerate(found):
        repeated, base = repetitions(factor)
        pair = _two_exponentials(base)
        if pair is None or sign < 0:
            continue
        above = as_exponential(Fraction(1), a)
        form = _logistic_quotient(above, pair, repeated)
        if form is None:
            continue
        rest = [f for j, f in enumerate(found) if j != k]
        for other, s in rest:
            form = form / other if s > 0 else form * other
        return form
    return None


def repetitions(factor: Node) -> tuple[int, Node]:
    """x**n as (n, x)."""
    if is_call(factor, "pow"):
        n = number(args(factor)[1])
        if n is not None and n.denominator == 1 and 2 <= n <= 4:
            return int(n), args(factor)[0]
    return 1, factor


def _two_exponentials(node: Node) -> tuple[Exponential, Exponential] | None:
    if is_call(node, "cosh"):
        return None
    parts = exponentials(node)
    if len(parts) != 2 or not are_positive(parts):
        return None
    return parts[0], parts[1]


def _exponent(e: Exponential) -> Node:
    return graph.const(0.0) if e.exponent is None else e.exponent


def _logistic_quotient(
    above: Exponential, pair: tuple[Exponential, Exponential], count: int
) -> Node | None:
    """(c*f*exp(x)) / (p + q)**count with sigmoids for what matches."""
    p, q = pair
    outside = above.factor
    c = above.c
    x = above.exponent
    result: list[Node] = []
    left = count
    for one, other in ((p, q), (q, p)):
        if x is not None and one.exponent is not None and x is one.exponent:
            result.append(_share(one, other))
            c, x, left = c / one.c, None, left - 1
            break
    plain = [e for e in pair if e.exponent is None]
    if x is not None or (left and not plain):
        return None
    if left:
        one = plain[0]
        other = q if one is p else p
        result += [_share(one, other)] * left
        c /= one.c**left
    return times_constant(c, times(outside, reduce(lambda a, b: a * b, result)))


def _share(one: Exponential, other: Exponential) -> Node:
    """one/(one + other) as a sigmoid."""
    gap = plain_difference(_exponent(one), _exponent(other))
    if one.c != other.c:
        gap = gap + log(constant(one.c / other.c))
    return sigmoid(gap)


def hyperbolic_tangent(node: Node) -> Node | None:
    """``(exp(x) - exp(-x))/(exp(x) + exp(-x)) -> tanh(x)``,
    ``(1 - exp(-2*x))/(1 + exp(-2*x)) -> tanh(x)``."""
    (c, a), (d, b) = (split_coefficient(x) for x in args(node))
    if is_call(a, "sinh") and is_call(b, "cosh") and _same_size(a, b):
        return times_constant(c / d, tanh(args(a)[0]))
    if is_call(b, "sinh") and is_call(a, "cosh") and _same_size(a, b):
        return times_constant(c / d, ONE) / tanh(args(b)[0])
    pair = _two_exponentials(b)
    if pair is None:
        return None
    if is_call(a, "expm1"):
        x, y = args(a)[0], graph.const(0.0)
    else:
        parts = exponentials(unguarded(a))
        if len(parts) != 2 or parts[0].c != -parts[1].c:
            return None
        if not all(e.factor is ONE for e in parts):
            return None
        parts.sort(key=lambda e: -e.c)
        c *= parts[0].c
        x, y = (_exponent(e) for e in parts)
    mine = {_exponent(e) for e in pair}
    if mine != {x, y} or pair[0].c != pair[1].c:
        return None
    return times_constant(c / d / pair[0].c, tanh(half(plain_difference(x, y))))


def hyperbolic_cotangent(node: Node) -> Node | None:
    """``y*cosh(x)/sinh(x) -> y/tanh(x)``, where cosh and sinh overflow."""
    found = factors(node)
    for above, sign in found:
        if sign < 0 or not is_call(above, "cosh"):
            continue
        (x,) = args(above)
        for under, s in found:
            if s < 0 and under is sinh(x):
                rest = [f for f in found if f != (above, sign)]
                rest.remove((under, s))
                return product_of(ONE / tanh(x), rest)
    return None


def _same_size(a: Node, b: Node) -> bool:
    """Are the arguments of two calls equal, or opposite?"""
    x, y = args(a)[0], args(b)[0]
    return x is y or opposite(x, y)


def softmax(node: Node) -> Node | None:
    """``exp(x)/sum(exp(x)) -> exp(x - logsumexp(x))``; quotients of other sums of
    exponentials are both shifted by the largest exponent."""
    a, b = args(node)
    e = reduced_exponentials(b)
    if e is not None and isinstance(b, Reduce):
        return _over_reduced(a, b, e)
    parts = exponentials(b)
    if not 2 <= len(parts) <= 6 or is_call(b, "expm1", "cosh"):
        return None
    if any(e.c < 0 or is_shifted(e) for e in parts):
        return None
    shift = top_of(parts)
    above = _shifted_numerator(a, shift)
    return None if above is None else above / shifted_sum(parts, shift)


def _over_reduced(a: Node, b: Reduce, e: Exponential) -> Node | None:
    above = as_exponential(Fraction(1), a)
    plain = e.factor is ONE and e.c == 1
    if plain and above.exponent is not None and e.exponent is not None:
        lse = graph.reduce_("logsumexp", b.indices, e.exponent)
        form = exp(above.exponent - lse)
        return times_constant(above.c, times(above.factor, form))
    shift = reduced_top(b, e)
    apart = _reduced_numerator(a, shift)
    if apart is not None:
        return apart / shifted_reduce(b, e, shift)
    form = _shifted_numerator(a, shift)
    return None if form is None else form / shifted_reduce(b, e, shift)


def _reduced_numerator(a: Node, shift: Node) -> Node | None:
    """A sum of exponentials with a largest exponent of its own, times exp(-shift)."""
    c, rest = split_coefficient(a)
    inner = reduced_exponentials(rest)
    if inner is None or not isinstance(rest, Reduce):
        return None
    own = reduced_top(rest, inner)
    if own is shift:
        return None
    return times_constant(c, exp(own - shift) * shifted_reduce(rest, inner, own))


def _shifted_numerator(a: Node, shift: Node) -> Node | None:
    """The numerator times exp(-shift), if it has an exponential."""
    e = as_exponential(Fraction(1), a)
    if e.exponent is not None:
        return shifted(e, shift)
    c, rest = split_coefficient(a)
    inner = reduced_exponentials(rest)
    if inner is not None and isinstance(rest, Reduce):
        return times_constant(c, shifted_reduce(rest, inner, shift))
    parts = exponentials(rest)
    if 2 <= len(parts) <= 6 and all(p.exponent is not None for p in parts):
        return times_constant(c, shifted_sum(parts, shift))
    return None
