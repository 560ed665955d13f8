"""Losses on an NVIDIA GPU: parity with the processor, time against PyTorch and JAX.

    python bench/cuda.py --check                 parity and timing, within five minutes
    python bench/cuda.py [--losses logistic,kmeans] [--dtypes float32]
                         [--rows 10000,1000000] [--libraries symgrad,torch]
                         [--repeat 20] [--json out.json]

Needs ``pip install symgrad[cuda]`` and a driver; PyTorch and JAX are timed where they
are installed (with CUDA), and --check needs pytest, as it uses the tests' tables.

Parity: every loss of the tests' tables and every operation, on the device and on the
processor, twice: the second call must give the same bits, unless the loss adds to
places that its rows choose.

Timing: values and gradients agree first. Data and parameters are on the device. "call"
is the time from Python until the loss is back there; "device" is the time per call when
many are started together and waited for once. The bandwidth is that of the bytes of the
data, each read once, as a share of a copy on the device (which reads and writes).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# This file has the name of NVIDIA's package: its folder must not be searched.
sys.path = [p for p in sys.path if Path(p or ".").resolve() != ROOT / "bench"]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.comparison.contenders import jax_names, torch_names  # noqa: E402
from bench.comparison.losses import STANDARD, Arrays, Loss  # noqa: E402

Answer = tuple[float, dict[str, Any]]
ALL: dict[str, Loss] = {loss.name: loss for loss in STANDARD if not loss.scalar}
MOST_BYTES = 1 << 34
"""Data beyond this are not timed."""

TOLERANCE = {"float64": 1e-9, "float32": 2e-3}
BASE_ROWS = 100_000
"""Rows made by NumPy; more are repetitions of these."""

CHECKED = ("logistic", "mixture", "kmeans", "softmax", "network", "wide", "factors")
"""Losses that --check times, where they are called so."""

CHECK_SECONDS = 170.0
"""Parity stops here, so that timing has its share of five minutes."""


def difference(left: Answer, right: Answer) -> float:
    """The largest difference of loss and gradients, relative to the largest entry."""
    worst = abs(left[0] - right[0]) / max(abs(right[0]), 1e-30)
    for name, expected in right[1].items():
        got = np.asarray(left[1][name], dtype=np.float64)
        scale = max(float(np.abs(expected).max(initial=0.0)), 1e-30)
        worst = max(worst, float(np.abs(got - expected).max(initial=0.0)) / scale)
    return worst if np.isfinite(worst) else float("inf")


# --- Parity ---------------------------------------------------------------------------


def cases() -> Iterator[Any]:
    """All losses of the tests' tables."""
    from loss_constructs import ARRAYS, ELEMENTS
    from loss_regressions import REGRESSIONS
    from losses import LARGE, MODELS, SPECIFIED

    yield from (*SPECIFIED, *MODELS, *LARGE, *REGRESSIONS, *ELEMENTS, *ARRAYS)


def compare_case(case: Any, dtype: str) -> str | None:
    """What is wrong with a loss on the device; None if nothing is."""
    import symgrad as sg

    values = case.values(case.few(1000))
    wanted = sg.compile(case.text, wrt=case.wrt, dtype=dtype).value_and_grad(**values)
    f = sg.compile(case.text, wrt=case.wrt, dtype=dtype, device="cuda")
    first, second = (f.value_and_grad(**values) for _ in range(2))
    allowed = 1e-10 if dtype == "float64" else 10 * case.single
    error = difference(first, (wanted[0], dict(wanted[1])))
    if error > allowed:
        return f"differs from the processor by {error:.1e}"
    same = first[0] == second[0] and all(
        np.array_equal(first[1][k], second[1][k]) for k in first[1]
    )
    atomic = "atomic" in f.explain()
    return None if same or atomic else "two calls differ in their bits"


