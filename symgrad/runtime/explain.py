"""What a kernel does: passes over the data, bytes and operations per row, memory.

``describe`` gives a ``Report``, plain records; ``explain`` is that as text.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from symgrad.codegen.layout import measure
from symgrad.errors import ArgumentError
from symgrad.graph import Const, Input, Node
from symgrad.runtime import work
from symgrad.runtime.bound import BoundKernels
from symgrad.runtime.derivatives import gradient_nodes
from symgrad.runtime.hoist import HOISTED, array_of
from symgrad.runtime.kernel import PARALLEL_SECONDS, Kernel
from symgrad.runtime.outline import Outline
from symgrad.runtime.roofline import (
    Call,
    Load,
    Machine,
    Roofline,
    flops,
    in_words,
    known_machine,
    machine,
    roofline,
)
from symgrad.runtime.specialise import Source, Specialisation, Specialiser
from symgrad.runtime.work import Costs, Traffic, Work
from symgrad.schedule import Plan, cost
from symgrad.schedule.plan import Place, Step
from symgrad.schedule.statements import Statement

WIDTH = 88

_WHY_VALUE = "a later step needs it, and computing it again costs more"
_WHY = {
    "array": "it is read at other places than its own",
    "scatter": "it is filled at other places than its own",
    "output": "a result",
}


class Compiled(Protocol):
    """What is asked of a loss or model, which stand below this file."""

    wrt: Any
    _specialiser: Specialiser
    _source: Source

    def _latest(self) -> Specialisation: ...
    def _main_kernel(self, found: Specialisation, /) -> Kernel: ...
    def _workers(self) -> int: ...
    def _makers(self) -> Mapping[str, Callable[[Specialisation], Kernel]]: ...
    def _timed(self, kernel: str | None, values: Mapping[str, Any], /) -> Call: ...


@dataclass(frozen=True)
class Kept:
    """A value that is stored: its name, bytes in all (or per row), and the reason."""

    name: str
    bytes: int
    why: str


@dataclass(frozen=True)
class StepReport:
    """One step. ``rows`` is None for what runs once per call, on one thread.

    over_data: reads data row by row. reads: (name, bytes per row). constant: the same
    of inputs that are read whatever the row. accumulates: sums over the rows. stores:
    what takes memory per row; of a serial step all its bytes. scratch: values of one
    block of rows.
    """

    step: Step
    over_data: bool
    rows: int | None
    chunks: int
    costs: Costs
    reads: tuple[tuple[str, int], ...]
    constant: tuple[tuple[str, int], ...]
    stores: tuple[Kept, ...]
    accumulates: tuple[Kept, ...]
    scratch: tuple[Kept, ...]
    outline: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """A whole kernel. Bytes of work memory are per call, of scratch per thread."""

    title: str
    kernel: str
    dtype: str
    lanes: int
    threads: int
    seconds: float
    work_bytes: int
    scratch_bytes: int
    steps: tuple[StepReport, ...]

    @property
    def passes(self) -> list[StepReport]:
        """The passes over the data."""
        return [s for s in self.steps if s.over_data]

    def roofline(self, limits: Machine) -> Roofline:
        """The least time of a call on a machine."""
        loads = []
        for step in self.steps:
            turns = 1 if step.rows is None else step.rows
            each = step.costs
            loads.append(Load(turns * each.bytes, turns * flops(each.work)))
        return roofline(loads, self.dtype, limits)

    @property
    def other_passes(self) -> list[StepReport]:
        """Loops over long dimensions of parameters or results only."""
        return [s for s in self.steps if s.rows is not None and not s.over_data]


def passes_over_data(plan: Plan, data_names: Iterable[str]) -> list[Step]:
    """The steps that read a data array row by row.

    Other passes run over parameters, stored values or results only. A serial step with
    a loop over the rows inside counts: it reads the data like any pass.
    """
    names = set(data_names)
    return [step for step in plan.steps if work.reads_rows(step, names, plan)]


def explain(
    compiled: Compiled,
    values: Mapping[str, Any] | None = None,
    *,
    kernel: str | None = None,
) -> str:
    """The report of a kernel as text, at most ``WIDTH`` columns wide.

    The roofline is shown if this machine's limits are known. With values they are
    measured if need be, and the kernel is timed: a second, then a fraction of one.

    Args:
        compiled: a loss or model; without values it was called or specialised before.
        values: all arrays by name, to time the kernel at.
        kernel: the name of one of its kernels, such as "value" or "hvp"; the default is
            the one with all derivatives.

    Raises:
        ArgumentError: nothing is compiled yet, there is no such kernel, or it takes
            more than the values.
    """
    call = None if values is None else compiled._timed(kernel, values)
    return "\n".join(_report(describe(compiled, kernel), call))


def describe(compiled: Compiled, kernel: str | None = None) -> Report:
    """What a kernel does, for the arrays of the latest call."""
    found = compiled._latest()
    main = compiled._main_kernel(found)
    make = compiled._makers().get(kernel or "")
    if make is not None:
        make(found)
    known = found.kernels
    if kernel is None:
        kernel = next(name for name, k in known.items() if k is main)
    if kernel not in known:
        raise ArgumentError(
            f"there is no kernel {kernel!r} (yet); there are "
            + ", ".join(dict.fromkeys([*known, *compiled._makers()]))
        )
    lengths = compiled._specialiser.latest_lengths
    describer = _Describer(known[kernel], lengths, _outputs(kernel, compiled.wrt))
    title = _title(compiled._source)
    return describer.report(title, kernel, compiled._workers(), found.data)


def explain_bound(
    source: Source, bound: BoundKernels, workers: int, call: Call | None
) -> str:
    """The report of an objective's value and gradient, with what ``bind`` computed.

    call: evaluates them, to be timed.
    """
    report = describe_bound(source, bound, workers)
    return "\n".join([*_report(report, call), *_at_bind(bound)])


def describe_bound(source: Source, bound: BoundKernels, workers: int) -> Report:
    """What an objective's kernel does."""
    name = "value and gradient"
    context = bound.context(name, gradient_nodes(bound.found), workers)
    describer = _Describer(
        context.kernel, context.sized.lengths, _outputs(name, source.wrt)
    )
    names = [*bound.found.data, *context.data]
    return describer.report(_title(source), name, workers, names)


