"""What one step of a plan costs: floating-point operations, calls and bytes.

Counted as the emitter does it: a value is computed in the outermost loop that has all
it needs, once for all who use it there, and a product inside a sum is one fused
operation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from symgrad import graph
from symgrad.codegen.layout import Layout
from symgrad.codegen.operations import BASIC
from symgrad.graph import Array, Call, Index, Input, Load, Node, Scatter
from symgrad.schedule import Plan, cost
from symgrad.schedule.cost import INTERNAL
from symgrad.schedule.nest import Item, Loop, statements_in
from symgrad.schedule.plan import Place, Step
from symgrad.schedule.statements import Statement

ARITHMETIC = {"add": 1, "sub": 1, "mul": 1, "div": 1, "sqrt": 1, "fma": 2}
"""Floating-point operations of one call; comparisons and selections are none."""

ITEM = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4,
        "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8}  # fmt: skip


TAILS = {"sigmoid_tail": "sigmoid", "tanh_tail": "tanh"}
"""What kernels make functions from, and whose work that is."""


@dataclass
class Work:
    """Operations: ``flops`` arithmetic ones, ``calls`` of functions by name, and
    ``other``: comparisons, selections, changes of sign."""

    flops: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    other: int = 0

    def add(self, op: str, turns: int) -> None:
        """Count ``turns`` times ``op``."""
        if op in ARITHMETIC:
            self.flops += ARITHMETIC[op] * turns
        elif (op in BASIC and op != "mod") or op == "tanh_of_tail":
            self.other += turns  # but the remainder: it is a function of C
        elif op not in ("cast", *INTERNAL):
            self.calls[TAILS.get(op, op)] += turns


@dataclass(frozen=True)
class Traffic:
    """Elements of one array that a step reads or writes in each row.

    source: an input, or the statement whose stored value it is. how: "rows" or
    "gathered" (at computed places). bytes: per row.
    """

    source: Input | Statement
    bytes: int
    how: str = "rows"


@dataclass
class Costs:
    """All of one step. ``hoisted`` is done once per chunk of rows, ``work`` once per
    row (per call, if the step is serial). ``constant`` is read whatever the row."""

    work: Work = field(default_factory=Work)
    hoisted: Work = field(default_factory=Work)
    reads: list[Traffic] = field(default_factory=list)
    constant: list[Traffic] = field(default_factory=list)
    stores: list[Traffic] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Read and written per row."""
        return sum(t.bytes for t in (*self.reads, *self.stores))


def costs_of(
    plan: Plan, step: Step, layout: Layout, lengths: Mapping[str, int]
) -> Costs:
    """Count one step for these run-time lengths."""
    counter = _Counter(plan, step, lengths)
    counter.items([*step.items, *deferred_loops(step)])
    reader = _Reader(plan, step, layout, lengths)
    return Costs(
        counter.work,
        counter.hoisted,
        reader.reads(),
        reader.constant(),
        reader.stores(),
    )


def reads_rows(step: Step, names: Iterable[str], plan: Plan) -> bool:
    """Whether a step reads one of the named inputs at its row.

    A serial step may have loops over run-time lengths inside, too.
    """
    wanted = set(names)
    return any(
        isinstance(load.array, Input) and load.array.name in wanted
        for load in loads_of(step, plan)
        if step.row in load.free or (step.row is None and _is_long(load.free))
    )


def _is_long(indices: Iterable[Index]) -> bool:
    return any(cost.is_dynamic(i) for i in indices)


def elements(indices: Iterable[Index], lengths: Mapping[str, int]) -> int:
    """The number of values that the indices take together."""
    return cells((i.extent for i in indices), lengths)


def cells(shape: Iterable[Node], lengths: Mapping[str, int]) -> int:
    """The number of elements of an array of ``shape``."""
    total = 1
    for extent in shape:
        total *= max(0, cost.length(extent, lengths))
    return total


def evaluated(statement: Statement) -> Sequence[Node]:
    """The roots of what a statement evaluates; of a value, its operands."""
    if statement.kind == "let":
        return statement.node.children
    return statement.expressions


