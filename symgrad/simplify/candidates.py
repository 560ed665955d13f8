"""Which rules can match a node at all, from a glance at the node and its arguments.

A node has a *look*: its operation, and of each argument what can be seen at once. Few
looks occur in a graph, so that the rules for each are found once and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from symgrad import graph
from symgrad.graph import Call, Const, Node, Reduce
from symgrad.simplify.rule import EVERYWHERE, Rule, Step, head, is_wild

COMMUTATIVE = frozenset(("add", "mul", "eq", "ne", "and", "or", "hypot"))
"""Operations whose two arguments may be exchanged, to the bit."""

Row: TypeAlias = Rule | Step
Glance: TypeAlias = tuple[object, object] | None
"""Of an argument: its kind, and whether it is or has a literal argument (of a Const the
literal itself, if a rule mentions it)."""
Look: TypeAlias = tuple[object, ...]

_LITERAL = "literal"


class Candidates:
    """The rows of a stage, in their order, by the look of a node."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.mentioned = frozenset(
            n
            for row in rows
            if isinstance(row, Rule)
            for n in graph.walk(row.lhs)
            if isinstance(n, Const)
        )
        self.found: dict[Look, tuple[Row, ...]] = {}

    def __call__(self, node: Node) -> tuple[Row, ...]:
        """The rows that may change ``node``."""
        look = self.look(node)
        found = self.found.get(look)
        if found is None:
            found = tuple(row for row in self.rows if _may_match(row, look))
            self.found[look] = found
        return found

    def look(self, node: Node) -> Look:
        """What can be seen of a node at a glance."""
        if not isinstance(node, Call):
            return (head(node),)
        args = node.args
        same = len(args) == 2 and args[0] is args[1]
        return (node.op, node.type, same, *map(self.glance, args))

    def glance(self, arg: Node) -> Glance:
        """What can be seen of an argument."""
        if isinstance(arg, Call):
            for inner in arg.args:
                if isinstance(inner, Const):
                    return arg.op, True
            return arg.op, False
        if isinstance(arg, Const):
            return _LITERAL, arg if arg in self.mentioned else None
        return (arg.kind, None) if isinstance(arg, Reduce) else None


def _may_match(row: Row, look: Look) -> bool:
    name = look[0]
    if isinstance(row, Step):
        return row.heads == EVERYWHERE or name in row.heads
    lhs = row.lhs
    if head(lhs) != name or not isinstance(lhs, Call):
        return head(lhs) == name
    _, kind, same, *glances = look
    if kind != lhs.type:
        return False
    if len(lhs.args) == 2 and lhs.args[0] is lhs.args[1] and not same:
        return False
    literals = row.guard.literals if row.guard else frozenset[Node]()
    orders = [glances]
    if lhs.op in COMMUTATIVE:
        orders.append(glances[::-1])
    return any(
        all(
            _fits(pattern, seen, literals)
            for pattern, seen in zip(lhs.args, order, strict=True)
        )
        for order in orders
    )


def _fits(pattern: Node, seen: object, literals: frozenset[Node]) -> bool:
    """May an argument of this look match this part of a pattern?"""
    kind, detail = seen if isinstance(seen, tuple) else (None, None)
    if is_wild(pattern):
        return pattern not in literals or kind == _LITERAL
    if isinstance(pattern, Const):
        return detail is pattern
    if isinstance(pattern, Call):
        wants = any(isinstance(a, Const) or a in literals for a in pattern.args)
        return kind == pattern.op and (detail is True or not wants)
    return not isinstance(pattern, Reduce) or kind == pattern.kind
