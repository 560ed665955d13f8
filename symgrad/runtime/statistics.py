"""Sufficient statistics: sums over rows that are quadratic in the parameters, formed
once at ``bind``, so that an evaluation no longer reads the data.

A sum R(θ) of degree two is its Taylor polynomial at any centre θ₀:

    R(θ) = R(θ₀) + g₀·(θ - θ₀) + (θ - θ₀)·H·(θ - θ₀)/2

θ₀ is the stationary point of R. There g₀ is almost zero and R(θ₀) is the smallest
value, both taken from the data, so that nothing cancels near the solution; the normal
equations as textbooks write them, yᵀy - 2wᵀXᵀy + wᵀXᵀXw, lose half of the digits there.
What is left is the conditioning of H, which is the square of that of the design matrix;
too bad a one is refused.

Source: Björck, Numerical Methods for Least Squares Problems (1996), section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from symgrad import graph
from symgrad.codegen.layout import ArraySpec
from symgrad.differentiate import gradient, hessian
from symgrad.differentiate.reverse import places
from symgrad.errors import DataError, UnsupportedError
from symgrad.graph import (
    FLOAT,
    Array,
    Call,
    Const,
    Input,
    Load,
    Node,
    Reduce,
    Scatter,
    Size,
)
from symgrad.runtime.hoist import array_of, domain
from symgrad.runtime.specialise import Arrays, Specialisation
from symgrad.simplify import simplify

Matrix = NDArray[np.float64]

WORST_CONDITION = 1e10
"""Of H, scaled to a unit diagonal: six digits of its inverse are right at least."""

AGREEMENT = 1e-9
"""Largest relative difference between R and its polynomial at a random point."""

NAME = "statistics "
"""Names of the inputs that hold them, with a space, which no user's name has."""


@dataclass(frozen=True)
class Statistics:
    """A loss that reads statistics for its data: graphs, and the arrays by name."""

    found: Specialisation
    arrays: Arrays


def condense(found: Specialisation, arrays: Arrays, workers: int) -> Statistics:
    """The loss with every sum over rows replaced by its statistics.

    Args:
        found: the graphs of a loss. arrays: its data, and parameters for their shapes.
        workers: threads for the passes that form the statistics.

    Raises:
        UnsupportedError: a sum over rows is not a polynomial of degree two at most.
        DataError: it is so badly conditioned that statistics would lose the digits.
    """
    value = graph.transform(found.value, _norm_as_sum)
    sums, fixed = _parts(value, found)
    lengths = found.lengths(arrays)
    assert lengths is not None
    _refuse_large(found, arrays)
    run = _Runner(found, arrays, workers)
    replaced, data = _fixed(fixed, run)
    for number, node in enumerate(sums):
        quadratic = _Quadratic(run, node, f"{NAME}{number} ")
        replaced[node] = quadratic.node
        data |= quadratic.stored
    return Statistics(_condensed(found, value, replaced, lengths), data)


# --------------------------------------------------------------------------------------
# Which sums
# --------------------------------------------------------------------------------------


def _norm_as_sum(node: Node) -> Node:
    """A norm over rows is the root of a sum of squares, which has statistics."""
    if isinstance(node, Reduce) and node.kind == "norm" and not node.free:
        squares = graph.reduce_("sum", node.indices, node.body * node.body)
        return graph.call("sqrt", squares)
    return node


def _degrees(root: Node, names: set[str]) -> dict[Node, float]:
    """Degree of every node as a polynomial in the parameters; inf if it is none."""
    degree: dict[Node, float] = {}
    for node in graph.walk(root):
        inner = [degree[c] for c in node.children]
        if isinstance(node, Input):
            degree[node] = 1.0 if node.name in names else 0.0
        elif isinstance(node, Load):
            degree[node] = inner[0] if not any(inner[1:]) else inf
        elif isinstance(node, Array) or (
            isinstance(node, Reduce) and node.kind == "sum"
        ):
            degree[node] = inner[0]
        elif isinstance(node, Call):
            degree[node] = _degree_of_call(node, inner)
        else:
            degree[node] = inf if any(inner) else 0.0
    return degree


