"""Work that depends on the data only, moved out of the kernel: done once, at ``bind``.

Every largest part of the graph without a parameter is looked at. A sum over rows is
worth its few bytes at once. A value per row is worth its place if computing it costs
more than reading it; an array that nothing else reads then need not be read any more.
What does not pay as a whole is searched for parts that do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from symgrad import graph
from symgrad.graph import FLOAT, Call, Index, Input, Load, Node, Reduce
from symgrad.runtime.kernel import SECONDS_PER_COST
from symgrad.schedule import cost

HOISTED = "hoisted "
"""Names of the inputs that hold results, with a space, which no user's name has."""

WORTH_SECONDS = 20e-6
"""Less than this a call is not worth compiling a kernel for."""

SECONDS_PER_BYTE = 0.1e-9
"""Rough time of reading one byte of memory."""

TOTAL = 16
"""What has so many times fewer elements than an input is a sum over its rows, which
takes a pass over them."""

DEAR = 8.0
"""Values per row that cost less than this many units are not looked at."""


@dataclass(frozen=True)
class Hoisted:
    """Outputs that read ``sources[k]`` from the input ``inputs[k]``."""

    outputs: tuple[Node, ...]
    sources: tuple[Node, ...] = ()
    inputs: tuple[Input, ...] = ()

    def pairs(self) -> Iterator[tuple[Node, Input]]:
        """Each node with the input that holds its values."""
        return zip(self.sources, self.inputs, strict=True)


def hoist(
    outputs: Sequence[Node],
    data: Collection[str],
    lengths: Mapping[str, int],
    element_bytes: int = 8,
) -> Hoisted:
    """The same outputs, with the work on ``data`` that pays replaced by inputs.

    Args:
        outputs: closed nodes.
        data: names of the inputs that stay the same from call to call.
        lengths: of every run-time dimension.
        element_bytes: of one stored value.
    """
    split = _split_sums(outputs, _fixed_nodes(outputs, data))
    fixed = _fixed_nodes(split, data)
    chosen = _Choice(split, fixed, lengths, element_bytes).chosen()
    if not chosen:
        return Hoisted(tuple(outputs))
    inputs = {
        node: graph.input_(HOISTED + str(k), [i.extent for i in domain(node)])
        for k, node in enumerate(chosen)
    }
    replaced = _replace(split, inputs)
    return Hoisted(tuple(replaced), tuple(inputs), tuple(inputs.values()))


def domain(node: Node) -> tuple[Index, ...]:
    """The indices of the array that holds ``node``: run-time dimensions first."""
    dynamic = [i for i in node.free if cost.is_dynamic(i)]
    static = [i for i in node.free if not cost.is_dynamic(i)]
    return (*sorted(dynamic, key=_order), *sorted(static, key=_order))


def _order(i: Index) -> tuple[str, int]:
    return graph.to_text(i.extent), i.slot


def _fixed_nodes(outputs: Sequence[Node], data: Collection[str]) -> set[Node]:
    """Nodes that depend on data, and on nothing but data."""
    state: dict[Node, bool | None] = {}  # None: on neither
    for node in graph.walk(outputs):
        if isinstance(node, Input):
            state[node] = node.name in data
            continue
        seen = [state[c] for c in node.children]
        state[node] = False if False in seen else (True if True in seen else None)
    return {node for node, fixed in state.items() if fixed}


def _replace(outputs: Sequence[Node], inputs: Mapping[Node, Input]) -> list[Node]:
    done: dict[Node, Node] = {n: graph.load(i, domain(n)) for n, i in inputs.items()}

    def into(node: Node) -> tuple[Node, ...]:
        return () if node in inputs else node.children

    for node in graph.walk(outputs, into):
        if node not in done:
            done[node] = graph.rebuild(node, tuple(done[c] for c in node.children))
    return [done[root] for root in outputs]


# --------------------------------------------------------------------------------------
# Sums with terms that are fixed
# --------------------------------------------------------------------------------------


def _split_sums(outputs: Sequence[Node], fixed: set[Node]) -> list[Node]:
    """Sums over terms of which some are fixed and dear, as two sums.

    A likelihood's ``lgamma(y + 1)`` is then a number that is known before the descent.
    """
    done: dict[Node, Node] = {}
    for node in graph.walk(outputs):
        new = graph.rebuild(node, tuple(done[c] for c in node.children))
        if isinstance(node, Reduce) and node.kind == "sum" and node not in fixed:
            split = _split(node, fixed, done)
            new = new if split is None else split
        done[node] = new
    return [done[root] for root in outputs]


def _split(node: Reduce, fixed: set[Node], done: Mapping[Node, Node]) -> Node | None:
    terms = _terms(node.body)
    if len(terms) < 2:
        return None
    kept = [(sign, t) for sign, t in terms if t in fixed and _is_dear(t)]
    if not kept or len(kept) == len(terms):
        return None
    rest = [(sign, t) for sign, t in terms if not (t in fixed and _is_dear(t))]
    parts = (_signed_sum(part, done) for part in (rest, kept))
    moving, still = (graph.reduce_("sum", node.indices, part) for part in parts)
    return moving + still


