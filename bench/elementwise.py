"""Compile mathematical functions into loops over arrays: for tests and timings."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from functools import cache

import llvmlite.binding as llvm
import numpy as np

from symgrad.codegen import vectormath
from symgrad.codegen.llvm_text import Emitter, Module, Value

TYPES = {"float64": "double", "float32": "float"}
LEVELS = {"native": (), "avx2": ("avx512", "avx10")}
LEVELS["sse2"] = (*LEVELS["avx2"], "avx", "fma", "f16c")
"""Which features a level goes without, by their beginnings."""

Emit = Callable[[Emitter, Sequence[Value]], Sequence[Value]]


@cache
def host_features() -> dict[str, bool]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return dict(llvm.get_host_cpu_features())


@cache
def features(level: str = "native") -> frozenset[str]:
    """This machine's features, or those left at a lower level."""
    without = LEVELS[level]
    return frozenset(
        name
        for name, on in host_features().items()
        if on and not name.startswith(tuple(without))
    )


def vector_lanes(dtype: str, level: str = "native") -> int:
    """Elements in one vector."""
    have = features(level)
    bits = 512 if "avx512f" in have else 256 if "avx2" in have else 128
    return bits // (np.dtype(dtype).itemsize * 8)


def loop_text(
    emit: Emit, inputs: int, outputs: int, type: str, lanes: int, have: frozenset[str]
) -> str:
    """``kernel(times, n, in..., out...)``: n elements, a multiple of ``lanes``.

    It does so as often as told, to keep the time of a call out of an element's.
    """
    module = Module()
    emitter = Emitter(module, have)
    pointers = [Value(f"%p{k}", "ptr") for k in range(inputs + outputs)]
    zero, n, times = emitter.const(0, "i64"), Value("%n", "i64"), Value("%times", "i64")

    def turn(i: Value, carried: list[Value]) -> Sequence[Value]:
        at = [emitter.gep(p, i, type) for p in pointers]
        values = [emitter.load(p, type, lanes) for p in at[:inputs]]
        for value, target in zip(emit(emitter, values), at[inputs:], strict=True):
            emitter.store(value, target)
        return carried

    def once(i: Value, carried: list[Value]) -> Sequence[Value]:
        emitter.loop(zero, n, lanes, [], turn)
        return carried

    emitter.loop(zero, times, 1, [], once)
    parameters = ["i64 %times", "i64 %n", *(f"ptr {p.name}" for p in pointers)]
    emitter.finish("kernel", parameters, attributes='"prefer-vector-width"="512"')
    return module.text()


def _target_machine(have: frozenset[str]) -> llvm.TargetMachine:
    text = ",".join(
        ("+" if name in have else "-") + name for name in sorted(host_features())
    )
    if "avx512f" in have:
        text += ",-prefer-256-bit"
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=text, opt=2
    )


class Kernel:
    """A compiled loop; call it with arrays of one length."""

    def __init__(
        self,
        emit: Emit,
        inputs: int = 1,
        outputs: int = 1,
        dtype: str = "float64",
        lanes: int | None = None,
        level: str = "native",
    ) -> None:
        have = features(level)
        self.dtype, self.outputs = dtype, outputs
        self.lanes = vector_lanes(dtype, level) if lanes is None else lanes
        text = loop_text(emit, inputs, outputs, TYPES[dtype], self.lanes, have)
        module = llvm.parse_assembly(text)
        module.verify()
        self._engine = llvm.create_mcjit_compiler(module, _target_machine(have))
        self._engine.finalize_object()
        kinds = [ctypes.c_int64] * 2 + [ctypes.c_void_p] * (inputs + outputs)
        self._entry = ctypes.CFUNCTYPE(None, *kinds)(
            self._engine.get_function_address("kernel")
        )

    def all(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Every output; the arrays are padded to whole vectors."""
        size = arrays[0].size
        padded = -(-size // self.lanes) * self.lanes
        wide = [np.ones(padded, self.dtype) for _ in arrays]
        for target, array in zip(wide, arrays, strict=True):
            target[:size] = array
        results = [np.empty(padded, self.dtype) for _ in range(self.outputs)]
        self._entry(1, padded, *(a.ctypes.data for a in (*wide, *results)))
        return [r[:size] for r in results]

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        """The first output."""
        return self.all(*arrays)[0]

    def nanoseconds(self, *arrays: np.ndarray, times: int = 50) -> float:
        """Per element, the best of several runs, over arrays that stay in the cache."""
        wide = [np.ascontiguousarray(a, self.dtype) for a in arrays]
        size = wide[0].size // self.lanes * self.lanes
        wide += [np.empty(size, self.dtype) for _ in range(self.outputs)]
        pointers = [a.ctypes.data for a in wide]
        best = float("inf")
        for _ in range(20):
            start = time.perf_counter()
            self._entry(times, size, *pointers)
            best = min(best, time.perf_counter() - start)
        return best / size / times * 1e9


@cache
def function(
    op: str,
    dtype: str = "float64",
    lanes: int | None = None,
    level: str = "native",
    inputs: int = 1,
) -> Kernel:
    """One operation of the vector math; ``polygamma2`` is polygamma of order 2."""

    def emit(emitter: Emitter, values: Sequence[Value]) -> Sequence[Value]:
        args = list(values)
        if op.startswith("polygamma"):
            order = emitter.const(int(op.removeprefix("polygamma")), "i64")
            return [vectormath.emit(emitter, "polygamma", [order, *args])]
        return [vectormath.emit(emitter, op, args)]

    return Kernel(emit, inputs, 1, dtype, lanes, level)
