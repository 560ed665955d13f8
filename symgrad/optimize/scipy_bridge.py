"""SciPy's methods behind the same front: one row each.

Each row says what the method takes, and how ``tol`` (on the largest |gradient|
component) and ``steps`` are spelled in its options. Other options pass through.
SciPy's own stopping rule on the loss is set to rounding level, so that ``tol`` decides:
its default would end L-BFGS-B at relative falls of 2e-9, far from a gradient of 1e-8.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from symgrad.errors import OptionError
from symgrad.optimize import advice
from symgrad.optimize.checks import Bounds, projected_gradient
from symgrad.optimize.progress import progress_bar
from symgrad.optimize.protocol import Objective, Vector, evaluator
from symgrad.optimize.result import Status, intermediate, make_result

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

EPSILON = sys.float_info.epsilon


@dataclass(frozen=True)
class Method:
    """One method of ``scipy.optimize.minimize``."""

    scipy: str
    options: Callable[[float, int], dict[str, Any]]
    bounds: bool = False
    gradient: bool = True
    hvp: bool = False
    constraints: bool = False


def _gtol(tol: float, steps: int) -> dict[str, Any]:
    return {"gtol": tol, "maxiter": steps}


METHODS: dict[str, Method] = {
    "lbfgs": Method(
        "L-BFGS-B",
        lambda tol, steps: {
            "gtol": tol,
            "ftol": EPSILON,
            "maxiter": steps,
            "maxfun": 20 * steps + 100,
        },
        bounds=True,
    ),
    "bfgs": Method("BFGS", _gtol),
    "cg": Method("CG", _gtol),
    "newton-cg": Method(
        # Stops on the size of a step; the gradient is looked at afterwards.
        "Newton-CG",
        lambda tol, steps: {"xtol": min(tol, 1e-10), "maxiter": steps},
        hvp=True,
    ),
    "trust-ncg": Method("trust-ncg", _gtol, hvp=True),
    "trust-krylov": Method("trust-krylov", _gtol, hvp=True),
    "trust-constr": Method(
        "trust-constr",
        lambda tol, steps: {"gtol": tol, "xtol": 1e-14, "maxiter": steps},
        bounds=True,
        hvp=True,
        constraints=True,
    ),
    "tnc": Method(
        "TNC",
        lambda tol, steps: {"gtol": tol, "ftol": EPSILON, "maxfun": 20 * steps + 100},
        bounds=True,
    ),
    "slsqp": Method(
        "SLSQP",
        lambda tol, steps: {"ftol": EPSILON, "maxiter": steps},
        bounds=True,
        constraints=True,
    ),
    "nelder-mead": Method(
        "Nelder-Mead",
        lambda tol, steps: {"xatol": tol, "fatol": tol, "maxiter": steps},
        bounds=True,
        gradient=False,
    ),
    "powell": Method(
        "Powell",
        lambda tol, steps: {"xtol": tol, "ftol": tol, "maxiter": steps},
        bounds=True,
        gradient=False,
    ),
}
ALIASES = {"l-bfgs-b": "lbfgs", "l-bfgs": "lbfgs", "newton": "newton-cg"}


class _EndError(BaseException):
    """Leaves SciPy from inside a callback. Not an Exception: nobody may catch it."""


class Recorder:
    """The objective as SciPy calls it: counts, remembers the best, reports steps."""

    def __init__(self, objective: Objective, x: Vector, steps: int) -> None:
        self.objective, self.steps = objective, steps
        self.evaluate = evaluator(objective)
        self.nfev = self.nit = 0
        self.x, self.gradient = x.copy(), np.zeros(x.size)
        self.loss = math.nan
        self.best, self.lowest = x.copy(), math.inf
        self.history: list[float] = []

    def value_and_grad(self, x: Vector) -> tuple[float, Vector]:
        loss = self.evaluate(np.ascontiguousarray(x, dtype=np.float64), self.gradient)
        self._remember(x, loss)
        return loss, self.gradient.copy()

    def value(self, x: Vector) -> float:
        loss = float(self.objective(np.ascontiguousarray(x, dtype=np.float64)))
        self._remember(x, loss)
        return loss

    def _remember(self, x: Vector, loss: float) -> None:
        self.nfev += 1
        self.x[:], self.loss = x, loss
        if loss < self.lowest:
            self.lowest = loss
            self.best[:] = x

    def hvp(self, x: Vector, v: Vector) -> Vector:
        return self.objective.hvp(
            np.ascontiguousarray(x, dtype=np.float64),
            np.ascontiguousarray(v, dtype=np.float64),
        )

    def step(self, x: Vector, loss: float | None) -> float:
        """Note a finished iteration; the loss there."""
        if loss is None:
            known = np.array_equal(x, self.x)
            loss = self.loss if known else float(self.objective(x))
        self.nit += 1
        self.history.append(float(loss))
        return float(loss)


def run_scipy(
    objective: Objective,
    name: str,
    x: Vector,
    *,
    steps: int,
    bounds: Bounds | None,
    tol: float,
    callback: Callable[[Any], Any] | None,
    progress: bool,
    history: bool,
    options: Mapping[str, Any],
) -> OptimizeResult:
    """Minimize with a row of ``METHODS``; arguments are checked except ``options``."""
    method = METHODS[name]
    if bounds is not None:
        if not method.bounds:
            able = ", ".join(repr(k) for k, m in METHODS.items() if m.bounds)
            raise OptionError(
                f"method {name!r} takes no bounds: use one of {able}, or a descent rule"
            )
        np.clip(x, *bounds, out=x)
    record = Recorder(objective, x, steps)
    loss, gradient = record.value_and_grad(x)
    record.history.append(loss)
    if not (math.isfinite(loss) and np.all(np.isfinite(gradient))):
        message = advice.bad_start(objective, x, loss, gradient)
        return _result(record, name, Status.BAD_START, message, history, x, bounds)
    with progress_bar(name, steps) if progress else nullcontext() as bar:
        found, ended = _call(
            record, method, x, bounds, tol, steps, options, callback, bar
        )
    return _conclude(record, name, found, ended, tol, steps, history, bounds)


def _call(
    record: Recorder,
    method: Method,
    x: Vector,
    bounds: Bounds | None,
    tol: float,
    steps: int,
    options: Mapping[str, Any],
    callback: Callable[[Any], Any] | None,
    bar: Any,
) -> tuple[OptimizeResult | None, Status | None]:
    """SciPy's result, or None and why it was left early."""
    from scipy.optimize import minimize

    own = {**method.options(tol, steps), **options}
    arguments: dict[str, Any] = {}
    if method.constraints and "constraints" in own:
        arguments["constraints"] = own.pop("constraints")
    if bounds is not None:
        arguments["bounds"] = list(zip(*bounds, strict=True))
    if method.hvp:
        arguments["hessp"] = record.hvp
    try:
        return minimize(
            record.value_and_grad if method.gradient else record.value,
            x,
            jac=True if method.gradient else None,
            method=method.scipy,
            options=own,
            callback=_reporter(record, callback, bar),
            **arguments,
        ), None
    except KeyboardInterrupt:
        return None, Status.INTERRUPTED
    except _EndError:
        return None, Status.STOPPED


