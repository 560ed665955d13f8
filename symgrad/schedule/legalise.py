"""Rewrite a graph into what kernels can run directly.

- ``logsumexp`` and ``norm`` become sums around their maximum or square;
- operations that the target lacks become their ``expand`` form (ops.py);
- computed arrays that are cheap to recompute are inlined where they are read, because a
  stored array costs a pass over memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symgrad import graph, ops
from symgrad.graph import Array, Call, Index, Load, Node, Reduce
from symgrad.schedule import cost

INLINE_COST = 60.0
"""An array cheaper than this is recomputed where it is read rather than stored."""


def legalise(roots: Sequence[Node], native: frozenset[str]) -> list[Node]:
    """The roots with only ``native`` operations and primitive reductions."""
    memo: dict[Node, Node] = {}

    def rewrite(node: Node) -> Node:
        if isinstance(node, Call):
            return _legal_call(node, native)
        if isinstance(node, Reduce) and node.kind == "logsumexp":
            return _expanded(_log_sum_exp(node), (node.body,), native)
        if isinstance(node, Reduce) and node.kind == "norm":
            squares = graph.reduce_("sum", node.indices, node.body * node.body)
            return graph.call("sqrt", squares)
        return node

    return [graph.transform(root, rewrite, memo) for root in roots]


def _legal_call(node: Call, native: frozenset[str]) -> Node:
    if node.op == "stop_gradient":
        return node.args[0]
    if node.op in native:
        return node
    expand = ops.OPS[node.op].expand
    if expand is None:
        raise NotImplementedError(f"the target has no {node.op} and no expansion of it")
    return _expanded(expand(*node.args), node.args, native)


def _expanded(node: Node, legal: Sequence[Node], native: frozenset[str]) -> Node:
    """Legalise an expansion, whose ``legal`` parts already are."""
    memo: dict[Node, Node] = {part: part for part in legal}
    for part in legal:
        memo.update((n, n) for n in graph.walk(part))

    def rewrite(inner: Node) -> Node:
        return _legal_call(inner, native) if isinstance(inner, Call) else inner

    return graph.transform(node, rewrite, memo)


def _log_sum_exp(node: Reduce) -> Node:
    """max + log(sum(exp(body - max))), the maximum replaced by 0 where it is infinite.

    Source: Blanchard, Higham & Higham, IMA J. Numer. Anal. 41 (2021) 2311.
    """
    top = graph.reduce_("max", node.indices, node.body)
    finite = graph.call("isfinite", top, type=graph.BOOL)
    shift = graph.call("where", finite, top, 0.0)
    total = graph.reduce_("sum", node.indices, graph.call("exp", node.body - shift))
    return shift + graph.call("log", total)


def inline_arrays(
    roots: Sequence[Node], hints: Mapping[str, int] | None = None
) -> list[Node]:
    """Replace reads of computed arrays by their elements where that is cheaper.

    Always where the array is read at its own indices, or in one place under a plain
    renaming; otherwise if recomputing costs less than INLINE_COST.
    """
    reads: dict[Array, set[tuple[Node, ...]]] = {}
    for node in graph.walk(roots):
        if isinstance(node, Load) and isinstance(node.array, Array):
            reads.setdefault(node.array, set()).add(node.indices)
    costs = cost.total_costs(roots, hints)
    done: dict[Node, Node] = {}
    for node in graph.walk(roots):
        new = graph.rebuild(node, tuple(done[c] for c in node.children))
        if isinstance(node, Load) and isinstance(node.array, Array):
            assert isinstance(new, Load) and isinstance(new.array, Array)
            once = len(reads[node.array]) == 1 and _plain(node.indices)
            if once or _identity(node) or costs[node.array] < INLINE_COST:
                array = new.array
                mapping = dict(zip(array.indices, new.indices, strict=True))
                new = graph.substitute(array.body, mapping)
        done[node] = new
    return [done[root] for root in roots]


def _identity(node: Load) -> bool:
    assert isinstance(node.array, Array)
    return node.indices == node.array.indices


def _plain(indices: Sequence[Node]) -> bool:
    """Whether the indices are distinct bound variables."""
    return len(set(indices)) == len(indices) and all(
        isinstance(i, Index) for i in indices
    )
