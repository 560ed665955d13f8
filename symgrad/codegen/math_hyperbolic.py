"""sinh, cosh, tanh and their inverses.

Where the formula by exponentials or logarithms cancels, an odd polynomial takes over.
It is computed in every lane, which is cheaper than a branch.
"""

from __future__ import annotations

import math

from symgrad.codegen import math_coefficients as table
from symgrad.codegen.math_exp import EXP_RANGE, Exp
from symgrad.codegen.math_lanes import (
    Lanes,
    fast_two_sum,
    fma,
    polynomial,
    short_polynomial,
)
from symgrad.codegen.math_log import log1p, log_of_sum
from symgrad.codegen.math_scale import Rounded, power_of_two, scale

# tanh is 1 beyond, and 2**k still far from overflow.
_TANH_LIMIT = {"double": 44.0, "float": 20.0}
_HUGE = 2.0**30  # x*x + 1 is x*x from here on, in both formats


def odd_polynomial(a: Lanes, coefficients: dict[str, tuple[float, ...]]) -> Lanes:
    """a + a*z*p(z), z = a*a."""
    z = a * a
    return fma(a * z, polynomial(z, coefficients[a.value.type]), a)


def tanh(x: Lanes) -> Lanes:
    """1 - 2/(exp(2|x|) + 1); a polynomial for |x| <= 5/8."""
    limited = (abs(x) * 2.0).at_most(_TANH_LIMIT[x.value.type])
    return tanh_of_tail(x, 2.0 / _exp_and_one(limited))


def tanh_tail(x: Lanes) -> Lanes:
    """1 - tanh|x| = 2e/(1 + e), e = exp(-2|x|), by a short chain of operations.

    The argument is reduced at half its size, h = |x| + k*ln2/2, and the polynomial's
    coefficients are doubled instead. The second part of ln2 joins behind it, times the
    first terms of exp(-2h). 2**k, which may be subnormal, is there long before.
    """
    kind = x.value.type
    ln2, ln2_low = table.LN2[kind]
    a = abs(x).at_most(-0.5 * EXP_RANGE[kind][0])
    power = Rounded(a, -2.0 * table.INVERSE_LN2[kind][0])
    k = power.nearest
    h = fma(k, 0.5 * ln2, a)
    square = h * h
    doubled = [c * 4.0 * (-2.0) ** i for i, c in enumerate(table.EXP[kind])]
    start = fma(h, -2.0, 1.0)
    rest = fma(k * -ln2_low, fma(square, 2.0, start), h * -2.0)
    t = fma(square, short_polynomial(h, square, doubled), rest)
    factor = scale(x.const(1.0), power)
    twice = factor + factor
    return fma(t, twice, twice) / fma(t, factor, factor + 1.0)


def tanh_of_tail(x: Lanes, tail: Lanes) -> Lanes:
    """tanh(x), where tail = tanh_tail(x) is known."""
    a = abs(x)
    small = odd_polynomial(a, table.TANH)
    return (a > 0.625).choose(1.0 - tail, small).copysign(x)


def _exp_and_one(x: Lanes) -> Lanes:
    """exp(x) + 1 for x within the limit of tanh, by a short chain of operations.

    The second part of ln2 joins behind the polynomial: what that neglects, its product
    with the reduced argument, is far below a unit for so few multiples of ln2.
    """
    ln2, ln2_low = table.LN2[x.value.type]
    power = Rounded(x, table.INVERSE_LN2[x.value.type][0])
    r = fma(power.nearest, -ln2, x)
    square = r * r
    q = short_polynomial(r, square, table.EXP[x.value.type])
    tail = fma(square, q, fma(power.nearest, -ln2_low, r))
    factor = power_of_two(power)
    return fma(tail, factor, factor + 1.0)


def _half_exp(a: Lanes) -> Lanes:
    """exp(a)/2 for a >= 0, which is finite a little beyond exp's own limit."""
    parts = Exp(a.at_most(EXP_RANGE[a.value.type][1] + 2.0))
    return scale(parts.mantissa() * 0.5, parts.power)


def cosh(x: Lanes) -> Lanes:
    """h + 1/(4h), h = exp(|x|)/2."""
    h = _half_exp(abs(x))
    return h + 0.25 / h


def sinh(x: Lanes) -> Lanes:
    """h - 1/(4h), h = exp(|x|)/2; a polynomial for |x| < 1."""
    a = abs(x)
    h = _half_exp(a)
    small = odd_polynomial(a, table.SINH)
    return (a < 1.0).choose(small, h - 0.25 / h).copysign(x)


def asinh(x: Lanes) -> Lanes:
    """log(sqrt(x*x + 1) + |x|); a polynomial for |x| < 1."""
    a = abs(x)
    small = odd_polynomial(a, table.ASINH)
    total, error = fast_two_sum(fma(a, a, 1.0).sqrt(), a)
    large = _log_or_doubled(a, total, error)
    return (a < 1.0).choose(small, large).copysign(x)


def acosh(x: Lanes) -> Lanes:
    """log(x + sqrt(x*x - 1)) as log1p(t + sqrt(t*t + 2t)), with the exact t = x - 1."""
    t = x - 1.0
    square = fma(t, t, t + t)
    root = square.sqrt()
    rest = fma(-root, root, square) * (0.5 / root.at_least(x.format.smallest_normal))
    high, low = fast_two_sum(root, t)
    total = high + 1.0
    result = _log_or_doubled(x, total, (high - (total - 1.0)) + (low + rest))
    return (x < 1.0).choose(x.const(math.nan), result)


def _log_or_doubled(x: Lanes, total: Lanes, error: Lanes) -> Lanes:
    """log(total + error), or log(2x) where x*x may overflow."""
    huge = x > _HUGE
    total, error = huge.choose(x, total), huge.choose(x.const(0.0), error)
    return log_of_sum(total, error, doubled=huge)


def atanh(x: Lanes) -> Lanes:
    """log1p(2|x|/(1-|x|))/2; a polynomial for |x| < 1/2, so that 1-|x| is exact."""
    a = abs(x)
    large = log1p((a + a) / (1.0 - a)) * 0.5
    return (a < 0.5).choose(odd_polynomial(a, table.ATANH), large).copysign(x)
