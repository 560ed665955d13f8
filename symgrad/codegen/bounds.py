"""Which array indices are certainly inside their axis."""

from __future__ import annotations

from symgrad import graph
from symgrad.graph import Call, Const, Index, Node


def provably_inside(node: Node, extent: Node) -> bool:
    """Whether 0 <= node < extent is certain from the form of the index."""
    shift = 0
    if isinstance(node, Call) and node.op == "add" and node.type == graph.INT:
        inner, constant = node.args
        if not isinstance(constant, Const) or not isinstance(inner, Index):
            return False
        node, shift = inner, int(constant.value)
    if isinstance(node, Const):
        size = extent.value if isinstance(extent, Const) else None
        return node.value >= 0 and size is not None and node.value < size
    if not isinstance(node, Index) or shift < 0:
        return False
    end = graph.fold_int("add", node.extent, graph.const(shift))
    room = graph.fold_int("sub", extent, end)
    return room is graph.const(0) or _affine_room(extent, end) >= 0


def is_guarded(node: Node) -> bool:
    """Whether an index that is not provably inside is so all the same where it counts.

    A bound variable plus a constant leaves its axis only where sums were turned into
    array elements (``gather_form``), and there a ``where`` selects what is inside.
    """
    if isinstance(node, Call) and node.op == "add":
        return isinstance(node.args[0], Index) and isinstance(node.args[1], Const)
    return isinstance(node, Index)


def _affine_room(extent: Node, end: Node) -> int:
    """extent - end where both are one length plus constants; -1 if unknown."""
    (a, x), (b, y) = _affine(extent), _affine(end)
    return x - y if a is b else -1


def _affine(node: Node) -> tuple[Node | None, int]:
    if isinstance(node, Const):
        return None, int(node.value)
    if isinstance(node, Call) and node.op == "add" and isinstance(node.args[1], Const):
        return node.args[0], int(node.args[1].value)
    return node, 0
