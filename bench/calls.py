"""What a call costs from Python, on a loss that takes next to nothing.

    python bench/calls.py [--others]

A bound objective on the flat vector, the compiled loss by name, a loss with small data
by name; with --others PyTorch and JAX beside them. The best of several rounds.
"""

from __future__ import annotations

import argparse
import sys
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.remove(str(Path(__file__).parent))  # files here would shadow modules

import symgrad as sg

TEXT = "(a*b + c)*f"
VALUES = {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0}

Call = Callable[[], object]


def nanoseconds(call: Call) -> float:
    """The time of one call."""
    timer = timeit.Timer(call)
    count, _ = timer.autorange()
    return 1e9 * min(timer.repeat(7, max(1, count // 4))) / max(1, count // 4)


def ours() -> Iterator[tuple[str, Call]]:
    """Calls of symgrad."""
    loss = sg.compile(TEXT, wrt=list(VALUES))
    bound = loss.bind()
    x = bound.pack(VALUES)
    out = np.empty(4)
    assert bound.value_and_grad(x)[0] == loss(**VALUES) == bound(x) == -8.0
    yield "objective.value_and_grad(x)", lambda: bound.value_and_grad(x)
    yield "objective.value_and_grad(x, out)", lambda: bound.value_and_grad(x, out=out)
    yield "objective(x)", lambda: bound(x)
    yield "loss.value_and_grad(**floats)", lambda: loss.value_and_grad(**VALUES)
    yield "loss(**floats)", lambda: loss(**VALUES)
    fit = sg.compile("mean((tanh(X @ w + b) - y)**2)", wrt=["w", "b"])
    rng = np.random.default_rng(0)
    values = {"w": rng.normal(size=3), "b": 0.1}
    data = {"X": rng.normal(size=(5, 3)), "y": rng.normal(size=5)}
    fit.value_and_grad(**values, **data)
    yield "fit.value_and_grad(w, b, X, y)", lambda: fit.value_and_grad(**values, **data)


def pytorch() -> Iterator[tuple[str, Call]]:
    """The same in eager PyTorch."""
    import torch

    a, b, c, f = (
        torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for value in VALUES.values()
    )

    def call() -> object:
        value = (a * b + c) * f
        return value, torch.autograd.grad(value, (a, b, c, f))

    yield "PyTorch, eager", call


def jax() -> Iterator[tuple[str, Call]]:
    """The same in JAX, compiled."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    both = jax.jit(jax.value_and_grad(lambda v: (v[0] * v[1] + v[2]) * v[3]))
    x = np.array(list(VALUES.values()))
    yield "JAX, jit", lambda: jax.block_until_ready(both(x))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--others", action="store_true", help="PyTorch and JAX too")
    sources = [ours, pytorch, jax] if parser.parse_args().others else [ours]
    print("| call | ns |\n| --- | --- |")
    for source in sources:
        for name, call in source():
            call()
            print(f"| {name} | {nanoseconds(call):.0f} |")


if __name__ == "__main__":
    main()
