"""Mini-batches: shuffled epochs, and the loss over all rows now and then."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad.optimize.batch_text import BATCH
from symgrad.optimize.loops import Entries
from symgrad.optimize.protocol import Objective, Vector, evaluator
from symgrad.runtime.object_layout import address

CHECKS = 50
"""About how often a run evaluates the loss over all rows."""


class Batches:
    """The loss on one batch after another: each epoch a new seeded shuffle.

    Semantics of ``torch.utils.data.DataLoader(shuffle=True)``: each row once an epoch,
    the last batch is smaller where the rows do not divide. Rows are copied to buffers
    that two losses look at, one on whole batches and one on the last of an epoch.
    """

    def __init__(
        self, objective: Objective, size: int, seed: int | None, entries: Entries
    ) -> None:
        assert objective.rows is not None, "checks.batch_rows has made sure"
        self.rows, self.size = objective.rows, size
        self.per_epoch = -(-self.rows // size)
        rest = self.rows % size
        self.whole, lines = objective.buffered(size)
        self.short, short_lines = self.whole, lines
        if rest:
            self.short, short_lines = objective.buffered(rest)
        self._next = entries.next_batch
        self._tables = [_table(lines), _table(short_lines)]
        self._order = np.empty(self.rows, np.int64)
        generator = np.random.default_rng(seed).bit_generator
        self._generator = generator.ctypes
        self._fields = np.array([self._field(name, lines) for name in BATCH], np.int64)
        self._owners = (generator, lines, short_lines)

    def _field(self, name: str, lines: Lines) -> int:
        fixed = {
            "rows": self.rows,
            "rows_per_batch": self.size,
            "position": 0,
            "order": address(self._order),
            "generator": self._generator.state_address,
            "next_uint32": function_address(self._generator.next_uint32),
            "arrays": len(lines),
            "whole": address(self._tables[0]),
            "short": address(self._tables[1]),
        }
        if name in fixed:
            return int(fixed[name])
        native = (self.whole if name == "whole_context" else self.short).native
        return 0 if native is None else native.context

    @property
    def address(self) -> int:
        """Of the fields of ``batch_text.BATCH``."""
        return address(self._fields)

    def __call__(self, x: Vector, gradient: Vector) -> float:
        """The loss on the next batch."""
        short = self._next(self.address)
        return evaluator(self.short if short else self.whole)(x, gradient)


Lines = list[tuple[NDArray[Any], NDArray[Any]]]


def _table(lines: Lines) -> NDArray[np.int64]:
    """Lines of ``batch_text.LINE``."""
    table = [
        (
            address(source), source.strides[0], address(buffer), buffer.strides[0],
            buffer.strides[0],
        )
        for source, buffer in lines
    ]  # fmt: skip
    return np.array(table, np.int64)


def function_address(function: Any) -> int:
    """Of a function of ctypes."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


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
