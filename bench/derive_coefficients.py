"""Derive the coefficients of symgrad's vector math and write them as a module.

    python bench/derive_coefficients.py            report the errors, write nothing
    python bench/derive_coefficients.py --write    write the module

Every table is the polynomial of the given length with the least weighted squares at
many Chebyshev nodes of an interval, in 60-digit arithmetic, rounded to the element
type: within a factor of 2 of the best polynomial (Trefethen, Approximation Theory and
Approximation Practice, 2nd ed., chapter 16), which is a tenth of a coefficient here.
Weights turn errors of the polynomial into relative errors of the function; "bits" is
-log2 of the largest one.
"""

from __future__ import annotations

import argparse
import struct
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mpmath
from mpmath import mp, mpf

mp.dps = 60

Function = Callable[[mpf], mpf]
TARGET = Path(__file__).parent.parent / "symgrad/codegen/math_coefficients.py"
REFITTED = 8  # so many coefficients are rounded before the others are fitted
HALF_LN2 = mp.log(2) / 2
QUARTER_PI = mp.pi / 4


@dataclass(frozen=True)
class Fit:
    """One table: p(x) for function(x) on [low, high], ``double`` and ``float`` terms.

    weight(x) turns an error of p at x into a relative error of the final result.
    """

    name: str
    text: str
    function: Function
    low: mpf
    high: mpf
    double: int
    float: int
    weight: Function


def series(function: Function, terms: list[mpf]) -> Function:
    """``function``, but its power series near 0, where it cancels."""

    def evaluate(x: mpf) -> mpf:
        if abs(x) > mpf(10) ** -8:
            return function(x)
        return mp.fsum(c * x**j for j, c in enumerate(terms))

    return evaluate


def taylor(function: Function, count: int, skip: int, stride: int = 1) -> list[mpf]:
    """Taylor coefficients ``skip``, ``skip + stride``, ... of ``function`` at 0."""
    all_terms = mpmath.taylor(function, 0, skip + stride * count)
    return [mpf(c) for c in all_terms[skip::stride][:count]]


def odd(function: Function) -> Function:
    """(f(x) - x) / x**3 as a function of z = x*x, for odd f with f'(0) = 1."""

    def correction(z: mpf) -> mpf:
        x = mp.sqrt(z)
        return (function(x) - x) / x**3

    return series(correction, taylor(function, 6, 3, 2))


def odd_weight(function: Function) -> Function:
    return lambda z: mp.sqrt(z) ** 3 / function(mp.sqrt(z)) if z else mpf(0)


EXP_TAIL = series(lambda x: (mp.expm1(x) - x) / x**2, taylor(mp.exp, 6, 2))
"""(exp(r) - 1 - r) / r**2"""
EXP2_TAIL = series(lambda x: (mpf(2) ** x - 1) / x, taylor(lambda x: 2**x, 6, 1))
"""(2**r - 1) / r"""
ATANH_TAIL = odd(mp.atanh)
COS_TAIL = series(
    lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, taylor(mp.cos, 6, 4, 2)
)
"""(cos(r) - 1 + z/2) / z**2, z = r**2"""
LOG_DEEP_TAIL = series(
    lambda z: 2 * (ATANH_TAIL(z) - mpf(1) / 3) / z,
    [mpf(2) / (2 * j + 5) for j in range(6)],
)
"""(2*atanh(s)/s - 2 - 2/3*z) / z**2, z = s**2"""
ERF_TERMS = taylor(mp.erf, 6, 1, 2)
ERF_TAIL = series(
    lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1, [ERF_TERMS[0] - 1, *ERF_TERMS[1:]]
)
"""erf(x)/x - 1, z = x**2"""


def odd_fit(name: str, function: Function, limit: mpf, double: int, float: int) -> Fit:
    """f(x) = x + x*z*p(z), z = x**2 <= limit."""
    text = f"{function.__name__}(x) = x + x*z*p(z), z = x**2 <= {mp.nstr(limit, 5)}"
    weight = odd_weight(function)
    return Fit(name, text, odd(function), mpf(0), limit, double, float, weight)


# As in symgrad.codegen.math_erf; they make the function flat: 0.56 to 0.61.
ERFCX_CENTRE, ERFCX_SHIFT = 4, mpf("0.375")


def scaled_erfcx(x: mpf) -> mpf:
    return (x + ERFCX_SHIFT) * mp.exp(x * x) * mp.erfc(x)


ERFCX_MIDDLE = scaled_erfcx(mpf(ERFCX_CENTRE))


