"""The examples run, and their numbers are those of formulas written by hand.

Every gradient is compared with one derived on paper, and with PyTorch's where that is
installed.
"""

from __future__ import annotations

import functools
import importlib.util
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.optimize

import symgrad as sg

EXAMPLES = Path(__file__).parents[1] / "examples"
PATHS = sorted(EXAMPLES.glob("*.py"))
MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    """What is printed does not depend on where the tests run."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "100")


@functools.cache
def example(name: str) -> Any:
    """The names that an example defines; it is read once."""
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / f"{name}.py")))


def random(seed: int, **shapes: tuple[int, ...]) -> dict[str, Any]:
    """Normal numbers of small size, by name."""
    rng = np.random.default_rng(seed)
    return {name: 0.5 * rng.normal(size=shape) for name, shape in shapes.items()}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# --- gradients by hand, and the same losses for PyTorch -------------------------------


def linear(p, d):
    r = d["X"] @ p["w"] + p["b"] - d["y"]
    return {"w": 2 * d["X"].T @ r / len(r), "b": 2 * r.mean()}


def linear_torch(t, p, d):
    return ((d["X"] @ p["w"] + p["b"] - d["y"]) ** 2).mean()


def logistic(p, d):
    wrong = sigmoid(-d["y"] * (d["X"] @ p["w"] + p["b"]))
    by_z = -d["y"] * wrong / len(wrong)
    return {"w": d["X"].T @ by_z + 2e-4 * p["w"], "b": by_z.sum()}


def logistic_torch(t, p, d):
    z = d["X"] @ p["w"] + p["b"]
    loss = t.nn.functional.softplus(-d["y"] * z).mean()
    return loss + 1e-4 * (p["w"] ** 2).sum()


def softmax(p, d):
    scores = np.exp(d["X"] @ p["W"] + p["b"])
    by_p = (scores / scores.sum(axis=1, keepdims=True) - d["Y"]) / len(d["X"])
    return {"W": d["X"].T @ by_p + 2e-3 * p["W"], "b": by_p.sum(axis=0)}


def softmax_torch(t, p, d):
    scores = d["X"] @ p["W"] + p["b"]
    cross = t.nn.functional.cross_entropy(scores, d["Y"])
    return cross + 1e-3 * (p["W"] ** 2).sum()


def poisson(p, d):
    excess = (np.exp(d["X"] @ p["w"] + p["b"]) - d["y"]) / len(d["y"])
    return {"w": d["X"].T @ excess, "b": excess.sum()}


def poisson_torch(t, p, d):
    eta = d["X"] @ p["w"] + p["b"]
    return t.nn.functional.poisson_nll_loss(eta, d["y"], log_input=True)


def robust(p, d):
    r = (p["a"] + p["b"] * d["x"] - d["y"]) / d["s"]
    by_line = 2 * r / (1 + r**2) / d["s"] / r.size
    return {"a": by_line.sum(), "b": (by_line * d["x"]).sum()}


def robust_torch(t, p, d):
    return t.log1p(((p["a"] + p["b"] * d["x"] - d["y"]) / d["s"]) ** 2).mean()


def moons(p, d):
    h = np.tanh(d["X"] @ p["W1"] + p["b1"])
    z = h @ p["w2"] + p["b2"]
    by_z = -d["y"] * sigmoid(-d["y"] * z) / len(z)
    by_inner = by_z[:, None] * p["w2"] * (1 - h**2)
    return {
        "W1": d["X"].T @ by_inner + 2e-4 * p["W1"],
        "b1": by_inner.sum(axis=0),
        "w2": h.T @ by_z + 2e-4 * p["w2"],
        "b2": by_z.sum(),
    }


def moons_torch(t, p, d):
    z = t.tanh(d["X"] @ p["W1"] + p["b1"]) @ p["w2"] + p["b2"]
    ridge = (p["W1"] ** 2).sum() + (p["w2"] ** 2).sum()
    return t.nn.functional.softplus(-d["y"] * z).mean() + 1e-4 * ridge


def factors(p, d):
    i, j = d["i"], d["j"]
    by_error = 2 * ((p["U"][i] * p["V"][j]).sum(axis=1) - d["r"]) / len(d["r"])
    U, V = (2e-3 * p[name] / p[name].size for name in "UV")
    np.add.at(U, i, by_error[:, None] * p["V"][j])
    np.add.at(V, j, by_error[:, None] * p["U"][i])
    return {"U": U, "V": V}


def factors_torch(t, p, d):
    error = (p["U"][d["i"]] * p["V"][d["j"]]).sum(dim=1) - d["r"]
    return (error**2).mean() + 1e-3 * ((p["U"] ** 2).mean() + (p["V"] ** 2).mean())


def waves(xp, t):
    return [t**0, t, t**2, xp.sin(2 * np.pi * t), xp.cos(2 * np.pi * t)]


def co2(p, d):
    columns = waves(np, d["t"])
    r = sum(p[name] * c for name, c in zip("abcsk", columns, strict=True)) - d["co2"]
    return {name: 2 * np.mean(r * c) for name, c in zip("abcsk", columns, strict=True)}


def co2_torch(t, p, d):
    pairs = zip("abcsk", waves(t, d["t"]), strict=True)
    return ((sum(p[name] * column for name, column in pairs) - d["co2"]) ** 2).mean()


def mixture(p, d):
    z = (d["x"][:, None] - p["m"]) * np.exp(-p["s"])
    weights = np.exp(p["a"]) / np.exp(p["a"]).sum()
    joint = weights * np.exp(-p["s"] - 0.5 * z**2)
    belongs = joint / joint.sum(axis=1, keepdims=True)  # of each number, to each group
    return {
        "a": weights - belongs.mean(axis=0),
        "m": -(belongs * z * np.exp(-p["s"])).mean(axis=0),
        "s": -(belongs * (z**2 - 1)).mean(axis=0),
    }


def mixture_torch(t, p, d):
    groups = t.distributions.Normal(p["m"], t.exp(p["s"]))
    logp = t.log_softmax(p["a"], 0) + groups.log_prob(d["x"][:, None])
    return -t.logsumexp(logp, 1).mean()


def rosenbrock(p, d):
    return {"x": scipy.optimize.rosen_der(p["x"])}


def rosenbrock_torch(t, p, d):
    x = p["x"]
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


class Case(NamedTuple):
    """An example, the shapes of its parameters, and both of its references."""

    name: str
    shapes: dict[str, tuple[int, ...]]
    by_hand: Any
    in_torch: Any
    loss: str = "LOSS"


CASES = [
    Case("linear", {"w": (3,), "b": ()}, linear, linear_torch),
    Case("logistic", {"w": (3,), "b": ()}, logistic, logistic_torch),
    Case("softmax", {"W": (2, 3), "b": (3,)}, softmax, softmax_torch),
    Case("poisson", {"w": (2,), "b": ()}, poisson, poisson_torch),
    Case("robust", {"a": (), "b": ()}, robust, robust_torch, "CAUCHY"),
    Case(
        "moons",
        {"W1": (2, 16), "b1": (16,), "w2": (16,), "b2": ()},
        moons,
        moons_torch,
    ),
    Case("factors", {"U": (60, 3), "V": (40, 3)}, factors, factors_torch),
    Case("co2", dict.fromkeys("abcsk", ()), co2, co2_torch),
    Case("mixture", dict.fromkeys("ams", (3,)), mixture, mixture_torch),
    Case("rosenbrock", {"x": (10,)}, rosenbrock, rosenbrock_torch),
]


def values_of(case):
    """Parameters at a random point, and the example's own data."""
    found = example(case.name)
    if case.name == "factors":
        data = found.ratings()[0]
    else:
        data = {} if case.name == "rosenbrock" else found.data()
    return random(len(case.name), **case.shapes), data


