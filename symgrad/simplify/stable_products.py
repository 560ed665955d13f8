"""Stable forms of logarithms of products: densities as textbooks have them."""

from __future__ import annotations

from fractions import Fraction

from symgrad import graph
from symgrad.graph import Node, Reduce
from symgrad.simplify.rule import provably_nonnegative
from symgrad.simplify.stable_exponentials import (
    are_positive,
    exponentials,
    factors,
    reduced_exponentials,
)
from symgrad.simplify.stable_logsumexp import log_of_reduced, log_of_sum
from symgrad.simplify.stable_step import (
    absolute,
    below,
    exp,
    half,
    joined,
    kept,
    log,
    log1mexp,
    log1p,
    negative,
    scaled_terms,
    sinh,
    softplus,
    unpowered,
    where,
)
from symgrad.simplify.stable_terms import (
    ONE,
    Term,
    args,
    is_call,
    number,
    over,
    terms,
    times,
    total,
)

_ALONE = 4  # powers up to here may stay in the product


def _log_of_cases(node: Node) -> Node | None:
    """log of a factor in two cases of which one may overflow by itself."""
    condition, yes, no = args(node)
    if any(is_call(unpowered(f), "where") for f, _ in factors(no)):
        return None
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
        return log_cosh(args(node)[0])
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


def log_cosh(x: Node) -> Node:
    """Near 0 by log1p(2*sinh(x/2)**2), beyond by exponentials that cannot overflow."""
    near = sinh(where(below(x, 1.0), half(x), 0.5))
    far = kept(absolute(x) - log(graph.const(2.0)), log1p(exp(-2.0 * absolute(x))))
    return where(below(x, 1.0), log1p(2.0 * (near * near)), far)


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
    flat = joined(*(scaled_terms(s, n) for s, n in result))
    return total(flat)


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
