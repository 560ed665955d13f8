"""Native objectives as Python functions of NumPy vectors, at 20 ns a call.

ctypes takes 200 ns for a call, and finding the address of an array as much again. So
one small function, compiled like a kernel, stands between: a built-in function of
CPython that checks its two arrays and calls the objective. It reads the fields of the
array objects as NumPy's C macros do. Where their layout is not the one it knows (see
object_layout.py) there is none, and objectives run as other kernels do.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from symgrad.codegen import cpu
from symgrad.runtime import object_layout
from symgrad.runtime.cache import compile_cached

RELEASE_SECONDS = 5e-6
"""Objectives estimated longer than this let other Python threads run meanwhile."""

_RECORD = struct.Struct("<8q")
"""Addresses of: objective, context; the length of the vectors; the type numpy.ndarray;
the dtype float64; PyFloat_FromDouble; PyEval_SaveThread or 0; PyEval_RestoreThread."""

_METH_FASTCALL = 0x80

# The arguments are a vector x and optionally a vector for the gradient. The result is
# nan for arrays that are not as they must be: callers then take the careful way.
_TEXT = """
define internal ptr @field(ptr %record, i64 %number) {{
  %place = getelementptr i64, ptr %record, i64 %number
  %value = load ptr, ptr %place
  ret ptr %value
}}

define internal i1 @fits(ptr %array, ptr %record, i32 %flags) {{
  %p0 = getelementptr i8, ptr %array, i64 {type}
  %type = load ptr, ptr %p0
  %ndarray = call ptr @field(ptr %record, i64 3)
  %is_array = icmp eq ptr %type, %ndarray
  br i1 %is_array, label %inside, label %no
inside:
  %p1 = getelementptr i8, ptr %array, i64 {rank}
  %rank = load i32, ptr %p1
  %is_vector = icmp eq i32 %rank, 1
  br i1 %is_vector, label %vector, label %no
vector:
  %p2 = getelementptr i8, ptr %array, i64 {shape}
  %shape = load ptr, ptr %p2
  %length = load ptr, ptr %shape
  %size = call ptr @field(ptr %record, i64 2)
  %right_size = icmp eq ptr %length, %size
  %p3 = getelementptr i8, ptr %array, i64 {dtype}
  %dtype = load ptr, ptr %p3
  %float64 = call ptr @field(ptr %record, i64 4)
  %right_dtype = icmp eq ptr %dtype, %float64
  %p4 = getelementptr i8, ptr %array, i64 {flags}
  %has = load i32, ptr %p4
  %common = and i32 %has, %flags
  %right_flags = icmp eq i32 %common, %flags
  %both = and i1 %right_size, %right_dtype
  %all = and i1 %both, %right_flags
  ret i1 %all
no:
  ret i1 false
}}

define internal i1 @apart(ptr %x, ptr %gradient, ptr %record) {{
  %from = ptrtoint ptr %x to i64
  %to = ptrtoint ptr %gradient to i64
  %size = call ptr @field(ptr %record, i64 2)
  %length = ptrtoint ptr %size to i64
  %bytes = shl i64 %length, 3
  %ahead = sub i64 %from, %to
  %behind = sub i64 %to, %from
  %after = icmp uge i64 %ahead, %bytes
  %before = icmp uge i64 %behind, %bytes
  %apart = and i1 %after, %before
  ret i1 %apart
}}

define internal double @objective(ptr %record, ptr %x, ptr %gradient) {{
  %function = call ptr @field(ptr %record, i64 0)
  %context = call ptr @field(ptr %record, i64 1)
  %save = call ptr @field(ptr %record, i64 6)
  %holds = icmp eq ptr %save, null
  br i1 %holds, label %short, label %long
short:
  %quick = call double %function(ptr %context, ptr %x, ptr %gradient)
  ret double %quick
long:
  %restore = call ptr @field(ptr %record, i64 7)
  %thread = call ptr %save()
  %slow = call double %function(ptr %context, ptr %x, ptr %gradient)
  call void %restore(ptr %thread)
  ret double %slow
}}

define ptr @call(ptr %self, ptr %arguments, i64 %count) {{
  %record = getelementptr i8, ptr %self, i64 {bytes}
  %box = call ptr @field(ptr %record, i64 5)
  %has_x = icmp uge i64 %count, 1
  br i1 %has_x, label %first, label %wrong
first:
  %x = load ptr, ptr %arguments
  %x_fits = call i1 @fits(ptr %x, ptr %record, i32 {readable})
  br i1 %x_fits, label %next, label %wrong
next:
  %xp = getelementptr i8, ptr %x, i64 {data}
  %x_data = load ptr, ptr %xp
  %two = icmp eq i64 %count, 2
  br i1 %two, label %second, label %evaluate
second:
  %place = getelementptr ptr, ptr %arguments, i64 1
  %g = load ptr, ptr %place
  %g_fits = call i1 @fits(ptr %g, ptr %record, i32 {writeable})
  br i1 %g_fits, label %output, label %wrong
output:
  %gp = getelementptr i8, ptr %g, i64 {data}
  %g_data = load ptr, ptr %gp
  %g_apart = call i1 @apart(ptr %x_data, ptr %g_data, ptr %record)
  br i1 %g_apart, label %evaluate, label %wrong
evaluate:
  %gradient = phi ptr [ null, %next ], [ %g_data, %output ]
  %value = call double @objective(ptr %record, ptr %x_data, ptr %gradient)
  %result = call ptr %box(double %value)
  ret ptr %result
wrong:
  %nan = call ptr %box(double 0x7FF8000000000000)
  ret ptr %nan
}}
"""


@dataclass(frozen=True)
class NativeEntry:
    """``double f(void *context, const double *x, double *gradient)``, by address.

    Thread-safe; never calls Python. ``owner`` keeps code and data alive.
    """

    function: int
    context: int
    owner: object


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@dataclass(frozen=True)
class _Trampoline:
    """The compiled function. Lives as long as the process: CPython points to it."""

    code: cpu.NativeCode
    method: _MethodDef


def vector_function(
    function: int, context: int, size: int, seconds: float
) -> Callable[..., float] | None:
    """``f(x)`` or ``f(x, gradient)`` from a native objective; None if not possible.

    The vectors are float64 arrays of shape (size,), C order; ``gradient`` is written to
    and must not overlap ``x``. For anything else the result is nan. The caller keeps
    the native code and the context alive.
    """
    trampoline = _trampoline()
    if trampoline is None:
        return None
    api = ctypes.pythonapi
    long = seconds > RELEASE_SECONDS
    record = _RECORD.pack(
        function,
        context,
        size,
        id(np.ndarray),
        id(np.dtype(np.float64)),
        _address_of(api.PyFloat_FromDouble),
        _address_of(api.PyEval_SaveThread) if long else 0,
        _address_of(api.PyEval_RestoreThread),
    )
    new = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p
    )(("PyCFunction_NewEx", api))
    return new(ctypes.addressof(trampoline.method), record, None)


def _address_of(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


_kept: list[_Trampoline] = []  # CPython holds their addresses, cache or no cache


@cache
def _trampoline() -> _Trampoline | None:
    if not object_layout.is_known():
        return None
    text = _TEXT.format(
        **object_layout.OFFSETS,
        readable=object_layout.READABLE,
        writeable=object_layout.READABLE | object_layout.WRITEABLE,
    )
    code = cpu.load_object(compile_cached(text))
    address = code.address("call")
    method = _MethodDef(b"objective", address, _METH_FASTCALL, None)
    _kept.append(_Trampoline(code, method))
    return _kept[-1]
