"""One thread at a time makes graphs and kernels."""

from __future__ import annotations

import os
import threading

building = threading.RLock()
"""Held while graphs and kernels are made. Nodes are interned and sizes are learnt: with
two threads at it, a kernel for one size could be filed as one for any."""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=building.acquire,  # no kernel is half made in the child
        after_in_parent=building.release,
        after_in_child=building.release,
    )
