"""Running an update rule: slices of steps, and what happens between them.

A small problem (``objective.native``) runs in slices of about 20 ms inside the
compiled loop, mini-batches included, and a long run of it in a loop that was compiled
around its loss; a larger one evaluates its loss from Python, where a call costs far
more than the loop around it. Between slices come the callback, the progress bar,
Ctrl-C, and with mini-batches the check of the loss over all rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from symgrad.optimize import advice, checks, loops
from symgrad.optimize.batches import Batches, FullLoss
from symgrad.optimize.checks import projected_gradient
from symgrad.optimize.progress import progress_bar
from symgrad.optimize.protocol import Evaluate, Objective, Vector, evaluator
from symgrad.optimize.result import Status, intermediate, make_result
from symgrad.optimize.rules import Rule

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

SLICE_SECONDS = 0.02
NATIVE_SECONDS = 1e-4
"""Losses slower than this are called from Python: their own threads are worth more."""
CONTAIN_SECONDS = 0.02
"""With more than this still to run, a loop is compiled around a small loss (20 ms)."""
CONTAIN_PACE = 1e-6
"""Seconds a step from which a loop around the loss gains nothing."""
SLOW_SECONDS = 5e-3
"""A loss slower than this is not evaluated for a message after a few steps only."""
HISTORY = 1 << 22
"""Most entries of a history (32 MB); beyond, every second one is dropped, and again."""
GROWTH = 1e6
"""A loss above ``first + GROWTH * (1 + |first|)`` that still rises has diverged."""
RISE = 10.0
"""A run that ends on a rise, at a loss above ``first + RISE * |first|``, has, too."""
Callback = Callable[[Any], Any]


@dataclass
class Plan:
    """What to run; everything is checked."""

    objective: Objective
    rule: Rule
    x: Vector
    options: np.ndarray
    rates: checks.Rates
    steps: int
    bounds: checks.Bounds | None
    tol: float
    batch_size: int | None = None
    seed: int | None = None
    callback: Callback | None = None
    progress: bool = False
    history: bool = True


class Run:
    """The state of a descent; consistent whenever Python has control."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.entries = loops.entries(plan.rule.name)
        self.descend = self.entries.descend
        none = np.empty(0)
        size = plan.objective.size
        # Updated every step.
        self.x = plan.x.copy()
        self.gradient = np.zeros(size)
        self.losses = np.empty(min(plan.steps + 1, 1024) if plan.history else 0)
        # Updated when the loss improves.
        self.best = plan.x.copy()
        # Fixed.
        self.lower, self.upper = plan.bounds or (none, none)
        self.batched = plan.batch_size is not None
        self.evaluations = 0
        self.first = math.nan
        self.why = loops.RUNNING
        self.record = self._new_record()

    def _new_record(self) -> loops.Record:
        plan, record = self.plan, loops.Record()
        record["x"], record["gradient"], record["best"] = (
            self.x,
            self.gradient,
            self.best,
        )
        record["state"] = plan.rule.new_state(self.x.size)
        record["options"], record["losses"] = plan.options, self.losses
        record["lower"], record["upper"] = self.lower, self.upper
        record["bounded"], record["size"] = self.lower.size > 0, self.x.size
        record["step"] = -1  # the start is not evaluated yet
        record["thin"] = 0 if plan.history else -1
        for name in ("loss", "lowest", "largest", "limit", "tol"):
            record[name] = np.inf
        # On batches the losses of different steps do not compare: the checks over all
        # rows find the best parameters, and no batch's gradient ends the run.
        record["lowest"] = -np.inf if self.batched else np.inf
        record["tol"] = 0.0 if self.batched else plan.tol
        return record

    @property
    def step(self) -> int:
        return max(0, self.record["step"])

    @property
    def loss(self) -> float:
        return self.record["loss"]

    @property
    def largest(self) -> float:
        return self.record["largest"]

    def use(self, batches: Batches | None) -> None:
        """Say what the compiled loop evaluates: a batch after another, or all rows."""
        native = (batches.whole if batches else self.plan.objective).native
        assert native is not None, "the caller chose the compiled loop"
        self.record["function"], self.record["context"] = (
            native.function,
            native.context,
        )
        self.record["batch"] = batches.address if batches else 0
        self.contain(compiled=True)

    def start(self, evaluate: Evaluate | None) -> None:
        """Evaluate the start; ``why`` says whether anything is left to do."""
        if self.plan.bounds is not None:
            np.clip(self.x, self.lower, self.upper, out=self.x)
            self.best[:] = self.x
        if evaluate is None:
            self._advance_native(1, np.zeros(1))
        else:
            self._judge(evaluate(self.x, self.gradient))
        self.first = self.loss
        self.record["limit"] = self.first + GROWTH * (1.0 + abs(self.first))

    def advance(self, count: int, evaluate: Evaluate | None) -> None:
        """Up to ``count`` steps; in the compiled loop where ``evaluate`` is None."""
        self._make_room(count)
        rates = self.plan.rates(self.step, count)
        if evaluate is None:
            self._advance_native(count, rates)
            return
        for k in range(count):
            self.record["lr"] = rates[k % rates.size]
            self.entries.move(self.record.address)
            self._judge(evaluate(self.x, self.gradient))
            if self.why != loops.RUNNING:
                break

    def _advance_native(self, count: int, rates: Vector) -> None:
        record = self.record
        before = record["step"]
        record["rates"], record["varies"] = rates, rates.size > 1
        record["steps"], record["losses"] = count, self.losses
        self.why = self.descend(record.address)
        self.evaluations += record["step"] - before

    def _judge(self, loss: float) -> None:
        """A step is complete: the loss at ``x`` is known."""
        self.evaluations += 1
        self.record["step"] += 1
        self.record["losses"] = self.losses
        self.why = self.entries.judge(self.record.address, loss)

    def contain(self, compiled: bool = False) -> None:
        """From now on a loop that contains the loss, where there is one; with
        ``compiled`` only where it was compiled before."""
        if self.batched or self.descend is not self.entries.descend:
            return
        find = loops.known if compiled else loops.contained
        found = find(self.plan.objective, self.plan.rule.name)
        if found is not None:
            self.descend, self.record["context"] = found.descend, found.context

    def check(self, full: FullLoss | None) -> None:
        """With mini-batches: keep the parameters where the loss over all rows falls."""
        if full is None or full.checked == self.step:
            return
        self.evaluations += 1
        if full.improves(self.x, self.step):
            self.best[:] = self.x
            self.record["best_step"] = self.step

    def is_as_good_as_best(self) -> bool:
        """Whether the loss at ``x`` is the lowest seen, but for rounding.

        At a minimum the losses of the last steps differ by rounding only; the best of
        them need not be the one whose gradient met ``tol``.
        """
        lowest = self.record["lowest"]
        return self.loss <= lowest + 1e-12 * max(1.0, abs(lowest))

    # ------------------------------------------------------------------------ history

    def _make_room(self, count: int) -> None:
        """Grow the history for ``count`` more steps, thinned to ``HISTORY`` entries."""
        thin = self.record["thin"]
        if thin < 0:
            return
        while (self.step + count) >> thin >= HISTORY:
            kept = self.losses[: (self.step >> thin) + 1 : 2].copy()
            self.losses[: kept.size] = kept
            thin += 1
        self.record["thin"] = thin
        needed = ((self.step + count) >> thin) + 1
        if needed > self.losses.size:
            grown = np.empty(min(max(needed, 2 * self.losses.size), HISTORY))
            grown[: self.losses.size] = self.losses
            self.losses = grown

    def history(self) -> tuple[np.ndarray | None, int]:
        """The losses so far (a copy), and the steps between two of them."""
        thin = self.record["thin"]
        if thin < 0:
            return None, 1
        made = self.record["step"]
        return self.losses[: (made >> thin) + 1].copy(), 1 << thin


