"""One plan as kernels for a GPU.

    begin()        parameters as float32, and what comes before the first pass
    pass_k()       the rows of pass k; where the partial sums are few, the block that
                   ends last also does what follows: one launch in all
    combine_k()    else: the totals of the partial sums, elements shared out
    after_k()      and what follows pass k
    tail()         what a caller adds at the end, where no single block is the last

Each takes one argument, the context, addresses and lengths: by value if it is small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from symgrad.codegen.cuda_emitter import WARP, ThreadEmitter, ThreadModule
from symgrad.codegen.cuda_passes import PassWriter, fold_warp, reduced_places
from symgrad.codegen.cuda_tiles import parts
from symgrad.codegen.cuda_writer import ThreadWriter, count_of, is_narrowed, way
from symgrad.codegen.layout import Layout
from symgrad.codegen.llvm_text import Value
from symgrad.codegen.sums import IDENTITY, combine, kind_of
from symgrad.schedule import cost
from symgrad.schedule.nest import Item, Loop
from symgrad.schedule.plan import Place, Plan, Step
from symgrad.schedule.threads import is_parallel, is_repeatable

BLOCK = 256
"""Threads per block."""

FEW_PARTIALS = 512
"""Passes with at most so many partial sums per block are completed by one block, in the
launch of the pass."""

PARAMETERS = "ptr byval([{slots} x i64]) align 8 %context"
MOST_SLOTS = 500
"""A kernel may have 4 KB of arguments; larger contexts are read from device memory."""

CONTEXT = "@CONTEXT@"

Extra = Callable[[ThreadWriter], None]
"""Writes the end of a kernel of one block."""


@dataclass(frozen=True)
class Launch:
    """One kernel to run. step: of its pass, for the number of blocks; None for one
    block. rows: whether it is the pass itself."""

    name: str
    step: Step | None = None
    rows: bool = False


class CudaModuleWriter:
    """Writes all kernels of one plan.

    hints: run-time lengths, which decide between one launch and three.
    block: threads per block. tail: writes what one block does at the end. others:
    more kernels of one block, by name, which are launched apart.
    """

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        hints: Mapping[str, int],
        block: int = BLOCK,
        tail: Extra | None = None,
        others: Mapping[str, Extra] = {},
    ) -> None:
        self.plan, self.layout, self.hints, self.block = plan, layout, hints, block
        self.module = ThreadModule()
        self.launches: list[Launch] = []
        self.repeated = Step([])  # what every thread computes for itself
        self.tail, self.others = tail, others
        self.by_value = True  # the context

    def text(self) -> str:
        """The kernels as LLVM assembly, without the target's own functions."""
        steps = self.plan.steps
        first = steps[0] if steps and steps[0].row is None else None
        if first is not None and len(steps) > 1 and is_repeatable(first):
            self.repeated, first = first, None
        narrowed = [
            number
            for number, name in enumerate(self.layout.parameters())
            if is_narrowed(self.layout, self.layout.inputs[name])
        ]
        if first is not None or narrowed:
            self._begin(first, narrowed)
        for number, step in enumerate(steps):
            if step.row is not None:
                after = steps[number + 1] if number + 1 < len(steps) else None
                after = None if after is None or after.row is not None else after
                self._pass(number, step, after)
        if self.tail is not None:
            self._alone_in_kernel("tail", self.tail)
            self.launches.append(Launch("tail"))
        for name, extra in self.others.items():
            self._alone_in_kernel(name, extra)
        slots = max(1, len(self.layout.slots))
        self.by_value = slots <= MOST_SLOTS
        spelled = PARAMETERS.format(slots=slots) if self.by_value else "ptr %context"
        return self.module.text().replace(CONTEXT, spelled)

    # -- kernels ---------------------------------------------------------------------

    def _alone_in_kernel(self, name: str, extra: Extra) -> None:
        writer = self._writer(Step([]))
        extra(writer)
        self._kernel(writer, name)

    def _end(self, writer: ThreadWriter, last: Step | None) -> None:
        """Write the tail here if ``last`` is the plan's last step."""
        if self.tail is not None and last is self.plan.steps[-1]:
            self.tail(writer)
            self.tail = None

    def _writer(self, step: Step) -> ThreadWriter:
        emitter = ThreadEmitter(self.module)
        writer = ThreadWriter(emitter, self.plan, self.layout, step, self.block)
        writer.repeat(self.repeated)
        return writer

    def _kernel(self, writer: ThreadWriter, name: str) -> None:
        self.module.kernels.append(name)
        writer.home().finish(name, [CONTEXT], linkage="ptx_kernel")

    def _begin(self, step: Step | None, narrowed: list[int]) -> None:
        writer = self._writer(step or Step([]))
        for number in narrowed:
            self._narrow(writer, number)
        if narrowed:
            writer.home()
            writer.thread.barrier()
        if step is not None:
            self._serial(writer, step)
            self._end(writer, step)
        self._kernel(writer, "begin")
        self.launches.append(Launch("begin"))

    def _narrow(self, writer: ThreadWriter, number: int) -> None:
        name = self.layout.parameters()[number]
        source = writer.pointer_argument("params", number)
        target = writer.context("narrow", name, type="ptr")

        def body(k: Value, _: list[Value]) -> None:
            e = writer.emitter
            value = e.load(e.gep(source, k, "double"), "double")
            narrow = e.convert("fptrunc", value, "float")
            e.store(narrow, e.gep(target, k, "float"))

        count = writer.count(self.layout.inputs[name].shape)
        writer.counted(writer.index, count, body, step=self.block)

    def _pass(self, number: int, step: Step, after: Step | None) -> None:
        emitter = ThreadEmitter(self.module)
        writer = PassWriter(emitter, self.plan, self.layout, step, self.block)
        writer.hints = self.hints
        writer.repeat(self.repeated)
        writer.rows()
        needed = bool(combined(step)) or after is not None
        fused = needed and self._is_small(step)
        if fused:
            self._last_block(writer, number)
        self._kernel(writer, f"pass_{number}")
        self.launches.append(Launch(f"pass_{number}", step, rows=True))
        if fused:
            self._finish(number, step, after)
        elif needed:
            self._separate(number, step, after)

    def _is_small(self, step: Step) -> bool:
        """Whether one block is enough to combine the partial sums."""
        total = 0
        for place in step.sums:
            count = 1
            for extent in place.shape:
                count *= max(1, cost.length(extent, self.hints))
            how = way(place, step)
            per_block = {"private": self.block, "tiled": max(1, self.block // count)}
            total += count * per_block.get(how, 1)
        return total <= FEW_PARTIALS

    def _last_block(self, writer: PassWriter, number: int) -> None:
        """The block that is done last runs ``finish``: every other one has written its
        sums before it added one to the counter, and here that is seen."""
        counter = writer.context("counter", writer.step, type="ptr")
        writer.home()
        emitter = writer.thread
        emitter.fence()
        emitter.barrier()
        is_first = emitter.icmp("eq", writer.index, emitter.const(0, "i64"))
        flag = emitter.shared(0, 1)

        def arrive() -> None:
            before = emitter.convert("zext", emitter.arrive(counter), "i64")
            last = emitter.binary("sub", writer.all_blocks, emitter.const(1, "i64"))
            is_last = emitter.icmp("eq", before, last)
            emitter.store(emitter.convert("zext", is_last, "i64"), flag)

        emitter.when(is_first, arrive)
        emitter.barrier()
        found = emitter.load(flag, "i64")
        is_last = emitter.icmp("ne", found, emitter.const(0, "i64"))

        def finish() -> None:
            emitter.fence()
            emitter.barrier()  # all have read the flag, whose memory is used again
            emitter.raw(f"call void @finish_{number}(ptr %context) convergent")
            emitter.when(
                is_first, lambda: emitter.store(emitter.const(0, "i32"), counter)
            )

        emitter.when(is_last, finish)

    def _finish(self, number: int, step: Step, after: Step | None) -> None:
        writer = self._writer(after or Step([]))
        one = writer.emitter.const(self.block, "i64")
        _Totals(writer, step, writer.index, one).write()
        writer.home()
        writer.thread.barrier()
        if after is not None:
            self._serial(writer, after)
        self._end(writer, after or step)
        writer.home().finish(
            f"finish_{number}",
            ["ptr %context"],
            attributes="alwaysinline convergent",
            linkage="internal",
        )

    def _separate(self, number: int, step: Step, after: Step | None) -> None:
        writer = self._writer(Step([]))
        if combined(step):
            _Totals(writer, step, writer.global_index, writer.total).write()
            self._kernel(writer, f"combine_{number}")
            self.launches.append(Launch(f"combine_{number}", step))
        if after is not None:
            writer = self._writer(after)
            self._serial(writer, after)
            self._end(writer, after)
            self._kernel(writer, f"after_{number}")
            self.launches.append(Launch(f"after_{number}"))

    # -- serial steps ----------------------------------------------------------------

    def _serial(self, writer: ThreadWriter, step: Step) -> None:
        """One block: loops with independent turns are shared out among its threads,
        the rest is for the first thread. What one item writes the next may read."""
        for k, item in enumerate(step.items):
            if k:
                writer.home()
                writer.thread.barrier()
            if isinstance(item, Loop) and is_parallel(self.plan, step, item):
                extent, _ = writer.extent(item.index.extent)
                writer.home()
                writer.share_out(item, extent)
            else:
                self._alone(writer, item)

    def _alone(self, writer: ThreadWriter, item: Item) -> None:
        one = writer.emitter.const(1, "i64")

        def body(_: Value, __: list[Value]) -> None:
            writer.items([item])

        writer.counted(writer.index, one, body)


def combined(step: Step) -> list[Place]:
    """The sums of a pass that have partial sums."""
    return [p for p in step.sums if way(p, step) != "atomic"]


class _Totals:
    """Writes the totals of all partial sums of a pass.

    worker, workers: the number of this thread among those that share the work.
    """

    def __init__(
        self, writer: ThreadWriter, step: Step, worker: Value, workers: Value
    ) -> None:
        self.writer, self.step = writer, step
        self.worker, self.workers = worker, workers
        self.emitter = writer.thread
        self.blocks = writer.context("blocks of", step, type="i64")
        writer.home()

    def write(self) -> None:
        emitter = self.emitter
        five = emitter.const(5, "i64")
        self.lane = emitter.binary("and", self.worker, emitter.const(WARP - 1, "i64"))
        self.warp = emitter.binary("lshr", self.worker, five)
        self.warps = emitter.binary("lshr", self.workers, five)
        self._of_blocks()
        for place in self.step.sums:
            how = way(place, self.step)
            if how == "private":
                self._of_threads(place)
            elif how == "tiled":
                self._of_tiles(place)

    def _of_blocks(self) -> None:
        """Sums that each block has reduced to one value: they lie together."""
        pass_writer = self.writer
        places = reduced_places(self.step)
        if not places:
            return
        source = pass_writer.context("blocks", self.step, type="ptr")
        target = pass_writer.context("totals", self.step, type="ptr")
        pass_writer.home()
        first = 0
        for kind in dict.fromkeys(kind_of(p.statement) for p in places):
            same = [p for p in places if kind_of(p.statement) == kind]
            count = sum(count_of(p.shape) for p in same)
            begin = self.emitter.const(first, "i64")
            end = self.emitter.const(first + count, "i64")
            self._by_warps(kind, source, target, begin, end, self.blocks)
            first += count

    def _of_threads(self, place: Place) -> None:
        source = self.writer.context("partial", place, type="ptr")
        target = self.writer.context("work", place, type="ptr")
        count = self.writer.count(place.shape)
        emitter = self.emitter
        self.writer.home()
        size = emitter.const(self.writer.block, "i64")
        number = emitter.binary("mul", self.blocks, size)
        zero = emitter.const(0, "i64")
        kind = kind_of(place.statement)
        self._by_warps(kind, source, target, zero, count, number)

    def _by_warps(
        self,
        kind: str,
        source: Value,
        target: Value,
        begin: Value,
        end: Value,
        number: Value,
    ) -> None:
        """One element per warp: its threads take every 32nd of ``number`` values."""
        emitter = self.emitter
        first = emitter.binary("add", begin, self.warp)
        is_first = emitter.icmp("eq", self.lane, emitter.const(0, "i64"))

        def element(k: Value, _: list[Value]) -> list[Value]:
            row = emitter.gep(source, emitter.binary("mul", k, number), "double")

            def value(c: Value, total: list[Value]) -> list[Value]:
                other = emitter.load(emitter.gep(row, c, "double"), "double")
                return [combine(emitter, kind, total[0], other)]

            start = emitter.const(IDENTITY[kind], "double")
            total = emitter.loop(self.lane, number, WARP, [start], value)[0]
            total = fold_warp(emitter, kind, total)
            place = emitter.gep(target, k, "double")
            emitter.when(is_first, lambda: emitter.store(total, place))
            return []

        emitter.loop(first, end, self.warps, (), element)

    def _of_tiles(self, place: Place) -> None:
        """One element per thread, the parts of all blocks in order."""
        writer, emitter, kind = self.writer, self.emitter, kind_of(place.statement)
        source = writer.context("partial", place, type="ptr")
        target = writer.context("work", place, type="ptr")
        count = writer.count(place.shape)
        each = parts(writer, place)
        writer.home()
        number = emitter.binary("mul", self.blocks, each)

        def element(k: Value, _: list[Value]) -> list[Value]:
            here = emitter.gep(source, k, "double")

            def part(c: Value, total: list[Value]) -> list[Value]:
                at = emitter.binary("mul", c, count)
                value = emitter.load(emitter.gep(here, at, "double"), "double")
                return [combine(emitter, kind, total[0], value)]

            start = emitter.const(IDENTITY[kind], "double")
            zero = emitter.const(0, "i64")
            total = emitter.loop(zero, number, 1, [start], part)[0]
            emitter.store(total, emitter.gep(target, k, "double"))
            return []

        emitter.loop(self.worker, count, self.workers, (), element)
