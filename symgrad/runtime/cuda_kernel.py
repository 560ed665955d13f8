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

from symgrad import graph
from symgrad.codegen import cuda_target, operations
from symgrad.codegen.cuda_layout import DeviceSizes, grid, measure_device
from symgrad.codegen.cuda_module import BLOCK, CudaModuleWriter
from symgrad.codegen.cuda_prelude import for_device
from symgrad.codegen.layout import ArraySpec, Layout
from symgrad.codegen.subroutines import often_used
from symgrad.graph import Input, Node
from symgrad.runtime.cuda_device import Buffer, Device
from symgrad.schedule import Plan, cost
from symgrad.schedule.legalise import gather_form, inline_arrays, legalise
from symgrad.schedule.threads import plan_for_threads


class CudaKernel:
    """Code that computes some closed nodes on a GPU; arguments as of ``Kernel``.

    block: threads per block.
    """

    def __init__(
        self,
        outputs: Sequence[Node],
        inputs: Mapping[str, Input],
        specs: Mapping[str, ArraySpec],
        dtype: str,
        hints: Mapping[str, int],
        order: Sequence[Input] = (),
        block: int = BLOCK,
    ) -> None:
        self.dtype, self.order, self.block = dtype, tuple(order), block
        legal = legalise(outputs, operations.native())
        self.outputs = inline_arrays(gather_form(legal, hints), hints)
        self.plan: Plan = plan_for_threads(self.outputs, hints)
        used = {n.name for n in graph.walk(self.outputs) if isinstance(n, Input)}
        kept = {name: array for name, array in inputs.items() if name in used}
        called = often_used(self.outputs)
        single = dtype == "float32"
        self.layout = Layout(self.plan, kept, dict(specs), single, called)
        writer = CudaModuleWriter(self.plan, self.layout, hints, block)
        self.body = writer.text()
        self.launches = writer.launches
        self.kernels, self.shared = writer.module.kernels, writer.module.shared
        self._ptx: dict[str, str] = {}
        self._modules: dict[int, tuple[Device, Any]] = {}

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
        self, device: Device, data: Mapping[str, Any], lengths: Mapping[str, int]
    ) -> CudaContext:
        """Bind data that are on the device: ``address`` and ``strides`` (elements) of
        each. ``lengths``: of every run-time dimension."""
        return CudaContext(self, device, data, dict(lengths))


class CudaContext:
    """A kernel with its data, lengths and memory on a device.

    One call at a time: the memory is the context's own.
    """

    def __init__(
        self,
        kernel: CudaKernel,
        device: Device,
        data: Mapping[str, Any],
        lengths: dict[str, int],
    ) -> None:
        self.kernel, self.device, self.lengths = kernel, device, lengths
        self.data = dict(data)
        self.sizes: DeviceSizes = measure_device(
            kernel.layout, lengths, kernel.block, device.processors
        )
        self.memory = Buffer(device, self.sizes.bytes)
        module = kernel.on(device)
        self._launches = [
            (module.function(k.name), grid(k, self.sizes), k) for k in kernel.launches
        ]
        slots = kernel.layout.slots
        self.slots = np.zeros(max(1, len(slots)), np.int64)
        self._params: list[tuple[int, int]] = []
        self._outs: list[tuple[int, int]] = []
        for key, slot in slots.items():
            if key[0] == "params":
                self._params.append((slot, int(str(key[1]))))
            elif key[0] == "outs":
                self._outs.append((slot, int(str(key[1]))))
            else:
                self.slots[slot] = self._slot(key)
        for step in kernel.plan.passes:
            offset = self.sizes.offsets["counter", step]
            device.clear(self.memory.address + offset, 4)

    def _slot(self, key: tuple[Any, ...]) -> int:
        if key in self.sizes.values:
            return self.sizes.values[key]
        if key in self.sizes.offsets:
            return self.memory.address + self.sizes.offsets[key]
        match key:
            case ("size", name):
                return self.lengths[name]
            case ("data", name):
                return self.data[name].address
            case ("stride", name, axis):
                if name in self.data:
                    return self.data[name].strides[axis]
                shape = self.shape(self.kernel.layout.inputs[name])
                return math.prod(shape[axis + 1 :])
        raise AssertionError(key)

    def shape(self, node: Node) -> tuple[int, ...]:
        """The shape of an input or output here."""
        extents = getattr(node, "shape", ())
        return tuple(cost.length(e, self.lengths) for e in extents)

    def point(self, parameters: Sequence[int], outs: Sequence[int]) -> None:
        """Set the addresses of parameters and outputs; the last output is the status,
        an int64 that becomes 1 where an index is out of bounds."""
        for slot, number in self._params:
            self.slots[slot] = parameters[number]
        for slot, number in self._outs:
            self.slots[slot] = outs[number]

    def start(self) -> None:
        """Launch everything; does not wait."""
        for function, blocks, launch in self._launches:
            if launch.rows and launch.step is not None:
                for offset, size in self.sizes.clears[launch.step]:
                    self.device.clear(self.memory.address + offset, size)
            self.device.launch(function, blocks, self.kernel.block, self.slots)
