"""Fuse statements into loops, with as few loops over rows as the data flow allows.

Two statements may share a loop over ``i`` if the later one needs the earlier one at the
same ``i`` only: then the earlier has ``i`` in its domain. A value summed over ``i``, or
read as a whole array, is complete only after the loop: its users open another one,
which is another pass. A value that two passes need is computed in both, if that costs
less than to write it to memory and read it again; else it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from symgrad import graph
from symgrad.graph import Index, Input, Load, Node
from symgrad.schedule import cost
from symgrad.schedule.statements import Statement, Statements

KEPT_TURNS = 512
"""Values of an inner loop that are kept (a block of rows of each) for a later loop."""


@dataclass(eq=False)
class Loop:
    """``for index``: the items in order, one turn each."""

    index: Index
    items: list[Item] = field(default_factory=list)

    def statements(self) -> list[Statement]:
        """All statements inside, in order."""
        return statements_in(self.items)


Item = Statement | Loop


def statements_in(items: Iterable[Item]) -> list[Statement]:
    """The statements of ``items`` and of the loops among them, in order."""
    found: list[Statement] = []
    stack = list(items)[::-1]
    while stack:
        item = stack.pop()
        if isinstance(item, Loop):
            stack.extend(item.items[::-1])
        else:
            found.append(item)
    return found


class Nester:
    """Builds the loop nests of one set of statements.

    hints: run-time lengths as far as known, to tell rows from other dimensions.
    """

    def __init__(self, statements: Statements, hints: Mapping[str, int]) -> None:
        self.statements, self.hints = statements.ordered, hints
        self.places = statements.of
        self.weight = _led_elements(statements.ordered, hints)
        self.users: dict[Statement, list[Statement]] = {}
        for statement in statements.ordered:
            for other in statement.needed:
                self.users.setdefault(other, []).append(statement)
        self.outer = self._outer_votes()
        self.priorities: dict[Index, tuple[bool, int, float, int, int]] = {}

    def build(self) -> list[Item]:
        """The loop nests, in the order in which they run."""
        return self._nest(self.statements, frozenset(), set())

    def priority(self, i: Index) -> tuple[bool, int, float, int, int]:
        """Higher is further out: what sums are kept for, then the rows of most data."""
        found = self.priorities.get(i)
        if found is None:
            size = cost.length(i.extent, self.hints)
            weight = self.weight.get(i, 0.0)
            found = (cost.is_dynamic(i), self.outer.get(i, 0), weight, size, -i.slot)
            self.priorities[i] = found
        return found

    def _outer_votes(self) -> dict[Index, int]:
        """For each run-time index: sums that are complete inside one turn of it, minus
        sums over it that other values wait for. Many waits mean many passes."""
        votes: dict[Index, int] = {}
        for s in self.statements:
            waited_for = any(u.kind != "output" for u in self.users.get(s, ()))
            inner = [i for i in s.bound if cost.is_dynamic(i)]
            outer = [i for i in s.domain if cost.is_dynamic(i)]
            if s.kind == "reduce" and waited_for and inner and outer:
                for i in outer:
                    votes[i] = votes.get(i, 0) + 1
                for i in inner:
                    votes[i] = votes.get(i, 0) - 1
        return votes

    def _nest(
        self, pending: list[Statement], open_: frozenset[Index], done: set[Statement]
    ) -> list[Item]:
        """``pending`` in loops inside the ``open_`` ones; ``done`` is complete."""
        items: list[Item] = []
        waiting = list(pending)
        own = set(pending)
        while waiting:
            waiting = self._emit_ready(waiting, own, open_, done, items)
            if not waiting:
                break
            chosen, group = self._open(waiting, own, open_, done)
            items.append(Loop(chosen, self._nest(group, open_ | {chosen}, set())))
            done.update(group)
            members = set(group)
            waiting = [s for s in waiting if s not in members]
        return items

    def _open(
        self,
        waiting: list[Statement],
        own: set[Statement],
        open_: frozenset[Index],
        done: set[Statement],
    ) -> tuple[Index, list[Statement]]:
        """The next loop and what goes into it: small loops first, so that a pass over
        the rows takes along all that can be."""
        ready = [s for s in waiting if self._ready(s, own, done)]
        candidates = dict.fromkeys(self._outer(s, open_) for s in ready)
        ordered = sorted(candidates, key=self.priority)
        for chosen in ordered:
            group = self._fusable(waiting, own, chosen, done, open_)
            useful = self._without_early(group, chosen, open_)
            if useful:
                break
        else:
            chosen = ordered[0]
            useful = self._fusable(waiting, own, chosen, done, open_)
        if not open_ and cost.is_dynamic(chosen):
            useful = self._with_recomputed(useful, chosen, done)
        return chosen, useful

    def _emit_ready(
        self,
        waiting: list[Statement],
        own: set[Statement],
        open_: frozenset[Index],
        done: set[Statement],
        items: list[Item],
    ) -> list[Statement]:
        """Append statements that need no further loop; they come in order of need."""
        rest: list[Statement] = []
        for s in waiting:
            if s.loops <= open_ and self._ready(s, own, done):
                items.append(s)
                done.add(s)
            else:
                rest.append(s)
        return rest

    def _ready(self, s: Statement, own: set[Statement], done: set[Statement]) -> bool:
        return all(o in done or o not in own for o in s.needed)

    def _outer(self, s: Statement, open_: frozenset[Index]) -> Index:
        """The outermost of the remaining loops of ``s``: rows, then its domain (so that
        sums stay in registers), then what it sums over."""
        if len(s.loops) == 1:
            (only,) = s.loops
            return only
        rest = s.loops - open_
        dynamic = [i for i in rest if cost.is_dynamic(i)]
        if dynamic and not open_:
            return max(dynamic, key=self.priority)
        domain = [i for i in s.domain if i in rest]
        return max(domain or rest, key=self.priority)

    def _belongs_to_rows(self, s: Statement, x: Index) -> bool:
        """Whether ``s`` needs a loop over rows, other than ``x``, to be outermost: rows
        inside a loop over parameters would be stored for all parameters."""
        if not s.loops:
            return False
        outer = self._outer(s, frozenset())
        return cost.is_dynamic(outer) and outer is not x

    def _fusable(
        self,
        waiting: list[Statement],
        own: set[Statement],
        x: Index,
        done: set[Statement],
        open_: frozenset[Index],
    ) -> list[Statement]:
        """All of ``waiting`` that can share one loop over ``x``."""
        group: dict[Statement, None] = {}
        for s in waiting:
            if x not in s.loops or (not open_ and self._belongs_to_rows(s, x)):
                continue
            if open_ and self._better_apart(s, x, open_):
                continue
            here = all(
                o in done or o not in own or (o in group and x in o.domain)
                for o in s.pointwise
            ) and all(
                o in done or o not in own or (o in group and x in o.loops)
                for o in s.running
            )
            if here and all(o in done or o not in own for o in s.whole):
                group[s] = None
        return list(group)

    def _better_apart(self, s: Statement, x: Index, open_: frozenset[Index]) -> bool:
        """Whether a sum over ``x`` should have a loop of its own, its elements outside:
        in a loop shared with what it sums, every turn updates all its elements in
        memory. What it sums is then kept for all ``x``, which must be few."""
        elements = [i for i in s.domain if i not in open_]
        return (
            s.kind == "reduce"
            and x in s.bound
            and bool(elements)
            and cost.length(x.extent, self.hints) <= KEPT_TURNS
        )

    def _without_early(
        self, group: list[Statement], x: Index, open_: frozenset[Index]
    ) -> list[Statement]:
        """Leave values that only a later loop over ``x`` uses to that loop; rows that
        use them come in a loop of their own, for which they must be there."""
        kept: set[Statement] = set()
        for s in reversed(group):
            per_turn = x in s.domain and s.kind in ("let", "reduce")
            per_turn = per_turn and open_.isdisjoint(s.bound)
            users = self.users.get(s, ())
            rows = not open_ and any(self._belongs_to_rows(u, x) for u in users)
            if not per_turn or rows or any(u in kept for u in users):
                kept.add(s)
        return [s for s in group if s in kept]

    def _with_recomputed(
        self, group: list[Statement], x: Index, done: set[Statement]
    ) -> list[Statement]:
        """Add cheap values of earlier passes that this one needs at the same ``x``."""
        extra: dict[Statement, None] = {}
        read = {array for s in group for array in self._reads(s, x)}
        for s in group:
            for other in self._repeatable(s, x, done, read):
                extra[other] = None
        wanted = {*extra, *group}
        return [s for s in self.statements if s in wanted]

    def _repeatable(
        self, s: Statement, x: Index, done: set[Statement], read: Iterable[Input]
    ) -> list[Statement]:
        """Statements of earlier passes over ``x`` that ``s`` had better have again."""
        found: list[Statement] = []
        for other in s.pointwise:
            if other in done and x in other.domain:
                chain = self._chain(other, x, read)
                if chain is not None:
                    found.extend(chain)
        return found

    def _chain(
        self, s: Statement, x: Index, read: Iterable[Input]
    ) -> list[Statement] | None:
        """``s`` and what it needs at ``x``, if computing all of it again is cheaper
        than to store ``s``. read: inputs that the pass reads anyway."""
        stored = 1
        for i in s.domain:
            if i is not x:
                stored *= max(1, cost.length(i.extent, self.hints))
        chain: dict[Statement, None] = {}
        near = set(read)
        stack, total = [s], 0.0
        while stack:
            top = stack.pop()
            if top in chain:
                continue
            chain[top] = None
            total += top.cost * _turns(top, x, self.hints)
            for array, elements in self._reads(top, x).items():
                if array not in near:
                    near.add(array)
                    total += cost.STREAM_COST * elements
            if total > cost.STORE_COST * stored and not s.unsettled:
                return None
            stack.extend(o for o in top.pointwise if x in o.domain)
        return list(chain)

    def _reads(self, s: Statement, x: Index) -> dict[Input, int]:
        """The inputs that ``s`` itself reads at ``x``, with elements per turn."""
        places = self.places

        def into(node: Node) -> tuple[Node, ...]:
            return () if node in places and node is not s.node else node.children

        found: dict[Input, int] = {}
        for node in graph.walk(s.expressions, into):
            if not isinstance(node, Load) or not isinstance(node.array, Input):
                continue
            if x in node.free:
                elements = 1
                for i in node.free - {x}:
                    elements *= max(1, cost.length(i.extent, self.hints))
                found[node.array] = max(elements, found.get(node.array, 0))
        return found


def _turns(s: Statement, x: Index, hints: Mapping[str, int]) -> int:
    """How often ``s`` is evaluated in one turn of the loop over ``x``."""
    turns = 1
    for i in s.loops:
        if i is not x:
            turns *= max(1, cost.length(i.extent, hints))
    return turns


def _led_elements(
    statements: Iterable[Statement], hints: Mapping[str, int]
) -> dict[Index, float]:
    """Per index: elements of the inputs whose leading axis it runs over."""
    weight: dict[Index, float] = {}
    seen: set[tuple[Input, Index]] = set()
    roots = [e for s in statements for e in s.expressions]
    for node in graph.walk(roots):
        if isinstance(node, Load) and isinstance(node.array, Input) and node.indices:
            first = next(
                (n for n in graph.walk(node.indices[0]) if isinstance(n, Index)), None
            )
            if first is None or (node.array, first) in seen:
                continue
            seen.add((node.array, first))
            elements = 1.0
            for extent in node.array.shape:
                elements *= max(1, cost.length(extent, hints))
            weight[first] = weight.get(first, 0.0) + elements
    return weight
