"""How long it takes from a text to the first gradient: ``bench/compile.py``."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.comparison import contenders, machine, report
from bench.comparison.formulas import SHAPES, Formula
from bench.comparison.losses import STANDARD, Arrays, Loss

Row = dict[str, Any]
Timer = Callable[[], float]


def best(repeat: int, measure: Timer) -> float:
    """The shortest of some measurements, in milliseconds."""
    return min(1e3 * measure() for _ in range(repeat))


def seconds(action: Callable[[], object]) -> float:
    """How long ``action`` takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


@contextmanager
def cache_at(place: str) -> Iterator[None]:
    """Compiled kernels are kept in ``place`` meanwhile, or nowhere ("off")."""
    before = os.environ.get("SYMGRAD_CACHE")
    os.environ["SYMGRAD_CACHE"] = place
    try:
        yield
    finally:
        if before is None:
            del os.environ["SYMGRAD_CACHE"]
        else:
            os.environ["SYMGRAD_CACHE"] = before


# --- A new process --------------------------------------------------------------------

IMPORT = "import numpy as np\n"
FIRST = """
import symgrad as sg
loss = sg.compile("mean((tanh(X @ w + b) - y)**2)", wrt=["w", "b"])
loss.value_and_grad(w=np.ones(7), b=0.0, X=np.ones((103, 7)), y=np.ones(103))
"""
UNWANTED = ("sympy", "numba", "scipy", "mpmath")
CHECK = f"""
import sys
assert not {{*{UNWANTED!r}}} & {{*sys.modules}}, "heavy imports"
"""

PROBE = """
import time
begin = time.perf_counter()
{code}
print(time.perf_counter() - begin)
"""


def in_process(code: str) -> float:
    """Seconds that ``code`` takes in a new process, without starting Python.

    With byte code, as for every user: without, Python compiles our files each time.
    """
    command = [sys.executable, "-c", PROBE.format(code=code)]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return float(done.stdout)


def start(given: argparse.Namespace) -> Iterator[Row]:
    """New processes, in ms; ``more`` than importing NumPy."""
    codes = {
        "import numpy": (IMPORT, False),
        "import numpy, symgrad": (IMPORT + "import symgrad", False),
        "first gradient, nothing cached": (IMPORT + FIRST, True),
        "first gradient, from disk": (IMPORT + FIRST, False),
    }
    base = 0.0
    with tempfile.TemporaryDirectory() as place:
        for name, (code, fresh) in codes.items():
            with cache_at("off" if fresh else place):
                in_process(code + CHECK)  # writes byte code and kernels
                taken = best(2 * given.repeat, lambda code=code: in_process(code))
            base = base or taken
            yield {"new process": name, "ms": taken, "more than NumPy": taken - base}


# --- The losses of compare.py ---------------------------------------------------------

FEW = 1000
"""Rows, so that the call itself is next to nothing."""


def first_call(text: str, parameters: Arrays, data: Arrays) -> Timer:
    """From the text to the first gradient, ours."""
    import symgrad as sg

    def run() -> object:
        loss = sg.compile(text, wrt=list(parameters))
        return loss.value_and_grad(**parameters, **data)

    return lambda: seconds(run)


