"""A compiled kernel and how it is called.

``Kernel`` is code for one graph and one set of array types. ``Context`` adds data and
their lengths; it is read-only in calls, so several threads may use one at a time.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad import graph
from symgrad.codegen import cpu, operations
from symgrad.codegen.layout import ArraySpec, Layout, Sizes, measure
from symgrad.codegen.module import ModuleWriter
from symgrad.codegen.subroutines import often_used
from symgrad.graph import Input, Node
from symgrad.runtime import threads
from symgrad.runtime.bounds import index_error
from symgrad.runtime.cache import compile_cached
from symgrad.runtime.object_layout import address
from symgrad.schedule import Plan, cost, make_plan, schedule
from symgrad.schedule.choose import cost_per_row

PARALLEL_SECONDS = 100e-6
"""A pass estimated shorter than this runs on one thread."""

SECONDS_PER_COST = 0.03e-9
"""Rough time of one unit of the table's costs, per row."""

SMALL_BYTES = 1 << 18
"""Kernels that need more memory than this get it from Python, which keeps it."""

KEPT_SIZES = 4
"""Lengths that a kernel remembers, with the memory that calls have used."""

_Pointer = ctypes.c_void_p
_RUN = ctypes.CFUNCTYPE(None, *[_Pointer] * 5)
_SERIAL = ctypes.CFUNCTYPE(None, *[_Pointer] * 4)


class Kernel:
    """Code that computes some closed nodes.

    outputs: the nodes, scalars or arrays; results are float64.
    inputs: all arrays by name, parameters and data. specs: their types.
    order: the names of the parameters in the flat vector with their shapes, if the
        kernel is an objective (outputs: the loss, then one gradient per parameter).
    lanes: rows per vector; None: as many as a vector holds.
    """

    def __init__(
        self,
        outputs: Sequence[Node],
        inputs: Mapping[str, Input],
        specs: Mapping[str, ArraySpec],
        dtype: str,
        hints: Mapping[str, int],
        order: Sequence[Input] = (),
        lanes: int | None = None,
    ) -> None:
        self.dtype, self.order, self.hints = dtype, tuple(order), hints
        machine = cpu.host()
        self.lanes = lanes or machine.lanes(dtype)
        self.plan: Plan = schedule(outputs, operations.native(), hints, self.lanes)
        self.outputs = list(outputs)
        used = {n.name for n in graph.walk(self.plan.outputs) if isinstance(n, Input)}
        kept = {name: array for name, array in inputs.items() if name in used}
        self.layout = Layout(
            self.plan,
            kept,
            dict(specs),
            dtype == "float32",
            often_used(self.plan.outputs),
            f'"prefer-vector-width"="{machine.vector_bits}"',
        )
        names = {parameter.name for parameter in self.order}
        scalar = not getattr(outputs[0], "shape", ())
        flat = scalar and len(outputs) in (1, 1 + len(self.order))
        flat = flat and names.issuperset(self.layout.parameters())
        writer = ModuleWriter(
            self.plan, self.layout, machine.features, self.lanes, flat
        )
        self.llvm = writer.text()
        self.code = cpu.load_object(compile_cached(self.llvm))
        self._run = _RUN(self.code.address("run"))
        self._sized: dict[tuple[int, ...], Sized] = {}
        self._steps = self._functions()  # at once: a fork may come between
        arguments = outputs, inputs, specs, dtype
        self._planned_for = lambda lengths: Kernel(*arguments, lengths, order, lanes)

    def row_by_row(self) -> tuple[Plan, Layout]:
        """The same loops without tiles of rows, as they are printed for people."""
        plan = make_plan(self.plan.outputs, self.hints, self.lanes, tiled=False)
        layout = self.layout
        return plan, Layout(plan, layout.inputs, layout.specs, layout.single)

    @cached_property
    def asm(self) -> str:
        """The processor's assembly."""
        return cpu.assembly(self.llvm)

    def _functions(self) -> list[tuple[Any, Any]]:
        """Per step its function; for passes the address of the one that runs chunks,
        and the function that combines."""
        found: list[tuple[Any, Any]] = []
        for number, step in enumerate(self.plan.steps):
            if step.row is None:
                found.append((_SERIAL(self.code.address(f"serial_{number}")), None))
            else:
                chunks = self.code.address(f"chunks_{number}")
                combine = _SERIAL(self.code.address(f"combine_{number}"))
                found.append((chunks, combine))
        return found

    def seconds(self, lengths: Mapping[str, int], sizes: Sizes) -> float:
        """Estimated time of one call on one thread, roughly."""
        total, rows = 1e-6, iter(sizes.rows)
        for step in self.plan.steps:
            if step.row is not None:
                total += next(rows) * cost_per_row(step, lengths) * SECONDS_PER_COST
            else:
                total += cost_per_row(step, lengths) * 1e-9
        return total

    def sized(self, lengths: Mapping[str, int]) -> Sized:
        """The kernel for some lengths: of every run-time dimension."""
        key = tuple(lengths.values())
        found = self._sized.get(key)
        if found is None:
            if len(self._sized) >= KEPT_SIZES:
                self._sized.clear()
            kernel = self
            if any(cost.length(e, lengths) == 0 for e in self.plan.firsts):
                kernel = self._planned_for(lengths)  # there is no first row
            found = self._sized[key] = Sized(kernel, dict(lengths))
        return found

    def context(
        self, data: Mapping[str, NDArray[Any]], lengths: Mapping[str, int]
    ) -> Context:
        """Bind data. ``lengths``: of every run-time dimension."""
        return Context(self.sized(lengths), data)


