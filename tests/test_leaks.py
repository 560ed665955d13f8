"""Memory does not grow with calls and compilations: see ``bench/leaks.py``, too."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from test_faults import TEXT, values

import symgrad as sg


def resident():
    """Bytes of memory in use."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="no /proc here"
)


@needs_proc
def test_calls_do_not_add_up():
    """``bench/leaks.py`` makes 100 000."""
    loss = sg.compile(TEXT, wrt=["w", "b"])
    given = [values(n) for n in (3, 40, 500)]
    bound = loss.bind({"w": given[0]["w"], "b": 0.0}, X=given[1]["X"], y=given[1]["y"])

    def calls(count):
        for k in range(count):
            loss.value_and_grad(**given[k % 3])
            loss(**given[k % 2])
            bound.value_and_grad(np.full(4, float(k)))

    calls(600)
    before = resident()
    calls(3000)
    assert resident() - before < 1 << 20  # 116 bytes a call would show


@needs_proc
def test_compilations_do_not_add_up():
    """``bench/leaks.py`` makes 1000."""

    def compilations(first, count):
        for k in range(first, first + count):
            sg.compile(f"sum(tanh(a*x + {k}))", wrt=["a"]).value_and_grad(
                a=1.0, x=np.ones(3)
            )
        gc.collect()

    compilations(0, 30)
    before = resident()
    compilations(30, 60)
    assert resident() - before < 60 * 50_000
