"""erf and erfc.

Near 0 a polynomial. Beyond, erfc(x) = exp(-x*x) * p(t)/(x+b) with t = (x-c)/(x+c)
(Shepherd and Laframboise, Mathematics of Computation 36, 1981): one polynomial for the
rest of the axis, nearly constant by the choice of b.
"""

from __future__ import annotations

from symgrad.codegen import math_coefficients as table
from symgrad.codegen.math_exp import Exp, exp_reduced
from symgrad.codegen.math_lanes import (
    Lanes,
    fast_two_sum,
    fma,
    polynomial,
    two_product,
    two_sum,
)
from symgrad.codegen.math_scale import power_of_two, scale

_CENTRE, _SHIFT = 4.0, 0.375
_ERF_IS_ONE = {"double": 6.0, "float": 4.0}
_ERFC_IS_ZERO = {"double": 27.5, "float": 10.3}
_ERFC_NEAR = 0.75


def erf(x: Lanes) -> Lanes:
    """1 - erfc(|x|) for |x| >= 1, where erfc's error counts little."""
    type, a = x.value.type, abs(x)
    far = a.at_most(_ERF_IS_ONE[type])
    centred, shifted = far + _CENTRE, far + _SHIFT
    inverse = 1.0 / (centred * shifted)
    t = (far - _CENTRE) * (shifted * inverse)
    p = fma(t, polynomial(t, table.ERFCX[type]), table.ERFCX_MIDDLE[type][0])
    mantissa, power = exp_reduced(-(far * far))
    tail = (mantissa * power_of_two(power)) * (p * (centred * inverse))
    return (a < 1.0).choose(_erf_near(a), 1.0 - tail).copysign(x)


def _erf_near(x: Lanes) -> Lanes:
    return fma(x, polynomial(x * x, table.ERF[x.value.type]), x)


def erfc(x: Lanes) -> Lanes:
    """1 - erf(x) below 0.75, 2 - erfc(|x|) for negative x."""
    near = abs(x) < _ERFC_NEAR
    tail = _erfc_far(abs(x).at_most(_ERFC_IS_ZERO[x.value.type]))
    far = (x < 0.0).choose(2.0 - tail, tail)
    correction = x * polynomial(x * x, table.ERF[x.value.type])
    head, error = fast_two_sum(x.const(1.0), -x)
    return near.choose(head + (error - correction), far)


def _erfc_far(a: Lanes) -> Lanes:
    """erfc(a) for a >= 0.75: every factor with its error, or they would add up."""
    square, square_low = two_product(a, a)
    total, rest = (parts := Exp(-square, -square_low)).mantissa_parts()
    w, w_low = _scaled_tail(a)
    product = fma(total, w, fma(rest, w, total * w_low))
    return scale(product, parts.power)


def _scaled_tail(a: Lanes) -> tuple[Lanes, Lanes]:
    """exp(a*a)*erfc(a) = (middle + t*p(t))/(a + 3/8) as a value and its error.

    t*p(t) is at most a tenth of middle, so its rounding errors are left alone.
    """
    type = a.value.type
    middle, middle_low = table.ERFCX_MIDDLE[type]
    t = (a - _CENTRE) / (a + _CENTRE)
    g, g_low = fast_two_sum(a.const(middle), t * polynomial(t, table.ERFCX[type]))
    below, below_error = two_sum(a, a.const(_SHIFT))
    inverse = 1.0 / below
    miss = fma(-inverse, below_error, fma(-inverse, below, 1.0))
    w, w_low = two_product(g, inverse)
    return w, fma(fma(g, miss, g_low + middle_low), inverse, w_low)
