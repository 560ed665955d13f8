"""Formulas of single steps as a line of text: ``v3 = tanh(v2)``, ``2·v1``, ``x²``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from symgrad.graph import Call, Const, Index, Input, Load, Node, Reduce, Size, walk

ATOM, POWER, SIGN, PRODUCT, SUM, COMPARE, LOGIC = range(7)

_INFIX = {
    "add": (" + ", SUM), "sub": (" - ", SUM), "mul": ("·", PRODUCT),
    "div": ("/", PRODUCT), "lt": (" < ", COMPARE), "le": (" ≤ ", COMPARE),
    "gt": (" > ", COMPARE), "ge": (" ≥ ", COMPARE), "eq": (" = ", COMPARE),
    "ne": (" ≠ ", COMPARE), "and": (" and ", LOGIC), "or": (" or ", LOGIC),
}  # fmt: skip
_RAISED = {2: "²", 3: "³"}

Piece = tuple[str, int]
"""A text and how tightly it holds together: the smaller, the tighter."""


def text(
    root: Node,
    known: Mapping[Node, str],
    letters: Mapping[Index, str],
    size: Callable[[Size], str],
) -> str:
    """``root`` in one line; nodes in ``known`` by their names."""
    return piece(root, known, letters, size)[0]


def piece(
    root: Node,
    known: Mapping[Node, str],
    letters: Mapping[Index, str],
    size: Callable[[Size], str],
) -> Piece:
    """``text`` and how tightly it holds together."""
    done: dict[Node, Piece] = {}

    def into(node: Node) -> Sequence[Node]:
        return () if node in known else node.children

    for node in walk(root, into=into):
        if node in known:
            done[node] = (known[node], ATOM)
        elif isinstance(node, Size):
            done[node] = (size(node), ATOM)
        elif isinstance(node, Index):
            done[node] = (letters.get(node, "i"), ATOM)
        else:
            done[node] = _piece(node, done, letters)
    return done[root]


def _piece(
    node: Node, done: Mapping[Node, Piece], letters: Mapping[Index, str]
) -> Piece:
    if isinstance(node, Const):
        return number(node.value), (SIGN if node.value < 0 else ATOM)
    if isinstance(node, Input):
        return node.name, ATOM
    if isinstance(node, Load):
        places = ",".join(done[i][0] for i in node.indices)
        return done[node.array][0] + (f"[{places}]" if places else ""), ATOM
    if isinstance(node, Reduce):
        bound = "".join(letters.get(i, "i") for i in node.indices)
        return f"{node.kind}_{bound}({done[node.body][0]})", ATOM
    if isinstance(node, Call):
        return _call(node, [done[a] for a in node.args])
    return "…", ATOM


def _call(node: Call, args: Sequence[Piece]) -> Piece:
    if node.op == "cast":
        return args[0]
    if node.op == "neg":
        return f"-{closed(args[0], PRODUCT)}", SIGN
    if node.op == "pow":
        return power(closed(args[0], ATOM), node.args[1], args[1]), POWER
    if node.op == "mul" and node.args[0] is node.args[1]:
        return closed(args[0], ATOM) + "²", POWER
    if node.op in _INFIX and len(args) == 2:
        sign, level = _INFIX[node.op]
        # a - (b - c) and a / (b / c) need their parentheses; a + (b + c) does not.
        right = level - 1 if node.op in ("sub", "div") else level
        return closed(args[0], level) + sign + closed(args[1], right), level
    return f"{node.op}({', '.join(a[0] for a in args)})", ATOM


def closed(piece: Piece, level: int) -> str:
    """The text, in parentheses if it holds together less tightly than ``level``."""
    return piece[0] if piece[1] <= level else f"({piece[0]})"


def power(base: str, exponent: Node, piece: Piece | None = None) -> str:
    """``base²``, or ``base^exponent``."""
    if isinstance(exponent, Const):
        raised = _RAISED.get(int(exponent.value))
        if raised and exponent.value == int(exponent.value):
            return base + raised
        piece = (number(exponent.value), SIGN if exponent.value < 0 else ATOM)
    assert piece is not None
    return f"{base}^{closed(piece, ATOM)}"


def number(value: float) -> str:
    """A literal of a formula."""
    if value == math.pi:
        return "π"
    return str(value) if isinstance(value, bool) else f"{float(value):.6g}"
