"""The reference evaluator against NumPy itself, and against exact numbers."""

import mpmath
import numpy as np
import pytest
from scipy import special

from symgrad import graph
from symgrad.errors import DataError, GatherIndexError, ShapeError
from symgrad.graph import INT, array, input_, load, reduce_, scatter
from symgrad.interpret import evaluate, evaluate_exact, sizes_of
from symgrad.ops import apply

N, M = graph.size("X.0"), graph.size("X.1")
X = input_("X", (N, M))
R, C = graph.index(N), graph.index(M)
X_RC = load(X, [R, C])
DATA = {"X": np.random.default_rng(7).normal(size=(5, 3))}


def value(node, inputs=DATA, **options):
    """One node evaluated, after the exact evaluator has confirmed the result."""
    (result,) = evaluate([node], inputs, **options)
    (exact,) = evaluate_exact([node], inputs, **options)
    assert result.shape == exact.shape
    with np.errstate(all="ignore"):
        as_floats = np.array(exact, np.float64)
    np.testing.assert_allclose(result, as_floats, rtol=1e-13, atol=1e-15)
    return result


def total(node, *indices, kind="sum"):
    return reduce_(kind, indices, node)


# --------------------------------------------------------------------------------------
# Reductions
# --------------------------------------------------------------------------------------

NUMPY = {
    "sum": np.sum,
    "prod": np.prod,
    "min": np.min,
    "max": np.max,
    "logsumexp": special.logsumexp,
    "norm": lambda x, axis: np.sqrt(np.sum(x**2, axis)),
}


@pytest.mark.parametrize("kind", graph.REDUCTIONS)
def test_reductions_over_any_axes(kind):
    x, reference = DATA["X"], NUMPY[kind]
    np.testing.assert_allclose(value(total(X_RC, C, kind=kind)), reference(x, 1))
    np.testing.assert_allclose(value(total(X_RC, R, kind=kind)), reference(x, 0))
    np.testing.assert_allclose(
        value(total(X_RC, C, R, kind=kind)), reference(x, (0, 1))
    )


@pytest.mark.parametrize(
    ("kind", "neutral"),
    [
        ("sum", 0),
        ("prod", 1),
        ("min", np.inf),
        ("max", -np.inf),
        ("logsumexp", -np.inf),
        ("norm", 0),
    ],
)
def test_reduction_over_nothing_is_neutral(kind, neutral):
    empty = {"X": np.zeros((0, 3))}
    assert value(total(X_RC, R, kind=kind), empty).tolist() == [neutral] * 3


def test_sum_over_an_index_that_the_body_lacks_multiplies():
    row = load(X, [R, 0])
    np.testing.assert_allclose(value(total(row, C)), 3 * DATA["X"][:, 0])
    assert value(total(graph.const(2.0), R, C)) == 30
    assert value(total(graph.const(2.0), C, kind="prod")) == 8
    assert value(total(graph.const(2.0), C, kind="max")) == 2


@pytest.mark.parametrize(
    ("kind", "numbers", "wanted"),
    [
        ("logsumexp", [1000.0, 1000.0], 1000 + np.log(2)),
        ("logsumexp", [-np.inf, -np.inf], -np.inf),
        ("logsumexp", [np.inf, 0.0], np.inf),
        ("logsumexp", [np.nan, 0.0], np.nan),
        ("norm", [3e200, 4e200], 5e200),
        ("norm", [3e-200, 4e-200], 5e-200),
        ("norm", [0.0, 0.0], 0.0),
        ("norm", [np.inf, 1.0], np.inf),
        ("min", [np.nan, 1.0], np.nan),
        ("max", [1.0, np.nan], np.nan),
        ("sum", [np.inf, -np.inf], np.nan),
    ],
)
def test_reductions_at_the_edges(kind, numbers, wanted):
    x = input_("x", (2,))
    i = graph.index(2)
    node = total(load(x, [i]), i, kind=kind)
    got = value(node, {"x": np.array(numbers)})
    np.testing.assert_allclose(got, wanted, rtol=1e-15)


def test_reduction_of_integers_is_an_integer():
    k = input_("k", (4,), INT)
    i = graph.index(4)
    numbers = {"k": np.array([3, -1, 2**60, 5])}
    for kind in ("sum", "min", "max"):
        got = value(total(load(k, [i]), i, kind=kind), numbers)
        assert got.dtype == np.int64
        assert got == getattr(np, kind)(numbers["k"])


def test_reduction_inside_a_reduction():
    row_max = total(X_RC, C, kind="max")
    other = total(load(X, [R, C]) - row_max, C)  # C is bound twice, once in each
    x = DATA["X"]
    wanted = np.sum(x - x.max(1, keepdims=True), 1)
    np.testing.assert_allclose(value(other), wanted)


# --------------------------------------------------------------------------------------
# Loads, arrays, scatters
# --------------------------------------------------------------------------------------


def test_matrix_product_transpose_and_outer_product():
    x = DATA["X"]
    other = graph.index(N, 1)
    gram = array((R, other), total(X_RC * load(X, [other, C]), C))
    np.testing.assert_allclose(value(gram), x @ x.T)
    np.testing.assert_allclose(value(array((C, R), X_RC)), x.T)
    outer = array((C, R), load(X, [R, 0]) * load(X, [0, C]))
    np.testing.assert_allclose(value(outer), np.outer(x[0], x[:, 0]))
    same = array((R, other), load(X, [R, 0]))
    np.testing.assert_allclose(value(same), np.repeat(x[:, :1], 5, axis=1))


