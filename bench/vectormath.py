"""Speed and error of the vector math, beside NumPy, PyTorch and libmvec.

    python bench/vectormath.py [FUNCTION ...] [--points 2000]

ns: nanoseconds an element on one thread, over 2048 elements in the first-level cache;
"avx2" is our code without AVX-512. ulp: the largest error found, in units of the last
place, against mpmath over the whole range. PyTorch and libmvec: where installed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import elementwise
import llvmlite.binding as llvm
import math_reference
import numpy as np
from scipy import special

from symgrad.codegen.llvm_text import Emitter, Value

SIZE = 2048
NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "pow": np.power,
    "erf": special.erf,
    "erfc": special.erfc,
    "sigmoid": special.expit,
    "lgamma": special.gammaln,
    "digamma": special.psi,
    "polygamma1": lambda x: special.polygamma(1, x),
    "polygamma2": lambda x: special.polygamma(2, x),
}
TIMED_BETWEEN = {"asin": (-1, 1), "acos": (-1, 1), "atanh": (-1, 1), "acosh": (1, 9)}


def inputs(op: str, dtype: str) -> list[np.ndarray]:
    """What is timed: ordinary numbers."""
    random = np.random.default_rng(0)
    low, high = TIMED_BETWEEN.get(op, (0.1, 5.0))
    count = math_reference.INPUTS[op]
    return [random.uniform(low, high, SIZE).astype(dtype) for _ in range(count)]


def best_of(call: Callable[[], object], times: int = 40) -> float:
    """Nanoseconds an element of an array operation, its dispatch included."""
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        for _ in range(10):
            call()
        best = min(best, time.perf_counter() - start)
    return best / 10 / SIZE * 1e9


def numpy_time(op: str, args: Sequence[np.ndarray]) -> float | None:
    function = NUMPY.get(op, getattr(np, op, None))
    return best_of(lambda: function(*args)) if function else None


def torch_time(op: str, args: Sequence[np.ndarray]) -> float | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    name = {"softplus": None}.get(op, op)
    place = torch.nn.functional if name is None else torch
    function = getattr(place, op, None)
    if function is None:
        return None
    tensors = [torch.from_numpy(a) for a in args]
    return best_of(lambda: function(*tensors))


def libmvec_time(op: str, dtype: str, args: Sequence[np.ndarray]) -> float | None:
    """glibc's vector function, called from the same loop."""
    lanes = elementwise.vector_lanes(dtype)
    kind = {64: "e", 32: "d"}.get(lanes * np.dtype(dtype).itemsize)
    name = op if dtype == "float64" else op + "f"
    symbol = f"_ZGV{kind}N{lanes}{'v' * len(args)}_{name}"
    try:
        llvm.load_library_permanently("libmvec.so.1")
    except RuntimeError:
        return None
    if kind is None or not llvm.address_of_symbol(symbol):
        return None

    def emit(emitter: Emitter, values: Sequence[Value]) -> Sequence[Value]:
        return [emitter.raw_call(symbol, values[0].type, lanes, values)]

    kernel = elementwise.Kernel(emit, len(args), 1, dtype)
    return kernel.nanoseconds(*args)


def error(op: str, dtype: str, points: int) -> float:
    args = math_reference.points(op, dtype, points, seed=7)
    if op in ("logaddexp", "lgamma", "digamma"):
        args = [abs(a) for a in args]
    got = elementwise.function(op, dtype, inputs=len(args))(*args)
    return math_reference.worst(op, dtype, got, args)[0]


def row(op: str, dtype: str, points: int) -> str:
    args = inputs(op, dtype)
    ours = [
        elementwise.function(op, dtype, level=level, inputs=len(args)).nanoseconds(
            *args
        )
        for level in ("native", "avx2")
    ]
    theirs = [
        numpy_time(op, args),
        torch_time(op, args),
        libmvec_time(op, dtype, args),
    ]
    cells = "".join(
        f"{t:9.2f}" if t is not None else f"{'-':>9}" for t in [*ours, *theirs]
    )
    return f"{op:11s}{dtype:9s}{cells}{error(op, dtype, points):9.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("functions", nargs="*", metavar="FUNCTION")
    parser.add_argument("--points", type=int, default=500, help="per interval")
    options = parser.parse_args()
    heads = ("ours", "avx2", "numpy", "torch", "libmvec", "ulp")
    print(f"{'ns':20s}" + "".join(f"{head:>9}" for head in heads))
    for op in options.functions or math_reference.EXACT:
        for dtype in elementwise.TYPES:
            print(row(op, dtype, options.points), flush=True)


if __name__ == "__main__":
    main()
