"""What runs once per chunk of rows: clearing partial sums, calling a pass, adding up.

Scalars of a kind are handled in a loop, arrays by subroutines: a kernel may have
thousands of sums, and each line takes longer to compile than it ever takes to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from symgrad.codegen import streams
from symgrad.codegen.layout import ROWS_PER_FLUSH, Layout
from symgrad.codegen.llvm_text import Emitter, Module, Value
from symgrad.codegen.lower import COMMON, StepWriter
from symgrad.codegen.sums import IDENTITY, combine
from symgrad.codegen.terms import kind_of
from symgrad.graph import Const
from symgrad.schedule.plan import Place, Plan, Step

SERIAL = ", ".join(COMMON)

FEW_SUMS = 512
"""Sums of a pass up to which the code around it is not optimised."""

HASTY = 'noinline optnone "once-per-chunk"'
"""Attributes of functions that take longer to optimise than they ever take to run (a
fifth of a small network's first call). The last tells them from other subroutines."""

ALIKE = 8
"""Scalars from which on a loop handles them, instead of a line for each."""


class ChunkWriter:
    """Writes what is around the passes of one kernel.

    lanes: elements of a hardware vector. flat: also the entry on flat vectors; the
    outputs are a loss and the gradients, in order.
    """

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        features: frozenset[str],
        lanes: int,
        flat: bool = False,
    ) -> None:
        self.plan, self.layout, self.features = plan, layout, features
        self.lanes, self.attributes, self.flat = lanes, layout.attributes, flat
        self.module = Module()

    def writer(self, step: Step, vector: int = 1) -> StepWriter:
        """The writer of one function."""
        emitter = Emitter(self.module, self.features)
        return StepWriter(emitter, self.plan, self.layout, step, vector)

    def finish(
        self,
        writer: StepWriter,
        name: str,
        parameters: Sequence[str] = COMMON,
        extra: str = "",
    ) -> None:
        """Close a function."""
        attributes = f"{extra} {self.attributes}".strip()
        writer.home().finish(name, parameters, attributes=attributes)

    def chunks(self, number: int, step: Step) -> None:
        """Run the chunks low .. high-1, each into its own partial sums."""
        writer = self.writer(step)
        assert step.row is not None
        rows, _ = writer.extent(step.row.extent)
        chunk_rows = writer.context("chunk_rows", step, type="i64")
        bytes_ = writer.context("partial_bytes", step, type="i64")
        first = writer.memory("work", "partials", step)
        emitter = writer.home()

        def chunk(counter: Value, _: list[Value]) -> None:
            partial = emitter.gep(first, emitter.binary("mul", counter, bytes_), "i8")
            self._clear_partials(writer, step, partial)
            begin = emitter.binary("mul", counter, chunk_rows)
            end = smaller(emitter, emitter.binary("add", begin, chunk_rows), rows)
            self._call_pass(writer, number, partial, begin, end)

        writer.counted(Value("%low", "i64"), Value("%high", "i64"), chunk)
        extra = ("ptr %scratch", "i64 %low", "i64 %high")
        self.finish(writer, f"chunks_{number}", (*COMMON, *extra), _haste(step))

    def _clear_partials(self, writer: StepWriter, step: Step, partial: Value) -> None:
        for places in self._alike(step):
            number = IDENTITY[kind_of(places[0].statement)]
            if len(places) > 1:
                self._clear_alike(writer, places, partial, number)
                continue
            (place,) = places
            offset = writer.context("partial", place, type="i64")
            start = writer.home().gep(partial, offset, "i8")
            if place.shape:
                self._fill(writer, start, place, number)
            else:
                writer.fill(start, (), "double", 1, number)

    def _fill(
        self, writer: StepWriter, start: Value, place: Place, number: float
    ) -> None:
        """As ``writer.fill``, through a subroutine."""
        count = writer.count(place.shape)
        if "fill" not in self.module.internal:
            self.module.internal.add("fill")
            inner = self.writer(Step([]))
            emitter = inner.emitter
            base, value = Value("%base", "ptr"), Value("%number", "double")
            length = Value("%count", "i64")

            def body(at: Value, width: int) -> None:
                wide = emitter.splat(value, width)
                emitter.store(wide, emitter.gep(base, at, "double"))

            inner.stretches(length, body)
            self._finish_internal(inner, "fill", (base, length, value))
        emitter = writer.home()
        constant = emitter.const(number, "double")
        emitter.raw(f"call void @fill({start!r}, {count!r}, {constant!r})")

    def _clear_alike(
        self, writer: StepWriter, places: Sequence[Place], partial: Value, number: float
    ) -> None:
        emitter = writer.home()
        table = self.table(emitter, "partial", places)

        def clear(k: Value, _: list[Value]) -> None:
            e = writer.home()
            start = e.gep(partial, e.load(e.gep(table, k, "i64"), "i64"), "i8")
            e.store(e.const(number, "double"), start)

        writer.counted(0, emitter.const(len(places), "i64"), clear)

    def _alike(self, step: Step) -> list[list[Place]]:
        """The sums of a pass, those together that a loop can handle: many scalar ones
        of a kind, whose offsets stand in a row in the context."""
        result: list[list[Place]] = []
        for place in step.sums:
            slots = [self.layout.slot(name, place) for name in ("partial", "work")]
            like = (kind_of(place.statement), place.shape, place.top)
            if result and not place.shape and place.top is None:
                last = result[-1][-1]
                before = (kind_of(last.statement), last.shape, last.top)
                standing = [self.layout.slot(n, last) + 1 for n in ("partial", "work")]
                if before == like and standing == slots:
                    result[-1].append(place)
                    continue
            result.append([place])
        few = [p for p in result if len(p) < ALIKE]
        return [*(p for p in result if len(p) >= ALIKE), *([q] for p in few for q in p)]

    def table(self, emitter: Emitter, name: str, keys: Sequence[object]) -> Value:
        """Where the slots of ``keys``, which stand in a row, begin in the context."""
        slots = [self.layout.slot(name, key) for key in keys]
        assert slots == list(range(slots[0], slots[0] + len(slots))), name
        first = emitter.const(slots[0], "i64")
        return emitter.gep(Value("%context", "ptr"), first, "i64")

    def _call_pass(
        self, writer: StepWriter, number: int, partial: Value, begin: Value, end: Value
    ) -> None:
        """In float32 the rows of a chunk are flushed every few thousand."""
        emitter = writer.emitter

        def call(low: Value, high: Value) -> None:
            emitter.raw(
                f"call void @pass_{number}({SERIAL}, ptr %scratch, "
                f"ptr {partial.name}, i64 {low.name}, i64 {high.name})"
            )

        if not self.layout.single:
            call(begin, end)
            return

        def block(counter: Value, _: list[Value]) -> None:
            step = emitter.const(ROWS_PER_FLUSH, "i64")
            call(counter, smaller(emitter, emitter.binary("add", counter, step), end))

        writer.counted(begin, end, block, step=ROWS_PER_FLUSH)

    def combine_chunks(self, number: int, step: Step) -> None:
        """Totals over the chunks, in their order."""
        writer = self.writer(step)
        first = writer.memory("work", "partials", step)
        bytes_ = writer.context("partial_bytes", step, type="i64")
        chunks = writer.context("chunks", step, type="i64")
        for places in self._alike(step):
            if len(places) > 1:
                self._totals_alike(writer, places, first, bytes_, chunks)
                continue
            (place,) = places
            target = writer.memory("work", "work", place)
            offset = writer.context("partial", place, type="i64")
            source = writer.home().gep(first, offset, "i8")
            if place.top is None:
                self._totals(writer, place, source, target, bytes_, chunks)
                continue
            offset = writer.context("partial", place.top, type="i64")
            partials = writer.home().gep(first, offset, "i8"), source
            targets = writer.memory("work", "work", place.top), target
            streams.totals(writer, place, partials, targets, bytes_, chunks)
        self.finish(writer, f"combine_{number}", extra=_haste(step))

    def _totals(
        self,
        writer: StepWriter,
        place: Place,
        source: Value,
        target: Value,
        bytes_: Value,
        chunks: Value,
    ) -> None:
        """Arrays through a subroutine, which is compiled once for those of a kind."""
        kind, count = kind_of(place.statement), writer.count(place.shape)
        if not place.shape:
            _total(writer, kind, source, target, count, bytes_, chunks)
            return
        name = f"total_{kind}"
        if name not in self.module.internal:
            self.module.internal.add(name)
            inner = self.writer(Step([]))
            given = [Value(f"%{n}", "ptr") for n in ("source", "target")]
            given += [Value(f"%{n}", "i64") for n in ("count", "bytes", "chunks")]
            _total(inner, kind, *given)
            self._finish_internal(inner, name, given)
        values = ", ".join(map(repr, (source, target, count, bytes_, chunks)))
        writer.emitter.raw(f"call void @{name}({values})")

    def _finish_internal(
        self, writer: StepWriter, name: str, parameters: Sequence[Value]
    ) -> None:
        """Close a subroutine of what runs once per chunk."""
        hasty = all(map(_haste, self.plan.passes))
        attributes = f"{HASTY if hasty else 'noinline'} {self.attributes}"
        spelled = list(map(repr, parameters))
        writer.home().finish(name, spelled, None, attributes, "internal")

    def _totals_alike(
        self,
        writer: StepWriter,
        places: Sequence[Place],
        first: Value,
        bytes_: Value,
        chunks: Value,
    ) -> None:
        """As ``_totals``, for many scalars, one after the other."""
        kind, emitter = kind_of(places[0].statement), writer.home()
        sources = self.table(emitter, "partial", places)
        targets = self.table(emitter, "work", places)
        start = emitter.const(IDENTITY[kind], "double")

        def element(k: Value, _: list[Value]) -> None:
            e = writer.home()
            source = e.gep(first, e.load(e.gep(sources, k, "i64"), "i64"), "i8")
            offset = e.load(e.gep(targets, k, "i64"), "i64")

            def chunk(c: Value, total: list[Value]) -> list[Value]:
                pointer = e.gep(source, e.binary("mul", c, bytes_), "i8")
                return [combine(e, kind, total[0], e.load(pointer, "double"))]

            total = writer.counted(0, chunks, chunk, [start])[0]
            e.store(total, e.gep(Value("%work", "ptr"), offset, "i8"))

        writer.counted(0, emitter.const(len(places), "i64"), element)


