"""Which float64 parameters a float32 kernel converts before everything else.

Parameters come as float64, whatever the compute type. Most are read many times, as one
value for all rows, and are narrowed once per call. A long vector with an element for
each row would be read, written and read again for that: it is read where it is, and
narrowed in registers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from symgrad import graph
from symgrad.graph import Call, Const, Index, Input, Load, Node
from symgrad.schedule.nest import statements_in
from symgrad.schedule.plan import Plan, Step
from symgrad.schedule.statements import Statement

FEW_READS = 8
"""Different reads of an element up to which it is converted each time."""


def narrowed(plan: Plan, parameters: Sequence[Input]) -> list[Input]:
    """The parameters to convert in advance, in order."""
    return [p for p in parameters if not _is_read_in_place(plan, p)]


def _is_read_in_place(plan: Plan, parameter: Input) -> bool:
    reads: set[tuple[Step, Load]] = set()
    for step in plan.passes:
        for s, load in _loads(plan, step, parameter):
            if not _once_per_row(load, s, step):
                return False
            reads.add((step, load))
    return 0 < len(reads) <= FEW_READS


def _loads(
    plan: Plan, step: Step, parameter: Input
) -> Iterator[tuple[Statement, Load]]:
    """The statements of a pass that read ``parameter`` themselves."""
    for s in [*statements_in(step.items), *(d.statement for d in step.deferred)]:
        roots = s.node.children if s.kind == "let" else s.expressions
        for node in graph.walk(roots, lambda n: _inside(n, plan.of)):
            if isinstance(node, Load) and node.array is parameter:
                yield s, node
        if isinstance(s.node, Load) and s.node.array is parameter and s.kind == "let":
            yield s, s.node


def _inside(node: Node, of: Collection[Node]) -> Sequence[Node]:
    return () if node in of else node.children


def _once_per_row(load: Load, s: Statement, step: Step) -> bool:
    """Whether each turn reads another element, and lanes read consecutive ones."""
    *outer, last = load.indices or (graph.const(0),)
    row = step.row
    consecutive = last is row or (
        isinstance(last, Call)
        and last.op == "add"
        and last.args[0] is row
        and isinstance(last.args[1], Const)
    )
    plain = all(isinstance(i, Index) and i is not row for i in outer)
    return consecutive and plain and load.free == s.loops
