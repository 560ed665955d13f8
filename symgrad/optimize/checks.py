"""Checks of the arguments of a minimization; every message names the remedy."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from symgrad.errors import ArgumentError, DataError, OptionError
from symgrad.optimize.protocol import Objective, Vector
from symgrad.optimize.rules import Rule
from symgrad.optimize.schedules import Schedule

MAX_SHUFFLED = (1 << 32) - 1
"""Rows of data with mini-batches: the shuffle draws integers of 32 bits."""

Bounds = tuple[Vector, Vector]
"""Lower and upper bounds, each (P,), with -inf and inf where there are none."""


def refuse_name(kind: str, name: object, known: Iterable[str]) -> NoReturn:
    """Refuse an unknown name, with the nearest known one."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name).lower(), names, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise OptionError(f"unknown {kind} {name!r}: {hint}choose from {', '.join(names)}")


def start_vector(objective: Objective, x0: Any) -> Vector:
    """A fresh float64 copy (P,) of the start: a flat vector, or parameters by name."""
    if isinstance(x0, Mapping):
        x0 = objective.pack(x0)
    try:
        x = np.array(x0, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"x0 is not a vector of real numbers: {error}") from None
    if x.shape != (objective.size,):
        raise DataError(
            f"x0 has shape {x.shape}, the parameters make a vector of shape "
            f"({objective.size},): use objective.pack({{...}})"
        )
    if not np.all(np.isfinite(x)):
        broken = [
            k for k, v in objective.unpack(x).items() if not np.all(np.isfinite(v))
        ]
        raise DataError(f"the initial value of {', '.join(broken)} has NaN or inf")
    return x


def count(name: str, value: Any, least: int) -> int:
    """An integer not below ``least``."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
        if isinstance(value, float) and value.is_integer():  # steps=1e5
            number = int(value)
    if number is None or isinstance(value, bool) or number < least:
        raise OptionError(f"{name} is {value!r}: it must be an integer >= {least}")
    return number


def tolerance(value: Any) -> float:
    if not _is_number(value) or not value >= 0.0:
        raise OptionError(f"tol is {value!r}: it must be a number >= 0 (0: never stop)")
    return float(value)


def seed(value: Any) -> int | None:
    return None if value is None else count("seed", value, 0)


def _is_number(value: Any) -> bool:
    kinds = (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool)


# ---------------------------------------------------------------------- learning rates

Rates = Callable[[int, int], Vector]
"""(first step, count) -> one rate for all of them, or one for each."""


def learning_rates(lr: Any, default: float) -> Rates:
    """From a number, a :class:`Schedule` or any callable of the step; None: default."""
    if lr is None:
        lr = default
    if isinstance(lr, np.ndarray) and lr.ndim == 0:
        lr = lr.item()
    if _is_number(lr):
        if not (math.isfinite(lr) and lr > 0.0):
            raise OptionError(f"lr is {lr!r}: a learning rate must be positive")
        constant = np.array([float(lr)])
        return lambda first, number: constant
    if not callable(lr):
        raise OptionError(f"lr is {lr!r}: give a number, or a callable of the step")
    return _scheduled(lr)


def _as_floats(values: Any) -> Vector:
    """The rates of so many steps; NaN for what is no number."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array([v if _is_number(v) else np.nan for v in values], np.float64)


def _scheduled(lr: Callable[[Any], Any]) -> Rates:
    def rates(first: int, number: int) -> Vector:
        steps = range(first, first + number)
        values = (
            lr(np.arange(first, first + number))
            if isinstance(lr, Schedule)
            else [lr(step) for step in steps]
        )
        array = _as_floats(values)
        broken = ~(np.isfinite(array) & (array >= 0.0))
        if array.shape != (number,) or broken.any():
            where = int(np.argmax(broken)) if array.shape == (number,) else 0
            raise OptionError(
                f"lr({steps[where]}) is {values[where]!r}: a learning rate must be a "
                "number that is finite and not negative"
            )
        return array

    return rates


# ----------------------------------------------------------------------------- options


def rule_options(rule: Rule, given: Mapping[str, Any]) -> np.ndarray:
    """The rule's flat options, with ``given`` in place of the defaults."""
    for name, value in given.items():
        if name not in rule.options:
            if not rule.options:
                raise OptionError(f"method {rule.name!r} has no option {name!r}")
            refuse_name(f"option of method {rule.name!r}", name, rule.options)
        _check_option(name, value, rule.options[name])
    return rule.flat_options(given)


def _check_option(name: str, value: Any, default: float | tuple[float, ...]) -> None:
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    if numbers.shape != np.shape(default):
        form = "a number" if np.ndim(default) == 0 else f"{np.size(default)} numbers"
        raise OptionError(f"{name} is {value!r}: it must be {form}")
    limit = 1.0 if name in ("momentum", "betas", "alpha") else math.inf
    if not np.all((numbers >= 0.0) & (numbers < limit)):
        raise OptionError(f"{name} is {value!r}: it must be in [0, {limit:g})")