def _reporter(
    record: Recorder, callback: Callable[[Any], Any] | None, bar: Any
) -> Callable[..., None]:
    # SciPy looks at this parameter's name; TNC passes x alone whatever the name.
    def report(intermediate_result: Any) -> None:
        alone = isinstance(intermediate_result, np.ndarray)
        x = np.array(intermediate_result if alone else intermediate_result.x)
        loss = record.step(x, None if alone else intermediate_result.get("fun"))
        if bar is not None:
            bar.set_postfix_str(f"loss {loss:.6g}", refresh=False)
            bar.update(1)
        if callback is None:
            return
        try:
            callback(intermediate(record.objective, x, loss, record.nit))
        except StopIteration:
            raise _EndError from None

    return report


# -------------------------------------------------------------------------- the result


def _conclude(
    record: Recorder,
    name: str,
    found: OptimizeResult | None,
    ended: Status | None,
    tol: float,
    steps: int,
    history: bool,
    bounds: Bounds | None,
) -> OptimizeResult:
    best = record.best
    if found is None:
        assert ended is not None, "either SciPy returned or something ended it"
        text = advice.stopped if ended is Status.STOPPED else advice.interrupted
        return _result(
            record, name, ended, text(record.nit), history, best, bounds
        )  # fmt: skip
    # With constraints the lowest loss seen may be infeasible: SciPy's choice then.
    x = np.array(found.x, dtype=np.float64)
    if "constr_violation" not in found and "multipliers" not in found:
        x = best if record.lowest < float(found.fun) else x
    loss, gradient = record.value_and_grad(x)
    slope = projected_gradient(x, gradient, bounds)
    status = _status(name, found, slope, tol, steps, loss, record)
    message = _message(status, record, slope, tol, steps, str(found.message))
    return _result(record, name, status, message, history, x, bounds)


def _status(
    name: str,
    found: OptimizeResult,
    slope: float,
    tol: float,
    steps: int,
    loss: float,
    record: Recorder,
) -> Status:
    method = METHODS[name]
    if slope < tol or (found.success and (method.constraints or not method.gradient)):
        return Status.CONVERGED
    if record.nit >= steps:
        return Status.STEP_LIMIT
    if found.success or _is_at_rounding(slope, loss):
        return Status.CONVERGED
    return Status.FAILED


def _is_at_rounding(slope: float, loss: float) -> bool:
    """Whether the loss is too coarse to show a further fall (line searches fail)."""
    return slope <= math.sqrt(EPSILON) * max(1.0, abs(loss))


def _message(
    status: Status, record: Recorder, slope: float, tol: float, steps: int, scipy: str
) -> str:
    if status is Status.STEP_LIMIT:
        return (
            f"did not converge in {steps} iterations: largest |gradient| component "
            f"{slope:.2g} > tol {tol:g}; try steps={10 * max(steps, 10)}"
        )
    if status is Status.FAILED:
        return (
            f"stopped after {record.nit} iterations with largest |gradient| component "
            f"{slope:.2g} (SciPy: {scipy.strip()}); try another start, a rescaled loss,"
            " or another method"
        )
    if slope < tol:
        return advice.converged(record.nit, slope, tol)
    return (
        f"converged in {record.nit} iterations by SciPy's own test ({scipy.strip()}), "
        f"with largest |gradient| component {slope:.2g}"
    )


def _result(
    record: Recorder,
    name: str,
    status: Status,
    message: str,
    history: bool,
    x: Vector,
    bounds: Bounds | None,
) -> OptimizeResult:
    last = record.x.copy()
    loss, gradient = record.value_and_grad(x)
    return make_result(
        record.objective,
        x=x.copy(),
        fun=loss,
        jac=gradient,
        nit=record.nit,
        nfev=record.nfev,
        status=status,
        message=message,
        method=name,
        history=np.array(record.history) if history else None,
        history_stride=1,
        last=last,
    )
