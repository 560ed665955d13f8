"""Check a compiled loss at given values, without trusting what compiled it.

``check_grad`` differentiates the reference interpreter numerically: neither symbolic
differentiation, simplification nor a kernel is involved. ``check`` asks how many digits
survive floating point: the same derivatives, unsimplified, in as many decimal digits as
it takes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from symgrad.differentiate import gradient
from symgrad.errors import (
    OptionError,
    SymgradError,
    SymgradWarning,
    UnsupportedError,
)
from symgrad.interpret import evaluate, evaluate_exact
from symgrad.runtime.derivatives import gradient_nodes
from symgrad.runtime.specialise import Arrays, Specialisation, Specialiser

Vector = NDArray[np.float64]

STEPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Relative step widths that are tried."""

MOST_COMPONENTS = 50
"""Parameters with more components are checked along random directions."""

DIRECTIONS = 10

NOISE = 1e-5
"""Gradients smaller than this, relative to the loss and the size of the parameter, are
compared with that size: differences of the loss do not show them."""


class Loss(Protocol):
    """What is asked of a loss, which stands below this file."""

    wrt: Any
    dtype: Any
    _specialiser: Specialiser

    def _prepare(
        self, values: Mapping[str, Any], /
    ) -> tuple[Specialisation, Arrays]: ...
    def value_and_grad(self, /, **values: Any) -> tuple[float, dict[str, Any]]: ...


def check_grad(
    loss: Loss, values: Mapping[str, Any], *, seed: int = 0
) -> dict[str, float]:
    """Largest relative difference of each gradient from numerical derivatives.

    Central differences with Richardson extrapolation, for every component, or along
    ``DIRECTIONS`` random directions for parameters of more than ``MOST_COMPONENTS``.
    Differences are relative to the largest component of a parameter's gradient. At a
    kink (``abs`` at 0) there is no derivative to compare with.

    Args:
        loss: the compiled loss. values: of all parameters and data, by name.
        seed: of the random directions.

    Returns:
        A number for each parameter; about 1e-9 is as good as differences can confirm,
        1e-5 in float32.

    Raises:
        ArgumentError, ShapeError, DTypeError: as calling the loss does.
    """
    found, arrays = loss._prepare(values)
    _, gradients = loss.value_and_grad(**values)
    random = np.random.default_rng(seed)
    result: dict[str, float] = {}
    for name in loss.wrt:
        at = arrays[name]
        along = _loss_along(found, arrays, name)
        exact = np.asarray(gradients[name], np.float64)
        result[name] = _largest_difference(along, at, exact, random)
    return result


def _loss_along(
    found: Specialisation, arrays: Arrays, name: str
) -> Callable[[Vector], float]:
    """The loss as a function of one parameter, by the interpreter."""
    body = found.built.value.body
    lengths = found.lengths(arrays)

    def value(x: Vector) -> float:
        return float(evaluate([body], {**arrays, name: x}, lengths)[0])

    return value


def _largest_difference(
    value: Callable[[Vector], float],
    at: Vector,
    exact: Vector,
    random: np.random.Generator,
) -> float:
    if at.size == 0:
        return 0.0
    directions = _directions(at, random)
    numeric = np.array([_derivative(value, at, d) for d in directions])
    ours = np.array([np.vdot(d, exact) for d in directions])
    if not (np.isfinite(ours) == np.isfinite(numeric)).all():
        return math.inf
    finite = np.isfinite(numeric)
    floor = NOISE * abs(value(at)) / max(1.0, float(np.abs(at).max()))
    size = max(np.abs(numeric[finite]).max(initial=0.0), floor)
    difference = np.abs(ours - numeric)[finite].max(initial=0.0)
    return float(difference / size) if difference else 0.0


def _directions(at: Vector, random: np.random.Generator) -> list[Vector]:
    if at.size <= MOST_COMPONENTS:
        return [unit.reshape(at.shape) for unit in np.eye(at.size)]
    return list(random.standard_normal((DIRECTIONS, *at.shape)))


def _derivative(value: Callable[[Vector], float], at: Vector, along: Vector) -> float:
    """The derivative along a direction: of all step widths, the one whose result the
    next agrees with best. Wide steps lose to curvature and kinks, narrow ones to
    rounding."""
    size = max(1.0, float(np.abs(at[along != 0]).max(initial=0.0)))
    scale = size / float(np.abs(along).max())
    found = [_extrapolated(value, at, along, scale * step) for step in STEPS]
    gaps = [abs(a - b) for a, b in pairwise(found)]
    known = [k for k, gap in enumerate(gaps) if np.isfinite(gap)]
    if not known:
        return math.nan
    return found[min(known, key=gaps.__getitem__)]


def _extrapolated(
    value: Callable[[Vector], float], at: Vector, along: Vector, step: float
) -> float:
    """Two central differences, their errors of second order cancelled.

    Source: Richardson, Phil. Trans. R. Soc. A 210 (1911) 307.
    """
    wide, narrow = (
        (value(at + h * along) - value(at - h * along)) / (2 * h)
        for h in (step, step / 2)
    )
    return (4 * narrow - wide) / 3


