"""What a block has in shared memory for all of its rows.

All rows read the same parameters, in inner loops: each block copies small ones to the
memory that its threads share, in the compute type, before its first row.

Sums at places that the rows choose are added to atomically. Where the whole target
fits, each block has one of its own in shared memory, which is faster and in nobody
else's way, and adds it to the one of all blocks at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from symgrad import graph
from symgrad.codegen import operations
from symgrad.codegen.cuda_emitter import SHARED_LATE
from symgrad.codegen.cuda_writer import ThreadWriter, count_of, way
from symgrad.codegen.llvm_text import Value
from symgrad.graph import Array, Const, Input, Load, Node, Scatter
from symgrad.schedule.nest import statements_in
from symgrad.schedule.phases import Product
from symgrad.schedule.plan import Place, Step

FEWEST = 4
MOST = 128
"""Elements of what is copied. Large matrices are those of products, which see to it
themselves; of those in between ptxas loads so much ahead, where loops are unrolled,
that it spills registers (attention to 50 keys, sm_75)."""

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


def _read(step: Step, stored: Mapping[Node, object]) -> Iterator[Node]:
    """What the rows read, besides what they compute."""
    shared = {p.statement for p in step.phases if isinstance(p, Product)}
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


# --- sums at places that the rows choose ----------------------------------------------


def atomic_places(step: Step) -> list[Place]:
    """The sums that are added to atomically."""
    return [place for place in step.sums if way(place, step) == "atomic"]


def target(writer: ThreadWriter, place: Place) -> Value:
    """Where this block adds: its own memory if the context gives it some, else that of
    all blocks."""
    found = writer.find(("target", place))
    if found is not None:
        return found[0]
    everybody = writer.context("work", place, type="ptr")
    start = writer.context("own target", place, type="i64")
    emitter = writer.at(0)
    own = emitter.gep(Value(SHARED_LATE, "ptr"), start, "double")
    chosen = emitter.select(_has_own(writer, place), own, everybody)
    return writer.keep(("target", place), chosen, 0)[0]


def _has_own(writer: ThreadWriter, place: Place) -> Value:
    start = writer.context("own target", place, type="i64")
    emitter = writer.at(0)
    return emitter.icmp("sge", start, emitter.const(0, "i64"))


def _own_count(writer: ThreadWriter, place: Place) -> Value:
    """Elements of this block's target; none if it has no own."""
    count = writer.count(place.shape)
    has_own = _has_own(writer, place)
    emitter = writer.at(0)
    return emitter.select(has_own, count, emitter.const(0, "i64"))


def clear_targets(writer: ThreadWriter) -> None:
    """Before the first row."""
    places = atomic_places(writer.step)
    for place in places:
        base, count = target(writer, place), _own_count(writer, place)

        def element(k: Value, _: list[Value], base: Value = base) -> None:
            e = writer.emitter
            e.store(e.const(0.0, "double"), e.gep(base, k, "double"))

        writer.home()
        writer.counted(writer.index, count, element, step=writer.block)
    if places:
        writer.home()
        writer.thread.barrier()


def add_targets(writer: ThreadWriter) -> None:
    """After the last row: what rows did not choose is not touched."""
    places = atomic_places(writer.step)
    if places:
        writer.home()
        writer.thread.barrier()
    for place in places:
        base, count = target(writer, place), _own_count(writer, place)
        everybody = writer.context("work", place, type="ptr")

        def element(
            k: Value, _: list[Value], base: Value = base, everybody: Value = everybody
        ) -> None:
            e = writer.thread
            value = e.load(e.gep(base, k, "double"), "double")
            some = e.fcmp("une", value, e.const(0.0, "double"))
            to = e.gep(everybody, k, "double")
            e.when(some, lambda: e.add_atomically(to, value))

        writer.home()
        writer.counted(writer.index, count, element, step=writer.block)
