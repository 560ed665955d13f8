"""lgamma, digamma and polygamma, computed in double for both types.

Recurrence to where an expansion holds, reflection for negative arguments (DLMF 5.5.2,
5.5.4, 5.11.2, 5.15). Relative accuracy is kept at digamma's positive root; at the roots
between negative integers the error is relative to the reflection's terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from symgrad.codegen import math_coefficients as table
from symgrad.codegen.math_lanes import Lanes, fma, libm, polynomial
from symgrad.codegen.math_log import log
from symgrad.codegen.math_trig import tan_parts

_DIGAMMA_EXPANDS = 8.0
_LGAMMA_EXPANDS = 8.0
_POLYGAMMA_SHIFT = 12


def in_double(function: Callable[[Lanes], Lanes], x: Lanes) -> Lanes:
    """``function`` of x in double precision."""
    if x.value.type == "double":
        return function(x)
    return function(x.convert("fpext", "double")).convert("fptrunc", "float")


def lgamma(x: Lanes) -> Lanes:
    """log|gamma(x)|; infinity at 0, negative integers and infinities.

    Doubles: C's, lane by lane. Floats: computed in double, where the cancellation at
    the roots 1 and 2 leaves as many bits as a float has.
    """
    if x.value.type == "double":
        return libm("lgamma", x)
    return in_double(_lgamma_for_floats, x)


def _lgamma_for_floats(x: Lanes) -> Lanes:
    """Stirling's series of z + 8 or z, z = x or 1 - x, less log(z (z+1) ... (z+7));
    by reflection with the same logarithm (DLMF 5.5.3, 5.11.1)."""
    below = x < 0.5
    z = below.choose(1.0 - x, x)
    near = z < _LGAMMA_EXPANDS
    product = z
    for k in range(1, int(_LGAMMA_EXPANDS)):
        product = product * (z + float(k))
    product = near.choose(product, 1.0)
    series = _stirling(near.choose(z + _LGAMMA_EXPANDS, z))
    rest = x - x.intrinsic("rint")
    sine, _, cosine, _, odd = tan_parts(rest * math.pi)
    sine = abs(odd.choose(cosine, sine))
    ratio = below.choose(product * math.pi, product) / below.choose(sine, 1.0)
    logarithm = log(ratio)
    value = below.choose(logarithm - series, series - logarithm)
    value = (x.equals(1.0) | x.equals(2.0)).choose(x.const(0.0), value)
    return abs(x).equals(math.inf).choose(abs(x), value)


def _stirling(w: Lanes) -> Lanes:
    """lgamma(w) for w >= 8: (w - 1/2) (log(w) - 1) + (log(2 pi) - 1)/2 + ..."""
    inverse = 1.0 / w
    z = inverse * inverse
    terms = [float(b / (2 * k * (2 * k - 1))) for k, b in enumerate(_BERNOULLI, 1)]
    start = fma(inverse, polynomial(z, terms), 0.5 * (math.log(2 * math.pi) - 1.0))
    return fma(w - 0.5, log(w) - 1.0, start)


def digamma(x: Lanes) -> Lanes:
    """psi(x); NaN at negative integers, -infinity at 0, infinity at -0."""
    return in_double(_digamma, x)


def _digamma(x: Lanes) -> Lanes:
    below = x <= 0.0
    y = below.choose(1.0 - x, x)
    value = (y >= _DIGAMMA_EXPANDS).choose(_digamma_large(y), _digamma_small(y))
    cotangent, at_integer = _cot_pi(x)
    reflected = fma(cotangent, -math.pi, value)
    return below.choose(at_integer.choose(_pole(x), reflected), value)


def _pole(x: Lanes) -> Lanes:
    """A pole of odd order: zero tells from which side, other integers do not."""
    return x.equals(0.0).choose(-x.const(math.inf).copysign(x), x.const(math.nan))


def _digamma_large(y: Lanes) -> Lanes:
    """log(y) - 1/(2y) - sum of B_2k/(2k y**2k)."""
    inverse = 1.0 / y
    z = inverse * inverse
    terms = [float(b / (2 * k)) for k, b in enumerate(_BERNOULLI, 1)]
    return log(y) - fma(z, polynomial(z, terms), inverse * 0.5)


def _digamma_small(y: Lanes) -> Lanes:
    """For 0 < y < 8: by psi(w+1) = psi(w) + 1/w to 1 <= w < 2, where psi is (w - root)
    times a polynomial. The reciprocals are summed as one fraction."""
    first = y < 1.0
    w = first.choose(y + 1.0, y)
    above, below = first.choose(y.const(-1.0), 0.0), first.choose(y, 1.0)
    for _ in range(int(_DIGAMMA_EXPANDS) - 2):
        step = w >= 2.0
        w = step.choose(w - 1.0, w)
        factor = step.choose(w, 1.0)
        above = fma(above, factor, step.choose(below, 0.0))
        below = below * factor
    root, middle, low = table.DIGAMMA_ROOT["double"]
    distance = ((w - root) - middle) - low
    near = distance * polynomial(w - 1.5, table.DIGAMMA["double"])
    return near + above / below


def polygamma(order: int, x: Lanes) -> Lanes:
    """The derivative of digamma of the given order, x > 0 and below."""
    if order < 0:
        raise ValueError(f"polygamma: the order is {order}; it must be 0 or more")
    if order == 0:
        return digamma(x)
    return in_double(lambda wide: _polygamma(order, wide), x)


def _polygamma(order: int, x: Lanes) -> Lanes:
    below = x <= 0.0
    y = below.choose(1.0 - x, x)
    sign = -1.0 if order % 2 == 0 else 1.0
    value = _polygamma_size(order, y) * sign
    cotangent, at_integer = _cot_pi(x)
    slope = polynomial(cotangent, _cot_derivative(order))
    reflected = fma(slope, -(math.pi ** (order + 1)), value * -sign)
    if order % 2 == 0:
        reflected = at_integer.choose(_pole(x), reflected)
    else:
        reflected = at_integer.choose(x.const(math.inf), reflected)
    return below.choose(reflected, value)


def _polygamma_size(order: int, y: Lanes) -> Lanes:
    """order! * sum of (y+k)**-(order+1): the first terms, then the expansion."""
    total = y.const(0.0)
    shifted = y + float(_POLYGAMMA_SHIFT)
    inverse = 1.0 / shifted
    z = inverse * inverse
    scale = math.factorial(order - 1)
    terms = [Fraction(scale)]
    for k, b in enumerate(_BERNOULLI, 1):
        ratio = math.factorial(2 * k + order - 1)
        terms.append(b * ratio / math.factorial(2 * k))
    series = polynomial(z, [float(t) for t in terms])
    expansion = fma(inverse, order * scale / 2, series) * _power(inverse, order)
    for k in reversed(range(_POLYGAMMA_SHIFT)):  # the smallest first
        total = total + _power(1.0 / (y + float(k)), order + 1)
    return fma(total, float(math.factorial(order)), expansion)


def _power(x: Lanes, exponent: int) -> Lanes:
    """x**exponent by squaring, exponent >= 1."""
    result = None
    while exponent:
        if exponent & 1:
            result = x if result is None else result * x
        exponent >>= 1
        if exponent:
            x = x * x
    assert result is not None
    return result


def _cot_pi(x: Lanes) -> tuple[Lanes, Lanes]:
    """cot(pi*x), infinite at integers, and where x is one. x - round(x) is exact."""
    rest = x - x.intrinsic("rint")
    sine, _, cosine, _, odd = tan_parts(rest * math.pi)
    cotangent = odd.choose(-sine, cosine) / odd.choose(cosine, sine)
    return cotangent, rest.equals(0.0)


def _cot_derivative(order: int) -> list[float]:
    """cot^(order) as a polynomial in cot: cot' = -(1 + cot**2)."""
    coefficients = [0, 1]
    for _ in range(order):
        slope = [k * c for k, c in enumerate(coefficients)][1:]
        coefficients = [0] * (len(slope) + 2)
        for k, c in enumerate(slope):
            coefficients[k] -= c
            coefficients[k + 2] -= c
    return [float(c) for c in coefficients]


def _bernoulli(count: int) -> list[Fraction]:
    """B_2, B_4, ..., B_2count by their recurrence (DLMF 24.5.3)."""
    numbers = [Fraction(1)]
    for m in range(1, 2 * count + 1):
        total = sum(math.comb(m + 1, k) * b for k, b in enumerate(numbers))
        numbers.append(-Fraction(total) / (m + 1))
    return numbers[2::2]


_BERNOULLI = _bernoulli(9)
