"""What users are told about wrong calls and unusual data."""

from __future__ import annotations

import numpy as np
import pytest
from example_loss import MODEL, MODEL_TEXT, RANDOM, TEXT, VALUES, B, W, X, Y

import symgrad as sg
from symgrad import errors


@pytest.fixture(scope="module")
def f():
    """The loss, called once: texts about its kernel are there."""
    loss = sg.compile(TEXT, wrt=["w", "b"])
    loss.value_and_grad(**VALUES)
    return loss


@pytest.fixture(scope="module")
def obj(f):
    return f.bind({"w": W, "b": B}, X=X, y=Y)


@pytest.fixture(scope="module")
def m():
    return sg.model(MODEL_TEXT, wrt=["a", "b", "c"])


# --- wrong calls ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": Y[:-1]}, errors.ShapeError, r"\(49,\).*\n.*line 1"),
        ({"w": W[:-1]}, errors.ShapeError, r"`X` has 4 columns, `w` has 3"),
        ({"b": np.ones(3)}, errors.ShapeError, r"`b` has shape \(3,\)"),
        ({"w": 1.0}, errors.ShapeError, "takes no scalars"),
        ({"z": 1.0}, errors.ArgumentError, "z is not used"),
        ({"yy": Y}, errors.ArgumentError, "did you mean y"),
        ({"y": Y * 1j}, errors.DTypeError, "y is complex"),
        ({"y": np.array([object()] * 50)}, errors.DTypeError, "y holds Python objects"),
        ({"b": None}, errors.DTypeError, "b holds Python objects"),
        ({"w": "abc"}, errors.DTypeError, "w has dtype"),
        ({"y": np.zeros(50, "M8[s]")}, errors.DTypeError, "not a number"),
        ({"y": np.zeros(50, [("a", float)])}, errors.DTypeError, "not a number"),
        ({"X": [[1.0, 2.0], [3.0]]}, errors.DataError, "not a rectangular"),
        ({"y": np.ma.masked_array(Y, Y > 0)}, errors.DataError, "masked"),
    ],
    ids=str,
)
@pytest.mark.parametrize("call", ["__call__", "grad", "hessian"])
def test_wrong_arrays(f, call, change, error, message):
    f(**VALUES)  # a call that is alike must not hide what is wrong with the next
    with pytest.raises(error, match=message):
        getattr(f, call)(**{**VALUES, **change})


def test_missing_names(f):
    with pytest.raises(errors.ArgumentError, match="no value for parameter w"):
        f(b=B, X=X, y=Y)
    with pytest.raises(errors.UnknownNameError, match="`y`"):
        f(w=W, b=B, X=X)


def test_wrong_directions(f, m):
    with pytest.raises(errors.ShapeError, match="direction of w"):
        f.hvp({"w": W[1:]}, **VALUES)
    with pytest.raises(errors.ArgumentError, match="parameters are w, b"):
        f.hvp({"v": W}, **VALUES)
    with pytest.raises(errors.ArgumentError, match="parameters are a, b, c"):
        m.jvp({"d": 1.0}, **MODEL)
    with pytest.raises(errors.ShapeError, match="cotangent"):
        m.vjp(np.ones(6), **MODEL)


def test_wrong_vectors(f, obj):
    with pytest.raises(errors.ShapeError, match="5 parameters"):
        obj(np.ones(4))
    with pytest.raises(errors.ShapeError, match="5 parameters"):
        obj(np.ones((1, 5)))
    with pytest.raises(errors.DTypeError, match="x is complex"):
        obj(np.ones(5) * 1j)
    with pytest.raises(errors.DTypeError, match="Python objects"):
        obj([None] * 5)
    with pytest.raises(errors.ShapeError, match="bound for"):
        obj.pack({"w": W[1:], "b": B})
    with pytest.raises(errors.ArgumentError, match="missing: b"):
        obj.pack({"w": W})
    with pytest.raises(errors.ArgumentError, match="not parameters: q"):
        obj.pack({"w": W, "b": B, "q": 1.0})
    with pytest.raises(errors.ArgumentError, match="pack"):
        f.bind(X=X, y=Y).unpack(np.ones(5))


