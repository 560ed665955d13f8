"""f.check and f.check_grad: right losses pass, and planted faults are found."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import symgrad as sg
from symgrad import errors, graph
from symgrad.runtime import checks
from symgrad.simplify import STAGES

RANDOM = np.random.default_rng(4)


def normal(*shape):
    return RANDOM.standard_normal(shape)


TENTHS = np.arange(1, 9) / 10
LIMIT = -np.log10(np.finfo(float).eps / 2)

TEXT = "mean((tanh(X @ w + b) - y)**2)"
VALUES = {"w": normal(4), "b": 0.3, "X": normal(60, 4), "y": normal(60)}

LOSSES = {
    "regression": (TEXT, ["w", "b"], VALUES),
    "kinks": (
        "sum(where(x > a, abs(x - a), (x - a)**2)) + max(a*x)",
        ["a"],
        {"a": 0.1, "x": normal(200)},
    ),
    "many components": ("sum(tanh(X @ M)**2)", ["M"],
                        {"M": normal(4, 20), "X": normal(30, 4)}),
    "gathers": ("sum((U[i] - r)**2)", ["U"],
                {"U": normal(5), "i": RANDOM.integers(-5, 5, 30), "r": normal(30)}),
    "no data": ("sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)", ["x"],
                {"x": normal(30)}),
    "scales": ("sum((a*1e6*x - b*1e-6*y)**2)", ["a", "b"],
               {"a": 1e-6, "b": 1e6, "x": normal(9), "y": normal(9)}),
    "columns and rows": ("sum((A @ v - v)**2)", ["v"],
                         {"v": normal(8), "A": normal(8, 8)}),
}  # fmt: skip


@pytest.mark.parametrize(("text", "wrt", "values"), LOSSES.values(), ids=LOSSES)
def test_right_gradients_pass(text, wrt, values):
    f = sg.compile(text, wrt=wrt)
    found = f.check_grad(values)
    assert list(found) == wrt
    assert max(found.values()) < 1e-7
    digits = f.check(values)
    assert list(digits) == ["loss", *wrt]
    assert min(digits.values()) > 13


def test_float32_has_float32_digits():
    f = sg.compile(TEXT, wrt=["w", "b"], dtype="float32")
    digits = f.check(VALUES)
    assert all(5 < d <= 7.3 for d in digits.values())
    assert max(f.check_grad(VALUES).values()) < 1e-4


def test_a_zero_gradient_passes():
    f = sg.compile("sum(((a*x - mean(a*x))/std(a*x))**4)", wrt=["a"])
    assert f.check_grad({"a": 0.8, "x": normal(50)})["a"] < 1e-6
    f = sg.compile("sum(x) + 0*b", wrt=["b"])
    assert f.check_grad({"b": 1.0, "x": normal(5)}) == {"b": 0.0}
    assert f.check({"b": 1.0, "x": normal(5)})["b"] > 15


MIXTURE = """
z = (x[:, None] - m) * exp(-s)
logp = a - logsumexp(a) - s - 0.5*z**2
-mean(logsumexp(logp, axis=1))
"""
CANCELLING = {
    "symmetry": (MIXTURE, ["a", "m", "s"],
                 {"a": np.zeros(3), "m": np.zeros(3), "s": np.zeros(3),
                  "x": normal(40)}),
    "terms": ("mean(x*(a - a*0.5)) - a*0.25", ["a"], {"a": 1.3, "x": [0.3, 0.7]}),
    "perfect fit": ("sum((a*x - y)**2) + abs(b)", ["a", "b"],
                    {"a": 0.7, "b": 0.0, "x": TENTHS, "y": 0.7 * TENTHS + 1e-16}),
}  # fmt: skip


@pytest.mark.parametrize(("text", "wrt", "values"), CANCELLING.values(), ids=CANCELLING)
def test_digits_where_terms_cancel_are_relative_to_the_terms(text, wrt, values):
    f = sg.compile(text, wrt=wrt)
    assert min(f.check(values).values()) > 14


def test_a_wrong_value_has_no_digits_where_terms_cancel():
    class Wrong(sg.Loss):
        def value_and_grad(self, /, **values):
            value, gradient = super().value_and_grad(**values)
            return value + 0.1, {"a": gradient["a"] + 1e-3}

    text, wrt, values = CANCELLING["terms"]
    digits = Wrong(sg.compile(text, wrt=wrt)._source).check(values)
    assert digits["loss"] < 1 and digits["a"] < 3


def test_what_an_unstable_formula_loses_is_not_excused(monkeypatch):
    monkeypatch.setitem(STAGES, "stabilise", ())
    f = sg.compile("(1 - cos(a))/a**2", wrt=["a"])
    assert f.check({"a": 1e-8}) == {"loss": 0.0, "a": 0.0}
    assert 5 < f.check({"a": 1e-4})["loss"] < 10


def test_a_stable_form_has_its_digits():
    f = sg.compile("(1 - cos(a))/a**2", wrt=["a"])
    assert min(f.check({"a": 1e-8}).values()) > 15
    assert min(f.check({"a": 1e-4}).values()) > 15


BEYOND_NAIVE = {
    "cross-entropy by exponentials": (
        "-mean(y*log(1/(1 + exp(-a*x))) + (1 - y)*log(1 - 1/(1 + exp(-a*x))))",
        {"a": 1.0, "x": np.array([-900.0, 0.3, 900.0]), "y": np.array([1.0, 0.0, 0.0])},
    ),
    "zero times log": ("sum(a*p*log(p))", {"a": 2.0, "p": np.array([0.0, 0.5, 0.5])}),
    "probit": (
        "sum(log(0.5*(1 + erf(a*x))))",
        {"a": 1.0, "x": np.array([-999.0, 1.0])},
    ),
    "length of nothing": ("sqrt(a**2 + x**2)", {"a": 0.0, "x": 0.0}),
}


@pytest.mark.parametrize("name", BEYOND_NAIVE)
def test_what_overflows_as_it_is_written_has_its_digits(name):
    text, values = BEYOND_NAIVE[name]
    f = sg.compile(text, wrt=["a"])
    assert np.isfinite(f(**values))
    assert min(f.check(values).values()) > 14


def test_a_zero_at_a_kink_has_no_condition():
    f = sg.compile("abs(a) + sqrt(abs(b))*x", wrt=["a"])
    assert f.check({"a": 0.0, "b": 0.0, "x": 1.0}) == {"loss": LIMIT, "a": LIMIT}


def test_masked_data_have_no_part_in_the_condition():
    f = sg.compile("sum(where(isfinite(x), a*x - x, 0))", wrt=["a"])
    x = np.array([np.inf, 0.1, np.nan, -0.1, 0.3])
    assert min(f.check({"a": 1.0, "x": x}).values()) > 15


class Planted(sg.Loss):
    """A loss that has something wrong."""

    def __init__(self, wrong):
        self.wrong = wrong
        super().__init__(sg.compile(TEXT, wrt=["w", "b"])._source)

    def value_and_grad(self, /, **values):
        value, gradient = super().value_and_grad(**values)
        return self.wrong(value, {n: np.array(g) for n, g in gradient.items()})


def scaled(name, factor):
    def wrong(value, gradient):
        gradient[name] *= factor
        return value, gradient

    return wrong


@pytest.mark.parametrize("name", ["w", "b"])
@pytest.mark.parametrize("fault", [2.0, -1.0, 1 + 1e-6, 0.0])
def test_a_planted_wrong_gradient_is_found(name, fault):
    found = Planted(scaled(name, fault)).check_grad(VALUES)
    assert found.pop(name) > 0.9 * min(1e-6, abs(fault - 1))
    assert max(found.values()) < 1e-8
    digits = Planted(scaled(name, fault)).check(VALUES)
    assert digits.pop(name) < 6.5
    assert min(digits.values()) > 13


def test_one_wrong_component_is_found():
    def wrong(value, gradient):
        gradient["w"][2] += 1e-3 * np.abs(gradient["w"]).max()
        return value, gradient

    assert 1e-4 < Planted(wrong).check_grad(VALUES)["w"] < 1e-2
    assert 2.5 < Planted(wrong).check(VALUES)["w"] < 3.5


def test_a_wrong_component_among_many_is_found():
    class Wrong(sg.Loss):
        def value_and_grad(self, /, **values):
            value, gradient = super().value_and_grad(**values)
            gradient = {"M": np.array(gradient["M"])}
            gradient["M"][3, 11] += np.abs(gradient["M"]).max()
            return value, gradient

    text, wrt, values = LOSSES["many components"]
    f = Wrong(sg.compile(text, wrt=wrt)._source)
    assert f.check_grad(values)["M"] > 1e-2


def test_a_wrong_loss_is_found():
    wrong = Planted(lambda value, gradient: (value * (1 + 1e-8), gradient))
    assert 7.5 < wrong.check(VALUES)["loss"] < 8.5


def test_a_wrong_rule_of_differentiation_is_found(monkeypatch):
    """The oracle does not use the table's derivatives."""
    from symgrad.ops import OPS

    row = OPS["tanh"]
    bad = dataclasses.replace(row, partials=lambda out, x: (out * out - 1.0,))
    monkeypatch.setitem(OPS, "tanh", bad)
    f = sg.compile(TEXT, wrt=["w", "b"])
    assert f.check_grad(VALUES)["w"] > 0.5


