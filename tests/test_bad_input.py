"""Hostile and unusual data: each has its error, which names it, or its answer.

``test_api_errors.py`` has what is common; this is the rest: other libraries' arrays,
axes of length 0, numbers beyond int64 and float64, names in other alphabets.
"""

from __future__ import annotations

import decimal
import fractions

import numpy as np
import pytest

import symgrad as sg
from symgrad import errors

INF, NAN = np.inf, np.nan
X = np.arange(6.0)
LOSS = sg.compile("sum((a*x - 1)**2)", wrt=["a"])


def expected(x, a=2.0):
    x, a = np.asarray(x, float), float(a)
    return np.sum((a * x - 1) ** 2), np.sum(2 * (a * x - 1) * x)


def assert_as_numbers(values, x, a=2.0):
    """The loss and the gradient that the numbers ``x`` have."""
    for _ in range(2):  # the second call may take another way
        value, slopes = LOSS.value_and_grad(a=a, x=values)
        assert (value, float(slopes["a"])) == pytest.approx(expected(x, a), rel=1e-14)


# --- Arrays of other libraries and kinds ----------------------------------------------


class HasArray:
    def __array__(self, dtype=None, copy=None):
        return X[:3]


class HasFloat:
    def __float__(self):
        return 2.0


class Refuses:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("device memory\nis far away")


class Broken:
    @property
    def __array_interface__(self):
        raise ZeroDivisionError("division by zero")


class Subclass(np.ndarray):
    pass


FIXED = {
    "tuple": (1, 2.5),
    "range": range(4),
    "Decimal": [decimal.Decimal("1.5")] * 3,
    "Fraction": [fractions.Fraction(1, 4)] * 3,
    "integers beyond int64": [2**70, 1],
    "booleans": [True, False],
    "objects": np.array([1, 2.5, True], object),
    "subclass": X.view(Subclass),
    "sliding windows": np.lib.stride_tricks.sliding_window_view(X, 3),
    "negative strides": np.arange(12.0).reshape(3, 4)[::-1, ::-2],
    "transposed twice": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    "one number broadcast": np.broadcast_to(3.0, (2, 5)),
    "big-endian integers": X.astype(">i4"),
    "big-endian halves": X.astype(">f2"),
    "structured column": np.array([(1, 2.5), (3, 4.5)], "i1, f8")["f1"],
    "length one": [4.0],
    "zero-dimensional": np.array(4.0),
    "a number": 4,
    "rank five": np.ones((1, 2, 1, 3, 2)),
}


@pytest.mark.parametrize("values", FIXED.values(), ids=FIXED)
def test_kinds_of_data(values):
    assert_as_numbers(values, values)


def test_objects_that_give_arrays():
    assert_as_numbers(HasArray(), X[:3])
    assert_as_numbers(X, X, a=HasFloat())


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i2", "|u1"])
def test_memory_maps(dtype, tmp_path):
    path = tmp_path / "data.bin"
    X.astype(dtype).tofile(path)
    for mode in ("r", "c", "r+"):
        mapped = np.memmap(path, dtype, mode, shape=(2, 3))
        assert_as_numbers(mapped, X)
    assert_as_numbers(np.memmap(path, dtype, "r")[::-2], X[::-2])


REFUSED = {
    "generator": ((i for i in range(3)), errors.DTypeError, "x is a generator"),
    "set": ({1.0, 2.0}, errors.DTypeError, "x is a set"),
    "dict": ({"a": 1.0}, errors.DTypeError, "x is a dict"),
    "text": ("1.5", errors.DTypeError, "<U3"),
    "texts": (["1", "2"], errors.DTypeError, "<U1"),
    "bytes": (b"12", errors.DTypeError, "not a number"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), errors.DTypeError, "datetime64"),
    "durations": (np.array([1], "m8[s]"), errors.DTypeError, "timedelta64"),
    "None inside": ([1.0, None], errors.DTypeError, "x holds Python objects"),
    "complex": (X + 0j, errors.DTypeError, "x is complex.*two arrays"),
    "ragged": ([[1.0], [2.0, 3.0]], errors.DataError, "x is not a rectangular"),
    "ragged depth": ([[1.0], 2.0], errors.DataError, "x is not a rectangular"),
    "masked": (np.ma.array([1.0, 2.0], mask=[0, 1]), errors.DataError, "filled"),
    "masked constant": (np.ma.masked, errors.DataError, "x has masked elements"),
    "records": (np.zeros(3, "i1, f8"), errors.DTypeError, "not a number"),
    "beyond float64": ([10**400], errors.DataError, "x holds an integer.*1.8e308"),
    "beyond int64": (np.array([2**63], np.uint64), errors.DataError, "beyond int64"),
    "refuses": (Refuses(), errors.DataError, "x, a .*Refuses, .*: device memory$"),
    "broken": (Broken(), errors.DataError, "cannot be read as an array: division"),
}