def test_wrong_bindings(f):
    with pytest.raises(errors.ArgumentError, match="w is a parameter"):
        f.bind(w=W, X=X, y=Y)
    with pytest.raises(errors.UnknownNameError, match="`y`"):
        f.bind({"w": W, "b": B}, X=X)(np.ones(5))
    with pytest.raises(errors.ArgumentError, match="zz is not used"):
        f.bind({"w": W, "b": B}, X=X, y=Y, zz=1.0)(np.ones(5))


def test_a_loss_must_be_scalar():
    with pytest.raises(errors.ShapeError, match=r"n = 50 rows of X; wrap it in mean"):
        sg.compile("X @ w", wrt=["w"])(X=X, w=W)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"wrt": "a"}, errors.ArgumentError, r"wrt=\['a'\]"),
        ({"wrt": "ab", "expression": "a + b"}, errors.ArgumentError, r"=\['a', 'b'\]"),
        ({"wrt": "ab", "expression": "a + ab"}, errors.ArgumentError, r"=\['ab'\]"),
        ({"wrt": "ab"}, errors.ArgumentError, r"=\['ab'\]"),
        ({"wrt": "w, b"}, errors.ArgumentError, r"=\['w', 'b'\]"),
        ({"wrt": ["a", "a"]}, errors.ArgumentError, "twice"),
        ({"wrt": None}, errors.ArgumentError, "list of names"),
        ({"wrt": ["a+b"]}, errors.ArgumentError, "not a name"),
        ({"dtype": "int32"}, errors.DTypeError, "float64 or float32"),
        ({"dtype": "flot32"}, errors.DTypeError, "did you mean 'float32'"),
        ({"device": "tpu"}, errors.DeviceError, "unknown device"),
        ({"threads": 0}, errors.OptionError, "positive"),
        ({"limits": sg.Limits(max_length=3)}, errors.LimitError, "length|long|char"),
        ({"expression": None}, errors.SymPyError, "NoneType"),
        ({"expression": "a +"}, errors.ParseError, "line 1, column"),
        ({"expression": "tahn(a)"}, errors.UnknownFunctionError, "did you mean `tanh`"),
        ({"expression": "__import__('os')"}, errors.ParseError, "line 1"),
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [sg.compile, sg.model])
def test_wrong_options(make, arguments, error, message):
    with pytest.raises(error, match=message):
        make(**{"expression": "a + a", "wrt": ["a"], **arguments})


def test_a_loss_has_parameters_and_a_model_may_have_none():
    with pytest.raises(errors.ArgumentError, match="empty"):
        sg.compile("sum(y)", wrt=[])
    assert sg.model("log(y)", wrt=[])(y=np.ones(3)).tolist() == [0.0, 0.0, 0.0]


def test_a_misspelt_parameter_is_pointed_out():
    f = sg.compile(TEXT, wrt=["w", "b"])
    with pytest.raises(errors.ArgumentError, match="given is bb: a typo"):
        f(w=W, bb=B, X=X, y=Y)


def test_a_bound_objective_is_not_what_minimize_takes():
    f = sg.compile("sum((y - a)**2)", wrt=["a"])
    with pytest.raises(errors.ArgumentError, match="before it is bound"):
        sg.minimize(f.bind(y=Y), init={"a": 0.0})


def test_equal_programs_are_equal():
    f = sg.compile(TEXT, wrt=["w", "b"])
    assert f == sg.compile(sg.parse(TEXT), wrt=["w", "b"])
    assert f != sg.compile(TEXT, wrt=["b", "w"])
    assert f != sg.compile(TEXT + " + 1", wrt=["w", "b"])


def test_wrong_shapes_for_specialize():
    f = sg.compile(TEXT, wrt=["w", "b"])
    with pytest.raises(errors.ShapeError, match="columns"):
        f.specialize(w=(4,), b=(), X=(10, 5), y=(10,))
    with pytest.raises(errors.ArgumentError, match="negative"):
        f.specialize(w=(-4,), b=(), X=(10, 4), y=(10,))
    with pytest.raises(errors.UnknownNameError, match="`y`"):
        f.specialize(w=(4,), b=(), X=(10, 4))


def test_errors_are_built_in_errors_too():
    for kind, base in [
        (errors.ShapeError, ValueError),
        (errors.DTypeError, TypeError),
        (errors.ParseError, ValueError),
        (errors.GatherIndexError, IndexError),
        (errors.UnknownNameError, NameError),
    ]:
        assert issubclass(kind, base)
        assert issubclass(kind, sg.SymgradError)