def test_infinite_gradients_agree_or_not():
    value = checks._largest_difference
    flat = np.array([1.0])

    def infinite(x):
        return float("nan") if x[0] != 1 else 1.0

    random = np.random.default_rng(0)
    assert value(infinite, flat, np.array([0.5]), random) == np.inf
    assert value(infinite, flat, np.array([np.nan]), random) == 0.0


# --- the parts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "at", "slope"),
    [
        (np.exp, 1.0, np.e),
        (np.sin, 1e3, np.cos(1e3)),
        (lambda x: np.abs(x - 1e-4), 0.0, -1.0),  # a kink near by
        (lambda x: 1e8 + x, 2.0, 1.0),
        (np.sqrt, 1e-4, 50.0),
    ],
)
def test_derivatives_by_differences(function, at, slope):
    def value(x):
        return float(function(x)[0])

    with np.errstate(invalid="ignore"):
        found = checks._derivative(value, np.array([at]), np.array([1.0]))
    assert found == pytest.approx(slope, rel=1e-5)


def test_the_first_rows():
    f = sg.compile(TEXT, wrt=["w", "b"])
    arrays = f._specialiser.arrays(VALUES)
    few = checks.first_rows(f, arrays, 7)
    assert few["X"].shape == (7, 4)
    assert few["y"].shape == (7,)
    assert few["w"].shape == (4,)
    np.testing.assert_array_equal(few["X"], VALUES["X"][:7])
    assert checks.first_rows(f, arrays, 1000)["X"].shape == (60, 4)