def _at_bind(bound: BoundKernels) -> Iterator[str]:
    from symgrad.language.graph_to_sympy import graph_to_sympy

    if bound.stored:
        yield ""
        yield "once, at bind"
    for k, (node, array) in enumerate(bound.stored.items()):
        formula = graph_to_sympy(array_of(node)).expression
        yield from _rows([(f"{HOISTED}{k}", f"{formula} ({size(array.nbytes)})")])


def _title(source: Source) -> str:
    text = source.text
    return " ; ".join(text.split("\n")) if text else "a SymPy expression"


def _outputs(kernel: str, wrt: Sequence[str]) -> list[str]:
    """Names of a kernel's outputs, for those that differentiate."""
    name = kernel.partition(",")[0]  # without what was hoisted
    if name == "gauss-newton":
        pairs = itertools.combinations_with_replacement(wrt, 2)
        products = [f"hess {a} {b}" for a, b in pairs]
        return ["half the squares", *(f"grad {n}" for n in wrt), *products]
    values = {"value and gradient": "loss", "value and jacobian": "value"}
    first = {**values, "value": "value", "jvp": "jvp"}.get(name)
    words = {"value and gradient": "grad", "value and jacobian": "jacobian"}
    each = [f"{words.get(name, name)} {parameter}" for parameter in wrt]
    return each if first is None else [first, *each]


