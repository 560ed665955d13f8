"""Where there is no derivative, and branches that are not taken.

Every documented answer is asked of the interpreter and of kernels, in both types, in
the lanes of a vector and in the rows that are left over; and of PyTorch, where a row
says that it is PyTorch's.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from oracles import NUMPY, needs_torch, torch_gradient, torch_hvp

import symgrad as sg
from symgrad import graph
from symgrad.differentiate import gradient, hvp
from symgrad.interpret import evaluate
from symgrad.ops import OPS

INF, NAN, LOG2 = np.inf, np.nan, np.log(2.0)
DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])
ROWS = 19  # two vectors of eight and some rows that fill none; one of sixteen and some


def test_the_page_is_up_to_date():
    """If not: python docs/corners.py."""
    path = Path(__file__).parents[1] / "docs" / "corners.py"
    spec = importlib.util.spec_from_file_location("corners", path)
    assert spec is not None
    assert spec.loader is not None
    corners = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(corners)
    assert corners.PAGE.read_text(encoding="utf-8") == corners.page()


# --- Operations -----------------------------------------------------------------------

INTERNAL = ("sigmoid_tail", "tanh_tail")
"""Operations that only the compiler writes."""

KINKS = [
    (name, *kink)
    for name, row in OPS.items()
    for kink in row.kinks
    if name not in INTERNAL
]


@DTYPES
@pytest.mark.parametrize(("name", "at", "slopes"), KINKS, ids=str)
def test_corners_of_operations(name, at, slopes, dtype):
    names = [f"x{k}" for k in range(len(at))]
    loss = sg.compile(f"sum({name}({', '.join(names)}))", wrt=names, dtype=dtype)
    values = {n: np.full(ROWS, a) for n, a in zip(names, at, strict=True)}
    for found in (loss.grad(**values), as_written(loss, values)):
        for n, slope in zip(names, slopes, strict=True):
            np.testing.assert_array_equal(found[n], np.full(ROWS, slope), n)


def as_written(loss, values):
    """The gradient of the graph as it was before simplification, by the interpreter."""
    found = loss._latest()
    roots = gradient(found.built.value.body, found.parameters)
    arrays = {n: np.asarray(v, float) for n, v in values.items()}
    slopes = evaluate(roots, arrays, found.lengths(arrays))
    return dict(zip(loss.wrt, slopes, strict=True))


# --- Losses at corners ----------------------------------------------------------------

# text, x, the gradient; whether PyTorch agrees
CORNERS = [
    ("norm(x)", [0.0, 0.0], [0.0, 0.0], True),
    ("sum(norm(X, axis=1))", [[0, 0], [3, 4]], [[0, 0], [0.6, 0.8]], True),
    ("std(x)", [2.0, 2.0, 2.0], [0.0, 0.0, 0.0], False),
    ("std(x)", [2.0] * 70, [0.0] * 70, False),
    ("sum(std(X, axis=0))", [[1, 0], [1, 2.0]], [[0, -0.5], [0, 0.5]], False),
    ("var(x)", [2.0, 2.0, 2.0], [0.0, 0.0, 0.0], True),
    ("sum(x**0)", [0.0, 1.0], [0.0, 0.0], True),
    ("sum(x**1)", [0.0, 1.0], [1.0, 1.0], True),
    ("sum(x**2)", [0.0, -1.0], [0.0, -2.0], True),
    ("sum(x**0.5)", [0.0, 1.0], [INF, 0.5], True),
    ("sum(x**-1)", [0.0, 1.0], [-INF, -1.0], True),
    ("sum(sqrt(x))", [0.0, 4.0], [INF, 0.25], True),
    ("sum(abs(x))", [0.0, -0.0, -1.0], [0.0, 0.0, -1.0], True),
    ("sum(relu(x))", [0.0, -0.0, 1.0], [0.0, 0.0, 1.0], True),
    ("sum(sign(x)*x)", [0.0, -2.0], [0.0, -1.0], True),
    ("sum(floor(x)*x)", [1.0, 1.5], [1.0, 1.0], True),
    ("sum(round(x) + ceil(x) + trunc(x))", [0.5, 1.0], [0.0, 0.0], True),
    ("sum(x % 2)", [0.0, 4.0, -2.0, 3.5], [1.0, 1.0, 1.0, 1.0], False),
    ("sum(x // 2)", [0.0, 4.0, -2.0, 3.5], [0.0, 0.0, 0.0, 0.0], False),
    ("sum(clip(x, -1, 1))", [-1.0, 1.0, 0.0, 2.0], [1.0, 1.0, 1.0, 0.0], True),
    ("sum(maximum(x, 0))", [0.0, 1.0, -1.0], [0.5, 1.0, 0.0], True),
    ("sum(minimum(x, x))", [1.0], [1.0], True),
    ("sum(atan2(x, x))", [0.0, 1.0], [0.0, 0.0], True),
    ("sum(hypot(x, 0*x))", [0.0, -3.0], [0.0, -1.0], False),
    ("max(x)", [1.0, 3.0, 3.0], [0.0, 0.5, 0.5], True),
    ("min(x)", [1.0, 1.0, 3.0, 1.0], [1 / 3, 1 / 3, 0.0, 1 / 3], True),
    ("max(x)", [INF, INF], [0.5, 0.5], True),
    ("min(x)", [INF, INF], [0.5, 0.5], True),
    ("sum(max(X, axis=1))", [[1, 1], [0, 2.0]], [[0.5, 0.5], [0, 1]], True),
    ("sum(max(X, axis=0))", [[1, 1], [1, 2.0]], [[0.5, 0], [0.5, 1]], True),
    ("prod(x)", [0.0, 2.0, 3.0], [6.0, 0.0, 0.0], True),
    ("prod(x)", [0.0, 0.0, 3.0], [0.0, 0.0, 0.0], True),
    ("prod(x)", [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], True),
    ("sum(prod(X, axis=1))", [[0, 2], [3, 0.0]], [[2, 0], [0, 3]], True),
    ("logsumexp(x)", [-INF, 0.0, 0.0], [0.0, 0.5, 0.5], True),
    ("logsumexp(x)", [-INF, -INF], [0.0, 0.0], False),
    ("logsumexp(x)", [INF, 0.0], [0.0, 0.0], False),
    ("logaddexp(x[0], x[1])", [-INF, 1.0], [0.0, 1.0], True),
    ("logaddexp(x[0], x[1])", [INF, -INF], [1.0, 0.0], False),
    ("sum(softmax(x)*x)", [1000.0, 0.0], [1.0, 0.0], True),
    ("sum(log_softmax(x))", [1000.0, 0.0], [-1.0, 1.0], True),
]  # fmt: skip


def made(text, x):
    """The loss's values: ``X`` is a matrix, ``x`` a vector."""
    return {"X" if "X" in text else "x": np.asarray(x, float)}


