"""Data larger than the device's memory: some rows at a time.

A pass over rows is several launches, each for a part of the rows, whose data are copied
into the same place before it. All blocks of all launches have partial sums of their
own, so that the sums are complete when the last block of the last launch is done, as if
there had been one launch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad.graph import Input
from symgrad.runtime.cuda_device import Buffer, Device
from symgrad.runtime.work import loads_of
from symgrad.schedule import Plan, cost
from symgrad.schedule.plan import Step

SHARE = 0.5
"""Of the free memory: data that need more are passed through in parts."""

GROUP = 16
"""Rows of a part are a multiple of this."""

PART_BYTES = 1 << 28
"""Data of one part, at most."""


class Streamed:
    """Arrays in ordinary memory that a kernel reads in parts.

    arrays: by name, all in C order. parts: launches per pass; rows: of one launch.
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        readers: Mapping[Step, list[str]],
        lengths: Mapping[str, int],
        part_bytes: int,
    ) -> None:
        self.arrays = {k: np.ascontiguousarray(a) for k, a in arrays.items()}
        self.readers = readers
        self.rows: dict[Step, int] = {}
        self.parts: dict[Step, int] = {}
        self._buffers: dict[str, Buffer] = {}
        for step, names in readers.items():
            assert step.row is not None
            total = cost.length(step.row.extent, lengths)
            row_bytes = sum(self._row_bytes(name) for name in names)
            most = max(1, part_bytes // max(1, row_bytes))
            rows = math.ceil(total / max(1, math.ceil(total / most)))
            # whole groups of rows: every part starts where kernels may load widely
            self.rows[step] = rows = max(1, math.ceil(rows / GROUP)) * GROUP
            self.parts[step] = max(1, math.ceil(total / rows))

    def _row_bytes(self, name: str) -> int:
        array = self.arrays[name]
        return array.nbytes // max(1, len(array))

    def place(self, device: Device) -> None:
        """Device memory for the largest part of each array."""
        for step, names in self.readers.items():
            for name in names:
                size = self.rows[step] * self._row_bytes(name)
                if name not in self._buffers or self._buffers[name].size < size:
                    self._buffers[name] = Buffer(device, size)

    def bring(self, device: Device, step: Step, begin: int, end: int) -> dict[str, int]:
        """Copy rows ``begin`` to ``end`` of all that a pass reads; where row 0 of each
        array would be."""
        found = {}
        for name in self.readers[step]:
            buffer = self._buffers[name]
            device.upload(buffer.address, self.arrays[name][begin:end])
            found[name] = buffer.address - begin * self._row_bytes(name)
        return found


def streamed(
    plan: Plan,
    data: Mapping[str, NDArray[Any]],
    lengths: Mapping[str, int],
    free: int,
) -> Streamed | None:
    """What must go through in parts, if the data are too large for ``free`` bytes.

    Only arrays that passes read at their own row can: what is read at other rows stays
    whole on the device.
    """
    if sum(a.nbytes for a in data.values()) <= SHARE * free:
        return None
    readers = _readers(plan, data)
    names = {name for found in readers.values() for name in found}
    if not names:
        return None
    part = min(PART_BYTES, int(SHARE * free) // 2)
    return Streamed({k: data[k] for k in names}, readers, lengths, part)


def _readers(plan: Plan, data: Mapping[str, Any]) -> dict[Step, list[str]]:
    """Per pass the arrays that are read at its row only, here and everywhere."""
    found: dict[Step, dict[str, None]] = {}
    whole: set[str] = set()
    for step in plan.steps:
        for load in loads_of(step, plan):
            if not isinstance(load.array, Input) or load.array.name not in data:
                continue
            name = load.array.name
            first = load.indices[0] if load.indices else None
            row = step.row
            if row is not None and first is row and load.array.shape[0] is row.extent:
                found.setdefault(step, {})[name] = None
            else:
                whole.add(name)
    kept = {s: [n for n in names if n not in whole] for s, names in found.items()}
    return {step: names for step, names in kept.items() if names}
