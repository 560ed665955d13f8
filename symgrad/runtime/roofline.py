"""What this machine can do at most, measured once, and what a kernel makes of it.

The roofline of a kernel is the time that its bytes take at the machine's read bandwidth
or its operations at the rate of fused multiply-adds, whichever is longer (Williams,
Waterman and Patterson, Communications of the ACM 52 (2009) 65-76). Nothing runs faster;
how near a kernel comes is its share.

Bandwidth depends on where the data fit, so it is measured for several footprints.
Functions such as ``exp`` count as the additions that the table of operations says they
cost, comparisons and selections as one each. Figures are kept in the cache directory,
next to the compiled kernels; with ``SYMGRAD_CACHE=off`` they live as long as the
process. They are the best of several runs, but a machine that is busy all the while
gives figures that are too low, and shares above 100 %: ``symgrad info --measure``
measures again.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad.codegen import cpu
from symgrad.codegen.llvm_text import Emitter, Module, Value
from symgrad.ops import OPS
from symgrad.runtime import cache, threads
from symgrad.runtime.object_layout import address
from symgrad.runtime.work import Work

FOOTPRINTS = tuple(1 << k for k in (18, 21, 23, 25, 28))
"""Bytes that bandwidth is measured over: from a part of L2 to far beyond the caches."""

_STREAMS, _CHAINS = 8, 12  # vectors in flight: of loads; of multiply-adds
_REPEATS = 10
_TURN = 4e-3  # seconds of one measurement
_VERSION = "roofline 1"

_LENGTH = 1000  # multiply-adds of a chain in one turn


@dataclass(frozen=True)
class Machine:
    """The limits for a number of threads.

    bandwidth: pairs of a footprint in bytes and the bytes per second that are read.
    flops: operations per second by type, a fused multiply-add being two.
    """

    threads: int
    bandwidth: tuple[tuple[int, float], ...]
    flops: dict[str, float]

    def bandwidth_at(self, footprint: float) -> float:
        """Bytes per second over so many bytes, between the measured ones."""
        sizes = [math.log(size) for size, _ in self.bandwidth]
        rates = [rate for _, rate in self.bandwidth]
        return float(np.interp(math.log(max(footprint, 1.0)), sizes, rates))

    def in_words(self) -> str:
        """``2 threads: reads 52 GB/s (150 GB/s from cache), 224 Gflop/s float64``."""
        count = f"{self.threads} thread" + ("" if self.threads == 1 else "s")
        near, far = (amount(self.bandwidth[k][1], "B/s") for k in (0, -1))
        rates = (f"{amount(r, 'flop/s')} {dtype}" for dtype, r in self.flops.items())
        return f"{count}: reads {far} ({near} from cache), {', '.join(rates)}"


@dataclass(frozen=True)
class Roofline:
    """The least time of one call, and what it is made of.

    bytes, flops: of a call. bandwidth, rate: of the machine. reading, computing: the
    seconds that these make. seconds: the sum over the steps of the longer of the two.
    """

    bytes: int
    flops: float
    bandwidth: float
    rate: float
    reading: float
    computing: float
    seconds: float


@dataclass(frozen=True)
class Load:
    """What one step asks of the machine: bytes and operations of all its rows."""

    bytes: int
    flops: float


def flops(work: Work) -> float:
    """Operations, functions counted by their cost in the table: twice, as additions
    reach half the rate of multiply-adds."""
    calls = sum(count * OPS[name].cost for name, count in work.calls.items())
    return work.flops + work.other + 2.0 * calls


def roofline(loads: Iterable[Load], dtype: str, machine: Machine) -> Roofline:
    """The least time of steps that run one after the other."""
    steps = list(loads)
    footprint = max((step.bytes for step in steps), default=0)
    bandwidth, rate = machine.bandwidth_at(footprint), machine.flops[dtype]
    reading = [step.bytes / bandwidth for step in steps]
    computing = [step.flops / rate for step in steps]
    return Roofline(
        bytes=sum(step.bytes for step in steps),
        flops=sum(step.flops for step in steps),
        bandwidth=bandwidth,
        rate=rate,
        reading=sum(reading),
        computing=sum(computing),
        seconds=sum(map(max, reading, computing)),
    )


# --- In words -------------------------------------------------------------------------

Call = Callable[[], Any]
"""Something to be timed."""

TIMED_SECONDS = 0.2
"""How long a call is timed, at least three times."""


def in_words(
    least: Roofline | None, call: Call | None = None
) -> Iterator[tuple[str, str]]:
    """The roofline and, if there is a call to be timed, how near it comes."""
    if least is None:
        yield "roofline", "unknown: explain(values) or symgrad info --measure find out"
        return
    parts = [f"{amount(least.seconds, 's')} at least"]
    if least.bytes:
        reads = f"{amount(least.bytes, 'B')} at {amount(least.bandwidth, 'B/s')}"
        parts.append(f"{reads} take {amount(least.reading, 's')}")
    if least.flops:
        work = f"{amount(least.flops, 'flop')} at {amount(least.rate, 'flop/s')}"
        parts.append(f"{work} take {amount(least.computing, 's')}")
    yield "roofline", ", ".join(parts)
    if call is not None:
        taken = seconds_of(call)
        share = f"{100 * least.seconds / taken:.0f} % of the roofline"
        yield "measured", f"{amount(taken, 's')} a call: {share}"


def seconds_of(call: Call) -> float:
    """The shortest of several calls."""
    call()
    taken, start = [], time.perf_counter()
    while len(taken) < 3 or time.perf_counter() - start < TIMED_SECONDS:
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def amount(value: float, unit: str) -> str:
    """With three digits and a prefix: ``3.21 ms``, ``88 MB``."""
    power = math.floor(math.log10(value) / 3 + 1e-9) if value > 0 else 0
    power = max(-3, min(4, power))
    return f"{value / 1000**power:.3g} {_PREFIXES[power]}{unit}"


_PREFIXES = {-3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}


# --- Measured once --------------------------------------------------------------------

_known: dict[int, Machine] = {}


def known_machine(count: int) -> Machine | None:
    """The limits of ``count`` threads, if they were measured: here, or on disk."""
    if count not in _known:
        place = cache.directory()
        content = None if place is None else cache.load(place, _key(count))
        found = None if content is None else _read(content, count)
        if found is None:
            return None
        _known[count] = found
    return _known[count]


def machine(count: int, again: bool = False) -> Machine:
    """The limits of ``count`` threads, measured if they are not known, or ``again``.

    That takes about half a second, and 256 MB of memory meanwhile.
    """
    found = None if again else known_machine(count)
    if found is None:
        found = _known[count] = measure(count)
        place = cache.directory()
        if place is not None:
            cache.store(place, _key(count), json.dumps(asdict(found)).encode())
    return found


def _key(count: int) -> str:
    return cache.key(f"{_VERSION}, {count} threads of {os.cpu_count()}")


def _read(content: bytes, count: int) -> Machine | None:
    """What a file says; None if it is not one of ours."""
    try:
        given = json.loads(content)
        bandwidth = tuple((int(s), float(r)) for s, r in given["bandwidth"])
        flops = {d: float(given["flops"][d]) for d in ("float64", "float32")}
    except (ValueError, TypeError, KeyError):
        return None
    good = bandwidth and all(
        r > 0 for r in (*flops.values(), *dict(bandwidth).values())
    )
    return Machine(count, bandwidth, flops) if good else None


def measure(count: int) -> Machine:
    """Read bandwidth and arithmetic rate of ``count`` threads, the best of several."""
    code = cpu.load_object(cache.compile_cached(_source()))
    memory = np.ones(FOOTPRINTS[-1] // 8)
    bandwidth = tuple(
        (size, _bandwidth(code, memory, size, count)) for size in FOOTPRINTS
    )
    flops = {dtype: _rate(code, dtype, count) for dtype in ("float64", "float32")}
    return Machine(count, bandwidth, flops)


def _bandwidth(
    code: cpu.NativeCode, memory: NDArray[Any], size: int, count: int
) -> float:
    """Bytes per second over ``size`` bytes, of which each thread has a part."""
    block = cpu.host().lanes("float64") * _STREAMS
    each = max(1, size // 8 // (count * block)) * block
    run = _shared(code.address("read"), (address(memory), each), count)
    return count * each * 8 / _seconds(run)


def _rate(code: cpu.NativeCode, dtype: str, count: int) -> float:
    """Operations per second."""
    run = _shared(code.address(dtype), (_LENGTH, 0), count)
    return count * _LENGTH * 2 * _CHAINS * cpu.host().lanes(dtype) / _seconds(run)


def _shared(
    function: int, leading: tuple[int, int], count: int
) -> Callable[[int], None]:
    """A function of how many turns each of ``count`` threads makes."""
    results = np.zeros((count, 16))  # a line of the cache each
    places = [address(row) for row in results]

    def run(turns: int) -> None:
        threads.in_parallel(function, (*leading, turns, 0), places, count)

    return run


def _seconds(run: Callable[[int], None]) -> float:
    """Seconds of one turn: the best of several runs of enough turns."""

    def best(turns: int, repeats: int) -> float:
        taken = []
        for _ in range(repeats):
            begin = time.perf_counter()
            run(turns)
            taken.append(time.perf_counter() - begin)
        return min(taken)

    turns = 1
    while (taken := best(turns, 3)) < _TURN / 2:
        turns = max(2 * turns, int(0.8 * turns * _TURN / max(taken, 1e-6)))
    return min(taken, best(turns, _REPEATS)) / turns


# --- The code that is timed -----------------------------------------------------------


def _source() -> str:
    """LLVM assembly of ``read`` and of the chains of both types."""
    module = Module()
    _emit_read(module)
    _emit_chains(module, "float64", "double")
    _emit_chains(module, "float32", "float")
    return module.text()


_PARAMETERS = ("ptr %a", "ptr %b", "ptr %turns", "ptr %none", "ptr %result", "i64 %low",
               "i64 %high")  # fmt: skip
"""Of the functions that ``threads`` shares out: four numbers, memory of the thread, and
the parts to do."""


def _number(emitter: Emitter, name: str) -> Value:
    """One of the numbers, which come as addresses do."""
    return emitter.convert("ptrtoint", Value(name, "ptr"), "i64")


def _emit(
    emitter: Emitter, name: str, sums: list[Value], turn: Callable[..., list[Value]]
) -> None:
    """Make all turns for each part, and store one lane of the sum: nothing is computed
    in vain. ``turn(part, sums)`` gives the next sums."""
    zero, turns = emitter.const(0, "i64"), _number(emitter, "%turns")

    def part(k: Value, sums: list[Value]) -> list[Value]:
        def once(_: Value, inner: list[Value]) -> list[Value]:
            return turn(k, inner)

        return emitter.loop(zero, turns, 1, sums, once, nonempty=True)

    low, high = Value("%low", "i64"), Value("%high", "i64")
    total, *rest = emitter.loop(low, high, 1, sums, part, nonempty=True)
    for value in rest:
        total = emitter.binary("fadd", total, value)
    emitter.store(emitter.extract(total, 0), Value("%result", "ptr"))
    attributes = f'"prefer-vector-width"="{cpu.host().vector_bits}"'
    emitter.finish(name, _PARAMETERS, attributes=attributes)


def _emit_read(module: Module) -> None:
    """``read(start, count, turns, ...)``: the sum of ``count`` doubles a part."""
    emitter, lanes = Emitter(module, cpu.host().features), cpu.host().lanes("float64")
    start, count = Value("%a", "ptr"), _number(emitter, "%b")

    def block(place: Value, sums: list[Value]) -> list[Value]:
        at = emitter.gep(start, place, "double")
        offsets = (emitter.const(k * lanes, "i64") for k in range(_STREAMS))
        places = (emitter.gep(at, offset, "double") for offset in offsets)
        values = [emitter.load(place, "double", lanes) for place in places]
        pairs = zip(sums, values, strict=True)
        return [emitter.binary("fadd", total, value) for total, value in pairs]

    def turn(part: Value, sums: list[Value]) -> list[Value]:
        first = emitter.binary("mul", part, count)
        last = emitter.binary("add", first, count)
        return emitter.loop(first, last, lanes * _STREAMS, sums, block, nonempty=True)

    _emit(emitter, "read", [emitter.const(0.0, "double", lanes)] * _STREAMS, turn)


def _emit_chains(module: Module, name: str, element: str) -> None:
    """``name(length, _, turns, ...)``: independent chains of multiply-adds."""
    emitter, lanes = Emitter(module, cpu.host().features), cpu.host().lanes(name)
    half, zero = emitter.const(0.5, element, lanes), emitter.const(0, "i64")
    length = _number(emitter, "%a")

    def step(_: Value, chains: list[Value]) -> list[Value]:
        return [emitter.fma(chain, half, half) for chain in chains]

    def turn(_: Value, chains: list[Value]) -> list[Value]:
        return emitter.loop(zero, length, 1, chains, step, nonempty=True)

    _emit(emitter, name, [emitter.const(0.0, element, lanes)] * _CHAINS, turn)