def compare_operation(name: str, dtype: str) -> str | None:
    """What is wrong with an operation on the device."""
    from symgrad import graph, ops
    from symgrad.codegen.layout import ArraySpec
    from symgrad.runtime.cuda_arrays import uploaded
    from symgrad.runtime.cuda_device import device
    from symgrad.runtime.cuda_kernel import CudaKernel
    from symgrad.runtime.kernel import Kernel

    row, rng = ops.OPS[name], np.random.default_rng(7)
    index = graph.index(graph.size("x0.0"))
    data = {f"x{k}": rng.uniform(*i, 500) for k, i in enumerate(row.sample)}
    inputs = {k: graph.input_(k, (index.extent,)) for k in data}
    root = graph.array(
        (index,),
        graph.to_float(
            ops.apply(name, *(graph.load(x, [index]) for x in inputs.values()))
        ),
    )
    specs = {k: ArraySpec("float64", True, False) for k in data}
    lengths = {"x0.0": 500}
    host = Kernel([root], inputs, specs, dtype, lengths).context(data, lengths)
    wanted = np.empty(500)
    host([], [wanted])
    placed = {k: uploaded(device(), a) for k, a in data.items()}
    kernel = CudaKernel([root], inputs, specs, dtype, lengths)
    context = kernel.context(device(), lengths, placed)
    context.start()
    got = context.results()[0][0]
    unit = np.finfo(dtype).eps * np.maximum(np.abs(wanted), row.scale)
    good = (np.abs(got - wanted) <= 16 * unit) | (got == wanted)
    good |= np.isnan(got) & np.isnan(wanted)
    return None if good.all() else f"{(~good).sum()} of 500 values differ"


def parity(limit: int | None = None) -> int:
    """Compare all; returns the number of failures."""
    from symgrad.ops import OPS

    names = [n for n, row in OPS.items() if row.types in (None, "float") and row.arity]
    jobs: list[tuple[str, Callable[[], str | None]]] = []
    both = ("float64", "float32")
    jobs += [
        (f"{case.name} {dtype}", lambda c=case, t=dtype: compare_case(c, t))
        for case in list(cases())[:limit]
        for dtype in both
    ]
    jobs += [
        (f"operation {n} {dtype}", lambda n=n, t=dtype: compare_operation(n, t))
        for n in names[:limit]
        for dtype in both
    ]
    # in an order that leaves out some of everything, where time is short
    jobs = jobs[::3] + jobs[1::3] + jobs[2::3]
    failures, begin = 0, time.perf_counter()
    for count, (what, job) in enumerate(jobs):
        if time.perf_counter() - begin > CHECK_SECONDS:
            print(f"parity: stopped after {count} of {len(jobs)} comparisons")
            break
        try:
            wrong = job()
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            failures += 1
            print(f"FAILED {what}: {wrong}")
    else:
        print(f"parity: {len(jobs)} comparisons")
    print(f"parity: {failures} failures, {time.perf_counter() - begin:.0f} s")
    return failures


# --- Timing ---------------------------------------------------------------------------


