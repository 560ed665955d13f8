"""What ``bind`` does once: work on the data, statistics; and Gauss-Newton products."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.special import gammaln

import symgrad as sg
from symgrad.errors import DataError, UnsupportedError

ROWS = 100_000


def _data(rows: int = ROWS) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    X = rng.normal([0, 1, 2, 3], size=(rows, 4))
    return {
        "X": X,
        "y": rng.poisson(2.0, rows).astype(float),
        "Y": rng.normal(size=(rows, 3)),
        "k": rng.integers(0, 6, rows),
        "s": rng.normal(size=6),
    }


PARAMS: dict[str, Any] = {
    "w": np.array([0.1, -0.2, 0.05, 0.03]),
    "b": 0.3,
    "s2": 0.7,
    "W": np.linspace(-1, 1, 12).reshape(4, 3),
    "v": np.linspace(-1, 1, 6),
}


def _split(text: str, wrt: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    names = wrt.split()
    params = {n: PARAMS[n] for n in names}
    f = sg.compile(text, wrt=names)
    data = {n: a for n, a in _data().items() if n in f._source.names}
    return f, params, data


# --- work on the data -----------------------------------------------------------------


class Hoist(NamedTuple):
    """A loss, and how many values are computed at bind."""

    text: str
    wrt: str
    stored: int


HOISTS = [
    Hoist("mean(exp(X @ w) - y*(X @ w) + lgamma(y + 1))", "w", 1),
    Hoist("mean((log(y + 1) - X @ w)**2)", "w", 1),
    Hoist("mean((X @ w - y)**2) / mean((y - mean(y))**2)", "w", 2),
    Hoist("sum(((X - mean(X, axis=0)) @ w - y)**2)", "w", 1),
    Hoist("sum((where(y > 0, log(y), 0) - s[k]*b)**2)", "b", 1),
    Hoist("mean((X @ w - y)**2)", "w", 0),
    Hoist("mean(abs(v[k] - exp(-(y**2))))", "v", 1),
    Hoist("b**2 + 1", "b", 0),
]


@pytest.mark.parametrize("case", HOISTS, ids=lambda c: c.text[:40])
def test_work_on_data_is_done_once_and_changes_nothing(case: Hoist) -> None:
    f, params, data = _split(case.text, case.wrt)
    obj = f.bind(params, **data)
    x = obj.pack(params)
    value, slope = obj.value_and_grad(x)
    expected, by_name = f.value_and_grad(**params, **data)
    flat = np.concatenate([np.ravel(by_name[n]) for n in params])
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(slope, flat, rtol=1e-11, atol=1e-13)
    assert obj(x) == pytest.approx(value, rel=1e-13)
    second = f.hvp(params, **params, **data).values()
    flat = np.concatenate([np.ravel(h) for h in second])
    np.testing.assert_allclose(obj.hvp(x, x), flat, rtol=1e-10, atol=1e-12)
    stored = [n for n in obj._gradient.data if n.startswith("hoisted")]
    assert len(stored) == case.stored
    assert obj.explain().count("at bind") == (case.stored > 0)


def test_what_is_stored_is_what_it_should_be() -> None:
    f, params, data = _split(HOISTS[0].text, "w")
    obj = f.bind(params, **data)
    obj.value_and_grad(obj.pack(params))
    (stored,) = obj._kernels.stored.values()
    assert float(stored) == pytest.approx(gammaln(data["y"] + 1).sum(), rel=1e-13)


def test_small_data_are_left_alone() -> None:
    f = sg.compile("mean((log(y) - b)**2)", wrt=["b"])
    obj = f.bind(y=np.arange(1.0, 50.0))
    obj.value_and_grad([0.5])
    assert not obj._kernels.stored


def test_no_array_larger_than_its_data() -> None:
    f = sg.compile("sum(exp(-(x[:, None] - x[None, :])**2) * b)", wrt=["b"])
    obj = f.bind(x=np.linspace(0, 1, 1500))
    obj.value_and_grad([0.5])
    assert all(array.size <= 1500 for array in obj._kernels.stored.values())


def test_batches_do_not_use_what_belongs_to_all_rows() -> None:
    f, params, data = _split("mean(((X - mean(X, axis=0)) @ w - y)**2)", "w")
    obj = f.bind(params, **data)
    x = obj.pack(params)
    obj.value_and_grad(x)
    part = {n: a[10:50] for n, a in data.items()}
    assert obj.batch(slice(10, 50))(x) == f(**params, **part)


def test_float32_keeps_sums_in_float64() -> None:
    f = sg.compile(HOISTS[0].text, wrt=["w"], dtype="float32")
    data = {n: _data()[n] for n in "Xy"}
    obj = f.bind({"w": PARAMS["w"]}, **data)
    value = obj(PARAMS["w"])
    exact = sg.compile(HOISTS[0].text, wrt=["w"])(w=PARAMS["w"], **data)
    assert value == pytest.approx(exact, rel=1e-6)


# --- statistics -----------------------------------------------------------------------

QUADRATIC = [
    ("mean((X @ w + b - y)**2) + 0.01*sum(w**2)", "w b"),
    ("len(y)*log(s2) + sum((X @ w - y)**2)/(2*s2**2)", "w s2"),
    ("norm(X @ w - y)", "w"),
    ("sqrt(mean((X @ w - y)**2)) / mean((y - mean(y))**2)", "w"),
    ("sum((X @ W - Y)**2)", "W"),
    ("mean((v[k] - y)**2 * where(y > 0, 2, 1))", "v"),
    ("mean((X @ w - y)**2) + sum((w - mean(X, axis=0))**2)", "w"),
    ("sum(y * (X @ w))", "w"),
    ("mean((X @ w - y)**2) * exp(b)", "w b"),
]


@pytest.mark.parametrize(("text", "wrt"), QUADRATIC, ids=[t for t, _ in QUADRATIC])
def test_statistics_give_the_same_loss_without_the_data(text: str, wrt: str) -> None:
    f, params, data = _split(text, wrt)
    obj = f.bind(params, statistics=True, **data)
    plain = f.bind(params, **data)
    x = obj.pack(params)
    for point in (x, x + 0.1, 0.5 * x - 1 if "log" not in text else 2 * x):
        value, slope = obj.value_and_grad(point)
        expected, gradient = plain.value_and_grad(point)
        assert value == pytest.approx(expected, rel=1e-11)
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(slope, gradient, rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(obj.hessian(x), plain.hessian(x), rtol=1e-8, atol=1e-8)
    rows = {len(a) for n, a in data.items() if n != "s"}
    assert all(len(np.atleast_1d(a)) not in rows for a in obj._gradient.data.values())


def test_statistics_keep_the_digits_at_the_solution() -> None:
    """yᵀy - 2wᵀXᵀy + wᵀXᵀXw would have none left here."""
    data = _data()
    X, w = data["X"], PARAMS["w"]
    y = X @ w + 1e-9 * data["Y"][:, 0]
    f = sg.compile("sum((X @ w - y)**2)", wrt=["w"])
    obj = f.bind({"w": w}, statistics=True, X=X, y=y)
    assert obj(w) == pytest.approx(f(w=w, X=X, y=y), rel=1e-6)


REFUSED = [
    ("mean((w[0]*w[1]*y - 1)**2)", UnsupportedError, "degree 4"),
    ("mean(log(1 + exp(X @ w)))", UnsupportedError, "not a polynomial"),
    ("max(X @ w)", UnsupportedError, "not a polynomial"),
    ("sum(w**2)", UnsupportedError, "no sum over data"),
    ("mean((y*w[0] + y*w[1] - X[:, 0])**2)", DataError, "condition number"),
]


@pytest.mark.parametrize(("text", "error", "words"), REFUSED)
def test_statistics_are_refused_with_the_reason(
    text: str, error: type[Exception], words: str
) -> None:
    f, params, data = _split(text, "w")
    with pytest.raises(error, match=words):
        f.bind(params, statistics=True, **data)


def test_data_may_be_called_statistics() -> None:
    f = sg.compile("mean((statistics - a)**2)", wrt=["a"])
    assert f.bind(statistics=np.array([1.0, 3.0]))([2.0]) == 1.0


def test_statistics_have_no_batches_and_pickle() -> None:
    f, params, data = _split(QUADRATIC[0][0], "w b")
    obj = f.bind(params, statistics=True, **data)
    assert obj.rows is None
    with pytest.raises(DataError, match="no batches"):
        obj.batch(slice(0, 10))
    x = obj.pack(params)
    assert pickle.loads(pickle.dumps(obj))(x) == obj(x)


def test_shapes_may_come_later() -> None:
    f, params, data = _split(QUADRATIC[0][0], "w b")
    obj = f.bind(statistics=True, **data)
    x = obj.pack(params)
    assert obj(x) == pytest.approx(f(**params, **data), rel=1e-12)


# --- Gauss-Newton ---------------------------------------------------------------------

RESIDUALS = [
    ("b*exp(-s2*y) - X[:, 0]", "b s2"),
    ("tanh(X @ w + b) - y", "w b"),
    ("tanh(X @ W) @ s[:3] - y", "W"),
    ("v[k]*b - y", "v b"),
    ("X @ W - Y", "W"),
    ("b*s2 - 3", "b s2"),
]


@pytest.mark.parametrize(("text", "wrt"), RESIDUALS, ids=[t for t, _ in RESIDUALS])
def test_gauss_newton_is_the_product_of_jacobians(text: str, wrt: str) -> None:
    names = wrt.split()
    m = sg.model(text, wrt=names)
    data = {n: a for n, a in _data(500).items() if n in m._source.names}
    params = {n: PARAMS[n] for n in names}
    found = m.gauss_newton(**params, **data)
    r, blocks = m.value_and_jacobian(**params, **data)
    r = np.ravel(r)
    J = np.hstack([blocks[n].reshape(r.size, -1) for n in names])
    assert found.fun == pytest.approx(r @ r / 2, rel=1e-13)
    np.testing.assert_allclose(found.jac, J.T @ r, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.hess, J.T @ J, rtol=1e-11, atol=1e-11)
    assert "half the squares" in m.explain(kernel="gauss-newton")


def test_gauss_newton_takes_one_pass() -> None:
    m = sg.model("b*exp(-s2*y) - 1", wrt=["b", "s2"])
    m.gauss_newton(b=1.0, s2=0.5, y=np.linspace(0, 1, 5000))
    assert "passes       1 over" in m.explain(kernel="gauss-newton")


def test_a_descent_with_gauss_newton_reaches_the_least_squares() -> None:
    rng = np.random.default_rng(0)
    x = np.linspace(0, 5, 400)
    y = 2 * np.exp(-0.7 * x) + 0.3 + 0.01 * rng.normal(size=x.size)
    m = sg.model("a*exp(-b*x) + c - y", wrt=["a", "b", "c"])
    p = np.array([1.5, 0.5, 0.1])
    for _ in range(8):
        step = m.gauss_newton(a=p[0], b=p[1], c=p[2], x=x, y=y)
        p = p - np.linalg.solve(step.hess, step.jac)
    np.testing.assert_allclose(p, [2, 0.7, 0.3], atol=0.01)
    last = m.gauss_newton(a=p[0], b=p[1], c=p[2], x=x, y=y)
    assert np.abs(last.jac).max() < 1e-10


def test_a_single_vector_needs_no_pack() -> None:
    f, params, data = _split("mean((X @ w - y)**2)", "w")
    assert f.bind(**data)(params["w"]) == f(**params, **data)


def test_several_vectors_do() -> None:
    f, _, data = _split("mean((X @ w + b - y)**2)", "w b")
    with pytest.raises(sg.errors.ArgumentError, match="pack"):
        f.bind(**data)(np.zeros(5))
