"""From a text to the first gradient: latency, by size and beside JAX; warm starts.

    python bench/compile.py [--parts start,losses,sizes] [--sizes 100,1000,10000]
                            [--torch] [--repeat 3]

start   A new process: what `import symgrad` and the first gradient take more than
        importing NumPy, with the disk cache empty and filled.
losses  The first call of the losses of compare.py in a process that has compiled
        another loss before: symgrad without a disk cache, the same from disk, JAX
        (`jit(value_and_grad)`, compiled ahead) and, with --torch, torch.compile.
sizes   Losses of growing size, by stage. The work should grow no faster than the size.

Every number is the best of ``repeat``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

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


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")
    print()


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
    """Seconds that ``code`` takes in a new process, without starting Python."""
    command = [sys.executable, "-c", PROBE.format(code=code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def start(given: argparse.Namespace) -> None:
    """The table of new processes."""
    codes = {
        "import numpy": (IMPORT, False),
        "import numpy, symgrad": (IMPORT + "import symgrad", False),
        "first gradient, nothing cached": (IMPORT + FIRST, True),
        "first gradient, from disk": (IMPORT + FIRST, False),
    }
    rows: list[list[str]] = []
    base = 0.0
    with tempfile.TemporaryDirectory() as place:
        for name, (code, fresh) in codes.items():
            with cache_at("off" if fresh else place):
                in_process(code + CHECK)  # writes byte code and kernels
                taken = best(2 * given.repeat, lambda code=code: in_process(code))
            base = base or taken
            rows.append([name, f"{taken:.1f}", f"{taken - base:+.1f}"])
    print_table(["new process", "ms", "more than NumPy"], rows)


# --- The losses of compare.py ---------------------------------------------------------


def first_call(text: str, parameters: Any, data: Any) -> Timer:
    """From the text to the first gradient, ours."""
    import symgrad as sg

    def run() -> object:
        loss = sg.compile(text, wrt=list(parameters))
        return loss.value_and_grad(**parameters, **data)

    return lambda: seconds(run)


def jax_compiles(loss: Any, parameters: Any, data: Any) -> Timer:
    """``jit(value_and_grad)`` compiled ahead, its cache emptied before."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")

    def run() -> object:
        both = jax.value_and_grad(lambda p: loss.jax(**p, **data))
        return jax.block_until_ready(jax.jit(both)(parameters))

    def measure() -> float:
        jax.clear_caches()
        jax.jit(lambda x: x + 1)(1.0)  # start the backend, which is not compilation
        return seconds(run)

    return measure


def torch_compiles(loss: Any, parameters: Any, data: Any) -> Timer:
    """``torch.compile`` and the first backward pass, its cache emptied before."""
    import torch

    fixed = {name: torch.from_numpy(a) for name, a in data.items()}

    def run() -> None:
        leaves = {n: torch.tensor(a, requires_grad=True) for n, a in parameters.items()}
        torch.compile(lambda **p: loss.torch(**p, **fixed))(**leaves).backward()

    def measure() -> float:
        torch._dynamo.reset()  # pyright: ignore
        return seconds(run)

    return measure


def losses(given: argparse.Namespace) -> None:
    """The table of losses."""
    from compare import LOSSES

    rows = []
    for name, loss in LOSSES.items():
        parameters, data = loss.make(1e-3)  # few rows: the call itself is nothing
        ours = first_call(loss.text, parameters, data)
        with cache_at("off"):
            ours()
            row = [best(given.repeat, ours)]
        with tempfile.TemporaryDirectory() as place, cache_at(place):
            ours()
            row.append(best(given.repeat, ours))
        row.append(best(given.repeat, jax_compiles(loss, parameters, data)))
        if given.torch:
            row.append(best(1, torch_compiles(loss, parameters, data)))
        share = f"{row[0] / row[2]:.2f}"
        rows.append([name, *(f"{taken:.1f}" for taken in row), share])
    others = ["JAX", *(["torch.compile"] if given.torch else [])]
    head = ["first call, ms", "symgrad", "from disk", *others, "symgrad / JAX"]
    print_table(head, rows)


# --- Sizes ----------------------------------------------------------------------------


def chain(count: int) -> str:
    """About ``count`` operations, each line on the two before it."""
    lines = ["t0 = a*x", "t1 = b*x"]
    lines += [
        f"t{k} = tanh(t{k - 1}*a + b) - {0.1 + 1 / k}*t{k - 2}"
        for k in range(2, max(3, count // 5))
    ]
    return "\n".join([*lines, f"mean(t{len(lines) - 1}**2)"])


def wide(count: int) -> str:
    """About ``count`` operations in one sum of terms that are alike."""
    terms = [f"(a*x - {k})**2*sin({k}*b)" for k in range(max(1, count // 6))]
    return f"mean({' + '.join(terms)})"


SHAPES = {"chain": chain, "wide": wide}


@contextmanager
def clocked(module: Any, names: tuple[str, ...]) -> Iterator[dict[str, float]]:
    """Add up the seconds spent in some functions of a module."""
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


def stages(text: str) -> dict[str, float]:
    """Milliseconds of the first gradient of one loss, by stage."""
    import symgrad as sg
    from symgrad.codegen import cpu
    from symgrad.runtime import derivatives, kernel, specialise

    x = np.linspace(-1.0, 1.0, 100)
    spent: dict[str, float] = {}
    with (
        clocked(specialise, ("build", "simplify")) as front,
        clocked(derivatives, ("differentiate",)) as middle,
        clocked(kernel, ("legalise", "make_plan")) as plan,
        clocked(cpu, ("compile_text", "load_object")) as back,
    ):
        begin = time.perf_counter()
        loss = sg.compile(text, wrt=["a", "b"])
        spent["parse"] = time.perf_counter() - begin
        loss.value_and_grad(a=0.5, b=0.25, x=x)
        total = time.perf_counter() - begin
    spent |= front | middle | plan
    spent["emit, call"] = total - sum(spent.values()) - sum(back.values())
    spent |= {"LLVM": sum(back.values()), "total": total}
    return {name: 1e3 * taken for name, taken in spent.items()}


def sizes(given: argparse.Namespace) -> None:
    """The table of sizes."""
    rows, head = [], []
    with cache_at("off"):
        for shape, make in SHAPES.items():
            for count in given.sizes:
                text = make(count)
                repeat = given.repeat if count <= 1000 else 1
                taken = min((stages(text) for _ in range(repeat)), key=_total)
                head = ["loss", "operations", *taken, "ms per 1000"]
                per = 1e3 * taken["total"] / count
                row = [shape, str(count), *(f"{t:.1f}" for t in taken.values())]
                rows.append([*row, f"{per:.0f}"])
    print_table(head, rows)


def _total(taken: dict[str, float]) -> float:
    return taken["total"]


# --------------------------------------------------------------------------------------


PARTS = {"start": start, "losses": losses, "sizes": sizes}


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--sizes", default="100,300,1000,3000,10000")
    parser.add_argument("--torch", action="store_true", help="time torch.compile too")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    given.sizes = [int(size) for size in given.sizes.split(",")]
    return given


def main() -> None:
    """Run the parts asked for."""
    given = options()
    for name in given.parts.split(","):
        PARTS[name](given)


if __name__ == "__main__":
    main()
