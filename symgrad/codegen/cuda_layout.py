"""Device memory of one call: where everything is, and how many blocks run.

The number of blocks depends on the lengths and on the device, never on timing: it fixes
the order of all sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from symgrad.codegen.cuda_emitter import WARP
from symgrad.codegen.cuda_module import Launch
from symgrad.codegen.cuda_passes import reduced_places
from symgrad.codegen.cuda_staging import atomic_places
from symgrad.codegen.cuda_tiles import tile_rows
from symgrad.codegen.cuda_writer import is_narrowed, is_private, way
from symgrad.codegen.layout import Layout
from symgrad.graph import Node
from symgrad.schedule import cost
from symgrad.schedule.plan import Step

BLOCKS_PER_PROCESSOR = 4
"""Blocks that a multiprocessor works on together; more would only add partial sums."""

BUDGET = 1 << 28
"""Bytes that the threads' own memory may take, where fewer blocks make it less."""

TILE_BYTES = 1 << 20
"""What a block keeps of a tile of rows for deferred sums."""

SHARED_BYTES = 48 << 10
"""Shared memory that a block has on every device, without asking for more."""

WORTH = 2
"""Additions per element from which on a block has its own target of a scatter."""

ALIGN = 256


@dataclass
class DeviceSizes:
    """A context for given lengths.

    offsets: into the work memory; values: other slots. bytes: of work memory.
    blocks: per launch of a pass; parts: launches of it. clears: per pass, what of the
    work memory to set to zero before. late: per pass, bytes of shared memory
    besides those that its kernel names.
    """

    offsets: dict[tuple[object, ...], int] = field(default_factory=dict)
    values: dict[tuple[object, ...], int] = field(default_factory=dict)
    bytes: int = 0
    blocks: dict[Step, int] = field(default_factory=dict)
    parts: dict[Step, int] = field(default_factory=dict)
    clears: dict[Step, list[tuple[int, int]]] = field(default_factory=dict)
    late: dict[Step, int] = field(default_factory=dict)

    def take(self, size: int, *key: object) -> int:
        """Memory for ``key``."""
        self.offsets[key] = self.bytes
        self.bytes += -(-max(size, 1) // ALIGN) * ALIGN
        return self.offsets[key]


def measure_device(
    layout: Layout,
    lengths: Mapping[str, int],
    block: int,
    processors: int,
    parts: Mapping[Step, int] = {},
    shared: int = 0,
) -> DeviceSizes:
    """Lay out the memory for these run-time lengths.

    block: threads per block. processors: multiprocessors of the device. parts: launches
    of a pass, each for as many rows; one where it is not given. shared: bytes of shared
    memory that the kernels name.
    """
    sizes = DeviceSizes()
    for step in layout.plan.passes:
        number = parts.get(step, 1)
        _measure_pass(layout, step, lengths, block, processors, number, sizes)
        _measure_targets(step, lengths, SHARED_BYTES - shared, sizes)
    for place in layout.plan.work.values():
        if ("work", place) not in sizes.offsets:
            count = elements(place.shape, lengths)
            sizes.take(count * layout.element_bytes(place), "work", place)
    for name in layout.parameters():
        array = layout.inputs[name]
        if is_narrowed(layout, array):
            sizes.take(4 * elements(array.shape, lengths), "narrow", name)
    return sizes


def elements(shape: Sequence[Node], lengths: Mapping[str, int]) -> int:
    """The number of elements of a shape."""
    total = 1
    for extent in shape:
        total *= max(0, cost.length(extent, lengths))
    return total


def _measure_pass(
    layout: Layout,
    step: Step,
    lengths: Mapping[str, int],
    block: int,
    processors: int,
    parts: int,
    sizes: DeviceSizes,
) -> None:
    assert step.row is not None
    all_rows = max(0, cost.length(step.row.extent, lengths))
    rows = -(-all_rows // parts)
    per_block = block
    if step.tile is not None:
        per_block = _tile_rows(layout, step, lengths, block, rows)
        sizes.values["size", step.tile.name] = per_block
        lengths = {**lengths, step.tile.name: per_block}
    own = _bytes_per_block(layout, step, lengths, block)
    blocks = min(-(-rows // per_block), BLOCKS_PER_PROCESSOR * processors)
    blocks = max(1, min(blocks, BUDGET // max(1, own)))
    sizes.blocks[step] = blocks
    sizes.values["blocks of", step] = blocks * parts
    sizes.values["rows from", step], sizes.values["rows to", step] = 0, all_rows
    sizes.values["first block", step] = 0
    sizes.parts[step] = parts
    sizes.take(4, "counter", step)
    sizes.clears[step] = []
    _measure_sums(step, lengths, block, blocks * parts, sizes)
    for place in step.scratch:
        size = elements(place.shape, lengths) * layout.element_bytes(place) * blocks
        if place.kept:
            sizes.take(size, "scratch", place)
        elif not is_private(place):
            sizes.take(size * block, "scratch", place)


def _measure_sums(
    step: Step, lengths: Mapping[str, int], block: int, blocks: int, sizes: DeviceSizes
) -> None:
    reduced = reduced_places(step)
    counts = [elements(place.shape, lengths) for place in reduced]
    start = sizes.take(8 * sum(counts), "totals", step)
    for place, count in zip(reduced, counts, strict=True):
        sizes.offsets["work", place] = start
        start += 8 * count
    sizes.take(8 * sum(counts) * blocks, "blocks", step)
    for place in step.sums:
        count = elements(place.shape, lengths)
        how = way(place, step)
        if how in ("private", "tiled"):
            each = block if how == "private" else parts_of(count, block)
            sizes.take(8 * count * each * blocks, "partial", place)
        elif how == "atomic":
            offset = sizes.take(8 * count, "work", place)
            sizes.clears[step].append((offset, 8 * count))


def _measure_targets(
    step: Step, lengths: Mapping[str, int], room: int, sizes: DeviceSizes
) -> None:
    """Which sums at chosen places each block has for itself: those that fit, and of
    which the rows of a block add more than there are elements to add up later."""
    assert step.row is not None
    rows = cost.length(step.row.extent, lengths) // sizes.blocks[step]
    start = 0
    for place in atomic_places(step):
        count = elements(place.shape, lengths)
        inner = [i.extent for i in place.statement.bound if i is not step.row]
        worth = rows * elements(inner, lengths) >= WORTH * count
        fits = 8 * (start + count) <= room
        sizes.values["own target", place] = start if worth and fits else -1
        start += count if worth and fits else 0
    sizes.late[step] = 8 * start


def parts_of(count: int, block: int) -> int:
    """Into how many parts the rows of a tile are divided for a sum of ``count``
    elements; as the kernels compute it."""
    return max(1, block // max(1, count))


def _bytes_per_block(
    layout: Layout, step: Step, lengths: Mapping[str, int], block: int
) -> int:
    """Memory that grows with the number of blocks."""
    total = 0
    for place in step.sums:
        count = elements(place.shape, lengths)
        how = way(place, step)
        if how == "private":
            total += 8 * count * block
        elif how == "tiled":
            total += 8 * count * parts_of(count, block)
    for place in step.scratch:
        size = elements(place.shape, lengths) * layout.element_bytes(place)
        total += size if place.kept else 0 if is_private(place) else size * block
    return total


def _tile_rows(
    layout: Layout, step: Step, lengths: Mapping[str, int], block: int, rows: int
) -> int:
    """Rows of a tile: at most one per thread, fewer where much is kept of each, or
    where threads work on them together and blocks would have none."""
    row_bytes = sum(
        elements(place.shape[:-1], lengths) * layout.element_bytes(place)
        for place in step.scratch
        if place.kept
    )
    if step.phases:
        block = tile_rows(rows, block)
    return min(block, max(WARP, TILE_BYTES // max(1, row_bytes) // WARP * WARP))


def grid(launch: Launch, sizes: DeviceSizes) -> int:
    """The number of blocks of a launch."""
    return 1 if launch.step is None else sizes.blocks[launch.step]
