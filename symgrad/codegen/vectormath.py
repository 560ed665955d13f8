"""The mathematical functions of the graph as emitted code: one table.

Every function works on doubles and floats, scalars and vectors of any number of lanes,
and gives a lane the bits it gives a scalar. The files beside this one hold the
formulas; bench/vectormath.py prints each function's largest error and its time.
"""

from __future__ import annotations

from collections.abc import Callable

from symgrad.codegen import (
    math_choice,
    math_erf,
    math_exp,
    math_gamma,
    math_hyperbolic,
    math_log,
    math_pow,
    math_roots,
    math_trig,
)
from symgrad.codegen.llvm_text import Emitter, Value
from symgrad.codegen.math_lanes import Lanes, libm

_FUNCTIONS: dict[str, Callable[..., Lanes]] = {
    "exp": math_exp.exp,
    "exp2": math_exp.exp2,
    "expm1": math_exp.expm1,
    "sigmoid": math_exp.sigmoid,
    "sigmoid_tail": math_exp.sigmoid_tail,
    "log": math_log.log,
    "log2": math_log.log2,
    "log10": math_log.log10,
    "log1p": math_log.log1p,
    "softplus": math_log.softplus,
    "logaddexp": math_log.logaddexp,
    "sinh": math_hyperbolic.sinh,
    "cosh": math_hyperbolic.cosh,
    "tanh": math_hyperbolic.tanh,
    "tanh_tail": math_hyperbolic.tanh_tail,
    "tanh_of_tail": math_hyperbolic.tanh_of_tail,
    "asinh": math_hyperbolic.asinh,
    "acosh": math_hyperbolic.acosh,
    "atanh": math_hyperbolic.atanh,
    "sin": math_trig.sin,
    "cos": math_trig.cos,
    "tan": math_trig.tan,
    "asin": math_trig.asin,
    "acos": math_trig.acos,
    "atan": math_trig.atan,
    "atan2": math_trig.atan2,
    "erf": math_erf.erf,
    "erfc": math_erf.erfc,
    "lgamma": math_gamma.lgamma,
    "digamma": math_gamma.digamma,
    "pow": math_pow.pow,
    "cbrt": math_roots.cbrt,
    "hypot": math_roots.hypot,
}

SUPPORTED = frozenset(_FUNCTIONS) | {"polygamma"}

ERROR_BOUNDS: dict[str, float] = {
    "exp": 1.1,
    "exp2": 1.1,
    "expm1": 1.4,
    "log": 1.0,
    "log2": 0.8,
    "log10": 0.8,
    "log1p": 1.0,
    "sigmoid": 1.5,
    "sigmoid_tail": 1.5,
    "softplus": 1.6,
    "logaddexp": 1.6,
    "sinh": 1.7,
    "cosh": 1.3,
    "tanh": 1.5,
    "tanh_tail": 2.2,
    "tanh_of_tail": 1.5,
    "asinh": 1.5,
    "acosh": 1.9,
    "atanh": 1.2,
    "sin": 1.9,
    "cos": 1.9,
    "tan": 1.5,
    "asin": 1.2,
    "acos": 1.3,
    "atan": 1.5,
    "atan2": 1.5,
    "erf": 1.2,
    "erfc": 1.1,
    "pow": 1.1,
    "cbrt": 0.6,
    "hypot": 1.1,
    "lgamma": 4.0,
    "digamma": 4.0,
    "polygamma": 6.0,
}
"""Largest errors found over the whole range, in units of the last place, rounded up;
the larger of both types. logaddexp: where it does not cancel (a, b >= 0). lgamma,
digamma and polygamma: for positive arguments."""


def emit(emitter: Emitter, op: str, args: list[Value]) -> Value:
    """Emit ``op(*args)`` into the current block.

    Arguments are of one type, double or float; scalars beside vectors are repeated.
    polygamma's order is a literal integer.
    """
    if op == "polygamma":
        order, x = args
        return math_gamma.polygamma(_integer(order), Lanes(emitter, x)).value
    lanes = max(a.lanes for a in args)
    wide = [Lanes(emitter, emitter.splat(a, lanes)) for a in args]
    chosen = math_choice.choice(op, wide[0].value.type, emitter.features)
    if chosen == math_choice.LIBM:
        return libm(op, *wide).value
    if chosen == math_choice.LIBMVEC:
        return math_choice.libmvec(op, *wide).value
    return _FUNCTIONS[op](*wide).value


def softplus_sigmoid(emitter: Emitter, x: Value) -> tuple[Value, Value]:
    """softplus and its derivative with one exponential: the bits of each alone."""
    softplus, sigmoid = math_log.softplus_sigmoid(Lanes(emitter, x))
    return softplus.value, sigmoid.value


def _integer(value: Value) -> int:
    """The number that a literal spells: ``3`` or ``splat (i64 3)``."""
    digits = value.name.removeprefix(f"splat ({value.type} ").removesuffix(")")
    if not (value.literal and digits.lstrip("-").isdigit()):
        raise ValueError(f"polygamma: the order is {value!r}, not a constant integer")
    return int(digits)
