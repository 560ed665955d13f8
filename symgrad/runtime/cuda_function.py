"""Losses and models on a GPU: what ``sg.compile(..., device="cuda")`` returns.

The same classes as on the processor; only how a kernel is called differs. Arrays that
are on the device are used in place, others are copied there for the call (``bind``
copies data once).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from symgrad.errors import ArgumentError, DeviceError
from symgrad.runtime import cuda_device
from symgrad.runtime.arrays import FLOAT64
from symgrad.runtime.bounds import index_error
from symgrad.runtime.cuda_arrays import (
    DeviceArray,
    aligned,
    as_float64,
    c_strides,
    given_out,
    on_device,
    phantom,
    uploaded,
)
from symgrad.runtime.cuda_chunks import streamed
from symgrad.runtime.cuda_kernel import CudaContext, CudaKernel
from symgrad.runtime.cuda_objective import CudaObjective
from symgrad.runtime.function import Compiled, Gradient, Loss, refuse_unknown
from symgrad.runtime.kernel import Kernel
from symgrad.runtime.model import Model
from symgrad.runtime.repeat import Repeat
from symgrad.runtime.specialise import Arrays, Specialisation

SMALL_BYTES = 1 << 24
"""Data smaller than this fit without asking."""


class PlacedArrays(dict[str, NDArray[Any]]):
    """Arrays by name, with stand-ins for those that are on the device (``views``)."""

    def __init__(self, arrays: Arrays, views: Mapping[str, DeviceArray]) -> None:
        super().__init__(arrays)
        self.views = dict(views)


class OnDevice(Compiled):
    """Calls kernels on the device."""

    def _prepare(self, values: Mapping[str, Any]) -> tuple[Specialisation, Arrays]:
        views = {
            name: view
            for name, value in values.items()
            if (view := on_device(name, value)) is not None
        }
        wrt = self.wrt
        stand_ins = {name: phantom(view, name in wrt) for name, view in views.items()}
        arrays = self._specialiser.arrays({**values, **stand_ins})
        return self._specialiser.match(arrays), PlacedArrays(arrays, views)

    def _call(self, found: Specialisation, kernel: Kernel, arrays: Arrays) -> list[Any]:
        """Run a kernel: one array per output, where the parameters are."""
        context = self._started(found, cast(CudaKernel, kernel), arrays)
        results, inside = context.results()
        if not inside:
            raise index_error(
                kernel.outputs, self._hosted(arrays, found), context.lengths
            )
        home = self._home(arrays)
        if home is not None:
            for k, shape in enumerate(context.out_shapes):
                if shape or k:
                    results[k] = self._at_home(context, k, home)
        context.kernel.give_back(context)
        return list(results)

    def _started(
        self, found: Specialisation, kernel: CudaKernel, arrays: Arrays
    ) -> CudaContext:
        """Start a kernel on these arrays."""
        device = cuda_device.device()
        views = arrays.views if isinstance(arrays, PlacedArrays) else {}
        lengths = found.lengths(arrays)
        assert lengths is not None
        data, hosted = {}, {}
        for name in found.data:
            if name in views:
                data[name] = aligned(device, views[name])
            else:
                hosted[name] = arrays[name]
        parts = None
        if sum(a.nbytes for a in hosted.values()) > SMALL_BYTES:
            parts = streamed(kernel.plan, hosted, lengths, device.free_memory())
        for name, array in hosted.items():
            if parts is None or name not in parts.arrays:
                data[name] = uploaded(device, array)
        context = kernel.context(device, lengths, data, parts)
        set_parameters(context, arrays, views)
        context.start()
        return context

    def _hosted(self, arrays: Arrays, found: Specialisation) -> Arrays:
        """The data in ordinary memory, to look for what is wrong."""
        device = cuda_device.device()
        views = arrays.views if isinstance(arrays, PlacedArrays) else {}
        return {
            name: views[name].download(device) if name in views else arrays[name]
            for name in found.data
        }

    def _home(self, arrays: Arrays) -> DeviceArray | None:
        """The first parameter that is on the device."""
        views = arrays.views if isinstance(arrays, PlacedArrays) else {}
        return next((views[name] for name in self.wrt if name in views), None)

    def _at_home(self, context: CudaContext, number: int, home: DeviceArray) -> Any:
        shape = context.out_shapes[number]
        address = context.outs.address + 8 * context.out_starts[number]
        source = DeviceArray(address, shape, FLOAT64, c_strides(shape))
        return given_out(context.device, source, home, self.dtype)

    def _blame(self, arrays: Arrays, what: str) -> None:
        """Only arrays in ordinary memory are searched."""
        views = arrays.views if isinstance(arrays, PlacedArrays) else {}
        super()._blame({k: v for k, v in arrays.items() if k not in views}, what)

    @property
    def asm(self) -> str:
        """PTX: the GPU's own assembly is made by the driver."""
        return self.ptx

    @property
    def source(self) -> str:
        """The same kernel as runnable Numba Python, for the processor."""
        from symgrad.codegen.numba_source import kernel_source

        found = self._latest()
        kernel = cast(CudaKernel, self._main_kernel(found))
        inputs = {p.name: p for p in found.parameters} | found.built.inputs
        host = Kernel(
            kernel.outputs, inputs, found.specs, self.dtype, found.hints, kernel.order
        )
        return kernel_source(host.plan, host.layout, host.order, self._source.text)

    def explain(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        kernel: str | None = None,
        **named: Any,
    ) -> str:
        """What runs on the device: launches, blocks, memory.

        Raises:
            ArgumentError: values or another kernel are given: nothing is timed here.
        """
        from symgrad.runtime.cuda_explain import explain_kernel

        if values is not None or named or kernel is not None:
            raise ArgumentError(
                "on device='cuda' explain takes no values and no kernel: "
                "bench/cuda.py measures"
            )
        found = self._latest()
        main = cast(CudaKernel, self._main_kernel(found))
        return explain_kernel(main, self._specialiser.latest_lengths)


