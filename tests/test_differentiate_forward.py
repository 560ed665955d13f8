"""Forward mode, Jacobians, and the products and sums of derivatives."""

import numpy as np
import pytest
from derivatives import (
    R_LESS,
    RNG,
    VALUES,
    B,
    J,
    K,
    L,
    M,
    N,
    R,
    V,
    W,
    X,
    b,
    difference,
    gathered,
    gathered_hidden,
    h_row,
    hidden,
    inner,
    mean,
    part,
    residual,
    row,
    rows,
    scores,
    tanh,
    tensor,
    total,
    v_i,
    v_k,
    w_j,
    x_ij,
    y_i,
)

from symgrad import graph as g
from symgrad.differentiate import jacobian, tangents, vjp
from symgrad.differentiate.algebra import as_mask, negate, scale, sum_over
from symgrad.graph import Array, Index, Input, Node
from symgrad.interpret import evaluate
from symgrad.ops import apply

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
    for _ in range(200):
        x = x * x
    total_x = sum_over(row, x)
    assert total_x is not None
    assert len(g.walk(total_x)) < 1000  # as a product of factors: 2**200
