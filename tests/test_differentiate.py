"""Derivatives against differences in 50-digit arithmetic, to first and second order."""

import time
from dataclasses import replace

import numpy as np
import pytest

from symgrad import graph as g
from symgrad.differentiate import gradient, hessian, hvp, jacobian, tangents, vjp
from symgrad.differentiate.algebra import as_mask, negate, scale, sum_over
from symgrad.graph import Array, Index, Input, Node, Reduce, Scatter
from symgrad.interpret import evaluate, evaluate_exact
from symgrad.ops import OPS, apply

RNG = np.random.default_rng(20260101)
STEP = 1e-16  # of central differences in 50 digits: an error of about 1e-32

N = g.size("X.0")
R, J, K, L = g.index(N), g.index(3), g.index(N, 1), g.index(3, 1)
X = g.input_("X", (N, 3))
Y = g.input_("y", (N,))
W = g.input_("w", (3,))
B = g.input_("b")
M = g.input_("M", (3, 3))
V = g.input_("v", (N,))
PLACE = g.input_("place", (N,), type=g.INT)

VALUES = {
    "X": RNG.normal(size=(4, 3)),
    "y": RNG.normal(size=4),
    "w": RNG.normal(size=3),
    "b": np.array(0.7),
    "M": RNG.normal(size=(3, 3)),
    "v": RNG.normal(size=4),
    "place": np.array([2, 0, 2, 1]),
}

x_ij, y_i, w_j, b = g.load(X, [R, J]), g.load(Y, [R]), g.load(W, [J]), g.load(B)
v_i, v_k = g.load(V, [R]), g.load(V, [K])
rows, row, inner = g.to_float(N), (R,), (J,)


def total(indices: tuple[Index, ...], body: Node, kind: str = "sum") -> Node:
    return g.reduce_(kind, indices, body)


def mean(body: Node) -> Node:
    return total(row, body) / rows


def tensor(indices: tuple[Index, ...], body: Node) -> Array:
    return g.array(indices, body)


def tanh(x: Node) -> Node:
    return apply("tanh", x)


dot = total(inner, x_ij * w_j)
residual = dot + b - y_i
hidden = tensor((R, J), tanh(x_ij * w_j + b))
n_less_one = N - 1
R_LESS = g.index(n_less_one)


def part(start: int) -> Node:
    """v[start:][:n-1], as a slice."""
    return g.load(V, [R_LESS + start])


# --------------------------------------------------------------------------------------
# The checker
# --------------------------------------------------------------------------------------


def shifted(values: dict, name: str, where: tuple[int, ...], step: float) -> dict:
    import mpmath

    array = np.array(values[name], dtype=object)
    with mpmath.workdps(50):
        array[where] = mpmath.mpf(float(array[where])) + mpmath.mpf(step)
    return {**values, name: array}


def difference(roots: list[Node], values: dict, name: str) -> list[np.ndarray]:
    """Derivatives of the roots by each element of an input, on leading axes."""
    shape = np.shape(values[name])
    columns = []
    for where in np.ndindex(shape):
        up = evaluate_exact(roots, shifted(values, name, where, STEP))
        down = evaluate_exact(roots, shifted(values, name, where, -STEP))
        columns.append(
            [
                np.asarray((p - q) / (2 * STEP), dtype=float)
                for p, q in zip(up, down, strict=True)
            ]
        )
    stacked = [np.array(c) for c in zip(*columns, strict=True)]
    return [s.reshape(shape + s.shape[1:]) for s in stacked]


def check(loss: Node, wrt: list[Input], values: dict | None = None) -> None:
    """First order against differences of the loss, second against those of the first."""
    values = VALUES if values is None else values
    first = gradient(loss, wrt)
    for p, found, node in zip(wrt, evaluate(first, values), first, strict=True):
        (wanted,) = difference([loss], values, p.name)
        assert found.shape == wanted.shape, p.name
        np.testing.assert_allclose(
            found, wanted, rtol=1e-11, atol=1e-12, err_msg=p.name
        )
        assert node.type == g.FLOAT
        assert not node.free


