"""Large losses from text to gradient, within the default limit of recursion."""

import sys
import time

import numpy as np
import pytest

import symgrad as sg

X = np.linspace(0.1, 1.0, 50)
A = np.array([0.3, -1.2, 0.8, 2.0, -0.4])

SECONDS = 60
"""Much more than any of them takes: against costs that grow with the square."""


@pytest.fixture(autouse=True)
def _ends_soon():
    assert sys.getrecursionlimit() <= 10_000
    start = time.perf_counter()
    yield
    assert time.perf_counter() - start < SECONDS


def test_ten_thousand_terms():
    terms = 10_000
    text = " + ".join(f"a[{k % 5}]*sin({k}*x)" for k in range(terms))
    f = sg.compile(f"mean({text})", wrt=["a"])
    value, gradient = f.value_and_grad(a=A, x=X)
    waves = np.sin(np.arange(terms)[:, None] * X).mean(axis=1)
    wanted = waves.reshape(-1, 5).sum(axis=0)
    assert value == pytest.approx(A @ wanted, rel=1e-10)
    np.testing.assert_allclose(gradient["a"], wanted, rtol=1e-10)


def test_thousands_of_parameters_by_name():
    names = [f"a{k}" for k in range(2_000)]
    text = " + ".join(f"{name}*{name}*x" for name in names)
    values = {name: 0.001 * k for k, name in enumerate(names)}
    value, gradient = sg.compile(f"sum({text})", wrt=names).value_and_grad(
        x=X, **values
    )
    assert value == pytest.approx(sum(v * v for v in values.values()) * X.sum())
    assert list(gradient) == names
    wanted = [2 * v * X.sum() for v in values.values()]
    np.testing.assert_allclose(list(gradient.values()), wanted, rtol=1e-12)


@pytest.mark.parametrize("rows", [False, True])
def test_a_thousand_nested_calls(rows):
    """sin(a + sin(a + ...)), of a scalar and of rows."""
    inner = "a*x" if rows else "a"
    text = "sin(a + " * 1_000 + inner + ")" * 1_000
    data = {"x": X} if rows else {}
    f = sg.compile(f"sum({text})", wrt=["a"])
    value, gradient = f.value_and_grad(a=0.4, **data)
    z = 0.4 * X if rows else np.array(0.4)
    slope = X if rows else np.array(1.0)
    for _ in range(1_000):
        slope = np.cos(0.4 + z) * (1 + slope)
        z = np.sin(0.4 + z)
    assert value == pytest.approx(z.sum(), rel=1e-10)
    assert float(gradient["a"]) == pytest.approx(slope.sum(), rel=1e-10)


def test_thousands_of_lines():
    lines = ["h = a*x", *(f"h = sin(h + {k})*b" for k in range(2_000)), "sum(h)"]
    f = sg.compile("\n".join(lines), wrt=["a", "b"])
    value, gradient = f.value_and_grad(a=0.7, b=0.9, x=X)
    h, by_a, by_b = 0.7 * X, X, np.zeros_like(X)
    for k in range(2_000):
        s, c = np.sin(h + k), np.cos(h + k)
        h, by_a, by_b = 0.9 * s, 0.9 * c * by_a, 0.9 * c * by_b + s
    assert value == pytest.approx(h.sum(), rel=1e-10)
    assert float(gradient["a"]) == pytest.approx(by_a.sum(), rel=1e-9, abs=1e-12)
    assert float(gradient["b"]) == pytest.approx(by_b.sum(), rel=1e-9)


def test_thirty_thousand_operations():
    terms = 5_000
    text = " + ".join(f"(a[{k % 5}]*x + {k})*exp(-b*x)" for k in range(terms))
    f = sg.compile(f"mean({text})", wrt=["a", "b"])
    value, gradient = f.value_and_grad(a=A, b=0.3, x=X)
    decay = np.exp(-0.3 * X)
    total = terms / 5 * A.sum() * X + terms * (terms - 1) / 2
    assert value == pytest.approx((total * decay).mean(), rel=1e-10)
    np.testing.assert_allclose(gradient["a"], terms / 5 * (X * decay).mean(), 1e-10)
    wanted = -(total * decay * X).mean()
    assert float(gradient["b"]) == pytest.approx(wanted, rel=1e-10)


def test_wide_arrays():
    """Static axes of a few dozen in every position, and many rows."""
    numbers = np.random.default_rng(3)
    W, T = numbers.normal(size=(60, 50)), numbers.normal(size=(300, 4, 60))
    f = sg.compile("mean(sum(tanh(T @ W), axis=(1, 2))**2)", wrt=["W"])
    value, gradient = f.value_and_grad(W=W, T=T)
    h = np.tanh(T @ W)
    s = h.sum(axis=(1, 2))
    assert value == pytest.approx((s**2).mean(), rel=1e-10)
    wanted = np.einsum("n,nij,nik->jk", 2 * s / 300, T, 1 - h * h)
    np.testing.assert_allclose(gradient["W"], wanted, rtol=1e-8, atol=1e-10)
