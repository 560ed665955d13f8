"""The messages of a descent: what happened, at which step, and what to change."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Literal

import numpy as np

from symgrad.optimize.protocol import Objective, Vector
from symgrad.optimize.result import describe_parameters
from symgrad.optimize.rules import Rule
from symgrad.runtime.arrays import first_bad

_SECONDS = 1.0
"""What estimating a curvature for a message may take."""


def largest_curvature(objective: Objective, x: Vector) -> float | None:
    """|λ|max of the Hessian at ``x``, to a few percent; None where it is not finite.

    Power iteration on central differences of the gradient: a Hessian-vector product
    might have to be compiled first, which a message is not worth.
    """
    direction = np.random.default_rng(0).standard_normal(x.size)
    step = np.cbrt(np.finfo(float).eps) * (1.0 + np.linalg.norm(x))
    started, curvature = time.perf_counter(), 0.0
    for _ in range(50):
        direction /= np.linalg.norm(direction)
        ahead = np.array(objective.value_and_grad(x + step * direction)[1])
        behind = np.array(objective.value_and_grad(x - step * direction)[1])
        direction = (ahead - behind) / (2.0 * step)
        previous, curvature = curvature, float(np.linalg.norm(direction))
        if not math.isfinite(curvature) or curvature == 0.0:
            return None
        if abs(curvature - previous) <= 1e-3 * curvature:
            break
        if time.perf_counter() - started > _SECONDS:
            break
    return curvature


def curvature_along(objective: Objective, x: Vector, direction: Vector) -> float:
    """The curvature at ``x`` along a direction, nan where that is zero."""
    length = float(np.linalg.norm(direction))
    if length == 0.0:
        return math.nan
    unit = direction / length
    step = np.cbrt(np.finfo(float).eps) * (1.0 + np.linalg.norm(x))
    ahead = np.array(objective.value_and_grad(x + step * unit)[1])
    behind = np.array(objective.value_and_grad(x - step * unit)[1])
    return float(unit @ (ahead - behind)) / (2.0 * step)


def rounded(value: float, how: Literal["down", "near"] = "near") -> str:
    """A value to propose: one significant digit."""
    if how == "down":
        power = 10.0 ** math.floor(math.log10(value))
        value = math.floor(value / power * (1.0 + 1e-9)) * power
    return f"{value:.1g}"


def percent(share: float) -> str:
    return f"{100.0 * share:.2g} %"


# --------------------------------------------------------------------------- messages


def bad_start(objective: Objective, x: Vector, loss: float, gradient: Vector) -> str:
    place = f"at the initial parameters ({describe_parameters(objective, x)})"
    remedy = "change init so that the loss and its gradient are finite there"
    if not math.isfinite(loss):
        fault = _bad_element(objective)
        if fault is not None:
            return (
                f"the loss is {loss:g} {place}, and {fault}: leave such rows out, or "
                "mask them with where(isfinite(...), ..., 0)"
            )
        return (
            f"the loss is {loss:g} {place}: {remedy}, or look for {loss:g} in the data"
        )
    broken = [
        f"{name!r}"
        for name, part in objective.unpack(gradient).items()
        if not np.all(np.isfinite(part))
    ]
    return f"the gradient for {', '.join(broken)} is not finite {place}: {remedy}"


def _bad_element(objective: Objective) -> str | None:
    """The first element of the data that is not finite: ``x[3] is nan``."""
    data = getattr(objective, "data", None)
    for name, array in data.items() if isinstance(data, Mapping) else ():
        bad = first_bad(array) if isinstance(array, np.ndarray) else None
        if bad is not None:
            place, value = bad
            return f"{name}{list(place) if place else ''} is {value}"
    return None


def diverged(
    objective: Objective,
    rule: Rule,
    options: np.ndarray,
    *,
    step: int,
    start: float,
    loss: float,
    lr: float,
    best: Vector,
) -> str:
    """``step`` is the one that failed, ``start`` the loss at step 0."""
    if math.isfinite(loss):
        what = f"loss grew from {start:.4g} to {loss:.3g}"
    else:
        what = f"loss became {loss:g} (it was {start:.4g} at the start)"
    remedy = above_the_limit(objective, rule, options, lr, best)
    if remedy is None:
        remedy = f"try lr={rounded(lr / 10)} (it was {lr:g}), bounds=..., or "
        remedy += "method='lbfgs'"
    return f"diverged at step {step}: {what}; {remedy}; the best parameters are kept"


def above_the_limit(
    objective: Objective, rule: Rule, options: np.ndarray, lr: float, x: Vector
) -> str | None:
    """A smaller rate, where the limit of stable ones is known and ``lr`` above it."""
    curvature = largest_curvature(objective, x) if rule.stable else None
    if rule.stable is None or curvature is None:
        return None
    return _above(lr, rule.stable(options), curvature)


def _above(lr: float, factor: float, curvature: float) -> str | None:
    if lr <= factor / curvature:
        return None
    return (
        f"lr={lr:g} is above {factor:.2g}/L≈{factor / curvature:.2g} for this "
        f"loss, try lr={rounded(0.5 * factor / curvature, 'down')}"
    )


OVERSHOOT = 0.8
"""From this share of the limit on, steps across a valley come back almost as far."""


def other_lr(
    objective: Objective,
    rule: Rule,
    options: np.ndarray,
    *,
    lr: float,
    x: Vector,
    downhill: Vector,
    rising: bool,
) -> str | None:
    """What a better stable rate would be at the end of all steps, if one is known.

    ``downhill`` is the direction of the next step at ``x``, ``rising`` whether the loss
    rose lately. A rate near the limit is right in a long valley, which is walked along;
    it overshoots where the steps lead across.
    """
    curvature = largest_curvature(objective, x) if rule.stable else None
    if rule.stable is None or curvature is None:
        return None
    factor = rule.stable(options)
    limit, half = factor / curvature, 0.5 * factor / curvature
    if lr < 0.5 * half:
        return None if rising else f"try lr={rounded(half)}"
    across = lr * curvature_along(objective, x, downhill) > OVERSHOOT * factor
    if not across or lr > limit * (1.0 + 1e-3):
        return _above(lr, factor, curvature) if rising else None
    return (
        f"lr={lr:g} is close to {factor:.2g}/L≈{limit:.2g}: the steps overshoot; "
        f"try lr≈{rounded(half)} ({0.5 * factor:.2g}/L)"
    )


def step_limit(
    steps: int,
    *,
    slope: float,
    tol: float,
    lr: float,
    history: np.ndarray | None,
    other: str | None,
) -> str:
    """``other`` is the advice of ``other_lr``."""
    text = (
        f"did not converge in {steps} steps: largest |gradient| component "
        f"{slope:.2g} > tol {tol:g}"
    )
    fall = recent_fall(history)
    if fall is None:
        remedy = other or f"try steps={10 * max(steps, 10)}"
        return f"{text}; {remedy}, or method='lbfgs'"
    share, span = fall
    lately = f"in the last {span} steps" if span > 1 else "in the last step"
    if share < 0.0:
        remedy = other or f"try lr={rounded(lr / 10)}, a decaying lr"
        return (
            f"{text}; the loss rose by {percent(-share)} {lately}: "
            f"{remedy}, or method='lbfgs'"
        )
    if share <= 1e-8:
        remedy = other or f"try a smaller or decaying lr (it was {lr:g})"
        return (
            f"{text}; the loss no longer falls: {remedy}, method='lbfgs', or a larger "
            "tol"
        )
    remedy = other or f"try steps={10 * steps}"
    return (
        f"{text}; loss still falling by {percent(share)} {lately}; "
        f"{remedy}, or method='lbfgs'"
    )


def recent_fall(history: np.ndarray | None) -> tuple[float, int] | None:
    """Relative fall of the loss over the last tenth of the steps, and their number."""
    if history is None or history.size < 3:
        return None
    span = max(1, history.size // 10)
    before, after = float(history[-1 - span]), float(history[-1])
    return (before - after) / max(abs(before), abs(after), 1e-300), span


def finished(steps: int, epochs: float, start: float, loss: float) -> str:
    return (
        f"made {steps} steps on mini-batches ({epochs:.3g} epochs): loss over all rows "
        f"{start:.4g} at the start, {loss:.4g} at the best check"
    )


def converged(step: int, slope: float, tol: float) -> str:
    found = f"largest |gradient| component {slope:.2g} < tol {tol:g}"
    if step == 0:
        return f"the start is stationary already: {found}"
    return f"converged in {step} steps: {found}"


def stopped(step: int) -> str:
    return f"the callback stopped the run after step {step}"


def interrupted(step: int) -> str:
    return f"interrupted at step {step}; the best parameters seen are returned"
