"""Tables, plots, and the tree with values and adjoints."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import ArgumentError, OptionError
from symgrad.show import plot, table, tree
from symgrad.show.trace import trace


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4.0, "4"),
        (1 / 3, "0.333333"),
        (np.inf, "inf"),
        (np.bool_(True), "True"),
        ([1, 2.5], "[1, 2.5]"),
        (np.arange(6.0), "(6,) 0 … 5"),
        (np.ones((2, 3)), "(2, 3) 1 … 1"),
        (np.ones((0, 3)), "(0, 3) empty"),
    ],
)
def test_value(value, text):
    assert table.value(value) == text


def test_align():
    assert table.align([("a", "bb"), ("ccc", "d")], indent=" ") == " a    bb\n ccc  d"


LESSON = {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0}


def traced(text, values, wrt=None):
    return trace(sg.compile(text, wrt=wrt or list(values)), values)


def test_the_tree_of_the_lesson():
    found = traced("e = a*b\nd = e + c\nd*f", LESSON)
    assert tree.render(found).split("\n") == [
        "step           value  adjoint",
        "L = d·f        -8      1",
        "├─ d = e + c    4     -2",
        "│  ├─ e = a·b  -6     -2",
        "│  │  ├─ a      2      6",
        "│  │  └─ b     -3     -4",
        "│  └─ c         10    -2",
        "└─ f           -2      4",
    ]


def test_the_rules_of_the_lesson():
    found = traced("e = a*b\nd = e + c\nd*f", LESSON)
    told = {s.name: [c.formula for c in s.contributions] for s in found.steps}
    assert told == {
        "a": ["∂L/∂e · b"],
        "b": ["∂L/∂e · a"],
        "e": ["∂L/∂d"],
        "c": ["∂L/∂d"],
        "d": ["f"],
        "f": ["d"],
        "L": [],
    }
    for step in found.steps[:-1]:
        total = sum(c.number for c in step.contributions)
        assert total == pytest.approx(float(step.adjoint))


def test_adjoints_of_arrays_and_shared_steps():
    x = np.arange(5.0)
    found = traced("r = a*x - b\nmean(r*r)", {"a": 2.0, "b": -3.0, "x": x}, ["a", "b"])
    texts = [line.text for line in tree.lines(found)]
    assert texts == [
        "L = mean_i(v2)",
        "└─ v2 = r²",
        "   └─ r = v1 - b",
        "      ├─ v1 = a·x",
        "      │  ├─ a",
        "      │  └─ x",
        "      └─ b",
    ]
    r = 2 * x + 3
    np.testing.assert_allclose(found.step("r").value, r)
    np.testing.assert_allclose(found.step("r").adjoint, 2 * r / 5)
    np.testing.assert_allclose(found.step("a").adjoint, (2 * r * x).sum() / 5)
    np.testing.assert_allclose(found.step("x").adjoint, 4 * r / 5)
    assert found.step("v1").contributions[0].formula == "∂L/∂r"
    assert found.step("a").contributions[0].formula == "Σ_i ∂L/∂v1 · x"


LOSSES = [
    ("mean((tanh(X @ w + b) - y)**2)", {"w": (3,), "b": ()}, {"X": (7, 3), "y": (7,)}),
    ("sum((A + A.T)*B[1:, :]) + max(A)", {"A": (3, 3)}, {"B": (4, 3)}),
    ("mean(logsumexp(X @ W, axis=1))", {"W": (2, 4)}, {"X": (6, 2)}),
    ("prod(x) + norm(x) + sum(abs(x))/len(x)", {"x": (4,)}, {}),
    ("sum(where(x > 0, a*x, exp(x))**2)", {"a": ()}, {"x": (9,)}),
    ("sum(x[::-1]*x) + sum(arange(4)*x)", {"x": (4,)}, {}),
]


@pytest.mark.parametrize(("text", "parameters", "data"), LOSSES)
def test_a_trace_agrees_with_the_kernel(text, parameters, data):
    rng = np.random.default_rng(5)
    shapes = {**parameters, **data}
    values = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    f = sg.compile(text, wrt=list(parameters))
    found = trace(f, values)
    value, gradients = f.value_and_grad(**values)
    np.testing.assert_allclose(found.loss.value, value)
    for name, expected in gradients.items():
        np.testing.assert_allclose(found.step(name).adjoint, expected)
    for step in found.steps:
        if step.adjoint is not None:
            assert np.shape(step.adjoint) == np.shape(step.value)


def test_gathers_are_shown_as_elements():
    values = {"u": np.arange(3.0), "k": np.array([0, 2, 2, 1])}
    found = traced("sum(u[k]**2)", values, ["u"])
    step = next(s for s in found.steps if s.symbol == "element")
    assert step.formula == "u[k[i]]"
    np.testing.assert_allclose(found.step("u").adjoint, [0, 2, 8])
    assert found.step("k").adjoint is None


def test_rows_are_left_out_of_large_traces():
    x = np.linspace(0, 1, 1000)
    f = sg.compile("mean((a*x - 1)**2)", wrt=["a"])
    found = trace(f, {"a": 2.0, "x": x}, elements=2000)
    assert found.rows is not None
    shown, count = found.rows
    assert count == 1000
    assert 100 < shown < 1000
    assert found.step("x").value.shape == (shown,)
    assert "of 1000 rows" in tree.render(found)


def test_only_losses_have_a_trace():
    with pytest.raises(ArgumentError, match="only a scalar has adjoints"):
        trace(sg.model("a*x", wrt=["a"]), {"a": 1.0, "x": 2.0})


def test_a_loss_that_is_a_parameter_or_a_constant():
    assert float(traced("a", {"a": 3.0}).loss.adjoint) == 1
    assert float(traced("3 + 0*a", {"a": 3.0}).step("a").adjoint) == 0


def test_long_trees_are_cut():
    text = "\n".join([f"x = x*1.5 + {k}.0" for k in range(300)] + ["x"])
    lines = tree.lines(traced(text, {"x": 1.0}))
    assert len(lines) == tree.MAX_LINES + 1
    assert "more steps" in lines[-1].text


def test_colours_only_where_they_are_wanted():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert tree.coloured(Terminal(), {})
    assert not tree.coloured(Terminal(), {"NO_COLOR": "1"})
    assert not tree.coloured(Terminal(), {"TERM": "dumb"})
    assert not tree.coloured(io.StringIO(), {})
    assert tree.coloured(io.StringIO(), {"FORCE_COLOR": "1"})
    found = traced("(a*b + c)*f", LESSON)
    painted = tree.render(found, tree.ansi)
    assert "\x1b[35m" in painted
    plain = re.sub(r"\x1b\[[0-9;]*m", "", painted)
    assert [line.rstrip() for line in plain.split("\n")] == tree.render(found).split(
        "\n"
    )


def test_narrow_terminals_cut_labels():
    text = "mean((first_name*second_name - third_name*x)**2)"
    values = {"first_name": 1.0, "second_name": 2.0, "third_name": 3.0, "x": np.ones(9)}
    lines = tree.render(traced(text, values, ["first_name"]), width=72).split("\n")
    assert max(map(len, lines)) <= 72


def test_terminals_without_unicode():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    text = tree.printable(tree.render(traced("(a*b + c)*f", LESSON)), stream)
    assert text.isascii()
    assert "v1 = a*b" in text


def test_plots(tmp_path):
    pytest.importorskip("matplotlib")
    x = np.linspace(0, 1, 20)
    for curve in (None, (x, x)):
        fit = plot.Fit("y ~ x", "x", "y", x, x + 0.1, x, curve)
        plot.plot_fit(tmp_path / "fit.png", fit)
        assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    for losses in ([100.0, 1.0, 0.1], [1.0, -1.0], [np.inf, 1.0], []):
        plot.plot_history(tmp_path / "h.svg", np.array(losses), "loss", 2)
    with pytest.raises(OptionError, match=r"ends in one of .*png"):
        plot.check_available(tmp_path / "fit.doc")
    with pytest.raises(OptionError, match="no directory"):
        plot.check_available(tmp_path / "none" / "fit.png")
