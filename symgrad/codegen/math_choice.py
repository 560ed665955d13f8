"""Which implementation of a mathematical function a kernel uses.

    inline   our own formulas: the same bits on every processor with FMA, in a scalar
             and in a lane of a vector of any length
    libmvec  glibc's vector functions, where they are within our limits
    libm     C's scalar functions, lane by lane

Own formulas are the default: they are within 2 ULP everywhere, and results do not
depend on the C library. ``SYMGRAD_MATH=fastest`` takes libmvec where it was measured to
be a quarter faster and within the limits; ``SYMGRAD_MATH=erf=libmvec,exp=libm`` chooses
by name. What is chosen stands in a kernel's LLVM text, and so in its key on disk.
Record 0009 has the measurements.
"""

from __future__ import annotations

import ctypes
import difflib
import os
import platform
from collections.abc import Callable, Iterable
from functools import cache

from symgrad.codegen.llvm_text import Emitter, Value
from symgrad.codegen.math_lanes import FORMATS, Lanes
from symgrad.codegen.math_libmvec import MEASURED, Measured
from symgrad.errors import OptionError

INLINE, LIBMVEC, LIBM = "inline", "libmvec", "libm"

EXP_AND_LOG = frozenset("exp exp2 expm1 log log2 log10 log1p".split())

IN_LIBM = frozenset(
    "exp exp2 expm1 log log2 log10 log1p sinh cosh tanh asinh acosh atanh sin cos tan "
    "asin acos atan atan2 erf erfc pow cbrt hypot lgamma".split()
)
"""Functions that C has. Without fused multiply-add our formulas would cost a library
call for each one, so C's functions serve there."""

LIBM_ONLY = frozenset({("lgamma", "double")})

WORTH = 1.25
"""libmvec must be so many times faster than our code to be the fastest."""

MARGIN = 0.85
"""Of the limit: a largest error that was found is not the largest that there is."""


def limit(op: str) -> float:
    """Largest error allowed, in units of the last place."""
    return 1.5 if op in EXP_AND_LOG else 2.0


# ----------------------------------------------------------------------------- platform


@cache
def glibc_version() -> str | None:
    """The version of glibc with libmvec ("2.36"); None elsewhere."""
    if platform.machine() != "x86_64" or _library() is None:
        return None
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    return version if name == "glibc" else None


@cache
def _library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libmvec.so.1")
    except OSError:
        return None


def vector_bits(features: frozenset[str]) -> int | None:
    """The length of libmvec's vectors on this processor; None where it has none."""
    if "avx512f" in features:
        return 512
    return 256 if {"avx2", "fma"} <= features else None


def _symbol(op: str, type: str, bits: int, arguments: int) -> str:
    isa, lanes = {512: "e", 256: "d"}[bits], bits // FORMATS[type].bits
    suffix = "f" if type == "float" else ""
    return f"_ZGV{isa}N{lanes}{'v' * arguments}_{op}{suffix}"


def has_libmvec(op: str, type: str, features: frozenset[str]) -> bool:
    """Whether this machine has glibc's vector function."""
    bits, library = vector_bits(features), _library()
    if bits is None or library is None or glibc_version() is None:
        return False
    arguments = 2 if op in ("atan2", "pow", "hypot") else 1
    return hasattr(library, _symbol(op, type, bits, arguments))


# ------------------------------------------------------------------------------- choice


def choice(op: str, type: str, features: frozenset[str]) -> str:
    """The implementation of ``op`` on "double" or "float": INLINE, LIBMVEC or LIBM.

    Raises:
        OptionError: SYMGRAD_MATH is not understood, or asks for what is not there or
            not accurate enough.
    """
    if "device" in features:  # a GPU: C's functions are our own there (cuda_math.py)
        return LIBM if (op, type) in LIBM_ONLY else INLINE
    everything, named = _wanted(os.environ.get("SYMGRAD_MATH", ""))
    if op in named:
        return _checked(op, type, features, named[op])
    fma = not features.isdisjoint(("fma", "avx512f", "neon"))
    if (op, type) in LIBM_ONLY or (op in IN_LIBM and not fma):
        return LIBM
    if everything == "fastest" and is_faster(op, type, features):
        return LIBMVEC
    return INLINE


def measured(op: str, type: str, features: frozenset[str]) -> Measured | None:
    """What is known of libmvec's function here; None where it is missing."""
    bits = vector_bits(features)
    if bits is None or not has_libmvec(op, type, features):
        return None
    return MEASURED.get((op, type, bits))


def is_accurate(op: str, found: Measured) -> bool:
    """Whether libmvec's function is safely within the limit."""
    return found.ulp <= MARGIN * limit(op)


