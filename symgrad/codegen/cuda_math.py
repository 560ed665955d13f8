"""What C's library does on the processor, for targets that have none.

The vector math calls libm in a few rare cases: sin, cos and tan of large arguments,
lgamma, and the floating remainder. These are the same functions as subroutines in
double precision; float32 goes through them and is rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from symgrad.codegen.llvm_text import Emitter, Value
from symgrad.codegen.math_lanes import Lanes, fma, polynomial, two_sum
from symgrad.codegen.math_log import log, log1p
from symgrad.codegen.math_trig import signed_sine, sin

# The first 20 words of the binary digits of 2/pi, with one word of zeros in front, so
# that the window of an argument just above the threshold starts inside the table.
_TWO_OVER_PI = (
    "0 a2f9836e4e441529 fc2757d1f534ddc0 db6295993c439041 fe5163abdebbc561 "
    "b7246e3a424dd2e0 06492eea09d1921c fe1deb1cb129a73e e88235f52ebb4484 "
    "e99c7026b45f7e41 3991d639835339f4 9c845f8bbdf9283b 1ff897ffde05980f "
    "ef2f118b5a0a6d1f 6d367ecf27cb09b7 4f463f669e5fea2d 7527bac7ebe5f17b "
    "3d0739f78a5292ea 6bfb5fb11f8d5d08 56033046fc7b6bab f0cfbc209af4361d"
).split()

_HALF_PI = (math.pi / 2, 6.123233995736766e-17)

_REDUCE = """
@two_over_pi = internal constant [{count} x i64] [{words}]