def check_second(loss: Node, wrt: list[Input], values: dict | None = None) -> None:
    values = VALUES if values is None else values
    directions = {p: g.input_("d_" + p.name, p.shape) for p in wrt}
    along = {
        d.name: RNG.normal(size=np.shape(values[p.name])) for p, d in directions.items()
    }
    found = evaluate(hvp(loss, wrt, directions), {**values, **along})
    blocks = [evaluate(row, values) for row in hessian(loss, wrt)]
    first = gradient(loss, wrt)
    wanted = [np.zeros(np.shape(values[p.name])) for p in wrt]
    for b, q in enumerate(wrt):
        columns = difference(first, values, q.name)
        for a in range(len(wrt)):
            direction = along[directions[q].name]
            wanted[a] += np.tensordot(direction, columns[a], axes=np.ndim(direction))
            order = tuple(np.roll(np.arange(columns[a].ndim), -np.ndim(direction)))
            np.testing.assert_allclose(
                blocks[a][b], np.transpose(columns[a], order), rtol=1e-10, atol=1e-11
            )
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-10, atol=1e-11)


# --------------------------------------------------------------------------------------
# Constructs
# --------------------------------------------------------------------------------------

scores = tensor((R, K), total(inner, x_ij * g.substitute(x_ij, {R: K}) * w_j))
gathered = g.load(W, [g.load(PLACE, [R])])
h_row = g.load(hidden, [R, J])
safe_root = apply("where", v_i > 0.0, apply("sqrt", apply("abs", v_i)), b)
gathered_hidden = g.load(hidden, [g.load(PLACE, [R]), J])
h_other = g.load(hidden, [K, J])
attention = total((K,), apply("exp", g.load(scores, [R, K])) * v_k)

