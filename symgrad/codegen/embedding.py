"""Move whole rows that the data choose: ``U[i]`` and the gradient of U.

Lanes are rows of the pass. The rows of U that a block needs are read as vectors along
their columns and transposed in registers, so that each column is one vector of lanes in
scratch memory, where the pass reads it. What the pass adds to rows of a gradient goes
the same way back: kept by column, transposed at the end of the block, and added row by
row, in the order of the rows, because two lanes may mean the same row. If it is another
row that the data choose times a factor (each factor of a matrix factorisation in the
gradient of the other), it is read and added row by row, and nothing is transposed back.
"""

from __future__ import annotations

from collections.abc import Callable

from symgrad.codegen import operations
from symgrad.codegen.chosen_rows import RowGather, ScaledRow, elements
from symgrad.codegen.llvm_text import Emitter, Value
from symgrad.codegen.sums import SumWriter
from symgrad.codegen.tiles import transpose_square
from symgrad.graph import Const, Node
from symgrad.schedule.plan import Place

UNROLLED_COLUMNS = 64
"""Rows of at most so many static elements are moved by straight-line code."""


def load_rows(writer: SumWriter, gather: RowGather) -> None:
    """Fill scratch memory with the rows of the current block."""
    array = gather.array
    (index,) = writer.checked([gather.index], [array.shape[0]])
    base, dtype = writer.input_base(array)
    rows = _Rows(writer, index, array.shape, base, operations.STORED[dtype][0])
    target = writer.memory("scratch", "rows", writer.step, gather)
    rows.when_any(lambda: rows.each_block(lambda c: rows.load(c, target)))


def add_rows(writer: SumWriter, place: Place) -> None:
    """Add what the current block has kept to the rows of the chunk's partial sums."""
    s = place.statement
    (index,) = writer.checked(s.targets[:1], place.shape[:1])
    base = writer.memory("partial", "partial", place)
    scaled = writer.layout.scaled_rows(writer.step).get(place)
    if scaled is not None:
        terms = _Scaled(writer, place, scaled)
        rows = _Rows(writer, index, place.shape, base, "double")
        rows.when_any(lambda: rows.each_block(lambda c: rows.add_scaled(c, terms)))
        return
    rows = _Rows(writer, index, place.shape, base, "double")
    source = writer.memory("scratch", "rows", writer.step, place)
    rows.when_any(lambda: rows.each_block(lambda c: rows.add(c, source)))


class _Scaled:
    """Chosen rows times a factor each, read again from where they are: neither they
    nor the products need to be transposed.

    Lanes that are off read a row of zeros, so that they add zero whatever row 0 holds.
    Both that row and the factors are in scratch memory: they are read one by one.
    """

    def __init__(self, writer: SumWriter, place: Place, scaled: ScaledRow) -> None:
        self.writer, array = writer, scaled.source.array
        lanes, type = writer.lanes, writer.type
        (index,) = writer.checked([scaled.source.index], [array.shape[0]])
        numbers, columns = writer.value(index), writer.placed(elements(array.shape[1:]))
        factor = writer.value(scaled.factor)
        scratch = writer.memory("scratch", "rows", writer.step, place)
        base, dtype = writer.input_base(array)
        self.kind = operations.STORED[dtype][0]
        emitter = writer.home()
        if scaled.negative:
            factor = emitter.fneg(factor)
        offsets = emitter.binary("mul", numbers, emitter.splat(columns[0], lanes))
        assert writer.mask is not None
        rows = emitter.gep(base, offsets, self.kind)
        rows = emitter.select(writer.mask, rows, emitter.splat(scratch, lanes))
        self.rows = [emitter.extract(rows, k) for k in range(lanes)]
        factor = emitter.splat(factor, lanes)
        factor = emitter.select(writer.mask, factor, emitter.const(0.0, type))
        self.factors = emitter.gep(scratch, columns[0], "double")
        emitter.store(factor, self.factors)

    def load(self, k: int, column: Value, mask: Value | None) -> Value:
        """A vector of columns of the row of lane ``k``, times its factor."""
        emitter, type = self.writer.emitter, self.writer.type
        pointer = emitter.gep(self.rows[k], column, self.kind)
        row = emitter.load(pointer, self.kind, self.writer.vector, mask)
        at = emitter.gep(self.factors, emitter.const(k, "i64"), type)
        row = operations.to_float_type(emitter, row, type)
        return emitter.binary("fmul", row, emitter.load(at, type))


def clear_rows(writer: SumWriter) -> None:
    """Make the rows of zeros that lanes which are off read."""
    for place in writer.layout.scaled_rows(writer.step):
        base = writer.memory("scratch", "rows", writer.step, place)
        writer.fill(base, place.shape[1:], "double", 1, 0.0)


