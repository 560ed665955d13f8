"""What a kernel is told at run time: the slots of its context.

A kernel gets a context (an array of 8-byte slots, read only: pointers to data, lengths,
strides, offsets into work memory), pointers to the parameters and to the outputs, and
memory to work in. The context depends on the data and their sizes only, so that bound
objectives keep one for ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from symgrad import graph
from symgrad.codegen.chosen_rows import (
    RowGather,
    ScaledRow,
    adds_rows,
    elements,
    find_row_gathers,
    scaled_row,
)
from symgrad.codegen.long_rows import is_long_sum, loads_within, streamed_inputs
from symgrad.codegen.narrow import narrowed
from symgrad.graph import Const, Index, Input, Node
from symgrad.schedule import cost
from symgrad.schedule.choose import cost_per_row
from symgrad.schedule.deferred import loads_of
from symgrad.schedule.nest import statements_in
from symgrad.schedule.plan import Place, Plan, Step
from symgrad.schedule.statements import Statement

ROWS_PER_FLUSH = 4096
"""Rows summed in the compute type before they are added to float64 partial sums."""

MAX_CHUNKS = 64
MIN_CHUNK_ROWS = 64
CHUNK_COST = 1e6
"""A chunk costs at least this, about 30 µs, and ..."""

PARTIAL_COST = 4000.0
"""... this for each of its partial sums, which are folded and added up at its end."""

PARTIAL_BYTES = 8 << 20
"""Partial sums of all chunks take at most this; fewer chunks where they would not, but
not fewer than ..."""

FEW_CHUNKS = 8

LANE_SUMS = 4096
"""Larger sets of sums have no lanes to fold: they cost less each."""

TURNS_PER_ELEMENT = 16
"""Additions to a chunk's sums per element that pay for their memory."""

TILE_BYTES = 1 << 18
MAX_TILE_ROWS = 64
"""A tile of rows keeps at most so much for deferred sums."""

STRIP_BYTES = 128
"""Of each long row that are transposed at a time: 2 KB for two vectors of rows."""

ALIGN = 64


_Tiles = tuple[frozenset[Input], frozenset[Input]]
"""Inputs whose rows a pass copies block by block; those that one loop streams."""


@dataclass(frozen=True)
class ArraySpec:
    """What a kernel is specialised on, of one input.

    dtype: NumPy's name of the element type. contiguous: C order; else strides are read
    from the context. parameter: passed by pointer in each call, float64, contiguous.
    """

    dtype: str
    contiguous: bool
    parameter: bool


@dataclass(eq=False)
class Layout:
    """Slot numbers of everything in the context."""

    plan: Plan
    inputs: dict[str, Input]
    specs: Mapping[str, ArraySpec]
    single: bool  # compute type float32
    called: frozenset[str] = frozenset()  # functions that are subroutines
    attributes: str = ""  # of all LLVM functions
    slots: dict[tuple[object, ...], int] = field(default_factory=dict)
    _tiles: dict[Step, _Tiles] = field(default_factory=dict)
    _gathers: dict[Step, tuple[RowGather, ...]] = field(default_factory=dict)
    _scaled: dict[Step, dict[Place, ScaledRow]] = field(default_factory=dict)

    def slot(self, *key: object) -> int:
        """The slot of ``key``, assigned on first use."""
        return self.slots.setdefault(key, len(self.slots))

    def tiles(self, step: Step) -> frozenset[Input]:
        """Inputs whose rows a pass loads block by block (tiles.py)."""
        return self._found_tiles(step)[0]

    def streamed(self, step: Step) -> frozenset[Input]:
        """Inputs whose long rows one loop transposes as it goes (streamed_rows.py)."""
        return self._found_tiles(step)[1]

    def _found_tiles(self, step: Step) -> _Tiles:
        if step.lane is not None:
            return frozenset(), frozenset()
        if step not in self._tiles:
            of = self.plan.of
            found = find_tiles(step, self.specs, self.is_long_sum, of)
            streamed = streamed_inputs(step, found, of)
            self._tiles[step] = found - streamed, streamed
        return self._tiles[step]

    def is_long_sum(self, s: Statement, row: Index | None) -> bool:
        """Whether a pass over ``row`` adds up ``s`` along long rows (row_sums.py)."""
        return is_long_sum(s, row, self._contiguous, self.plan.of)

    @cached_property
    def _contiguous(self) -> frozenset[str]:
        """Names of the inputs in C order."""
        return frozenset(n for n, spec in self.specs.items() if spec.contiguous)

    def row_gathers(self, step: Step) -> tuple[RowGather, ...]:
        """Rows chosen by the data that a pass loads block by block (embedding.py)."""
        if step.lane is not None:
            return ()
        if step not in self._gathers:
            found = find_row_gathers(step, self._contiguous, self.plan.of)
            self._gathers[step] = found
        return self._gathers[step]

    def row_scatters(self, step: Step) -> list[Place]:
        """Sums to whole rows that the data choose, added block by block."""
        return [p for p in step.sums if adds_rows(p, step, self.plan.of)]

    @property
    def strip_columns(self) -> int:
        """Columns of long rows that are transposed at a time."""
        return STRIP_BYTES // (4 if self.single else 8)

    def scaled_rows(self, step: Step) -> dict[Place, ScaledRow]:
        """Those of them that add other chosen rows, each times a factor."""
        if step not in self._scaled:
            gathers = self.row_gathers(step)
            found = self._scaled[step] = {}
            for place in self.row_scatters(step):
                scaled = scaled_row(place, step, self.plan.of, gathers)
                if scaled is not None:
                    found[place] = scaled
        return self._scaled[step]

    def parameters(self) -> list[str]:
        """Names of the parameters, in the order of their pointers."""
        return list(self.parameter_numbers)

    @cached_property
    def parameter_numbers(self) -> dict[str, int]:
        """Of each parameter, the number of its pointer."""
        names = (name for name in self.inputs if self.specs[name].parameter)
        return {name: number for number, name in enumerate(names)}

    @cached_property
    def narrowed(self) -> frozenset[str]:
        """Names of the parameters that are converted to float32 in advance."""
        if not self.single:
            return frozenset()
        parameters = [self.inputs[name] for name in self.parameters()]
        return frozenset(p.name for p in narrowed(self.plan, parameters))

    def element_bytes(self, place: Place) -> int:
        """Bytes of one element of a place."""
        node = place.statement.node
        if place.wide or node.type == graph.INT:
            return 8
        if node.type == graph.BOOL:
            return 1
        return 4 if self.single else 8


