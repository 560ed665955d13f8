"""Zero times infinity: ``x*log(y)`` where both are zero."""

from __future__ import annotations

from symgrad import graph
from symgrad.graph import Const, Node
from symgrad.ops import apply
from symgrad.simplify.rule import REAL, provably_nonnegative
from symgrad.simplify.stable_step import log, log1p, stable, u, v, where
from symgrad.simplify.stable_terms import (
    ONE,
    args,
    is_call,
    number,
    split_coefficient,
    terms,
    total,
)


def zero_times_log(node: Node) -> Node | None:
    """``x*log(y)`` is 0 where x and y are: the argument of the logarithm becomes 1
    there, and the derivatives are finite."""
    for factor, other in (args(node), args(node)[::-1]):
        if not _may_hold_log(other):
            continue
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


def _may_hold_log(node: Node) -> bool:
    """Only a sum, a logarithm or a multiple of one may have one among its terms."""
    if is_call(node, "mul", "div", "neg"):
        return split_coefficient(node)[1] is not node
    return is_call(node, "add", "sub") or _has_pole(node)


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


ZERO_TIMES_LOG = stable(
    "zero-times-log",
    "mul",
    zero_times_log,
    (u * log(u), u * log(v), (1.0 - u) * log1p(-u), u * (log(u) - log(v))),
    REAL,
)
