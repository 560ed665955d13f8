"""What one turn of a sum adds: its factors, its sign, and where it counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import Call, Const, Node, Reduce
from symgrad.schedule.statements import Statement


def kind_of(statement: Statement) -> str:
    """The reduction that a statement accumulates by."""
    return statement.node.kind if isinstance(statement.node, Reduce) else "sum"


class Term(NamedTuple):
    """What a turn adds: one factor or two, perhaps negated, where conditions hold."""

    factors: tuple[Node, ...]
    negative: bool
    conditions: tuple[tuple[Node, bool], ...]


def term_of(
    s: Statement, is_stored: Callable[[Node], bool], is_product: Callable[[Node], bool]
) -> Term:
    """Take a term apart: nothing is added where ``where`` chooses 0, and products are
    fused with the sum."""
    body = s.value
    if kind_of(s) != "sum" or body.type != graph.FLOAT:
        return Term((body,), False, ())
    conditions: list[tuple[Node, bool]] = []
    while _is(body, "where") and not is_stored(body):
        condition, yes, no = body.children
        if _is_zero(no):
            conditions.append((condition, True))
            body = yes
        elif _is_zero(yes):
            conditions.append((condition, False))
            body = no
        else:
            break
    negative = _is(body, "neg") and not is_stored(body)
    if negative:
        body = body.children[0]
    factors = tuple(body.children) if is_product(body) else (body,)
    return Term(factors, negative, tuple(conditions))


def _is(node: Node, op: str) -> bool:
    return isinstance(node, Call) and node.op == op


def _is_zero(node: Node) -> bool:
    return isinstance(node, Const) and node.value == 0
