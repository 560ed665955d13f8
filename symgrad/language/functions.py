"""What the functions of the language mean, other than reductions and contractions.

``FUNCTIONS`` gives the builder of every function by its canonical name; a function that
is not in it is an operation of the table, applied elementwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from symgrad import graph, ops
from symgrad.errors import ShapeError, UnsupportedError
from symgrad.graph import Const, Node
from symgrad.language import contractions, reductions
from symgrad.language.extents import is_const, known_from_shapes, normal
from symgrad.language.shapes import Context, align
from symgrad.language.syntax import Apply
from symgrad.language.tensor import Tensor, at_index, axes, element, scalar

Builder: TypeAlias = Callable[[Context, Apply, list[Tensor]], Tensor]

_INT64 = 2**63


def apply_function(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """The value of ``expr``, whose positional arguments are ``args``."""
    builder = FUNCTIONS.get(expr.function, elementwise)
    return builder(context, expr, args)


def elementwise(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """An operation of the table on broadcast arguments."""
    if expr.function not in ops.OPS:
        raise UnsupportedError(f"`{expr.function}` cannot be used here")
    if len(args) == 1:
        (tensor,) = args
        return Tensor(tensor.indices, _operation(expr.function, [tensor.body]))
    indices, bodies = align(context, expr, args, expr.args)
    return Tensor(indices, _operation(expr.function, bodies))


def _operation(name: str, args: list[Node]) -> Node:
    (first, *_) = args
    if name == "neg" and isinstance(first, Const) and first.type == graph.FLOAT:
        return graph.const(-first.value)
    result = ops.apply(name, *args)
    if isinstance(result, Const) and result.type == graph.INT:
        return integer_constant(int(result.value))
    return result


def integer_constant(value: int) -> Const:
    """An integer literal, or a float where it does not fit into 64 bits."""
    if -_INT64 <= value < _INT64:
        return graph.const(value)
    try:
        return graph.const(float(value))
    except OverflowError:
        raise UnsupportedError("the number is too large for float64") from None


def _identity(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    return args[0]


def _square(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    (x,) = args
    return Tensor(x.indices, _operation("mul", [x.body, x.body]))


def _reciprocal(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    (x,) = args
    return Tensor(x.indices, 1.0 / x.body)


def _polygamma(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    order = args[0].body
    if not isinstance(order, Const) or order.type != graph.INT or order.value < 0:
        raise UnsupportedError(
            "the order of polygamma must be an integer literal, 0 or more",
            span=expr.args[0].span,
        )
    return elementwise(context, expr, args)


# --- Shapes ---------------------------------------------------------------------------


def _transpose(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """All axes in reverse; a vector stays as it is."""
    (x,) = args
    indices, at = axes(x.extents[::-1])
    return Tensor(indices, element(x, at[::-1]))


def _length(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    return scalar(_extent(context, expr, args[0], 0))


def _shape(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    return scalar(_extent(context, expr, args[0], reductions.integer(expr.args[1])))


def _extent(context: Context, expr: Apply, x: Tensor, axis: int) -> Node:
    if not -x.rank <= axis < x.rank:
        what = context.has_shape(expr.args[0], x)
        problem = "is a scalar" if not x.rank else f"has no axis {axis}"
        raise ShapeError(f"`{context.source(expr.args[0])}` {problem}: {what}")
    return context.dims.resolve(x.extents[axis])


def extent_of(context: Context, expr: Apply, size: Tensor) -> Node:
    """A length given as an expression of the language."""
    if size.rank or not known_from_shapes(size.body):
        raise UnsupportedError(
            f"{expr.function} takes a whole number that is known from shapes, "
            "such as 3, len(x) or X.shape[1]",
            span=expr.args[0].span,
        )
    extent = context.dims.resolve(normal(size.body))
    if context.dims.actual(extent) < 0:
        raise ShapeError(f"{expr.function}: negative size", span=expr.args[0].span)
    context.dims.require("ge", extent, 0, f"{extent} is not negative")
    return extent


def _arange(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    indices, (at,) = axes((extent_of(context, expr, args[0]),))
    return Tensor(indices, at)


def _eye(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    extent = extent_of(context, expr, args[0])
    indices, (i, j) = axes((extent, extent))
    return Tensor(indices, _where_equal(i, j, graph.const(1.0)))


def _where_equal(i: Node, j: Node, value: Node) -> Node:
    """``value`` on the diagonal, else zero."""
    if i is j:
        return value
    zero = graph.const(0, value.type)
    return ops.apply("where", ops.apply("eq", i, j), value, zero)


# --- Diagonals and triangles ----------------------------------------------------------


def _diag(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """A vector as a diagonal matrix, or the diagonal of a matrix."""
    (x,) = args
    if x.rank == 1:
        indices, (i, j) = axes((*x.extents, *x.extents))
        return Tensor(indices, _where_equal(i, j, element(x, (i,))))
    if x.rank == 2:
        indices, (i,) = axes((_diagonal_extent(context, x),))
        return Tensor(indices, element(x, (i, i)))
    what = context.has_shape(expr.args[0], x)
    raise ShapeError(f"diag takes a vector or a matrix, but {what}")


def _trace(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """The sum of the diagonal of the first two axes."""
    (x,) = args
    if x.rank < 2:
        what = context.has_shape(expr.args[0], x)
        raise ShapeError(f"trace takes a matrix, but {what}")
    extent = _diagonal_extent(context, x)
    indices, at = axes(x.extents[2:])
    (bound,) = graph.canonical_indices((extent,), avoid=indices)
    on = at_index(bound)
    body = graph.to_float(element(x, (on, on, *at)))
    over = () if is_const(extent, 1) else (bound,)
    return Tensor(indices, graph.reduce_("sum", over, body))


def _diagonal_extent(context: Context, x: Tensor) -> Node:
    """The shorter of the first two axes."""
    rows, columns = (context.dims.resolve(e) for e in x.extents[:2])
    both = context.dims.equal(rows, columns)
    if both is not None:
        return both
    shorter, longer = sorted((rows, columns), key=context.dims.actual)
    context.dims.require("ge", longer, shorter, f"{shorter} is at most {longer}")
    return shorter


def _triangle(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """``tril`` keeps what is on and below diagonal k, ``triu`` what is on and above."""
    x = args[0]
    if x.rank < 2:
        what = context.has_shape(expr.args[0], x)
        raise ShapeError(f"{expr.function} takes a matrix, but {what}")
    k = args[1].body if len(args) > 1 else graph.const(0)
    if not (k.type == graph.INT and not k.free):
        message = f"the diagonal of {expr.function} must be an integer"
        raise UnsupportedError(message, span=expr.args[1].span)
    row, column = (at_index(i) for i in x.indices[-2:])
    op = "le" if expr.function == "tril" else "ge"
    keep = ops.apply(op, column, graph.fold_int("add", row, k))
    zero = graph.const(0, x.body.type)
    return Tensor(x.indices, ops.apply("where", keep, x.body, zero))


# --- The table ------------------------------------------------------------------------

FUNCTIONS: dict[str, Builder] = {
    "pos": _identity,
    "square": _square,
    "reciprocal": _reciprocal,
    "polygamma": _polygamma,
    "transpose": _transpose,
    "len": _length,
    "shape": _shape,
    "arange": _arange,
    "eye": _eye,
    "diag": _diag,
    "trace": _trace,
    "tril": _triangle,
    "triu": _triangle,
    "matmul": contractions.matmul,
    "dot": contractions.dot,
    "outer": contractions.outer,
    "einsum": contractions.einsum,
    "softmax": reductions.softmax,
    "log_softmax": reductions.softmax,
    **dict.fromkeys((*reductions.NATIVE, "mean", "var", "std"), reductions.reduction),
}
