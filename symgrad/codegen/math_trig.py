"""sin, cos, tan and their inverses.

Arguments are reduced by pi/2 in three parts (Cody and Waite 1980), each of full
precision because FMA makes x - k*part exact while it cancels; the reduced argument and
its rounding error reach the polynomials. Larger arguments than the parts allow go to
libm, lane by lane, in a branch that is not taken otherwise.
"""

from __future__ import annotations

import math

from symgrad.codegen import math_coefficients as table
from symgrad.codegen.math_lanes import (
    Lanes,
    divide,
    fast_two_sum,
    fma,
    libm_where,
    polynomial,
    two_product,
)

# Up to here k fits the rounding constant with bits to spare, and k times the error of
# the three parts is far below the smallest reduced argument.
_LARGEST = {"double": 2.0**30, "float": 2.0**17}


def _reduced(x: Lanes, k: Lanes) -> tuple[Lanes, Lanes]:
    """x - k*pi/2 and its rounding error, for a result below 2."""
    first, second, third = table.HALF_PI[x.value.type]
    exact = fma(k, -first, x)
    product, missing = two_product(k, k.const(second))
    r = exact - product
    error = ((exact - r) - product) - missing
    return r, fma(k, -third, error)


def signed_sine(r: Lanes, error: Lanes, parity: Lanes) -> Lanes:
    """sin(r + error), |r| <= pi/2, negated where ``parity`` is odd; -0 for r = -0."""
    z = r * r
    p = polynomial(z, table.SIN_TO_HALF_PI[r.value.type])
    # To first order, with factors good to a few percent of an error: what the rounding
    # of z costs (d/dz of sin(sqrt(z))/sqrt(z) is about -0.13), and cos(r).
    lost = (r * -0.13) * fma(r, r, -z)
    slope = fma(z, -0.4053, 1.0)
    sine = r + fma(r * z, p, fma(error, slope, lost))
    sign = (r.bits() ^ (parity << (r.format.bits - 1))).as_float(r.format)
    return sine.copysign(sign)


def sin(x: Lanes) -> Lanes:
    """(-1)**j * sin(x - j*pi)."""
    shift = x.format.round_shift
    shifted = fma(x, table.INVERSE_PI[x.value.type][0], shift)
    r, error = _reduced(x, (shifted - shift) * 2.0)
    value = signed_sine(r, error, shifted.bits())
    return libm_where(_is_large(x), "sin", x, value)


def cos(x: Lanes) -> Lanes:
    """(-1)**j * sin(x - (j - 1/2)*pi)."""
    shift = x.format.round_shift
    shifted = fma(x, table.INVERSE_PI[x.value.type][0], 0.5) + shift
    r, error = _reduced(x, fma(shifted - shift, 2.0, -1.0))
    value = signed_sine(r, error, shifted.bits())
    return libm_where(_is_large(x), "cos", x, value)


def _is_large(x: Lanes) -> Lanes:
    return abs(x) > _LARGEST[x.value.type]


def tan_parts(x: Lanes) -> tuple[Lanes, ...]:
    """sin and cos of r = x - k*pi/2, |r| <= pi/4, each with its error, and odd k."""
    shift = x.format.round_shift
    shifted = fma(x, table.TWO_OVER_PI[x.value.type][0], shift)
    r, error = _reduced(x, shifted - shift)
    z = r * r
    half = z * 0.5
    head, lost = fast_two_sum(r.const(1.0), -half)
    q = polynomial(z, table.COS[r.value.type])
    cosine, cosine_error = fast_two_sum(head, fma(z * z, q, fma(-r, error, lost)))
    p = polynomial(z, table.SIN[r.value.type])
    sine, sine_error = fast_two_sum(r, fma(r * z, p, error))
    return sine, sine_error, cosine, cosine_error, (shifted.bits() & 1).equals(1)


