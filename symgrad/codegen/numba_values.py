"""Values of graph nodes as Python text, inside open loops.

The counterpart of evaluate.py for readers: scopes mirror the open loops, and a value is
assigned in the outermost scope that has all it needs. What is used once, in the scope
where it belongs, is not assigned but written where it is used, as long as lines stay
short; so lines are short however deep an expression is.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from symgrad import graph
from symgrad.codegen import numba_operations as operations
from symgrad.codegen.bounds import is_guarded, provably_inside
from symgrad.codegen.layout import Layout
from symgrad.codegen.numba_names import Names
from symgrad.codegen.numba_operations import ATOM, SUM
from symgrad.graph import Call, Const, Input, Load, Node, Size
from symgrad.schedule.cost import CHECKED
from symgrad.schedule.nest import Item, Loop
from symgrad.schedule.plan import Place, Plan, Step
from symgrad.schedule.statements import Statement
from symgrad.schedule.streaming import is_running

WIDTH = 60
"""Expressions longer than this are split into assignments."""

CHEAP_WIDTH = 16
"""Integer arithmetic shorter than this is written again rather than assigned."""

INDENT = "    "


@dataclass(frozen=True)
class Code:
    """A value as text.

    rank: how strongly it binds. level: the outermost scope that may use it.
    plain: a name, literal or the like, written again wherever it is used.
    """

    text: str
    rank: int
    level: int
    plain: bool = False


@dataclass(eq=False)
class Scope:
    """One open loop: its lines so far and the values known in it."""

    loop: Loop | None = None
    lines: list[str] = field(default_factory=list)
    values: dict[object, Code] = field(default_factory=dict)


class Values:
    """Expressions of one kernel. ``step`` is the step that is being written."""

    def __init__(self, plan: Plan, layout: Layout, names: Names) -> None:
        self.plan, self.layout, self.names = plan, layout, names
        self.single = layout.single
        self.scopes = [Scope()]
        self.step = Step([])
        self.written: dict[Statement, tuple[Loop | None, ...]] = {}
        self.helpers: set[str] = set()
        self.sizes: dict[Size, str] = {}
        self.uses: Counter[tuple[Loop | None, Node]] = Counter()
        for step in plan.steps:
            self._count_uses(step)
        for step in plan.passes:
            assert step.row is not None
            names.index(step.row)  # the first letters are for rows

    # -- lines and scopes ------------------------------------------------------------

    @property
    def home(self) -> int:
        """The number of the innermost scope."""
        return len(self.scopes) - 1

    def write(self, line: str, level: int | None = None) -> None:
        """Append a line to a scope, by default the innermost."""
        level = self.home if level is None else level
        self.scopes[level].lines.append(INDENT * (level + 1) + line if line else "")

    def open_loop(self, item: Loop) -> None:
        """Open the scope of a loop."""
        self.scopes.append(Scope(item))
        name = self.names.index(item.index)
        self._keep(item.index, Code(name, ATOM, self.home, plain=True))

    def close_loop(self, item: Loop) -> None:
        """Append the loop to the scope around it."""
        inner = self.scopes.pop()
        if inner.lines:
            name = self.names.index(item.index)
            self.write(f"for {name} in range({self.value(item.index.extent).text}):")
            self.scopes[-1].lines += inner.lines

    def forget_text(self) -> None:
        """Between steps only variables stay known. Text that is not yet written
        belongs where the plan has it."""
        values = self.scopes[0].values
        for key in [key for key, code in values.items() if not code.plain]:
            del values[key]

    def find(self, key: object) -> Code | None:
        """A value known in any open scope."""
        for scope in reversed(self.scopes):
            code = scope.values.get(key)
            if code is not None:
                return code
        return None

    def _keep(self, key: object, code: Code) -> Code:
        self.scopes[code.level].values[key] = code
        return code

    # -- evaluation ------------------------------------------------------------------

    def value(self, node: Node) -> Code:
        """The value of ``node``, ready to be written in the innermost scope."""
        return self._hoisted(node, self._evaluated(node), self.home)

    def computed(self, node: Call | Load) -> Code:
        """The value of a node that is a statement itself, from its operands."""
        for operand in self._operands(node):
            self._evaluated(operand)
        return self._hoisted(node, self._settle(node, self._emit(node)), self.home)

    def bound(self, node: Node, code: Code) -> Code:
        """Assign a value to a variable, in its own scope."""
        if code.plain:
            return code
        name = self.names.value(node)
        self.write(f"{name} = {code.text}", code.level)
        return self._keep(node, Code(name, ATOM, code.level, plain=True))

    def now(self, node: Node, text: str) -> Code:
        """From here on ``node`` is ``text``, which is cheap to read again."""
        return self._keep(node, Code(text, ATOM, self.home, plain=True))

    def _hoisted(self, node: Node, code: Code, level: int) -> Code:
        """What belongs in an outer scope is assigned there."""
        return self.bound(node, code) if code.level < level else code

    def _settle(self, node: Node, code: Code) -> Code:
        """Assign a value now if it is used more than once."""
        self._keep(node, code)
        path = [scope.loop for scope in self.scopes[1:] if scope.loop is not None]
        often = self.uses[_owner(node, path), node] > 1
        return self.bound(node, code) if often else code

    def _evaluated(self, root: Node) -> Code:
        """The value of ``root``. Iterative: graphs may be deep."""
        stack = [root]
        while stack:
            node = stack[-1]
            if self.find(node) is not None:
                stack.pop()
                continue
            stored = node in self.plan.of
            operands = () if stored else self._operands(node)
            missing = [o for o in operands if self.find(o) is None]
            if missing:
                stack.extend(reversed(missing))
                continue
            stack.pop()
            self._settle(node, self._read(node) if stored else self._emit(node))
        return self._known(root)

    def _known(self, node: Node) -> Code:
        code = self.find(node)
        assert code is not None, node
        return code

    def _emit(self, node: Node) -> Code:
        if isinstance(node, Const):
            return Code(*operations.literal(node, self.single), 0, plain=True)
        if isinstance(node, Size):
            return Code(self.size(node), ATOM, 0, plain=True)
        if isinstance(node, Load):
            return self._load(node)
        assert isinstance(node, Call), node
        if is_running(node):
            place = self.plan.work[self.plan.of[node.args[0]]]
            return self._as_value(self.element(place), place, self.home)
        if node.op == CHECKED:
            index, extent, axis = node.args
            code = self._known(index)
            if not provably_inside(index, extent):
                self._check(index, extent, node, int(axis.value))  # type: ignore[attr-defined]
                code = self._known(index)
            return code
        codes = self._together(self._operands(node))
        level = max((code.level for code in codes), default=0)
        pieces = [(code.text, code.rank) for code in codes]
        text, rank = operations.operation(node, pieces, self.single, self.helpers)
        cheap = node.type == graph.INT and all(code.plain for code in codes)
        return Code(text, rank, level, cheap and len(text) < CHEAP_WIDTH)

    def _together(self, nodes: Sequence[Node]) -> list[Code]:
        """Operands as they may stand in one expression: hoisted, and not too long."""
        codes = [self._known(node) for node in nodes]
        level = max((code.level for code in codes), default=0)
        codes = [self._hoisted(n, c, level) for n, c in zip(nodes, codes, strict=True)]
        while sum(len(code.text) for code in codes) > WIDTH:
            longest = max(range(len(codes)), key=lambda k: _split_gain(codes[k]))
            if codes[longest].plain:
                break
            node = nodes[longest]
            code = self.bound(node, codes[longest])
            codes = [
                code if n is node else c for n, c in zip(nodes, codes, strict=True)
            ]
        return codes

    def size(self, node: Size) -> str:
        """The variable of a run-time length; the caller assigns it at the top."""
        if node not in self.sizes:
            name = re.sub(r"\W", "_", node.name.removesuffix(".0"))
            wish = "n" if not self.sizes else f"n_{name}"
            self.sizes[node] = self.names.fresh(wish)
        return self.sizes[node]

    def _operands(self, node: Node) -> Sequence[Node]:
        """What ``node`` is written with. Lengths need no conversion beside floats."""
        if isinstance(node, Load):
            return node.indices
        if not isinstance(node, Call) or is_running(node):
            return ()
        if node.op == CHECKED:
            return node.args[:2]
        if self.single or node.op not in ("add", "sub", "mul", "div"):
            return node.args
        return [_unconverted(a) for a in node.args]

    def _count_uses(self, step: Step) -> None:
        """How often each node is written in the loop where it is evaluated."""
        seen: set[tuple[Loop | None, Node]] = set()
        for s, path in _with_paths(step.items):

            def into(node: Node, path: tuple[Loop, ...] = path) -> Sequence[Node]:
                known = node in self.plan.of or (_owner(node, path), node) in seen
                return () if known else self._operands(node)

            roots = self._operands(s.node) if s.kind == "let" else s.expressions
            parents = graph.walk(roots, into)
            for used in [*roots, *(o for node in parents for o in into(node))]:
                self.uses[_owner(used, path), used] += 1
            seen.update((_owner(node, path), node) for node in parents)

    # -- memory ----------------------------------------------------------------------

    def _load(self, node: Load) -> Code:
        array = node.array
        indices = self.checked(node.indices, array)
        level = max((code.level for code in indices), default=0)
        if isinstance(array, Input):
            return self._load_input(array, indices, level)
        place = self.plan.work[self.plan.of[array]]
        element = f"{self.memory_name(place)}{subscript(indices)}"
        return self._as_value(element, place, level)

    def _load_input(self, array: Input, indices: list[Code], level: int) -> Code:
        name, dtype = self.names.user(array.name), self.layout.specs[array.name].dtype
        text = f"{name}{subscript(indices)}" if indices else name
        computed = "float32" if self.single else "float64"
        wanted = {graph.FLOAT: computed, graph.INT: "int64", graph.BOOL: "bool"}
        if dtype == wanted[array.type]:
            return Code(text, ATOM, level, plain=not indices)
        # Numba's float() leaves float32 as it is
        convert = (
            "f32" if self.single else "np.float64" if dtype == "float32" else "float"
        )
        convert = convert if array.type == graph.FLOAT else "np.int64"
        return Code(f"{convert}({text})", ATOM, level)

    def _read(self, node: Node) -> Code:
        """The value of another statement, from memory."""
        statement = self.plan.of[node]
        place = self.step.local.get(statement) or self.plan.work.get(statement)
        assert place is not None and place.memory != "register", statement
        indices = [self._evaluated(i) for i in place.axes]
        level = max(self._visible(statement), *(i.level for i in indices), 0)
        return self._as_value(self.element(place), place, level)

    def _as_value(self, text: str, place: Place, level: int) -> Code:
        if self.single and place.wide:
            return Code(f"f32({text})", ATOM, level)
        return Code(text, ATOM, level, plain=is_number(place))

    def element(self, place: Place) -> str:
        """The current element of a place, at the values of its axes."""
        name = self.memory_name(place)
        if is_number(place):
            return name
        return f"{name}{subscript([self._evaluated(i) for i in place.axes])}"

    def memory_name(self, place: Place, wish: str = "") -> str:
        """The variable of a place: an array, or a number where it has no axes."""
        node = place.statement.node
        if is_number(place):
            return self.names.value(node)
        stem = self.names.stem(node)
        rows = any(step.row in place.axes for step in self.plan.passes)
        if place.axes:
            stem += "_row" if place.memory == "scratch" else "_rows" if rows else "_all"
        return self.names.array((node, place.memory, place.axes), wish or stem)

    def _visible(self, statement: Statement) -> int:
        """The outermost scope in which a value written earlier may be read."""
        level = 0
        for scope, loop in zip(
            self.scopes[1:], self.written.get(statement, ()), strict=False
        ):
            if scope.loop is not loop:
                break
            level += 1
        return level

    # -- bounds ----------------------------------------------------------------------

    def checked(self, indices: Sequence[Node], array: Node) -> list[Code]:
        """The indices, after a check where they are not provably inside."""
        shape: tuple[Node, ...] = getattr(array, "shape", ())
        result: list[Code] = []
        for axis, (node, extent) in enumerate(zip(indices, shape, strict=True)):
            code = self._evaluated(node)
            if not provably_inside(node, extent):
                if is_guarded(node):
                    code = self._clamped(code, extent)
                else:
                    self._check(node, extent, array, axis)
            result.append(code)
        return result

    def _clamped(self, code: Code, extent: Node) -> Code:
        """The nearest index inside: a ``where`` selects among what is read."""
        length = self._evaluated(extent)
        high = operations.enclosed((length.text, length.rank), SUM)
        text = f"min(max({code.text}, 0), {high} - 1)"
        return Code(text, ATOM, max(code.level, length.level), plain=False)

    def _check(self, node: Node, extent: Node, array: Node, axis: int) -> None:
        if self.find(("in bounds", node, extent)) is not None:
            return
        code = self.bound(node, self._evaluated(node))
        length = self._evaluated(extent)
        level = max(code.level, length.level)
        high = operations.enclosed((length.text, length.rank), SUM)
        inside = f"0 <= {operations.enclosed((code.text, code.rank), SUM)} < {high}"
        if isinstance(node, Const):
            inside = f"{code.text} < {high}"
        what = array.name if isinstance(array, Input) else "a computed array"
        message = f"an index is out of bounds for axis {axis} of {what}"
        self.write(f"if not {inside}:", level)
        self.write(f"{INDENT}raise IndexError({quoted(message)})", level)
        self._keep(("in bounds", node, extent), Code("", ATOM, level, plain=True))


def subscript(indices: Sequence[Code]) -> str:
    """``[i, j]``; of a rank-0 array ``[()]``."""
    return f"[{', '.join(code.text for code in indices) or '()'}]"


def _split_gain(code: Code) -> int:
    return 0 if code.plain else len(code.text)


def is_number(place: Place) -> bool:
    """Whether a place is one number, held in a variable."""
    return not place.shape and place.statement.kind not in ("array", "scatter")


def quoted(text: str) -> str:
    """``text`` as a literal in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _unconverted(node: Node) -> Node:
    """A length itself instead of its conversion to floating point."""
    if isinstance(node, Call) and node.op == "cast" and isinstance(node.args[0], Size):
        return node.args[0]
    return node


def _owner(node: Node, path: Sequence[Loop]) -> Loop | None:
    """The innermost loop that ``node`` depends on; None for a closed node."""
    if not node.free:
        return None
    return next((loop for loop in reversed(path) if loop.index in node.free), None)


def _with_paths(items: Sequence[Item]) -> Iterator[tuple[Statement, tuple[Loop, ...]]]:
    """All statements in order, with the loops around each."""
    stack: list[tuple[Item, tuple[Loop, ...]]] = [(item, ()) for item in items[::-1]]
    while stack:
        item, path = stack.pop()
        if isinstance(item, Loop):
            stack.extend((inner, (*path, item)) for inner in item.items[::-1])
        else:
            yield item, path
