"""The kernels of a specialisation: loss with gradient, Hessian products, Jacobians."""

from __future__ import annotations

from symgrad import graph
from symgrad.differentiate import gradient as differentiate
from symgrad.differentiate import hvp as hessian_product
from symgrad.graph import Input, Node
from symgrad.runtime.kernel import Kernel
from symgrad.runtime.specialise import DIRECTION, Specialisation


def gradient_nodes(found: Specialisation) -> list[Node]:
    """The loss and its gradients, simplified together."""
    if not found.gradients:
        gradients = differentiate(found.value, found.parameters)
        found.gradients = found.simplified([found.value, *gradients])
    return found.gradients


def gradient_kernel(found: Specialisation, lanes: int | None = None) -> Kernel:
    """Loss and gradients in one kernel. lanes: rows per vector, if not all it holds."""
    name = "value and gradient" + (f", {lanes} lanes" if lanes else "")
    return found.kernel(name, lambda: gradient_nodes(found), lanes=lanes)


def directions(found: Specialisation) -> dict[Input, Input]:
    """For each parameter an input of its shape: a direction."""
    return {p: graph.input_(DIRECTION + p.name, p.shape) for p in found.parameters}


def hvp_kernel(found: Specialisation) -> Kernel:
    """The Hessian times a direction."""
    along = directions(found)
    extra = {d.name: d for d in along.values()}

    def nodes() -> list[Node]:
        return found.simplified(hessian_product(found.value, found.parameters, along))

    return found.kernel("hvp", nodes, extra)
