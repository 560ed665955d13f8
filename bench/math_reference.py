"""What the functions of the vector math should give, and where to ask them.

References are mpmath's, at more than twice double's precision, for both types.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np
from mpmath import mp, mpf

PRECISION = 140
Interval = tuple[float, float]


def softplus(x: mpf) -> mpf:
    return max(x, mpf(0)) + mp.log1p(mp.exp(-abs(x)))


def sigmoid(x: mpf) -> mpf:
    return 1 / (1 + mp.exp(-x))


def logaddexp(a: mpf, b: mpf) -> mpf:
    return max(a, b) + mp.log1p(mp.exp(-abs(a - b)))


def log_gamma(x: mpf) -> mpf:
    if x > 0:
        return mp.loggamma(x).real
    if x == mp.floor(x):
        return mp.inf
    return mp.log(mp.pi / abs(mp.sinpi(x))) - mp.loggamma(1 - x).real


def erfc(x: mpf) -> mpf:
    """mpmath's own overflows for huge arguments."""
    return mp.erfc(x) if abs(x) < 1e6 else mpf(1) - mp.sign(x)


def digamma(x: mpf) -> mpf:
    """mpmath's own is slow for huge arguments on the left."""
    if x > -1000:
        return mp.digamma(x)
    return mp.digamma(1 - x) - mp.pi * mp.cospi(x) / mp.sinpi(x)


def tanh_of_tail(x: mpf, tail: mpf) -> mpf:
    return mp.sign(x) * abs(1 - tail) if abs(x) > 0.625 else mp.tanh(x)


EXACT: dict[str, Callable[..., mpf]] = {
    "exp": mp.exp,
    "exp2": lambda x: mp.power(2, x),
    "expm1": mp.expm1,
    "log": mp.log,
    "log2": lambda x: mp.log(x, 2),
    "log10": mp.log10,
    "log1p": mp.log1p,
    "sigmoid": sigmoid,
    "sigmoid_tail": lambda x: sigmoid(-abs(x)),
    "softplus": softplus,
    "logaddexp": logaddexp,
    "sinh": mp.sinh,
    "cosh": mp.cosh,
    "tanh": mp.tanh,
    "tanh_tail": lambda x: 2 / (mp.exp(2 * abs(x)) + 1),
    "tanh_of_tail": tanh_of_tail,
    "asinh": mp.asinh,
    "acosh": mp.acosh,
    "atanh": mp.atanh,
    "sin": mp.sin,
    "cos": mp.cos,
    "tan": mp.tan,
    "asin": mp.asin,
    "acos": mp.acos,
    "atan": mp.atan,
    "atan2": mp.atan2,
    "erf": mp.erf,
    "erfc": erfc,
    "pow": mp.power,
    "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)),
    "hypot": mp.hypot,
    "lgamma": log_gamma,
    "digamma": digamma,
    "polygamma1": lambda x: mp.polygamma(1, x),
    "polygamma2": lambda x: mp.polygamma(2, x),
}

INPUTS = dict.fromkeys(EXACT, 1) | dict.fromkeys(
    ("logaddexp", "atan2", "pow", "hypot", "tanh_of_tail"), 2
)

