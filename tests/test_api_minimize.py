"""sg.minimize: the fields of its result and its options, from the outside."""

from __future__ import annotations

import numpy as np
import pytest
from example_loss import X, Y

import symgrad as sg
from symgrad import errors

# --- minimize -------------------------------------------------------------------------


def test_the_fields_of_a_result():
    x = np.linspace(-1, 1, 40)
    r = sg.minimize(
        "mean((y - (a*x + b))**2)",
        init={"a": 0.0, "b": 0.0},
        data={"x": x, "y": 3 * x - 1},
        method="adam",
        lr=0.1,
        steps=2000,
    )
    assert list(r.params) == ["a", "b"]
    np.testing.assert_allclose([r.params["a"], r.params["b"]], [3, -1], atol=1e-4)
    np.testing.assert_array_equal(r.x, [r.params["a"], r.params["b"]])
    assert r.fun < 1e-8
    assert r.jac.shape == (2,)
    assert 0 < r.nit <= 2000
    assert r.nfev >= r.nit
    assert isinstance(r.message, str)
    assert r.success in (True, False)
    assert isinstance(r.status, int)
    assert len(r.history) > 0
    from scipy.optimize import OptimizeResult

    assert isinstance(r, OptimizeResult)


@pytest.mark.parametrize("method", ["gd", "momentum", "nesterov", "adam", "lbfgs"])
def test_methods(method):
    options = {} if method == "lbfgs" else {"lr": 0.1}
    loss, data = "sum((a - t)**2)", {"t": [1.0, 2.0]}
    r = sg.minimize(loss, {"a": [0.0, 0.0]}, data, method=method, steps=3000, **options)
    np.testing.assert_allclose(r.params["a"], [1.0, 2.0], atol=1e-3)


def test_bounds():
    r = sg.minimize(
        "(a - 3)**2 + (b + 1)**2",
        {"a": 0.0, "b": 0.0},
        method="lbfgs",
        bounds={"a": (None, 1.0)},
    )
    np.testing.assert_allclose(r.x, [1.0, -1.0], atol=1e-6)


def test_batches_with_a_seed_repeat():
    def go(seed):
        loss = "mean((y - X @ w)**2)"
        return sg.minimize(
            loss,
            {"w": np.zeros(4)},
            {"X": X, "y": Y},
            steps=20,
            batch_size=8,
            seed=seed,
        ).x

    np.testing.assert_array_equal(go(1), go(1))
    assert (go(1) != go(2)).any()


def test_a_callback_may_stop():
    seen = []

    def callback(result):
        seen.append(result.fun)
        if len(seen) == 3:
            raise StopIteration

    r = sg.minimize("(a - 1)**2", {"a": 5.0}, callback=callback, lr=0.1)
    assert len(seen) == 3
    assert r.nit == 3


def test_init_must_fit():
    f = sg.compile("(a - b)**2", wrt=["a", "b"])
    with pytest.raises(errors.ArgumentError, match="missing: b"):
        sg.minimize(f, {"a": 1.0})
    with pytest.raises(errors.ArgumentError, match="not parameters: c"):
        sg.minimize(f, {"a": 1.0, "b": 2.0, "c": 3.0})


@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "cg", "newton-cg", "tnc"])
def test_a_flat_valley_far_from_the_fit_is_no_success(method):
    x = np.linspace(0.0, 5.0, 50)
    y = 3.0 * np.exp(-1.2 * x) + 0.5 + 0.05 * np.cos(40.0 * x)
    loss = "mean((y - (A*exp(-k*x) + c))**2)"
    far, near = {"A": 1e6, "k": 1.0, "c": -1e6}, {"A": 1.0, "k": 1.0, "c": 0.0}
    found = sg.minimize(loss, init=far, data={"x": x, "y": y}, method=method)
    assert not found.success
    assert "stalled" in found.message
    assert sg.minimize(loss, init=near, data={"x": x, "y": y}, method=method).success


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_line_search_at_the_optimum_is_a_success(dtype):
    t = np.linspace(-30.0, 30.0, 500)
    co2 = 337.0 + 1.3 * t + 0.01 * t**2 + 3.0 * np.sin(2.0 * np.pi * t)
    found = sg.minimize(
        "mean((co2 - (a + b*t + c*t**2))**2)",
        init={"a": 300.0, "b": 1.0, "c": 0.0},
        data={"co2": co2, "t": t},
        method="lbfgs",
        tol=0.0,
        dtype=dtype,
    )
    assert found.success
    assert f"converged to the precision of {dtype}" in found.message


@pytest.mark.parametrize("method", ["lbfgs", "cg", "newton-cg", "slsqp"])
def test_an_exact_fit_of_large_data_is_a_success(method):
    x = np.linspace(0.0, 10.0, 200)
    found = sg.minimize(
        "sum((y - (a*x + b))**2)",
        init={"a": 0.0, "b": 0.0},
        data={"x": x, "y": 1e5 * (2.0 * x - 1.0)},
        method=method,
    )
    assert found.success, found.message


@pytest.mark.parametrize("option", ["init", "data"])
@pytest.mark.parametrize("value", [1.5, "w", [("w", 1.0)], {1: 2.0}])
def test_what_is_no_dict_of_names_is_refused(option, value):
    options = {"init": {"w": 0.0}, "data": {"y": 1.0}, option: value}
    with pytest.raises(sg.errors.ArgumentError, match=f"{option}: a dict of arrays"):
        sg.minimize("(w - y)**2", **options)


@pytest.mark.parametrize("method", [{}, [], None, 3, np.ones(2)])
def test_method_that_is_no_name_is_refused(method):
    with pytest.raises(sg.errors.OptionError, match="unknown method"):
        sg.minimize("(w - 1)**2", init={"w": 0.0}, method=method)


def test_shapes_that_are_no_dict_are_refused():
    with pytest.raises(sg.errors.ArgumentError, match="shapes: a dict of arrays"):
        sg.compile("sum(w*x)", wrt=["w"], shapes=3)  # pyright: ignore
