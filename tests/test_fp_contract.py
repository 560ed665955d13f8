"""The floating-point contract of docs/decisions/0005, asked of kernels."""

from __future__ import annotations

import re
from unittest import mock

import numpy as np
import pytest
from loss_constructs import ARRAYS, ELEMENTS
from losses import LARGE, SPECIFIED
from random_losses import random_loss
from random_oracles import MANY_ROWS, by_threads

import symgrad as sg
from symgrad.runtime import kernel

INF, NAN, TINY = np.inf, np.nan, 5e-324
DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])
ROWS = pytest.mark.parametrize("rows", [1, 7, 8, 16, 37])

FLAGS = ("fast", "nnan", "ninf", "nsz", "arcp", "contract", "afn", "reassoc")


# --- The text of kernels --------------------------------------------------------------


@pytest.mark.parametrize("case", SPECIFIED + ELEMENTS[:20] + ARRAYS[:20], ids=str)
def test_no_fast_math_flag_in_any_kernel(case):
    """Neither on an instruction nor as an attribute of a function."""
    f = sg.compile(case.text, wrt=case.wrt).specialize(**case.values(case.few(100)))
    operations = re.findall(
        r"= (?:f(?:add|sub|mul|div|rem|neg|cmp)|call|select|phi) ([a-z ]*)", f.llvm
    )
    assert operations
    flags = {word for words in operations for word in words.split()}
    assert not flags.intersection(FLAGS)
    assert not re.search(r"fp-math|unsafe|denormal-fp|no-(nans|infs|signed)", f.llvm)


# --- Special numbers ------------------------------------------------------------------


def each(text, dtype, rows, **values):
    """A model's values for one number per name, in every one of some rows."""
    model = sg.model(text, wrt=[], dtype=dtype)
    found = model(**{n: np.full(rows, v) for n, v in values.items()})
    return found.astype(float)


def assert_all(found, wanted):
    """Equal to the sign of zero."""
    np.testing.assert_array_equal(found, np.full(found.shape, wanted))
    if wanted == 0:
        assert (np.signbit(found) == np.signbit(wanted)).all()


# text, x, the result: IEEE 754's. What rules of kind REAL change is not here: x - x is
# 0 whatever x is, and x + 0 is x, a negative zero included.
SPECIAL = [
    ("x*0", INF, NAN), ("x/x", 0.0, NAN), ("x/x", INF, NAN),
    ("0*x", NAN, NAN), ("x*0 + 1", NAN, NAN), ("x**0", NAN, 1.0),
    ("x*1", -0.0, -0.0), ("-x", 0.0, -0.0), ("x - 0", -0.0, -0.0),
    ("x*x", -0.0, 0.0), ("x*2", -0.0, -0.0), ("x/2", -0.0, -0.0),
    ("1/x", -0.0, -INF), ("1/x", 0.0, INF), ("1/x", -INF, -0.0),
    ("sqrt(x)", -0.0, -0.0),
    ("abs(x)", -0.0, 0.0), ("floor(x)", -0.0, -0.0),
    ("round(x)", -0.3, -0.0), ("trunc(x)", -0.9, -0.0), ("sin(x)", -0.0, -0.0),
    ("tanh(x)", -0.0, -0.0), ("expm1(x)", -0.0, -0.0), ("log1p(x)", -0.0, -0.0),
    ("x == x", NAN, 0.0), ("x != x", NAN, 1.0), ("x < 1", NAN, 0.0),
    ("not x >= 1", NAN, 1.0), ("x == 0", -0.0, 1.0), ("isnan(x)", NAN, 1.0),
    ("isfinite(x)", INF, 0.0), ("isinf(x)", -INF, 1.0), ("exp(x)", -INF, 0.0),
    ("exp(x)", 1e4, INF), ("log(x)", 0.0, -INF), ("log(x)", -1.0, NAN),
    ("maximum(x, 1)", NAN, NAN), ("minimum(1, x)", NAN, NAN), ("relu(x)", NAN, NAN),
    ("clip(x, 0, 1)", NAN, NAN), ("where(x < 1, 2, 3)", NAN, 3.0),

]  # fmt: skip


