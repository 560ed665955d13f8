"""The workers: sleep and waking, forks, the interpreter's end, many callers at once."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.runtime import threads

LOSS = "mean((tanh(X @ w + b) - y)**2)"


def bound(count: int = 2) -> tuple[Any, np.ndarray]:
    """An objective that is worth two threads, and a point."""
    rng = np.random.default_rng(0)
    data = {"X": rng.normal(size=(100_000, 6)), "y": rng.normal(size=100_000)}
    f = sg.compile(LOSS, wrt=["w", "b"], threads=count)
    return f.bind({"w": np.zeros(6), "b": 0.0}, **data), rng.normal(size=7)


@pytest.fixture
def taken(monkeypatch):
    """Which passes the workers took part in."""
    seen = []
    plain = threads._Pool.run

    def noted(pool, *arguments):
        seen.append(plain(pool, *arguments))
        return seen[-1]

    monkeypatch.setattr(threads._Pool, "run", noted)
    return seen


def test_sleeping_workers_wake_up(taken):
    objective, x = bound()
    first = objective.value_and_grad(x)
    for _ in range(3):
        time.sleep(0.05)  # far longer than a worker looks for work
        again = objective.value_and_grad(x)
        assert again[0] == first[0]
        np.testing.assert_array_equal(again[1], first[1])
    assert taken == [True] * len(taken)
    assert taken


def test_workers_take_chunks():
    """All chunks are run once, and not by one thread only; which takes which, and
    whether a worker comes in time, is chance."""
    done: list[tuple[int, int]] = []
    who: set[int] = set()

    @threads._CHUNKS
    def chunk(*arguments):
        done.append(arguments[-2:])
        who.add(threading.get_ident())
        time.sleep(0.005)

    address = ctypes.cast(chunk, ctypes.c_void_p).value
    assert address is not None
    for _ in range(100):
        done.clear()
        threads.in_parallel(address, (0, 0, 0, 0), (0, 0), 8)
        assert sorted(done) == [(k, k + 1) for k in range(8)]
        if len(who) > 1:
            return
    raise AssertionError("the worker never came")


def test_many_callers():
    """The workers serve one; the others work alone: the same bits."""
    objective, x = bound()
    points = [x * (1 + k) for k in range(8)]
    expected = [objective.value_and_grad(p) for p in points]
    wrong: list[int] = []

    def call(k: int) -> None:
        for _ in range(20):
            value, gradient = objective.value_and_grad(points[k])
            if value != expected[k][0] or (gradient != expected[k][1]).any():
                wrong.append(k)

    callers = [threading.Thread(target=call, args=(k,)) for k in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_more_workers_later():
    value = [bound(count)[0](bound(count)[1]) for count in (2, 4, 3)]
    assert value[0] == value[1] == value[2]


PROGRAM = """
import os, sys
import numpy as np
import symgrad as sg
f = sg.compile({loss!r}, wrt=["w", "b"], threads=2)
rng = np.random.default_rng(0)
data = dict(X=rng.normal(size=(100_000, 6)), y=rng.normal(size=100_000))
values = dict(w=np.ones(6), b=0.0)
before = f(**values, **data)
{rest}
"""


def ran(rest: str) -> subprocess.CompletedProcess[str]:
    """A program of its own that has used the workers, then does ``rest``."""
    program = PROGRAM.format(loss=LOSS, rest=rest)
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "rest", ["", "import time; time.sleep(0.1)"], ids=["awake", "asleep"]
)
def test_interpreter_ends(rest):
    done = ran(rest)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_fork_after_use():
    """The child has workers of its own."""
    done = ran(
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(0 if f(**values, **data) == before else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert f(**values, **data) == before"
    )
    assert done.returncode == 0, done.stderr


def test_use_at_exit():
    """After the workers have gone, callers work alone."""
    done = ran(
        "import atexit\n"
        "from symgrad.runtime import threads\n"
        "atexit.unregister(threads._close)\n"
        "atexit.register(lambda: print(f(**values, **data) == before))\n"
        "atexit.register(threads._close)"
    )
    assert done.stdout.split() == ["True"], done.stderr
