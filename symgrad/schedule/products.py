"""Matrix products in a loop over rows: all threads of a block work on them together.

A thread that takes a whole row reads the matrix of ``X @ W`` once for every row. A
block that finishes a tile of rows can do better: it goes through the work on a row in
*phases*, each for all rows of the tile. In a phase of a product every thread has a few
elements of the result, in registers, and what they are made of passes through the
memory that the threads share. What one phase leaves for another is kept for the tile.

Sums over the rows with two axes, ``X.T @ G``, are products as well; they come last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symgrad import graph
from symgrad.graph import Call, Index
from symgrad.schedule import cost
from symgrad.schedule.nest import Item, Loop, statements_in
from symgrad.schedule.phases import Elements, Phase, Product
from symgrad.schedule.plan import Plan, Step
from symgrad.schedule.statements import Statement

PRODUCT = 256
"""Multiplications per row from which on a product is shared out."""

LONG = 64
"""Turns from which on the product with a vector is: the rows of a matrix lie far apart,
and are read side by side like this."""

SUMS = 512
"""Elements of a sum over the rows that is worth it."""


def split_phases(plan: Plan, hints: Mapping[str, int]) -> None:
    """Find the products of every pass, and keep what phases leave to each other."""
    for number, step in enumerate(plan.steps):
        if step.row is not None and not _streams(step):
            _split(plan, step, number, hints)
            for deferred in step.deferred:
                product = _of_rows(plan, deferred.statement, deferred.axes, hints)
                if product is not None:
                    step.products[deferred.statement] = product


def _streams(step: Step) -> bool:
    """Whether there are sums relative to an extremum so far: row by row only."""
    return any(s.stream or s.running or s.unsettled for s in statements_in(step.items))


def _split(plan: Plan, step: Step, number: int, hints: Mapping[str, int]) -> None:
    rows = step.items[0]
    assert isinstance(rows, Loop)
    phases: list[Phase] = []
    for item in rows.items:
        for phase in _phases_of(plan, item, rows.index, hints):
            last = phases[-1] if phases else None
            if isinstance(last, Loop) and isinstance(phase, Loop):
                last.items += phase.items
            else:
                phases.append(phase)
    if not any(isinstance(phase, Product) for phase in phases):
        return
    crossing = _crossing(phases)
    if any(rows.index not in s.domain for s in crossing):
        return
    if step.tile is None:
        step.tile = graph.size(f"rows of a tile in step {number}")
    step.phases = phases
    for s in crossing:
        _keep(step, s)


def _phases_of(
    plan: Plan, item: Item, row: Index, hints: Mapping[str, int]
) -> list[Phase]:
    """One item of the loop over rows: its products, what is done to each of their
    elements, and the rest."""
    if not isinstance(item, Loop):
        return [Loop(row, [item])]
    vector = _vector_product(plan, item, row, hints)
    if vector is not None:
        return [vector]
    inside = set(item.statements())
    products, rest = _products_of(plan, item, row, hints, inside)
    if not products:
        return [Loop(row, [item])]
    known = {p.statement for p in products}
    elements: list[Item] = []
    others: list[Item] = []
    for part in rest:
        if _is_element(part, item.index, known, inside):
            assert isinstance(part, Statement)
            known.add(part)
            elements.append(part)
        else:
            others.append(part)
    phases: list[Phase] = [*products]
    if elements:
        phases.append(Elements(Loop(item.index, elements)))
    if others:
        phases.append(Loop(row, [Loop(item.index, others)]))
    return phases


def _is_element(
    part: Item, j: Index, known: set[Statement], inside: set[Statement]
) -> bool:
    """Whether a value needs only what there is when the products are done."""
    if not isinstance(part, Statement) or part.kind != "let" or j not in part.domain:
        return False
    return all(o in known for o in part.needed if o in inside)


def _products_of(
    plan: Plan,
    item: Loop,
    row: Index,
    hints: Mapping[str, int],
    inside: set[Statement],
) -> tuple[list[Product], list[Item]]:
    """The products among the sums of a loop, and all other items."""
    products: list[Product] = []
    rest: list[Item] = []
    for part in item.items:
        found: list[Product] = []
        if isinstance(part, Loop):
            work = _length(item.index, hints) * _length(part.index, hints)
            if work >= PRODUCT:
                found = _all_products(plan, part, row, item.index, inside)
        products += found
        if not found:
            rest.append(part)
    return products, rest


def _all_products(
    plan: Plan, sums: Loop, row: Index, across: Index, inside: set[Statement]
) -> list[Product]:
    """The sums of an inner loop as products of what is known before the outer one; none
    if one of them is anything else."""
    found: list[Product] = []
    for s in sums.items:
        if not isinstance(s, Statement) or not inside.isdisjoint(s.needed):
            return []
        product = _product(plan, s, row, across, sums.index)
        if product is None:
            return []
        found.append(product)
    return found


def _vector_product(
    plan: Plan, item: Loop, row: Index, hints: Mapping[str, int]
) -> Product | None:
    """The product of a long row with a vector."""
    if len(item.items) != 1 or _length(item.index, hints) < LONG:
        return None
    (s,) = item.items
    if not isinstance(s, Statement):
        return None
    return _product(plan, s, row, None, item.index)


def _length(i: Index, hints: Mapping[str, int]) -> int:
    return max(1, cost.length(i.extent, hints))


def _product(
    plan: Plan, s: Statement, down: Index, across: Index | None, along: Index
) -> Product | None:
    """A sum taken apart; None if it is not a product, or has other indices."""
    indices = {down} if across is None else {down, across}
    is_sum = isinstance(s.node, graph.Reduce) and s.node.kind == "sum"
    if not is_sum or s.bound != (along,) or set(s.domain) != indices:
        return None
    body, negative = s.value, False
    if isinstance(body, Call) and body.op == "neg" and body not in plan.of:
        body, negative = body.children[0], True
    if not plan.is_term(body) or body in plan.of:
        return None
    for left, right in (body.children, body.children[::-1]):
        apart = down in left.free and down not in right.free
        fits = across is None or across not in left.free
        if apart and fits and left.type == right.type == graph.FLOAT:
            return Product(s, down, across, along, left, right, negative)
    return None


def _of_rows(
    plan: Plan, s: Statement, axes: Sequence[Index], hints: Mapping[str, int]
) -> Product | None:
    """A sum over the rows: neighbouring elements, those of its last axis, go down."""
    if len(axes) != 2 or len(s.bound) != 1:
        return None
    across, down = axes
    if _length(down, hints) * _length(across, hints) < SUMS:
        return None
    return _product(plan, s, down, across, s.bound[0])


# --- what is left from one phase to another -------------------------------------------


def statements_of(phase: Phase) -> list[Statement]:
    """What a phase computes."""
    if isinstance(phase, Product):
        return [phase.statement]
    loop = phase.loop if isinstance(phase, Elements) else phase
    return loop.statements()


def _crossing(phases: Sequence[Phase]) -> list[Statement]:
    """Statements that are read in another phase."""
    phase_of = {s: n for n, phase in enumerate(phases) for s in statements_of(phase)}
    found: dict[Statement, None] = {}
    for s, number in phase_of.items():
        for other in s.pointwise:
            if phase_of.get(other, number) != number:
                found[other] = None
    # deferred sums read what is kept for them; a product has no registers to stay in
    for phase in phases:
        if isinstance(phase, Product):
            found[phase.statement] = None
    return list(found)


def _keep(step: Step, s: Statement) -> None:
    """Give a value memory for all rows of a tile, the rows fastest."""
    place = step.local.get(s)
    if place is None or place.kept:
        return  # in memory for all rows already
    axes = tuple(i for i in s.domain if i is not step.row)
    assert step.row is not None and step.tile is not None
    place.memory, place.kept, place.lanes = "scratch", True, False
    place.axes = (*axes, step.row)
    place.shape = (*(i.extent for i in axes), step.tile)
    if place not in step.scratch:
        step.scratch.append(place)
