"""Learning-rate schedules: functions of the step, counted from 0.

The names and formulas are those of optax (snake case) and of
``torch.optim.lr_scheduler`` (camel case, with the initial rate as first argument);
torch's are in closed form. A :class:`Schedule` takes a step or an array of steps, so
that a compiled loop gets the rates of a whole slice from one call; any other Python
callable of the step is called once a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Schedule:
    """A learning rate: ``formula(steps)`` on float64 arrays of any shape."""

    name: str
    formula: Callable[[np.ndarray], Any]

    def __call__(self, step: ArrayLike) -> Any:
        steps = np.asarray(step, dtype=np.float64)
        rates = self.formula(steps) + np.zeros(steps.shape)
        return float(rates) if steps.ndim == 0 else rates

    def __repr__(self) -> str:
        return f"<learning rate schedule {self.name}>"


# ---------------------------------------------------------------------- optax's names


def constant_schedule(value: float) -> Schedule:
    return Schedule("constant_schedule", lambda t: value)


def linear_schedule(
    init_value: float,
    end_value: float,
    transition_steps: int,
    transition_begin: int = 0,
) -> Schedule:
    def formula(t: np.ndarray) -> np.ndarray:
        done = np.clip((t - transition_begin) / transition_steps, 0.0, 1.0)
        return init_value + (end_value - init_value) * done

    return Schedule("linear_schedule", formula)


def exponential_decay(
    init_value: float,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    """``init_value * decay_rate ** (t / transition_steps)``, bounded by ``end_value``.

    ``end_value`` bounds from below where the rate decays, from above where it grows.
    """

    def formula(t: np.ndarray) -> np.ndarray:
        count = np.maximum(t - transition_begin, 0.0) / transition_steps
        count = np.floor(count) if staircase else count
        rates = init_value * decay_rate**count
        if end_value is None:
            return rates
        bound = np.maximum if decay_rate < 1.0 else np.minimum
        return bound(rates, end_value)

    return Schedule("exponential_decay", formula)


def cosine_decay_schedule(
    init_value: float, decay_steps: int, alpha: float = 0.0, exponent: float = 1.0
) -> Schedule:
    """Half a cosine from ``init_value`` down to ``alpha * init_value``."""

    def formula(t: np.ndarray) -> np.ndarray:
        half = 0.5 * (1.0 + np.cos(np.pi * np.minimum(t / decay_steps, 1.0)))
        return init_value * ((1.0 - alpha) * half**exponent + alpha)

    return Schedule("cosine_decay_schedule", formula)


def piecewise_constant_schedule(
    init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """``init_value`` times the scales of all boundaries that lie before the step."""
    scales = dict(boundaries_and_scales or {})

    def formula(t: np.ndarray) -> np.ndarray:
        rates = np.full(t.shape, float(init_value))
        for boundary, scale in scales.items():
            rates = rates * np.where(t > boundary, scale, 1.0)
        return rates

    return Schedule("piecewise_constant_schedule", formula)


def join_schedules(
    schedules: Sequence[Callable[[Any], Any]], boundaries: Sequence[int]
) -> Schedule:
    """One schedule after another; each counts its own steps from its boundary."""

    def formula(t: np.ndarray) -> np.ndarray:
        rates = schedules[0](t)
        for boundary, schedule in zip(boundaries, schedules[1:], strict=True):
            rates = np.where(t < boundary, rates, schedule(t - boundary))
        return rates

    return Schedule("join_schedules", formula)


def warmup_constant_schedule(
    init_value: float, peak_value: float, warmup_steps: int
) -> Schedule:
    return linear_schedule(init_value, peak_value, warmup_steps)


def warmup_cosine_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    decay_steps: int,
    end_value: float = 0.0,
    exponent: float = 1.0,
) -> Schedule:
    """A linear warm-up, then a cosine; ``decay_steps`` includes the warm-up."""
    warmup = linear_schedule(init_value, peak_value, warmup_steps)
    alpha = 0.0 if peak_value == 0.0 else end_value / peak_value
    decay = cosine_decay_schedule(
        peak_value, decay_steps - warmup_steps, alpha, exponent
    )
    return join_schedules([warmup, decay], [warmup_steps])


# ---------------------------------------------------------------------- torch's names


def StepLR(lr: float, step_size: int, gamma: float = 0.1) -> Schedule:
    return Schedule("StepLR", lambda t: lr * gamma ** np.floor(t / step_size))


def MultiStepLR(lr: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    marks = np.sort(np.asarray(milestones, dtype=np.float64))
    return Schedule(
        "MultiStepLR", lambda t: lr * gamma ** np.searchsorted(marks, t, side="right")
    )


def ExponentialLR(lr: float, gamma: float) -> Schedule:
    return Schedule("ExponentialLR", lambda t: lr * gamma**t)


def CosineAnnealingLR(lr: float, T_max: int, eta_min: float = 0.0) -> Schedule:
    """A cosine of half-period ``T_max``: it rises again after ``T_max`` steps."""
    return Schedule(
        "CosineAnnealingLR",
        lambda t: eta_min + (lr - eta_min) * (1.0 + np.cos(np.pi * t / T_max)) / 2.0,
    )


def LinearLR(
    lr: float,
    start_factor: float = 1.0 / 3.0,
    end_factor: float = 1.0,
    total_iters: int = 5,
) -> Schedule:
    return Schedule(
        "LinearLR",
        linear_schedule(lr * start_factor, lr * end_factor, total_iters).formula,
    )


def ConstantLR(lr: float, factor: float = 1.0 / 3.0, total_iters: int = 5) -> Schedule:
    return Schedule("ConstantLR", lambda t: np.where(t < total_iters, lr * factor, lr))
