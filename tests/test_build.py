"""Building graphs: every construct against NumPy, and the errors."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from scipy import special

from symgrad import errors, graph
from symgrad.interpret import evaluate
from symgrad.language import dims, extents, syntax
from symgrad.language.build import (
    Built,
    InputSpec,
    build,
    default_static,
    require_scalar,
)
from symgrad.language.parser import parse_text
from symgrad.language.syntax import Apply, Bind, Name, Number, Program, Subscript

N, M = 100, 80  # both dynamic, and told apart
RNG = np.random.default_rng(7)

DATA: dict[str, np.ndarray] = {
    "a": np.array(1.5),
    "k": np.array(3),
    "x": RNG.normal(size=N),
    "y": RNG.normal(size=N) + 5,
    "z": RNG.normal(size=N - 1),
    "v": RNG.normal(size=5),
    "w": RNG.normal(size=5),
    "i": RNG.integers(-N, N, size=N),
    "j": RNG.integers(0, 5, size=(4, 3)),
    "p": RNG.integers(0, N, size=(4, 3)),
    "t": RNG.integers(0, 2, size=N).astype(bool),
    "X": RNG.normal(size=(N, 5)),
    "Y": RNG.normal(size=(N, 5)),
    "Z": RNG.normal(size=(M, 5)),
    "W": RNG.normal(size=(5, 3)),
    "Q": RNG.normal(size=(5, 5)),
    "S": RNG.normal(size=(N, N)),
    "c": RNG.normal(size=(N, 1)),
    "r": RNG.normal(size=(1, 5)),
    "one": RNG.normal(size=(1,)),
    "B": RNG.normal(size=(2, 3, 4)),
    "D": RNG.normal(size=(2, 4, 5)),
    "E": RNG.normal(size=(7, 1, 4, 5)),
    "L": RNG.normal(size=(6, N)),
    "none": np.zeros((0,)),
    "empty": np.zeros((0, 5)),
}
PARAMETERS = {"a", "v", "w", "W", "Q", "L"}
TYPES = {"f": "float", "i": "int", "b": "bool"}


def specs_of(data, parameters=PARAMETERS):
    return {
        name: InputSpec(
            name,
            np.shape(array),
            TYPES[np.asarray(array).dtype.kind],
            name in parameters,
            default_static(np.shape(array), name in parameters),
        )
        for name, array in data.items()
    }


def built(text: str | Program, data=DATA, parameters=PARAMETERS) -> Built:
    program = parse_text(text) if isinstance(text, str) else text
    return build(program, specs_of(data, parameters))


def run(result: Built, data=DATA) -> np.ndarray:
    """The value of a built formula by the reference interpreter."""
    shapes = {name: np.shape(data[name]) for name in result.inputs}
    sizes = dims.read_sizes(result.dims, shapes)
    assert sizes is not None
    broken = dims.violated(result.guards, sizes)
    assert broken is None, broken
    node = graph.array(result.value.indices, result.value.body)
    if not result.value.indices:
        node = result.value.body
    inputs = {name: data[name] for name in result.inputs}
    return np.asarray(evaluate([node], inputs, sizes)[0])


def check(text: str | Program, expected, data=DATA):
    result = run(built(text, data), data)
    expected = np.asarray(expected)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


class Values:
    """``DATA`` by attribute, so that the table below reads as NumPy."""

    def __getattr__(self, name: str) -> np.ndarray:
        return DATA[name]


d = Values()

SAME = """
    2 + 3 * 4 ; 7 // 2 + 7 % 4 ; -2**2 ; 2**-1 ; 1/2 ; -7 // 2 ; 2**0.5
    a + x ; x - a*y ; x / 2 ; 2 / y ; -x ; +x ; x**3 ; y**-0.5 ; 2**x ; a**2
    x < y - 5 ; x >= 0 ; (x > 0) & (y > 5) ; (x > 0) | t ; ~t
    X + v ; v + X ; X * r ; X + a ; c + X ; c * r ; X - c ; one + v ; one * X ; X + one
    B + D[:, 0, :4][:, None, :] ; E + D ; E * E[:, 0] [:, None]
    X @ W ; X @ v ; w @ W ; v @ w ; Q @ Q ; X.T @ X ; X.T @ Y ; S @ X ; S.T @ S ; S @ S
    B @ D ; B @ D[0] ; B[0] @ D ; E @ Q ; E @ v ; v @ E.T[:, :, 0, 0] ; W.T[0, 0:3].T
    X.T ; x.T ; B.T ; Q.T ; S.T + S ; (Q @ Q).T + Q ; (S @ S).T * S
    x[0] ; x[-1] ; x[3:] ; x[:-1] ; x[::2] ; x[::-1] ; x[-3:] ; x[:-200] ; x[200:]
    x[-300:5] ; x[10:3] ; x[5:-5:3] ; x[-5:5:-3] ; x[:50:-2] ; x[-2::-1] ; v[::2] ; v[4:1:-1]
    x[1:] - x[:-1] ; x[2:] - 2*x[1:-1] + x[:-2] ; x[1:][1:] - x[2:] ; x[1:] * z ; z * x[:-1]
    x[::2] * x[1::2] ; x[::-1][::-1] - x ; v[-10:10] ; v[3:100] ; v[1:1] ; x[3:4] + v
    X[:, 0] ; X[3] ; X[-1, 2] ; X[1:, 0] - X[:-1, 1] ; X[:, -1] ; X[:, 1:3] ; X[::2, ::-1]
    x[:, None] ; x[None] ; X[:, None, :] ; X[..., 0] ; X[..., None] ; B[..., 1, :] ; B[1, ..., 2]
    X[...] ; X[:, None, :] - Z ; x[:, None] * x[None, :] ; c[:, 0] + x ; r[0] + v ; c[0] * x
    v[j] ; x[i] ; x[p] ; X[:, j] ; X[p] ; X[p, j] ; X[p, 0] ; X[p, :, None] ; X[:, None, j]
    L[:, p] ; S[p, p] ; S[i] ; B[:, :, None, j[0] % 4] ; D[0, :, j] ; D[:, 0, j] ; D[0, j[0] % 4]
    D[1, None, j[:, 0] % 4] ; E[j, ..., j % 4, 0] ; E[:, 0, j[0] % 4, j[0]] ; E[j[0], :, :, j[0]]
    x[k] ; X[k] ; X[k, 1:] ; X[k, j] ; x[k*2 - 1] ; x[i[i]] ; X[i, i % 5] ; v[-k]
    (X @ W)[0] ; (X @ W)[:, 1] ; (X @ W)[1:, 0] ; (X @ W)[i] ; (X @ Q)[p, j] ; (x*y)[i] + x
    (X @ Q)[::-1, 1:] ; (X @ v)[1:] - (X @ v)[:-1] ; (2*x + 1)[1:] ; (X @ Q)[:, j]
    (S @ S)[:, None, :] * S ; (x + 1)[1:][1:] ; (S @ x)[i][::2]
    len(x) * 1.0 ; x.shape[0] / X.shape[1] ; x[len(x) - 3] ; x[:len(x) // 2] ; x[1:len(v)]
    X[:, :1] + v ; X[:1] * Y ; (X[:, :1] * Y).T ; 2 * pi + e ; k + 1 ; k * x ; k / 2 ; t * x
    x * (x > 0) ; v + (x > 0)[:5] ; abs(k - 5)
"""  # noqa: E501
CASES = [case.strip() for case in SAME.replace("\n", ";").split(";") if case.strip()]


@pytest.mark.parametrize("text", CASES)
def test_operators_and_subscripts_mean_what_they_mean_in_numpy(text):
    names = {**DATA, "pi": np.pi, "e": np.e}
    expected = eval(text.replace("] [", "]["), {"len": len, "abs": abs}, names)
    check(text, np.asarray(expected, float))


def lse(x, axis=None, keepdims=False):
    return special.logsumexp(x, axis=axis, keepdims=keepdims)


REDUCTIONS = {
    "sum": np.sum,
    "mean": np.mean,
    "prod": np.prod,
    "min": np.min,
    "max": np.max,
    "logsumexp": lse,
    "norm": lambda x, **kw: np.sqrt(np.sum(np.square(x), **kw)),
    "var": np.var,
    "std": np.std,
}
ARGUMENTS = {
    "a": [""],
    "x": ["", "axis=0", "axis=-1, keepdims=True"],
    "X": ["", "axis=0", "axis=1", "axis=(0, 1)", "axis=-2, keepdims=True"],
    "S": ["", "axis=0", "axis=1", "axis=0, keepdims=True"],
    "S*X[:, :1]": ["", "axis=0", "axis=1", "axis=1, keepdims=True"],
    "B": ["", "axis=(0, 2)", "axis=(-1, 0), keepdims=True", "axis=1", "axis=()"],
    "E": ["axis=1", "axis=(1, 2)", "axis=(0, 1), keepdims=True"],
    "one": ["", "axis=0"],
    "x*1.5 - y": [""],
    "t": [""],
    "Q @ Q": ["axis=0", "axis=1"],
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("operand", ARGUMENTS)
def test_reductions(name, operand):
    value = np.asarray(eval(operand, {}, DATA), float)
    for arguments in ARGUMENTS[operand]:
        if arguments == "axis=()":
            continue
        keywords = eval(f"dict({arguments})")
        text = f"{name}({operand}{', ' if arguments else ''}{arguments})"
        check(text, REDUCTIONS[name](value, **keywords))


FUNCTIONS = [
    ("sum(X, 1)", np.sum(d.X, 1)),
    ("X - mean(X, axis=1)[:, None]", d.X - d.X.mean(1)[:, None]),
    ("X - mean(X, axis=0)", d.X - d.X.mean(0)),
    ("(S - mean(S, axis=0)) / std(S, axis=0)", (d.S - d.S.mean(0)) / d.S.std(0)),
    ("sum(S @ S, axis=0)", (d.S @ d.S).sum(0)),
    ("var(x, ddof=1)", np.var(d.x, ddof=1)),
    ("std(X, axis=0, ddof=2)", np.std(d.X, axis=0, ddof=2)),
    ("var(y + 10000000)", np.var(d.y + 10000000)),
    ("var(none)", np.nan),
    ("sum(none)", 0.0),
    ("prod(none)", 1.0),
    ("mean(none)", np.nan),
    ("mean(empty, axis=0)", np.full(5, np.nan)),
    ("max(empty, axis=1)", np.zeros(0)),
    ("norm(v)", np.linalg.norm(d.v)),
    ("norm(a)", 1.5),
    ("softmax(X)", special.softmax(d.X, axis=1)),
    ("softmax(X, axis=0)", special.softmax(d.X, axis=0)),
    ("log_softmax(X @ W, axis=-1)", special.log_softmax(d.X @ d.W, axis=1)),
    ("softmax(x)", special.softmax(d.x)),
    ("where(x > 0, x, 0)", np.where(d.x > 0, d.x, 0)),
    ("where(t, X[:, 0], a)", np.where(d.t, d.X[:, 0], 1.5)),
    ("where(X > 0, r, c)", np.where(d.X > 0, d.r, d.c)),
    ("clip(x, -0.5, a)", np.clip(d.x, -0.5, 1.5)),
    ("minimum(x, y) + max(x, 0)", np.minimum(d.x, d.y) + np.maximum(d.x, 0)),
    ("maximum(X, v)", np.maximum(d.X, d.v)),
    ("hypot(x, y) + atan2(x, y)", np.hypot(d.x, d.y) + np.arctan2(d.x, d.y)),
    ("square(x) + reciprocal(y)", d.x**2 + 1 / d.y),
    ("tanh(X @ W) + sigmoid(v[0])", np.tanh(d.X @ d.W) + special.expit(d.v[0])),
    ("isfinite(1/none)", np.zeros(0)),
    ("isnan(x) + isinf(x)", np.zeros(N)),
    ("not (x > 0)", ~(d.x > 0)),
    ("x > 0 and y > 5 or t", ((d.x > 0) & (d.y > 5)) | d.t),
    ("polygamma(1, y)", special.polygamma(1, d.y)),
    ("floor(y) + round(x)", np.floor(d.y) + np.round(d.x)),
    ("dot(x, y)", d.x @ d.y),
    ("dot(a, x)", 1.5 * d.x),
    ("dot(X, W)", d.X @ d.W),
    ("dot(B, B[0].T)", np.dot(d.B, d.B[0].T)),
    ("dot(B, D)", np.dot(d.B, d.D)),
    ("outer(x, v)", np.outer(d.x, d.v)),
    ("outer(tanh(v), tanh(v))", np.outer(np.tanh(d.v), np.tanh(d.v))),
    ("trace(Q)", np.trace(d.Q)),
    ("trace(Q @ Q.T)", np.trace(d.Q @ d.Q.T)),
    ("trace(W)", np.trace(d.W)),
    ("trace(X)", np.trace(d.X)),
    ("trace(S)", np.trace(d.S)),
    ("trace(B)", np.trace(d.B)),
    ("diag(v)", np.diag(d.v)),
    ("diag(x) * S", np.diag(d.x) * d.S),
    ("diag(W)", np.diag(d.W)),
    ("diag(S @ S)", np.diag(d.S @ d.S)),
    ("diag(one)", np.diag(d.one)),
    ("tril(Q)", np.tril(d.Q)),
    ("triu(Q, 1) + tril(Q, -2)", np.triu(d.Q, 1) + np.tril(d.Q, -2)),
    ("tril(B)", np.tril(d.B)),
    ("triu(c)", np.triu(d.c)),
    ("eye(3)", np.eye(3)),
    ("eye(1)", np.eye(1)),
    ("S + a*eye(len(S))", d.S + 1.5 * np.eye(N)),
    ("Q + eye(5)", d.Q + np.eye(5)),
    ("arange(4)", np.arange(4)),
    ("x * arange(len(x))", d.x * np.arange(N)),
    ("x[arange(3) + 2]", d.x[2:5]),
    ("x[arange(3) - 1]", d.x[[-1, 0, 1]]),
    ("x[arange(3) - 7]", d.x[[-7, -6, -5]]),
    ("x[len(x) - 1 - arange(len(x))]", d.x[::-1]),
    ("X[arange(len(X)), arange(len(X)) % 5]", d.X[np.arange(N), np.arange(N) % 5]),
    ("0.5 * v @ Q @ v", 0.5 * d.v @ d.Q @ d.v),
    ("sum(t)", d.t.sum()),
    ("mean(k * i)", (3 * d.i).mean()),
    ("len(X) + 0*sum(x)", 100.0),
]


@pytest.mark.parametrize(("text", "expected"), FUNCTIONS, ids=[c[0] for c in FUNCTIONS])
def test_functions(text, expected):
    check(text, np.asarray(expected, float))


EINSUMS = [
    ("ij,jk->ik", "X", "W"),
    ("ij,jk", "X", "W"),
    ("ij,kj->ik", "X", "Z"),
    ("ji,jk", "X", "Y"),
    ("ii", "Q"),
    ("ii->i", "Q"),
    ("ij->ji", "S"),
    ("ij->", "S"),
    ("ij->j", "S"),
    ("i,i->", "x", "y"),
    ("i,j->ij", "v", "w"),
    ("bij,bjk->bik", "B", "D"),
    ("...ij,...jk->...ik", "B", "D"),
    ("...ij,...jk", "E", "D.T[:, :, :]"),
    ("i...->...", "B"),
    ("...i,i->...", "E", "v"),
    ("ij,ij,ij->i", "X", "Y", "X"),
    ("ij,jk,kl->il", "Q", "Q", "W"),
    ("ij,ij->ij", "c", "X"),
    (" i j , j -> i ", "X", "v"),
    ("ij,jk,ki", "Q", "Q", "Q"),
]


@pytest.mark.parametrize(("subscripts", "operands"), [(c[0], c[1:]) for c in EINSUMS])
def test_einsum(subscripts, operands):
    values = [eval(operand, {}, DATA) for operand in operands]
    if subscripts == "...ij,...jk":
        values, operands = [d.E, d.Q[:, :2]], ("E", "Q[:, :2]")
    expected = np.einsum(subscripts, *values)
    check(f'einsum("{subscripts}", {", ".join(operands)})', expected)


def test_losses_of_several_lines():
    text = """
    S1 = X @ Z.T
    P = exp(S1 - logsumexp(S1, axis=1)[:, None])
    mean((P @ Z - Y)**2)
    """
    s = d.X @ d.Z.T
    check(text, np.mean((special.softmax(s, axis=1) @ d.Z - d.Y) ** 2))


def test_k_means_and_mixture():
    distances = ((d.X[:, None, :] - d.Q) ** 2).sum(2)
    check("sum(min(sum((X[:, None, :] - Q)**2, axis=2), axis=1))",
          distances.min(1).sum())  # fmt: skip
    text = """
    sum(logsumexp(v + sum(Q, axis=1)
        - 0.5*sum((exp(Q)*(X[:, None, :] - Q[::-1]))**2, axis=2), axis=1))
    """
    inner = (np.exp(d.Q) * (d.X[:, None, :] - d.Q[::-1])) ** 2
    check(text, lse(d.v + d.Q.sum(1) - 0.5 * inner.sum(2), axis=1).sum())


# --- names ----------------------------------------------------------------------------


def test_constants_are_shadowed_by_inputs_and_assignments():
    check("e", np.e)
    check("e = 2*a\ne + pi", 3 + np.pi)
    check("pi * e", 20.0, {"pi": np.array(4.0), "e": np.array(5.0)})


def test_infinity_nan_and_pi_are_constants():
    check("π * a", np.pi * DATA["a"])
    check("where(v > 0, v, -inf)", np.where(d.v > 0, d.v, -np.inf))
    check("where(v > 0, v, nan)", np.where(d.v > 0, d.v, np.nan))
    check("nan + inf*π", 9.0, {"nan": np.array(1.0), "inf": np.array(2.0),
                               "π": np.array(4.0)})  # fmt: skip
    check("inf = 2\ninf + a", 2 + DATA["a"])


def test_an_assignment_may_shadow_an_input_and_itself():
    check("x = x + 1\nx = 2*x\nsum(x)", np.sum(2 * (d.x + 1)))


def test_parts_written_twice_are_one_node():
    two = built("h = X @ W\nsum(exp(h)) + sum(exp(X @ W))").value.body
    assert isinstance(two, graph.Call)
    assert two.args[0] is two.args[1]


def test_only_inputs_that_are_mentioned_are_used():
    assert list(built("sum(y * x)").inputs) == ["y", "x"]
    assert list(built("eye(len(x)) * a").inputs) == ["x", "a"]


def test_integers_stay_exact_and_bounded():
    assert built("9**8").value.body is graph.const(float(9**8))
    check("9**9**9**9", np.inf)
    check("((9**8)**8)**8", np.inf)
    check("2**100", 2.0**100)


# --- dimensions -----------------------------------------------------------------------


def test_equal_lengths_become_one_size():
    result = built("mean((X @ v - y)**2) + sum(x)")
    assert result.dims == {"X.0": (("X", 0), ("y", 0)), "x.0": (("x", 0),)}
    assert [s.name for s in graph.sizes(result.value.body)] == ["X.0", "x.0"]
    assert result.guards == ()


def test_a_slice_defines_the_length_of_a_plain_axis():
    result = built("sum(z * (x[1:] - x[:-1]))")
    assert set(result.dims) == {"x.0", "z.0"}
    facts = [graph.to_text(guard.fact) for guard in result.guards]
    assert "(z.0 == (x.0 + -1))" in facts
    assert [s.name for s in graph.sizes(result.value.body)] == ["x.0"]
    assert dims.violated(result.guards, {"x.0": 9, "z.0": 8}) is None
    assert dims.violated(result.guards, {"x.0": 9, "z.0": 9}) is not None


def test_two_slices_unify_their_arrays():
    result = built("sum(x[1:] * y[:-1])")
    assert result.dims == {"x.0": (("x", 0), ("y", 0))}


def test_a_static_length_wins_over_a_dynamic_one():
    data = {"w": np.ones(5), "x": np.ones(5)}
    result = built("sum(w * x)", data, {"w"})
    assert graph.sizes(result.value.body) == []
    assert [graph.to_text(guard.fact) for guard in result.guards] == ["(x.0 == 5)"]


def test_a_chain_of_equal_lengths():
    data = {name: np.ones(70) for name in "abcdef"}
    result = built("sum(a + b) + sum(c + d) + sum(e + f) + sum(a*c) + sum(f*d)", data)
    assert result.dims == {"a.0": tuple((name, 0) for name in "abcdef")}


def test_rows_may_change_without_a_build():
    result = built("mean((x[1:] - y[:-1])**2) + var(x) + x[-2] + sum(x[::3])")
    for n in (3, 7, 250):
        data = {"x": RNG.normal(size=n), "y": RNG.normal(size=n)}
        x, y = data["x"], data["y"]
        expected = np.mean((x[1:] - y[:-1]) ** 2) + np.var(x) + x[-2] + sum(x[::3])
        np.testing.assert_allclose(run(result, data), expected)


def test_slices_of_slices_at_many_sizes():
    """A graph is right for every size that its guards let through."""
    rng = np.random.default_rng(3)

    def bound() -> str:
        return rng.choice(["", str(rng.integers(-6, 7))])

    reused = 0
    for _ in range(150):
        steps = [f"[{bound()}:{bound()}:{rng.choice([-3, -2, -1, 1, 2])}]"
                 for _ in range(rng.integers(1, 4))]  # fmt: skip
        text = "x" + "".join(steps)
        first = {"x": rng.normal(size=rng.integers(2, 12))}
        result = built(text, first)
        for n in (*first["x"].shape, 0, 2, 5, 6, 8, 13, 40):
            data = {"x": rng.normal(size=n)}
            if dims.violated(result.guards, {"x.0": n}) is None:
                np.testing.assert_array_equal(run(result, data), eval(text, {}, data))
                reused += 1
    assert reused > 500


def test_sizes_that_break_an_assumption_are_seen():
    result = built("sum(x[3:]) + x[10]")
    assert dims.violated(result.guards, {"x.0": 11}) is None
    assert dims.violated(result.guards, {"x.0": 10}) is not None
    same = {"x.0": (("x", 0), ("y", 0))}
    assert dims.read_sizes(same, {"x": (3,), "y": (4,)}) is None
    assert dims.read_sizes(same, {"x": (3,), "y": (3,)}) == {"x.0": 3}


def test_a_computed_length_of_one_broadcasts_under_a_guard():
    data = {"x": np.arange(2.0), "y": np.arange(70.0)}
    result = built("sum(x[1:] * y)", {**data}, ())
    assert run(result, data) == pytest.approx(np.sum(data["y"]))
    facts = [graph.to_text(guard.fact) for guard in result.guards]
    assert "(x.0 == 2)" in facts


def test_lengths_that_no_binding_can_make_equal_get_a_guard():
    data = {"x": np.arange(70.0), "y": np.arange(35.0)}
    result = built("sum(x[::2] * y)", data, ())
    assert run(result, data) == pytest.approx(np.sum(data["x"][::2] * data["y"]))
    assert any("floor_divide" in graph.to_text(g.fact) for g in result.guards)


def test_default_static():
    assert default_static((1000, 10), False) == (False, True)
    assert default_static((10, 10), False) == (False, True)
    assert default_static((10, 100), True) == (True, False)
    assert default_static((1,), False) == (True,)


def test_a_guard_is_the_strongest_of_its_kind():
    text = " + ".join(f"x[{k}] + x[-{k + 1}]" for k in range(50))
    facts = [graph.to_text(guard.fact) for guard in built(text).guards]
    assert facts == ["(x.0 >= 50)"]


@pytest.mark.parametrize(
    ("left", "right"),
    [("n + 1 - 1", "n"), ("2*n - n", "n"), ("n - (n - 3)", "3"), ("-(m - n)", "n - m")],
)
def test_normal_form(left, right):
    names = {"n": graph.size("n"), "m": graph.size("m")}
    value = [eval(text, {}, names) for text in (left, right)]
    assert extents.normal(graph.lift(value[0])) is extents.normal(graph.lift(value[1]))


# --- sharing --------------------------------------------------------------------------


def arrays_of(text: str) -> list[graph.Node]:
    body = built(text).value.body
    return [n for n in graph.walk(body) if isinstance(n, graph.Array)]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("sum(x[1:] - x[:-1])", 0),
        ("sum((2*x + 1)[1:])", 0),
        ("h = tanh(x)\nsum(h[1:] - h[:-1])", 1),
        ("h = X @ Q\nsum(h @ h.T)", 1),
        ("h = X @ W\nsum(h[:, 0] * h[:, 1])", 0),
        ("h = X @ W\nsum(h * h)", 0),
        ("h = X @ W\nsum(h[i])", 1),
        ("sum((X @ W).T)", 0),
        ("sum(X - mean(X, axis=1)[:, None])", 0),
        ("sum(softmax(S, axis=0))", 0),
    ],
)
def test_a_computed_tensor_is_an_array_only_where_it_is_read_elsewhere(text, count):
    assert len(arrays_of(text)) == count


def test_both_slices_load_one_array():
    body = built("h = tanh(x)\nsum(h[1:] - h[:-1])").value.body
    loads = [n for n in graph.walk(body) if isinstance(n, graph.Load)]
    arrays = {n.array for n in loads if isinstance(n.array, graph.Array)}
    assert len(arrays) == 1


def test_variance_of_all_rows_takes_its_shift_from_the_first():
    body = built("var(y - a*x)").value.body
    assert any(isinstance(n, graph.Call) and n.op == "stop_gradient"
               for n in graph.walk(body))  # fmt: skip
    assert "stop_gradient" not in graph.to_text(built("var(X, axis=0)").value.body)


# --- explicit sums --------------------------------------------------------------------


def at(name, *items):
    return Subscript(Name(name), items)


def apply(name, *args):
    return Apply(name, args)


II, K, SIZE, ONE, ZERO = Name("ii"), Name("kk"), Name("n"), Number(1), Number(0)
LAST = apply("sub", SIZE, ONE)


def test_the_length_of_a_sum_is_inferred():
    body = apply("mul", at("x", II), at("y", II))
    total = Bind("sum", body, "ii", ZERO, LAST)
    check(Program((), apply("div", total, SIZE)), np.mean(d.x * d.y))


def test_an_explicit_sum_is_the_graph_of_the_text():
    total = Program((), Bind("sum", at("x", II), "ii", ZERO, LAST))
    assert built(total).value.body is built("sum(x)").value.body


def test_offsets_and_products():
    next_ = at("x", apply("add", II, ONE))
    body = apply("sub", next_, at("x", II))
    upper = apply("sub", SIZE, Number(2))
    check(Program((), Bind("sum", body, "ii", ZERO, upper)), d.x[-1] - d.x[0])
    check(Program((), Bind("prod", at("v", II), "ii", ONE, LAST)), np.prod(d.v[1:]))


def test_sums_in_sums():
    inner = Bind("sum", apply("mul", at("X", II, K), at("v", K)), "kk", ZERO,
                 apply("sub", Name("m"), ONE))  # fmt: skip
    body = apply("pow", apply("sub", inner, at("y", II)), Number(2))
    program = Program((), Bind("sum", body, "ii", ZERO, LAST))
    check(program, np.sum((d.X @ d.v - d.y) ** 2))
    assert built(program).value.body is built("sum((X @ v - y)**2)").value.body


def test_a_computed_array_in_a_sum():
    h = syntax.Assignment("h", apply("tanh", Name("x")))
    upper = apply("sub", apply("len", Name("h")), ONE)
    body = apply("mul", at("h", II), at("x", II))
    check(Program((h,), Bind("sum", body, "ii", ZERO, upper)),
          np.sum(np.tanh(d.x) * d.x))  # fmt: skip


def test_sums_out_of_range():
    body = apply("sub", at("x", apply("add", II, Number(3))), at("x", II))
    upper = apply("sub", apply("len", Name("x")), ONE)
    with pytest.raises(errors.ShapeError, match="runs from 3 to 102"):
        built(Program((), Bind("sum", body, "ii", ZERO, upper)))


def test_sums_over_arrays_of_different_lengths():
    body = apply("mul", at("x", II), at("z", II))
    with pytest.raises(errors.ShapeError, match="100 by `x` and 99 by `z`"):
        built(Program((), Bind("sum", body, "ii", ZERO, LAST)))


def test_limits_that_depend_on_an_outer_sum():
    triangle = Bind("sum", apply("mul", at("v", II), at("w", K)), "kk", ZERO, II)
    program = Program((), Bind("sum", triangle, "ii", ZERO, LAST))
    check(program, sum(d.v[i] * d.w[k] for i in range(5) for k in range(i + 1)))
    product = Bind("prod", at("w", K), "kk", II, Number(4))
    program = Program((), Bind("sum", product, "ii", ZERO, Number(4)))
    check(program, sum(np.prod(d.w[i:]) for i in range(5)))


def test_a_convolution():
    term = apply("mul", at("v", K), at("x", apply("sub", II, K)))
    inner = apply("mul", Bind("sum", term, "kk", ZERO, II), at("w", II))
    program = Program((), Bind("sum", inner, "ii", ZERO, Number(4)))
    check(program, sum(d.w[i] * sum(d.v[k] * d.x[i - k] for k in range(i + 1))
                       for i in range(5)))  # fmt: skip
    term = apply("mul", at("v", K), at("x", apply("sub", apply("sub", II, K), ONE)))
    program = Program(
        (), Bind("sum", Bind("sum", term, "kk", ZERO, II), "ii", ZERO, Number(4))
    )
    with pytest.raises(errors.ShapeError, match="runs from -1 to 3"):
        built(program)


def test_limits_must_be_known():
    with pytest.raises(errors.UnsupportedError, match="known from shapes"):
        built(Program((), Bind("sum", at("x", II), "ii", ZERO, Name("k"))))


# --- errors ---------------------------------------------------------------------------

S_, U_, G_ = errors.ShapeError, errors.UnsupportedError, errors.GatherIndexError
BAD = [
    ("X @ x", S_, "`X` has 5 columns, `x` has 100 elements", 1),
    ("1 + X @ x", S_, r"X` has shape \(100, 5\), `x` has shape \(100,\)", 5),
    ("sum(x + z)", S_, "`x` has 100 elements, `z` has 99 elements", 5),
    ("x[1:] + x", S_, "99 elements, `x` has 100 elements", 1),
    ("tanh(X @ v) - Z[:, 0]", S_, r"elements \(the rows of X\).*80 .*rows of Z", 1),
    ("X + W", S_, "do not broadcast", 1),
    ("a @ x", S_, "no scalars", 1),
    ("sum(x, axis=1)", S_, "axis 1 does not exist", 13),
    ("sum(a, axis=0)", S_, "scalar", 13),
    ("sum(X, axis=(0, -2))", S_, "twice", None),
    ("x[0, 1]", S_, "2 indices for an array of rank 1", 1),
    ("a[0]", S_, "rank 0", 1),
    ("v[5]", G_, "out of range for axis 0 of `v`, which has length 5", 3),
    ("x[-101]", G_, "out of range", 3),
    ("x[t]", U_, "where", 3),
    ("x[x]", errors.DTypeError, "integer", 3),
    ("x[1.0]", errors.DTypeError, "integer", 3),
    ("x[:k]", U_, "known from shapes", 4),
    ("x[::0]", U_, "step", None),
    ("x[::len(x)]", U_, "step", None),
    ("len(a)", S_, "is a scalar", 1),
    ("x.shape[1]", S_, "no axis 1", 1),
    ("eye(k)", U_, "known from shapes", 5),
    ("eye(2.5)", U_, "known from shapes", 5),
    ("arange(-1)", S_, "negative", 8),
    ("diag(B)", S_, "vector or a matrix", 1),
    ("trace(x)", S_, "matrix", 1),
    ("tril(x)", S_, "matrix", 1),
    ("outer(X, x)", U_, "einsum", 1),
    ("softmax(a)", S_, "scalar", 1),
    ("min(none)", S_, "no elements", 1),
    ("max(empty, axis=0)", S_, "no elements", 1),
    ("polygamma(a, x)", U_, "integer literal", 11),
    ('einsum("ij,jk", X)', errors.ParseError, "2 terms for 1 arrays", 8),
    ('einsum("ij->k", X)', errors.ParseError, "output index", 8),
    ('einsum("ij->ii", X)', errors.ParseError, "output index", 8),
    ('einsum("i1", X)', errors.ParseError, "letters", 8),
    ('einsum("ijk", X)', S_, "3 indices", 1),
    ('einsum("ij,jk->ik", X, Y)', S_, "5 columns, `Y` has 100 rows", 1),
    ("sum(xx)", errors.UnknownNameError, "did you mean `x`", 5),
    ("1 + foo", errors.UnknownNameError, "unknown name `foo`", 5),
    ("exp", errors.UnknownNameError, r"write exp\(", 1),
    ("h = h + 1\nh", errors.UnknownNameError, "unknown name `h`", 5),
    ("(x > 0) + bar", errors.UnknownNameError, "given are a, k, x", 11),
]


@pytest.mark.parametrize(("text", "kind", "match", "column"), BAD)
def test_errors_name_the_thing_and_the_place(text, kind, match, column):
    with pytest.raises(kind, match=match) as caught:
        built(text)
    assert caught.value.text == text
    assert caught.value.span is not None
    if column is not None:
        assert caught.value.column == column


def test_a_loss_must_be_a_scalar():
    for text, words in [
        ("(X @ v - y)**2", r"shape \(n,\) with n = 100 rows of X, y; wrap it in mean"),
        ("X + Y", r"shape \(n, 5\) with n = 100 rows of X, Y"),
        ("x[1:]", r"shape \(n - 1,\) with n = 100 rows of x"),
        ("v", r"shape \(5,\); wrap"),
        ("x[:, None] * Z[:, 0]", r"shape \(n, m\) with n = 100 rows of x, m = 80 rows"),
    ]:
        program = parse_text(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = build(program, specs_of(DATA))
        with pytest.raises(errors.ShapeError, match=words):
            require_scalar(result, program)
    program = parse_text("sum(x)")
    require_scalar(build(program, specs_of(DATA)), program)


@pytest.mark.parametrize("text", ["c - x", "x - c", "y + S @ c", "(c - x)**2"])
def test_a_column_against_a_vector_warns(text):
    with pytest.warns(errors.BroadcastWarning, match="almost always a mistake"):
        built(text)


@pytest.mark.parametrize("text", ["x[:, None] - x", "c - x[None, :]", "c + v", "c*r"])
def test_what_is_asked_for_does_not_warn(text):
    built(text)


# --- size -----------------------------------------------------------------------------


def test_long_sums_build_in_time():
    text = " + ".join(f"sin(v[{k % 5}]*x)" for k in range(10_000))
    program = parse_text(text)
    start = time.perf_counter()
    build(program, specs_of(DATA))
    assert time.perf_counter() - start < 3  # 0.4 s on an idle machine


def test_deep_nests_build():
    program = parse_text("sin(" * 5_000 + "x - y" + ")" * 5_000)
    assert build(program, specs_of(DATA)).value.rank == 1


def test_many_lines_build():
    lines = ["h0 = x"] + [f"h{k + 1} = tanh(h{k})[::-1] + y" for k in range(300)]
    program = parse_text("\n".join([*lines, "sum(h300)"]))
    assert build(program, specs_of(DATA)).value.rank == 0
