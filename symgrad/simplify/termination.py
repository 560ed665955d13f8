"""Why rewriting ends: a measure that every rule makes smaller.

The measure of an expression is a number: of an operation, a constant plus a positive
multiple of the measures of its arguments (a linear polynomial interpretation, Baader &
Nipkow, Term Rewriting and All That, section 5.3). Multiples are at least one, so that a
smaller part makes the whole smaller; numbers are whole and positive, so that nothing
becomes smaller forever. Wildcards are at least 1. A literal counts 1, and 2 if it is
negative: signs move into literals where they can be dropped.

Argument order keeps the measure, and takes place once per node at most, because a node
is rewritten only when its parts are final. Collecting terms and ordering contractions
are accepted only where the estimated cost falls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import Call, Const, Node, Reduce
from symgrad.simplify.rule import Rule, is_wild

# operation -> (multiple of its arguments' measures, constant)
WEIGHTS: Mapping[str, tuple[int, int]] = {
    "add": (1, 12),
    "sub": (1, 12),
    "neg": (1, 3),
    "mul": (2, 0),
    "div": (2, 3),
    "pow": (2**20, 1),  # more than the 64 multiplications that may take its place
}
OTHER, REDUCTION = (2, 1), 8  # a reduction: and one for each of its indices


class Measure(NamedTuple):
    """``constant + sum(multiple * wildcard)``."""

    constant: int
    multiples: dict[Node, int]

    def minus(self, other: Measure) -> Measure:
        """The difference of two measures."""
        keys = {*self.multiples, *other.multiples}
        return Measure(
            self.constant - other.constant,
            {
                k: self.multiples.get(k, 0) - other.multiples.get(k, 0)
                for k in sorted(keys, key=repr)
            },
        )

    def is_positive(self) -> bool:
        """Is it at least 1 whatever the wildcards, each at least 1, are?"""
        least = self.constant + sum(self.multiples.values())
        return least >= 1 and all(m >= 0 for m in self.multiples.values())


def measure(root: Node, literals: Mapping[Node, int] | None = None) -> Measure:
    """The measure of an expression; ``literals``: those of wildcards for literals."""
    known: dict[Node, Measure] = {}
    for node in graph.walk(root):
        known[node] = _own(node, known, literals or {})
    return known[root]


def _own(
    node: Node, known: Mapping[Node, Measure], literals: Mapping[Node, int]
) -> Measure:
    if node in literals:
        return Measure(literals[node], {})
    if isinstance(node, Const):
        return Measure(2 if node.value < 0 else 1, {})
    if is_wild(node):
        return Measure(0, {node: 1})
    if isinstance(node, Call):
        multiple, constant = WEIGHTS.get(node.op, OTHER)
    else:
        multiple, constant = 1, 1
    if isinstance(node, Reduce):
        multiple, constant = REDUCTION, len(node.indices)
    total = constant + multiple * sum(known[c].constant for c in node.children)
    multiples: dict[Node, int] = {}
    for child in node.children:
        for wild, count in known[child].multiples.items():
            multiples[wild] = multiples.get(wild, 0) + multiple * count
    return Measure(total, multiples)


def decrease(rule: Rule) -> Measure:
    """How much smaller the right side of a rule is, at least.

    Operations on literals are folded at once: the right side's count as literals.
    """
    guarded = rule.guard.literals if rule.guard else frozenset[Node]()
    negative = bool(rule.guard) and "< 0" in (rule.guard.name if rule.guard else "")
    before = dict.fromkeys(guarded, 2 if negative else 1)
    after: dict[Node, int] = {}
    for node in graph.walk(rule.rhs):
        parts = node.children
        if node in guarded:
            after[node] = before[node]
        elif (
            parts
            and isinstance(node, Call)
            and all(_is_literal(p, after) for p in parts)
        ):
            after[node] = 1 if negative or _keeps_sign(node) else 2
    return measure(rule.lhs, before).minus(measure(rule.rhs, after))


def _is_literal(node: Node, literals: Mapping[Node, int]) -> bool:
    return node in literals or isinstance(node, Const)


def _keeps_sign(node: Call) -> bool:
    """Has ``1/c`` the sign of c, so that both count the same?"""
    return node.op == "div" and node.args[0] is graph.const(1.0)
