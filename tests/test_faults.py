"""What goes wrong around a program: disks, signals, threads, forks, endings.

Subprocesses are few and start together: each imports everything anew.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import symgrad as sg
from symgrad.codegen import cpu
from symgrad.errors import CacheWarning
from symgrad.runtime import cache, kernel
from symgrad.runtime.building import building

ROOT = Path(__file__).parents[1]
TEXT = "mean((tanh(X @ w + b) - y)**2)"

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
needs_signals = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def values(rows, columns=3, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(size=columns),
        "b": 0.25,
        "X": rng.normal(size=(rows, columns)).astype(dtype),
        "y": rng.normal(size=rows).astype(dtype),
    }


def assert_right(found, given):
    """Value and gradient of TEXT against NumPy."""
    X, y = (given[n].astype(float) for n in "Xy")
    h = np.tanh(X @ given["w"] + given["b"])
    slope = 2 * (h - y) * (1 - h * h) / len(y)
    value, gradient = found
    np.testing.assert_allclose(value, np.mean((h - y) ** 2), 1e-12)
    np.testing.assert_allclose(gradient["w"], X.T @ slope, 1e-9, 1e-12)
    np.testing.assert_allclose(gradient["b"], slope.sum(), 1e-9, 1e-12)


def start(code, place, *arguments, **options):
    """A new interpreter that runs ``code`` with the cache at ``place``."""
    environment = {**os.environ, "SYMGRAD_CACHE": str(place)}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **options,
    )  # fmt: skip


def finish(process):
    """Its output; it must have ended well."""
    output, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    return output


# --- The cache ------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setenv("SYMGRAD_CACHE", str(path))
    monkeypatch.delenv("SYMGRAD_CACHE_SIZE", raising=False)
    return path


def run():
    """A loss that no other test compiles, called."""
    given = values(50)
    assert_right(sg.compile(TEXT, wrt=["w", "b"]).value_and_grad(**given), given)


def run_twice():
    run()
    run()


def test_a_directory_that_goes_away(place):
    """Between two losses, and between a look at it and the writing."""
    run()
    shutil.rmtree(place)
    run()
    assert len(cache.entries(place)) > 0


def test_a_directory_that_goes_away_while_it_is_used(place, monkeypatch):
    plain = cache._write

    def gone(directory, path, content):
        shutil.rmtree(directory)
        plain(directory, path, content)

    monkeypatch.setattr(cache, "_write", gone)
    with pytest.warns(CacheWarning, match="No such file"):
        run()


@pytest.mark.parametrize("number", [5, 13, 28, 30, 122])  # EIO EACCES ENOSPC EROFS …
@pytest.mark.parametrize("what", ["mkstemp", "write", "replace"])
def test_disks_that_refuse(place, monkeypatch, what, number):
    """The loss is right, one warning says why, and nothing half written stays."""

    def refuse(*args, **options):
        raise OSError(number, os.strerror(number))

    if what == "mkstemp":
        monkeypatch.setattr(cache.tempfile, "mkstemp", refuse)
    elif what == "replace":
        monkeypatch.setattr(os, "replace", refuse)
    else:
        real = open

        def opened(file, mode="r", *args, **options):
            found = real(file, mode, *args, **options)
            if mode == "wb":
                found = Full(found, refuse)
            return found

        monkeypatch.setattr(cache, "open", opened, raising=False)
    with pytest.warns(CacheWarning, match="SYMGRAD_CACHE") as caught:
        run_twice()
    assert len(caught) == 1
    assert not place.exists() or not list(place.iterdir())


class Full:
    """A file whose disk is full: half of what is written gets there."""

    def __init__(self, file, refuse):
        self.file, self.refuse = file, refuse

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.refuse()


def test_a_real_disk_that_is_full(tmp_path, monkeypatch):
    """A file system of 16 KiB, where one can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(command, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        monkeypatch.setenv("SYMGRAD_CACHE", str(disk))
        (disk / "filling").write_bytes(bytes(14_000))
        with pytest.warns(CacheWarning, match="No space left"):
            run()
        assert [path.name for path in disk.iterdir()] == ["filling"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_entry_of_another_kernel_under_this_name(place):
    """Right checksum, right magic: the key inside says whose it is."""
    run()
    mine = cache.entries(place)
    sg.compile("sum(exp(a*x))", wrt=["a"])(a=1.0, x=np.ones(3))
    other = next(e for e in cache.entries(place) if e not in mine)
    for entry in mine:
        shutil.copy(other.path, entry.path)
    run()


def test_entries_of_older_versions(place, monkeypatch):
    """They have other names, and stay until there is no room."""
    monkeypatch.setattr(cache, "_surroundings", lambda: ("an older version",))
    run()
    before = {entry.path for entry in cache.entries(place)}
    monkeypatch.undo()
    monkeypatch.setenv("SYMGRAD_CACHE", str(place))
    run()
    assert before < {entry.path for entry in cache.entries(place)}


KILLED = """
import os, signal, sys
import numpy as np, symgrad as sg
from symgrad.codegen import cpu
from symgrad.runtime import cache
def die(*ignored):
    os.kill(os.getpid(), signal.SIGKILL)
where = sys.argv[1]
if where == "compiling":
    real = cpu.compile_text
    cpu.compile_text = lambda *options: (real(*options), die())
elif where == "writing":
    class Dying:
        def __init__(self, file): self.file = file
        def __enter__(self): return self
        def __exit__(self, *error): pass
        def write(self, content):
            self.file.write(content[:99])
            self.file.flush()
            die()
    real = open
    cache.open = lambda f, mode: Dying(real(f, mode)) if mode == "wb" else real(f, mode)
elif where == "replacing":
    os.replace = die
print(sg.compile("sum(exp(a*x))", wrt=["a"]).value_and_grad(a=0.0, x=np.ones(4)))
"""


@needs_signals
def test_processes_that_are_killed(place):
    """While they compile, write and replace: the next one finds nothing broken."""
    stages = ("compiling", "writing", "replacing")
    killed = [start(KILLED, place, stage) for stage in stages]
    for process in killed:
        process.communicate(timeout=120)
    assert [process.returncode for process in killed] == [-signal.SIGKILL] * 3
    assert len(list(place.glob("*" + cache.PARTIAL))) == 2  # of those that wrote
    assert not cache.entries(place)
    assert finish(start(KILLED, place, "nowhere")) == "(4.0, {'a': array(4.)})\n"
    assert cache.entries(place)
    cache.clear(place)
    assert not list(place.iterdir())


# --- Ctrl-C ---------------------------------------------------------------------------

INTERRUPTED = """
import sys, threading, numpy as np, symgrad as sg
x = np.linspace(-1, 1, 50)
def descend(steps):
    return sg.minimize("mean((y - a*x)**2)", {"a": 9.0}, {"x": x, "y": 2*x}, lr=1e-9,
        method=sys.argv[1], steps=steps, tol=0.0, history=False,
        callback=(lambda result: None) if sys.argv[2] == "callback" else None)
descend(1)  # all is imported and compiled
threading.Timer(0.5, print, ("started",), {"flush": True}).start()
result = descend(10**9)
print(result.success, 2.0 < result.params["a"] <= 9.0, result.fun < 17.1)
print(result.message)
"""


@needs_signals
def test_ctrl_c_returns_the_best_parameters(place):
    """In a loop of compiled steps, and in one with a callback after each."""
    kinds = (("adam", "callback"), ("gd", "none"))
    processes = [start(INTERRUPTED, place, *kind) for kind in kinds]
    for process in processes:
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
    for process in processes:
        output = finish(process)
        assert output.startswith("False True True\n"), output
        assert "interrupted" in output.lower()


# --- Threads --------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(4))
def test_one_function_first_called_by_many_threads(turn):
    """Of other sizes and dtypes each: sizes are learnt and kernels made meanwhile."""
    loss = sg.compile(f"{TEXT} + 0*{turn}", wrt=["w", "b"], threads=1 + turn % 2)
    kinds = [
        (n, d, t) for n in (3, 50) for d in (2, 4) for t in (np.float64, np.float32)
    ]
    given = [values(*kind, seed=k) for k, kind in enumerate(kinds)]
    together = threading.Barrier(len(given))

    def call(k):
        together.wait()
        return [loss.value_and_grad(**given[k]) for _ in range(10)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(given)) as pool:
            answers = list(pool.map(call, range(len(given))))
    finally:
        sys.setswitchinterval(interval)
    for k, found in enumerate(answers):
        for answer in found:
            assert_right(answer, given[k])


def test_many_functions_compiled_by_many_threads():
    """Nodes are shared by all graphs: no thread may see another's half made."""
    x = np.linspace(0.1, 1, 9)

    def make(k):
        text = f"sum(exp(a*x)*{k % 3} + max(a*x, x)*{k % 2} + log(x + {k % 5})*a**2)"
        value = sg.compile(text, wrt=["a"])(a=0.5, x=x)
        parts = np.exp(0.5 * x) * (k % 3) + x * (k % 2) + np.log(x + k % 5) * 0.25
        return value - np.sum(parts)

    with ThreadPoolExecutor(8) as pool:
        assert max(map(abs, pool.map(make, range(48)))) < 1e-12


def test_threads_inside_threads(monkeypatch):
    """Every call splits its rows among workers that all calls share."""
    monkeypatch.setattr(kernel, "PARALLEL_SECONDS", 0.0)
    loss = sg.compile(TEXT, wrt=["w", "b"], threads=3)
    given = values(9000)
    first = loss.value_and_grad(**given)
    assert_right(first, given)
    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(lambda _: loss.value_and_grad(**given), range(24)):
            assert found[0] == first[0]
            np.testing.assert_array_equal(found[1]["w"], first[1]["w"])


# --- Processes ------------------------------------------------------------------------


# JAX, if another test has loaded it, warns of any fork.
JAX_WARNS = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:os.fork:RuntimeWarning"
)


@needs_fork
@JAX_WARNS
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks beside threads
@pytest.mark.parametrize("busy", [False, True])
def test_fork_after_use(monkeypatch, busy):
    """The child has the kernels but not the workers; it calls, compiles and threads.

    busy: while another thread compiles.
    """
    monkeypatch.setattr(kernel, "PARALLEL_SECONDS", 0.0)
    loss = sg.compile(TEXT, wrt=["w", "b"], threads=4)
    given = values(20_000)
    first = loss.value_and_grad(**given)
    ended = threading.Event()

    def compile_on():
        k = 0
        while not ended.is_set():
            sg.compile(f"sum(exp(a*x) + {k})", wrt=["a"])(a=1.0, x=np.ones(3))
            k += 1

    other = threading.Thread(target=compile_on)
    if busy:
        other.start()
    try:
        statuses = [_child(loss, given, first[0]) for _ in range(3)]
    finally:
        ended.set()
        if busy:
            other.join()
    assert statuses == [0, 0, 0]
    assert loss.value_and_grad(**given)[0] == first[0]


def _child(loss, given, wanted):
    """How a forked process ends that uses ``loss`` and makes another."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(60)
            again = loss.value_and_grad(**given)[0]
            new = sg.compile(f"2*{TEXT}", wrt=["w", "b"], threads=4)(**given)
            status = 0 if again == wanted and abs(new - 2 * wanted) < 1e-12 else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def call_pickled(data, given):
    """In a worker process: the value of a pickled loss."""
    value, gradient = pickle.loads(data).value_and_grad(**given)
    return value, gradient["w"]


@JAX_WARNS
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(method):
    """A loss is pickled as its source; workers compile it, from the cache."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    loss = sg.compile(TEXT, wrt=["w", "b"])
    given = values(200)
    value, gradient = loss.value_and_grad(**given)
    data = pickle.dumps(loss)
    with multiprocessing.get_context(method).Pool(2) as pool:
        for found, slope in pool.starmap(call_pickled, [(data, given)] * 3):
            assert found == value
            np.testing.assert_array_equal(slope, gradient["w"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(protocol):
    given = values(20)
    loss = sg.compile(TEXT, wrt=["w", "b"], dtype="float64", threads=1)
    loss.value_and_grad(**given)
    bound = loss.bind({"w": given["w"], "b": 0.0}, X=given["X"], y=given["y"])
    model = sg.model("X @ w + b", wrt=["w", "b"])
    for thing in (loss, bound, model):
        again = pickle.loads(pickle.dumps(thing, protocol))
        if thing is bound:
            x = bound.pack({"w": given["w"], "b": given["b"]})
            assert again(x) == bound(x)
            continue
        assert again == thing
        used = given if thing is loss else {k: v for k, v in given.items() if k != "y"}
        np.testing.assert_array_equal(again(**used), thing(**used))


ENDING = """
import sys, threading, numpy as np, symgrad as sg
from symgrad.runtime import kernel
kernel.PARALLEL_SECONDS = 0.0
x = np.linspace(0, 1, 30_000)
loss = sg.compile("sum(exp(a*x))", wrt=["a"], threads=4)
bound = loss.bind({"a": 1.0}, x=x)
def forever():
    while True:
        loss.value_and_grad(a=1.0, x=x)
value = loss.value_and_grad(a=1.0, x=x)[0]
bound.value_and_grad([1.0])
if sys.argv[1] == "working":  # at the very end, too
    for _ in range(3):
        threading.Thread(target=forever, daemon=True).start()
if sys.argv[1] == "kept":
    sys.modules["sys"].kept = (loss, bound, bound.value_and_grad)
print(abs(value - np.exp(x).sum()) < 1e-6)
"""


def test_endings_with_live_workers(place):
    """No crash, no message, no hang when the interpreter ends."""
    kinds = ("idle", "working", "kept", "working")
    for process in [start(ENDING, place, kind) for kind in kinds]:
        output, problems = process.communicate(timeout=120)
        assert (process.returncode, output, problems) == (0, "True\n", "")


def test_a_broken_compiler_is_told_and_forgotten(monkeypatch, place):
    """An error in the middle of a compilation leaves the function as it was."""
    loss = sg.compile(TEXT, wrt=["w", "b"])
    given = values(30)
    for error in (MemoryError("no memory"), KeyboardInterrupt()):
        with monkeypatch.context() as patch:

            def broken(*ignored, error=error):
                raise error

            patch.setattr(cpu, "compile_text", broken)
            with pytest.raises(type(error)):
                loss.value_and_grad(**given)
    assert_right(loss.value_and_grad(**given), given)
    assert building.acquire(blocking=False)  # and nothing is held
    building.release()
