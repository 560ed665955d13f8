"""Unbound calls like the one before: same names, shapes and types of arrays.

Everything that such a call could look up is kept: where each value goes, and a native
function that is ready to run. What is checked is only that the call is like the one
before. Of the data nothing but their addresses is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad.runtime.arrays import as_array, as_parameter
from symgrad.runtime.entry import vector_function
from symgrad.runtime.kernel import Sized
from symgrad.runtime.object_layout import address
from symgrad.runtime.specialise import Specialisation

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class _Datum:
    """What a data array was like. ``slot``: of its address in the context, if the
    kernel reads more than its shape."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    slot: int | None


@dataclass(frozen=True)
class _Ready:
    """The memory of one call, and the native function bound to it.

    x: the flat vector. views: the parameters in it, by name, with their shapes.
    """

    x: Vector
    views: list[tuple[str, Vector]]
    slots: NDArray[np.int64]
    function: Callable[..., float]


class Repeat:
    """A small kernel, ready for more calls like one that it has served.

    Calls are served by ``value`` or ``value_and_grad``, which give None if the call is
    not alike, or if its result is not finite and somebody must find out why.
    """

    def __init__(
        self,
        found: Specialisation,
        sized: Sized,
        values: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
    ) -> None:
        wrt = set(found.source.wrt)
        self.served, self._sized = (found, sized.lengths), sized
        self._names = tuple(values)
        self._pool: list[_Ready] = []
        self._slots = sized.with_strides(arrays)
        where = dict(sized.data)
        self._data = [
            _Datum(name, a.dtype, a.shape, a.strides, where.get(name))
            for name, a in arrays.items()
            if name not in wrt
        ]
        self._parts = [(p.name, *place) for p, place in sized.places()]
        self._size = sum(stop - start for _, start, stop, _ in self._parts)
        self._dtype = np.dtype(found.source.dtype)

    def value(self, values: Mapping[str, Any]) -> float | None:
        """The loss."""
        ready = self._take(values)
        if ready is None:
            return None
        held = self._fill(ready, values)
        value = math.nan if held is None else ready.function(ready.x)
        self._pool.append(ready)
        return value if math.isfinite(value) else None

    def value_and_grad(
        self, values: Mapping[str, Any]
    ) -> tuple[float, dict[str, NDArray[Any]]] | None:
        """The loss, and views of one new flat gradient, by name."""
        ready = self._take(values)
        if ready is None:
            return None
        gradient = np.empty(self._size)
        held = self._fill(ready, values)
        value = math.nan if held is None else ready.function(ready.x, gradient)
        self._pool.append(ready)
        return (value, self._split(gradient)) if math.isfinite(value) else None

    def _split(self, gradient: Vector) -> dict[str, NDArray[Any]]:
        typed = gradient.astype(self._dtype, copy=False)
        return {
            name: typed[start:stop].reshape(shape) if shape else typed[start, ...]
            for name, start, stop, shape in self._parts
        }

    def _take(self, values: Mapping[str, Any]) -> _Ready | None:
        if tuple(values) != self._names:
            return None
        try:
            return self._pool.pop()  # so that threads do not share one
        except IndexError:
            return self._make()

    def _make(self) -> _Ready | None:
        x, slots = np.empty(self._size), self._slots.copy()
        views = [
            (name, x[start:stop].reshape(shape))
            for name, start, stop, shape in self._parts
        ]
        objective = self._sized.kernel.code.address("objective")
        context = address(slots)
        seconds = self._sized.seconds
        function = vector_function(objective, context, self._size, seconds)
        return _Ready(x, views, slots, function) if function is not None else None

    def _fill(self, ready: _Ready, values: Mapping[str, Any]) -> list[Any] | None:
        """Put the values where the kernel reads them; None if they are not alike.

        The result must be kept during the call: it holds arrays made here.
        """
        for name, view in ready.views:
            value = values[name]
            if not isinstance(value, float):
                value = as_parameter(name, value)
                if value.shape != view.shape:
                    return None
            elif view.shape:
                return None
            view[...] = value
        held: list[Any] = []
        slots = ready.slots
        for datum in self._data:
            array = values[datum.name]
            if type(array) is not np.ndarray:
                array = as_array(datum.name, array)
                held.append(array)
            place = address(array)
            if (
                array.shape != datum.shape
                or array.strides != datum.strides
                or array.dtype != datum.dtype
                or place % array.itemsize
            ):
                return None
            if datum.slot is not None:
                slots[datum.slot] = place
        return held
