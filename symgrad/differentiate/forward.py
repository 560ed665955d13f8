"""Forward mode, and what follows from it: Hessian products, Jacobians, Hessians.

The tangent of a node is its derivative along a direction, as an expression in the same
free indices; a node that does not vary has None. A Jacobian is a tangent along every
unit vector at once: the direction is Kronecker's delta in new free indices, which sums
eliminate, so that products with zeros are not formed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from symgrad import graph
from symgrad.differentiate.algebra import (
    ONE,
    ZERO,
    add_up,
    mask,
    scale,
    sum_over,
)
from symgrad.differentiate.reductions import weight
from symgrad.differentiate.reverse import (
    as_tensor,
    gradient,
    own_indices,
    places,
)
from symgrad.graph import (
    FLOAT,
    Array,
    ArrayLike,
    Call,
    Index,
    Input,
    Load,
    Node,
    Reduce,
    Scatter,
)
from symgrad.ops import OPS

# Tangents of arrays of so few nodes, each this cheap, are not stored but inlined.
_SMALL, _CHEAP = 24, 4


def tangents(roots: Sequence[Node], directions: Mapping[Input, Input]) -> list[Node]:
    """The derivatives of the roots along ``directions``.

    ``directions`` gives for each varying input another input of its shape. Scalars give
    scalars, arrays arrays of their shape. Comparisons have no derivative: the count of
    ties of a minimum is a constant.
    """
    sweep = _Along(directions)
    sweep.run(roots)
    return [sweep.closed(root) for root in roots]


def hvp(
    loss: Node, wrt: Sequence[Input], directions: Mapping[Input, Input]
) -> list[Node]:
    """The Hessian of ``loss`` times a direction, in the order of ``wrt``."""
    return tangents(gradient(loss, wrt), directions)


def jacobian(
    indices: Sequence[Index], body: Node, wrt: Sequence[Input]
) -> list[Array | Node]:
    """The derivatives of the tensor with ``body`` at ``indices``, for each of ``wrt``.

    Each has shape output + parameter: an Array, or a scalar node if both have rank 0.
    """
    return [_jacobian_block(tuple(indices), body, p) for p in wrt]


def hessian(loss: Node, wrt: Sequence[Input]) -> list[list[Array | Node]]:
    """The second derivatives: block (a, b) has shape a + b."""
    rows = []
    for p, g in zip(wrt, gradient(loss, wrt), strict=True):
        own = own_indices(p.shape)
        if isinstance(g, Array):
            rows.append(jacobian(g.indices, g.body, wrt))
        elif isinstance(g, Scatter):
            rows.append(jacobian(own, graph.load(g, places(own)), wrt))
        else:
            rows.append(jacobian((), g, wrt))
    return rows


# --------------------------------------------------------------------------------------
# The sweep
# --------------------------------------------------------------------------------------


class _Forward:
    """One forward pass: ``tangent[v]`` for scalars, and for arrays at own indices.

    ``extra`` are free indices that every tangent may have beside those of its node.
    """

    extra: tuple[Index, ...] = ()

    def __init__(self) -> None:
        self.tangent: dict[Node, Node | None] = {}
        self.stored: dict[Node, ArrayLike] = {}

    def seed(self, node: Load) -> Node | None:
        """The tangent of an element of an input."""
        raise NotImplementedError

    def run(self, roots: Iterable[Node]) -> None:
        for node in graph.walk(roots):
            self.tangent[node] = self.visit(node) if node.type == FLOAT else None

    def visit(self, node: Node) -> Node | None:
        if isinstance(node, Call):
            return self.visit_call(node)
        if isinstance(node, Reduce):
            return self.visit_reduce(node)
        if isinstance(node, Load):
            return self.visit_load(node)
        if isinstance(node, Array):
            return self.tangent[node.body]
        if isinstance(node, Scatter):
            return self.visit_scatter(node)
        return None

    def visit_call(self, node: Call) -> Node | None:
        inner = [self.tangent[a] for a in node.args]
        if node.op == "stop_gradient" or not any(t is not None for t in inner):
            return None
        partials = OPS[node.op].partials(node, *node.args)
        return add_up(scale(t, p) for t, p in zip(inner, partials, strict=True))

    def visit_reduce(self, node: Reduce) -> Node | None:
        inner = self.tangent[node.body]
        if inner is None:
            return None
        w = weight(node)
        return scale(sum_over(node.indices, scale(inner, w.inner)), w.outer)

    def visit_load(self, node: Load) -> Node | None:
        array = node.array
        if isinstance(array, Input):
            return self.seed(node)
        inner = self.tangent[array]
        if inner is None:
            return None
        if isinstance(array, Array) and _is_small(inner):
            return graph.substitute(inner, _reading(array.indices, node.indices))
        if array not in self.stored:
            self.stored[array] = self.store(array, inner)
        return graph.load(self.stored[array], (*node.indices, *self.extra))

    def store(self, array: ArrayLike, inner: Node) -> ArrayLike:
        """The tangent of a computed array, as an array of shape array + extra."""
        own = array.indices if isinstance(array, Array) else own_indices(array.shape)
        loaded = (*places(own), *self.extra)
        shape = tuple(i.extent for i in (*own, *self.extra))
        whole = isinstance(inner, Load) and inner.indices == loaded
        if isinstance(inner, Load) and whole and inner.array.shape == shape:
            return inner.array  # and not the beginning of a longer one
        return graph.array((*own, *self.extra), inner)

    def visit_scatter(self, node: Scatter) -> Node | None:
        inner = self.tangent[node.value]
        if inner is None:
            return None
        spread = graph.scatter(
            (*node.shape, *(i.extent for i in self.extra)),
            (*node.targets, *self.extra),
            (*node.over, *self.extra),
            inner,
        )
        return graph.load(spread, (*places(own_indices(node.shape)), *self.extra))


def _reading(own: Iterable[Index], at: Iterable[Node]) -> dict[Index, Node]:
    return dict(zip(own, at, strict=True))


def _is_small(body: Node) -> bool:
    """Is an expression as cheap to repeat as to read from memory?"""
    seen: set[Node] = set()
    pending = [body]
    while pending:
        node = pending.pop()
        if len(seen) >= _SMALL or isinstance(node, (Reduce, Array, Scatter)):
            return False
        if isinstance(node, Call) and OPS[node.op].cost > _CHEAP:
            return False
        seen.add(node)
        pending.extend(c for c in node.children if c not in seen)
    return True


class _Along(_Forward):
    """Tangents along given inputs."""

    def __init__(self, directions: Mapping[Input, Input]) -> None:
        super().__init__()
        self.directions = directions
        for source, direction in directions.items():
            if len(source.shape) != len(direction.shape):
                raise ValueError(
                    f"tangents: direction {direction.name} has rank"
                    f" {len(direction.shape)}, {source.name} {len(source.shape)}"
                )

    def seed(self, node: Load) -> Node | None:
        direction = self.directions.get(cast(Input, node.array))
        return None if direction is None else graph.load(direction, node.indices)

    def closed(self, root: Node) -> Node:
        inner = self.tangent[root]
        if isinstance(root, (Array, Scatter)):
            return as_tensor(own_indices(root.shape), inner)
        return ZERO if inner is None else inner


# --------------------------------------------------------------------------------------
# Jacobians
# --------------------------------------------------------------------------------------


class _Units(_Forward):
    """Tangents along all unit vectors of one input, numbered by the indices ``at``."""

    def __init__(self, parameter: Input, at: Sequence[Node]) -> None:
        super().__init__()
        self.parameter, self.at = parameter, tuple(at)
        self.extra = tuple(i for i in at if isinstance(i, Index))

    def seed(self, node: Load) -> Node | None:
        if node.array is not self.parameter:
            return None
        result: Node | None = ONE
        for e, p in zip(node.indices, self.at, strict=True):
            if isinstance(p, Index):
                result = mask(graph.comparison("eq", e, p), result)
        return result


def _jacobian_block(
    indices: tuple[Index, ...], body: Node, parameter: Input
) -> Array | Node:
    slot = _fresh_slot((body, *indices))
    fresh = tuple(graph.index(e, slot + k) for k, e in enumerate(parameter.shape))
    sweep = _Units(parameter, places(fresh))
    sweep.run([body])
    tangent = sweep.tangent[body]
    tangent = ZERO if tangent is None else tangent
    own = (*indices, *fresh)
    return graph.array(own, tangent) if own else tangent


def _fresh_slot(roots: Iterable[Node]) -> int:
    """A slot above all that occur, bound or free."""

    nodes = graph.walk(roots, into=graph.uses)
    used = [n.slot for n in nodes if isinstance(n, Index)]
    return max(used, default=-1) + 1