# --- operations -----------------------------------------------------------------------


class _Counter:
    """Walks a step with its loops open, as the emitter does."""

    def __init__(self, plan: Plan, step: Step, lengths: Mapping[str, int]) -> None:
        self.plan, self.step, self.lengths = plan, step, lengths
        self.work, self.hoisted = Work(), Work()
        self.open: list[Index] = []
        self.seen: list[set[Node]] = [set()]  # per scope; the first is the function

    def items(self, items: Iterable[Item]) -> None:
        for item in items:
            if isinstance(item, Loop):
                self.open.append(item.index)
                self.seen.append(set())
                self.items(item.items)
                self.seen.pop()
                self.open.pop()
            else:
                self._statement(item)

    def _statement(self, s: Statement) -> None:
        if s.kind == "let":
            assert isinstance(s.node, Call | Load)
            self._evaluate(self._operands(s.node))
            self._count(s.node)
        elif s.accumulates:
            self._accumulate(s)
        else:
            self._evaluate(s.expressions)

    def _accumulate(self, s: Statement) -> None:
        kind = s.node.kind if isinstance(s.node, graph.Reduce) else "sum"
        op = {"sum": "add", "prod": "mul", "min": "minimum", "max": "maximum"}[kind]
        value = s.value
        if kind == "sum" and self._product(value):
            self._evaluate((*value.children, *s.targets))
            op = "fma"
        else:
            self._evaluate(s.expressions)
        self._add(op, len(self.open))

    def _evaluate(self, roots: Iterable[Node]) -> None:
        """Count what is not yet known in any open scope."""

        def known(node: Node) -> bool:
            return node in self.plan.of or any(node in values for values in self.seen)

        def into(node: Node) -> Iterable[Node]:
            return () if known(node) else self._operands(node)

        for node in graph.walk(list(roots), into):
            if not known(node):
                self._count(node)

    def _operands(self, node: Node) -> Sequence[Node]:
        if isinstance(node, Load):
            return node.indices
        if self._is_sum(node):
            left, right = node.children
            if self._product(left):
                return (*left.children, right)
            if self._product(right):
                return (left, *right.children)
        return node.children

    def _is_sum(self, node: Node) -> bool:
        sums = isinstance(node, Call) and node.op in ("add", "sub")
        return sums and node.type == graph.FLOAT

    def _product(self, node: Node) -> bool:
        return self.plan.is_term(node)

    def _count(self, node: Node) -> None:
        depths = (k + 1 for k, i in enumerate(self.open) if i in node.free)
        level = max(depths, default=0)
        self.seen[level].add(node)
        if not isinstance(node, Call) or graph.INT in (node.type, node.args[0].type):
            return
        fused = self._is_sum(node) and any(self._product(c) for c in node.children)
        self._add("fma" if fused else node.op, level)

    def _add(self, op: str, level: int) -> None:
        inner = [i for i in self.open[:level] if i is not self.step.row]
        hoisted = self.step.row is not None and level == 0
        (self.hoisted if hoisted else self.work).add(op, elements(inner, self.lengths))


# --- memory ---------------------------------------------------------------------------


_WHOLE = ("array", "scatter", "output")


def deferred_loops(step: Step) -> list[Loop]:
    """The loops of sums that run after each tile of rows."""
    loops = []
    for deferred in step.deferred:
        assert step.row is not None
        loop = Loop(step.row, [deferred.statement])
        for i in reversed(deferred.axes):
            loop = Loop(i, [loop])
        loops.append(loop)
    return loops


def _statements(step: Step) -> list[Statement]:
    return statements_in([*step.items, *deferred_loops(step)])


def loads_of(step: Step, plan: Plan) -> list[Load]:
    """All loads that a step evaluates itself."""
    statements = _statements(step)
    roots = [e for s in statements for e in evaluated(s)]

    def into(node: Node) -> Iterable[Node]:
        if node in plan.of:
            return ()
        return node.indices if isinstance(node, Load) else node.children

    found = graph.walk(roots, into)
    own = [s.node for s in statements if s.kind == "let"]
    loads = (n for n in (*found, *own) if isinstance(n, Load))
    return [n for n in loads if n not in plan.of or n in own]


