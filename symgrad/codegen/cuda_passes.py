"""A pass over the rows as a kernel: many blocks, and the last one finishes.

Each thread takes rows that are a whole launch apart, and keeps its sums. At the end the
threads of a block put their sums together: by shuffles in a warp, then through shared
memory. Where there are products, or sums were deferred, a block works through tiles of
rows (cuda_tiles.py).

The order of all additions depends on the number of blocks only, so results repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symgrad.codegen import operations
from symgrad.codegen.addresses import Address
from symgrad.codegen.cuda_emitter import WARP, ThreadEmitter
from symgrad.codegen.cuda_staging import add_targets, clear_targets, stage, target
from symgrad.codegen.cuda_tiles import TileWriter
from symgrad.codegen.cuda_writer import count_of, way
from symgrad.codegen.llvm_text import Value
from symgrad.codegen.sums import IDENTITY, SumKey, combine, kind_of
from symgrad.graph import Input, Node
from symgrad.schedule.nest import Loop
from symgrad.schedule.phases import Elements, Product
from symgrad.schedule.plan import Place, Step

ROWS_PER_FLUSH = 64
"""float32: so many rows of a thread are summed before they are added in float64."""

AT_ONCE = 64
"""Sums that go through shared memory together."""


def reduced_places(step: Step) -> list[Place]:
    """Sums of which each block makes one value per element, by kind of reduction."""
    found = [p for p in step.sums if way(p, step) in ("register", "array")]
    return sorted(found, key=lambda p: kind_of(p.statement))


def smaller(emitter: ThreadEmitter, a: Value, b: Value) -> Value:
    """The smaller of two integers."""
    return emitter.select(emitter.icmp("slt", a, b), a, b)


class PassWriter(TileWriter):
    """Writes the rows of one pass."""

    _staged: Mapping[Input | Place, Value] = {}
    begin: Value
    end: Value
    all_blocks: Value
    first_row: Value

    def rows(self) -> None:
        """The whole pass, up to the partial sums of the block."""
        loop = self.step.items[0]
        assert isinstance(loop, Loop)
        self._open_part()
        self._staged = stage(self)
        clear_targets(self)
        self._clear_sums()
        keys: list[SumKey] = [
            (p.statement, None)
            for p in self.step.sums
            if way(p, self.step) == "register"
        ]
        if self.step.tile is not None:
            totals = self._tiles(loop, keys)
        elif self.layout.single:
            totals = self._flushed_rows(loop, keys)
        else:
            start = [self.identity(s) for s, _ in keys]
            totals = self._row_loop(
                loop, keys, start, self.first_row, self.end, self.total
            )
        add_targets(self)
        self._reduce_block(dict(zip((s for s, _ in keys), totals, strict=True)))

    def memory(self, base: str, *key: object) -> Value:
        """What is in shared memory is there for all of the pass."""
        found = self._staged.get(key[-1])  # type: ignore[call-overload]
        return super().memory(base, *key) if found is None else found

    def input_base(self, array: Input) -> tuple[Value, str]:
        """As for memory; in the compute type."""
        found = self._staged.get(array)
        if found is None:
            return super().input_base(array)
        return found, "float32" if self.layout.single else "float64"

    def address(
        self,
        base: Value,
        type: str,
        indices: Sequence[Node],
        strides: Sequence[Node | Value],
        level: int = 0,
        width: int = 1,
    ) -> Address:
        """As before. LLVM is not to know that what is in shared memory is the same for
        all rows, and for all loops of a row: it would keep it in registers."""
        if base in self._staged.values():
            outer = self.tile_level if self.row is None else self.row_level
            level = min(outer + 1, len(self.scopes) - 1)
            found = self.find(("staged", base.name))
            if found is None:
                emitter = self.at(level)
                zero = self.thread.opaque(emitter.const(0, "i64"))
                here = emitter.gep(base, zero, "i8")
                found = self.keep(("staged", base.name), here, level)
            base, level = found
        return super().address(base, type, indices, strides, level, width)

    def atomic_base(self, place: Place) -> Value:
        """Where rows add to places that they choose."""
        return target(self, place)

    def _open_part(self) -> None:
        """A launch may be for some of the rows only, one of several: its blocks have
        numbers and sums of their own among those of all launches."""
        names = ("rows from", "rows to", "first block", "blocks of")
        begin, end, first, self.all_blocks = (
            self.context(name, self.step, type="i64") for name in names
        )
        emitter = self.at(0)
        size = emitter.const(self.block, "i64")
        self.begin, self.end = begin, end
        self.number = emitter.binary("add", self.block_index, first)
        before = emitter.binary("mul", first, size)
        self.own_index = emitter.binary("add", self.global_index, before)
        self.owners = emitter.binary("mul", self.all_blocks, size)
        self.first_row = emitter.binary("add", self.global_index, begin)

    def _row_loop(
        self,
        loop: Loop,
        keys: list[SumKey],
        start: Sequence[Value],
        begin: Value,
        end: Value,
        step: Value,
    ) -> list[Value]:
        """Rows ``begin``, ``begin + step``, ... below ``end``."""
        emitter = self.home()

        def body(counter: Value, phis: list[Value]) -> Sequence[Value]:
            self.open_lanes(loop, counter, end)
            self.sums.update(zip(keys, phis, strict=True))
            self.items(loop.items)
            self.close_lanes()
            return [self.sums.pop(key) for key in keys]

        return emitter.loop(begin, end, step, start, body)

    # -- float32: sums in float64 ----------------------------------------------------

    def _flushed_rows(self, loop: Loop, keys: list[SumKey]) -> list[Value]:
        """Rows in blocks, whose sums are added to float64 ones."""
        emitter = self.home()
        flush = emitter.const(ROWS_PER_FLUSH, "i64")
        span = emitter.binary("mul", self.total, flush)

        def block(counter: Value, totals: list[Value]) -> Sequence[Value]:
            last = smaller(self.thread, emitter.binary("add", counter, span), self.end)
            start = [self.identity(s) for s, _ in keys]
            sums = self._row_loop(loop, keys, start, counter, last, self.total)
            return self._flushed(keys, totals, sums)

        start = [self._wide_identity(s) for s, _ in keys]
        return self.counted(self.first_row, self.end, block, start, span)

    def _wide_identity(self, s: object) -> Value:
        place = next(p for p in self.step.sums if p.statement is s)
        return self.emitter.const(IDENTITY[kind_of(place.statement)], "double")

    def _flushed(
        self, keys: list[SumKey], totals: Sequence[Value], sums: Sequence[Value]
    ) -> list[Value]:
        """The float64 totals with these sums added; the arrays likewise."""
        emitter = self.home()
        result = []
        for (s, _), total, value in zip(keys, totals, sums, strict=True):
            wide = operations.to_float_type(emitter, value, "double")
            result.append(combine(emitter, kind_of(s), total, wide))
        for place in self.step.sums:
            if way(place, self.step) == "array":
                self._flush_array(place)
        return result

    def _flush_array(self, place: Place) -> None:
        kind = kind_of(place.statement)
        narrow, wide = self.own_array(place, self.type), self._wide_array(place)

        def body(k: Value, _: list[Value]) -> None:
            e = self.emitter
            source, target = e.gep(narrow, k, "float"), e.gep(wide, k, "double")
            value = e.convert("fpext", e.load(source, "float"), "double")
            e.store(combine(e, kind, e.load(target, "double"), value), target)
            e.store(e.const(IDENTITY[kind], "float"), source)

        self.counted(0, self.count(place.shape), body)

    def _wide_array(self, place: Place) -> Value:
        """The float64 sums of a place; in float64 those that the rows are added to."""
        if not self.layout.single:
            return self.own_array(place, "double")
        key = ("wide", place)
        found = self.find(key)
        if found is not None:
            return found[0]
        array = self.thread.array("double", count_of(place.shape))
        return self.keep(key, array, 0)[0]

    # -- before the rows -------------------------------------------------------------

    def _clear_sums(self) -> None:
        for place in self.step.sums:
            number = IDENTITY[kind_of(place.statement)]
            how = way(place, self.step)
            if how == "array":
                base = self.own_array(place, self.type)
                self.fill(base, place.shape, self.type, 1, number)
                if self.layout.single:
                    base = self._wide_array(place)
                    self.fill(base, place.shape, "double", 1, number)
            elif how == "private":
                self._clear_private(place, number)
            elif how == "tiled":
                self._clear_tiled(place, number)

    def _clear_private(self, place: Place, number: float) -> None:
        base = self.own_sums(place)

        def body(k: Value, _: list[Value]) -> None:
            e = self.emitter
            at = e.binary("mul", k, self.owners)
            e.store(e.const(number, "double"), e.gep(base, at, "double"))

        self.counted(0, self.count(place.shape), body)

    def _clear_tiled(self, place: Place, number: float) -> None:
        base, _, work = self.shared_out(place)

        def body(w: Value, _: list[Value]) -> None:
            e = self.emitter
            e.store(e.const(number, "double"), e.gep(base, w, "double"))

        self.counted(self.index, work, body, step=self.block)

    # -- tiles and deferred sums -----------------------------------------------------

    def _tiles(self, loop: Loop, keys: list[SumKey]) -> list[Value]:
        """Tiles of rows, a whole launch apart."""
        assert self.step.tile is not None
        rows, _ = self.placed(self.step.tile)
        emitter = self.home()
        first = emitter.binary("mul", self.block_index, rows)
        first = emitter.binary("add", first, self.begin)
        stride = emitter.binary("mul", self.blocks, rows)
        width = emitter.const(self.block, "i64")

        def tile(counter: Value, totals: list[Value]) -> list[Value]:
            last = smaller(self.thread, emitter.binary("add", counter, rows), self.end)
            begin = emitter.binary("add", counter, self.index)
            single = self.layout.single
            sums = [self.identity(s) for s, _ in keys] if single else totals
            for phase in self.step.phases or [loop]:
                with self.phase(counter):
                    if isinstance(phase, Product):
                        self.product(phase, counter, last)
                    elif isinstance(phase, Elements):
                        self.each(phase.loop, counter, last)
                    else:
                        sums = self._row_loop(phase, keys, sums, begin, last, width)
                self.home()
                self.thread.barrier()
            if single:
                sums = self._flushed(keys, totals, sums)
            for deferred in self.step.deferred:
                with self.phase(counter):
                    self.sum_up(deferred, counter, last)
            self.home()
            self.thread.barrier()
            return sums

        start = [self._wide_identity(s) for s, _ in keys]
        return self.counted(first, self.end, tile, start, stride)

    # -- the sums of a block ---------------------------------------------------------

    def _reduce_block(self, totals: dict[object, Value]) -> None:
        """One value per sum from the values of all threads of the block."""
        values: list[tuple[str, Value]] = []
        for place in reduced_places(self.step):
            kind = kind_of(place.statement)
            if place.sums == "register":
                values.append((kind, totals[place.statement]))
                continue
            base = self._wide_array(place)
            emitter = self.home()
            for k in range(count_of(place.shape)):
                at = emitter.gep(base, emitter.const(k, "i64"), "double")
                values.append((kind, emitter.load(at, "double")))
        if not values:
            return
        target = self.context("blocks", self.step, type="ptr")
        self.home()
        for start in range(0, len(values), AT_ONCE):
            self._reduce_some(values[start : start + AT_ONCE], start, target)

    def _reduce_some(
        self, values: list[tuple[str, Value]], first: int, target: Value
    ) -> None:
        emitter, warps = self.thread, self.block // WARP
        lane = emitter.binary("and", self.index, emitter.const(WARP - 1, "i64"))
        warp = emitter.binary("lshr", self.index, emitter.const(5, "i64"))
        folded = [fold_warp(emitter, kind, value) for kind, value in values]
        is_first = emitter.icmp("eq", lane, emitter.const(0, "i64"))

        def store() -> None:
            for k, value in enumerate(folded):
                row = emitter.shared(k * warps, warps)
                emitter.store(value, emitter.gep(row, warp, "double"))

        emitter.when(is_first, store)
        emitter.barrier()
        start = 0
        for kind in dict.fromkeys(kind for kind, _ in values):
            count = sum(k == kind for k, _ in values)
            self._fold_warps(kind, start, start + count, first, target)
            start += count
        emitter.barrier()

    def _fold_warps(
        self, kind: str, low: int, high: int, first: int, target: Value
    ) -> None:
        """Sums ``low`` to ``high`` of shared memory: one thread each, warp by warp."""
        emitter, warps = self.thread, self.block // WARP
        begin = emitter.binary("add", self.index, emitter.const(low, "i64"))
        source = emitter.shared(0, high * warps)

        def turn(k: Value, _: list[Value]) -> list[Value]:
            at = emitter.binary("mul", k, emitter.const(warps, "i64"))
            row = emitter.gep(source, at, "double")
            total = emitter.load(row, "double")
            for w in range(1, warps):
                at = emitter.gep(row, emitter.const(w, "i64"), "double")
                total = combine(emitter, kind, total, emitter.load(at, "double"))
            number = emitter.binary("add", k, emitter.const(first, "i64"))
            place = emitter.binary("mul", number, self.all_blocks)
            place = emitter.binary("add", place, self.number)
            emitter.store(total, emitter.gep(target, place, "double"))
            return []

        emitter.loop(begin, emitter.const(high, "i64"), self.block, (), turn)


def fold_warp(emitter: ThreadEmitter, kind: str, value: Value) -> Value:
    """The 32 values of a warp as one, by a fixed tree; right in its first thread."""
    value = operations.to_float_type(emitter, value, "double")
    distance = WARP // 2
    while distance:
        other = emitter.shuffle_down(value, distance)
        value = combine(emitter, kind, value, other)
        distance //= 2
    return value
