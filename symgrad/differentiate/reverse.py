"""Reverse mode: the gradient of a scalar as expressions in index notation.

The adjoint of a node v is the derivative of the loss with respect to the value of v, as
an expression in the free indices of v. Nodes are visited in reverse topological order:

- ``u = op(..., v, ...)`` gives v the product of u's adjoint and op's partial
  derivative, summed over the indices that u has and v lacks;
- a ``Reduce`` gives its body the adjoint times the body's weight (reductions.py);
- a ``Load`` gives its array the adjoint: as it is where it reads the array's own
  indices, else as a ``Scatter`` over the indices it is free in. Nothing is renamed, so
  forward and backward expressions share their nodes.

*Factors.* An adjoint is kept as a sum of terms ``factor * term`` whose factors are
closed scalars. A closed reduction over run-time many rows makes its own adjoint the
factor of what its body receives. A factor that is known before the rows are read (the
1/n of a mean) is multiplied in where different factors meet. One that depends on a
reduction over rows (the 1/R of log R) is not: its terms stay apart as far as the
parameters, so that one pass over the rows accumulates all sums and their unscaled
gradients, and the factors are applied to the few numbers that result. Where keeping
them apart costs too many accumulators, the factor is multiplied in, and the rows are
read once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from symgrad import graph
from symgrad.differentiate.algebra import (
    ONE,
    ZERO,
    add_up,
    as_mask,
    is_call,
    scale,
    sum_over,
)
from symgrad.differentiate.reductions import weight
from symgrad.graph import (
    FLOAT,
    Array,
    ArrayLike,
    Call,
    Const,
    Index,
    Input,
    Load,
    Node,
    Reduce,
    Scatter,
)
from symgrad.ops import OPS

ACCUMULATORS = 512
"""Numbers that separate factors may accumulate, beyond one gradient, in one pass."""


def gradient(loss: Node, wrt: Sequence[Input]) -> list[Node]:
    """The derivatives of a closed scalar with respect to inputs, in their order.

    Each is a closed Array or Scatter of the input's shape, or a scalar node for rank 0.
    Raises ValueError if ``loss`` has free indices.
    """
    if loss.free or isinstance(loss, (Array, Scatter, Input)):
        raise ValueError("gradient: the loss must be a scalar without free indices")
    return _Sweep(loss, ONE, wrt).gradients()


def vjp(value: ArrayLike, cotangent: Input, wrt: Sequence[Input]) -> list[Node]:
    """The derivatives of ``sum(cotangent * value)``; ``cotangent`` has its shape."""
    own = own_indices(value.shape)
    seed = graph.load(cotangent, places(own))
    return _Sweep(value, seed, wrt).gradients()


# --------------------------------------------------------------------------------------
# Places in arrays
# --------------------------------------------------------------------------------------


def own_indices(shape: Iterable[Node]) -> tuple[Index, ...]:
    """The indices that a computed array of ``shape`` binds."""
    return graph.canonical_indices(shape)


def places(own: Iterable[Index]) -> tuple[Node, ...]:
    """``own`` as it is read: an axis of length 1 is read at 0 and has no index."""
    return tuple(graph.const(0) if _is_one(i.extent) else i for i in own)


def _is_one(extent: Node) -> bool:
    return isinstance(extent, Const) and extent.value == 1


def reads_own(node: Load, own: Sequence[Index]) -> bool:
    """Is the array read at all of ``own``, in order?"""
    if len(node.indices) != len(own):
        return False  # an adjoint may be the same along some axis
    read = zip(node.indices, own, places(own), strict=True)
    return all(e is i or e is place for e, i, place in read)


def free_in_order(nodes: Iterable[Node]) -> tuple[Index, ...]:
    """The free indices of some expressions, in order of first use."""
    roots = tuple(nodes)
    free = frozenset[Index]().union(*(n.free for n in roots))
    found = [n for n in graph.walk(roots) if isinstance(n, Index) and n in free]
    return tuple(found)


# --------------------------------------------------------------------------------------
# The sweep
# --------------------------------------------------------------------------------------

Factor = Node | None
Terms = dict[Factor, list[Node]]
Summands = dict[tuple[Factor, tuple[Index, ...]], list[Node]]


class _Sweep:
    """One reverse pass. ``terms[v]`` is what has reached v so far, by factor.

    ``summands[v]`` is what a closed v has still to be given as sums, by their indices:
    one sum of many terms needs one accumulator, many sums of one term each need many.
    Terms under a mask are summed at once, as the mask may leave one element only.
    """

    def __init__(self, root: Node, seed: Node, wrt: Sequence[Input]) -> None:
        self.wrt = tuple(wrt)
        self.order = graph.walk(root)
        self.reached = _parameters_below(self.order, self.wrt)
        self.rows = _Rows()
        self.separate: set[Node] = set()  # factors that are not multiplied in
        self.budget: int | None = None  # of accumulators; None before the first factor
        self.terms: dict[Node, Terms] = {}
        self.summands: dict[Node, Summands] = {}
        if self.reached.get(root):
            self.terms[root] = {None: [seed]}
        for node in reversed(self.order):
            self.sum_up(node)
            found = self.terms.get(node)
            if found and not isinstance(node, Input):
                self.visit(node, self.merge(node, found))
                del self.terms[node]

    def merge(self, node: Node, found: Terms) -> list[tuple[Factor, Node]]:
        """The adjoint of ``node``: a sum of terms for each factor that stays apart."""
        sums = {f: s for f, t in found.items() if (s := add_up(t)) is not None}
        closed = not node.free and not isinstance(node, (Array, Scatter))
        if len(sums) == 1 and not closed:
            return list(sums.items())
        together: list[Node | None] = []
        apart: list[tuple[Factor, Node]] = []
        for factor, term in sums.items():
            if factor is None or closed or factor not in self.separate:
                together.append(_times(factor, term))
            else:
                apart.append((factor, term))
        total = add_up(together)
        return apart if total is None else [(None, total), *apart]

    def visit(self, node: Node, adjoint: list[tuple[Factor, Node]]) -> None:
        """Hand the adjoint of ``node`` to what it is made of."""
        for factor, g in adjoint:
            if isinstance(node, Call):
                self.visit_call(node, factor, g)
            elif isinstance(node, Reduce):
                self.visit_reduce(node, factor, g)
            elif isinstance(node, Load):
                self.visit_load(node, factor, g)
            elif isinstance(node, Array):
                self.give(node.body, factor, g, node.indices)
            elif isinstance(node, Scatter):
                self.visit_scatter(node, factor, g)

    def give(
        self, target: Node, factor: Factor, term: Node | None, context: Iterable[Index]
    ) -> None:
        """Add ``factor * term``, summed over what only ``context`` has."""
        if term is None or not self.reached.get(target):
            return
        over = tuple(ordered(i for i in context if i not in target.free))
        if over and not target.free and as_mask(term) is None:
            summands = self.summands.setdefault(target, {})
            summands.setdefault((factor, over), []).append(term)
        else:
            self.add(target, factor, sum_over(over, term))

    def add(self, target: Node, factor: Factor, term: Node | None) -> None:
        if term is not None:
            groups = self.terms.setdefault(target, {})
            groups.setdefault(factor, []).append(term)

    def sum_up(self, node: Node) -> None:
        """Give ``node`` the sums that it has not got yet."""
        for (factor, over), terms in self.summands.pop(node, {}).items():
            total = add_up(terms)
            if total is not None:
                self.add(node, factor, sum_over(over, total))

    def visit_call(self, node: Call, factor: Factor, g: Node) -> None:
        if not any(self.reached.get(a) for a in node.args):
            return
        partials = OPS[node.op].partials(node, *node.args)
        for arg, partial in zip(node.args, partials, strict=True):
            if partial is not None and self.reached.get(arg):
                self.give(arg, factor, scale(g, partial), node.free)

    def visit_reduce(self, node: Reduce, factor: Factor, g: Node) -> None:
        w = weight(node)
        scaled = scale(g, w.outer)
        if scaled is None:
            return
        term: Node | None = scale(scaled, w.inner)
        if not node.free and is_long(node.indices):
            total = _times(factor, scaled)
            if total is not None and self.keeps(total, node):
                factor, term = total, w.inner
        for i in node.indices:
            if i not in node.body.free:
                term = scale(term, graph.to_float(i.extent))
        self.give(node.body, factor, term, ())

    def keeps(self, factor: Node, node: Reduce) -> bool:
        """May ``factor`` be applied after the sum over rows, rather than within?"""
        if factor in self.separate or not self.rows.depends(factor):
            return True
        if self.budget is None:  # the first costs nothing: it has a gradient anyway
            self.budget = ACCUMULATORS
        else:
            needed = _count(self.reached[node])
            if needed is None or needed > self.budget:
                return False
            self.budget -= needed
        self.separate.add(factor)
        return True

    def visit_load(self, node: Load, factor: Factor, g: Node) -> None:
        array = node.array
        if not self.reached.get(array):
            return
        own = own_indices(array.shape)
        groups = self.terms.setdefault(array, {})
        if reads_own(node, own):
            groups.setdefault(factor, []).append(g)
            return
        if factor is not None and factor not in self.separate:
            factor, term = None, scale(factor, g)
            g = ZERO if term is None else term
        over = free_in_order(node.indices)
        spread = graph.scatter(array.shape, node.indices, over, g)
        groups.setdefault(factor, []).append(graph.load(spread, places(own)))

    def visit_scatter(self, node: Scatter, factor: Factor, g: Node) -> None:
        own = own_indices(node.shape)
        if isinstance(g, Load) and reads_own(g, own) and g.array.shape == node.shape:
            source = g.array
        else:
            source = graph.array(own, g)
        self.give(node.value, factor, graph.load(source, node.targets), node.over)

    # The results

    def gradients(self) -> list[Node]:
        """What has reached the parameters."""
        return [self.result(p) for p in self.wrt]

    def result(self, parameter: Input) -> Node:
        own = own_indices(parameter.shape)
        found = self.terms.get(parameter, {})
        parts = [self.part(own, factor, add_up(t)) for factor, t in found.items()]
        return as_tensor(own, add_up(parts))

    def part(self, own: Sequence[Index], factor: Factor, g: Node | None) -> Node | None:
        """``factor * g``; an unscaled gradient is an array of its own."""
        if g is None or factor is None:
            return g
        stored = isinstance(g, Load) or not self.rows.depends(g)
        if own and factor in self.separate and not stored:
            g = graph.load(graph.array(own, g), places(own))
        return _times(factor, g)


def _is_whole(node: Load, own: Sequence[Index]) -> bool:
    """Is this all of a computed array, and not the beginning of a longer one?"""
    same = node.array.shape == tuple(i.extent for i in own)
    return same and not isinstance(node.array, Input) and reads_own(node, own)


def as_tensor(own: Sequence[Index], body: Node | None) -> Node:
    """The array of ``body`` at ``own``; a Load of all elements is what it loads."""
    if body is None:
        body = ZERO
    if not own:
        return body
    if isinstance(body, Load) and _is_whole(body, own):
        return body.array
    return graph.array(own, body)


def ordered(indices: Iterable[Index]) -> list[Index]:
    """Indices in an order that does not depend on the process."""
    found = list(indices)
    if len(found) > 1:
        found.sort(key=lambda i: (i.slot, graph.to_text(i.extent)))
    return found


def _times(factor: Factor, term: Node) -> Node | None:
    return term if factor is None else scale(factor, term)


def _count(parameters: frozenset[Input]) -> int | None:
    """How many numbers the parameters hold; None if that is known at run time only."""
    extents = [e for p in parameters for e in p.shape]
    if not all(isinstance(e, Const) for e in extents):
        return None
    return sum(
        prod(int(e.value) for e in p.shape if isinstance(e, Const)) for p in parameters
    )


def _parameters_below(
    order: Sequence[Node], wrt: Sequence[Input]
) -> dict[Node, frozenset[Input]]:
    """The parameters on which each node depends differentiably."""
    none = frozenset[Input]()
    below: dict[Node, frozenset[Input]] = {p: frozenset((p,)) for p in wrt}
    for node in order:
        if node.type != FLOAT or is_call(node, "stop_gradient"):
            continue
        found = below.get(node, none)
        for child in node.children:
            under = below.get(child, none)
            if child.type == FLOAT and under and not under <= found:
                found = found | under if found else under
        if found:
            below[node] = found
    return below


# --------------------------------------------------------------------------------------
# Which expressions need a pass over rows
# --------------------------------------------------------------------------------------


def is_long(indices: Iterable[Index]) -> bool:
    """Is one of the extents known at run time only?"""
    return any(not isinstance(i.extent, Const) for i in indices)


class _Rows:
    """Remembers which expressions contain a reduction over run-time many rows."""

    def __init__(self) -> None:
        self.known: dict[Node, bool] = {}

    def depends(self, root: Node) -> bool:
        """Does evaluating ``root`` need a reduction over rows?"""

        def unknown(node: Node) -> list[Node]:
            return [c for c in node.children if c not in self.known]

        if root not in self.known:
            for node in graph.walk(root, into=unknown):
                self.known[node] = self._long(node) or any(
                    self.known[c] for c in node.children
                )
        return self.known[root]

    @staticmethod
    def _long(node: Node) -> bool:
        if isinstance(node, Reduce):
            return is_long(node.indices)
        return isinstance(node, Scatter) and is_long(node.over)