def jax_compiles(loss: Loss, parameters: Arrays, data: Arrays) -> Timer:
    """``jit(value_and_grad)`` and its first call, JAX's cache emptied before."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    names = contenders.jax_names()

    def run() -> object:
        both = jax.value_and_grad(lambda p, d: loss.formula(names, **p, **d))
        return jax.block_until_ready(jax.jit(both)(parameters, data))

    def measure() -> float:
        jax.clear_caches()
        jax.jit(lambda x: x + 1)(1.0)  # start the backend, which is not compilation
        return seconds(run)

    return measure


def torch_compiles(loss: Loss, parameters: Arrays, data: Arrays) -> Timer:
    """``torch.compile`` and the first backward pass, nothing compiled before."""
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    import torch

    names = contenders.torch_names()
    fixed = {name: torch.from_numpy(a) for name, a in data.items()}

    def run() -> None:
        leaves = {n: torch.tensor(a, requires_grad=True) for n, a in parameters.items()}
        function = torch.compile(lambda p, d: loss.formula(names, **p, **d))
        function(leaves, fixed).backward()

    def measure() -> float:
        torch._dynamo.reset()  # pyright: ignore
        with contenders.time_limit(contenders.COMPILE_SECONDS):
            return seconds(run)

    return measure


def losses(given: argparse.Namespace) -> Iterator[Row]:
    """The losses of compare.py, in ms."""
    for loss in STANDARD:
        if given.only and loss.name not in given.only.split(","):
            continue
        arrays = loss.arrays(min(loss.rows, FEW))
        ours = first_call(loss.text, *arrays)
        row: Row = {"first call, ms": loss.title}
        with cache_at("off"):
            ours()
            row["symgrad"] = best(given.repeat, ours)
        with tempfile.TemporaryDirectory() as place, cache_at(place):
            ours()
            row["from disk"] = best(given.repeat, ours)
        row["JAX"] = _peer(given.repeat, jax_compiles, loss, arrays)
        row["symgrad / JAX"] = row["symgrad"] / row["JAX"] if row["JAX"] else None
        if given.torch:
            row["torch.compile"] = _peer(1, torch_compiles, loss, arrays)
        yield row


def _peer(
    repeat: int,
    timer: Callable[[Loss, Arrays, Arrays], Timer],
    loss: Loss,
    arrays: tuple[Arrays, Arrays],
) -> float | None:
    """Milliseconds; None if the library is not installed, or takes too long."""
    try:
        return best(repeat, timer(loss, *arrays))
    except (ImportError, contenders.Absent):
        return None


# --- Sizes ----------------------------------------------------------------------------


@contextmanager
def clocked(module: Any, names: tuple[str, ...]) -> Iterator[dict[str, float]]:
    """Add up the seconds spent in some functions of a module or class."""
    spent = dict.fromkeys(names, 0.0)
    real = {name: getattr(module, name) for name in names}

    def wrap(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            result = real[name](*arguments, **options)
            spent[name] += time.perf_counter() - begin
            return result

        return call

    for name in names:
        setattr(module, name, wrap(name))
    try:
        yield spent
    finally:
        for name in names:
            setattr(module, name, real[name])


def stages(formula: Formula) -> dict[str, float]:
    """Milliseconds of the first gradient of one loss, by stage."""
    import symgrad as sg
    from symgrad.codegen import cpu
    from symgrad.runtime import derivatives, kernel, specialise

    spent: dict[str, float] = {}
    with (
        clocked(specialise, ("build",)) as front,
        clocked(specialise.Specialisation, ("simplified",)) as rules,
        clocked(derivatives, ("differentiate",)) as middle,
        clocked(kernel, ("schedule",)) as plan,
        clocked(cpu, ("compile_text", "load_object")) as back,
    ):
        begin = time.perf_counter()
        loss = sg.compile(formula.text, wrt=list(formula.parameters))
        spent["parse"] = time.perf_counter() - begin
        loss.value_and_grad(**formula.parameters, **formula.data)
        total = time.perf_counter() - begin
    spent |= front | rules | middle | plan
    spent["emit, call"] = total - sum(spent.values()) - sum(back.values())
    spent |= {"LLVM": sum(back.values()), "total": total}
    return {name: 1e3 * taken for name, taken in spent.items()}


def sizes(given: argparse.Namespace) -> Iterator[Row]:
    """Losses of growing size, in ms by stage."""
    with cache_at("off"):
        sizes: list[int] = given.sizes
        for shape, count in itertools.product(SHAPES, sizes):
            formula = SHAPES[shape](count)
            repeat = given.repeat if count <= 1000 else 1
            taken = min((stages(formula) for _ in range(repeat)), key=_total)
            row: Row = {"loss": shape, "operations": count, **taken}
            yield row | {"ms per 1000": 1e3 * taken["total"] / count}


def _total(taken: dict[str, float]) -> float:
    return taken["total"]


# --- The command ----------------------------------------------------------------------

PARTS = {"start": start, "losses": losses, "sizes": sizes}


def options(description: str) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--sizes", default="100,300,1000,3000,10000,30000")
    parser.add_argument("--only", help="names of losses, with commas between them")
    parser.add_argument("--torch", action="store_true", help="time torch.compile too")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    given.sizes = [int(size) for size in given.sizes.split(",")]
    return given


def main(description: str) -> None:
    """Run the parts asked for."""
    given = options(description)
    document: dict[str, Any] = {"machine": machine.about()}
    for name in given.parts.split(","):
        document[name] = list(PARTS[name](given))
        print(report.rows_table(document[name]) + "\n", flush=True)
    if given.json:
        text = json.dumps(document, indent=1)
        given.json.write_text(text + "\n", encoding="utf-8")
