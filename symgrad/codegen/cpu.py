"""The host processor: features, vector width, from LLVM assembly to callable code.

No LLVM optimisation passes run on kernels: what the emitter writes is already hoisted,
shared and vectorised, and code generation alone takes 10-30 ms where passes would add
40-70. Descent loops are small and run long: they ask for some (``simplify``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Any

from symgrad.codegen.llvm_text import DIVIDED

_OPTIONS: dict[str, Any] = {
    "opt": 2,
    "reloc": "pic",
    "codemodel": "jitdefault",
    "jit": True,
}

_SKIPPED = ("-disable-lsr", "-disable-post-ra")
"""Of code generation, for kernels: a fifth of its time. Rewriting addresses gains
nothing (0.93 to 1.07 of the time on the standard losses), and the second scheduling
nothing on processors that reorder instructions themselves."""
_KNOWN_LLVM = range(15, 23)
"""Versions that have these switches. An unknown one would end the process."""

LONG_BLOCK = 5000
"""Lines of a basic block beyond which registers are allocated by LLVM's fast method:
the better one takes time that grows with the square of a block (15 000 lines: 4.4 s
against 0.3 s), but its code is several times as fast."""

LONG_FUNCTION = 15_000
"""The same for functions, of any blocks (64 000 lines: 8 s against 0.4 s)."""

compile_lock = Lock()  # LLVM's JIT set-up is not safe to enter from two threads


@dataclass(frozen=True)
class Host:
    """The processor that kernels are compiled for."""

    cpu: str
    features: frozenset[str]
    feature_string: str
    vector_bits: int

    def lanes(self, dtype: str) -> int:
        """Elements of ``dtype`` ("float64" or "float32") in one vector."""
        return self.vector_bits // (64 if dtype == "float64" else 32)


@cache
def host() -> Host:
    """This machine. ``SYMGRAD_VECTOR_BITS`` (128, 256, 512) narrows the vectors."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    table = dict(llvm.get_host_cpu_features())
    features = frozenset(name for name, present in table.items() if present)
    bits = 512 if "avx512f" in features else 256 if "avx2" in features else 128
    wanted = os.environ.get("SYMGRAD_VECTOR_BITS")
    if wanted is not None:
        bits = min(bits, int(wanted))
        features = _without_wider(features, bits)
    table = {name: name in features for name in table}
    text = ",".join(("+" if on else "-") + name for name, on in sorted(table.items()))
    if bits == 512:
        text += ",-prefer-256-bit"
    return Host(llvm.get_host_cpu_name(), features, text, bits)


def _without_wider(features: frozenset[str], bits: int) -> frozenset[str]:
    """Narrow vectors must not use wider registers behind our back."""
    kept = features
    if bits < 512:
        kept = frozenset(f for f in kept if not f.startswith(("avx512", "avx10")))
    if bits < 256:
        kept = frozenset(f for f in kept if not f.startswith(("avx", "fma", "f16c")))
    return kept


@dataclass(eq=False)
class NativeCode:
    """A loaded module. Keeps the engine that owns the code alive."""

    engine: Any = field(repr=False)
    object_code: bytes = field(repr=False)

    def address(self, name: str) -> int:
        """Where function ``name`` starts."""
        found = self.engine.get_function_address(name)
        if not found:
            raise KeyError(f"the kernel has no function {name}")
        return found


def _longest(text: str) -> tuple[int, int]:
    """Lines of the longest block and function. A label that only divides is none."""
    block = function = block_lines = function_lines = 0
    for line in text.splitlines():
        function_lines = 0 if line.startswith("define") else function_lines + 1
        block_lines = block_lines + 1 if line.startswith((" ", DIVIDED)) else 0
        block, function = max(block, block_lines), max(function, function_lines)
    return block, function


def _level(text: str) -> int:
    """How hard LLVM should try."""
    block, function = _longest(text)
    short = block < LONG_BLOCK and function < LONG_FUNCTION
    return _OPTIONS["opt"] if short else 0


def _target_machine(text: str = "") -> Any:
    import llvmlite.binding as llvm

    machine = host()
    target = llvm.Target.from_default_triple()
    options = {**_OPTIONS, "opt": _level(text)}
    return target.create_target_machine(
        cpu=machine.cpu, features=machine.feature_string, **options
    )


def recipe() -> tuple[str, ...]:
    """All that decides the object code of a text, besides the text."""
    import llvmlite
    import llvmlite.binding as llvm

    machine = host()
    return (
        llvmlite.__version__,
        ".".join(map(str, llvm.llvm_version_info)),
        llvm.get_process_triple(),
        machine.cpu,
        machine.feature_string,
        repr((_OPTIONS, _SKIPPED, LONG_BLOCK, LONG_FUNCTION)),
    )


def _parse(text: str) -> Any:
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    module.triple = llvm.get_process_triple()
    machine = _target_machine()
    module.data_layout = str(machine.target_data)
    module.verify()
    return module


def compile_text(text: str, simplify: bool = False) -> bytes:
    """LLVM assembly to an object file in memory.

    simplify: first inline what asks for it, then run LLVM's simplification of functions
    (memory in registers, invariants out of loops, short loops unrolled). No bit of a
    result changes: the text has no fast-math flag.
    """
    host()
    with compile_lock:
        module, machine = _parse(text), _target_machine(text)
        if simplify:
            _simplify(module, machine)
            return machine.emit_object(module)
        with _skipping():
            return machine.emit_object(module)


@contextmanager
def _skipping() -> Iterator[None]:
    """Without some passes. The switches are those of the process: Numba, say, may
    compile later on, so they are set back."""
    import llvmlite.binding as llvm

    switches = _SKIPPED if llvm.llvm_version_info[0] in _KNOWN_LLVM else ()
    for switch in switches:
        llvm.set_option("", f"{switch}=true")
    try:
        yield
    finally:
        for switch in switches:
            llvm.set_option("", f"{switch}=false")


def _simplify(module: Any, machine: Any) -> None:
    import llvmlite.binding as llvm

    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    inliner = llvm.create_new_module_pass_manager()
    inliner.add_global_dead_code_eliminate_pass()
    inliner.add_always_inliner_pass()
    inliner.add_global_dead_code_eliminate_pass()
    inliner.run(module, builder)
    for function in module.functions:
        if not function.is_declaration:
            builder.getFunctionPassManager().run(function, builder)


def assembly(text: str) -> str:
    """LLVM assembly to the processor's assembly, for people."""
    host()
    with compile_lock, _skipping():
        return _target_machine(text).emit_assembly(_parse(text))


def load_object(object_code: bytes) -> NativeCode:
    """Link an object file into this process."""
    import llvmlite.binding as llvm

    host()
    with compile_lock:
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(object_code))
        engine.finalize_object()
    return NativeCode(engine, object_code)
