"""x**y: exp(y*log|x|) with the logarithm and the product in two words each.

float64: log|x| to about 2**-64 relative, as FreeBSD's e_pow.c has it but with FMA for
the exact products; then the result is good to 1 ULP where |y*log|x|| is near 700.
float32: plain double arithmetic has bits to spare.
"""

from __future__ import annotations

import math

from symgrad.codegen import math_coefficients as table
from symgrad.codegen.math_exp import Exp, exp_reduced
from symgrad.codegen.math_lanes import (
    Lanes,
    fast_two_sum,
    fma,
    polynomial,
    two_product,
)
from symgrad.codegen.math_log import log_of_normal
from symgrad.codegen.math_scale import power_of_two, scale, take_apart

_EXPONENT_LIMIT = 800.0  # exp overflows, and underflows to 0, before this
_FLOAT_LIMIT = 120.0


def pow(x: Lanes, y: Lanes) -> Lanes:
    """C's pow, annex F included: pow(x, 0) = pow(1, y) = 1 even for NaN."""
    a = abs(x)
    size = _float_size(a, y) if x.value.type == "float" else _double_size(a, y)
    return _special(x, y, a, size)


def _float_size(a: Lanes, y: Lanes) -> Lanes:
    """a**y for ordinary a > 0, by way of double."""
    wide, power = a.convert("fpext", "double"), y.convert("fpext", "double")
    exponent = power * log_of_normal(wide)
    limited = exponent.at_most(_FLOAT_LIMIT).at_least(-_FLOAT_LIMIT)
    mantissa, scaling = exp_reduced(limited)
    return (mantissa * power_of_two(scaling)).convert("fptrunc", "float")


def _double_size(a: Lanes, y: Lanes) -> Lanes:
    """a**y for ordinary a > 0."""
    high, low = _log_two_words(a)
    exponent, rest = two_product(y, high)
    rest = fma(y, low, rest)
    rest = (abs(exponent) < _EXPONENT_LIMIT).choose(rest, 0.0)
    limited = exponent.at_most(_EXPONENT_LIMIT).at_least(-_EXPONENT_LIMIT)
    parts = Exp(limited, rest)
    return scale(parts.mantissa(), parts.power)


def _log_two_words(a: Lanes) -> tuple[Lanes, Lanes]:
    """log(a) as high + low."""
    parts = take_apart(a)
    high, low = _log_of_mantissa(parts.mantissa - 1.0)
    ln2, ln2_low = table.LN2["double"]
    whole, lost = two_product(parts.negated, a.const(-ln2))
    total, error = fast_two_sum(whole, high)
    return total, (error + low) + fma(parts.negated, -ln2_low, lost)


def _log_of_mantissa(f: Lanes) -> tuple[Lanes, Lanes]:
    """log(1+f) = 2s + s*z*(2/3 + z*p(z)), with two words for all but z*p(z)."""
    below, below_error = fast_two_sum(f.const(2.0), f)
    inverse = 1.0 / below
    s = f * inverse
    s_low = fma(-s, below_error, fma(-s, below, f)) * inverse
    z, z_low = two_product(s, s)
    z_low = fma(s + s, s_low, z_low)
    third, third_low = table.TWO_THIRDS["double"]
    q = z * polynomial(z, table.LOG_DEEP["double"])
    c, c_low = fast_two_sum(f.const(third), q)
    cube, cube_low = two_product(s, z)
    cube_low = fma(s, z_low, fma(s_low, z, cube_low))
    tail, tail_low = two_product(cube, c)
    tail_low = fma(cube, c_low + third_low, fma(cube_low, c, tail_low))
    high, low = fast_two_sum(s + s, tail)
    return high, low + (tail_low + (s_low + s_low))


def _special(x: Lanes, y: Lanes, a: Lanes, size: Lanes) -> Lanes:
    """Signs, poles, infinities and NaN around the size |x|**y."""
    one, nan, infinity = x.const(1.0), x.const(math.nan), x.const(math.inf)
    y_infinite = abs(y).equals(math.inf)
    edge = a.equals(0.0) | a.equals(math.inf) | y_infinite
    grows = (a > 1.0) ^ (y < 0.0)
    size = edge.choose(grows.choose(infinity, 0.0), size)
    whole = y.intrinsic("rint").equals(y)
    half = y * 0.5
    odd = whole & ~half.intrinsic("rint").equals(half)
    result = odd.choose(size.copysign(x), size)
    refused = (x < 0.0) & (a < math.inf) & ~whole
    result = (refused | x.is_nan() | y.is_nan()).choose(nan, result)
    unit = x.equals(1.0) | y.equals(0.0) | (a.equals(1.0) & y_infinite)
    return unit.choose(one, result)