class Slices:
    """How many steps to make at a time, learnt from the clock."""

    def __init__(self, plan: Plan) -> None:
        estimate = max(plan.objective.seconds_per_call, 1e-7)
        # Half of what the estimate allows, as it may be wrong.
        self.count = max(1, int(0.5 * SLICE_SECONDS / estimate))
        self.fixed = plan.callback is not None
        self.pace = 0.0

    def next(self, left: int) -> int:
        return 1 if self.fixed else min(self.count, left)

    def gains_by_containing(self, plan: Plan, step: int) -> bool:
        """Whether, at the pace of the last slice, the run is long and its loss small.

        A callback takes most of the time.
        """
        left = (plan.steps - step) * self.pace
        return not self.fixed and self.pace < CONTAIN_PACE and left > CONTAIN_SECONDS

    def learn(self, made: int, seconds: float) -> None:
        self.pace = seconds / max(made, 1)
        wanted = int(made * SLICE_SECONDS / max(seconds, 1e-9))
        self.count = max(1, min(wanted, 4 * self.count))


# --------------------------------------------------------------------------- the driver


def run_rule(plan: Plan) -> OptimizeResult:
    """Minimize; the result's fields are those of ``result.py``."""
    run, batches, full = Run(plan), None, None
    if plan.batch_size is not None:
        batches = Batches(plan.objective, plan.batch_size, plan.seed, run.entries)
        full = FullLoss(plan.objective, plan.steps, batches.per_epoch)
    evaluate = batches or evaluator(plan.objective)
    if _is_on_device(plan):
        from symgrad.optimize.cuda_loop import DeviceDescent

        run.descend = DeviceDescent(plan.objective, plan.rule, run.record)
        evaluate = None
    elif _is_native(plan, batches):
        run.use(batches)
        evaluate = None
    status = None
    try:
        run.start(evaluate)
        if run.why == loops.NOT_FINITE:
            return _bad_start(run)
        run.check(full)
        _descend(run, full, evaluate)
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    except _StoppedError:
        status = Status.STOPPED
    if run.why == loops.RUNNING:
        run.check(full)
    return _finish(run, status, batches, full)


