"""Mini-batches: shuffled epochs, and the loss over all rows now and then."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from symgrad.optimize.protocol import Objective, Vector, evaluator

CHECKS = 50
"""About how often a run evaluates the loss over all rows."""


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
        """The loss on the next batch."""
        return evaluator(next(self._batches))(x, gradient)


class FullLoss:
    """The loss over all rows, at whole epochs: it finds the best parameters.

    At most every epoch, and about ``CHECKS`` times a run, so that it costs little; the
    steps at which it is due depend on nothing but the arguments of the run.
    """

    def __init__(self, objective: Objective, steps: int, per_epoch: int) -> None:
        self.objective = objective
        epochs = -(-steps // per_epoch)
        self.every = per_epoch * max(1, -(-epochs // CHECKS))
        self.first = self.best = math.inf
        self.checked = -1

    def left(self, step: int) -> int:
        """Steps until the next check."""
        return self.every - step % self.every

    def is_due(self, step: int) -> bool:
        return step % self.every == 0

    def improves(self, x: Vector, step: int) -> bool:
        """Evaluate at ``x``; whether it is the lowest loss so far."""
        loss = float(self.objective(x))
        self.checked = step
        if step == 0:
            self.first = loss
        better = loss < self.best
        self.best = loss if better else self.best
        return better
