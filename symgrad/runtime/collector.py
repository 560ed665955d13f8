"""Python's cyclic garbage collector pauses while a formula is compiled.

Compiling makes hundreds of thousands of small objects that live on, and no cycles worth
looking for; the collector would walk over all of them again and again (a third of the
time for 10 000 operations).
"""

from __future__ import annotations

import gc
from threading import Lock


class _PausedCollector:
    """No automatic collections meanwhile. May be nested, and used by many threads."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.inside = 0  # compilations that run now, in all threads
        self.resume = False  # was the collector on before the first of them?

    def __enter__(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.resume = gc.isenabled()
                gc.disable()
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0 and self.resume:
                gc.enable()


paused_collector = _PausedCollector()
"""Use as ``with paused_collector:``."""
