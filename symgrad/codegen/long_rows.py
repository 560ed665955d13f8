"""Which sums run along long rows of the data: see row_sums.py for how."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from symgrad import graph
from symgrad.codegen.bounds import provably_inside
from symgrad.codegen.terms import kind_of
from symgrad.graph import Call, Const, Index, Input, Load, Node, Size
from symgrad.schedule.deferred import LONG_ROW
from symgrad.schedule.statements import Statement


def is_long_sum(
    s: Statement,
    row: Index | None,
    contiguous: Collection[str],
    of: Mapping[Node, Statement],
) -> bool:
    """Whether ``s`` adds up long rows of arrays that are contiguous.

    This depends on the formula alone, so that values that are alike have the same bits
    in all passes. What is added must read elements of the current row, and must not
    compute anything that depends on the row but not on the element.
    """
    if row is None or s.kind != "reduce" or kind_of(s) != "sum" or s.running:
        return False
    if s.domain != (row,) or len(s.bound) != 1 or s.stream is not None:
        return False
    (along,) = s.bound
    extent = along.extent
    if isinstance(extent, Const) and extent.value < LONG_ROW:
        return False
    stored = s.pointwise + s.whole
    if any(row in o.node.free or along in o.node.free for o in stored):
        return False
    parts = graph.walk([s.value], lambda n: () if _ends(n, of) else n.children)
    loads = [n for n in parts if isinstance(n, Load) and n not in of]
    rows = [n for n in loads if row in n.free and along in n.free]
    computed = [n for n in parts if not isinstance(n, Load) and n not in of]
    return (
        bool(rows)
        and all(_is_plain(n, row, along, contiguous) for n in loads)
        and all(_is_cheap(n, row, along) for n in computed)
    )


def _ends(node: Node, of: Mapping[Node, Statement]) -> bool:
    return isinstance(node, Load) or node in of


def _is_plain(
    load: Load, row: Index, along: Index, contiguous: Collection[str]
) -> bool:
    """Whether a vector along the row is one load: the row and the position in it are
    plain indices, the position the last one."""
    array = load.array
    if not isinstance(array, Input) or array.name not in contiguous:
        return False
    for axis, i in enumerate(load.indices):
        if row in i.free or along in i.free:
            last = axis == len(load.indices) - 1
            if not (i is row or (i is along and last)):
                return False
        if not provably_inside(i, array.shape[axis]):
            return False
    return True


def _is_cheap(node: Node, row: Index, along: Index) -> bool:
    """Whether lanes along the row save work: what depends on the row only would be
    computed row by row."""
    if isinstance(node, Const | Size):
        return True
    return isinstance(node, Call) and not (row in node.free and along not in node.free)