@DTYPES
@pytest.mark.parametrize(("text", "x", "wanted"), SPECIAL, ids=str)
def test_special_numbers(text, x, wanted, dtype):
    """In whole vectors and in the rows that are left over."""
    for rows in (1, 8, 19):
        assert_all(each(text, dtype, rows, x=x), wanted)


@DTYPES
@ROWS
@pytest.mark.parametrize(
    ("reduction", "special", "wanted"),
    [
        ("sum(x)", NAN, NAN), ("sum(x)", INF, INF), ("sum(x)", -INF, -INF),
        ("mean(x)", NAN, NAN), ("mean(x)", INF, INF), ("prod(x)", NAN, NAN),
        ("max(x)", NAN, NAN), ("min(x)", NAN, NAN), ("max(x)", INF, INF),
        ("min(x)", -INF, -INF), ("norm(x)", INF, INF), ("norm(x)", NAN, NAN),
        ("logsumexp(x)", NAN, NAN), ("logsumexp(x)", INF, INF),
    ],
)  # fmt: skip
def test_sums_keep_nan_and_inf(reduction, special, wanted, rows, dtype):
    """Wherever the special row is: in any lane, in a chunk of its own, the last."""
    f = sg.compile(f"{reduction}", wrt=["x"], dtype=dtype)
    for place in {0, rows // 2, rows - 1}:
        x = np.ones(rows)
        x[place] = special
        np.testing.assert_array_equal(f(x=x), wanted)


@DTYPES
def test_infinities_of_both_signs_make_nan(dtype):
    f = sg.compile("sum(x)", wrt=["x"], dtype=dtype)
    x = np.ones(5000)
    x[[3, 4990]] = INF, -INF
    assert np.isnan(f(x=x))


@pytest.mark.parametrize("rows", [3, 8, 100, 5000])
def test_subnormal_numbers_are_not_flushed(rows):
    """Neither as data, nor as results, nor in sums; before and after a call alike."""
    before = np.float64(TINY) * 1.0
    assert_all(each("x*1", "float64", rows, x=TINY), TINY)
    assert_all(each("x/4", "float64", rows, x=4 * TINY), TINY)
    assert_all(each("x*x", "float64", rows, x=2e-162), 2e-162 * 2e-162)
    assert_all(each("x/2", "float32", rows, x=2.0**-148), 2.0**-149)
    f = sg.compile("sum(a*x)", wrt=["a"])
    value, slopes = f.value_and_grad(a=1.0, x=np.full(rows, TINY))
    assert value == float(slopes["a"]) == rows * TINY
    assert np.float64(TINY) * 1.0 == before == TINY


@DTYPES
def test_products_of_sums_are_fused_alike_everywhere(dtype):
    """A node has the same bits wherever it stands: as a value, and compared with the
    largest of its kind in the derivative of that."""
    rng = np.random.default_rng(5)
    for text in (
        "sum(max(log_softmax(2.85*tanh(z)) @ y, axis=1))",
        "sum(max(2.5*z - 0.3*logsumexp(2.5*z, axis=1)[:, None]*y[:4], axis=1))",
        "h = 1.7*z*z\nsum(min(h - 0.3*z, axis=1)) + sum(h)",
    ):
        f = sg.compile(text, wrt=["z"], dtype=dtype)
        y = {"y": rng.normal(size=(4, 4))} if "y" in text.replace("sym", "") else {}
        for _ in range(20):
            z = rng.normal(size=(4, 4)) * 3
            slopes = f.grad(z=z, **y)["z"]
            assert np.isfinite(slopes).all()  # 1/0 where nothing equals the largest
            found = differences(f, z, y, slopes, 1e-6 if dtype == "float64" else 3e-2)
            assert found < (1e-6 if dtype == "float64" else 5e-2)


def differences(f, z, y, slopes, step):
    """The derivative along a direction against central differences, relative."""
    along = np.sign(slopes) + 0.5
    up, down = (f(z=z + h * along, **y) for h in (step, -step))
    wanted = np.sum(slopes * along)
    return abs((up - down) / (2 * step) - wanted) / max(1.0, abs(wanted))


# --- The same bits --------------------------------------------------------------------


@pytest.mark.parametrize("first", range(0, 24, 6))
def test_random_losses_have_the_same_bits_on_any_number_of_threads(first):
    """1, 2 and 8, with rows for several chunks."""
    kinds = [by_threads(random_loss(seed)).kind for seed in range(first, first + 6)]
    assert set(kinds) <= {"right", "rejected"}
    assert "right" in kinds


def test_eight_threads_and_special_numbers():
    """NaN and inf in some chunks: the same bits, the payload of NaN included."""
    w, x = (np.linspace(-1, 1, 4 * MANY_ROWS) for _ in range(2))
    w[[100, 9000]] = NAN, INF
    with mock.patch.object(kernel, "PARALLEL_SECONDS", 0.0):
        bits = {
            sg.compile("sum(x*w**3)", wrt=["w"], threads=n)
            .grad(w=w, x=x)["w"]
            .tobytes()
            for n in (1, 2, 8)
        }
    assert len(bits) == 1


# --- float32 against float64 ----------------------------------------------------------


@pytest.mark.parametrize("case", [c for c in SPECIFIED if c not in LARGE], ids=str)
def test_float32_gradients_of_the_standard_losses(case):
    """To 1e-6 of the sum of what the rows contribute, without their signs.

    The contributions of single rows are those of a loss of that row alone, where rows
    are independent and few.
    """
    values = {
        k: np.asarray(v, np.float32) if np.asarray(v).dtype.kind == "f" else v
        for k, v in case.values(case.few(64)).items()
    }
    double = sg.compile(case.text, wrt=case.wrt)
    single = sg.compile(case.text, wrt=case.wrt, dtype="float32")
    exact, found = double.grad(**values), single.grad(**values)
    for name in case.wrt:
        scale = np.abs(exact[name]).max(initial=0.0)
        error = np.abs(found[name] - exact[name]).max(initial=0.0)
        assert error <= max(1e-6, case.single) * max(scale, 1e-3), name


@pytest.mark.parametrize(
    ("text", "wrt"),
    [
        ("mean((tanh(X @ w + b) - y)**2)", ["w", "b"]),
        ("mean(softplus(-y*(X @ w + b)))", ["w", "b"]),
        ("mean(exp(X @ w*0.1 + b) - y*(X @ w*0.1 + b))", ["w", "b"]),
        ("sum(sqrt(1 + (X @ w + b - y)**2))", ["w", "b"]),
    ],
)
def test_float32_gradients_by_what_rows_contribute(text, wrt):
    rng = np.random.default_rng(3)
    values = {"X": rng.normal(size=(20_000, 6)), "y": rng.normal(size=20_000)}
    values |= {"w": rng.normal(size=6), "b": np.asarray(0.3)}
    values = {k: np.asarray(v, np.float32) for k, v in values.items()}
    exact = sg.compile(text, wrt=wrt).grad(**values)
    found = sg.compile(text, wrt=wrt, dtype="float32").grad(**values)
    rows = sg.model(text.partition("(")[2][:-1], wrt=wrt)
    shared = len(values["y"]) if text.startswith("mean") else 1
    for name, each_row in rows.jacobian(**values).items():
        contributed = np.abs(each_row).sum(axis=0) / shared
        assert (np.abs(found[name] - exact[name]) <= 1e-6 * contributed).all()
