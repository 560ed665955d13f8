"""Nanoseconds a step of the descent loops, on a loss of three parameters.

The loss is a Numba cfunc that costs a few nanoseconds, so what is measured is the loop
around it: in compiled slices, with a callback (one-step slices), from Python, and what
PyTorch and JAX take where they are installed. Values are checked first.

    python bench/loops.py [--steps 1000000]
"""

from __future__ import annotations

import argparse
import ctypes
import time
from types import SimpleNamespace

import numba
import numpy as np
from numba import types

from symgrad.optimize import RULES, minimize_objective

START = np.array([-1.2, 1.0, 0.0])
LR = 1e-4
VECTOR = types.CPointer(types.float64)


@numba.cfunc(types.float64(types.voidptr, VECTOR, VECTOR))
def valley(context, x, gradient):
    a = 1.0 - x[0]
    b = x[1] - x[0] * x[0]
    c = x[2] - x[1]
    gradient[0] = -2.0 * a - 400.0 * x[0] * b
    gradient[1] = 200.0 * b - 2.0 * c
    gradient[2] = 2.0 * c
    return a * a + 100.0 * b * b + c * c


class Valley:
    """The protocol of a bound loss around the cfunc."""

    size, rows, seconds_per_call = 3, None, 1e-8

    def __init__(self, native=True):
        address = ctypes.cast(valley.ctypes, ctypes.c_void_p).value
        self.native = SimpleNamespace(function=address, context=0) if native else None
        self.call = ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_void_p] * 3)(address)

    def value_and_grad(self, x, out=None):
        out = np.empty(3) if out is None else out
        return self.call(0, x.ctypes.data, out.ctypes.data), out

    def __call__(self, x):
        return self.value_and_grad(x)[0]

    def pack(self, params):
        return np.array(params["x"], dtype=float)

    def unpack(self, x):
        return {"x": x.copy()}


def check():
    """Two hundred steps of gradient descent, against NumPy."""
    x, gradient = START.copy(), np.empty(3)
    for _ in range(200):
        Valley().value_and_grad(x, gradient)
        x -= LR * gradient
    found = minimize_objective(Valley(), START, method="gd", lr=LR, steps=200)
    np.testing.assert_allclose(found.last, x, rtol=1e-12)


def per_step(run, steps, repeats=5):
    """The fastest of some runs, in ns a step."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run(steps)
        times.append(time.perf_counter() - started)
    return 1e9 * min(times) / steps


def ours(method, native=True, callback=None):
    def run(steps):
        minimize_objective(
            Valley(native), START, method=method, lr=LR, steps=steps, tol=0.0,
            callback=callback,
        )  # fmt: skip

    run(10)
    return run


def torch_adam():
    import torch

    torch.set_num_threads(1)

    def run(steps):
        p = torch.tensor(START, requires_grad=True)
        optimizer = torch.optim.Adam([p], lr=LR)
        for _ in range(steps):
            optimizer.zero_grad()
            c = p[2] - p[1]
            loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2 + c * c
            loss.backward()
            optimizer.step()

    return run


def jax_gd():
    import jax

    jax.config.update("jax_enable_x64", True)

    def loss(p):
        return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2 + (p[2] - p[1]) ** 2

    step = jax.grad(loss)

    @jax.jit
    def loop(p, steps):
        return jax.lax.fori_loop(0, steps, lambda _, p: p - LR * step(p), p)

    loop(START, 10).block_until_ready()
    return lambda steps: loop(START, steps).block_until_ready()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    steps = parser.parse_args().steps
    check()
    print(f"{'method':<12}{'compiled':>12}{'callback':>12}{'from Python':>14}")
    for method in RULES:
        compiled = per_step(ours(method), steps)
        watched = per_step(ours(method, callback=lambda r: None), steps // 100)
        python = per_step(ours(method, native=False), steps // 100)
        print(f"{method:<12}{compiled:>9.1f} ns{watched:>9.0f} ns{python:>11.0f} ns")
    for name, make, count in (
        ("torch eager, Adam", torch_adam, 1000),
        ("jax fori_loop, gd", jax_gd, steps),
    ):
        try:
            print(f"{name:<24}{per_step(make(), count, 3):>11.1f} ns")
        except ImportError:
            print(f"{name:<24}{'absent':>11}")


if __name__ == "__main__":
    main()