def erfcx_fit(name: str, low: mpf, high: mpf, double: int, float: int) -> Fit:
    """(x+3/8)*exp(x**2)*erfc(x) = middle + t*p(t), t = (x-4)/(x+4), low <= x <= high.

    Shepherd and Laframboise, Mathematics of Computation 36, 1981.
    """
    c = ERFCX_CENTRE

    def scaled(t: mpf) -> mpf:
        return scaled_erfcx(c * (1 + t) / (1 - t))

    slope = mpmath.diff(scaled, 0)
    rest = series(lambda t: (scaled(t) - ERFCX_MIDDLE) / t, [slope])
    text = "(x+3/8)*exp(x**2)*erfc(x) = middle + t*p(t), t = (x-4)/(x+4)"
    low, high = ((x - c) / (x + c) for x in (low, high))
    return Fit(name, text, rest, low, high, double, float, lambda t: t / scaled(t))


DIGAMMA_ROOT = mp.findroot(mp.digamma, mpf("1.4616321449683623"))


def digamma_slope(x: mpf) -> mpf:
    """digamma(x) over the distance from its root."""
    distance = x - DIGAMMA_ROOT
    if abs(distance) < mpf(10) ** -20:
        return mp.polygamma(1, DIGAMMA_ROOT)
    return mp.digamma(x) / distance


EXP_LIMIT = HALF_LN2 * mpf("1.002")
SINE_LIMIT = (QUARTER_PI * mpf("1.02")) ** 2
FITS = [
    Fit(
        "EXP",
        "exp(r) = 1 + r + r**2 * p(r), |r| <= ln(2)/2",
        EXP_TAIL,
        -EXP_LIMIT,
        EXP_LIMIT,
        double=10,
        float=5,
        weight=lambda r: r**2 / mp.exp(r),
    ),
    Fit(
        "EXP2",
        "2**r = 1 + r * p(r), |r| <= 1/2",
        EXP2_TAIL,
        -mpf(1) / 2,
        mpf(1) / 2,
        double=11,
        float=6,
        weight=lambda r: r / mpf(2) ** r,
    ),
    Fit(
        "LOG",
        "log(1+f) = 2s + s*z*p(z), s = f/(2+f), z = s**2, 3/4 <= 1+f <= 3/2",
        lambda z: 2 * ATANH_TAIL(z),
        mpf(0),
        mpf("0.04001"),
        double=8,
        float=4,
        weight=odd_weight(mp.atanh),
    ),
    Fit(
        "COS",
        "cos(r) = 1 - z/2 + z**2 * p(z), z = r**2, |r| <= pi/4",
        COS_TAIL,
        mpf(0),
        SINE_LIMIT,
        double=6,
        float=3,
        weight=lambda z: z**2 / mp.cos(mp.sqrt(z)),
    ),
    odd_fit("SIN", mp.sin, SINE_LIMIT, 6, 4),
    odd_fit("SIN_TO_HALF_PI", mp.sin, (mp.pi / 2 * mpf("1.005")) ** 2, 8, 5),
    odd_fit("ATAN", mp.atan, mpf(1) / 4, 12, 6),
    odd_fit("ASIN", mp.asin, mpf(1) / 4, 13, 6),
    odd_fit("SINH", mp.sinh, mpf(1), 7, 4),
    odd_fit("TANH", mp.tanh, mpf(25) / 64, 11, 6),
    odd_fit("ASINH", mp.asinh, mpf(1), 19, 8),
    Fit(
        "INVERSE_CBRT",
        "m**(-1/3) = p(m), 3/4 <= m <= 3/2, a first guess",
        lambda m: 1 / mp.cbrt(m),
        mpf(3) / 4,
        mpf(3) / 2,
        double=5,
        float=3,
        weight=mp.cbrt,
    ),
    Fit(
        "LOG_DEEP",
        "log(1+f) = 2s + s*z*(2/3 + z*p(z)), as LOG, for pow",
        LOG_DEEP_TAIL,
        mpf(0),
        mpf("0.04001"),
        double=8,
        float=0,
        weight=lambda z: z**2 / 2,
    ),
    Fit(
        "ERF",
        "erf(x) = x + x*p(z), z = x**2 <= 1",
        ERF_TAIL,
        mpf(0),
        mpf(1),
        double=12,
        float=7,
        weight=lambda z: 1 / (1 + ERF_TAIL(z)),
    ),
    erfcx_fit("ERFCX", mpf("0.74"), mpf("27.3"), 21, 10),
    Fit(
        "DIGAMMA",
        "digamma(3/2+y) = (3/2 + y - root) * p(y), -1/2 <= y <= 1/2",
        lambda y: digamma_slope(mpf(3) / 2 + y),
        -mpf(1) / 2,
        mpf(1) / 2,
        double=23,
        float=0,
        weight=lambda y: 1 / digamma_slope(mpf(3) / 2 + y),
    ),
    odd_fit("ATANH", mp.atanh, mpf(1) / 4, 13, 6),
]


