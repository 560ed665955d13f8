"""Formulas over emitted values: operators, and the shape of the two float formats.

The files of vector math read as formulas because of :class:`Lanes`: Python numbers
become constants of the element type, comparisons give masks, and every operator emits
exactly one instruction. Nothing is contracted, reassociated or folded behind it, so a
scalar and a lane of a vector go through the same roundings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Union

from symgrad.codegen.llvm_text import Emitter, Value

# From this many terms on a polynomial is evaluated as two interleaved chains.
_LONG = 6

Operand = Union["Lanes", float, int]


@dataclass(frozen=True)
class Format:
    """An IEEE binary format, and the additive constant that rounds in it.

    Adding ``round_shift`` (1.5 * 2**mantissa) to |x| < 2**(mantissa-2) leaves x rounded
    to the nearest integer in the low bits of the sum (Muller et al., Handbook of
    Floating-Point Arithmetic, 2nd ed., section 4.6).
    """

    type: str
    integer: str
    bits: int
    mantissa: int
    bias: int
    suffix: str

    @property
    def round_shift(self) -> float:
        return 1.5 * 2.0**self.mantissa

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    @property
    def epsilon(self) -> float:
        """Half a unit in the last place of 1 and below: 2**-53 or 2**-24."""
        return 2.0 ** (-1 - self.mantissa)


DOUBLE = Format("double", "i64", 64, 52, 1023, "pd")
FLOAT = Format("float", "i32", 32, 23, 127, "ps")
FORMATS = {"double": DOUBLE, "float": FLOAT}


class Lanes:
    """An emitted value with operators: floats, integers of the same width, or masks.

    ``+ - * /`` follow the element type; ``<<``, ``>>`` (arithmetic) and ``& | ^ ~`` are
    for integers and masks; ``< <= > >=`` are ordered and give masks.
    """

    __slots__ = ("emitter", "value")

    def __init__(self, emitter: Emitter, value: Value) -> None:
        self.emitter, self.value = emitter, value

    @property
    def format(self) -> Format:
        """The format of a float (not of an integer or a mask)."""
        return FORMATS[self.value.type]

    def __repr__(self) -> str:
        return repr(self.value)

    # -- operands --------------------------------------------------------------------

    def wrap(self, value: Value) -> Lanes:
        return Lanes(self.emitter, value)

    def const(self, number: float | int) -> Lanes:
        """A number in every lane, of this element type."""
        value = self.value
        return self.wrap(self.emitter.const(number, value.type, value.lanes))

    def _operand(self, other: Operand) -> Value:
        return other.value if isinstance(other, Lanes) else self.const(other).value

    def _binary(self, floating: str, integer: str, a: Operand, b: Operand) -> Lanes:
        opcode = floating if self.value.type in FORMATS else integer
        return self.wrap(
            self.emitter.binary(opcode, self._operand(a), self._operand(b))
        )

    # -- arithmetic ------------------------------------------------------------------

    def __add__(self, other: Operand) -> Lanes:
        return self._binary("fadd", "add", self, other)

    def __radd__(self, other: Operand) -> Lanes:
        return self._binary("fadd", "add", other, self)

    def __sub__(self, other: Operand) -> Lanes:
        return self._binary("fsub", "sub", self, other)

    def __rsub__(self, other: Operand) -> Lanes:
        return self._binary("fsub", "sub", other, self)

    def __mul__(self, other: Operand) -> Lanes:
        return self._binary("fmul", "mul", self, other)

    def __rmul__(self, other: Operand) -> Lanes:
        return self._binary("fmul", "mul", other, self)

    def __truediv__(self, other: Operand) -> Lanes:
        return self._binary("fdiv", "sdiv", self, other)

    def __rtruediv__(self, other: Operand) -> Lanes:
        return self._binary("fdiv", "sdiv", other, self)

    def __neg__(self) -> Lanes:
        return self.wrap(self.emitter.fneg(self.value))

    def __abs__(self) -> Lanes:
        return self.wrap(self.emitter.intrinsic("fabs", self.value))

    # -- bits and masks --------------------------------------------------------------

    def __lshift__(self, count: int) -> Lanes:
        return self._binary("", "shl", self, count)

    def __rshift__(self, count: int) -> Lanes:
        return self._binary("", "ashr", self, count)

    def shift_right_logical(self, count: int) -> Lanes:
        return self._binary("", "lshr", self, count)

    def __and__(self, other: Operand) -> Lanes:
        return self._binary("", "and", self, other)

    def __or__(self, other: Operand) -> Lanes:
        return self._binary("", "or", self, other)

    def __xor__(self, other: Operand) -> Lanes:
        return self._binary("", "xor", self, other)

    def __invert__(self) -> Lanes:
        return self ^ (1 if self.value.type == "i1" else -1)

    def bits(self) -> Lanes:
        """A float's bits as an integer."""
        return self.wrap(self.emitter.bitcast(self.value, self.format.integer))

    def as_float(self, format: Format) -> Lanes:
        """The float whose bits this integer is."""
        return self.wrap(self.emitter.bitcast(self.value, format.type))

    def convert(self, opcode: str, type: str) -> Lanes:
        """sitofp, fptosi, fpext, fptrunc, ..."""
        return self.wrap(self.emitter.convert(opcode, self.value, type))

    # -- comparison ------------------------------------------------------------------

    def _compare(self, predicate: str, other: Operand) -> Lanes:
        b = self._operand(other)
        if self.value.type in FORMATS:
            return self.wrap(self.emitter.fcmp("o" + predicate, self.value, b))
        signed = predicate if predicate == "eq" else "s" + predicate
        return self.wrap(self.emitter.icmp(signed, self.value, b))

    def __lt__(self, other: Operand) -> Lanes:
        return self._compare("lt", other)

    def __le__(self, other: Operand) -> Lanes:
        return self._compare("le", other)

    def __gt__(self, other: Operand) -> Lanes:
        return self._compare("gt", other)

    def __ge__(self, other: Operand) -> Lanes:
        return self._compare("ge", other)

    def equals(self, other: Operand) -> Lanes:
        return self._compare("eq", other)

    def differs(self, other: Operand) -> Lanes:
        """Ordered and different: false for NaN."""
        return self.wrap(self.emitter.fcmp("one", self.value, self._operand(other)))

    def is_nan(self) -> Lanes:
        return self.wrap(self.emitter.fcmp("uno", self.value, self.value))

    def choose(self, yes: Lanes, no: Operand) -> Lanes:
        """Where this mask holds ``yes``, else ``no``."""
        other = no if isinstance(no, Lanes) else yes.const(no)
        return self.wrap(self.emitter.select(self.value, yes.value, other.value))

    # -- functions that are one instruction --------------------------------------------

    def intrinsic(self, name: str, *others: Operand) -> Lanes:
        rest = [self._operand(o) for o in others]
        return self.wrap(self.emitter.intrinsic(name, self.value, *rest))

    def copysign(self, sign: Lanes) -> Lanes:
        return self.intrinsic("copysign", sign)

    def sqrt(self) -> Lanes:
        return self.intrinsic("sqrt")

    def at_most(self, limit: Operand) -> Lanes:
        """min(self, limit), and NaN stays NaN: x86's minimum gives its second operand
        when one is NaN, and that is what this select compiles to."""
        bound = self.const(limit) if not isinstance(limit, Lanes) else limit
        return (bound < self).choose(bound, self)

    def at_least(self, limit: Operand) -> Lanes:
        """max(self, limit), and NaN stays NaN."""
        bound = self.const(limit) if not isinstance(limit, Lanes) else limit
        return (bound > self).choose(bound, self)


