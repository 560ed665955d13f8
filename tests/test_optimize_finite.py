"""Losses that are not numbers in a part of space: SciPy's methods step back from it."""

from __future__ import annotations

import numpy as np
import pytest

import symgrad as sg
from symgrad.optimize import METHODS

BARRIER = "a**2 - mean(log(a - x))"
NORMAL = "mean(log(s) + (y - m)**2/(2*s**2))"
X = np.arange(5.0)
Y = np.random.default_rng(0).normal(3.0, 0.5, 200)


@pytest.mark.parametrize("method", METHODS)
def test_a_barrier_holds_the_method_back(method):
    tol = 1e-6 if method == "tnc" else 1e-8
    found = sg.minimize(BARRIER, {"a": 10.0}, {"x": X}, method=method, tol=tol)
    assert found.success, found.message
    np.testing.assert_allclose(found.fun, 16.292254364328812)
    np.testing.assert_allclose(found.params["a"], 4.0261678, rtol=1e-6)
    assert np.isfinite(found.jac).all()
    assert found.fun <= np.min(found.history) and found.nit < 200


@pytest.mark.parametrize("method", METHODS)
def test_a_likelihood_from_far_away(method):
    start = {"m": 0.0, "s": 0.1}
    found = sg.minimize(NORMAL, start, {"y": Y}, method=method)
    assert found.success, found.message
    np.testing.assert_allclose(
        [found.params["m"], abs(found.params["s"])], [Y.mean(), Y.std()], rtol=1e-6
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_minimum_at_the_edge_is_the_best_point_and_no_success(method):
    found = sg.minimize("mean(sqrt(a - x))", {"a": 10.0}, {"x": X}, method=method)
    assert not found.success
    assert np.isfinite(found.x).all() and np.isfinite(found.fun)
    assert found.fun <= np.min(found.history) and found.fun < 1.3
    assert found.nit < 400


def test_a_gradient_that_is_not_finite_is_no_success():
    found = sg.minimize(
        "-mean(y*log(p) + (1 - y)*log(1 - p))",
        {"p": np.full(3, 0.5)},
        {"y": np.array([0.0, 1.0, 1.0])},
        method="lbfgs",
        bounds={"p": (0, 1)},
    )
    assert found.success and np.isfinite(found.jac).all()
    np.testing.assert_allclose(found.params["p"], [0, 1, 1], atol=1e-6)


def test_constraints_that_lead_out_of_the_domain_are_no_success():
    outside = {"type": "eq", "fun": lambda x: x[0] - 1.0}
    found = sg.minimize(
        BARRIER, {"a": 10.0}, {"x": X}, method="slsqp", constraints=outside
    )
    assert not found.success and np.isfinite(found.fun)
