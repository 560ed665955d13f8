"""One loss-and-gradient call: symgrad against PyTorch (eager) and JAX (jit), on CPUs.

    python bench/compare.py [--losses logistic,mixture] [--dtypes float64] [--repeat 15]
                            [--scale 0.1] [--json out.json]

Values and gradients of all three are compared first; a library that disagrees is not
timed. Calls are interleaved (one of each in turn), so that a change of the machine's
speed meets all alike, and medians are given. Parameters change a little at each call,
as in a descent; data stay where they are. PyTorch and JAX use all processors, and data
that are already theirs. Compile time is measured in the same process, imports done,
with symgrad's disk cache off.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ["SYMGRAD_CACHE"] = "off"  # read at import

Arrays = dict[str, np.ndarray]
Answer = tuple[float, Arrays]

TOLERANCE = {"float64": 1e-9, "float32": 5e-4}


# --- Losses ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """A loss in three notations. ``make``: size factor -> parameters and data."""

    text: str
    torch: Callable[..., Any]
    jax: Callable[..., Any]
    make: Callable[[float], tuple[Arrays, Arrays]]


def logistic_arrays(scale: float) -> tuple[Arrays, Arrays]:
    """10⁶ rows of 10 features."""
    rng = np.random.default_rng(0)
    n = max(1, int(1_000_000 * scale))
    X = rng.normal(size=(n, 10))
    y = np.where(X @ rng.normal(size=10) > 0, 1.0, -1.0)
    return {"w": 0.1 * rng.normal(size=10), "b": np.array(0.1)}, {"X": X, "y": y}


def logistic_torch(w, b, X, y):
    import torch

    return torch.nn.functional.softplus(-y * (X @ w + b)).mean()


def logistic_jax(w, b, X, y):
    import jax

    return jax.nn.softplus(-y * (X @ w + b)).mean()


MIXTURE = """
z = (x[:, None, :] - mu) * exp(q)
-sum(logsumexp(alpha + sum(q, axis=1) - 0.5*sum(z**2, axis=2), axis=1))
"""


def mixture_arrays(scale: float) -> tuple[Arrays, Arrays]:
    """2·10⁴ points in 10 dimensions, 25 components with diagonal covariance."""
    rng = np.random.default_rng(1)
    n, d, k = max(1, int(20_000 * scale)), 10, 25
    parameters = {
        "alpha": 0.1 * rng.normal(size=k),
        "mu": rng.normal(size=(k, d)),
        "q": 0.1 * rng.normal(size=(k, d)),
    }
    return parameters, {"x": rng.normal(size=(n, d))}


def mixture_torch(alpha, mu, q, x):
    import torch

    z = (x[:, None, :] - mu) * q.exp()
    inner = alpha + q.sum(1) - 0.5 * (z**2).sum(2)
    return -torch.logsumexp(inner, 1).sum()


def mixture_jax(alpha, mu, q, x):
    import jax
    import jax.numpy as jnp

    z = (x[:, None, :] - mu) * jnp.exp(q)
    inner = alpha + q.sum(1) - 0.5 * (z**2).sum(2)
    return -jax.scipy.special.logsumexp(inner, 1).sum()


NETWORK = """
h1 = tanh(X @ W1 + b1)
h2 = tanh(h1 @ W2 + b2)
mean((h2 @ w3 + b3 - y)**2)
"""


def network_arrays(scale: float) -> tuple[Arrays, Arrays]:
    """A 2-16-16-1 network on 10⁴ rows."""
    rng = np.random.default_rng(2)
    n = max(1, int(10_000 * scale))
    parameters = {
        "W1": rng.normal(size=(2, 16)),
        "b1": np.zeros(16),
        "W2": 0.25 * rng.normal(size=(16, 16)),
        "b2": np.zeros(16),
        "w3": 0.25 * rng.normal(size=16),
        "b3": np.array(0.0),
    }
    X = rng.normal(size=(n, 2))
    return parameters, {"X": X, "y": np.sin(X[:, 0]) * X[:, 1]}


def network_torch(W1, b1, W2, b2, w3, b3, X, y):
    h = ((X @ W1 + b1).tanh() @ W2 + b2).tanh()
    return ((h @ w3 + b3 - y) ** 2).mean()


def network_jax(W1, b1, W2, b2, w3, b3, X, y):
    import jax.numpy as jnp

    h = jnp.tanh(jnp.tanh(X @ W1 + b1) @ W2 + b2)
    return ((h @ w3 + b3 - y) ** 2).mean()


def kmeans_arrays(scale: float) -> tuple[Arrays, Arrays]:
    """2·10⁵ points in the plane, 25 centres."""
    rng = np.random.default_rng(3)
    n = max(1, int(200_000 * scale))
    return {"C": rng.normal(size=(25, 2))}, {"P": rng.normal(size=(n, 2))}


def kmeans_torch(C, P):
    return ((P[:, None, :] - C) ** 2).sum(2).amin(1).sum()


def kmeans_jax(C, P):
    return ((P[:, None, :] - C) ** 2).sum(2).min(1).sum()


LOSSES = {
    "logistic": Loss(
        "mean(softplus(-y*(X @ w + b)))", logistic_torch, logistic_jax, logistic_arrays
    ),
    "mixture": Loss(MIXTURE, mixture_torch, mixture_jax, mixture_arrays),
    "network": Loss(NETWORK, network_torch, network_jax, network_arrays),
    "kmeans": Loss(
        "sum(min(sum((P[:, None, :] - C)**2, axis=2), axis=1))",
        kmeans_torch,
        kmeans_jax,
        kmeans_arrays,
    ),
}


# --- Libraries: each is compiled into a function of the parameters --------------------


@dataclass(frozen=True)
class Compiled:
    """``call``: parameters -> (loss, gradients). ``seconds``: taken to compile."""

    call: Callable[[Arrays], Answer]
    seconds: float


def compile_symgrad(loss: Loss, parameters: Arrays, data: Arrays) -> Compiled:
    """The bound objective over the flat vector."""
    import symgrad as sg

    dtype = str(next(iter(data.values())).dtype)
    begin = time.perf_counter()
    f = sg.compile(loss.text, wrt=list(parameters), dtype=dtype)
    f.specialize(**parameters, **data)
    seconds = time.perf_counter() - begin
    objective = f.bind(**data)

    def call(values: Arrays) -> Answer:
        value, gradient = objective.value_and_grad(objective.pack(values))
        return value, objective.unpack(gradient)

    return Compiled(call, seconds)


def compile_torch(loss: Loss, parameters: Arrays, data: Arrays) -> Compiled:
    """Eager PyTorch: nothing to compile."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    fixed = {name: torch.from_numpy(a) for name, a in data.items()}

    def call(values: Arrays) -> Answer:
        leaves = {n: torch.tensor(a, requires_grad=True) for n, a in values.items()}
        value = loss.torch(**leaves, **fixed)
        value.backward()
        return value.item(), {n: t.grad.numpy() for n, t in leaves.items()}

    return Compiled(call, 0.0)


