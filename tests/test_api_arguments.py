"""What the public functions take: names where names are wanted, tables, shapes."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest

import symgrad as sg
from symgrad import errors

X = np.arange(12.0).reshape(4, 3)
Y = np.arange(4.0)
W = np.ones(3)
V = {"w": W, "X": X, "y": Y}
TEXT = "mean((X @ w - y)**2)"


def loss(**options):
    return sg.compile(TEXT, ["w"], **options)


def minimized(init=W, data=None, **options):
    return sg.minimize(
        TEXT, init, {"X": X, "y": Y} if data is None else data, **options
    )


ARRAYS_FOR_NAMES = {
    "hvp": lambda: loss().hvp(W, **V),
    "jvp": lambda: sg.model("X @ w", ["w"]).jvp(W, X=X, w=W),
    "pack": lambda: loss().bind(X=X, y=Y).pack(W),
    "bind": lambda: loss().bind(W, X=X, y=Y),
    "init": lambda: minimized(W),
    "no init": lambda: minimized(None),
    "init of compiled": lambda: sg.minimize(loss(), W, {"X": X, "y": Y}),
    "explain": lambda: loss().explain([1, 2]),
    "check": lambda: loss().check(W),
    "check_grad": lambda: loss().check_grad([W]),
    "numbers for names": lambda: loss().check({1: W}),
    "data": lambda: minimized({"w": W}, [X, Y]),
    "data array": lambda: minimized({"w": W}, X),
    "data path": lambda: minimized({"w": W}, "data.csv"),
    "shapes": lambda: loss(shapes=[(3,)]),
}


@pytest.mark.parametrize("call", ARRAYS_FOR_NAMES.values(), ids=ARRAYS_FOR_NAMES)
def test_arrays_where_names_are_wanted(call):
    with pytest.raises(errors.ArgumentError, match="a dict of arrays by name"):
        call()


def test_a_path_is_no_data():
    with pytest.raises(errors.ArgumentError, match="read the file first"):
        minimized({"w": W}, "data.csv")


def lr_of_text(step):
    return "fast"


WRONG_OPTIONS = {
    "bounds too long": ({"bounds": {"w": ([0] * 4, 1)}}, errors.OptionError, "a bound"),
    "bounds of text": ({"bounds": [("a", 1)] * 3}, errors.OptionError, "'a'"),
    "rates of text": ({"lr": lr_of_text}, errors.OptionError, r"lr\(0\) is 'fast'"),
    "constraints": (
        {"method": "slsqp", "constraints": "x"},
        errors.OptionError,
        "constraints has 'x'",
    ),
    "half a constraint": (
        {"method": "trust-constr", "constraints": [{"type": "eq"}]},
        errors.OptionError,
        "LinearConstraint",
    ),
    "threads": ({"threads": True}, errors.OptionError, "threads is True"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "error", "message"), WRONG_OPTIONS.values(), ids=WRONG_OPTIONS
)
def test_wrong_options_of_minimize(options, error, message):
    with pytest.raises(error, match=message):
        minimized({"w": W}, **options)


def test_bounds_of_scipy_of_another_length():
    from scipy.optimize import Bounds

    with pytest.raises(errors.OptionError, match="a bound of the flat vector"):
        minimized({"w": W}, bounds=Bounds([0.0, 0.0], [1.0, 1.0]))


@pytest.mark.parametrize("name", ["dtype", "device", "threads"])
def test_options_of_compile_have_no_place_beside_a_compiled_loss(name):
    value = {"dtype": "float32", "device": "cpu", "threads": 1}[name]
    with pytest.raises(errors.ArgumentError, match=f"give {name} to compile"):
        sg.minimize(loss(), {"w": W}, {"X": X, "y": Y}, **{name: value})


@pytest.mark.parametrize("threads", [np.int64(2), 2])
def test_threads_of_any_integer_type(threads):
    assert loss(threads=threads)(**V) == loss()(**V)


@pytest.mark.parametrize(
    "make", [sg.parse, lambda text, **o: sg.compile(text, "a", **o)]
)
def test_limits_are_limits(make):
    with pytest.raises(errors.ArgumentError, match="limits is 3"):
        make("a", limits=3)


@pytest.mark.parametrize("wanted", ["abc", "0", "-1", "2.5"])
def test_the_number_of_threads_in_the_environment(wanted, monkeypatch):
    monkeypatch.setenv("SYMGRAD_NUM_THREADS", wanted)
    with pytest.raises(errors.OptionError, match="SYMGRAD_NUM_THREADS"):
        loss()(**V)


def test_an_empty_number_of_threads_is_none(monkeypatch):
    expected = loss()(**V)
    monkeypatch.setenv("SYMGRAD_NUM_THREADS", "")
    assert loss()(**V) == expected


# --- tables ---------------------------------------------------------------------------


class Frame:
    """The part of a pandas DataFrame that counts: keys, columns, and no truth value."""

    def __init__(self, **columns):
        self.columns_ = columns

    def keys(self):
        return [*self.columns_, 7]

    def __getitem__(self, name):
        return self.columns_[name]

    def __bool__(self):
        raise ValueError("ambiguous")


T = np.linspace(0.0, 1.0, 9)
COLUMNS = {"t": T, "y": 2.0 * T - 1.0, "a": T, "note": np.array(["x"] * 9)}


def arrow():
    return pytest.importorskip("pyarrow").table(COLUMNS)


def pandas():
    return pytest.importorskip("pandas").DataFrame(COLUMNS)


def structured():
    kinds = [(name, array.dtype) for name, array in COLUMNS.items()]
    table = np.zeros(9, dtype=kinds)
    for name, array in COLUMNS.items():
        table[name] = array
    return table


@pytest.mark.parametrize("make", [lambda: Frame(**COLUMNS), arrow, pandas, structured])
def test_data_may_be_a_table(make):
    """Columns that the loss does not use, and those of parameters, are left out."""
    start = {"a": 0.0, "b": 0.0}
    found = sg.minimize("mean((a*t + b - y)**2)", start, make(), method="lbfgs")
    np.testing.assert_allclose([found.params["a"], found.params["b"]], [2, -1])


def test_data_in_a_dict_are_all_used():
    with pytest.raises(errors.ArgumentError, match="zz is not used"):
        minimized({"w": W}, {"X": X, "y": Y, "zz": 1.0})


def test_names_are_refused_at_bind():
    with pytest.raises(
        errors.ArgumentError, match=r"statistic is not used.*statistics"
    ):
        loss().bind(X=X, y=Y, statistic=True)
    with pytest.raises(errors.ArgumentError, match="yy is not used"):
        loss().bind(X=X, yy=Y)


def test_data_that_are_not_finite_are_named():
    y = Y.copy()
    y[2] = np.nan
    for method in ("adam", "lbfgs"):
        with pytest.warns(errors.DataWarning):
            found = minimized({"w": W}, {"X": X, "y": y}, method=method)
        assert not found.success and "y[2] is nan" in found.message


# --- shapes ---------------------------------------------------------------------------

SHAPES = {
    "sum(a[i])": {"a": (3,), "i": (5,)},
    "j = i + 1; sum(a[j]*x)": {"a": (9,), "i": 5, "x": 5},
    "sum(a[k[i]])": {"a": 3, "i": [5], "k": (np.int64(7),)},
    "sum(a[1:]*x[:4])": {"a": 5, "x": 4},
}


@pytest.mark.parametrize("text", SHAPES)
def test_shapes_of_what_is_indexed_with(text):
    f = sg.compile(text, ["a"], shapes=SHAPES[text])
    assert "define" in f.llvm


def test_a_shape_that_is_none():
    with pytest.raises(errors.SymgradError, match="a"):
        sg.compile("sum(a)", ["a"], shapes={"a": "wide"})


# --- what objects say of themselves ---------------------------------------------------


def test_short_names_of_objects():
    f = loss()
    drawn = sg.draw(f, **V)
    assert repr(drawn).startswith("<symgrad Drawing of 'mean((X @ w")
    assert repr(sg.report(f, **V)).startswith("<symgrad Report of 'mean((X @ w")
    assert repr(f.bind(X=X, y=Y)) == (
        f"<symgrad Objective {TEXT!r} of w; data X (4, 3), y (4,)>"
    )
    assert len(repr(drawn)) < 120


def test_a_report_is_of_a_compiled_loss():
    for make in (sg.report, sg.draw):
        with pytest.raises(errors.ArgumentError, match="a compiled loss is needed"):
            make("a*b", a=1.0)


def test_explain_takes_values_by_name_and_other_kernels():
    f = loss()
    f.value_and_grad(**V)
    assert "value" in f.explain(kernel="value")
    assert "hvp w[" in f.explain(kernel="hvp")
    assert "% of the roofline" in f.explain(**V)
    with pytest.raises(errors.ArgumentError, match=r"no kernel 'x' .* value"):
        f.explain(kernel="x")
    m = sg.model("X @ w", ["w"])
    m.jacobian(X=X, w=W)
    assert "value[" in m.explain(kernel="value")


def test_warnings_point_at_the_user():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        sg.minimize("a**2", {"a": 1.0, "unused": 1.0}, steps=1)
    assert [w.filename for w in found] == [__file__]


def test_classes_are_imported_on_first_use():
    code = (
        "import json, sys; import symgrad as sg; before = set(sys.modules);"
        "names = [getattr(sg, n).__name__ for n in sg.__all__ if n[0].isupper()];"
        "print(json.dumps([names, [m for m in before if 'show' in m]]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    names, early = json.loads(out.stdout)
    assert {"Objective", "Drawing", "Report", "GaussNewton"} <= set(names)
    assert not early