define internal {{ double, double, i64 }} @reduce_by_half_pi(double %x) noinline {{
  %bits = bitcast double %x to i64
  %exponent = lshr i64 %bits, 52
  %fraction = and i64 %bits, 4503599627370495
  %m = or i64 %fraction, 4503599627370496
  ; x = m * 2**(exponent - 1075); the window starts two bits above the binary point
  %first = sub i64 %exponent, {first}
  %word = lshr i64 %first, 6
  %shift = and i64 %first, 63
  %word1 = add i64 %word, 1
  %word2 = add i64 %word, 2
  %word3 = add i64 %word, 3
  %at0 = getelementptr i64, ptr @two_over_pi, i64 %word
  %at1 = getelementptr i64, ptr @two_over_pi, i64 %word1
  %at2 = getelementptr i64, ptr @two_over_pi, i64 %word2
  %at3 = getelementptr i64, ptr @two_over_pi, i64 %word3
  %a0 = load i64, ptr %at0
  %a1 = load i64, ptr %at1
  %a2 = load i64, ptr %at2
  %a3 = load i64, ptr %at3
  %w0 = call i64 @llvm.fshl.i64(i64 %a0, i64 %a1, i64 %shift)
  %w1 = call i64 @llvm.fshl.i64(i64 %a1, i64 %a2, i64 %shift)
  %w2 = call i64 @llvm.fshl.i64(i64 %a2, i64 %a3, i64 %shift)
  ; the product modulo 2**192, whose first two bits are the quadrant
  %wide = zext i64 %m to i128
  %x2 = zext i64 %w2 to i128
  %x1 = zext i64 %w1 to i128
  %y2 = mul i128 %wide, %x2
  %y1 = mul i128 %wide, %x1
  %p2 = trunc i128 %y2 to i64
  %carry2 = lshr i128 %y2, 64
  %z1 = add i128 %y1, %carry2
  %p1 = trunc i128 %z1 to i64
  %carry1 = lshr i128 %z1, 64
  %c1 = trunc i128 %carry1 to i64
  %y0 = mul i64 %m, %w0
  %p0 = add i64 %y0, %c1
  %quadrant = lshr i64 %p0, 62
  %high = call i64 @llvm.fshl.i64(i64 %p0, i64 %p1, i64 2)
  %low = call i64 @llvm.fshl.i64(i64 %p1, i64 %p2, i64 2)
  ; to the nearest multiple: a fraction in [-1/2, 1/2)
  %upper = icmp slt i64 %high, 0
  %one = zext i1 %upper to i64
  %k = add i64 %quadrant, %one
  %flipped_low = sub i64 0, %low
  %borrow = icmp ne i64 %low, 0
  %borrowed = zext i1 %borrow to i64
  %negated = sub i64 0, %high
  %flipped_high = sub i64 %negated, %borrowed
  %h = select i1 %upper, i64 %flipped_high, i64 %high
  %l = select i1 %upper, i64 %flipped_low, i64 %low
  ; as two doubles: 53 bits, then the rest
  %zeros = call i64 @llvm.ctlz.i64(i64 %h, i1 false)
  %turn = and i64 %zeros, 63
  %n = call i64 @llvm.fshl.i64(i64 %h, i64 %l, i64 %turn)
  %leading = and i64 %n, -2048
  %trailing = and i64 %n, 2047
  %f0 = uitofp i64 %leading to double
  %f1 = uitofp i64 %trailing to double
  %scale_exponent = sub i64 959, %turn
  %scale_bits = shl i64 %scale_exponent, 52
  %scale = bitcast i64 %scale_bits to double
  %negative_scale = fneg double %scale
  %signed = select i1 %upper, double %negative_scale, double %scale
  %g0 = fmul double %f0, %signed
  %g1 = fmul double %f1, %signed
  %r = fmul double %g0, {high}
  %minus = fneg double %r
  %missing = call double @llvm.fma.f64(double %g0, double {high}, double %minus)
  %more = call double @llvm.fma.f64(double %g0, double {low}, double %missing)
  %error = call double @llvm.fma.f64(double %g1, double {high}, double %more)
  %sum = fadd double %r, %error
  %taken = fsub double %r, %sum
  %rest = fadd double %taken, %error
  %s0 = insertvalue {{ double, double, i64 }} poison, double %sum, 0
  %s1 = insertvalue {{ double, double, i64 }} %s0, double %rest, 1
  %s2 = insertvalue {{ double, double, i64 }} %s1, i64 %k, 2
  ret {{ double, double, i64 }} %s2
}}
"""
"""|x| as k*pi/2 + r, |r| <= pi/4, from the digits of 2/pi that matter (Payne and Hanek
1983): those further left make multiples of a full turn."""

_USED = (
    "declare double @llvm.fma.f64(double, double, double)",
    "declare i64 @llvm.fshl.i64(i64, i64, i64)",
    "declare i64 @llvm.ctlz.i64(i64, i1)",
)

_FMOD = """
define internal double @remainder(double %x, double %y) noinline {
entry:
  %xb = bitcast double %x to i64
  %yb = bitcast double %y to i64
  %xm = and i64 %xb, 9223372036854775807
  %ym = and i64 %yb, 9223372036854775807
  %sign = and i64 %xb, -9223372036854775808
  %x_bad = icmp uge i64 %xm, 9218868437227405312
  %y_bad = icmp ugt i64 %ym, 9218868437227405312
  %y_zero = icmp eq i64 %ym, 0
  %bad0 = or i1 %x_bad, %y_bad
  %bad = or i1 %bad0, %y_zero
  %smaller = icmp ult i64 %xm, %ym
  %product = fmul double %x, %y
  %nan = fdiv double %product, %product
  br i1 %bad, label %wrong, label %fine
wrong:
  ret double %nan
fine:
  br i1 %smaller, label %same, label %work
same:
  ret double %x
work:
  %xe0 = lshr i64 %xm, 52
  %ye0 = lshr i64 %ym, 52
  %xf = and i64 %xm, 4503599627370495
  %yf = and i64 %ym, 4503599627370495
  %x_normal = icmp ne i64 %xe0, 0
  %y_normal = icmp ne i64 %ye0, 0
  %xi = select i1 %x_normal, i64 4503599627370496, i64 0
  %yi = select i1 %y_normal, i64 4503599627370496, i64 0
  %xe = select i1 %x_normal, i64 %xe0, i64 1
  %ye = select i1 %y_normal, i64 %ye0, i64 1
  %a0 = or i64 %xf, %xi
  %b = or i64 %yf, %yi
  %start = urem i64 %a0, %b
  %turns = sub i64 %xe, %ye
  br label %head
head:
  ; eleven bits at a time: the remainder is below 2**53
  %r = phi i64 [ %start, %work ], [ %next, %body ]
  %left = phi i64 [ %turns, %work ], [ %fewer, %body ]
  %more = icmp sgt i64 %left, 0
  br i1 %more, label %body, label %done
body:
  %many = icmp sgt i64 %left, 11
  %step = select i1 %many, i64 11, i64 %left
  %shifted = shl i64 %r, %step
  %next = urem i64 %shifted, %b
  %fewer = sub i64 %left, %step
  br label %head
done:
  ; r * 2**(ye - 1075), in two exact steps
  %value = uitofp i64 %r to double
  %scaled = sub i64 %ye, 52
  %half0 = ashr i64 %scaled, 1
  %half1 = sub i64 %scaled, %half0
  %e0 = add i64 %half0, 512
  %e1 = add i64 %half1, 511
  %b0 = shl i64 %e0, 52
  %b1 = shl i64 %e1, 52
  %s0 = bitcast i64 %b0 to double
  %s1 = bitcast i64 %b1 to double
  %v0 = fmul double %value, %s0
  %v1 = fmul double %v0, %s1
  %magnitude = bitcast double %v1 to i64
  %result_bits = or i64 %magnitude, %sign
  %result = bitcast i64 %result_bits to double
  ret double %result
}
"""
"""C's fmod, exactly, on significands as integers."""