def _degree_of_call(node: Call, inner: Sequence[float]) -> float:
    if not any(inner):
        return 0.0
    match node.op:
        case "add" | "sub" | "neg":
            return max(inner)
        case "mul":
            return sum(inner)
        case "div" if inner[1] == 0:
            return inner[0]
        case "where" if inner[0] == 0:
            return max(inner[1:])
        case "fma":
            return max(inner[0] + inner[1], inner[2])
        case "pow" if isinstance(node.args[1], Const):
            power = float(node.args[1].value)
            return power * inner[0] if power >= 0 and power == int(power) else inf
    return inf


def _parts(root: Node, found: Specialisation) -> tuple[list[Reduce], list[Node]]:
    """The largest sums over data that depend on the parameters, and the largest nodes
    that depend on data only.

    Raises UnsupportedError if data are needed outside of sums of degree two.
    """
    degree = _degrees(root, {p.name for p in found.parameters})
    reads = _reading(root, set(found.data))
    sums: dict[Reduce, None] = {}
    fixed: dict[Node, None] = {}

    def into(node: Node) -> tuple[Node, ...]:
        if node not in reads:
            return ()
        if degree[node] == 0 and node.type == FLOAT and not _is_array(node):
            fixed[node] = None
            return ()
        if isinstance(node, Reduce) and node.kind == "sum" and not node.free:
            if degree[node] <= 2:
                sums[node] = None
                return ()
            raise _refusal(node, degree[node])
        if isinstance(node, (Reduce, Array)):
            raise _refusal(node, degree[node])
        return node.children

    graph.walk(root, into)
    if not sums:
        raise UnsupportedError(
            "statistics=True: the loss has no sum over data that depends on "
            f"{', '.join(p.name for p in found.parameters)}; bind without it"
        )
    return list(sums), list(fixed)


def _is_array(node: Node) -> bool:
    return isinstance(node, (Array, Scatter, Input))


def _reading(root: Node, data: set[str]) -> set[Node]:
    """Nodes that depend on data."""
    found: set[Node] = set()
    for node in graph.walk(root):
        own = isinstance(node, Input) and node.name in data
        if own or any(c in found for c in node.children):
            found.add(node)
    return found


def _refusal(node: Node, degree: float) -> UnsupportedError:
    from symgrad.language.graph_to_sympy import graph_to_sympy

    formula = str(graph_to_sympy(node).expression) if not node.free else "a part of it"
    kind = "not a polynomial" if degree == inf else f"a polynomial of degree {degree:g}"
    return UnsupportedError(
        f"statistics=True needs sums over the data that are polynomials of degree two "
        f"at most in the parameters, but {formula} is {kind}: bind without "
        "statistics"
    )


def _refuse_large(found: Specialisation, arrays: Arrays) -> None:
    count = sum(arrays[p.name].size for p in found.parameters)
    elements = sum(arrays[name].size for name in found.data)
    if count * count > max(4 * elements, 4096):
        raise UnsupportedError(
            f"statistics=True: the second derivatives by {count} parameters are more "
            f"numbers than the data ({elements}): bind without statistics"
        )


# --------------------------------------------------------------------------------------
# One sum
# --------------------------------------------------------------------------------------


class _Runner:
    """Runs kernels over the data, for vectors of parameters."""

    def __init__(self, found: Specialisation, arrays: Arrays, workers: int) -> None:
        self.found, self.arrays, self.workers = found, arrays, workers
        self.parameters = found.parameters
        self.shapes = [arrays[p.name].shape for p in self.parameters]
        self.size = sum(arrays[p.name].size for p in self.parameters)

    def __call__(
        self, name: str, nodes: Callable[[], Sequence[Node]], x: Matrix
    ) -> list[Matrix]:
        """The values of ``nodes`` at ``x``."""
        kernel = self.found.kernel(name, lambda: list(simplify(nodes()).roots))
        context = self.found.context(kernel, self.arrays)
        outs = [np.empty(context.shape(node)) for node in kernel.outputs]
        names = [p.name for p in self.parameters]
        parts = dict(zip(names, self.split(x), strict=True))
        given = [parts[name] for name in kernel.layout.parameters()]
        context(given, outs, self.workers)
        return outs

    def split(self, x: Matrix) -> list[Matrix]:
        """The parts of a flat vector, in the parameters' shapes."""
        ends = np.cumsum([int(np.prod(s)) for s in self.shapes])[:-1]
        parts = zip(np.split(x, ends), self.shapes, strict=True)
        return [part.reshape(shape) for part, shape in parts]


