"""Powers of two: multiplying by them, and taking numbers apart into them.

AVX-512 has instructions for both (VSCALEF, VGETEXP, VGETMANT); elsewhere the exponent
field is built with integer shifts. Both ways are exact or correctly rounded, so they
give the same bits, and a scalar may take the second where its vector takes the first.
"""

from __future__ import annotations

from symgrad.codegen.llvm_text import Value
from symgrad.codegen.math_lanes import Format, Lanes, fma

_MASKS = {2: "i8", 4: "i8", 8: "i8", 16: "i16"}
_CURRENT_ROUNDING = 4
_GETMANT_THREE_QUARTERS = 0b1111  # mantissa in [0.75, 1.5); -0 as 1, negatives NaN


def has_avx512(x: Lanes) -> bool:
    """Whether the AVX-512 instructions exist for this many lanes."""
    features = x.emitter.features
    width = x.value.lanes * x.format.bits
    if width == 512:
        return "avx512f" in features
    return width in (128, 256) and {"avx512f", "avx512vl"} <= features


def avx512(name: str, x: Lanes, *args: Value) -> Lanes:
    """``llvm.x86.avx512.mask.<name>`` of x and more, every lane on."""
    emitter, value = x.emitter, x.value
    width = value.lanes * x.format.bits
    tail = [emitter.const(0.0, value.type, value.lanes)]
    tail.append(emitter.const(-1, _MASKS[value.lanes]))
    if width == 512:
        tail.append(emitter.const(_CURRENT_ROUNDING, "i32"))
    full = f"llvm.x86.avx512.mask.{name}.{x.format.suffix}.{width}"
    return x.wrap(
        emitter.raw_call(full, value.type, value.lanes, [value, *args, *tail])
    )


class Rounded:
    """``nearest``: an integer as a float; ``shifted``: the sum that holds it in bits.

    The low bits of ``shifted`` are the integer plus twice the exponent bias, which
    keeps them positive for :func:`scale`.
    """

    __slots__ = ("nearest", "shifted")

    def __init__(self, x: Lanes, factor: float | None) -> None:
        format = x.format
        shift = format.round_shift + 2 * format.bias
        self.shifted = x + shift if factor is None else fma(x, factor, shift)
        self.nearest = self.shifted - shift


def scale(x: Lanes, power: Rounded) -> Lanes:
    """x * 2**power, rounded once, for 2**-100 < |x| < 2; NaN stays NaN.

    Any power in the range of results, subnormal ones and overflow included.
    """
    if has_avx512(x):
        return avx512("scalef", x, power.nearest.value)
    format = x.format
    # 2**power as a product of two halves: the first multiplication is exact.
    total = power.shifted.bits()
    half = total.shift_right_logical(1)
    first = (half << format.mantissa).as_float(format)
    second = ((total - half) << format.mantissa).as_float(format)
    return (x * first) * second


def power_of_two(power: Rounded, offset: int = 0) -> Lanes:
    """2**(power + offset), for a normal result."""
    format = power.shifted.format
    biased = power.shifted.bits() + (offset - format.bias)
    return (biased << format.mantissa).as_float(format)


class Parts:
    """x = mantissa * 2**-negated, 3/4 <= mantissa < 3/2.

    The *negated* exponent, because that is what scales an error of x (log1p).
    Zero, infinity, NaN and negative numbers: see :func:`take_apart`.
    """

    __slots__ = ("exact", "mantissa", "negated")

    def __init__(self, mantissa: Lanes, negated: Lanes, exact: bool) -> None:
        self.mantissa, self.negated, self.exact = mantissa, negated, exact


def take_apart(x: Lanes, subnormals: bool = True) -> Parts:
    """Mantissa and negated exponent of positive ``x``.

    ``exact`` tells whether the exponent of 0 and infinity is infinite and the mantissa
    of negatives and NaN is NaN, so that a logarithm needs no further selection.
    """
    if has_avx512(x):
        control = x.emitter.const(_GETMANT_THREE_QUARTERS, "i32")
        mantissa = avx512("getmant", x, control)
        negated = avx512("getexp", mantissa) - avx512("getexp", x)
        return Parts(mantissa, negated, exact=True)
    return _take_apart_integers(x, subnormals)


def _take_apart_integers(x: Lanes, subnormals: bool) -> Parts:
    format = x.format
    lift, tiny = format.mantissa + 2, None
    if subnormals:
        tiny = x < format.smallest_normal
        x = tiny.choose(x * 2.0**lift, x)
    low_bits, start = (1 << format.mantissa) - 1, _bits_of(0.75, format)
    # The exponent field counts from 3/4, so it changes where the mantissa wraps.
    counted = x.bits() + (_bits_of(1.0, format) - start)
    mantissa = ((counted & low_bits) + start).as_float(format)
    # An integer below 2**mantissa becomes a float under the exponent of 2**mantissa.
    anchor = 2.0**format.mantissa
    field = counted.shift_right_logical(format.mantissa) | _bits_of(anchor, format)
    negated = (anchor + format.bias) - field.as_float(format)
    if tiny is not None:
        negated = tiny.choose(negated + lift, negated)
    return Parts(mantissa, negated, exact=False)


def _bits_of(power: float, format: Format) -> int:
    """The bits of a float with at most one fraction bit set: 2**k or 3/4."""
    mantissa, exponent = power, format.bias
    while mantissa >= 2:
        mantissa, exponent = mantissa / 2, exponent + 1
    while mantissa < 1:
        mantissa, exponent = mantissa * 2, exponent - 1
    fraction = int((mantissa - 1) * (1 << format.mantissa))
    return (exponent << format.mantissa) | fraction