@DTYPES
@pytest.mark.parametrize(("text", "x", "wanted", "torch"), CORNERS, ids=str)
def test_corners_of_losses(text, x, wanted, torch, dtype):
    values = made(text, x)
    (name,) = values
    if dtype == "float32" and np.abs(values[name]).max() == 1e200:
        return
    loss = sg.compile(text, wrt=[name], dtype=dtype)
    tolerance = 1e-14 if dtype == "float64" else 1e-6
    for found in (loss.grad(**values), as_written(loss, values)):
        np.testing.assert_allclose(found[name], wanted, tolerance)


def test_a_square_that_overflows_has_its_slope():
    """By a stable form; as it is written the slope would be nan."""
    loss = sg.compile("sum(x*x/(x*x + 1))", wrt=["x"])
    np.testing.assert_array_equal(loss.grad(x=np.array([1e200, 0.0]))["x"], [0.0, 0.0])


REFERENCES = {
    "sum(x**0)": lambda m, x: m.sum(x**0),
    "sum(sign(x)*x)": lambda m, x: m.sum(m.sign(x) * x),
    "sum(floor(x)*x)": lambda m, x: m.sum(m.floor(x) * x),
    "logaddexp(x[0], x[1])": lambda m, x: m.logaddexp(x[0], x[1]),
    "sum(clip(x, -1, 1))": lambda m, x: m.sum(m.clip(x, -1.0, 1.0)),
    "sum(maximum(x, 0))": lambda m, x: m.sum(m.maximum(x, 0.0)),
    "sum(minimum(x, x))": lambda m, x: m.sum(m.minimum(x, x)),
    "sum(round(x) + ceil(x) + trunc(x))": lambda m, x: m.sum(
        m.round(x) + m.ceil(x) + m.trunc(x)
    ),
    "sum(softmax(x)*x)": lambda m, x: m.sum(m.softmax(x) * x),
    "sum(x*x/(x*x + 1))": lambda m, x: m.sum(x * x / (x * x + 1)),
}
POWERS = {f"sum(x**{p})": float(p) for p in ("1", "2", "0.5", "-1")}


def reference(text):
    """The loss for the namespaces of ``oracles``."""
    if text in REFERENCES:
        return REFERENCES[text]
    if text in POWERS:
        return lambda m, x: m.sum(x ** POWERS[text])
    head, _, rest = text.partition("(")
    inner = rest.partition("(")[0]
    if "axis" in text:
        axis = int(text[text.index("axis=") + 5])
        return lambda m, X: m.sum(getattr(m, inner)(X, axis))
    if head == "sum":
        two = (lambda f: lambda x: f(x, x)) if "x, x" in text else (lambda f: f)
        return lambda m, x: m.sum(two(getattr(m, inner))(x))
    return lambda m, x: getattr(m, head)(x)


