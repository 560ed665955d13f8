"""Long rows that one loop reads: transposed a strip of columns at a time.

``sum_k X[i, k]*W[k, c]`` for a few c reads each row once. With one lane per row, the
columns are needed as vectors. A copy of a whole block of long rows (tiles.py) would
leave the first-level cache before it is read; a strip of some columns does not.
"""

from __future__ import annotations

from collections.abc import Callable

from symgrad.codegen import operations
from symgrad.codegen.llvm_text import BYTES, Value
from symgrad.codegen.long_rows import loads_within
from symgrad.codegen.row_sums import RowSumWriter
from symgrad.codegen.tiles import PIECE_BYTES, transposed_piece
from symgrad.graph import Input, Load
from symgrad.schedule.nest import Loop, statements_in


class StreamWriter(RowSumWriter):
    """Finds loops along streamed rows.

    column: puts the column of the current turn in its place, in such a loop.
    """

    column: Callable[[Value], object] | None = None

    def streamed_load(self, item: Loop) -> Load | None:
        """The element of a streamed input that a loop reads in each turn."""
        if self.lanes == 1 or self.row is not self.step.row:
            return None
        streamed = self.layout.streamed(self.step)
        for s in statements_in(item.items) if streamed else ():
            for load in loads_within(s, self.plan.of):
                if load.array in streamed and load.indices[-1] is item.index:
                    return load
        return None


class Strips:
    """Strips of the current block of rows.

    end: where the last one ends. In the last block of a chunk, where rows are missing,
    that is before the first; else a few columns may be left, less than a 128-bit piece.
    """

    def __init__(self, writer: StreamWriter, load: Load, extent: Value) -> None:
        assert isinstance(load.array, Input)
        assert writer.row_base is not None
        self.writer, self.extent = writer, extent
        base, dtype = writer.input_base(load.array)
        self.kind = operations.STORED[dtype][0]
        self.piece = PIECE_BYTES // BYTES[self.kind]
        self.strip = writer.memory("scratch", "strip", writer.step, load.array.name)
        emitter = writer.at(writer.row_level)
        first = emitter.binary("mul", writer.row_base, extent)
        self.rows = emitter.gep(base, first, self.kind)
        lanes = emitter.const(writer.lanes, "i64")
        after = emitter.binary("add", writer.row_base, lanes)
        full = emitter.icmp("sle", after, writer.tile_rows[1])
        rest = emitter.binary("srem", extent, emitter.const(self.piece, "i64"))
        whole = emitter.binary("sub", extent, rest)
        self.end = emitter.select(full, whole, emitter.const(0, "i64"))
        writer.home()

    def copy(self, begin: Value) -> Value:
        """Copy the strip of columns from ``begin`` on; where it ends."""
        emitter = self.writer.home()
        most = emitter.const(self.writer.layout.strip_columns, "i64")
        left = emitter.binary("sub", self.end, begin)
        count = emitter.select(emitter.icmp("slt", left, most), left, most)
        for first in range(0, self.writer.lanes, self.writer.vector):
            self._some_rows(begin, count, first)
        return emitter.binary("add", begin, count)

    def _some_rows(self, begin: Value, count: Value, first: int) -> None:
        """One hardware vector of rows, from row ``first`` of the block on."""
        writer, emitter = self.writer, self.writer.home()
        down = emitter.binary("mul", self.extent, emitter.const(first, "i64"))
        start = emitter.binary("add", down, begin)
        rows = [emitter.gep(self.rows, start, self.kind)]
        while len(rows) < writer.vector:
            rows.append(emitter.gep(rows[-1], self.extent, self.kind))

        def piece(column: Value) -> None:
            emitter = writer.emitter
            at = [emitter.gep(row, column, self.kind) for row in rows]
            vectors = transposed_piece(emitter, at, self.kind, self.piece)
            for k, vector in enumerate(vectors):
                here = emitter.binary("add", column, emitter.const(k, "i64"))
                value = operations.to_float_type(emitter, vector, writer.type)
                emitter.store(value, self._place(here, first))

        writer.counted_inside(count, self.piece, piece)

    def column(self, k: Value, begin: Value) -> Value:
        """Column ``k`` of the strip that begins at ``begin``."""
        emitter = self.writer.home()
        place = self._place(emitter.binary("sub", k, begin), 0)
        return emitter.load(place, self.writer.type, self.writer.lanes)

    def _place(self, column: Value, lane: int) -> Value:
        emitter, kind = self.writer.emitter, self.writer.type
        lanes = emitter.const(self.writer.lanes, "i64")
        offset = emitter.binary("mul", column, lanes)
        pointer = emitter.gep(self.strip, offset, kind)
        return emitter.gep(pointer, emitter.const(lane, "i64"), kind)