class _Rows:
    """The rows of an array at ``base`` that the lanes of the current block choose."""

    def __init__(
        self,
        writer: SumWriter,
        index: Node,
        shape: tuple[Node, ...],
        base: Value,
        kind: str,
    ) -> None:
        self.writer, self.kind = writer, kind
        self.lanes, self.vector = writer.lanes, writer.vector
        columns = elements(shape[1:])
        self.static = int(columns.value) if isinstance(columns, Const) else None
        self.columns = writer.placed(columns)[0]
        self.count = writer.placed(shape[0])[0]
        numbers = writer.value(index)
        assert writer.mask is not None and numbers.lanes == self.lanes
        emitter = writer.home()
        zero = emitter.const(0, "i64")
        numbers = emitter.select(writer.mask, numbers, zero)
        offsets = emitter.binary(
            "mul", numbers, emitter.splat(self.columns, self.lanes)
        )
        self.rows = [
            emitter.gep(base, emitter.extract(offsets, k), kind)
            for k in range(self.lanes)
        ]

    @property
    def emitter(self) -> Emitter:
        """The emitter, where it is."""
        return self.writer.emitter

    def when_any(self, action: Callable[[], None]) -> None:
        """Only if the array has rows: lanes that are off mean row 0."""
        emitter = self.writer.home()
        some = emitter.icmp("sgt", self.count, emitter.const(0, "i64"))
        emitter.when(some, action)

    def each_block(self, action: Callable[[Value], None]) -> None:
        """``action`` at column 0, vector, 2 vector, …"""
        if self.static is not None and self.static <= UNROLLED_COLUMNS:
            for column in range(0, self.static, self.vector):
                action(self.emitter.const(column, "i64"))
            return
        self.writer.counted_inside(self.columns, self.vector, action)

    def load(self, column: Value, target: Value) -> None:
        """Columns column .. column + vector - 1 of all rows, to ``target``."""
        mask = self._mask(column)
        for first in range(0, self.lanes, self.vector):
            vectors = [self._load(row, column, mask) for row in self._some(first)]
            for k, found in enumerate(transpose_square(self.emitter, vectors)):
                self.emitter.store(found, self._kept(target, column, k, first))

    def add(self, column: Value, source: Value) -> None:
        """Add these columns of ``source`` to all rows."""
        mask, type = self._mask(column), self.writer.type
        for first in range(0, self.lanes, self.vector):
            vectors = [
                self.emitter.load(
                    self._kept(source, column, k, first), type, self.vector
                )
                for k in range(self.vector)
            ]
            vectors = transpose_square(self.emitter, vectors)
            for row, terms in zip(self._some(first), vectors, strict=True):
                self._add_row(row, column, terms, mask)

    def add_scaled(self, column: Value, terms: _Scaled) -> None:
        """Add these columns of other rows, each times its factor, to all rows."""
        mask = self._mask(column)
        for k, row in enumerate(self.rows):
            self._add_row(row, column, terms.load(k, column, mask), mask)

    def _add_row(
        self, row: Value, column: Value, terms: Value, mask: Value | None
    ) -> None:
        emitter = self.emitter
        terms = operations.to_float_type(emitter, terms, "double")
        pointer = emitter.gep(row, column, self.kind)
        old = emitter.load(pointer, "double", self.vector, mask)
        emitter.store(emitter.binary("fadd", old, terms), pointer, mask)

    def _some(self, first: int) -> list[Value]:
        return self.rows[first : first + self.vector]

    def _load(self, row: Value, column: Value, mask: Value | None) -> Value:
        emitter = self.emitter
        pointer = emitter.gep(row, column, self.kind)
        found = emitter.load(pointer, self.kind, self.vector, mask)
        return operations.to_float_type(emitter, found, self.writer.type)

    def _mask(self, column: Value) -> Value | None:
        """The columns that there are, or None if all of a block are."""
        emitter = self.emitter
        static = self.static if column.literal else None
        if static is not None and int(column.name) + self.vector <= static:
            return None
        left = emitter.binary("sub", self.columns, column)
        numbers = emitter.lane_numbers(self.vector)
        return emitter.icmp("slt", numbers, emitter.splat(left, self.vector))

    def _kept(self, base: Value, column: Value, k: int, first: int) -> Value:
        """Where column ``column + k`` of the lanes from ``first`` is kept."""
        emitter, type = self.emitter, self.writer.type
        if column.literal:
            at = emitter.const((int(column.name) + k) * self.lanes + first, "i64")
            return emitter.gep(base, at, type)
        start = emitter.binary("mul", column, emitter.const(self.lanes, "i64"))
        below = emitter.const(k * self.lanes + first, "i64")
        return emitter.gep(emitter.gep(base, start, type), below, type)
