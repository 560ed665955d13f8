"""Stable forms of logarithms of sums of exponentials, and of sigmoids.

Source: Maechler, Accurately computing log(1 - exp(-|a|)), 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations
from math import inf

from symgrad import graph
from symgrad.graph import Index, Node, Reduce
from symgrad.simplify.stable_differences import argument, with_form
from symgrad.simplify.stable_exponentials import (
    Exponential,
    are_positive,
    exponent_sum,
    exponentials,
    factors,
    is_shifted,
    log_of_exponentials,
    reduced_exponentials,
    reduced_top,
    shifted_reduce,
    shifted_sum,
    top_of,
    with_log,
)
from symgrad.simplify.stable_step import (
    double,
    expm1,
    kept,
    log,
    log1mexp,
    log1p,
    negative,
    opposite,
    plain_difference,
    softplus,
    unguarded,
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
    result = exponent_sum(a, negative(b))
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
    x = _argument_of_summed_sigmoid(inside)
    if x is not None:
        assert isinstance(inside, Reduce)
        return graph.reduce_("logsumexp", inside.indices, -softplus(negative(x)))
    e = reduced_exponentials(inside)
    if e is None:
        return None
    assert isinstance(inside, Reduce) and e.exponent is not None
    if e.factor is ONE and e.c == 1:
        return graph.reduce_("logsumexp", inside.indices, e.exponent)
    shift = reduced_top(inside, e)
    return shift + log(shifted_reduce(inside, e, shift))


def _argument_of_summed_sigmoid(node: Node) -> Node | None:
    if not isinstance(node, Reduce) or node.kind != "sum":
        return None
    return argument(node.body, "sigmoid")


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
