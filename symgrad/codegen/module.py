"""One plan as one LLVM module: the functions of lower.py, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from symgrad.codegen import operations, streams
from symgrad.codegen.chunks import ALIKE, SERIAL, ChunkWriter, smaller
from symgrad.codegen.embedding import add_rows, clear_rows, load_rows
from symgrad.codegen.interior import in_two_versions, interior_of
from symgrad.codegen.llvm_text import Emitter, Value
from symgrad.codegen.lower import COMMON, StepWriter
from symgrad.codegen.sums import COMBINE, IDENTITY, SumKey, combine
from symgrad.codegen.terms import kind_of
from symgrad.codegen.tiles import load_tile, transpose_kept
from symgrad.schedule.nest import Loop
from symgrad.schedule.plan import Place, Step
from symgrad.schedule.statements import Statement

MANY_SUMS = 64
"""Sums of a pass from which on a subroutine adds each to those of other rows."""

STACK_BYTES = 1 << 15
"""Objectives that need no more memory than this have it on the stack."""


class ModuleWriter(ChunkWriter):
    """Writes all functions of one kernel; see ChunkWriter for the arguments."""

    def text(self) -> str:
        """The module as LLVM assembly."""
        for number, step in enumerate(self.plan.steps):
            if step.row is None:
                self._serial(number, step)
            else:
                self._pass(number, step)
                self.chunks(number, step)
                self.combine_chunks(number, step)
        if self.layout.single:
            self._narrow()
        self._run()
        if self.flat:
            self._evaluate()
            self._objective()
        return self.module.text()

    # -- steps -----------------------------------------------------------------------

    def _serial(self, number: int, step: Step) -> None:
        writer = self.writer(step)
        writer.items(step.items)
        self.finish(writer, f"serial_{number}")

    def _pass(self, number: int, step: Step) -> None:
        writer = self.writer(step, self.lanes)
        loop = step.items[0]
        assert isinstance(loop, Loop)
        registers = [p.statement for p in step.sums if p.sums == "register"]
        for place in step.sums:
            if place.sums == "lanes":
                base = writer.memory("scratch", "scratch", place)
                kind = writer.type
                start = IDENTITY[kind_of(place.statement)]
                writer.fill(base, place.shape, kind, self.lanes, start)
        clear_rows(writer)
        if step.deferred:
            self._tiles(writer, loop, registers)
        else:
            low, high = Value("%begin", "i64"), Value("%end", "i64")
            keys: list[SumKey] = [(s, None) for s in registers]
            start = [writer.identity(s) for s in registers]
            rows = self._rows if step.lane is None else self._grid
            results = rows(writer, loop, keys, start, low, high)
            writer.sums.update(zip(keys, results, strict=True))
        for place in step.sums:
            if streams.followers(step, place):
                self._flush_stream(writer, place)
            elif place.sums == "register":
                self._flush_register(writer, place)
            elif place.sums == "lanes" and place.top is None:
                self._flush_lanes(writer, place)
        extra = ("ptr %scratch", "ptr %partial", "i64 %begin", "i64 %end")
        self.finish(writer, f"pass_{number}", (*COMMON, *extra))

    def _rows(
        self,
        writer: StepWriter,
        loop: Loop,
        keys: list[SumKey],
        start: Sequence[Value],
        begin: Value,
        end: Value,
    ) -> list[Value]:
        """The loop over rows, a block at a time; the last block is masked."""
        lanes = writer.lanes
        emitter = writer.home()
        scatters = self.layout.row_scatters(writer.step)
        interior = None if scatters else interior_of(loop, self.plan)

        def body(counter: Value, phis: list[Value]) -> Sequence[Value]:
            def items() -> Sequence[Value]:
                writer.sums.update(zip(keys, phis, strict=True))
                writer.items(loop.items)
                return [writer.sums[key] for key in keys]

            writer.open_lanes(loop, counter, end)
            for array in sorted(self.layout.tiles(writer.step), key=lambda a: a.name):
                load_tile(writer, array, end)
            for gather in self.layout.row_gathers(writer.step):
                load_rows(writer, gather)
            if interior is None:
                results = items()
            else:
                results = in_two_versions(writer, interior, end, items)
            for place in scatters:
                add_rows(writer, place)
            writer.close_lanes()
            return results

        return emitter.loop(begin, end, lanes, start, body)

    def _grid(
        self,
        writer: StepWriter,
        loop: Loop,
        keys: list[SumKey],
        start: Sequence[Value],
        begin: Value,
        end: Value,
    ) -> list[Value]:
        """The loop over rows, one by one, lanes along each of them."""

        def body(counter: Value, phis: list[Value]) -> Sequence[Value]:
            writer.sums.update(zip(keys, phis, strict=True))
            writer.grid_row(loop, counter)
            return [writer.sums[key] for key in keys]

        return writer.home().loop(begin, end, 1, start, body)

    def _tiles(
        self, writer: StepWriter, loop: Loop, registers: list[Statement]
    ) -> None:
        """Tiles of rows: first the rows, then the deferred sums of the tile."""
        assert writer.step.tile is not None
        rows, _ = writer.placed(writer.step.tile)
        keys: list[SumKey] = [(s, None) for s in registers]
        start = [writer.identity(s) for s in registers]
        begin, end = Value("%begin", "i64"), Value("%end", "i64")

        def tile(counter: Value, phis: list[Value]) -> list[Value]:
            emitter = writer.home()
            last = smaller(emitter, emitter.binary("add", counter, rows), end)
            writer.tile_begin, writer.tile_rows = counter, (counter, last)
            results = self._rows(writer, loop, keys, phis, counter, last)
            for deferred in writer.step.deferred:
                for operand in deferred.transposed:
                    place = writer.step.local.get(operand)
                    if place is not None and place.kept:  # else gathered from work
                        transpose_kept(writer, place)
            for deferred in writer.step.deferred:
                writer.deferred(loop, deferred)
            return results

        results = writer.counted(begin, end, tile, start, rows)
        writer.sums.update(zip(keys, results, strict=True))

    def _flush_register(self, writer: StepWriter, place: Place) -> None:
        value = writer.sums.pop((place.statement, None))
        pointer = writer.memory("partial", "partial", place)
        if len(writer.step.sums) < MANY_SUMS:
            self._add(writer.emitter, kind_of(place.statement), value, pointer)
        else:
            self._call_add(writer.emitter, kind_of(place.statement), value, pointer)
        writer.divide()

    def _flush_lanes(self, writer: StepWriter, place: Place) -> None:
        source = writer.memory("scratch", "scratch", place)
        target = writer.memory("partial", "partial", place)
        emitter = writer.emitter

        def body(counter: Value, _: list[Value]) -> None:
            at = emitter.binary("mul", counter, emitter.const(self.lanes, "i64"))
            pointer = emitter.gep(source, at, writer.type)
            value = emitter.load(pointer, writer.type, self.lanes)
            at = emitter.gep(target, counter, "double")
            self._add(writer.emitter, kind_of(place.statement), value, at)

        writer.counted(0, writer.count(place.shape), body)

    def _flush_stream(self, writer: StepWriter, top: Place) -> None:
        emitter, kind = writer.home(), kind_of(top.statement)
        register = writer.sums.pop((top.statement, None), None)
        streams.flush(
            writer,
            top,
            streams.followers(writer.step, top),
            lambda a, b: combine(emitter, kind, a, b),
            lambda a: emitter.fold_lanes(COMBINE[kind], a),
            register,
        )

    def _call_add(
        self, emitter: Emitter, kind: str, value: Value, pointer: Value
    ) -> None:
        """``_add`` through a subroutine, written on first use."""
        name = f"add_{kind}_{value.type}_{value.lanes}"
        if name not in self.module.internal:
            self.module.internal.add(name)
            inner = Emitter(self.module, self.features)
            lanes = Value("%lanes", value.type, value.lanes)
            self._add(inner, kind, lanes, Value("%sum", "ptr"))
            inner.finish(
                name,
                (f"{lanes!r}", "ptr %sum"),
                attributes=f"noinline {self.attributes}",
                linkage="internal",
            )
        emitter.raw(f"call void @{name}({value!r}, ptr {pointer.name})")

    def _add(self, emitter: Emitter, kind: str, value: Value, pointer: Value) -> None:
        """Fold the lanes in float64 and add to a partial sum."""
        value = operations.to_float_type(emitter, value, "double")
        value = emitter.fold_lanes(COMBINE[kind], value)
        old = emitter.load(pointer, "double")
        emitter.store(combine(emitter, kind, old, value), pointer)

    # -- whole kernels ---------------------------------------------------------------

    def _narrow(self) -> None:
        """float32: convert the parameters once per call."""
        writer = self.writer(Step([]))
        for number, name in enumerate(self.layout.parameters()):
            if name not in self.layout.narrowed:
                continue
            source = writer.pointer_argument("params", number)
            target = writer.memory("work", "narrow", name)
            emitter = writer.emitter

            def body(
                k: Value,
                width: int,
                e: Emitter = emitter,
                source: Value = source,
                target: Value = target,
            ) -> None:
                value = e.load(e.gep(source, k, "double"), "double", width)
                narrow = e.convert("fptrunc", value, "float")
                e.store(narrow, e.gep(target, k, "float"))

            writer.stretches(writer.count(self.layout.inputs[name].shape), body)
        self.finish(writer, "narrow")

    def _run(self) -> None:
        emitter = Emitter(self.module, self.features)
        if self.layout.single:
            emitter.raw(f"call void @narrow({SERIAL})")
        for number, step in enumerate(self.plan.steps):
            if step.row is None:
                emitter.raw(f"call void @serial_{number}({SERIAL})")
                continue
            slot = emitter.const(self.layout.slot("chunks", step), "i64")
            pointer = emitter.gep(Value("%context", "ptr"), slot, "i64")
            chunks = emitter.load(pointer, "i64")
            emitter.raw(
                f"call void @chunks_{number}({SERIAL}, ptr %scratch, "
                f"i64 0, i64 {chunks.name})"
            )
            emitter.raw(f"call void @combine_{number}({SERIAL})")
        emitter.finish("run", (*COMMON, "ptr %scratch"), attributes=self.attributes)

    def _evaluate(self) -> None:
        """The kernel on flat vectors, with the caller's memory; NaN where an index was
        out of bounds."""
        emitter = Emitter(self.module, self.features)
        x, gradient = Value("%x", "ptr"), Value("%gradient", "ptr")
        names = self.layout.parameters()
        emitter.raw(f"%params = alloca ptr, i64 {max(1, len(names))}")
        emitter.raw(f"%outs = alloca ptr, i64 {len(self.plan.outputs) + 1}")
        emitter.raw("%value = alloca double, i64 1")
        emitter.raw("%status = alloca i64, i64 1")
        emitter.store(emitter.const(0, "i64"), Value("%status", "ptr"))
        slot = self._context_reader(emitter)
        last = len(self.plan.outputs)
        self._point(emitter, "%params", 0, x, "x offset", names)
        _set_pointer(emitter, "%outs", 0, Value("%value", "ptr"))
        self._point(emitter, "%outs", 1, gradient, "gradient offset", range(1, last))
        _set_pointer(emitter, "%outs", last, Value("%status", "ptr"))
        scratch = emitter.gep(Value("%work", "ptr"), slot("work bytes"), "i8")
        emitter.raw(f"call void @run({SERIAL}, ptr {scratch.name})")
        value = emitter.load(Value("%value", "ptr"), "double")
        status = emitter.load(Value("%status", "ptr"), "i64")
        wrong = emitter.icmp("ne", status, emitter.const(0, "i64"))
        nan = emitter.const(float("nan"), "double")
        result = emitter.select(wrong, nan, value)
        parameters = ("ptr %context", "ptr %x", "ptr %gradient", "ptr %work")
        emitter.finish("evaluate", parameters, result, self.attributes)

    def _point(
        self,
        emitter: Emitter,
        table: str,
        start: int,
        base: Value,
        name: str,
        keys: Sequence[object],
    ) -> None:
        """Pointers into the vector ``base`` to a table, from entry ``start`` on."""
        if len(keys) < ALIKE:
            slot = self._context_reader(emitter)
            for k, key in enumerate(keys, start):
                pointer = emitter.gep(base, slot(name, key), "double")
                _set_pointer(emitter, table, k, pointer)
            return
        offsets = self.table(emitter, name, keys)
        first = emitter.gep(Value(table, "ptr"), emitter.const(start, "i64"), "ptr")

        def entry(k: Value, _: list[Value]) -> Sequence[Value]:
            offset = emitter.load(emitter.gep(offsets, k, "i64"), "i64")
            pointer = emitter.gep(base, offset, "double")
            emitter.store(pointer, emitter.gep(first, k, "ptr"))
            return ()

        count = emitter.const(len(keys), "i64")
        emitter.loop(emitter.const(0, "i64"), count, 1, (), entry, nonempty=True)

    def _objective(self) -> None:
        """The entry on flat vectors; it takes its memory from the stack, much of it
        from malloc, which costs 20 ns."""
        emitter = Emitter(self.module, self.features)
        declare = self.module.declarations
        declare["declare ptr @malloc(i64)"] = None
        declare["declare void @free(ptr)"] = None
        slot = self._context_reader(emitter)
        size = slot("memory bytes")
        arguments = "ptr %context, ptr %x, ptr %gradient"
        much = emitter.icmp("sgt", size, emitter.const(STACK_BYTES, "i64"))

        def on_heap() -> Value:
            emitter.raw(f"%heap = call ptr @malloc(i64 {size.name})")
            emitter.raw(f"%slow = call double @evaluate({arguments}, ptr %heap)")
            emitter.raw("call void @free(ptr %heap)")
            return Value("%slow", "double")

        def on_stack() -> Value:
            emitter.raw(f"%stack = alloca i8, i64 {size.name}, align 64")
            emitter.raw(f"%fast = call double @evaluate({arguments}, ptr %stack)")
            return Value("%fast", "double")

        nothing = emitter.const(0.0, "double")
        large = emitter.branch_if(much, on_heap, nothing)
        little = emitter.binary("xor", much, emitter.const(True, "i1"))
        result = emitter.branch_if(little, on_stack, large)
        parameters = ("ptr %context", "ptr %x", "ptr %gradient")
        emitter.finish("objective", parameters, result, self.attributes)

    def _context_reader(self, emitter: Emitter) -> Callable[..., Value]:
        def read(*key: object) -> Value:
            slot = emitter.const(self.layout.slot(*key), "i64")
            pointer = emitter.gep(Value("%context", "ptr"), slot, "i64")
            return emitter.load(pointer, "i64")

        return read


def _set_pointer(emitter: Emitter, table: str, k: int, pointer: Value) -> None:
    slot = emitter.gep(Value(table, "ptr"), emitter.const(k, "i64"), "ptr")
    emitter.store(pointer, slot)
