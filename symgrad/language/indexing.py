"""Subscripts with NumPy's meaning: integers, slices, None, ..., and index arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from symgrad import graph, ops
from symgrad.errors import DTypeError, GatherIndexError, ShapeError, UnsupportedError
from symgrad.graph import Const, Index, Node
from symgrad.language.dims import Dimensions
from symgrad.language.extents import (
    Linear,
    known_from_shapes,
    linear,
    minus,
    normal,
    plus,
)
from symgrad.language.shapes import Context, broadcast_extents, read_broadcast
from symgrad.language.syntax import Ellipsis_, Expr, Item, NewAxis, Slice, Subscript
from symgrad.language.tensor import BINDER_SLOT, Tensor, axes, element


@dataclass(frozen=True, slots=True)
class _Range:
    """Positions ``start + step * i`` of a base axis, ``extent`` many."""

    axis: int
    start: Node
    step: int
    extent: Node


@dataclass(frozen=True, slots=True)
class _Gather:
    """Positions of a base axis given by an integer expression."""

    axis: int
    expr: Expr
    tensor: Tensor


_Part: TypeAlias = _Range | _Gather | NewAxis | Ellipsis_


def subscript(
    context: Context, expr: Subscript, base: Tensor, values: dict[Expr, Tensor]
) -> Tensor:
    """``base[items]``; ``values`` has the value of every expression in the items."""
    parts = _parts(context, expr, base, values)
    gathers = [part for part in parts if isinstance(part, _Gather)]
    inner = [g.tensor for g in gathers]
    written = [g.expr for g in gathers]
    shared = broadcast_extents(context, expr, inner, written) if gathers else []
    layout = _layout(parts, bool(shared))
    extents: list[Node] = []
    for part in layout:
        if isinstance(part, _Range):
            extents.append(part.extent)
        else:
            extents.extend([graph.const(1)] if isinstance(part, NewAxis) else shared)
    indices, at = axes(extents)
    return Tensor(indices, _read(context, expr, base, layout, gathers, shared, at))


def _layout(parts: Sequence[_Part], advanced: bool) -> list[_Part]:
    """The parts that make axes of the result, in its order.

    The first of the index arrays stands for all of them. Theirs are the leading axes if
    anything stands between two of them (NumPy's rule for advanced indexing).
    """
    places = [k for k, part in enumerate(parts) if isinstance(part, _Gather)]
    others = [p for p in parts if isinstance(p, (_Range, NewAxis))]
    if not advanced:
        return list(others)
    first = places[0]
    together = places == list(range(first, first + len(places)))
    before = [p for p in parts[:first] if isinstance(p, (_Range, NewAxis))]
    cut = len(before) if together else 0
    return [*others[:cut], parts[first], *others[cut:]]


def _read(
    context: Context,
    expr: Subscript,
    base: Tensor,
    layout: Sequence[_Part],
    gathers: Sequence[_Gather],
    shared: Sequence[Node],
    at: Sequence[Node],
) -> Node:
    """The element of the base that stands at ``at`` in the result."""
    position: dict[int, Node] = {}
    start, place = 0, 0
    for part in layout:
        if isinstance(part, _Gather):
            start, place = place, place + len(shared)
            continue
        if isinstance(part, _Range):
            position[part.axis] = _along(part, at[place])
        place += 1
    for gather in gathers:
        where = at[start : start + len(shared)]
        index = read_broadcast(context, gather.tensor, shared, where)
        position[gather.axis] = _inside(context, expr, gather, base, index)
    return element(base, [position[k] for k in range(base.rank)])


def _along(part: _Range, at: Node) -> Node:
    if part.step == 1:
        return plus(part.start, at)
    return plus(part.start, graph.fold_int("mul", at, graph.const(part.step)))


# --- Reading the items ----------------------------------------------------------------


def _parts(
    context: Context, expr: Subscript, base: Tensor, values: dict[Expr, Tensor]
) -> list[_Part]:
    """The items with their axes; what ``...`` stands for is written out.

    An ``...`` that stands for no axes stays, because it still separates index arrays.
    """
    items = _expanded(context, expr, base)
    parts: list[_Part] = []
    axis = 0
    for item in items:
        if isinstance(item, (NewAxis, Ellipsis_)):
            parts.append(item)
            continue
        extent = context.dims.resolve(base.extents[axis])
        if isinstance(item, Slice):
            parts.append(_range(context, item, axis, extent, values))
        else:
            parts.append(_gather(context, item, axis, values[item]))
        axis += 1
    return parts


def _expanded(context: Context, expr: Subscript, base: Tensor) -> list[Item]:
    used = sum(not isinstance(item, (NewAxis, Ellipsis_)) for item in expr.items)
    if used > base.rank:
        shape = context.has_shape(expr.base, base)
        raise ShapeError(f"{used} indices for an array of rank {base.rank}: {shape}")
    dots = [k for k, item in enumerate(expr.items) if isinstance(item, Ellipsis_)]
    if len(dots) > 1:
        raise ShapeError("a subscript can have only one `...`")
    rest: list[Item] = [Slice() for _ in range(base.rank - used)]
    if not dots:
        return [*expr.items, *rest]
    before, after = expr.items[: dots[0]], expr.items[dots[0] + 1 :]
    return [*before, *(rest or [expr.items[dots[0]]]), *after]


def _gather(context: Context, item: Expr, axis: int, tensor: Tensor) -> _Gather:
    if tensor.body.type == graph.BOOL:
        raise UnsupportedError(
            f"`{context.source(item)}` is a mask: the length of the result would "
            "depend on the data. Use where(mask, value, 0), and sum(mask) to count",
            span=item.span,
        )
    if tensor.body.type != graph.INT:
        raise DTypeError(
            f"an index must be an integer, and `{context.source(item)}` is floating "
            "point; pass index data as an integer array",
            span=item.span,
        )
    return _Gather(axis, item, tensor)


# --- Slices ---------------------------------------------------------------------------


def _range(
    context: Context, item: Slice, axis: int, extent: Node, values: dict[Expr, Tensor]
) -> _Range:
    """A slice of an axis, clamped as NumPy does; what that assumes becomes guards."""
    if item.start is None and item.stop is None and item.step is None:
        return _Range(axis, graph.const(0), 1, extent)
    start, stop, step = (
        None if part is None else _bound(context, part, values[part])
        for part in (item.start, item.stop, item.step)
    )
    stride = 1
    if step is not None:
        if not isinstance(step, Const) or step.value == 0:
            raise UnsupportedError(
                "the step of a slice must be an integer literal other than 0",
                span=item.span,
            )
        stride = int(step.value)
    lowest, highest = _limits(extent, stride)
    first, last = (lowest, highest) if stride > 0 else (highest, lowest)
    begin = first if start is None else _clamp(context, start, extent, stride)
    end = last if stop is None else _clamp(context, stop, extent, stride)
    return _Range(axis, begin, stride, _count(context, begin, end, stride))


def _bound(context: Context, expr: Expr, value: Tensor) -> Node:
    if value.rank or not known_from_shapes(value.body):
        raise UnsupportedError(
            "the bounds of a slice must be integers that are known from shapes, such "
            f"as 2 or len(x) - 1; `{context.source(expr)}` is not",
            span=expr.span,
        )
    return context.dims.resolve(normal(value.body))


def _limits(extent: Node, stride: int) -> tuple[Node, Node]:
    """Between which positions the bounds of a slice lie."""
    if stride > 0:
        return graph.const(0), extent
    return graph.const(-1), minus(extent, 1)


def _clamp(context: Context, bound: Node, extent: Node, stride: int) -> Node:
    dims = context.dims
    message = f"slice bound {bound} of an axis of length {extent}"
    if dims.actual(bound) < 0:
        dims.require("lt", bound, 0, message)
        bound = plus(bound, extent)
    else:
        dims.require("ge", bound, 0, message)
    lowest, highest = _limits(extent, stride)
    if dims.actual(bound) < dims.actual(lowest):
        dims.require("lt", bound, lowest, message)
        return lowest
    if dims.actual(bound) > dims.actual(highest):
        dims.require("gt", bound, highest, message)
        return highest
    dims.require("ge", bound, lowest, message)
    dims.require("ge", highest, bound, message)
    return bound


def _count(context: Context, begin: Node, end: Node, stride: int) -> Node:
    """The number of positions: ceil((end - begin) / stride), or 0."""
    span = minus(end, begin) if stride > 0 else minus(begin, end)
    dims = context.dims
    if dims.actual(span) < 0:
        dims.require("lt", span, 0, "an empty slice")
        return graph.const(0)
    dims.require("ge", span, 0, "a slice that runs forward")
    stride = abs(stride)
    if stride == 1:
        return span
    return ops.apply("floor_divide", plus(span, stride - 1), stride)


# --- Integer positions ----------------------------------------------------------------


def _inside(
    context: Context, expr: Subscript, gather: _Gather, base: Tensor, index: Node
) -> Node:
    """``index`` counted from the start of its axis.

    What is known from shapes is checked here; data is checked when it arrives.
    """
    extent = context.dims.resolve(base.extents[gather.axis])
    ends = end_points(context, index)
    if ends is None:
        return _wrapped(index, extent)
    dims = context.dims
    low, high = ends
    if dims.actual(low) > dims.actual(high):
        dims.require("gt", low, high, "an empty axis, whose elements are never read")
        return normal(index)
    bound = any(i.slot >= BINDER_SLOT for i in index.free)
    if dims.actual(low) < 0 and not bound:
        if dims.actual(high) >= 0:
            _require_between(context, expr, gather, base, plus(low, extent), high)
            return _wrapped(index, extent)
        dims.require("lt", high, 0, "an index that counts from the end")
        low, high, index = (plus(n, extent) for n in (low, high, index))
    _require_between(context, expr, gather, base, low, high)
    return _safe(context, normal(index), extent)


def _wrapped(index: Node, extent: Node) -> Node:
    """``index``, where it is negative counted from the end."""
    from_end = graph.fold_int("add", index, extent)
    return ops.apply("where", ops.apply("lt", index, 0), from_end, index)


def _safe(context: Context, index: Node, extent: Node) -> Node:
    """``index`` kept on its axis where a sum in a sum leaves out the values beyond."""
    if not any(i in context.bounds for i in index.free):
        return index
    dims, last = context.dims, minus(extent, 1)
    low, high = (_end_point({}, dims, linear(index), end) for end in (False, True))
    assert low is not None, index
    assert high is not None, index
    if dims.actual(low) >= 0 and dims.actual(high) <= dims.actual(last):
        dims.require("ge", low, 0, "an index on its axis")
        dims.require("ge", last, high, "an index on its axis")
        return index
    return ops.apply("maximum", ops.apply("minimum", index, last), 0)


def end_points(context: Context, index: Node) -> tuple[Node, Node] | None:
    """The least and the largest value of an index that is affine in bound variables.

    None if data determines it.
    """
    low = _end_point(context.bounds, context.dims, linear(index), largest=False)
    high = _end_point(context.bounds, context.dims, linear(index), largest=True)
    return None if low is None or high is None else (low, high)


def _end_point(
    bounds: Mapping[Index, tuple[Node, Node]],
    dims: Dimensions,
    form: Linear,
    largest: bool,
) -> Node | None:
    """Put the bounds of each variable in its place, from the innermost outward."""
    while variables := [atom for atom in form.terms if isinstance(atom, Index)]:
        inner = max(variables, key=lambda i: i.slot)
        factor = form.terms[inner]
        full = (graph.const(0), minus(inner.extent, 1))
        low, high = bounds.get(inner, full)
        end = high if (factor > 0) == largest else low
        form = form.plus(Linear({inner: 1}, 0), -factor).plus(linear(end), factor)
    if not all(known_from_shapes(atom) for atom in form.terms):
        return None
    return dims.resolve(form.node())


def _require_between(
    context: Context,
    expr: Subscript,
    gather: _Gather,
    base: Tensor,
    low: Node,
    high: Node,
) -> None:
    """Check, and assume from now on, that ``low`` and ``high`` lie on the axis."""
    dims = context.dims
    extent = dims.resolve(base.extents[gather.axis])
    length = dims.actual(extent)
    if dims.actual(low) < 0 or dims.actual(high) >= length:
        variable = any(i.slot >= BINDER_SLOT for i in gather.tensor.body.free)
        source = f"`{context.source(gather.expr)}`"
        if variable:
            source += f" runs from {dims.actual(low)} to {dims.actual(high)}: it"
        raise (ShapeError if variable else GatherIndexError)(
            f"index {source} is out of range for axis {gather.axis} of "
            f"`{context.source(expr.base)}`, which has length {length}",
            span=gather.expr.span,
        )
    message = f"index {context.source(gather.expr)} lies on an axis of length {extent}"
    dims.require("ge", low, 0, message)
    dims.require("gt", extent, high, message)
