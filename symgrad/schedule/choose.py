"""Several ways to schedule a kernel, and the cheapest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symgrad import graph
from symgrad.graph import Input, Load, Node
from symgrad.schedule import cost
from symgrad.schedule.feedback import without_feedback
from symgrad.schedule.legalise import (
    gather_form,
    hoist_factors,
    inline_arrays,
    legalise,
)
from symgrad.schedule.nest import statements_in
from symgrad.schedule.pairs import by_rows
from symgrad.schedule.plan import Plan, Step, make_plan
from symgrad.schedule.rows import over_all_rows

MORE_WORK = 2.0
"""A pass less is worth this many times the arithmetic, at most."""

UPDATE_COST = {"register": 0.0, "lanes": 2.0, "tiled": 0.0, "folded": 12.0}
"""Cycles of an update of a sum over rows, beyond the addition."""


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
    plain = inline_arrays(gather_form(legal, hints), hints, picks=True)
    best = _Candidate(plain, hints, lanes)

    def better(roots: list[Node], more_work: float) -> _Candidate | None:
        """These roots, if they take fewer passes or less work."""
        if roots == best.roots:
            return None
        new = _Candidate(roots, hints, lanes)
        return new if new.beats(best, more_work) else None

    if any(s.kind == "scatter" for s in best.plan.work):
        best = better(by_rows(legal, hints), 1.0) or best
    if len({step.row for step in best.plan.passes}) > 1:
        best = better(over_all_rows(best.roots), MORE_WORK) or best
    apart = without_feedback(best.roots, hints)
    chosen = better(apart.roots, MORE_WORK)
    if chosen is not None:
        chosen.plan.firsts = apart.firsts
        return chosen.plan
    return best.plan


class _Candidate:
    """A way to schedule the kernel, and what it is expected to cost."""

    def __init__(self, roots: list[Node], hints: Mapping[str, int], lanes: int) -> None:
        self.roots = roots
        self.plan = plan = make_plan(hoist_factors(roots), hints, lanes)
        self.tables = _tables_read(roots)
        self.rows = sum(_rows(step, hints) for step in plan.passes)
        self.work = sum(
            _rows(step, hints) * cost_per_row(step, hints) for step in plan.passes
        )

    def beats(self, old: _Candidate, more_work: float) -> bool:
        """Whether it reads fewer rows for at most ``more_work`` times the work, or as
        many for less."""
        if self.tables > old.tables or self.rows > old.rows:
            return False
        if self.rows == old.rows:
            return self.work < old.work
        return self.work <= more_work * old.work


def _tables_read(roots: Sequence[Node]) -> int:
    """How often inputs that are long in two dimensions are read."""
    return sum(
        isinstance(node, Load)
        and isinstance(node.array, Input)
        and sum(any(map(cost.is_dynamic, i.free)) for i in node.indices) > 1
        for node in graph.walk(roots)
    )


def _rows(step: Step, hints: Mapping[str, int]) -> int:
    assert step.row is not None
    return cost.length(step.row.extent, hints)


def cost_per_row(step: Step, lengths: Mapping[str, int]) -> float:
    """Estimated cost of one row of a pass, or of a whole serial step."""
    total = 0.0
    updates = {p.statement: UPDATE_COST[p.sums or "register"] for p in step.sums}
    deferred = [d.statement for d in step.deferred]
    for s in (*statements_in(step.items), *deferred):
        turns = 1.0
        for i in s.loops:
            if i is not step.row:
                turns *= max(1, cost.length(i.extent, lengths))
        total += (s.cost + 1.0 + updates.get(s, 0.0)) * turns
    return total