def rounded(value: mpf, type: str) -> float:
    """``value`` in the element type."""
    if type == "double":
        return float(value)
    return struct.unpack("<f", struct.pack("<f", float(value)))[0]


def bits(fit: Fit, coefficients: list[float], points: int = 400) -> float:
    """-log2 of the largest error of the result that the polynomial causes."""
    worst = mpf(0)
    for i in range(points + 1):
        x = fit.low + (fit.high - fit.low) * i / points
        value = mp.polyval([mpf(c) for c in reversed(coefficients)], x)
        worst = max(worst, abs((value - fit.function(x)) * fit.weight(x)))
    return float(-mp.log(worst, 2)) if worst else float("inf")


def table(fit: Fit, type: str) -> list[float]:
    """Rounded coefficients; none if the fit asks for none.

    The first ones are rounded one by one and the others fitted anew, so that they make
    up for the rounding.
    """
    count = fit.double if type == "double" else fit.float
    found: list[float] = []
    while len(found) < min(count, REFITTED):
        found.append(rounded(least_squares(fit, count, found)[0], type))
    if len(found) < count:
        found += [rounded(c, type) for c in least_squares(fit, count, found)]
    return found


def least_squares(fit: Fit, count: int, known: list[float]) -> list[mpf]:
    """The coefficients after the ``known`` ones, by the weighted error at 6 Chebyshev
    nodes for each of the ``count`` coefficients."""
    points, missing = 6 * count, count - len(known)
    middle, radius = (fit.low + fit.high) / 2, (fit.high - fit.low) / 2
    rows, values = mp.matrix(points, missing), mp.matrix(points, 1)
    head = [mpf(c) for c in reversed(known)]
    for i in range(points):
        x = middle + radius * mp.cos(mp.pi * (2 * i + 1) / (2 * points))
        weight = fit.weight(x)
        offset = mp.polyval(head, x) if head else mpf(0)
        values[i] = weight * (fit.function(x) - offset)
        for j in range(missing):
            rows[i, j] = weight * x ** (j + len(known))
    return list(mp.lu_solve(rows, values))


def in_parts(value: mpf, type: str, parts: int) -> list[float]:
    """``value`` as an unevaluated sum of numbers of the element type.

    The first part is rounded down, so that the second is positive and infinity times
    the value is not infinity minus infinity.
    """
    found: list[float] = []
    for _ in range(parts):
        part = rounded(value, type)
        if part > value and not found:
            part -= 2.0 ** (mp.frexp(value)[1] - (53 if type == "double" else 24))
        found.append(part)
        value -= mpf(part)
    return found


CONSTANTS = {
    "LN2": (mp.log(2), 2),
    "INVERSE_LN2": (1 / mp.log(2), 2),
    "INVERSE_LN10": (1 / mp.log(10), 2),
    "LOG10_2": (mp.log(2) / mp.log(10), 2),
    "HALF_PI": (mp.pi / 2, 3),
    "QUARTER_PI": (mp.pi / 4, 2),
    "TWO_OVER_PI": (2 / mp.pi, 1),
    "INVERSE_PI": (1 / mp.pi, 1),
    "TWO_THIRDS": (mpf(2) / 3, 2),
    "ERFCX_MIDDLE": (ERFCX_MIDDLE, 2),
    "DIGAMMA_ROOT": (DIGAMMA_ROOT, 3),
}

HEADER = '''"""Coefficients of vector math, by element type. Written by a script.

bench/derive_coefficients.py derives, checks and writes this file. Each table is a
polynomial by ascending powers; each constant is an unevaluated sum, largest part first.
"""

# fmt: off

'''


def render() -> str:
    """The module's text."""
    lines = [HEADER]
    for name, (value, parts) in CONSTANTS.items():
        types = {type: in_parts(value, type, parts) for type in ("double", "float")}
        lines += assignment(name, types)
    for fit in FITS:
        types = {type: table(fit, type) for type in ("double", "float")}
        for type, numbers in types.items():
            if numbers:
                print(
                    f"{fit.name:15s}{type:7s}{len(numbers):3d} terms"
                    f"{bits(fit, numbers):6.1f} bits"
                )
        lines += [f"\n# {fit.text}", *assignment(fit.name, types)]
    return "\n".join(lines) + "\n"


def assignment(name: str, types: dict[str, list[float]]) -> list[str]:
    lines = [f"{name} = {{"]
    for type, numbers in types.items():
        if numbers:
            text = textwrap.fill(
                ", ".join(map(repr, numbers)) + ",",
                width=88,
                initial_indent=" " * 8,
                subsequent_indent=" " * 8,
                break_on_hyphens=False,
            )
            lines += [f'    "{type}": (', text, "    ),"]
    return [*lines, "}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write {TARGET.name}")
    text = render()
    if parser.parse_args().write:
        TARGET.write_text(text)


if __name__ == "__main__":
    main()
