"""Running an update rule: slices of steps, and what happens between them.

A small problem (``objective.native``) runs in slices of about 20 ms inside the
compiled loop; a larger one, or one on mini-batches, evaluates its loss from Python,
where a call costs far more than the loop around it. Between slices come the callback,
the progress bar, Ctrl-C, and with mini-batches the check of the loss over all rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from symgrad.optimize import advice, checks
from symgrad.optimize.protocol import Objective, Vector
from symgrad.optimize.result import Status, make_result
from symgrad.optimize.rules import Rule

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

SLICE_SECONDS = 0.02
NATIVE_SECONDS = 1e-4
"""Losses slower than this are called from Python: their own threads are worth more."""
HISTORY = 1 << 22
"""Most entries of a history (32 MB); beyond, every second one is dropped, and again."""
GROWTH = 1e6
"""A loss above ``first + GROWTH * (1 + |first|)`` that still rises has diverged."""
CHECKS = 50
"""About how often a run on mini-batches evaluates the loss over all rows."""

Callback = Callable[[Any], Any]
Evaluate = Callable[[Vector, Vector], float]


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
        from symgrad.optimize import loops

        self.plan = plan
        self.loops = loops
        none = np.empty(0)
        size = plan.objective.size
        # Updated every step.
        self.x = plan.x.copy()
        self.gradient = np.zeros(size)
        self.state = plan.rule.new_state(size)
        self.counters = np.zeros(loops.COUNTERS, dtype=np.int64)
        self.values = np.full(loops.VALUES, np.inf)
        self.losses = np.empty(min(plan.steps + 1, 1024) if plan.history else 0)
        # Updated when the loss improves.
        self.best = plan.x.copy()
        # Fixed.
        self.lower, self.upper = plan.bounds or (none, none)
        self.update = loops.update_address(plan.rule.name)
        self.batched = plan.batch_size is not None
        self.evaluations = 0
        self.first = math.nan
        self.why = loops.RUNNING
        if not plan.history:
            self.counters[loops.THIN] = -1
        # On batches the losses of different steps do not compare: the checks over all
        # rows find the best parameters, and no batch's gradient ends the run.
        self.values[loops.BEST] = -np.inf if self.batched else np.inf
        self.values[loops.TOL] = 0.0 if self.batched else plan.tol

    @property
    def step(self) -> int:
        return int(self.counters[self.loops.STEP])

    @property
    def loss(self) -> float:
        return float(self.values[self.loops.LOSS])

    @property
    def largest(self) -> float:
        return float(self.values[self.loops.LARGEST])

    def start(self, evaluate: Evaluate) -> None:
        """Evaluate the start; ``why`` says whether anything is left to do."""
        if self.plan.bounds is not None:
            np.clip(self.x, self.lower, self.upper, out=self.x)
            self.best[:] = self.x
        self.first = evaluate(self.x, self.gradient)
        self.values[self.loops.LIMIT] = self.first + GROWTH * (1.0 + abs(self.first))
        self.why = self._judge(self.first)

    def advance(self, count: int, evaluate: Evaluate | None) -> None:
        """Up to ``count`` steps; in the compiled loop where ``evaluate`` is None."""
        self._make_room(count)
        rates = self.plan.rates(self.step, count)
        before = self.step
        if evaluate is None:
            self._advance_native(count, rates)
            self.evaluations += self.step - before
            return
        for k in range(count):
            self._move(float(rates[k % rates.size]))
            loss = evaluate(self.x, self.gradient)
            self.counters[self.loops.STEP] += 1
            self.why = self._judge(loss)
            if self.why != self.loops.RUNNING:
                break

    def _advance_native(self, count: int, rates: Vector) -> None:
        native = self.plan.objective.native
        assert native is not None, "the caller chose the compiled loop"
        self.why = self.loops.entry("descend")(
            native.function, native.context, self.update, self.x, self.gradient,
            self.best, self.state, self.plan.options, self.lower, self.upper,
            self.losses, rates, self.counters, self.values, count,
        )  # fmt: skip

    def _move(self, lr: float) -> None:
        self.loops.entry("move")(
            self.update, self.x, self.gradient, self.state, self.plan.options,
            self.lower, self.upper, lr,
        )  # fmt: skip

    def _judge(self, loss: float) -> int:
        self.evaluations += 1
        return self.loops.entry("judge")(
            loss, self.x, self.gradient, self.best, self.lower, self.upper,
            self.losses, self.counters, self.values,
        )  # fmt: skip

    # ------------------------------------------------------------------------ history

    def _make_room(self, count: int) -> None:
        """Grow the history for ``count`` more steps, thinned to ``HISTORY`` entries."""
        thin = int(self.counters[self.loops.THIN])
        if thin < 0:
            return
        while (self.step + count) >> thin >= HISTORY:
            kept = self.losses[: (self.step >> thin) + 1 : 2].copy()
            self.losses[: kept.size] = kept
            thin += 1
        self.counters[self.loops.THIN] = thin
        needed = ((self.step + count) >> thin) + 1
        if needed > self.losses.size:
            grown = np.empty(min(max(needed, 2 * self.losses.size), HISTORY))
            grown[: self.losses.size] = self.losses
            self.losses = grown

    def history(self) -> tuple[np.ndarray | None, int]:
        """The losses so far (a copy), and the steps between two of them."""
        thin = int(self.counters[self.loops.THIN])
        if thin < 0:
            return None, 1
        return self.losses[: (self.step >> thin) + 1].copy(), 1 << thin


class Slices:
    """How many steps to make at a time, learnt from the clock."""

    def __init__(self, plan: Plan) -> None:
        estimate = max(plan.objective.seconds_per_call, 1e-7)
        # Half of what the estimate allows, as it may be wrong.
        self.count = max(1, int(0.5 * SLICE_SECONDS / estimate))
        self.fixed = plan.callback is not None

    def next(self, left: int) -> int:
        return 1 if self.fixed else min(self.count, left)

    def learn(self, made: int, seconds: float) -> None:
        wanted = int(made * SLICE_SECONDS / max(seconds, 1e-9))
        self.count = max(1, min(wanted, 4 * self.count))


# ------------------------------------------------------------------------ mini-batches


class Batches:
    """The loss on one batch after another: each epoch a new seeded shuffle.

    Semantics of ``torch.utils.data.DataLoader(shuffle=True)``: each row once an epoch,
    the last batch is smaller where the rows do not divide.
    """

    def __init__(self, objective: Objective, size: int, seed: int | None) -> None:
        assert objective.rows is not None, "checks.batch_rows has made sure"
        self.objective, self.rows, self.size = objective, objective.rows, size
        self.per_epoch = -(-self.rows // size)
        self._batches = self._cycle(np.random.default_rng(seed))

    def _cycle(self, generator: np.random.Generator) -> Iterator[Objective]:
        while True:
            order = generator.permutation(self.rows)
            for first in range(0, self.rows, self.size):
                yield self.objective.batch(order[first : first + self.size])

    def __call__(self, x: Vector, gradient: Vector) -> float:
        return _evaluator(next(self._batches))(x, gradient)


class FullLoss:
    """The loss over all rows at regular steps: it finds the best parameters."""

    def __init__(self, run: Run, per_epoch: int) -> None:
        self.run = run
        epochs = -(-run.plan.steps // per_epoch)
        self.every = per_epoch * max(1, -(-epochs // CHECKS))
        self.first = self.best = math.inf

    def left(self) -> int:
        """Steps until the next check."""
        return self.every - self.run.step % self.every

    def check(self) -> None:
        run = self.run
        loss = float(run.plan.objective(run.x))
        run.evaluations += 1
        if run.step == 0:
            self.first = loss
        if loss < self.best:
            self.best = loss
            run.best[:] = run.x
            run.counters[run.loops.BEST_STEP] = run.step


# --------------------------------------------------------------------------- the driver


def run_rule(plan: Plan) -> OptimizeResult:
    """Minimize; the result's fields are those of ``result.py``."""
    run = Run(plan)
    batches = None
    full = None
    if plan.batch_size is not None:
        batches = Batches(plan.objective, plan.batch_size, plan.seed)
        full = FullLoss(run, batches.per_epoch)
    evaluate = batches or _evaluator(plan.objective)
    run.start(evaluate)
    if run.why == run.loops.NOT_FINITE:
        return _bad_start(run)
    status = None
    try:
        if full is not None:
            full.check()
        _descend(run, full, None if _is_native(plan) else evaluate)
        if full is not None and run.step % full.every:
            full.check()
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    except _StoppedError:
        status = Status.STOPPED
    return _finish(run, status, batches, full)


