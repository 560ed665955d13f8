"""Speed and error of the vector math, beside NumPy, PyTorch and libmvec.

    python bench/vectormath.py [FUNCTION ...] [--points 2000]
    python bench/vectormath.py --write-libmvec --points 1000

ns: nanoseconds an element on one thread, over 2048 elements in the first-level cache;
"avx2" is our code without AVX-512. ulp: the largest error found, in units of the last
place, against mpmath over the whole range. PyTorch and libmvec: where installed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import elementwise
import math_reference
import numpy as np
from scipy import special

from symgrad.codegen import math_choice
from symgrad.codegen.llvm_text import Emitter, Value
from symgrad.codegen.math_lanes import Lanes

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


def libmvec_kernel(
    op: str, dtype: str, count: int, level: str = "native"
) -> elementwise.Kernel | None:
    """glibc's vector function, called from the same loop."""
    have = elementwise.features(level)
    if not math_choice.has_libmvec(op, elementwise.TYPES[dtype], have):
        return None

    def emit(emitter: Emitter, values: Sequence[Value]) -> Sequence[Value]:
        wide = [Lanes(emitter, value) for value in values]
        return [math_choice.libmvec(op, *wide).value]

    return elementwise.Kernel(emit, count, 1, dtype, level=level)


def libmvec_time(op: str, dtype: str, args: Sequence[np.ndarray]) -> float | None:
    kernel = libmvec_kernel(op, dtype, len(args))
    return None if kernel is None else kernel.nanoseconds(*args)


def libmvec_row(op: str, dtype: str, level: str, points: int) -> str | None:
    """Error and gain of glibc's function, as a line of ``math_libmvec.py``."""
    args = inputs(op, dtype)
    kernel = libmvec_kernel(op, dtype, len(args), level)
    if kernel is None:
        return None
    ulp = 0.0
    for seed in (21, 22):
        places = math_reference.points(op, dtype, points, seed=seed)
        found = math_reference.worst(op, dtype, kernel(*places), places)[0]
        ulp = max(ulp, found)
    ours = elementwise.function(op, dtype, level=level, inputs=len(args))
    gain = ours.nanoseconds(*args) / kernel.nanoseconds(*args)
    bits = 512 if level == "native" else 256
    type = elementwise.TYPES[dtype]
    return f'    ("{op}", "{type}", {bits}): Measured({ulp:.2f}, {gain:.2f}),'


def write_libmvec(points: int) -> None:
    """Measure glibc's functions and write the table that the choice is made from."""
    from symgrad.codegen import math_libmvec

    if elementwise.vector_lanes("float64") != 8:
        raise SystemExit("measuring both lengths of vectors needs AVX-512")
    path = Path(math_libmvec.__file__)
    head = path.read_text(encoding="utf-8").partition("MEASURED")[0]
    lines = []
    for op in math_reference.EXACT:
        for dtype in elementwise.TYPES:
            for level in ("native", "avx2"):
                line = libmvec_row(op, dtype, level, points)
                if line is not None:
                    lines.append(line)
                    print(line, flush=True)
    body = "\n".join(lines)
    text = f"{head}MEASURED: dict[tuple[str, str, int], Measured] = {{\n{body}\n}}\n"
    path.write_text(text, encoding="utf-8")


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
    parser.add_argument(
        "--write-libmvec", action="store_true", help="measure glibc's for the choice"
    )
    options = parser.parse_args()
    if options.write_libmvec:
        write_libmvec(options.points)
        return
    heads = ("ours", "avx2", "numpy", "torch", "libmvec", "ulp")
    print(f"{'ns':20s}" + "".join(f"{head:>9}" for head in heads))
    for op in options.functions or math_reference.EXACT:
        for dtype in elementwise.TYPES:
            print(row(op, dtype, options.points), flush=True)


if __name__ == "__main__":
    main()
