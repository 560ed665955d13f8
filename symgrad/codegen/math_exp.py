"""exp, exp2, expm1 and sigmoid.

exp: x = k*ln2 + r by two parts of ln2 (Cody and Waite, Software Manual for the
Elementary Functions, 1980), a polynomial for exp(r), and one scaling by 2**k (Muller et
al., Handbook of Floating-Point Arithmetic, 2nd ed., chapter 10). With FMA the first
part of ln2 may have all its bits: x - k*LN2 is exact. ``Exp`` keeps the reduced
argument's rounding error, for functions where plain exp's 1 ULP would grow.
"""

from __future__ import annotations

from symgrad.codegen import math_coefficients as table
from symgrad.codegen.math_lanes import Lanes, divide, fast_two_sum, fma, polynomial
from symgrad.codegen.math_scale import Rounded, power_of_two, scale

# Beyond these exp is infinity and 0 (float32: their own), with room to spare.
EXP_RANGE = {"double": (-746.0, 710.0), "float": (-104.0, 89.0)}
_EXP2_RANGE = {"double": (-1076.0, 1025.0), "float": (-151.0, 129.0)}
_EXPM1_RANGE = {"double": (-40.0, 710.0), "float": (-20.0, 89.0)}


class Exp:
    """exp(x) = 2**power * (1 + high + tail), high + tail = expm1(reduced argument).

    ``high`` is the rounded reduced argument; ``tail`` holds the polynomial and the
    reduction's rounding error.
    """

    __slots__ = ("high", "power", "tail")

    def __init__(self, x: Lanes, low: Lanes | None = None) -> None:
        """exp(x + low), low at most some units in the last place of x."""
        ln2, ln2_low = table.LN2[x.value.type]
        self.power = Rounded(x, table.INVERSE_LN2[x.value.type][0])
        k = self.power.nearest
        exact = fma(k, -ln2, x)
        if low is None:
            self.high = fma(k, -ln2_low, exact)
            error = fma(k, -ln2_low, exact - self.high)
        else:
            self.high, error = fast_two_sum(exact, fma(k, -ln2_low, low))
        q = polynomial(self.high, table.EXP[x.value.type])
        self.tail = fma(self.high * self.high, q, error)

    def mantissa_parts(self) -> tuple[Lanes, Lanes]:
        """1 + high + tail as a rounded sum and what it lacks."""
        total, error = fast_two_sum(self.high.const(1.0), self.high)
        return total, error + self.tail

    def mantissa(self) -> Lanes:
        """1 + high + tail, rounded once but for the error of the tail."""
        total, rest = self.mantissa_parts()
        return total + rest


def exp_reduced(x: Lanes) -> tuple[Lanes, Rounded]:
    """exp(r) and k, for x = k*ln2 + r: the fast form, about 1 ULP."""
    ln2, ln2_low = table.LN2[x.value.type]
    power = Rounded(x, table.INVERSE_LN2[x.value.type][0])
    r = fma(power.nearest, -ln2_low, fma(power.nearest, -ln2, x))
    q = polynomial(r, table.EXP[x.value.type])
    return fma(r * r, q, r) + 1.0, power


def exp(x: Lanes) -> Lanes:
    """Overflow to infinity, gradual underflow to 0."""
    low, high = EXP_RANGE[x.value.type]
    mantissa, power = exp_reduced(x.at_most(high).at_least(low))
    return scale(mantissa, power)


def exp_of_negative(x: Lanes, low: Lanes | None = None) -> Lanes:
    """exp(x + low) for x <= 0, to about 0.6 ULP."""
    parts = Exp(x.at_least(EXP_RANGE[x.value.type][0]), low)
    return scale(parts.mantissa(), parts.power)


def exp2(x: Lanes) -> Lanes:
    """Exact at integers: the reduction has no error."""
    low, high = _EXP2_RANGE[x.value.type]
    x = x.at_most(high).at_least(low)
    power = Rounded(x, None)
    r = x - power.nearest
    return scale(fma(r, polynomial(r, table.EXP2[x.value.type]), 1.0), power)


def expm1(x: Lanes) -> Lanes:
    """exp(x) - 1 with full relative accuracy near 0; -0 for -0.

    Computed at half its size, because 2**1024 is no double.
    """
    low, high = _EXPM1_RANGE[x.value.type]
    parts = Exp(x.at_most(high).at_least(low))
    half = power_of_two(parts.power, -1)
    result = _expm1_sum(parts, half, half - 0.5) * 2.0
    tiny = abs(x) < x.format.epsilon
    return tiny.choose(x, result)


def _expm1_sum(parts: Exp, factor: Lanes, offset: Lanes) -> Lanes:
    """factor * (high + tail) + offset, with the sum of the large parts compensated."""
    total, error = fast_two_sum(offset, factor * parts.high)
    return total + fma(factor, parts.tail, error)


def sigmoid(x: Lanes) -> Lanes:
    """1/(1+exp(-x)), by exp of -|x|, so that small results keep their accuracy."""
    return sigmoid_from(x, exp_of_negative(-abs(x)))


def sigmoid_tail(x: Lanes) -> Lanes:
    """sigmoid(-|x|)."""
    e = exp_of_negative(-abs(x))
    below, error = fast_two_sum(x.const(1.0), e)
    return divide(e, below, error)


def sigmoid_from(x: Lanes, e: Lanes) -> Lanes:
    """sigmoid(x) where e = exp(-|x|) is known."""
    above = (x < 0.0).choose(e, x.const(1.0))
    below, error = fast_two_sum(x.const(1.0), e)
    return divide(above, below, error)