CASES: dict[str, tuple[Node, list[Input]]] = {
    "regression": (mean(apply("pow", tanh(residual), 2.0)), [W, B, X, Y]),
    "logistic": (mean(apply("softplus", -(y_i * dot))), [W]),
    "logistic and penalty": (
        mean(apply("softplus", -(y_i * dot))) + 0.1 * total(inner, w_j * w_j),
        [W],
    ),
    "scalar twice": (b * b + apply("sin", b) / b, [B]),
    "scalar in rows": (total(row, apply("exp", b * y_i) * b), [B]),
    "body lacks the index": (total(row, b * b) + total((R, J), v_i * b), [B, V]),
    "gather": (total(row, gathered * gathered * y_i), [W]),
    "slices": (total((R_LESS,), apply("pow", part(1) - part(0) ** 2.0, 2.0)), [V]),
    "row and column": (total(inner, g.load(M, [0, J]) * g.load(M, [J, 1])), [M]),
    "transpose": (total((J, L), g.load(M, [J, L]) * g.load(M, [L, J])), [M]),
    "diagonal": (total(inner, g.load(M, [J, J]) * w_j), [M, W]),
    "array times itself": (
        total((R, K), apply("pow", total(inner, h_row * h_other), 2.0)),
        [W, B, X],
    ),
    "array gathered": (total((R, J), gathered_hidden * h_row * y_i), [W, B]),
    "array shifted": (
        total(
            (R_LESS, J), g.load(hidden, [R_LESS + 1, J]) * g.load(hidden, [R_LESS, J])
        ),
        [W, X],
    ),
    "attention": (
        mean(
            apply(
                "pow",
                attention / total((K,), apply("exp", g.load(scores, [R, K]))) - y_i,
                2.0,
            )
        ),
        [W, X, V],
    ),
    "pairs": (total((R, K), apply("exp", -apply("pow", v_i - v_k, 2.0))), [V]),
    "log of mean": (apply("log", mean(residual * residual)), [W, B]),
    "correlation": (
        (mean(residual * y_i) - mean(residual) * mean(y_i))
        / apply("sqrt", mean(residual * residual) - mean(residual) ** 2.0),
        [W],
    ),
    "variance": (mean(apply("pow", residual - mean(residual), 2.0)), [W, B]),
    "log of variance": (
        apply("log", mean(apply("pow", residual - mean(residual), 2.0))),
        [W],
    ),
    "norm over rows": (total(row, residual, "norm") * b, [W, B]),
    "norm in rows": (total(row, total(inner, x_ij * w_j, "norm") * y_i), [W, X]),
    "logsumexp in rows": (
        total(row, total(inner, x_ij * w_j, "logsumexp") * y_i),
        [W, X],
    ),
    "logsumexp over rows": (total(row, residual * b, "logsumexp"), [W, B]),
    "log of logsumexp": (
        apply("exp", total(row, residual, "logsumexp")) / mean(residual * residual),
        [W, B],
    ),
    "min in rows": (total(row, total(inner, x_ij * w_j, "min") * y_i), [W, X]),
    "max over rows": (total(row, residual * b, "max"), [W, B]),
    "product over rows": (total(row, residual, "prod"), [W, B]),
    "product in rows": (total(row, total(inner, x_ij + w_j, "prod") * y_i), [W, X]),
    "nested where": (
        total(
            row,
            apply("where", y_i > 0.0, apply("where", v_i > 0.0, b * v_i, v_i / b), dot),
        ),
        [W, B, V],
    ),
    "where of safe root": (total(row, safe_root * y_i), [V, B]),
    "unused": (b * b, [W, B, X]),
    "stop gradient": (total(row, residual * apply("stop_gradient", y_i)), [W, B]),
    "division": (total(row, (dot + 3.0) / (y_i * y_i + b * b)), [W, B, Y]),
    "integer data": (total(row, g.to_float(g.load(PLACE, [R])) * b * b), [B]),
    "ratio of sums": (
        mean(dot * dot) / mean(residual * residual) + mean(residual),
        [W, B],
    ),
    "sum of products of sums": (
        mean(dot) * mean(residual) * mean(dot * residual),
        [W, B],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient_equals_difference(name):
    check(*CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_equal_differences_of_first(name):
    loss, wrt = CASES[name]
    if name in ("product over rows",) or "array" in name or name == "attention":
        wrt = wrt[:1]
    check_second(loss, wrt)


def test_axis_of_length_one_is_read_at_zero():
    c = g.input_("c", (1, 3))
    values = {**VALUES, "c": RNG.normal(size=(1, 3))}
    loss = total(row, apply("sin", total(inner, x_ij * g.load(c, [0, J]))))
    check(loss, [c], values)
    check_second(loss, [c], values)
    assert isinstance(gradient(loss, [c])[0], Array)
    stored = tensor((g.index(1), J), apply("exp", g.load(c, [0, J])))
    loss = total((R, J), x_ij * g.load(stored, [0, J]) ** 2.0)
    check(loss, [c], values)
    check_second(loss, [c], values)


def test_loads_of_a_scatter_differentiate():
    """Reverse over reverse: the gradient of a function of a gradient."""
    loss = total(row, gathered**3.0 * y_i)
    (first,) = gradient(loss, [W])
    assert isinstance(first, Scatter)
    curvature = total(inner, apply("sin", g.load(first, [J])) * w_j)
    check(curvature, [W])
    check_second(curvature, [W])


# --------------------------------------------------------------------------------------
# Corners
# --------------------------------------------------------------------------------------


def at(root: Node, wrt: Input, **values: object) -> np.ndarray:
    (found,) = evaluate(gradient(root, [wrt]), {**VALUES, **values})
    return found


@pytest.mark.parametrize("zeros", [(), (1,), (0, 2), (0, 1, 3), (0, 1, 2, 3)])
def test_product_with_zeros(zeros):
    values = np.array([2.0, -3.0, 0.5, 4.0])
    values[list(zeros)] = 0.0
    loss = total(row, v_i, "prod")
    check(loss, [V], {**VALUES, "v": values})
    check_second(loss, [V], {**VALUES, "v": values})


def test_product_of_a_body_that_lacks_an_index():
    loss = g.reduce_("prod", (R, J), apply("exp", 0.1 * v_i))
    check(loss, [V])


@pytest.mark.parametrize("kind", ["min", "max"])
def test_ties_share_evenly(kind):
    values = np.array([1.0, 2.0, 1.0, 2.0])
    wins = values == (1.0 if kind == "min" else 2.0)
    found = at(total(row, v_i, kind) * 3.0, V, v=values)
    np.testing.assert_array_equal(found, np.where(wins, 1.5, 0.0))


def test_norm_at_zero_has_gradient_zero():
    found = at(total(row, v_i, "norm"), V, v=np.zeros(4))
    np.testing.assert_array_equal(found, np.zeros(4))


@pytest.mark.parametrize("end", [np.inf, -np.inf])
def test_infinite_logsumexp_has_gradient_zero(end):
    found = at(total(row, v_i, "logsumexp"), V, v=np.full(4, end))
    np.testing.assert_array_equal(found, np.zeros(4))


def test_logsumexp_of_large_values():
    found = at(total(row, v_i, "logsumexp"), V, v=np.array([1e4, 1e4, -1e4, 0.0]))
    np.testing.assert_allclose(found, [0.5, 0.5, 0.0, 0.0])


UNSAFE: dict[str, Node] = {
    "sqrt": apply("where", v_i > 0.0, apply("sqrt", v_i), 0.0),
    "sqrt, other branch": apply("where", v_i <= 0.0, 0.0, apply("sqrt", v_i)),
    "log": apply("where", v_i > 0.0, apply("log", v_i) * v_i, v_i),
    "quotient": apply("where", apply("eq", v_i, 0.0), 1.0, apply("sin", v_i) / v_i),
    "chain": apply("where", v_i > 0.0, apply("exp", apply("sqrt", v_i) * 2.0), 1.0),
    "two masks": apply("where", v_i > 0.0, apply("sqrt", v_i), 0.0)
    + apply("where", v_i > 1.0, apply("sqrt", v_i) * 2.0, 0.0),
    "power": apply("where", v_i > 0.0, apply("pow", v_i, 0.5), v_i),
    "scaled": apply("where", v_i > 0.0, apply("sqrt", b * v_i), 0.0) / b,
}


@pytest.mark.parametrize("name", UNSAFE)
def test_branch_not_taken_does_not_poison(name):
    v = np.array([0.0, -1.0, 4.0, 0.0])
    loss = total(row, UNSAFE[name] * y_i)
    directions = {V: g.input_("d", (N,))}
    first = gradient(loss, [V, B])
    second = hvp(loss, [V], directions)
    roots = evaluate([*first, *second], {**VALUES, "v": v, "d": np.ones(4)})
    assert all(np.isfinite(r).all() for r in roots)


def test_masked_row_sums_stay_finite():
    """A mask that is invariant in a sum leaves it, and keeps what follows out too."""
    keep = v_i > 0.0
    inside = apply("where", keep, apply("log", v_i) * w_j, 0.0)
    found = at(total((R, J), inside), V, v=np.array([0.0, 1.0, -1.0, 2.0]))
    assert np.isfinite(found).all()


# --------------------------------------------------------------------------------------
# Shapes of the results
# --------------------------------------------------------------------------------------


def passes(roots: list[Node]) -> int:
    """How many times the rows must be read: the depth of sums over rows that nest."""
    depth: dict[Node, int] = {}
    for node in g.walk(roots):
        below = max((depth[c] for c in node.children), default=0)
        summed = isinstance(node, Reduce) and any(i.extent is N for i in node.indices)
        summed |= isinstance(node, Scatter) and any(i.extent is N for i in node.over)
        depth[node] = below + summed
    return max(depth[r] for r in roots)


ONE_PASS = [
    "regression",
    "logistic",
    "logistic and penalty",
    "log of mean",
    "correlation",
    "norm over rows",
    "ratio of sums",
    "sum of products of sums",
    "gather",
    "scalar in rows",
]


@pytest.mark.parametrize("name", ONE_PASS)
def test_loss_and_gradient_in_one_pass(name):
    loss, wrt = CASES[name]
    small = [p for p in wrt if p in (W, B)]
    assert passes([loss, *gradient(loss, small)]) == 1


@pytest.mark.parametrize("name", ["variance", "log of variance"])
def test_feedback_needs_no_pass_more_than_the_loss(name):
    loss, wrt = CASES[name]
    assert passes([loss, *gradient(loss, wrt)]) == passes([loss]) == 2


def test_too_many_accumulators_cost_a_second_pass():
    wide = g.index(600)
    p = g.input_("p", (600,))
    z = g.input_("Z", (N, 600))
    dots = total((wide,), g.load(z, [R, wide]) * g.load(p, [wide]))
    single = apply("log", mean(dots * dots))
    assert passes([single, *gradient(single, [p])]) == 1
    several = single * mean(apply("sin", dots))
    assert passes([several, *gradient(several, [p])]) == 2
    values = {"X": np.zeros((4, 0)), "Z": RNG.normal(size=(4, 600)), "p": np.ones(600)}
    sizes = {"X.0": 4}
    direction = {p: g.input_("d", (600,))}
    (along,) = evaluate(
        tangents([several], direction), {**values, "d": np.ones(600)}, sizes
    )
    (found,) = evaluate(gradient(several, [p]), values, sizes)
    np.testing.assert_allclose(found.sum(), along, rtol=1e-12)


def test_gradient_of_a_mean_reads_as_in_a_textbook():
    """(1/n) * 2 * sum over rows of residual * x: no factor 1/n within the sum."""
    (found,) = gradient(mean(residual * residual), [W])
    assert isinstance(found, Array)
    sums = [n for n in g.walk(found) if isinstance(n, Reduce) and n.indices == row]
    (only,) = sums
    assert not any(isinstance(n, g.Size) for n in g.walk(only.body))
    assert only.body is residual * x_ij or only.body is (residual + residual) * x_ij


def test_forward_values_are_shared():
    """The gradient evaluates no function that the loss does not."""
    loss = mean(
        apply("exp", tanh(residual)) + apply("sigmoid", dot) * apply("sqrt", y_i)
    )
    calls = {
        n
        for n in g.walk([loss, *gradient(loss, [W, B])])
        if isinstance(n, g.Call) and n.op in ("exp", "tanh", "sigmoid", "sqrt")
    }
    assert calls <= set(g.walk(loss))


def test_unused_parameter_has_an_array_of_zeros():
    (found, scalar) = gradient(b * b, [W, g.input_("other")])
    assert isinstance(found, Array) and found.shape == W.shape
    np.testing.assert_array_equal(evaluate([found], VALUES)[0], np.zeros(3))
    assert scalar is g.const(0.0)


def test_lone_scatter_is_returned_as_it_is():
    (found,) = gradient(mean(gathered * y_i), [W])
    assert isinstance(found, Scatter)
    assert found.over == row


def test_gradient_is_an_array_even_where_it_is_an_input():
    (found,) = gradient(total(row, v_i * y_i), [V])
    assert isinstance(found, Array)
    assert found.body is y_i


def test_loss_must_be_a_scalar():
    with pytest.raises(ValueError, match="scalar"):
        gradient(residual, [W])
    with pytest.raises(ValueError, match="scalar"):
        gradient(hidden, [W])


def test_direction_must_have_the_rank():
    with pytest.raises(ValueError, match="rank"):
        tangents([b], {W: g.input_("d")})


# --------------------------------------------------------------------------------------
# Forward mode, Jacobians
# --------------------------------------------------------------------------------------

OUTPUTS: dict[str, tuple[tuple[Index, ...], Node, list[Input]]] = {
    "rows": ((R,), tanh(residual), [W, B, X]),
    "matrix": ((R, J), h_row * v_i, [W, B, V]),
    "through an array": ((R, J), gathered_hidden * w_j, [W, B]),
    "pairs": ((R, K), g.load(scores, [R, K]) * g.load(scores, [K, R]), [W]),
    "matrix product": (
        (R, J),
        total((L,), g.load(X, [R, L]) * g.load(M, [L, J])),
        [M, W],
    ),
    "square": ((J,), total((L,), g.load(M, [J, L]) * g.load(M, [L, J])), [M]),
    "gather": ((R,), gathered * y_i, [W]),
    "slice": ((R_LESS,), part(1) * part(0), [V]),
    "scalar": ((), mean(residual * residual), [W, B]),
    "softmax": ((J,), apply("exp", w_j) / total(inner, apply("exp", w_j)), [W]),
    "smallest": ((R,), total(inner, x_ij * w_j, "min"), [W]),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_jacobian_equals_differences(name):
    indices, body, wrt = OUTPUTS[name]
    value = tensor(indices, body) if indices else body
    for p, found in zip(
        wrt, evaluate(jacobian(indices, body, wrt), VALUES), strict=True
    ):
        (wanted,) = difference([value], VALUES, p.name)
        order = np.roll(np.arange(wanted.ndim), -np.ndim(VALUES[p.name]))
        np.testing.assert_allclose(
            found, wanted.transpose(order), rtol=1e-11, atol=1e-12
        )


@pytest.mark.parametrize("name", [n for n in OUTPUTS if n != "scalar"])
def test_products_with_the_jacobian_agree(name):
    indices, body, wrt = OUTPUTS[name]
    value = tensor(indices, body)
    cotangent = g.input_("c", value.shape)
    directions = {p: g.input_("d_" + p.name, p.shape) for p in wrt}
    shape = evaluate([value], VALUES)[0].shape
    given = {"c": RNG.normal(size=shape)}
    for p in wrt:
        given["d_" + p.name] = RNG.normal(size=VALUES[p.name].shape)
    values = {**VALUES, **given}
    (along,) = evaluate(tangents([value], directions), values)
    back = evaluate(vjp(value, cotangent, wrt), values)
    across = sum(
        np.vdot(r, given["d_" + p.name]) for p, r in zip(wrt, back, strict=True)
    )
    np.testing.assert_allclose(np.vdot(along, given["c"]), across, rtol=1e-11)


def test_jacobian_of_a_linear_model_forms_no_products_with_zeros():
    (found,) = jacobian((R,), residual, [W])
    assert isinstance(found, Array)
    assert found.body is x_ij


def test_tangents_of_what_does_not_vary_are_zero():
    found = tangents([hidden, y_i, b], {V: g.input_("d", (N,))})
    values = evaluate(found, {**VALUES, "d": np.ones(4)})
    assert values[0].shape == (4, 3)
    assert not any(v.any() for v in values)


# --------------------------------------------------------------------------------------
# Products and sums
# --------------------------------------------------------------------------------------


def test_scale_drops_ones_and_signs():
    one, minus = g.const(1.0), g.const(-1.0)
    assert scale(b, one) is b
    assert scale(one, b) is b
    assert scale(b, minus) is -b
    assert scale(-b, minus) is b
    assert scale(b, g.const(0.0)) is None
    assert scale(None, b) is None
    assert scale(b, one / y_i) is b / y_i
    assert negate(g.const(2.0)) is g.const(-2.0)


def test_scale_multiplies_inside_masks():
    positive, zero = y_i > 0.0, g.const(0.0)
    masked = scale(apply("where", positive, b, zero), v_i)
    assert masked is apply("where", positive, b * v_i, zero)
    assert scale(v_i, apply("where", positive, zero, b)) is apply(
        "where", positive, zero, v_i * b
    )
    found = as_mask(masked)
    assert found is not None and found.keep


def test_sums_leave_out_what_is_invariant():
    assert sum_over(row, b) is rows * b
    assert sum_over(row, b * y_i) is b * total(row, y_i)
    assert sum_over(row, -(y_i / b)) is -(total(row, y_i) / b)
    assert sum_over(row, (b * y_i) * v_i) is b * total(row, y_i * v_i)
    assert sum_over((g.index(1),), b) is b
    condition = b > 0.0
    assert sum_over(row, apply("where", condition, y_i, 0.0)) is apply(
        "where", condition, total(row, y_i), 0.0
    )


def test_sums_over_deltas_pick_one_term():
    delta = apply("where", g.comparison("eq", R, K), v_i * b, 0.0)
    assert sum_over((R,), delta) is v_k * b


def test_repeated_squares_are_not_expanded():
    x = b * y_i
    for _ in range(60):
        x = x * x
    start = time.perf_counter()
    sum_over(row, x)
    assert time.perf_counter() - start < 1.0


# --------------------------------------------------------------------------------------
# Size, and checks of the checks
# --------------------------------------------------------------------------------------


def test_deep_chain_differentiates():
    x = b
    for _ in range(20_000):
        x = apply("sin", x) * 1.0001
    start = time.perf_counter()
    gradient(x, [B])
    tangents([x], {B: g.input_("d")})
    assert time.perf_counter() - start < 10.0


def test_wide_sum_differentiates():
    terms = [apply("sin", b * float(k)) for k in range(10_000)]
    loss = terms[0]
    for term in terms[1:]:
        loss = loss + term
    (found,) = evaluate(gradient(loss, [B]), VALUES)
    k = np.arange(10_000)
    np.testing.assert_allclose(found, (k * np.cos(0.7 * k)).sum(), rtol=1e-9)


def test_wrong_partial_is_caught(monkeypatch):
    wrong = replace(OPS["tanh"], partials=lambda out, x: (1.0 - out,))
    monkeypatch.setitem(OPS, "tanh", wrong)
    with pytest.raises(AssertionError):
        check(*CASES["regression"])


def test_wrong_weight_is_caught(monkeypatch):
    from symgrad.differentiate import reductions

    def wrong(node: Reduce) -> reductions.Weight:
        return reductions.Weight(g.const(1.0), node.body)

    monkeypatch.setitem(reductions._WEIGHTS, "norm", wrong)
    with pytest.raises(AssertionError):
        check(*CASES["norm in rows"])


def test_random_chains_agree_with_forward_mode():
    ops = ["sin", "tanh", "exp", "sigmoid", "atan", "softplus"]
    for trial in range(20):
        rng = np.random.default_rng(trial)
        x, pool = residual, [residual, dot, b, v_i]
        for _ in range(12):
            other = pool[rng.integers(len(pool))]
            x = apply(ops[rng.integers(len(ops))], x * 0.3) + other * x
            pool.append(x * 0.1)
        loss = mean(x) + apply("log", mean(x * x))
        wrt = [W, B, V]
        directions = {p: g.input_("d_" + p.name, p.shape) for p in wrt}
        given = {"d_" + p.name: rng.normal(size=VALUES[p.name].shape) for p in wrt}
        values = {**VALUES, **given}
        (along,) = evaluate(tangents([loss], directions), values)
        back = evaluate(gradient(loss, wrt), values)
        across = sum(
            np.vdot(r, given["d_" + p.name]) for p, r in zip(wrt, back, strict=True)
        )
        np.testing.assert_allclose(along, across, rtol=1e-9)
