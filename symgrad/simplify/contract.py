"""Sums of products of several tensors, in the order of fewest operations.

``A @ B @ v`` is read from the left, ``sum_j v_j sum_k A_ik B_kj``, but costs least from
the right. A sum over indices whose body is a product with other such sums is taken
apart into one sum over all indices of one product of factors, and put together by the
cheapest tree of pairwise contractions, which dynamic programming over the subsets of
the factors finds. (Lam, Sadayappan & Wenger, Parallel Process. Lett. 7 (1997) 157.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import FLOAT, Call, Index, Node, Reduce
from symgrad.simplify import cost
from symgrad.simplify.rule import REAL
from symgrad.simplify.trace import Rewrite

FACTORS = 6
"""Products of more factors than this stay as they are: 3**n ways are looked at."""

GAIN = 0.75
"""The cost must fall at least to this share: estimates are rough."""

_FRESH = 1000  # slots from here on name the indices of sums that are taken apart

_WHY = "matrices multiplied in the order of fewest operations"


class _Network(NamedTuple):
    """``sum over bound of prod(factors)``.

    Factors come with the new names of the indices that inner sums had bound.
    """

    bound: tuple[Index, ...]
    factors: tuple[tuple[Node, dict[Index, Index]], ...]
    opened: tuple[Reduce, ...]


def contract(roots: Sequence[Node], trace: list[Rewrite]) -> tuple[Node, ...]:
    """The roots with every product of tensors in its cheapest order."""
    order = graph.walk(roots)
    networks = _networks(order, roots)
    if not networks:
        return tuple(roots)
    done: dict[Node, Node] = {}
    for node in order:
        new = graph.rebuild(node, tuple(done[c] for c in node.children))
        if node in networks:
            better = _cheapest(node, networks[node], done)
            if better is not None:
                trace.append(Rewrite("order-contraction", REAL, new, better, _WHY))
                new = better
        done[node] = new
    return tuple(done[root] for root in roots)


def _is_sum(node: Node) -> bool:
    return isinstance(node, Reduce) and node.kind == "sum" and node.type == FLOAT


def _networks(order: Sequence[Node], roots: Sequence[Node]) -> dict[Node, _Network]:
    """The outermost sums with sums among their factors, taken apart."""
    if sum(map(_is_sum, order)) < 2:
        return {}
    uses = Counter[Node](c for n in order for c in n.children)
    uses.update(roots)
    found: dict[Node, _Network] = {}
    inner: set[Node] = set()
    for node in reversed(order):
        if isinstance(node, Reduce) and _is_sum(node) and node not in inner:
            network = _taken_apart(node, uses)
            if network is not None:
                found[node] = network
                inner.update(network.opened)
    return found


def _taken_apart(root: Reduce, uses: Counter[Node]) -> _Network | None:
    """The factors of a sum and of the sums among them; None if there is nothing to
    choose."""
    bound, opened = list(root.indices), list[Reduce]()
    factors: list[tuple[Node, dict[Index, Index]]] = []
    pending: list[tuple[Node, dict[Index, Index]]] = [(root.body, {})]
    while pending:
        node, names = pending.pop()
        once = uses[node] == 1
        if once and isinstance(node, Call) and node.op == "mul":
            pending += [(a, names) for a in reversed(node.args)]
        elif once and isinstance(node, Reduce) and _is_sum(node):
            fresh = {
                i: graph.index(i.extent, _FRESH + len(bound) + k)
                for k, i in enumerate(node.indices)
            }
            bound += fresh.values()
            opened.append(node)
            pending.append((node.body, {**names, **fresh}))
        else:
            factors.append((node, names))
    if not opened or not 3 <= len(factors) <= FACTORS:
        return None
    return _Network(tuple(bound), tuple(factors), tuple(opened))


def _cheapest(root: Node, network: _Network, done: dict[Node, Node]) -> Node | None:
    """The sum by its cheapest tree, if that gains enough."""
    assert isinstance(root, Reduce)
    sums = (root, *network.opened)
    now = sum(cost.times({*s.free, *s.indices}) for s in sums)
    factors = [graph.substitute(done[f], names) for f, names in network.factors]
    tree = _Tree(factors, root.free)
    if not set(network.bound) <= tree.indices or tree.cost > GAIN * now:
        return None
    return tree.build()


class _Tree:
    """The cheapest tree of pairwise contractions of some factors.

    A subset of the factors is a number, bit k for factor k. ``cost``: multiplications.
    """

    def __init__(self, factors: Sequence[Node], kept: frozenset[Index]) -> None:
        self.factors, self.kept = factors, kept
        self.free = [f.free for f in factors]
        self.indices = frozenset[Index]().union(*self.free)
        self.whole = (1 << len(factors)) - 1
        self.best: dict[int, tuple[float, int]] = {}
        for subset in range(1, self.whole + 1):
            self.best[subset] = min(self.ways(subset))
        self.cost = self.best[self.whole][0]

    def inside(self, subset: int) -> frozenset[Index]:
        """The indices of a subset of the factors."""
        return frozenset[Index]().union(
            *(free for k, free in enumerate(self.free) if subset >> k & 1)
        )

    def left(self, subset: int) -> frozenset[Index]:
        """The indices that a subset still has when it has been summed."""
        others = self.inside(self.whole & ~subset)
        return self.inside(subset) & (others | self.kept)

    def ways(self, subset: int) -> list[tuple[float, int]]:
        """The cost of each way to part a subset in two; of a single factor, to sum."""
        if subset & (subset - 1) == 0:
            mine = self.inside(subset)
            return [(cost.times(mine) if self.left(subset) != mine else 0.0, 0)]
        found: list[tuple[float, int]] = []
        part = (subset - 1) & subset
        while part:
            other = subset & ~part
            if part > other:
                both = self.left(part) | self.left(other)
                price = self.best[part][0] + self.best[other][0] + cost.times(both)
                found.append((price, part))
            part = (part - 1) & subset
        return found

    def build(self, subset: int | None = None) -> Node:
        """The sum; recursion is on the number of factors."""
        subset = self.whole if subset is None else subset
        part = self.best[subset][1]
        if not part:
            product = self.factors[subset.bit_length() - 1]
        else:
            product = self.build(part) * self.build(subset & ~part)
        over = product.free - self.left(subset)
        return graph.reduce_("sum", sorted(over, key=_place), product)


def _place(i: Index) -> tuple[int, str]:
    return i.slot, graph.to_text(i.extent)
