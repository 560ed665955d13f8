"""Reductions over axes, and the functions that are made of them."""

from __future__ import annotations

from dataclasses import dataclass

from symgrad import graph, ops
from symgrad.errors import ShapeError, UnsupportedError
from symgrad.graph import Const, Index, Node
from symgrad.language.extents import is_const, product
from symgrad.language.shapes import Context, shape_text
from symgrad.language.syntax import Apply, Expr, Number
from symgrad.language.tensor import Tensor, at_index, axes, element

NATIVE = ("sum", "prod", "min", "max", "logsumexp", "norm")


@dataclass(frozen=True, slots=True)
class View:
    """A tensor seen as a tensor of rows to reduce.

    Attributes:
        indices: of the result.
        bound: the indices to reduce over; axes of length 1 need none.
        body: the element at ``indices`` and ``bound``, floating point.
        count: the number of elements that are reduced to one.
    """

    indices: tuple[Index, ...]
    bound: tuple[Index, ...]
    body: Node
    count: Node

    def total(self, kind: str, body: Node) -> Node:
        """``kind`` of ``body`` over the bound indices."""
        return reduce_body(kind, self.bound, body)

    def mean(self, body: Node) -> Node:
        """The mean of ``body``; nan if there is nothing."""
        return self.total("sum", body) / graph.to_float(self.count)


def reduce_body(kind: str, bound: tuple[Index, ...], body: Node) -> Node:
    """A ``Reduce``, or what it is for a single element."""
    if bound:
        return graph.reduce_(kind, bound, body)
    return ops.apply("abs", body) if kind == "norm" else body


