"""Run the chunks of a pass on several threads.

Chunks do not depend on the number of threads, and each has its own partial sums, so any
split gives the same bits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache


def default_threads() -> int:
    """``SYMGRAD_NUM_THREADS`` if set, else the processors this process may use."""
    wanted = os.environ.get("SYMGRAD_NUM_THREADS")
    if wanted is not None:
        return max(1, int(wanted))
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


building = threading.RLock()
"""Held while graphs and kernels are made. Nodes are interned and sizes are learnt: with
two threads at it, a kernel for one size could be filed as one for any."""


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="symgrad")


def in_parallel(task: Callable[[int, int, int], None], chunks: int, count: int) -> None:
    """``task(worker, low, high)`` over 0 .. chunks-1 split into ``count`` ranges.

    The calling thread takes the first range.
    """
    count = max(1, min(count, chunks))
    bounds = [chunks * k // count for k in range(count + 1)]
    others: list[Future[None]] = []
    if count > 1:
        pool = _pool(count - 1)
        for k in range(1, count):
            others.append(pool.submit(task, k, bounds[k], bounds[k + 1]))
    task(0, bounds[0], bounds[1])
    for other in others:
        other.result()


def _after_fork() -> None:
    """The child has none of the workers, and is nobody's but its own."""
    _pool.cache_clear()
    building.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=building.acquire,  # no kernel is half made in the child
        after_in_parent=building.release,
        after_in_child=_after_fork,
    )