def _is_on_device(plan: Plan) -> bool:
    """Whether the whole descent runs on a GPU; batches are made on the processor."""
    return plan.batch_size is None and hasattr(plan.objective, "descending")


def _is_native(plan: Plan, batches: Batches | None) -> bool:
    """Whether every evaluation may happen in the compiled loop."""
    losses = [batches.whole, batches.short] if batches else [plan.objective]
    return all(
        loss.native is not None and loss.seconds_per_call <= NATIVE_SECONDS
        for loss in losses
    )


def _descend(run: Run, full: FullLoss | None, evaluate: Evaluate | None) -> None:
    plan, slices = run.plan, Slices(run.plan)
    with _progress_bar(plan) as bar:
        while run.why == loops.RUNNING and run.step < plan.steps:
            count = slices.next(plan.steps - run.step)
            if full is not None:
                count = min(count, full.left(run.step))
            before, started = run.step, time.perf_counter()
            run.advance(count, evaluate)
            slices.learn(run.step - before, time.perf_counter() - started)
            if evaluate is None and slices.gains_by_containing(plan, run.step):
                run.contain()
            if full is not None and full.is_due(run.step):
                run.check(full)
            if bar is not None:
                bar.set_postfix_str(f"loss {run.loss:.6g}", refresh=False)
                bar.update(run.step - before)
            _call_back(run)


class _StoppedError(Exception):
    """The callback raised StopIteration."""


def _call_back(run: Run) -> None:
    callback = run.plan.callback
    if callback is None:
        return
    try:
        callback(
            intermediate(
                run.plan.objective, run.x.copy(), run.loss, run.step,
                jac=run.gradient.copy(),
            )
        )  # fmt: skip
    except StopIteration:
        raise _StoppedError from None


def _progress_bar(plan: Plan) -> AbstractContextManager[Any]:
    return progress_bar(plan.rule.name, plan.steps) if plan.progress else nullcontext()


# -------------------------------------------------------------------------- the result


def _bad_start(run: Run) -> OptimizeResult:
    plan, losses = run.plan, run.history()
    return make_result(
        plan.objective,
        x=run.x,
        fun=run.first,
        jac=run.gradient,
        nit=0,
        nfev=run.evaluations,
        status=Status.BAD_START,
        message=advice.bad_start(plan.objective, run.x, run.first, run.gradient),
        method=plan.rule.name,
        history=losses[0],
        history_stride=losses[1],
        last=run.x.copy(),
    )


