"""Sums along long rows of the data: lanes along the row, not one lane per row.

``sum_k X[i, k]*w[k]`` reads rows that are contiguous. With one lane per row they have
to be transposed first, into a copy that no longer fits the first-level cache where rows
are long. Here a vector reads consecutive elements of one row. As many rows as a vector
has lanes run together: they share what does not depend on the row, and their additions
do not wait for each other. Only their partial sums are transposed, once per row.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgrad.codegen.addresses import Address
from symgrad.codegen.llvm_text import Value
from symgrad.codegen.scopes import Scope
from symgrad.codegen.sums import SumWriter
from symgrad.codegen.tiles import transpose_square
from symgrad.graph import Load
from symgrad.schedule.nest import Loop
from symgrad.schedule.statements import Statement


class RowSumWriter(SumWriter):
    """Writes sums along long rows."""

    def prefetch(self, node: Load, address: Address, type: str) -> None:
        """Not along rows: the hardware does."""
        if self.jam is None or self.jam is not self.step.row:
            super().prefetch(node, address, type)

    def _long_sums(self, item: Loop) -> list[Statement]:
        """The statements of a loop that are summed along rows."""
        if self.lanes == 1 or self.row is not self.step.row or self.jam is not None:
            return []
        return [
            s
            for s in item.items
            if isinstance(s, Statement) and self.layout.is_long_sum(s, self.row)
        ]

    def sum_rows(self, item: Loop, sums: Sequence[Statement]) -> None:
        """Add up the rows of a block, a hardware vector of rows after the other."""
        whole = self.row, self.row_base, self.row_level, self.mask, self.lanes
        parts: list[list[Value]] = [[] for _ in sums]
        for first in range(0, self.lanes, self.vector):
            for part, value in zip(
                parts, self._some_rows(item, sums, first), strict=True
            ):
                part.append(value)
            self.row, self.row_base, self.row_level, self.mask, self.lanes = whole
        for s, part in zip(sums, parts, strict=True):
            self.sums[self._sum_key(s)] = self.home().join(part)
            self._complete(s)

    def _some_rows(
        self, item: Loop, sums: Sequence[Statement], first: int
    ) -> list[Value]:
        """The sums of ``vector`` rows, one lane each."""
        self._open_rows(first)
        extent, _ = self.extent(item.index.extent)
        self.lanes = self.vector
        emitter = self.home()
        width = emitter.const(self.vector, "i64")
        main = emitter.binary("sub", extent, emitter.binary("srem", extent, width))
        start = [
            emitter.const(0.0, self.type, self.vector)
            for _ in range(len(sums) * self.vector)
        ]
        zero = emitter.const(0, "i64")
        totals = self._along(item, sums, zero, main, start, None)
        totals = self._along(item, sums, main, extent, totals, extent)
        self.scopes.pop()
        self.jam, self.width, self.variant = None, 1, 0
        count = self.vector
        return [
            self._folded(totals[k * count : (k + 1) * count]) for k in range(len(sums))
        ]

    def _open_rows(self, first: int) -> None:
        """The rows from ``first`` on, each a turn; beyond the end the last row."""
        row, base = self.row, self.row_base
        assert row is not None and base is not None
        emitter = self.home()
        last = emitter.binary("sub", self.tile_rows[1], emitter.const(1, "i64"))
        scope = Scope(emitter.region, Loop(row))
        self.scopes.append(scope)
        self.jam, self.width = row, self.vector
        for k in range(self.vector):
            here = emitter.binary("add", base, emitter.const(first + k, "i64"))
            here = emitter.select(emitter.icmp("slt", here, last), here, last)
            scope.values[row, (row, k)] = here

    def _along(
        self,
        item: Loop,
        sums: Sequence[Statement],
        begin: Value,
        end: Value,
        start: Sequence[Value],
        bound: Value | None,
    ) -> list[Value]:
        """Add vectors along the rows; up to ``bound`` where the last is not full."""

        def body(counter: Value, totals: list[Value]) -> Sequence[Value]:
            self._open_along(item, counter, bound)
            added = []
            for k, old in enumerate(totals):
                self.variant = k % self.vector
                added.append(self._added(sums[k // self.vector], old))
            self.home()
            self.scopes.pop()
            return added

        emitter = self.home()
        results = emitter.loop(begin, end, self.vector, start, body)
        self.home()
        return results

    def _open_along(self, item: Loop, counter: Value, bound: Value | None) -> None:
        self.scopes.append(Scope(self.emitter.region, item))
        self.row, self.row_base = item.index, counter
        self.row_level = len(self.scopes) - 1
        self.mask = None if bound is None else self.lanes_before(counter, bound)

    def lanes_before(self, counter: Value, end: Value) -> Value:
        """The lanes of rows below ``end``.

        In float32 numbers of lanes are compared, as 32-bit integers: numbers of rows
        would take twice the registers of a vector.
        """
        emitter = self.home()
        if self.type == "double":
            rows = emitter.binary("add", counter, emitter.lane_numbers(self.lanes))
            bound = self.widen(end, self.lanes, len(self.scopes) - 2)
            return self.home().icmp("slt", rows, bound)
        left = emitter.binary("sub", end, counter)
        most = emitter.const(self.lanes, "i64")
        left = emitter.select(emitter.icmp("slt", left, most), left, most)
        bound = emitter.splat(emitter.convert("trunc", left, "i32"), self.lanes)
        return emitter.icmp("slt", emitter.lane_numbers(self.lanes, "i32"), bound)

    def _folded(self, totals: list[Value]) -> Value:
        """Partial sums of some rows, one vector each, as one vector of their sums."""
        emitter = self.home()
        vectors = transpose_square(emitter, totals)
        while len(vectors) > 1:
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [emitter.binary("fadd", a, b) for a, b in pairs]
        return vectors[0]
