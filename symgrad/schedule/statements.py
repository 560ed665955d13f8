"""Choose the values that get a place of their own: statements.

Every reduction, stored array and output is one. So is an expensive expression that two
statements share, or that a statement would evaluate again and again in a loop that does
not change it. Everything else is evaluated in place, inside the statement that uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from symgrad import graph
from symgrad.graph import Array, Call, Const, Index, Load, Node, Reduce, Scatter
from symgrad.schedule import cost
from symgrad.schedule.streaming import is_running, stream_of, term_of

SHARED_COST = 8.0
"""A shared expression at least this costly is computed once and kept."""

READ_COST = 1.0
"""Of another statement's value."""

REPEATED_COST = 4.0
"""An expression this costly is not evaluated again in loops that leave it alone."""


@dataclass(eq=False)
class Statement:
    """One value with a place of its own.

    node: what it computes: an expression, Reduce, Array or Scatter; of an output, the
        expression that is stored.
    kind: "let", "reduce", "array", "scatter" or "output".
    domain: indices of the place; bound: indices summed over; value: what is evaluated
        for each of them; targets: element written (arrays, scatters, outputs).
    pointwise, whole: what is read, at the same indices or as an array. running: the
        extrema of the rows so far that are read. stream: the extremum that a sum is
        relative to, and the degree (streaming.py).
    """

    node: Node
    kind: str
    domain: tuple[Index, ...]
    bound: tuple[Index, ...]
    value: Node
    targets: tuple[Node, ...] = ()
    output: int | None = None
    pointwise: list[Statement] = field(default_factory=list)
    whole: list[Statement] = field(default_factory=list)
    running: list[Statement] = field(default_factory=list)
    stream: tuple[Statement, int] | None = None
    unsettled: bool = False  # relative to the rows so far: no other pass can read it
    cost: float = 0.0  # cycles of one turn, other statements' values given

    @property
    def loops(self) -> frozenset[Index]:
        """All indices that must be open for the value to be evaluated."""
        return frozenset(self.domain) | frozenset(self.bound)

    @property
    def expressions(self) -> tuple[Node, ...]:
        """What is evaluated in each turn."""
        return (self.value, *self.targets)

    @property
    def accumulates(self) -> bool:
        """Whether its place is updated over and over."""
        return self.kind in ("reduce", "scatter")

    @property
    def needed(self) -> list[Statement]:
        """All statements whose values it reads."""
        return [*self.pointwise, *self.whole, *self.running]

    def __repr__(self) -> str:
        return f"<{self.kind} {graph.to_text(self.node, 60)}>"


def evaluated(s: Statement, of: Mapping[Node, Statement]) -> list[Node]:
    """The nodes that are evaluated for ``s``, the values of other statements given."""
    roots = s.node.children if s.kind == "let" else s.expressions
    nodes = graph.walk(roots, lambda n: () if n in of else n.children)
    return [n for n in nodes if n not in of]


def shift(i: Node, row: Index) -> int | None:
    """c of the index ``row + c``; None for other indices."""
    if i is row:
        return 0
    if isinstance(i, Call) and i.op == "add" and i.args[0] is row:
        c = i.args[1]
        return int(c.value) if isinstance(c, Const) else None
    return None


@dataclass
class Statements:
    """All statements, each after those it needs, and by the node they compute."""

    ordered: list[Statement]
    of: dict[Node, Statement]


def choose_statements(
    outputs: Sequence[Node], hints: Mapping[str, int] | None = None
) -> Statements:
    """The statements that compute ``outputs``: closed scalars and arrays."""
    places: dict[Node, Statement] = {}
    heads = [_output(k, node) for k, node in enumerate(outputs)]
    costs = _costs_given([e for head in heads for e in head.expressions])
    _mark_places(heads, places, costs)
    return _in_order(heads, places)


def _output(number: int, node: Node) -> Statement:
    """An output; an array is stored element by element at its own indices."""
    if isinstance(node, Array):
        own = node.indices
        targets = tuple(_axis(i) for i in own)
        loops = tuple(i for i in own if _axis(i) is i)
        return Statement(node.body, "output", loops, (), node.body, targets, number)
    if isinstance(node, Scatter):
        own = graph.canonical_indices(node.shape)
        targets = tuple(_axis(i) for i in own)
        loops = tuple(i for i in own if _axis(i) is i)
        value = graph.load(node, targets)
        return Statement(value, "output", loops, (), value, targets, number)
    return Statement(node, "output", (), (), node, (), number)


def _axis(i: Index) -> Node:
    """An axis of length one is read and written at 0: no loop."""
    one = isinstance(i.extent, Const) and i.extent.value == 1
    return graph.const(0) if one else i