class _Describer:
    """Makes the report of one kernel for given lengths."""

    def __init__(
        self, kernel: Kernel, lengths: Mapping[str, int], outputs: Sequence[str]
    ) -> None:
        self.kernel, self.lengths = kernel, dict(lengths)
        self.plan, self.layout = kernel.plan, kernel.layout
        self.sizes = measure(self.layout, lengths, kernel.lanes)
        self.lengths |= {  # the rows of tiles
            str(key[1]): size
            for key, size in self.sizes.offsets.items()
            if key[0] == "size"
        }
        rest = range(len(outputs), len(kernel.outputs))
        self.outline = Outline(self.plan, [*outputs, *(f"result {k}" for k in rest)])

    def report(
        self, title: str, name: str, workers: int, data: Iterable[str]
    ) -> Report:
        over = set(map(id, passes_over_data(self.plan, data)))
        chunks, rows = iter(self.sizes.chunks), iter(self.sizes.rows)
        steps = [
            self._step(step, id(step) in over, next(rows), next(chunks))
            if step.row is not None
            else self._step(step, id(step) in over, None, 1)
            for step in self.plan.steps
        ]
        seconds = self.kernel.seconds(self.lengths, self.sizes)
        most = max(self.sizes.chunks, default=1)
        return Report(
            title=title,
            kernel=name,
            dtype=self.kernel.dtype,
            lanes=self.kernel.lanes,
            threads=1 if seconds < PARALLEL_SECONDS else min(workers, most),
            seconds=seconds,
            work_bytes=self.sizes.work_bytes,
            scratch_bytes=self.sizes.scratch_bytes,
            steps=tuple(steps),
        )

    def _step(
        self, step: Step, over_data: bool, rows: int | None, chunks: int
    ) -> StepReport:
        costs = work.costs_of(self.plan, step, self.layout, self.lengths)
        outline = self.outline.lines(step, WIDTH - 4)
        return StepReport(
            step=step,
            over_data=over_data,
            rows=rows,
            chunks=chunks,
            costs=costs,
            reads=tuple(map(self._read, costs.reads)),
            constant=tuple(map(self._read, costs.constant)),
            stores=tuple(map(self._stored, costs.stores)),
            accumulates=tuple(map(self._sum, step.sums)),
            scratch=tuple(map(self._scratch, step.scratch)),
            outline=tuple(outline),
        )

    def _read(self, traffic: Traffic) -> tuple[str, int]:
        name = self._name(traffic.source)
        if traffic.how == "gathered":
            name += " gathered"
        return name, traffic.bytes

    def _name(self, source: Input | Statement) -> str:
        return source.name if isinstance(source, Input) else self.outline.names[source]

    def _stored(self, traffic: Traffic) -> Kept:
        source = traffic.source
        assert isinstance(source, Statement)
        why = _WHY.get(source.kind, _WHY_VALUE)
        return Kept(self._name(source), traffic.bytes, why)

    def _sum(self, place: Place) -> Kept:
        count = work.cells(place.shape, self.lengths)
        how = {
            "register": "in registers",
            "lanes": "per lane, folded at the end of a chunk",
            "tiled": "after each tile of rows, lanes along its elements",
        }.get(place.sums or "", "added to the sums of the chunk block by block")
        if place.top is not None:
            extremum = self.outline.names[place.top.statement]
            how = (
                f"per lane, relative to {extremum} so far, rescaled where that changes"
            )
        name = self.outline.names[place.statement] + self._shape(place)
        return Kept(name, 8 * count, how)

    def _scratch(self, place: Place) -> Kept:
        size = work.cells(place.shape, self.lengths) * self.layout.element_bytes(place)
        if place.lanes:
            size *= self.kernel.lanes
        return Kept(self.outline.names[place.statement] + self._shape(place), size, "")

    def _shape(self, place: Place) -> str:
        if not place.shape:
            return ""
        return f"[{', '.join(self._length(e) for e in place.shape)}]"

    def _length(self, extent: Node) -> str:
        if isinstance(extent, Const):
            return str(extent.value)
        return str(cost.length(extent, self.lengths))


# --- as text --------------------------------------------------------------------------


def _report(report: Report, call: Call | None = None) -> Iterator[str]:
    """``call`` is timed, on a machine whose limits are known or will be."""
    limits = known_machine(report.threads) if call is None else machine(report.threads)
    least = None if limits is None else report.roofline(limits)
    yield _fit(f"{report.kernel} of {report.title}")
    yield from _rows([*_summary(report), *in_words(least, call)])
    number = 0
    for k, step in enumerate(report.steps):
        yield ""
        number += step.over_data
        over = f"pass {number} of {len(report.passes)} over the data"
        if step.rows is not None:
            title = over if step.over_data else "pass over parameters and results only"
            yield from _pass(step, title)
        elif step.over_data:
            yield from _serial(step, f"{over}, one row after the other")
        else:
            yield from _serial(step, _when(report, k))


