"""Sums over a few rows less than an array has run over all of its rows.

The terms of ``sum((x[1:] - x[:-1])**2)`` are one less than the elements of its
gradient: two loops that read the same. With a condition on the last term both are one.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgrad import graph
from symgrad.graph import Array, Call, Const, Index, Load, Node, Reduce
from symgrad.schedule import cost


def over_all_rows(roots: Sequence[Node]) -> list[Node]:
    """``roots``, the closed sums in them over the rows of the results."""
    longest = _lengths(roots)
    done: dict[Node, Node] = {}
    for node in graph.walk(roots):
        new = graph.rebuild(node, tuple(done[c] for c in node.children))
        done[node] = _extended(new, longest) if isinstance(new, Reduce) else new
    return [done[root] for root in roots]


def _lengths(roots: Sequence[Node]) -> dict[Node, Node]:
    """The longest first axis of the results, by what the length is derived from."""
    longest: dict[Node, tuple[int, Node]] = {}
    for root in roots:
        if isinstance(root, Array) and cost.is_dynamic(root.indices[0]):
            extent = root.shape[0]
            base, more = _affine(extent)
            if base not in longest or longest[base][0] < more:
                longest[base] = more, extent
    return {base: extent for base, (_, extent) in longest.items()}


def _affine(extent: Node) -> tuple[Node, int]:
    """``n + c`` as (n, c)."""
    if isinstance(extent, Call) and extent.op == "add":
        base, more = extent.args
        if isinstance(more, Const):
            return base, int(more.value)
    return extent, 0


def _extended(node: Reduce, longest: dict[Node, Node]) -> Node:
    if node.kind != "sum" or node.free:
        return node
    rows = [i for i in node.indices if cost.is_dynamic(i)]
    if len(rows) != 1:
        return node
    (row,) = rows
    base, more = _affine(row.extent)
    extent = longest.get(base)
    if extent is None or extent is row.extent or _affine(extent)[1] < more:
        return node
    if not _may_run_on(node.body, row, extent):
        return node
    (longer,) = graph.canonical_indices([extent], node.body.free)
    body = graph.substitute(node.body, {row: longer})
    body = graph.call("where", longer < row.extent, body, 0.0)
    return graph.reduce_(
        "sum", [longer, *(i for i in node.indices if i is not row)], body
    )


def _may_run_on(body: Node, row: Index, extent: Node) -> bool:
    """Whether all that is read at ``row`` itself has ``extent`` rows. What is read at a
    shifted row is guarded by the code generator."""
    for node in graph.walk(body):
        if not isinstance(node, Load) or row not in node.free:
            continue
        for i, length in zip(node.indices, node.array.shape, strict=True):
            shifted = _affine(i)[0] is row and i is not row
            if row in i.free and not shifted and not (i is row and length is extent):
                return False
    return True
