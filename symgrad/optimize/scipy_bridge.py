"""SciPy's methods behind the same front.

A method that stops above ``tol`` is started once more from the best point, without its
memory. Where that ends above ``tol`` too, the gradient is judged by the scale of the
parameters and of the loss: the loss may be too coarse to fall further (a success), or
flat at a place that is no minimum (``STALLED``), whatever SciPy says of it.

SciPy's methods do not expect a loss that is not a number: comparisons with it are
false, and a step is taken for an improvement. They are given infinity, or a large loss,
with a gradient of zeros at such points, which line searches and trust regions step back
from.
"""

from __future__ import annotations

import math
import warnings
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
from symgrad.optimize.scipy_methods import (
    EPSILON,
    METHODS,
    Method,
    check_options,
)

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


class _EndError(BaseException):
    """Leaves SciPy from inside a callback. Not an Exception: nobody may catch it."""


def is_finite(loss: float, gradient: Vector) -> bool:
    """Whether the loss and every component of its gradient are numbers."""
    return math.isfinite(loss) and bool(np.isfinite(gradient).all())


class Recorder:
    """The objective as SciPy calls it: counts, remembers the best, reports steps.

    The best is the lowest loss of all points at which the loss, and its gradient where
    the method asks for it, are finite.
    """

    def __init__(self, objective: Objective, x: Vector, interpolates: bool) -> None:
        self.objective, self.interpolates = objective, interpolates
        self.evaluate = evaluator(objective)
        self.nfev = self.nit = 0
        self.x, self.gradient = x.copy(), np.zeros(x.size)
        self.loss = math.nan
        self.best, self.lowest = x.copy(), math.inf
        self.slope = np.zeros(x.size)  # the gradient at the best
        self.history: list[float] = []

    def value_and_grad(self, x: Vector) -> tuple[float, Vector]:
        """The loss and its gradient (a copy), as they are."""
        loss = self.evaluate(np.ascontiguousarray(x, dtype=np.float64), self.gradient)
        if is_finite(loss, self.gradient) and loss < self.lowest:
            self.slope[:] = self.gradient
            self._remember_best(x, loss)
        self._note(x, loss)
        return loss, self.gradient.copy()

    def value(self, x: Vector) -> float:
        """The loss as it is."""
        loss = float(self.objective(np.ascontiguousarray(x, dtype=np.float64)))
        if math.isfinite(loss) and loss < self.lowest:
            self._remember_best(x, loss)
        self._note(x, loss)
        return loss

    def passable_value_and_grad(self, x: Vector) -> tuple[float, Vector]:
        """The loss and its gradient, or what makes SciPy step back from ``x``."""
        loss, gradient = self.value_and_grad(x)
        if is_finite(loss, gradient):
            return loss, gradient
        return self._wall(x), np.zeros(x.size)

    def passable_value(self, x: Vector) -> float:
        """The loss, or what makes SciPy step back from ``x``."""
        loss = self.value(x)
        return loss if math.isfinite(loss) else self._wall(x)

    def _wall(self, x: Vector) -> float:
        """A loss for a point where there is none.

        Where polynomials are fitted, it is so far above the best that the minimum of a
        parabola through both, with the slope at the best, is at a tenth of the way:
        infinity would give NaN, and a huge number a step of nothing.
        """
        if not self.interpolates:
            return math.inf
        with np.errstate(all="ignore"):
            rise = 4.0 * abs(float(self.slope @ (x - self.best)))
        least = 1e-3 * max(1.0, abs(self.lowest)) if rise == 0.0 else 0.0
        rise = max(rise, least, 1e-12 * abs(self.lowest))
        return self.lowest + rise if math.isfinite(rise) else math.inf

    def _note(self, x: Vector, loss: float) -> None:
        self.nfev += 1
        self.x[:], self.loss = x, loss

    def _remember_best(self, x: Vector, loss: float) -> None:
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
    check_options(name, options)
    if bounds is not None:
        if not method.bounds:
            able = ", ".join(repr(k) for k, m in METHODS.items() if m.bounds)
            raise OptionError(
                f"method {name!r} takes no bounds: use one of {able}, or a descent rule"
            )
        np.clip(x, *bounds, out=x)
    record = Recorder(objective, x, method.interpolates)
    loss, gradient = record.value_and_grad(x)
    record.history.append(loss)
    if not is_finite(loss, gradient):
        message = advice.bad_start(objective, x, loss, gradient)
        return _result(record, name, Status.BAD_START, message, history, x, bounds)
    run = Run(name, method, record, steps, tol, bounds, options, callback)
    with progress_bar(name, steps) if progress else nullcontext() as bar:
        found, ended = _call(run, x, bar)
        before = record.lowest
        if found is not None and _is_worth_a_restart(run, found):
            found, ended = _call(run, record.best.copy(), bar)
    return _conclude(run, found, ended, before, history)


@dataclass(frozen=True)
class Run:
    """One minimization: what was asked for, and the record of it."""

    name: str
    method: Method
    record: Recorder
    steps: int
    tol: float
    bounds: Bounds | None
    options: Mapping[str, Any]
    callback: Callable[[Any], Any] | None

    @property
    def is_constrained(self) -> bool:
        """Whether the gradient need not vanish at the solution."""
        if self.method.barrier and self.bounds is not None:
            return True
        return self.method.constraints and bool(self.options.get("constraints"))


def _is_worth_a_restart(run: Run, found: OptimizeResult) -> bool:
    record = run.record
    if run.is_constrained or run.method.barrier or not run.method.gradient:
        return False
    if record.nit >= run.steps:
        return False
    _, gradient = record.value_and_grad(record.best)
    return not projected_gradient(record.best, gradient, run.bounds) < run.tol