def reduction(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """``sum mean prod min max logsumexp norm var std`` with axis, keepdims and ddof."""
    (tensor,) = args
    words = dict(expr.keywords)
    reduced = read_axes(context, words.get("axis"), tensor)
    keepdims = bool(integer(words["keepdims"])) if "keepdims" in words else False
    ddof = integer(words["ddof"]) if "ddof" in words else 0
    view = _view(tensor, reduced, keepdims)
    if expr.function in ("min", "max"):
        _require_elements(context, expr, tensor, view)
    if expr.function in NATIVE:
        return Tensor(view.indices, view.total(expr.function, view.body))
    if expr.function == "mean":
        return Tensor(view.indices, view.mean(view.body))
    one_pass = _one_pass(context, tensor, view)
    variance = (_shifted if one_pass else _two_step)(tensor, view, ddof)
    if expr.function == "std":
        return Tensor(view.indices, _root(variance))
    return Tensor(view.indices, variance)


def _root(variance: Node) -> Node:
    """The square root, whose derivative at 0 is 0 here: of equal numbers, the standard
    deviation has the subgradient that ``norm`` has at the origin. PyTorch agrees."""
    zero = graph.const(0.0)
    none = ops.apply("eq", variance, zero)
    return ops.apply("where", none, zero, ops.apply("sqrt", variance))


def _view(tensor: Tensor, reduced: tuple[int, ...], keepdims: bool) -> View:
    one: Node = graph.const(1)
    kept = [k for k in range(tensor.rank) if k not in reduced]
    extents = tensor.extents
    shape = [one if k in reduced else extents[k] for k in range(tensor.rank)]
    indices, _ = axes(shape if keepdims else [extents[k] for k in kept])
    kept_indices = [indices[k] for k in kept] if keepdims else list(indices)
    own = graph.canonical_indices([extents[k] for k in reduced], avoid=indices)
    place = {k: at_index(i) for k, i in zip((*kept, *reduced), (*kept_indices, *own),
                                            strict=True)}  # fmt: skip
    body = element(tensor, [place[k] for k in range(tensor.rank)])
    return View(
        indices=indices,
        bound=tuple(i for i in own if not is_const(i.extent, 1)),
        body=graph.to_float(body),
        count=product(extents[k] for k in reduced),
    )


def _require_elements(
    context: Context, expr: Apply, tensor: Tensor, view: View
) -> None:
    """The smallest of nothing is an error, as in NumPy."""
    if context.dims.actual(view.count) == 0:
        raise ShapeError(
            f"{expr.function} of no elements: {context.has_shape(expr.args[0], tensor)}"
        )
    for i in view.bound:
        message = f"{expr.function} needs at least one element"
        context.dims.require("ge", i.extent, 1, message)


# --- Variance -------------------------------------------------------------------------


def _one_pass(context: Context, tensor: Tensor, view: View) -> bool:
    """Whether the variance is of all elements of an array with rows at run time.

    Two steps would read the rows twice.
    """
    if view.indices or not tensor.rank or isinstance(tensor.extents[0], Const):
        return False
    if context.dims.actual(view.count) == 0:
        return False
    for extent in tensor.extents:
        context.dims.require("ge", extent, 1, "var needs at least one element")
    return True


def _shifted(tensor: Tensor, view: View, ddof: int) -> Node:
    """mean((x - K)**2) - mean(x - K)**2 with K the first element.

    Shifting avoids the cancellation of mean(x**2) - mean(x)**2. The result does not
    depend on K, so its derivative by K is zero: K is held constant.

    Source: Chan, Golub & LeVeque, The American Statistician 37 (1983) 242.
    """
    first = graph.to_float(element(tensor, [graph.const(0)] * tensor.rank))
    shifted = view.body - graph.call("stop_gradient", first)
    mean = view.mean(shifted)
    if not ddof:
        return view.mean(shifted * shifted) - mean * mean
    count = graph.to_float(view.count)
    squares = view.total("sum", shifted * shifted) - view.total("sum", shifted) * mean
    return squares / (count - float(ddof))


def _two_step(tensor: Tensor, view: View, ddof: int) -> Node:
    """The mean of the squared deviations from the mean."""
    deviation = view.body - view.mean(view.body)
    count = graph.to_float(view.count)
    total = view.total("sum", deviation * deviation)
    return total / (count - float(ddof) if ddof else count)


# --- Softmax --------------------------------------------------------------------------


def softmax(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """``softmax`` and ``log_softmax`` along ``axis``, by default the last one."""
    (tensor,) = args
    if not tensor.rank:
        raise ShapeError(f"{expr.function} of a scalar; it needs an axis")
    axis = dict(expr.keywords).get("axis")
    if axis is None:
        reduced: tuple[int, ...] = (tensor.rank - 1,)
    else:
        reduced = read_axes(context, axis, tensor)
    bound = [tensor.indices[k] for k in reduced]
    body = graph.to_float(tensor.body)
    long = tuple(i for i in bound if not is_const(i.extent, 1))
    result = body - reduce_body("logsumexp", long, body)
    if expr.function == "softmax":
        result = ops.apply("exp", result)
    return Tensor(tensor.indices, result)


# --- Keyword values -------------------------------------------------------------------


def integer(expr: Expr) -> int:
    """The value of an integer literal, with or without a sign."""
    if isinstance(expr, Number) and isinstance(expr.value, int):
        return int(expr.value)
    if isinstance(expr, Apply) and expr.function in ("neg", "pos"):
        value = integer(expr.args[0])
        return -value if expr.function == "neg" else value
    raise UnsupportedError("this must be an integer literal", span=expr.span)


def read_axes(context: Context, expr: Expr | None, tensor: Tensor) -> tuple[int, ...]:
    """The axes that ``axis=`` names, counted from 0, in order; None is all of them."""
    if expr is None:
        return tuple(range(tensor.rank))
    is_tuple = isinstance(expr, Apply) and expr.function == "tuple"
    parts = expr.args if isinstance(expr, Apply) and is_tuple else (expr,)
    given = [integer(part) for part in parts]
    for part, axis in zip(parts, given, strict=True):
        if not -tensor.rank <= axis < tensor.rank:
            raise ShapeError(
                f"axis {axis} does not exist: the argument has shape "
                f"{shape_text(context.shape(tensor))}"
                + (" and is a scalar" if not tensor.rank else ""),
                span=part.span or expr.span,
            )
    result = {axis % tensor.rank for axis in given}
    if len(result) < len(given):
        raise ShapeError("axis names one axis twice", span=expr.span)
    return tuple(sorted(result))
