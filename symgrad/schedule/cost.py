"""Rough costs, in cycles per element, that decide between recomputing and storing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from symgrad import graph, ops
from symgrad.graph import Call, Const, Index, Load, Node, Reduce, Size

CAP = 1e12
"""Costs stop here: a graph with much sharing is exponentially large as a tree."""

DEFAULT_LENGTH = 1000
"""Assumed for a run-time length of which nothing is known."""


def length(extent: Node, hints: Mapping[str, int]) -> int:
    """The number of values of an index with this extent, as far as is known."""
    value: dict[Node, int] = {}
    for node in graph.walk(extent):
        if isinstance(node, Const):
            value[node] = int(node.value)
        elif isinstance(node, Size):
            value[node] = hints.get(node.name, DEFAULT_LENGTH)
        elif isinstance(node, Call):
            value[node] = _integer(node.op, [value[a] for a in node.args])
        else:
            value[node] = DEFAULT_LENGTH
    return value[extent]


def _integer(op: str, args: list[int]) -> int:
    if op == "add":
        return args[0] + args[1]
    if op == "sub":
        return args[0] - args[1]
    if op == "mul":
        return args[0] * args[1]
    if op == "neg":
        return -args[0]
    if op == "floor_divide":
        return args[0] // args[1] if args[1] else 0
    if op == "mod":
        return args[0] % args[1] if args[1] else 0
    if op == "minimum":
        return min(args)
    if op == "maximum":
        return max(args)
    return DEFAULT_LENGTH


def is_dynamic(i: Index) -> bool:
    """Whether the index runs over a length known only at run time."""
    return not isinstance(i.extent, Const)


def own_cost(node: Node) -> float:
    """Cycles of one node, its arguments given."""
    if isinstance(node, Call):
        return ops.OPS[node.op].cost
    if isinstance(node, Load):
        return load_cost(node)
    return 0.0


def load_cost(node: Load) -> float:
    """A vector load along the last axis is cheap; strided and indirect ones gather."""
    cheap, strided, indirect = 1.0, 6.0, 8.0
    worst = cheap
    for axis, i in enumerate(node.indices):
        last = axis == len(node.indices) - 1
        if isinstance(i, Index):
            if is_dynamic(i) and not last:
                worst = max(worst, strided)
        elif any(isinstance(n, Load) for n in graph.walk(i)):
            worst = max(worst, indirect)
    return worst


def total_costs(
    roots: Iterable[Node], hints: Mapping[str, int] | None = None
) -> dict[Node, float]:
    """Cost of every node with all that it needs, as a tree; arrays count as stored."""
    hints = hints or {}
    total: dict[Node, float] = {}
    for node in graph.walk(roots):
        cost = own_cost(node)
        if isinstance(node, Load):
            cost += sum(total[i] for i in node.indices)
        else:
            cost += sum(total[c] for c in node.children)
        if isinstance(node, Reduce):
            for i in node.indices:
                cost *= max(1, length(i.extent, hints))
        total[node] = min(cost, CAP)
    return total