def set_parameters(
    context: CudaContext, arrays: Arrays, views: Mapping[str, DeviceArray]
) -> None:
    """Copy the parameters to the device; those that are there are read in place."""
    device, layout = context.device, context.kernel.layout
    names = layout.parameters()
    starts = context.parameter_starts
    host = np.zeros(starts[-1])
    addresses, kept = [], []
    for k, name in enumerate(names):
        view = views.get(name)
        if view is None:
            host[starts[k] : starts[k + 1]] = arrays[name].ravel()
            addresses.append(context.parameters.address + 8 * starts[k])
        else:
            kept.append(as_float64(device, view))
            addresses.append(kept[-1].address)
    if len(kept) < len(names):
        device.upload(context.parameters.address, host)
    context.point_parameters(addresses, kept)


class CudaLoss(OnDevice, Loss):
    """A scalar loss on a GPU; see :class:`symgrad.Loss`.

    Gradients of parameters that are arrays on the device come back as such.
    """

    def _repeat(
        self,
        found: Specialisation,
        kernel: Kernel,
        values: Mapping[str, Any],
        arrays: Arrays,
    ) -> Repeat | None:
        """There is no C function to repeat a call with."""
        return None

    def _named(self, outs: list[Any]) -> Gradient:
        host = all(isinstance(out, np.ndarray) for out in outs)
        return super()._named(outs) if host else dict(zip(self.wrt, outs, strict=True))

    def bind(
        self, parameters: Mapping[str, Any] | None = None, /, **data: Any
    ) -> CudaObjective:
        """Copy the data to the device once: a function of the flat parameter vector.

        Data that are on the device are used in place; they must not change.
        """
        if "statistics" not in self._source.names and data.pop("statistics", False):
            raise DeviceError(
                "statistics=True is not available on device='cuda': bind on the "
                "processor, where such a loss no longer depends on the rows"
            )
        refuse_unknown(self._source, data)
        return CudaObjective(self._specialiser, data, parameters)

    def hessian(self, /, **values: Any) -> NDArray[np.float64]:
        """Second derivatives (P, P) over the flat vector, in ``pack`` order."""
        parameters = {name: _host(name, values.pop(name)) for name in self.wrt}
        bound = CudaObjective(self._specialiser, values, parameters, scan=False)
        return bound.hessian(bound.pack(parameters))


class CudaModel(OnDevice, Model):
    """An array-valued expression on a GPU; see :class:`symgrad.Model`."""

    def _typed(self, array: Any) -> Any:
        return super()._typed(array) if isinstance(array, np.ndarray) else array


def _host(name: str, value: Any) -> Any:
    view = on_device(name, value)
    return value if view is None else view.download(cuda_device.device())
