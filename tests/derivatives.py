"""Expressions of every construct, and the check of their derivatives by differences."""

import numpy as np

from symgrad import graph as g
from symgrad.differentiate import gradient, hessian, hvp
from symgrad.graph import Array, Index, Input, Node
from symgrad.interpret import evaluate, evaluate_exact
from symgrad.ops import apply

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
    """The gradient against differences of the loss."""
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
