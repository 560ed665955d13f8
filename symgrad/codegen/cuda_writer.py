"""Loops and statements of one thread: what differs from a vector of rows.

A thread works on one row at a time, in scalars. What the processor keeps per lane of a
vector a thread keeps for itself: in arrays that become registers where their size is
known and small, else in device memory, where the elements of neighbouring threads are
neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgrad.codegen import operations
from symgrad.codegen.addresses import Address
from symgrad.codegen.cuda_emitter import ThreadEmitter
from symgrad.codegen.layout import Layout
from symgrad.codegen.llvm_text import Value
from symgrad.codegen.lower import StepWriter
from symgrad.graph import Call, Const, Input, Load, Node
from symgrad.schedule.nest import Loop
from symgrad.schedule.plan import Place, Plan, Step
from symgrad.schedule.statements import Statement
from symgrad.schedule.threads import fits_registers

PRIVATE_ELEMENTS = 256
"""Values of inner loops that a thread keeps for itself (local memory at worst)."""

ALIGNED = 16
"""Bytes of the widest load."""

NARROW_ELEMENTS = 64
"""float32: parameters with more elements are converted once per call; the others
where they are loaded."""


class ThreadWriter(StepWriter):
    """Writes the work of one thread.

    block: threads per block. The device's number of a thread and of all threads of the
    launch are known as ``global_index`` and ``total``.
    """

    def __init__(
        self,
        emitter: ThreadEmitter,
        plan: Plan,
        layout: Layout,
        step: Step,
        block: int,
    ) -> None:
        super().__init__(emitter, plan, layout, step, 1)
        self.thread, self.block = emitter, block
        self.index = emitter.thread_index()
        self.block_index = emitter.block_index()
        self.blocks = emitter.block_count()
        size = emitter.const(block, "i64")
        before = emitter.binary("mul", self.block_index, size)
        self.global_index = emitter.binary("add", before, self.index)
        self.total = emitter.binary("mul", self.blocks, size)
        # numbers of this thread and of all threads that have sums of their own
        self.own_index, self.owners = self.global_index, self.total
        self.row_step: Value | int = 1  # of loops over rows inside deferred sums
        self.arrays: dict[Place, Value] = {}

    def repeat(self, step: Step) -> None:
        """Compute the values of a step of single numbers, for this thread alone."""
        for item in step.items:
            assert not isinstance(item, Loop)
            assert isinstance(item.node, (Call, Load))
            self.compute(item.node)

    # -- memory ----------------------------------------------------------------------

    def memory(self, base: str, *key: object) -> Value:
        """The context of a thread holds addresses rather than offsets."""
        place = key[-1]
        if base == "scratch" and isinstance(place, Place):
            if place.kept:
                return self._of_block(place, key)
            return self._of_thread(place, key)
        return self.context(*key, type="ptr")

    def pointer_argument(self, table: str, number: int) -> Value:
        """Parameters and outputs: addresses in the context."""
        return self.context(table, number, type="ptr")

    def own_array(self, place: Place, kind: str) -> Value:
        """Memory of the thread for all elements of a place."""
        if place not in self.arrays:
            self.arrays[place] = self.thread.array(kind, count_of(place.shape))
        return self.arrays[place]

    def _of_thread(self, place: Place, key: tuple[object, ...]) -> Value:
        if is_private(place):
            return self.own_array(place, self.stored_type(place))
        found = self.find(("thread", place))
        if found is not None:
            return found[0]
        base = self.context(*key, type="ptr")
        kind = self.stored_type(place)
        pointer = self.at(0).gep(base, self.global_index, kind)
        return self.keep(("thread", place), pointer, 0)[0]

    def _of_block(self, place: Place, key: tuple[object, ...]) -> Value:
        """Rows of a tile, which the threads of the block share."""
        found = self.find(("block", place))
        if found is not None:
            return found[0]
        base = self.context(*key, type="ptr")
        count = self.count(place.shape)
        self.at(self.tile_level)
        number = self.thread.opaque(self.block_index)  # computed for each phase
        start = self.thread.binary("mul", number, count)
        pointer = self.thread.gep(base, start, self.stored_type(place))
        return self.keep(("block", place), pointer, self.tile_level)[0]

    def spread(self, shape: Sequence[Node], threads: Value) -> list[Node | Value]:
        """Strides of an array of which each of the ``threads`` has one: they are
        fastest."""
        strides = self.strides(shape, range(len(shape)))
        return [self._times((threads, 0), stride)[0] for stride in strides]

    def place_address(self, place: Place, level: int = 0) -> Address:
        """The current element of a place."""
        if place.memory != "scratch" or place.kept or is_private(place):
            return super().place_address(place, level)
        base = self.memory("scratch", "scratch", place)
        kind = self.stored_type(place)
        strides = self.spread(place.shape, self.total)
        return self.address(base, kind, place.axes, strides, level)

    def input_base(self, array: Input) -> tuple[Value, str]:
        """Parameters are float64; large ones were converted before."""
        spec = self.layout.specs[array.name]
        if not spec.parameter:
            return self._data(array.name, spec.contiguous), spec.dtype
        if is_narrowed(self.layout, array):
            return self.context("narrow", array.name, type="ptr"), "float32"
        number = self.layout.parameter_numbers[array.name]
        return self.pointer_argument("params", number), "float64"

    def _data(self, name: str, contiguous: bool) -> Value:
        """Where data start. In C order that is at a multiple of ``ALIGNED`` bytes (the
        runtime copies what is not), so that elements are loaded several at a time."""
        found = self.find(("aligned", name))
        if found is not None:
            return found[0]
        pointer = self.context("data", name, type="ptr")
        if contiguous:
            self.at(0)
            self.thread.assume_aligned(pointer, ALIGNED)
        return self.keep(("aligned", name), pointer, 0)[0]

    # -- sums over rows --------------------------------------------------------------

    def prefetch(self, node: Load, address: Address, type: str) -> None:
        """Other threads work while this one waits for memory."""

    def _waits(self, item: Loop) -> bool:
        """Threads add to rows that they choose at once."""
        return False

    def _scatter(self, s: Statement) -> None:
        place = self.sum_places.get(s)
        if place is None:
            super()._scatter(s)
        else:
            self._add_own(place, self.checked(s.targets, place.shape))

    def _add_in_lanes(self, place: Place, indices: Sequence[Node]) -> None:
        self._add_own(place, indices)

    def _fold_into_partial(self, place: Place, indices: Sequence[Node]) -> None:
        self._add_own(place, indices)

    def _add_own(self, place: Place, indices: Sequence[Node]) -> None:
        """Add the current term to this thread's element of a sum."""
        s, how = place.statement, way(place, self.step)
        if how == "atomic":
            self._add_shared(place, indices)
            return
        if how == "array":
            kind, base = self.type, self.own_array(place, self.type)
            strides: Sequence[Node | Value] = self.strides(
                place.shape, range(len(place.shape))
            )
        else:
            kind, base = "double", self.own_sums(place)
            strides = self.spread(place.shape, self.owners)
        address = self.address(base, kind, indices, strides)
        old = self._fetch_here(address, kind)
        self._store(address, self._added(s, old))

    def own_sums(self, place: Place) -> Value:
        """This thread's sums in device memory: the first element."""
        key = ("own sums", place)
        found = self.find(key)
        if found is not None:
            return found[0]
        base = self.context("partial", place, type="ptr")
        pointer = self.at(0).gep(base, self.own_index, "double")
        return self.keep(key, pointer, 0)[0]

    def atomic_base(self, place: Place) -> Value:
        """The one array of all threads that add to places which they choose."""
        return self.context("work", place, type="ptr")

    def _add_shared(self, place: Place, indices: Sequence[Node]) -> None:
        """Add to an array that other threads add to."""
        base = self.atomic_base(place)
        strides = self.strides(place.shape, range(len(place.shape)))
        value = self.value(place.statement.value)
        value = operations.to_float_type(self.home(), value, "double")
        address = self.address(base, "double", indices, strides)
        self.home()
        self.thread.add_atomically(address.pointer, value)

    def _add_to_partial(self, place: Place, value: Value) -> None:
        """A deferred sum of one element over the rows of a tile is complete."""
        value = operations.to_float_type(self.home(), value, "double")
        self.finish_element(place, value)

    def finish_element(self, place: Place, value: Value) -> None:
        """Set by the writer of passes, which knows how elements are shared out."""
        raise NotImplementedError

    def share_out(self, item: Loop, extent: Value) -> None:
        """A loop with independent turns: every thread of the block takes some."""
        super()._turns(item, self.index, extent, self.block)

    def _turns(self, item: Loop, begin: Value, end: Value, step: int | Value) -> None:
        """As on the processor; of the rows of a tile every ``row_step``-th."""
        if item.index is self.step.row:
            step = self.row_step
        super()._turns(item, begin, end, step)


