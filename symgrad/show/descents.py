"""Real descents for a report: many learning rates, and the loss around the start."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from symgrad.runtime.function import Loss

Vector = NDArray[np.float64]

RATES = 17
STEPS = 60
SECONDS = 20.0  # that all descents together may take, about
SHOWN = 8  # components of the parameters that are recorded
_POINTS = 61  # of a curve
_GRID = 48  # of a map, per side
_POWER = 25  # iterations for the largest curvature


@dataclass(frozen=True)
class Run:
    """One descent: the loss at the start and after each step, likewise the first
    ``SHOWN`` components of the parameters (steps + 1, shown) and of the gradient.
    kind: "slow", "converging", "oscillating", "diverging", or "unbounded" (it falls
    ever faster)."""

    lr: float
    losses: list[float]
    points: list[list[float]]
    gradients: list[list[float]]
    message: str
    kind: str


@dataclass(frozen=True)
class Curve:
    """The loss along one component, all others as they are; slope: its derivative."""

    name: str
    at: float
    value: float
    slope: float
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Map:
    """The loss (rows of y) over a grid of two parameters; one row for a single one."""

    x: list[float]
    y: list[float]
    z: list[list[float]]


class Landscape:
    """A loss as a function of its flat parameters, at given data."""

    def __init__(self, loss: Loss, values: Mapping[str, Any]) -> None:
        parameters = {name: values[name] for name in loss.wrt}
        data = {k: v for k, v in values.items() if k not in parameters}
        self.objective = loss.bind(parameters, **data)
        self.start: Vector = self.objective.pack(parameters)
        self.names = component_names(
            {k: np.shape(parameters[k]) for k in loss.wrt}, SHOWN
        )

    def curves(self) -> list[Curve]:
        """The loss along each of the first components."""
        value, gradient = self.objective.value_and_grad(self.start)
        result = []
        for k, name in enumerate(self.names):
            at = float(self.start[k])
            reach = max(1.0, abs(at))
            x = np.linspace(at - reach, at + reach, _POINTS)
            result.append(
                Curve(name, at, float(value), float(gradient[k]), x.tolist(),
                      [self._value(k, t) for t in x])
            )  # fmt: skip
        return result

    def _value(self, component: int, at: float) -> float:
        point = self.start.copy()
        point[component] = at
        return float(self.objective(point))

    def map(self, runs: list[Run]) -> Map | None:
        """The loss around the tame descents of one or two parameters, else None."""
        if self.start.size not in (1, 2):
            return None
        tame = [r for r in runs if r.kind in ("slow", "converging")] or runs[:1]
        points = np.concatenate([np.asarray(r.points) for r in tame])
        points = points[np.isfinite(points).all(axis=1)]
        low, high = points.min(axis=0), points.max(axis=0)
        margin = 0.35 * np.maximum(high - low, 0.2 * np.maximum(1.0, abs(high)))
        axes = [np.linspace(a, b, _GRID) for a, b in zip(low - margin, high + margin,
                                                         strict=True)]  # fmt: skip
        rows = [[np.array([a, b]) for a in axes[0]] for b in axes[-1]]
        if self.start.size == 1:
            rows = [[np.array([a]) for a in axes[0]]]
        z = [[float(self.objective(point)) for point in row] for row in rows]
        return Map(axes[0].tolist(), axes[-1].tolist(), z)

    # -- learning rates --------------------------------------------------------------

    def curvature(self) -> float:
        """The largest |eigenvalue| of the Hessian at the start, by power iteration."""
        v = np.cos(np.arange(self.start.size) + 0.5)
        size = 0.0
        for _ in range(_POWER):
            v /= np.linalg.norm(v) or 1.0
            v = np.asarray(self.objective.hvp(self.start, v), np.float64)
            size = float(np.linalg.norm(v))
            if not np.isfinite(size) or size == 0.0:
                break
        return size

    def rates(self, count: int = RATES) -> Vector:
        """Learning rates from too small to too large: 2/curvature is the border."""
        size = self.curvature()
        if not np.isfinite(size) or size < 1e-12:
            return np.geomspace(1e-4, 1.0, count)
        return np.geomspace(0.004 * 2 / size, 2.2 * 2 / size, count)

    def runs(self, steps: int | None = None) -> list[Run]:
        """A descent for each learning rate, from the same start."""
        if steps is None:
            began = time.perf_counter()
            self.objective.value_and_grad(self.start)
            once = time.perf_counter() - began
            steps = int(np.clip(SECONDS / (RATES * max(once, 1e-6)), 12, STEPS))
        return [self.run(float(lr), steps) for lr in self.rates()]

    def run(self, lr: float, steps: int) -> Run:
        """Plain gradient descent with ``lr``, every step recorded."""
        from symgrad.optimize.minimize import minimize_objective

        points = [self.start[:SHOWN].tolist()]

        def record(state: Any) -> None:
            points.append(np.asarray(state.x)[:SHOWN].tolist())

        result = minimize_objective(
            self.objective, self.start, method="gd", lr=lr, steps=steps, tol=1e-10,
            callback=record,
        )  # fmt: skip
        losses = np.asarray(result.history, np.float64).tolist()
        count = min(len(losses), len(points))
        losses, points = losses[:count], points[:count]
        slopes = [self._slope(a, b, lr) for a, b in pairwise(points)]
        return Run(lr, losses, points, slopes, str(result.message), kind_of(losses))

    @staticmethod
    def _slope(before: list[float], after: list[float], lr: float) -> list[float]:
        """The gradient of a step, from the update: plain descent is x - lr*g."""
        return [(a - b) / lr for a, b in zip(before, after, strict=True)]


def kind_of(losses: list[float]) -> str:
    """What a descent does: see ``Run.kind``."""
    values = np.asarray(losses)
    if not np.isfinite(values).all() or values[-1] > values[0] + 1e-12 * abs(values[0]):
        return "diverging"
    if len(values) < 3:
        return "converging"
    steps = np.diff(values)
    if steps[-1] < 0 and abs(steps[-1]) > 4 * abs(steps).mean() > 4 * abs(steps[0]):
        return "unbounded"
    scale = 1e-9 * max(1.0, float(np.abs(values).max()))
    if (steps > scale).mean() > 0.15:
        return "oscillating"
    # Still going down as fast as at the beginning: the steps are too small.
    first, last = abs(steps[0]), abs(steps[-1])
    return "slow" if last > 0.2 * first and first > scale else "converging"


def component_names(shapes: Mapping[str, tuple[int, ...]], most: int) -> list[str]:
    """``a``, ``w[0]``, ``w[1]``, ...: the first components of the flat vector."""
    result: list[str] = []
    for name, shape in shapes.items():
        for place in np.ndindex(*shape):
            if len(result) == most:
                return result
            result.append(f"{name}[{', '.join(map(str, place))}]" if place else name)
    return result