@pytest.mark.parametrize(("values", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_data(values, error, message):
    with pytest.raises(error, match=message):
        LOSS.value_and_grad(a=2.0, x=values)
    with pytest.raises(error, match=message.replace("x ", "a ").replace("x,", "a,")):
        LOSS.value_and_grad(a=values, x=X)
    with pytest.raises(error, match=message):
        LOSS.bind(x=values)


def test_long_doubles_beyond_float64_are_infinite():
    x = np.array([1, 0], np.longdouble)
    x[1] = np.longdouble("1e4000") if np.finfo(np.longdouble).maxexp > 1024 else INF
    with pytest.raises(errors.DataError, match=r"x\[1\] is inf"):
        LOSS(a=1.0, x=x)


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    assert_as_numbers(torch.arange(6.0), X)
    assert_as_numbers(torch.arange(6, dtype=torch.int32), X)
    assert_as_numbers(torch.arange(12.0).reshape(3, 4).T, np.arange(12.0))
    assert_as_numbers(X, X, a=torch.tensor(2.0))
    traced = torch.arange(6.0, requires_grad=True)
    with pytest.raises(errors.DataError, match=r"x, a torch.Tensor.*detach\(\)"):
        LOSS(a=1.0, x=traced)
    for tensor in (torch.arange(3.0, dtype=torch.bfloat16), torch.eye(2).to_sparse()):
        with pytest.raises(errors.DataError, match=r"x, a torch.Tensor, cannot be"):
            LOSS(a=1.0, x=tensor)


def test_jax_arrays():
    jax = pytest.importorskip("jax")
    assert_as_numbers(jax.numpy.arange(6.0), X)
    with pytest.raises(errors.DTypeError, match="x has dtype bfloat16"):
        LOSS(a=1.0, x=jax.numpy.arange(3.0, dtype="bfloat16"))
    with pytest.raises(errors.DataError, match="traced array"):
        jax.jit(lambda x: LOSS(a=1.0, x=x))(jax.numpy.arange(3.0))


def test_arrow_columns():
    arrow = pytest.importorskip("pyarrow")
    assert_as_numbers(arrow.array([1.0, 2.5]), [1.0, 2.5])
    assert_as_numbers(arrow.chunked_array([[1, 2], [3]]), [1, 2, 3])
    with pytest.raises(errors.DataError, match=r"x\[1\] is nan"):
        LOSS(a=1.0, x=arrow.array([1.0, None]))


def test_pandas_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1.0, 2.5, 4.0], "k": [1, 2, 3], "t": list("abc")})
    assert_as_numbers(frame["x"], [1.0, 2.5, 4.0])
    assert_as_numbers(frame["x"][::-2], [4.0, 1.0])  # an index that is not 0, 1, 2
    assert_as_numbers(frame["k"].astype("Int64"), [1, 2, 3])
    assert_as_numbers(frame[["x", "k"]], frame[["x", "k"]].to_numpy())
    for column, error in [("t", errors.DTypeError), (["x", "t"], errors.DTypeError)]:
        with pytest.raises(error, match="x "):
            LOSS(a=1.0, x=frame[column])
    missing = pandas.array([1, None], dtype="Int64")
    with pytest.raises(errors.SymgradError, match="x"):
        LOSS(a=1.0, x=missing)


def test_sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    for matrix in (sparse.csr_matrix(np.eye(2)), sparse.coo_array(np.eye(2))):
        with pytest.raises(errors.DTypeError, match="pass a dense array"):
            LOSS(a=1.0, x=matrix)


