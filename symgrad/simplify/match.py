"""Finding the left side of a rule in a graph, and filling in its right side.

Recursion here is on the depth of a pattern, which a person wrote, never on that of an
expression.
"""

from __future__ import annotations

from collections.abc import Iterator

from symgrad import graph
from symgrad.graph import Call, Node, Reduce
from symgrad.simplify.candidates import COMMUTATIVE
from symgrad.simplify.rule import Bindings, Rule, is_wild


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


def fill(template: Node, bindings: Bindings) -> Node:
    """``template`` with its wildcards replaced."""
    if template in bindings:
        return bindings[template]
    if not template.children or isinstance(template, Reduce):
        return template
    return graph.rebuild(template, tuple(fill(c, bindings) for c in template.children))


def replace(rule: Rule, node: Node) -> Node | None:
    """What ``rule`` makes of ``node``, or None."""
    for bindings in matches(rule.lhs, node, {}):
        if rule.guard is None or rule.guard.holds(bindings):
            return fill(rule.rhs, bindings)
    return None
