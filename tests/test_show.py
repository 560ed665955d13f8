"""Tables, plots, and the tree with values and adjoints."""

from __future__ import annotations

import numpy as np
import pytest

from symgrad import graph
from symgrad.differentiate import gradient
from symgrad.errors import OptionError
from symgrad.interpret import evaluate
from symgrad.show import plot, table, tree


def scalars(names):
    return [graph.load(graph.input_(name)) for name in names]


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


def test_the_tree_of_the_lesson():
    a, b, c, f = scalars("abcf")
    root = (a * b + c) * f
    values = {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0}
    shown = tree.lines(root)
    assert [line.text for line in shown] == [
        "*",
        "├─ +",
        "│  ├─ *",
        "│  │  ├─ a",
        "│  │  └─ b",
        "│  └─ c",
        "└─ f",
    ]
    nodes = [line.node for line in shown]
    assert [float(v) for v in evaluate(nodes, values)] == [-8, 4, -6, 2, -3, 10, -2]
    adjoints = tree.adjoints(root, evaluate, gradient, values)
    assert [float(adjoints[n]) for n in nodes] == [1, -2, -2, 6, -4, -2, 4]


def test_adjoints_of_arrays_and_shared_nodes():
    n = graph.size("x.0")
    i = graph.index(n)
    a, b = scalars("ab")
    x = graph.load(graph.input_("x", [n]), [i])
    residual = x * a - b
    root = graph.reduce_("sum", [i], residual * residual)
    values = {"a": 2.0, "b": -3.0, "x": np.arange(5.0)}
    texts = [line.text for line in tree.lines(root)]
    assert texts[0] == "sum over i < x.0"
    assert texts[2:] == [
        "   ├─ - #1",
        "   │  ├─ *",
        "   │  │  ├─ x[i]",
        "   │  │  └─ a",
        "   │  └─ b",
        "   └─ - (see #1)",
    ]
    adjoints = tree.adjoints(root, evaluate, gradient, values)
    e = values["x"] * 2 + 3
    np.testing.assert_allclose(adjoints[residual], 2 * e)
    np.testing.assert_allclose(adjoints[x], 4 * e)
    np.testing.assert_allclose(adjoints[a], (2 * e * values["x"]).sum())


def test_long_trees_are_cut():
    (x,) = scalars("x")
    root = x
    for step in range(5000):
        root = root * 1.5 + float(step)
    lines = tree.lines(root)
    assert len(lines) == tree.MAX_LINES + 1
    assert "more nodes" in lines[-1].text


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
