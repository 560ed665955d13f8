"""Running sums: in registers, in lanes, in memory, in partial sums of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from symgrad import graph
from symgrad.codegen import operations, streams
from symgrad.codegen.addresses import Address
from symgrad.codegen.evaluate import Evaluator
from symgrad.codegen.layout import Layout
from symgrad.codegen.llvm_text import Emitter, Value
from symgrad.codegen.scopes import Placed, Scope
from symgrad.codegen.terms import Term, kind_of, term_of
from symgrad.graph import Index, Node
from symgrad.schedule import streaming
from symgrad.schedule.nest import Loop
from symgrad.schedule.plan import Place, Plan, Step
from symgrad.schedule.statements import Statement

IDENTITY = {"sum": 0.0, "prod": 1.0, "min": float("inf"), "max": float("-inf")}
COMBINE = {"sum": "fadd", "prod": "fmul", "min": "minimum", "max": "maximum"}

SumKey = tuple[Statement, int | None]
"""A sum, and which of the turns that run together it belongs to."""


def combine(emitter: Emitter, kind: str, a: Value, b: Value) -> Value:
    """Two partial results of a reduction as one."""
    if kind in ("min", "max"):
        return operations.BASIC[COMBINE[kind]](emitter, a, b)
    return emitter.binary(COMBINE[kind], a, b)


def _extreme_of(
    emitter: Emitter, kind: str, values: Sequence[Value], so_far: Value
) -> Value:
    """The least or the greatest of all values, NaN if one of them is.

    Pairs are looked at for NaN together, apart from what is waited for: ``so_far`` is
    where NaN stays by itself, as the second choice of a comparison.
    """
    if so_far.type not in operations.FLOATS:
        return _tree([*values, so_far], lambda a, b: combine(emitter, kind, a, b))
    values = [emitter.splat(v, so_far.lanes) for v in values]
    before = "olt" if kind == "min" else "ogt"
    pairs = zip(values[::2], [*values[1::2], values[-1]], strict=False)
    wrong = _tree(
        [emitter.fcmp("uno", a, b) for a, b in pairs],
        lambda a, b: emitter.binary("or", a, b),
    )

    def better(a: Value, b: Value) -> Value:
        return emitter.select(emitter.fcmp(before, a, b), a, b)

    best = better(_tree(values, better), so_far)
    return emitter.select(wrong, emitter.const(float("nan"), best.type), best)


def _tree(values: Sequence[Value], both: Callable[[Value, Value], Value]) -> Value:
    """Neighbours together, and so on: the fewest steps one after another."""
    values = list(values)
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=False)
        rest = values[-1:] if len(values) % 2 else []
        values = [both(a, b) for a, b in pairs] + rest
    return values[0]


class SumWriter(Evaluator):
    """Starts, updates and completes sums, and stores values."""

    def __init__(
        self, emitter: Emitter, plan: Plan, layout: Layout, step: Step, vector: int
    ) -> None:
        super().__init__(emitter, plan, layout, step, vector)
        self.open: list[Index] = []
        self.width = 1  # turns of the jammed loop
        self.split: set[Statement] = set()  # sums over it, one per turn
        self.sums: dict[SumKey, Value] = {}  # running sums held in registers
        self.tile_rows = (Value("%begin", "i64"), Value("%end", "i64"))
        self.sum_places = {place.statement: place for place in step.sums}

    # -- loops -----------------------------------------------------------------------

    def _enter(self, item: Loop, counter: Value) -> None:
        scope = Scope(self.emitter.region, item)
        self.scopes.append(scope)
        if self.jam is item.index:
            for k in range(self.width):
                shift = self.emitter.const(k, "i64")
                here = self.emitter.binary("add", counter, shift) if k else counter
                scope.values[item.index, (item.index, k)] = here
        else:
            self.keep(item.index, counter, len(self.scopes) - 1)
        self.open.append(item.index)

    def _leave(self) -> None:
        self.home()
        self.scopes.pop()
        self.open.pop()

    # -- running sums ----------------------------------------------------------------

    def _sum_key(self, s: Statement) -> SumKey:
        """A sum, and which of the turns that run together it belongs to."""
        separate = self.jam is not None and (self.jam in s.domain or s in self.split)
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

    def identity(self, s: Statement) -> Value:
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

    # -- updates ---------------------------------------------------------------------

    def _accumulate(self, s: Statement) -> None:
        """One turn of a reduction."""
        key = self._sum_key(s)
        if key in self.sums:
            old = self.sums[key]
            self.sums[key] = self._added(s, old)
            self._rescale(s, old, self.sums[key])
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

    def extreme_of_turns(self, s: Statement) -> None:
        """Add the turns that run together to a minimum or maximum: first to each other,
        so that the turns do not wait for one another."""
        values = []
        for variant in range(self.width):
            self.variant = variant
            values.append(self.value(s.value))
        key = self._sum_key(s)
        self.sums[key] = _extreme_of(self.home(), kind_of(s), values, self.sums[key])

    def _row_sum(self, s: Statement) -> bool:
        return self.row is not None and self.row in s.bound

    def _added(self, s: Statement, old: Value) -> Value:
        """``old`` with the current term added; a product is fused with the sum."""
        term = term_of(s, self._stored, self._product)
        if old.type != self.type:
            term = Term((s.value,), False, ())
        values = [self.value(x) for x in term.factors]
        emitter = self.home()
        if term.negative:
            values[0] = emitter.fneg(values[0])
        if len(values) == 2:
            new = emitter.fma(values[0], values[1], old)
        else:
            value = operations.to_float_type(emitter, values[0], old.type)
            new = combine(emitter, kind_of(s), old, value)
        mask = self._sum_mask(s, term)
        return new if mask is None else self.home().select(mask, new, old)

    def _sum_mask(self, s: Statement, term: Term) -> Value | None:
        """The lanes in which a term counts; None for all."""
        rows = self.mask if self._row_sum(s) else None
        if not term.conditions:
            return rows
        key = ("sum mask", rows is None, term.conditions, self.lanes)
        if self.jam is not None and any(self.jam in c.free for c, _ in term.conditions):
            key = (*key, self.variant)  # type: ignore[assignment]
        found = self.find(key)
        if found is None:
            found = self.keep(key, *self._all_of(term.conditions, rows))
        self.home()
        return found[0]

    def _all_of(
        self, conditions: Sequence[tuple[Node, bool]], mask: Value | None
    ) -> Placed:
        level = 0 if mask is None else self.row_level
        for condition, wanted in conditions:
            value, inner = self.placed(condition)
            level = max(level, inner)
            emitter = self.at(level)
            if not wanted:
                value = emitter.binary("xor", value, emitter.const(True, "i1"))
            mask = value if mask is None else emitter.binary("and", mask, value)
        assert mask is not None
        return mask, level

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
        return self._lane_address_placed(place, indices).pointer

    def _lane_address_placed(self, place: Place, indices: Sequence[Node]) -> Address:
        base = self.memory("scratch", "scratch", place)
        strides = self.strides(place.shape, range(len(place.shape)))
        found = self.address(base, self.type, indices, strides, 0, self.vector)
        assert found.lanes == 1
        return found

    def _add_in_lanes(self, place: Place, indices: Sequence[Node]) -> None:
        """Add the vectors of a block, one after the other, to one vector of sums."""
        pointer = self._lane_address(place, indices)
        old = total = self.home().load(pointer, self.type, self.vector)
        s, kind = place.statement, kind_of(place.statement)
        term = term_of(s, self._stored, self._product)
        values = [self.value(x) for x in term.factors]
        mask = self._sum_mask(s, term)
        emitter = self.home()
        if term.negative:
            values[0] = emitter.fneg(values[0])
        columns = [self._vectors(v) for v in values]
        masks = [None] if mask is None else self._vectors(mask)
        for *terms, mask in zip(*columns, masks, strict=True):
            if len(terms) == 2:
                new = emitter.fma(terms[0], terms[1], total)
            else:
                new = combine(emitter, kind, total, terms[0])
            total = new if mask is None else emitter.select(mask, new, total)
        emitter.store(total, pointer)
        self._rescale(place.statement, old, total)

    def _vectors(self, value: Value) -> list[Value]:
        """The hardware vectors of a block of rows."""
        emitter = self.home()
        if value.type in operations.FLOATS:
            value = operations.to_float_type(emitter, value, self.type)
        return emitter.parts(emitter.splat(value, self.lanes), self.vector)

    def _rescale(self, s: Statement, old: Value, new: Value) -> None:
        """What is relative to the extremum ``s`` follows its change."""
        top = self.sum_places.get(s)
        places = [] if top is None else streams.followers(self.step, top)
        if top is None or not places:
            return
        assert self.row is not None
        so_far = streaming.running(s.node, self.row)  # type: ignore[arg-type]
        self.keep(so_far, new, len(self.scopes) - 1)
        pointers = []
        for place in places:
            rest = [graph.const(0)] * (len(place.axes) - len(top.axes))
            pointers.append(self._lane_address(place, (*top.axes, *rest)))
        streams.rescale(self, places, pointers, old, new)

    def _running(self, node: Node) -> Placed:
        if not self._accumulating(node):
            return super()._running(node)
        place = self.sum_places[self.plan.of[node.children[0]]]
        found = self._lane_address_placed(place, place.axes)
        level = max(found.level, self.row_level)
        return self.at(level).load(found.pointer, self.type, self.lanes), level

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
            elif place in self.layout.scaled_rows(self.step):
                pass  # added at the end of the block
            elif place in self.layout.row_scatters(self.step):
                self._keep_for_rows(place, targets[1:])
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

    def _keep_for_rows(self, place: Place, columns: Sequence[Node]) -> None:
        """Keep what is added to a chosen row until the end of the block."""
        value = self.value(place.statement.value)
        emitter = self.home()
        value = operations.to_float_type(emitter, value, self.type)
        value = emitter.splat(value, self.lanes)
        if self.mask is not None:
            value = emitter.select(self.mask, value, emitter.const(0.0, self.type))
        base = self.memory("scratch", "rows", self.step, place)
        shape = place.shape[1:]
        strides = self.strides(shape, range(len(shape)))
        at = self.address(base, self.type, columns, strides, 0, self.lanes)
        assert at.lanes == 1, "columns of chosen rows do not vary by lane"
        self.home().store(value, at.pointer)

    def _masked(self, targets: list[Node]) -> list[Node]:
        """Targets that are safe in lanes that are off: data-dependent ones are zero
        there already, rows beyond the end are clamped to the last row."""
        if self.mask is None or self.lanes == 1:
            return targets
        consecutive = (
            targets
            and self._row_offset(targets[-1])
            and not any(self.row in t.free for t in targets[:-1])
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

    # -- initial values --------------------------------------------------------------

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
        """Identity at all values of ``axes``; the other axes are at open indices."""
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

        def body(at: Value, width: int) -> None:
            e = self.emitter
            e.store(e.const(number, kind, width), e.gep(base, at, kind))

        emitter = self.home()
        count = self.count(shape)
        if lanes > 1:
            count = emitter.binary("mul", count, emitter.const(lanes, "i64"))
        self.stretches(count, body)

    def count(self, shape: Sequence[Node]) -> Value:
        """The number of elements of an array of ``shape``."""
        total: Node = graph.const(1)
        for extent in shape:
            total = graph.fold_int("mul", total, extent)
        return self.extent(total)[0]

    # -- stores ----------------------------------------------------------------------

    def _store_value(self, s: Statement, value: Value) -> None:
        """Keep a value that others read from memory."""
        self.written[s] = tuple(scope.loop for scope in self.scopes[1:])
        place = self.step.local.get(s) or self.plan.work.get(s)
        if place is not None and place.memory != "register" and place.sums is None:
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
