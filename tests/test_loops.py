"""Compiled loops around real losses: contained ones, and mini-batches."""

import math
import signal

import numpy as np
import pytest

import symgrad as sg
from symgrad.optimize import RULES, Status, descent, minimize_objective

NEURON = "mean((tanh(X @ w + b) - y)**2)"
TARGETS = "mean(logsumexp(X @ W, axis=1) - sum(T * (X @ W), axis=1))"


def table(rows, columns=2, seed=0, dtype=float):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns)).astype(dtype)
    return {"X": X, "y": rng.uniform(-0.9, 0.9, size=rows).astype(dtype)}


def bound(text, start, data, **options):
    objective = sg.compile(text, wrt=list(start), **options).bind(**data)
    return objective, objective.pack(start)


def neuron(rows, columns=2, **options):
    start = {"w": np.linspace(-0.3, 0.4, columns), "b": 0.1}
    return bound(NEURON, start, table(rows, columns), **options)


def softmax():
    rng = np.random.default_rng(3)
    data = {"X": rng.normal(size=(40, 3)), "T": np.eye(4)[rng.integers(0, 4, 40)]}
    return bound(TARGETS, {"W": np.zeros((3, 4))}, data)


def gather():
    rng = np.random.default_rng(4)
    data = {"i": rng.integers(0, 5, 50), "y": rng.normal(size=50)}
    return bound("mean((U[i] - y)**2 + 0.1*U[i]**4)", {"U": np.ones(5)}, data)


LOSSES = {
    "product": lambda: bound("(a*b - 1)**2 + a**2", {"a": 2.0, "b": 0.5}, {}),
    **{f"neuron of {n} rows": lambda n=n: neuron(n) for n in (1, 2, 3, 4, 8, 9, 100)},
    "wide neuron": lambda: neuron(1000, 5),
    "neuron in float32": lambda: neuron(3, dtype="float32"),
    "logsumexp of 2 rows": lambda: bound(
        "logsumexp(X @ w) + max(y * w[0])", {"w": np.ones(2)}, table(2)
    ),
    "product over rows": lambda: bound(
        "prod(1 + 0.1*(X @ w - y))", {"w": np.ones(2)}, table(2)
    ),
    "powers": lambda: bound(
        "mean((abs(X @ w) + 0.5)**(b*y) + lgamma(y + 3*b))",
        {"w": np.ones(2), "b": 2.0},
        table(3),
    ),
    "softmax": softmax,
    "gather": gather,
}


def descend(objective, x, contained, monkeypatch, **options):
    limit = 0.0 if contained else math.inf
    monkeypatch.setattr(descent, "CONTAIN_SECONDS", limit)
    monkeypatch.setattr(descent, "CONTAIN_PACE", math.inf)
    return minimize_objective(objective, x, **{"tol": 0.0, **options})


@pytest.mark.parametrize("method", RULES)
def test_a_contained_loss_gives_the_same_bits(method, monkeypatch):
    options = {"method": method, "lr": 1e-2, "steps": 300}
    objective, x = neuron(2)
    monkeypatch.setattr(descent, "SLICE_SECONDS", 1e-5)  # so that it changes on the way
    plain = descend(objective, x, False, monkeypatch, **options)
    inside = descend(objective, x, True, monkeypatch, **options)
    for field in ("x", "last", "history"):
        np.testing.assert_array_equal(inside[field], plain[field])
    assert inside.nit == plain.nit == 300


@pytest.mark.parametrize("name", LOSSES)
def test_contained_losses(name, monkeypatch):
    objective, x = LOSSES[name]()
    assert objective.inlined is not None
    bounds = [(-1.5, 1.5)] * objective.size
    options = {"lr": 1e-2, "steps": 100, "bounds": bounds}
    monkeypatch.setattr(descent, "SLICE_SECONDS", 1e-5)
    plain = descend(objective, x, False, monkeypatch, **options)
    inside = descend(objective, x, True, monkeypatch, **options)
    for field in ("x", "last", "history"):
        np.testing.assert_array_equal(inside[field], plain[field])


