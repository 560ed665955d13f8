"""How each operation of the table is emitted: one row per operation.

What is not here and not in the vector math is expanded before scheduling (ops.py,
``expand``), so this table is the target's list of capabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from symgrad import graph
from symgrad.codegen.llvm_text import Emitter, Value

FLOATS = ("double", "float")


def _binary(opcode: str, integer: str | None = None) -> Callable[..., Value]:
    def emit(e: Emitter, a: Value, b: Value) -> Value:
        code = opcode if a.type in FLOATS or integer is None else integer
        return e.binary(code, a, b)

    return emit


def _compare(ordered: str, signed: str) -> Callable[..., Value]:
    def emit(e: Emitter, a: Value, b: Value) -> Value:
        return e.fcmp(ordered, a, b) if a.type in FLOATS else e.icmp(signed, a, b)

    return emit


def _unary_intrinsic(name: str) -> Callable[..., Value]:
    return lambda e, x: e.intrinsic(name, x)


def _neg(e: Emitter, x: Value) -> Value:
    return e.fneg(x) if x.type in FLOATS else e.binary("sub", e.const(0, "i64"), x)


def _extreme(ordered: str, signed: str) -> Callable[..., Value]:
    """NaN if either is, as NumPy's. Which of two zeros is not specified: LLVM's
    intrinsics, which specify it, take three times as long."""

    def emit(e: Emitter, a: Value, b: Value) -> Value:
        if a.type not in FLOATS:
            return e.select(e.icmp(signed, a, b), a, b)
        chosen = e.select(e.fcmp(ordered, a, b), a, b)  # b if either is NaN
        return e.select(e.fcmp("uno", a, a), a, chosen)

    return emit


def _safe_divisor(e: Emitter, b: Value) -> Value:
    """1 for 0 and for -1: neither a division by zero nor -2**63 // -1, which is 2**63,
    may stop the process."""
    # b + 1 is 0 or 1: one unsigned comparison
    after = e.binary("add", b, e.const(1, "i64"))
    return e.select(e.icmp("ult", after, e.const(2, "i64")), e.const(1, "i64"), b)


def _floor_divide(e: Emitter, a: Value, b: Value) -> Value:
    if a.type in FLOATS:
        return _floor_divide_floats(e, a, b)
    nothing, divisor = e.const(0, "i64"), _safe_divisor(e, b)
    quotient, rest = e.binary("sdiv", a, divisor), e.binary("srem", a, divisor)
    lower = e.convert("zext", _wrong_sign(e, rest, divisor), "i64")
    quotient = e.binary("sub", quotient, lower)
    opposite = e.binary("sub", nothing, a)
    quotient = e.select(e.icmp("eq", b, e.const(-1, "i64")), opposite, quotient)
    return e.select(e.icmp("eq", b, nothing), nothing, quotient)


def _floor_divide_floats(e: Emitter, a: Value, b: Value) -> Value:
    """As NumPy: from the exact remainder, so that 1.0 // 0.1 is 9."""
    zero = e.const(0.0, a.type)
    ratio = e.binary("fdiv", a, b)
    rest = _remainder(e, a, b)
    exact = e.binary("fdiv", e.binary("fsub", a, rest), b)
    one_less = e.binary("fsub", exact, e.const(1.0, a.type))
    exact = e.select(_wrong_sign_float(e, rest, b), one_less, exact)
    floor = e.intrinsic("floor", exact)
    above = e.fcmp("ogt", e.binary("fsub", exact, floor), e.const(0.5, a.type))
    floor = e.select(above, e.binary("fadd", floor, e.const(1.0, a.type)), floor)
    signed = e.intrinsic("copysign", zero, ratio)
    floor = e.select(e.fcmp("oeq", exact, zero), signed, floor)
    return e.select(e.fcmp("oeq", b, zero), ratio, floor)


def _mod(e: Emitter, a: Value, b: Value) -> Value:
    if a.type not in FLOATS:
        b = _safe_divisor(e, b)  # what is left of a division by 1 and by -1 is 0
        rest = e.binary("srem", a, b)
        fixed = e.binary("add", rest, b)
        return e.select(_wrong_sign(e, rest, b), fixed, rest)
    rest = _remainder(e, a, b)
    zero = e.const(0.0, a.type)
    fix = _wrong_sign_float(e, rest, b)
    moved = e.select(fix, e.binary("fadd", rest, b), rest)
    return e.select(e.fcmp("oeq", moved, zero), e.intrinsic("copysign", zero, b), moved)


def _wrong_sign_float(e: Emitter, rest: Value, divisor: Value) -> Value:
    zero = e.const(0.0, rest.type)
    signs = e.binary("xor", e.fcmp("olt", rest, zero), e.fcmp("olt", divisor, zero))
    return e.binary("and", signs, e.fcmp("une", rest, zero))


def _remainder(e: Emitter, a: Value, b: Value) -> Value:
    """C's fmod lane by lane; it is exact."""
    lanes = max(a.lanes, b.lanes)
    a, b = e.splat(a, lanes), e.splat(b, lanes)
    symbol = "fmod" if a.type == "double" else "fmodf"
    result = a
    for k in range(lanes):
        one = e.call(symbol, a.type, [e.extract(a, k), e.extract(b, k)])
        result = e.insert(result, one, k)
    return result


