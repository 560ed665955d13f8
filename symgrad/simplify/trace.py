"""What simplification did, for people: one record for each rewrite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import (
    Array,
    Call,
    Const,
    Index,
    Input,
    Load,
    Node,
    Reduce,
    Scatter,
    Size,
)
from symgrad.language.graph_to_sympy import size_names
from symgrad.language.letters import numbered
from symgrad.ops.tails import STANDARD

SHOWN = 24
"""Nodes of an expression that are printed; what lies deeper is an ellipsis."""

_DOTS = "\N{HORIZONTAL ELLIPSIS}"
_LETTERS = "ijklpqrstuv"

_LOGIC, _COMPARE, _SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(7)
_INFIX = {
    "add": (" + ", _SUM), "sub": (" - ", _SUM), "mul": ("*", _PRODUCT),
    "div": ("/", _PRODUCT), "lt": (" < ", _COMPARE), "le": (" <= ", _COMPARE),
    "gt": (" > ", _COMPARE), "ge": (" >= ", _COMPARE), "eq": (" == ", _COMPARE),
    "ne": (" != ", _COMPARE), "and": (" and ", _LOGIC), "or": (" or ", _LOGIC),
    "pow": ("**", _POWER),
}  # fmt: skip

_Piece = tuple[str, int]  # a text, and how tightly it holds together


class Rewrite(NamedTuple):
    """One thing that was done: a node, what took its place, and why that is right.

    ``str`` gives one line, in the notation of losses, with deep parts left out.
    """

    rule: str
    kind: str
    before: Node
    after: Node
    why: str

    def __str__(self) -> str:
        rule, before, after, why = self.row()
        return f"{rule}: {before} -> {after} ({why})"

    def row(self) -> tuple[str, str, str, str]:
        """Rule, before, after, why: a line of a table."""
        names = _Names((self.before, self.after))
        before, after = (spelled(n, names) for n in (self.before, self.after))
        return self.rule, before, after, self.why


class _Names:
    """Letters for the lengths and indices of some expressions."""

    def __init__(self, roots: tuple[Node, ...]) -> None:
        self.sizes = size_names(roots)
        taken = {n.name for n in graph.walk(roots) if isinstance(n, Input)}
        taken.update(self.sizes.values())
        self.free = (name for name in numbered(_LETTERS) if name not in taken)
        self.letters: dict[Index, str] = {}

    def letter(self, i: Index) -> str:
        """The letter of an index, the next one for a new index."""
        if i not in self.letters:
            self.letters[i] = next(self.free)
        return self.letters[i]


def spelled(root: Node, names: _Names | None = None, shown: int = SHOWN) -> str:
    """``root`` as one would type it, with ``…`` for what is deeper than ``shown``."""
    kept = _nearest(root, shown)
    names = _Names((root,)) if names is None else names

    def inside(node: Node) -> list[Node]:
        return [c for c in node.children if c in kept]

    done: dict[Node, _Piece] = {}
    for node in graph.walk(root, into=inside):
        done[node] = _piece(node, done, names)
    return done[root][0]


def _nearest(root: Node, shown: int) -> set[Node]:
    """The nodes nearest to the root, and everything that takes no room."""
    kept: set[Node] = set()
    level = [root]
    while level:
        room = len(kept) + len(level) <= shown
        kept.update(n for n in level if room or not n.children)
        level = [c for n in level if n in kept for c in n.children if c not in kept]
        level = list(dict.fromkeys(level))
    return kept


def _piece(node: Node, done: Mapping[Node, _Piece], names: _Names) -> _Piece:
    def closed(part: Node, level: int) -> str:
        text, own = done.get(part, (_DOTS, _ATOM))
        return text if own >= level else f"({text})"

    def listed(parts: tuple[Node, ...]) -> str:
        return ", ".join(closed(p, _LOGIC) for p in parts)

    match node:
        case Const():
            return _number(node), _ATOM if node.value >= 0 else _SIGN
        case Size():
            return names.sizes.get(node.name, node.name), _ATOM
        case Input():
            return node.name.removeprefix("?"), _ATOM
        case Index():
            return names.letter(node), _ATOM
        case Load():
            places = f"[{listed(node.indices)}]" if node.indices else ""
            return closed(node.array, _ATOM) + places, _ATOM
        case Reduce():
            bound = ", ".join(map(names.letter, node.indices))
            return f"{node.kind}({closed(node.body, _LOGIC)}, {bound})", _ATOM
        case Array():
            bound = ", ".join(map(names.letter, node.indices))
            return f"{{{closed(node.body, _LOGIC)} for {bound}}}", _ATOM
        case Scatter():
            spread = closed(node.value, _LOGIC)
            return f"{{[{listed(node.targets)}] += {spread}}}", _ATOM
        case Call(op="fma", args=(Const(value=1.0), b, a)):  # a sum that was split off
            if isinstance(b, Const) and b.value == 0:
                return done.get(a, (_DOTS, _ATOM))
            return closed(a, _SUM) + " + " + closed(b, _SUM), _SUM
        case Call(op="sigmoid_tail" | "tanh_tail" | "tanh_of_tail" as op):
            level = _SUM if op == "tanh_tail" else _ATOM
            return STANDARD[op].format(closed(node.args[0], _LOGIC)), level
        case Call(op="cast"):
            return done.get(node.args[0], (_DOTS, _ATOM))
        case Call(op="neg"):
            return "-" + closed(node.args[0], _POWER), _SIGN
        case Call(op=op, args=(a, b)) if op in _INFIX:
            sign, level = _INFIX[op]
            left = level + 1 if op == "pow" else level
            right = level + 1 if op != "pow" else level
            return closed(a, left) + sign + closed(b, right), level
        case Call():
            return f"{node.op}({listed(node.args)})", _ATOM
    raise TypeError(f"spelled: {type(node).__name__}")


def _number(node: Const) -> str:
    value = node.value
    if isinstance(value, float) and value.is_integer() and 0 < abs(value) < 1e9:
        return str(int(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