# --- digits ---------------------------------------------------------------------------


def check(loss: Loss, values: Mapping[str, Any], rows: int = 50) -> dict[str, float]:
    """Correct decimal digits of the loss and of each gradient.

    Compared with the formula as it was written, unsimplified, and its derivatives, on
    the first ``rows`` rows of the data (on all, where the formula needs them: see
    ``fewer_rows``), in 50 digits or as many more as it takes until more change nothing:
    ``1 - sigmoid(800)`` needs 350. Where the formula has no finite
    value even so (``x*log(x)`` at 0, ``log(1 + erf(x))`` at -100), its simplified form
    is the reference. A gradient has the digits of its worst component relative to
    its largest; 0 if not even the first is right.

    Where the terms of a value cancel, as in the gradient at a perfect fit, its own size
    says nothing of the rounding. Errors are therefore relative to the size of the value
    or to its condition, whichever is larger: how much it changes, relative to the
    change, when all inputs change at random by about one part in 10**25. Zeros among
    the parameters change by that part of their array's largest component, or of 1. So
    a computation loses digits only by more than the rounding of its inputs explains:
    ``(1 - cos(a))/a**2`` near 0 still has none.

    Returns:
        ``"loss"`` and each parameter: at most 15.95 in float64, 7.2 in float32. NaN
        where the formula itself is not a number (``log(-1)``): nothing is confirmed.

    Raises:
        ArgumentError, ShapeError, DTypeError: as calling the loss does.
        OptionError: ``rows`` is no positive integer.
        UnsupportedError: all rows are needed, and are too many for exact numbers.
    """
    if isinstance(rows, bool) or not isinstance(rows, int | np.integer) or rows < 1:
        raise OptionError(f"rows is {rows!r}: it must be a positive integer")
    _, arrays = loss._prepare(values)
    few = fewer_rows(loss, arrays, int(rows))
    if few is arrays:
        _refuse_many(arrays, int(rows))
    found = loss._specialiser.match(few)
    value, gradients = loss.value_and_grad(**few)
    body = found.built.value.body
    roots = [body, *gradient(body, found.parameters)]
    lengths = found.lengths(few)
    exact, digits = _settled(lambda n: evaluate_exact(roots, few, lengths, n))
    scales = _conditions(
        lambda at: evaluate_exact(roots, at, lengths, digits), few, exact, loss
    )
    if not all(_is_finite(true).all() for true in exact):
        limits = evaluate_exact(gradient_nodes(found), few, lengths, digits)
        exact = [
            np.where(_is_finite(true), true, limit)
            for true, limit in zip(exact, limits, strict=True)
        ]
    most = -math.log10(np.finfo(np.dtype(loss.dtype)).eps / 2)
    ours = [np.asarray(value), *gradients.values()]
    names = ["loss", *loss.wrt]
    return {
        name: _digits(array, reference, scale, most)
        for name, array, reference, scale in zip(
            names, ours, exact, scales, strict=True
        )
    }


DIGITS = (50, 200, 800, 3200)
"""Precisions of the reference, tried in turn."""


def _settled(
    evaluate: Callable[[int], list[NDArray[Any]]],
) -> tuple[list[NDArray[Any]], int]:
    """The values in the first precision that the next confirms, and that precision."""
    before = evaluate(DIGITS[0])
    for digits, more in pairwise(DIGITS):
        after = evaluate(more)
        if all(_agree(a, b) for a, b in zip(before, after, strict=True)):
            return after, digits
        before = after
    return before, DIGITS[-1]


def _agree(one: NDArray[Any], other: NDArray[Any]) -> bool:
    import mpmath

    for a, b in zip(np.ravel(one).tolist(), np.ravel(other).tolist(), strict=True):
        if not (mpmath.isfinite(a) and mpmath.isfinite(b)):
            if str(a) != str(b):
                return False
        elif abs(a - b) > abs(b) * 1e-25:
            return False
    return True


def _is_finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    import mpmath

    return np.asarray(np.frompyfunc(mpmath.isfinite, 1, 1)(values), np.bool_)


CHANGES = (1e-25, 1e-24)
"""Relative changes of inputs: far above the 50 digits, far below any curvature. Where
the two responses are not in proportion, there is a kink, and no condition."""


def _conditions(
    evaluate: Callable[[Arrays], list[NDArray[Any]]],
    at: Arrays,
    exact: list[NDArray[Any]],
    loss: Loss,
) -> list[float]:
    """The largest response of each value to changes of the inputs, per unit change.

    The zeros among parameters change apart from all else: they are often at kinks
    (``abs``), which would hide the response to the rest.
    """
    found = [0.0] * len(exact)
    for directions in (_relative(at), _of_zeros(at, loss.wrt)):
        if not any(d.any() for d in directions.values()):
            continue
        small, large = (evaluate(_moved(at, directions, h)) for h in CHANGES)
        for k, true in enumerate(exact):
            found[k] = max(found[k], _response(true, small[k], large[k]))
    return found