def _wrong_sign(e: Emitter, rest: Value, divisor: Value) -> Value:
    """Whether a truncated remainder has not the divisor's sign."""
    zero = e.const(0, "i64")
    signs = e.binary("xor", rest, divisor)
    return e.binary("and", e.icmp("slt", signs, zero), e.icmp("ne", rest, zero))


def _sign(e: Emitter, x: Value) -> Value:
    """-1, 0 or 1; NaN as it is."""
    zero = e.const(0.0, x.type)
    one = e.intrinsic("copysign", e.const(1.0, x.type), x)
    rest = e.select(e.fcmp("uno", x, x), x, zero)
    return e.select(e.fcmp("one", x, zero), one, rest)


def _relu(e: Emitter, x: Value) -> Value:
    zero = e.const(0.0, x.type)
    return e.select(e.fcmp("ole", x, zero), zero, x)


def _clip(e: Emitter, x: Value, low: Value, high: Value) -> Value:
    return BASIC["minimum"](e, BASIC["maximum"](e, x, low), high)


def _is_nan(e: Emitter, x: Value) -> Value:
    return e.fcmp("uno", x, x)


def _is_infinite(e: Emitter, x: Value) -> Value:
    return e.fcmp("oeq", e.intrinsic("fabs", x), e.const(float("inf"), x.type))


def _is_finite(e: Emitter, x: Value) -> Value:
    return e.fcmp("olt", e.intrinsic("fabs", x), e.const(float("inf"), x.type))


def _not(e: Emitter, x: Value) -> Value:
    return e.binary("xor", x, e.const(True, "i1"))


def _where(e: Emitter, c: Value, a: Value, b: Value) -> Value:
    return e.select(c, a, b)


BASIC: dict[str, Callable[..., Value]] = {
    "add": _binary("fadd", "add"),
    "sub": _binary("fsub", "sub"),
    "mul": _binary("fmul", "mul"),
    "div": _binary("fdiv"),
    "neg": _neg,
    "fma": lambda e, a, b, c: e.fma(a, b, c),
    "mod": _mod,
    "floor_divide": _floor_divide,
    "lt": _compare("olt", "slt"),
    "le": _compare("ole", "sle"),
    "gt": _compare("ogt", "sgt"),
    "ge": _compare("oge", "sge"),
    "eq": _compare("oeq", "eq"),
    "ne": _compare("une", "ne"),
    "and": _binary("and"),
    "or": _binary("or"),
    "not": _not,
    "where": _where,
    "abs": _unary_intrinsic("fabs"),
    "sqrt": _unary_intrinsic("sqrt"),
    "floor": _unary_intrinsic("floor"),
    "ceil": _unary_intrinsic("ceil"),
    "trunc": _unary_intrinsic("trunc"),
    "round": _unary_intrinsic("rint"),
    "sign": _sign,
    "relu": _relu,
    "clip": _clip,
    "minimum": _extreme("olt", "slt"),
    "maximum": _extreme("ogt", "sgt"),
    "isnan": _is_nan,
    "isinf": _is_infinite,
    "isfinite": _is_finite,
}

SPECIAL = ("cast",)
"""Emitted by the evaluator, which knows the types."""


def is_basic(op: str) -> bool:
    """Whether an operation is an instruction or a few: no function of its own."""
    return op in BASIC


@cache
def native() -> frozenset[str]:
    """All operations that need no expansion."""
    from symgrad.codegen import vectormath

    return frozenset(BASIC) | frozenset(SPECIAL) | vectormath.SUPPORTED


def emit(emitter: Emitter, op: str, args: list[Value]) -> Value:
    """Emit one operation."""
    if op in BASIC:
        return BASIC[op](emitter, *args)
    from symgrad.codegen import vectormath

    return vectormath.emit(emitter, op, args)


def cast(emitter: Emitter, value: Value, type: str) -> Value:
    """An integer or truth value as floating point."""
    if value.type == "i1":
        return emitter.convert("uitofp", value, type)
    return emitter.convert("sitofp", value, type)


# --------------------------------------------------------------------------------------
# Elements in memory
# --------------------------------------------------------------------------------------

STORED: dict[str, tuple[str, str | None]] = {
    # NumPy dtype: (LLVM type in memory, conversion to a value)
    "float64": ("double", None),
    "float32": ("float", None),
    "int64": ("i64", None),
    "int32": ("i32", "sext"),
    "int16": ("i16", "sext"),
    "int8": ("i8", "sext"),
    "uint64": ("i64", None),
    "uint32": ("i32", "zext"),
    "uint16": ("i16", "zext"),
    "uint8": ("i8", "zext"),
    "bool": ("i8", "bool"),
}


def from_memory(emitter: Emitter, value: Value, dtype: str, type: str) -> Value:
    """An element as loaded, as a value: float (of ``type``), int or bool."""
    conversion = STORED[dtype][1]
    if value.type in FLOATS:
        return to_float_type(emitter, value, type)
    if conversion == "bool":
        return emitter.icmp("ne", value, emitter.const(0, "i8"))
    if conversion is not None:
        value = emitter.convert(conversion, value, "i64")
    return value


def to_float_type(emitter: Emitter, value: Value, type: str) -> Value:
    """float64 <-> float32."""
    if value.type == type:
        return value
    return emitter.convert("fptrunc" if type == "float" else "fpext", value, type)


def value_type(node: graph.Node, type: str) -> str:
    """The LLVM type of a node's value; ``type`` is the compute type."""
    return {graph.FLOAT: type, graph.INT: "i64", graph.BOOL: "i1"}[node.type]
