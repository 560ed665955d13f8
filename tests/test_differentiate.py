"""Gradients against differences in 50-digit arithmetic, to second order."""

import time
from dataclasses import replace

import numpy as np
import pytest
from derivatives import (
    CASES,
    RNG,
    VALUES,
    B,
    J,
    N,
    R,
    V,
    W,
    b,
    check,
    check_second,
    dot,
    gathered,
    hidden,
    inner,
    mean,
    residual,
    row,
    tanh,
    tensor,
    total,
    v_i,
    w_j,
    x_ij,
    y_i,
)

from symgrad import graph as g
from symgrad.differentiate import gradient, hvp, tangents
from symgrad.graph import Array, Input, Node, Reduce, Scatter
from symgrad.interpret import evaluate
from symgrad.ops import OPS, apply


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