def has_fma(emitter: Emitter) -> bool:
    """Whether a fused multiply-add is one instruction."""
    return not emitter.features.isdisjoint(("fma", "avx512f", "neon"))


def fma(a: Lanes, b: Operand, c: Operand) -> Lanes:
    """a*b + c, rounded once on every target: C's fma where there is no instruction.

    The formulas here are wrong without it, so this is not the emitter's own choice.
    """
    return a.intrinsic("fma", b, c)


def polynomial(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """c[0] + c[1]*x + ... by Horner's rule, long ones as two chains, even and odd.

    One multiplication more and half the latency, which counts even in a loop over
    independent elements: 8 % of exp's time, 10 % of softplus's. Float32's tables are
    too short to gain.
    """
    if len(coefficients) < _LONG:
        return _horner(x, coefficients)
    square = x * x
    return fma(
        x, _horner(square, coefficients[1::2]), _horner(square, coefficients[::2])
    )


def short_polynomial(x: Lanes, square: Lanes, coefficients: Sequence[float]) -> Lanes:
    """The same in the fewest steps one after another (Estrin's scheme), where nothing
    else is there to do meanwhile. square: x*x."""
    terms = [x.const(c) for c in coefficients]
    power: Lanes = x
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=False)
        rest = terms[len(terms) & ~1 :]
        terms = [*(fma(power, high, low) for low, high in pairs), *rest]
        power = square if power is x else power * power
    return terms[0]


