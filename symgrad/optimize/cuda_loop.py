"""Whole descents on a GPU: parameters, state and best parameters stay there.

A slice of steps is a handful of calls: some dozens of steps are recorded as one graph.
After a slice the host has the parameters, the gradient, the new part of the history and
the counters, as after a slice of the processor's loops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symgrad.optimize.cuda_step import FIELDS, PLACE, StepWriter
from symgrad.optimize.rules import Rule
from symgrad.runtime.cuda_device import Buffer

if TYPE_CHECKING:
    from symgrad.optimize.loops import Record
    from symgrad.runtime.cuda_objective import CudaObjective

STEPS_OF_A_GRAPH = 32

_VECTORS = ("x", "gradient", "best", "state", "options", "lower", "upper")
_KEPT = ("x", "gradient", "best")
"""What the host gets back after each slice."""

_COUNTS = ("step", "best_step")
_CHANGED = (*_COUNTS, "loss", "lowest", "largest")


class DeviceDescent:
    """The loop of a rule around one objective: called as the processor's are."""

    def __init__(self, objective: Any, rule: Rule, record: Record) -> None:
        self.host = record
        self.objective: CudaObjective = objective
        writer = StepWriter(rule, bool(record["bounded"]))
        self.context = objective.descending(writer.step, writer.move)
        device = self.device = self.context.device
        self.vectors: dict[str, Buffer] = {}
        self.record = Buffer(device, 8 * len(FIELDS))
        self.fields = np.zeros(len(FIELDS), np.int64)
        self.context.set_record(self.record.address)
        self._move = self.context.module.function("move")
        self._graph: Callable[[], None] | None = None

    def _place(self) -> None:
        """Copy the vectors to the device: the first slice starts there."""
        for name in _VECTORS:
            self.vectors[name] = Buffer.holding(self.device, self._of(name))
        x, gradient = (self.vectors[name].address for name in ("x", "gradient"))
        self.objective.point_vectors(self.context, x, gradient)

    def _of(self, name: str) -> NDArray[np.float64]:
        """A vector of the host's record; those that are empty need a place, too."""
        array = self.host.kept[name]
        return array if array.size else np.zeros(1)

    def __call__(self, _: int) -> int:
        """Up to ``steps`` steps, as the record says; why it ended."""
        host = self.host
        if not self.vectors:
            self._place()
        first, count = host["step"], host["steps"]
        losses, start = self._prepare(first, count)
        if first >= 0:
            self.context.run(self._move, 1)
        self._run(count)
        self._fetch(first, losses, start)
        return int(self.fields[PLACE["why"]])

    def _prepare(self, first: int, count: int) -> tuple[Buffer, int]:
        """Tell the device what this slice is; where its losses go."""
        host, fields = self.host, self.fields
        fields[: len(host.fields)] = host.fields
        for name, buffer in self.vectors.items():
            fields[PLACE[name]] = buffer.address
        thin = max(0, host["thin"])
        start = (max(first, -1) + 1) >> thin
        losses = Buffer(self.device, 8 * ((count >> thin) + 2))
        fields[PLACE["losses"]] = losses.address - 8 * start
        self._rates = Buffer.holding(self.device, host.kept["rates"])
        fields[PLACE["rates"]] = self._rates.address
        fields[PLACE["why"]] = 0
        fields[PLACE["first"]] = first
        fields[PLACE["target"]] = first + count
        self.device.upload(self.record.address, fields)
        self.device.clear(self.context.status, 8)
        return losses, start

    def _run(self, count: int) -> None:
        graphs, rest = divmod(count, STEPS_OF_A_GRAPH)
        streamed, by_value = self.context.streamed, self.context.kernel.by_value
        if streamed is not None or not by_value:  # copies from here belong to no graph
            graphs, rest = 0, count
        if graphs and self._graph is None:
            self._graph = self.device.repeated(self.context.launch, STEPS_OF_A_GRAPH)
        for _ in range(graphs):
            assert self._graph is not None
            self._graph()
        for _ in range(rest):
            self.context.launch()

    def _fetch(self, first: int, losses: Buffer, start: int) -> None:
        """Bring the host's record up to date."""
        host, device = self.host, self.device
        device.download(self.fields, self.record.address)
        self.objective.check_indices(self.context)
        numbers = self.fields.view(np.float64)
        for name in _CHANGED:
            place = PLACE[name]
            host[name] = (numbers if name not in _COUNTS else self.fields)[place].item()
        for name in _KEPT:
            device.download(host.kept[name], self.vectors[name].address)
        if host["thin"] >= 0:
            stop = (host["step"] >> host["thin"]) + 1
            part = np.empty(max(0, stop - start))
            device.download(part, losses.address)
            # where the slice starts between two entries, the first is not this slice's
            skip = int((start << host["thin"]) <= first)
            host.kept["losses"][start + skip : stop] = part[skip:]
