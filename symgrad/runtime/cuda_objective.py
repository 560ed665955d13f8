"""Bound objectives on a GPU: the data stay there, parameters come and go."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import RLock
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from symgrad.codegen.cuda_module import Extra
from symgrad.errors import ArgumentError, DataError, DeviceError, ShapeError
from symgrad.graph import Input, Node
from symgrad.runtime import cuda_device
from symgrad.runtime.arrays import FLOAT64
from symgrad.runtime.bounds import index_error
from symgrad.runtime.cuda_arrays import (
    DeviceArray,
    aligned,
    as_float64,
    c_strides,
    given_out,
    library_of,
    on_device,
    phantom,
    uploaded,
)
from symgrad.runtime.cuda_chunks import streamed
from symgrad.runtime.cuda_kernel import CudaContext, CudaKernel
from symgrad.runtime.derivatives import (
    directions,
    gradient_nodes,
    hessian_nodes,
    hvp_nodes,
    value_nodes,
)
from symgrad.runtime.objective import Objective, Vector
from symgrad.runtime.specialise import DIRECTION, Arrays, Specialiser


class CudaObjective(Objective):
    """A loss bound to data on the device. Made by ``CudaLoss.bind``.

    NumPy data are copied there once; a vector ``x`` that is on the device gives a
    gradient there.
    """

    def __init__(
        self,
        specialiser: Specialiser,
        data: Mapping[str, Any],
        parameters: Mapping[str, Any] | None = None,
        scan: bool = True,
    ) -> None:
        views = {name: on_device(name, value) for name, value in data.items()}
        self._on_device = {k: view for k, view in views.items() if view is not None}
        self._given = dict(data)
        self._lock = RLock()  # the memory of a context serves one call at a time
        self._changing: list[str] = []  # arrays that their owner overwrites
        stand_ins = {k: phantom(view, False) for k, view in self._on_device.items()}
        super().__init__(
            specialiser, {**data, **stand_ins}, parameters, scan, hoist=False
        )

    def _host_data(self) -> Arrays:
        return {k: v for k, v in self.data.items() if k not in self._on_device}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the source and the data, by way of ordinary memory."""
        return _restored, (self._source, self._hosted(), self._shapes)

    def _hosted(self) -> Arrays:
        device = cuda_device.device() if self._on_device else None
        result = dict(self.data)
        for name, view in self._on_device.items():
            assert device is not None
            result[name] = view.download(device)
        return result

    # -- evaluation ------------------------------------------------------------------

    def __call__(self, x: Any, /) -> float:
        """The loss at ``x`` (P,)."""
        self._know_shapes(x)
        with self._lock:
            context = self._value_context
            self._start(context, x)
            return self._finished(context)[0].item()

    def value_and_grad(self, x: Any, /, out: Vector | None = None) -> tuple[float, Any]:
        """The loss and its gradient (P,): in ``out`` if given, on the device if ``x``
        is there."""
        self._know_shapes(x)
        with self._lock:
            context = self._gradient_context
            view = self._start(context, x)
            if view is not None and out is None:
                return self._on_device_gradient(context, view)
            parts = self._finished(context)
        gradient = np.empty(self.size) if out is None else self._output(out)
        np.concatenate([part.ravel() for part in parts[1:]], out=gradient)
        return parts[0].item(), gradient

    def _on_device_gradient(
        self, context: CudaContext, view: DeviceArray
    ) -> tuple[float, Any]:
        parts = self._finished(context)
        shape = (self.size,)
        address = context.outs.address + 8
        source = DeviceArray(address, shape, FLOAT64, c_strides(shape))
        return parts[0].item(), given_out(context.device, source, view, "float64")

    def hessian(self, x: Any, /) -> NDArray[np.float64]:
        """Second derivatives (P, P) at ``x``, symmetric."""
        return super().hessian(self._plain(x))

    def hvp(self, x: Any, v: Any, /) -> Vector:
        """The Hessian at ``x`` times ``v`` (P,)."""
        self._know_shapes(x)
        with self._lock:
            context = self._second_context
            self._start(context, x, self._vector(self._plain(v)))
            parts = self._finished(context)
        return np.concatenate([part.ravel() for part in parts])

    def _hessian_blocks(self, x: Vector) -> list[NDArray[np.float64]]:
        with self._lock:
            context = self._bound("hessian", hessian_nodes(self._found))
            self._start(context, x)
            return self._finished(context)

    def _know_shapes(self, x: Any) -> None:
        """The first vector may tell the shapes of the parameters."""
        if self._shapes is None:
            self._vector(self._plain(x))

    def _plain(self, x: Any) -> Any:
        view = on_device("x", x)
        return x if view is None else view.download(cuda_device.device())

    def _start(
        self, context: CudaContext, x: Any, along: Vector | None = None
    ) -> DeviceArray | None:
        """Launch at ``x``; returns its view if it is on the device."""
        for name in self._changing:
            context.device.upload(context.data[name].address, self.data[name])
        view = on_device("x", x)
        if view is not None and view.shape == (self.size,) and along is None:
            flat = as_float64(context.device, view)
            self._point(context, flat.address, 0, [flat])
        else:
            both = [self._vector(self._plain(x))] + ([] if along is None else [along])
            buffer = self._buffer(len(both))
            context.device.upload(buffer.address, np.concatenate(both))
            self._point(context, buffer.address, self.size, [buffer])
        context.start()
        return view

    def _buffer(self, vectors: int) -> cuda_device.Buffer:
        device = cuda_device.device()
        kept = self.__dict__.setdefault("_buffers", {})
        if vectors not in kept:
            kept[vectors] = cuda_device.Buffer(device, 8 * vectors * self.size)
        return kept[vectors]

    def _point(
        self, context: CudaContext, address: int, along: int, owners: Sequence[Any]
    ) -> None:
        """Parameters are the parts of the vector at ``address``, directions those of
        the vector ``along`` elements further on."""
        starts, start = {}, 0
        for name, shape in self.shapes.items():
            starts[name] = start
            starts[DIRECTION + name] = start + along
            start += int(np.prod(shape, dtype=np.int64))
        names = context.kernel.layout.parameters()
        context.point_parameters([address + 8 * starts[n] for n in names], owners)

    def _finished(self, context: CudaContext) -> list[NDArray[np.float64]]:
        """Wait for the results.

        Raises:
            GatherIndexError: an index computed from the data is out of bounds.
        """
        parts, inside = context.results()
        if not inside:
            raise index_error(context.kernel.outputs, self._hosted(), context.lengths)
        return parts

    # -- kernels ---------------------------------------------------------------------

    @cached_property
    def _value_context(self) -> CudaContext:
        return self._bound("value", value_nodes(self._found))

    @cached_property
    def _gradient_context(self) -> CudaContext:
        return self._bound("value and gradient", gradient_nodes(self._found))

    @cached_property
    def _second_context(self) -> CudaContext:
        along = {d.name: d for d in directions(self._found).values()}
        return self._bound("hvp", hvp_nodes(self._found), along)

    def descending(self, step: Extra, move: Extra) -> CudaContext:
        """The gradient's kernel with a step of a descent at its end, and a kernel
        ``move``, with the data."""
        kernel = self._gradient_context.kernel
        inputs = {p.name: p for p in self._found.parameters} | self._found.built.inputs
        made = CudaKernel(
            kernel.outputs, inputs, self._found.specs, self.dtype, self._found.hints,
            self._found.parameters, tail=step, others={"move": move},
        )  # fmt: skip
        return self._context_of(made)

    def point_vectors(self, context: CudaContext, x: int, gradient: int) -> None:
        """Let a context read the parameters from one vector on the device and write
        the gradient to another."""
        self._point(context, x, 0, ())
        starts = [0]
        for shape in self.shapes.values():
            starts.append(starts[-1] + int(np.prod(shape, dtype=np.int64)))
        outs = [context.outs.address, *(gradient + 8 * k for k in starts[:-1])]
        context.point_outs([*outs, context.status])

    def check_indices(self, context: CudaContext) -> None:
        """Raise GatherIndexError if an index was out of bounds."""
        status = np.empty(1, np.int64)
        context.device.download(status, context.status)
        if status[0]:
            raise index_error(context.kernel.outputs, self._hosted(), context.lengths)

    def _bound(
        self, name: str, outputs: Sequence[Node], extra: Mapping[str, Input] = {}
    ) -> CudaContext:
        """A kernel with the data, and memory of its own for ever."""
        kernel = self._found.kernel(name, lambda: outputs, extra)
        return self._context_of(cast(CudaKernel, kernel))

    def _context_of(self, kernel: CudaKernel) -> CudaContext:
        lengths = self._found.lengths(self._arrays(self.data))
        assert lengths is not None
        device = cuda_device.device()
        hosted = {
            k: v
            for k, v in self.data.items()
            if k in self._found.data and k not in self._on_device
        }
        parts = None
        if not self._changing and "_placed" not in self.__dict__:
            parts = streamed(kernel.plan, hosted, lengths, device.free_memory())
        if parts is None:
            data = {k: v for k, v in self._placed.items() if k in self._found.data}
            return CudaContext(kernel, device, lengths, data)
        wanted = set(self._found.data) - parts.arrays.keys()
        data = self._present({k: v for k, v in self.data.items() if k in wanted})
        return CudaContext(kernel, device, lengths, data, parts)

    def _present(self, arrays: Arrays) -> dict[str, DeviceArray]:
        """Arrays on the device: those that are there in place, copies of others."""
        device = cuda_device.device()
        return {
            name: aligned(device, self._on_device[name])
            if name in self._on_device
            else uploaded(device, array)
            for name, array in arrays.items()
        }

    @cached_property
    def _placed(self) -> dict[str, DeviceArray]:
        """All data on the device."""
        return self._present(self.data)

    # -- what is different from the processor ----------------------------------------

    @property
    def inlined(self) -> None:
        """There is no loop on the processor around a loss on the device."""
        return

    @property
    def native(self) -> None:
        """There is no C function: only Python may call the device."""
        return

    @cached_property
    def numba(self) -> Any:
        """Not available.

        Raises:
            DeviceError: always.
        """
        raise DeviceError(
            "an objective on device='cuda' cannot be called from Numba code: bind the "
            "loss on the processor for that"
        )

    @property
    def seconds_per_call(self) -> float:
        """A rough estimate of one ``value_and_grad``: launches, and reading the data at
        a terabyte a second."""
        data = sum(array.nbytes for array in self.data.values())
        return 2e-5 + data / 1e12

    def explain(self, x: Any = None, /) -> str:
        """What an evaluation does on the device; nothing is timed.

        Raises:
            ArgumentError: a vector is given.
        """
        from symgrad.runtime.cuda_explain import explain_kernel

        if x is not None:
            raise ArgumentError("on device='cuda' explain takes no vector")
        context = self._gradient_context
        return explain_kernel(context.kernel, context.lengths)

    def batch(self, rows: NDArray[np.int64] | slice, /) -> CudaObjective:
        """The same loss on some rows; data on the device are sliced by their library,
        others are copied to the device again."""
        names = self._row_arrays
        if not names:
            raise DataError("the loss has no rows to take a batch of")
        data = {
            name: self._taken(name, value, rows) if name in names else value
            for name, value in self._kept().items()
        }
        return self._with(data)

    def _with(self, data: Mapping[str, Any]) -> CudaObjective:
        """This loss on other data: the same kernels, if only lengths differ."""
        names = self._row_arrays
        other = CudaObjective(self._specialiser, data, scan=False)
        other._shapes = self._shapes
        lengths = self._found.lengths(other._arrays(other.data))
        if lengths is None:
            try:
                self._specialiser.match(other._arrays(other.data))
            except ShapeError as error:
                raise DataError(
                    "the loss cannot be taken on some of the rows only, as other "
                    f"arrays are as long as {', '.join(names)}: {error.message}"
                ) from None
        else:
            other.__dict__["_found"] = self._found
        return other

    def buffered(
        self, rows: int, /
    ) -> tuple[CudaObjective, list[tuple[NDArray[Any], NDArray[Any]]]]:
        """The same loss on ``rows`` rows, whose data the caller may overwrite: buffers
        in ordinary memory that are copied to the device for each evaluation."""
        data, pairs = dict(self._kept()), []
        for name in self._row_arrays:
            source = self.data[name]
            if name in self._on_device:
                source = self._on_device[name].download(cuda_device.device())
            data[name] = np.ascontiguousarray(source[:rows]).copy()
            pairs.append((np.ascontiguousarray(source), data[name]))
        other = self._with(data)
        other._changing = list(self._row_arrays)
        return other, pairs

    def _kept(self) -> dict[str, Any]:
        """What the user gave for arrays on the device, and copies that are there of
        whole arrays; NumPy arrays otherwise."""
        rows = self._row_arrays
        result: dict[str, Any] = {}
        for name, array in self.data.items():
            if name in self._on_device:
                result[name] = self._given[name]
            else:
                result[name] = array if name in rows else self._placed[name]
        return result

    def _taken(self, name: str, value: Any, rows: Any) -> Any:
        """Some rows of an array, taken where it is if its library can."""
        library = library_of(value)
        if library == "torch" and not isinstance(rows, slice):
            torch = sys.modules["torch"]
            return value[torch.as_tensor(rows, device=value.device)]
        if library in ("numpy", "torch", "cupy"):
            return value[rows]
        return self._on_device[name].download(cuda_device.device())[rows]


def _restored(
    source: Any, data: Arrays, shapes: dict[str, tuple[int, ...]] | None
) -> CudaObjective:
    """An objective as it was pickled."""
    objective = CudaObjective(Specialiser(source), data, scan=False)
    objective._shapes = shapes
    return objective
