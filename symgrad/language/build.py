"""From a syntax tree and the shapes of the inputs to a graph in index notation.

Names become inputs, operators and functions become nodes, and all that NumPy says about
shapes is resolved: what is left are loads at index expressions. A formula is read in
passes: where two run-time lengths turn out to be equal, the next pass uses one name for
both, so that equal parts of the formula become the same node. Usually two passes do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import e, inf, nan, pi

from symgrad import graph
from symgrad.errors import (
    BroadcastWarning,
    ShapeError,
    SymgradError,
    SymgradWarning,
    UnknownNameError,
    UnsupportedError,
    placed,
    warn,
)
from symgrad.graph import Input, Node
from symgrad.language import explicit, inference
from symgrad.language.dims import Dimensions, Guard, Pairs, default_static
from symgrad.language.extents import plus
from symgrad.language.functions import apply_function, integer_constant
from symgrad.language.indexing import subscript
from symgrad.language.names import lookup
from symgrad.language.shapes import Context
from symgrad.language.syntax import (
    Apply,
    Bind,
    Expr,
    Name,
    Number,
    Program,
    Subscript,
    Text,
    children,
)
from symgrad.language.tensor import Tensor, axes, scalar

__all__ = [
    "Built",
    "Guard",
    "InputSpec",
    "Tensor",
    "build",
    "default_static",
    "require_scalar",
]

CONSTANTS = {"pi": pi, "π": pi, "e": e, "inf": inf, "nan": nan}

_LISTED = 20
"""Names that a message lists."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What is known of one named array.

    Attributes:
        name: its name in the formula.
        shape: its lengths now.
        type: the graph's type of its elements: "float", "int" or "bool".
        parameter: whether derivatives with respect to it may be asked for.
        static: per axis, whether to specialise on the length. Length 1 always is.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    parameter: bool
    static: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Built:
    """A formula as a graph.

    Attributes:
        value: the result; its body is floating point.
        inputs: the arrays that the formula mentions, in order of first use.
        dims: per run-time size the axes of that length; the first gives it its name.
        guards: what was assumed about sizes.
    """

    value: Tensor
    inputs: dict[str, Input]
    dims: dict[str, Pairs]
    guards: tuple[Guard, ...]
    dimensions: Dimensions = field(repr=False, compare=False)


def build(program: Program, specs: Mapping[str, InputSpec]) -> Built:
    """The graph of ``program`` for inputs as in ``specs``.

    Raises:
        UnknownNameError: a name is no input, assignment or constant.
        ShapeError: shapes do not fit together.
        DTypeError, GatherIndexError, UnsupportedError: see their documentation.

    Warns BroadcastWarning where an (n, 1) array meets an (n,) array,
    SymgradWarning where a sum whose length is inferred counts from 1.
    """
    dims = Dimensions()
    while True:
        reading = _Reading(program, specs, dims)
        value = reading.run()
        if not dims.changed:
            break
        dims.next_pass()
    for message in reading.context.warnings:
        warn(message, BroadcastWarning)
    for message in inference.first_elements_left_out(program, specs, CONSTANTS):
        warn(message, SymgradWarning)
    value = Tensor(value.indices, graph.to_float(value.body))
    return Built(value, reading.inputs, dims.classes(), dims.guards(), dims)


def require_scalar(built: Built, program: Program) -> None:
    """Raise a ShapeError that names the free dimensions if there are any."""
    extents = built.value.extents
    if not extents:
        return
    shape, notes = built.dimensions.describe(extents)
    where = f" with {', '.join(notes)}" if notes else ""
    raise ShapeError(
        f"the loss has shape {shape}{where}; wrap it in mean(...) or sum(...)",
        text=program.text,
        span=program.result.span,
    )


# --- One pass over the formula --------------------------------------------------------


class _Scope:
    """The bound indices of the explicit sums around an expression, by name."""

    __slots__ = ("depth", "names")

    def __init__(self, names: Mapping[str, Tensor], depth: int) -> None:
        self.names, self.depth = names, depth


@dataclass(slots=True)
class _Range:
    """What the index of an explicit sum runs over, and the scope of its body."""

    over: explicit.BoundRange
    scope: _Scope