def _is_native(plan: Plan) -> bool:
    return (
        plan.batch_size is None
        and plan.objective.native is not None
        and plan.objective.seconds_per_call <= NATIVE_SECONDS
    )


def _evaluator(objective: Objective) -> Evaluate:
    def evaluate(x: Vector, gradient: Vector) -> float:
        value, result = objective.value_and_grad(x, out=gradient)
        if result is not gradient:
            gradient[:] = result
        return float(value)

    return evaluate


def _descend(run: Run, full: FullLoss | None, evaluate: Evaluate | None) -> None:
    plan, slices = run.plan, Slices(run.plan)
    with _progress_bar(plan) as bar:
        while run.why == run.loops.RUNNING and run.step < plan.steps:
            count = slices.next(plan.steps - run.step)
            if full is not None:
                count = min(count, full.left())
            before, started = run.step, time.perf_counter()
            run.advance(count, evaluate)
            slices.learn(run.step - before, time.perf_counter() - started)
            if full is not None and run.step % full.every == 0:
                full.check()
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
            _intermediate(
                run.plan.objective, run.x.copy(), run.loss, run.step,
                jac=run.gradient.copy(),
            )
        )  # fmt: skip
    except StopIteration:
        raise _StoppedError from None


def _intermediate(
    objective: Objective, x: Vector, fun: float, step: int, **fields: Any
) -> OptimizeResult:
    """What a callback is given: copies, which it may keep."""
    from scipy.optimize import OptimizeResult

    return OptimizeResult(
        x=x, fun=fun, nit=step, params=objective.unpack(x), **fields
    )