def _haste(step: Step) -> str:
    """Attributes of what runs once per chunk, by the number of sums."""
    elements = 0
    for place in step.sums:
        if not all(isinstance(extent, Const) for extent in place.shape):
            return ""
        elements += prod(int(e.value) for e in place.shape if isinstance(e, Const))
    return HASTY if elements <= FEW_SUMS else ""


def _total(
    writer: StepWriter,
    kind: str,
    source: Value,
    target: Value,
    count: Value,
    bytes_: Value,
    chunks: Value,
) -> None:
    """The sums over all chunks of ``count`` elements, each in the order of chunks."""
    emitter = writer.home()

    def elements(k: Value, width: int) -> None:
        here = emitter.gep(source, k, "double")
        start = emitter.const(IDENTITY[kind], "double", width)

        def chunk(c: Value, total: list[Value]) -> list[Value]:
            pointer = emitter.gep(here, emitter.binary("mul", c, bytes_), "i8")
            value = emitter.load(pointer, "double", width)
            return [combine(emitter, kind, total[0], value)]

        total = writer.counted(0, chunks, chunk, [start])[0]
        emitter.store(total, emitter.gep(target, k, "double"))

    writer.stretches(count, elements)


def smaller(emitter: Emitter, a: Value, b: Value) -> Value:
    """The smaller of two integers."""
    return emitter.select(emitter.icmp("slt", a, b), a, b)
