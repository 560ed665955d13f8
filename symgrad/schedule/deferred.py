"""Sums over rows with many elements: deferred to the end of a tile of rows.

The gradient of a matrix product, ``G[j, k] = sum_i X[i, j] * D[i, k]``, updates every
element of G for every row. Done block by block with one lane per row, all of G with its
lanes streams through the caches each time. Instead the rows of a tile are finished
first, what the sum needs of them is kept, and then each element of G is summed over the
tile in a register: with lanes along ``j`` or ``k``, as in any matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from symgrad import graph
from symgrad.graph import Index, Input, Load, Node
from symgrad.schedule import cost
from symgrad.schedule.nest import Item, Loop, statements_in
from symgrad.schedule.statements import Statement

MANY_ELEMENTS = 256
"""Sums of fewer elements are kept per lane in the first-level cache."""

LONG_ROW = 96
"""Rows of fewer elements are transposed once for all that reads them; longer ones are
read as they lie, with lanes along the row, by sums along them and sums of them."""

MATRIX_VECTORS, VECTOR_VECTORS = 2, 4
"""Vectors that run together: a matrix has other elements to add to in between."""


@dataclass(eq=False)
class Deferred:
    """A sum over the rows of a tile.

    axes: its domain, the lane index last. operands: values kept for the tile.
    transposed: those of them that are read along the lanes.
    vectors: hardware vectors along the lane index that run together.
    """

    statement: Statement
    axes: tuple[Index, ...]
    operands: list[Statement]
    transposed: list[Statement]
    vectors: int = 1

    @property
    def lane(self) -> Index:
        """The index that the lanes run along."""
        return self.axes[-1]


Deferral = Callable[
    [Sequence[Item], Index, Mapping[str, int], int],
    tuple[list[Item], list[Deferred]],
]
"""(items, row, hints, lanes) -> the items without the deferred sums, and those."""


def defer(
    items: Sequence[Item], row: Index, hints: Mapping[str, int], lanes: int
) -> tuple[list[Item], list[Deferred]]:
    """Take the sums that are worth it out of the loop over ``row``."""
    found: dict[Statement, Deferred] = {}
    inside = set(statements_in(items))
    streams = {s.stream[0] for s in inside if s.stream is not None}
    for s in inside - streams:  # what is relative to an extremum needs it row by row
        deferred = _deferred(s, row, inside, hints, lanes)
        if deferred is not None:
            found[s] = deferred
    return take_out(items, found)


def take_out(
    items: Sequence[Item], found: Mapping[Statement, Deferred]
) -> tuple[list[Item], list[Deferred]]:
    """The loop nests without the ``found`` sums, and those in order."""
    if not found:
        return list(items), []
    kept = [found[s] for s in statements_in(items) if s in found]
    return [_without(item, found) for item in items], kept


def _without(item: Item, gone: Mapping[Statement, Deferred]) -> Item:
    """The loop nest with some statements, and the loops around nothing, removed."""
    if not isinstance(item, Loop):
        return item
    rest: list[Item] = []
    for inner in item.items:
        if isinstance(inner, Loop):
            thinned = _without(inner, gone)
            assert isinstance(thinned, Loop)
            if thinned.items:
                rest.append(thinned)
        elif inner not in gone:
            rest.append(inner)
    return Loop(item.index, rest)


def _deferred(
    s: Statement,
    row: Index,
    inside: set[Statement],
    hints: Mapping[str, int],
    lanes: int,
) -> Deferred | None:
    if s.kind != "reduce" or s.bound != (row,) or not s.domain:
        return None
    if s.stream is not None:
        return None
    if len(s.domain) == 1 and not _adds_up_rows(s, row):
        return None
    elements = 1
    for i in s.domain:
        elements *= max(1, cost.length(i.extent, hints))
    if elements < (LONG_ROW if len(s.domain) == 1 else MANY_ELEMENTS):
        return None
    operands = [o for o in s.pointwise if row in o.domain and o in inside]
    best: tuple[int, int, Deferred] | None = None
    for lane in s.domain:
        transposed = _transposed(s, lane, row, operands)
        size = cost.length(lane.extent, hints)
        if transposed is None or size < lanes:
            continue
        if best is None or (len(transposed), -size) < best[:2]:
            axes = (*(i for i in s.domain if i is not lane), lane)
            most = MATRIX_VECTORS if len(axes) > 1 else VECTOR_VECTORS
            vectors = max(1, min(most, size // lanes))
            chosen = Deferred(s, axes, operands, transposed, vectors)
            best = (len(transposed), -size, chosen)
    return best[2] if best is not None else None


def _transposed(
    s: Statement, lane: Index, row: Index, operands: Sequence[Statement]
) -> list[Statement] | None:
    """The operands to transpose for lanes along ``lane``; None if it cannot be."""
    if not all(_reads_along(node, lane) for node in loads_of(s)):
        return None
    along = [o for o in operands if lane in o.domain]
    if any(set(o.domain) != {row, lane} for o in along):
        return None
    if any(lane in o.domain and row in o.domain for o in s.pointwise if o not in along):
        return None
    return along


def _adds_up_rows(s: Statement, row: Index) -> bool:
    """Whether a sum to a vector reads whole rows of an input."""
    return any(row in n.free and s.domain[0] in n.free for n in loads_of(s))


def loads_of(s: Statement) -> list[Load]:
    """The loads that ``s`` makes itself."""
    stops = {o.node for o in (*s.pointwise, *s.whole)}

    def into(node: Node) -> tuple[Node, ...]:
        return () if node in stops else node.children

    found = graph.walk(s.value, into)
    return [n for n in found if isinstance(n, Load) and n not in stops]


def _reads_along(node: Load, lane: Index) -> bool:
    """Whether consecutive lanes read consecutive elements, or all the same one."""
    if lane not in node.free:
        return True
    others = node.indices[:-1]
    return (
        isinstance(node.array, Input)
        and node.indices[-1] is lane
        and not any(lane in i.free for i in others)
    )
