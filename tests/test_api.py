"""The public contract, line by line: what users call, and what they get."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from example_loss import MODEL, MODEL_TEXT, RANDOM, TEXT, VALUES, B, W, X, Y

import symgrad as sg
from symgrad import errors


def expected(w=W, b=B, x=X, y=Y):
    """Loss and gradients by hand."""
    h = np.tanh(x @ w + b)
    slope = 2 * (h - y) * (1 - h * h) / len(y)
    return np.mean((h - y) ** 2), x.T @ slope, slope.sum()


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


# --- losses ---------------------------------------------------------------------------


def test_the_loss_is_a_float(f):
    value = f(**VALUES)
    assert type(value) is float
    assert value == pytest.approx(expected()[0], rel=1e-14)


def test_gradients_are_named_in_order_and_shaped_as_the_parameters(f):
    value, gradient = f.value_and_grad(**VALUES)
    assert list(gradient) == ["w", "b"]
    assert gradient["w"].shape == (4,)
    assert gradient["b"].shape == ()
    loss, by_w, by_b = expected()
    assert value == pytest.approx(loss, rel=1e-14)
    np.testing.assert_allclose(gradient["w"], by_w, rtol=1e-12)
    np.testing.assert_allclose(gradient["b"], by_b, rtol=1e-12)
    alone = f.grad(**VALUES)
    assert list(alone) == ["w", "b"]
    np.testing.assert_array_equal(alone["w"], gradient["w"])


def test_the_order_of_wrt_rules():
    f = sg.compile(TEXT, wrt=["b", "w"])
    assert f.wrt == ("b", "w")
    assert list(f.grad(**VALUES)) == ["b", "w"]
    assert f.bind(X=X, y=Y).pack({"w": W, "b": B})[0] == B


def test_float32():
    f = sg.compile(TEXT, wrt=["w", "b"], dtype="float32")
    assert f.dtype == "float32"
    value, gradient = f.value_and_grad(**VALUES)
    assert value == pytest.approx(expected()[0], rel=1e-6)
    assert gradient["w"].dtype == gradient["b"].dtype == np.float32
    np.testing.assert_allclose(gradient["w"], expected()[1], rtol=1e-4, atol=1e-6)
    assert sg.compile("a*x", wrt=["a"], dtype=np.float32).dtype == "float32"


def test_hvp_and_hessian(f):
    matrix = f.hessian(**VALUES)
    assert matrix.shape == (5, 5)
    np.testing.assert_array_equal(matrix, matrix.T)
    step = 1e-6
    for k, unit in enumerate(np.eye(5)):
        ahead, behind = (
            f.grad(**{**VALUES, "w": W + s * unit[:4], "b": B + s * unit[4]})
            for s in (step, -step)
        )
        column = (ahead["w"] - behind["w"]) / (2 * step)
        np.testing.assert_allclose(matrix[:4, k], column, rtol=1e-6, atol=1e-8)
    product = f.hvp({"w": W, "b": 1}, **VALUES)
    assert list(product) == ["w", "b"]
    whole = np.append(product["w"], product["b"])
    np.testing.assert_allclose(whole, matrix @ np.append(W, 1.0), rtol=1e-10)


def test_a_part_left_out_of_a_direction_is_zero(f):
    part = f.hvp({"w": W}, **VALUES)
    whole = f.hvp({"w": W, "b": 0.0}, **VALUES)
    np.testing.assert_array_equal(part["w"], whole["w"])


def test_a_new_number_of_rows_compiles_nothing():
    f = sg.compile(TEXT, wrt=["w", "b"])
    f.value_and_grad(**VALUES)
    kernel = f._main_kernel(f._latest())
    for n in (50, 17, 1000, 2):
        x = RANDOM.standard_normal((n, 4))
        y = RANDOM.standard_normal(n)
        assert f(w=W, b=B, X=x, y=y) == pytest.approx(expected(x=x, y=y)[0], rel=1e-13)
        f.value_and_grad(w=W, b=B, X=x, y=y)
        assert f._main_kernel(f._latest()) is kernel


def test_calls_do_not_depend_on_the_order_of_arguments(f):
    turned = dict(reversed(VALUES.items()))
    assert f(**turned) == f(**VALUES)


def test_a_call_does_not_change_its_arguments(f):
    kept = {name: np.copy(value) for name, value in VALUES.items()}
    f.value_and_grad(**VALUES)
    f.hessian(**VALUES)
    for name, value in VALUES.items():
        np.testing.assert_array_equal(value, kept[name])


def test_threads_change_no_bit():
    x = RANDOM.standard_normal((30_000, 4))
    values = {"w": W, "b": B, "X": x, "y": x[:, 0]}
    one, two, five = (
        sg.compile(TEXT, wrt=["w", "b"], threads=k).value_and_grad(**values)
        for k in (1, 2, 5)
    )
    for other in (two, five):
        assert other[0] == one[0]
        np.testing.assert_array_equal(other[1]["w"], one[1]["w"])


def test_one_function_runs_in_many_threads(f):
    inputs = [RANDOM.standard_normal(4) for _ in range(8)]
    results = [0.0] * 8

    def work(k):
        for _ in range(20):
            results[k] = f(**{**VALUES, "w": inputs[k]})

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for k in range(8):
        assert results[k] == pytest.approx(expected(w=inputs[k])[0], rel=1e-13)


# --- bound objectives -----------------------------------------------------------------


def test_pack_and_unpack(obj):
    x = obj.pack({"b": B, "w": W})  # the order of the dict does not matter
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, [*W, B])
    parts = obj.unpack(x)
    assert list(parts) == ["w", "b"]
    assert parts["b"].shape == ()
    parts["w"][0] = 99.0  # copies
    assert x[0] == W[0]


def test_matrices_are_packed_in_c_order():
    obj = sg.compile("sum(M * x)", wrt=["M"]).bind(x=np.ones((2, 3)))
    matrix = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(obj.pack({"M": np.asfortranarray(matrix)}), range(6))
    np.testing.assert_array_equal(obj.unpack(np.arange(6.0))["M"], matrix)


def test_a_bound_objective_is_the_loss(f, obj):
    x = obj.pack({"w": W, "b": B})
    value, gradient = obj.value_and_grad(x)
    assert type(obj(x)) is float
    assert value == pytest.approx(obj(x), rel=1e-15)
    assert value == f.value_and_grad(**VALUES)[0]
    np.testing.assert_array_equal(gradient, obj.grad(x))
    np.testing.assert_array_equal(gradient[:4], f.grad(**VALUES)["w"])
    matrix = obj.hessian(x)
    np.testing.assert_allclose(matrix, f.hessian(**VALUES), rtol=1e-14)
    np.testing.assert_allclose(obj.hvp(x, x), matrix @ x, rtol=1e-10)


def test_out_is_filled(obj):
    x, out = np.ones(5), np.empty(5)
    _, gradient = obj.value_and_grad(x, out=out)
    assert gradient is out
    np.testing.assert_array_equal(out, obj.grad(x))
    for wrong in (np.empty(4), np.empty(5, np.float32), np.empty(10)[::2], [0.0] * 5):
        with pytest.raises(errors.ArgumentError, match="out must be"):
            obj.value_and_grad(x, out=wrong)


def test_vectors_of_other_types(obj):
    value = obj(np.ones(5))
    for x in ([1] * 5, np.ones(5, np.float32), np.ones(10)[::2], np.ones(5, ">f8")):
        assert obj(x) == value


def test_data_are_referenced_not_copied():
    y = Y.copy()
    obj = sg.compile("sum((y - a)**2)", wrt=["a"]).bind(y=y)
    assert obj.data["y"] is y
    x = np.zeros(1)
    before = obj(x)
    y[0] += 1.0
    assert obj(x) != before


def test_scipy_minimises_a_bound_objective(obj):
    from scipy import optimize

    x = obj.pack({"w": W, "b": B})
    found = optimize.minimize(obj.value_and_grad, x, jac=True)
    assert found.fun < obj(x)
    assert np.abs(obj.grad(found.x)).max() < 1e-4
    newton = optimize.minimize(
        obj.value_and_grad, found.x, jac=True, hessp=obj.hvp, method="Newton-CG"
    )
    assert newton.fun <= found.fun + 1e-12


def test_numba_code_may_call_an_objective(obj):
    import numba

    function = obj.numba

    @numba.njit
    def descend(x, steps, lr):
        gradient = np.empty_like(x)
        value = 0.0
        for _ in range(steps):
            value = function(x, gradient)
            x -= lr * gradient
        return value

    x = np.zeros(5)
    slow = np.zeros(5)
    value = descend(x, 30, 0.1)
    for _ in range(30):
        last, gradient = obj.value_and_grad(slow)
        slow -= 0.1 * gradient
    assert value == pytest.approx(last, rel=1e-14)
    np.testing.assert_allclose(x, slow, rtol=1e-13)


def test_batches_are_objectives(f, obj):
    part = obj.batch(slice(10, 20))
    x = np.ones(5)
    here = {"X": X[10:20], "y": Y[10:20]}
    assert part(x) == pytest.approx(f(w=np.ones(4), b=1.0, **here), rel=1e-14)
    assert obj.rows == 50
    assert part.rows == 10


def test_rows_of_batches(obj):
    x, mask = np.ones(5), np.arange(50) % 3 == 0
    assert obj.batch(mask)(x) == obj.batch(np.flatnonzero(mask))(x)
    assert obj.batch([3, -1])(x) == obj.batch([3, 49])(x)
    for rows in ("a", 3, 2.5, [0.5], None, [[1, 2]]):
        with pytest.raises(errors.ArgumentError, match="rows: a slice"):
            obj.batch(rows)
    with pytest.raises(errors.ShapeError, match="a mask of 3 for 50 rows"):
        obj.batch([True, False, True])
    with pytest.raises(errors.GatherIndexError, match="50 is out of range"):
        obj.batch([0, 50])


def test_batches_that_make_no_sense():
    obj = sg.compile("sum((a - y)**2)", wrt=["a"]).bind({"a": Y}, y=Y)
    with pytest.raises(errors.DataError, match="rows"):
        obj.batch(slice(0, 5))
    square = np.eye(70)
    obj = sg.compile("sum(a * (M @ M))", wrt=["a"]).bind({"a": 1.0}, M=square)
    with pytest.raises(errors.DataError, match="no rows"):
        obj.batch(slice(0, 5))


# --- models ---------------------------------------------------------------------------


def test_models(m):
    wave = np.exp(-0.5 * MODEL["x"])
    np.testing.assert_allclose(m(**MODEL), 2 * wave + 1, rtol=1e-14)
    blocks = m.jacobian(**MODEL)
    assert list(blocks) == ["a", "b", "c"]
    assert [block.shape for block in blocks.values()] == [(7,), (7,), (7, 2)]
    np.testing.assert_allclose(blocks["a"], wave, rtol=1e-14)
    np.testing.assert_allclose(blocks["b"], -2 * MODEL["x"] * wave, rtol=1e-13)
    np.testing.assert_array_equal(blocks["c"], np.tile([1.0, 0.0], (7, 1)))
    value, again = m.value_and_jacobian(**MODEL)
    np.testing.assert_array_equal(value, m(**MODEL))
    np.testing.assert_array_equal(again["b"], blocks["b"])


def test_jacobian_products(m):
    blocks = m.jacobian(**MODEL)
    along = {"a": 0.3, "b": -1.0, "c": [2.0, 5.0]}
    product = m.jvp(along, **MODEL)
    by_hand = 0.3 * blocks["a"] - blocks["b"] + blocks["c"] @ along["c"]
    np.testing.assert_allclose(product, by_hand, rtol=1e-13)
    cotangent = np.arange(7.0)
    back = m.vjp(cotangent, **MODEL)
    assert list(back) == ["a", "b", "c"]
    for name, block in blocks.items():
        np.testing.assert_allclose(back[name], cotangent @ block, rtol=1e-13)


def test_a_matrix_model():
    m = sg.model("X @ W", wrt=["W"])
    weights = RANDOM.standard_normal((4, 2))
    block = m.jacobian(W=weights, X=X)["W"]
    assert block.shape == (50, 2, 4, 2)
    by_hand = np.einsum("ia,jb->ijab", X, np.eye(2))
    np.testing.assert_allclose(block, by_hand, rtol=1e-14)


def test_a_scalar_model():
    m = sg.model("a**2", wrt=["a"])
    value, blocks = m.value_and_jacobian(a=3.0)
    assert (value, blocks["a"]) == (9.0, 6.0)
    assert value.shape == blocks["a"].shape == ()
