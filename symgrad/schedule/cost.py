"""Rough costs, in cycles per element, that decide between recomputing and storing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from symgrad import graph, ops
from symgrad.graph import Call, Const, Index, Input, Load, Node, Reduce
from symgrad.language.dims import evaluate
from symgrad.schedule.streaming import RUNNING, STREAMED, is_running

CAP = 1e12
"""Costs stop here: a graph with much sharing is exponentially large as a tree."""

CHECKED = "checked"
"""An operation of scheduled graphs: ``checked(place, extent, axis)`` is an index that
is looked at where it is used, as an array of that extent would be read there."""

INTERNAL = {RUNNING: 0.0, STREAMED: 0.0, CHECKED: 1.0}
"""Costs of operations that exist in scheduled graphs only."""

STREAM_COST = 17.0
"""Of one element per row, read or written once: 64 bytes for a vector of eight rows at
15 GB/s. Operations are counted in cycles for a vector, too."""

STORE_COST = 3 * STREAM_COST
"""Of a value that one pass stores and another reads: written lines are read first."""

DEFAULT_LENGTH = 1000
"""Assumed for a run-time length of which nothing is known."""


class _Hints(dict[str, int]):
    """Lengths by name; what is not known has a default."""

    def __missing__(self, name: str) -> int:
        return DEFAULT_LENGTH


def length(extent: Node, hints: Mapping[str, int]) -> int:
    """The number of values of an index with this extent, as far as is known."""
    if isinstance(extent, Const):
        return int(extent.value)
    return evaluate(extent, _Hints(hints))


def is_dynamic(i: Index) -> bool:
    """Whether the index runs over a length known only at run time."""
    return not isinstance(i.extent, Const)


def own_cost(node: Node) -> float:
    """Cycles of one node, its arguments given."""
    if isinstance(node, Call):
        own = INTERNAL.get(node.op)
        return ops.OPS[node.op].cost if own is None else own
    if isinstance(node, Load):
        return load_cost(node)
    return 0.0


def load_cost(node: Load) -> float:
    """Vector loads along the last axis are cheap, and so are rows of an input, which
    come in tiles, also where data choose them; other strided loads and indirect ones
    gather."""
    cheap, strided, indirect = 1.0, 6.0, 8.0
    worst = cheap
    rows_of_input = isinstance(node.array, Input)
    for axis, i in enumerate(node.indices):
        last = axis == len(node.indices) - 1
        if isinstance(i, Index):
            if is_dynamic(i) and not last and not (axis == 0 and rows_of_input):
                worst = max(worst, strided)
        elif axis == 0 and not last and rows_of_input:
            continue
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
        if is_running(node):
            cost = 0.0  # it is being accumulated anyway
        elif isinstance(node, Load):
            cost += sum(total[i] for i in node.indices)
        else:
            cost += sum(total[c] for c in node.children)
        if isinstance(node, Reduce):
            for i in node.indices:
                cost *= max(1, length(i.extent, hints))
        total[node] = min(cost, CAP)
    return total
