"""The syntax tree of a formula: what was written, with positions, nothing evaluated.

Names are not resolved here and shapes are not known: that is the work of ``build``.
Trees may be tens of thousands of levels deep (a sum of 10 000 terms is), so that every
walk uses an explicit stack; the nodes therefore compare and hash by identity, and
:func:`same` compares structure.

Operators are ``Apply`` of: add sub mul div matmul pow neg pos lt le gt ge eq ne and or
not floor_divide mod. A tuple (``axis=(0, 1)``) is ``Apply("tuple", ...)``; ``True`` and
``False`` are ``Number(True)`` and ``Number(False)``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from symgrad.errors import Span


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a formula may be. A larger one is refused with a ``LimitError``.

    Attributes:
        max_length: characters of text.
        max_depth: nested brackets.
        max_nodes: names, numbers, operators and calls.
    """

    max_length: int = 1_000_000
    max_depth: int = 10_000
    max_nodes: int = 200_000


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Number:
    """A literal: an int (exact), a float, or a bool."""

    value: int | float
    span: Span | None = None

    def __repr__(self) -> str:
        return to_text(self)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Name:
    """A parameter, data, an assigned name, a bound index, or a constant."""

    id: str
    span: Span | None = None

    def __repr__(self) -> str:
        return to_text(self)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Text:
    """The subscripts of einsum; allowed nowhere else."""

    value: str
    span: Span | None = None

    def __repr__(self) -> str:
        return to_text(self)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Apply:
    """An operator or a function, by its canonical name (see ``names.py``)."""

    function: str
    args: tuple[Expr, ...]
    keywords: tuple[tuple[str, Expr], ...] = ()
    span: Span | None = None

    def __repr__(self) -> str:
        return to_text(self)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Slice:
    """``start:stop:step`` as an item of a subscript."""

    start: Expr | None = None
    stop: Expr | None = None
    step: Expr | None = None
    span: Span | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class NewAxis:
    """``None`` as an item of a subscript."""

    span: Span | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Ellipsis_:
    """``...`` as an item of a subscript."""

    span: Span | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Subscript:
    """``base[items]``: indexing, slicing, gathering."""

    base: Expr
    items: tuple[Item, ...]
    span: Span | None = None

    def __repr__(self) -> str:
        return to_text(self)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Bind:
    """``kind`` of ``body`` for ``index`` from lower to upper, both included.

    Text never has it. SymPy's ``Sum`` and ``Product`` have "sum" and "prod"; the other
    kinds of ``graph.REDUCTIONS`` come from the index notation of a graph.
    """

    kind: str
    body: Expr
    index: str
    lower: Expr
    upper: Expr
    span: Span | None = None

    def __repr__(self) -> str:
        return to_text(self)


Expr: TypeAlias = Number | Name | Text | Apply | Subscript | Bind
Item: TypeAlias = Expr | Slice | NewAxis | Ellipsis_


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """``name = value``, seen by all that follows; a later one may shadow it."""

    name: str
    value: Expr
    span: Span | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Assignments in order, and the expression that is the result."""

    assignments: tuple[Assignment, ...]
    result: Expr
    text: str | None = None

    def __repr__(self) -> str:
        lines = [f"{a.name} = {to_text(a.value)}" for a in self.assignments]
        return "\n".join([*lines, to_text(self.result)])


# --- walks ----------------------------------------------------------------------------


def children(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside ``expr``, in the order they are written."""
    if isinstance(expr, Apply):
        return (*expr.args, *(value for _, value in expr.keywords))
    if isinstance(expr, Subscript):
        parts = [e for item in expr.items for e in _item_children(item)]
        return (expr.base, *parts)
    if isinstance(expr, Bind):
        return (expr.body, expr.lower, expr.upper)
    return ()


def _item_children(item: Item) -> tuple[Expr, ...]:
    if isinstance(item, Slice):
        parts = (item.start, item.stop, item.step)
        return tuple(part for part in parts if part is not None)
    if isinstance(item, (NewAxis, Ellipsis_)):
        return ()
    return (item,)


def walk(*roots: Expr) -> list[Expr]:
    """All expressions inside ``roots``, each object once, arguments before users."""
    order: list[Expr] = []
    seen: set[Expr] = set()
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        stack: list[tuple[Expr, Iterator[Expr]]] = [(root, iter(children(root)))]
        while stack:
            node, rest = stack[-1]
            for child in rest:
                if child not in seen:
                    seen.add(child)
                    stack.append((child, iter(children(child))))
                    break
            else:
                stack.pop()
                order.append(node)
    return order


def program_roots(program: Program) -> tuple[Expr, ...]:
    """The values of all assignments, then the result."""
    return (*(a.value for a in program.assignments), program.result)


