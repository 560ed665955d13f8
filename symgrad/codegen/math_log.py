"""log, log2, log10, log1p and what is made of them: softplus, logaddexp, asinh, ...

x = 2**k * m with 3/4 <= m < 3/2, f = m - 1, s = f/(2+f), and

    log(1+f) = 2*atanh(s) = f - (f**2/2 - s*(f**2/2 + s**2*p(s**2))),

where f is exact and everything behind it small (the scheme of FreeBSD's e_log.c; Tang,
ACM TOMS 16, 1990, has the error analysis of such sums).
"""

from __future__ import annotations

import math

from symgrad.codegen import math_coefficients as table
from symgrad.codegen.math_exp import EXP_RANGE, exp_of_negative, sigmoid_from
from symgrad.codegen.math_lanes import Lanes, fast_two_sum, fma, polynomial, two_sum
from symgrad.codegen.math_scale import Parts, avx512, has_avx512, take_apart


def _tail(f: Lanes, half_square: Lanes) -> Lanes:
    """log(1+f) - f + f*f/2."""
    s = f / (f + 2.0)
    z = s * s
    p = polynomial(z, table.LOG[f.value.type])
    return s * fma(z, p, half_square)


def _log_sum(f: Lanes, negated: Lanes, bent: Lanes) -> Lanes:
    """log(1+f) - negated*ln2. bent: f, or 0 where log(1+f) is f."""
    ln2, ln2_low = table.LN2[f.value.type]
    half_square = (bent * 0.5) * bent
    tail = fma(negated, -ln2_low, _tail(bent, half_square))
    return fma(negated, -ln2, f - (half_square - tail))


def _special(x: Lanes, result: Lanes, parts: Parts) -> Lanes:
    """The logarithm of 0, negatives, infinity and NaN, where it is not there yet."""
    if parts.exact:
        return result
    result = (x < math.inf).choose(result, x)
    pole = x.equals(0.0).choose(x.const(-math.inf), math.nan)
    return (x <= 0.0).choose(pole, result)


def log(x: Lanes) -> Lanes:
    parts = take_apart(x)
    f = parts.mantissa - 1.0
    return _special(x, _log_sum(f, parts.negated, f), parts)


def log_of_normal(x: Lanes) -> Lanes:
    """log(x) for positive normal x only."""
    parts = take_apart(x, subnormals=False)
    f = parts.mantissa - 1.0
    return _log_sum(f, parts.negated, f)


def _log_parts(f: Lanes) -> tuple[Lanes, Lanes]:
    """log(1+f) as a rounded value and what is missing, to about 2**-60."""
    half_square = (f * 0.5) * f
    high = f - half_square
    low = fma(f * -0.5, f, f - high) + _tail(f, half_square)
    return fast_two_sum(high, low)


def _other_base(x: Lanes, factor: tuple[float, ...], unit: tuple[float, ...]) -> Lanes:
    """log(x) * factor, where log(2) * factor = unit: integer powers come out exact."""
    parts = take_apart(x)
    high, low = _log_parts(parts.mantissa - 1.0)
    product = high * factor[0]
    rest = fma(high, factor[0], -product) + fma(low, factor[0], high * factor[1])
    if len(unit) == 1:
        whole = -parts.negated
    else:
        whole = parts.negated * -unit[0]
        rest = rest + fma(parts.negated, -unit[0], -whole)
        rest = fma(parts.negated, -unit[1], rest)
    total, error = fast_two_sum(whole, product)
    if parts.exact:  # infinity - infinity in the correction
        error = (abs(whole) < math.inf).choose(error + rest, 0.0)
        return total + error
    return _special(x, total + (error + rest), parts)


def log2(x: Lanes) -> Lanes:
    return _other_base(x, table.INVERSE_LN2[x.value.type], (1.0,))


def log10(x: Lanes) -> Lanes:
    type = x.value.type
    return _other_base(x, table.INVERSE_LN10[type], table.LOG10_2[type])


def _shrink(error: Lanes, parts: Parts) -> Lanes:
    """error * 2**negated, 0 where the error is 0 or NaN (x = -1, infinity, huge)."""
    if has_avx512(error):
        small = avx512("scalef", error, parts.negated.value)
    else:
        format = error.format
        anchor = 1.5 * 2.0**format.mantissa + format.bias
        field = (parts.negated + anchor).bits() << format.mantissa
        small = error * field.as_float(format)
    return error.differs(0.0).choose(small, 0.0)


def log_of_sum(total: Lanes, error: Lanes, doubled: Lanes | None = None) -> Lanes:
    """log(total + error), where error is the rounding error of a sum that gave total.

    In the lanes of the mask ``doubled`` log(2*total), which 2*total might overflow.
    """
    parts = take_apart(total, subnormals=False)
    f = (parts.mantissa - 1.0) + _shrink(error, parts)
    negated = parts.negated
    if doubled is not None:
        negated = doubled.choose(negated - 1.0, negated)
    return _special(total, _log_sum(f, negated, f), parts)


def log1p(x: Lanes) -> Lanes:
    """log(1+x) by the rounding error of 1+x; -0 for -0."""
    total = x + 1.0
    return log_of_sum(total, x - (total - 1.0)).copysign(x)


def softplus(x: Lanes) -> Lanes:
    """log(1+exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    return x.at_least(0.0) + _log1p_unit(exp_of_negative(-abs(x)))


def softplus_sigmoid(x: Lanes) -> tuple[Lanes, Lanes]:
    """softplus and its derivative, sharing the exponential."""
    e = exp_of_negative(-abs(x))
    return x.at_least(0.0) + _log1p_unit(e), sigmoid_from(x, e)


def logaddexp(a: Lanes, b: Lanes) -> Lanes:
    """log(exp(a) + exp(b)) = max + log1p(exp(-|a-b|)); infinities of one sign add up.

    The rounding error of a-b counts: the sum is near 0 where the distance is large.
    """
    swap = a < b
    large, small = swap.choose(b, a), swap.choose(a, b)
    difference, error = two_sum(small, -large)
    error = (difference > EXP_RANGE[a.value.type][0]).choose(error, 0.0)
    difference = a.equals(b).choose(a.const(0.0), difference)
    return large + _log1p_unit(exp_of_negative(difference, error))


def _log1p_unit(e: Lanes) -> Lanes:
    """log(1+e), 0 <= e <= 1: no exponent to extract, no special values but NaN."""
    large = e > 0.5
    f = large.choose(fma(e, 0.5, -0.5), e)
    bent = f
    if e.value.type == "float":
        # In float32 the squares of e = exp(-46) and less are subnormal, and three times
        # as slow; in float64 it takes exp(-355).
        bent = (e < e.format.epsilon * 2.0**-6).choose(e.const(0.0), f)
    return _log_sum(f, large.choose(e.const(-1.0), 0.0), bent)