@needs_torch
@pytest.mark.parametrize(
    ("text", "x", "wanted"), [row[:3] for row in CORNERS if row[3]], ids=str
)
def test_corners_are_those_of_torch(text, x, wanted):
    values = made(text, x)
    (name,) = values
    _, theirs = torch_gradient(reference(text), values, [name])
    np.testing.assert_allclose(theirs[name], wanted, 1e-14)


@pytest.mark.parametrize(
    ("x", "p", "by_x", "by_p"),
    [
        (0.0, 1.5, 0.0, 0.0),
        (0.0, 1.0, 1.0, 0.0),
        (0.0, 0.5, INF, 0.0),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, -1.0, -INF, -INF),
        (2.0, 0.0, 0.0, LOG2),
        (-2.0, 2.0, -4.0, NAN),
    ],
)
def test_powers_by_base_and_exponent(x, p, by_x, by_p):
    loss = sg.compile("sum(x**p)", wrt=["x", "p"])
    found = loss.grad(x=np.full(ROWS, x), p=np.full(ROWS, p))
    np.testing.assert_allclose(found["x"], np.full(ROWS, by_x), 1e-15)
    np.testing.assert_allclose(found["p"], np.full(ROWS, by_p), 1e-15)


# --- Branches that are not taken ------------------------------------------------------

# text, x, value, gradient, its derivative along (1, ..., 1)
SAFE = [
    ("sum(where(x > 0, log(x), 0))", [0.0, -1.0, 2.0], LOG2, [0, 0, 0.5],
     [0, 0, -0.25]),
    ("sum(where(x > 0, sqrt(x), x))", [0.0, -1.0, 4.0], 1.0, [1, 1, 0.25],
     [0, 0, -1 / 32]),
    ("sum(where(x <= 0, x, 1/x))", [0.0, -1.0, 2.0], -0.5, [1, 1, -0.25], [0, 0, 0.25]),
    ("sum(where(x == 0, 1, sin(x)/x))", [0.0], 1.0, [0], [0]),
    ("sum(where(x > 0, where(x > 1, log(x - 1), sqrt(x)), 1/x))", [-1.0, 0.25, 3.0],
     LOG2 - 0.5, [-1, 1, 0.5], [-2, -2, -0.25]),
    ("sum(where(x > 0, where(x > 1, 1, x**-0.5), where(x < -1, acosh(-x), x)))",
     [0.0, 4.0, -0.5], 0.5, [1, 0, 1], [0, 0, 0]),
    ("sum(where(x > 0, inf, x))", [0.0, -1.0], -1.0, [1, 1], [0, 0]),
    ("sum(where(x > 10, nan, x))", [0.0, -1.0], -1.0, [1, 1], [0, 0]),
    ("sum(where(x > 0, x*inf, x))", [0.0, -1.0], -1.0, [1, 1], [0, 0]),
    ("sum(where(x > 0, nan*x**2, x**2))", [0.0, -1.0], 1.0, [0, -2], [2, 2]),
    ("sum(where(x < 100, exp(x), 0))", [1e5, 0.0], 1.0, [0, 1], [0, 1]),
    ("sum(exp(where(x < 100, x, 0)))", [1e5, 0.0], 2.0, [0, 1], [0, 1]),
    ("sum(log(where(x > 0, x, 1)))", [-1.0, 2.0], LOG2, [0, 0.5], [0, -0.25]),
    ("prod(where(x > 0, log(x), 2))", [-1.0, 2.0], 2 * LOG2, [0, 1], [0, -0.5]),
    ("max(where(x > 0, log(x), -5))", [-1.0, 2.0], LOG2, [0, 0.5], [0, -0.25]),
    ("min(where(x > 0, log(x), 5))", [-1.0, 2.0], LOG2, [0, 0.5], [0, -0.25]),
    ("logsumexp(where(x > 0, log(x), -inf))", [-1.0, 2.0], LOG2, [0, 0.5],
     [0, -0.25]),
    ("norm(where(x > 0, sqrt(x), 0))", [-1.0, 4.0], 2.0, [0, 0.25], [0, -1 / 32]),
    ("sum(max(where(X > 0, log(X), -9), axis=1))", [[-1, 1.0], [2, 0]], LOG2,
     [[0, 1], [0.5, 0]], [[0, -1], [-0.25, 0]]),
    ("sum(where(X > 0, log(X), 0), axis=1)[1]", [[-1, 1.0], [2, 0]], LOG2,
     [[0, 0], [0.5, 0]], [[0, 0], [-0.25, 0]]),
    ("mean(where(isfinite(y), (y - x)**2, 0))", [1.0, 2.0], 0.5, [1, 0], [1, 0]),
    ("sum(where(y == y, x*y, 0))", [1.0, 2.0], 0.0, [0, 0], [0, 0]),
    ("sum(where(x <= 0, where(x > 0, sqrt(x), 2), sqrt(x)))", [-1.0, 4.0], 4.0,
     [0, 0.25], [0, -1 / 32]),
    ("sum(where(x <= 0, where(x > 0, x**-0.5, 2), x**1.5))", [-1.0, 4.0], 10.0,
     [0, 3], [0, 0.375]),
    ("h = where(x <= 0, x, x**1.5)\nmax(h) - min(h)", [-1.0, 4.0], 9.0, [-1, 3],
     [0, 0.375]),
    ("h = log(x)\nsum(where(x > 0, h, 0) + where(x > 1, h*h, 1))", [0.0, np.e], 3.0,
     [0, 3 / np.e], [0, -1 / np.e**2]),
    ("h = where(isfinite(y), x*y, 0)\nmax(h)**2 - min(h)", [2.0, 3.0], 0.0, [0, 0],
     [0, 0]),
    ("h = log(x)\nsum(where(x > 0, h*h, h - h))", [np.e], 1.0, [2 / np.e], [0.0]),
]  # fmt: skip


