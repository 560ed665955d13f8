"""Explicit sums and products over an index, as SymPy writes them (``syntax.Bind``).

The bound variable is a graph index of its own kind (its slots start at BINDER_SLOT),
free in the body until the sum closes it. Where a limit depends on the index of an outer
sum, as in ``(j, 0, i)``, the index runs over all values that it takes for any ``i``,
and a ``where`` leaves out those that it does not take.
"""

from __future__ import annotations

from dataclasses import dataclass

from symgrad import graph, ops
from symgrad.errors import ShapeError, UnsupportedError
from symgrad.graph import Index, Node
from symgrad.language.extents import is_const, minus, normal, plus
from symgrad.language.indexing import end_points
from symgrad.language.reductions import reduce_body
from symgrad.language.shapes import Context
from symgrad.language.syntax import Bind, Expr
from symgrad.language.tensor import BINDER_SLOT, Tensor, at_index, scalar


@dataclass(frozen=True, slots=True)
class BoundRange:
    """The values of a bound variable.

    Attributes:
        index: the graph's index; the variable is ``lower + index``.
        variable: the variable as a value of the language.
        conditions: for which values the body counts; none means for all.
    """

    index: Index
    variable: Tensor
    conditions: tuple[Node, ...]


def open_range(
    context: Context, expr: Bind, limits: tuple[Tensor, Tensor], depth: int
) -> BoundRange:
    """The range of ``expr`` from the values of its limits, inside ``depth`` others."""
    lower = _limit(context, expr.lower, limits[0])
    upper = _limit(context, expr.upper, limits[1])
    first, last = _ends(context, expr, lower)[0], _ends(context, expr, upper)[1]
    count = context.dims.resolve(plus(minus(last, first), 1))
    if context.dims.actual(count) < 0:
        raise ShapeError(f"`{expr.index}` runs backwards, over no values")
    message = f"the range of `{expr.index}` does not run backwards"
    context.dims.require("ge", count, 0, message)
    index = graph.index(count, BINDER_SLOT + depth)
    variable = plus(first, at_index(index))
    conditions: list[Node] = []
    if lower.free:
        conditions.append(ops.apply("ge", variable, lower))
    if upper.free:
        conditions.append(ops.apply("le", variable, upper))
    context.bounds.pop(index, None)
    if conditions:
        context.bounds[index] = (minus(lower, first), minus(upper, first))
    return BoundRange(index, scalar(variable), tuple(conditions))


def _limit(context: Context, expr: Expr, value: Tensor) -> Node:
    if value.rank or value.body.type != graph.INT:
        raise _bad_limit(context, expr)
    node = normal(value.body)
    return node if node.free else context.dims.resolve(node)


def _ends(context: Context, expr: Bind, limit: Node) -> tuple[Node, Node]:
    ends = end_points(context, limit)
    if ends is None:
        raise _bad_limit(context, expr.upper)
    return ends


def _bad_limit(context: Context, expr: Expr) -> UnsupportedError:
    return UnsupportedError(
        "a limit of a sum must be an integer that is known from shapes, and "
        f"`{context.source(expr)}` is not; a size that is left out of the data is "
        "inferred from the arrays that the sum runs over",
        span=expr.span,
    )


def close_range(expr: Bind, over: BoundRange, body: Tensor) -> Tensor:
    """The sum or product of ``body`` over the range."""
    value = graph.to_float(body.body)
    neutral = graph.const(1.0 if expr.kind == "prod" else 0.0)
    for condition in over.conditions:
        value = ops.apply("where", condition, value, neutral)
    bound = () if is_const(over.index.extent, 1) else (over.index,)
    return Tensor(body.indices, reduce_body(expr.kind, bound, value))
