"""Optimizers: trajectories, compiled loops, stopping, messages."""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from fake_objectives import START, Fake, bowl, line, valley

from symgrad.optimize import (
    METHODS,
    Status,
    descent,
    loops,
    minimize_objective,
    schedules,
)
from symgrad.optimize.advice import largest_curvature
from symgrad.optimize.batches import Batches
from symgrad.optimize.rules import RULES

# ------------------------------------------------------------------------- trajectories


def reference(method, f, x, steps, lr, momentum=0.9, decay=0.0):
    """The update rules once more, as the papers write them."""
    x = x.copy()
    u, v = np.zeros_like(x), np.zeros_like(x)
    path = [x.copy()]
    for t in range(1, steps + 1):
        g = f(x)[1]
        rate = lr(t - 1) if callable(lr) else lr
        if method == "gd":
            x -= rate * g
        elif method in ("momentum", "nesterov"):
            u = momentum * u + g
            x -= rate * (u if method == "momentum" else g + momentum * u)
        elif method == "rmsprop":
            v = 0.99 * v + 0.01 * g**2
            x -= rate * g / (np.sqrt(v) + 1e-8)
        else:
            if method == "adamw":
                x *= 1.0 - rate * decay
            else:
                g = g + decay * x
            u = 0.9 * u + 0.1 * g
            v = 0.999 * v + 0.001 * g**2
            x -= rate * (u / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        path.append(x.copy())
    return np.array(path)


def trajectory(objective, x0, **options):
    path = [np.array(x0, dtype=float)]
    minimize_objective(objective, x0, callback=lambda r: path.append(r.x), **options)
    return np.array(path)


RATES = {"gd": 1e-3, "momentum": 3e-4, "nesterov": 3e-4}


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("native", [True, False])
def test_trajectory_is_the_papers(method, native):
    lr, decay = RATES.get(method, 0.02), 0.01 if method == "adamw" else 0.0
    expected = reference(method, valley().function, START, 60, lr, decay=decay)
    path = trajectory(valley(native), START, method=method, lr=lr, steps=60)
    np.testing.assert_allclose(path, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("method", RULES)
def test_trajectory_is_torchs(method):
    torch = pytest.importorskip("torch")
    lr = RATES.get(method, 0.02)
    p = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = {
        "gd": lambda: torch.optim.SGD([p], lr=lr),
        "momentum": lambda: torch.optim.SGD([p], lr=lr, momentum=0.9),
        "nesterov": lambda: torch.optim.SGD([p], lr=lr, momentum=0.9, nesterov=True),
        "adam": lambda: torch.optim.Adam([p], lr=lr),
        "adamw": lambda: torch.optim.AdamW([p], lr=lr),
        "rmsprop": lambda: torch.optim.RMSprop([p], lr=lr),
    }[method]()
    expected = [START]
    for _ in range(60):
        optimizer.zero_grad()
        loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
        loss.backward()
        optimizer.step()
        expected.append(p.detach().numpy().copy())
    path = trajectory(valley(), START, method=method, lr=lr, steps=60)
    np.testing.assert_allclose(path, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("method", ["adam", "adamw"])
def test_options_reach_the_rule(method):
    expected = reference(method, valley().function, START, 20, 0.02, decay=0.3)
    path = trajectory(
        valley(), START, method=method, lr=0.02, steps=20, weight_decay=0.3
    )
    np.testing.assert_allclose(path, expected, rtol=1e-12)


@pytest.mark.parametrize("method", RULES)
def test_slices_python_loop_and_callback_agree_exactly(method):
    """Bit for bit, wherever the loop runs and however it is cut."""
    arguments = {"method": method, "lr": RATES.get(method, 0.02), "steps": 500}
    whole = minimize_objective(valley(), START, **arguments)
    python = minimize_objective(valley(native=False), START, **arguments)
    single = minimize_objective(valley(), START, callback=lambda r: 0, **arguments)
    for other in (python, single):
        np.testing.assert_array_equal(whole.last, other.last)
        np.testing.assert_array_equal(whole.x, other.x)
        np.testing.assert_array_equal(whole.history, other.history)
    assert whole.nit == 500 and whole.history.shape == (501,)


@pytest.mark.parametrize(
    "lr", [schedules.ExponentialLR(1e-3, 0.99), lambda step: 1e-3 / (1 + step)]
)
def test_loop_uses_the_rate_of_each_step(lr):
    expected = reference("gd", valley().function, START, 50, lr)
    found = minimize_objective(valley(), START, method="gd", lr=lr, steps=50)
    np.testing.assert_allclose(found.last, expected[-1], rtol=1e-13)


# ---------------------------------------------------------------- stopping and messages


def test_converges_and_says_so():
    found = minimize_objective(bowl(), np.zeros(3), method="nesterov", lr=0.01)
    assert found.success and found.status == Status.CONVERGED
    assert "converged in" in found.message and "< tol 1e-08" in found.message
    assert np.max(np.abs(found.jac)) < 1e-8
    assert found.nit < 1000 and found.nfev == found.nit + 2
    np.testing.assert_allclose(found.params["b"], [1, 1], atol=1e-8)
    assert found.history.shape == (found.nit + 1,)
    assert found.history[0] == bowl()(np.zeros(3))


def test_converged_result_meets_tol():
    """The iterate that met ``tol`` is returned, not an equal loss before it."""
    rng = np.random.default_rng(0)
    for seed in range(20):
        objective = line(seed=seed)
        found = minimize_objective(
            objective, rng.standard_normal(3), method="nesterov", lr=0.1
        )
        assert found.success and np.max(np.abs(found.jac)) < 1e-8


def test_stationary_start():
    found = minimize_objective(bowl(), np.ones(3))
    assert found.success and found.nit == 0
    assert "the start is stationary" in found.message


def test_divergence_names_step_and_rate():
    found = minimize_objective(bowl(), np.zeros(3), method="gd", lr=1.0)
    assert not found.success and found.status == Status.DIVERGED
    assert "diverged at step" in found.message
    assert "lr=1 is above 2/L≈0.04 for this loss, try lr=0.02" in found.message
    assert found.fun == bowl()(np.zeros(3)) and np.all(found.x == 0.0)
    assert minimize_objective(
        bowl(), np.zeros(3), method="gd", lr=0.02, steps=2000
    ).success


@pytest.mark.parametrize(
    ("method", "factor"), [("momentum", 3.8), ("nesterov", 19 / 14)]
)
def test_stability_limits_of_the_rules(method, factor):
    """A rate a little below the limit of the row is stable, one above is not."""
    limit = factor / 50.0
    low = minimize_objective(bowl(), np.zeros(3), method=method, lr=0.98 * limit)
    high = minimize_objective(bowl(), np.zeros(3), method=method, lr=1.02 * limit)
    assert low.history[-1] < 1.0
    assert high.history[-1] > 1e3


@pytest.mark.parametrize("history", [True, False])
def test_growth_to_the_end_is_divergence(history):
    found = minimize_objective(
        bowl(), np.zeros(3), method="gd", lr=0.044, steps=30, history=history
    )
    assert found.status == Status.DIVERGED and found.nit == 30
    assert "diverged at step 30: loss grew from 30.5 to 1.41e+06" in found.message
    assert "lr=0.044 is above 2/L≈0.04 for this loss, try lr=0.02" in found.message
    assert np.all(found.x == 0.0)


def test_a_high_plateau_is_no_divergence():
    def noisy(x):  # jumps to and fro, far above the start
        return abs(x[0] - 1.0) ** 2 + 1e-3, np.array([1.0 if x[0] > 1.0 else -1.0])

    found = minimize_objective(
        Fake({"a": ()}, noisy), [0.99], method="gd", lr=1.0, steps=31
    )
    assert found.status == Status.STEP_LIMIT


def test_nan_on_the_way_keeps_the_best():
    def cliff(x):
        if x[0] > 3.0:
            return np.nan, np.array([np.nan])
        return -x[0], np.array([-1.0])

    found = minimize_objective(Fake({"a": ()}, cliff), [0.0], method="gd", lr=1.0)
    assert found.status == Status.DIVERGED and found.nit == 4
    assert "diverged at step 4: loss became nan" in found.message
    assert found.x[0] == 3.0 and found.fun == -3.0


@pytest.mark.parametrize("method", ["adam", "lbfgs"])
def test_nan_at_the_start_is_named(method):
    nowhere = Fake({"a": (), "b": ()}, lambda x: (np.nan, x))
    found = minimize_objective(nowhere, [1.0, 2.0], method=method)
    assert found.status == Status.BAD_START and found.nit == 0
    assert "the loss is nan at the initial parameters (a=1., b=2.)" in found.message
    corner = Fake({"a": (), "b": ()}, lambda x: (1.0, np.array([0.0, np.inf])))
    found = minimize_objective(corner, [1.0, 2.0], method=method)
    assert "the gradient for 'b' is not finite" in found.message


@pytest.mark.parametrize("steps", [20, 100])
def test_steps_that_overshoot_get_a_smaller_rate(steps):
    found = minimize_objective(
        bowl(), [1.0, 1.0, 0.0], method="gd", lr=0.039, steps=steps
    )
    assert found.status == Status.STEP_LIMIT
    advice = "lr=0.039 is close to 2/L≈0.04: the steps overshoot; try lr≈0.02 (1/L)"
    assert advice in found.message
    rising = minimize_objective(
        bowl(), [1.0, 1.0, 0.0], method="gd", lr=0.0402, steps=20
    )
    assert "the loss rose by" in rising.message
    assert "lr=0.0402 is above 2/L≈0.04 for this loss, try lr=0.02" in rising.message


def test_steps_along_a_valley_do_not_overshoot():
    """There a rate near the limit is the best one."""
    found = minimize_objective(bowl(), [0.0, 1.0, 1.0], method="gd", lr=0.039, steps=50)
    assert "try steps=500" in found.message


def test_short_runs_get_a_larger_rate():
    found = minimize_objective(bowl(), np.zeros(3), method="gd", lr=1e-4, steps=10)
    assert "did not converge in 10 steps" in found.message
    assert "try lr=0.02, or method='lbfgs'" in found.message
    slow = bowl(native=False)
    slow.seconds_per_call = 1.0  # an estimate would take longer than the run
    found = minimize_objective(slow, np.zeros(3), method="gd", lr=1e-4, steps=10)
    assert "try steps=100, or" in found.message and slow.calls < 20


def test_step_limit_advises():
    def run(**arguments):
        return minimize_objective(bowl(), np.zeros(3), method="gd", **arguments)

    short = run(lr=1e-5, steps=200)
    assert short.status == Status.STEP_LIMIT and not short.success
    assert "did not converge in 200 steps" in short.message
    assert "still falling by" in short.message and "try lr=0.02" in short.message
    long = run(lr=0.02, steps=50)
    assert "try steps=500, or method='lbfgs'" in long.message
    rough = run(lr=schedules.constant_schedule(0.04), steps=300, tol=0.0)
    assert "no longer falls" in rough.message
    assert run(lr=1e-5, steps=10, history=False).history is None


def test_zero_steps_evaluate_the_start():
    found = minimize_objective(bowl(), np.zeros(3), steps=0)
    assert found.nit == 0 and found.status == Status.STEP_LIMIT
    assert found.fun == pytest.approx(30.5)


def test_best_is_kept_when_the_loss_rises():
    """Adam overshoots: the best iterate is not the last."""
    found = minimize_objective(bowl(), np.full(3, 0.9), lr=0.3, steps=1)
    assert found.fun == found.history.min() < found.history[-1]
    assert bowl()(found.x) == found.fun


def test_curvature_by_power_iteration():
    assert largest_curvature(bowl(), np.zeros(3)) == pytest.approx(50.0, rel=0.02)


# ------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize("method", [*RULES, "lbfgs", "tnc", "slsqp", "trust-constr"])
def test_bounds_hold_and_the_projected_gradient_stops(method):
    bounds = {"a": (None, 0.5), "b": ([-1.0, 2.0], np.inf)}
    lr = {"lr": 0.01} if method in RULES else {}
    found = minimize_objective(
        bowl(), np.zeros(3), method=method, bounds=bounds, tol=1e-5, steps=3000, **lr
    )
    # AdamW pulls toward zero, RMSprop keeps jumping, a barrier stays inside: near is
    # what they reach.
    near = 0.02 if method in ("adamw", "rmsprop", "trust-constr") else 1e-4
    np.testing.assert_allclose(found.x, [0.5, 1.0, 2.0], atol=near)
    assert found.success or method in ("adamw", "rmsprop"), found.message


def test_all_forms_of_bounds_agree():
    from scipy.optimize import Bounds

    forms = (
        {"b": (0.0, [0.2, 0.3])},
        [(None, None), (0.0, 0.2), (0.0, 0.3)],
        Bounds([-np.inf, 0, 0], [np.inf, 0.2, 0.3]),
    )
    for form in forms:
        found = minimize_objective(bowl(), np.zeros(3), method="gd", bounds=form)
        np.testing.assert_allclose(found.x[1:], [0.2, 0.3])


# ------------------------------------------------------------------------- mini-batches


def test_batches_are_shuffled_epochs_with_a_short_last_one():
    seen = []

    def note(x, rows):
        seen.append(rows.copy())
        return 0.0, np.zeros(1)

    objective = Fake({"a": ()}, note, data=(np.arange(37),))
    minimize_objective(objective, [0.0], batch_size=10, steps=7, seed=1)
    seen = [rows for rows in seen if rows.size != 37]  # the others look at all rows
    assert [rows.size for rows in seen] == [10, 10, 10, 7] * 2
    generator = np.random.default_rng(1)
    for epoch in (seen[:4], seen[4:]):
        np.testing.assert_array_equal(np.concatenate(epoch), generator.permutation(37))


@pytest.mark.parametrize("rows", [1, 2, 3, 64, 65, 1000, 70_000])
def test_the_shuffle_is_numpys(rows):
    """Bit for bit, and the generator is left where NumPy leaves it."""
    objective = Fake({"a": ()}, lambda x, k: (0.0, x), data=(np.arange(rows),))
    batches = Batches(objective, rows, 5, loops.entries("gd"))
    generator = np.random.default_rng(5)
    for _ in range(3):
        assert batches(np.zeros(1), np.zeros(1)) == 0.0
        (taken,) = batches.whole.data
        np.testing.assert_array_equal(taken, generator.permutation(rows))


def test_batches_repeat_with_a_seed_and_reach_the_solution():
    def run(seed):
        lr = schedules.cosine_decay_schedule(0.1, 400)
        return minimize_objective(
            line(), np.zeros(3), lr=lr, batch_size=8, steps=400, seed=seed
        )

    one, two, other = run(3), run(3), run(4)
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.history, two.history)
    assert np.any(one.x != other.x)
    best = minimize_objective(line(), np.zeros(3), method="lbfgs")
    assert one.success and one.status == Status.FINISHED
    assert one.fun == pytest.approx(best.fun, rel=0.02)
    assert one.fun == line()(one.x)
    assert "made 400 steps on mini-batches (80 epochs)" in one.message


def test_one_batch_of_all_rows_is_full_batch():
    full = minimize_objective(line(), np.zeros(3), steps=50)
    batch = minimize_objective(line(), np.zeros(3), steps=50, batch_size=37)
    np.testing.assert_allclose(batch.last, full.last, rtol=1e-10)


# ------------------------------------------------ callbacks, Ctrl-C, progress, history


@pytest.mark.parametrize("method", ["adam", "lbfgs", "slsqp", "tnc"])
def test_callback_stops(method):
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result)
        if len(seen) == 3:
            raise StopIteration

    found = minimize_objective(valley(), START, method=method, callback=callback)
    assert found.status == Status.STOPPED and found.nit == 3
    assert "callback" in found.message
    assert [r.nit for r in seen] == [1, 2, 3]
    assert seen[1].fun == pytest.approx(valley()(seen[1].x))
    assert seen[0].params["p"].shape == (2,)
    assert found.history.shape == (4,)


def test_errors_of_the_callback_reach_the_user():
    def callback(result):
        raise RuntimeError("mine")

    for method in ("adam", "lbfgs"):
        with pytest.raises(RuntimeError, match="mine"):
            minimize_objective(valley(), START, method=method, callback=callback)


@pytest.fixture
def ctrl_c():
    """Ctrl-C a while from now, as the terminal sends it."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    if not hasattr(signal, "setitimer"):
        pytest.skip("no interval timers on this system")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("native", [True, False])
def test_ctrl_c_returns_the_best_so_far(ctrl_c, native):
    loops.entries("gd")
    objective = valley(native)
    started = time.perf_counter()
    ctrl_c(0.2)
    found = minimize_objective(
        objective, START, method="gd", lr=1e-6, steps=10**12, tol=0.0
    )
    assert 0.15 < time.perf_counter() - started < 2.0
    assert found.status == Status.INTERRUPTED and not found.success
    assert "interrupted at step" in found.message
    assert found.fun < objective(START) and found.nit > 100
    assert found.fun == objective(found.x)


def test_ctrl_c_inside_scipy(ctrl_c):
    def slow(x):
        time.sleep(0.01)
        return valley().function(x)

    ctrl_c(0.1)
    found = minimize_objective(Fake({"p": (2,)}, slow), START, method="lbfgs")
    assert found.status == Status.INTERRUPTED
    assert found.fun < valley()(START)


@pytest.mark.parametrize("method", ["gd", "lbfgs"])
def test_progress_bar(method, capsys):
    minimize_objective(bowl(), np.zeros(3), method=method, steps=100, progress=True)
    assert f"{method}:" in capsys.readouterr().err


def test_long_histories_thin_out(monkeypatch):
    whole = minimize_objective(bowl(), np.zeros(3), lr=1e-4, steps=5000)
    monkeypatch.setattr(descent, "HISTORY", 1024)
    found = minimize_objective(bowl(), np.zeros(3), lr=1e-4, steps=5000)
    assert found.history_stride == 8
    np.testing.assert_array_equal(found.history, whole.history[::8])


# -------------------------------------------------------------------------------- SciPy


@pytest.mark.parametrize("method", METHODS)
def test_scipy_methods_reach_the_minimum(method):
    tight = method not in ("tnc", "slsqp", "nelder-mead", "powell")
    tol = 1e-8 if tight else 1e-6
    found = minimize_objective(valley(), START, method=method, tol=tol)
    assert found.success, found.message
    np.testing.assert_allclose(found.x, [1, 1], atol=1e-5)
    if tight:
        assert np.max(np.abs(found.jac)) < 1e-6
    assert found.history.shape == (found.nit + 1,)
    assert found.nfev >= found.nit and found.method == method


def test_scipy_options_pass_through():
    found = minimize_objective(valley(), START, method="L-BFGS-B", maxcor=3, steps=5)
    assert found.status == Status.STEP_LIMIT and found.nit == 5
    assert "try steps=100" in found.message
    constraint = {"type": "eq", "fun": lambda x: x[0] + x[1] - 1.0}
    found = minimize_objective(valley(), START, method="slsqp", constraints=constraint)
    assert found.success and found.x.sum() == pytest.approx(1.0)


def coarse(x):
    """A bowl on a hill so high that small falls are lost; its gradient is never 0."""
    return 1e3 + float(x @ x), 2.0 * x + np.where(x >= 0.0, 1e-4, -1e-4)


@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "cg"])
def test_scipy_at_the_precision_of_the_loss_is_a_success(method):
    found = minimize_objective(Fake({"p": (2,)}, coarse), START, method=method)
    assert found.success and found.status == Status.CONVERGED, found.message
    assert "converged to the precision of float64" in found.message


def plateau(x):
    """Says to fall along one parameter, and does not: no step there helps."""
    return 1.0 + (x[1] - 1.0) ** 2, np.array([-5e-4, 2.0 * (x[1] - 1.0)])


@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "cg", "newton-cg", "slsqp"])
def test_scipy_on_a_flat_loss_with_a_large_gradient_is_no_success(method):
    objective = Fake({"p": (2,)}, plateau, hvp=lambda x, v: np.array([0.0, 2.0 * v[1]]))
    found = minimize_objective(objective, np.array([4e8, 0.0]), method=method)
    assert not found.success and found.status == Status.STALLED, found.message
    assert "try another start, bounds=..." in found.message


def test_scipy_restarts_once_with_fresh_memory(monkeypatch):
    from scipy import optimize

    starts, whole = [], optimize.minimize

    def gives_up_first(function, x, *, options, **arguments):
        if not starts:
            options = {**options, "maxiter": 4}
        starts.append(x.copy())
        return whole(function, x, options=options, **arguments)

    monkeypatch.setattr(optimize, "minimize", gives_up_first)
    found = minimize_objective(valley(), START, method="lbfgs")
    assert found.success and len(starts) == 2
    assert not np.array_equal(*starts)
    assert found.history.shape == (found.nit + 1,)


# ---------------------------------------------------------------------------- the house


def test_import_is_light():
    code = (
        "import sys, symgrad.optimize; "
        "print([m for m in ('numba', 'scipy', 'tqdm') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("size", [2, 21])
def test_updates_run_on_numbers_too(size):
    """A row's formulas on NumPy arrays are the definition, bit for bit."""
    rng = np.random.default_rng(size)
    for rule in RULES.values():
        x, options = rng.normal(size=size), rule.flat_options({})
        run = loops.Record()
        run["x"], run["state"] = x.copy(), rule.new_state(size)
        run["options"], run["size"], run["lr"] = options, size, 0.1
        scalars, slots = rule.scalars, (np.zeros(size),) * rule.slots
        for _ in range(3):
            run["gradient"] = g = rng.normal(size=size)
            scalars, coefficients = rule.begin(scalars, tuple(options), 0.1)
            x, slots = rule.update(x, g, slots, coefficients)
            loops.entries(rule.name).move(run.address)
        np.testing.assert_array_equal(x, run.kept["x"])
        state = np.concatenate([*slots, np.array(scalars)]) if slots else []
        np.testing.assert_array_equal(state, run.kept["state"])


def test_powers_of_beta_never_become_subnormal():
    """0.9**t would stay at the smallest subnormal number for ever, which is slow."""
    rule = RULES["adam"]
    run = loops.Record()
    run["x"], run["gradient"] = np.zeros(1), np.ones(1)
    run["state"], run["options"] = rule.new_state(1), rule.flat_options({})
    run["size"], run["lr"] = 1, 1e-6
    for _ in range(8000):
        loops.entries("adam").move(run.address)
    assert run.kept["state"][2] == 1e-300
    assert run.kept["x"][0] == pytest.approx(-8e-3)
