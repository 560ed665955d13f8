"""Applying the stages: bottom-up, each node until no rule changes it.

inline arrays -> canonicalise -> stabilise -> specialise
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from symgrad import graph
from symgrad.graph import Array, Load, Node, Reduce
from symgrad.simplify.match import fill, matches, needed, traits
from symgrad.simplify.rule import EVERYWHERE, KINDS, Rule, Step, head
from symgrad.simplify.rules import STAGES

_REWRITES = 20  # per node of the graph and stage, on average; a bound against cycles


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One thing that was done: a node, and what took its place."""

    rule: str
    kind: str
    before: Node
    after: Node

    def __str__(self) -> str:
        return f"{self.rule}: {self.before} -> {self.after}"


@dataclass(frozen=True, slots=True)
class Simplified:
    """The roots as they became, and every rewrite on the way, in order."""

    roots: tuple[Node, ...]
    trace: tuple[Rewrite, ...]


def simplify(
    roots: Sequence[Node],
    stages: Iterable[str] = tuple(STAGES),
    kinds: Iterable[str] = KINDS,
) -> Simplified:
    """Apply the named stages, in the order given, with rules of the given kinds.

    Before differentiation, canonicalise and stabilise are enough: specialise hides
    structure that derivatives can use. Raises ValueError for an unknown stage.
    """
    trace: list[Rewrite] = []
    result, allowed = tuple(roots), frozenset(kinds)
    for name, run in _passes(stages, allowed):
        if name not in ("inline arrays", *STAGES):
            raise ValueError(
                f"simplify: no stage {name!r}; there are {', '.join(STAGES)}"
            )
        result = run(result, trace)
    return Simplified(result, tuple(trace))


_Pass = Callable[[tuple[Node, ...], list[Rewrite]], tuple[Node, ...]]


def _passes(stages: Iterable[str], kinds: frozenset[str]) -> list[tuple[str, _Pass]]:
    """The passes by name, in order."""
    passes: list[tuple[str, _Pass]] = [("inline arrays", inline_arrays)]
    for stage in stages:
        rows = [r for r in STAGES.get(stage, ()) if r.kind in kinds]
        passes.append((stage, _Stage(rows)))
    return passes


# --------------------------------------------------------------------------------------
# Rules
# --------------------------------------------------------------------------------------


class _Stage:
    """A set of rules, filed by what they apply to."""

    def __init__(self, rows: Sequence[Rule | Step]) -> None:
        general = [r for r in rows if isinstance(r, Step) and r.heads == EVERYWHERE]
        self.general = [(frozenset[object](), row) for row in general]
        self.rows: dict[str | None, list[tuple[frozenset[object], Rule | Step]]] = {}
        for row in rows:
            rule = isinstance(row, Rule)
            for name in (head(row.lhs),) if rule else row.heads:
                filed = self.rows.setdefault(name, list(self.general))
                filed.append((needed(row) if rule else frozenset(), row))

    def __call__(
        self, roots: tuple[Node, ...], trace: list[Rewrite]
    ) -> tuple[Node, ...]:
        if not self.rows:
            return roots
        run = _Run(self, trace, _REWRITES * len(graph.walk(roots)))
        return tuple(run.normal(root) for root in roots)

    def rewrite(self, node: Node) -> tuple[Rule | Step, Node] | None:
        """The first row that changes ``node``, and what it makes of it."""
        seen = traits(node)
        for must_have, row in self.rows.get(head(node), self.general):
            if not must_have <= seen:
                continue
            after = row.apply(node) if isinstance(row, Step) else _replace(row, node)
            if after is not None and after is not node:
                return row, after
        return None


def _replace(rule: Rule, node: Node) -> Node | None:
    for bindings in matches(rule.lhs, node, {}):
        if rule.guard is None or rule.guard.holds(bindings):
            return fill(rule.rhs, bindings)
    return None


class _Run:
    """One walk over a graph. ``done[v]`` is what v has become, for good."""

    def __init__(self, stage: _Stage, trace: list[Rewrite], fuel: int) -> None:
        self.stage, self.trace, self.fuel = stage, trace, fuel
        self.done: dict[Node, Node] = {}
        self.next: dict[Node, Node] = {}  # what a node was rewritten to, not yet done

    def normal(self, root: Node) -> Node:
        """``root`` with all of its parts, and then itself, rewritten."""
        done, pending = self.done, [root]
        while pending:
            node = pending[-1]
            if node in done:
                pending.pop()
                continue
            missing = [c for c in node.children if c not in done]
            if missing:
                pending.extend(missing)
                continue
            successor = self.successor(node)
            if successor is node:
                done[node] = node
            elif successor in done:
                done[node] = done[successor]
            else:
                pending.append(successor)
        return done[root]

    def successor(self, node: Node) -> Node:
        """The node with its parts as they became; or else what a rule makes of it."""
        if node in self.next:
            return self.next[node]
        rebuilt = graph.rebuild(node, tuple(self.done[c] for c in node.children))
        if rebuilt is node and self.fuel > 0:
            found = self.stage.rewrite(node)
            if found is not None and found[1] not in self.next:
                row, rebuilt = found
                self.fuel -= 1
                self.trace.append(Rewrite(row.name, row.kind, node, rebuilt))
        if rebuilt is not node:
            self.next[node] = rebuilt
        return rebuilt


# --------------------------------------------------------------------------------------
# Arrays
# --------------------------------------------------------------------------------------


def inline_arrays(roots: tuple[Node, ...], trace: list[Rewrite]) -> tuple[Node, ...]:
    """Replace loads of a computed array by its body, where storing gains nothing.

    That is where every use of the array in the graph reads its own indices, in order,
    and the body has no reduction in it, or is a constant.
    """
    inlined = _inlined(roots)
    if not inlined:
        return roots

    def inline(node: Node) -> Node:
        if not isinstance(node, Load) or not isinstance(node.array, Array):
            return node
        if node.array not in inlined_now:
            return node
        after = graph.substitute(
            node.array.body, dict(zip(node.array.indices, node.indices, strict=True))
        )
        trace.append(Rewrite("inline-array", "exact", node, after))
        return after

    # Inner arrays change outer ones, so that these are other nodes when they are met.
    inlined_now: set[Node] = set(inlined)
    memo: dict[Node, Node] = {}
    for node in graph.walk(roots):
        memo[node] = inline(graph.rebuild(node, tuple(memo[c] for c in node.children)))
        if node in inlined:
            inlined_now.add(memo[node])
    return tuple(memo[root] for root in roots)


def _inlined(roots: Sequence[Node]) -> set[Array]:
    order = graph.walk(roots)
    reduces = _contain_reductions(order)
    found = {n for n in order if isinstance(n, Array) and not reduces[n]}
    for node in order:
        if isinstance(node, Load) and isinstance(node.array, Array):
            constant = not node.array.body.children
            if node.indices != node.array.indices and not constant:
                found.discard(node.array)
    return found


def _contain_reductions(order: Sequence[Node]) -> Mapping[Node, bool]:
    found: dict[Node, bool] = {}
    for node in order:
        inner = any(found[c] for c in node.children)
        found[node] = inner or isinstance(node, Reduce)
    return found