class _Reading:
    """One pass. Values are computed with an explicit stack: trees may be deep."""

    def __init__(
        self, program: Program, specs: Mapping[str, InputSpec], dims: Dimensions
    ) -> None:
        self.program, self.specs = program, specs
        self.context = Context(dims, program.text)
        self.assigned: dict[str, Tensor] = {}
        self.inputs: dict[str, Input] = {}
        self.sizes = inference.unknown_sizes(program, specs, CONSTANTS)
        self.done: dict[tuple[Expr, _Scope], Tensor] = {}
        self.ranges: dict[tuple[Expr, _Scope], _Range] = {}

    def run(self) -> Tensor:
        for assignment in self.program.assignments:
            self.assigned[assignment.name] = self.value(assignment.value)
        return self.value(self.program.result)

    def value(self, root: Expr) -> Tensor:
        """The value of a line. Lines do not share values: names may have changed."""
        outside = _Scope({}, 0)
        self.done, self.ranges = {}, {}
        stack: list[tuple[Expr, _Scope]] = [(root, outside)]
        while stack:
            task = stack[-1]
            if task in self.done:
                stack.pop()
                continue
            try:
                missing = [t for t in self.needs(*task) if t not in self.done]
                if missing:
                    stack.extend(reversed(missing))
                    continue
                self.done[task] = self.compute(*task)
            except SymgradError as error:
                raise placed(error, self.program.text, task[0].span) from None
            stack.pop()
        return self.done[root, outside]

    def needs(self, expr: Expr, scope: _Scope) -> list[tuple[Expr, _Scope]]:
        """What must be computed before ``expr``."""
        if isinstance(expr, Apply):
            return [(a, scope) for a in expr.args if not isinstance(a, Text)]
        if isinstance(expr, Subscript):
            return [(part, scope) for part in children(expr)]
        if isinstance(expr, Bind):
            limits = [(expr.lower, scope), (expr.upper, scope)]
            if any(limit not in self.done for limit in limits):
                return limits
            return [*limits, (expr.body, self.range_of(expr, scope).scope)]
        return []

    def compute(self, expr: Expr, scope: _Scope) -> Tensor:
        """The value of ``expr``, from those that it needs."""
        if isinstance(expr, Number):
            return scalar(_literal(expr.value))
        if isinstance(expr, Name):
            return self.name(expr, scope)
        if isinstance(expr, Apply):
            args = [self.done[a, scope] for a in expr.args if not isinstance(a, Text)]
            return apply_function(self.context, expr, args)
        if isinstance(expr, Subscript):
            values = {part: self.done[part, scope] for part in children(expr)}
            return subscript(self.context, expr, values[expr.base], values)
        if isinstance(expr, Bind):
            inner = self.range_of(expr, scope)
            body = self.done[expr.body, inner.scope]
            return explicit.close_range(expr, inner.over, body)
        raise UnsupportedError("a string can only be the first argument of einsum")

    # -- names --

    def name(self, expr: Name, scope: _Scope) -> Tensor:
        name = expr.id
        for known in (scope.names, self.assigned):
            if name in known:
                return known[name]
        if name in self.specs:
            return self.input(self.specs[name])
        if name in CONSTANTS:
            return scalar(CONSTANTS[name])
        if name in self.sizes:
            return scalar(self.inferred(self.sizes[name]))
        raise UnknownNameError(self.unknown(name))

    def input(self, spec: InputSpec) -> Tensor:
        """The array itself, read at its own indices."""
        if spec.name not in self.inputs:
            shape = [
                graph.const(length)
                if static or length == 1
                else self.context.dims.declare(spec.name, axis, length)
                for axis, (length, static) in enumerate(
                    zip(spec.shape, spec.static, strict=True)
                )
            ]
            self.inputs[spec.name] = graph.input_(spec.name, shape, spec.type)
        array = self.inputs[spec.name]
        indices, at = axes(array.shape)
        return Tensor(indices, graph.load(array, at))

    def unknown(self, name: str) -> str:
        function = lookup(name)
        if function is not None:
            return f"`{name}` is a function: write {name}(...)"
        names = [*self.specs, *self.assigned]
        near = get_close_matches(name, [*names, *CONSTANTS], n=1)
        hint = f": did you mean `{near[0]}`?" if near else ""
        shown = ", ".join(names[:_LISTED]) + (", ..." if names[_LISTED:] else "")
        given = f"given are {shown}" if names else "no values are given"
        return f"unknown name `{name[:60]}`{hint} ({given})"

    def inferred(self, uses: list[inference.Use]) -> Node:
        """The length that a sum's limit must have for its arrays to be summed."""
        lengths: dict[str, Node] = {}
        for use in uses:
            extents = self.input(self.specs[use.array]).extents
            length = plus(extents[use.axis], use.offset)
            least = lengths.setdefault(use.array, length)
            if self.context.dims.actual(length) < self.context.dims.actual(least):
                lengths[use.array] = length
        (first, result), *rest = lengths.items()
        for array, length in rest:
            both = self.context.dims.equal(result, length)
            if both is None:
                one, other = (self.context.dims.actual(n) for n in (result, length))
                raise ShapeError(
                    f"the length of the sum is {one} by `{first}` and {other} by "
                    f"`{array}`; give arrays of one length"
                )
            result = both
        return self.context.dims.resolve(result)

    # -- explicit sums --

    def range_of(self, expr: Bind, scope: _Scope) -> _Range:
        """The range of a sum, whose limits are computed, and the scope of its body."""
        key = (expr, scope)
        if key not in self.ranges:
            limits = (self.done[expr.lower, scope], self.done[expr.upper, scope])
            over = explicit.open_range(self.context, expr, limits, scope.depth)
            names = {**scope.names, expr.index: over.variable}
            self.ranges[key] = _Range(over, _Scope(names, scope.depth + 1))
        return self.ranges[key]


def _literal(value: float) -> Node:
    if isinstance(value, int) and not isinstance(value, bool):
        return integer_constant(value)
    return graph.const(value)
