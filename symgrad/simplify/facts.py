"""Facts about nodes, each found out once and kept as long as the node lives.

Nodes never change, so what is true of one stays true. A fact may mention the parts of
its node but not the node, which would then outlive its last use; None stands for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, cast

from symgrad.graph import Node

T = TypeVar("T")


class Fact(Generic[T]):
    """The function ``find`` of a node, called once per node. For use as a decorator."""

    __slots__ = ("find",)

    def __init__(self, find: Callable[[Node], T]) -> None:
        self.find = find

    def __call__(self, node: Node) -> T:
        try:
            facts = node.facts
        except AttributeError:
            facts = node.facts = {}
        if self in facts:
            return cast(T, facts[self])
        found = facts[self] = self.find(node)
        return found

    def is_known(self, node: Node) -> bool:
        """Has it been found out?"""
        try:
            return self in node.facts
        except AttributeError:
            return False