def _progress_bar(plan: Plan) -> AbstractContextManager[Any]:
    return progress_bar(plan.rule.name, plan.steps) if plan.progress else nullcontext()


def progress_bar(method: str, steps: int) -> AbstractContextManager[Any]:
    """A tqdm bar over ``steps``."""
    from tqdm.auto import tqdm

    return tqdm(total=steps, desc=method, unit="step")


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
    fun = _evaluator(plan.objective)(run.best, gradient)
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
    if run.why in (run.loops.NOT_FINITE, run.loops.GROWN):
        return Status.DIVERGED
    if run.why == run.loops.CONVERGED:
        return Status.CONVERGED
    if run.batched:
        small = projected(run.best, gradient, run.plan.bounds) < run.plan.tol
        return Status.CONVERGED if small else Status.FINISHED
    return Status.STEP_LIMIT


def projected(x: Vector, gradient: Vector, bounds: checks.Bounds | None) -> float:
    """The largest |component| of the projected gradient."""
    if bounds is not None:
        gradient = x - np.clip(x - gradient, *bounds)
    return float(np.max(np.abs(gradient), initial=0.0))


def _message(
    run: Run,
    status: Status,
    fun: float,
    gradient: Vector,
    batches: Batches | None,
    full: FullLoss | None,
) -> str:
    plan, slope = run.plan, projected(run.best, gradient, run.plan.bounds)
    lr = float(plan.rates(max(run.step - 1, 0), 1)[0])
    if status is Status.CONVERGED:
        return advice.converged(run.step, slope, plan.tol)
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
        better_lr=lambda: _better_lr(run, lr),
    )  # fmt: skip


def _better_lr(run: Run, lr: float) -> float | None:
    """A rate at which the rule is stable and more than twice as fast, if it is known."""
    rule, plan = run.plan.rule, run.plan
    # A short run of a slow loss is not worth the evaluations of an estimate.
    if rule.stable is None or run.step < 100:
        return None
    curvature = advice.largest_curvature(plan.objective, run.best)
    if curvature is None:
        return None
    proposal = 0.5 * rule.stable(plan.options) / curvature
    return proposal if proposal > 2.0 * lr else None
