"""A value while a formula is read: a scalar node over the indices of its axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from symgrad import graph
from symgrad.graph import Call, Const, Index, Load, Node, Reduce
from symgrad.language.extents import is_const, normal
from symgrad.ops import OPS

BINDER_SLOT = 1000
"""Slots from here on belong to the indices of explicit sums (``syntax.Bind``)."""

_CHEAP_COST = 8.0
_CHEAP_NODES = 32


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array-valued expression.

    Attributes:
        indices: one per axis, canonical: ``graph.canonical_indices(extents)``.
        body: the element at ``indices``. An axis of length 1 is read at 0, so that its
            index does not occur. No other index is free, but for those of explicit sums
            around the expression.
    """

    indices: tuple[Index, ...]
    body: Node

    @property
    def extents(self) -> tuple[Node, ...]:
        """The length of each axis."""
        return tuple(i.extent for i in self.indices)

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.indices)


def scalar(body: Node | float) -> Tensor:
    """A tensor of rank 0."""
    return Tensor((), graph.lift(body))


def axes(extents: Iterable[Node]) -> tuple[tuple[Index, ...], tuple[Node, ...]]:
    """Canonical indices for these lengths, and at which element to read each axis."""
    indices = graph.canonical_indices(extents)
    return indices, tuple(at_index(i) for i in indices)


def at_index(i: Index) -> Node:
    """``i``, or 0 if that is the only value it takes."""
    return graph.const(0) if is_const(i.extent, 1) else i


def element(tensor: Tensor, at: Sequence[Node]) -> Node:
    """The element of ``tensor`` at ``at``, one integer node per axis.

    If ``at`` are the tensor's own indices this is its body. Otherwise, if the body is
    more than loads and a few cheap operations, the tensor becomes an ``Array`` that is
    loaded, so that both uses share one computed tensor. Fixed positions are simply
    substituted: one element is cheaper than an array.
    """
    body = tensor.body
    moved = {
        old: new
        for old, new in zip(tensor.indices, at, strict=True)
        if old is not new and old in body.free
    }
    if not moved:
        return body
    fixed = {old: new for old, new in moved.items() if not new.free}
    if fixed and len(fixed) < len(moved) and not is_cheap(body):
        body = _substitute(body, fixed)
        moved = {old: new for old, new in moved.items() if old not in fixed}
    if len(fixed) == len(moved) or is_cheap(body):
        return _substitute(body, moved)
    own = [i for i in tensor.indices if i in body.free]
    outer = sorted(body.free.difference(own), key=lambda i: i.slot)
    return graph.load(
        graph.array((*own, *outer), body), [moved.get(i, i) for i in (*own, *outer)]
    )


def is_cheap(body: Node) -> bool:
    """Whether to compute ``body`` once more rather than to share it as an array."""
    cost, seen, stack = 0.0, set[Node](), [body]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, Reduce) or len(seen) > _CHEAP_NODES:
            return False
        if isinstance(node, Call) and node.type != graph.INT:
            cost += OPS[node.op].cost if node.op in OPS else 1.0
            if cost > _CHEAP_COST:
                return False
        stack.extend(node.indices if isinstance(node, Load) else node.children)
    return True


def _substitute(body: Node, mapping: Mapping[Index, Node]) -> Node:
    """Replace indices, then bring the changed index expressions into normal form."""
    result = graph.substitute(body, mapping)
    if all(isinstance(new, (Index, Const)) for new in mapping.values()) and not (
        _has_index_arithmetic(body)
    ):
        return result
    return graph.transform(result, _tidy)


def _has_index_arithmetic(body: Node) -> bool:
    return any(
        isinstance(node, Load) and any(isinstance(i, Call) for i in node.indices)
        for node in graph.walk(body)
    )


def _tidy(node: Node) -> Node:
    if isinstance(node, Load):
        return graph.load(node.array, [normal(i) for i in node.indices])
    return node
