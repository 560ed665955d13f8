"""Loop nests as an indented outline, with short names for indices and values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from symgrad import graph
from symgrad.graph import Call, Const, Index, Input, Load, Node, Size
from symgrad.ops.tails import STANDARD
from symgrad.runtime.work import deferred_loops
from symgrad.schedule import Plan
from symgrad.schedule.cost import INTERNAL
from symgrad.schedule.nest import Item, Loop
from symgrad.schedule.plan import Place, Step
from symgrad.schedule.statements import Statement

LETTERS = "ijklmnpqruvxyz"
LONGEST = 160  # characters of an expression that are kept while it is put together

# operator of two arguments: sign, precedence, whether the right side needs brackets
# where it has the same precedence
_INFIX = {
    "or": ("or", 1, False), "and": ("and", 2, False),
    "lt": ("<", 4, True), "le": ("<=", 4, True), "gt": (">", 4, True),
    "ge": (">=", 4, True), "eq": ("==", 4, True), "ne": ("!=", 4, True),
    "add": ("+", 5, False), "sub": ("-", 5, True),
    "mul": ("*", 6, False), "div": ("/", 6, True),
    "floor_divide": ("//", 6, True), "mod": ("%", 6, True),
}  # fmt: skip
_SIGN, _ATOM = 7, 9

_UPDATE = {"sum": "{} += {}", "prod": "{} *= {}"}

Text = tuple[str, int]  # an expression and the precedence of its outermost operator


class Outline:
    """Names for everything in a plan, and its steps in words.

    outputs: a name for each output of the plan.
    """

    def __init__(self, plan: Plan, outputs: Sequence[str]) -> None:
        self.plan, self.outputs = plan, list(outputs)
        self.step: Step | None = None
        self.indices: dict[Index, str] = {}
        self.names: dict[Statement, str] = {}
        self._taken = _input_names(plan)
        for step in plan.steps:
            self._name_items(step, [*step.items, *deferred_loops(step)])

    # -- names -----------------------------------------------------------------------

    def _name_items(self, step: Step, items: Iterable[Item]) -> None:
        for item in items:
            if isinstance(item, Loop):
                self._name_index(item.index)
                self._name_items(step, item.items)
            elif item.output is not None:
                self.names[item] = self.outputs[item.output]
            elif item not in self.names:
                self.names[item] = self._fresh(_letter(step, item))

    def _name_index(self, i: Index) -> None:
        if i not in self.indices:
            free = (c for c in LETTERS if c not in self._taken)
            name = next(free, None) or self._fresh("i")
            self.indices[i] = name
            self._taken.add(name)

    def _fresh(self, letter: str) -> str:
        number = 1
        while f"{letter}{number}" in self._taken:
            number += 1
        self._taken.add(f"{letter}{number}")
        return f"{letter}{number}"

    def extent(self, node: Node) -> str:
        """A length: ``len(X)``, ``X.shape[1]``, a number."""
        return self.expression(node)

    # -- steps -----------------------------------------------------------------------

    def lines(self, step: Step, width: int) -> list[str]:
        """The loops and statements of a step, none longer than ``width``."""
        self.step = step
        lines = list(self._lines(step.items, 0))
        for loop in deferred_loops(step):
            lines += ["after each tile of rows", *self._lines([loop], 1)]
        return [_cut(line, width) for line in lines]

    def _lines(self, items: Iterable[Item], depth: int) -> Iterator[str]:
        for item in items:
            indent = "  " * depth
            if isinstance(item, Loop):
                name = self.indices[item.index]
                end = self.extent(item.index.extent)
                row = self.step.row if self.step is not None else None
                if item.index is row and depth > 0:
                    end = "rows of the tile"
                yield f"{indent}for {name} < {end}"
                yield from self._lines(item.items, depth + 1)
            else:
                yield indent + self._statement(item)

    def _statement(self, s: Statement) -> str:
        if s.kind == "let":
            return f"{self.place(s)} = {self._of(s.node)}"
        value = self.expression(s.value)
        if s.kind == "reduce":
            assert isinstance(s.node, graph.Reduce)
            form = _UPDATE.get(s.node.kind, "{0} = " + s.node.kind + "({0}, {1})")
            return form.format(self.place(s), value)
        sign = "+=" if s.kind == "scatter" else "="
        return f"{self.names[s]}{self._subscript(s.targets)} {sign} {value}"

    def place(self, s: Statement) -> str:
        """The name of a value with the indices that address it."""
        place = self._place(s)
        return self.names[s] + self._subscript(place.axes if place else ())

    def _place(self, s: Statement) -> Place | None:
        local = self.step.local.get(s) if self.step is not None else None
        return local or self.plan.work.get(s)

    def _subscript(self, indices: Sequence[Node]) -> str:
        if not indices:
            return ""
        return f"[{', '.join(self.expression(i) for i in indices)}]"

    # -- expressions -----------------------------------------------------------------

    def expression(self, node: Node) -> str:
        """A node in the signs of mathematics; statements by their names."""
        return self._write([node])[node][0]

    def _of(self, node: Node) -> str:
        """A statement's own expression rather than its name."""
        done = self._write(node.children)
        return self._text(node, done)[0]

    def _write(self, roots: Sequence[Node]) -> dict[Node, Text]:
        """Bottom-up, without recursion; long texts are cut, as graphs are not trees."""
        done: dict[Node, Text] = {}

        def into(node: Node) -> tuple[Node, ...]:
            if node in self.plan.of:
                return ()
            return node.indices if isinstance(node, Load) else node.children

        for node in graph.walk(roots, into):
            named = self.plan.of.get(node)
            if named is not None:
                done[node] = self.place(named), _ATOM
            else:
                text, level = self._text(node, done)
                done[node] = _cut(text, LONGEST), level
        return done

    def _text(self, node: Node, done: dict[Node, Text]) -> Text:
        if isinstance(node, Const):
            text = _number(node.value)
            return text, _SIGN if text.startswith("-") else _ATOM
        if isinstance(node, Size):
            return _length(node.name), _ATOM
        if isinstance(node, Index):
            return self.indices.get(node, graph.index_name(node)), _ATOM
        if isinstance(node, Input):
            return node.name, _ATOM
        if isinstance(node, Load):
            return self._load(node, done), _ATOM
        if isinstance(node, Call):
            return _call(node, done)
        return graph.to_text(node, LONGEST), _ATOM

    def _load(self, node: Load, done: dict[Node, Text]) -> str:
        array = node.array
        found = self.plan.of.get(array)
        name = array.name if isinstance(array, Input) else None
        if name is None:
            name = self.names.get(found, "array") if found is not None else "array"
        if not node.indices:
            return name
        return f"{name}[{', '.join(done[i][0] for i in node.indices)}]"