_LGAMMA_NEAR_TWO = (
    0.42278433509846713, 0.3224670334241132, -0.0673523010531981,
    0.020580808427784546, -0.007385551028673986, 0.0028905103307415234,
    -0.001192753911703261, 0.0005096695247430425, -0.00022315475845357939,
    9.945751278180853e-05, -4.492623673813314e-05, 2.050721277567069e-05,
    -9.439488275268397e-06, 4.374866789907488e-06, -2.039215753801366e-06,
    9.55141213040742e-07, -4.492469198764566e-07, 2.1207184805554665e-07,
    -1.0043224823968099e-07, 4.7698101693639804e-08, -2.2711094608943164e-08,
    1.0838659214896955e-08, -5.183475041970047e-09, 2.4836745438024785e-09,
    -1.1921401405860912e-09, 5.731367241678862e-10,
)  # fmt: skip
"""1 - gamma, then (-1)**k (zeta(k) - 1)/k: lgamma(2 + z) = z * sum c[k] z**k, whose
terms fall like 4**-k for |z| <= 1/2 (DLMF 5.7.3)."""

_STIRLING = (
    0.08333333333333333, -0.002777777777777778, 0.0007936507936507937,
    -0.0005952380952380953, 0.0008417508417508417, -0.0019175269175269176,
    0.00641025641025641, -0.029550653594771242,
)  # fmt: skip
"""B_2k / (2k (2k - 1)): DLMF 5.11.1, from 8 on."""

_LARGE = 8.0
_HALF_LOG_TWO_PI = 0.9189385332046728
_LOG_PI = 1.1447298858494002


def call(emitter: Emitter, symbol: str, args: list[Value]) -> Value:
    """C's ``symbol`` of doubles or floats, as a subroutine of the module."""
    single = args[0].type == "float"
    name = symbol.removesuffix("f") if single else symbol
    if single:
        args = [emitter.convert("fpext", a, "double") for a in args]
    result = emitter.call_internal(_written(emitter, name), "double", 1, args)
    return emitter.convert("fptrunc", result, "float") if single else result


def _written(emitter: Emitter, name: str) -> str:
    """The name of the subroutine, written on first use."""
    full = "remainder" if name == "fmod" else f"rare_{name}"
    module = emitter.module
    if full in module.internal:
        return full
    module.internal.add(full)
    if name == "fmod":
        module.functions.append(_FMOD)
        return full
    inner = type(emitter)(module, emitter.features)
    x = Lanes(inner, Value("%x", "double"))
    result = _FUNCTIONS[name](x)
    inner.finish(full, ["double %x"], result.value, "noinline", linkage="internal")
    return full


# --- sin, cos and tan of large arguments ----------------------------------------------


