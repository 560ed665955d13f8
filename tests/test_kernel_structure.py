"""What the emitter does to loops and sums must not show in the results."""

import itertools
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad import graph
from symgrad.codegen import cpu, llvm_text, module
from symgrad.schedule.deferred import LONG_ROW
from symgrad.schedule.legalise import counts, hoist_factors

ROWS = (1, 7, 16, 17, 65, 200, 3000)
"""Around one, two and four vectors, and more than a chunk."""


def data(n: int, columns: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, columns))


@pytest.mark.parametrize("n", ROWS)
def test_conditions_choose_terms(n):
    """A term that is not chosen adds nothing, not even nan or inf."""
    x = data(n, 1)[:, 0]
    f = sg.compile("sum(where(x > 0, a*log(x), 0)) + sum(where(x > 0, 0, -b*x))", ["a"])
    value, slope = f.value_and_grad(a=1.5, b=2.0, x=x)
    kept = np.log(x[x > 0]).sum()
    assert value == pytest.approx(1.5 * kept - 2.0 * x[x <= 0].sum(), rel=1e-12)
    assert slope["a"] == pytest.approx(kept, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("columns", [1, 2, 3, 5, 25, 26])
@pytest.mark.parametrize("n", [17, 200])
def test_ties_share_the_gradient(n, columns):
    """However many columns are compared together, and counted together."""
    x = np.round(data(n, columns))
    slope = sg.compile("sum(min(X + c, axis=1))", ["c"]).grad(c=np.zeros(columns), X=x)
    ties = x == x.min(axis=1, keepdims=True)
    wanted = (ties / ties.sum(axis=1, keepdims=True)).sum(axis=0)
    np.testing.assert_allclose(slope["c"], wanted, rtol=1e-12)


@pytest.mark.parametrize("column", range(7))
def test_extremes_keep_nan(column):
    a = np.ones(7)
    a[column] = np.nan
    for name in ("min", "max"):
        value = sg.compile(f"sum({name}(a*X, axis=1))", ["a"])(a=a, X=data(40, 7))
        assert np.isnan(value)


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("inner", [2, 3, 70])
def test_products_of_any_width(n, inner):
    """Turns that run together, their rest, and what many rows share."""
    rng = np.random.default_rng(n)
    values = {
        "A": rng.normal(size=(inner, 37)),
        "B": rng.normal(size=(37, 3)),
        "X": rng.normal(size=(n, inner)),
    }
    f = sg.compile("sum(((X @ A)**2 @ B)**2)", ["A", "B"])
    value, slopes = f.value_and_grad(**values)
    hidden = values["X"] @ values["A"]
    out = hidden**2 @ values["B"]
    back = 2 * (2 * out) @ values["B"].T * hidden
    assert value == pytest.approx((out**2).sum(), rel=1e-11)
    np.testing.assert_allclose(slopes["B"], (hidden**2).T @ (2 * out), rtol=1e-9)
    np.testing.assert_allclose(slopes["A"], values["X"].T @ back, rtol=1e-9)


def _row_and_column() -> tuple[graph.Index, graph.Index]:
    row, column = graph.canonical_indices([graph.size("n"), graph.const(3)])
    return row, column


def test_divisors_that_rows_share_are_inverted():
    i, j = _row_and_column()
    x = graph.load(graph.input_("x", (graph.size("n"), graph.const(3))), (i, j))
    s = graph.load(graph.input_("s", (graph.const(3),)), (j,))
    total = graph.load(graph.input_("t", (graph.size("n"),)), (i,))
    (shared,) = hoist_factors([x / s])
    assert graph.to_text(shared) == graph.to_text(x * (1.0 / s))
    (kept,) = hoist_factors([x / total])  # its reciprocal could overflow
    assert kept is x / total


def test_counts_are_recognised():
    _, j = _row_and_column()
    x = graph.load(graph.input_("x", (graph.const(3),)), (j,))
    equal = graph.call("eq", x, 1.0, type=graph.BOOL)
    assert counts(graph.reduce_("sum", [j], graph.call("where", equal, 1.0, 0.0)))
    assert not counts(graph.reduce_("sum", [j], graph.call("where", equal, x, 0.0)))
    assert not counts(graph.reduce_("sum", [j], x))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", ROWS)
def test_rare_calls_leave_running_sums_alone(n, dtype):
    """Large arguments of sin and cos go to libm; what loops keep in registers stays."""
    t = data(n, 1)[:, 0]
    t[::3] *= 2.0**40  # also in the first rows
    t = t.astype(dtype)
    angle = np.asarray(2 * t, np.float64)
    f = sg.compile("sum(A*cos(w*t) + exp(b)*sin(w*t)*tanh(t))", ["A", "b"], dtype=dtype)
    value, slope = f.value_and_grad(A=1.5, b=0.25, w=2.0, t=t)
    cosines = np.cos(angle).sum()
    sines = np.exp(0.25) * (np.sin(angle) * np.tanh(t.astype(np.float64))).sum()
    close = {"abs": n * (1e-14 if dtype == "float64" else 1e-6)}
    assert slope["A"] == pytest.approx(cosines, **close)
    assert slope["b"] == pytest.approx(sines, **close)
    assert value == pytest.approx(1.5 * cosines + sines, **close)


def test_long_rows_are_read_as_they_lie():
    """Not transposed, neither by sums along them nor by sums of them."""
    for columns, transposed in ((LONG_ROW - 1, {"X"}), (LONG_ROW, set())):
        f = sg.compile("mean((X @ w - y)**2)", wrt=["w"])
        values = {"X": np.ones((64, columns)), "y": np.ones(64)}
        objective = f.bind({"w": np.ones(columns)}, **values)
        objective.value_and_grad(np.ones(columns))
        layout = objective._gradient.kernel.layout
        steps = [step for step in layout.plan.passes if step.sums]
        assert {a.name for s in steps for a in layout.tiles(s)} == transposed


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [3, 4, 8, 17, 18, 33, 65, 200, 3000, 300_000])
def test_stencils_at_both_ends(n, dtype):
    """Blocks in the interior have no masks; the first, the last and short ones do."""
    x, y = data(n, 2).T.astype(dtype)
    text = "sum((x[2:] - 2*x[1:-1] + x[:-2])**2) + sum(x[1:]*y[:-1])"
    value, slope = sg.compile(text, ["x"], dtype=dtype).value_and_grad(x=x, y=y)
    x, y = x.astype(np.float64), y.astype(np.float64)
    bend = x[2:] - 2 * x[1:-1] + x[:-2]
    wanted = np.zeros(n)
    for k, factor in enumerate((1, -2, 1)):
        wanted[k : n - 2 + k] += 2 * factor * bend
    wanted[1:] += y[:-1]
    close = {"rtol": 0, "atol": 1e-13 if dtype == "float64" else 2e-5}
    np.testing.assert_allclose(slope["x"], wanted, **close)
    total = (bend**2).sum() + (x[1:] * y[:-1]).sum()
    assert value == pytest.approx(total, rel=1e-12 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("n", [3, 4, 8, 17, 73, 3000])
def test_conditions_of_the_interior_do_not_leave_it(n):
    """Not even where what they choose from is constant."""
    x = data(n, 1)[:, 0]
    value, slope = sg.compile("sum(x[:-3]) + 2*sum(x[2:])", ["x"]).value_and_grad(x=x)
    wanted = 1.0 * (np.arange(n) < n - 3) + 2.0 * (np.arange(n) >= 2)
    np.testing.assert_array_equal(slope["x"], wanted)
    assert value == pytest.approx(wanted @ x, rel=1e-12, abs=1e-12)


def test_stencils_read_whole_vectors():
    """The interior's version of the body is there, and what it reads has no mask."""
    f = sg.compile("sum((x[1:] - x[:-1]**2)**2)", ["x"])
    f.value_and_grad(x=np.ones(100))
    plain = [line for line in f.llvm.splitlines() if "splat (i1 true)" in line]
    assert any("masked.load" in line for line in plain)


def test_parameters_with_rows_are_not_narrowed_in_advance():
    for text, names in (
        ("sum((x[1:] - x[:-1]**2)**2)", set()),
        ("sum((x - y)**2) + sum((x*c)**2)", {"c"}),
        ("mean((X @ w + x - y)**2)", {"w"}),
    ):
        values = {"x": np.ones(100), "c": 2.0, "w": np.ones(3)}
        used = {k: v for k, v in values.items() if k in text}
        rows = {"X": np.ones((100, 3)), "y": np.ones(100)}
        rows = {k: v for k, v in rows.items() if k in text}
        f = sg.compile(text, list(used), dtype="float32")
        objective = f.bind(used, **rows)
        objective.value_and_grad(objective.pack(used))
        assert objective._gradient.kernel.layout.narrowed == names


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("n", ROWS)
def test_narrow_rows_are_sorted_by_column(n, columns):
    x = data(n, columns).astype(np.float32)
    w = np.arange(1.0, columns + 1)
    f = sg.compile("sum(tanh(X @ w))", ["w"], dtype="float32")
    value, slope = f.value_and_grad(w=w, X=x)
    wide = x.astype(np.float64)
    t = np.tanh(wide @ w)
    assert value == pytest.approx(t.sum(), abs=1e-5 * n)
    np.testing.assert_allclose(slope["w"], wide.T @ (1 - t * t), atol=1e-5 * n)


def test_lanes_that_are_off_add_nothing_to_chosen_rows():
    """Not even where the first row, which they mean, is infinite or not a number."""
    u, v = np.ones((5, 16)), np.full((4, 16), 2.0)
    u[0], v[0] = np.inf, np.nan
    i, j = np.array([1, 2, 1]), np.array([3, 3, 1])
    f = sg.compile("sum((r - sum(U[i]*V[j], axis=1))**2)", ["U", "V"])
    slope = f.grad(U=u, V=v, i=i, j=j, r=np.array([30.0, 31.0, 29.0]))
    assert np.isfinite(slope["U"]).all() and np.isfinite(slope["V"]).all()
    wanted = np.zeros((5, 16))
    wanted[1], wanted[2] = 2 * 2 * (2 + 3), 2 * 2 * 1
    np.testing.assert_allclose(slope["U"], wanted)


def test_long_blocks_and_functions_are_told_from_long_texts():
    block = 10 * "  %a = add i64 0, 0\n"
    text = "define void @f() {\nentry:\n" + (block + "loop1:\n") * 1000
    assert cpu._longest(2 * text) == (10, 11001)
    assert cpu._level(2 * text) > cpu._level(text + 600 * block) == 0
    assert cpu._level(text + (block + "loop1:\n") * 1000) == 0


def test_labels_that_divide_do_not_make_blocks_shorter():
    terms = " + ".join(f"(a*x - {k})**2*tanh({k + 1}*b*x)" for k in range(1500))
    f = sg.compile(f"mean({terms})", wrt=["a", "b"])
    value, _ = f.value_and_grad(a=0.5, b=0.25, x=np.linspace(-1, 1, 20))
    lines = f.llvm.splitlines()
    labels = [k for k, line in enumerate(lines) if not line.startswith(" ")]
    assert max(b - a for a, b in itertools.pairwise(labels)) < 2 * llvm_text.BLOCK
    assert any(line.startswith(llvm_text.DIVIDED) for line in lines)
    assert cpu._longest(f.llvm)[0] > cpu.LONG_BLOCK
    x, k = np.linspace(-1, 1, 20)[:, None], np.arange(1500)
    inner = (0.5 * x - k) ** 2 * np.tanh((k + 1) * 0.25 * x)
    assert value == pytest.approx(inner.sum(1).mean(), rel=1e-12)


@pytest.mark.parametrize("count", [5, 12, 100])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_many_scalar_sums(dtype, count):
    """By themselves, in loops, and added by a subroutine; in several chunks."""
    names = [f"p{k}" for k in range(count)]
    terms = " + ".join(f"sin({name}*x)" for name in names)
    f = sg.compile(f"mean({terms})", wrt=names, dtype=dtype)
    x = np.linspace(-2, 2, 40_000).astype(dtype)
    values = {name: 0.1 + k / count for k, name in enumerate(names)}
    objective = f.bind(x=x)
    value, gradient = objective.value_and_grad(objective.pack(values))
    p = np.array(list(values.values()))
    angles = np.outer(p, x.astype(float))
    close: dict[str, Any] = {
        "rtol": 1e-11 if dtype == "float64" else 1e-4,
        "atol": 1e-12,
    }
    if dtype == "float32":
        close["atol"] = 1e-5
    np.testing.assert_allclose(value, np.sin(angles).mean(1).sum(), **close)
    np.testing.assert_allclose(gradient, (x * np.cos(angles)).mean(1), **close)
    np.testing.assert_allclose(f(**values, x=x), value, **close)
    assert ("call void @add_sum" in f.llvm) == (count >= module.MANY_SUMS)
