"""Small parameters in shared memory.

All rows read the same parameters, in inner loops: each block copies small ones to the
memory that its threads share, in the compute type, before its first row.
"""

from __future__ import annotations

from collections.abc import Iterator

from symgrad import graph
from symgrad.codegen import operations
from symgrad.codegen.cuda_writer import ThreadWriter, count_of
from symgrad.codegen.llvm_text import Value
from symgrad.graph import Array, Const, Input, Load, Node, Scatter
from symgrad.schedule.nest import statements_in
from symgrad.schedule.plan import Place, Step

FEWEST = 4
MOST = 128
"""Elements of what is copied. Large matrices are those of products, which see to it
themselves; of those in between ptxas loads so much ahead, where loops are unrolled, that
it spills registers (attention to 50 keys, sm_75)."""

TOTAL = 1024
"""Doubles of shared memory for all together."""


def stage(writer: ThreadWriter) -> dict[Input | Place, Value]:
    """Copy what the rows of the pass read again and again; where it is then."""
    found: dict[Input | Place, Value] = {}
    room = TOTAL
    for source in _sources(writer):
        count = count_of(source.shape)
        doubles = -(-count // 2) * 2
        if FEWEST <= count <= MOST and doubles <= room:
            room -= doubles
            target = writer.thread.reserve(doubles)
            _copy(writer, source, target, count)
            found[source] = target
    if found:
        writer.home()
        writer.thread.barrier()
    return found


def _sources(writer: ThreadWriter) -> list[Input | Place]:
    """Parameters, and what was computed from them before, of known size."""
    inside = set(statements_in(writer.step.items))
    plan, found = writer.plan, {}
    for node in _read(writer.step, plan.of):
        if isinstance(node, Load) and isinstance(node.array, Input):
            if writer.layout.specs[node.array.name].parameter:
                found[node.array] = None
        elif node in plan.of and plan.of[node] not in inside:
            place = plan.work.get(plan.of[node])
            plain = node.type == graph.FLOAT and not isinstance(node, Array | Scatter)
            if place is not None and plain:
                found[place] = None
    return [
        source for source in found
        if all(isinstance(extent, Const) for extent in source.shape)
    ]  # fmt: skip


def _read(step: Step, stored: object) -> Iterator[Node]:
    """What the rows read, besides what they compute."""
    shared = {p.statement for p in step.phases if hasattr(p, "statement")}
    for s in statements_in(step.items):
        if s in shared:
            continue

        def into(node: Node, own: Node = s.node) -> tuple[Node, ...]:
            return () if node in stored and node is not own else node.children

        yield from graph.walk(s.expressions, into)


def _copy(
    writer: ThreadWriter, source: Input | Place, target: Value, count: int
) -> None:
    if isinstance(source, Input):
        base, kind = writer.input_base(source)
        from_type, to_type = operations.STORED[kind][0], writer.type
    else:
        base = writer.memory("work", "work", source)
        from_type = to_type = writer.stored_type(source)

    def element(k: Value, _: list[Value]) -> None:
        e = writer.emitter
        value = e.load(e.gep(base, k, from_type), from_type)
        value = operations.to_float_type(e, value, to_type)
        e.store(value, e.gep(target, k, to_type))

    end = writer.home().const(count, "i64")
    writer.counted(writer.index, end, element, step=writer.block)
