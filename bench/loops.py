"""Nanoseconds a step of the descent loops, beside JAX's fori_loop and a PyTorch loop.

    python bench/loops.py [--seconds 0.03] [--busy] [--json FILE]

A tanh neuron on 2 rows of 2 features, and on 100 rows, and on 1000 rows of 5; a
logistic regression on 1000 rows of 5, and on 100 000 rows of 10 in batches of 64. Each
figure is the fastest of many runs, everything but compilation included; the parameters
after 50 steps are compared first. JAX: ``value_and_grad`` and the update inside ``jit``
and ``fori_loop``; its batches are gathers by one permutation for all epochs. PyTorch:
``torch.optim``, indexed batches. One thread each. Where PyTorch or JAX is not installed
its column is empty.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.remove(str(Path(__file__).parent))  # files here would shadow modules

import symgrad as sg
from symgrad.optimize import RULES, minimize_objective

LR = 1e-4
REPEATS = 15
NEURON = "mean((tanh(X @ w + b) - y)**2)"
LOGISTIC = "mean(log(1 + exp(-y * (X @ w + b))))"

Run = Callable[[int], np.ndarray]
"""Makes some steps from the start; the last parameters."""


@dataclass(frozen=True)
class Problem:
    """A loss of w (d,) and b on X (n, d) and y (n,)."""

    name: str
    text: str
    rows: int
    columns: int
    batch_size: int | None = None

    def data(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(self.rows, self.columns))
        y = np.sign(rng.normal(size=self.rows)) * rng.uniform(0.2, 0.8, self.rows)
        return {"X": X, "y": np.sign(y) if self.text == LOGISTIC else y}

    def start(self) -> np.ndarray:
        return np.linspace(-0.2, 0.3, self.columns + 1)


PROBLEMS = (
    Problem("neuron 2x2", NEURON, 2, 2),
    Problem("neuron 100x2", NEURON, 100, 2),
    Problem("neuron 1000x5", NEURON, 1000, 5),
    Problem("logistic 1000x5", LOGISTIC, 1000, 5),
    Problem("logistic 100000x10, batches of 64", LOGISTIC, 100_000, 10, 64),
)


def ours(problem: Problem, method: str) -> Run:
    objective = sg.compile(problem.text, wrt=["w", "b"], threads=1).bind(
        **problem.data()
    )
    start = problem.start()
    objective.pack({"w": start[:-1], "b": start[-1]})

    def run(steps: int) -> np.ndarray:
        found = minimize_objective(
            objective, start, method=method, lr=LR, steps=steps, tol=0.0,
            batch_size=problem.batch_size, seed=0,
        )  # fmt: skip
        assert found.nit == steps, found.message
        return found.last

    return run


def epochs(problem: Problem) -> Iterator[np.ndarray]:
    """The rows of each batch, in the order of ours."""
    assert problem.batch_size is not None
    generator = np.random.default_rng(0)
    while True:
        order = generator.permutation(problem.rows)
        for first in range(0, problem.rows, problem.batch_size):
            yield order[first : first + problem.batch_size]


# ----------------------------------------------------------------------------- PyTorch


def torch_loop(problem: Problem, method: str) -> Run:
    import torch

    torch.set_num_threads(1)
    X, y = (torch.from_numpy(a) for a in problem.data().values())
    make = {
        "gd": lambda p: torch.optim.SGD(p, lr=LR),
        "momentum": lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9),
        "nesterov": lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, nesterov=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=LR),
        "adam": lambda p: torch.optim.Adam(p, lr=LR),
        "adamw": lambda p: torch.optim.AdamW(p, lr=LR),
    }[method]

    def loss(w: Any, b: Any, X: Any, y: Any) -> Any:
        if problem.text == NEURON:
            return ((torch.tanh(X @ w + b) - y) ** 2).mean()
        return torch.nn.functional.softplus(-y * (X @ w + b)).mean()

    def run(steps: int) -> np.ndarray:
        start = torch.from_numpy(problem.start())
        w, b = start[:-1].clone(), start[-1].clone()
        w.requires_grad_()
        b.requires_grad_()
        optimizer = make([w, b])
        batches = epochs(problem) if problem.batch_size else None
        for _ in range(steps):
            data = X, y
            if batches is not None:
                rows = torch.from_numpy(next(batches))
                data = X[rows], y[rows]
            optimizer.zero_grad()
            loss(w, b, *data).backward()
            optimizer.step()
        return np.append(w.detach().numpy(), b.detach().numpy())

    return run


# --------------------------------------------------------------------------------- JAX


def jax_updates() -> dict[str, Callable[..., Any]]:
    """(x, g, (u, v), t) -> x, (u, v); t counts from 1."""
    from jax import numpy as jnp

    def gd(x, g, s, t):
        return x - LR * g, s

    def momentum(x, g, s, t):
        u = 0.9 * s[0] + g
        return x - LR * u, (u, s[1])

    def nesterov(x, g, s, t):
        u = 0.9 * s[0] + g
        return x - LR * (g + 0.9 * u), (u, s[1])

    def rmsprop(x, g, s, t):
        v = 0.99 * s[1] + 0.01 * g * g
        return x - LR * g / (jnp.sqrt(v) + 1e-8), (s[0], v)

    def adam(x, g, s, t):
        u, v = 0.9 * s[0] + 0.1 * g, 0.999 * s[1] + 0.001 * g * g
        root = jnp.sqrt(v / (1 - 0.999**t))
        return x - LR * u / (1 - 0.9**t) / (root + 1e-8), (u, v)

    def adamw(x, g, s, t):
        return adam(x * (1 - LR * 0.01), g, s, t)

    return {f.__name__: f for f in (gd, momentum, nesterov, rmsprop, adam, adamw)}


def jax_loop(problem: Problem, method: str) -> Run:
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    from jax import numpy as jnp

    X, y = (jnp.asarray(a) for a in problem.data().values())
    update, d, size = jax_updates()[method], problem.columns, problem.batch_size

    def loss(p: Any, X: Any, y: Any) -> Any:
        z = X @ p[:d] + p[d]
        if problem.text == NEURON:
            return jnp.mean((jnp.tanh(z) - y) ** 2)
        return jnp.mean(jax.nn.softplus(-y * z))

    both = jax.value_and_grad(loss)

    def turn(k: Any, carried: Any) -> Any:
        x, s, _, order = carried
        data = X, y
        if size is not None:
            first = k % (problem.rows // size) * size
            rows = jax.lax.dynamic_slice(order, (first,), (size,))
            data = X[rows], y[rows]
        value, g = both(x, *data)
        x, s = update(x, g, s, (k + 1).astype(jnp.float64))
        return x, s, value, order

    @jax.jit
    def loop(x: Any, steps: Any) -> Any:
        zeros = jnp.zeros_like(x)
        order = jnp.asarray(np.random.default_rng(0).permutation(problem.rows))
        start = (x, (zeros, zeros), 0.0, order)
        return jax.lax.fori_loop(0, steps, turn, start)

    return lambda steps: np.asarray(loop(problem.start(), steps)[0])


# ------------------------------------------------------------------------------ timing


def length(run: Run, seconds: float, clock: Clock) -> int:
    """Steps that take about so long."""
    steps, took = 10, 0.0
    while took < seconds / 2:
        took = min(duration(run, steps, clock) for _ in range(3))
        steps = int(steps * min(10.0, max(1.2, seconds / max(took, 1e-9))))
    return steps


Clock = Callable[[], float]


def duration(run: Run, steps: int, clock: Clock) -> float:
    started = clock()
    run(steps)
    return clock() - started


def per_step(runs: dict[str, Run], seconds: float, clock: Clock) -> dict[str, float]:
    """The fastest of many runs, taken in turns, in ns a step."""
    steps = {name: length(run, seconds, clock) for name, run in runs.items()}
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(REPEATS):
        for name, run in runs.items():
            took = duration(run, steps[name], clock)
            best[name] = min(best[name], 1e9 * took / steps[name])
    return best


PEERS = {"jax": jax_loop, "torch": torch_loop}


def measure(
    problem: Problem, method: str, seconds: float, clock: Clock
) -> dict[str, float]:
    """Check, then time; ns a step by name."""
    runs = {"symgrad": ours(problem, method)}
    expected = runs["symgrad"](50)
    if problem.batch_size is None:  # long enough for a loop with the loss inside
        runs["symgrad"](400_000_000 // (100 + problem.rows))
    for name, make in PEERS.items():
        if importlib.util.find_spec(name) is None:
            continue
        runs[name] = make(problem, method)
        if name == "torch" or problem.batch_size is None:  # JAX draws other batches
            last = runs[name](50)
            np.testing.assert_allclose(last, expected, rtol=1e-8, atol=1e-10)
    if problem.batch_size is not None:
        seconds *= 10  # an epoch's shuffle must not weigh more than in a long run
    return per_step(runs, seconds, clock)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.03, help="a run's length")
    parser.add_argument(
        "--busy", action="store_true", help="processor time of all threads"
    )
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    clock = time.process_time if options.busy else time.perf_counter
    rows = []
    print("| problem | method | symgrad, ns | JAX, ns | PyTorch, ns | ratios |")
    print("| --- | --- | --- | --- | --- | --- |")
    for problem in PROBLEMS:
        for method in RULES:
            found = measure(problem, method, options.seconds, clock)
            rows.append({"problem": problem.name, "method": method, **found})
            peers = [found.get(name) for name in PEERS]
            cells = [f"{t:.0f}" if t else "" for t in peers]
            ratios = ", ".join(f"{t / found['symgrad']:.1f}" for t in peers if t)
            print(
                f"| {problem.name} | {method} | {found['symgrad']:.1f} | "
                f"{cells[0]} | {cells[1]} | {ratios} |",
                flush=True,
            )
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
