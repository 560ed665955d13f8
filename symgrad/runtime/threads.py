"""Run the chunks of a pass on several threads.

Chunks do not depend on the number of threads, and each has its own partial sums, so any
split gives the same bits.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from typing import Any


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
    for k in range(1, count):
        try:
            others.append(_pool(count - 1).submit(task, k, bounds[k], bounds[k + 1]))
        except RuntimeError:  # the interpreter is ending: no more work for its workers
            task(k, bounds[k], bounds[count])
            break
    task(0, bounds[0], bounds[1])
    for other in others:
        other.result()


# --- Forks ----------------------------------------------------------------------------


def _llvm_lock() -> Any:
    """llvmlite's own lock: another thread may be freeing code when this one forks."""
    library = getattr(sys.modules.get("llvmlite.binding.ffi"), "lib", None)
    return getattr(library, "_lock", None) or nullcontext()


_held: list[Any] = []


def _before_fork() -> None:
    """No kernel is half made in the child, and no lock is nobody's."""
    building.acquire()
    lock = _llvm_lock()
    lock.__enter__()
    _held.append(lock)


def _after_fork() -> None:
    _held.pop().__exit__(None, None, None)
    building.release()


def _after_fork_in_child() -> None:
    _after_fork()
    _pool.cache_clear()  # the workers have stayed with the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=_after_fork_in_child,
    )