def _fixed(nodes: Sequence[Node], run: _Runner) -> tuple[dict[Node, Node], Arrays]:
    """What depends on data only: as elements of arrays, and the arrays."""
    if not nodes:
        return {}, {}
    outs = run(
        f"{NAME}of data", lambda: [array_of(n) for n in nodes], np.zeros(run.size)
    )
    names = [f"{NAME}of data {k}" for k in range(len(nodes))]
    loads: dict[Node, Node] = {}
    for name, node in zip(names, nodes, strict=True):
        own = domain(node)
        loads[node] = graph.load(graph.input_(name, [i.extent for i in own]), own)
    return loads, dict(zip(names, outs, strict=True))


class _Quadratic:
    """The polynomial of one sum: as a graph, and the arrays that the graph reads."""

    def __init__(self, run: _Runner, sum_: Reduce, prefix: str) -> None:
        self.run, self.sum, self.prefix = run, sum_, prefix
        self.parameters = run.parameters
        self.matrix = self._curvature()
        self._check_condition()
        self.centre = self._stationary()
        self.value, self.slope = self._value_and_gradient(self.centre)
        self._check_agreement()
        self.stored = self._store()
        self.node = self._as_graph()

    # -- numbers -----------------------------------------------------------------------

    def _curvature(self) -> Matrix:
        """H (P, P), which depends on the data only."""
        blocks = self.run(
            f"{self.prefix}curvature",
            lambda: [b for row in hessian(self.sum, self.parameters) for b in row],
            np.zeros(self.run.size),
        )
        counts = [int(np.prod(s)) for s in self.run.shapes]
        parts = iter(blocks)
        rows = [np.hstack([next(parts).reshape(a, b) for b in counts]) for a in counts]
        matrix = np.vstack(rows)
        return 0.5 * (matrix + matrix.T)

    def _value_and_gradient(self, x: Matrix) -> tuple[float, Matrix]:
        value, *slopes = self.run(
            f"{self.prefix}value and gradient",
            lambda: [self.sum, *gradient(self.sum, self.parameters)],
            x,
        )
        return float(value), np.concatenate([s.ravel() for s in slopes])

    def _scaled(self) -> tuple[Matrix, Matrix]:
        """H with a unit diagonal, and the factors; parameters that H lacks stay out."""
        factors = np.sqrt(np.abs(np.diag(self.matrix)))
        present = factors > 0
        inverse = np.where(present, 1.0 / np.where(present, factors, 1.0), 0.0)
        return self.matrix * inverse[:, None] * inverse, inverse

    def _check_condition(self) -> None:
        if not np.isfinite(self.matrix).all():
            raise DataError("statistics=True: the data hold NaN or infinity")
        scaled, inverse = self._scaled()
        present = inverse > 0
        if not present.any():
            return
        sizes = np.abs(np.linalg.eigvalsh(scaled[np.ix_(present, present)]))
        condition = sizes.max() / max(sizes.min(), np.finfo(float).tiny)
        if condition > WORST_CONDITION:
            raise DataError(
                f"statistics=True: the second derivatives have condition number "
                f"{condition:.1e} (the square of the data's own), above "
                f"{WORST_CONDITION:.0e}: columns are nearly dependent. Centre or drop "
                "some, or bind without statistics"
            )

    def _stationary(self) -> Matrix:
        """Newton's step from zero, and one more to correct its rounding."""
        scaled, inverse = self._scaled()
        pseudo = np.linalg.pinv(scaled, hermitian=True)
        x = np.zeros(self.run.size)
        for _ in range(2):
            slope = self._value_and_gradient(x)[1]
            x = x - inverse * (pseudo @ (inverse * slope))
        return x

    def _check_agreement(self) -> None:
        """The polynomial against the sum itself, some way from the centre."""
        inverse = self._scaled()[1]
        spread = np.where(inverse > 0, inverse, 1.0) * np.sqrt(abs(self.value))
        far = np.abs(self.centre).max(initial=0.0)
        d = np.random.default_rng(0).normal(size=spread.size) * (spread + far)
        terms = [self.value, self.slope @ d, 0.5 * d @ self.matrix @ d]
        exact = self._value_and_gradient(self.centre + d)[0]
        scale = sum(map(abs, terms)) + np.finfo(float).tiny
        error = abs(sum(terms) - exact) / scale
        if not error <= AGREEMENT:
            raise DataError(
                f"statistics=True: the statistics reproduce the loss to {error:.1e} "
                "only: scale the data, or bind without statistics"
            )

    # -- graph -------------------------------------------------------------------------

    def _store(self) -> Arrays:
        stored: Arrays = {self.prefix + "value": np.array(self.value)}
        names = [p.name for p in self.parameters]
        counts = np.cumsum([0, *(int(np.prod(s)) for s in self.run.shapes)])
        centres, slopes = self.run.split(self.centre), self.run.split(self.slope)
        for k, name in enumerate(names):
            stored[f"{self.prefix}centre {name}"] = centres[k]
            stored[f"{self.prefix}slope {name}"] = slopes[k]
            for m, other in enumerate(names):
                block = self.matrix[
                    counts[k] : counts[k + 1], counts[m] : counts[m + 1]
                ]
                shape = self.run.shapes[k] + self.run.shapes[m]
                stored[f"{self.prefix}curvature {name} {other}"] = np.ascontiguousarray(
                    block.reshape(shape)
                )
        return stored

    def _as_graph(self) -> Node:
        """R(θ₀) + Σ (g₀ + H d/2) d, with d = θ - θ₀."""
        total = graph.load(graph.input_(self.prefix + "value"))
        for p in self.parameters:
            own = places(graph.canonical_indices(p.shape))
            inner = self._element("slope", own, p)
            for q in self.parameters:
                other = places(graph.canonical_indices(q.shape, _open(own)))
                product = self._element("curvature", (*own, *other), p, q)
                product = product * self._offset(q, other)
                inner = inner + 0.5 * graph.reduce_("sum", _open(other), product)
            total = total + graph.reduce_(
                "sum", _open(own), inner * self._offset(p, own)
            )
        return total

    def _element(self, what: str, at: Sequence[Node], *of: Input) -> Node:
        shape = [extent for p in of for extent in p.shape]
        name = f"{self.prefix}{what} {' '.join(p.name for p in of)}"
        return graph.load(graph.input_(name, shape), at)

    def _offset(self, p: Input, at: Sequence[Node]) -> Node:
        return graph.load(p, at) - self._element("centre", at, p)


