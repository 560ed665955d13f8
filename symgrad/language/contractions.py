"""Products and sums over labelled axes: matmul, dot, outer, einsum, trace."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from symgrad import graph
from symgrad.errors import ParseError, ShapeError, UnsupportedError
from symgrad.graph import Node
from symgrad.language.extents import is_const
from symgrad.language.shapes import Context, align, common_extent, mismatch
from symgrad.language.syntax import Apply, Expr, Text
from symgrad.language.tensor import Tensor, at_index, axes, element

Label: TypeAlias = Hashable


@dataclass(frozen=True, slots=True)
class Factor:
    """An operand with one label per axis; equal labels run together."""

    expr: Expr
    tensor: Tensor
    labels: tuple[Label, ...]


def contract(
    context: Context,
    expr: Apply,
    factors: Sequence[Factor],
    output: Sequence[Label],
    strict: frozenset[Label] = frozenset(),
) -> Tensor:
    """The product of ``factors``, summed over all labels that are not in ``output``.

    Axes of length 1 broadcast, unless their label is ``strict``.
    """
    uses: dict[Label, list[tuple[Expr, Tensor, int]]] = {}
    for factor in factors:
        for axis, label in enumerate(factor.labels):
            uses.setdefault(label, []).append((factor.expr, factor.tensor, axis))
    extents: dict[Label, Node] = {}
    for label, use in uses.items():
        common = _strict_extent if label in strict else common_extent
        extents[label] = common(context, expr, use)
    indices, at = axes([extents[label] for label in output])
    summed = [label for label in uses if label not in output]
    bound = graph.canonical_indices([extents[label] for label in summed], avoid=indices)
    place = dict(zip(output, at, strict=True))
    place.update((label, at_index(i)) for label, i in zip(summed, bound, strict=True))
    body = _product([_read(context, factor, extents, place) for factor in factors])
    over = [i for i in bound if not is_const(i.extent, 1)]
    return Tensor(indices, graph.reduce_("sum", over, body))


def _read(
    context: Context,
    factor: Factor,
    extents: dict[Label, Node],
    place: dict[Label, Node],
) -> Node:
    at: list[Node] = []
    for extent, label in zip(factor.tensor.extents, factor.labels, strict=True):
        own = context.dims.resolve(extent)
        short = own is not extents[label] and context.dims.actual(own) == 1
        at.append(graph.const(0) if short else place[label])
    return graph.to_float(element(factor.tensor, at))


def _product(bodies: Sequence[Node]) -> Node:
    result = bodies[0]
    for body in bodies[1:]:
        result = result * body
    return result


def _strict_extent(
    context: Context, expr: Apply, uses: Sequence[tuple[Expr, Tensor, int]]
) -> Node:
    first = uses[0]
    result = context.dims.resolve(first[1].extents[first[2]])
    for other in uses[1:]:
        both = context.dims.equal(result, other[1].extents[other[2]])
        if both is None:
            sign = "@" if expr.function == "matmul" else expr.function
            names = " and ".join(f"`{context.source(u[0])}`" for u in (first, other))
            raise mismatch(
                context, f"{sign} cannot multiply {names}", (first, other), expr.span
            )
        result = both
    return result


# --- Products of two ------------------------------------------------------------------


def matmul(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """``a @ b``: the last axis of a with the last but one of b, others broadcast."""
    a, b = args
    for operand, tensor in zip(expr.args, args, strict=True):
        if not tensor.rank:
            name = context.source(operand)
            raise ShapeError(f"@ takes no scalars, and `{name}` is one; write *")
    batch_a = tuple(range(a.rank - 2, 0, -1))
    batch_b = tuple(range(b.rank - 2, 0, -1))
    rows = ("i",) if a.rank > 1 else ()
    columns = ("j",) if b.rank > 1 else ()
    batch = max(batch_a, batch_b, key=len)
    left = Factor(expr.args[0], a, (*batch_a, *rows, "k"))
    right = Factor(expr.args[1], b, (*batch_b, "k", *columns))
    output = (*batch, *rows, *columns)
    return contract(context, expr, (left, right), output, frozenset("k"))


def dot(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """NumPy's dot: the last axis of a with the last but one of b, others all pairs."""
    a, b = args
    if not (a.rank and b.rank):
        return multiply(context, expr, args)
    own_a = tuple(("a", k) for k in range(a.rank - 1))
    own_b = tuple(("b", k) for k in range(b.rank - 1))
    left = Factor(expr.args[0], a, (*own_a, "k"))
    right = Factor(expr.args[1], b, (*own_b[:-1], "k", *own_b[-1:]))
    return contract(context, expr, (left, right), (*own_a, *own_b), frozenset("k"))


