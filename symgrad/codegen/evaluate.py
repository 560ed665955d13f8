"""Evaluate graph nodes inside open loops.

Products inside sums are fused (FMA) by a rule that is the same for a node and for all
that are like it (``Plan.is_term``): it has the same bits wherever it is evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgrad import graph
from symgrad.codegen import operations, subroutines
from symgrad.codegen.addresses import Addresses
from symgrad.codegen.bounds import is_guarded, provably_inside
from symgrad.codegen.chosen_rows import RowGather
from symgrad.codegen.layout import static_stride
from symgrad.codegen.llvm_text import Emitter, Value
from symgrad.codegen.scopes import Placed
from symgrad.graph import Call, Const, Index, Input, Load, Node, Size
from symgrad.schedule.cost import CHECKED
from symgrad.schedule.statements import Statement
from symgrad.schedule.streaming import is_running


class Evaluator(Addresses):
    """Values of expressions."""

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
            missing = [o for o in self._needed(node) if self.find(o) is None]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            value, level = self._read(node) if self._stored(node) else self._emit(node)
            self.keep(node, value, level)
            self.divide()
        found = self.find(root)
        assert found is not None
        return found

    def extent(self, node: Node) -> Placed:
        """A length, computed at the top of the function."""
        return self.placed(node)

    def _stored(self, node: Node) -> bool:
        return node in self.plan.of

    def _needed(self, node: Node) -> Sequence[Node]:
        return () if self._stored(node) else self._operands(node)

    def _operands(self, node: Node) -> Sequence[Node]:
        if isinstance(node, Call):
            if is_running(node):
                return () if self._accumulating(node) else node.args[:1]
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
        if node.op == CHECKED:
            return self.placed(self._checked(node.args[0], node.args[1]))
        return self._running(node) if is_running(node) else self._call(node)

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
        return self.plan.is_term(node)

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
        if operations.is_basic(node.op):
            return operations.emit(emitter, node.op, args), level
        return self._function(emitter, node, args, lanes), level

    def _function(
        self, emitter: Emitter, node: Call, args: list[Value], lanes: int
    ) -> Value:
        """A function of the vector math, one hardware vector after the other: their
        many constants and intermediate values need the registers. Turns that run
        together, and those left over, call a subroutine rather than to have a copy
        each."""
        results, op = [], node.op
        copied = self.repeated is not None and self.repeated in node.free
        pieces = [self._pieces(emitter, a, lanes) for a in args]
        for parts in map(list, zip(*pieces, strict=True)):
            if op in self.layout.called or (copied and op != "polygamma"):
                attributes = self.layout.attributes
                results.append(subroutines.call(emitter, op, parts, attributes))
            else:
                results.append(operations.emit(emitter, op, parts))
        return emitter.join(results)

    def _pieces(self, emitter: Emitter, value: Value, lanes: int) -> list[Value]:
        """The hardware vectors of ``value``, as many as ``lanes`` need."""
        if value.lanes <= self.vector:
            return [value] * -(-lanes // self.vector)
        return emitter.parts(value, self.vector)

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

    def _index(self, node: Index) -> Placed:
        if node is self.row:
            assert self.row_base is not None
            if self.lanes == 1:
                return self.row_base, self.row_level
            emitter = self.at(self.row_level)
            numbers = emitter.lane_numbers(self.lanes)
            return emitter.binary("add", self.row_base, numbers), self.row_level
        raise AssertionError(f"the loop over {graph.index_name(node)} is not open")

    # -- extrema of the rows so far --------------------------------------------------

    def _accumulating(self, node: Node) -> bool:
        """Whether the extremum is being looked for in this pass."""
        statement = self.plan.of[node.children[0]]
        return any(place.statement is statement for place in self.step.sums)

    def _running(self, node: Node) -> Placed:
        """The extremum of the rows so far; of all rows, if an earlier pass found it."""
        found = self.find(node.children[0])
        assert found is not None
        return found

    # -- loads -----------------------------------------------------------------------

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
        mask = self._guard(node.indices, array.shape)
        return self._as_value(self.fetch(address, kind, mask), node, address.level)

    def _load_input(self, node: Load, array: Input) -> Placed:
        if self._tiled(node, array):
            return self._load_column(node, "tile", self.step, array.name)
        if self._is_row_gather(node, array):
            gather = RowGather(array, node.indices[0])
            return self._load_column(node, "rows", self.step, gather)
        spec = self.layout.specs[array.name]
        base, dtype = self.input_base(array)
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
        self.prefetch(node, address, kind)
        loaded = self.fetch(address, kind, self._guard(node.indices, array.shape))
        value = operations.from_memory(self.emitter, loaded, dtype, self.type)
        return value, address.level

    def _tiled(self, node: Load, array: Input) -> bool:
        """Whether the element is in the tile of the current block of rows."""
        if self.row is None or self.lanes == 1 or not node.indices:
            return False
        rows = node.indices[0] is self.row is self.step.row
        return rows and array in self.layout.tiles(self.step)

    def _is_row_gather(self, node: Load, array: Input) -> bool:
        """Whether the element is in the chosen rows of the current block."""
        if self.row is not self.step.row or self.lanes == 1 or len(node.indices) < 2:
            return False
        if any(self.row in i.free for i in node.indices[1:]):
            return False
        gather = RowGather(array, node.indices[0])
        return gather in self.layout.row_gathers(self.step)

    def _load_column(self, node: Load, *key: object) -> Placed:
        """One column of a block of rows that was copied to scratch memory."""
        base = self.memory("scratch", *key)
        shape = node.array.shape[1:]
        indices = self.checked(node.indices[1:], shape)
        strides = self.strides(shape, range(len(shape)))
        found = self.address(
            base, self.type, indices, strides, self.row_level, self.lanes
        )
        assert found.lanes == 1, "columns of tiles do not vary by lane"
        emitter = self.at(found.level)
        return emitter.load(found.pointer, self.type, self.lanes), found.level

    def input_base(self, array: Input) -> tuple[Value, str]:
        spec = self.layout.specs[array.name]
        if not spec.parameter:
            return self.context("data", array.name, type="ptr"), spec.dtype
        if array.name in self.layout.narrowed:
            return self.memory("work", "narrow", array.name), "float32"
        number = self.layout.parameter_numbers[array.name]
        return self.pointer_argument("params", number), "float64"

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
            self._checked(i, extent) for i, extent in zip(indices, shape, strict=True)
        ]

    def _checked(self, node: Node, extent: Node) -> Node:
        if provably_inside(node, extent):
            return node
        if is_guarded(node):
            return node if self._row_offset(node) else self._clamped(node, extent)
        return self._reported(node, extent)

    def _guard(self, indices: Sequence[Node], shape: Sequence[Node]) -> Value | None:
        """The rows whose shifted index is inside; None if that is certain."""
        mask = self.mask
        for i, extent in zip(indices, shape, strict=True):
            if not self._row_offset(i) or provably_inside(i, extent):
                continue
            key = ("guard", i, extent)
            found = self.find(key)
            if found is None:
                (value, _), (length, _) = self.placed(i), self.placed(extent)
                inside = self.at(self.row_level).icmp("ult", value, length)
                found = self.keep(key, inside, self.row_level)
            assert mask is not None
            mask = self.at(self.row_level).binary("and", mask, found[0])
        self.home()
        return mask if mask is not self.mask else None

    def _clamped(self, node: Node, extent: Node) -> Node:
        """The nearest index inside."""
        safe = graph.call("clamped", node, extent, type=graph.INT)
        if self.find(safe) is None:
            (value, level), (length, outer) = self.placed(node), self.placed(extent)
            level = max(level, outer)
            emitter = self.at(level)
            zero, one = emitter.const(0, "i64"), emitter.const(1, "i64")
            last = emitter.binary("sub", length, one)
            value = emitter.select(emitter.icmp("slt", value, last), value, last)
            value = emitter.select(emitter.icmp("sgt", value, zero), value, zero)
            self.keep(safe, value, level)
        return safe

    def _reported(self, node: Node, extent: Node) -> Node:
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
