"""A kernel for a GPU, and how it is run.

``CudaKernel`` is code for one graph and one set of array types, without any device.
``CudaContext`` is a kernel on a device with its data, lengths and memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad import graph
from symgrad.codegen import cuda_target, operations
from symgrad.codegen.cuda_layout import DeviceSizes, grid, measure_device
from symgrad.codegen.cuda_module import BLOCK, CudaModuleWriter, Extra, Launch
from symgrad.codegen.cuda_prelude import for_device
from symgrad.codegen.layout import ArraySpec, Layout
from symgrad.codegen.subroutines import often_used
from symgrad.graph import Input, Node
from symgrad.runtime.cuda_arrays import DeviceArray, c_strides
from symgrad.runtime.cuda_chunks import Streamed
from symgrad.runtime.cuda_device import Buffer, Device
from symgrad.schedule import Plan, cost
from symgrad.schedule.plan import Step
from symgrad.schedule.threads import plan_for_threads

KEPT_SIZES = 4
"""Lengths that a kernel remembers, with the memory that calls have used."""


class CudaKernel:
    """Code that computes some closed nodes on a GPU; arguments as of ``Kernel``.

    block: threads per block; the default is :data:`BLOCK`. tail, others: see
    ``CudaModuleWriter``.
    """

    def __init__(
        self,
        outputs: Sequence[Node],
        inputs: Mapping[str, Input],
        specs: Mapping[str, ArraySpec],
        dtype: str,
        hints: Mapping[str, int],
        order: Sequence[Input] = (),
        block: int | None = None,
        tail: Extra | None = None,
        others: Mapping[str, Extra] = {},
    ) -> None:
        self.dtype, self.order, self.block = dtype, tuple(order), block or BLOCK
        self.outputs = list(outputs)
        self.plan: Plan = plan_for_threads(outputs, operations.native(), hints)
        used = {n.name for n in graph.walk(self.plan.outputs) if isinstance(n, Input)}
        kept = {name: array for name, array in inputs.items() if name in used}
        called = often_used(self.plan.outputs)
        single = dtype == "float32"
        self.layout = Layout(self.plan, kept, dict(specs), single, called)
        writer = CudaModuleWriter(
            self.plan, self.layout, hints, self.block, tail, others
        )
        self.body = writer.text()
        self.launches, self.by_value = writer.launches, writer.by_value
        self.kernels, self.shared = writer.module.kernels, writer.module.shared
        self._ptx: dict[str, str] = {}
        self._modules: dict[int, tuple[Device, Any]] = {}
        self._idle: dict[tuple[int, ...], list[CudaContext]] = {}

    @cached_property
    def llvm(self) -> str:
        """The module for the device, in LLVM assembly."""
        return for_device(self.body, self.kernels, self.shared, self.block)

    def ptx(self, arch: str | None = None) -> str:
        """PTX for an architecture, "sm_75" (which runs on all later ones) by default.

        Raises:
            DeviceError: unknown architecture.
        """
        name = cuda_target.architecture(arch)
        if name not in self._ptx:
            self._ptx[name] = cuda_target.ptx(self.llvm, name)
        return self._ptx[name]

    def on(self, device: Device) -> Any:
        """The kernels, loaded."""
        if id(device) not in self._modules:
            self._modules[id(device)] = device, device.load(self)
        return self._modules[id(device)][1]

    def context(
        self,
        device: Device,
        lengths: Mapping[str, int],
        data: Mapping[str, Any],
        streamed: Streamed | None = None,
    ) -> CudaContext:
        """The kernel with memory for these lengths (of every run-time dimension) and
        with data on the device, or coming in parts. A context that nobody uses is used
        again."""
        if streamed is not None:
            return CudaContext(self, device, dict(lengths), data, streamed)
        key = (id(device), *lengths.values())
        idle = self._idle.get(key)
        if not idle:
            return CudaContext(self, device, dict(lengths), data)
        context = idle.pop()
        context.set_data(data)
        return context

    def give_back(self, context: CudaContext) -> None:
        """The context may be used for another call."""
        if context.streamed is not None:
            return
        key = (id(context.device), *context.lengths.values())
        if key not in self._idle and len(self._idle) >= KEPT_SIZES:
            self._idle.clear()
        self._idle.setdefault(key, []).append(context)


class CudaContext:
    """A kernel with its lengths and memory on a device; one call at a time.

    Parameters and results have places of their own, one after the other; parameters
    that are on the device already are read where they are.
    """

    def __init__(
        self,
        kernel: CudaKernel,
        device: Device,
        lengths: dict[str, int],
        data: Mapping[str, Any],
        streamed: Streamed | None = None,
    ) -> None:
        self.kernel, self.device, self.lengths = kernel, device, lengths
        self.streamed = streamed
        self.sizes: DeviceSizes = measure_device(
            kernel.layout, lengths, kernel.block, device.processors,
            streamed.parts if streamed is not None else {},
            8 * kernel.shared,
        )  # fmt: skip
        if streamed is not None:
            streamed.place(device)
        self.memory = Buffer(device, self.sizes.bytes)
        self.module = kernel.on(device)
        self._launches = [
            (self.module.function(k.name), grid(k, self.sizes), k)
            for k in kernel.launches
        ]
        self.slots = np.zeros(max(1, len(kernel.layout.slots)), np.int64)
        self._slots = Buffer(device, 0 if kernel.by_value else self.slots.nbytes)
        self._data: list[tuple[tuple[Any, ...], int]] = []
        for key, slot in kernel.layout.slots.items():
            if key[0] in ("data", "stride") and self._is_data(str(key[1])):
                self._data.append((key, slot))
            elif key[0] not in ("params", "outs", "record"):
                self.slots[slot] = self._slot(key)
        for step in kernel.plan.passes:
            offset = self.sizes.offsets["counter", step]
            device.clear(self.memory.address + offset, 4)
        self._own_places()
        self.set_data(data)
        device.synchronise()  # later calls may be on another stream

    def _own_places(self) -> None:
        layout = self.kernel.layout
        names = layout.parameters()
        self.parameter_shapes = [self.shape(layout.inputs[n]) for n in names]
        self.parameter_starts = _starts(self.parameter_shapes)
        self.parameters = Buffer(self.device, 8 * self.parameter_starts[-1])
        shapes = [self.shape(node) for node in self.kernel.outputs]
        self.out_shapes, self.out_starts = shapes, _starts(shapes)
        self.outs = Buffer(self.device, 8 * (self.out_starts[-1] + 1))
        self.status = self.outs.address + 8 * self.out_starts[-1]
        own = [self.parameters.address + 8 * k for k in self.parameter_starts[:-1]]
        results = [self.outs.address + 8 * k for k in self.out_starts]
        self.point(own, results)

    def _is_data(self, name: str) -> bool:
        return not self.kernel.layout.specs[name].parameter

    def _slot(self, key: tuple[Any, ...]) -> int:
        if key in self.sizes.values:
            return self.sizes.values[key]
        if key in self.sizes.offsets:
            return self.memory.address + self.sizes.offsets[key]
        match key:
            case ("size", name):
                return self.lengths[name]
            case ("stride", name, axis):
                shape = self.shape(self.kernel.layout.inputs[name])
                return math.prod(shape[axis + 1 :])
        raise AssertionError(key)

    def shape(self, node: Node) -> tuple[int, ...]:
        """The shape of an input or output here."""
        extents = getattr(node, "shape", ())
        return tuple(cost.length(e, self.lengths) for e in extents)

    def set_data(self, data: Mapping[str, Any]) -> None:
        """Data on the device: ``address`` and ``strides`` (in elements) of each."""
        self.data = data
        for key, slot in self._data:
            if self.streamed is not None and key[1] in self.streamed.arrays:
                array = _in_order(self.streamed.arrays[key[1]])
            else:
                array = data[key[1]]
            value = array.address if key[0] == "data" else array.strides[key[2]]
            self.slots[slot] = value

    def point(self, parameters: Sequence[int], outs: Sequence[int]) -> None:
        """Set the addresses of parameters and outputs; the last output is the status,
        an int64 that becomes 1 where an index is out of bounds."""
        self.point_parameters(parameters)
        self.point_outs(outs)

    def point_parameters(
        self, addresses: Sequence[int], owners: Sequence[Any] = ()
    ) -> None:
        """Read parameters from these addresses; ``owners`` keep that memory."""
        self._owners = list(owners)
        for key, slot in self.kernel.layout.slots.items():
            if key[0] == "params":
                self.slots[slot] = addresses[int(str(key[1]))]

    def point_outs(self, addresses: Sequence[int]) -> None:
        """Write the outputs to these addresses; the last is the status."""
        for key, slot in self.kernel.layout.slots.items():
            if key[0] == "outs":
                self.slots[slot] = addresses[int(str(key[1]))]

    def set_record(self, address: int) -> None:
        """Where the tail finds its record."""
        self.slots[self.kernel.layout.slots["record",]] = address

    def start(self) -> None:
        """Launch everything; does not wait."""
        self.device.clear(self.status, 8)
        self.launch()

    def launch(self) -> None:
        """The kernels alone: what a descent repeats."""
        for function, blocks, launch in self._launches:
            if launch.rows and launch.step is not None:
                for offset, size in self.sizes.clears[launch.step]:
                    self.device.clear(self.memory.address + offset, size)
                if self.sizes.parts[launch.step] > 1:
                    self._launch_parts(function, blocks, launch.step)
                    continue
            self.run(function, blocks, self._late(launch))

    def _late(self, launch: Launch) -> int:
        """Bytes of shared memory besides those that a kernel names."""
        if launch.step is None or not launch.rows:
            return 0
        return self.sizes.late[launch.step]

    def run(self, function: Any, blocks: int, shared: int = 0) -> None:
        """Start one kernel on the context as it is."""
        slots = self.slots
        if not self.kernel.by_value:
            self.device.upload(self._slots.address, slots)
            slots = np.array([self._slots.address])
        self.device.launch(function, blocks, self.kernel.block, slots, shared)

    def _launch_parts(self, function: Any, blocks: int, step: Step) -> None:
        """A pass over rows whose data come in parts."""
        assert self.streamed is not None
        slots, rows = self.slots, self.streamed.rows[step]
        of = self.kernel.layout.slots
        total = self.sizes.values["rows to", step]
        for part in range(self.sizes.parts[step]):
            begin, end = part * rows, min((part + 1) * rows, total)
            found = self.streamed.bring(self.device, step, begin, end)
            for name, address in found.items():
                slots[of["data", name]] = address
            slots[of["rows from", step]], slots[of["rows to", step]] = begin, end
            slots[of["first block", step]] = part * blocks
            self.run(function, blocks, self.sizes.late[step])

    def results(self) -> tuple[list[NDArray[np.float64]], bool]:
        """Wait; all outputs, and whether all indices were inside."""
        raw = np.empty(self.out_starts[-1] + 1)
        self.device.download(raw, self.outs.address)
        parts = [
            raw[start : start + math.prod(shape)].reshape(shape)
            for start, shape in zip(self.out_starts, self.out_shapes, strict=False)
        ]
        return parts, raw[-1:].view(np.int64)[0] == 0


def _in_order(array: NDArray[Any]) -> DeviceArray:
    """A stand-in for an array in C order whose parts come later."""
    return DeviceArray(0, array.shape, array.dtype, c_strides(array.shape))


def _starts(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """Where arrays that lie one after the other start, and where the last ends."""
    starts = [0]
    for shape in shapes:
        starts.append(starts[-1] + math.prod(shape))
    return starts
