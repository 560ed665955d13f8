"""The steps of a loss: forward with values, backward with adjoints and rules.

A step is an input or an operation, at the granularity in which people think: a product
under a sum is one contraction, a sum over n divided by n is a mean, and constants stand
in the formula of the step that uses them. The adjoint of a step is the derivative of
the loss with respect to its value.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symgrad import graph
from symgrad.differentiate import gradient
from symgrad.errors import ArgumentError, BroadcastWarning
from symgrad.graph import FLOAT, Array, Input, Node, Scatter
from symgrad.interpret import evaluate
from symgrad.show.steps import Reading, Rule

if TYPE_CHECKING:
    from symgrad.runtime.function import Loss

Values = NDArray[Any]

ELEMENTS = 2_000_000
"""So many numbers a trace may hold; more rows than that are left out."""


@dataclass(frozen=True)
class Contribution:
    """What the step number ``source`` adds to an adjoint, as a formula.

    ``partial`` is the derivative of the source's value by this one; None for elements
    that are put in place. ``number`` is the contribution where all are scalars.
    """

    source: int
    formula: str
    partial: str | None
    number: float | None = None


@dataclass(frozen=True)
class Step:
    """An input or an operation.

    name: of its value: the user's, else v1, v2, ... kind: "parameter", "data" or
    "operation". symbol: what the operation is called; formula: how the value is
    computed from those of ``args`` (numbers of steps). axes: letters of the value's
    axes. adjoint: of the value's shape; None for what has no derivative.
    contributions: the terms of the adjoint.
    """

    name: str
    kind: str
    symbol: str
    formula: str
    args: tuple[int, ...]
    axes: tuple[str, ...]
    value: Values
    adjoint: Values | None
    contributions: tuple[Contribution, ...] = ()


@dataclass(frozen=True)
class Trace:
    """All steps, arguments before their users; the last is the loss.

    lengths: of each index letter. rows: (shown, all) where rows were left out.
    title: the loss as text.
    """

    steps: tuple[Step, ...]
    lengths: dict[str, int]
    title: str
    rows: tuple[int, int] | None = None

    @property
    def loss(self) -> Step:
        """The last step."""
        return self.steps[-1]

    def step(self, name: str) -> Step:
        """The step whose value has this name.

        Raises:
            KeyError: there is none.
        """
        found = next((s for s in self.steps if s.name == name), None)
        if found is None:
            raise KeyError(
                f"no step {name!r}: there are {[s.name for s in self.steps]}"
            )
        return found


def trace(loss: Loss, values: Mapping[str, Any], *, elements: int = ELEMENTS) -> Trace:
    """Every step of ``loss`` at ``values``, with value, adjoint and rules.

    Computed by the reference interpreter, in float64, from the formula as it was
    written. Of more than ``elements`` intermediate numbers only first rows are shown.

    Raises:
        ArgumentError: not a loss, or values are missing.
        ShapeError, DTypeError, UnknownNameError: see ``symgrad.compile``.
    """
    require_loss(loss)
    arrays = loss._specialiser.arrays(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BroadcastWarning)
        made = _Tracer(loss, arrays)
        count = made.count()
        if count <= elements:
            return made.trace(None)
        return _of_first_rows(loss, arrays, elements / count)


def require_loss(loss: Any) -> None:
    """Raise an ArgumentError if this is not a compiled loss."""
    from symgrad.runtime.function import Loss

    if not isinstance(loss, Loss):
        raise ArgumentError(
            f"a compiled loss is needed, not {loss!r}: only a scalar has adjoints. "
            "Pass what symgrad.compile returns"
        )


def _of_first_rows(loss: Loss, arrays: dict[str, Any], share: float) -> Trace:
    from symgrad.runtime.checks import fewer_rows
    from symgrad.runtime.function import Loss

    apart = Loss(loss._source)  # the user's own keeps what it was compiled for
    longest = max(a.shape[0] for a in arrays.values() if a.ndim)
    few = fewer_rows(apart, arrays, max(1, int(share * longest)))
    pairs = ((few[k].shape, arrays[k].shape) for k in arrays)
    cut = [(a[0], b[0]) for a, b in pairs if a and a != b]
    return _Tracer(loss, few).trace(cut[0] if cut else None)


@dataclass
class _Tracer:
    """A loss as steps, for given arrays."""

    loss: Loss
    arrays: dict[str, Any]
    reading: Reading = field(init=False)
    lengths: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        from symgrad.language.build import InputSpec, build, default_static
        from symgrad.language.dims import read_sizes
        from symgrad.runtime.arrays import graph_type

        program, wrt = self.loss._source.program, self.loss.wrt
        specs = {
            name: InputSpec(
                name, a.shape, graph_type(a), name in wrt,
                default_static(a.shape, name in wrt),
            )
            for name, a in self.arrays.items()
        }  # fmt: skip
        built = build(program, specs)
        shapes = {name: a.shape for name, a in self.arrays.items()}
        self.lengths = read_sizes(built.dims, shapes) or {}
        names: dict[Node, str] = {}
        for k, assignment in enumerate(program.assignments[:_NAMES]):
            part = replace(
                program,
                assignments=program.assignments[: k + 1],
                result=_name(assignment.name),
            )
            names[build(part, specs).value.body] = assignment.name
        self.reading = Reading(built.value.body, wrt, self.lengths, names)

    def count(self) -> int:
        """Numbers in the values of all steps."""
        lengths = self.reading.length
        return sum(
            int(np.prod([lengths[i] for i in self.reading.axes(n)], dtype=object))
            for n in self.reading.order
        )

    def trace(self, rows: tuple[int, int] | None) -> Trace:
        reading = self.reading
        values = self.values()
        adjoints = self.adjoints()
        steps = [
            Step(
                name=reading.name[node],
                kind=reading.kind(node),
                symbol=reading.symbol(node),
                formula=reading.formula(node),
                args=tuple(reading.number[a] for a in reading.operands(node)),
                axes=tuple(reading.letter[i] for i in reading.axes(node)),
                value=values[node],
                adjoint=adjoints.get(node),
            )
            for node in reading.order
        ]
        given = self.contributions(steps)
        steps = [replace(s, contributions=tuple(given[k])) for k, s in enumerate(steps)]
        letters = {reading.letter[i]: n for i, n in reading.length.items()}
        title = self.loss._source.text or reading.formula(reading.root)
        return Trace(tuple(steps), letters, title, rows)

    def values(self) -> dict[Node, Values]:
        """The value of each step, its axes in the order of ``Reading.axes``."""
        order = self.reading.order
        # The loss first: its walk meets the indices in the order of their letters.
        roots = [self.reading.root, *order]
        found = evaluate(roots, self.arrays, self.lengths)
        return dict(zip(order, found[1:], strict=True))

    def adjoints(self) -> dict[Node, Values]:
        """The derivative of the loss with respect to every float step.

        To each operation a new input of the same axes is added and set to zero: the
        derivative by that input is the adjoint. So this shows what the ordinary
        gradient does, and needs no access to its insides.
        """
        reading = self.reading
        wanted = {n for n in reading.order if n.type == FLOAT}
        probes: dict[Node, Input] = {n: n for n in wanted if isinstance(n, Input)}
        zeros: dict[str, Values] = {}
        done: dict[Node, Node] = {}
        for node in graph.walk(reading.top):
            new = graph.rebuild(node, tuple(done[c] for c in node.children))
            if node in wanted and not isinstance(node, (Input, Array, Scatter)):
                axes = reading.axes(node)
                probe = graph.input_(f"·{len(probes)}", [i.extent for i in axes])
                probes[node] = probe
                zeros[probe.name] = np.zeros([reading.length[i] for i in axes])
                new = new + graph.load(probe, axes)
            done[node] = new
        roots = gradient(done[reading.top], list(probes.values()))
        found = evaluate(roots, {**self.arrays, **zeros}, self.lengths)
        return dict(zip(probes, found, strict=True))

    def contributions(self, steps: Sequence[Step]) -> list[list[Contribution]]:
        """For each step, what its users add to its adjoint."""
        result: list[list[Contribution]] = [[] for _ in steps]
        numbers = {s.name: s.value for s in steps}
        for source, node in enumerate(self.reading.order):
            if steps[source].adjoint is None:
                continue
            for argument, rule in self.reading.rules(node):
                target = self.reading.number[argument]
                if steps[target].adjoint is not None:
                    added = self.number(steps[source], steps[target], rule, numbers)
                    made = Contribution(source, rule.text, rule.partial, added)
                    result[target].append(made)
        return result

    @staticmethod
    def number(
        source: Step, target: Step, rule: Rule, numbers: Mapping[str, Values]
    ) -> float | None:
        """What ``source`` adds to the adjoint of ``target``, where both are scalars."""
        if rule.partial is None or np.ndim(source.value) or np.ndim(target.value):
            return None
        partial = rule.value(numbers)
        if partial is None or source.adjoint is None:
            return None
        return float(source.adjoint) * partial


_NAMES = 60  # assignments whose names are looked up in the graph


def _name(name: str) -> Any:
    from symgrad.language.syntax import Name

    return Name(name)
