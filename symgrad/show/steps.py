"""Which nodes of a graph are steps, what they are called, and the rules between them.

A graph says ``(sum[i](x[i]*w[i])) / cast(n)``; people say "the mean over i of x·w".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

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
    uses,
    walk,
)
from symgrad.interpret import evaluate
from symgrad.ops import OPS
from symgrad.show import formula as written
from symgrad.simplify import simplify

FLAT = 4  # terms from which a chain of additions is one step

_SYMBOLS = {
    "add": "+", "sub": "−", "mul": "×", "div": "÷", "neg": "−", "pow": "power",
    "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "eq": "=", "ne": "≠",
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """How an adjoint reaches an argument.

    text: the whole term; partial: the local derivative as text, None where elements are
    put in place; node: the same as a graph over inputs called like the steps.
    """

    text: str
    partial: str | None
    node: Node | None = None

    def value(self, numbers: Mapping[str, Any]) -> float | None:
        """The partial derivative for scalar arguments."""
        if self.node is None:
            return None
        names = {n.name for n in walk(self.node) if isinstance(n, Input)}
        if any(name not in numbers or np.ndim(numbers[name]) for name in names):
            return None
        known = {name: numbers[name] for name in names}
        return float(evaluate([self.node], known)[0])


@dataclass
class Reading:
    """A closed scalar as steps.

    order: the nodes that are steps, arguments first. number: their places. name: of
    their values. letter, length: of each index. operands, symbol, formula, rules: see
    ``trace.Step``.
    """

    top: Node
    wrt: Sequence[str]
    sizes: Mapping[str, int]
    given: Mapping[Node, str]
    root: Node = field(init=False)
    order: list[Node] = field(init=False)
    number: dict[Node, int] = field(init=False)
    name: dict[Node, str] = field(init=False)
    letter: dict[Index, str] = field(init=False)
    length: dict[Index, int] = field(init=False)

    def __post_init__(self) -> None:
        everything = walk(self.top, into=uses)
        self.parents = _parents(walk(self.top))
        self.varies = _varying(everything)
        self.first = _first_loads(everything)
        inputs = {n.name for n in everything if isinstance(n, Input)}
        self.number_letters(everything, inputs)
        self._operands: dict[Node, tuple[Node, ...]] = {}
        self.root = self.seen(self.top)
        self.names = {self.seen(n): name for n, name in self.given.items()}
        self.order = walk(self.root, into=self.operands)
        self.number = {n: k for k, n in enumerate(self.order)}
        self.name = self.choose_names(inputs)

    # -- indices ---------------------------------------------------------------------

    def number_letters(self, everything: Sequence[Node], taken: set[str]) -> None:
        letters = (c for c in _letters() if c not in taken)
        found = [n for n in everything if isinstance(n, Index)]
        self.letter = dict(zip(found, letters, strict=False))
        extents = evaluate([i.extent for i in found], {}, self.sizes) if found else []
        self.length = {i: int(n) for i, n in zip(found, extents, strict=True)}
        self.place = {index: k for k, index in enumerate(found)}

    def axes(self, node: Node) -> tuple[Index, ...]:
        """The indices of a step's value, in the order of their letters."""
        if isinstance(node, (Input, Array, Scatter)):
            first = self.first.get(node)
            known = first.indices if first is not None else ()
            plain = tuple(i for i in known if isinstance(i, Index))
            return plain if len(plain) == len(node.shape) else ()
        return tuple(sorted(node.free, key=self.place.__getitem__))

    # -- structure -------------------------------------------------------------------

    def seen(self, node: Node) -> Node:
        """The step that shows ``node``: itself, or what it merely reads or converts."""
        while True:
            if isinstance(node, Load) and self.first.get(node.array) is node:
                node = _base(node.array)
            elif isinstance(node, Array):
                node = node.body
            elif isinstance(node, Call) and node.op == "cast" and self.varies[node]:
                node = node.args[0]
            else:
                return node

    def operands(self, node: Node) -> tuple[Node, ...]:
        """The steps that ``node`` is computed from, each once."""
        if node not in self._operands:
            parts = [p for p in self.parts(node) if p in self.varies]
            found = [self.seen(p) for p in parts if self.varies[p]]
            self._operands[node] = tuple(dict.fromkeys(found))
        return self._operands[node]

    def parts(self, node: Node) -> Sequence[Node]:
        """The graph nodes that stand in the formula of ``node``."""
        reduced = self.reduced(node)
        if reduced is not None:
            return self.factors(reduced)
        if isinstance(node, Call):
            return self.terms(node)
        if isinstance(node, Load):
            inner = (n for i in node.indices for n in walk(_plain(i)))
            gathers = [n for n in inner if isinstance(n, Load)]
            return [_base(node.array), *gathers]
        return [] if isinstance(node, Input) else node.children

    def reduced(self, node: Node) -> Reduce | None:
        """The reduction that a step is, if it is one or a mean of one."""
        if isinstance(node, Reduce):
            return node
        return self.averaged(node)

    def averaged(self, node: Node) -> Reduce | None:
        """The sum in ``sum / n`` if n is the number of its terms."""
        if not (isinstance(node, Call) and node.op == "div"):
            return None
        top, bottom = node.args
        if not isinstance(top, Reduce) or top.kind != "sum" or self.varies[bottom]:
            return None
        if self.parents.get(top, 0) != 1 or top in self.given or bottom.free:
            return None
        terms = np.prod([self.length[i] for i in top.indices], dtype=object)
        return top if self.constant(bottom) == terms else None

    def factors(self, node: Reduce) -> list[Node]:
        """What is multiplied under a sum; for other reductions, the body."""
        result, pending = [], [node.body]
        while pending:
            top = pending.pop()
            plain = isinstance(top, Call) and top.op == "mul" and node.kind == "sum"
            if plain and self.parents.get(top, 0) == 1 and top not in self.given:
                pending.extend(reversed(top.children))
            else:
                result.append(top)
        return result if len(set(result)) == len(result) else [node.body]

    def terms(self, node: Call) -> Sequence[Node]:
        """The arguments; of a long chain of additions, all terms."""
        if node.op != "add":
            return node.args
        result, pending = [], [node.args[1], node.args[0]]
        while pending:
            top = pending.pop()
            chained = isinstance(top, Call) and top.op == "add" and top.type == "float"
            alone = self.parents.get(top, 0) == 1 and top not in self.given
            if chained and alone and top.free == node.free:
                pending.extend(reversed(top.children))
            else:
                result.append(top)
        return result if len(result) >= FLAT else node.args

    def constant(self, node: Node) -> Any:
        """The value of what depends on no input and no index."""
        return evaluate([node], {}, self.sizes)[0]

    # -- names -----------------------------------------------------------------------

    def choose_names(self, inputs: set[str]) -> dict[Node, str]:
        taken = set(inputs) | set(self.given.values())
        fresh = (f"v{k}" for k in count(1))
        fresh = (name for name in fresh if name not in taken)
        loss = next(c for c in ("L", "loss", "the_loss", "") if c not in taken)
        result: dict[Node, str] = {}
        used = set(inputs)
        for node in self.order:
            if isinstance(node, Input):
                result[node] = node.name
                continue
            name = self.names.get(node)
            if name is None or name in used:
                name = loss if node is self.root and loss else next(fresh)
            used.add(name)
            result[node] = name
        return result

    def kind(self, node: Node) -> str:
        """ "parameter", "data" or "operation"."""
        if not isinstance(node, Input):
            return "operation"
        return "parameter" if node.name in self.wrt else "data"

    def symbol(self, node: Node) -> str:
        """What the step does, in a word."""
        if isinstance(node, Input):
            return node.name
        reduced = self.reduced(node)
        if reduced is not None:
            word = reduced.kind if node is reduced else "mean"
            return f"{word} over {', '.join(self.letter[i] for i in reduced.indices)}"
        if isinstance(node, Call):
            if node.op == "pow" and isinstance(node.args[1], Const):
                return written.power("", node.args[1])
            return _SYMBOLS.get(node.op, node.op)
        return "element" if isinstance(node, Load) else "scatter"

    def formula(self, node: Node) -> str:
        """The value of a step by the names of its arguments."""
        if isinstance(node, Input):
            return node.name
        reduced = self.reduced(node)
        if reduced is not None:
            return self.reduction(node, reduced)
        if isinstance(node, Call) and len(self.parts(node)) > len(node.args):
            return " + ".join(self.text(t) for t in self.parts(node))
        if isinstance(node, Load):
            return self.element(node)
        known = self.known(self.parts(node))
        return written.text(node, known, self.letter, self.size)

    def reduction(self, node: Node, reduced: Reduce) -> str:
        factors = self.factors(reduced)
        bound = "".join(self.letter[i] for i in reduced.indices)
        word = reduced.kind if node is reduced else "mean"
        if len(factors) == 1:
            return f"{word}_{bound}({self.text(factors[0])})"
        word = "Σ" if word == "sum" else word
        return f"{word}_{bound} " + "·".join(self.text(f, True) for f in factors)

    def element(self, node: Load) -> str:
        """``U[k[i],j]``: an element of an array at other places than its own."""
        base = _base(node.array)
        name = self.reference(base, False) or "array"
        places = [self.text(_plain(i), True) for i in node.indices]
        return f"{name}[{','.join(places)}]"

    def text(self, node: Node, indexed: bool = False) -> str:
        """``node`` by the names of steps, with their indices if ``indexed``."""
        known = self.known([node], indexed)
        return written.text(node, known, self.letter, self.size)

    def known(self, roots: Sequence[Node], indexed: bool = False) -> dict[Node, str]:
        """The names of the steps that ``roots`` are written with."""
        found: dict[Node, str] = {}

        def into(node: Node) -> Sequence[Node]:
            name = self.reference(node, indexed)
            if name is None:
                return node.children
            found[node] = name
            return ()

        walk(roots, into=into)
        return found

    def reference(self, node: Node, indexed: bool) -> str | None:
        """The name of the step that shows ``node``, None if it is none."""
        step = self.seen(node) if self.varies.get(node) else None
        if step not in self.number:
            return None
        axes = [self.letter[i] for i in self.axes(step)]
        return self.name[step] + (f"[{','.join(axes)}]" if indexed and axes else "")

    def size(self, node: Size) -> str:
        """A run-time length as the number it is."""
        return str(self.sizes.get(node.name, node.name))

    # -- rules -----------------------------------------------------------------------

    def rules(self, node: Node) -> Iterator[tuple[Node, Rule]]:
        """How the adjoint of a step reaches its arguments: (argument, rule)."""
        if isinstance(node, Input):
            return
        if isinstance(node, Load):
            base = self.seen(_base(node.array))
            yield base, Rule(f"{self.adjoint(node)} at {self.element(node)}", None)
            return
        found = [
            (part, partial)
            for part, partial in self.partials(node)
            if partial is not None and self.varies.get(part)
        ]
        simple = simplify([p for _, p in found], stages=("canonicalise",)).roots
        for (part, _), partial in zip(found, simple, strict=True):
            yield self.seen(part), self.rule(node, part, partial)

    def rule(self, node: Node, part: Node, partial: Node) -> Rule:
        text, level = written.piece(partial, {}, self.letter, self.size)
        closed = written.closed((text, level), written.POWER)
        term = self.term(self.adjoint(node), partial, text, closed)
        reduced = self.reduced(node)
        context = set(node.free) | set(() if reduced is None else reduced.indices)
        lacking = sorted(context - part.free, key=self.place.__getitem__)
        if lacking:
            term = f"Σ_{''.join(self.letter[i] for i in lacking)} {term}"
        return Rule(term, text, partial)

    def adjoint(self, node: Node) -> str:
        """``∂L/∂v3``, or 1 for the loss itself."""
        if node is self.root:
            return "1"
        return f"∂{self.name[self.root]}/∂{self.name[node]}"

    @staticmethod
    def term(above: str, partial: Node, text: str, closed: str) -> str:
        """The adjoint above times a partial derivative."""
        value = partial.value if isinstance(partial, Const) else None
        if value == 1:
            return above
        if value == -1:
            return f"-{above}"
        if above == "1":
            return text
        return f"{above} · {closed}"

    def partials(self, node: Node) -> list[tuple[Node, Node | None]]:
        """The derivative of a step by each part, over inputs called like the steps."""
        reduced = self.reduced(node)
        if reduced is not None:
            return self.reduction_partials(node, reduced)
        parts = list(self.parts(node))
        if not isinstance(node, Call):
            return []
        if len(parts) > len(node.args):
            return [(p, graph.const(1.0)) for p in parts]
        args = [self.placeholder(p) for p in parts]
        own = graph.load(graph.input_(self.name[node]))
        return list(zip(parts, OPS[node.op].partials(own, *args), strict=True))

    def reduction_partials(
        self, node: Node, reduced: Reduce
    ) -> list[tuple[Node, Node | None]]:
        factors = self.factors(reduced)
        own = graph.load(graph.input_(self.name[node]))
        indexed = len(factors) > 1
        args = [self.placeholder(f, indexed) for f in factors]
        share = graph.const(1.0)
        if node is not reduced:
            count = np.prod([self.length[i] for i in reduced.indices], dtype=object)
            share = graph.const(1.0) / graph.const(float(count))
        if reduced.kind == "sum":
            result: list[tuple[Node, Node | None]] = []
            for k, factor in enumerate(factors):
                others = args[:k] + args[k + 1 :]
                partial = share
                for m, other in enumerate(others):
                    one = m == 0 and node is reduced
                    partial = other if one else partial * other
                result.append((factor, partial))
            return result
        x = args[0]
        by_kind = {
            "prod": lambda: own / x,
            "logsumexp": lambda: graph.call("exp", x - own),
            "norm": lambda: x / own,
        }
        equal = graph.comparison("eq", x, own)  # the largest or the smallest
        made = by_kind.get(reduced.kind)
        chosen = graph.call("where", equal, 1.0, 0.0)
        return [(factors[0], made() if made else chosen)]

    def placeholder(self, part: Node, indexed: bool = False) -> Node:
        """An input called as ``part`` is written; constants as they are."""
        if isinstance(part, Const):
            return part
        if not self.varies.get(part) and not part.free:
            return graph.const(self.constant(part).item())
        name = self.text(part, indexed)
        return graph.load(graph.input_(name, type=part.type))