def with_data(text, x):
    """``y``: missing values beside zeros."""
    return made(text, x) | ({"y": np.array([0.0, NAN])} if "y" in text else {})


@DTYPES
@pytest.mark.parametrize(("text", "x", "value", "slope", "_"), SAFE, ids=str)
def test_unused_branches_do_not_poison(text, x, value, slope, _, dtype):
    values = with_data(text, x)
    name = next(iter(values))
    loss = sg.compile(text, wrt=[name], dtype=dtype)
    tolerance = 1e-15 if dtype == "float64" else 1e-6
    found, slopes = loss.value_and_grad(**values)
    assert found == pytest.approx(value, rel=tolerance, abs=tolerance)
    for each in (slopes, as_written(loss, values)):
        np.testing.assert_allclose(each[name], slope, tolerance, tolerance)


@pytest.mark.parametrize(("text", "x", "value", "slope", "second"), SAFE, ids=str)
def test_unused_branches_do_not_poison_second_derivatives(
    text, x, value, slope, second
):
    values = with_data(text, x)
    name = next(iter(values))
    loss = sg.compile(text, wrt=[name])
    along = {name: np.ones_like(values[name])}
    np.testing.assert_allclose(loss.hvp(along, **values)[name], second, 1e-14, 1e-14)
    found = loss._latest()
    direction = graph.input_("along", found.parameters[0].shape)
    root = found.built.value.body
    written = hvp(root, found.parameters, {found.parameters[0]: direction})
    arrays = {**values, "along": along[name]}
    (interpreted,) = evaluate(written, arrays, found.lengths(values))
    np.testing.assert_allclose(interpreted, second, 1e-14, 1e-14)


def test_many_rows_with_unused_branches():
    """Every row of every vector, those that fill none included."""
    x = np.linspace(-1, 1, 1003)
    loss = sg.compile("mean(where(x > t, log(x), t - x))", wrt=["x", "t"])
    value, slopes = loss.value_and_grad(x=x, t=0.0)
    taken = x > 0
    with np.errstate(all="ignore"):
        rows = np.where(taken, np.log(x), -x)
        by_x = np.where(taken, 1 / x, -1.0) / len(x)
    assert value == pytest.approx(rows.mean(), rel=1e-13)
    np.testing.assert_allclose(slopes["x"], by_x, 1e-13)
    assert slopes["t"] == pytest.approx((~taken).mean(), rel=1e-13)


@needs_torch
def test_second_derivatives_at_zeros_of_products():
    """PyTorch's prod is not twice differentiable at zeros: written out, it is."""
    for x in ([0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]):
        values = {"x": np.array(x)}
        along = {"x": np.array([1.0, -2.0, 0.5])}
        theirs = torch_hvp(lambda m, x: x[0] * x[1] * x[2], values, ["x"], along)
        ours = sg.compile("prod(x)", wrt=["x"]).hvp(along, **values)
        np.testing.assert_allclose(ours["x"], theirs["x"], 1e-14)


def test_the_references_are_the_losses():
    """The functions that PyTorch is asked about are the texts."""
    for text, x, _, torch in CORNERS:
        values = made(text, x)
        if torch and np.isfinite(values[next(iter(values))]).all():
            with np.errstate(all="ignore"):
                known = reference(text)(NUMPY, **values)
            ours = sg.compile(text, wrt=list(values))(**values)
            assert ours == pytest.approx(float(known), rel=1e-14), text