def _is_dear(node: Node) -> bool:
    return cost.total_costs([node])[node] >= DEAR


def _terms(root: Node) -> list[tuple[int, Node]]:
    """The terms of a sum with their signs, from left to right."""
    found: list[tuple[int, Node]] = []
    pending = [(1, root)]
    while pending:
        sign, node = pending.pop()
        if isinstance(node, Call) and node.op in ("add", "sub"):
            second = -sign if node.op == "sub" else sign
            pending += [(second, node.args[1]), (sign, node.args[0])]
        elif isinstance(node, Call) and node.op == "neg":
            pending.append((-sign, node.args[0]))
        else:
            found.append((sign, node))
    return found


def _signed_sum(terms: Iterable[tuple[int, Node]], done: Mapping[Node, Node]) -> Node:
    total: Node | None = None
    for sign, term in terms:
        value = done[term]
        if total is None:
            total = value if sign > 0 else -value
        else:
            total = total + value if sign > 0 else total - value
    assert total is not None
    return total


# --------------------------------------------------------------------------------------
# What pays
# --------------------------------------------------------------------------------------


class _Choice:
    """Which fixed nodes are worth an array."""

    def __init__(
        self,
        outputs: Sequence[Node],
        fixed: set[Node],
        lengths: Mapping[str, int],
        element_bytes: int,
    ) -> None:
        self.outputs, self.fixed, self.lengths = outputs, fixed, lengths
        self.element_bytes = element_bytes
        self.work = self._work()
        self.refused: set[Node] = set()

    def chosen(self) -> list[Node]:
        """The nodes to compute at bind; none, if all together save too little.

        What does not pay is refused, and its parts are looked at instead.
        """
        while True:
            found = self._candidates()
            gains = self._gains(found)
            losing = [node for node in found if gains[node] <= 0]
            if not losing:
                return found if sum(gains.values()) >= WORTH_SECONDS else []
            self.refused.update(losing)

    def _work(self) -> dict[Node, float]:
        """Cost units to compute each fixed node for all values of its free indices;
        what needs fewer indices is computed for those only."""
        total: dict[Node, float] = {}
        for node in graph.walk(self.outputs):
            if node in self.fixed:
                inner = sum(total.get(c, 0.0) for c in node.children)
                own = cost.own_cost(node) * self._elements(node)
                total[node] = min(inner + own, cost.CAP)
        return total

    def _candidates(self) -> list[Node]:
        """The largest fixed nodes that may pay, and the largest parts of the others."""
        found: dict[Node, None] = {}

        def into(node: Node) -> tuple[Node, ...]:
            if self._may_pay(node):
                found[node] = None
                return ()
            return node.children

        graph.walk(self.outputs, into)
        return list(found)

    def _may_pay(self, node: Node) -> bool:
        if node not in self.fixed or node in self.refused or node.type != FLOAT:
            return False
        if not isinstance(node, (Call, Reduce, Load)) or _is_plain(node):
            return False
        elements = self._elements(node)
        if self.work[node] < DEAR * elements:
            return False
        return elements <= max(self._input_elements(node), default=0)

    def _input_elements(self, node: Node) -> Iterable[int]:
        for part in graph.walk(node):
            if isinstance(part, Input):
                yield self._product(part.shape)

    def _elements(self, node: Node) -> int:
        return self._product([i.extent for i in node.free])

    def _product(self, extents: Iterable[Node]) -> int:
        total = 1
        for extent in extents:
            total *= max(0, cost.length(extent, self.lengths))
        return total

    def _gains(self, found: Sequence[Node]) -> dict[Node, float]:
        """Seconds saved a call by each, if all of them are hoisted.

        An array that is then read by nobody is credited to the first that reads it now.
        """
        chosen = set(found)

        def into(node: Node) -> tuple[Node, ...]:
            return () if node in chosen else node.children

        credited = set(graph.walk(self.outputs, into))
        gains: dict[Node, float] = {}
        for node in found:
            elements = self._elements(node)
            moved = float(elements)
            for part in graph.walk(node):
                if not isinstance(part, Input):
                    continue
                size = self._product(part.shape)
                if part not in credited or size > TOTAL * elements:
                    moved -= size  # not read any more, or not in a pass of its own
                credited.add(part)
            saved = self.work[node] * SECONDS_PER_COST
            seconds = self.element_bytes * SECONDS_PER_BYTE
            gains[node] = saved - moved * seconds
        return gains


def _is_plain(node: Node) -> bool:
    """An element of an input as it is: nothing to compute."""
    return isinstance(node, Load) and isinstance(node.array, Input)


def array_of(node: Node) -> Node:
    """What a kernel computes to fill the input of a hoisted node."""
    own = domain(node)
    return graph.array(own, node) if own else node