def _reduction(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """(r, error, k) of |x| = k*pi/2 + r + error; NaN for infinity and NaN."""
    emitter = x.emitter
    module = emitter.module
    if "reduce_by_half_pi" not in module.internal:
        module.internal.add("reduce_by_half_pi")
        high, low = (emitter.const(c, "double").name for c in _HALF_PI)
        words = ", ".join(f"i64 {_signed(int(w, 16))}" for w in _TWO_OVER_PI)
        module.functions.append(
            _REDUCE.format(
                count=len(_TWO_OVER_PI), words=words, first=1013, high=high, low=low
            )
        )
        for line in _USED:
            module.declarations[line] = None
    finite = abs(x) < math.inf
    safe = finite.choose(abs(x), 1e30)
    kind = "{ double, double, i64 }"
    emitter.raw(f"%parts = call {kind} @reduce_by_half_pi(double {safe.value.name})")
    for k, name in enumerate(("%r", "%e", "%k")):
        emitter.raw(f"{name} = extractvalue {kind} %parts, {k}")
    r, error = (x.wrap(Value(n, "double")) for n in ("%r", "%e"))
    return finite.choose(r, math.nan), error, x.wrap(Value("%k", "i64"))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _sine(r: Lanes, error: Lanes, k: Lanes) -> Lanes:
    """sin(k*pi/2 + r + error): an odd k moves r by a right angle, towards zero."""
    odd = (k & 1).equals(1)
    above = r >= 0.0
    quarter = above.choose(r.const(-_HALF_PI[0]), _HALF_PI[0])
    rest = above.choose(r.const(-_HALF_PI[1]), _HALF_PI[1])
    moved, lost = two_sum(quarter, r)
    turned = above.choose(k + 1, k - 1)
    angle = odd.choose(moved, r)
    missing = odd.choose((lost + rest) + error, error)
    parity = odd.choose(turned, k) >> 1
    return signed_sine(angle, missing, parity)


def _large_sin(x: Lanes) -> Lanes:
    value = _sine(*_reduction(x))
    return (x < 0.0).choose(-value, value)


def _large_cos(x: Lanes) -> Lanes:
    r, error, k = _reduction(x)
    return _sine(r, error, k + 1)


def _large_tan(x: Lanes) -> Lanes:
    r, error, k = _reduction(x)
    value = _sine(r, error, k) / _sine(r, error, k + 1)
    return (x < 0.0).choose(-value, value)


# --- lgamma ---------------------------------------------------------------------------


def _lgamma(x: Lanes) -> Lanes:
    """log|gamma(x)|; infinite at zero and at negative integers. About 4 units in the
    last place for positive x."""
    below = x < 0.5
    y = below.choose(1.0 - x, x)
    tiny = (x > 0.0) & below  # by the recurrence instead, which keeps the accuracy
    value = (y < _LARGE).choose(_small_lgamma(y), _large_lgamma(y))
    from_above = _near_two(x) - log1p(x) - log(x)
    from_above = (x <= 1e-300).choose(-log(x), from_above)
    nearest = x.intrinsic("rint")
    sine = abs(sin((x - nearest) * math.pi))
    reflected = _LOG_PI - log(sine) - value
    integer = nearest.equals(x) & (x <= 0.0)
    result = tiny.choose(from_above, below.choose(reflected, value))
    result = integer.choose(x.const(math.inf), result)
    return abs(x).equals(math.inf).choose(x.const(math.inf), result)


def _near_two(z: Lanes) -> Lanes:
    """lgamma(2 + z), |z| <= 1/2."""
    return z * polynomial(z, _LGAMMA_NEAR_TWO)


def _small_lgamma(y: Lanes) -> Lanes:
    """1/2 <= y < 8: to [3/2, 5/2] by gamma(y) = (y-1) (y-2) ... gamma(rest)."""
    product, rest = y.const(1.0), y
    for _ in range(6):
        more = rest > 2.5
        rest = more.choose(rest - 1.0, rest)
        product = more.choose(product * rest, product)
    near_one = y < 1.5
    z = near_one.choose(y - 1.0, rest - 2.0)
    value = _near_two(z)
    return near_one.choose(value - log1p(y - 1.0), value + log(product))


def _large_lgamma(y: Lanes) -> Lanes:
    """(y - 1/2) log(y) - y + log(2 pi)/2 + Stirling's series."""
    inverse = 1.0 / y
    series = inverse * polynomial(inverse * inverse, _STIRLING)
    half = (y - 0.5) * 0.5
    logarithm = log(y)
    # in halves, as (y - 1/2) log(y) alone may overflow where y - y log(y) does not
    main = fma(half, logarithm, fma(half, logarithm, -y))
    return main + (_HALF_LOG_TWO_PI + series)


_FUNCTIONS: dict[str, Callable[[Lanes], Lanes]] = {
    "sin": _large_sin,
    "cos": _large_cos,
    "tan": _large_tan,
    "lgamma": _lgamma,
}