def test_computed_array_under_several_index_maps():
    x = DATA["X"][:, 0]
    h = array((R,), apply("exp", load(X, [R, 0])))
    inner = graph.index(N - 1)
    difference = load(h, [inner + 1]) - load(h, [inner])
    np.testing.assert_allclose(value(difference), np.diff(np.exp(x)))
    reverse = load(h, [N - 1 - R])
    np.testing.assert_allclose(value(reverse), np.exp(x)[::-1])


def test_gather_and_scatter():
    k = load(input_("k", (N,), INT), [R])
    data = {**DATA, "k": np.array([2, 0, 2, 2, 1])}
    x = DATA["X"]
    np.testing.assert_allclose(value(load(X, [k, 0]), data), x[data["k"], 0])
    filled = scatter([N, M], [k, C], [R, C], X_RC)
    wanted = np.zeros_like(x)
    np.add.at(wanted, data["k"], x)
    np.testing.assert_allclose(value(filled, data), wanted)
    counts = scatter([N], [k], [R, C], graph.const(1.0))  # C only repeats
    assert value(counts, data).tolist() == [3, 3, 9, 0, 0]
    np.testing.assert_allclose(value(load(filled, [R, 1]), data), wanted[:, 1])


@pytest.mark.parametrize("position", [-1, 5])
def test_index_out_of_bounds_is_an_error(position):
    k = load(input_("k", type=INT))
    data = {**DATA, "k": position}
    with pytest.raises(GatherIndexError, match=rf"X: index {position} .* axis 0.* 5"):
        evaluate([load(X, [k, C])], data)
    with pytest.raises(GatherIndexError, match="computed array"):
        evaluate([load(array([R], load(X, [R, 0])), [k])], data)
    with pytest.raises(GatherIndexError, match="scatter"):
        evaluate([scatter([N], [k], [R], load(X, [R, 0]))], data)


def test_axes_follow_the_order_of_first_use():
    other = graph.index(N, 1)
    node = load(X, [other, C]) - X_RC
    got = evaluate([X_RC, load(X, [other, C]), node], DATA)
    assert [v.shape for v in got] == [(5, 3), (3, 5), (5, 3, 5)]


# --------------------------------------------------------------------------------------
# Inputs, sizes, types
# --------------------------------------------------------------------------------------


def test_types_of_values():
    n = load(input_("n", type=INT))
    nodes = [n + 1, n < 2.5, apply("cast", n), apply("and", n < 9, n > 1), n / 2]
    got = evaluate(nodes, {"n": 3})
    assert [v.dtype for v in got] == [np.int64, bool, np.float64, bool, np.float64]
    assert [v.item() for v in got] == [4, False, 3.0, True, 1.5]


def test_where_takes_the_other_branch_as_it_is():
    x = load(input_("x"))
    guarded = apply("where", x > 0, apply("log", x), 0.0)
    assert value(guarded, {"x": -1.0}) == 0


def test_input_that_is_missing_or_of_another_shape():
    with pytest.raises(DataError, match="'w'"):
        evaluate([load(input_("w"))], {})
    with pytest.raises(ShapeError, match=r"w has shape \(2,\), not \(3,\)"):
        evaluate([input_("w", (3,))], {"w": np.zeros(2)})
    with pytest.raises(DataError, match=r"length 'Y\.0' is not known"):
        evaluate([graph.size("Y.0")], DATA)


def test_sizes():
    assert [int(v) for v in evaluate([N, M - 1, graph.size("r")], DATA, {"r": 8})] == [
        5,
        2,
        8,
    ]
    places = {"X.0": [("X", 0), ("y", 0)], "X.1": [("X", 1)]}
    assert sizes_of(places, {**DATA, "y": np.zeros(5)}) == {"X.0": 5, "X.1": 3}
    with pytest.raises(ShapeError, match=r"'X\.0'.*X axis 0: 5, y axis 0: 4"):
        sizes_of(places, {**DATA, "y": np.zeros(4)})


def test_inputs_of_other_dtypes_are_converted():
    data = {"X": np.asfortranarray(DATA["X"].astype(">f4"))}
    assert value(total(X_RC, R, C), data).dtype == np.float64
    wide = {"X": [[1, 2], [3, 4]]}
    assert value(total(X_RC, R, C), wide) == 10


def test_exact_numbers_keep_what_floats_lose():
    x = load(input_("x"))
    (got,) = evaluate_exact([(1.0 + x) - 1.0], {"x": 2.0**-80}, digits=60)
    assert got.item() == mpmath.mpf(2) ** -80
    (got,) = evaluate_exact([apply("exp", graph.const(1.0))], {}, digits=30)
    with mpmath.workdps(30):
        assert abs(got.item() - mpmath.e) < 1e-28


def test_deep_graph():
    x = load(X, [R, 0])
    node = x
    for _ in range(20_000):
        node = apply("sin", node) + x
    (got,) = evaluate([node], DATA)
    wanted = DATA["X"][:, 0]
    for _ in range(20_000):
        wanted = np.sin(wanted) + DATA["X"][:, 0]
    np.testing.assert_array_equal(got, wanted)
