"""Does memory grow with calls, compilations and endings?

    python bench/leaks.py
    python bench/leaks.py --calls 1000000 --compilations 5000 --endings 100

Prints the resident memory as the counts go up, and what one call or compilation costs
in the second half of a run: allocators settle in the first. Exit status 1 if a call
keeps more than 8 bytes, a compilation more than 20 kB, or an interpreter with live
worker threads does not end well.
"""

import argparse
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import symgrad as sg

TEXT = "mean((tanh(X @ w + b) - y)**2)"
STEPS = 10

ENDING = """
import threading, numpy as np, symgrad as sg
from symgrad.runtime import kernel
kernel.PARALLEL_SECONDS = 0.0
x = np.linspace(0, 1, 30_000)
f = sg.compile("sum(exp(a*x))", wrt=["a"], threads=4)
f(a=1.0, x=x)
def forever():
    while True:
        f.value_and_grad(a=1.0, x=x)
threading.Thread(target=forever, daemon=True).start()
"""


def main() -> int:
    """Run; the exit status is 1 if anything grows or does not end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--compilations", type=int, default=1000)
    parser.add_argument("--endings", type=int, default=30)
    options = parser.parse_args()
    grows = growth("call", options.calls, calls()) > 8
    grows |= growth("compilation", options.compilations, compile_one) > 20_000
    failed = endings(options.endings)
    print(f"{options.endings} interpreters with live workers: {failed} ended badly")
    return int(grows or failed > 0)


def resident() -> int:
    """Bytes of memory in use."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def growth(what: str, count: int, action: Callable[[int], None]) -> float:
    """Bytes that one action keeps, in the second half of ``count``."""
    sizes = []
    for step in range(STEPS):
        for k in range(count // STEPS):
            action(step * (count // STEPS) + k)
        gc.collect()
        sizes.append(resident())
        done = (step + 1) * (count // STEPS)
        print(f"{done:8} {what}s: {sizes[-1] / 2**20:8.1f} MiB", flush=True)
    half = STEPS // 2
    kept = (sizes[-1] - sizes[half - 1]) / (count / 2)
    print(f"each {what} of the second half keeps {kept:.1f} bytes")
    return kept


def calls() -> Callable[[int], None]:
    """Calls of every kind, of other sizes."""
    rng = np.random.default_rng(0)
    f = sg.compile(TEXT, wrt=["w", "b"])
    given = [
        {"w": np.ones(3), "b": 0.1, "X": rng.normal(size=(n, 3)), "y": np.ones(n)}
        for n in (3, 40, 500)
    ]
    bound = f.bind({"w": np.ones(3), "b": 0.1}, X=given[1]["X"], y=given[1]["y"])

    def call(k: int) -> None:
        f.value_and_grad(**given[k % 3])
        f(**given[k % 2])
        bound.value_and_grad(np.full(4, float(k)))
        if k % 50 == 0:
            f.hvp({"b": 1.0}, **given[0])

    return call


def compile_one(k: int) -> None:
    """A loss that no other one is like."""
    f = sg.compile(f"sum(tanh(a*x + {k}) + log(x + {k + 1})*a)", wrt=["a"])
    f.value_and_grad(a=1.0, x=np.ones(3))


def endings(count: int) -> int:
    """How many of ``count`` interpreters end with an error or a message."""
    failed = 0
    for _ in range(count):
        done = subprocess.run(
            [sys.executable, "-c", ENDING],
            capture_output=True,
            timeout=120,
            check=False,
        )
        failed += done.returncode != 0 or bool(done.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