def _horner(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    total = x.const(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = fma(x, total, c)
    return total


def fast_two_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a + b as rounded sum and exact error, for |a| >= |b| or a = 0 (Dekker 1971)."""
    high = a + b
    return high, (a - high) + b


def two_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a + b as rounded sum and exact error (Knuth, Møller)."""
    high = a + b
    shadow = high - a
    return high, (a - (high - shadow)) + (b - shadow)


def two_product(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a * b as rounded product and exact error."""
    high = a * b
    return high, fma(a, b, -high)


def divide(a: Lanes, b: Lanes, b_error: Lanes, a_error: Lanes | None = None) -> Lanes:
    """(a + a_error) / (b + b_error) to little more than half a unit.

    The errors are at most one unit in the last place. One division, as a/b needs, then
    one Newton step on the quotient's exact remainder.
    """
    inverse = 1.0 / b
    quotient = a * inverse
    rest = fma(-quotient, b_error, fma(-quotient, b, a))
    if a_error is not None:
        rest = rest + a_error
    return fma(rest, inverse, quotient)


def lane_by_lane(function: Callable[..., Value], *args: Lanes) -> Lanes:
    """``function`` of the scalars of each lane, put together again."""
    first = args[0]
    emitter, lanes = first.emitter, first.value.lanes
    if lanes == 1:
        return first.wrap(function(*(a.value for a in args)))
    result = emitter.const(0.0, first.value.type, lanes)
    for k in range(lanes):
        scalars = [emitter.extract(a.value, k) for a in args]
        result = emitter.insert(result, function(*scalars), k)
    return first.wrap(result)


def libm(symbol: str, *args: Lanes) -> Lanes:
    """C's function, lane by lane: ``symbol`` for double, ``symbol`` + "f" for float."""
    emitter, type = args[0].emitter, args[0].value.type
    name = symbol + ("f" if type == "float" else "")
    return lane_by_lane(lambda *scalars: emitter.call(name, type, scalars), *args)


def libm_where(mask: Lanes, symbol: str, x: Lanes, usual: Lanes) -> Lanes:
    """C's function of x in the lanes of ``mask``, ``usual`` in the others; it runs only
    when some lane needs it.

    By a subroutine that leaves all registers as they were: around a plain call every
    running sum of a loop would go through memory in each turn, taken or not. Scalars
    have no such loops, and emitters for one thread their own way to call C's functions.
    """
    emitter = mask.emitter

    def patched() -> Value:
        if x.value.lanes == 1:
            found = libm(symbol, x)
        else:
            found = x.wrap(_call_apart(emitter, symbol, x.value))
        return mask.choose(found, usual).value

    return usual.wrap(
        emitter.branch_if(emitter.any_lane(mask.value), patched, usual.value)
    )


def _call_apart(emitter: Emitter, symbol: str, x: Value) -> Value:
    """C's function lane by lane, in a subroutine that saves all registers.

    It takes and returns whole registers: LLVM zeroes the upper halves of all of them
    when a function returns, unless what it returns is in one.
    """
    bits = _register_bits(emitter.features)
    whole = max(x.lanes, bits // FORMATS[x.type].bits)
    name = f"{symbol}_apart_{x.type}_{whole}"
    if name not in emitter.module.internal:
        emitter.module.internal.add(name)
        inner = Emitter(emitter.module, emitter.features)
        argument = Lanes(inner, Value("%x", x.type, whole))
        result = libm(symbol, argument).value
        attributes = (
            'noinline optnone "no_caller_saved_registers" '
            f'"prefer-vector-width"="{bits}"'
        )
        inner.finish(name, [repr(argument)], result, attributes, "internal")
    if x.lanes == whole:
        return emitter.call_internal(name, x.type, whole, [x])
    wide = emitter.shuffle(x, x, [k % x.lanes for k in range(whole)])
    found = emitter.call_internal(name, x.type, whole, [wide])
    return emitter.shuffle(found, found, range(x.lanes))


def _register_bits(features: frozenset[str]) -> int:
    """Of the longest registers."""
    if "avx512f" in features:
        return 512
    return 256 if "avx" in features else 128