def is_faster(op: str, type: str, features: frozenset[str]) -> bool:
    """Whether libmvec is the fastest correct implementation."""
    found = measured(op, type, features)
    return found is not None and is_accurate(op, found) and found.gain >= WORTH


def _checked(op: str, type: str, features: frozenset[str], wanted: str) -> str:
    """An implementation that was asked for by name, or the reason why not."""
    if wanted == LIBM and op not in IN_LIBM:
        raise OptionError(f"SYMGRAD_MATH asks for libm's {op}, which C does not have")
    if wanted == INLINE and (op, type) in LIBM_ONLY:
        return LIBM
    if wanted == LIBMVEC:
        found = measured(op, type, features)
        if found is None:
            raise OptionError(
                f"SYMGRAD_MATH asks for libmvec's {op} in {type}, which this machine "
                "does not have: leave it out"
            )
        if not is_accurate(op, found):
            raise OptionError(
                f"SYMGRAD_MATH asks for libmvec's {op} in {type}, which is off by "
                f"{found.ulp:g} units in the last place and more; at most "
                f"{MARGIN * limit(op):.2g} are allowed"
            )
    return wanted


@cache
def _wanted(text: str) -> tuple[str, dict[str, str]]:
    """``fastest`` or ``own``, and implementations by the names of functions."""
    everything, named = "own", {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        op, _, wanted = item.partition("=")
        if not wanted and op in ("own", "fastest"):
            everything = op
        elif wanted in (INLINE, LIBMVEC, LIBM) and op in _NAMES:
            named[op] = wanted
        else:
            near = difflib.get_close_matches(op, ["own", "fastest", *_NAMES], 1)
            hint = f" (did you mean {near[0]}?)" if near and near[0] != op else ""
            raise OptionError(
                f"SYMGRAD_MATH has {item!r}{hint}: give own, fastest, or "
                "FUNCTION=inline, FUNCTION=libmvec, FUNCTION=libm, with commas between"
            )
    return everything, named


_NAMES = IN_LIBM | {"sigmoid", "softplus", "logaddexp", "digamma"}


def groups(ops: Iterable[str], features: frozenset[str]) -> dict[str, list[str]]:
    """Per implementation the functions that use it: ``erf``, or ``erf (float32)``."""
    return {
        name: _named(ops, lambda op, type, n=name: choice(op, type, features) == n)
        for name in (INLINE, LIBMVEC, LIBM)
    }


def faster(ops: Iterable[str], features: frozenset[str]) -> list[str]:
    """The functions where libmvec is the fastest correct implementation."""
    return _named(ops, lambda op, type: is_faster(op, type, features))


def _named(ops: Iterable[str], holds: Callable[[str, str], bool]) -> list[str]:
    """Functions for which something holds, with the type if only in one."""
    found = []
    for op in sorted(ops):
        types = [t for t, type in _TYPES.items() if holds(op, type)]
        if types:
            found.append(op if len(types) == 2 else f"{op} ({types[0]})")
    return found


_TYPES = {"float64": "double", "float32": "float"}


# -------------------------------------------------------------------------------- calls


def libmvec(op: str, *args: Lanes) -> Lanes:
    """glibc's vector function on any number of lanes.

    Shorter vectors are filled up and longer ones cut: every lane has the bits that it
    has anywhere.
    """
    import llvmlite.binding as llvm

    llvm.load_library_permanently("libmvec.so.1")
    first = args[0]
    emitter, type = first.emitter, first.value.type
    bits = vector_bits(emitter.features)
    assert bits is not None, "choice() has made sure"
    whole = bits // FORMATS[type].bits
    symbol = _symbol(op, type, bits, len(args))

    def call(values: list[Value]) -> Value:
        return emitter.raw_call(symbol, type, whole, values)

    return first.wrap(_in_pieces(emitter, call, [a.value for a in args], whole))


def _in_pieces(
    emitter: Emitter,
    call: Callable[[list[Value]], Value],
    args: list[Value],
    whole: int,
) -> Value:
    lanes = args[0].lanes
    if lanes == whole:
        return call(args)
    if lanes == 1:
        return emitter.extract(call([emitter.splat(a, whole) for a in args]), 0)
    if lanes < whole:
        picks = [min(k, lanes - 1) for k in range(whole)]
        filled = call([emitter.shuffle(a, a, picks) for a in args])
        return emitter.shuffle(filled, filled, range(lanes))
    halves = [
        [emitter.shuffle(a, a, range(start, start + lanes // 2)) for a in args]
        for start in (0, lanes // 2)
    ]
    low, high = (_in_pieces(emitter, call, half, whole) for half in halves)
    return emitter.concatenate(low, high)
