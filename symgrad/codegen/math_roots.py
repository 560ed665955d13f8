"""cbrt and hypot."""

from __future__ import annotations

import math

from symgrad.codegen import math_coefficients as table
from symgrad.codegen.math_lanes import Lanes, fma, polynomial, two_product
from symgrad.codegen.math_scale import Rounded, power_of_two, take_apart

_CBRT_2 = 2.0 ** (1 / 3)


def cbrt(x: Lanes) -> Lanes:
    """Without division: a step of fourth order to m**(-1/3), then one for the root."""
    a = abs(x)
    parts = take_apart(a)
    exponent = -parts.negated
    third = Rounded(exponent, 1 / 3)
    rest = exponent - third.nearest * 3.0
    up, down = rest > 0.0, rest < 0.0
    m = parts.mantissa * up.choose(x.const(2.0), down.choose(x.const(0.5), 1.0))
    guess = polynomial(parts.mantissa, table.INVERSE_CBRT[x.value.type])
    factor = up.choose(x.const(1 / _CBRT_2), down.choose(x.const(_CBRT_2), 1.0))
    w = guess * factor
    # m*w**3 = 1 - h, and (1-h)**(-1/3) = 1 + h/3 + 2/9 h**2 + 14/81 h**3 + ...
    h = fma(-(m * w), w * w, 1.0)
    w = fma(w * h, polynomial(h, (1 / 3, 2 / 9, 14 / 81)), w)
    square = w * w
    root = m * square
    squared, squared_low = two_product(root, root)
    missing = fma(-root, squared_low, fma(-squared, root, m))
    root = fma(missing, square * (1 / 3), root) * power_of_two(third)
    ordinary = (a > 0.0) & (a < math.inf)
    return ordinary.choose(root.copysign(x), x)


def hypot(a: Lanes, b: Lanes) -> Lanes:
    """sqrt(a*a + b*b) without overflow; infinity where either is, even beside NaN."""
    a, b = abs(a), abs(b)
    format = a.format
    swap = a < b
    large, small = swap.choose(b, a), swap.choose(a, b)
    # The exponent of the larger, kept where its reciprocal and its double are normal.
    kept = large.at_least(format.smallest_normal).at_most(2.0 ** (format.bias - 2))
    exponent = kept.bits() & (
        ((1 << (format.bits - 1)) - 1) ^ ((1 << format.mantissa) - 1)
    )
    back = exponent.as_float(format)
    shrink = (exponent.const((2 * format.bias) << format.mantissa) - exponent).as_float(
        format
    )
    large, small = large * shrink, small * shrink
    result = fma(large, large, small * small).sqrt() * back
    infinite = a.equals(math.inf) | b.equals(math.inf)
    return infinite.choose(a.const(math.inf), result)