def test_a_contained_loop_is_compiled_once(monkeypatch):
    from symgrad.codegen import cpu
    from symgrad.optimize import loops

    loops._compiled.cache_clear()
    monkeypatch.setenv("SYMGRAD_CACHE", "off")
    texts, whole = [], cpu.compile_text
    monkeypatch.setattr(
        cpu, "compile_text", lambda t, p=False: texts.append(t) or whole(t, p)
    )
    monkeypatch.setattr(descent, "SLICE_SECONDS", 1e-5)
    objective, x = neuron(5)
    for _ in range(2):
        descend(objective, x, True, monkeypatch, steps=100)
    assert sum("@evaluate(ptr %local" in text for text in texts) == 1


def test_all_of_a_small_loss_is_optimised_in_the_loop_around_it():
    """Once per chunk: compiled in haste elsewhere, but here it runs in every step."""
    from symgrad.codegen.chunks import HASTY
    from symgrad.optimize.loop_text import loop_text

    objective, _ = neuron(2)
    assert HASTY in objective._gradient.kernel.llvm
    text = loop_text(RULES["gd"], objective.inlined)
    assert "chunks_0" in text and "noinline" not in text and "optnone" not in text


def test_short_runs_and_callbacks_do_without():
    from symgrad.optimize import loops

    objective, x = neuron(2)
    minimize_objective(objective, x, steps=1000)
    minimize_objective(objective, x, steps=10**5, tol=0.1, callback=lambda r: None)
    assert loops.known(objective, "adam") is None


def test_diverging_inside_keeps_the_best(monkeypatch):
    objective, x = bound("a**4 + a", {"a": 1.0}, {})
    monkeypatch.setattr(descent, "SLICE_SECONDS", 1e-5)
    for contained in (False, True):
        found = descend(objective, x, contained, monkeypatch, method="gd", lr=0.8)
        assert found.status == Status.DIVERGED and found.fun <= 2.0


@pytest.fixture
def ctrl_c():
    if not hasattr(signal, "setitimer"):
        pytest.skip("no interval timers on this system")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("batch_size", [None, 8])
def test_ctrl_c_keeps_the_best(batch_size, ctrl_c):
    objective, x = neuron(50)
    minimize_objective(objective, x, steps=10, batch_size=batch_size)
    ctrl_c(0.3)
    found = minimize_objective(
        objective, x, steps=10**11, tol=0.0, lr=1e-5, batch_size=batch_size, seed=1,
        method="gd",
    )  # fmt: skip
    assert found.status == Status.INTERRUPTED and found.nit > 1000
    assert found.fun == objective(found.x) <= objective(x)


@pytest.mark.parametrize("batch_size", [None, 8])
def test_progress_reaches_the_end(batch_size, monkeypatch, capsys):
    objective, x = neuron(50)
    monkeypatch.setattr(descent, "SLICE_SECONDS", 1e-4)
    found = descend(
        objective, x, True, monkeypatch, steps=500, batch_size=batch_size, progress=True
    )
    assert found.nit == 500 and "500/500" in capsys.readouterr().err


# ------------------------------------------------------------------------- mini-batches


def by_hand(objective, x, rule, rows, batch_size, steps, lr, seed):
    """The batches of ``Objective.batch``, and the rule on NumPy arrays."""
    generator, order, position = np.random.default_rng(seed), None, 0
    options = rule.flat_options({})
    scalars, slots = rule.scalars, (np.zeros(x.size),) * rule.slots
    losses, gradient = [], None
    for step in range(steps + 1):
        if step:
            scalars, coefficients = rule.begin(scalars, tuple(options), lr)
            x, slots = rule.update(x, gradient, slots, coefficients)
        if position == 0:
            order = generator.permutation(rows)
        batch = objective.batch(order[position : position + batch_size])
        loss, gradient = batch.value_and_grad(x)
        losses.append(loss)
        position = (position + batch_size) * (position + batch_size < rows)
    return x, np.array(losses)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("batch_size", [1, 16, 33, 100])
