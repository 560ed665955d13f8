"""Evaluate graph nodes inside open loops.

Scopes mirror the open loops: scope 0 is the function, scope k the k-th loop. A value is
emitted into the outermost scope that has all it needs, which hoists invariants, and is
kept there, which shares common subexpressions.

Products inside sums are fused (FMA) by a rule that looks at the graph only, so that a
node has the same bits wherever it is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from symgrad import graph, ops
from symgrad.codegen import operations
from symgrad.codegen.layout import Layout, static_stride
from symgrad.codegen.llvm_text import Emitter, Region, Value
from symgrad.graph import Call, Const, Index, Input, Load, Node, Size
from symgrad.schedule.nest import Loop
from symgrad.schedule.plan import Place, Plan, Step
from symgrad.schedule.statements import Statement


@dataclass(eq=False)
class Scope:
    """One open loop: where its code goes and what has been computed in it."""

    region: Region
    loop: Loop | None = None
    values: dict[object, Value] = field(default_factory=dict)


@dataclass
class Address:
    """Elements to load or store: one, consecutive lanes, or one pointer per lane."""

    pointer: Value
    level: int
    lanes: int
    consecutive: bool


Placed = tuple[Value, int]  # a value and its scope number


class Evaluator:
    """Expression evaluation in one function. ``lanes`` > 1 only inside a pass."""

    def __init__(
        self, emitter: Emitter, plan: Plan, layout: Layout, step: Step, lanes: int
    ) -> None:
        self.emitter, self.plan, self.layout, self.step = emitter, plan, layout, step
        self.lanes = lanes
        self.type = "float" if layout.single else "double"
        self.scopes = [Scope(emitter.region)]
        # the index that lanes run along, while its loop is open: the rows of a pass,
        # or another axis in deferred sums
        self.row: Index | None = None
        self.row_base: Value | None = None
        self.row_level = 1
        self.tile_begin: Value | None = None  # first row of the current tile
        self.mask: Value | None = None
        self.jam: Index | None = None  # a loop of which several turns run together
        self.variant = 0  # which of these turns is being emitted
        self.written: dict[Statement, tuple[Loop | None, ...]] = {}
        self.checks = 0

    # -- scopes ----------------------------------------------------------------------

    def at(self, level: int) -> Emitter:
        """The emitter, writing into scope ``level``."""
        self.emitter.region = self.scopes[level].region
        return self.emitter

    def home(self) -> Emitter:
        """The emitter, writing into the innermost scope."""
        return self.at(len(self.scopes) - 1)

    def keep(self, key: object, value: Value, level: int) -> Placed:
        """Remember a value in its scope."""
        self.scopes[level].values[self._turn(key)] = value
        return value, level

    def _turn(self, key: object) -> object:
        """The key of a node that differs between turns which run together."""
        if self.jam is not None and isinstance(key, Node) and self.jam in key.free:
            return key, self.variant
        return key

    def find(self, key: object) -> Placed | None:
        """A value computed before, in any open scope."""
        key = self._turn(key)
        for level in range(len(self.scopes) - 1, -1, -1):
            value = self.scopes[level].values.get(key)
            if value is not None:
                return value, level
        return None

    def counted(
        self,
        begin: Value | int,
        end: Value,
        body: Callable[[Value, list[Value]], Sequence[Value] | None],
        carried: Sequence[Value] = (),
        step: int = 1,
    ) -> list[Value]:
        """A plain counting loop with a scope of its own."""

        def inside(counter: Value, phis: list[Value]) -> Sequence[Value]:
            self.scopes.append(Scope(self.emitter.region))
            results = body(counter, phis) or ()
            self.home()
            self.scopes.pop()
            return results

        emitter = self.home()
        start = emitter.const(begin, "i64") if isinstance(begin, int) else begin
        results = emitter.loop(start, end, step, carried, inside)
        self.home()
        return results

    def stepped(
        self,
        begin: Value,
        end: Value,
        step: Value,
        body: Callable[[Value, list[Value]], Sequence[Value]],
        carried: Sequence[Value] = (),
    ) -> list[Value]:
        """``counted`` with a step known at run time."""

        def inside(counter: Value, phis: list[Value]) -> Sequence[Value]:
            self.scopes.append(Scope(self.emitter.region))
            results = body(counter, phis)
            self.home()
            self.scopes.pop()
            return results

        results = self.home().loop(begin, end, step, carried, inside)
        self.home()
        return results

    def counted_inside(
        self, end: Value, step: int, body: Callable[[Value], None]
    ) -> None:
        """``counted`` from 0 that may stand inside a branch: it emits where the emitter
        is, and its body must not evaluate nodes."""

        def turn(counter: Value, _: list[Value]) -> Sequence[Value]:
            body(counter)
            return ()

        emitter = self.emitter
        emitter.loop(emitter.const(0, "i64"), end, step, (), turn)

    # -- evaluation ------------------------------------------------------------------

    def value(self, node: Node) -> Value:
        """The value of ``node``, emitted where needed; the emitter ends at home."""
        result = self.placed(node)[0]
        self.home()
        return result

    def compute(self, node: Call | Load) -> Value:
        """Evaluate a node that is a statement itself, from its operands."""
        for operand in self._operands(node):
            self.placed(operand)
        value, level = self._emit(node)
        self.keep(node, value, level)
        self.home()
        return value

    def placed(self, root: Node) -> Placed:
        """The value of ``root`` and its scope. Iterative: graphs may be deep."""
        stack = [root]
        while stack:
            node = stack[-1]
            if self.find(node) is not None:
                stack.pop()
                continue
            missing = [
                o for o in self._needed(node) if self.find(o) is None
            ]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            value, level = self._read(node) if self._stored(node) else self._emit(node)
            self.keep(node, value, level)
        found = self.find(root)
        assert found is not None
        return found

    def _stored(self, node: Node) -> bool:
        return node in self.plan.of

    def _needed(self, node: Node) -> Sequence[Node]:
        return () if self._stored(node) else self._operands(node)

    def _operands(self, node: Node) -> Sequence[Node]:
        if isinstance(node, Call):
            fused = self._fused(node)
            return fused if fused is not None else node.args
        if isinstance(node, Load):
            return [i for i in node.indices if not self._row_offset(i)]
        if isinstance(node, (Const, Size, Index)):
            return ()
        raise AssertionError(f"{type(node).__name__} is not a statement: {node}")

    def _emit(self, node: Node) -> Placed:
        if isinstance(node, Const):
            kind = operations.value_type(node, self.type)
            return self.emitter.const(node.value, kind), 0
        if isinstance(node, Size):
            return self.context("size", node.name, type="i64"), 0
        if isinstance(node, Index):
            return self._index(node)
        if isinstance(node, Load):
            return self._load(node)
        assert isinstance(node, Call), node
        return self._call(node)

    # -- operations ------------------------------------------------------------------

    def _fused(self, node: Call) -> tuple[Node, Node, Node] | None:
        """(a, b, c) of a*b ± c or c ± a*b, where the product has no other place."""
        if node.op not in ("add", "sub") or node.type != graph.FLOAT:
            return None
        left, right = node.args
        if self._product(left):
            assert isinstance(left, Call)
            return (*left.args, right)  # type: ignore[return-value]
        if self._product(right):
            assert isinstance(right, Call)
            return (*right.args, left)  # type: ignore[return-value]
        return None

    def _product(self, node: Node) -> bool:
        return isinstance(node, Call) and node.op == "mul" and not self._stored(node)

    def _call(self, node: Call) -> Placed:
        fused = self._fused(node)
        found = [f for a in (fused or node.args) if (f := self.find(a)) is not None]
        level = max((inner for _, inner in found), default=0)
        lanes = max((value.lanes for value, _ in found), default=1)
        args = [self.widen(value, lanes, inner) for value, inner in found]
        emitter = self.at(level)
        if fused is not None:
            return self._fma(emitter, node, args), level
        if node.op == "cast":
            return operations.cast(emitter, args[0], self.type), level
        return operations.emit(emitter, node.op, args), level

    def _fma(self, emitter: Emitter, node: Call, args: list[Value]) -> Value:
        a, b, c = args
        if node.op == "sub":
            if self._product(node.args[0]):
                c = emitter.fneg(c)
            else:
                a = emitter.fneg(a)
        return emitter.fma(a, b, c)

    def widen(self, value: Value, lanes: int, level: int) -> Value:
        """A scalar of scope ``level`` in every lane; splat once, in that scope."""
        if value.lanes == lanes:
            return value
        if value.literal:
            return self.emitter.splat(value, lanes)
        key = ("splat", value.name, lanes)
        found = self.find(key)
        if found is not None:
            return found[0]
        return self.keep(key, self.at(level).splat(value, lanes), level)[0]

    # -- indices ---------------------------------------------------------------------

    def _index(self, node: Index) -> Placed:
        if node is self.row:
            assert self.row_base is not None
            if self.lanes == 1:
                return self.row_base, self.row_level
            emitter = self.at(self.row_level)
            numbers = emitter.lane_numbers(self.lanes)
            return emitter.binary("add", self.row_base, numbers), self.row_level
        raise AssertionError(f"the loop over {graph.index_name(node)} is not open")

    def _row_offset(self, node: Node) -> bool:
        """Whether ``node`` is the row index plus a constant: consecutive in lanes."""
        if self.row is None or self.lanes == 1:
            return False
        if node is self.row:
            return True
        return (
            isinstance(node, Call)
            and node.op == "add"
            and node.args[0] is self.row
            and isinstance(node.args[1], Const)
        )

    def _row_value(self, node: Node) -> Placed:
        """The first lane of an index for which ``_row_offset`` holds."""
        assert self.row_base is not None
        if node is self.row:
            return self.row_base, self.row_level
        key = ("row base", node)
        found = self.find(key)
        if found is not None:
            return found
        assert isinstance(node, Call) and isinstance(node.args[1], Const)
        emitter = self.at(self.row_level)
        shift = emitter.const(node.args[1].value, "i64")
        moved = emitter.binary("add", self.row_base, shift)
        return self.keep(key, moved, self.row_level)

    # -- memory ----------------------------------------------------------------------

    def context(self, *key: object, type: str) -> Value:
        """A slot of the context, loaded at the top of the function."""
        found = self.find(("context", key))
        if found is not None:
            return found[0]
        emitter = self.at(0)
        slot = emitter.const(self.layout.slot(*key), "i64")
        pointer = emitter.gep(Value("%context", "ptr"), slot, "i64")
        value = emitter.load(pointer, type)
        return self.keep(("context", key), value, 0)[0]

    def memory(self, base: str, *key: object) -> Value:
        """``base`` ("work", "scratch" or "partial") plus an offset of the context."""
        found = self.find((base, key))
        if found is not None:
            return found[0]
        offset = self.context(*key, type="i64")
        pointer = self.at(0).gep(Value(f"%{base}", "ptr"), offset, "i8")
        return self.keep((base, key), pointer, 0)[0]

    def pointer_argument(self, table: str, number: int) -> Value:
        """Entry ``number`` of the table of parameter or output pointers."""
        key = (table, number)
        found = self.find(key)
        if found is not None:
            return found[0]
        emitter = self.at(0)
        slot = emitter.gep(
            Value(f"%{table}", "ptr"), emitter.const(number, "i64"), "ptr"
        )
        return self.keep(key, emitter.load(slot, "ptr"), 0)[0]

    def extent(self, node: Node) -> Placed:
        """A length, computed at the top of the function."""
        return self.placed(node)

    def strides(self, shape: Sequence[Node], order: Sequence[int]) -> list[Node]:
        """Elements from one index to the next per axis; ``order`` is slowest first."""
        result: list[Node] = [graph.const(1)] * len(shape)
        stride: Node = graph.const(1)
        for axis in reversed(order):
            result[axis] = stride
            stride = graph.fold_int("mul", stride, shape[axis])
        return result

    def address(
        self,
        base: Value,
        type: str,
        indices: Sequence[Node],
        strides: Sequence[Node | Value],
        level: int = 0,
        width: int = 1,
    ) -> Address:
        """Where ``indices`` point. ``width``: elements per index (lanes in scratch)."""
        terms: list[Placed] = []
        vectors: list[Placed] = []
        lane_stride: Node | Value | None = None
        for i, stride in zip(indices, strides, strict=True):
            if isinstance(i, Const) and i.value == 0:
                continue
            if self._row_offset(i):
                terms.append(self._times(self._row_value(i), stride))
                if lane_stride is not None:  # both axes are the row: a diagonal
                    vectors.append(self._times(self.placed(self.row), stride))  # type: ignore[arg-type]
                    terms.pop()
                    if i is not self.row:
                        assert isinstance(i, Call)
                        terms.append(self._times(self.placed(i.args[1]), stride))
                else:
                    lane_stride = stride
                continue
            term = self._times(self.placed(i), stride)
            (vectors if term[0].lanes > 1 else terms).append(term)
        pointer, level = self._offset(base, type, terms, level, width)
        if lane_stride is None and not vectors:
            return Address(pointer, level, 1, False)
        level = max([level, self.row_level, *(v[1] for v in vectors)])
        one = isinstance(lane_stride, Const) and lane_stride.value == 1
        if one and not vectors:
            return Address(pointer, level, self.lanes, True)
        if lane_stride is not None:
            vectors.insert(0, self._lane_offsets(lane_stride))
        emitter = self.at(level)
        total = vectors[0][0]
        for other, _ in vectors[1:]:
            total = emitter.binary("add", total, other)
        return Address(emitter.gep(pointer, total, type), level, self.lanes, False)

    def _offset(
        self, base: Value, type: str, terms: list[Placed], level: int, width: int
    ) -> Placed:
        """``base`` plus the scalar terms, outer ones first so that sums are hoisted."""
        pointer = base
        for value, inner in sorted(terms, key=lambda t: t[1]):
            level = max(level, inner)
            emitter = self.at(level)
            if width > 1:
                value = emitter.binary("mul", value, emitter.const(width, "i64"))
            pointer = emitter.gep(pointer, value, type)
        return pointer, level

    def _times(self, placed: Placed, stride: Node | Value) -> Placed:
        value, level = placed
        if isinstance(stride, Const):
            factor: Value = self.emitter.const(stride.value, "i64")
            if stride.value == 1:
                return placed
        elif isinstance(stride, Value):
            factor = stride
        else:
            factor, inner = self.placed(stride)
            level = max(level, inner)
        return self.at(level).binary("mul", value, factor), level

    def _lane_offsets(self, stride: Node | Value) -> Placed:
        key = ("lane offsets", stride if isinstance(stride, Node) else stride.name)
        found = self.find(key)
        if found is not None:
            return found
        numbers = (self.emitter.lane_numbers(self.lanes), 0)
        return self.keep(key, *self._times(numbers, stride))

    def fetch(self, address: Address, type: str) -> Value:
        """Load what an address points to, in its scope."""
        emitter = self.at(address.level)
        if address.lanes == 1:
            return emitter.load(address.pointer, type)
        assert self.mask is not None
        if address.consecutive:
            return emitter.load(address.pointer, type, address.lanes, self.mask)
        return emitter.gather(address.pointer, type, self.mask)

    # -- loads of inputs and arrays --------------------------------------------------

    def _load(self, node: Load) -> Placed:
        array = node.array
        if isinstance(array, Input):
            return self._load_input(node, array)
        place = self.plan.work[self.plan.of[array]]
        base = self.memory("work", "work", place)
        indices = self.checked(node.indices, array.shape)
        strides = self.strides(place.shape, place.order)
        kind = self.stored_type(place)
        address = self.address(base, kind, indices, strides)
        return self._as_value(self.fetch(address, kind), node, address.level)

    def _load_input(self, node: Load, array: Input) -> Placed:
        if self._tiled(node, array):
            return self._load_tile(node, array)
        spec = self.layout.specs[array.name]
        base, dtype = self._input_base(array)
        indices = self.checked(node.indices, array.shape)
        strides: list[Node | Value] = []
        for axis in range(len(array.shape)):
            static = static_stride(array.shape, axis) if spec.contiguous else None
            if static is None:
                strides.append(self.context("stride", array.name, axis, type="i64"))
            else:
                strides.append(graph.const(static))
        kind = operations.STORED[dtype][0]
        address = self.address(base, kind, indices, strides)
        loaded = self.fetch(address, kind)
        value = operations.from_memory(self.emitter, loaded, dtype, self.type)
        return value, address.level

    def _tiled(self, node: Load, array: Input) -> bool:
        """Whether the element is in the tile of the current block of rows."""
        if self.row is None or self.lanes == 1 or not node.indices:
            return False
        rows = node.indices[0] is self.row is self.step.row
        return rows and array in self.layout.tiles(self.step)

    def _load_tile(self, node: Load, array: Input) -> Placed:
        base = self.memory("scratch", "tile", array.name)
        shape = array.shape[1:]
        indices = self.checked(node.indices[1:], shape)
        strides = self.strides(shape, range(len(shape)))
        found = self.address(
            base, self.type, indices, strides, self.row_level, self.lanes
        )
        assert found.lanes == 1, "columns of tiles do not vary by lane"
        emitter = self.at(found.level)
        return emitter.load(found.pointer, self.type, self.lanes), found.level

    def _input_base(self, array: Input) -> tuple[Value, str]:
        spec = self.layout.specs[array.name]
        if not spec.parameter:
            return self.context("data", array.name, type="ptr"), spec.dtype
        if self.layout.single:
            return self.memory("work", "narrow", array.name), "float32"
        number = self.layout.parameters().index(array.name)
        return self.pointer_argument("params", number), "float64"

    def stored_type(self, place: Place) -> str:
        """The LLVM type of a place's elements in memory."""
        if place.wide:
            return "double"
        node = place.statement.node
        if node.type == graph.BOOL:
            return "i8"
        return operations.value_type(node, self.type)

    def _as_value(self, loaded: Value, node: Node, level: int) -> Placed:
        emitter = self.at(level)
        if node.type == graph.BOOL:
            return emitter.icmp("ne", loaded, emitter.const(0, "i8")), level
        if node.type == graph.FLOAT:
            return operations.to_float_type(emitter, loaded, self.type), level
        return loaded, level

    def _read(self, node: Node) -> Placed:
        """The value of another statement, from memory."""
        statement = self.plan.of[node]
        place = self.step.local.get(statement) or self.plan.work.get(statement)
        assert place is not None and place.memory != "register", statement
        level = self._visible(statement)
        address = self.place_address(place, level)
        kind = self.stored_type(place)
        if place.lanes and self.lanes > 1:
            value = self.at(address.level).load(address.pointer, kind, self.lanes)
        else:
            value = self.fetch(address, kind)
        return self._as_value(value, node, address.level)

    def place_address(self, place: Place, level: int = 0) -> Address:
        """The current element of a place, at the values of its axes."""
        strides = self.strides(place.shape, range(len(place.shape)))
        kind = self.stored_type(place)
        axes = place.axes
        base = self.memory(place.memory, place.memory, place)
        if place.kept:
            if self.row is not self.step.row and self.row in axes:
                return self._transposed_address(place, level)
            base, level = self._tile_base(base, kind, graph.const(1), level)
        width = self.lanes if place.lanes else 1
        return self.address(base, kind, axes, strides, level, width)

    def _transposed_address(self, place: Place, level: int) -> Address:
        """The element of a kept place in its copy with the lanes fastest."""
        lane, row = place.axes
        kind = self.stored_type(place)
        base = self.memory("scratch", "transposed", place)
        stride = self.padded(lane.extent)
        base, level = self._tile_base(base, kind, stride, level)
        return self.address(base, kind, (row, lane), (stride, graph.const(1)), level)

    def padded(self, extent: Node) -> Node:
        """A length rounded up to whole vectors."""
        lanes = graph.const(self.lanes)
        up = graph.fold_int("add", extent, graph.const(self.lanes - 1))
        blocks = ops.apply("floor_divide", up, lanes)
        return graph.fold_int("mul", blocks, lanes)

    def _tile_base(self, base: Value, kind: str, stride: Node, level: int) -> Placed:
        """``base`` moved so that absolute row numbers address a tile."""
        assert self.tile_begin is not None
        key = ("tile base", base.name, stride)
        found = self.find(key)
        if found is None:
            first, inner = self._times((self.tile_begin, 1), stride)
            emitter = self.at(max(inner, 1))
            zero = emitter.const(0, "i64")
            back = emitter.binary("sub", zero, first)
            found = self.keep(key, emitter.gep(base, back, kind), max(inner, 1))
        return found[0], max(level, found[1])

    def _visible(self, statement: Statement) -> int:
        """The outermost scope in which a value written earlier may be read."""
        path = self.written.get(statement, ())
        level = 0
        for scope, loop in zip(self.scopes[1:], path, strict=False):
            if scope.loop is not loop:
                break
            level += 1
        return level

    # -- bounds ----------------------------------------------------------------------

    def checked(self, indices: Sequence[Node], shape: Sequence[Node]) -> list[Node]:
        """The indices, with a run-time check where they are not provably inside."""
        return [
            i if provably_inside(i, extent) else self._clamped(i, extent)
            for i, extent in zip(indices, shape, strict=True)
        ]

    def _clamped(self, node: Node, extent: Node) -> Node:
        """An index that reads 0 where it is outside; the status tells that it was."""
        safe = graph.call("in bounds", node, extent, type=graph.INT)
        if self.find(safe) is not None:
            return safe
        (value, level), (length, outer) = self.placed(node), self.placed(extent)
        level = max(level, outer)
        emitter = self.at(level)
        outside = emitter.icmp("uge", value, length)
        if outside.lanes > 1:
            assert self.mask is not None
            outside = emitter.binary("and", outside, self.mask)
        status = self.pointer_argument("outs", len(self.plan.outputs))
        emitter = self.at(level)

        def report() -> None:
            emitter.store(emitter.const(1, "i64"), status)

        emitter.when(emitter.any_lane(outside), report)
        self.keep(safe, emitter.select(outside, emitter.const(0, "i64"), value), level)
        return safe


def provably_inside(node: Node, extent: Node) -> bool:
    """Whether 0 <= node < extent is certain from the form of the index."""
    shift = 0
    if isinstance(node, Call) and node.op == "add" and node.type == graph.INT:
        inner, constant = node.args
        if not isinstance(constant, Const) or not isinstance(inner, Index):
            return False
        node, shift = inner, int(constant.value)
    if isinstance(node, Const):
        size = extent.value if isinstance(extent, Const) else None
        return node.value >= 0 and size is not None and node.value < size
    if not isinstance(node, Index) or shift < 0:
        return False
    end = graph.fold_int("add", node.extent, graph.const(shift))
    room = graph.fold_int("sub", extent, end)
    return room is graph.const(0) or _affine_room(extent, end) >= 0


def _affine_room(extent: Node, end: Node) -> int:
    """extent - end where both are one length plus constants; -1 if unknown."""
    (a, x), (b, y) = _affine(extent), _affine(end)
    return x - y if a is b else -1


def _affine(node: Node) -> tuple[Node | None, int]:
    if isinstance(node, Const):
        return None, int(node.value)
    if isinstance(node, Call) and node.op == "add" and isinstance(node.args[1], Const):
        return node.args[0], int(node.args[1].value)
    return node, 0
