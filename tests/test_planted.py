"""The checks are checked: wrong derivatives and wrong rules must make them fail.

A mistake is planted where a slip of the pen would put it, and the comparisons of
``test_losses`` and ``test_random_losses`` must see it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from loss_constructs import ELEMENTS
from losses import MODELS, SPECIFIED, Case
from oracles import assert_gradients, needs_torch, torch_gradient
from random_checks import verdict
from random_losses import RandomLoss, random_loss
from test_random_losses import slope

import symgrad as sg
from symgrad import graph
from symgrad.differentiate import reductions
from symgrad.graph import BOOL, Node
from symgrad.ops import OPS, apply
from symgrad.simplify.rule import EXACT, STABLE, Rule, Step, wild
from symgrad.simplify.rules import STAGES

# --------------------------------------------------------------------------------------
# The mistakes
# --------------------------------------------------------------------------------------

PARTIALS: dict[str, Callable[..., Any]] = {
    "tanh": lambda out, x: (1.0 + out * out,),
    "mul": lambda out, x, y: (x, y),
    "sub": lambda out, x, y: (graph.const(1.0), graph.const(1.0)),
    "div": lambda out, x, y: (1.0 / y, -(out * y)),
    "pow": lambda out, x, y: (out / x, out * apply("log", x)),
    "exp": lambda out, x: (None,),
    "sin": lambda out, x: (-apply("cos", x),),
    "sqrt": lambda out, x: (0.50001 / out,),
    "sigmoid": lambda out, x: (out * (1.0 + out),),
    "log1p": lambda out, x: (1.0 / x,),
    "where": lambda out, c, a, b: (
        None,
        apply("where", c, 0.0, 1.0),
        apply("where", c, 1.0, 0.0),
    ),
    "abs": lambda out, x: (out,),
    "atan2": lambda out, y, x: (y / (x * x + y * y), x / (x * x + y * y)),
}


def _softmax_without_shift(node: graph.Reduce) -> reductions.Weight:
    return reductions.Weight(graph.const(1.0), apply("exp", node.body))


def _every_candidate(node: graph.Reduce) -> reductions.Weight:
    return reductions.Weight(graph.const(1.0), graph.const(1.0))


REDUCTIONS: dict[str, Callable[[graph.Reduce], reductions.Weight]] = {
    "logsumexp": _softmax_without_shift,
    "min": _every_candidate,
    "max": _every_candidate,
    "norm": lambda node: reductions.Weight(graph.const(1.0), node.body),
    "prod": lambda node: reductions.Weight(node, graph.const(1.0)),
}

u, v, p = wild("u"), wild("v"), wild("p", BOOL)
WRONG_RULES = {
    "root of a square": (apply("sqrt", u * u), u),
    "difference": (-(u - v), u - v),
    "turned difference": (u - v, v - u),
    "tanh for sin": (apply("sin", u), apply("tanh", u)),
    "exponentials": (apply("exp", -u), apply("exp", u)),
    "other branch": (apply("where", p, u, v), apply("where", p, v, u)),
    "almost one": (u / v, 1.000001 * u / v),
}

WRITTEN_RULES = {
    "root of a square": "sqrt",
    "difference": "-(",
    "turned difference": "-",
    "tanh for sin": "sin(",
    "exponentials": "exp(-",
    "other branch": "where",
    "almost one": "/",
}

# --------------------------------------------------------------------------------------
# The checks
# --------------------------------------------------------------------------------------

TABLE = [c for c in SPECIFIED + MODELS + ELEMENTS if not c.kinks]
RANDOM = [random_loss(seed) for seed in range(320)]
WRITTEN = {"mul": "*", "sub": "-", "div": "/", "pow": "**", "prod": "prod("}
"""Operations by another name than theirs."""


def likely(losses: Sequence[Any], name: str) -> list[Any]:
    """The losses that a mistake in ``name`` concerns first: to save time."""
    return sorted(losses, key=lambda x: WRITTEN.get(name, name) not in x.text)


def wrong_in_the_table(cases: Iterable[Case]) -> bool:
    """Does any loss of the table have a wrong value or gradient, compiled anew?"""
    return any(_is_wrong(case) for case in cases)


def _is_wrong(case: Case) -> bool:
    values = case.values(case.few(9))
    wanted, slopes = torch_gradient(case.reference, values, case.wrt)
    f = sg.compile(case.text, wrt=case.wrt)
    value, gradient = f.value_and_grad(**values)
    try:
        assert value == pytest.approx(wanted, rel=1e-10)
        assert_gradients(gradient, slopes, 1e-10)
    except AssertionError:
        return True
    return False


def wrong_at_random(losses: Iterable[RandomLoss]) -> bool:
    return any(verdict(loss).kind == "wrong" for loss in losses)


def plant(monkeypatch, name: str) -> None:
    """Replace the derivative of an operation or a reduction by a wrong one."""
    if name in PARTIALS:
        wrong = dataclasses.replace(OPS[name], partials=PARTIALS[name])
        monkeypatch.setitem(OPS, name, wrong)
    else:
        monkeypatch.setitem(reductions._WEIGHTS, name, REDUCTIONS[name])


@needs_torch
def test_nothing_is_wrong_without_a_mistake():
    assert not wrong_in_the_table(SPECIFIED[:4])
    assert not wrong_at_random(RANDOM[:10])


@needs_torch
@pytest.mark.parametrize("name", [*PARTIALS, *REDUCTIONS])
def test_wrong_derivative_is_caught(name, monkeypatch):
    plant(monkeypatch, name)
    assert wrong_in_the_table(likely(TABLE, name))
    assert wrong_at_random(likely(RANDOM, name))


@pytest.mark.parametrize("name", [*PARTIALS, *REDUCTIONS])
def test_wrong_derivative_is_caught_without_torch(name, monkeypatch):
    """By differences of the value, by hand and by ``check_grad``."""
    plant(monkeypatch, name)
    texts = {
        **dict.fromkeys(REDUCTIONS, f"sum({name}(X*w, axis=1)**2)"),
        "mul": "sum(X[:, 0]*w[0]*w[1])",
        "sub": "sum((X - w)**2)",
        "div": "sum(X/w)",
        "pow": "sum(2.5**w) + sum(abs(w)**2.3)",
        "where": "sum(where(X > 0, w, w**2))",
        "atan2": "sum(atan2(X, w))",
        "abs": "sum(abs(w - 0.5))",
    }
    text = texts.get(name, f"sum({name}(w**3 + 0.3))")
    values = {"w": np.array([0.7, -0.6, 0.4])}
    if "X" in text:
        values["X"] = np.random.default_rng(1).normal(size=(5, 3))
    f = sg.compile(text, wrt=["w"])
    assert f.check_grad(values)["w"] > 1e-6
    assert np.abs(f.grad(**values)["w"] - _differences(f, values)).max() > 1e-6


def _differences(f: sg.Loss, values: dict[str, np.ndarray]) -> np.ndarray:
    steps = 1e-6 * np.eye(len(values["w"]))
    up = [f(**{**values, "w": values["w"] + step}) for step in steps]
    down = [f(**{**values, "w": values["w"] - step}) for step in steps]
    return (np.array(up) - np.array(down)) / 2e-6


@needs_torch
@pytest.mark.filterwarnings("ignore:simplification stopped early")  # endless
@pytest.mark.parametrize(
    ("stage", "name"),
    [*(("canonicalise", name) for name in WRONG_RULES), ("specialise", "almost one")],
)
def test_wrong_rule_is_caught(name, stage, monkeypatch):
    plant_rule(monkeypatch, name, stage)
    assert wrong_in_the_table(likely(TABLE, WRITTEN_RULES[name]))
    if name != "root of a square":  # rare at random: hundreds of losses may do without
        assert wrong_at_random(likely(RANDOM, WRITTEN_RULES[name]))


def test_wrong_rule_is_caught_without_torch(monkeypatch):
    """By differences in 50 digits of the graph as it was built."""
    plant_rule(monkeypatch, "root of a square", "canonicalise")
    f = sg.compile("sum(sqrt(w*w)*X)", wrt=["w"])
    values = {"w": np.array([-0.7, 1.2]), "X": np.ones((4, 2))}
    loss = _Plain("sum(sqrt(w*w)*X)", values, ["w"])
    wanted, _ = slope(loss, {"w": np.array([1, 2])})  # type: ignore[arg-type]
    assert abs(f.grad(**values)["w"] @ [1, 2] - wanted) > 1e-3


STABLE_MISTAKES = {
    "a sign": ("log", lambda x: -apply("softplus", x.args[0].args[0])),
    "a factor": ("log", lambda x: 0.5 * apply("softplus", -x.args[0].args[0])),
}


@pytest.mark.parametrize("name", STABLE_MISTAKES)
def test_wrong_stable_form_is_caught(name, monkeypatch):
    """By ``check``, which compares with the formula as it was written."""
    head, wrong = STABLE_MISTAKES[name]

    def rewrite(node: Node) -> Node | None:
        inside = node.args[0] if isinstance(node, graph.Call) else node
        if not isinstance(inside, graph.Call) or inside.op != "sigmoid":
            return None
        return wrong(node)

    step = Step("planted", (head,), STABLE, rewrite, (apply("log", u),))
    f = sg.compile("-mean(log(sigmoid(a*x)))", wrt=["a"])
    values = {"a": 0.7, "x": np.array([-800.0, -1.0, 0.5, 3.0])}
    assert min(f.check(values).values()) > 14
    monkeypatch.setitem(STAGES, "stabilise", (step, *STAGES["stabilise"]))
    f = sg.compile("-mean(log(sigmoid(a*x)))", wrt=["a"])
    assert min(f.check(values).values()) < 1


@dataclasses.dataclass
class _Plain:
    text: str
    values: dict[str, np.ndarray]
    wrt: list[str]


def plant_rule(monkeypatch, name: str, stage: str) -> None:
    left, right = WRONG_RULES[name]
    assert isinstance(left, Node)
    rule = Rule("planted", left, right, EXACT)
    monkeypatch.setitem(STAGES, stage, (rule, *STAGES[stage]))
