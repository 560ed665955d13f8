"""What an optimizer asks of a loss: the protocol of bound objectives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from symgrad.runtime.inline import Inlined

Vector = NDArray[np.float64]
Evaluate = Callable[[Vector, Vector], float]
"""(x, gradient) -> the loss at x; fills the gradient."""


class NativeEntry(Protocol):
    """A loss with its gradient as one C function, for compiled loops.

    ``function`` is the address of
    ``double f(void *context, const double *x, double *gradient)`` and ``context``
    the address to call it with. The call is thread-safe and never calls Python.
    """

    @property
    def function(self) -> int: ...

    @property
    def context(self) -> int: ...


class Objective(Protocol):
    """A loss bound to its data, over the flat parameter vector ``x`` (P,), float64."""

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        ...

    @property
    def native(self) -> NativeEntry | None:
        """The C entry, or None where only Python may call (a thread pool)."""
        ...

    @property
    def seconds_per_call(self) -> float:
        """An estimate, which chooses between the compiled and the Python loop."""
        ...

    @property
    def rows(self) -> int | None:
        """The length of the leading data dimension; None where there is none."""
        ...

    def __call__(self, x: Vector, /) -> float: ...

    def value_and_grad(
        self, x: Vector, /, out: Vector | None = None
    ) -> tuple[float, Vector]: ...

    def hvp(self, x: Vector, v: Vector, /) -> Vector: ...

    def pack(self, params: Mapping[str, ArrayLike], /) -> Vector: ...

    def unpack(self, x: Vector, /) -> dict[str, Any]: ...

    @property
    def inlined(self) -> Inlined | None:
        """The loss as text, for a loop around it; None where that gains nothing."""
        ...

    def buffered(
        self, rows: int, /
    ) -> tuple[Objective, list[tuple[NDArray[Any], NDArray[Any]]]]:
        """The same loss on as many rows, and where its data come from: each array led
        by the rows, with the buffer (C order) that takes some of its rows."""
        ...


def evaluator(objective: Objective) -> Evaluate:
    """A loss that fills the caller's gradient array."""

    def evaluate(x: Vector, gradient: Vector) -> float:
        value, result = objective.value_and_grad(x, out=gradient)
        if result is not gradient:
            gradient[:] = result
        return float(value)

    return evaluate
