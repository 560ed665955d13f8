"""Symbolic derivatives of graphs: reverse and forward mode, and what follows."""

from symgrad.differentiate.algebra import add_up, scale, sum_over
from symgrad.differentiate.forward import hessian, hvp, jacobian, tangents
from symgrad.differentiate.reverse import gradient, vjp

__all__ = [
    "add_up",
    "gradient",
    "hessian",
    "hvp",
    "jacobian",
    "scale",
    "sum_over",
    "tangents",
    "vjp",
]
