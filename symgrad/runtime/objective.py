"""Bound objectives: a loss with its data, as a function of one flat vector.

This is what optimizers take. The flat vector is float64 and holds the parameters in the
order of ``wrt``, each in C order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symgrad.errors import ArgumentError, DataError, DataWarning, ShapeError, warn
from symgrad.runtime import threads
from symgrad.runtime.arrays import (
    as_array,
    as_parameter,
    bad_element,
    by_name,
    row_selection,
)
from symgrad.runtime.bound import BoundKernels
from symgrad.runtime.derivatives import (
    assembled,
    directions,
    gradient_kernel,
    gradient_nodes,
    hessian_nodes,
    hvp_nodes,
    value_nodes,
)
from symgrad.runtime.entry import NativeEntry, vector_function
from symgrad.runtime.inline import Inlined, few_lanes, inlined
from symgrad.runtime.kernel import Context
from symgrad.runtime.specialise import Arrays, Source, Specialisation, Specialiser

if TYPE_CHECKING:
    from symgrad.runtime.statistics import Statistics

Vector = NDArray[np.float64]

SMALL_HESSIAN = 64
"""The Hessian of so many parameters comes from one kernel, in one evaluation."""


class Objective:
    """A loss bound to its data. Made by ``Loss.bind``."""

    def __init__(
        self,
        specialiser: Specialiser,
        data: Mapping[str, Any],
        parameters: Mapping[str, Any] | None = None,
        scan: bool = True,
        hoist: bool = True,
        statistics: bool = False,
    ) -> None:
        self._specialiser = specialiser
        self._source: Source = specialiser.source
        data = by_name(data, "data")
        clash = [name for name in self._source.wrt if name in data]
        if clash:
            raise ArgumentError(
                f"{', '.join(clash)} is a parameter (in wrt), not data: leave it out "
                "of bind and pass it in the vector x"
            )
        self.data: Arrays = {k: as_array(k, v) for k, v in data.items()}
        if scan:
            self._warn_of_bad_data()
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self._hoists, self._condenses = hoist, statistics
        self._statistics: Statistics | None = None
        self._fast: Callable[..., float] | None = None  # set by the first call
        self._fast_value: Callable[..., float] | None = None
        if parameters is not None:
            self.pack(parameters)
            if statistics:
                self._condense()  # refused here rather than at the first call

    def _warn_of_bad_data(self) -> None:
        for fault in self.bad_elements():
            warn(
                f"{fault}: the loss will not be finite unless the expression masks "
                "such rows with where(isfinite(...), ..., 0)",
                DataWarning,
            )

    def bad_elements(self) -> list[str]:
        """What is not finite in the data, such as ``x[3] is nan``; of each array the
        first. Arrays on a device are not looked at."""
        found = [bad_element(name, array) for name, array in self._host_data().items()]
        return [fault for fault in found if fault is not None]

    def _host_data(self) -> Arrays:
        return self.data

    def __repr__(self) -> str:
        data = ", ".join(f"{name} {a.shape}" for name, a in self.data.items())
        names = ", ".join(self._source.wrt)
        return f"<symgrad Objective {self._source.head!r} of {names}; data {data}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the source and the data; kernels are compiled again."""
        return _restored, (self._source, self.data, self._shapes, self._condenses)

    # -- the flat vector -------------------------------------------------------------

    def pack(self, params: Mapping[str, Any], /) -> Vector:
        """The flat vector of a dict of parameters. Sets their shapes on first use."""
        params, wrt = by_name(params, "the parameters"), self._source.wrt
        missing = [name for name in wrt if name not in params]
        extra = [name for name in params if name not in wrt]
        if missing or extra:
            wrong = f"missing: {', '.join(missing)}" if missing else ""
            if extra:
                wrong += f" not parameters: {', '.join(extra)}"
            raise ArgumentError(f"pack takes {', '.join(wrt)} ({wrong.strip()})")
        arrays = [as_parameter(name, params[name]) for name in wrt]
        shapes = {n: a.shape for n, a in zip(wrt, arrays, strict=True)}
        if self._shapes is None:
            self._shapes = shapes
        elif shapes != self._shapes:
            raise ShapeError(
                f"the parameters have shapes {shapes}; this objective was bound for "
                f"{self._shapes}"
            )
        return np.concatenate([a.ravel() for a in arrays]) if arrays else np.empty(0)

    def unpack(self, x: Any, /) -> dict[str, NDArray[np.float64]]:
        """The dict of parameters of a flat vector. The arrays are copies."""
        x = self._vector(x)
        result, start = {}, 0
        for name, shape in self.shapes.items():
            count = int(np.prod(shape, dtype=np.int64))
            result[name] = x[start : start + count].reshape(shape).copy()
            start += count
        return result

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter."""
        if self._shapes is None:
            raise ArgumentError(
                "the shapes of the parameters are not known yet: call "
                "pack({...}) first, or pass example parameters to bind"
            )
        return self._shapes

    @property
    def dtype(self) -> str:
        """The type that the loss is computed in."""
        return self._source.dtype

    @property
    def size(self) -> int:
        """The number of parameters P."""
        return self._size

    @cached_property
    def _size(self) -> int:
        return sum(int(np.prod(s, dtype=np.int64)) for s in self.shapes.values())

    def _vector(self, x: Any) -> Vector:
        x = np.atleast_1d(as_parameter("x", x))
        if self._shapes is None and x.ndim == 1:
            self._shapes = self._guessed_shapes(x.size)
        if x.shape != (self.size,):
            raise ShapeError(
                f"x has shape {x.shape}, but there are {self.size} parameters: "
                + ", ".join(f"{n} {s}" for n, s in self.shapes.items())
            )
        return x

    def _guessed_shapes(self, size: int) -> dict[str, tuple[int, ...]] | None:
        """One number for each parameter, or one parameter that is a vector."""
        wrt = self._source.wrt
        if size == len(wrt):
            return dict.fromkeys(wrt, ())
        return {wrt[0]: (size,)} if len(wrt) == 1 else None

    # -- evaluation ------------------------------------------------------------------

    def __call__(self, x: Any, /) -> float:
        """The loss at ``x`` (P,)."""
        if self._fast_value is not None:
            value = self._fast_value(x)
            if not isnan(value):
                return value
        return self._careful_value(x)

    def _careful_value(self, x: Any) -> float:
        x = self._vector(x)
        fast = self._fast_value = self._value_function
        if fast is not None:
            value = fast(x)
            if not isnan(value):
                return value
        return self._evaluate(self._value, x, [np.empty(())])

    def value_and_grad(
        self, x: Any, /, out: Vector | None = None
    ) -> tuple[float, Vector]:
        """The loss and its gradient (P,), in ``out`` if given."""
        if self._fast is not None:
            gradient = np.empty(self.size) if out is None else out
            value = self._fast(x, gradient)
            if not isnan(value):
                return value, gradient
        # Vectors of other kinds, a loss that is not a number, a call that will raise,
        # or the first call.
        return self._careful_value_and_grad(x, out)

    def _careful_value_and_grad(
        self, x: Any, out: Vector | None
    ) -> tuple[float, Vector]:
        x = self._vector(x)
        gradient = np.empty(x.size) if out is None else self._output(out)
        if np.may_share_memory(x, gradient):
            x = x.copy()
        fast = self._fast = self._gradient_function
        if fast is not None:
            value = fast(x, gradient)
            if not isnan(value):
                return value, gradient
        outs = [np.empty(()), *self._views(gradient)]
        return self._evaluate(self._gradient, x, outs), gradient

    def grad(self, x: Any, /) -> Vector:
        """The gradient (P,) at ``x``."""
        return self.value_and_grad(x)[1]

    def hvp(self, x: Any, v: Any, /) -> Vector:
        """The Hessian at ``x`` times ``v`` (P,)."""
        x, v = self._vector(x), self._vector(v)
        result = np.empty(x.size)
        along = self._views(v)
        self._evaluate(self._second, x, self._views(result), along)
        return result

    def hessian(self, x: Any, /) -> NDArray[np.float64]:
        """Second derivatives (P, P) at ``x``, symmetric.

        Up to ``SMALL_HESSIAN`` parameters: one kernel. Else P Hessian products.
        """
        x = self._vector(x)
        if x.size <= SMALL_HESSIAN:
            return self._small_hessian(x)
        columns = [self.hvp(x, unit) for unit in np.eye(x.size)]
        matrix = np.array(columns).reshape(x.size, x.size)
        return 0.5 * (matrix + matrix.T)

    def _small_hessian(self, x: Vector) -> NDArray[np.float64]:
        """The blocks of parameters a <= b; the others are their transposes."""
        sizes = [part.size for part in self._views(x)]
        matrix = assembled(self._hessian_blocks(x), sizes)
        return 0.5 * (matrix + matrix.T)

    def _hessian_blocks(self, x: Vector) -> list[NDArray[np.float64]]:
        context = self._blocks
        outs = [np.empty(context.shape(node)) for node in context.kernel.outputs]
        self._evaluate(context, x, outs)
        return outs

    def _output(self, out: Vector) -> Vector:
        fits = (
            isinstance(out, np.ndarray)
            and out.dtype == np.float64
            and out.shape == (self.size,)
            and out.flags.c_contiguous
            and out.flags.writeable
        )
        if not fits:
            raise ArgumentError(
                f"out must be a writeable float64 array of shape ({self.size},), "
                "C order"
            )
        return out

    def _views(self, x: Vector) -> list[NDArray[np.float64]]:
        """The parts of a flat vector, without copying."""
        parts, start = [], 0
        for shape in self.shapes.values():
            count = int(np.prod(shape, dtype=np.int64))
            parts.append(x[start : start + count].reshape(shape))
            start += count
        return parts

    def _evaluate(
        self,
        context: Context,
        x: Vector,
        outs: list[NDArray[np.float64]],
        along: list[NDArray[np.float64]] | None = None,
    ) -> float:
        named = dict(zip(self._source.wrt, self._views(x), strict=True))
        if along is not None:
            from symgrad.runtime.specialise import DIRECTION

            for name, part in zip(self._source.wrt, along, strict=True):
                named[DIRECTION + name] = part
        parameters = [named[n] for n in context.kernel.layout.parameters()]
        context(parameters, outs, self._workers())
        return float(outs[0]) if outs and outs[0].ndim == 0 else float("nan")

    def _workers(self) -> int:
        return self._source.threads or threads.default_threads()

    # -- kernels ---------------------------------------------------------------------

    @cached_property
    def _found(self) -> Specialisation:
        if self._condenses:
            return self._condense().found
        return self._specialiser.match(self._arrays(self.data))

    def _condense(self) -> Statistics:
        from symgrad.runtime.statistics import condense

        if self._statistics is None:
            arrays = self._arrays(self.data)
            found = self._specialiser.match(arrays)
            self._statistics = condense(found, arrays, self._workers())
        return self._statistics

    def _arrays(self, data: Arrays) -> Arrays:
        arrays: Arrays = {n: np.zeros(s) for n, s in self.shapes.items()}
        return arrays | data

    @cached_property
    def _kernels(self) -> BoundKernels:
        data = self._condense().arrays if self._condenses else self.data
        return BoundKernels(self._found, self._arrays(data), self._hoists)

    @cached_property
    def _value(self) -> Context:
        return self._kernels.context("value", value_nodes(self._found), self._workers())

    @cached_property
    def _gradient(self) -> Context:
        return self._kernels.context(
            "value and gradient", gradient_nodes(self._found), self._workers()
        )

    @cached_property
    def _second(self) -> Context:
        along = {d.name: d for d in directions(self._found).values()}
        return self._kernels.context(
            "hvp", hvp_nodes(self._found), self._workers(), along
        )

    @cached_property
    def _blocks(self) -> Context:
        nodes = hessian_nodes(self._found)
        return self._kernels.context("hessian", nodes, self._workers())

    @cached_property
    def _value_function(self) -> Callable[..., float] | None:
        return self._function(self._value)

    @cached_property
    def _gradient_function(self) -> Callable[..., float] | None:
        return self._function(self._gradient)

    def _function(self, context: Context) -> Callable[..., float] | None:
        """A kernel as a function of vectors, if it is small enough for that."""
        if not self._is_small(context):
            return None
        function = context.kernel.code.address("objective")
        return vector_function(function, context.address, self.size, context.seconds)

    def _is_small(self, context: Context) -> bool:
        return context.sized.is_small(self._workers())

    @property
    def native(self) -> NativeEntry | None:
        """The loss and gradient as a C function; None if it runs on several threads or
        needs much memory."""
        return self._native

    @cached_property
    def _native(self) -> NativeEntry | None:
        context = self._gradient
        if not self._is_small(context):
            return None
        function = context.kernel.code.address("objective")
        return NativeEntry(function, context.address, (self, context))

    @property
    def inlined(self) -> Inlined | None:
        """The loss and gradient as text for a compiled loop; None if it is too large
        to gain by that."""
        return self._inlined

    @cached_property
    def _inlined(self) -> Inlined | None:
        if self.native is None:
            return None
        context, lanes = self._gradient, few_lanes(self._gradient)
        if lanes is not None and not self._kernels.stored:
            kernel = gradient_kernel(self._found, lanes)
            context = self._found.context(kernel, self._kernels.arrays)
        return inlined(context, self.size)

    @property
    def seconds_per_call(self) -> float:
        """Estimated time of one ``value_and_grad`` on one thread."""
        return self._gradient.seconds

    @cached_property
    def numba(self) -> Any:
        """A function ``(x, gradient_out) -> value`` for use inside ``@njit`` code.

        Both are float64 arrays of shape (P,), C order. It runs on the calling thread.
        """
        from symgrad.runtime.numba_call import as_numba

        context = self._gradient
        function = context.kernel.code.address("objective")
        return as_numba(NativeEntry(function, context.address, (self, context)))

    def explain(self, x: Any = None, /) -> str:
        """What an evaluation does, and what was done at ``bind`` once and for all.

        With a vector ``x`` (P,) ``value_and_grad`` is timed there, and the text says
        what share of the roofline it achieves.
        """
        from symgrad.runtime.explain import explain_bound

        call = None if x is None else partial(self.value_and_grad, self._vector(x))
        return explain_bound(self._source, self._kernels, self._workers(), call)

    # -- rows ------------------------------------------------------------------------

    @cached_property
    def _row_arrays(self) -> list[str]:
        """Names of the data arrays led by the row dimension: the dynamic dimension
        that leads the most elements. Rows that a parameter has, too, or that are the
        columns of another array, cannot be left out."""
        best: list[str] = []
        most = -1
        for pairs in self._found.built.dims.values():
            if any(axis > 0 or n not in self.data for n, axis in pairs):
                continue
            names = [n for n, _ in pairs]
            elements = sum(self.data[n].size for n in names)
            if names and elements > most:
                best, most = names, elements
        return best

    @property
    def rows(self) -> int | None:
        """The length of the row dimension; None if the loss has none."""
        names = self._row_arrays
        return len(self.data[names[0]]) if names else None

    def batch(self, rows: NDArray[np.int64] | slice, /) -> Objective:
        """The same loss on some rows: every array led by the row dimension is sliced.

        rows: a slice, numbers of rows or a mask. A ``mean`` is then over the batch; a
        ``sum`` is not rescaled.
        """
        if self._condenses:
            raise DataError("statistics of all rows are known: there are no batches")
        names = self._row_arrays
        if not names:
            raise DataError("the loss has no rows to take a batch of")
        rows = row_selection(rows, len(self.data[names[0]]))
        data = {k: (v[rows] if k in names else v) for k, v in self.data.items()}
        other = Objective(self._specialiser, data, scan=False, hoist=False)
        other._shapes = self._shapes
        lengths = self._found.lengths(other._arrays(data))
        if lengths is not None:  # the same kernels, whatever the number of rows
            other.__dict__["_found"] = self._found
            return other
        try:
            self._specialiser.match(other._arrays(data))
        except ShapeError as error:
            raise DataError(
                "the loss cannot be taken on some of the rows only, as other arrays "
                f"are as long as {', '.join(names)}: {error.message}"
            ) from None
        return other

    def buffered(
        self, rows: int, /
    ) -> tuple[Objective, list[tuple[NDArray[Any], NDArray[Any]]]]:
        """The same loss on ``rows`` rows, whose data the caller may overwrite.

        Returns:
            The objective, and each array that is led by the rows with the buffer
            (C order, ``rows`` rows) that the objective reads in its place. Arrays whose
            rows are not contiguous are copied for that.
        """
        other = self.batch(np.arange(rows))
        pairs = []
        for name in self._row_arrays:
            source = self.data[name]
            if len(source) and not source[0].flags.c_contiguous:
                source = np.ascontiguousarray(source)
            pairs.append((source, other.data[name]))
        return other, pairs


def _restored(
    source: Source,
    data: Arrays,
    shapes: dict[str, tuple[int, ...]] | None,
    statistics: bool,
) -> Objective:
    """An objective as it was pickled."""
    specialiser = Specialiser(source)
    objective = Objective(specialiser, data, scan=False, statistics=statistics)
    objective._shapes = shapes
    return objective