def batch_rows(objective: Objective, batch_size: Any) -> int:
    """A batch size that fits the rows of the data."""
    size = count("batch_size", batch_size, 1)
    if objective.rows is None:
        raise OptionError(
            "batch_size is given, but no data array is led by a row dimension: leave "
            "batch_size out"
        )
    if size > objective.rows:
        raise OptionError(
            f"batch_size is {size}, but the data have {objective.rows} rows: leave it "
            "out to use all rows in each step"
        )
    if objective.rows >= MAX_SHUFFLED:
        raise OptionError(
            f"batch_size is given for {objective.rows} rows; at most {MAX_SHUFFLED} "
            "can be shuffled: take the loss on parts of the data"
        )
    return size


# ------------------------------------------------------------------------------ bounds


def flat_bounds(objective: Objective, bounds: Any) -> Bounds | None:
    """Bounds over the flat vector.

    ``bounds`` is a dict from parameter names to (low, high) pairs, whose ends are
    numbers, arrays that broadcast to the parameter, or None; or SciPy's forms over the
    flat vector: P pairs, or a ``scipy.optimize.Bounds``.
    """
    if bounds is None:
        return None
    if isinstance(bounds, Mapping):
        ends = _named_bounds(objective, bounds)
    elif hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        shape = (objective.size,)
        ends = (
            _bound("the flat vector", bounds.lb, -np.inf, shape),
            _bound("the flat vector", bounds.ub, np.inf, shape),
        )
    else:
        ends = _listed_bounds(objective, bounds)
    low, high = ends
    if not np.all(low <= high):
        bad = [
            k
            for k, v in objective.unpack(np.where(low <= high, 0.0, 1.0)).items()
            if np.any(v)
        ]
        raise OptionError(
            f"bounds of {', '.join(bad)}: the lower bound exceeds the upper, or is NaN"
        )
    if not (np.isfinite(low).any() or np.isfinite(high).any()):
        return None
    return low, high


def _named_bounds(objective: Objective, bounds: Mapping[str, Any]) -> Bounds:
    shapes = {
        k: np.shape(v) for k, v in objective.unpack(np.zeros(objective.size)).items()
    }
    low = {k: np.full(shape, -np.inf) for k, shape in shapes.items()}
    high = {k: np.full(shape, np.inf) for k, shape in shapes.items()}
    for name, pair in bounds.items():
        if name not in shapes:
            refuse_name("parameter in bounds", name, shapes)
        first, second = _pair(f"bounds of {name!r}", pair)
        low[name] = _bound(repr(name), first, -np.inf, shapes[name])
        high[name] = _bound(repr(name), second, np.inf, shapes[name])
    # Not objective.pack(): infinite parameters may be refused there.
    return _flat(low), _flat(high)


def _flat(parts: Mapping[str, np.ndarray]) -> Vector:
    return np.concatenate([np.empty(0), *(np.ravel(part) for part in parts.values())])


def _pair(what: str, pair: Any) -> tuple[Any, Any]:
    if not isinstance(pair, Sequence | np.ndarray) or len(pair) != 2:
        raise OptionError(f"{what} are {pair!r}: give a pair (low, high)")
    return pair[0], pair[1]


def _bound(name: str, value: Any, missing: float, shape: tuple[int, ...]) -> Vector:
    try:
        end = np.asarray(missing if value is None else value, dtype=np.float64)
        return np.broadcast_to(end, shape).copy()
    except (TypeError, ValueError):
        raise OptionError(
            f"a bound of {name} is {value!r}, the parameter has shape "
            f"{shape}: give numbers, None or arrays that broadcast to it"
        ) from None


def _listed_bounds(objective: Objective, bounds: Any) -> Bounds:
    try:
        pairs = [_pair("bounds", pair) for pair in bounds]
    except TypeError:
        raise ArgumentError(
            f"bounds are {bounds!r}: give a dict {{name: (low, high)}}, or a pair "
            "(low, high) for each component of the flat vector"
        ) from None
    if len(pairs) != objective.size:
        raise OptionError(
            f"bounds has {len(pairs)} pairs for {objective.size} parameters: give one "
            "for each component, or a dict {name: (low, high)}"
        )
    low, high = (
        np.array(
            [_bound(f"component {k}", p[end], missing, ()) for k, p in enumerate(pairs)]
        )
        for end, missing in ((0, -np.inf), (1, np.inf))
    )
    return low, high


def projected_gradient(x: Vector, gradient: Vector, bounds: Bounds | None) -> float:
    """Largest |component| of ``x - clip(x - gradient, low, high)``; of the gradient."""
    if bounds is not None:
        gradient = x - np.clip(x - gradient, *bounds)
    return float(np.max(np.abs(gradient), initial=0.0))
