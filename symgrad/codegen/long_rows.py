"""Which long rows of the data are not copied: see row_sums.py and streamed_rows.py."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from symgrad import graph
from symgrad.codegen.bounds import provably_inside
from symgrad.codegen.terms import kind_of
from symgrad.graph import Call, Const, Index, Input, Load, Node, Size
from symgrad.schedule.deferred import LONG_ROW
from symgrad.schedule.nest import statements_in
from symgrad.schedule.plan import Step
from symgrad.schedule.statements import Statement, evaluated


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


FEW_SUMS = 12
"""Sums that one loop along the rows can add to in registers."""


def streamed_inputs(
    step: Step, tiles: Collection[Input], of: Mapping[Node, Statement]
) -> frozenset[Input]:
    """Those of the ``tiles`` that one loop reads from its beginning to its end, once
    for each block of rows."""
    loops: dict[Input, set[tuple[Node, ...]]] = {}
    users: dict[Input, set[Statement]] = {}
    for s in statements_in(step.items):
        for load in loads_within(s, of):
            if load.array in tiles:
                assert isinstance(load.array, Input)
                loops.setdefault(load.array, set()).add(load.indices)
                users.setdefault(load.array, set()).add(s)
    found = {a for a in tiles if _is_one_loop(step, loops[a], users[a])}
    indices = [i for a in found for _, i in loops[a]]
    return frozenset(a for a in found for _, i in loops[a] if indices.count(i) == 1)


def _is_one_loop(
    step: Step, reads: set[tuple[Node, ...]], users: set[Statement]
) -> bool:
    (read, *others) = reads
    if others or len(read) != 2 or not isinstance(along := read[1], Index):
        return False
    if isinstance(along.extent, Const) and along.extent.value < LONG_ROW:
        return False
    sums = 0
    for s in users:
        if s.kind != "reduce" or s.bound != (along,) or step.row not in s.domain:
            return False
        count = 1
        for i in s.domain:
            if i is not step.row:
                if not isinstance(i.extent, Const):
                    return False
                count *= int(i.extent.value)
        sums += count
    return sums <= FEW_SUMS


def loads_within(s: Statement, of: Mapping[Node, Statement]) -> list[Load]:
    """The elements of inputs that a statement reads itself."""
    return [
        n
        for n in evaluated(s, of)
        if isinstance(n, Load) and isinstance(n.array, Input)
    ]
