"""Compiled models: array-valued expressions with their Jacobians."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from symgrad import graph
from symgrad.differentiate import jacobian, tangents, vjp
from symgrad.errors import ShapeError
from symgrad.graph import Input, Node
from symgrad.runtime.arrays import as_parameter
from symgrad.runtime.derivatives import assembled, directions, gauss_newton_kernel
from symgrad.runtime.function import Compiled, direction_arrays
from symgrad.runtime.kernel import Kernel
from symgrad.runtime.specialise import COTANGENT, Arrays, Specialisation
from symgrad.schedule import cost

Blocks = dict[str, NDArray[Any]]


class GaussNewton(NamedTuple):
    """Half the sum of squares, its gradient Jᵀr (P,), and JᵀJ (P, P)."""

    fun: float
    jac: NDArray[np.float64]
    hess: NDArray[np.float64]


class Model(Compiled):
    """An array-valued expression. Made by :func:`symgrad.model`.

    With output shape S and a parameter of shape T, its Jacobian block has shape S + T.
    """

    _tensor = True

    def __call__(self, /, **values: Any) -> NDArray[Any]:
        """The value, in the compute dtype."""
        found, arrays = self._prepare(values)
        return self._typed(self._call(found, _value_kernel(found), arrays)[0])

    def _makers(self) -> dict[str, Callable[[Specialisation], Kernel]]:
        return {"value": _value_kernel, "gauss-newton": gauss_newton_kernel}

    def _typed(self, array: NDArray[np.float64]) -> NDArray[Any]:
        return array.astype(np.dtype(self.dtype), copy=False)

    def _main_kernel(self, found: Specialisation) -> Kernel:
        def nodes() -> list[Node]:
            blocks = jacobian(found.indices, found.value, found.parameters)
            return found.simplified([output(found), *blocks])

        return found.kernel("value and jacobian", nodes)

    def value_and_jacobian(self, /, **values: Any) -> tuple[NDArray[Any], Blocks]:
        """The value and its Jacobian blocks by name, from one kernel."""
        found, arrays = self._prepare(values)
        outs = self._call(found, self._main_kernel(found), arrays)
        blocks = (self._typed(out) for out in outs[1:])
        return self._typed(outs[0]), dict(zip(self.wrt, blocks, strict=True))

    def jacobian(self, /, **values: Any) -> Blocks:
        """Derivatives by name, each of shape output + parameter."""
        return self.value_and_jacobian(**values)[1]

    def gauss_newton(self, /, **values: Any) -> GaussNewton:
        """What a Gauss-Newton or Levenberg-Marquardt step needs, from one pass.

        The model's value is taken as residuals r(θ), so write the data into it:
        ``"a*exp(-b*x) - y"``. The Jacobian J = ∂r/∂θ is not stored.

        Returns:
            fun: r·r/2. jac: Jᵀr (P,), its gradient. hess: JᵀJ (P, P), which is its
            Hessian where r is small or linear. Both over the flat vector of all
            parameters, in the order of wrt, C order; float64.
        """
        found, arrays = self._prepare(values)
        kernel = gauss_newton_kernel(found)
        outs = self._call(found, kernel, arrays)
        sizes = [arrays[name].size for name in self.wrt]
        slopes = [part.ravel() for part in outs[1 : 1 + len(sizes)]]
        matrix = assembled(outs[1 + len(sizes) :], sizes)
        return GaussNewton(float(outs[0]), np.concatenate(slopes), matrix)

    def jvp(self, direction: Mapping[str, Any], /, **values: Any) -> NDArray[Any]:
        """The Jacobian times a direction (a dict shaped as the parameters): (S,)."""
        found, arrays = self._prepare(values)
        along = directions(found)
        extra = {d.name: d for d in along.values()}
        kernel = found.kernel(
            "jvp", lambda: found.simplified(tangents([output(found)], along)), extra
        )
        arrays |= direction_arrays(self.wrt, direction, arrays)
        return self._typed(self._call(found, kernel, arrays)[0])

    def vjp(self, cotangent: Any, /, **values: Any) -> Blocks:
        """A cotangent of the output's shape times the Jacobian, by name."""
        found, arrays = self._prepare(values)
        node = output(found)
        shape = getattr(node, "shape", ())
        seed = graph.input_(COTANGENT, shape)

        def nodes() -> list[Node]:
            return found.simplified(_vjp(found, seed))

        kernel = found.kernel("vjp", nodes, {COTANGENT: seed})
        arrays[COTANGENT] = self._cotangent(cotangent, found, arrays)
        outs = self._call(found, kernel, arrays)
        blocks = (self._typed(out) for out in outs)
        return dict(zip(self.wrt, blocks, strict=True))

    def _cotangent(
        self, cotangent: Any, found: Specialisation, arrays: Arrays
    ) -> NDArray[np.float64]:
        array = as_parameter("the cotangent", cotangent)
        lengths = found.lengths(arrays)
        assert lengths is not None
        extents = getattr(output(found), "shape", ())
        expected = tuple(cost.length(e, lengths) for e in extents)
        if array.shape != expected:
            raise ShapeError(
                f"the cotangent has shape {array.shape}, the output {expected}"
            )
        return array


def _value_kernel(found: Specialisation) -> Kernel:
    return found.kernel("value", lambda: found.simplified([output(found)]))


def output(found: Specialisation) -> Node:
    """The value as a closed node."""
    if not found.indices:
        return found.value
    return graph.array(found.indices, found.value)


def _vjp(found: Specialisation, seed: Input) -> list[Node]:
    node = output(found)
    if isinstance(node, graph.Array):
        return vjp(node, seed, found.parameters)
    from symgrad.differentiate import gradient

    return gradient(node * graph.load(seed), found.parameters)