def compile_jax(loss: Loss, parameters: Arrays, data: Arrays) -> Compiled:
    """``jax.jit(jax.value_and_grad(...))``, compiled ahead."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    fixed = {name: jax.device_put(a) for name, a in data.items()}
    both = jax.value_and_grad(lambda values, d: loss.jax(**values, **d))
    jax.jit(lambda x: x + 1)(1.0)  # start the backend, which is not compilation
    begin = time.perf_counter()
    compiled = jax.jit(both).lower(parameters, fixed).compile()
    seconds = time.perf_counter() - begin

    def call(values: Arrays) -> Answer:
        value, gradient = jax.block_until_ready(compiled(values, fixed))
        return float(value), {n: np.asarray(g) for n, g in gradient.items()}

    return Compiled(call, seconds)


LIBRARIES = {
    "symgrad": compile_symgrad,
    "torch": compile_torch,
    "jax": compile_jax,
}


# --- Measuring ------------------------------------------------------------------------


def difference(left: Answer, right: Answer) -> float:
    """The largest difference of loss and gradients, relative to the largest entry."""
    worst = abs(left[0] - right[0]) / max(abs(right[0]), 1e-30)
    for name, expected in right[1].items():
        got = np.asarray(left[1][name], dtype=np.float64)
        scale = max(float(np.abs(expected).max()), 1e-30)
        worst = max(worst, float(np.abs(got - expected).max()) / scale)
    return worst if np.isfinite(worst) else float("inf")


def interleaved(
    calls: Mapping[str, Callable[[Arrays], Answer]], parameters: Arrays, repeat: int
) -> dict[str, float]:
    """Median seconds of each call."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for step in range(repeat + 2):  # two rounds to warm up
        values = {n: a * a.dtype.type(1 + 1e-6 * step) for n, a in parameters.items()}
        for name, call in calls.items():
            begin = time.perf_counter()
            call(values)
            taken[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times[2:]) for name, times in taken.items()}


