"""What a block does with a tile of rows: phases, and the sums that wait for its end.

See phases.py for the phases. A sum over the rows that was deferred, and is no product
of matrices, has its elements shared out among the threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from symgrad.codegen.cuda_emitter import WARP
from symgrad.codegen.cuda_products import ProductWriter, add_to, store_kept
from symgrad.codegen.cuda_writer import ThreadWriter
from symgrad.codegen.llvm_text import Value
from symgrad.codegen.scopes import Scope
from symgrad.codegen.sums import combine, kind_of
from symgrad.graph import Const, Index
from symgrad.schedule import cost
from symgrad.schedule.deferred import Deferred
from symgrad.schedule.nest import Item, Loop
from symgrad.schedule.phases import Product
from symgrad.schedule.plan import Place

TOGETHER = 4
"""Elements of a deferred sum that a thread adds up together."""

BUSY = 128
"""Groups of elements that a sum must have for that, so that threads have work."""

PROCESSORS = 256
"""Tiles are so small that so many blocks have one, if there are rows enough."""


def tile_rows(rows: int, block: int) -> int:
    """About how many rows a tile has, of so many in all."""
    return min(block, max(WARP, rows // PROCESSORS // WARP * WARP))


class TileWriter(ThreadWriter):
    """Writes what the threads of a block do together.

    hints: lengths, as far as known. number: of this block, among those of all launches.
    """

    hints: Mapping[str, int] = {}
    elements: Sequence[Value] = ()  # that this thread adds to
    number: Value

    @contextmanager
    def phase(self, begin: Value) -> Iterator[None]:
        """A scope for one part of the work on a tile: what it knows of addresses is
        computed anew, rather than to take registers from all the others."""
        self.scopes.append(Scope(self.home().region))
        self.tile_level = len(self.scopes) - 1
        self.tile_begin = self.thread.opaque(begin)
        yield
        self.scopes.pop()
        self.tile_level, self.tile_begin = 1, None

    def product(self, product: Product, first: Value, last: Value) -> None:
        """A product for the rows of a tile."""
        count = 1 if product.across is None else self._hint(product.across)
        below = self._hint(product.down)
        written = ProductWriter(self, product, (tile_rows(below, self.block), count))
        written.write((first, last), store_kept(written))

    def _hint(self, index: Index) -> int:
        return max(1, cost.length(index.extent, self.hints))

    def each(self, loop: Loop, first: Value, last: Value) -> None:
        """Values for every row of a tile and every turn of a loop: a warp takes some
        turns, its threads take neighbouring rows."""
        extent, _ = self.extent(loop.index.extent)
        row = self.step.row
        assert row is not None
        emitter = self.home()
        index = self.thread.opaque(self.index)
        lane = emitter.binary("and", index, emitter.const(WARP - 1, "i64"))
        warp = emitter.binary("lshr", index, emitter.const(5, "i64"))
        begin = emitter.binary("add", first, lane)

        def turn(counter: Value, _: list[Value]) -> None:
            self.keep(loop.index, counter, len(self.scopes) - 1)

            def element(number: Value, _: list[Value]) -> None:
                self.keep(row, number, len(self.scopes) - 1)
                self.items(loop.items)

            self.counted(begin, last, element, step=WARP)

        self.counted(warp, extent, turn, step=self.block // WARP)

    def sum_up(self, deferred: Deferred, first: Value, last: Value) -> None:
        """One deferred sum over the rows of a tile."""
        product = self.step.products.get(deferred.statement)
        if product is None:
            self._elements(deferred, first, last)
            return
        assert product.across is not None
        place = self.sum_places[deferred.statement]
        base, _, _ = self.shared_out(place)
        sizes = self._hint(product.down), self._hint(product.across)
        written = ProductWriter(self, product, sizes)
        written.write((first, last), add_to(written, base))

    def shared_out(self, place: Place) -> tuple[Value, Value, Value]:
        """How the elements of a deferred sum are shared out: where this block's sums
        start, the number of elements, and the number of sums.

        Where there are fewer elements than threads, each has several sums, over parts
        of the rows.
        """
        key = ("shared out", place)
        found = self.find(key)
        if found is None:
            count = self.count(place.shape)
            emitter = self.at(0)
            work = emitter.binary("mul", count, parts(self, place))
            start = emitter.binary("mul", self.number, work)
            base = self.context("partial", place, type="ptr")
            found = self.keep(key, self.at(0).gep(base, start, "double"), 0)
            self.keep((*key, "count"), count, 0)
            self.keep((*key, "work"), work, 0)
        count, work = (self.find((*key, k)) for k in ("count", "work"))
        assert count is not None and work is not None
        return found[0], count[0], work[0]

    def _elements(self, deferred: Deferred, first: Value, last: Value) -> None:
        """One deferred sum over the rows of a tile.

        A thread has some elements that differ in the first index, which is the slowest:
        it loads what they share once.
        """
        s = deferred.statement
        place = next(p for p in self.step.sums if p.statement is s)
        base, count, _ = self.shared_out(place)
        number, width = parts(self, place), together(place)
        nest: list[Item] = [s]
        row = self.step.row
        assert row is not None
        for i in reversed([i for i in s.bound if i is not row]):
            nest = [Loop(i, nest)]
        rows = Loop(row, nest)
        several = self.at(0).const(width, "i64")
        groups = self.at(0).binary("udiv", count, several)
        inner = self.count(place.shape[1:])
        work = self.at(0).binary("mul", groups, number)

        def body(w: Value, _: list[Value]) -> None:
            emitter = self.home()
            part = emitter.binary("udiv", w, groups)
            group = emitter.binary("urem", w, groups)
            start = emitter.gep(base, emitter.binary("mul", part, count), "double")
            self._point_elements(start, group, inner, width)
            self._open_axes(deferred.axes, group, width)
            emitter = self.home()
            self.tile_rows = (emitter.binary("add", first, part), last)
            self.row_step = number
            self.items([rows])
            self.jam, self.width, self.variant = None, 1, 0
            del self.open[len(self.open) - len(deferred.axes) :]

        self.counted(self.index, work, body, step=self.block)

    def _point_elements(
        self, start: Value, group: Value, inner: Value, width: int
    ) -> None:
        """Where the elements of a group are: ``inner`` apart from each other."""
        emitter = self.home()
        rest = emitter.binary("urem", group, inner)
        block = emitter.binary("sub", group, rest)
        block = emitter.binary("mul", block, emitter.const(width, "i64"))
        pointer = emitter.gep(start, emitter.binary("add", block, rest), "double")
        self.elements = [pointer]
        for _ in range(1, width):
            pointer = emitter.gep(pointer, inner, "double")
            self.elements.append(pointer)

    def _open_axes(self, axes: Sequence[Index], group: Value, width: int) -> None:
        """The indices of a group of elements, from its number."""
        extents = [self.extent(i.extent)[0] for i in axes]
        emitter = self.home()
        values = self.scopes[-1].values
        for i, extent in list(zip(axes, extents, strict=True))[:0:-1]:
            values[i] = emitter.binary("urem", group, extent)
            group = emitter.binary("udiv", group, extent)
        if width == 1:
            values[axes[0]] = group
        else:
            self.jam, self.width = axes[0], width
            first = emitter.binary("mul", group, emitter.const(width, "i64"))
            for self.variant in range(width):
                shift = emitter.const(self.variant, "i64")
                value = emitter.binary("add", first, shift)
                self.keep(axes[0], value, len(self.scopes) - 1)
        self.open.extend(axes)

    def finish_element(self, place: Place, value: Value) -> None:
        """Add the sum over a tile to this thread's sum of the element."""
        emitter = self.home()
        pointer = self.elements[self.variant if self.jam is not None else 0]
        old = emitter.load(pointer, "double")
        kind = kind_of(place.statement)
        emitter.store(combine(emitter, kind, old, value), pointer)


def together(place: Place) -> int:
    """How many elements of a deferred sum a thread has at a time."""
    first = place.shape[0]
    many = len(place.shape) > 1 and isinstance(first, Const)
    if not many or place.statement.bound[1:]:
        return 1
    inner = [e.value for e in place.shape[1:] if isinstance(e, Const)]
    least = int(first.value) * math.prod(map(int, inner))  # type: ignore[union-attr]
    exact = int(first.value) % TOGETHER == 0  # type: ignore[union-attr]
    return TOGETHER if exact and least >= TOGETHER * BUSY else 1


def parts(writer: ThreadWriter, place: Place) -> Value:
    """Into how many parts the rows of a tile are divided for a deferred sum."""
    key = ("parts", place)
    found = writer.find(key)
    if found is not None:
        return found[0]
    count = writer.count(place.shape)
    emitter = writer.at(0)
    one = emitter.const(1, "i64")
    some = emitter.select(emitter.icmp("sgt", count, one), count, one)
    width = emitter.binary("udiv", emitter.const(writer.block, "i64"), some)
    width = emitter.select(emitter.icmp("sgt", width, one), width, one)
    return writer.keep(key, width, 0)[0]
