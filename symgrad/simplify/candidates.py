"""Which rules can match a node at all, from a glance at the node and its arguments.

A node has a *look*: its operation, and of each argument what can be seen at once; of a
sum the operations of its terms. Few looks occur in a graph, so that the rules for each
are found once and kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from symgrad import graph
from symgrad.graph import FLOAT, Call, Const, Node, Reduce
from symgrad.simplify.rule import EVERYWHERE, Rule, Step, head, is_wild
from symgrad.simplify.stable_terms import ONE, terms

COMMUTATIVE = frozenset(("add", "mul", "eq", "ne", "and", "or", "hypot"))
"""Operations whose two arguments may be exchanged, to the bit."""

Row: TypeAlias = Rule | Step
Glance: TypeAlias = tuple[object, object] | None
"""Of an argument: its kind, and whether it is or has a literal argument (of a Const the
literal itself, if a rule mentions it)."""
Look: TypeAlias = tuple[object, ...]
Among: TypeAlias = frozenset[str]
"""The operations of some terms; "1" is a literal, and "exp exp" a second exp."""

_SUMS = ("add", "sub")

_LITERAL = "literal"


class Candidates:
    """The rows of a stage, in their order, by the look of a node."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.patterns = any(isinstance(row, Rule) for row in rows)
        self.sums = any(isinstance(row, Step) and row.among for row in rows)
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
            found = _without_repeats(r for r in self.rows if _may_match(r, look))
            self.found[look] = found
        return found

    def look(self, node: Node) -> Look:
        """What can be seen of a node at a glance."""
        if not isinstance(node, Call):
            return (head(node),)
        if not self.patterns:
            sums = self.sums and node.op in _SUMS and node.type == FLOAT
            return node.op, node.type, among_terms(node) if sums else None
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


def among_terms(node: Node) -> Among:
    """What is among the terms of a sum."""
    return counted(
        n.op if isinstance(n, Call) else "1"
        for _, n in terms(node)
        if isinstance(n, Call) or n is ONE
    )


def counted(names: Iterable[str]) -> Among:
    """Names, and of each that occurs more than once also the pair."""
    found: set[str] = set()
    for name in names:
        found.add(f"{name} {name}" if name in found else name)
    return frozenset(found)


def _without_repeats(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows that do the same as an earlier one, for other examples, are left out."""
    found: dict[object, Row] = {}
    for row in rows:
        found.setdefault(row.apply if isinstance(row, Step) else row, row)
    return tuple(found.values())


def _may_match(row: Row, look: Look) -> bool:
    name = look[0]
    if isinstance(row, Step):
        if row.heads != EVERYWHERE and name not in row.heads:
            return False
        if row.type is None or len(look) == 1:
            return True
        content = look[2]
        return row.type == look[1] and not (
            row.among
            and isinstance(content, frozenset)
            and not any(wanted <= content for wanted in row.among)
        )
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
