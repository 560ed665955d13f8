"""Plans for targets with very many threads, one row each.

A thread has a few dozen registers for sums over its rows. Sums of more elements are
deferred: the threads of a block finish a tile of rows, keep what the sums need of them,
and then share out the elements. Values of serial steps live in memory, because the
threads of a block run different parts of such a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symgrad.graph import Const, Index, Node
from symgrad.schedule import cost
from symgrad.schedule.deferred import Deferred, take_out
from symgrad.schedule.legalise import (
    gather_form,
    hoist_factors,
    inline_arrays,
    legalise,
)
from symgrad.schedule.nest import Item, Loop, statements_in
from symgrad.schedule.pairs import by_rows
from symgrad.schedule.plan import Place, Plan, Step, make_plan
from symgrad.schedule.products import PRODUCT, split_phases
from symgrad.schedule.rows import over_all_rows
from symgrad.schedule.statements import Statement

REGISTER_SUMS = 48
"""Sums that a thread keeps in registers, all together."""

BESIDE_PRODUCTS = 12
"""As many where products of matrices need the registers, and keep all operands."""

KEPT_BYTES = 1 << 16
"""A row whose operands of deferred sums take more than this is not kept."""


def plan_for_threads(
    outputs: Sequence[Node], native: frozenset[str], hints: Mapping[str, int]
) -> Plan:
    """Schedule the closed nodes ``outputs``, one thread per row.

    native: the target's operations. hints: run-time lengths as far as known.
    """
    legal = legalise(outputs, native)
    plain = inline_arrays(gather_form(legal, hints), hints, picks=True)
    best = _planned(plain, hints)
    if _scatters(best):
        best = _better(best, _planned(by_rows(legal, hints), hints))
    if len({step.row for step in best.passes}) > 1:
        best = _better(best, _planned(over_all_rows(plain), hints))
    _push_down(best)
    for step in best.steps:
        if step.row is None:
            _move_to_memory(best, step)
    split_phases(best, hints)
    return best


def _planned(roots: Sequence[Node], hints: Mapping[str, int]) -> Plan:
    return make_plan(hoist_factors(roots), hints, 1, deferral=defer_for_threads)


def _scatters(plan: Plan) -> int:
    return sum(s.kind == "scatter" for s in plan.work)


def _better(old: Plan, new: Plan) -> Plan:
    """The plan with fewer passes and no more scatters, or with fewer scatters in as
    many passes."""

    def cost_of(plan: Plan) -> tuple[int, int]:
        return len(plan.passes), _scatters(plan)

    fits = all(n <= o for n, o in zip(cost_of(new), cost_of(old), strict=True))
    return new if fits and cost_of(new) < cost_of(old) else old


def defer_for_threads(
    items: Sequence[Item], row: Index, hints: Mapping[str, int], lanes: int
) -> tuple[list[Item], list[Deferred]]:
    """Take the sums out of the loop over ``row`` that do not fit in registers."""
    order = statements_in(items)
    inside = set(order)
    sums = [s for s in order if s.kind == "reduce" and row in s.bound and s.domain]
    sums.sort(key=lambda s: elements(s.domain, hints))
    found: dict[Statement, Deferred] = {}
    products = any(_is_large(s, row, hints) for s in order)
    most, taken = BESIDE_PRODUCTS if products else REGISTER_SUMS, 0
    for s in sums:
        count = elements(s.domain, hints)
        static = all(not cost.is_dynamic(i) for i in s.domain)
        if static and taken + count <= most:
            taken += count
            continue
        operands = [o for o in s.pointwise if row in o.domain and o in inside]
        kept = sum(
            elements([i for i in o.domain if i is not row], hints) for o in operands
        )
        if 8 * kept <= KEPT_BYTES:
            found[s] = Deferred(s, s.domain, operands, [])
    return take_out(items, found)


def _is_large(s: Statement, row: Index, hints: Mapping[str, int]) -> bool:
    """Whether a sum in every row is likely to be a product (products.py)."""
    if s.kind != "reduce" or row in s.bound or row not in s.domain:
        return False
    inner = [i for i in (*s.domain, *s.bound) if i is not row]
    return elements(inner, hints) >= PRODUCT


def elements(indices: Sequence[Index], hints: Mapping[str, int]) -> int:
    """The number of values that the indices take together."""
    total = 1
    for i in indices:
        total *= max(1, cost.length(i.extent, hints))
    return total


def fits_registers(place: Place) -> bool:
    """Whether a sum of several elements is small enough, of a size known now."""
    total = 1
    for extent in place.shape:
        if not isinstance(extent, Const):
            return False
        total *= int(extent.value)
    return total <= REGISTER_SUMS


REPEATED_COST = 100.0
"""Numbers that cost so much together are computed by every thread."""

# --- serial steps ---------------------------------------------------------------------


def _move_to_memory(plan: Plan, step: Step) -> None:
    """Every value that another part of the step may read gets memory of its own, one
    element for each turn of the loops around it."""
    for s, path in _paths(step.items):
        place = step.local.get(s)
        if place is not None and s.domain:
            continue  # read in the same loops only
        place = place or plan.work.get(s)
        if place is None or s.kind not in ("let", "reduce"):
            continue
        place.memory = "work"
        place.axes = tuple(loop for loop in path if loop in s.domain)
        place.shape = tuple(i.extent for i in place.axes)
        step.local.pop(s, None)
        plan.work[s] = place


def _push_down(plan: Plan) -> None:
    """Move what comes before the first pass, and the pass does not need, behind it:
    the block that finishes the pass does it, and a launch is saved."""
    steps = plan.steps
    if len(steps) < 2 or steps[0].row is not None:
        return
    first, rows = steps[0], steps[1]
    users = [*statements_in(rows.items), *(d.statement for d in rows.deferred)]
    needed = _needed(users)
    kept = [i for i in first.items if not needed.isdisjoint(statements_in([i]))]
    moved = [i for i in first.items if i not in kept]
    if not moved:
        return
    if len(steps) == 2 or steps[2].row is not None:
        steps.insert(2, Step([]))
    after = steps[2]
    after.items[:0] = moved
    for s in statements_in(moved):
        if s in first.local:
            after.local[s] = first.local.pop(s)
    first.items = kept
    if not kept:
        del steps[0]


def _needed(users: Sequence[Statement]) -> set[Statement]:
    """Statements and all that they use."""
    found: set[Statement] = set()
    stack = list(users)
    while stack:
        s = stack.pop()
        if s not in found:
            found.add(s)
            stack += [*s.pointwise, *s.whole]
    return found


def is_repeatable(step: Step) -> bool:
    """Whether a serial step is a few numbers, which every thread may compute for itself
    rather than to wait for another launch."""
    total = 0.0
    for item in step.items:
        if isinstance(item, Loop) or item.kind != "let":
            return False
        total += item.cost
    return total <= REPEATED_COST


def _paths(items: Sequence[Item]) -> list[tuple[Statement, tuple[Index, ...]]]:
    """All statements with the loops around them."""
    found: list[tuple[Statement, tuple[Index, ...]]] = []
    stack: list[tuple[Item, tuple[Index, ...]]] = [(i, ()) for i in reversed(items)]
    while stack:
        item, path = stack.pop()
        if isinstance(item, Loop):
            inner = (*path, item.index)
            stack.extend((i, inner) for i in reversed(item.items))
        else:
            found.append((item, path))
    return found


def is_parallel(plan: Plan, step: Step, loop: Loop) -> bool:
    """Whether the turns of a loop of a serial step are independent of each other."""
    for s in loop.statements():
        if loop.index not in s.domain:
            return False
        place = step.local.get(s) or plan.work.get(s)
        if place is None or place.memory == "register" or s.kind == "array":
            continue
        if loop.index not in place.axes:
            return False
    return True
