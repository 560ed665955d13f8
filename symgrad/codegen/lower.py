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
from symgrad.codegen.evaluate import Address, Evaluator, Scope
from symgrad.codegen.layout import ROWS_PER_FLUSH, Layout
from symgrad.codegen.llvm_text import Emitter, Module, Value
from symgrad.graph import Index, Node, Reduce
from symgrad.schedule.deferred import Deferred
from symgrad.schedule.nest import Item, Loop
from symgrad.schedule.plan import Place, Plan, Step
from symgrad.schedule.statements import Statement

COMMON = ("ptr %context", "ptr %params", "ptr %outs", "ptr %work")

IDENTITY = {"sum": 0.0, "prod": 1.0, "min": float("inf"), "max": float("-inf")}
COMBINE = {"sum": "fadd", "prod": "fmul", "min": "minimum", "max": "maximum"}


SumKey = tuple[Statement, int | None]

JAMMED_SUMS = 8
"""Independent sums of one loop: two FMA units of four cycles latency."""


def combine(emitter: Emitter, kind: str, a: Value, b: Value) -> Value:
    """Two partial results of a reduction as one."""
    opcode = COMBINE[kind]
    if opcode in ("minimum", "maximum"):
        return emitter.intrinsic(opcode, a, b)
    return emitter.binary(opcode, a, b)


def kind_of(statement: Statement) -> str:
    """The reduction that a statement accumulates by."""
    return statement.node.kind if isinstance(statement.node, Reduce) else "sum"