# Where the interesting points are: uniform samples, one tuple of intervals an argument.
# The float32 sweeps stay inside; beyond, see ``magnitudes``.
WHERE: dict[str, list[tuple[Interval, ...]]] = {
    "exp": [((-746.0, 710.0),), ((-1.0, 1.0),), ((-104.0, 89.0),)],
    "exp2": [((-1080.0, 1030.0),), ((-1.0, 1.0),), ((-150.0, 129.0),)],
    "expm1": [((-40.0, 40.0),), ((-1.1, 1.1),), ((80.0, 710.0),)],
    "log": [((0.5, 2.0),), ((0.0, 20.0),)],
    "log2": [((0.5, 2.0),), ((0.0, 20.0),)],
    "log10": [((0.5, 2.0),), ((0.0, 20.0),)],
    "log1p": [((-1.0, 1.0),), ((-0.3, 0.6),), ((0.0, 20.0),)],
    "sigmoid": [((-746.0, 40.0),), ((-5.0, 5.0),), ((-90.0, 20.0),)],
    "sigmoid_tail": [((-746.0, 40.0),), ((-5.0, 5.0),), ((-90.0, 20.0),)],
    "softplus": [((-746.0, 40.0),), ((-5.0, 5.0),), ((-90.0, 20.0),)],
    "logaddexp": [((0.0, 40.0), (0.0, 40.0)), ((0.5, 2.0), (-3.0, 3.0))],
    "sinh": [((-1.5, 1.5),), ((-20.0, 20.0),), ((-711.0, 711.0),)],
    "cosh": [((-1.5, 1.5),), ((-20.0, 20.0),), ((-711.0, 711.0),)],
    "tanh": [((-1.0, 1.0),), ((-20.0, 20.0),)],
    "tanh_tail": [((-1.0, 1.0),), ((-53.0, 53.0),), ((-374.0, 374.0),)],
    "tanh_of_tail": [((-1.0, 1.0), (0.2, 1.0)), ((-20.0, 20.0), (0.0, 0.4))],
    "asinh": [((-2.0, 2.0),), ((-20.0, 20.0),)],
    "acosh": [((1.0, 1.01),), ((1.0, 3.0),), ((1.0, 50.0),)],
    "atanh": [((-1.0, 1.0),), ((-0.6, 0.6),)],
    "sin": [((-4.0, 4.0),), ((-200.0, 200.0),), ((-1e9, 1e9),)],
    "cos": [((-4.0, 4.0),), ((-200.0, 200.0),), ((-1e9, 1e9),)],
    "tan": [((-4.0, 4.0),), ((-200.0, 200.0),), ((-1e9, 1e9),)],
    "asin": [((-1.0, 1.0),), ((0.45, 0.7),)],
    "acos": [((-1.0, 1.0),), ((0.45, 0.7),), ((-0.7, -0.45),)],
    "atan": [((-3.0, 3.0),), ((0.4, 0.6),), ((-50.0, 50.0),)],
    "atan2": [((-5.0, 5.0), (-5.0, 5.0)), ((0.45, 2.1), (0.9, 1.1))],
    "erf": [((-1.5, 1.5),), ((-6.5, 6.5),)],
    "erfc": [((-6.0, 28.0),), ((0.4, 2.0),), ((0.0, 10.0),)],
    "pow": [((0.0, 5.0), (-40.0, 40.0)), ((0.99, 1.01), (-3e4, 3e4))],
    "cbrt": [((-30.0, 30.0),)],
    "hypot": [((-5.0, 5.0), (-5.0, 5.0))],
    "lgamma": [((0.0, 30.0),)],
    "digamma": [((0.0, 10.0),), ((1.4, 1.5),)],
    "polygamma1": [((0.0, 30.0),)],
    "polygamma2": [((0.0, 30.0),)],
}


def points(op: str, dtype: str, count: int, seed: int = 0) -> list[np.ndarray]:
    """``count`` points in each interval and as many of random magnitude and sign."""
    random = np.random.default_rng(seed)
    columns: list[list[np.ndarray]] = [[] for _ in range(INPUTS[op])]
    for box in WHERE[op]:
        for column, (low, high) in zip(columns, box, strict=True):
            column.append(random.uniform(low, high, count))
    for column in columns:
        if not op.startswith("polygamma"):  # minutes of mpmath
            column.append(magnitudes(random, dtype, count))
    return [np.concatenate(column).astype(dtype) for column in columns]


def magnitudes(random: np.random.Generator, dtype: str, count: int) -> np.ndarray:
    """From the smallest subnormal number to the largest, evenly by logarithm."""
    info = np.finfo(dtype)
    low = math.log2(float(info.smallest_subnormal))
    exponents = random.uniform(low, math.log2(float(info.max)) * 0.9999, count)
    with np.errstate(under="ignore"):
        return np.exp2(exponents) * random.choice([-1.0, 1.0], count)


def exact(op: str, args: Sequence[float]) -> mpf:
    """The value at finite arguments; NaN where there is none."""
    with mp.workprec(PRECISION):
        try:
            value = EXACT[op](*map(mpf, args))
        except (ValueError, ZeroDivisionError):
            return mpf("nan")
    return mpf("nan") if isinstance(value, mpmath.mpc) else value


def ulps(got: Any, value: mpf, dtype: str) -> float:
    """|got - value| in units of the last place of value, in the given type.

    Infinity is right, at 0, where the value rounds to it.
    """
    info = np.finfo(dtype)
    if mp.isnan(value) or math.isnan(got):
        return 0.0 if mp.isnan(value) and math.isnan(got) else math.inf
    limit = mpf(float(info.max)) * (1 + mpf(float(info.eps)) / 4)
    if abs(value) >= limit or math.isinf(got):
        return (
            0.0
            if abs(value) >= limit and got == float(mp.sign(value)) * math.inf
            else math.inf
        )
    exponent = max(mp.frexp(value)[1] - 1, int(info.minexp)) if value else info.minexp
    return float(abs(mpf(float(got)) - value) * mpf(2) ** (info.nmant - int(exponent)))


def worst(
    op: str, dtype: str, got: np.ndarray, args: Sequence[np.ndarray]
) -> tuple[float, tuple[float, ...]]:
    """The largest error in units of the last place, and where it is."""
    found: tuple[float, tuple[float, ...]] = (0.0, ())
    for y, *x in zip(got, *args, strict=True):
        place = tuple(map(float, x))
        error = ulps(float(y), exact(op, place), dtype)
        if error > found[0] or not found[1]:
            found = (error, place)
    return found
