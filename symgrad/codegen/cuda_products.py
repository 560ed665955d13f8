"""Matrix products of a block of threads, through the memory that they share.

The result is cut into pieces, and each thread has some elements of a piece in
registers. The block goes along the sum in slabs: what the products of a slab are made
of is evaluated once for each element (loads, and whatever is done to them), by
neighbouring threads for neighbouring elements, put into shared memory, and read from
there by all threads that need it. There are two slabs, so that the next is on its way
while one is used.

Products are added in order, one after the other, as a thread on its own would: an
element has the same bits whichever way it is computed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from symgrad import graph
from symgrad.codegen import operations
from symgrad.codegen.cuda_emitter import ThreadEmitter
from symgrad.codegen.cuda_writer import ThreadWriter
from symgrad.codegen.llvm_text import Value
from symgrad.codegen.scopes import Scope
from symgrad.graph import Index, Input, Load, Node
from symgrad.schedule.phases import Product
from symgrad.schedule.plan import Place

DEPTH = 8
"""Terms of the sums that are in shared memory at a time; the next slab as many."""

VECTOR_BYTES = 16
"""Loads of shared memory are this wide."""

MOST_ACROSS = 8
MOST_DOWN = {"double": 4, "float": 8}
"""Elements of a thread: 32 or 64, which with what they are made of fill half of the
registers that a thread may have."""

TOGETHER = 2
"""Terms of one turn: more take registers for what is read ahead."""

MOST_PIECE = 256
"""Elements of a piece down: slabs of more would not leave room for other blocks."""


@dataclass(frozen=True)
class Shape:
    """How a piece is shared out.

    threads: down and across. each: elements of a thread, down and across. depth: of a
    slab.
    """

    threads: tuple[int, int]
    each: tuple[int, int]
    depth: int

    @property
    def piece(self) -> tuple[int, int]:
        """Elements of a piece, down and across."""
        return self.threads[0] * self.each[0], self.threads[1] * self.each[1]


def shape_of(block: int, type: str, down: int, across: int) -> Shape:
    """The shape for a result of about ``down`` by ``across`` elements.

    As few elements too many across as can be, as these are few; then as many elements a
    thread as there is work for, since each is used for all that it meets.
    """
    most = 1 << (block.bit_length() - 1) // 2
    wanted = min(across, most * MOST_ACROSS)
    choices = [
        (t * each, -each, t)
        for t in (1 << k for k in range(most.bit_length()))
        for each in range(1, MOST_ACROSS + 1)
        if t * each >= wanted
    ]
    _, each, threads = min(choices)
    others = block // threads
    below, down = 1, min(down, MOST_PIECE)
    while below < MOST_DOWN[type] and below * others < down:
        below *= 2
    return Shape((others, threads), (below, -each), DEPTH)


@dataclass(frozen=True)
class _Range:
    """An index of a product, from ``begin`` to ``end``; None: there is none."""

    index: Index | None
    begin: Value
    end: Value


@dataclass(frozen=True)
class _Side:
    """One factor's part of a slab in shared memory.

    start: in doubles; stride: elements from one term of the sums to the next; width:
    elements of one term. swift: whether neighbouring terms lie side by side in memory.
    """

    factor: Node
    start: int
    stride: int
    width: int
    swift: bool


class Result(Protocol):
    """What happens to an element of a product: called once for each, with everything
    evaluated before the branch on whether the element exists."""

    def __call__(
        self, down: Value, across: Value, total: Value, inside: Value
    ) -> None: ...


class ProductWriter:
    """Writes one product. hints: about how many elements down and across."""

    def __init__(
        self, writer: ThreadWriter, product: Product, hints: tuple[int, int]
    ) -> None:
        self.writer, self.product = writer, product
        self.thread: ThreadEmitter = writer.thread
        self.type = writer.type
        self.shape = shape_of(writer.block, self.type, *hints)
        self.bytes = 8 if self.type == "double" else 4
        self.vector = VECTOR_BYTES // self.bytes
        self.left = self._side(product.left, 0, 0)
        after = 2 * self._doubles(self.left)
        self.right = self._side(product.right, 1, after)
        both = 2 * (self._doubles(self.left) + self._doubles(self.right))
        self.base = self.thread.shared(0, both)
        self.index = writer.index

    def _const(self, value: int) -> Value:
        return self.thread.const(value, "i64")

    def _side(self, factor: Node, axis: int, start: int) -> _Side:
        width = self.shape.piece[axis]
        # a stride that is odd in vectors, so that writes along the terms spread out
        stride = (-(-width // self.vector) | 1) * self.vector
        return _Side(factor, start, stride, width, self._is_swift(factor))

    def _doubles(self, side: _Side) -> int:
        size = side.stride * self.shape.depth * self.bytes
        return -(-size // VECTOR_BYTES) * VECTOR_BYTES // 8

    def _is_swift(self, factor: Node) -> bool:
        """Whether elements that differ in the index of the sum lie side by side, in
        most of what the factor reads."""
        votes, plan, along = 0, self.writer.plan, self.product.along

        def into(node: Node) -> Sequence[Node]:
            return () if node in plan.of else node.children

        for node in graph.walk([factor], into):
            last: Node | None = None
            if node in plan.of:
                place = self._place_of(node)
                last = place.axes[-1] if place is not None and place.axes else None
            elif isinstance(node, Load) and isinstance(node.array, Input):
                last = node.indices[-1] if node.indices else None
            if last is not None and node.free:
                votes += 1 if along in last.free else -1
        return votes > 0

    def _place_of(self, node: Node) -> Place | None:
        s = self.writer.plan.of[node]
        return self.writer.step.local.get(s) or self.writer.plan.work.get(s)

    # -- the loops -------------------------------------------------------------------

    def write(self, rows: tuple[Value, Value], result: Result) -> None:
        """The whole product; rows: the first, and one past the last."""
        p = self.product
        self.down = self._range(p.down, rows)
        self.across = self._range(p.across, rows)
        self.along = self._range(p.along, rows)
        below, beside = self.shape.piece

        def column(start_across: Value, _: list[Value]) -> None:
            def piece(start_down: Value, _: list[Value]) -> None:
                self._piece(start_down, start_across, result)

            self.writer.counted(self.down.begin, self.down.end, piece, step=below)

        self.writer.counted(self.across.begin, self.across.end, column, step=beside)

    def _range(self, index: Index | None, rows: tuple[Value, Value]) -> _Range:
        if index is None:
            return _Range(None, self._const(0), self._const(1))
        if index is self.writer.step.row:
            return _Range(index, *rows)
        extent, _ = self.writer.extent(index.extent)
        self.writer.home()
        return _Range(index, self._const(0), self.thread.opaque(extent))

    def _find_place(self) -> None:
        """Which thread this is, as if it were known only now: what follows from it is
        not worth registers while other phases run."""
        emitter, threads = self.writer.home(), self._const(self.shape.threads[0])
        self.index = self.thread.opaque(self.writer.index)
        self.place_down = emitter.binary("urem", self.index, threads)
        self.place_across = emitter.binary("udiv", self.index, threads)

    def _piece(self, down: Value, across: Value, result: Result) -> None:
        zero = self.thread.const(0.0, self.type)
        zeros = [zero] * (self.shape.each[0] * self.shape.each[1])
        depth = self.shape.depth
        self._find_place()
        emitter = self.writer.home()
        some = emitter.icmp("slt", self.along.begin, self.along.end)
        # a loop of one turn: nothing may be read where there are no terms
        once = emitter.convert("zext", some, "i64")

        def all_slabs(_: Value, totals: list[Value]) -> list[Value]:
            begin, zero = self.along.begin, self._const(0)
            self._put(self._evaluated(begin, down, across), zero)
            self.thread.barrier()

            def slab(at: Value, totals: list[Value]) -> list[Value]:
                emitter = self.writer.home()
                number = emitter.binary("sub", at, begin)
                number = emitter.binary("udiv", number, self._const(depth))
                half = emitter.binary("and", number, self._const(1))
                other = emitter.binary("xor", half, self._const(1))
                after = emitter.binary("add", at, self._const(depth))
                values = self._evaluated(after, down, across)
                totals = self._multiplied(half, totals)
                self._put(values, other)
                self.thread.barrier()
                return totals

            return self.writer.counted(begin, self.along.end, slab, totals, depth)

        totals = self.writer.counted(0, once, all_slabs, zeros)
        self._finish(down, across, totals, result)

    # -- slabs -----------------------------------------------------------------------

    def _evaluated(
        self, at: Value, down: Value, across: Value
    ) -> list[tuple[_Side, Value, Value, Value | None]]:
        """This thread's elements of the slab that starts at ``at``: where each goes,
        its value, and whether there is one (None: certainly)."""
        found = []
        for side, start, of in (
            (self.left, down, self.down),
            (self.right, across, self.across),
        ):
            count = side.width * self.shape.depth
            for first in range(0, count, self.writer.block):
                exists = None
                emitter = self.writer.home()
                number = emitter.binary("add", self.index, self._const(first))
                if first + self.writer.block > count:
                    exists = emitter.icmp("ult", number, self._const(count))
                found.append((*self._element(side, number, at, start, of), exists))
        return found

    def _element(
        self, side: _Side, number: Value, at: Value, start: Value, of: _Range
    ) -> tuple[_Side, Value, Value]:
        """Element ``number`` of a slab: zero beyond the last term; beyond the last
        column it repeats that one, and nobody uses it."""
        emitter = self.writer.home()
        fast = self._const(self.shape.depth if side.swift else side.width)
        low = emitter.binary("urem", number, fast)
        high = emitter.binary("udiv", number, fast)
        term, column = (low, high) if side.swift else (high, low)
        at = emitter.binary("add", at, term)
        inside = emitter.icmp("slt", at, self.along.end)
        scope = Scope(self.writer.emitter.region)
        self.writer.scopes.append(scope)
        level = len(self.writer.scopes) - 1
        self.writer.keep(self.product.along, self._last(at, self.along), level)
        if of.index is not None:
            here = emitter.binary("add", start, column)
            self.writer.keep(of.index, self._last(here, of), level)
        value = self.writer.value(side.factor)
        self.writer.scopes.pop()
        emitter = self.writer.home()
        value = emitter.select(inside, value, self.thread.const(0.0, self.type))
        row = emitter.binary("mul", term, self._const(side.stride))
        return side, emitter.binary("add", row, column), value

    def _last(self, value: Value, of: _Range) -> Value:
        """``value``, or the last one of the range."""
        emitter = self.writer.home()
        last = emitter.binary("sub", of.end, self._const(1))
        return emitter.select(emitter.icmp("slt", value, last), value, last)

    def _half(self, side: _Side, half: Value) -> Value:
        """Where one of the two slabs starts."""
        emitter = self.writer.home()
        size = self._doubles(side)
        offset = emitter.binary("mul", half, self._const(size))
        offset = emitter.binary("add", offset, self._const(side.start))
        return emitter.gep(self.base, offset, "double")

    def _put(
        self,
        values: list[tuple[_Side, Value, Value, Value | None]],
        half: Value,
    ) -> None:
        bases = {side: self._half(side, half) for side in (self.left, self.right)}
        emitter = self.writer.home()
        for side, offset, value, exists in values:
            pointer = emitter.gep(bases[side], offset, self.type)
            if exists is None:
                emitter.store(value, pointer)
            else:
                emitter.when(exists, lambda v=value, p=pointer: emitter.store(v, p))

    # -- the arithmetic --------------------------------------------------------------

    def _multiplied(self, half: Value, totals: list[Value]) -> list[Value]:
        """The totals with all products of a slab added."""
        left, right = self._half(self.left, half), self._half(self.right, half)
        emitter = self.writer.home()

        def terms(k: Value, totals: list[Value]) -> list[Value]:
            for more in range(TOGETHER):
                at = emitter.binary("add", k, self._const(more)) if more else k
                totals = term(at, totals)
            return totals

        def term(k: Value, totals: list[Value]) -> list[Value]:
            a = self._read(left, k, self.left, 0, self.place_down)
            b = self._read(right, k, self.right, 1, self.place_across)
            if self.product.negative:
                a = [emitter.fneg(value) for value in a]
            pairs = itertools.product(a, b)
            return [
                emitter.fma(x, y, total)
                for (x, y), total in zip(pairs, totals, strict=True)
            ]

        zero, depth = self._const(0), self._const(self.shape.depth)
        self.thread.as_is = True
        return emitter.loop(zero, depth, TOGETHER, totals, terms, nonempty=True)

    def _group(self, axis: int) -> int:
        """Elements of a thread that lie side by side."""
        return self.vector if self.shape.each[axis] % self.vector == 0 else 1

    def _read(
        self, base: Value, term: Value, side: _Side, axis: int, place: Value
    ) -> list[Value]:
        """What this thread needs of one term, in groups: those of the other threads
        lie between, so that a load of all threads has no gaps."""
        emitter, group = self.thread, self._group(axis)
        row = emitter.binary("mul", term, self._const(side.stride))
        first = emitter.binary("mul", place, self._const(group))
        start = emitter.gep(base, emitter.binary("add", row, first), self.type)
        values: list[Value] = []
        for k in range(self.shape.each[axis] // group):
            shift = self._const(k * group * self.shape.threads[axis])
            pointer = emitter.gep(start, shift, self.type)
            vector = emitter.load_aligned(pointer, self.type, group)
            values += [emitter.extract(vector, lane) for lane in range(group)]
        return values

    def _positions(self, axis: int, start: Value, place: Value) -> list[Value]:
        """The indices of this thread's elements."""
        emitter, group = self.writer.home(), self._group(axis)
        first = emitter.binary("mul", place, self._const(group))
        first = emitter.binary("add", start, first)
        return [
            emitter.binary(
                "add", first,
                self._const(k * group * self.shape.threads[axis] + lane),
            )
            for k in range(self.shape.each[axis] // group)
            for lane in range(group)
        ]  # fmt: skip

    def _finish(
        self, down: Value, across: Value, totals: list[Value], result: Result
    ) -> None:
        """Hand on every element that exists."""
        self._find_place()
        downs = self._positions(0, down, self.place_down)
        acrosses = self._positions(1, across, self.place_across)
        pairs = itertools.product(downs, acrosses)
        for (m, n), total in zip(pairs, totals, strict=True):
            emitter = self.writer.home()
            inside = emitter.binary(
                "and",
                emitter.icmp("slt", m, self.down.end),
                emitter.icmp("slt", n, self.across.end),
            )
            result(m, n, total, inside)


def store_kept(product: ProductWriter) -> Result:
    """Results go to the memory of their statement."""
    writer, s = product.writer, product.product.statement
    place = writer.step.local.get(s) or writer.plan.work[s]
    kind = writer.stored_type(place)

    def result(down: Value, across: Value, total: Value, inside: Value) -> None:
        writer.scopes.append(Scope(writer.emitter.region))
        level = len(writer.scopes) - 1
        writer.keep(product.product.down, down, level)
        if product.product.across is not None:
            writer.keep(product.product.across, across, level)
        pointer = writer.place_address(place).pointer
        writer.scopes.pop()
        emitter = writer.home()
        value = operations.to_float_type(emitter, total, kind)
        emitter.when(inside, lambda: emitter.store(value, pointer))

    return result


def add_to(product: ProductWriter, base: Value) -> Result:
    """Results are added to an array of doubles, ``down`` being its last axis."""
    writer = product.writer

    def result(down: Value, across: Value, total: Value, inside: Value) -> None:
        emitter = writer.home()
        row = emitter.binary("mul", across, product.down.end)
        pointer = emitter.gep(base, emitter.binary("add", row, down), "double")
        value = operations.to_float_type(emitter, total, "double")

        def add() -> None:
            old = emitter.load(pointer, "double")
            emitter.store(emitter.binary("fadd", old, value), pointer)

        emitter.when(inside, add)

    return result