@pytest.mark.parametrize("method", ["gd", "adam"])
def test_batches_are_those_of_numpy(method, batch_size, native, monkeypatch):
    """Bit for bit, in the compiled loop and with losses that Python calls."""
    objective, x = neuron(100, 3)
    monkeypatch.setattr(descent, "NATIVE_SECONDS", 1e-4 if native else -1.0)
    found = minimize_objective(
        objective, x, method=method, batch_size=batch_size, steps=40, lr=0.02, seed=9
    )
    last, losses = by_hand(
        objective, x, RULES[method], 100, batch_size, 40, 0.02, seed=9
    )
    np.testing.assert_array_equal(found.last, last)
    np.testing.assert_array_equal(found.history, losses)
    assert found.nit == 40


@pytest.mark.parametrize("kind", ["columns", "Fortran", "every second", "bytes"])
def test_batches_of_data_in_any_layout(kind):
    data = table(60, 3)
    objective, x = bound(NEURON, {"w": np.zeros(3), "b": 0.0}, data)
    both = np.column_stack([data["X"], data["y"]])
    other = {
        "columns": {"X": both[:, :3], "y": both[:, 3]},
        "Fortran": {**data, "X": np.asfortranarray(data["X"])},
        "every second": {"X": np.repeat(data["X"], 2, 0)[::2], "y": data["y"]},
        "bytes": {**data, "y": data["y"].astype(np.float32)},
    }[kind]
    same, _ = bound(NEURON, {"w": np.zeros(3), "b": 0.0}, other)
    options = {"batch_size": 8, "steps": 30, "seed": 2}
    one = minimize_objective(objective, x, **options)
    two = minimize_objective(same, x, **options)
    np.testing.assert_allclose(
        two.last, one.last, rtol=1e-6 if kind == "bytes" else 1e-12
    )


def test_batches_leave_the_data_alone_and_shared_arrays_whole():
    rng = np.random.default_rng(1)
    data = {"i": rng.integers(0, 4, 30), "y": rng.normal(size=30), "c": np.arange(4.0)}
    before = {name: array.copy() for name, array in data.items()}
    text = "mean((U[i]*c[i] - y)**2)"
    objective, x = bound(text, {"U": np.ones(4)}, data)
    found = minimize_objective(objective, x, batch_size=7, steps=25, seed=3, lr=0.01)
    last, _ = by_hand(objective, x, RULES["adam"], 30, 7, 25, 0.01, seed=3)
    np.testing.assert_array_equal(found.last, last)
    for name, array in before.items():
        np.testing.assert_array_equal(data[name], array)


def test_a_callback_sees_every_batch():
    objective, x = neuron(20)
    seen = []
    found = minimize_objective(
        objective,
        x,
        batch_size=6,
        steps=9,
        seed=1,
        callback=lambda r: seen.append(r.fun),
    )
    np.testing.assert_array_equal(seen, found.history[1:])


@pytest.mark.parametrize("method", RULES)
def test_batches_against_torch(method):
    torch = pytest.importorskip("torch")
    data, lr = table(50), 0.01
    p = torch.tensor([-0.3, 0.4, 0.1], dtype=torch.float64, requires_grad=True)
    optimizer = {
        "gd": lambda: torch.optim.SGD([p], lr=lr),
        "momentum": lambda: torch.optim.SGD([p], lr=lr, momentum=0.9),
        "nesterov": lambda: torch.optim.SGD([p], lr=lr, momentum=0.9, nesterov=True),
        "adam": lambda: torch.optim.Adam([p], lr=lr),
        "adamw": lambda: torch.optim.AdamW([p], lr=lr),
        "rmsprop": lambda: torch.optim.RMSprop([p], lr=lr),
    }[method]()
    X, y = torch.from_numpy(data["X"]), torch.from_numpy(data["y"])
    generator, losses = np.random.default_rng(4), []
    for _ in range(10):
        order = generator.permutation(50)
        for first in range(0, 50, 16):
            rows = torch.from_numpy(order[first : first + 16])
            optimizer.zero_grad()
            loss = ((torch.tanh(X[rows] @ p[:2] + p[2]) - y[rows]) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    objective, x = neuron(50)
    found = minimize_objective(
        objective, x, method=method, lr=lr, batch_size=16, steps=40, seed=4
    )
    np.testing.assert_allclose(found.history[:-1], losses, rtol=1e-10)
    np.testing.assert_allclose(found.last, p.detach().numpy(), rtol=1e-10, atol=1e-14)