def _open(at: Sequence[Node]) -> list[graph.Index]:
    """The indices among the places: an axis of length one is read at 0."""
    return [i for i in at if isinstance(i, graph.Index)]


# --------------------------------------------------------------------------------------
# The loss
# --------------------------------------------------------------------------------------


def _condensed(
    found: Specialisation,
    value: Node,
    replaced: Mapping[Node, Node],
    lengths: Mapping[str, int],
) -> Specialisation:
    """The specialisation whose data are statistics; of lengths, only those of
    parameters are left."""
    own = {p.name for p in found.parameters}
    dims = {
        name: kept
        for name, pairs in found.built.dims.items()
        if (kept := tuple(pair for pair in pairs if pair[0] in own))
    }
    done = dict(replaced)
    for node in graph.walk(value, lambda n: () if n in replaced else n.children):
        if isinstance(node, Size) and node.name not in dims:
            done[node] = graph.const(lengths[node.name])
        elif node not in done:
            done[node] = graph.rebuild(node, tuple(done[c] for c in node.children))
    result = simplify([done[value]])
    inputs = {n.name: n for n in graph.walk(result.roots) if isinstance(n, Input)}
    stored = [name for name in inputs if name not in own]
    return replace(
        found,
        built=replace(found.built, inputs=inputs, dims=dims, guards=()),
        value=result.roots[0],
        specs=found.specs | {n: ArraySpec("float64", True, False) for n in stored},
        hints={name: lengths[name] for name in dims},
        gradients=[],
        rewrites=[],
        kernels={},
        hoisted=[],
    )