def same(left: Program | Expr, right: Program | Expr) -> bool:
    """Whether two trees are equal apart from spans; 1, 1.0 and True differ."""
    if isinstance(left, Program) != isinstance(right, Program):
        return False
    if isinstance(left, Program) and isinstance(right, Program):
        names = [a.name for a in left.assignments]
        if names != [a.name for a in right.assignments]:
            return False
        lefts, rights = program_roots(left), program_roots(right)
    else:
        assert not isinstance(left, Program) and not isinstance(right, Program)
        lefts, rights = (left,), (right,)
    labels: dict[object, int] = {}
    return [*map(_labeller(labels, lefts), lefts)] == [
        *map(_labeller(labels, rights), rights)
    ]


def _labeller(
    labels: dict[object, int], roots: Sequence[Expr]
) -> Callable[[Expr], int]:
    """Number every subtree of ``roots`` so that equal subtrees have equal numbers."""
    number: dict[Expr, int] = {}
    for node in walk(*roots):
        inner = tuple(number[child] for child in children(node))
        number[node] = labels.setdefault((_key(node), inner), len(labels))
    return number.__getitem__


def _key(expr: Expr) -> tuple[object, ...]:
    """What tells ``expr`` from others, besides its children."""
    if isinstance(expr, Number):
        value = expr.value
        exact = struct.pack("<d", value) if isinstance(value, float) else value
        return ("Number", type(value), exact)
    if isinstance(expr, Name):
        return ("Name", expr.id)
    if isinstance(expr, Text):
        return ("Text", expr.value)
    if isinstance(expr, Apply):
        words = tuple(word for word, _ in expr.keywords)
        return ("Apply", expr.function, len(expr.args), words)
    if isinstance(expr, Subscript):
        return ("Subscript", *map(_item_key, expr.items))
    return ("Bind", expr.kind, expr.index)


def _item_key(item: Item) -> tuple[object, ...]:
    if isinstance(item, Slice):
        given = (part is not None for part in (item.start, item.stop, item.step))
        return ("Slice", *given)
    return (type(item).__name__ if isinstance(item, (NewAxis, Ellipsis_)) else "Expr",)


# --- printing -------------------------------------------------------------------------

INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "matmul": "@", "pow": "**",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
    "and": "and", "or": "or", "floor_divide": "//", "mod": "%",
}  # fmt: skip
PREFIX = {"neg": "-", "pos": "+", "not": "not "}


def to_text(root: Expr, limit: int | None = None) -> str:
    """``root`` as text that parses to the same tree, with every operator in brackets.

    ``limit`` cuts the text of each part to so many characters, for messages; without
    it the length of the text may grow with the square of the depth.
    """
    text: dict[Expr, str] = {}
    for node in walk(root):
        line = _one_line(node, text)
        text[node] = line if limit is None or len(line) <= limit else f"{line[:limit]}…"
    return text[root]


def _one_line(expr: Expr, text: dict[Expr, str]) -> str:
    if isinstance(expr, Number):
        return repr(expr.value)
    if isinstance(expr, Name):
        return expr.id
    if isinstance(expr, Text):
        return f'"{expr.value}"'
    if isinstance(expr, Subscript):
        items = ", ".join(_item_text(item, text) for item in expr.items)
        return f"{text[expr.base]}[{items}]"
    if isinstance(expr, Bind):
        limits = f"{expr.index}={text[expr.lower]}..{text[expr.upper]}"
        return f"{expr.kind}[{limits}]({text[expr.body]})"
    return _apply_text(expr, [text[a] for a in expr.args], text)


def _apply_text(expr: Apply, args: list[str], text: dict[Expr, str]) -> str:
    if expr.function in INFIX and len(args) == 2:
        return f"({args[0]} {INFIX[expr.function]} {args[1]})"
    if expr.function in PREFIX:
        return f"({PREFIX[expr.function]}{args[0]})"
    if expr.function == "transpose":
        return f"{args[0]}.T"
    if expr.function == "shape":
        return f"{args[0]}.shape[{args[1]}]"
    if expr.function == "tuple":
        return f"({', '.join(args)},)"
    words = [f"{word}={text[value]}" for word, value in expr.keywords]
    return f"{expr.function}({', '.join([*args, *words])})"


def _item_text(item: Item, text: dict[Expr, str]) -> str:
    if isinstance(item, NewAxis):
        return "None"
    if isinstance(item, Ellipsis_):
        return "..."
    if isinstance(item, Slice):
        start, stop, step = (
            "" if part is None else text[part]
            for part in (item.start, item.stop, item.step)
        )
        return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"
    return text[item]