def _call(run: Run, x: Vector, bar: Any) -> tuple[OptimizeResult | None, Status | None]:
    """SciPy's result, or None and why it was left early."""
    from scipy.optimize import minimize

    method, record = run.method, run.record
    left = run.steps - record.nit
    own = {**method.options(run.tol, left), **run.options}
    arguments: dict[str, Any] = {}
    if method.constraints and "constraints" in own:
        arguments["constraints"] = own.pop("constraints")
    if run.bounds is not None:
        arguments["bounds"] = list(zip(*run.bounds, strict=True))
    if method.hvp:
        arguments["hessp"] = record.hvp
    function = (
        record.passable_value_and_grad if method.gradient else record.passable_value
    )
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # The result says how it ended, whatever SciPy warns of on the way.
            warnings.filterwarnings("ignore", module="scipy")
            return minimize(
                function,
                x,
                jac=True if method.gradient else None,
                method=method.scipy,
                options=own,
                callback=_reporter(record, run.callback, bar),
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
    run: Run,
    found: OptimizeResult | None,
    ended: Status | None,
    before: float,
    history: bool,
) -> OptimizeResult:
    """``before``: the lowest loss ahead of a restart."""
    record, name, bounds = run.record, run.name, run.bounds
    best = record.best
    if found is None:
        assert ended is not None, "either SciPy returned or something ended it"
        text = advice.stopped if ended is Status.STOPPED else advice.interrupted
        return _result(
            record, name, ended, text(record.nit), history, best, bounds
        )  # fmt: skip
    # With constraints the lowest loss seen may be infeasible: SciPy's choice then.
    x = np.array(found.x, dtype=np.float64)
    if not run.is_constrained and record.lowest < float(found.fun):
        x = best
    loss, gradient = record.value_and_grad(x)
    if not is_finite(loss, gradient):
        x = best.copy()
        loss, gradient = record.value_and_grad(x)
    end = End(run, found, x, loss, gradient, flat=before - loss <= _few(run, loss))
    return _result(record, name, end.status, end.message, history, x, bounds)


def _few(run: Run, loss: float) -> float:
    """A fall of the loss that is none."""
    return math.sqrt(_epsilon(run.record.objective)) * abs(loss)


def _epsilon(objective: Objective) -> float:
    """The rounding of one operation in the loss."""
    return float(np.finfo(getattr(objective, "dtype", "float64")).eps)


@dataclass(frozen=True)
class End:
    """Where SciPy stopped, and what to think of it.

    ``flat``: a start anew from there did not lower the loss either.
    """

    run: Run
    found: OptimizeResult
    x: Vector
    loss: float
    gradient: Vector
    flat: bool

    @property
    def slope(self) -> float:
        return projected_gradient(self.x, self.gradient, self.run.bounds)

    @property
    def status(self) -> Status:
        run, success = self.run, bool(self.found.success)
        by_its_own_test = run.is_constrained or not run.method.gradient
        if not is_finite(self.loss, self.gradient):
            return Status.FAILED
        if self.slope < run.tol or (success and by_its_own_test):
            return Status.CONVERGED
        if run.record.nit >= run.steps:
            return Status.STEP_LIMIT
        if by_its_own_test:
            return Status.FAILED
        if (success or self.flat) and self.is_at_rounding:
            return Status.CONVERGED
        return Status.STALLED if success or self.flat else Status.FAILED

    @property
    def is_at_rounding(self) -> bool:
        """Whether the loss is too coarse to show a further fall.

        Such a gradient is small for changes of the parameters by 1, or by their size.
        A sum of squares that fell to the rounding of the data has no scale of its own.
        """
        epsilon = _epsilon(self.run.record.objective)
        if abs(self.loss) <= (100.0 * epsilon) ** 2 * abs(self.run.record.history[0]):
            return True
        if self.slope <= math.sqrt(EPSILON) * max(1.0, abs(self.loss)):
            return True
        scaled = self.gradient * np.maximum(1.0, np.abs(self.x))
        slope = projected_gradient(self.x, scaled, self.run.bounds)
        return bool(slope <= np.cbrt(epsilon) * abs(self.loss))

    @property
    def message(self) -> str:
        run, slope, status = self.run, self.slope, self.status
        nit, scipy = run.record.nit, str(self.found.message).strip().rstrip(":. ")
        largest = f"largest |gradient| component {slope:.2g}"
        if status is Status.STEP_LIMIT:
            return (
                f"did not converge in {run.steps} iterations: {largest} > tol "
                f"{run.tol:g}; try steps={10 * max(run.steps, 10)}"
            )
        if status is Status.FAILED:
            return (
                f"stopped after {nit} iterations with {largest} (SciPy: {scipy}); try "
                "another start, a rescaled loss, or another method"
            )
        if status is Status.STALLED:
            return (
                f"stalled after {nit} iterations: the loss is flat or has a kink at "
                f"this place, but the gradient is not small ({largest}, loss "
                f"{self.loss:.4g}; SciPy: {scipy}); try another start, bounds=..., or "
                "data and parameters of a similar scale"
            )
        if slope < run.tol:
            return advice.converged(nit, slope, run.tol)
        if run.is_constrained or not run.method.gradient:
            return (
                f"converged in {nit} iterations by SciPy's own test ({scipy}), "
                f"with {largest}"
            )
        dtype = getattr(run.record.objective, "dtype", "float64")
        return (
            f"converged to the precision of {dtype} in {nit} iterations: no step "
            f"lowers the loss further; {largest} (tol {run.tol:g})"
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
