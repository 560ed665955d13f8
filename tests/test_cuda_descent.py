"""Whole descents on a device, simulated: the same as on the processor, step by step."""

import numpy as np
import pytest
from device_simulator import SimulatedDevice

import symgrad as sg
from symgrad.errors import GatherIndexError
from symgrad.optimize import cuda_loop
from symgrad.optimize.rules import RULES
from symgrad.runtime import cuda_device, cuda_kernel

TEXT = "mean((X @ w + b - y)**2)"
START = {"w": np.zeros(3), "b": 0.0}


@pytest.fixture(autouse=True)
def device(monkeypatch):
    monkeypatch.setattr(cuda_kernel, "BLOCK", 64)
    monkeypatch.setattr(cuda_loop, "STEPS_OF_A_GRAPH", 4)
    simulated = SimulatedDevice(processors=2, order="backward")
    monkeypatch.setattr(cuda_device, "_device", simulated)
    return simulated


def data(n=120):
    numbers = np.random.default_rng(n)
    X = numbers.normal(size=(n, 3))
    return {"X": X, "y": X @ [1.0, -2.0, 0.5] + 0.3 + 0.1 * numbers.normal(size=n)}


def both(text=TEXT, init=START, **options):
    """The result of the device and of the processor."""
    options = {"data": data(), "steps": 30, "lr": 0.05, **options}
    return (
        sg.minimize(text, init=init, device="cuda", **options),
        sg.minimize(text, init=init, **options),
    )


def assert_same(found, wanted):
    np.testing.assert_allclose(found.x, wanted.x, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(found.jac, wanted.jac, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.history, wanted.history, rtol=1e-12)
    assert found.message == wanted.message
    assert (found.nit, found.nfev, found.status) == (
        wanted.nit, wanted.nfev, wanted.status,
    )  # fmt: skip


@pytest.mark.parametrize("method", RULES)
def test_rules(method):
    assert_same(*both(method=method))


@pytest.mark.parametrize("method", ["gd", "adam"])
def test_bounds(method):
    assert_same(*both(method=method, bounds={"w": (-0.5, 0.4), "b": (0.0, 0.1)}))


def test_schedules():
    assert_same(*both(lr=lambda step: 0.1 / (1.0 + step)))


def test_convergence():
    found, wanted = both(method="gd", lr=0.3, tol=1e-3, steps=500)
    assert found.success
    assert_same(found, wanted)


def test_divergence():
    found, wanted = both(method="gd", lr=50.0, steps=200)
    assert found.status == wanted.status
    assert found.nit == wanted.nit
    np.testing.assert_allclose(found.x, wanted.x)


def test_a_loss_that_is_not_finite():
    found, wanted = both("sum(log(a) * y)", {"a": -1.0}, data={"y": np.ones(3)})
    assert found.message == wanted.message


def test_callbacks_and_no_history():
    seen = []
    found, wanted = both(
        steps=5, history=False, callback=lambda result: seen.append(result.fun)
    )
    assert found.history is None
    assert len(seen) == 10
    np.testing.assert_allclose(seen[:5], seen[5:], rtol=1e-12)
    np.testing.assert_allclose(found.x, wanted.x, rtol=1e-12)


def test_long_histories_are_thinned(monkeypatch):
    from symgrad.optimize import descent

    monkeypatch.setattr(descent, "HISTORY", 8)
    assert_same(*both(steps=45))


def test_batches():
    assert_same(*both(batch_size=50, seed=3))


def test_scipy_methods():
    found, wanted = both(method="lbfgs", lr=None)
    assert found.success
    np.testing.assert_allclose(found.x, wanted.x, rtol=1e-6)


def test_a_step_is_one_launch(device):
    """And one more for each slice."""
    sg.minimize(TEXT, init=START, data=data(), device="cuda", steps=1)
    before = device.launches
    sg.minimize(TEXT, init=START, data=data(), device="cuda", steps=41)
    first = device.launches - before
    before = device.launches
    sg.minimize(TEXT, init=START, data=data(), device="cuda", steps=81)
    more = device.launches - before - first
    assert 40 <= more <= 40 + 20


@pytest.mark.parametrize(
    ("text", "init", "given"),
    [
        # the last step is a pass over the parameters; several passes; no pass at all
        ("sum(log(cosh(v - y)))", {"v": np.zeros(100)}, {"y": np.linspace(-1, 1, 100)}),
        (
            "z = a * x + c\nsum(exp(z - max(z))) / len(x)",
            {"a": 0.5, "c": 0.0},
            {"x": np.linspace(-1, 1, 90)},
        ),
        ("(a - 1)**2 + (b + a)**2", {"a": 0.0, "b": 0.0}, {}),
        (
            "mean((tanh(X @ W) @ v - y)**2)",
            {"W": 0.1 * np.arange(60.0).reshape(3, 20) % 0.7, "v": np.ones(20)},
            data(),
        ),
    ],
    ids=["elementwise", "passes", "scalar", "network"],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_losses_of_other_forms(text, init, given, dtype):
    options = {"data": given, "steps": 12, "lr": 0.02, "dtype": dtype}
    found = sg.minimize(text, init=init, device="cuda", **options)
    wanted = sg.minimize(text, init=init, **options)
    tolerance = {"float64": 1e-10, "float32": 2e-3}[dtype]
    np.testing.assert_allclose(found.x, wanted.x, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found.history, wanted.history, rtol=tolerance)


def test_an_index_out_of_bounds_stops_the_run():
    with pytest.raises(GatherIndexError, match=r"i\[1\] = 9"):
        sg.minimize(
            "sum(u[i]**2)", init={"u": np.ones(3)}, data={"i": np.array([0, 9])},
            device="cuda",
        )  # fmt: skip