# --- helpers --------------------------------------------------------------------------


def _parents(order: Sequence[Node]) -> dict[Node, int]:
    """In how many places each node is used."""
    result: dict[Node, int] = {}
    for node in order:
        for child in node.children:
            result[child] = result.get(child, 0) + 1
    return result


def _varying(order: Sequence[Node]) -> dict[Node, bool]:
    """Whether a node depends on an input; the others are written as numbers."""
    result: dict[Node, bool] = {}
    for node in order:
        inner = any(result[c] for c in node.children)
        result[node] = inner or isinstance(node, Input)
    return result


def _first_loads(order: Sequence[Node]) -> dict[Node, Load]:
    """For each array the load that stands for it: the first at plain indices."""
    result: dict[Node, Load] = {}
    for node in order:
        if not isinstance(node, Load) or node.array in result:
            continue
        plain = [i for i in node.indices if isinstance(i, Index)]
        others = [i for i in node.indices if not isinstance(i, Index)]
        zeros = all(isinstance(i, Const) and i.value == 0 for i in others)
        own = not isinstance(node.array, Array) or node.indices == node.array.indices
        if len(set(plain)) == len(plain) and zeros and own:
            result[node.array] = node
    return result


def _base(array: Node) -> Node:
    return array.body if isinstance(array, Array) else array


def _plain(index: Node) -> Node:
    """``i`` for ``where(i < 0, i + n, i)``, which only counts from the end."""
    if not (isinstance(index, Call) and index.op == "where"):
        return index
    condition, _, plain = index.args
    if isinstance(condition, Call) and condition.op == "lt":
        return plain if condition.args[0] is plain else index
    return index


def _letters() -> Iterator[str]:
    yield from "ijklmnpqrst"
    yield from (f"i{k}" for k in count(1))
