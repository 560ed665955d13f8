"""Passes whose lanes run along the inner loop: grids, and elementwise work on matrices.

Lanes run along the rows of a pass as a rule. Where every value is an element of a row,
and nothing is summed row by row, it is better to read the rows as they lie in memory:
one row after the other, a vector of neighbours at a time. Shifted rows (``u[1:]``) need
no gathers then, and whole ones no transposition.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from symgrad.graph import Index, Input, Load, Node
from symgrad.schedule import cost
from symgrad.schedule.nest import Loop, statements_in
from symgrad.schedule.statements import Statement, evaluated, shift

MANY_BLOCKS = 4
"""Rows of fewer vectors leave too many lanes empty."""


def inner_lanes(
    rows: Loop,
    registers: Collection[Statement],
    of: Mapping[Node, Statement],
    hints: Mapping[str, int],
    lanes: int,
) -> Index | None:
    """The index that lanes run along inside of each row; None: along the rows.

    registers: the values of the pass that are kept in registers.
    """
    inner = {item.index if isinstance(item, Loop) else None for item in rows.items}
    if len(inner) != 1:
        return None
    (along,) = inner
    if along is None or cost.length(along.extent, hints) < MANY_BLOCKS * lanes:
        return None
    nested = any(isinstance(i, Loop) for loop in rows.items for i in loop.items)  # type: ignore[union-attr]
    statements = statements_in(rows.items)
    if nested or not all(s.kind == "output" or s in registers for s in statements):
        return None
    return along if all(_is_elementwise(s, along, of) for s in statements) else None


def _is_elementwise(s: Statement, along: Index, of: Mapping[Node, Statement]) -> bool:
    """Whether a statement belongs to one element of a row, and reads neighbours."""
    if s.kind == "output":
        *others, last = s.targets
        if last is not along or any(along in t.free for t in others):
            return False
    elif s.kind not in ("let", "reduce") or (s.kind == "reduce" and s.domain):
        return False
    if s.stream is not None or s.running or s.whole:
        return False
    loads = (n for n in evaluated(s, of) if isinstance(n, Load))
    return all(_is_near(load, along) for load in loads)


def _is_near(load: Load, along: Index) -> bool:
    """Whether neighbours along the row are neighbours in memory, or all the same."""
    if along not in load.free:
        return True
    *others, last = load.indices
    if not isinstance(load.array, Input) or any(along in i.free for i in others):
        return False
    return shift(last, along) is not None