# --- Parameters -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple, np.array, np.float32, np.float16, int])
def test_scalars_and_arrays_of_length_one(kind):
    """A scalar parameter is a number or an array of any rank with one element."""
    number = kind([2.0]) if kind in (list, tuple) else kind(2)
    value, slopes = LOSS.value_and_grad(a=number, x=X)
    assert value == expected(X)[0]
    assert slopes["a"].shape == np.shape(number)
    assert slopes["a"].item() == expected(X)[1]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_parameters_that_are_not_finite_are_answered(bad):
    value, slopes = LOSS.value_and_grad(a=bad, x=X)
    assert not np.isfinite(value)
    assert not np.isfinite(slopes["a"])


# --- NaN and infinity, named ----------------------------------------------------------

PLACES = [
    ((), r"x is nan"),
    ((4,), r"x\[2\] is nan"),
    ((3, 4), r"x\[1, 2\] is nan"),
    ((2, 3, 4), r"x\[1, 1, 2\] is nan"),
]


@pytest.mark.parametrize(("shape", "message"), PLACES, ids=str)
@pytest.mark.parametrize("layout", [np.asarray, np.asfortranarray])
@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "g"])
def test_the_first_bad_element_is_named(shape, message, layout, dtype):
    x = np.ones(shape, dtype)
    first = tuple(n // 2 for n in shape)
    x[first] = NAN
    x[tuple(n - 1 for n in shape)] = NAN
    x = layout(x) if shape else x
    with pytest.raises(errors.DataError, match=message + "; remove such rows"):
        LOSS(a=1.0, x=x)


def test_the_right_array_is_named():
    f = sg.compile("sum((a*x - y)**2)", wrt=["a"])
    x, y = np.ones(5), np.ones(5)
    y[4] = -INF
    with pytest.raises(errors.DataError, match=r"y\[4\] is -inf"):
        f(a=1.0, x=x, y=y)
    assert f(a=1.0, x=x, y=np.zeros(5)) == 5.0  # and the next call is fine
    with pytest.raises(errors.DataError, match=r"y\[4\] is -inf"):
        f(a=1.0, x=x, y=y)


# --- Axes of length 0 -----------------------------------------------------------------

# the reduction, the shape, the value of its sum: None for an error
EMPTY = [
    ("sum(a*x)", (0,), 0.0), ("sum(a*x)", (3, 0), 0.0),
    ("prod(a*x)", (0,), 1.0), ("prod(a*x, axis=1)", (3, 0), 3.0),
    ("norm(a*x)", (0,), 0.0), ("norm(a*x, axis=0)", (0, 3), 0.0),
    ("mean(a*x)", (0,), NAN), ("mean(a*x, axis=1)", (3, 0), NAN),
    ("mean(a*x, axis=1)", (0, 3), 0.0), ("var(a*x)", (0,), NAN),
    ("std(a*x)", (0,), NAN), ("var(a*x, axis=0)", (3, 0), 0.0),
    ("logsumexp(a*x)", (0,), -INF), ("logsumexp(a*x, axis=1)", (3, 0), -INF),
    ("logsumexp(a*x, axis=1)", (0, 3), 0.0), ("softmax(a*x, axis=0)", (0,), 0.0),
    ("softmax(a*x)", (3, 0), 0.0), ("log_softmax(a*x)", (0, 3), 0.0),
    ("max(a*x)", (0,), None), ("min(a*x, axis=1)", (3, 0), None),
    ("max(a*x, axis=1)", (0, 3), 0.0), ("min(a*x, axis=0)", (0, 3), None),
    ("a*x.T @ x", (0, 2), 0.0), ("a*x @ x.T", (3, 0), 0.0),
    ("einsum('ij,kj->ik', a*x, x)", (2, 0), 0.0), ("a*x[1:]", (0,), 0.0),
    ("a*x[::-1]", (0,), 0.0), ("a*outer(x, x)", (0,), 0.0), ("a*len(x)", (0,), 0.0),
    ("a*x[0]", (0,), None), ("a*x[-1]", (0,), None),
    ("trace(a*outer(x, x))", (0,), 0.0),
]  # fmt: skip


@pytest.mark.parametrize("first", ["empty", "full"])
@pytest.mark.parametrize(("text", "shape", "wanted"), EMPTY, ids=str)
@pytest.mark.filterwarnings("ignore:x is empty")
def test_axes_of_length_zero(text, shape, wanted, first):
    """As NumPy's, also where the function was compiled for other lengths."""
    f = sg.compile(f"sum({text})", wrt=["a"])
    if first == "full":
        for more in (3, 70):
            full = tuple(more if k == 0 else k for k in shape)
            f.value_and_grad(a=2.0, x=np.ones(full))
    if wanted is None:
        with pytest.raises(errors.SymgradError, match=r"no elements|out of range"):
            f.value_and_grad(a=2.0, x=np.ones(shape))
        return
    value, slopes = f.value_and_grad(a=2.0, x=np.ones(shape))
    assert value == pytest.approx(wanted, nan_ok=True)
    assert slopes["a"] == pytest.approx(NAN if np.isnan(wanted) else 0.0, nan_ok=True)


def test_a_mean_of_nothing_warns():
    f = sg.compile("mean(a*x)", wrt=["a"])
    with pytest.warns(errors.DataWarning, match=r"x is empty: it has shape \(0,\)"):
        assert np.isnan(f(a=1.0, x=X[:0]))


# --- Indices --------------------------------------------------------------------------

GATHERS = [
    ([3], errors.GatherIndexError, r"i\[0\] = 3 is out of bounds: axis 0 of w has "),
    ([0, -4], errors.GatherIndexError, r"i\[1\] = -4 .* has length 3"),
    ([[0, 1], [2, 9]], errors.GatherIndexError, r"i\[1, 1\] = 9"),
    (7, errors.GatherIndexError, r"i = 7"),
    ([2**62], errors.GatherIndexError, rf"i\[0\] = {2**62}"),
    ([-(2**63)], errors.GatherIndexError, rf"i\[0\] = {-(2**63)}"),
    (np.array([200], np.uint8), errors.GatherIndexError, r"i\[0\] = 200"),
    ([0.0, 1.0], errors.DTypeError, "an index must be an integer"),
    ([1.5], errors.DTypeError, "pass index data as an integer array"),
    ([], errors.DTypeError, "pass index data as an integer array"),
    ([True, False, True], errors.UnsupportedError, r"where\(mask, value, 0\)"),
    (True, errors.UnsupportedError, "`i` is a mask"),
    (None, errors.DTypeError, "i holds Python objects"),
    ("0", errors.DTypeError, "i has dtype <U1"),
]


@pytest.mark.parametrize(("index", "error", "message"), GATHERS, ids=str)
def test_wrong_indices(index, error, message):
    f = sg.compile("sum(w[i]**2)", wrt=["w"])
    f(w=np.arange(3.0), i=np.array([0, 1]))
    with pytest.raises(error, match=message):
        f.value_and_grad(w=np.arange(3.0), i=index)


def test_indices_wrap_around_once():
    f = sg.compile("sum(w[i])", wrt=["w"])
    for i in ([-1, -3, 0], np.array([-1, -3, 0], ">i2"), -1, np.int8(-1)):
        value, slopes = f.value_and_grad(w=np.arange(3.0), i=i)
        assert value == np.arange(3.0)[np.asarray(i)].sum()
        assert slopes["w"].sum() == np.size(i)


@pytest.mark.parametrize(
    ("index", "wanted"),
    [
        ("i + 9223372036854775807", None),  # wraps around to a negative number
        ("i - 9223372036854775807 - 2", None),
        ("i*4294967296*4294967296", 0),  # modulo 2**64, as NumPy's int64
        ("i // 0", 0),  # as NumPy's integers
        ("i % 0", 0),
        ("i // -1 + 3", 1),
        ("i % -1", 0),
        ("(i*4611686018427387904) // -1 + 9223372036854775807 + 1", 0),
    ],
)
def test_arithmetic_of_indices_is_that_of_int64(index, wanted):
    f = sg.compile(f"sum(w[{index}])", wrt=["w"])
    values = {"w": np.arange(5.0), "i": np.array([2])}
    if wanted is None:
        with pytest.raises(errors.GatherIndexError):
            f(**values)
    else:
        assert f(**values) == wanted


def test_integer_division_of_the_smallest_number_does_not_stop_the_process():
    low = -(2**63)
    i = np.array([low, low, low, low + 1, -7, 7, 7, -7, 0, 5, -5, low])
    j = np.array([-1, 1, 0, -1, 2, -2, -1, -1, -1, 0, 0, 3])
    with np.errstate(all="ignore"):
        wanted = {"//": i // j, "%": i % j}
    for sign, numbers in wanted.items():
        found = sg.model(f"1.0*(i {sign} j)", wrt=[])(i=i, j=j)
        np.testing.assert_array_equal(found, numbers.astype(float))
