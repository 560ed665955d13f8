"""``sg.define``: a user's own operation, derived from a formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

import symgrad as sg
from symgrad import errors, ops
from symgrad.language.names import FUNCTIONS

GELU = ("gelu(x)", "x * (1 + erf(x / sqrt(2))) / 2")
HUBER = ("huber(r, k)", "where(abs(r) <= k, 0.5*r**2, k*(abs(r) - 0.5*k))")
X = np.linspace(-2.0, 2.0, 41)


@pytest.fixture(autouse=True)
def forget():
    """Definitions are for the process; tests take theirs back."""
    rows, functions = set(ops.OPS), set(FUNCTIONS)
    yield
    for name in set(ops.OPS) - rows:
        del ops.OPS[name]
    for name in set(FUNCTIONS) - functions:
        del FUNCTIONS[name]


def test_value_and_derivatives_follow_from_the_formula():
    sg.define(*GELU)
    f = sg.compile("sum(gelu(a*x))", wrt=["a"])
    value, gradient = f.value_and_grad(a=0.7, x=X)
    z = 0.7 * X
    normal = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in z])
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    assert value == pytest.approx(np.sum(z * normal), rel=1e-13)
    assert gradient["a"] == pytest.approx(np.sum((normal + z * density) * X), rel=1e-13)
    assert f.check(a=0.7, x=X)["a"] > 12
    step = 1e-5
    slope = f.grad(a=0.7 + step, x=X)["a"] - f.grad(a=0.7 - step, x=X)["a"]
    hvp = f.hvp({"a": 1.0}, a=0.7, x=X)["a"]
    assert hvp == pytest.approx(slope / (2 * step), rel=1e-8)


def test_several_arguments_and_the_route_through_sympy():
    sg.define(*HUBER)
    text = "mean(huber(x - a, 0.5))"
    f = sg.compile(text, wrt=["a"])
    r = X - 0.2
    wanted = np.where(abs(r) <= 0.5, 0.5 * r**2, 0.5 * (abs(r) - 0.25))
    assert f(a=0.2, x=X) == pytest.approx(wanted.mean(), rel=1e-14)
    assert f == sg.compile(sg.parse(text), wrt=["a"])


def test_partials_may_be_given():
    sg.define("cut(x)", "relu(x)", partials=["where(x > 0, 1.0, 0.25)"])
    f = sg.compile("sum(cut(a*x))", wrt=["a"])
    slopes = np.where(X > 0, 1.0, 0.25)
    assert f.grad(a=1.0, x=X)["a"] == pytest.approx(np.sum(slopes * X), rel=1e-14)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("exp(x)", "x"), errors.ArgumentError, "already"),
        (("q x", "x"), errors.ArgumentError, "a name with arguments"),
        (("q(x, x)", "x"), errors.ArgumentError, "twice"),
        (("q(x)", "y + 1"), errors.UnknownNameError, "`y`"),
        (("q(x)", "x +"), errors.ParseError, "column 4"),
        (("9q(x)", "x"), ops.RowError, "identifier"),
    ],
)
def test_wrong_definitions_leave_nothing_behind(arguments, error, message):
    with pytest.raises(error, match=message):
        sg.define(*arguments)
    assert "q" not in ops.OPS
    with pytest.raises(errors.UnknownFunctionError):
        sg.compile("q(a)", wrt=["a"])


def test_the_same_definition_again_changes_nothing():
    sg.define("again(x)", "x*exp(-x**2)", partials=["exp(-x**2)*(1 - 2*x**2)"])
    row = ops.OPS["again"]
    sg.define("again( x )", "x*exp(-x**2)", partials=["exp(-x**2)*(1 - 2*x**2)"])
    assert ops.OPS["again"] is row
    with pytest.raises(errors.ArgumentError, match="defined otherwise"):
        sg.define("again(x)", "x*exp(-x)")


@pytest.mark.parametrize("cost", ["a", -1, 0, True, np.nan, np.inf])
def test_a_cost_is_a_positive_number(cost):
    with pytest.raises(errors.ArgumentError, match="cost is"):
        sg.define("priced(x)", "x + 1", cost=cost)
    assert "priced" not in ops.OPS


@pytest.mark.parametrize("partials", [3, "x", ["1", "2"], []])
def test_partials_are_a_list_of_formulas(partials):
    with pytest.raises(errors.ArgumentError, match="a list of one formula"):
        sg.define("sloped(x)", "x + 1", partials=partials)
    assert "sloped" not in ops.OPS


def test_a_signature_is_a_text():
    with pytest.raises(errors.ArgumentError, match="a name with arguments"):
        sg.define(3, "x")  # pyright: ignore
