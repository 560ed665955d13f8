"""Calls that take the quick ways: the same answers and errors as the careful ones."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import ArgumentError, DTypeError, ShapeError
from symgrad.runtime import entry, object_layout

TEXT = "(a*b + c)*f"
X = np.array([2.0, -3.0, 10.0, -2.0])
VALUE, GRADIENT = -8.0, np.array([6.0, -4.0, -2.0, 4.0])


@pytest.fixture(params=["native", "careful"])
def objective(request, monkeypatch):
    """A bound objective that was called once, with and without the native function."""
    if request.param == "careful":
        monkeypatch.setattr(object_layout, "is_known", lambda: False)
        entry._trampoline.cache_clear()
    bound = sg.compile(TEXT, wrt=list("abcf")).bind()
    bound.value_and_grad(X)
    assert (bound._fast is not None) == (request.param == "native")
    yield bound
    if request.param == "careful":
        entry._trampoline.cache_clear()


def check(answer):
    value, gradient = answer
    assert value == VALUE
    assert type(value) is float
    np.testing.assert_array_equal(gradient, GRADIENT)


# --- Flat vectors ---------------------------------------------------------------------


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


KINDS = {
    "array": lambda x: x,
    "list": lambda x: x.tolist(),
    "tuple": tuple,
    "float32": lambda x: x.astype("float32"),
    "integers": lambda x: x.astype("int64"),
    "big-endian": lambda x: x.astype(">f8"),
    "strided": lambda x: np.repeat(x, 2)[::2],
    "reversed": lambda x: x[::-1].copy()[::-1],
    "read only": read_only,
    "unaligned": lambda x: np.frombuffer(b"-" + x.tobytes(), offset=1),
    "other dtype object": lambda x: x.view(np.dtype("f8", metadata={"unit": "m"})),
    "subclass": np.ma.masked_array,
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_vectors_of_all_kinds(objective, kind):
    x = kind(X)
    check(objective.value_and_grad(x))
    assert objective(x) == VALUE
    np.testing.assert_array_equal(objective.grad(x), GRADIENT)


@pytest.mark.parametrize("x", [X[:3], np.append(X, 1.0), X[None, :], 1.0, []])
def test_vectors_of_other_shapes(objective, x):
    for call in (objective, objective.value_and_grad, objective.grad):
        with pytest.raises(ShapeError, match="4 parameters"):
            call(x)


def test_what_is_no_vector(objective):
    for x in ("text", None, 1j * X, object()):
        with pytest.raises(DTypeError):
            objective.value_and_grad(x)


def test_output_arrays(objective):
    out = np.full(4, np.nan)
    answer = objective.value_and_grad(X, out=out)
    assert answer[1] is out
    check(answer)


def test_output_that_overlaps(objective):
    x = X.copy()
    check(objective.value_and_grad(x, out=x))
    for shift in range(1, 5):
        both = np.zeros(8)
        for low, high in ((0, shift), (shift, 0)):
            both[low : low + 4] = X
            out = both[high : high + 4]
            check(objective.value_and_grad(both[low : low + 4], out=out))


@pytest.mark.parametrize(
    "out",
    [
        np.empty(3),
        np.empty(5),
        np.empty((2, 2)),
        np.empty(4, np.float32),
        np.empty(8)[::2],
        read_only(X),
        [0.0] * 4,
    ],
)
def test_outputs_that_do_not_fit(objective, out):
    with pytest.raises(ArgumentError, match="writeable float64"):
        objective.value_and_grad(X, out=out)


def test_new_arrays_each_time(objective):
    first = objective.grad(X)
    second = objective.grad(2 * X)
    np.testing.assert_array_equal(first, GRADIENT)
    assert not np.shares_memory(first, second)


def test_the_function_outlives_other_objectives():
    losses = [sg.compile(f"sum(x**2) + {k}", wrt=["x"]) for k in range(5)]
    bound = [loss.bind({"x": np.zeros(3)}) for loss in losses]
    assert [b.value_and_grad(np.ones(3))[0] for b in bound] == [3, 4, 5, 6, 7]
    del losses, bound[::2]
    gc.collect()
    assert [b.value_and_grad(np.ones(3))[0] for b in bound] == [4, 6]


def test_a_loss_that_is_not_a_number():
    bound = sg.compile("sum(log(x))", wrt=["x"]).bind({"x": np.ones(2)})
    assert bound(np.ones(2)) == 0.0
    for _ in range(3):
        value, gradient = bound.value_and_grad(np.array([-1.0, 1.0]))
        assert np.isnan(value)
        assert gradient[1] == 1.0
        assert bound(np.array([0.0, 1.0])) == -np.inf


def test_many_threads():
    """A loss long enough to let other threads run meanwhile."""
    rng = np.random.default_rng(0)
    data = {"t": rng.normal(size=2000), "y": rng.normal(size=2000)}
    loss = sg.compile("mean((y - a*exp(-b*t))**2)", wrt=["a", "b"])
    bound = loss.bind({"a": 0.0, "b": 0.0}, **data)
    points = rng.normal(size=(50, 2))
    expected = [bound.value_and_grad(x) for x in points]

    def run(k):
        a, b = points[k]
        return bound.value_and_grad(points[k]), loss.value_and_grad(a=a, b=b, **data)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(run, range(50)))
    for (value, gradient), (flat, named) in zip(expected, answers, strict=True):
        assert flat[0] == named[0] == value
        np.testing.assert_array_equal(flat[1], gradient)
        np.testing.assert_array_equal([named[1]["a"], named[1]["b"]], gradient)


# --- Calls by name --------------------------------------------------------------------


SCALARS = {
    "floats": float,
    "integers": int,
    "NumPy floats": np.float64,
    "NumPy integers": np.int32,
    "float32": np.float32,
    "arrays": np.array,
    "arrays of integers": lambda v: np.array(int(v)),
}


@pytest.mark.parametrize("kind", SCALARS.values(), ids=SCALARS)
def test_scalars_of_all_kinds(kind):
    loss = sg.compile(TEXT, wrt=list("abcf"))
    for other in (float, kind, kind, float):
        values = {n: other(v) for n, v in zip("abcf", X, strict=True)}
        value, gradient = loss.value_and_grad(**values)
        check((value, list(gradient.values())))
        assert [g.shape for g in gradient.values()] == [()] * 4
        assert list(gradient) == list("abcf")
        assert loss(**values) == VALUE


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_repeated_calls_are_the_same(dtype):
    rng = np.random.default_rng(1)
    W, b = rng.normal(size=(4, 3)), rng.normal(size=3)
    data = {"X": rng.normal(size=(20, 4)).astype(dtype), "y": np.ones((20, 3), dtype)}
    loss = sg.compile("sum((tanh(X @ W + b) - y)**2)", wrt=["b", "W"], dtype=dtype)
    first, *others = [loss.value_and_grad(W=W, b=b, **data) for _ in range(3)]
    for value, gradient in others:
        assert value == first[0] == loss(W=W, b=b, **data)
        for name, like in (("b", b), ("W", W)):
            np.testing.assert_array_equal(gradient[name], first[1][name])
            assert gradient[name].shape == like.shape
            assert gradient[name].dtype == dtype
    assert not np.shares_memory(others[0][1]["W"], others[1][1]["W"])


def changes():
    """Data of one loss that differ from call to call, and parameters."""
    x = np.arange(12.0)
    yield 2.0, x
    yield 2.0, x
    yield 2.0, x[::2]
    yield 2.0, x[6:]
    yield 2.0, x.astype("float32")
    yield 2.0, x.astype("int16")
    yield 2.0, list(x)
    yield 2.0, tuple(range(12))
    yield np.array(2.0), x[::-1]
    yield 2, x.astype(">f8")
    yield 2.0, np.frombuffer(b"-" + x.tobytes(), offset=1)
    yield np.float32(2.0), x[:1]


def test_calls_that_change():
    loss = sg.compile("sum(a*x**2)", wrt=["a"])
    for _ in range(2):
        for a, x in changes():
            squares = float(np.sum(np.asarray(x, dtype=float) ** 2))
            for _ in range(3):
                assert loss(a=a, x=x) == 2 * squares
                value, gradient = loss.value_and_grad(x=x, a=a)
                assert (value, gradient["a"]) == (2 * squares, squares)


def test_lengths_of_arrays_that_are_not_read():
    loss = sg.compile("a*len(x)", wrt=["a"])
    for length in (100, 100, 100, 200, 200):
        assert loss(a=1.0, x=np.zeros(length)) == length
        assert loss.value_and_grad(a=1.0, x=np.zeros(length))[0] == length


def test_shapes_of_parameters_that_change():
    loss = sg.compile("sum(w**2)", wrt=["w"])
    for shape in [(3,), (3,), (2, 2), (2, 2), (), (), (3,)]:
        value, gradient = loss.value_and_grad(w=np.ones(shape))
        assert value == np.prod(shape)
        np.testing.assert_array_equal(gradient["w"], np.full(shape, 2.0))


def test_wrong_calls_after_right_ones():
    loss = sg.compile("sum((a*x - y)**2)", wrt=["a"])
    x = np.ones(100)
    for _ in range(3):
        loss.value_and_grad(a=1.0, x=x, y=x)
    with pytest.raises(ShapeError):
        loss.value_and_grad(a=1.0, x=x, y=np.ones(99))
    with pytest.raises(DTypeError):
        loss.value_and_grad(a=1.0, x=x, y=1j * x)
    with pytest.raises(DTypeError):
        loss.value_and_grad(a="1", x=x, y=x)
    with pytest.raises(ArgumentError):
        loss.value_and_grad(x=x, y=x)
    with pytest.raises(ArgumentError):
        loss.value_and_grad(a=1.0, x=x, y=x, z=x)


def test_data_are_not_kept():
    loss = sg.compile("sum(a*x)", wrt=["a"])
    x = np.ones(1000)
    for _ in range(3):
        loss.value_and_grad(a=1.0, x=x)
        loss(a=1.0, x=x)
    watched = weakref.ref(x)
    del x
    gc.collect()
    assert watched() is None


def test_the_layout_of_arrays_is_known_here():
    for array in (np.arange(3.0), np.empty((0, 2)), np.ones(())):
        expected = array.__array_interface__["data"][0]
        assert object_layout.address(array) == expected
