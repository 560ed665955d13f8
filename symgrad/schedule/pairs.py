"""Interactions of all pairs of rows, each row's part of the gradient in its own turn.

The gradient of ``sum_ij K(x_i, x_j)`` has a part where row k is the first of a pair,
which is complete within the turn of k, and one where it is the second, which
accumulates over all turns in an array of the size of x. Renamed, the second part is a
sum over the first, ``sum_j K'(x_j, x_k)``, complete within the turn of k too: no
memory, and one pass. That costs another evaluation of K for each pair, unless K is
symmetric.

A symmetric K is one node for (i, j) and (j, i) if the operations that make it so have
their arguments in one order, and an antisymmetric one (its derivative) differs in sign
only: both parts are then the same sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import Call, Const, Index, Node, Reduce
from symgrad.schedule import cost
from symgrad.schedule.legalise import gather_form, inline_arrays

_COMMUTATIVE = ("maximum", "minimum", "eq", "ne", "hypot", "logaddexp")


def by_rows(roots: Sequence[Node], hints: Mapping[str, int]) -> list[Node]:
    """``roots`` with elements instead of scatters to distinct rows."""
    elements = gather_form(roots, hints, everywhere=True)
    return oriented(inline_arrays(elements, hints, picks=True))


class _Signed(NamedTuple):
    """A value, or the negative of one."""

    node: Node
    negative: bool = False

    @property
    def value(self) -> Node:
        return -self.node if self.negative else self.node


def oriented(roots: Sequence[Node]) -> list[Node]:
    """Functions of two rows with the rows in one order, and signs outside.

    The sign of a zero may change, and no other bit.
    """
    done: dict[Node, _Signed] = {}
    for node in graph.walk(roots):
        done[node] = _oriented(node, [done[c] for c in node.children])
    return [done[root].value for root in roots]


def _oriented(node: Node, parts: Sequence[_Signed]) -> _Signed:
    if isinstance(node, Call) and node.type == graph.FLOAT:
        if node.op in ("add", "sub"):
            return _sum(parts[0], parts[1], node.op == "sub")
        if node.op == "mul":
            return _product(parts[0], parts[1])
        if node.op == "neg":
            return parts[0]._replace(negative=not parts[0].negative)
        if node.op == "div":
            a, b = map(_without_sign, parts)
            return _Signed(a.node / b.node, a.negative != b.negative)
        if node.op == "abs":
            return _Signed(graph.call("abs", parts[0].node))
        if node.op == "where":
            return _choice(node, parts)
    if isinstance(node, Reduce) and node.kind == "sum":
        return parts[0]._replace(node=graph.rebuild(node, (parts[0].node,)))
    children = tuple(p.value for p in parts)
    if isinstance(node, Call) and node.op in _COMMUTATIVE and _swapped(*children):
        children = children[::-1]
    return _Signed(graph.rebuild(node, children))


def _sum(a: _Signed, b: _Signed, difference: bool) -> _Signed:
    """a + b or a - b."""
    x, y = a.node, b.node
    swapped = _swapped(x, y)
    if a.negative == (b.negative != difference):
        return _Signed(y + x if swapped else x + y, a.negative)
    if swapped:
        return _Signed(y - x, not a.negative)
    return _Signed(x - y, a.negative)


def _product(a: _Signed, b: _Signed) -> _Signed:
    a, b = _without_sign(a), _without_sign(b)
    x, y = (b.node, a.node) if _swapped(a.node, b.node) else (a.node, b.node)
    return _Signed(x * y, a.negative != b.negative)


def _without_sign(a: _Signed) -> _Signed:
    """A negative constant as the negative of one."""
    if isinstance(a.node, Const) and a.node.value < 0:
        return _Signed(graph.const(-a.node.value), not a.negative)
    return a


def _choice(node: Call, parts: Sequence[_Signed]) -> _Signed:
    """``where``, its sign outside if both branches have it, or one and zero."""
    condition, yes, no = parts
    signs = {p.negative for p in (yes, no) if not _is_zero(p.node)}
    if signs == {True}:
        chosen = (condition.value, yes.node, no.node)
        return _Signed(graph.rebuild(node, chosen), True)
    return _Signed(graph.rebuild(node, tuple(p.value for p in parts)))


def _is_zero(node: Node) -> bool:
    return isinstance(node, Const) and node.value == 0


def _swapped(a: Node, b: Node) -> bool:
    """Whether ``a`` is of a row whose index comes after that of the row of ``b``."""
    return any(
        i.extent is j.extent and j.slot < i.slot
        for i in _rows(a, b)
        for j in _rows(b, a)
    )


def _rows(node: Node, other: Node) -> list[Index]:
    return [i for i in node.free - other.free if cost.is_dynamic(i)]
