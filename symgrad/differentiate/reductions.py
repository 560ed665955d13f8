"""Derivatives of reductions: how much each summand, factor or candidate counts."""

from __future__ import annotations

from typing import NamedTuple

from symgrad import graph
from symgrad.differentiate.algebra import ONE, ZERO, indicator
from symgrad.graph import Node, Reduce


class Weight(NamedTuple):
    """d(reduction) = outer * sum over the bound indices of inner * d(body).

    ``outer`` has the free indices of the reduction only; ``inner`` those of the body.
    """

    outer: Node
    inner: Node


def weight(node: Reduce) -> Weight:
    """The derivative of a reduction with respect to its body."""
    return _WEIGHTS[node.kind](node)


def _sum(node: Reduce) -> Weight:
    return Weight(ONE, ONE)


def _extremum(node: Reduce) -> Weight:
    """Ties share evenly, as in torch.amin and torch.amax."""
    wins = indicator(graph.comparison("eq", node.body, node))
    ties = graph.reduce_("sum", node.indices, wins)
    return Weight(ONE / ties, wins)


def _logsumexp(node: Reduce) -> Weight:
    """softmax. An infinite result has weight zero, so that an empty row is harmless."""
    softmax = graph.call("exp", node.body - node)
    infinite = graph.call("isinf", node, type=graph.BOOL)
    return Weight(ONE, graph.call("where", infinite, ZERO, softmax))


def _norm(node: Reduce) -> Weight:
    """x / norm(x), and 0 at the origin: the subgradient that torch takes too."""
    at_origin = graph.comparison("eq", node, ZERO)
    return Weight(graph.call("where", at_origin, ZERO, ONE / node), node.body)


def _prod(node: Reduce) -> Weight:
    """The product of all other factors, exact for any number of zeros, to second order.

    With P the product of the factors that are not zero, z the number of zeros, and S
    their sum, which is zero but has derivatives:

    - z = 0: P / b;
    - z = 1: P for the zero itself; S * P / b for the others, whose derivative with
      respect to the zero is P / b;
    - z = 2: (S - b) * P for a zero: the derivative with respect to the other is P;
    - else 0.
    """
    b, over = node.body, node.indices
    is_zero = graph.comparison("eq", b, ZERO)
    zeros = graph.reduce_("sum", over, indicator(is_zero))
    rest = graph.reduce_("prod", over, _where(is_zero, ONE, b))
    shadow = graph.reduce_("sum", over, _where(is_zero, b, ZERO))
    others = rest / _where(is_zero, ONE, b)
    one = _where(is_zero, rest, shadow * others)
    two = _where(is_zero, (shadow - b) * rest, ZERO)
    several = _where(zeros > 1.0, _where(zeros > 2.0, ZERO, two), one)
    return Weight(ONE, _where(zeros > 0.0, several, others))


def _where(condition: Node, yes: Node, no: Node) -> Node:
    return graph.call("where", condition, yes, no)


CORNERS = (
    ("sum, mean, var", "none", ""),
    ("max, min", "at a tie: shared evenly by all that win", "PyTorch"),
    ("prod", "with zeros: exact, the product of all other factors", "PyTorch"),
    ("norm", "at the origin: 0, the smallest subgradient", "PyTorch"),
    ("std", "of equal numbers: 0, the smallest subgradient", "PyTorch"),
    ("logsumexp", "of -inf only, or with inf: 0, so that an empty row is harmless", ""),
)
"""Reductions, where they have no derivative and what is taken there, who agrees."""

_WEIGHTS = {
    "sum": _sum,
    "prod": _prod,
    "min": _extremum,
    "max": _extremum,
    "logsumexp": _logsumexp,
    "norm": _norm,
}