def _summary(report: Report) -> list[tuple[str, str]]:
    passes = f"{len(report.passes)} over the data"
    if report.other_passes:
        passes += f", {len(report.other_passes)} over parameters and results only"
    threads = str(report.threads)
    if report.seconds < PARALLEL_SECONDS:
        limit = 1e6 * PARALLEL_SECONDS
        threads += f" (estimated below {limit:.0f} µs: more do not pay)"
    work, scratch = size(report.work_bytes), size(report.scratch_bytes)
    return [
        ("passes", passes),
        ("computes in", f"{report.dtype}, {report.lanes} rows per vector"),
        ("threads", threads),
        ("memory", f"{work} per call, {scratch} per thread"),
    ]


def _when(report: Report, number: int) -> str:
    passes = [k for k, s in enumerate(report.steps) if s.rows is not None]
    if not passes:
        return "once per call"
    if number < passes[0]:
        return "once per call, before the passes"
    where = "after" if number > passes[-1] else "between"
    return f"once per call, {where} the passes"


def _serial(step: StepReport, title: str) -> Iterator[str]:
    yield title
    rows = [("computes", operations(step.costs.work))]
    if step.constant and step.over_data:
        rows.append(("reads", _listed(step.constant)))
    rows += [("stores", f"{k.name} ({size(k.bytes)}): {k.why}") for k in step.stores]
    yield from _rows(rows)
    yield from (f"    {line}" for line in step.outline)


def _pass(step: StepReport, title: str) -> Iterator[str]:
    yield f"{title}: {step.rows} rows, {_count(step.chunks, 'chunk')}"
    costs = step.costs
    rows = [("per row", operations(costs.work))]
    if costs.bytes:
        ratio = f", {costs.work.flops / costs.bytes:.3g} flops per byte"
        moved = f"{costs.bytes} B read or written"
        rows.append(("per row", moved + (ratio if costs.work.flops else "")))
    rows.append(("reads", _listed(step.reads, " per row") or "nothing per row"))
    if step.constant:
        rows.append(("kept near", _listed(step.constant)))
    if costs.hoisted != Work():
        rows.append(("hoisted", f"{operations(costs.hoisted)}, once per chunk"))
    rows += _sums(step)
    for kept in step.stores:
        rows.append(("stores", f"{kept.name} ({kept.bytes} B per row): {kept.why}"))
    if step.scratch:
        listed = _listed([(k.name, k.bytes) for k in step.scratch])
        rows.append(("scratch", f"{listed} per block or tile of rows"))
    yield from _rows(rows)
    yield from (f"    {line}" for line in step.outline)


def _sums(step: StepReport) -> list[tuple[str, str]]:
    """Sums over the rows, those that are kept alike together."""
    ways: dict[str, list[str]] = {}
    for kept in step.accumulates:
        ways.setdefault(kept.why, []).append(kept.name)
    return [("sums up", f"{', '.join(names)}: {how}") for how, names in ways.items()]


def operations(work: Work) -> str:
    """``57 flops, 1 tanh, 4 other operations``: comparisons, selections, signs."""
    parts = [_count(work.flops, "flop")]
    parts += [f"{count} {name}" for name, count in sorted(work.calls.items())]
    if work.other:
        parts.append(_count(work.other, "other operation"))
    return ", ".join(parts)


def size(count: int) -> str:
    """Bytes in a readable unit."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def _listed(items: Sequence[tuple[str, int]], each: str = "") -> str:
    return ", ".join(f"{name} ({size(count)}{each})" for name, count in items)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _rows(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Two aligned columns; what is too long goes on below, at a comma."""
    left = max(len(name) for name, _ in rows)
    previous = ""
    for name, text in rows:
        shown = "" if name == previous else name
        for line in _wrapped(text, WIDTH - left - 4):
            yield f"  {shown:<{left}}  {line}".rstrip()
            shown = ""
        previous = name


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def _fit(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