def torch_gradient(loss, params, data):
    """Loss and gradients by PyTorch, as NumPy numbers."""
    torch = pytest.importorskip("torch")
    p = {n: torch.tensor(np.asarray(v), requires_grad=True) for n, v in params.items()}
    d = {n: torch.tensor(np.asarray(v)) for n, v in data.items()}
    value = loss(torch, p, d)
    value.backward()
    return value.item(), {name: v.grad.numpy() for name, v in p.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert np.shape(found[name]) == np.shape(gradient)
        np.testing.assert_allclose(found[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradient_by_hand(case):
    params, data = values_of(case)
    f = sg.compile(getattr(example(case.name), case.loss), wrt=list(params))
    assert_same(f.grad(**params, **data), case.by_hand(params, data))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradient_by_torch(case):
    params, data = values_of(case)
    value, expected = torch_gradient(case.in_torch, params, data)
    f = sg.compile(getattr(example(case.name), case.loss), wrt=list(params))
    loss, gradient = f.value_and_grad(**params, **data)
    np.testing.assert_allclose(loss, value, rtol=1e-12)
    assert_same(gradient, expected)


# --- the scripts ----------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_runs(path, capsys, monkeypatch, tmp_path):
    source, arguments, pictures = path.read_text(encoding="utf-8"), [], []
    if '"--plot"' in source and (MATPLOTLIB or "matplotlib" not in source):
        pictures = ["picture.png" if "matplotlib" in source else "picture.svg"]
        arguments = ["--plot", *pictures]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == pictures
    for picture in pictures:
        assert (tmp_path / picture).stat().st_size > 4_000


def test_are_short_and_listed():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in PATHS:
        assert f"[{path.name}]({path.name})" in listed
        assert len(path.read_text(encoding="utf-8").splitlines()) < 80, path.name


# --- the lesson -----------------------------------------------------------------------


def test_lesson_forward_and_backward(capsys):
    script = example("lesson")
    values = script.forward(script.VALUES)
    a, b, c, f = script.VALUES.values()
    assert values == script.VALUES | {"e": a * b, "d": a * b + c, "L": (a * b + c) * f}
    formulas = {name: str(formula) for name, formula in script.backward().items()}
    expected = zip("Ldfecab", ("1", "f", "d", "f", "f", "b*f", "a*f"), strict=True)
    assert formulas == dict(expected)
    script.main()
    tree = capsys.readouterr().out.split("\n\n")[2].splitlines()[1:]
    numbers = [[float(cell) for cell in line.split()[-2:]] for line in tree]
    d, e = values["d"], values["e"]
    by_node = [(d * f, 1), (d, f), (e, f), (a, f * b), (b, f * a), (c, f), (f, d)]
    assert numbers == [list(pair) for pair in by_node]


def test_lesson_draws_every_node(tmp_path, capsys):
    from xml.etree import ElementTree

    script = example("lesson")
    script.main(tmp_path / "lesson.svg")
    capsys.readouterr()
    texts = [
        "".join(element.itertext())
        for element in ElementTree.parse(tmp_path / "lesson.svg").iter()
        if element.tag.endswith("text")
    ]
    for title in (*"abcf", "e = a·b", "d = e + c", "L = d·f"):
        assert texts.count(title) == 1
    for number in ("-8", "6", "-4", "10"):
        assert number in texts


def test_lesson_is_what_torch_finds():
    script = example("lesson")
    found = sg.compile(script.LOSS, wrt=list("abcf")).value_and_grad(**script.VALUES)
    loss, gradient = torch_gradient(
        lambda t, p, d: (p["a"] * p["b"] + p["c"]) * p["f"], script.VALUES, {}
    )
    assert found[0] == loss
    assert_same(found[1], gradient)


def neuron_by_hand(w1, w2, b, x1, x2, y):
    p = np.tanh(w1 * x1 + w2 * x2 + b)
    by_b = 2 * (p - y) * (1 - p**2)
    return {"w1": by_b * x1, "w2": by_b * x2, "b": by_b}


def neuron_torch(t, p, d):
    z = p["w1"] * d["x1"] + p["w2"] * d["x2"] + p["b"]
    return (t.tanh(z) - d["y"]) ** 2


def test_neuron_of_one_sample():
    import sympy

    script = example("neuron")
    data = {"x1": 0.7, "x2": -1.3, "y": 0.4}
    f = sg.compile(script.ONE, wrt=list(script.START))
    found = f.grad(**script.START, **data)
    assert_same(found, neuron_by_hand(**script.START, **data))
    w1, w2, b, x1, x2, y = sympy.symbols("w1 w2 b x1 x2 y")
    p = sympy.tanh(w1 * x1 + w2 * x2 + b)
    by_b = 2 * (p - y) * (1 - p**2)
    for name, factor in (("b", 1), ("w1", x1), ("w2", x2)):
        assert sympy.expand(f.gradient[name].doit() - by_b * factor) == 0


def test_neuron_is_what_torch_finds():
    script = example("neuron")
    data = {"x1": 0.7, "x2": -1.3, "y": 0.4}
    found = sg.compile(script.ONE, wrt=list(script.START)).grad(**script.START, **data)
    assert_same(found, torch_gradient(neuron_torch, script.START, data)[1])


def test_neuron_gradients_add_over_samples():
    script = example("neuron")
    X, y = script.samples(40)
    start = {"w": np.array([0.5, -0.25]), "b": 0.1}
    rows = [
        neuron_by_hand(*script.START.values(), *x, t) for x, t in zip(X, y, strict=True)
    ]
    total = {name: sum(row[name] for row in rows) for name in ("w1", "w2", "b")}
    by_hand = {"w": np.array([total["w1"], total["w2"]]), "b": total["b"]}
    assert_same(sg.compile(script.ALL, wrt=["w", "b"]).grad(**start, X=X, y=y), by_hand)

    f = sg.compile(script.MEAN, wrt=["w", "b"])
    batches = [
        f.grad(**start, X=X[part], y=y[part]) for part in np.split(np.arange(40), 4)
    ]
    mean = {name: np.mean([g[name] for g in batches], axis=0) for name in start}
    assert_same(mean, {name: g / 40 for name, g in by_hand.items()})


def test_neuron_of_all_samples_is_what_torch_finds():
    script = example("neuron")
    X, y = script.samples(40)
    start = {"w": np.array([0.5, -0.25]), "b": 0.1}
    for loss, total in ((script.ALL, "sum"), (script.MEAN, "mean")):
        _, expected = torch_gradient(
            lambda t, p, d, total=total: getattr(
                (t.tanh(d["X"] @ p["w"] + p["b"]) - d["y"]) ** 2, total
            )(),
            start,
            {"X": X, "y": y},
        )
        found = sg.compile(loss, wrt=["w", "b"]).grad(**start, X=X, y=y)
        assert_same(found, expected)


def test_descent_follows_its_formula():
    script = example("descent")
    messages = {}
    for name, lr in script.RATES.items():
        path, result = script.descend(lr)
        steps = np.arange(len(path))
        expected = 2 + (script.START - 2) * (1 - 2 * lr) ** steps
        np.testing.assert_allclose(path, expected, rtol=1e-9, atol=1e-12)
        loss = [np.mean((w * script.DATA["x"] - script.DATA["y"]) ** 2) for w in path]
        np.testing.assert_allclose(result.history[: len(loss)], loss, rtol=1e-9)
        messages[name] = result.message
    assert "try lr=0.5" in messages["slow"]
    assert "converged" in messages["converging"]
    assert "did not converge" in messages["oscillating"]
    assert "the steps overshoot; try lr≈0.5" in messages["oscillating"]
    assert "above 2/L≈1" in messages["diverging"]
    assert "try lr=0.5" in messages["diverging"]


def test_operations():
    script = example("operations")
    T2, T3, T4 = script.VALUES.values()
    f = sg.compile(script.T1, wrt=list(script.VALUES))
    inside = T2 * T3 + T4
    by_hand = {"T2": T3 / inside, "T3": T2 / inside, "T4": 1 / inside}
    assert_same(f.grad(**script.VALUES), by_hand)
    assert {name: str(g) for name, g in f.gradient.items()} == {
        "T2": "T3/(T2*T3 + T4)",
        "T3": "T2/(T2*T3 + T4)",
        "T4": "1/(T2*T3 + T4)",
    }
    assert script.operations(f.expr) == ["log", "Add", "Mul"]


def test_operations_are_those_of_the_tape():
    torch = pytest.importorskip("torch")
    script = example("operations")
    p = {n: torch.tensor(v, requires_grad=True) for n, v in script.VALUES.items()}
    step, tape = torch.log(p["T2"] * p["T3"] + p["T4"]).grad_fn, []
    while step is not None and "Accumulate" not in step.name():
        tape.append(step.name().removesuffix("Backward0"))
        step = step.next_functions[0][0]
    assert tape == ["Log", "Add", "Mul"]  # as in test_operations


# --- what the fits find ---------------------------------------------------------------


def test_linear_is_least_squares():
    script = example("linear")
    X, y = script.data().values()
    exact = np.linalg.lstsq(np.c_[X, np.ones(len(X))], y, rcond=None)[0]
    for options in ({"method": "gd", "lr": 0.3}, {"method": "lbfgs"}):
        found = script.fit(**options)
        np.testing.assert_allclose([*found["w"], found["b"]], exact, atol=1e-7)


def test_co2_is_least_squares():
    script = example("co2")
    t, ppm = script.data().values()
    exact = np.linalg.lstsq(np.stack(waves(np, t), axis=1), ppm, rcond=None)[0]
    params = script.fit().params
    np.testing.assert_allclose([params[n] for n in "abcsk"], exact, rtol=1e-6)


def test_poisson_balances_and_knows_its_errors():
    script = example("poisson")
    params = script.fit().params
    X, y = script.data().values()
    mean = np.exp(X @ params["w"] + params["b"])
    design = np.c_[X, np.ones(len(X))]
    np.testing.assert_allclose(design.T @ (mean - y), 0, atol=1e-5)
    fisher = np.linalg.inv(design.T @ (mean[:, None] * design))
    errors = script.standard_errors(params)
    np.testing.assert_allclose(errors, np.sqrt(np.diag(fisher)), rtol=1e-9)
    found = np.append(params["w"], params["b"])
    assert np.all(np.abs(found - [*script.TRUTH, 1.0]) < 4 * errors)


def test_robust_resists():
    script = example("robust")
    squares, cauchy = script.fit(script.SQUARES), script.fit(script.CAUCHY)
    assert abs(squares["a"] - script.TRUTH["a"]) > 0.5
    assert abs(cauchy["a"] - script.TRUTH["a"]) < 0.15
    assert abs(cauchy["b"] - script.TRUTH["b"]) < 0.03


def test_classifiers_learn():
    script = example("logistic")
    np.testing.assert_allclose(script.fit().params["w"], script.TRUTH, atol=0.15)
    script = example("moons")
    p, d = script.fit().params, script.data()
    z = np.tanh(d["X"] @ p["W1"] + p["b1"]) @ p["w2"] + p["b2"]
    assert np.mean(np.sign(z) == d["y"]) > 0.98
    script = example("softmax")
    p, d = script.fit().params, script.data()
    guess = (d["X"] @ p["W"] + p["b"]).argmax(axis=1)
    assert np.mean(guess == d["Y"].argmax(axis=1)) > 0.94


def test_factors_guess_unknown_ratings():
    script = example("factors")
    params = script.fit().params
    unknown = script.ratings()[1]
    guess = (params["U"][unknown["i"]] * params["V"][unknown["j"]]).sum(axis=1)
    assert np.sqrt(np.mean((guess - unknown["r"]) ** 2)) < 0.1


def test_mixture_finds_the_groups():
    params = example("mixture").fit().params
    np.testing.assert_allclose(np.sort(params["m"]), [-3, 0, 4], atol=0.15)
