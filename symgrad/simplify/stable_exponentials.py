"""Sums read as exponentials with factors, and shifted by the largest exponent.

Source: Blanchard, Higham & Higham, IMA J. Numer. Anal. 41 (2021) 2311, for shifted
sums of exponentials.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import Node, Reduce
from symgrad.simplify.stable_step import (
    exp,
    joined,
    log,
    logaddexp,
    maximum,
    negative,
    softplus,
    times_constant,
    where,
)
from symgrad.simplify.stable_terms import (
    ONE,
    args,
    constant,
    is_call,
    number,
    over,
    split_coefficient,
    terms,
    times,
    total,
)


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
        return times(a, b), exponent_sum(x, y)
    return over(a, b), exponent_sum(x, None if y is None else negative(y))


def exponent_sum(x: Node | None, y: Node | None) -> Node | None:
    if x is None or y is None:
        return y if x is None else x
    return total(joined(terms(x), terms(y))) if terms(x) and terms(y) else x + y


def exponentials(node: Node) -> list[Exponential]:
    """A sum of which at least one term has an exponential; else nothing.

    A hyperbolic cosine counts as its two exponentials, a sum over indices as that of
    its logarithm.
    """
    found: list[Exponential] = []
    for c, part in terms(node):
        if is_call(part, "cosh"):
            (x,) = args(part)
            found += [Exponential(c / 2, ONE, x), Exponential(c / 2, ONE, negative(x))]
        elif is_call(part, "expm1"):
            found += [Exponential(c, ONE, args(part)[0]), Exponential(-c, ONE, None)]
        elif (whole := _of_reduced(part)) is not None:
            found.append(Exponential(c, ONE, whole))
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


def _of_reduced(node: Node) -> Node | None:
    """log(node), of a sum of exponentials over indices."""
    e = reduced_exponentials(node)
    if e is None or e.factor is not ONE or e.c != 1 or e.exponent is None:
        return None
    assert isinstance(node, Reduce)
    return graph.reduce_("logsumexp", node.indices, e.exponent)


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


def factors(node: Node, sign: int = 1, depth: int = 12) -> list[tuple[Node, int]]:
    """The factors of a product with exponents 1 and -1."""
    if depth and is_call(node, "mul", "div"):
        a, b = args(node)
        other = sign if is_call(node, "mul") else -sign
        return [*factors(a, sign, depth - 1), *factors(b, other, depth - 1)]
    if depth and is_call(node, "neg"):
        return [(graph.const(-1.0), sign), *factors(args(node)[0], sign, depth - 1)]
    return [(node, sign)]


def product_of(node: Node, rest: Sequence[tuple[Node, int]]) -> Node:
    """``node`` times factors with exponents 1 and -1."""
    c = Fraction(1)
    for factor, sign in rest:
        value = number(factor)
        if value:
            c *= value**sign
        elif sign > 0:
            node = times(factor, node)
    for factor, sign in rest:
        if sign < 0 and not number(factor):
            node = node / factor
    return times_constant(c, node)