def test_rows_that_are_columns_elsewhere_are_cut_there_too():
    f = sg.compile("sum(a*(M @ M))", wrt=["a"])
    arrays = f._specialiser.arrays({"a": 1.0, "M": normal(90, 90)})
    assert checks.first_rows(f, arrays, 5)["M"].shape == (5, 5)


def test_rows_of_parameters_are_not_cut():
    f = sg.compile("sum((c - y)**2)", wrt=["c"])
    values = {"c": normal(80), "y": normal(80)}
    arrays = f._specialiser.arrays(values)
    assert checks.first_rows(f, arrays, 5)["y"].shape == (80,)
    assert f.check(values)["c"] > 15
    values = {"c": normal(8), "y": normal(8)}  # a static length
    assert f.check(values, rows=3)["c"] > 15


@pytest.mark.parametrize(
    ("ours", "exact", "digits"),
    [
        ([1.0, 2.0], [1.0, 2.0], np.inf),
        ([1.0, 2.002], [1.0, 2.0], 3.0),
        ([1e-9, 1.0], [0.0, 1.0], 9.0),  # relative to the largest
        ([5.0], [1.0], 0.0),
        ([1.0], [0.0], 0.0),
        ([np.nan], [1.0], 0.0),
        ([np.nan], [np.nan], np.nan),
        ([1.0, 2.0], [1.0, np.nan], np.nan),
        ([np.inf, 1.0], [np.inf, 1.0], np.inf),
        ([np.inf], [-np.inf], 0.0),
        ([], [], np.inf),
    ],
)
def test_digits(ours, exact, digits):
    import mpmath

    numbers = np.array([mpmath.mpf(v) for v in exact], object)
    found = checks._digits(np.array(ours), numbers)
    assert found == pytest.approx(digits, abs=0.01, nan_ok=True)