def count_of(shape: Sequence[Node]) -> int:
    """The number of elements of a shape that is known."""
    total = 1
    for extent in shape:
        assert isinstance(extent, Const)
        total *= int(extent.value)
    return total


def is_private(place: Place) -> bool:
    """Whether a thread keeps the values of an inner loop for itself."""
    static = all(isinstance(extent, Const) for extent in place.shape)
    return static and count_of(place.shape) <= PRIVATE_ELEMENTS


def is_narrowed(layout: Layout, array: Input) -> bool:
    """Whether a parameter is converted to float32 once per call."""
    if not layout.single:
        return False
    static = all(isinstance(extent, Const) for extent in array.shape)
    return not static or count_of(array.shape) > NARROW_ELEMENTS


def way(place: Place, step: Step) -> str:
    """How the threads of a pass keep one sum.

    "register": one value; "array": a few, which become registers; "tiled": deferred,
    the elements shared out among the threads of a block; "private": in device memory,
    per thread; "atomic": one array, added to by all (only scatters to places that
    depend on the row: the order of additions is not fixed).
    """
    if place.sums in ("register", "tiled"):
        return place.sums
    s = place.statement
    if s.kind == "scatter" and any(step.row in t.free for t in s.targets):
        return "atomic"
    if fits_registers(place):
        return "array"
    return "private"
