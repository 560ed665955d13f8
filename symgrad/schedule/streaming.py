"""Sums over rows relative to a maximum that is found in the same pass.

A log-sum-exp needs ``sum_i exp(b_i - M)`` with ``M = max_i b_i``: two passes, and a
third for the gradient. Instead the sum may be relative to the maximum of the rows so
far. Where that grows from m to m', what has been summed is multiplied by exp(m - m').
The same holds for the terms of the largest rows, ``sum_i [b_i == M] x_i``: what has
been summed is dropped.

Two operations that exist inside this package and the code generators only say so:

    running(M, i)            the maximum (or minimum) of the rows up to i
    streamed(x, M, i, p)     x, as a term of a sum over i that is relative to M: x is
                             of degree p in exp(-running(M, i)); DROPPED: x is zero but
                             where a row equals running(M, i)

Source: Milakov & Gimelshein, arXiv:1805.02867 (2018), for the softmax.
"""

from __future__ import annotations

from typing import NamedTuple

from symgrad import graph
from symgrad.graph import Call, Const, Index, Node, Reduce

RUNNING, STREAMED = "running", "streamed"

DROPPED = 0
"""The degree of a sum that starts again where the extremum changes."""


class Stream(NamedTuple):
    """What a sum is relative to: the extremum over the rows, and the degree."""

    top: Reduce
    degree: int


def running(top: Reduce, row: Index) -> Node:
    """The extremum ``top`` of the rows up to ``row``."""
    return graph.call(RUNNING, top, row, type=top.type)


def streamed(term: Node, stream: Stream, row: Index) -> Node:
    """``term``, of a sum over ``row`` that is relative to ``stream.top``."""
    return graph.call(STREAMED, term, stream.top, row, graph.const(stream.degree))


def is_running(node: Node) -> bool:
    """Whether ``node`` is the extremum of the rows so far."""
    return isinstance(node, Call) and node.op == RUNNING


def stream_of(node: Node) -> Stream | None:
    """What a reduction is relative to, if anything."""
    if not isinstance(node, Reduce) or not isinstance(node.body, Call):
        return None
    if node.body.op != STREAMED:
        return None
    _, top, _, degree = node.body.args
    assert isinstance(top, Reduce) and isinstance(degree, Const)
    return Stream(top, int(degree.value))


def term_of(node: Reduce) -> Node:
    """What a reduction sums."""
    body = node.body
    return body.args[0] if isinstance(body, Call) and body.op == STREAMED else body
