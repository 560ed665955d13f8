"""Compares values, then takes times: every contender in turn, several rounds.

On few processors the idle threads of one library, which spin for a while in wait of
more work, slow down the next. So each contender has a turn of many calls in a row, as
an optimiser makes them, and before it everybody rests until threads have gone to sleep.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.comparison.contenders import Answer

TOLERANCE = {"float64": 1e-9, "float32": 2e-3}
"""Of the loss and of each gradient's entries, relative to the largest, against PyTorch
in float64 at the same rounded numbers. Who is further away is not timed."""

REST = 0.02
"""Seconds before a turn. OpenMP's threads spin for about 4 ms."""

Sample = tuple[float, float]
"""Seconds of a call: by the clock, and of the processors."""

FAST = 30e-6
"""Calls shorter than this are timed several at a time."""


@dataclass(frozen=True)
class Plan:
    """How long to measure: ``rounds`` turns of about ``turn`` seconds each."""

    rounds: int = 7
    turn: float = 0.05
    rest: float = REST


@dataclass(frozen=True)
class Times:
    """Seconds a call: the median, the lowest decile, the median of the processors'
    time (of all threads together), and how many calls were timed."""

    median: float
    low: float
    cpu: float
    count: int


def difference(found: Answer, expected: Answer) -> float:
    """The largest difference of loss and gradients, relative to the largest entry."""
    worst = abs(found[0] - expected[0]) / max(abs(expected[0]), 1e-30)
    for name, right in expected[1].items():
        got = np.asarray(found[1][name], dtype=np.float64).reshape(right.shape)
        if not np.isfinite(got).all():
            return float("inf")
        scale = max(float(np.abs(right).max(initial=0.0)), 1e-30)
        worst = max(worst, float(np.abs(got - right).max(initial=0.0)) / scale)
    return worst if np.isfinite(worst) else float("inf")


def in_turns(calls: Mapping[str, Callable[[], object]], plan: Plan) -> dict[str, Times]:
    """Time the calls: ``plan.rounds`` turns of each."""
    sizes = {name: _size(call, plan) for name, call in calls.items()}
    taken: dict[str, list[Sample]] = {name: [] for name in calls}
    names = list(calls)
    enabled = gc.isenabled()
    gc.disable()
    try:
        for number in range(plan.rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                time.sleep(plan.rest)
                taken[name] += _turn(calls[name], *sizes[name])
    finally:
        if enabled:
            gc.enable()
    return {name: summary(times, sizes[name][1]) for name, times in taken.items()}


def summary(samples: list[Sample], each: int = 1) -> Times:
    """Median and lowest decile."""
    wall = sorted(wall for wall, _ in samples)
    cpu = statistics.median(cpu for _, cpu in samples)
    low = wall[len(wall) // 10]
    return Times(statistics.median(wall), low, cpu, len(wall) * each)


def _size(call: Callable[[], object], plan: Plan) -> tuple[int, int]:
    """Samples in a turn, and calls in a sample."""
    call()
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    one = max(min(times), 1e-8)
    each = max(1, round(FAST / one)) if one < FAST else 1
    return max(3, min(1000, int(plan.turn / (one * each)))), each


def _turn(call: Callable[[], object], samples: int, each: int) -> list[Sample]:
    call()  # wakes its threads, brings its data to the caches
    times = []
    clock, processor = time.perf_counter, time.process_time
    for _ in range(samples):
        begin, used = clock(), processor()
        for _ in range(each):
            call()
        times.append(((clock() - begin) / each, (processor() - used) / each))
    return times