def run(name: str, dtype: str, options: argparse.Namespace) -> dict[str, Any]:
    """Check and time one loss at one precision."""
    loss = LOSSES[name]
    exact, data64 = loss.make(options.scale)
    parameters = {n: a.astype(dtype) for n, a in exact.items()}
    data = {n: a.astype(dtype) for n, a in data64.items()}
    # The oracle sees what the library sees: the same rounded numbers, in float64.
    wide = [{n: a.astype(np.float64) for n, a in d.items()} for d in (parameters, data)]
    reference = compile_torch(loss, *wide).call(wide[0])
    record: dict[str, Any] = {"loss": name, "dtype": dtype}
    calls = {}
    for library in options.libraries:
        compiled = LIBRARIES[library](loss, parameters, data)
        error = difference(compiled.call(parameters), reference)
        record[library] = {"compile_s": compiled.seconds, "error": error}
        if error <= TOLERANCE[dtype]:
            calls[library] = compiled.call
        else:
            print(f"{name} {dtype}: {library} differs by {error:.1e}, not timed")
    for library, seconds in interleaved(calls, parameters, options.repeat).items():
        record[library]["call_s"] = seconds
    return record


# --- Report ---------------------------------------------------------------------------


def cells(record: dict[str, Any], libraries: list[str]) -> list[str]:
    """One row: times in ms, how often slower than symgrad, compile times."""
    row = [record["loss"], record["dtype"]]
    ours = record.get("symgrad", {}).get("call_s")
    for library in libraries:
        taken = record[library].get("call_s")
        ratio = f" ({taken / ours:.1f}x)" if taken and ours and taken != ours else ""
        row.append(f"{1e3 * taken:.3g}{ratio}" if taken else "wrong")
    compiles = [f"{record[name]['compile_s']:.3f}" for name in libraries]
    errors = [f"{record[name]['error']:.0e}" for name in libraries]
    return [*row, " / ".join(compiles), " / ".join(errors)]


def table(records: list[dict[str, Any]], libraries: list[str]) -> str:
    """The records in Markdown."""
    names = " / ".join(libraries)
    head = ["loss", "dtype", *(f"{name} ms" for name in libraries)]
    head += [f"compile s ({names})", f"error ({names})"]
    rows = [head, ["---"] * len(head), *(cells(r, libraries) for r in records)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--losses", default=",".join(LOSSES))
    parser.add_argument("--dtypes", default="float64,float32")
    parser.add_argument("--libraries", default=",".join(LIBRARIES))
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    parser.add_argument("--json", type=Path, help="write all numbers to a file")
    given = parser.parse_args()
    for name in ("losses", "dtypes", "libraries"):
        setattr(given, name, getattr(given, name).split(","))
    return given


def main() -> None:
    """Run everything asked for."""
    given = options()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors\n"
    )
    records = [
        run(name, dtype, given) for name in given.losses for dtype in given.dtypes
    ]
    print(table(records, given.libraries))
    if given.json:
        given.json.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
