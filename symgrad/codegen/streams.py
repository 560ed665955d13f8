"""Sums relative to the extremum of the rows so far (schedule/streaming.py).

Every lane has an extremum of its own, and its sums are relative to that. Where the
extremum of a lane changes, which is rare after the first rows, the sums of that lane
are rescaled. At the end of a chunk the lanes become relative to the extremum of the
chunk, and at the end of the pass the chunks to that of all rows, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from symgrad import graph
from symgrad.codegen import operations
from symgrad.codegen.evaluate import Evaluator
from symgrad.codegen.llvm_text import Emitter, Value
from symgrad.codegen.terms import kind_of
from symgrad.graph import Node
from symgrad.schedule.plan import Place, Step
from symgrad.schedule.streaming import DROPPED


def followers(step: Step, top: Place) -> list[Place]:
    """The sums of a pass that are relative to the extremum ``top``."""
    if kind_of(top.statement) not in ("max", "min"):
        return []
    return [place for place in step.sums if place.top is top]


def degree_of(place: Place) -> int:
    """By which power of exp(-extremum) a sum scales."""
    stream = place.statement.stream
    assert stream is not None
    return stream[1]


@dataclass
class Change:
    """Sums relative to ``old`` become relative to ``new`` (scalars or lanes)."""

    emitter: Emitter
    old: Value
    new: Value

    def __post_init__(self) -> None:
        self.same = self.emitter.fcmp("oeq", self.old, self.new)
        self.factors: dict[int, Value] = {}

    def factor(self, degree: int) -> Value:
        """exp(degree * (old - new)); 1 where nothing changes, inf - inf included."""
        if degree not in self.factors:
            e = self.emitter
            difference = e.binary("fsub", self.old, self.new)
            if degree != 1:
                power = e.const(float(degree), difference.type)
                difference = e.binary("fmul", difference, power)
            scale = operations.emit(e, "exp", [difference])
            one = e.const(1.0, scale.type)
            self.factors[degree] = e.select(self.same, one, scale)
        return self.factors[degree]

    def prepare(self, places: Sequence[Place]) -> None:
        """Emit here all factors that ``places`` need."""
        for place in places:
            if degree_of(place) != DROPPED:
                self.factor(degree_of(place))

    def apply(self, value: Value, degree: int) -> Value:
        """``value``, a sum relative to ``old``, relative to ``new``."""
        if degree == DROPPED:
            zero = self.emitter.const(0.0, value.type)
            return self.emitter.select(self.same, value, zero)
        return self.emitter.binary("fmul", value, self.factor(degree))


def rescale(
    writer: Evaluator,
    places: Sequence[Place],
    pointers: Sequence[Value],
    old: Value,
    new: Value,
) -> None:
    """Make the sums in lanes at ``pointers`` relative to ``new``, where it differs.

    pointers: the first of each place's elements that belong to the extremum.
    """
    counts = [_inner(writer, place) for place in places]
    emitter = writer.home()
    changed = emitter.any_lane(emitter.fcmp("une", old, new))

    def change() -> None:
        rule = Change(emitter, old, new)
        rule.prepare(places)
        for place, pointer, count in zip(places, pointers, counts, strict=True):
            turn = _rescaling(writer, rule, degree_of(place), pointer)
            writer.counted_inside(count, 1, turn)

    emitter.when(changed, change)


def _rescaling(
    writer: Evaluator, rule: Change, degree: int, pointer: Value
) -> Callable[[Value], None]:
    def turn(counter: Value) -> None:
        e, lanes = writer.emitter, writer.lanes
        offset = e.binary("mul", counter, e.const(lanes, "i64"))
        at = e.gep(pointer, offset, writer.type)
        e.store(rule.apply(e.load(at, writer.type, lanes), degree), at)

    return turn


def _inner(writer: Evaluator, place: Place) -> Value:
    """The number of elements of a place that belong to one extremum."""
    assert place.top is not None
    total: Node = graph.const(1)
    for extent in place.shape[len(place.top.shape) :]:
        total = graph.fold_int("mul", total, extent)
    return writer.extent(total)[0]


def _count(writer: Evaluator, shape: Sequence[Node]) -> Value:
    total: Node = graph.const(1)
    for extent in shape:
        total = graph.fold_int("mul", total, extent)
    return writer.extent(total)[0]


# --------------------------------------------------------------------------------------
# From lanes to chunks, from chunks to totals
# --------------------------------------------------------------------------------------


def flush(
    writer: Evaluator,
    top: Place,
    places: Sequence[Place],
    combine: Callable[[Value, Value], Value],
    fold: Callable[[Value], Value],
    register: Value | None,
) -> None:
    """Add what the lanes hold to the partial sums of a chunk, in float64.

    combine, fold: of two extrema, and of all lanes. register: the lanes of an extremum
    that is not in memory.
    """
    target = writer.memory("partial", "partial", top)
    source = None if register else writer.memory("scratch", "scratch", top)
    memory = [
        (
            place,
            _inner(writer, place),
            writer.memory("scratch", "scratch", place),
            writer.memory("partial", "partial", place),
        )
        for place in places
    ]
    extrema = _count(writer, top.shape)
    lanes = writer.lanes
    e = writer.home()

    def element(k: Value, _: list[Value]) -> None:
        value = register or _lanes_at(writer, source, k)
        value = operations.to_float_type(e, value, "double")
        pointer = e.gep(target, k, "double")
        old = e.load(pointer, "double")
        new = combine(old, fold(value))
        e.store(new, pointer)
        chunk = Change(e, old, new)
        inside = Change(e, value, e.splat(new, lanes))
        chunk.prepare(places)
        inside.prepare(places)
        for place, inner, lane_base, partial_base in memory:
            degree = degree_of(place)
            first = e.binary("mul", k, inner)

            def sum_(
                n: Value,
                _: list[Value],
                first: Value = first,
                lane_base: Value = lane_base,
                partial_base: Value = partial_base,
                degree: int = degree,
            ) -> None:
                at = e.binary("add", first, n)
                terms = _lanes_at(writer, lane_base, at)
                terms = operations.to_float_type(e, terms, "double")
                here = e.gep(partial_base, at, "double")
                before = chunk.apply(e.load(here, "double"), degree)
                added = e.fold_lanes("fadd", inside.apply(terms, degree))
                e.store(e.binary("fadd", before, added), here)

            writer.counted(0, inner, sum_)

    writer.counted(0, extrema, element)


def _lanes_at(writer: Evaluator, base: Value | None, k: Value) -> Value:
    assert base is not None
    e = writer.emitter
    at = e.binary("mul", k, e.const(writer.lanes, "i64"))
    return e.load(e.gep(base, at, writer.type), writer.type, writer.lanes)


def totals(
    writer: Evaluator,
    place: Place,
    partials: tuple[Value, Value],
    targets: tuple[Value, Value],
    bytes_: Value,
    chunks: Value,
) -> None:
    """The sums of all chunks, relative to the extremum of all rows.

    partials, targets: of the extremum, whose total is known, and of the sum. bytes_:
    from one chunk's partial sums to the next.
    """
    assert place.top is not None
    degree, inner = degree_of(place), _inner(writer, place)
    extrema = _count(writer, place.top.shape)
    e = writer.home()

    def element(k: Value, _: list[Value]) -> None:
        total = e.load(e.gep(targets[0], k, "double"), "double")
        first = e.binary("mul", k, inner)

        def clear(n: Value, _: list[Value]) -> None:
            here = e.gep(targets[1], e.binary("add", first, n), "double")
            e.store(e.const(0.0, "double"), here)

        writer.counted(0, inner, clear)

        def chunk(c: Value, _: list[Value]) -> None:
            offset = e.binary("mul", c, bytes_)
            extremum = e.gep(e.gep(partials[0], k, "double"), offset, "i8")
            rule = Change(e, e.load(extremum, "double"), total)
            rule.prepare([place])

            def sum_(n: Value, _: list[Value]) -> None:
                at = e.binary("add", first, n)
                here = e.gep(targets[1], at, "double")
                there = e.gep(e.gep(partials[1], at, "double"), offset, "i8")
                term = rule.apply(e.load(there, "double"), degree)
                e.store(e.binary("fadd", e.load(here, "double"), term), here)

            writer.counted(0, inner, sum_)

        writer.counted(0, chunks, chunk)

    writer.counted(0, extrema, element)
