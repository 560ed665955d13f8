"""What it costs to evaluate a graph: estimated cycles, shared parts counted once.

A node is evaluated once for every value of its free indices, because kernels hoist what
does not vary and share what is equal. Operations cost what their row says; a product
that only a sum or a difference uses costs nothing (fused multiply-add); a reduction
takes a step for every value of its bound and free indices. Lengths known at run time
only are taken for 1000.

A kernel keeps about ten sums over rows in registers. Each further one is loaded and
stored at every row, which is counted, so that one sum of many terms is better than many
sums of one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from symgrad import graph
from symgrad.graph import FLOAT, Call, Const, Index, Load, Node, Reduce, Scatter
from symgrad.ops import OPS

LENGTH = 1000
"""Assumed for a length that is not known."""

REGISTERS = 10
"""Sums over one loop that are kept in registers."""

LOAD_COST = 1.0
MEMORY_COST = 2.0
"""Cycles to load an element, and to load and store a sum that has no register."""

_FREE = frozenset(("cast", "stop_gradient"))
_UNKNOWN = 20.0  # an operation that a pass writes for itself


def cycles(roots: Iterable[Node], leaves: Collection[Node] = ()) -> float:
    """The estimated cost of evaluating ``roots`` once, ``leaves`` being given."""

    def into(node: Node) -> tuple[Node, ...]:
        return () if node in leaves else node.children

    order = graph.walk(roots, into)
    uses = Counter[Node](c for n in order if n not in leaves for c in n.children)
    total = 0.0
    sums: Counter[frozenset[Index]] = Counter()
    for node in order:
        if node in leaves:
            continue
        total += own_cycles(node, uses)
        if isinstance(node, Reduce) and node.kind == "sum" and not node.free:
            sums[frozenset(node.indices)] += 1
    for indices, count in sums.items():
        total += MEMORY_COST * max(0, count - REGISTERS) * times(indices)
    return total


def own_cycles(node: Node, uses: Counter[Node]) -> float:
    """The cost of one node for all values of its indices, its arguments given.

    uses: how often each node is used.
    """
    if isinstance(node, Call):
        if node.op in _FREE or node.type != FLOAT or _fuses(node, uses):
            return 0.0
        row = OPS.get(node.op)
        return (row.cost if row else _UNKNOWN) * times(node.free)
    if isinstance(node, Load):
        return LOAD_COST * times(node.free)
    if isinstance(node, Reduce):
        return times({*node.free, *node.indices})
    if isinstance(node, Scatter):
        return MEMORY_COST * times(node.over)
    return 0.0


def _fuses(node: Call, uses: Counter[Node]) -> bool:
    """Does the node take its place in a fused multiply-add with an argument?"""
    if node.op not in ("add", "sub"):
        return False
    return any(
        isinstance(a, Call) and a.op == "mul" and uses[a] == 1 and a.free == node.free
        for a in node.args
    )


def times(indices: Iterable[Index]) -> float:
    """How many values the indices have together."""
    product = 1.0
    for i in indices:
        product *= i.extent.value if isinstance(i.extent, Const) else LENGTH
    return product