def outer(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """All products of the elements of two vectors."""
    for operand, tensor in zip(expr.args, args, strict=True):
        if tensor.rank > 1:
            raise UnsupportedError(
                f"outer takes vectors, but {context.has_shape(operand, tensor)}; "
                'use einsum, as in einsum("ij,kl->ijkl", A, B)'
            )
    if not (args[0].rank and args[1].rank):
        raise ShapeError("outer takes vectors, not scalars; write *")
    left, right = (Factor(expr.args[k], args[k], (k,)) for k in (0, 1))
    return contract(context, expr, (left, right), (0, 1))


def multiply(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """The elementwise product."""
    indices, bodies = align(context, expr, args, expr.args)
    return Tensor(indices, _product(bodies))


# --- einsum ---------------------------------------------------------------------------


def einsum(context: Context, expr: Apply, args: list[Tensor]) -> Tensor:
    """``einsum("ij,jk->ik", A, B)`` with NumPy's subscripts, ``...`` included."""
    text = expr.args[0]
    assert isinstance(text, Text)
    operands = expr.args[1:]
    inputs, output = _subscripts(text)
    if len(inputs) != len(operands):
        raise _bad(text, f"has {len(inputs)} terms for {len(operands)} arrays")
    factors = [
        Factor(operand, tensor, _labels(context, text, term, operand, tensor))
        for term, operand, tensor in zip(inputs, operands, args, strict=True)
    ]
    used = [label for factor in factors for label in factor.labels]
    dots = sorted({u for u in used if isinstance(u, int)}, reverse=True)
    if output is None:
        once = sorted(u for u in used if isinstance(u, str) and used.count(u) == 1)
        return contract(context, expr, factors, (*dots, *once))
    head, _, tail = output.partition("...")
    labels = (*head, *(dots if "..." in output else ()), *tail)
    unknown = [label for label in labels if label not in used]
    if unknown or len(set(labels)) < len(labels):
        raise _bad(text, "has an output index twice or one that no array has")
    return contract(context, expr, factors, labels)


def _subscripts(text: Text) -> tuple[list[str], str | None]:
    """The terms of the inputs, and the output if it is written."""
    written = text.value.replace(" ", "")
    before, arrow, after = written.partition("->")
    terms = before.split(",")
    for term in (*terms, after):
        letters = term.replace("...", "", 1)
        if letters and not (letters.isascii() and letters.isalpha()):
            raise _bad(text, 'must be letters, commas and one arrow, as in "ij,jk->ik"')
    return terms, after if arrow else None


def _labels(
    context: Context, text: Text, term: str, operand: Expr, tensor: Tensor
) -> tuple[Label, ...]:
    """One label per axis; an axis under ``...`` is numbered from the right."""
    letters = term.replace("...", "", 1)
    free = tensor.rank - len(letters)
    if free < 0 or (free and "..." not in term):
        shape = context.has_shape(operand, tensor)
        count = len(letters)
        raise ShapeError(f'einsum: term "{term}" has {count} indices, but {shape}')
    head, _, tail = term.partition("...")
    return (*head, *range(free, 0, -1), *tail)


def _bad(text: Text, problem: str) -> ParseError:
    return ParseError(f'einsum: "{text.value[:60]}" {problem}', span=text.span)
