"""Finding the left side of a rule in a graph, and filling in its right side.

Recursion here is on the depth of a pattern, which a person wrote, never on that of an
expression.
"""

from __future__ import annotations

from collections.abc import Iterator

from symgrad import graph
from symgrad.graph import Call, Const, Node, Reduce
from symgrad.simplify.rule import Bindings, Rule, is_wild

COMMUTATIVE = frozenset(("add", "mul", "eq", "ne", "and", "or", "hypot"))
"""Operations whose two arguments may be exchanged, to the bit."""

SAME = object()
"""The trait of an operation whose two arguments are one node."""


def matches(pattern: Node, node: Node, known: Bindings) -> Iterator[Bindings]:
    """All ways in which ``node`` is an instance of ``pattern``, as bindings."""
    if is_wild(pattern):
        if pattern in known:
            if known[pattern] is node:
                yield known
        elif pattern.type == node.type:
            yield {**known, pattern: node}
    elif not isinstance(pattern, Call):
        if pattern is node:
            yield known
    elif isinstance(node, Call) and node.op == pattern.op and node.type == pattern.type:
        yield from _in_order(pattern.args, node.args, known)
        if pattern.op in COMMUTATIVE and node.args[0] is not node.args[1]:
            yield from _in_order(pattern.args, node.args[::-1], known)


def _in_order(
    patterns: tuple[Node, ...], nodes: tuple[Node, ...], known: Bindings
) -> Iterator[Bindings]:
    if not patterns:
        yield known
        return
    for bindings in matches(patterns[0], nodes[0], known):
        yield from _in_order(patterns[1:], nodes[1:], bindings)


def traits(node: Node) -> frozenset[object]:
    """What can be seen of the arguments of a node at a glance."""
    args = node.args if isinstance(node, Call) else ()
    found: set[object] = set()
    for arg in args:
        if isinstance(arg, Call):
            found.add(arg.op)
        elif isinstance(arg, Const):
            found.update((arg, Const))
    if len(args) == 2 and args[0] is args[1]:
        found.add(SAME)
    return frozenset(found)


def needed(rule: Rule) -> frozenset[object]:
    """The traits without which a node cannot match the left side of a rule."""
    found = set(traits(rule.lhs))
    args = rule.lhs.args if isinstance(rule.lhs, Call) else ()
    if rule.guard and not rule.guard.literals.isdisjoint(args):
        found.add(Const)
    return frozenset(found)


def fill(template: Node, bindings: Bindings) -> Node:
    """``template`` with its wildcards replaced."""
    if template in bindings:
        return bindings[template]
    if not template.children or isinstance(template, Reduce):
        return template
    return graph.rebuild(template, tuple(fill(c, bindings) for c in template.children))
