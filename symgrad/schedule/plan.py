"""Where every value lives and in which order everything runs.

A plan is a list of *steps*. A ``Pass`` is one loop over rows: it runs in chunks, one
lane per row, and its sums are kept per chunk and combined in a fixed order afterwards.
A ``Serial`` step is everything between passes: scalars, small loops over parameters.

Values live in registers if all their users share their loops; in *scratch* (one block
of rows) if their users share the loop over rows; else in *work* memory of the call.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from symgrad import graph
from symgrad.graph import Call, Index, Input, Load, Node, Size
from symgrad.schedule import cost
from symgrad.schedule.alike import Alike
from symgrad.schedule.deferred import Deferral, Deferred, defer
from symgrad.schedule.grids import inner_lanes
from symgrad.schedule.nest import Item, Loop, Nester, statements_in
from symgrad.schedule.phases import Phase, Product
from symgrad.schedule.statements import Statement, choose_statements

LANE_SUMS_BYTES = 1 << 20
"""Largest array of per-lane sums; larger ones are folded block by block."""

CACHED_ELEMENTS = 1 << 15
"""Elements that stay in an inner cache: a quarter of 1 MB in float64."""

FEW_BLOCKS = 8
"""Fewer rows than so many blocks are not put together in larger ones."""

KEPT_ELEMENTS = 64
"""Values of each row, read or kept for inner loops, of which four vectors fill half of
an inner cache (16 KB)."""

OFTEN_READ = 16
"""Work of inner loops per element of a row (a product and a sum are 3)."""


@dataclass(eq=False)
class Place:
    """Memory of one value.

    memory: "register", "scratch" (one block of rows) or "work" (the whole call).
    axes: the indices that address it, slowest first; shape: their extents. Arrays and
        scatters have a shape only, and ``order``: their axes from slowest to fastest.
    lanes: one vector of rows per element. wide: float64 whatever the compute type.
    sums: of a value summed over rows, how its partial sums are kept:
        "register" or "lanes" (per lane, folded at the end of the chunk), "folded"
        (added to the chunk's partial sums at once), or "tiled" (deferred.py).
    kept: in scratch for a whole tile of rows, the row being the fastest axis.
    top: of a sum that is relative to an extremum of the same pass, that one's place;
        its axes come first.
    """

    statement: Statement
    memory: str
    axes: tuple[Index, ...] = ()
    shape: tuple[Node, ...] = ()
    order: tuple[int, ...] = ()
    lanes: bool = False
    wide: bool = False
    sums: str | None = None
    kept: bool = False
    top: Place | None = None


@dataclass(eq=False)
class Step:
    """A part of the program between two synchronisations.

    row: the index over rows of a pass; None for a serial step. deferred: sums that run
    tile by tile after the rows of the tile; tile: the number of rows of a tile.
    vectors: hardware vectors in a block of rows, which run together. lane: the index
    that lanes run along inside of each row (grids.py); None: along the rows. phases,
    products: what the threads of a block do together (phases.py).
    """

    items: list[Item]
    row: Index | None = None
    sums: list[Place] = field(default_factory=list)
    scratch: list[Place] = field(default_factory=list)
    local: dict[Statement, Place] = field(default_factory=dict)
    deferred: list[Deferred] = field(default_factory=list)
    tile: Size | None = None
    vectors: int = 1
    lane: Index | None = None
    phases: list[Phase] = field(default_factory=list)
    products: dict[Statement, Product] = field(default_factory=dict)


@dataclass(eq=False)
class Plan:
    """A whole kernel: steps, places that outlive a step, outputs.

    firsts: lengths that must not be zero (feedback.py).
    """

    steps: list[Step]
    work: dict[Statement, Place]
    of: dict[Node, Statement]
    outputs: list[Node]
    firsts: frozenset[Node] = frozenset()

    @property
    def passes(self) -> list[Step]:
        """The steps that loop over rows."""
        return [step for step in self.steps if step.row is not None]

    def is_term(self, node: Node) -> bool:
        """Whether sums take this node in as the product of an FMA.

        Not if it, or the same formula with other index names, is a value of its own,
        which is rounded: nodes that are alike have the same bits.
        """
        if not isinstance(node, Call) or node.op != "mul" or node.type != graph.FLOAT:
            return False
        return not self._products or self._alike.number(node) not in self._products

    @cached_property
    def _alike(self) -> Alike:
        return Alike()

    @cached_property
    def _products(self) -> set[int]:
        products = (n for n in self.of if isinstance(n, Call) and n.op == "mul")
        return self._alike.numbers(products)


@dataclass(eq=False)
class _Instance:
    """One occurrence of a statement in the loop nests."""

    statement: Statement
    path: tuple[Loop, ...]
    step: int


def make_plan(
    outputs: Sequence[Node],
    hints: Mapping[str, int],
    lanes: int = 8,
    tiled: bool = True,
    deferral: Deferral = defer,
) -> Plan:
    """Schedule the closed nodes ``outputs``.

    hints: the run-time lengths at hand; they steer decisions, not correctness.
    lanes: rows per vector, for the size of per-lane sums.
    tiled: whether large sums may wait for the end of a tile of rows.
    deferral: which of them do; targets differ in that.
    """
    statements = choose_statements(outputs, hints)
    items = Nester(statements, hints).build()
    steps = _steps(items)
    for number, step in enumerate(steps):
        if step.row is not None and tiled:
            step.items, step.deferred = deferral(step.items, step.row, hints, lanes)
            if step.deferred:
                step.tile = graph.size(f"rows of a tile in step {number}")
    plan = Plan(steps, {}, statements.of, list(outputs))
    _Placer(plan, hints, lanes).run()
    for step in plan.passes if tiled else ():
        step.lane = _inner_lanes(step, plan.of, hints, lanes)
        step.vectors = _vectors(step, hints, lanes)
    return plan


def _inner_lanes(
    step: Step, of: Mapping[Node, Statement], hints: Mapping[str, int], lanes: int
) -> Index | None:
    if step.deferred or step.scratch:
        return None
    registers = {s for s, place in step.local.items() if place.memory == "register"}
    registers |= {place.statement for place in step.sums if place.sums == "register"}
    rows = step.items[0]
    assert isinstance(rows, Loop)
    return inner_lanes(rows, registers, of, hints, lanes)


def _vectors(step: Step, hints: Mapping[str, int], lanes: int) -> int:
    """Vectors in a block of rows: two or four where rows share what inner loops read
    and update (parameters, sums), as far as rows fill blocks.

    Four where rows share so much that it comes from an outer cache; or where inner
    loops are most of the work, and what they keep of a block stays in the inner cache.
    """
    assert step.row is not None
    rows = step.items[0]
    assert isinstance(rows, Loop)
    if any(s.stream is not None for s in rows.statements()):
        return 1  # one extremum so far for each vector of sums
    inner = any(isinstance(item, Loop) for item in rows.items)
    if not inner and not step.deferred:
        return 1
    much = _shared_elements(step, hints) > CACHED_ELEMENTS
    wanted = 4 if much or _is_mostly_inner(step, hints) else 2
    while wanted > 1 and cost.length(step.row.extent, hints) < (
        FEW_BLOCKS * wanted * lanes
    ):
        wanted //= 2
    return wanted


def _is_mostly_inner(step: Step, hints: Mapping[str, int]) -> bool:
    """Whether two thirds of a row's work, at least, are loops inside of it, which read
    little and read it often."""
    inner = outer = 0.0
    for s in statements_in(step.items):
        own = s.cost + (s.kind == "reduce")
        turns = [i for i in s.loops if i is not step.row]
        if turns:
            inner += own * _turns(turns, hints)
        else:
            outer += own
    read = _row_elements(step, hints)
    kept = sum(
        _turns([i for i in p.axes if i is not step.row], hints) for p in step.scratch
    )
    return read + kept <= KEPT_ELEMENTS and inner >= max(2 * outer, OFTEN_READ * read)


def _row_elements(step: Step, hints: Mapping[str, int]) -> int:
    """Elements of one row of all inputs that have rows."""
    rows: dict[Input, int] = {}
    for node in graph.walk(
        [e for s in statements_in(step.items) for e in s.expressions]
    ):
        if isinstance(node, Load) and isinstance(node.array, Input):
            inner = [
                i for i in node.indices if isinstance(i, Index) and i is not step.row
            ]
            if step.row in node.free:
                rows[node.array] = max(_turns(inner, hints), rows.get(node.array, 1))
    return sum(rows.values())


def _turns(indices: Iterable[Index], hints: Mapping[str, int]) -> int:
    return math.prod(max(1, cost.length(i.extent, hints)) for i in indices)


def _shared_elements(step: Step, hints: Mapping[str, int]) -> int:
    """Elements of the inputs that are read whatever the row."""
    arrays: dict[Node, None] = {}
    roots = [e for s in statements_in(step.items) for e in s.expressions]
    for node in graph.walk(roots):
        if isinstance(node, Load) and step.row not in node.free:
            arrays[node.array] = None
    return sum(
        math.prod(cost.length(extent, hints) for extent in array.shape)
        for array in arrays
        if isinstance(array, Input)
    )


def _steps(items: list[Item]) -> list[Step]:
    steps: list[Step] = []
    for item in items:
        if isinstance(item, Loop) and cost.is_dynamic(item.index):
            steps.append(Step([item], item.index))
        elif steps and steps[-1].row is None:
            steps[-1].items.append(item)
        else:
            steps.append(Step([item]))
    return steps


class _Placer:
    def __init__(self, plan: Plan, hints: Mapping[str, int], lanes: int) -> None:
        self.plan, self.hints, self.lanes = plan, hints, lanes
        self.instances: dict[Statement, list[_Instance]] = {}
        self.readers: dict[_Instance, list[_Instance]] = {}

    def run(self) -> None:
        """Give every instance of every statement its place."""
        for number, step in enumerate(self.plan.steps):
            self._collect(step.items, (), number)
            self._collect_deferred(step, number)
        for instances in list(self.instances.values()):
            for instance in instances:
                self._link(instance)
        for instances in self.instances.values():
            for instance in instances:
                self._place(instance)

    def _collect(
        self, items: Sequence[Item], path: tuple[Loop, ...], step: int
    ) -> None:
        for item in items:
            if isinstance(item, Loop):
                self._collect(item.items, (*path, item), step)
            else:
                found = self.instances.setdefault(item, [])
                found.append(_Instance(item, path, step))

    def _collect_deferred(self, step: Step, number: int) -> None:
        """Deferred sums read whole tiles: they share nothing but the loop over rows."""
        for item in step.deferred:
            rows = step.items[0]
            assert isinstance(rows, Loop)
            found = self.instances.setdefault(item.statement, [])
            found.append(_Instance(item.statement, (rows,), number))

    def _link(self, user: _Instance) -> None:
        """Note which instance of each needed value ``user`` reads."""
        for other in user.statement.pointwise:
            self.readers.setdefault(self._serving(other, user), []).append(user)

    def _serving(self, s: Statement, user: _Instance) -> _Instance:
        """The instance in the same step if there is one, else the first."""
        same = [i for i in self.instances[s] if i.step == user.step]
        return same[0] if same else self.instances[s][0]

    def _place(self, instance: _Instance) -> None:
        s, step = instance.statement, self.plan.steps[instance.step]
        if s.kind == "output":
            return
        readers = self.readers.get(instance, [])
        if s.kind in ("array", "scatter"):
            self._place_whole(instance, step)
        elif step.row is not None and step.row in s.bound:
            self._place_row_sum(instance, step)
        else:
            self._place_value(instance, readers, step)

    def _place_whole(self, instance: _Instance, step: Step) -> None:
        """Arrays and scatters are complete arrays in work memory."""
        s = instance.statement
        node = s.node
        assert isinstance(node, (graph.Array, graph.Scatter))
        axes = tuple(range(len(node.shape)))
        if s.kind == "array":  # rows fastest: vectors of rows are stored as they are
            order = tuple(sorted(axes, key=lambda k: s.targets[k] is step.row))
            place = Place(s, "work", shape=node.shape, order=order)
        else:
            place = Place(s, "work", shape=node.shape, order=axes, wide=True)
            if step.row is not None and step.row in s.bound:
                uniform = not any(step.row in t.free for t in s.targets)
                small = self._lane_bytes(node.shape) <= LANE_SUMS_BYTES
                place.sums = "lanes" if uniform and small else "folded"
                step.sums.append(place)
        self.plan.work[s] = place

    def _place_row_sum(self, instance: _Instance, step: Step) -> None:
        """A value summed over the rows: partial sums per chunk, then one total."""
        s = instance.statement
        axes = tuple(loop.index for loop in instance.path if loop.index in s.domain)
        shape = tuple(i.extent for i in axes)
        place = Place(s, "work", axes, shape, wide=True)
        deferred = next((d for d in step.deferred if d.statement is s), None)
        if deferred is not None:
            place.axes = deferred.axes
            place.shape = tuple(i.extent for i in deferred.axes)
            place.sums = "tiled"
        elif self._top(instance) is not None:
            top = place.top = self._top(instance)
            assert top is not None
            place.axes = (*top.axes, *(i for i in s.domain if i not in top.axes))
            place.shape = tuple(i.extent for i in place.axes)
            place.sums = "lanes"
        elif not s.domain:
            place.sums = "register"
        else:
            small = self._lane_bytes(shape) <= LANE_SUMS_BYTES
            place.sums = "lanes" if small else "folded"
        step.sums.append(place)
        self.plan.work[s] = place

    def _top(self, instance: _Instance) -> Place | None:
        """The extremum that a sum is relative to, if this pass looks for it."""
        stream = instance.statement.stream
        if stream is None:
            return None
        (top,) = self.instances[stream[0]]
        return self.plan.work[top.statement] if top.step == instance.step else None

    def _place_value(
        self, instance: _Instance, readers: list[_Instance], step: Step
    ) -> None:
        s, path = instance.statement, instance.path
        depth = min(
            (_common(path, r.path) if r.step == instance.step else 0 for r in readers),
            default=len(path),
        )
        first = self._first_bound(instance)
        inner = [
            loop.index
            for position, loop in enumerate(path)
            if loop.index in s.domain and (position >= depth or position > first)
        ]
        kept = any(s in d.operands for d in step.deferred)
        outside = any(r.step != instance.step for r in readers)
        if step.row is None:
            memory = "work" if inner or outside else "register"
            place = Place(s, memory, tuple(inner), wide=s.kind == "reduce")
        elif outside:
            assert step.row in s.domain, s
            rest = tuple(i for i in s.domain if i is not step.row)
            place = Place(s, "work", (*rest, step.row))
        elif kept:
            assert step.row is not None
            inner = [i for i in inner if i is not step.row]
            place = Place(s, "scratch", (*inner, step.row), kept=True)
            step.scratch.append(place)
        elif inner:
            place = Place(s, "scratch", tuple(inner), lanes=True)
            step.scratch.append(place)
        else:
            place = Place(s, "register")
        place.shape = tuple(i.extent for i in place.axes)
        if place.kept:
            assert step.tile is not None
            place.shape = (*place.shape[:-1], step.tile)
        if place.memory == "work":
            self.plan.work[s] = place
        else:
            step.local[s] = place

    def _first_bound(self, instance: _Instance) -> int:
        """Position of the outermost loop that the statement sums over."""
        bound = instance.statement.bound
        for position, loop in enumerate(instance.path):
            if loop.index in bound:
                return position
        return len(instance.path)

    def _lane_bytes(self, shape: Sequence[Node]) -> int:
        total = 8 * self.lanes
        for extent in shape:
            total *= max(1, cost.length(extent, self.hints))
        return total


def _common(a: tuple[Loop, ...], b: tuple[Loop, ...]) -> int:
    """How many loops two paths share."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x is not y:
            break
        count += 1
    return count
