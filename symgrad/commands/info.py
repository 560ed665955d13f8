"""``symgrad info``: versions, processor, threads, cache and CUDA, for bug reports."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import textwrap
from pathlib import Path

from symgrad.show import table

CORE = ("numpy", "scipy", "sympy", "numba", "llvmlite", "lark", "tqdm")
EXTRAS = (
    "matplotlib",
    "torch",
    "jax",
    "pyarrow",
    "cuda-bindings",
)

_WIDTHS = (("avx512f", 512), ("avx2", 256), ("avx", 256), ("sse2", 128), ("neon", 128))
_TOLD = "sse4.2 avx avx2 fma avx512f avx512dq avx512vl neon sve".split()

EPILOG = "Include this in a bug report."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``info``."""
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure read bandwidth and arithmetic rate again; takes some seconds",
    )


def run(options: argparse.Namespace) -> int:
    """Print what symgrad runs on."""
    from symgrad import __version__

    if options.measure:
        measure()
    rows = [
        ("symgrad", __version__),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        ("needs", versions(CORE)),
        ("extras", versions(EXTRAS)),
        *processor(),
        *mathematics(),
        ("threads", str(threads())),
        *limits(),
        ("cache", cache()),
        ("cuda", cuda()),
    ]
    print(table.align(rows))
    return 0


def versions(packages: tuple[str, ...]) -> str:
    """The installed versions, without importing anything."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found) or "none"


def processor() -> list[tuple[str, str]]:
    """Name, features that matter here, and vector width."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    on = [name for name in _TOLD if features.get(name)]
    width = next((bits for name, bits in _WIDTHS if features.get(name)), 128)
    return [
        ("processor", f"{model_name()} ({binding.get_host_cpu_name()})"),
        ("features", " ".join(on) or "none of those used"),
        ("vectors", f"{width} bits: {width // 64} float64, {width // 32} float32"),
    ]


def mathematics() -> list[tuple[str, str]]:
    """Which implementation each function has, and what libmvec would add."""
    from symgrad.codegen import cpu, math_choice, vectormath
    from symgrad.ops.tails import STANDARD

    features = cpu.host().features
    rows = []
    named = vectormath.SUPPORTED - set(STANDARD)  # the rest has no name but in kernels
    for name, ops in math_choice.groups(named, features).items():
        if ops:
            lines = textwrap.wrap(", ".join(ops), 64)
            rows += [(f"math: {name}", lines[0]), *(("", line) for line in lines[1:])]
    version = math_choice.glibc_version()
    if version is None:
        return [*rows, ("libmvec", "not found")]
    faster = math_choice.faster(vectormath.SUPPORTED, features)
    more = f"; SYMGRAD_MATH=fastest uses its {', '.join(faster)}" if faster else ""
    lines = textwrap.wrap(f"glibc {version}{more}", 64)
    return [*rows, ("libmvec", lines[0]), *(("", line) for line in lines[1:])]


def model_name() -> str:
    """The processor as its maker calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def threads() -> int:
    """The number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limits() -> list[tuple[str, str]]:
    """The roofline's figures, for one thread and for all."""
    from symgrad.runtime.roofline import known_machine

    counts = dict.fromkeys((1, threads()))
    known = [found for count in counts if (found := known_machine(count))]
    if not known:
        return [("roofline", "not measured (symgrad info --measure)")]
    return [("roofline", found.in_words()) for found in known]


def measure() -> None:
    """Measure one thread, and all."""
    from symgrad.runtime.roofline import machine

    for count in dict.fromkeys((1, threads())):
        machine(count, again=True)


def cache() -> str:
    """The directory of compiled kernels, or why there is none."""
    from symgrad.runtime.cache import directory

    place = directory()
    return "off" if place is None else str(place)


def cuda() -> str:
    """The device, or what is missing; and the assembler, if there is one."""
    from symgrad.codegen.cuda_target import assembler
    from symgrad.errors import DeviceError
    from symgrad.runtime.cuda_device import device

    try:
        found = device()
    except DeviceError as error:
        state = f"no: {error.message}"
    else:
        free = found.free_memory() / 1e9
        state = (
            f"{found.name} ({found.arch}, {found.processors} multiprocessors, "
            f"{free:.1f} GB free)"
        )
    return state if assembler() is None else f"{state}; ptxas is installed"