# --- data -----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_data_that_are_not_finite(f, bad):
    y = Y.copy()
    y[3] = bad
    values = {**VALUES, "y": y}
    for call in (f, f.grad, f.value_and_grad, f.hessian):
        with pytest.raises(errors.DataError, match=rf"y\[3\] is {bad}"):
            call(**values)
    with pytest.raises(errors.DataError, match=r"y\[3\]"):
        f.hvp({"w": W}, **values)
    with pytest.warns(errors.DataWarning, match=r"y\[3\]") as caught:
        obj = f.bind(X=X, y=y)
    assert caught[0].filename == __file__
    obj.pack({"w": W, "b": B})
    assert not np.isfinite(obj(np.ones(5)))


def test_masked_rows_may_be_nan():
    y = np.append(Y, np.nan)
    f = sg.compile("sum(where(isfinite(y), (y - a)**2, 0))", wrt=["a"])
    value, gradient = f.value_and_grad(a=0.5, y=y)
    assert value == pytest.approx(np.sum((Y - 0.5) ** 2))
    assert gradient["a"] == pytest.approx(np.sum(2 * (0.5 - Y)))


def test_parameters_that_are_not_finite_give_nan(f):
    assert np.isnan(f(**{**VALUES, "b": np.nan}))


def test_overflow_is_infinity_not_an_error():
    assert sg.compile("sum(exp(a*x))", wrt=["a"])(a=1e6, x=np.ones(3)) == np.inf


@pytest.mark.parametrize("call", ["__call__", "grad", "bound", "bound gradient", "hvp"])
def test_gathers_are_checked(call):
    f = sg.compile("sum((U[i] - r)**2)", wrt=["U"])
    i, r = np.array([0, 1, 4, -5]), np.zeros(4)
    assert f(U=np.ones(5), i=i, r=r) == 4.0
    obj = f.bind({"U": np.ones(4)}, i=i, r=r)
    x = np.ones(4)
    calls = {
        "__call__": lambda: f(U=x, i=i, r=r),
        "grad": lambda: f.grad(U=x, i=i, r=r),
        "bound": lambda: obj(x),
        "bound gradient": lambda: obj.value_and_grad(x),
        "hvp": lambda: f.hvp({"U": x}, U=x, i=i, r=r),
    }
    with pytest.raises(errors.GatherIndexError, match=r"i\[2\] = 4 .* has length 4"):
        calls[call]()


def test_the_right_index_is_blamed():
    f = sg.compile("sum((U[i]*V[j])**2)", wrt=["U", "V"])
    with pytest.raises(IndexError, match=r"j\[1\] = 7 .* axis 0 of V has length 2"):
        f(U=np.ones(5), V=np.ones(2), i=np.array([0, 1]), j=np.array([0, 7]))


def test_numba_code_gets_nan_for_a_wrong_index():
    f = sg.compile("sum((U[i] - 2)**2)", wrt=["U"])
    obj = f.bind({"U": np.ones(3)}, i=np.array([5]))
    assert np.isnan(obj.numba(np.ones(3), np.empty(3)))


def test_an_index_must_be_an_integer():
    f = sg.compile("sum(U[i])", wrt=["U"])
    with pytest.raises(errors.DTypeError, match="integer"):
        f(U=np.ones(5), i=np.array([0.0, 1.0]))
    for kind in (np.int8, np.uint8, np.int32, np.uint32, np.uint64):
        assert f(U=np.arange(5.0), i=np.array([0, 4], kind)) == 4.0


def test_no_rows():
    f = sg.compile("sum((y - a)**2)", wrt=["a"])
    value, gradient = f.value_and_grad(a=1.0, y=Y[:0])
    assert (value, gradient["a"]) == (0.0, 0.0)
    f(a=1.0, y=Y)
    assert f(a=1.0, y=Y[:0]) == 0.0
    mean = sg.compile(TEXT, wrt=["w", "b"])  # 0/0, as NumPy
    with pytest.warns(errors.DataWarning, match="is empty"):
        assert np.isnan(mean(w=W, b=B, X=X[:0], y=Y[:0]))
    assert sg.model("a*x", wrt=["a"])(a=1.0, x=Y[:0]).shape == (0,)