@dataclass(eq=False)
class _Memory:
    work: NDArray[np.uint8]
    scratch: list[NDArray[np.uint8]]


class Sized:
    """A kernel with lengths: all slots of a context but those of the data."""

    def __init__(self, kernel: Kernel, lengths: dict[str, int]) -> None:
        self.kernel, self.lengths = kernel, lengths
        self.sizes: Sizes = measure(kernel.layout, lengths, kernel.lanes)
        self.seconds = kernel.seconds(lengths, self.sizes)
        self.idle: list[_Memory] = []
        self._offsets = {p.name: place[0] for p, place in self.places()}
        layout = kernel.layout
        self.data: list[tuple[Any, int]] = []  # name, slot of the address
        self.strides: list[tuple[Any, Any, int]] = []  # name, axis, slot
        self.slots = np.zeros(max(1, len(layout.slots)), np.int64)
        for key, slot in layout.slots.items():
            if key[0] == "stride" and not layout.specs[str(key[1])].parameter:
                self.strides.append((key[1], key[2], slot))
            elif key[0] == "data":
                self.data.append((key[1], slot))
            else:
                self.slots[slot] = self._slot(key)

    def _slot(self, key: tuple[Any, ...]) -> int:
        sizes = self.sizes
        if key in sizes.offsets:
            return sizes.offsets[key]
        match key:
            case ("size", name):
                return self.lengths[name]
            case ("stride", name, axis):
                shape = self.shape(self.kernel.layout.inputs[name])
                return math.prod(shape[axis + 1 :])
            case ("work bytes",):
                return sizes.work_bytes
            case ("memory bytes",):
                return sizes.work_bytes + sizes.scratch_bytes
            case ("x offset", name):
                return self._offsets[name]
            case ("gradient offset", number):
                return self._offsets[self.kernel.order[number - 1].name]
        raise AssertionError(key)

    def shape(self, node: Node) -> tuple[int, ...]:
        """The shape of an input or output here."""
        extents = getattr(node, "shape", ())
        return tuple(cost.length(e, self.lengths) for e in extents)

    def places(self) -> list[tuple[Input, tuple[int, int, tuple[int, ...]]]]:
        """Per parameter: start and stop in the flat vector, and its shape."""
        result, start = [], 0
        for parameter in self.kernel.order:
            shape = self.shape(parameter)
            stop = start + math.prod(shape)
            result.append((parameter, (start, stop, shape)))
            start = stop
        return result

    def is_small(self, workers: int) -> bool:
        """Runs on one thread in little memory, which the native code allocates."""
        few = self.sizes.work_bytes + self.sizes.scratch_bytes <= SMALL_BYTES
        return few and (workers == 1 or self.seconds < PARALLEL_SECONDS)

    def with_strides(self, data: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
        """Slots for data laid out like these; the addresses are still missing."""
        slots = self.slots.copy()
        for name, axis, slot in self.strides:
            slots[slot] = data[name].strides[axis] // data[name].itemsize
        return slots


class Context:
    """A kernel with its data and lengths."""

    def __init__(self, sized: Sized, data: Mapping[str, NDArray[Any]]) -> None:
        self.sized, self.kernel, self.data = sized, sized.kernel, dict(data)
        self.sizes, self.seconds = sized.sizes, sized.seconds
        self.shape = sized.shape
        self.slots = sized.with_strides(data)
        for name, slot in sized.data:
            self.slots[slot] = address(data[name])
        self.address = address(self.slots)
        self._idle = sized.idle

    # -- calls -----------------------------------------------------------------------

    def _take(self, workers: int) -> _Memory:
        try:
            memory = self._idle.pop()
        except IndexError:
            memory = _Memory(_aligned(self.sizes.work_bytes), [])
        while len(memory.scratch) < workers:
            memory.scratch.append(_aligned(self.sizes.scratch_bytes))
        return memory

    def __call__(
        self,
        parameters: Sequence[NDArray[np.float64]],
        outs: Sequence[NDArray[np.float64]],
        workers: int = 1,
    ) -> None:
        """Run. ``parameters`` in the layout's order, ``outs`` one per output.

        Raises:
            GatherIndexError: an index computed from the data is out of bounds.
        """
        status = ctypes.c_int64(0)
        params = (_Pointer * max(1, len(parameters)))(*map(address, parameters))
        results = (_Pointer * (len(outs) + 1))(
            *map(address, outs), ctypes.addressof(status)
        )
        if self.seconds < PARALLEL_SECONDS:
            workers = 1
        memory = self._take(workers)
        work = address(memory.work)
        common = (self.address, ctypes.addressof(params), ctypes.addressof(results))
        if workers == 1:
            self.kernel._run(*common, work, address(memory.scratch[0]))
        else:
            self._threaded((*common, work), memory, workers)
        self._idle.append(memory)
        if status.value:
            raise index_error(self.kernel.outputs, self.data, self.sized.lengths)

    def _threaded(
        self, common: tuple[int, int, int, int], memory: _Memory, workers: int
    ) -> None:
        kernel, passes = self.kernel, iter(self.sizes.chunks)
        scratch = [address(memory.scratch[k]) for k in range(workers)]
        if kernel.layout.single:
            _SERIAL(kernel.code.address("narrow"))(*common)
        for function, combine in kernel._steps:
            if combine is None:
                function(*common)
                continue
            threads.in_parallel(function, common, scratch, next(passes))
            combine(*common)


def _aligned(size: int) -> NDArray[np.uint8]:
    """Uninitialised memory that starts on a cache line."""
    raw = np.empty(size + 128, np.uint8)
    start = -address(raw) % 64
    return raw[start : start + size + 64]