class StepWriter(Evaluator):
    """Writes the loops and statements of one step."""

    def __init__(
        self, emitter: Emitter, plan: Plan, layout: Layout, step: Step, lanes: int
    ) -> None:
        super().__init__(emitter, plan, layout, step, lanes)
        self.open: list[Index] = []
        self.width = 1  # turns of the jammed loop
        self.sums: dict[SumKey, Value] = {}  # running sums held in registers
        self.tile_rows = (Value("%begin", "i64"), Value("%end", "i64"))
        self.sum_places = {place.statement: place for place in step.sums}

    # -- items -----------------------------------------------------------------------

    def items(self, items: Sequence[Item]) -> None:
        """Emit statements and loops in order."""
        for item in items:
            if isinstance(item, Loop):
                self.loop(item)
            elif self.jam is None:
                self.statement(item)
            else:
                for self.variant in range(self.width):
                    self.statement(item)

    def loop(self, item: Loop) -> None:
        """One loop over a parameter or inner dimension.

        Where independent sums run inside, several turns are emitted together (unroll
        and jam): they share loads, and their chains of additions overlap.
        """
        starting = self._starting(item)
        for key in starting:
            if self._in_register(key[0], item):
                self.sums[key] = self._identity(key[0])
            else:
                self._at_variant(key, lambda s: self._clear(s, item))
        extent, _ = self.extent(item.index.extent)
        width = self._jam_width(item)
        zero = self.emitter.const(0, "i64")
        if item.index is self.step.row:  # rows of a tile, in a deferred sum
            self._turns(item, *self.tile_rows, 1)
        elif width == 1:
            self._turns(item, zero, extent, 1)
        else:
            self._jammed(item, extent, width)
        for key in starting:
            if key in self.sums:
                self._at_variant(key, self._complete)

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
        self.jam, self.width = item.index, width
        self._turns(item, zero, main, width)
        self.jam, self.width = None, 1
        if not exact:
            self._turns(item, main, extent, 1)

    def _turns(self, item: Loop, begin: Value, end: Value, step: int) -> None:
        """The loop itself; running sums are carried from turn to turn."""
        inside = set(item.statements())
        carried = [key for key in self.sums if key[0] in inside]
        initial = [self.sums[key] for key in carried]

        def body(counter: Value, phis: list[Value]) -> Sequence[Value]:
            self._enter(item, counter)
            self.sums.update(zip(carried, phis, strict=True))
            self.items(item.items)
            self._leave()
            return [self.sums[key] for key in carried]

        nonempty = begin.literal and end.literal and int(begin.name) < int(end.name)
        emitter = self.home()
        results = emitter.loop(begin, end, step, initial, body, nonempty)
        self.sums.update(zip(carried, results, strict=True))

    def _jam_width(self, item: Loop) -> int:
        """How many turns to run together: enough sums to hide the latency of an
        addition, few enough to stay in registers."""
        if self.jam is not None or self.lanes == 1:
            return 1
        most = max(
            (self._sums_inside(child, item.index) for child in item.items), default=0
        )
        if most == 0 or any(self._one_place(s, item) for s in item.statements()):
            return 1
        width = max(1, JAMMED_SUMS // most)
        if not isinstance(item.index.extent, graph.Const):
            return width
        count = int(item.index.extent.value)
        divisors = [k for k in range(2, width + 1) if count % k == 0]
        if divisors and 2 * divisors[-1] > width:
            return divisors[-1]
        return min(width, count)

    def _one_place(self, s: Statement, item: Loop) -> bool:
        """Whether turns of the loop share one place in memory for their own values."""
        place = self.step.local.get(s) or self.plan.work.get(s)
        return (
            item.index in s.domain
            and place is not None
            and place.memory != "register"
            and item.index not in place.axes
        )

    def _sums_inside(self, child: Item, i: Index) -> int:
        """Sums of a loop that are separate for each value of ``i``."""
        if not isinstance(child, Loop):
            return 0
        return sum(
            s.kind == "reduce" and i in s.domain and child.index in s.bound
            for s in child.statements()
        )

    def _enter(self, item: Loop, counter: Value) -> None:
        scope = Scope(self.emitter.region, item)
        if self.jam is item.index:
            scope.values[item.index, 0] = counter
            for k in range(1, self.width):
                shift = self.emitter.const(k, "i64")
                scope.values[item.index, k] = self.emitter.binary("add", counter, shift)
        else:
            scope.values[item.index] = counter
        self.scopes.append(scope)
        self.open.append(item.index)

    def _leave(self) -> None:
        self.home()
        self.scopes.pop()
        self.open.pop()

    # -- lanes -----------------------------------------------------------------------

    def open_lanes(self, loop: Loop, counter: Value, bound: Value) -> None:
        """Enter a loop whose index runs along the lanes, up to ``bound`` (a vector)."""
        self.scopes.append(Scope(self.emitter.region, loop))
        self.open.append(loop.index)
        self.row, self.row_base = loop.index, counter
        self.row_level = len(self.scopes) - 1
        if self.lanes > 1:
            emitter = self.home()
            numbers = emitter.lane_numbers(self.lanes)
            self.mask = emitter.icmp("slt", emitter.binary("add", counter, numbers), bound)

    def close_lanes(self) -> None:
        """Leave that loop."""
        self._leave()
        self.row = self.mask = None

    def deferred(self, rows: Loop, deferred: Deferred) -> None:
        """One deferred sum over the rows of the current tile: lanes along its last
        axis, then its other axes, then the rows."""
        nest = Loop(rows.index, [deferred.statement])
        for i in reversed(deferred.axes[:-1]):
            nest = Loop(i, [nest])
        lanes = Loop(deferred.lane, [nest])
        extent, _ = self.extent(deferred.lane.extent)
        emitter = self.home()
        bound = emitter.splat(extent, self.lanes)

        def block(counter: Value, _: list[Value]) -> Sequence[Value]:
            self.open_lanes(lanes, counter, bound)
            self.items(lanes.items)
            self.close_lanes()
            return ()

        emitter.loop(emitter.const(0, "i64"), extent, self.lanes, (), block)
        self.home()

    # -- running sums ----------------------------------------------------------------

    def _sum_key(self, s: Statement) -> SumKey:
        """A sum, and which of the turns that run together it belongs to."""
        separate = self.jam is not None and self.jam in s.domain
        return s, self.variant if separate else None

    def _starting(self, item: Loop) -> list[SumKey]:
        """Sums of which this is the outermost loop."""
        found: list[SumKey] = []
        for s in item.statements():
            if not s.accumulates or item.index not in s.bound:
                continue
            if any(i in s.bound for i in self.open):
                continue
            separate = self.jam is not None and self.jam in s.domain
            found += [(s, k) for k in range(self.width)] if separate else [(s, None)]
        return found

    def _at_variant(self, key: SumKey, action: Callable[[Statement], None]) -> None:
        if key[1] is not None:
            self.variant = key[1]
        action(key[0])

    def _in_register(self, s: Statement, item: Loop) -> bool:
        """Whether one running value is enough: no domain loop inside the sum."""
        place = self.sum_places.get(s)
        if s.kind != "reduce" or (place is not None and place.sums != "tiled"):
            return place is not None and place.sums == "register"
        return all(i in self.open for i in s.domain)

    def _identity(self, s: Statement) -> Value:
        varying = self.lanes > 1 and self.row is not None
        lanes = self.lanes if varying or s in self.sum_places else 1
        return self.emitter.const(IDENTITY[kind_of(s)], self.type, lanes)

    def _complete(self, s: Statement) -> None:
        """A sum in a register is final: now it is a value like any other."""
        value = self.sums.pop(self._sum_key(s))
        place = self.sum_places.get(s)
        if place is not None and place.sums == "tiled":
            self._add_to_partial(place, value)
            return
        self.keep(s.node, value, len(self.scopes) - 1)
        self._store_value(s, value)

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

    def _store_value(self, s: Statement, value: Value) -> None:
        """Keep a value that others read from memory."""
        self.written[s] = tuple(scope.loop for scope in self.scopes[1:])
        local = self.step.local.get(s)
        places = [p for p in (local, self.plan.work.get(s)) if p is not None]
        for place in places:
            if place.memory != "register" and place.sums is None:
                self._put(self.place_address(place), place, value)

    def _put(self, address: Address, place: Place, value: Value) -> None:
        emitter = self.home()
        if place.wide:
            value = operations.to_float_type(emitter, value, "double")
        if place.lanes and self.lanes > 1:
            emitter.store(emitter.splat(value, self.lanes), address.pointer)
        else:
            self._store(address, value)

    def _store(self, address: Address, value: Value) -> None:
        emitter = self.home()
        if value.type == "i1":
            value = emitter.convert("zext", value, "i8")
        if address.lanes == 1:
            emitter.store(value, address.pointer)
            return
        value = emitter.splat(value, address.lanes)
        if address.consecutive:
            emitter.store(value, address.pointer, self.mask)
        else:
            assert self.mask is not None
            emitter.scatter(value, address.pointer, self.mask)

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

    # -- sums ------------------------------------------------------------------------

    def _accumulate(self, s: Statement) -> None:
        """One turn of a reduction."""
        key = self._sum_key(s)
        if key in self.sums:
            old = self.sums[key]
            new = self._added(s, old)
            if self._row_sum(s) and self.mask is not None:
                new = self.home().select(self.mask, new, old)
            self.sums[key] = new
            return
        place = self.sum_places.get(s)
        if place is None:
            place = self.step.local.get(s) or self.plan.work[s]
            self.written[s] = self._written_path(s)
            self._update(self.place_address(place), place, s, None)
        elif place.sums == "lanes":
            self._add_in_lanes(place, place.axes)
        else:
            self._fold_into_partial(place, place.axes)

    def _written_path(self, s: Statement) -> tuple[Loop | None, ...]:
        """The loops that readers may share: those outside of the sum."""
        path: list[Loop | None] = []
        for scope in self.scopes[1:]:
            if scope.loop is not None and scope.loop.index in s.bound:
                break
            path.append(scope.loop)
        return tuple(path)

    def _row_sum(self, s: Statement) -> bool:
        return self.row is not None and self.row in s.bound

    def _added(self, s: Statement, old: Value) -> Value:
        """``old`` with the current term added; a product is fused with the sum."""
        kind, body = kind_of(s), s.value
        if kind == "sum" and self._product(body) and old.type == self.type:
            assert isinstance(body, graph.Call)
            a, b = (self.value(x) for x in body.args)
            return self.home().fma(a, b, old)
        value = self.value(body)
        emitter = self.home()
        value = operations.to_float_type(emitter, value, old.type)
        return combine(emitter, kind, old, value)

    def _update(
        self, address: Address, place: Place, s: Statement, mask: Value | None
    ) -> None:
        """Load, add, store."""
        kind = self.stored_type(place)
        emitter = self.home()
        lanes = self.lanes if place.lanes else 1
        if lanes > 1:
            old = emitter.load(address.pointer, kind, lanes)
            emitter = self.home()
            new = self._added(s, old)
            emitter = self.home()
            emitter.store(new, address.pointer)
            return
        old = self._fetch_here(address, kind)
        new = self._added(s, old)
        self._store(address, new)

    def _fetch_here(self, address: Address, kind: str) -> Value:
        """Load in the innermost scope: the value changes with every turn."""
        level = len(self.scopes) - 1
        here = Address(address.pointer, level, address.lanes, address.consecutive)
        return self.fetch(here, kind)

    def _lane_address(self, place: Place, indices: Sequence[Node]) -> Value:
        base = self.memory("scratch", "scratch", place)
        strides = self.strides(place.shape, range(len(place.shape)))
        found = self.address(base, self.type, indices, strides, 0, self.lanes)
        assert found.lanes == 1
        return found.pointer

    def _add_in_lanes(self, place: Place, indices: Sequence[Node]) -> None:
        s = place.statement
        pointer = self._lane_address(place, indices)
        old = self.home().load(pointer, self.type, self.lanes)
        new = self._added(s, old)
        emitter = self.home()
        emitter.store(emitter.splat(new, self.lanes), pointer, self.mask)

    def _fold_into_partial(self, place: Place, indices: Sequence[Node]) -> None:
        """Fold the lanes of this block and add to the chunk's sums at once."""
        s = place.statement
        kind = kind_of(s)
        value = self.value(s.value)
        emitter = self.home()
        value = emitter.splat(value, self.lanes)
        if self.mask is not None:
            identity = emitter.const(IDENTITY[kind], self.type)
            value = emitter.select(self.mask, value, identity)
        base = self.memory("partial", "partial", place)
        strides = self.strides(place.shape, range(len(place.shape)))
        address = self.address(base, "double", indices, strides)
        value = operations.to_float_type(self.home(), value, "double")
        if address.lanes == 1:
            value = self.home().fold_lanes(COMBINE[kind], value)
            old = self._fetch_here(address, "double")
            self._store(address, combine(self.home(), kind, old, value))
        elif address.consecutive:
            old = self._fetch_here(address, "double")
            self._store(address, combine(self.home(), kind, old, value))
        else:
            self._add_lane_by_lane(address, value)

    def _add_to_partial(self, place: Place, value: Value) -> None:
        """Add the sums of a tile, whose lanes are elements, to the chunk's."""
        base = self.memory("partial", "partial", place)
        strides = self.strides(place.shape, range(len(place.shape)))
        address = self.address(base, "double", place.axes, strides)
        value = operations.to_float_type(self.home(), value, "double")
        value = self.home().splat(value, self.lanes)
        old = self._fetch_here(address, "double")
        kind = kind_of(place.statement)
        self._store(address, combine(self.home(), kind, old, value))

    def _add_lane_by_lane(self, address: Address, value: Value) -> None:
        """Several lanes may hit one element: one after the other. Lanes that are off
        hold zero and point inside the array."""
        emitter = self.home()
        for k in range(self.lanes):
            pointer = emitter.extract(address.pointer, k)
            old = emitter.load(pointer, "double")
            new = emitter.binary("fadd", old, emitter.extract(value, k))
            emitter.store(new, pointer)

    def _scatter(self, s: Statement) -> None:
        node = s.node
        assert isinstance(node, graph.Scatter)
        targets = self.checked(s.targets, node.shape)
        place = self.sum_places.get(s)
        if place is not None:
            if place.sums == "lanes":
                self._add_in_lanes(place, targets)
            else:
                self._fold_into_partial(place, self._masked(targets))
            return
        place = self.plan.work[s]
        self.written[s] = ()
        base = self.memory("work", "work", place)
        if not s.bound:  # no loop before which it could have been cleared
            self.fill(base, place.shape, "double", 1, 0.0)
        strides = self.strides(place.shape, place.order)
        address = self.address(base, "double", targets, strides)
        old = self._fetch_here(address, "double")
        self._store(address, self._added(s, old))

    def _masked(self, targets: list[Node]) -> list[Node]:
        """Targets that are safe in lanes that are off: data-dependent ones are zero
        there already, rows beyond the end are clamped to the last row."""
        if self.mask is None or self.lanes == 1:
            return targets
        consecutive = targets and self._row_offset(targets[-1]) and not any(
            self.row in t.free for t in targets[:-1]
        )
        if consecutive:
            return targets
        return [t if self.row not in t.free else self._off_is_zero(t) for t in targets]

    def _off_is_zero(self, target: Node) -> Node:
        safe = graph.call("lane on", target, type=graph.INT)
        if self.find(safe) is None:
            value, level = self.placed(target)
            emitter = self.at(level)
            assert self.mask is not None
            zero = emitter.const(0, "i64")
            self.keep(safe, emitter.select(self.mask, value, zero), level)
        return safe

    def _clear(self, s: Statement, item: Loop) -> None:
        """Set a sum in memory to its identity before its outermost loop."""
        if s in self.sum_places:
            return  # partial sums are cleared by the caller of the pass
        place = self.step.local.get(s) or self.plan.work[s]
        if s.kind == "scatter":
            base = self.memory("work", "work", place)
            self.fill(base, place.shape, "double", 1, 0.0)
        else:
            self._clear_axes(place, [i for i in place.axes if i not in self.open])

    def _clear_axes(self, place: Place, axes: list[Index]) -> None:
        """Identity at all values of ``axes``, at the current values of the open ones."""
        if not axes:
            lanes = self.lanes if place.lanes else 1
            kind = self.stored_type(place)
            number = IDENTITY[kind_of(place.statement)]
            value = self.emitter.const(number, kind, lanes)
            address = self.place_address(place)
            emitter = self.home()
            if place.lanes:
                emitter.store(value, address.pointer)
            else:
                self._store(address, value)
            return
        loop = Loop(axes[0])
        extent, _ = self.extent(axes[0].extent)
        emitter = self.home()

        def body(counter: Value, _: list[Value]) -> list[Value]:
            self._enter(loop, counter)
            self._clear_axes(place, axes[1:])
            self._leave()
            return []

        emitter.loop(emitter.const(0, "i64"), extent, 1, [], body)

    def fill(
        self,
        base: Value,
        shape: Sequence[Node],
        kind: str,
        lanes: int,
        number: float,
    ) -> None:
        """Store ``number`` in all elements of an array of ``shape``."""

        def body(counter: Value, _: list[Value]) -> None:
            e = self.emitter
            at = e.binary("mul", counter, e.const(lanes, "i64"))
            e.store(e.const(number, kind, lanes), e.gep(base, at, kind))

        self.counted(0, self.count(shape), body)

    def count(self, shape: Sequence[Node]) -> Value:
        """The number of elements of an array of ``shape``."""
        total: Node = graph.const(1)
        for extent in shape:
            total = graph.fold_int("mul", total, extent)
        return self.extent(total)[0]
