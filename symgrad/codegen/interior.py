"""Blocks of rows where every shifted row is there: code without masks.

A pass over a stencil, ``x[1:] - x[:-1]``, asks of every row whether its neighbours are
in range. That takes as many instructions as the rest. For the blocks in the interior,
all but the first and the last, the answers are known: the body of the loop is written
twice, and one of them has no masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from symgrad import graph
from symgrad.codegen.bounds import provably_inside
from symgrad.codegen.llvm_text import Value
from symgrad.codegen.sums import SumWriter
from symgrad.graph import Call, Const, Index, Load, Node, Size
from symgrad.schedule.nest import Loop
from symgrad.schedule.plan import Plan
from symgrad.schedule.statements import evaluated, shift

FEW_STATEMENTS = 16
"""Bodies of more are not written twice."""


@dataclass
class Interior:
    """Where all conditions on the row index hold.

    conditions, guards: those that hold there, and the shifted indices with the extents
    they are below.
    first: the row is at least each of these. last: and below each of these.
    """

    conditions: list[Node] = field(default_factory=list)
    guards: list[tuple[Node, Node]] = field(default_factory=list)
    first: list[Node] = field(default_factory=list)
    last: list[Node] = field(default_factory=list)


def interior_of(loop: Loop, plan: Plan) -> Interior | None:
    """The interior of a loop over rows; None where there is nothing to gain, or the
    body is not small and plain."""
    statements = [s for s in loop.items if not isinstance(s, Loop)]
    if len(statements) < len(loop.items) or len(statements) > FEW_STATEMENTS:
        return None
    found, row = Interior(), loop.index
    for s in statements:
        for node in evaluated(s, plan.of):
            if isinstance(node, Load):
                _note_load(found, node, row)
            elif isinstance(node, Call):
                _note_condition(found, node, row)
    return found if found.guards or found.conditions else None


def _note_load(found: Interior, load: Load, row: Index) -> None:
    for i, extent in zip(load.indices, load.array.shape, strict=True):
        ahead = shift(i, row)
        if ahead is None or provably_inside(i, extent) or (i, extent) in found.guards:
            continue
        found.guards.append((i, extent))
        found.first.append(graph.const(-ahead))
        found.last.append(graph.fold_int("add", extent, graph.const(-ahead)))


def _note_condition(found: Interior, node: Call, row: Index) -> None:
    """``row + shift`` compared with the same number for all rows."""
    if node.op not in ("lt", "le", "gt", "ge") or node in found.conditions:
        return
    left, limit = node.args
    ahead = shift(left, row)
    if ahead is None or not all(
        isinstance(n, Const | Size | Call) and n.type == graph.INT
        for n in graph.walk(limit)
    ):
        return
    beyond = node.op in ("le", "gt")  # the limit itself is inside, or is not
    limit = graph.fold_int("add", limit, graph.const(beyond - ahead))
    (found.last if node.op in ("lt", "le") else found.first).append(limit)
    found.conditions.append(node)


def in_two_versions(
    writer: SumWriter,
    interior: Interior,
    end: Value,
    body: Callable[[], Sequence[Value]],
) -> list[Value]:
    """``body()`` for blocks in the interior and for the others, inside of the loop over
    blocks; what it returns."""
    scope, base = writer.scopes[-1], writer.row_base
    assert base is not None and writer.mask is not None
    inside = _is_inside(writer, interior, base, end)
    kept, mask = dict(scope.values), writer.mask

    def plain() -> Sequence[Value]:
        # not a literal: what is computed from it holds in this version only
        always = Value("splat (i1 true)", "i1", writer.lanes)
        writer.mask = always
        for node in interior.conditions:
            scope.values[node] = always
        for i, extent in interior.guards:
            scope.values["guard", i, extent] = always
        return body()

    def masked() -> Sequence[Value]:
        writer.mask, scope.values = mask, dict(kept)
        return body()

    results = writer.home().branch_either(inside, plain, masked)
    scope.values = kept
    return results


def _is_inside(writer: SumWriter, interior: Interior, base: Value, end: Value) -> Value:
    """Whether the whole block is; limits are compared once per call."""
    first, last = [], [end]
    outer = len(writer.scopes) - 2
    for node in interior.first:
        first.append(writer.placed(node)[0])
    for node in interior.last:
        last.append(writer.placed(node)[0])
    emitter = writer.at(outer)
    low, high = emitter.const(0, "i64"), last[0]
    for value in first:
        low = emitter.select(emitter.icmp("sgt", value, low), value, low)
    for value in last[1:]:
        high = emitter.select(emitter.icmp("slt", value, high), value, high)
    emitter = writer.home()
    after = emitter.binary("add", base, emitter.const(writer.lanes, "i64"))
    return emitter.binary(
        "and", emitter.icmp("sge", base, low), emitter.icmp("sle", after, high)
    )