def _relative(at: Arrays) -> dict[str, Vector]:
    """A random change of each finite float, of up to its own size."""
    random = np.random.default_rng(0)
    found = {}
    for name, array in at.items():
        if array.dtype.kind == "f":
            share = random.uniform(0.5, 1.0, array.shape)
            share *= random.choice([-1.0, 1.0], array.shape)
            found[name] = np.where(np.isfinite(array), array, 0.0) * share
    return found


def _of_zeros(at: Arrays, parameters: Sequence[str]) -> dict[str, Vector]:
    """A random change of each zero, of up to the largest component, or to 1."""
    random = np.random.default_rng(1)
    found = {}
    for name in parameters:
        size = np.abs(at[name]).max(initial=0.0) or 1.0
        change = random.uniform(0.5, 1.0, at[name].shape) * size
        sign = random.choice([-1.0, 1.0], at[name].shape)
        found[name] = np.where(at[name] == 0.0, sign * change, 0.0)
    return found


def _moved(at: Arrays, directions: Mapping[str, Vector], change: float) -> Arrays:
    """The inputs, in 50 digits, after a change."""
    import mpmath

    with mpmath.workdps(50), np.errstate(all="ignore"):
        number = np.frompyfunc(mpmath.mpf, 1, 1)
        moved = {
            name: np.asarray(number(at[name]) + change * number(direction), object)
            for name, direction in directions.items()
        }
    return {**at, **moved}


def _response(exact: NDArray[Any], small: NDArray[Any], large: NDArray[Any]) -> float:
    """The largest change of a component per unit change, 0 for those at a kink."""
    found = 0.0
    for true, *moved in zip(*map(np.ravel, (exact, small, large)), strict=True):
        one, other = (
            abs(float((value - true) / change))
            for value, change in zip(moved, CHANGES, strict=True)
        )
        if math.isfinite(one) and abs(one - other) <= 0.01 * one:
            found = max(found, one)
    return found


MOST_ELEMENTS = 20_000
"""Numbers in the arrays of a formula that needs all rows: some seconds of mpmath."""


def fewer_rows(loss: Loss, arrays: Arrays, rows: int) -> Arrays:
    """``first_rows``, if the formula has a value there, as it has for all rows.

    It has none where a slice of the rows is then empty (``y[100:]``), where an index
    points beyond them, or where a parameter is as long as the data: ``arrays`` then.
    """
    few = first_rows(loss, arrays, rows)
    if all(few[name].shape == array.shape for name, array in arrays.items()):
        return arrays
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SymgradWarning)
            value, _ = loss.value_and_grad(**few)
    except SymgradError:
        return arrays
    if math.isfinite(value) or not math.isfinite(loss.value_and_grad(**arrays)[0]):
        return few
    return arrays


def _refuse_many(arrays: Arrays, rows: int) -> None:
    count = sum(array.size for array in arrays.values())
    longest = max((a.shape[0] for a in arrays.values() if a.ndim), default=0)
    if count > MOST_ELEMENTS and rows < longest:
        raise UnsupportedError(
            f"the formula has no value for the first {rows} rows alone, and all arrays "
            f"hold {count} numbers, which takes long: give smaller arrays, or "
            f"rows={longest} to check them all the same"
        )


def first_rows(loss: Loss, arrays: Arrays, rows: int) -> Arrays:
    """The arrays with at most ``rows`` rows of data.

    All that is as long as the data have rows is cut; nothing is, if that holds for a
    parameter.
    """
    found = loss._specialiser.match(arrays)
    pairs = _row_axes(found, arrays)
    if any(name in loss.wrt for name, _ in pairs):
        return arrays
    result = dict(arrays)
    for name, axis in pairs:
        count = min(rows, arrays[name].shape[axis])
        result[name] = result[name].take(range(count), axis)
    return result


def _row_axes(found: Specialisation, arrays: Arrays) -> Sequence[tuple[str, int]]:
    """The axes of the length that leads the most data."""
    data = set(found.data)

    def led(pairs: Sequence[tuple[str, int]]) -> int:
        return sum(arrays[n].size for n, axis in pairs if axis == 0 and n in data)

    return max(found.built.dims.values(), key=led, default=())


def _digits(
    ours: NDArray[Any], exact: NDArray[Any], scale: float = 0.0, most: float = math.inf
) -> float:
    """Decimal digits in which the worst component agrees, relative to the largest, or
    to ``scale`` where that is larger; at most ``most``, and NaN without a reference."""
    import mpmath

    if any(mpmath.isnan(right) for right in np.ravel(exact).tolist()):
        return math.nan

    finite = mpmath.isfinite
    largest, worst = mpmath.mpf(scale), mpmath.mpf(0)
    pairs = zip(np.ravel(ours).tolist(), np.ravel(exact).tolist(), strict=True)
    for mine, right in pairs:
        if not (finite(mine) and finite(right)):
            if str(mpmath.mpf(mine)) != str(mpmath.mpf(right)):
                return 0.0
            continue
        largest = max(largest, abs(right))
        worst = max(worst, abs(mpmath.mpf(mine) - right))
    if not worst:
        return most
    digits = float(-mpmath.log10(worst / largest)) if largest else 0.0
    return min(most, max(0.0, digits))
