"""Compiles the C kernels and calls them.

A kernel is one function in a file of ``kernels/``:

    double evaluate(const long *lengths, void *const *in, void *const *out, int threads)

lengths: the first length of each array (1 of a scalar). in: addresses of the
parameters, then of the data. out: of the gradients, which it overwrites. It returns the
loss. ``SINGLE`` is defined for float32. Files that multiply matrices get CBLAS's
``gemm`` of the OpenBLAS that SciPy brings, by ``set_gemm``.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bench.comparison.losses import Arrays, Loss

HERE = Path(__file__).parent / "kernels"
FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math",
         "-fopenmp", "-fPIC", "-Wall")  # fmt: skip


class NoKernel(Exception):
    """There is no C for this loss here, with the reason."""


@cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="symgrad-bench-")


def compiler() -> str | None:
    """gcc, or None."""
    return shutil.which("gcc")


def _compile(name: str, macros: tuple[str, ...]) -> ctypes.CDLL:
    gcc = compiler()
    if gcc is None:
        raise NoKernel("no gcc")
    stem = hashlib.sha256(" ".join((name, *macros)).encode()).hexdigest()[:16]
    place = Path(_directory().name)
    unit, library = place / f"{stem}.o", place / f"{stem}.so"
    defines = [f"-D{macro}" for macro in macros]
    # Linked without -ffast-math, which would switch this process to flush denormals.
    for command in (
        [gcc, *FLAGS, *defines, "-c", str(HERE / name), "-o", str(unit)],
        [gcc, "-shared", "-fopenmp", str(unit), "-o", str(library), "-lmvec", "-lm"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoKernel(f"gcc fails: {done.stderr.strip()[:500]}")
    return ctypes.CDLL(str(library))


@dataclass(frozen=True, eq=False)
class Kernel:
    """A loaded kernel."""

    library: ctypes.CDLL

    def bind(
        self, parameters: Arrays, data: Arrays, gradients: Arrays, threads: int
    ) -> Callable[[], float]:
        """A call without arguments. The arrays are kept alive by it."""
        inputs = [*parameters.values(), *data.values()]
        assert all(a.flags.c_contiguous for a in (*inputs, *gradients.values()))
        lengths = [a.shape[0] if a.ndim else 1 for a in inputs]
        sizes = (ctypes.c_long * len(lengths))(*lengths)
        ins = (ctypes.c_void_p * len(inputs))(*(a.ctypes.data for a in inputs))
        pointers = [a.ctypes.data for a in gradients.values()]
        outs = (ctypes.c_void_p * len(pointers))(*pointers)
        function = self.library.evaluate
        function.restype = ctypes.c_double
        kept = (inputs, gradients)

        def call(_: object = kept) -> float:
            return function(sizes, ins, outs, threads)

        return call


def load(loss: Loss, parameters: Arrays, data: Arrays) -> Kernel:
    """The kernel of a loss for the type of these parameters.

    Raises:
        NoKernel: none is written, or there is no compiler, or no OpenBLAS.
    """
    if not loss.kernel:
        raise NoKernel(loss.no_kernel)
    name, *macros = loss.kernel
    single = next(iter(parameters.values())).dtype == np.float32
    library = _compile(name, (*macros, *(["SINGLE"] if single else [])))
    if hasattr(library, "set_gemm"):
        library.set_gemm(_gemm("s" if single else "d"))
    return Kernel(library)


@cache
def _gemm(letter: str) -> ctypes.c_void_p:
    """``cblas_dgemm`` or ``cblas_sgemm``, on one thread: kernels have their own."""
    import scipy

    folder = Path(scipy.__file__).parent.parent / "scipy.libs"
    for path in sorted(folder.glob("*openblas*")):
        library = ctypes.CDLL(str(path))
        for prefix in ("scipy_", ""):
            if hasattr(library, name := f"{prefix}cblas_{letter}gemm"):
                getattr(library, f"{prefix}openblas_set_num_threads")(1)
                return ctypes.cast(getattr(library, name), ctypes.c_void_p)
    raise NoKernel("SciPy brings no OpenBLAS with lengths of 32 bits here")
