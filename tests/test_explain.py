"""What f.explain() says, with passes, bytes and operations counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

import symgrad as sg
from symgrad import errors
from symgrad.runtime.explain import WIDTH, describe, passes_over_data

RANDOM = np.random.default_rng(3)
N = 103  # more than a static length


def normal(*shape):
    return RANDOM.standard_normal(shape)


def compiled(text, parameters, data, dtype="float64"):
    f = sg.compile(text, wrt=list(parameters), dtype=dtype)
    return f.specialize(**parameters, **data)


def only_pass(text, parameters, data, dtype="float64"):
    """The report of the one pass over the data."""
    (found,) = describe(compiled(text, parameters, data, dtype)).passes
    return found


# --- the losses that are to be one pass -----------------------------------------------

TANH = ("mean((tanh(X @ w + b) - y)**2)", {"w": normal(7), "b": 0.1},
        {"X": normal(N, 7), "y": normal(N)})  # fmt: skip

# text, parameters, data, passes over the data
LOSSES = {
    "tanh": (*TANH, 1),
    "logistic": ("mean(softplus(-y*(X @ w + b)))", {"w": normal(7), "b": 0.1},
                 {"X": normal(N, 7), "y": normal(N)}, 1),
    "softmax regression": (
        "mean(logsumexp(X @ W, axis=1) - sum(Y*(X @ W), axis=1))",
        {"W": normal(7, 5)}, {"X": normal(N, 7), "Y": normal(N, 5)}, 1),
    "log of a mean": ("log(mean((y - a*x)**2))", {"a": 0.5},
                      {"x": normal(N), "y": normal(N)}, 1),
    "Rosenbrock": ("sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)",
                   {"x": normal(N)}, {}, 0),
    "factorisation": ("mean((r - sum(U[i]*V[j], axis=1))**2)",
                      {"U": normal(6, 3), "V": normal(8, 3)},
                      {"r": normal(N), "i": RANDOM.integers(0, 6, N),
                       "j": RANDOM.integers(0, 8, N)}, 1),
    "k-means": ("sum(min(sum((P[:, None, :] - C)**2, axis=2), axis=1))",
                {"C": normal(5, 2)}, {"P": normal(N, 2)}, 1),
    "mixture": (
        "sum(logsumexp(alpha + sum(q, axis=1)"
        " - 0.5*sum((exp(q)*(x[:, None, :] - mu))**2, axis=2), axis=1))",
        {"alpha": normal(5), "q": normal(5, 3), "mu": normal(5, 3)},
        {"x": normal(N, 3)}, 1),
    "attention": (
        "S = Q @ K.T; P = exp(S - logsumexp(S, axis=1)[:, None]); mean((P @ V - Y)**2)",
        {"Q": normal(N, 4), "K": normal(9, 4), "V": normal(9, 3)},
        {"Y": normal(N, 3)}, 1),
    "variance": ("var(y - a*x)", {"a": 0.5}, {"x": normal(N), "y": normal(N)}, 1),
    "second difference": ("sum((u[2:] - 2*u[1:-1] + u[:-2])**2)",
                          {"u": normal(N)}, {}, 0),
    "penalty": ("mean((X @ w - y)**2) + 0.1*sum(w**2)", {"w": normal(4)},
                {"X": normal(N, 4), "y": normal(N)}, 1),
    "standardised": ("z = (x*a - mean(x*a))/std(x*a)\nsum(z**3)", {"a": 0.7},
                     {"x": normal(N)}, 2),
}  # fmt: skip


@pytest.mark.parametrize(("text", "parameters", "data", "passes"), LOSSES.values(),
                         ids=LOSSES)  # fmt: skip
def test_passes_over_the_data(text, parameters, data, passes):
    f = compiled(text, parameters, data)
    report = describe(f)
    plan = f._main_kernel(f._latest()).plan
    assert len(report.passes) == len(passes_over_data(plan, data)) == passes
    assert [s for s in report.steps if s.over_data] == report.passes
    shown = f.explain()
    assert f"{passes} over the data" in shown
    assert all(len(line) <= WIDTH == 88 for line in shown.split("\n"))
    assert all(line == line.rstrip() for line in shown.split("\n"))


def test_a_loop_over_the_rows_in_a_serial_step_counts():
    """Such a step is slow, so it must not hide from those who count."""
    f = compiled("prod(x*a)", {"a": 2.0}, {"x": normal(N)})
    for step in describe(f).steps:
        text = "\n".join(step.outline)
        assert step.over_data == ("x[" in text), text


# --- counts by hand -------------------------------------------------------------------


def test_operations_of_a_pass():
    found = only_pass(*TANH)
    work = found.costs.work
    assert work.calls == {"tanh": 1}
    # X@w: 7 fma; +b, -y; square and sum: fma; its slope t*(2 - t), two products; sum;
    # 7 fma
    assert work.flops == 14 + 1 + 1 + 2 + 3 + 1 + 14
    assert found.rows == N


def test_bytes_of_a_pass():
    found = only_pass(*TANH)
    assert dict(found.reads) == {"X": 56, "y": 8}
    assert dict(found.constant) == {"w": 56, "b": 8}
    assert found.costs.bytes == 64
    assert found.stores == ()


def test_bytes_follow_the_types_of_the_arrays():
    text, parameters, data = TANH
    small = {"X": data["X"].astype(np.float32), "y": np.sign(data["y"]).astype(np.int8)}
    found = only_pass(text, parameters, small, "float32")
    assert dict(found.reads) == {"X": 28, "y": 1}
    assert dict(found.constant) == {"w": 28, "b": 4}


def test_stencils_read_a_row_once():
    found = only_pass("sum((a*x[1:] - x[:-1])**2)", {"a": 1.0}, {"x": normal(N)})
    assert dict(found.reads) == {"x": 8}
    assert found.rows == N - 1


def test_a_column_is_not_the_array():
    found = only_pass("sum(a*X[:, 1])", {"a": 1.0}, {"X": normal(N, 5)})
    assert dict(found.reads) == {"X": 8}


def test_gathers_are_named():
    text, parameters, data, _ = LOSSES["factorisation"]
    found = only_pass(text, parameters, data)
    reads = dict(found.reads)
    assert reads["U gathered"] == reads["V gathered"] == 24
    assert reads["i"] == reads["j"] == reads["r"] == 8


def test_what_does_not_depend_on_the_row_is_hoisted():
    found = only_pass("sum(exp(x*(a*b + 3)))", {"a": 1.0, "b": 2.0}, {"x": normal(N)})
    assert found.costs.work.calls == {"exp": 1}
    assert found.costs.hoisted.flops > 0 or found.costs.work.flops <= 4


def test_sums_and_results():
    found = only_pass(*TANH)
    sizes = sorted(kept.bytes for kept in found.accumulates)
    assert sizes == [8, 8, 56]  # the loss, by b, by w
    f = compiled("sum((c - y)**2)", {"c": normal(200)}, {"y": normal(200)})
    stores = [kept for step in describe(f).steps for kept in step.stores]
    assert [(kept.name, kept.bytes, kept.why) for kept in stores] == [
        ("grad c", 8, "a result")
    ]


def test_stored_rows_say_why():
    text = "h = tanh(X @ W)\nsum((h @ h.T)**2)"
    f = compiled(text, {"W": normal(4, 3)}, {"X": normal(N, 4)})
    stores = [kept for step in describe(f).steps for kept in step.stores]
    assert stores
    assert all(
        "later step" in kept.why or "other places" in kept.why for kept in stores
    )
    assert stores[0].why in " ".join(f.explain().split())


def test_lengths_are_those_of_the_latest_call():
    f = sg.compile("mean((y - a*x)**2)", wrt=["a"])
    for n in (10, 5000, 10):
        f.value_and_grad(a=1.0, x=normal(n), y=normal(n))
        assert [s.rows for s in describe(f).passes] == [n]
    assert describe(f).threads == 1


def test_large_losses_say_how_many_threads():
    f = sg.compile(TANH[0], wrt=["w", "b"], threads=3)
    f.specialize(w=(7,), b=(), X=(10**7, 7), y=(10**7,))
    report = describe(f)
    assert report.threads == 3
    assert report.passes[0].chunks == 64
    assert report.seconds > 0.01
    assert report.work_bytes > 0


# --- the text -------------------------------------------------------------------------


def test_the_outline_reads_like_the_formula():
    shown = compiled(*TANH).explain()
    for line in (
        "value and gradient of mean((tanh(X @ w + b) - y)**2)",
        "pass 1 of 1 over the data: 103 rows, 1 chunk",
        "    for i < len(X)",
        "      for j < 7",
        "t1 += X[i, j]*w[j]",
        "t2 = 1 - tanh(abs(b + t1))",
        "t3 = tanh(b + t1) - y[i]",
        "t4 = t3*t2*(2 - t2)",
        "loss = s1/len(X)",
        "grad w[j] = 2*s3[j]/len(X)",
    ):
        assert line in shown, shown


def test_brackets_are_right():
    f = compiled("sum((a - (x - y))/(x*(a/y)) - (-x)**3)", {"a": 1.5},
                 {"x": np.array([1.0, 2.0]), "y": np.array([4.0, 0.5])})  # fmt: skip
    (found,) = describe(f).passes
    lines = [line.strip().replace("[i]", "") for line in found.outline[1:]]
    last = next(line for line in lines if line.startswith("s1 +="))
    before = [line for line in lines if " = " in line]
    text = "\n".join([*before, last.removeprefix("s1 +=").strip()])
    x, y, a = 2.0, 0.5, 1.5
    value = sg.compile(text, wrt=["a"])(a=a, x=x, y=y)
    assert value == pytest.approx((a - (x - y)) / (x * (a / y)) - (-x) ** 3)


def test_names_of_arrays_are_not_taken_for_indices():
    shown = compiled(
        "sum((i*j - t1)**2)", {"i": 1.0}, {"j": normal(N), "t1": normal(N)}
    )
    text = shown.explain()
    assert "for k < len(j)" in text
    assert "j[k]" in text
    assert "t1 =" not in text


def test_models_and_other_kernels():
    m = sg.model("a*exp(-b*x)", wrt=["a", "b"])
    values = {"a": 2.0, "b": 0.5, "x": np.linspace(0, 1, 30)}
    m(**values)
    shown = m.explain()
    assert "jacobian a[i]" in shown
    m.jvp({"a": 1.0}, **values)
    assert "jvp[i] =" in m.explain(kernel="jvp")
    assert "value[i] =" in m.explain(kernel="value")
    f = compiled(*TANH)
    f.hvp({"b": 1.0}, **TANH[1], **TANH[2])
    assert "hvp w[j] =" in f.explain(kernel="hvp")


def test_errors():
    f = sg.compile(TANH[0], wrt=["w", "b"])
    with pytest.raises(errors.ArgumentError, match="specialize"):
        f.explain()
    with pytest.raises(errors.ArgumentError, match="value and gradient"):
        compiled(*TANH).explain(kernel="nonsense")


def test_scalar_losses_have_no_passes():
    f = compiled("(a*b + c)*f", dict.fromkeys("abcf", 1.0), {})
    report = describe(f)
    assert report.passes == report.other_passes == []
    assert "once per call\n" in f.explain()


def test_sums_that_wait_for_a_tile():
    f = sg.compile("mean(sum(tanh(X @ W)**2, axis=1))", wrt=["W"])
    f.specialize(W=(100, 30), X=(1000, 100))
    (found,) = describe(f).passes
    assert dict(found.reads) == {"X": 800}
    assert found.costs.work.calls == {"tanh": 30}
    assert found.costs.work.flops > 2 * 2 * 3000  # X@W, and X.T@ its derivative
    (total,) = [kept for kept in found.accumulates if kept.bytes == 8 * 3000]
    assert "tile" in total.why
    shown = f.explain()
    assert "after each tile of rows" in shown
    assert "rows of the tile" in shown


def test_large_formulas_stay_readable():
    text = " + ".join(f"(a*x - {k})**2" for k in range(1500))
    f = compiled(f"sum({text})", {"a": 1.0}, {"x": normal(3)})
    shown = f.explain()
    assert max(map(len, shown.split("\n"))) <= WIDTH
    assert "…" in shown