def _statement(node: Node) -> Statement:
    if isinstance(node, Reduce):
        term = term_of(node)
        return Statement(node, "reduce", _sorted(node.free), node.indices, term)
    if isinstance(node, Array):
        targets = tuple(_axis(i) for i in node.indices)
        loops = tuple(i for i in node.indices if _axis(i) is i)
        return Statement(node, "array", loops, (), node.body, targets)
    if isinstance(node, Scatter):
        return Statement(node, "scatter", (), node.over, node.value, node.targets)
    return Statement(node, "let", _sorted(node.free), (), node)


def _sorted(indices: frozenset[Index]) -> tuple[Index, ...]:
    return tuple(sorted(indices, key=lambda i: (graph.to_text(i.extent), i.slot)))


def _mark_places(
    heads: list[Statement], places: dict[Node, Statement], costs: dict[Node, float]
) -> None:
    """Decide which nodes are statements, users before what they use."""
    roots = [e for head in heads for e in head.expressions]
    users: dict[Node, set[Statement]] = {}
    for head in heads:
        for e in head.expressions:
            users.setdefault(e, set()).add(head)
    for node in reversed(graph.walk(roots)):
        owners = users.get(node, set())
        if _needs_place(node, owners, costs):
            place = places[node] = _statement(node)
            owners = {place}
            inner = place.expressions if place.kind != "let" else node.children
        else:
            inner = node.children
        if len(owners) > 2:
            owners = set(list(owners)[:2])  # two are enough to know that it is shared
        for child in inner:
            users.setdefault(child, set()).update(owners)


def _costs_given(roots: Sequence[Node]) -> dict[Node, float]:
    """Cost of every node in one turn of its loops, other statements' values given:
    those of sums and arrays, and what some of the loops leave alone."""
    costs: dict[Node, float] = {}
    for node in graph.walk(roots):
        total = cost.own_cost(node)
        for child in node.children:
            total += READ_COST if _is_given(child, node, costs) else costs[child]
        costs[node] = min(total, cost.CAP)
    return costs


def _is_given(child: Node, user: Node, costs: dict[Node, float]) -> bool:
    if isinstance(child, (Reduce, Array, Scatter)):
        return True
    repeated = isinstance(child, Call) and costs[child] >= REPEATED_COST
    return repeated and child.type == graph.FLOAT and child.free < user.free


def _needs_place(node: Node, owners: set[Statement], costs: dict[Node, float]) -> bool:
    if isinstance(node, (Reduce, Array, Scatter)):
        return True
    if not isinstance(node, (Call, Load)) or node.type != graph.FLOAT:
        return False
    if is_running(node):
        return False
    if len(owners) > 1 and costs[node] >= SHARED_COST:
        return True
    own = cost.own_cost(node)
    if len(owners) > 1 and own >= SHARED_COST / 2:
        return True
    repeated = costs[node] if isinstance(node, Call) else own
    if repeated < REPEATED_COST:
        return False
    return any(node.free < owner.loops for owner in owners)


def _in_order(heads: list[Statement], places: dict[Node, Statement]) -> Statements:
    """Link each statement to those it needs, and sort: needed ones first."""
    ordered: list[Statement] = []
    seen: set[Statement] = set()
    for head in heads:
        stack = [(head, iter(_link(head, places)))]
        seen.add(head)
        while stack:
            statement, rest = stack[-1]
            for other in rest:
                if other not in seen:
                    seen.add(other)
                    stack.append((other, iter(_link(other, places))))
                    break
            else:
                stack.pop()
                ordered.append(statement)
    for statement in ordered:
        below = any(s.unsettled for s in statement.pointwise)
        relative = bool(statement.running) or below
        statement.unsettled = statement.kind == "let" and relative
    return Statements(ordered, places)


def _link(statement: Statement, places: dict[Node, Statement]) -> list[Statement]:
    """Record what ``statement`` uses, pointwise or as a whole array; called once."""
    is_let = statement.kind == "let"
    roots = statement.node.children if is_let else statement.expressions

    def into(node: Node) -> tuple[Node, ...]:
        return () if node in places or is_running(node) else node.children

    stream = stream_of(statement.node)
    if stream is not None:
        statement.stream = places[stream.top], stream.degree
    for node in graph.walk(roots, into):
        if is_running(node):
            statement.running.append(places[node.children[0]])
        elif node in places:
            whole = isinstance(node, (Array, Scatter))
            (statement.whole if whole else statement.pointwise).append(places[node])
        else:
            statement.cost += cost.own_cost(node)
    if is_let:
        statement.cost += cost.own_cost(statement.node)
    return statement.needed
