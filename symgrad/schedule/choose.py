"""Several ways to schedule a kernel, and the cheapest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symgrad.graph import Node
from symgrad.schedule import cost
from symgrad.schedule.feedback import without_feedback
from symgrad.schedule.legalise import gather_form, inline_arrays, legalise
from symgrad.schedule.nest import statements_in
from symgrad.schedule.plan import Plan, Step, make_plan

MORE_WORK = 2.0
"""A pass less is worth this many times the arithmetic, at most."""


def schedule(
    outputs: Sequence[Node],
    native: frozenset[str],
    hints: Mapping[str, int],
    lanes: int = 8,
) -> Plan:
    """The plan that is expected to be fastest, of the closed nodes ``outputs``.

    native: the target's operations. hints: run-time lengths as far as known. lanes:
    rows per vector.
    """
    legal = legalise(outputs, native)
    plain = inline_arrays(gather_form(legal, hints), hints)
    best = make_plan(plain, hints, lanes)
    apart = without_feedback(plain, hints)
    if apart.roots != plain:
        other = make_plan(apart.roots, hints, lanes)
        if _is_better(other, best, hints):
            best = other
            best.firsts = apart.firsts
    return best


def _is_better(new: Plan, old: Plan, hints: Mapping[str, int]) -> bool:
    """Whether ``new`` reads the rows less often, without much more work."""
    rows = [sum(_rows(step, hints) for step in plan.passes) for plan in (new, old)]
    work = [work_of(plan, hints) for plan in (new, old)]
    return rows[0] < rows[1] and work[0] <= MORE_WORK * work[1]


def _rows(step: Step, hints: Mapping[str, int]) -> int:
    assert step.row is not None
    return cost.length(step.row.extent, hints)


def work_of(plan: Plan, hints: Mapping[str, int]) -> float:
    """The cost of all passes together."""
    return sum(_rows(step, hints) * cost_per_row(step, hints) for step in plan.passes)


def cost_per_row(step: Step, lengths: Mapping[str, int]) -> float:
    """Estimated cost of one row of a pass, or of a whole serial step."""
    total = 0.0
    for s in statements_in(step.items):
        turns = 1.0
        for i in s.loops:
            if i is not step.row:
                turns *= max(1, cost.length(i.extent, lengths))
        total += (s.cost + 1.0) * turns
    return total
