"""Objectives with the protocol of bound losses, for tests of the optimizers alone."""

import ctypes
from types import SimpleNamespace

import numba
import numpy as np
from numba import types

START = np.array([-1.2, 1.0])
"""The usual start in the valley."""


class Fake:
    """An objective over named parameters, from a Python function x -> (loss, grad)."""

    def __init__(self, shapes, function, *, native=None, data=(), hvp=None):
        self.shapes, self.function, self.native = shapes, function, native
        self.data, self._hvp = data, hvp
        self.size = sum(int(np.prod(s)) for s in shapes.values())
        self.seconds_per_call = 1e-8 if native else 1e-3
        self.rows = len(data[0]) if data else None
        self.calls, self.inlined = 0, None

    def value_and_grad(self, x, out=None):
        assert x.shape == (self.size,) and x.dtype == np.float64
        self.calls += 1
        value, gradient = self.function(x, *self.data)
        if out is None:
            return float(value), np.asarray(gradient, dtype=np.float64)
        out[:] = gradient
        return float(value), out

    def __call__(self, x):
        return self.value_and_grad(x)[0]

    def hvp(self, x, v):
        return self._hvp(x, v)

    def pack(self, params):
        return np.concatenate([np.ravel(params[k]).astype(float) for k in self.shapes])

    def unpack(self, x):
        parts, at = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            parts[name] = x[at : at + size].reshape(shape).copy()
            at += size
        return parts

    def buffered(self, rows):
        data = tuple(a[:rows].copy() for a in self.data)
        other = Fake(self.shapes, self.function, data=data)
        return other, list(zip(self.data, data, strict=True))


_VECTOR = types.CPointer(types.float64)
_ENTRY = types.float64(types.CPointer(types.float64), _VECTOR, _VECTOR)


@numba.cfunc(_ENTRY)
def _bowl_entry(context, x, gradient):
    """sum of context[i] * (x[i] - 1)**2 / 2 over three parameters."""
    value = 0.0
    for i in range(3):
        gradient[i] = context[i] * (x[i] - 1.0)
        value += 0.5 * gradient[i] * (x[i] - 1.0)
    return value


@numba.cfunc(_ENTRY)
def _valley_entry(context, x, gradient):
    """Rosenbrock's valley in two parameters."""
    a = 1.0 - x[0]
    b = x[1] - x[0] * x[0]
    gradient[0] = -2.0 * a - 400.0 * x[0] * b
    gradient[1] = 200.0 * b
    return a * a + 100.0 * b * b


def entry(function, context=None):
    """A native entry; it keeps its context alive."""
    address = ctypes.cast(function.ctypes, ctypes.c_void_p).value
    at = 0 if context is None else context.ctypes.data
    return SimpleNamespace(function=address, context=at, keep=context)


def bowl(curvature=(1.0, 10.0, 50.0), native=True):
    c = np.array(curvature)
    return Fake(
        {"a": (), "b": (2,)},
        lambda x: (0.5 * np.sum(c * (x - 1.0) ** 2), c * (x - 1.0)),
        native=entry(_bowl_entry, c) if native else None,
        hvp=lambda x, v: c * v,
    )


def valley(native=True):
    def function(x):
        a, b = 1.0 - x[0], x[1] - x[0] * x[0]
        return a * a + 100.0 * b * b, np.array([-2 * a - 400 * x[0] * b, 200 * b])

    def hvp(x, v):
        mixed = -400.0 * x[0]
        corner = 2.0 - 400.0 * (x[1] - 3.0 * x[0] ** 2)
        return np.array([corner * v[0] + mixed * v[1], mixed * v[0] + 200.0 * v[1]])

    native = entry(_valley_entry) if native else None
    return Fake({"p": (2,)}, function, native=native, hvp=hvp)


def line(rows=37, seed=0):
    """Least squares over rows: mean((X @ w + b - y)**2)."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, 2))
    y = X @ np.array([1.5, -2.0]) + 0.5 + 0.1 * rng.standard_normal(rows)

    def function(x, X, y):
        r = X @ x[:2] + x[2] - y
        return np.mean(r * r), np.append(2 * X.T @ r, 2 * r.sum()) / len(r)

    return Fake({"w": (2,), "b": ()}, function, data=(X, y))
