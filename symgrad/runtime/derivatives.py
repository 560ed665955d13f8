"""The kernels of a specialisation: loss with gradient, Hessian products, Jacobians."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from symgrad import graph
from symgrad.differentiate import gradient as differentiate
from symgrad.differentiate import hessian, jacobian
from symgrad.differentiate import hvp as hessian_product
from symgrad.graph import Array, Index, Input, Node
from symgrad.runtime.kernel import Kernel
from symgrad.runtime.specialise import DIRECTION, Specialisation


def gradient_nodes(found: Specialisation) -> list[Node]:
    """The loss and its gradients, simplified together."""
    if not found.gradients:
        gradients = differentiate(found.value, found.parameters)
        found.gradients = found.simplified([found.value, *gradients])
    return found.gradients


def value_kernel(found: Specialisation) -> Kernel:
    """The loss alone."""
    return found.kernel("value", lambda: value_nodes(found))


def value_nodes(found: Specialisation) -> list[Node]:
    """The loss, simplified."""
    return found.simplified([found.value])


def gradient_kernel(found: Specialisation, lanes: int | None = None) -> Kernel:
    """Loss and gradients in one kernel. lanes: rows per vector, if not all it holds."""
    name = "value and gradient" + (f", {lanes} lanes" if lanes else "")
    return found.kernel(name, lambda: gradient_nodes(found), lanes=lanes)


def directions(found: Specialisation) -> dict[Input, Input]:
    """For each parameter an input of its shape: a direction."""
    return {p: graph.input_(DIRECTION + p.name, p.shape) for p in found.parameters}


def hvp_nodes(found: Specialisation) -> list[Node]:
    """The Hessian times a direction."""
    along = directions(found)
    return found.simplified(hessian_product(found.value, found.parameters, along))


def hvp_kernel(found: Specialisation) -> Kernel:
    """The Hessian times a direction."""
    extra = {d.name: d for d in directions(found).values()}
    return found.kernel("hvp", lambda: hvp_nodes(found), extra)


def hessian_nodes(found: Specialisation) -> list[Node]:
    """The blocks (a, b) of the Hessian with a <= b, in one kernel."""
    blocks = hessian(found.value, found.parameters)
    return found.simplified([b for k, row in enumerate(blocks) for b in row[k:]])


def gauss_newton_kernel(found: Specialisation) -> Kernel:
    """Half the sum of squares of the residuals r, Jᵀr by parameter, and the blocks
    (a, b) of JᵀJ with a <= b: the Jacobian J itself is never stored."""
    return found.kernel(
        "gauss-newton", lambda: found.simplified(_gauss_newton_nodes(found))
    )


def _gauss_newton_nodes(found: Specialisation) -> list[Node]:
    rows, residual = found.indices, found.value
    loss = 0.5 * graph.reduce_("sum", rows, residual * residual)
    blocks = jacobian(rows, residual, found.parameters)
    products = [
        _transposed_product(rows, first, second)
        for k, first in enumerate(blocks)
        for second in blocks[k:]
    ]
    return [loss, *differentiate(loss, found.parameters), *products]


def _transposed_product(rows: Sequence[Index], a: Node, b: Node) -> Node:
    """The sum over ``rows`` of a[rows, i] b[rows, j], with indices i and j."""
    own, first = _body(a, len(rows))
    other, second = _body(b, len(rows))
    extents = [i.extent for i in other]
    fresh = graph.canonical_indices(extents, (*rows, *own, *other))
    second = graph.substitute(second, dict(zip(other, fresh, strict=True)))
    total = graph.reduce_("sum", rows, first * second)
    return graph.array((*own, *fresh), total) if own or fresh else total


def _body(block: Node, rank: int) -> tuple[tuple[Index, ...], Node]:
    """A block's element, and its indices beyond those of the first ``rank`` axes."""
    if isinstance(block, Array):
        return block.indices[rank:], block.body
    return (), block


def assembled(
    blocks: Sequence[NDArray[np.float64]], sizes: Sequence[int]
) -> NDArray[np.float64]:
    """The symmetric matrix of its blocks (a, b) with a <= b, row by row."""
    ends = np.cumsum([0, *sizes])
    matrix = np.empty((ends[-1], ends[-1]))
    parts = iter(blocks)
    for a in range(len(sizes)):
        for b in range(a, len(sizes)):
            block = next(parts).reshape(sizes[a], sizes[b])
            matrix[ends[a] : ends[a + 1], ends[b] : ends[b + 1]] = block
            matrix[ends[b] : ends[b + 1], ends[a] : ends[a + 1]] = block.T
    return matrix
