"""Letters for bound indices: i outside, j inside, none used twice on the way in.

The graph numbers bound indices so that equal parts are one node, and then
``sum_i (y_i - sum_i y_i / n)**2`` may have the same index in both sums. People write
``i`` and ``j``. The trees that come in have a placeholder for each index; this module
walks from the outside to the inside and picks a letter at every binder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import TypeAlias

from symgrad.language.syntax import (
    Apply,
    Bind,
    Expr,
    Name,
    Subscript,
    children,
    walk,
)

POOL = tuple("ijklpqrstuv")
_MARK = "#"

Task: TypeAlias = tuple[Expr, frozenset[tuple[str, str]], frozenset[str]]


def placeholder(number: int) -> Name:
    """The name of index ``number`` until it gets a letter."""
    return Name(f"{_MARK}{number}")


def numbered(pool: Iterable[str]) -> Iterator[str]:
    """The names of ``pool``, then the same with 1, 2, ... behind, without end."""
    pool = tuple(pool)
    return (f"{letter}{number or ''}" for number in count() for letter in pool)


def with_letters(
    roots: list[tuple[Expr, list[Name]]], taken: Iterable[str]
) -> list[tuple[Expr, list[Name]]]:
    """Replace all placeholders.

    Args:
        roots: pairs of an expression and the placeholders of its axes.
        taken: names that cannot be letters.

    Returns:
        the pairs with letters; the axes get the first ones.
    """
    letterer = _Letterer([tree for tree, _ in roots], frozenset(taken))
    return [letterer.root(tree, axes) for tree, axes in roots]


class _Letterer:
    def __init__(self, roots: list[Expr], taken: frozenset[str]) -> None:
        self.taken = taken
        self.free: dict[Expr, frozenset[str]] = {}
        self.binds: set[Expr] = set()
        self.done: dict[Task, Expr] = {}
        for node in walk(*roots):
            self.note(node)

    def note(self, node: Expr) -> None:
        """Remember the free placeholders of ``node``, and whether it binds any."""
        inner = children(node)
        free = frozenset[str]().union(*(self.free[c] for c in inner))
        if isinstance(node, Name) and node.id.startswith(_MARK):
            free = frozenset((node.id,))
        if isinstance(node, Bind):
            free -= {node.index}
        if isinstance(node, Bind) or any(c in self.binds for c in inner):
            self.binds.add(node)
        self.free[node] = free

    def root(self, tree: Expr, axes: list[Name]) -> tuple[Expr, list[Name]]:
        known: dict[str, str] = {}
        for axis in axes:
            known[axis.id] = self.pick(frozenset(known.values()))
        scope = frozenset(known.values())
        named = [Name(known[axis.id]) for axis in axes]
        return self.rename(self.task(tree, known, scope)), named

    def pick(self, scope: frozenset[str]) -> str:
        return next(
            name
            for name in numbered(POOL)
            if name not in scope and name not in self.taken
        )

    def task(self, node: Expr, known: Mapping[str, str], scope: frozenset[str]) -> Task:
        """The work on one node: only what matters to it, so that parts are shared."""
        mine = frozenset((k, known[k]) for k in self.free[node] if k in known)
        return node, mine, scope if node in self.binds else frozenset()

    def rename(self, root: Task) -> Expr:
        pending = [root]
        while pending:
            task = pending[-1]
            if task in self.done:
                pending.pop()
                continue
            letter, inner = self.inner(task)
            missing = [t for t in inner if t not in self.done]
            if missing:
                pending.extend(missing)
                continue
            pending.pop()
            self.done[task] = _rebuilt(task, letter, [self.done[t] for t in inner])
        return self.done[root]

    def inner(self, task: Task) -> tuple[str, list[Task]]:
        """The letter that a binder takes, and the work on what is inside."""
        node, mine, scope = task
        if not mine and node not in self.binds:
            return "", []
        known = dict(mine)
        if not isinstance(node, Bind):
            return "", [self.task(c, known, scope) for c in children(node)]
        letter = self.pick(scope)
        body = self.task(node.body, {**known, node.index: letter}, scope | {letter})
        ends = [self.task(end, known, scope) for end in (node.lower, node.upper)]
        return letter, [body, *ends]


def _rebuilt(task: Task, letter: str, parts: list[Expr]) -> Expr:
    node, mine, _ = task
    if isinstance(node, Name):
        return Name(dict(mine).get(node.id, node.id))
    if not parts:
        return node
    if isinstance(node, Bind):
        return Bind(node.kind, parts[0], letter, parts[1], parts[2])
    if isinstance(node, Subscript):
        return Subscript(parts[0], tuple(parts[1:]))
    assert isinstance(node, Apply) and not node.keywords
    return Apply(node.function, tuple(parts))
