"""Nodes that are the same formula, whatever their indices are called.

The derivative of a largest element compares ``body`` with ``max[i](body)`` inside other
loops, where the body may have other index names. Both must then have the same bits, so
what is decided about one of them is decided about all that are alike.
"""

from __future__ import annotations

from collections.abc import Iterable

from symgrad import graph
from symgrad.graph import Array, Call, Const, Index, Input, Node, Reduce, Scatter, Size


class Alike:
    """Numbers for nodes: equal for nodes that differ in the names of indices only.

    Others may share a number, too: which index stands where is not looked at.
    """

    def __init__(self) -> None:
        self._of: dict[Node, int] = {}
        self._known: dict[tuple[object, ...], int] = {}

    def numbers(self, nodes: Iterable[Node]) -> set[int]:
        """The numbers of some nodes."""
        return {self.number(node) for node in nodes}

    def number(self, root: Node) -> int:
        """The number of one node. Iterative: graphs may be deep."""

        def unknown(node: Node) -> list[Node]:
            return [n for n in graph.uses(node) if n not in self._of]

        found = self._of.get(root)
        if found is None:
            for node in graph.walk(root, into=unknown):
                parts = (_head(node), *(self._of[n] for n in graph.uses(node)))
                self._of[node] = self._known.setdefault(parts, len(self._known))
            found = self._of[root]
        return found


def _head(node: Node) -> tuple[object, ...]:
    """What tells a node from others of the same parts, but for names of indices."""
    if isinstance(node, Const):
        return ("const", node.type, repr(node.value))
    if isinstance(node, Size | Input):
        return (type(node).__name__, node.name)
    if isinstance(node, Index):
        return ("index",)
    if isinstance(node, Call):
        return ("call", node.op, node.type)
    if isinstance(node, Reduce):
        return ("reduce", node.kind, len(node.indices))
    if isinstance(node, Array | Scatter):
        return (type(node).__name__, len(node.shape))
    return ("load",)