def _letter(step: Step, s: Statement) -> str:
    """``a`` for whole arrays, ``s`` for sums over rows, ``t`` for other values."""
    if s.kind in ("array", "scatter"):
        return "a"
    return "s" if step.row is not None and step.row in s.bound else "t"


def _input_names(plan: Plan) -> set[str]:
    nodes = graph.walk(plan.outputs, graph.uses)
    loads = (n.array for n in nodes if isinstance(n, Load))
    return {a.name for a in loads if isinstance(a, Input)}


def _call(node: Call, done: dict[Node, Text]) -> Text:
    args = [done[a] for a in node.args]
    if node.op == "cast" or node.op in INTERNAL:
        return args[0]
    if node.op in STANDARD:
        level = _INFIX["sub"][1] if node.op == "tanh_tail" else _ATOM
        return STANDARD[node.op].format(args[0][0]), level
    if node.op == "fma" and isinstance(node.args[0], Const) and node.args[0].value == 1:
        return _split_off(node, args)
    if node.op == "neg":
        return "-" + _bracketed(args[0], _SIGN), _SIGN
    if node.op == "not":
        return "not " + _bracketed(args[0], 3), 3
    if node.op in _INFIX and len(args) == 2:
        sign, level, strict = _INFIX[node.op]
        left, right = _bracketed(args[0], level), _bracketed(args[1], level + strict)
        if sign == "+" and right.startswith("-"):
            sign, right = "-", right[1:]
        tight = level == 6
        return f"{left}{sign}{right}" if tight else f"{left} {sign} {right}", level
    return f"{node.op}({', '.join(text for text, _ in args)})", _ATOM


def _split_off(node: Call, args: list[Text]) -> Text:
    """``fma(1, b, a)``: the sum a + b where a formula is in cases."""
    _, b, a = args
    if isinstance(node.args[1], Const) and node.args[1].value == 0:
        return a
    sign, level, strict = _INFIX["add"]
    return f"{_bracketed(a, level)} {sign} {_bracketed(b, level + strict)}", level


def _bracketed(text: Text, level: int) -> str:
    return f"({text[0]})" if text[1] < level else text[0]


def _number(value: float | int | bool) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _length(name: str) -> str:
    """``X.0`` as people write it."""
    found = re.fullmatch(r"(.+)\.(\d+)", name)
    if found is None:
        return name
    array, axis = found.groups()
    return f"len({array})" if axis == "0" else f"{array}.shape[{axis}]"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(1, width - 1)] + "…"