def _finish(
    run: Run, status: Status | None, batches: Batches | None, full: FullLoss | None
) -> OptimizeResult:
    plan = run.plan
    gradient = np.zeros(plan.objective.size)
    if run.why == loops.CONVERGED and run.is_as_good_as_best():
        run.best[:] = run.x
    fun = evaluator(plan.objective)(run.best, gradient)
    run.evaluations += 1
    if status is None:
        status = _status(run, gradient)
    history, stride = run.history()
    return make_result(
        plan.objective,
        x=run.best,
        fun=fun,
        jac=gradient,
        nit=run.step,
        nfev=run.evaluations,
        status=status,
        message=_message(run, status, fun, gradient, batches, full),
        method=plan.rule.name,
        history=history,
        history_stride=stride,
        last=run.x.copy(),
    )


def _status(run: Run, gradient: Vector) -> Status:
    if run.why in (loops.NOT_FINITE, loops.GROWN):
        return Status.DIVERGED
    if run.why == loops.CONVERGED:
        return Status.CONVERGED
    if run.batched:
        small = projected_gradient(run.best, gradient, run.plan.bounds) < run.plan.tol
        return Status.CONVERGED if small else Status.FINISHED
    return Status.DIVERGED if _is_rising(run) else Status.STEP_LIMIT


def _is_rising(run: Run) -> bool:
    """Whether the loss grew a lot from the start, and did so to the end of the run."""
    grown = run.loss - run.first
    if not grown > RISE * abs(run.first):
        return False
    history = run.history()[0]
    if history is None:
        return True
    before = history[: max(1, history.size // 2)]
    # A loss that jumps about on a plateau does not diverge.
    return history[-1] > history[-2] and grown > 2.0 * (before.max() - run.first)


def _message(
    run: Run,
    status: Status,
    fun: float,
    gradient: Vector,
    batches: Batches | None,
    full: FullLoss | None,
) -> str:
    plan, slope = run.plan, projected_gradient(run.best, gradient, run.plan.bounds)
    lr = _typical_rate(run, failed=status is Status.DIVERGED)
    if status is Status.CONVERGED:
        return advice.converged(run.step, run.largest if run.why else slope, plan.tol)
    if status is Status.STOPPED:
        return advice.stopped(run.step)
    if status is Status.INTERRUPTED:
        return advice.interrupted(run.step)
    if status is Status.DIVERGED:
        return advice.diverged(
            plan.objective, plan.rule, plan.options, step=run.step, start=run.first,
            loss=run.loss, lr=lr, best=run.best,
        )  # fmt: skip
    if batches is not None and full is not None:
        epochs = run.step / batches.per_epoch
        return advice.finished(run.step, epochs, full.first, fun)
    return advice.step_limit(
        plan.steps, slope=slope, tol=plan.tol, lr=lr, history=run.history()[0],
        other=_other_lr(run, lr, gradient),
    )  # fmt: skip


def _typical_rate(run: Run, failed: bool) -> float:
    """The rate of the step that failed, or else a schedule's largest of a few."""
    last = max(run.step - 1, 0)
    asked = (last,) if failed else (0, last // 2, last)
    return max(float(run.plan.rates(step, 1)[0]) for step in asked)


def _other_lr(run: Run, lr: float, gradient: Vector) -> str | None:
    """The advice of another rate, from the curvature at the best parameters."""
    plan = run.plan
    # A short run of a slow loss is not worth the evaluations of an estimate.
    if run.step < 100 and plan.objective.seconds_per_call > SLOW_SECONDS:
        return None
    downhill = -gradient
    if plan.bounds is not None:
        downhill = np.clip(run.best + downhill, run.lower, run.upper) - run.best
    fall = advice.recent_fall(run.history()[0])
    return advice.other_lr(
        plan.objective, plan.rule, plan.options, lr=lr, x=run.best, downhill=downhill,
        rising=fall is not None and fall[0] < 0.0,
    )  # fmt: skip
