"""Descent loops compiled by Numba: generic over the loss and over the update rule.

Both are called by address, so the loop is compiled once, whatever the loss, and
Numba's own file cache serves it to later processes. All state lives in arrays that the
caller owns and that are consistent after every call: a Ctrl-C between two slices finds
the step, the best parameters and the history as they should be.

This module imports Numba: import it inside functions.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable
from numpy.typing import NDArray

from symgrad.optimize.protocol import Vector
from symgrad.optimize.rules import RULES, Update

Counters = NDArray[np.int64]
Pointer = Any  # to float64, or to int64 for the counters

# Places in ``counters`` (int64) and ``values`` (float64).
STEP, BEST_STEP, THIN, COUNTERS = 0, 1, 2, 3
LOSS, BEST, LARGEST, LIMIT, TOL, VALUES = 0, 1, 2, 3, 4, 5

# Why a slice ended.
RUNNING, CONVERGED, NOT_FINITE, GROWN = 0, 1, 2, 3


_POINTER = types.CPointer(types.float64)

# ---------------------------------------------------------------- calls by address


def _intrinsic(generate: Callable[..., Any]) -> Any:
    """Numba's decorator, typed: the first argument is not the caller's."""
    return intrinsic(generate)


@_intrinsic
def pointer(typingctx: Any, array: Any) -> Any:
    """A pointer to an array's elements.

    The parts of a step take pointers, not arrays: Numba counts references to arrays
    with atomic operations, 22 of them a step, which took 90 ns.
    """

    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ctx.make_array(signature.args[0])(ctx, builder, args[0]).data

    return types.CPointer(array.dtype)(array), generate


@_intrinsic
def call_loss(
    typingctx: Any, function: Any, context: Any, x: Any, gradient: Any
) -> Any:
    """``double function(void *context, const double *x, double *gradient)``."""

    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        double, void = ir.DoubleType(), ir.IntType(8).as_pointer()
        vector = double.as_pointer()
        kind = ir.FunctionType(double, [void, vector, vector])
        target = builder.inttoptr(args[0], kind.as_pointer())
        return builder.call(target, [builder.inttoptr(args[1], void), *args[2:]])

    return types.float64(types.intp, types.intp, _POINTER, _POINTER), generate


@_intrinsic
def call_update(
    typingctx: Any, function: Any, x: Any, g: Any, state: Any, options: Any,
    lr: Any, size: Any,
) -> Any:  # fmt: skip
    """An update of ``rules.py``, compiled by ``update_address``."""

    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        double, word = ir.DoubleType(), ir.IntType(64)
        vectors = [double.as_pointer()] * 4
        kind = ir.FunctionType(ir.VoidType(), [*vectors, double, word])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return ctx.get_dummy_value()

    return types.void(types.intp, *[_POINTER] * 4, types.float64, types.int64), generate


# ---------------------------------------------------------------- one step, in parts
# All arrays are pointers here. Bounds hold where ``bounded`` is true.


@register_jitable
def _move(
    update: int,
    x: Pointer,
    gradient: Pointer,
    state: Pointer,
    options: Pointer,
    lower: Pointer,
    upper: Pointer,
    bounded: bool,
    lr: float,
    size: int,
) -> None:
    """One update of ``x`` in place, then its projection on the bounds."""
    call_update(update, x, gradient, state, options, lr, size)
    if bounded:
        for i in range(size):
            # Not min(max()): a NaN must stay a NaN.
            if x[i] < lower[i]:
                x[i] = lower[i]
            elif x[i] > upper[i]:
                x[i] = upper[i]


@register_jitable
def _largest_slope(
    x: Pointer,
    gradient: Pointer,
    lower: Pointer,
    upper: Pointer,
    bounded: bool,
    size: int,
) -> float:
    """The largest |component| of the (projected) gradient; inf where one is not finite.

    The projected gradient is ``x - clip(x - gradient, lower, upper)``: zero where a
    bound holds the parameter back.
    """
    largest = 0.0
    for i in range(size):
        slope = gradient[i]
        if not math.isfinite(slope):
            return math.inf
        if bounded:
            slope = min(max(slope, x[i] - upper[i]), x[i] - lower[i])
        largest = max(largest, abs(slope))
    return largest


@register_jitable
def _judge(
    loss: float,
    x: Pointer,
    gradient: Pointer,
    best: Pointer,
    lower: Pointer,
    upper: Pointer,
    bounded: bool,
    losses: Pointer,
    counters: Pointer,
    values: Pointer,
    size: int,
) -> int:
    """Record the loss and gradient at ``x``; return whether to stop, and why."""
    step = counters[STEP]
    thin = counters[THIN]
    if thin >= 0 and step & ((1 << thin) - 1) == 0:
        losses[step >> thin] = loss
    previous = values[LOSS]
    slope = _largest_slope(x, gradient, lower, upper, bounded, size)
    values[LOSS] = loss
    values[LARGEST] = slope
    if not (math.isfinite(loss) and slope < math.inf):
        return NOT_FINITE
    if loss < values[BEST]:
        values[BEST] = loss
        counters[BEST_STEP] = step
        for i in range(size):
            best[i] = x[i]
    if slope < values[TOL]:
        return CONVERGED
    if loss > values[LIMIT] and loss > previous:
        return GROWN
    return RUNNING


# ----------------------------------------------------------------------- entry points
# ``lower`` and ``upper`` are empty where there are no bounds.


def move(
    update: int,
    x: Vector,
    gradient: Vector,
    state: Vector,
    options: Vector,
    lower: Vector,
    upper: Vector,
    lr: float,
) -> None:
    """One update of ``x`` in place, projected on the bounds."""
    _move(
        update, pointer(x), pointer(gradient), pointer(state), pointer(options),
        pointer(lower), pointer(upper), lower.size > 0, lr, x.size,
    )  # fmt: skip


def judge(
    loss: float,
    x: Vector,
    gradient: Vector,
    best: Vector,
    lower: Vector,
    upper: Vector,
    losses: Vector,
    counters: Counters,
    values: Vector,
) -> int:
    """Record the loss and gradient at ``x``; return whether to stop, and why."""
    return _judge(
        loss, pointer(x), pointer(gradient), pointer(best), pointer(lower),
        pointer(upper), lower.size > 0, pointer(losses), pointer(counters),
        pointer(values), x.size,
    )  # fmt: skip


def descend(
    function: int,
    context: int,
    update: int,
    x: Vector,
    gradient: Vector,
    best: Vector,
    state: Vector,
    options: Vector,
    lower: Vector,
    upper: Vector,
    losses: Vector,
    rates: Vector,
    counters: Counters,
    values: Vector,
    steps: int,
) -> int:
    """Up to ``steps`` steps; return why it ended.

    A step moves ``x`` along the gradient there, then evaluates. From step -1 there is
    no gradient yet: the first turn only evaluates the start. ``rates`` holds one
    learning rate, or one per turn of this slice.
    """
    size, bounded, varies = x.size, lower.size > 0, 1 if rates.size > 1 else 0
    at, slope, lowest = pointer(x), pointer(gradient), pointer(best)
    memory, settings = pointer(state), pointer(options)
    low, high = pointer(lower), pointer(upper)
    record, count, value = pointer(losses), pointer(counters), pointer(values)
    rate = pointer(rates)
    for k in range(steps):
        if count[STEP] >= 0:
            lr = rate[k * varies]
            _move(update, at, slope, memory, settings, low, high, bounded, lr, size)
        count[STEP] += 1
        loss = call_loss(function, context, at, slope)
        why = _judge(
            loss, at, slope, lowest, low, high, bounded, record, count, value, size
        )
        if why != RUNNING:
            return why
    return RUNNING


# ----------------------------------------------------------------------- compilation

_F, _I, _A = types.float64, types.int64, types.float64[::1]
_COUNTERS = types.int64[::1]

_ENTRIES: dict[str, tuple[Callable[..., Any], Any]] = {
    "move": (move, types.void(_I, _A, _A, _A, _A, _A, _A, _F)),
    "judge": (judge, _I(_F, _A, _A, _A, _A, _A, _A, _COUNTERS, _A)),
    "descend": (
        descend,
        _I(_I, _I, _I, _A, _A, _A, _A, _A, _A, _A, _A, _A, _COUNTERS, _A, _I),
    ),
}


@cache
def entry(name: str) -> Callable[..., Any]:
    """The compiled ``move``, ``judge`` or ``descend``; it releases the GIL."""
    function, signature = _ENTRIES[name]
    return _with_cache(
        lambda caching: numba.njit(
            signature, nogil=True, cache=caching, error_model="numpy"
        )(function)
    )


@cache
def _compiled_update(update: Update) -> Any:
    signature = types.void(_POINTER, _POINTER, _POINTER, _POINTER, _F, _I)
    return _with_cache(
        lambda caching: numba.cfunc(signature, cache=caching, error_model="numpy")(
            update
        )
    )


def update_address(method: str) -> int:
    """The address of a rule's compiled update (it lives as long as the process)."""
    compiled = _compiled_update(RULES[method].update)
    address = ctypes.cast(compiled.ctypes, ctypes.c_void_p).value
    assert address is not None, "Numba gives every cfunc an address"
    return address


def _with_cache(build: Callable[[bool], Any]) -> Any:
    """Compile with Numba's file cache; without it where that cannot be used.

    Numba writes beside this file, or in the user's own cache directory where this
    one is read-only.
    """
    if os.environ.get("SYMGRAD_CACHE", "").lower() != "off":
        try:
            return build(True)
        except Exception:
            # Nowhere to write, a full disk, a damaged file: compiling here cures all
            # of them, and an error of another kind comes again below.
            pass
    return build(False)
