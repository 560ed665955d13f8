"""One thread at a time makes graphs and kernels, and none while the process forks.

Nodes are interned and sizes are learnt: with two threads at it, a kernel for one size
could be filed as one for any. A forked child has the locks of its parent, but not the
threads that hold them: who forks takes them first.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import nullcontext
from typing import Any

building = threading.RLock()
"""Held while graphs and kernels are made."""

_held: list[Any] = []


def _llvm_lock() -> Any:
    """llvmlite's own lock: another thread may be freeing code when this one forks."""
    library = getattr(sys.modules.get("llvmlite.binding.ffi"), "lib", None)
    return getattr(library, "_lock", None) or nullcontext()


def _before_fork() -> None:
    building.acquire()
    lock = _llvm_lock()
    lock.__enter__()
    _held.append(lock)


def _after_fork() -> None:
    _held.pop().__exit__(None, None, None)
    building.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=_after_fork,
    )