def copy_bandwidth() -> float:
    """Bytes read and written per second by a copy on the device."""
    from symgrad.runtime.cuda_device import Buffer, device

    gpu = device()
    size = min(1 << 30, gpu.free_memory() // 4)
    a, b = Buffer(gpu, size), Buffer(gpu, size)
    gpu.clear(a.address, size)
    best = float("inf")
    for _ in range(5):
        gpu.synchronise()
        begin = time.perf_counter()
        for _ in range(10):
            gpu.copy(b.address, a.address, size)
        gpu.synchronise()
        best = min(best, (time.perf_counter() - begin) / 10)
    return 2 * size / best


def arrays(loss: Loss, rows: int, dtype: str) -> tuple[Arrays, Arrays]:
    """Parameters and data with so many rows: of more than ``BASE_ROWS`` repetitions."""
    made = min(rows, BASE_ROWS)
    parameters, data = loss.arrays(made)

    def repeated(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind == "f":
            array = array.astype(dtype)
        if array.ndim == 0 or array.shape[0] != made:
            return array
        return np.resize(array, (rows, *array.shape[1:]))

    return (
        {k: a.astype(dtype) for k, a in parameters.items()},
        {k: repeated(a) for k, a in data.items()},
    )


class Symgrad:
    """``call`` gives loss and gradients; ``start`` only starts a call."""

    def __init__(self, loss: Loss, parameters: Arrays, data: Arrays, dtype: str):
        import symgrad as sg

        f = sg.compile(loss.text, wrt=list(parameters), dtype=dtype, device="cuda")
        self.objective = f.bind(parameters, **data)
        self.x = self.objective.pack(parameters)

    def call(self) -> tuple[float, Arrays]:
        value, gradient = self.objective.value_and_grad(self.x)
        return value, self.objective.unpack(gradient)

    def start(self) -> None:
        self.objective._gradient_context.launch()

    def wait(self) -> None:
        self.objective._gradient_context.device.synchronise()


class Torch:
    compiled = False

    def __init__(self, loss: Loss, parameters: Arrays, data: Arrays, dtype: str):
        import torch

        self.torch = torch
        self.data = {k: torch.from_numpy(a).cuda() for k, a in data.items()}
        self.parameters = {
            k: torch.from_numpy(a).cuda().requires_grad_()
            for k, a in parameters.items()
        }
        names, formula = torch_names(), loss.formula

        def evaluate(**values: Any) -> Any:
            return formula(names, **values)

        self.loss = torch.compile(evaluate) if self.compiled else evaluate

    def start(self) -> Any:
        for parameter in self.parameters.values():
            parameter.grad = None
        value = self.loss(**self.parameters, **self.data)
        value.backward()
        return value

    def call(self) -> tuple[float, Arrays]:
        value = self.start().item()
        return value, {k: p.grad.cpu().numpy() for k, p in self.parameters.items()}

    def wait(self) -> None:
        self.torch.cuda.synchronize()


class TorchCompiled(Torch):
    compiled = True


class Jax:
    def __init__(self, loss: Loss, parameters: Arrays, data: Arrays, dtype: str):
        # else it takes most of the memory before it needs any
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import jax

        if jax.default_backend() != "gpu":
            raise RuntimeError("this JAX has no GPU")
        jax.config.update("jax_enable_x64", True)
        # as the others: without it products in float32 have 10 bits
        jax.config.update("jax_default_matmul_precision", "highest")
        self.jax = jax
        self.data = {k: jax.device_put(a) for k, a in data.items()}
        self.parameters = {k: jax.device_put(a) for k, a in parameters.items()}
        names = jax_names()
        self.both = jax.jit(
            jax.value_and_grad(lambda p, d: loss.formula(names, **p, **d))
        )
        self.last: Any = None

    def start(self) -> Any:
        self.last = self.both(self.parameters, self.data)
        return self.last

    def call(self) -> tuple[float, Arrays]:
        value, gradient = self.start()
        return float(value), {k: np.asarray(g) for k, g in gradient.items()}

    def wait(self) -> None:
        self.jax.block_until_ready(self.last)


LIBRARIES: dict[str, Callable[..., Any]] = {
    "symgrad": Symgrad, "torch": Torch, "torch.compile": TorchCompiled, "jax": Jax,
}  # fmt: skip


def seconds(library: Any, repeat: int) -> tuple[float, float]:
    """Of a call until the loss is back, and of a call on the device."""
    for _ in range(3):
        library.call()
    calls = []
    for _ in range(repeat):
        begin = time.perf_counter()
        library.call()
        calls.append(time.perf_counter() - begin)
    batches = []
    for _ in range(5):
        library.wait()
        begin = time.perf_counter()
        for _ in range(repeat):
            library.start()
        library.wait()
        batches.append((time.perf_counter() - begin) / repeat)
    return statistics.median(calls), min(batches)


def too_large(loss: Loss, rows: int, dtype: str) -> bool:
    """Whether the data would take more than ``MOST_BYTES``."""
    _, data = loss.arrays(100)
    per_row = sum(a.size for a in data.values() if a.ndim and len(a) == 100) / 100
    return rows * per_row * np.dtype(dtype).itemsize > MOST_BYTES


def measure(name: str, dtype: str, rows: int, options: Any, copy: float) -> list[Any]:
    """All libraries on one loss."""
    loss = ALL[name]
    parameters, data = arrays(loss, rows, dtype)
    size = sum(a.nbytes for a in data.values())
    records, reference = [], None
    for library in options.libraries:
        record = {"loss": name, "dtype": dtype, "rows": rows, "library": library}
        try:
            made = LIBRARIES[library](loss, parameters, data, dtype)
            answer = made.call()
            reference = reference or answer
            record["error"] = difference(answer, reference)
            if record["error"] <= TOLERANCE[dtype]:
                record["call"], record["device"] = seconds(made, options.repeat)
                record["bandwidth"] = size / record["device"] / copy
        except Exception as error:
            record["failed"] = f"{type(error).__name__}: {error}"[:200]
        records.append(record)
        print(told(record), flush=True)
        made = None
    return records


def told(record: dict[str, Any]) -> str:
    head = "{loss:11} {dtype} {rows:>11,} {library:14}".format(**record)
    if "failed" in record:
        return f"{head} failed: {record['failed']}"
    if "call" not in record:
        return f"{head} differs by {record['error']:.1e}: not timed"
    return (
        f"{head} call {1e3 * record['call']:9.3f} ms  device "
        f"{1e3 * record['device']:9.3f} ms  {100 * record['bandwidth']:5.1f} % of copy"
    )


def steps(options: Any) -> None:
    """Descent: the time of one step, small and large."""
    import symgrad as sg

    loss = ALL["logistic"]
    for rows in (1000, 1_000_000):
        parameters, data = arrays(loss, rows, "float64")
        taken = []
        for count in (200, 1200):
            begin = time.perf_counter()
            sg.minimize(
                loss.text, init=parameters, data=data, device="cuda", steps=count,
                tol=0.0, lr=1e-3,
            )  # fmt: skip
            taken.append(time.perf_counter() - begin)
        step = (taken[1] - taken[0]) / 1000
        print(f"adam, logistic, {rows:,} rows: {1e6 * step:.1f} µs a step")


# --- Command line ---------------------------------------------------------------------


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--limit", type=int, help="of comparisons of each kind")
    parser.add_argument("--losses", default=",".join(ALL))
    parser.add_argument("--dtypes", default="float32,float64")
    parser.add_argument("--rows", default="10000,100000,1000000,10000000,100000000")
    parser.add_argument("--libraries", default=",".join(LIBRARIES))
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    for name in ("losses", "dtypes", "libraries"):
        setattr(options, name, getattr(options, name).split(","))
    options.rows = [int(n) for n in options.rows.split(",")]
    present = {"symgrad": "symgrad", "torch": "torch", "torch.compile": "torch",
               "jax": "jax"}  # fmt: skip
    options.libraries = [
        n for n in options.libraries if importlib.util.find_spec(present[n])
    ]
    return options


def timing(options: argparse.Namespace) -> list[dict[str, Any]]:
    copy = copy_bandwidth()
    print(f"copy on the device: {copy / 1e9:.0f} GB/s (read and written)")
    records = []
    for name in options.losses:
        for dtype in options.dtypes:
            for rows in options.rows:
                if too_large(ALL[name], rows, dtype):
                    continue
                records += measure(name, dtype, rows, options, copy)
    return records


def main(arguments: list[str] | None = None) -> int:
    from symgrad.runtime.cuda_device import device

    options = parsed(arguments)
    gpu = device()
    print(f"{gpu.name}, {gpu.arch}, {gpu.processors} multiprocessors")
    failures = 0
    if options.check:
        failures = parity(options.limit)
        options.rows = [n for n in options.rows if n in (10**6, 10**7)] or options.rows
        options.libraries, options.dtypes = ["symgrad"], options.dtypes[:1]
        options.losses = [n for n in CHECKED if n in options.losses] or options.losses
        steps(options)
    records = timing(options)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1), encoding="utf-8")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