def tan(x: Lanes) -> Lanes:
    """sin/cos, or -cos/sin in odd quadrants."""
    sine, sine_error, cosine, cosine_error, odd = tan_parts(x)
    above, above_error = (
        odd.choose(-cosine, sine),
        odd.choose(-cosine_error, sine_error),
    )
    below, below_error = odd.choose(sine, cosine), odd.choose(sine_error, cosine_error)
    value = divide(above, below, below_error, above_error)
    tiny = abs(x) < x.format.epsilon
    value = tiny.choose(x, value)
    return libm_where(_is_large(x), "tan", x, value)


def _atan_of_ratio(v: Lanes, u: Lanes, mirrored: Lanes | None = None) -> Lanes:
    """atan(v/u) for v, u >= 0; in the lanes of ``mirrored`` pi minus that.

    One division: v/u up to 1/2, (v-u)/(v+u) up to 2, -u/v beyond, so |t| <= 1/2, added
    to a multiple of pi/4.
    """
    small = v + v <= u
    big = v >= u + u
    above = small.choose(v, big.choose(-u, v - u))
    below = small.choose(u, big.choose(v, v + u))
    turns = small.choose(v.const(0.0), big.choose(v.const(2.0), 1.0))
    t = above / below
    if mirrored is not None:
        turns = mirrored.choose(4.0 - turns, turns)
        t = mirrored.choose(-t, t)
    quarter, quarter_low = table.QUARTER_PI[v.value.type]
    z = t * t
    p = polynomial(z, table.ATAN[v.value.type])
    return fma(turns, quarter, t + fma(t * z, p, turns * quarter_low))


def atan(x: Lanes) -> Lanes:
    return _atan_of_ratio(abs(x), x.const(1.0)).copysign(x)


def atan2(y: Lanes, x: Lanes) -> Lanes:
    """The angle of (x, y), with C's answers at zeros and infinities."""
    v, u = abs(y), abs(x)
    # v + u must not overflow, nor may 0/0 or infinity/infinity be asked for.
    fits = (v < y.format.smallest_normal**-1) & (u < y.format.smallest_normal**-1)
    v, u = fits.choose(v, v * 0.25), fits.choose(u, u * 0.25)
    infinite = v.equals(math.inf) & u.equals(math.inf)
    v, u = infinite.choose(v.const(1.0), v), infinite.choose(u.const(1.0), u)
    pole = v.equals(0.0) & u.equals(0.0)
    u = pole.choose(u.const(1.0), u)
    negative = x.const(1.0).copysign(x) < 0.0
    return _atan_of_ratio(v, u, mirrored=negative).copysign(y)


def _asin_parts(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """(large, s, v): asin(s) = s + v, s = |x|, or sqrt((1-|x|)/2) where |x| > 1/2."""
    a = abs(x)
    large = a > 0.5
    z = large.choose(fma(a, -0.5, 0.5), a * a)
    s = large.choose(z.sqrt(), a)
    v = (s * z) * polynomial(z, table.ASIN[x.value.type])
    return large, s, v


def asin(x: Lanes) -> Lanes:
    """pi/2 - 2*asin(sqrt((1-|x|)/2)) for |x| > 1/2."""
    half_pi, half_pi_low, _ = table.HALF_PI[x.value.type]
    large, s, v = _asin_parts(x)
    far, error = fast_two_sum(x.const(half_pi), s * -2.0)
    far = far + (error - fma(v, 2.0, -half_pi_low))
    return large.choose(far, s + v).copysign(x)


def acos(x: Lanes) -> Lanes:
    """2*asin(sqrt((1-x)/2)) for x > 1/2, mirrored for x < -1/2, else pi/2 - asin(x)."""
    half_pi, half_pi_low, _ = table.HALF_PI[x.value.type]
    large, s, v = _asin_parts(x)
    positive = s + v
    from_middle = large.choose(s, s.copysign(x))
    rest = large.choose(v, v.copysign(x)) - half_pi_low
    middle = half_pi - (from_middle + rest)
    value = (large & (x > 0.0)).choose(positive, middle)
    return large.choose(value + value, value)
