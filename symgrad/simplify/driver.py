"""Applying the stages: bottom-up, each node until no rule changes it.

inline arrays -> canonicalise -> stabilise -> specialise

Why this ends is argued in docs/decisions/0007-rewriting-engine.md and proved for the
table of rules in termination.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from symgrad import graph
from symgrad.errors import RewriteWarning, warn
from symgrad.graph import Array, Input, Load, Node, Reduce
from symgrad.simplify.candidates import Candidates
from symgrad.simplify.collect import Collector
from symgrad.simplify.contract import contract
from symgrad.simplify.match import replace
from symgrad.simplify.rule import EXACT, KINDS, REAL, Rule, Step
from symgrad.simplify.rules import STAGES
from symgrad.simplify.trace import Rewrite

_INLINED = "storing it would gain nothing"

REWRITES = 20
"""Rewrites per node of the graph and stage, on average, at which a stage gives up."""


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
    return Simplifier(kinds)(roots, stages)


class Simplifier:
    """Simplifies several graphs that share parts, and each part once.

    A gradient contains most of its loss: what the loss has become is remembered.
    varying: the inputs that change from call to call; None: any may.
    """

    def __init__(
        self,
        kinds: Iterable[str] = KINDS,
        varying: Collection[Input] | None = None,
    ) -> None:
        self.kinds, self.varying = frozenset(kinds), varying
        self.runs: dict[str, _Run] = {}

    def __call__(
        self, roots: Sequence[Node], stages: Iterable[str] = tuple(STAGES)
    ) -> Simplified:
        """See :func:`simplify`."""
        trace: list[Rewrite] = []
        result = inline_arrays(tuple(roots), trace)
        for stage in stages:
            if stage not in STAGES:
                raise ValueError(
                    f"simplify: no stage {stage!r}; there are {', '.join(STAGES)}"
                )
            if stage == "specialise" and REAL in self.kinds:
                result = self.collected(result, trace)
            result = self.run(stage, result, trace)
            if stage == "canonicalise" and REAL in self.kinds:
                found = contract(result, trace)
                result = found if found == result else self.run(stage, found, trace)
        return Simplified(result, tuple(trace))

    def run(
        self, stage: str, roots: tuple[Node, ...], trace: list[Rewrite]
    ) -> tuple[Node, ...]:
        """The rules of one stage."""
        run = self.runs.get(stage)
        if run is None:
            run = self.runs[stage] = _Run(stage, self.kinds)
        return run(roots, trace)

    def collected(
        self, roots: tuple[Node, ...], trace: list[Rewrite]
    ) -> tuple[Node, ...]:
        """Sums and products in their cheapest form; every step makes them cheaper."""
        before, again = roots, True
        while again:  # a sum made of several sums has terms to collect, too
            collector = Collector(roots, trace, self.varying)
            roots, again = collector.run(), collector.merged
        return roots if roots == before else self.run("canonicalise", roots, trace)


# --------------------------------------------------------------------------------------
# Rules
# --------------------------------------------------------------------------------------


def _candidates(stage: str, kinds: frozenset[str]) -> Candidates:
    """The rows of a stage, filed for finding; filed again if the table has changed."""
    rows, found = _filed.get((stage, kinds), (None, None))
    if found is None or rows is not STAGES[stage]:
        rows = STAGES[stage]
        found = Candidates([row for row in rows if row.kind in kinds])
        _filed[stage, kinds] = rows, found
    return found


_filed: dict[tuple[str, frozenset[str]], tuple[Sequence[Rule | Step], Candidates]] = {}


class _Run:
    """One stage over some graphs. ``done[v]`` is what v has become, for good."""

    def __init__(self, stage: str, kinds: frozenset[str]) -> None:
        self.stage, self.candidates = stage, _candidates(stage, kinds)
        self.trace: list[Rewrite] = []
        self.fuel = 0
        self.done: dict[Node, Node] = {}
        self.next: dict[Node, Node] = {}  # what a node was rewritten to, not yet done

    def __call__(
        self, roots: tuple[Node, ...], trace: list[Rewrite]
    ) -> tuple[Node, ...]:
        if not self.candidates.rows:
            return roots
        self.trace = trace
        order = graph.walk(roots)
        self.fuel = REWRITES * len(order)
        for node in order:
            if node not in self.done:
                self.settle(node)
        if self.fuel <= 0:
            warn(
                f"simplification stopped early in the stage {self.stage}: its rules do "
                "not come to an end on this formula, whose value is right nevertheless",
                RewriteWarning,
            )
        return tuple(self.done[root] for root in roots)

    def settle(self, start: Node) -> None:
        """``start`` with all of its parts, and then itself, rewritten."""
        done, pending = self.done, [start]
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
                pending.pop()
            elif successor in done:
                done[node] = done[successor]
                pending.pop()
            else:
                pending.append(successor)

    def successor(self, node: Node) -> Node:
        """The node with its parts as they became; or else what a rule makes of it."""
        found = self.next.get(node)
        if found is not None:
            return found
        done = self.done
        for child in node.children:
            if done[child] is not child:
                parts = tuple([done[c] for c in node.children])
                found = graph.rebuild(node, parts)
                break
        else:
            found = self.rewritten(node)
        if found is not node:
            self.next[node] = found
        return found

    def rewritten(self, node: Node) -> Node:
        """What the first row that changes ``node`` makes of it; or ``node``."""
        for row in self.candidates(node):
            step = isinstance(row, Step)
            after = row.apply(node) if step else replace(row, node)
            if after is None or after is node:
                continue
            if after in self.next and after not in self.done:
                self.fuel = 0  # a circle: the rules contradict each other
            if self.fuel <= 0:
                return node
            self.fuel -= 1
            self.trace.append(Rewrite(row.name, row.kind, node, after, row.reason))
            return after
        return node


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
        trace.append(Rewrite("inline-array", EXACT, node, after, _INLINED))
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
