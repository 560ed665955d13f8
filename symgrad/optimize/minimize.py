"""The driver: check the arguments, choose the method, run it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from symgrad.errors import ArgumentError, OptionError
from symgrad.optimize import checks
from symgrad.optimize.descent import Plan, run_rule
from symgrad.optimize.protocol import Objective
from symgrad.optimize.rules import RULES
from symgrad.optimize.scipy_bridge import run_scipy
from symgrad.optimize.scipy_methods import ALIASES, METHODS

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


def method_name(method: Any) -> str:
    """The canonical name of a method: a key of ``RULES`` or of ``METHODS``."""
    name = method.lower().replace("_", "-") if isinstance(method, str) else ""
    name = ALIASES.get(name, name)
    if name not in RULES and name not in METHODS:
        checks.refuse_name("method", method, [*RULES, *METHODS])
    return name


def minimize_objective(
    objective: Objective,
    x0: Any,
    *,
    method: str = "adam",
    lr: float | Callable[[Any], Any] | None = None,
    steps: int = 1000,
    batch_size: int | None = None,
    bounds: Any = None,
    tol: float = 1e-8,
    callback: Callable[[Any], Any] | None = None,
    progress: bool = False,
    seed: int | None = None,
    history: bool = True,
    **options: Any,
) -> OptimizeResult:
    """Minimize a bound objective from ``x0``.

    Args:
        objective: the loss over the flat vector (P,).
        x0: the start: a vector (P,), or the parameters by name.
        method: a descent rule (gd, momentum, nesterov, rmsprop, adam, adamw), or one of
            SciPy's: lbfgs, bfgs, cg, newton-cg, trust-ncg, trust-krylov, trust-constr,
            tnc, slsqp, nelder-mead, powell.
        lr: learning rate of a descent rule, a number or a callable of the step
            (``schedules``), counted from 0. Default 0.01.
        steps: most updates of the parameters, or SciPy's iterations.
        batch_size: rows in a mini-batch; None: all rows in each step. Each epoch is a
            new shuffle, its last batch may be smaller.
        bounds: ``{name: (low, high)}``, P pairs, or ``scipy.optimize.Bounds``. A
            descent rule clips to them after each step; the start is clipped too.
        tol: stop when the largest |component| of the gradient (projected on the
            bounds) is below it. Batches are not tested, only the final parameters.
        callback: called after each step with an ``OptimizeResult`` of x, fun, nit,
            params (jac for descent rules); ``StopIteration`` stops the run.
        progress: show a tqdm bar.
        seed: of the shuffles; None: different every time.
        history: keep the loss of every step.
        options: of the method: ``momentum``; ``betas``, ``eps``, ``weight_decay``;
            ``alpha``; or SciPy's options (``maxcor=20``, ``constraints=...``).

    Returns:
        An ``OptimizeResult``: see ``result.py``. ``x`` and ``params`` are the best
        seen, also after divergence and after Ctrl-C.

    Raises:
        OptionError, ArgumentError, DataError: an argument is wrong.
    """
    name = method_name(method)
    x = checks.start_vector(objective, x0)
    steps = checks.count("steps", steps, 0)
    limits = checks.flat_bounds(objective, bounds)
    tol = checks.tolerance(tol)
    if callback is not None and not callable(callback):
        raise ArgumentError(f"callback is {callback!r}: it must be callable, or None")
    if name in METHODS:
        _refuse_rates(name, lr, batch_size)
        return run_scipy(
            objective, name, x, steps=steps, bounds=limits, tol=tol, callback=callback,
            progress=progress, history=history, options=options,
        )  # fmt: skip
    rule = RULES[name]
    plan = Plan(
        objective,
        rule,
        x,
        options=checks.rule_options(rule, options),
        rates=checks.learning_rates(lr, rule.lr),
        steps=steps,
        bounds=limits,
        tol=tol,
        batch_size=None
        if batch_size is None
        else checks.batch_rows(objective, batch_size),
        seed=checks.seed(seed),
        callback=callback,
        progress=progress,
        history=history,
    )
    return run_rule(plan)


def _refuse_rates(name: str, lr: Any, batch_size: Any) -> None:
    for what, value in (("lr", lr), ("batch_size", batch_size)):
        if value is not None:
            rules = ", ".join(RULES)
            raise OptionError(
                f"method {name!r} takes no {what}: leave it out, or use one of {rules}"
            )
