"""The graph as SymPy expressions in index notation, as a textbook prints it.

    mean((X @ w - y)**2)   ->   Sum((Sum(X[i, j]*w[j], (j, 0, d - 1)) - y[i])**2, ...)/n

Nothing is evaluated. A computed array that is used once is written where it is used;
one that is used often, and any large shared part of a large graph, gets a name in a
``Let``, because written out it would grow without bound.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

from symgrad import graph
from symgrad.graph import Array, Call, Const, Index, Input, Load, Node, Reduce, Scatter
from symgrad.language import syntax
from symgrad.language.letters import numbered, placeholder, with_letters
from symgrad.language.sympy_bridge import Writer
from symgrad.language.syntax import Apply, Bind, Expr, Name, Number, Subscript

_SIZE_LETTERS = tuple("nmdhcgoz")
_INVISIBLE = ("cast", "stop_gradient")
"""Operations that do not change the value."""
_SMALL = 8
"""Computed arrays and shared parts below this many nodes are always written out."""


@dataclass(frozen=True)
class IndexNotation:
    """An expression and the symbols of its free indices.

    Attributes:
        expression: SymPy; a ``heads.Let`` where parts have names.
        indices: one symbol for each axis; none for a scalar.
    """

    expression: Any
    indices: tuple[Any, ...]


def graph_to_sympy(
    root: Node, sizes: Mapping[str, str] | None = None, limit: int = 150
) -> IndexNotation:
    """``root`` in index notation.

    Args:
        root: a closed scalar, or an ``Array`` or ``Scatter``, whose element is given.
        sizes: names for run-time lengths (see :func:`size_names`), so that several
            expressions use the same letters.
        limit: number of nodes, written out, above which shared parts get names.
    """
    import sympy

    from symgrad.language import heads

    written = _written_out(_without_corners(root))
    notation = _Notation(written, sizes, limit)
    roots = notation.read(written)
    writer = _index_writer()
    done = [
        (writer.write(tree), tuple(map(writer.write, axes)))
        for tree, axes in with_letters(roots, notation.taken)
    ]
    expression, indices = done.pop()
    if done:
        pairs = []
        for name, (value, axes) in zip(notation.names, done, strict=True):
            base: Any = sympy.IndexedBase(name)
            symbol = base[axes] if axes else sympy.Symbol(name)
            pairs.append(sympy.Tuple(symbol, value))
        expression = heads.Let(*pairs, expression)
    return IndexNotation(expression, indices)


def _without_corners(root: Node) -> Node:
    """``root`` without what decides that softmax of infinities is zero.

    The derivative of log-sum-exp has ``where(isinf(logsumexp(z)), 0, ...)`` for the
    floating-point corner that all of z are -inf. Formulas for people leave it out.
    """

    def is_corner(node: Node) -> bool:
        if not (isinstance(node, Call) and node.op == "where"):
            return False
        condition, yes, _ = node.args
        inner = condition.args[0] if isinstance(condition, Call) else condition
        infinite = isinstance(condition, Call) and condition.op == "isinf"
        sums = isinstance(inner, Reduce) and inner.kind == "logsumexp"
        return infinite and sums and yes is graph.const(0.0)

    if not any(map(is_corner, graph.walk(root))):
        return root
    return graph.transform(root, lambda n: n.children[2] if is_corner(n) else n)


def size_names(roots: Node | Iterable[Node]) -> dict[str, str]:
    """A letter for each run-time length of ``roots``, in order of first use."""
    roots = [roots] if isinstance(roots, Node) else list(roots)
    taken = {node.name for node in graph.walk(roots) if isinstance(node, Input)}
    letters = (name for name in numbered(_SIZE_LETTERS) if name not in taken)
    return {size.name: next(letters) for size in graph.sizes(roots)}


# --- computed arrays ------------------------------------------------------------------


def _written_out(root: Node) -> Node:
    """``root`` with computed arrays that are small, or loaded once, put in place."""
    loads = Counter[Node](n.array for n in graph.walk(root) if isinstance(n, Load))
    weight = _weights(root)

    def put_in(node: Node) -> Node:
        if not (isinstance(node, Load) and isinstance(node.array, Array)):
            return node
        body = node.array.body
        if original.get(node.array, 2) > 1 and weight.get(body, _SMALL) >= _SMALL:
            return node
        return graph.substitute(
            body, dict(zip(node.array.indices, node.indices, strict=True))
        )

    original: dict[Node, int] = {**loads}
    done: dict[Node, Node] = {}
    for node in graph.walk(root):
        changed = graph.rebuild(node, tuple(done[c] for c in node.children))
        if changed is not node and isinstance(node, Array):
            original[changed] = max(original.get(changed, 0), loads.get(node, 0))
        done[node] = put_in(changed)
    return done[root]


def _weights(root: Node) -> dict[Node, int]:
    """The number of nodes of each part when it is written out as a tree."""
    weight: dict[Node, int] = {}
    for node in graph.walk(root):
        parts = node.indices if isinstance(node, Load) else node.children
        weight[node] = 1 + sum(weight[part] for part in parts)
    return weight


# --- the graph as a syntax tree -------------------------------------------------------


class _Notation:
    """The nodes of a graph as trees, with placeholders for indices.

    ``definitions`` are the values of the parts called ``names``, each with its axes.
    """

    def __init__(self, root: Node, sizes: Mapping[str, str] | None, limit: int) -> None:
        self.sizes = dict(sizes) if sizes is not None else size_names(root)
        self.taken = {n.name for n in graph.walk(root) if isinstance(n, Input)}
        self.taken.update(self.sizes.values())
        fresh = numbered(["T"])
        next(fresh)  # T1, T2, ...
        self.fresh = (name for name in fresh if name not in self.taken)
        self.index: dict[Index, Name] = {}
        self.placeholders = map(placeholder, count())
        self.names: list[str] = []
        self.definitions: list[tuple[Expr, list[Name]]] = []
        self.done: dict[Node, Expr] = {}
        self.tensors: dict[Node, Name] = {}
        self.shared = _shared_parts(root, limit)

    def read(self, root: Node) -> list[tuple[Expr, list[Name]]]:
        """All definitions, then the value of ``root``, each with its axes."""
        result = self.element(root)
        self.taken.update(self.names)
        return [*self.definitions, result]

    def element(self, root: Node) -> tuple[Expr, list[Name]]:
        """The value of ``root``, at symbolic indices if it is a tensor."""
        if isinstance(root, Array):
            axes = [self.letter(i) for i in root.indices]
            return self.convert(root.body), axes
        if isinstance(root, Scatter):
            return self.scattered(root)
        return self.convert(root), []

    def letter(self, index: Index) -> Name:
        found = self.index.get(index)
        if found is None:
            found = self.index[index] = next(self.placeholders)
        return found

    def convert(self, root: Node) -> Expr:
        """The tree of a scalar ``root``; parts already converted are used again."""
        for node in graph.walk(root):
            if node in self.done or isinstance(node, Input):
                continue
            if isinstance(node, (Array, Scatter)):
                if node not in self.tensors:
                    self.tensors[node] = self.define(*self.element(node))
                continue
            tree = self.node(node)
            self.done[node] = self.named(node, tree) if node in self.shared else tree
        return self.done[root]

    def define(self, tree: Expr, axes: list[Name]) -> Name:
        """Give a part a name."""
        self.names.append(next(self.fresh))
        self.definitions.append((tree, axes))
        return Name(self.names[-1])

    def named(self, node: Node, tree: Expr) -> Expr:
        """Give a shared part a name, as a function of its free indices."""
        free = sorted(map(self.letter, node.free), key=lambda name: name.id)
        return _element(self.define(tree, free), [*free])

    def node(self, node: Node) -> Expr:
        if isinstance(node, Const):
            return _constant(node)
        if isinstance(node, graph.Size):
            return Name(self.sizes.get(node.name, node.name))
        if isinstance(node, Index):
            return self.letter(node)
        if isinstance(node, Load):
            base = self.tensors.get(node.array)
            if base is None:
                base = Name(cast(Input, node.array).name)
            pairs = zip(node.indices, node.array.shape, strict=True)
            return _element(base, [self.done[_unwrapped(i, n)] for i, n in pairs])
        if isinstance(node, Reduce):
            return self.reduce(node.kind, node.indices, self.done[node.body])
        assert isinstance(node, Call), type(node)
        return _call(node.op, [self.done[a] for a in node.args])

    def reduce(self, kind: str, indices: Iterable[Index], body: Expr) -> Expr:
        for index in reversed(list(indices)):
            last = index.extent - 1
            body = Bind(
                kind, body, self.letter(index).id, Number(0), self.convert(last)
            )
        return body

    def scattered(self, node: Scatter) -> tuple[Expr, list[Name]]:
        """``Sum(KroneckerDelta(axis, target)*value)``, without deltas of plain axes.

        Where a target is itself a summed index of the same extent, that index is the
        axis, and neither a sum nor a delta is needed.
        """
        axes: list[Name] = []
        value = self.convert(node.value)
        over = list(node.over)
        used = Counter(i for target in node.targets for i in target.free)
        for extent, target in zip(node.shape, node.targets, strict=True):
            if (
                isinstance(target, Index)
                and target in over
                and used[target] == 1
                and target.extent is extent
            ):
                over.remove(target)
                axes.append(self.letter(target))
                continue
            axes.append(next(self.placeholders))
            delta = Apply("delta", (axes[-1], self.convert(_unwrapped(target, extent))))
            value = Apply("mul", (delta, value))
        return self.reduce("sum", over, value), axes


def _shared_parts(root: Node, limit: int) -> set[Node]:
    """The parts that get a name: used more than once, in a graph above ``limit``."""
    weight = _weights(root)
    tensors = [n for n in weight if isinstance(n, (Array, Scatter))]
    if weight[root] + sum(weight[n] for n in tensors) <= limit:
        return set()
    uses = Counter(c for n in weight for c in n.children)
    return {
        n
        for n in weight
        if isinstance(n, (Call, Reduce)) and uses[n] > 1 and weight[n] >= _SMALL
    }


def _element(base: Name, indices: list[Expr]) -> Expr:
    return Subscript(base, tuple(indices)) if indices else base


def _unwrapped(index: Node, extent: Node) -> Node:
    """``i`` for ``where(i < 0, i + extent, i)``, which only counts from the end."""
    if not (isinstance(index, Call) and index.op == "where"):
        return index
    condition, wrapped, plain = index.args
    if not (isinstance(condition, Call) and isinstance(wrapped, Call)):
        return index
    is_negative = condition.op == "lt" and condition.args == (plain, graph.const(0))
    is_wrapped = wrapped.op == "add" and set(wrapped.args) == {plain, extent}
    return plain if is_negative and is_wrapped else index


def _constant(node: Const) -> Expr:
    """A number; whole floats print without a point."""
    value = node.value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        is_negative_zero = value == 0 and math.copysign(1.0, value) < 0
        value = value if is_negative_zero else int(value)
    if isinstance(value, bool) or not value < 0:
        return Number(value)
    return Apply("neg", (Number(-value),))


def _call(op: str, args: list[Expr]) -> Expr:
    """An operation as people write it: x + (-y) as x - y, a cast as nothing."""
    if op in _INVISIBLE:
        return args[0]
    if op == "fma":
        return Apply("add", (Apply("mul", (args[0], args[1])), args[2]))
    if op == "add":
        for left, right in (args, args[::-1]):
            if isinstance(right, Apply) and right.function == "neg":
                return Apply("sub", (left, right.args[0]))
    if op == "mul" and args[0] is args[1]:
        return Apply("pow", (args[0], Number(2)))
    if op == "mul" and _is_minus_one(args[0]):
        return Apply("neg", (args[1],))
    return Apply(op, tuple(args))


def _is_minus_one(tree: Expr) -> bool:
    if not (isinstance(tree, Apply) and tree.function == "neg"):
        return False
    inner = tree.args[0]
    return isinstance(inner, Number) and inner.value == 1


# --- the syntax tree as SymPy ---------------------------------------------------------


def _index_writer() -> Writer:
    """A writer that makes ``Indexed`` and ``KroneckerDelta``, known to SymPy."""
    import sympy

    class IndexWriter(Writer):
        def convert(self, node: Expr) -> Any:
            if isinstance(node, Subscript):
                base = sympy.IndexedBase(cast(Name, node.base).id)
                items = [self.done[cast(syntax.Expr, item)] for item in node.items]
                return sympy.Indexed(base, *items)
            if isinstance(node, Apply) and node.function == "delta":
                args = [self.done[a] for a in node.args]
                return self.new(sympy.KroneckerDelta, *args)
            return super().convert(node)

    return IndexWriter()
