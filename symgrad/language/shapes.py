"""Broadcasting: which shapes fit together, at which elements to read, and what to say
when they do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from symgrad import graph
from symgrad.errors import ShapeError, Span
from symgrad.graph import Index, Node
from symgrad.language.dims import Dimensions
from symgrad.language.extents import is_const
from symgrad.language.syntax import (
    INFIX,
    Apply,
    Expr,
    Name,
    NewAxis,
    Subscript,
    to_text,
)
from symgrad.language.tensor import Tensor, axes, element

_SHOWN = 40
"""Characters of an operand that a message shows."""


@dataclass
class Context:
    """What the functions of the language need besides their arguments.

    Attributes:
        dims: the lengths and what is known about them.
        text: the source text, if there is one.
        warnings: messages to give when the formula is read.
        bounds: the least and largest value of the index of an explicit sum, where they
            depend on the indices of outer sums.
    """

    dims: Dimensions
    text: str | None = None
    warnings: dict[str, None] = field(default_factory=dict)
    bounds: dict[Index, tuple[Node, Node]] = field(default_factory=dict)

    def shape(self, tensor: Tensor) -> tuple[int, ...]:
        """The shape of ``tensor`` for the sizes at hand."""
        return tuple(self.dims.actual(extent) for extent in tensor.extents)

    def source(self, expr: Expr) -> str:
        """``expr`` as it was written, shortened."""
        if self.text is not None and expr.span is not None:
            written = " ".join(self.text[slice(*expr.span)].split())
        else:
            written = to_text(expr, limit=_SHOWN)
        return written if len(written) <= _SHOWN else f"{written[: _SHOWN - 1]}…"

    def has_shape(self, expr: Expr, tensor: Tensor) -> str:
        """``X has shape (1000, 10)``, with the dimensions that are known by name."""
        shape = self.shape(tensor)
        return f"`{self.source(expr)}` has shape {shape_text(shape)}"


def shape_text(shape: Sequence[int]) -> str:
    """A shape as Python writes it."""
    return str(tuple(shape))


def axis_text(shape: Sequence[int], axis: int) -> str:
    """``10 columns``: the length of an axis in words."""
    length, rank = shape[axis], len(shape)
    words = {(1, 0): "element", (2, 0): "row", (2, 1): "column"}
    word = words.get((rank, axis))
    if word is None:
        return f"length {length} on axis {axis}"
    return f"{length} {word}" + ("" if length == 1 else "s")


def mismatch(
    context: Context,
    doing: str,
    pairs: Sequence[tuple[Expr, Tensor, int]],
    span: Span | None = None,
) -> ShapeError:
    """The error for two operands, as (expression, value, axis), that do not fit."""
    (left, a, i), (right, b, j) = pairs
    shapes = f"{context.has_shape(left, a)}, {context.has_shape(right, b)}"
    left_axis = axis_text(context.shape(a), i) + _origin(context, left, a.extents[i])
    right_axis = axis_text(context.shape(b), j) + _origin(context, right, b.extents[j])
    message = (
        f"{doing}: {shapes}; `{context.source(left)}` has {left_axis}, "
        f"`{context.source(right)}` has {right_axis}"
    )
    if span is None and right.span is not None and left.span is not None:
        span = (left.span[0], right.span[1])
    return ShapeError(message, text=context.text, span=span)


def _origin(context: Context, expr: Expr, extent: Node) -> str:
    """`` (the rows of X)`` for an axis of something computed."""
    origin = "" if isinstance(expr, Name) else context.dims.origin(extent)
    return f" (the {origin})" if origin else ""


# --- Broadcasting ---------------------------------------------------------------------


def align(
    context: Context, expr: Expr, tensors: Sequence[Tensor], operands: Sequence[Expr]
) -> tuple[tuple[Index, ...], list[Node]]:
    """Broadcast ``tensors``: the indices of the result, and each element there.

    Tensors with the same indices are taken as they are.

    Raises ShapeError if they do not broadcast; ``expr`` and ``operands`` are for it.
    """
    largest = max((t.indices for t in tensors), key=len)
    if all(not t.indices or t.indices == largest for t in tensors):
        return largest, [t.body for t in tensors]
    if len(tensors) == 2:
        _warn_column(context, expr, tensors, operands)
    extents = broadcast_extents(context, expr, tensors, operands)
    indices, at = axes(extents)
    return indices, [read_broadcast(context, t, extents, at) for t in tensors]


def read_broadcast(
    context: Context, tensor: Tensor, extents: Sequence[Node], at: Sequence[Node]
) -> Node:
    """The element of ``tensor`` broadcast to ``extents`` at ``at``."""
    skip = len(extents) - tensor.rank
    resolved = [context.dims.resolve(extent) for extent in tensor.extents]
    places = [
        where if own is extent or context.dims.actual(own) != 1 else graph.const(0)
        for own, extent, where in zip(resolved, extents[skip:], at[skip:], strict=True)
    ]
    return element(tensor, places)


def broadcast_extents(
    context: Context,
    expr: Expr,
    tensors: Sequence[Tensor],
    operands: Sequence[Expr],
) -> list[Node]:
    """The lengths of the axes of the broadcast result."""
    rank = max(t.rank for t in tensors)
    result: list[Node] = []
    for back in range(rank, 0, -1):
        present = [(e, t, t.rank - back) for e, t in zip(operands, tensors, strict=True)
                   if t.rank >= back]  # fmt: skip
        result.append(common_extent(context, expr, present))
    return result


def common_extent(
    context: Context, expr: Expr, present: Sequence[tuple[Expr, Tensor, int]]
) -> Node:
    """The one length of the given axes, apart from those that are 1."""
    dims = context.dims
    long = [p for p in present if dims.actual(p[1].extents[p[2]]) != 1]
    if not long:  # all are 1 now: prefer a length that may be another one later
        extents = [dims.resolve(t.extents[axis]) for _, t, axis in present]
        return _all_equal(dims, [e for e in extents if not is_const(e, 1)] or extents)
    for _, tensor, axis in present:
        extent = dims.resolve(tensor.extents[axis])
        if dims.actual(extent) == 1 and not is_const(extent, 1):
            dims.require("eq", extent, 1, f"{extent} is 1, so that it broadcasts")
    result = dims.resolve(long[0][1].extents[long[0][2]])
    for other in long[1:]:
        both = dims.equal(result, other[1].extents[other[2]])
        if both is None:
            raise mismatch(context, _doing(expr), (long[0], other), expr.span)
        result = both
    return result


def _all_equal(dims: Dimensions, extents: Sequence[Node]) -> Node:
    result = extents[0]
    for extent in extents[1:]:
        both = dims.equal(result, extent)
        result = result if both is None else both
    return result


def _doing(expr: Expr) -> str:
    if isinstance(expr, Apply):
        name = INFIX.get(expr.function, expr.function)
        return f"the operands of {name} do not broadcast"
    return "the index arrays do not broadcast"


def _warn_column(
    context: Context, expr: Expr, tensors: Sequence[Tensor], operands: Sequence[Expr]
) -> None:
    """Warn of (n, 1) against (n,), which makes (n, n), unless ``None`` asks for it."""
    for k in (0, 1):
        column, row = tensors[k], tensors[1 - k]
        if (column.rank, row.rank) != (2, 1) or _has_newaxis(operands[k]):
            continue
        (n, one), (m,) = context.shape(column), context.shape(row)
        if one == 1 and n == m and n > 1:
            left, right = (context.source(operands[j]) for j in (k, 1 - k))
            message = (
                f"`{left}` has shape ({n}, 1) and `{right}` has shape ({n},): together "
                f"they make ({n}, {n}), which is almost always a mistake. Write "
                f"`{left}[:, 0]` for an elementwise result, or `{right}[None, :]` if "
                "all pairs are meant."
            )
            context.warnings.setdefault(message)


def _has_newaxis(expr: Expr) -> bool:
    return isinstance(expr, Subscript) and any(
        isinstance(item, NewAxis) for item in expr.items
    )