class _Reader:
    """The arrays that one step reads and writes."""

    def __init__(
        self, plan: Plan, step: Step, layout: Layout, lengths: Mapping[str, int]
    ) -> None:
        self.plan, self.step, self.layout = plan, step, layout
        self.lengths = lengths
        self.row = step.row
        self.statements = _statements(step)
        self.summed = {place.statement for place in step.sums}
        self.loads = loads_of(step, plan)

    def constant(self) -> list[Traffic]:
        """Inputs that are read whatever the row; all of them in a serial step."""
        loads = [n for n in self.loads if self.row is None or self.row not in n.free]
        return self._arrays(n for n in loads if isinstance(n.array, Input))

    def reads(self) -> list[Traffic]:
        """Per row: inputs first, then values that earlier steps stored."""
        if self.row is None:
            return []
        arrays = self._arrays(n for n in self.loads if self.row in n.free)
        arrays.sort(key=lambda t: not isinstance(t.source, Input))
        return arrays + self._values()

    def _arrays(self, loads: Iterable[Load]) -> list[Traffic]:
        """Elements that are read of each array, at one row."""
        parts: dict[Node, dict[object, int]] = {}
        gathered: set[Node] = set()
        for load in loads:
            key, computed = self._form(load)
            inner = (i for i in load.free if i is not self.row)
            parts.setdefault(load.array, {})[key] = elements(inner, self.lengths)
            if computed:
                gathered.add(load.array)
        return [self._read(a, sum(p.values()), a in gathered) for a, p in parts.items()]

    def _form(self, load: Load) -> tuple[object, bool]:
        """What tells apart loads of different elements of a row, and whether the place
        is computed from data. Neighbouring rows count as one: caches see to that."""
        key: list[object] = []
        computed = False
        for i in load.indices:
            loaded = any(isinstance(n, Load) for n in graph.walk(i))
            computed = computed or loaded
            if self.row in i.free and not loaded:
                key.append("row")
            else:
                key.append(i.extent if isinstance(i, Index) else i)
        return tuple(key), computed

    def _read(self, array: Node, count: int, gathered: bool) -> Traffic:
        assert isinstance(array, Input | Array | Scatter)
        how = "gathered" if gathered else "rows"
        if isinstance(array, Input):
            return Traffic(array, count * self.item(array), how)
        statement = self.plan.of[array]
        return Traffic(statement, count * self._item(statement), how)

    def _values(self) -> list[Traffic]:
        """Stored values of earlier steps that are read row by row."""
        own = set(self.statements)
        needed = (o for s in self.statements for o in s.pointwise)
        outside = dict.fromkeys(o for o in needed if o not in own)
        return [
            self._per_row(s, self.plan.work[s].axes)
            for s in outside
            if s in self.plan.work and self.row in self.plan.work[s].axes
        ]

    def stores(self) -> list[Traffic]:
        """What is written in each row and outlives the step; of a serial step, what
        has a run-time length."""
        found = []
        for s in self.statements:
            place = self.plan.work.get(s)
            axes = s.loops if place is None or s.kind in _WHOLE else place.axes
            kept = s.kind == "output" or place is not None
            long = self.row in axes if self.row is not None else _is_long(axes)
            if kept and long and s not in self.summed:
                found.append(self._per_row(s, axes))
        return found

    def _per_row(self, s: Statement, axes: Iterable[Index]) -> Traffic:
        count = elements((i for i in axes if i is not self.row), self.lengths)
        return Traffic(s, count * self._item(s))

    def item(self, array: Input) -> int:
        """Bytes of one element of an input."""
        spec = self.layout.specs[array.name]
        if spec.parameter and self.layout.single:
            return 4
        return ITEM[spec.dtype]

    def _item(self, s: Statement) -> int:
        place: Place | None = self.plan.work.get(s)
        return 8 if place is None else self.layout.element_bytes(place)
