"""Addresses of array elements: one, consecutive lanes, or one pointer per lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from symgrad import graph, ops
from symgrad.codegen import operations
from symgrad.codegen.llvm_text import BYTES, Value
from symgrad.codegen.scopes import Placed, Scopes
from symgrad.graph import Call, Const, Load, Node
from symgrad.schedule.plan import Place
from symgrad.schedule.statements import shift

PREFETCH_BYTES = 4096
"""How far ahead of the row loop its data are asked for."""

LINE_BYTES = 64


@dataclass
class Address:
    """Elements to load or store: one, consecutive lanes, or one pointer per lane."""

    pointer: Value
    level: int
    lanes: int
    consecutive: bool


class Addresses(Scopes):
    """Address arithmetic, hoisted to where the indices are known."""

    def placed(self, root: Node) -> Placed:
        """The value of a node and its scope; see :class:`Evaluator`."""
        raise NotImplementedError

    # -- the index that lanes run along ----------------------------------------------

    def _row_offset(self, node: Node) -> bool:
        """Whether ``node`` is the row index plus a constant: consecutive in lanes."""
        if self.row is None or self.lanes == 1:
            return False
        return shift(node, self.row) is not None

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

    # -- addresses -------------------------------------------------------------------

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
            offset = value
            if width > 1:
                offset = emitter.binary("mul", value, emitter.const(width, "i64"))
            pointer = emitter.gep(pointer, offset, type)
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
        name = stride if isinstance(stride, Node) else stride.name
        key = ("lane offsets", name, self.lanes)
        found = self.find(key)
        if found is not None:
            return found
        numbers = (self.emitter.lane_numbers(self.lanes), 0)
        return self.keep(key, *self._times(numbers, stride))

    def prefetch(self, node: Load, address: Address, type: str) -> None:
        """Ask for what a later block of rows loads from consecutive places. Several
        arrays read at once, or gathers beside them, keep the hardware from doing so.
        Once for all shifted reads of one array."""
        if self.lanes == 1 or not address.consecutive:
            return
        places = (self.row if self._row_offset(i) else i for i in node.indices)
        key = ("prefetch", node.array, *places)
        if self.find(key) is not None:
            return
        self.keep(key, address.pointer, address.level)
        emitter = self.at(address.level)
        count = address.lanes * BYTES[type]
        for line in range(0, count, LINE_BYTES):
            ahead = emitter.const(PREFETCH_BYTES + line, "i64")
            emitter.prefetch(emitter.gep(address.pointer, ahead, "i8"))

    def fetch(self, address: Address, type: str, mask: Value | None = None) -> Value:
        """Load what an address points to, in its scope.

        mask: the lanes to load, if fewer than all rows of the block.
        """
        emitter = self.at(address.level)
        if address.lanes == 1:
            return emitter.load(address.pointer, type)
        mask = mask or self.mask
        if address.consecutive:
            return emitter.load(address.pointer, type, address.lanes, mask)
        assert mask is not None
        return emitter.gather(address.pointer, type, mask)

    # -- places of the plan ----------------------------------------------------------

    def stored_type(self, place: Place) -> str:
        """The LLVM type of a place's elements in memory."""
        if place.wide:
            return "double"
        node = place.statement.node
        if node.type == graph.BOOL:
            return "i8"
        return operations.value_type(node, self.type)

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
        lanes = graph.const(self.vector)
        up = graph.fold_int("add", extent, graph.const(self.vector - 1))
        blocks = ops.apply("floor_divide", up, lanes)
        return graph.fold_int("mul", blocks, lanes)

    def _tile_base(self, base: Value, kind: str, stride: Node, level: int) -> Placed:
        """``base`` moved so that absolute row numbers address a tile."""
        assert self.tile_begin is not None
        key = ("tile base", base.name, stride)
        found = self.find(key)
        if found is None:
            first, inner = self._times((self.tile_begin, self.tile_level), stride)
            inner = max(inner, self.tile_level)
            emitter = self.at(inner)
            zero = emitter.const(0, "i64")
            back = emitter.binary("sub", zero, first)
            found = self.keep(key, emitter.gep(base, back, kind), inner)
        return found[0], max(level, found[1])
