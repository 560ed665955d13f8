"""Compile one mathematical function into a loop over arrays: for tests and timings."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from functools import cache

import llvmlite.binding as llvm
import numpy as np

from symgrad.codegen import vectormath
from symgrad.codegen.llvm_text import Emitter, Module, Value

AVX2 = "-avx512f,-prefer-256-bit"
TYPES = {"float64": "double", "float32": "float"}
Emit = Callable[[Emitter, Sequence[Value]], Sequence[Value]]


@cache
def host_features() -> dict[str, bool]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return dict(llvm.get_host_cpu_features())


def features(avx512: bool = True) -> frozenset[str]:
    """The features of this machine, with or without AVX-512."""
    return frozenset(
        name
        for name, on in host_features().items()
        if on and (avx512 or not name.startswith(("avx512", "avx10")))
    )


def loop_text(
    emit: Emit, inputs: int, outputs: int, type: str, lanes: int, have: frozenset[str]
) -> str:
    """``kernel(times, n, in..., out...)``: n elements, a multiple of ``lanes``, as often
    as told, so that the time of a call can be left out of the time of an element."""
    module = Module()
    emitter = Emitter(module, have)
    pointers = [Value(f"%p{k}", "ptr") for k in range(inputs + outputs)]

    def turn(i: Value, carried: list[Value]) -> Sequence[Value]:
        at = [emitter.gep(p, i, type) for p in pointers]
        values = [emitter.load(p, type, lanes) for p in at[:inputs]]
        for value, target in zip(emit(emitter, values), at[inputs:], strict=True):
            emitter.store(value, target)
        return carried

    zero, n, times = emitter.const(0, "i64"), Value("%n", "i64"), Value("%times", "i64")

    def once(i: Value, carried: list[Value]) -> Sequence[Value]:
        emitter.loop(zero, n, lanes, [], turn)
        return carried

    emitter.loop(zero, times, 1, [], once)
    parameters = ["i64 %times", "i64 %n", *(f"ptr {p.name}" for p in pointers)]
    emitter.finish(
        "kernel", parameters, attributes='"prefer-vector-width"="512"'
    )
    return module.text()


class Kernel:
    """A compiled loop; call it with arrays of one length, a multiple of ``lanes``."""

    def __init__(
        self,
        emit: Emit,
        inputs: int = 1,
        outputs: int = 1,
        dtype: str = "float64",
        lanes: int = 1,
        avx512: bool = True,
    ) -> None:
        have = features(avx512)
        self.dtype, self.outputs, self.lanes = dtype, outputs, lanes
        self.text = loop_text(emit, inputs, outputs, TYPES[dtype], lanes, have)
        self._module = llvm.parse_assembly(self.text)
        self._module.verify()
        text = ",".join(
            ("+" if name in have else "-") + name for name in sorted(host_features())
        )
        target = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=text + ",-prefer-256-bit", opt=2
        )
        self.assembly = target.emit_assembly(self._module)
        self._engine = llvm.create_mcjit_compiler(self._module, target)
        self._engine.finalize_object()
        kinds = [ctypes.c_int64] * 2 + [ctypes.c_void_p] * (inputs + outputs)
        self.raw = ctypes.CFUNCTYPE(None, *kinds)(
            self._engine.get_function_address("kernel")
        )

    def __call__(self, *arrays: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        size = arrays[0].size
        padded = -(-size // self.lanes) * self.lanes
        wide = [np.ones(padded, self.dtype) for _ in arrays]
        for target, array in zip(wide, arrays, strict=True):
            target[:size] = array
        results = [np.empty(padded, self.dtype) for _ in range(self.outputs)]
        self.raw(1, padded, *(a.ctypes.data for a in (*wide, *results)))
        trimmed = tuple(r[:size] for r in results)
        return trimmed[0] if self.outputs == 1 else trimmed

    def nanoseconds(self, *arrays: np.ndarray, times: int = 50) -> float:
        """Per element, the best of several runs, over arrays that stay in the cache."""
        wide = [np.ascontiguousarray(a, self.dtype) for a in arrays]
        size = wide[0].size // self.lanes * self.lanes
        wide += [np.empty(size, self.dtype) for _ in range(self.outputs)]
        pointers = [a.ctypes.data for a in wide]
        best = float("inf")
        for _ in range(20):
            start = time.perf_counter()
            self.raw(times, size, *pointers)
            best = min(best, time.perf_counter() - start)
        return best / size / times * 1e9


@cache
def function(
    op: str, dtype: str = "float64", lanes: int = 1, avx512: bool = True, inputs: int = 1
) -> Kernel:
    """One operation of the vector math."""
    return Kernel(
        lambda e, values: [vectormath.emit(e, op, list(values))],
        inputs,
        1,
        dtype,
        lanes,
        avx512,
    )
