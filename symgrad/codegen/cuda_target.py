"""NVIDIA architectures, and from LLVM assembly to PTX and machine code.

Everything here works without a GPU and without any of NVIDIA's Python packages: LLVM
writes the PTX, and ``ptxas``, where it is installed, assembles it for the tests.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from symgrad.codegen.cpu import compile_lock
from symgrad.errors import DeviceError

PTX_VERSIONS: dict[str, tuple[int, int]] = {
    "sm_75": (6, 3),
    "sm_80": (7, 0),
    "sm_86": (7, 1),
    "sm_87": (7, 4),
    "sm_89": (7, 8),
    "sm_90": (7, 8),
    "sm_90a": (8, 0),
    "sm_100": (8, 6),
    "sm_120": (8, 7),
}
"""Architectures, and the lowest version of PTX that has each (PTX ISA, table of release
notes). LLVM ends the process when it is given a pair that does not exist, so no other
pair is ever passed on. A lower version runs with older drivers."""

LOWEST = "sm_75"
"""PTX for it runs on every later device, compiled there by the driver."""

TRIPLE = "nvptx64-nvidia-cuda"


def architecture(name: str | None) -> str:
    """A name of :data:`PTX_VERSIONS`; the lowest for None.

    Raises:
        DeviceError: no such architecture.
    """
    name = LOWEST if name is None else name
    if name not in PTX_VERSIONS:
        known = ", ".join(PTX_VERSIONS)
        raise DeviceError(f"unknown architecture {name!r}: use one of {known}")
    return name


def architecture_of(major: int, minor: int) -> str:
    """The best architecture for a device of this compute capability.

    Raises:
        DeviceError: the device is older than sm_75.
    """
    best = None
    for name in PTX_VERSIONS:
        digits = name.removeprefix("sm_")
        if digits.isdigit() and _serves(int(digits), major * 10 + minor):
            best = name
    if best is None:
        raise DeviceError(
            f"the device has compute capability {major}.{minor}; symgrad needs 7.5 "
            "(Turing) or later"
        )
    return best


def _serves(compiled: int, present: int) -> bool:
    """PTX runs on its own and on all later devices."""
    return compiled <= present


@cache
def _machine(name: str) -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    major, minor = PTX_VERSIONS[name]
    target = llvm.Target.from_triple(TRIPLE)
    return target.create_target_machine(cpu=name, features=f"+ptx{major}{minor}", opt=3)


def ptx(text: str, arch: str | None = None) -> str:
    """The PTX of a module in LLVM assembly.

    Unlike on the processor LLVM's passes run here: what the emitter keeps in small
    arrays (sums, values of inner loops) becomes registers when the loops are unrolled.
    The passes may not change a result: no operation carries a fast-math flag.

    Args:
        text: LLVM assembly for ``nvptx64-nvidia-cuda``.
        arch: a name of :data:`PTX_VERSIONS`.

    Raises:
        DeviceError: unknown architecture.
    """
    import llvmlite.binding as llvm

    name = architecture(arch)
    with compile_lock:
        machine = _machine(name)
        module = llvm.parse_assembly(text)
        module.triple, module.data_layout = TRIPLE, str(machine.target_data)
        module.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        passes = llvm.create_pass_builder(machine, options)
        passes.getModulePassManager().run(module, passes)
        return machine.emit_assembly(module)


# --- the assembler, where it is installed ---------------------------------------------


@dataclass(frozen=True)
class Resources:
    """What ``ptxas`` says of one kernel: registers per thread, bytes of stack and of
    spills, bytes of static shared memory."""

    registers: int
    stack: int
    spilled: int
    shared: int


def assembler() -> str | None:
    """Where ``ptxas`` is; None if it is not installed."""
    return shutil.which("ptxas")


def assemble(text: str, arch: str) -> dict[str, Resources]:
    """Assemble PTX and report the resources of each kernel.

    Raises:
        DeviceError: there is no assembler, or it rejects the text.
    """
    program = assembler()
    if program is None:
        raise DeviceError("ptxas is not installed; it comes with the CUDA toolkit")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(text, encoding="utf-8")
        command = [program, f"-arch={arch}", "-v", str(source)]
        done = subprocess.run(
            [*command, "-o", str(Path(folder, "kernel.cubin"))],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise DeviceError(f"ptxas rejects the kernel: {done.stderr.strip()}")
    return _resources(done.stderr)


_ENTRY = re.compile(r"Compiling entry function '([^']+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


def _resources(report: str) -> dict[str, Resources]:
    found: dict[str, Resources] = {}
    name, stack, spilled = "", 0, 0
    for line in report.splitlines():
        if entry := _ENTRY.search(line):
            name, stack, spilled = entry[1], 0, 0
        elif frame := _STACK.search(line):
            # a frame is reported for subroutines, too: the kernel's is the largest
            stack, spilled = max(stack, int(frame[1])), spilled + int(frame[2])
        elif (used := _USED.search(line)) and name:
            found[name] = Resources(int(used[1]), stack, spilled, int(used[2] or 0))
    return found
