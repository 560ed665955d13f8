"""Load blocks of rows of row-major arrays: transposed in registers, once per block.

Lanes are rows, but rows are far apart in memory: reading one column of a block is a
gather. For a whole block it is cheaper to read 128-bit pieces of each row and transpose
them in registers, so that each column becomes one vector in scratch memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgrad.codegen import operations
from symgrad.codegen.addresses import LINE_BYTES
from symgrad.codegen.chosen_rows import elements
from symgrad.codegen.llvm_text import BYTES, Emitter, Value
from symgrad.codegen.sums import SumWriter
from symgrad.graph import Const, Input
from symgrad.schedule.plan import Place

PIECE_BYTES = 16
PREFETCH_BYTES = 16384
"""How far ahead of the row loop rows are asked for."""

UNROLLED_COLUMNS = 32
"""Rows of at most so many static elements are loaded by straight-line code."""


def load_tile(writer: SumWriter, array: Input, end: Value) -> None:
    """Fill the scratch tile of ``array`` with the rows of the current block.

    ``end``: one past the last row of the chunk. In the last block, lanes beyond it are
    zero.
    """
    assert writer.row_base is not None
    tile = _Tile(writer, array)
    emitter = writer.home()
    after = emitter.binary("add", writer.row_base, emitter.const(writer.lanes, "i64"))
    full = emitter.icmp("sle", after, end)
    if tile.static is None:  # a piece must fit into a row
        room = emitter.const(tile.piece, "i64")
        full = emitter.binary("and", full, emitter.icmp("sge", tile.columns, room))
    emitter.when(full, tile.transposed)
    partial = emitter.binary("xor", full, emitter.const(True, "i1"))
    emitter.when(partial, tile.gathered)


class _Tile:
    """Everything both ways of loading need, computed outside of the branches.

    Whole blocks are loaded one hardware vector of rows after the other.
    """

    def __init__(self, writer: SumWriter, array: Input) -> None:
        self.writer, self.array = writer, array
        self.lanes, self.vector = writer.lanes, writer.vector
        base, dtype = writer.input_base(array)
        self.kind = operations.STORED[dtype][0]
        self.piece = PIECE_BYTES // BYTES[self.kind]
        columns = elements(array.shape[1:])
        self.static = int(columns.value) if isinstance(columns, Const) else None
        self.columns = writer.placed(columns)[0]
        self.target = writer.memory("scratch", "tile", writer.step, array.name)
        assert writer.row_base is not None
        emitter = writer.home()
        offset = emitter.binary("mul", writer.row_base, self.columns)
        self.source = emitter.gep(base, offset, self.kind)

    @property
    def emitter(self) -> Emitter:
        """The emitter, where it is."""
        return self.writer.emitter

    # -- full blocks -----------------------------------------------------------------

    def transposed(self) -> None:
        """All rows, one hardware vector of them after the other."""
        if self.lanes == self.vector:
            self._rows(self.emitter.const(0, "i64"))
            return
        end = self.emitter.const(self.lanes, "i64")
        self.writer.counted_inside(end, self.vector, self._rows)

    def _rows(self, first: Value) -> None:
        """All columns of some rows, ``piece`` at a time; the last piece may overlap."""
        emitter = self.emitter
        down = emitter.binary("mul", first, self.columns)
        start = emitter.gep(self.source, down, self.kind)
        self._prefetch(start)
        target = emitter.gep(self.target, first, self.writer.type)
        if self.static is not None and self.static < self.piece:
            self._narrow_rows(start, target)
            return
        rows = [start]
        for k in range(1, self.vector):
            if self.static is not None:  # part of the addresses
                below = emitter.const(k * self.static, "i64")
                rows.append(emitter.gep(start, below, self.kind))
            else:
                rows.append(emitter.gep(rows[-1], self.columns, self.kind))

        def piece(column: Value) -> None:
            self._piece(rows, target, column)

        if self.static is not None and self.static <= UNROLLED_COLUMNS:
            starts = list(range(0, self.static - self.piece + 1, self.piece))
            if self.static % self.piece:
                starts.append(self.static - self.piece)
            for column in starts:
                piece(emitter.const(column, "i64"))
            return
        last = emitter.binary("sub", self.columns, emitter.const(self.piece - 1, "i64"))
        self.writer.counted_inside(last, self.piece, piece)
        piece(emitter.binary("sub", self.columns, emitter.const(self.piece, "i64")))

    def _narrow_rows(self, start: Value, target: Value) -> None:
        """Rows shorter than a piece: all their elements as they are in memory, sorted
        by column. (A quarter of the time of gathers; twice that of pieces.)"""
        emitter, columns, lanes = self.emitter, self.static, self.vector
        assert columns is not None
        found = [
            emitter.load(
                emitter.gep(start, emitter.const(k * lanes, "i64"), self.kind),
                self.kind,
                lanes,
            )
            for k in range(columns)
        ]
        for column in range(columns):
            places = [lane * columns + column for lane in range(lanes)]
            vector = _picked(emitter, found, places)
            self._put(vector, target, emitter.const(column, "i64"))

    def _prefetch(self, start: Value) -> None:
        """Ask for the rows of a later block, if they are not too wide."""
        if self.static is None or self.static > UNROLLED_COLUMNS:
            return
        size = BYTES[self.kind]
        for line in range(0, self.vector * self.static * size, LINE_BYTES):
            ahead = self.emitter.const(PREFETCH_BYTES + line, "i64")
            self.emitter.prefetch(self.emitter.gep(start, ahead, "i8"))

    def _piece(self, rows: Sequence[Value], target: Value, column: Value) -> None:
        """Columns column .. column+piece-1 of some rows."""
        emitter, piece = self.emitter, self.piece
        at = [emitter.gep(row, column, self.kind) for row in rows]
        for k, vector in enumerate(transposed_piece(emitter, at, self.kind, piece)):
            self._put(vector, target, _plus(emitter, column, k))

    def _put(self, vector: Value, target: Value, column: Value) -> None:
        """Store one column, in the compute type."""
        emitter = self.emitter
        vector = operations.to_float_type(emitter, vector, self.writer.type)
        if column.literal:
            at = emitter.const(int(column.name) * self.lanes, "i64")
        else:
            at = emitter.binary("mul", column, emitter.const(self.lanes, "i64"))
        emitter.store(vector, emitter.gep(target, at, self.writer.type))

    # -- the last block --------------------------------------------------------------

    def gathered(self) -> None:
        """Column by column with masked gathers."""
        emitter, writer = self.emitter, self.writer
        numbers = emitter.lane_numbers(self.lanes)
        offsets = emitter.binary(
            "mul", numbers, emitter.splat(self.columns, self.lanes)
        )

        def column(at: Value) -> None:
            assert writer.mask is not None
            pointer = emitter.gep(self.source, at, self.kind)
            pointers = emitter.gep(pointer, offsets, self.kind)
            found = emitter.gather(pointers, self.kind, writer.mask)
            self._put(found, self.target, at)

        writer.counted_inside(self.columns, 1, column)


def transposed_piece(
    emitter: Emitter, rows: Sequence[Value], kind: str, piece: int
) -> list[Value]:
    """``piece`` columns of some rows, 128 bits from where each of ``rows`` points:
    piece x piece blocks within 128-bit lanes, by interleaving."""
    lanes = len(rows)
    loads = [emitter.load(row, kind, piece) for row in rows]
    groups = [emitter.join(loads[k::piece]) for k in range(piece)]
    if piece == 2:
        low, high = groups
        return [emitter.interleave(low, high, lanes, 2, k) for k in (0, 1)]
    a, b, c, d = groups
    ab = [emitter.interleave(a, b, lanes, 4, k) for k in (0, 1)]
    cd = [emitter.interleave(c, d, lanes, 4, k) for k in (0, 1)]
    return [
        emitter.interleave_pairs(ab[h], cd[h], lanes, k) for h in (0, 1) for k in (0, 1)
    ]


def _picked(emitter: Emitter, vectors: list[Value], places: list[int]) -> Value:
    """The elements at ``places`` of all vectors, one after the other."""
    lanes = vectors[0].lanes
    result = vectors[0]
    for number, vector in enumerate(vectors[1:], 1):
        start = number * lanes
        # what an earlier vector holds is at its place already, once there are two
        result = emitter.shuffle(
            result,
            vector,
            [
                lanes + place - start
                if place >= start and place < start + lanes
                else (lane if number > 1 else min(place, lanes - 1))
                for lane, place in enumerate(places)
            ],
        )
    return result


def _plus(emitter: Emitter, a: Value, k: int) -> Value:
    """``a + k``, folded where ``a`` is a literal: part of an address then."""
    if a.literal:
        return emitter.const(int(a.name) + k, "i64")
    return emitter.binary("add", a, emitter.const(k, "i64"))


def transpose_kept(writer: SumWriter, place: Place) -> None:
    """Copy what a tile keeps of a value, rows fastest, into lanes fastest.

    Blocks of lanes x lanes are transposed in registers. The copy is padded to whole
    blocks; what lies beyond the last row or lane is not meaningful.
    """
    lane, _ = place.axes
    extent, _ = writer.placed(lane.extent)
    rows, _ = writer.placed(place.shape[-1])
    width, _ = writer.placed(writer.padded(lane.extent))
    source = writer.memory("scratch", "scratch", place)
    target = writer.memory("scratch", "transposed", place)
    emitter, lanes, kind = writer.home(), writer.vector, writer.type
    first, end = writer.tile_rows
    count = emitter.binary("sub", end, first)
    last = emitter.binary("sub", extent, emitter.const(1, "i64"))

    def block(column: Value, row: Value) -> None:
        vectors = []
        for k in range(lanes):
            at = emitter.binary("add", column, emitter.const(k, "i64"))
            at = emitter.select(emitter.icmp("slt", at, last), at, last)
            offset = emitter.binary("add", emitter.binary("mul", at, rows), row)
            vectors.append(emitter.load(emitter.gep(source, offset, kind), kind, lanes))
        for k, vector in enumerate(transpose_square(emitter, vectors)):
            at = emitter.binary("add", row, emitter.const(k, "i64"))
            offset = emitter.binary("add", emitter.binary("mul", at, width), column)
            emitter.store(vector, emitter.gep(target, offset, kind))

    def columns(row: Value, _: list[Value]) -> None:
        writer.counted(0, extent, lambda column, _: block(column, row), step=lanes)

    writer.counted(0, count, columns, step=lanes)


def transpose_square(emitter: Emitter, vectors: list[Value]) -> list[Value]:
    """Transpose n vectors of n lanes: log2(n) rounds of exchanging halves of blocks."""
    lanes = len(vectors)
    size = 1
    while size < lanes:
        low = [k for k in range(lanes) if not k & size]
        first = [k if not k & size else lanes + k - size for k in range(lanes)]
        second = [k + size if not k & size else lanes + k for k in range(lanes)]
        exchanged = list(vectors)
        for k in low:
            a, b = vectors[k], vectors[k + size]
            exchanged[k] = emitter.shuffle(a, b, first)
            exchanged[k + size] = emitter.shuffle(a, b, second)
        vectors = exchanged
        size *= 2
    return vectors