def test_wrong_values_are_told():
    f = sg.compile(TEXT, wrt=["w", "b"])
    with pytest.raises(errors.ArgumentError, match="no value for parameter w"):
        f.check_grad({"b": 1.0})
    with pytest.raises(errors.ShapeError):
        f.check({**VALUES, "w": normal(3)})


def test_the_reference_is_the_formula_as_written():
    """Not what simplification made of it."""
    f = sg.compile("sum(1*x*a + 0)", wrt=["a"])
    f.check({"a": 1.0, "x": normal(4)})
    written = graph.to_text(f._latest().built.value.body)
    assert "+ 0" in written


# --- what cannot be confirmed, and rows that cannot be left out -----------------------

NOT_A_NUMBER = {
    "log(a)": {"a": -1.0},
    "mean((y[300:] - a)**2)": {"a": 0.5, "y": np.arange(200.0)},
    "sum(sqrt(a - x))": {"a": 0.0, "x": np.arange(70.0)},
}


@pytest.mark.filterwarnings("ignore::symgrad.errors.DataWarning")
@pytest.mark.parametrize("text", NOT_A_NUMBER)
def test_what_is_not_a_number_is_not_confirmed(text):
    digits = sg.compile(text, wrt=["a"]).check(NOT_A_NUMBER[text])
    assert np.isnan(digits["loss"])


ALL_ROWS = {
    "sum(a*x)": {"a": np.ones(60), "x": np.ones(60)},
    "sum((a - x)**2)": {"a": normal(60, 60), "x": normal(60, 60)},
    "mean((y[100:] - a)**2)": {"a": 0.5, "y": np.arange(200.0)},
    "mean(Y[60:]*a + y[:40])": {"a": 0.3, "Y": normal(100), "y": normal(100)},
    "mean(a*Y[i])": {"a": 0.3, "Y": normal(100), "i": np.arange(100)},
}


@pytest.mark.parametrize("text", ALL_ROWS)
def test_rows_are_left_out_only_where_the_formula_allows_it(text):
    assert min(sg.compile(text, wrt=["a"]).check(ALL_ROWS[text]).values()) > 14


def test_too_many_rows_for_exact_numbers_are_refused():
    f = sg.compile("sum(a*x)", wrt=["a"])
    values = {"a": np.ones(checks.MOST_ELEMENTS), "x": np.ones(checks.MOST_ELEMENTS)}
    with pytest.raises(errors.UnsupportedError, match="rows=20000"):
        f.check(values)


@pytest.mark.parametrize("rows", [0, -1, 1.5, True, "all", None])
def test_rows_to_check_are_a_positive_number(rows):
    with pytest.raises(errors.OptionError, match="rows is"):
        sg.compile("a**2", wrt=["a"]).check({"a": 1.0}, rows=rows)


def test_drawings_of_what_needs_all_rows():
    values = {"a": np.ones(2000), "x": np.ones(2000)}
    assert "2000" in sg.draw(sg.compile("sum(a*x)", wrt=["a"]), **values).to_dot()