@dataclass
class Sizes:
    """A context's values for given lengths: offsets, chunks and memory needed."""

    offsets: dict[tuple[object, ...], int]
    work_bytes: int
    scratch_bytes: int
    chunks: list[int]  # per pass
    rows: list[int]  # per pass


def measure(layout: Layout, lengths: Mapping[str, int], lanes: int) -> Sizes:
    """Lay out work and scratch memory for these run-time lengths."""
    memory = _Arena()
    scratch = _Arena()
    result = Sizes({}, 0, 0, [], [])
    for place in layout.plan.work.values():
        count = _count(place.shape, lengths)
        key = ("work", place)
        result.offsets[key] = memory.take(count * layout.element_bytes(place))
    for name in layout.parameters():
        if name in layout.narrowed:
            count = _count(layout.inputs[name].shape, lengths)
            result.offsets["narrow", name] = memory.take(4 * count)
    for step in layout.plan.passes:
        _measure_pass(layout, step, lengths, lanes, memory, scratch, result)
    result.work_bytes, result.scratch_bytes = memory.size, scratch.size
    return result


def _measure_pass(
    layout: Layout,
    step: Step,
    lengths: Mapping[str, int],
    lanes: int,
    memory: _Arena,
    scratch: _Arena,
    result: Sizes,
) -> None:
    """Chunks of one pass. Their number depends on the problem alone, so that sums are
    the same for any number of threads."""
    assert step.row is not None
    rows = max(0, cost.length(step.row.extent, lengths))
    block = lanes * step.vectors
    partial = _Arena()
    for place in step.sums:
        count = _count(place.shape, lengths)
        result.offsets["partial", place] = partial.take(8 * count)
        if place.sums == "lanes":
            width = 4 if layout.single else 8
            result.offsets["scratch", place] = scratch.take(count * lanes * width)
    for array in layout.tiles(step):
        count = _count(array.shape[1:], lengths)
        width = 4 if layout.single else 8
        result.offsets["tile", step, array.name] = scratch.take(count * block * width)
    for array in layout.streamed(step):
        result.offsets["strip", step, array.name] = scratch.take(STRIP_BYTES * block)
    chosen = [(g, g.array.shape[1:]) for g in layout.row_gathers(step)]
    chosen += [(p, p.shape[1:]) for p in layout.row_scatters(step)]
    for key, shape in chosen:
        count = -(-_count(shape, lengths) // lanes) * lanes
        width = 4 if layout.single else 8
        result.offsets["rows", step, key] = scratch.take(count * block * width)
    chunk_rows = _chunk_rows(layout, step, lengths, partial.size, rows, block)
    lengths = _with_tile(layout, step, lengths, block, chunk_rows, result)
    for place in step.scratch:
        size = _count(place.shape, lengths) * layout.element_bytes(place)
        size *= block if place.lanes else 1
        result.offsets["scratch", place] = scratch.take(size)
        if any(place.statement in d.transposed for d in step.deferred):
            size += lanes * layout.element_bytes(place) * _tile_rows(step, lengths)
            result.offsets["transposed", place] = scratch.take(size)
    chunks = max(1, -(-rows // chunk_rows))
    result.offsets["chunks", step] = chunks
    result.offsets["chunk_rows", step] = chunk_rows
    result.offsets["partial_bytes", step] = partial.size
    result.offsets["partials", step] = memory.take(partial.size * chunks)
    result.chunks.append(chunks)
    result.rows.append(rows)


def _chunk_rows(
    layout: Layout,
    step: Step,
    lengths: Mapping[str, int],
    partial_bytes: int,
    rows: int,
    block: int,
) -> int:
    """Rows of a chunk: a power of two of chunks, so that threads get equal shares."""
    sums = partial_bytes // 8
    least = max(CHUNK_COST, PARTIAL_COST * min(sums, LANE_SUMS))
    wanted = rows * cost_per_row(step, lengths) / least
    rows_at_least = max(MIN_CHUNK_ROWS, _rows_worth_sums(step, lengths))
    wanted = min(wanted, MAX_CHUNKS, rows / rows_at_least)
    if partial_bytes:
        wanted = min(wanted, max(FEW_CHUNKS, PARTIAL_BYTES // partial_bytes))
    chunks = 1 << int(math.log2(max(1.0, wanted)))
    per_chunk = -(-rows // chunks)
    return -(-per_chunk // block) * block or block


def _rows_worth_sums(step: Step, lengths: Mapping[str, int]) -> int:
    """Rows for which it is worth to clear and to add up sums of their own: scatters
    touch few of their elements per row."""
    elements = touched = 0
    for place in step.sums:
        count = _count(place.shape, lengths)
        elements += count
        if place.statement.kind == "scatter":
            own = [i.extent for i in place.statement.bound if i is not step.row]
            count = _count(own, lengths)
        touched += count
    return TURNS_PER_ELEMENT * elements // max(1, touched)


def _with_tile(
    layout: Layout,
    step: Step,
    lengths: Mapping[str, int],
    block: int,
    chunk_rows: int,
    result: Sizes,
) -> Mapping[str, int]:
    """Choose the rows of a tile, so that what is kept of them stays in cache, and a
    chunk is cut into equal tiles."""
    if step.tile is None:
        return lengths
    row_bytes = sum(
        _count(place.shape[:-1], lengths) * layout.element_bytes(place)
        for place in step.scratch
        if place.kept
    ) + sum(_read_again(layout, step, d.statement, lengths) for d in step.deferred)
    rows = TILE_BYTES // max(1, row_bytes)
    rows = min(MAX_TILE_ROWS, max(block, rows // block * block))
    tiles = -(-chunk_rows // rows)
    rows = -(-chunk_rows // (tiles * block)) * block
    result.offsets["size", step.tile.name] = rows
    return {**lengths, step.tile.name: rows}


def _read_again(
    layout: Layout, step: Step, s: Statement, lengths: Mapping[str, int]
) -> int:
    """Bytes of a row that a sum to a vector reads at the end of a tile. (A matrix is
    read and written then, too, which costs more than rows that left the cache.)"""
    if len(s.domain) > 1:
        return 0
    arrays = {n.array for n in loads_of(s) if step.row in n.free}
    return sum(
        _count(a.shape[1:], lengths) * np.dtype(layout.specs[a.name].dtype).itemsize
        for a in arrays
        if isinstance(a, Input)
    )


def _tile_rows(step: Step, lengths: Mapping[str, int]) -> int:
    return lengths[step.tile.name] if step.tile is not None else 0


class _Arena:
    def __init__(self) -> None:
        self.size = 0

    def take(self, size: int) -> int:
        """The offset of ``size`` bytes."""
        offset = self.size
        self.size += -(-size // ALIGN) * ALIGN
        return offset


def _count(shape: Sequence[Node], lengths: Mapping[str, int]) -> int:
    total = 1
    for extent in shape:
        total *= max(0, cost.length(extent, lengths))
    return total


def find_tiles(
    step: Step,
    specs: Mapping[str, ArraySpec],
    is_long_sum: Callable[[Statement, Index | None], bool],
    of: Mapping[Node, Statement],
) -> frozenset[Input]:
    """The inputs that are worth loading in blocks of whole rows.

    Floating point, C order, rank 2 or more, two columns or more, read at the row index;
    and read by more than a few single columns.
    """
    reads: dict[Input, set[tuple[Node, ...]]] = {}
    across = [s for s in statements_in(step.items) if not is_long_sum(s, step.row)]
    for node in (load for s in across for load in loads_within(s, of)):
        assert isinstance(node.array, Input)
        if len(node.indices) >= 2 and node.indices[0] is step.row:
            reads.setdefault(node.array, set()).add(node.indices[1:])
    return frozenset(
        array
        for array, columns in reads.items()
        if _worth_a_tile(array, specs[array.name], columns)
        and not any(step.row in i.free for indices in columns for i in indices)
    )


def _worth_a_tile(array: Input, spec: ArraySpec, reads: set[tuple[Node, ...]]) -> bool:
    if array.type != graph.FLOAT or not spec.contiguous:
        return False
    columns = elements(array.shape[1:])
    if not isinstance(columns, Const):
        return True
    if columns.value < 2:
        return False
    single = all(isinstance(i, Const) for indices in reads for i in indices)
    return not single or 2 * len(reads) >= columns.value


def static_stride(shape: Sequence[Node], axis: int) -> int | None:
    """Elements from one index of ``axis`` to the next in C order, if known now."""
    stride = 1
    for extent in shape[axis + 1 :]:
        if not isinstance(extent, Const):
            return None
        stride *= int(extent.value)
    return stride
