"""Optimizers: schedules against their formulas, and bad arguments."""

import numpy as np
import pytest
from fake_objectives import START, bowl, line, valley

from symgrad.errors import ArgumentError, DataError, OptionError
from symgrad.optimize import minimize_objective, schedules

# --------------------------------------------------------------------------- schedules


def test_schedules_against_their_formulas():
    t = np.arange(12)
    cosine = schedules.cosine_decay_schedule(2.0, 10, alpha=0.1)
    assert cosine(0) == 2.0
    assert cosine(5) == pytest.approx(2.0 * (0.9 * 0.5 + 0.1))
    assert cosine(11) == pytest.approx(0.2)
    np.testing.assert_allclose(cosine(t), [cosine(int(k)) for k in t])
    assert schedules.exponential_decay(1.0, 2, 0.5, staircase=True)(5) == 0.25
    assert schedules.exponential_decay(1.0, 1, 0.5, end_value=0.1)(9) == 0.1
    warm = schedules.warmup_cosine_decay_schedule(0.0, 1.0, 4, 8)
    np.testing.assert_allclose(warm([0, 2, 4, 6, 8]), [0, 0.5, 1, 0.5, 0], atol=1e-15)
    steps = schedules.piecewise_constant_schedule(1.0, {3: 0.1})
    np.testing.assert_allclose(steps([3, 4]), [1.0, 0.1])
    np.testing.assert_array_equal(schedules.constant_schedule(0.5)(t), np.full(12, 0.5))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("StepLR", {"step_size": 3, "gamma": 0.5}),
        ("MultiStepLR", {"milestones": [2, 5], "gamma": 0.5}),
        ("ExponentialLR", {"gamma": 0.9}),
        ("CosineAnnealingLR", {"T_max": 8, "eta_min": 0.01}),
        ("LinearLR", {"start_factor": 0.25, "total_iters": 4}),
        ("ConstantLR", {"factor": 0.5, "total_iters": 4}),
    ],
)
def test_schedules_are_torchs(name, arguments):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.8)
    theirs = getattr(torch.optim.lr_scheduler, name)(optimizer, **arguments)
    expected = []
    for _ in range(8):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = getattr(schedules, name)(0.8, **arguments)(np.arange(8))
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


# ---------------------------------------------------------------------------- bad input


def test_bad_rate_names_the_step():
    with pytest.raises(OptionError, match=r"lr\(3\) is -1"):
        minimize_objective(valley(), START, lr=lambda step: 1e-3 if step < 3 else -1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "admm"}, OptionError, "did you mean 'adam'"),
        ({"method": 3}, OptionError, "unknown method 3"),
        ({"lr": -1.0}, OptionError, "lr is -1.0: a learning rate must be positive"),
        ({"lr": np.nan}, OptionError, "must be positive"),
        ({"lr": "fast"}, OptionError, "give a number, or a callable"),
        ({"steps": 1.5}, OptionError, "steps is 1.5: it must be an integer >= 0"),
        ({"steps": -1}, OptionError, "integer >= 0"),
        ({"tol": -1.0}, OptionError, "tol is -1.0"),
        ({"tol": None}, OptionError, "tol is None"),
        ({"batch_size": 0}, OptionError, "batch_size is 0"),
        ({"batch_size": 38}, OptionError, "the data have 37 rows"),
        ({"seed": "x"}, OptionError, "seed is 'x'"),
        ({"callback": 3}, ArgumentError, "callback is 3"),
        ({"beta": (0.9, 0.9)}, OptionError, "did you mean 'betas'"),
        ({"betas": 0.9}, OptionError, "it must be 2 numbers"),
        ({"betas": (0.9, 1.0)}, OptionError, r"it must be in \[0, 1\)"),
        ({"method": "gd", "eps": 1.0}, OptionError, "has no option 'eps'"),
        (
            {"method": "lbfgs", "maxiter": 9},
            OptionError,
            "takes no maxiter: give steps",
        ),
        ({"method": "cg", "gtol": 1e-3}, OptionError, "takes no gtol: give tol=..."),
        ({"method": "bfgs", "jac": None}, OptionError, "the gradient is compiled"),
        ({"method": "slsqp", "args": (1,)}, OptionError, "give data="),
        ({"method": "lbfgs", "maxcorr": 5}, OptionError, "did you mean 'maxcor'"),
        ({"method": "lbfgs", "return_all": True}, OptionError, "maxcor, maxfun, maxls"),
        ({"method": "lbfgs", "lr": 0.1}, OptionError, "takes no lr"),
        ({"method": "lbfgs", "batch_size": 4}, OptionError, "takes no batch_size"),
        ({"method": "bfgs", "bounds": {"b": (0, 1)}}, OptionError, "takes no bounds"),
        ({"bounds": {"W": (0, 1)}}, OptionError, "did you mean 'w'"),
        (
            {"bounds": {"w": ([0, 0, 0], 1)}},
            OptionError,
            r"is \[0, 0, 0\], the parameter has shape",
        ),
        ({"bounds": {"w": 3}}, OptionError, "give a pair"),
        (
            {"bounds": {"w": (1, 0)}},
            OptionError,
            "of w: the lower bound exceeds",
        ),
        ({"bounds": [(0, 1)]}, OptionError, "1 pairs for 3 parameters"),
        ({"bounds": 3}, ArgumentError, "give a dict"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        minimize_objective(line(), np.zeros(3), **arguments)


@pytest.mark.parametrize(
    ("x0", "message"),
    [
        (np.zeros(2), r"shape \(2,\), the parameters make a vector of shape \(3,\)"),
        (["a", "b", "c"], "not a vector of real numbers"),
        ([0.0, np.nan, 0.0], "initial value of w has NaN"),
    ],
)
def test_bad_starts_are_named(x0, message):
    with pytest.raises(DataError, match=message):
        minimize_objective(line(), x0)


def test_start_by_name_is_not_changed():
    w = np.zeros(2)
    found = minimize_objective(line(), {"w": w, "b": 0.0}, steps=5)
    assert np.all(w == 0.0) and found.nit == 5


def test_batches_need_rows():
    with pytest.raises(OptionError, match="no data array is led by a row dimension"):
        minimize_objective(bowl(), np.zeros(3), batch_size=4)


def test_batches_of_too_many_rows():
    objective = line()
    objective.rows = 1 << 32
    with pytest.raises(OptionError, match="can be shuffled"):
        minimize_objective(objective, np.zeros(3), batch_size=4)