@pytest.mark.parametrize("first", [0, 5])
def test_the_maximum_of_nothing(first):
    f = sg.compile("max(y*a)", wrt=["a"])
    if first:
        f(a=1.0, y=Y[:first])
    with pytest.raises(errors.ShapeError, match="max of no elements"):
        f(a=1.0, y=Y[:0])


@pytest.mark.parametrize("first", [None, 4, 3])
def test_no_columns(first):
    f = sg.compile(TEXT, wrt=["w", "b"])
    if first is not None:  # the number of columns may become dynamic
        f.value_and_grad(w=W[:first], b=B, X=X[:, :first], y=Y)
        f.value_and_grad(w=W[:2], b=B, X=X[:, :2], y=Y)
    value, gradient = f.value_and_grad(w=W[:0], b=B, X=X[:, :0], y=Y)
    assert value == pytest.approx(np.mean((np.tanh(B) - Y) ** 2))
    assert gradient["w"].shape == (0,)


def test_an_empty_parameter():
    f = sg.compile("sum(w**2) + b**2", wrt=["w", "b"])
    value, gradient = f.value_and_grad(w=np.empty(0), b=3.0)
    assert value == 9.0
    assert gradient["w"].shape == (0,)
    assert f.bind({"w": np.empty(0), "b": 3.0}).grad([3.0]) == [6.0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_number_of_columns_may_change(dtype):
    f = sg.compile("sum(tanh(X @ w))", wrt=["w"], dtype=dtype)
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    for d in (4, 3, 2, 1, 9, 70):
        x = RANDOM.standard_normal((50, d)).astype(dtype)
        w = np.full(d, 0.1)
        h = np.tanh(x @ w)
        value, gradient = f.value_and_grad(w=w, X=x)
        assert value == pytest.approx(h.sum(), rel=tolerance, abs=tolerance)
        by_hand = x.T @ (1 - h * h)
        np.testing.assert_allclose(
            gradient["w"], by_hand, rtol=tolerance, atol=tolerance
        )


def unaligned(array):
    return np.ndarray(array.shape, array.dtype, b"x" + array.tobytes(), 1)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def field(array):
    record = np.zeros(array.shape, [("pad", "i1"), ("value", "f8")])
    record["value"] = array
    return record["value"]


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "strided rows": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed twice": lambda a: a[::-1].copy()[::-1],
    "big-endian": lambda a: a.astype(">f8"),
    "read-only": read_only,
    "unaligned": unaligned,
    "packed field": field,
    "long double": lambda a: a.astype(np.longdouble),
    "list": lambda a: a.tolist(),
    "objects": lambda a: a.astype(object),
    "nothing masked": np.ma.masked_array,
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", ["X", "y", "w"])
def test_layouts_of_arrays(f, layout, name):
    reference = f.value_and_grad(**VALUES)
    value, gradient = f.value_and_grad(**{**VALUES, name: layout(VALUES[name])})
    assert value == pytest.approx(reference[0], rel=1e-14)
    np.testing.assert_allclose(gradient["w"], reference[1]["w"], rtol=1e-12)


def test_broadcast_views(f):
    ones = np.broadcast_to(np.float64(1), 50)
    assert f(w=W, b=B, X=X, y=ones) == f(w=W, b=B, X=X, y=np.ones(50))


@pytest.mark.parametrize("kind", "i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 ?".split())
def test_types_of_data(kind):
    k = np.array([0, 1, 1, 0, 1]).astype(kind)
    f = sg.compile("sum(a*k) + a", wrt=["a"])
    value, gradient = f.value_and_grad(a=2.0, k=k)
    assert (value, gradient["a"]) == (8.0, 4.0)


def test_integers_do_not_overflow():
    f = sg.compile("sum(a*k*k)", wrt=["a"])
    assert f(a=1.0, k=np.array([2**62, 3])) == pytest.approx(2.0**124)
    with pytest.raises(errors.DataError, match="beyond int64"):
        f(a=1.0, k=np.array([2**64 - 1], np.uint64))


def test_a_column_beside_a_row_is_warned_of():
    f = sg.compile("mean((y - a*x)**2)", wrt=["a"])
    with pytest.warns(errors.BroadcastWarning, match=r"\(50, 1\)"):
        f(a=1.0, y=Y[:, None], x=Y)
