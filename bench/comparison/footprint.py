"""Peak memory of evaluations: ``bench/memory.py``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.comparison import machine, report

ROWS = (100_000, 1_000_000, 10_000_000)
COLUMNS = 3
FEW = 1000

TEXTS = {
    "logistic regression": "mean(softplus(-y*(X @ w)))",
    "logsumexp over the rows": "logsumexp(X @ w)",
    "variance over the rows": "var(y - X @ w)",
    "correlation": "p = X @ w\nmean((p - mean(p))*(y - mean(y)))/(std(p)*std(y))",
    "standardised residuals": "r = y - X @ w\nz = (r - mean(r))/std(r)\nmean(z**4)",
    "softmax down the rows": "sum(softmax(X @ w)*y)",
}
"""Losses of w (3,) over X (n, 3) and y (n,)."""


def arrays(rows: int) -> dict[str, np.ndarray]:
    """Data; made in place, so that nothing large is freed before the measurement."""
    generator = np.random.default_rng(0)
    X = np.empty((rows, COLUMNS))
    generator.standard_normal(out=X)
    y = np.empty(rows)
    generator.standard_normal(out=y)
    return {"X": X, "y": y}


def measure(text: str, rows: int) -> dict[str, Any]:
    """Bytes that one evaluation takes; to be called once in a process."""
    import symgrad as sg
    from symgrad.runtime.explain import describe_bound

    names = {"w", "X", *({"y"} if "y" in text else ())}
    f = sg.compile(text, wrt=["w"])
    data = {name: a for name, a in arrays(rows).items() if name in names}
    few = f.bind(**{name: a[:FEW] for name, a in data.items()})
    x = few.pack({"w": np.full(COLUMNS, 0.1)})
    few.value_and_grad(x)
    bound = f.bind(**data)
    before = reset_peak()
    bound_x = bound.pack({"w": np.full(COLUMNS, 0.1)})
    bound.value_and_grad(bound_x)
    grown = peak() - before
    stated = describe_bound(f._source, bound._kernels, bound._workers())
    total = stated.work_bytes + stated.threads * stated.scratch_bytes
    held = sum(a.nbytes for a in data.values())
    return {"measured": grown, "stated": total, "data": held}


def reset_peak() -> int:
    """Let the kernel count the peak from here; the bytes that are resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def peak() -> int:
    """The most bytes that were resident since."""
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])
    raise OSError(f"no {name} in /proc/self/status")


def in_process(text: str, rows: int) -> dict[str, Any]:
    """``measure`` in a new process."""
    code = (
        "import json, sys; sys.path[0] = sys.argv[1]\n"
        "from bench.comparison.footprint import measure\n"
        "print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))"
    )
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", code, root, text, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def records(rows: list[int]) -> Iterator[dict[str, Any]]:
    """All losses at all numbers of rows."""
    for name, text in TEXTS.items():
        for count in rows:
            yield {"loss": name, "rows": count, **in_process(text, count)}


def table(found: list[dict[str, Any]]) -> str:
    """Losses down, numbers of rows across: measured, and stated."""
    rows = list(dict.fromkeys(r["rows"] for r in found))
    head = ["measured (stated), kB", *(f"{count:,} rows" for count in rows)]
    head = [text.replace(",", " ") if "rows" in text else text for text in head]
    lines = [head]
    for name in dict.fromkeys(r["loss"] for r in found):
        mine = {r["rows"]: r for r in found if r["loss"] == name}
        cells = (
            f"{mine[n]['measured'] / 1000:.0f} ({mine[n]['stated'] / 1000:.0f})"
            for n in rows
        )
        lines.append([name, *cells])
    sizes = {r["rows"]: r["data"] for r in found}
    data = (f"{sizes[count] / 1000:.0f}" for count in rows)
    return report.markdown([*lines, ["the data themselves, kB", *data]])


def main(description: str) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    if not os.access("/proc/self/clear_refs", os.W_OK):
        sys.exit("the peak of resident memory is read from Linux's /proc")
    found = list(records([int(count) for count in given.rows.split(",")]))
    print(table(found))
    if given.json:
        document = {"machine": machine.about(), "records": found}
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
