"""Emit a plan as LLVM IR.

The module has, for pass number k,

    pass_k(context, params, outs, work, scratch, partial, begin, end)
        rows begin .. end-1, added to one set of partial sums
    chunks_k(context, params, outs, work, scratch, low, high)
        whole chunks, each with its own partial sums: what threads run
    combine_k(context, params, outs, work)
        the total of all chunks, in order, in float64

for serial step k ``serial_k(context, params, outs, work)``, and two ways in:

    run(context, params, outs, work, scratch)        everything, on one thread
    objective(context, x, gradient) -> value         the same on flat vectors
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from symgrad import graph
from symgrad.codegen import operations
from symgrad.codegen.llvm_text import Value
from symgrad.codegen.scopes import Scope
from symgrad.codegen.streamed_rows import StreamWriter, Strips
from symgrad.codegen.terms import kind_of
from symgrad.graph import Index
from symgrad.schedule.deferred import Deferred
from symgrad.schedule.legalise import counts
from symgrad.schedule.nest import Item, Loop
from symgrad.schedule.statements import Statement, evaluated

COMMON = ("ptr %context", "ptr %params", "ptr %outs", "ptr %work")

JAMMED_SUMS = 8
"""Independent sums of one loop: two FMA units of four cycles latency."""

SUM_REGISTERS = 24
"""Registers for the running sums of a loop, out of 32, where it only multiplies and
adds what it reads; half of them where it computes what it adds."""

COUNTED_APART = 4
"""Turns of a loop that only counts which run together."""

SHORT_LOOP = 4
WRITTEN_OUT = 24
"""Loops of at most so many turns are written out, up to so many statements."""

SHORT_SUM = 4
"""Terms of a sum that takes less time than a function."""

PRODUCT_COST = 3.0
"""Two values read and multiplied."""


class StepWriter(StreamWriter):
    """Writes the loops and statements of one step."""

    def items(self, items: Sequence[Item]) -> None:
        """Emit statements and loops in order."""
        for item in items:
            if isinstance(item, Loop):
                if not self._waits(item):
                    self.loop(item)
            elif self.jam is None:
                self.statement(item)
            elif self._one_extreme(item):
                self.extreme_of_turns(item)
            else:
                for variant in range(self.width):
                    self.variant = variant
                    self.statement(item)

    def _waits(self, item: Loop) -> bool:
        """Whether all that the loop does is done at the end of the block of rows."""
        scaled = self.layout.scaled_rows(self.step) if self.lanes > 1 else ()
        later = {place.statement for place in scaled}
        return bool(later) and later.issuperset(item.statements())

    def _one_extreme(self, s: Statement) -> bool:
        """Whether turns that run together add to one minimum or maximum of a row."""
        alone = self.jam in s.bound and self.row not in s.bound
        return alone and kind_of(s) in ("min", "max") and (s, None) in self.sums

    def loop(self, item: Loop) -> None:
        """One loop over a parameter or inner dimension.

        Where independent sums run inside, several turns are emitted together (unroll
        and jam): they share loads, and their chains of additions overlap.
        """
        long = self._long_sums(item)
        if long:
            self.sum_rows(item, long)
            item = Loop(item.index, [i for i in item.items if i not in long])
            if not item.items:
                return
        starting = self._starting(item)
        for key in starting:
            if self._in_register(key[0], item):
                self.sums[key] = self.identity(key[0])
            else:
                self._at_variant(key, lambda s: self._clear(s, item))
        extent, _ = self.extent(item.index.extent)
        width = self._jam_width(item)
        if item.index is self.step.row:  # rows of a tile, in a deferred sum
            self._turns(item, *self.tile_rows, 1)
        elif self._is_short(item):
            self._unrolled(item)
        elif self._only_counts(item):
            self._counted_apart(item, extent)
        elif width == 1:
            self._turns(item, self._streamed(item, extent), extent, 1)
        else:
            self._jammed(item, extent, width)
        for key in starting:
            if key in self.sums:
                self._at_variant(key, self._complete)

    def _streamed(self, item: Loop, extent: Value) -> Value:
        """The turns whose columns of long rows come in strips; where they end."""
        zero = self.home().const(0, "i64")
        load = self.streamed_load(item)
        if load is None:
            return zero
        strips = Strips(self, load, extent)

        def strip(begin: Value) -> None:
            self.scopes.append(Scope(self.emitter.region))
            end = strips.copy(begin)
            self.column = lambda k: self.keep(
                load, strips.column(k, begin), len(self.scopes) - 1
            )
            self._turns(item, begin, end, 1)
            self.column = None
            self.scopes.pop()

        self._carrying(item, zero, strips.end, self.layout.strip_columns, strip)
        return strips.end

    def _jammed(self, item: Loop, extent: Value, width: int) -> None:
        """``width`` turns at a time, then what is left."""
        static = isinstance(item.index.extent, graph.Const)
        exact = static and int(item.index.extent.value) % width == 0  # type: ignore[union-attr]
        emitter = self.home()
        zero, main = emitter.const(0, "i64"), extent
        if not exact:
            step = emitter.const(width, "i64")
            rest = emitter.binary("srem", extent, step)
            main = emitter.binary("sub", extent, rest)
        self.jam, self.width, self.repeated = item.index, width, item.index
        self._turns(item, zero, main, width)
        self.jam, self.width = None, 1
        if not exact:
            self._turns(item, main, extent, 1)
        self.repeated = None

    def _only_counts(self, item: Loop) -> bool:
        """Whether the loop counts where something holds, and does nothing else."""
        return self.jam is None and all(
            isinstance(s, Statement)
            and counts(s.node)
            and (s, None) in self.sums
            and s.bound == (item.index,)
            for s in item.items
        )

    def _counted_apart(self, item: Loop, extent: Value) -> None:
        """Counts are exact in any order: some turns together, each with its own."""
        emitter = self.home()
        self.split = set(item.statements())
        for s in self.split:
            self.sums[s, 0] = self.sums.pop((s, None))
            for k in range(1, COUNTED_APART):
                self.sums[s, k] = self.identity(s)
        step = emitter.const(COUNTED_APART, "i64")
        main = emitter.binary("sub", extent, emitter.binary("srem", extent, step))
        self.jam, self.width = item.index, COUNTED_APART
        self._turns(item, emitter.const(0, "i64"), main, COUNTED_APART)
        self.jam, self.width = None, 1
        for s in self.split:
            total = self.sums.pop((s, 0))
            for k in range(1, COUNTED_APART):
                total = self.home().binary("fadd", total, self.sums.pop((s, k)))
            self.sums[s, None] = total
        self.split = set()
        self._turns(item, main, extent, 1)

    def _turns(self, item: Loop, begin: Value, end: Value, step: int | Value) -> None:
        """The loop itself."""

        def turn(counter: Value) -> None:
            self._enter(item, counter)
            if self.column is not None:
                self.column(counter)
            self.items(item.items)
            self._leave()

        self._carrying(item, begin, end, step, turn)

    def _carrying(
        self,
        item: Loop,
        begin: Value,
        end: Value,
        step: int | Value,
        turn: Callable[[Value], None],
    ) -> None:
        """A loop that carries the running sums of ``item`` from turn to turn."""
        inside = set(item.statements())
        carried = [key for key in self.sums if key[0] in inside]
        initial = [self.sums[key] for key in carried]

        def body(counter: Value, phis: list[Value]) -> Sequence[Value]:
            self.sums.update(zip(carried, phis, strict=True))
            turn(counter)
            return [self.sums[key] for key in carried]

        nonempty = begin.literal and end.literal and int(begin.name) < int(end.name)
        emitter = self.home()
        results = emitter.loop(begin, end, step, initial, body, nonempty)
        self.home()
        self.sums.update(zip(carried, results, strict=True))

    def _is_short(self, item: Loop) -> bool:
        """Whether the loop is better written out: few turns of few statements."""
        if not isinstance(item.index.extent, graph.Const):
            return False
        count = int(item.index.extent.value)
        copies = count * len(item.items) * (self.width if self.jam is not None else 1)
        plain = all(not isinstance(i, Loop) for i in item.items)
        return plain and 0 < count <= SHORT_LOOP and copies <= WRITTEN_OUT

    def _unrolled(self, item: Loop) -> None:
        """All turns, one after the other, without a loop."""
        for k in range(int(item.index.extent.value)):  # type: ignore[union-attr]
            self.home()
            self.fixed[item.index] = k
            self._enter(item, self.emitter.const(k, "i64"))
            self.items(item.items)
            self._leave()
        del self.fixed[item.index]

    def _jam_width(self, item: Loop) -> int:
        """How many turns to run together: enough sums to hide the latency of an
        addition, few enough to stay in registers."""
        if self.jam is not None or self.lanes == 1:
            return 1
        groups = [self._sums_inside(child, item.index) for child in item.items]
        most = max((len(group) for group in groups), default=0)
        if most == 0 or any(self._one_place(s, item) for s in item.statements()):
            return 1
        if self._calls_soon(item):
            return 1
        width = max(1, self._sums_wanted(groups) // most)
        if not isinstance(item.index.extent, graph.Const):
            return width
        count = int(item.index.extent.value)
        divisors = [k for k in range(2, width + 1) if count % k == 0]
        if divisors and 2 * divisors[-1] > width:
            return divisors[-1]
        return min(width, count)

    def _calls_soon(self, item: Loop) -> bool:
        """Whether each turn has short sums only and then a function: that takes longer
        than the latency of the sums, and a call for each turn more than either."""
        loops = [child for child in item.items if isinstance(child, Loop)]
        extents = [child.index.extent for child in loops]
        if not all(
            isinstance(e, graph.Const) and e.value <= SHORT_SUM for e in extents
        ):
            return False
        return any(
            isinstance(node, graph.Call)
            and item.index in node.free
            and node.op not in operations.SPECIAL
            and not operations.is_basic(node.op)
            for s in item.items
            if isinstance(s, Statement)
            for node in (*evaluated(s, self.plan.of), s.node)
        )

    def _sums_wanted(self, groups: Sequence[Sequence[Statement]]) -> int:
        """How many sums may run together."""
        vectors = self.lanes // self.vector
        if vectors == 1:
            return JAMMED_SUMS
        plain = all(s.cost <= PRODUCT_COST for group in groups for s in group)
        return (SUM_REGISTERS if plain else SUM_REGISTERS // 2) // vectors

    def _one_place(self, s: Statement, item: Loop) -> bool:
        """Whether turns of the loop share one place in memory for their own values."""
        place = self.step.local.get(s) or self.plan.work.get(s)
        return (
            item.index in s.domain
            and place is not None
            and place.memory != "register"
            and item.index not in place.axes
        )

    def _sums_inside(self, child: Item, i: Index) -> list[Statement]:
        """Sums of a loop that are separate for each value of ``i``."""
        if not isinstance(child, Loop):
            return []
        return [
            s
            for s in child.statements()
            if s.kind == "reduce" and i in s.domain and child.index in s.bound
        ]

    # -- lanes -----------------------------------------------------------------------

    def open_lanes(self, loop: Loop, counter: Value, end: Value) -> None:
        """Enter a loop whose index runs along the lanes, up to ``end``."""
        self.scopes.append(Scope(self.emitter.region, loop))
        self.open.append(loop.index)
        self.row, self.row_base = loop.index, counter
        self.row_level = len(self.scopes) - 1
        if self.lanes > 1:
            self.mask = self.lanes_before(counter, end)

    def close_lanes(self) -> None:
        """Leave that loop."""
        self._leave()
        self.row = self.mask = None

    def grid_row(self, rows: Loop, counter: Value) -> None:
        """One row of a grid: its loops have their lanes along it."""
        self._enter(rows, counter)
        for item in rows.items:
            assert isinstance(item, Loop)
            extent, _ = self.extent(item.index.extent)

            def block(counter: Value, item: Loop = item, end: Value = extent) -> None:
                self.open_lanes(item, counter, end)
                self.items(item.items)
                self.close_lanes()

            zero = self.home().const(0, "i64")
            self._carrying(item, zero, extent, self.lanes, block)
        self._leave()

    def deferred(self, rows: Loop, deferred: Deferred) -> None:
        """One deferred sum over the rows of the current tile: lanes along its last
        axis, then its other axes, then the rows."""
        nest = Loop(rows.index, [deferred.statement])
        for i in reversed(deferred.axes[:-1]):
            nest = Loop(i, [nest])
        lanes = Loop(deferred.lane, [nest])
        extent, _ = self.extent(deferred.lane.extent)
        emitter = self.home()
        rows_of_block, self.lanes = self.lanes, self.vector * deferred.vectors

        def block(counter: Value, _: list[Value]) -> Sequence[Value]:
            self.open_lanes(lanes, counter, extent)
            self.items(lanes.items)
            self.close_lanes()
            return ()

        emitter.loop(emitter.const(0, "i64"), extent, self.lanes, (), block)
        self.home()
        self.lanes = rows_of_block

    # -- statements ------------------------------------------------------------------

    def statement(self, s: Statement) -> None:
        """Emit one statement, all its loops open."""
        if s.kind == "let":
            assert isinstance(s.node, (graph.Call, graph.Load))
            self._store_value(s, self.compute(s.node))
        elif s.kind == "reduce":
            self._accumulate(s)
        elif s.kind == "scatter":
            self._scatter(s)
        else:
            self._write(s)

    def _write(self, s: Statement) -> None:
        """An element of an array or of an output."""
        value = self.value(s.value)
        if s.kind == "array":
            place = self.plan.work[s]
            self.written[s] = ()
            base = self.memory("work", "work", place)
            strides = self.strides(place.shape, place.order)
            kind = self.stored_type(place)
        else:
            assert s.output is not None
            base = self.pointer_argument("outs", s.output)
            node = self.plan.outputs[s.output]
            shape = node.shape if isinstance(node, graph.Array | graph.Scatter) else ()
            strides = self.strides(shape, range(len(shape)))
            kind = "double"
            if s.value.type != graph.FLOAT:
                value = operations.cast(self.home(), value, kind)
            value = operations.to_float_type(self.home(), value, kind)
        self._store(self.address(base, kind, s.targets, strides), value)
