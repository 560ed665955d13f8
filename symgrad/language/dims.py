"""Lengths of axes: integer nodes over run-time sizes, and the facts known about them.

A length is a ``Const`` (static), a ``Size`` (dynamic) or affine in these (``n - 1`` for
a slice). *Lengths are nodes*, so two of them are surely equal when they are the same
node; ``normal`` brings sums into one form for this. Where a formula needs two different
nodes to be equal, ``Dimensions.equal`` looks at the sizes at hand and then *binds* one
to the other, so that the next pass over the formula uses one node for both. What had to
be assumed about sizes on the way becomes a ``Guard``: data that violates one needs a
new build.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from symgrad import graph
from symgrad.graph import Const, Index, Node, Size
from symgrad.language.extents import Linear, evaluate, linear, minus, normal

SMALL = 64
"""Axes up to this length are specialised, unless they are the leading axis of data."""

Pairs = tuple[tuple[str, int], ...]
"""Axes of inputs, as (name, axis)."""


def default_static(shape: Sequence[int], parameter: bool) -> tuple[bool, ...]:
    """Per axis: compile for its length (True), or take the length at run time?

    Length 1 is always static because it broadcasts; other lengths up to ``SMALL`` are,
    but for the leading axis of data, which counts rows.
    """
    return tuple(
        length == 1 or (length <= SMALL and (parameter or axis >= 1))
        for axis, length in enumerate(shape)
    )


@dataclass(frozen=True, slots=True)
class Guard:
    """A fact about run-time sizes that a graph relies on.

    Attributes:
        fact: a node of type bool over sizes.
        message: the fact in words.
    """

    fact: Node
    message: str

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether it is true for these sizes."""
        return bool(evaluate(self.fact, sizes))


def violated(guards: Iterable[Guard], sizes: Mapping[str, int]) -> Guard | None:
    """The first guard that does not hold, or None."""
    return next((guard for guard in guards if not guard.holds(sizes)), None)


def read_sizes(
    dims: Mapping[str, Pairs], shapes: Mapping[str, Sequence[int]]
) -> dict[str, int] | None:
    """The value of every size for arrays of these shapes.

    None if two axes that the formula needs to be of one length are not.
    """
    sizes: dict[str, int] = {}
    for name, pairs in dims.items():
        lengths = {shapes[array][axis] for array, axis in pairs}
        if len(lengths) != 1:
            return None
        sizes[name] = lengths.pop()
    return sizes


# --- What is known --------------------------------------------------------------------


_REVERSED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq"}


class Dimensions:
    """The run-time sizes of the inputs, which of them are equal, and what was assumed.

    The bindings outlive a pass over the formula, guards do not: see ``next_pass``.
    """

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self._axes: dict[str, tuple[str, int]] = {}
        self._bound: dict[str, Node] = {}
        self._facts: dict[tuple[str, Node], tuple[int, str]] = {}
        self._resolved: dict[Node, Node] = {}
        self.changed = False

    def next_pass(self) -> None:
        """Forget what a pass has assumed; keep what it found to be equal."""
        self._facts.clear()
        self.changed = False

    def declare(self, array: str, axis: int, length: int) -> Node:
        """The dynamic length of an axis of an input, which is ``length`` at present."""
        name = f"{array}.{axis}"
        self.sizes[name] = length
        self._axes[name] = (array, axis)
        return self.resolve(graph.size(name))

    def resolve(self, node: Node) -> Node:
        """``node`` with all bound sizes replaced, in normal form."""
        if isinstance(node, (Const, Index)):
            return node
        if node not in self._resolved:
            self._resolved[node] = self._resolve(node)
        return self._resolved[node]

    def _resolve(self, node: Node) -> Node:
        def replace(inner: Node) -> Node:
            while isinstance(inner, Size) and inner.name in self._bound:
                inner = self._bound[inner.name]
            return inner

        result = graph.transform(node, replace)
        return normal(result) if result is node else self.resolve(result)

    def actual(self, node: Node) -> int:
        """The value of ``node`` for the sizes at hand."""
        return evaluate(node, self.sizes)

    def require(self, op: str, left: Node, right: Node | int, message: str) -> None:
        """Assume ``left op right`` (lt le gt ge eq), which holds at present."""
        difference = linear(self.resolve(minus(left, right)))
        terms, limit = difference.terms, -difference.constant
        if not terms:
            return
        if max(terms.values()) < 0:
            terms = {atom: -factor for atom, factor in terms.items()}
            limit, op = -limit, _REVERSED[op]
        if op in ("lt", "gt"):
            op, limit = ("le", limit - 1) if op == "lt" else ("ge", limit + 1)
        if op == "ge" and limit <= 0 and min(terms.values()) > 0:
            return  # lengths are never negative
        key = (op, Linear(terms, 0).node())
        known = self._facts.get(key)
        if (
            known is None
            or (op == "ge" and limit > known[0])
            or (op == "le" and limit < known[0])
        ):
            self._facts[key] = (limit, message)

    def equal(self, left: Node, right: Node) -> Node | None:
        """The one length that both are, or None if they differ at present."""
        left, right = self.resolve(left), self.resolve(right)
        if left is right:
            return left
        if self.actual(left) != self.actual(right):
            return None
        size = self._to_bind(left, right)
        if size is None:
            self.require("eq", left, right, f"{left} is {right}")
            return left
        self._bind(size, left, right)
        return self.resolve(left)

    def _to_bind(self, left: Node, right: Node) -> Size | None:
        """The size to define by ``left == right``: a plain one, else the latest one."""
        difference = linear(minus(left, right))
        sizes = [
            atom
            for atom, count in difference.terms.items()
            if isinstance(atom, Size)
            and abs(count) == 1
            and not any(
                atom in graph.sizes(other)
                for other in difference.terms
                if other is not atom
            )
        ]
        age = list(self._axes)
        plain = [size for size in sizes if size is left or size is right]
        return max(plain or sizes, key=lambda s: age.index(s.name), default=None)

    def _bind(self, size: Size, left: Node, right: Node) -> None:
        difference = linear(minus(left, right))
        sign = difference.terms[size]
        rest = difference.plus(Linear({size: 1}, 0), -sign)
        self._bound[size.name] = Linear({}, 0).plus(rest, -sign).node()
        self._resolved.clear()
        self.changed = True

    # -- results --

    def classes(self) -> dict[str, Pairs]:
        """Size name -> the axes of that length, the one that names it first."""
        result: dict[str, list[tuple[str, int]]] = {}
        for name, axis in self._axes.items():
            root = self.resolve(graph.size(name))
            key = root.name if isinstance(root, Size) else name
            pairs = result.setdefault(key, [])
            pairs.insert(0 if key == name else len(pairs), axis)
        return {name: tuple(pairs) for name, pairs in result.items()}

    def guards(self) -> tuple[Guard, ...]:
        """All that was assumed, and the bindings that are no plain equality."""
        result: list[Guard] = []
        for name, (array, axis) in self._axes.items():
            length = self.resolve(graph.size(name))
            if not isinstance(length, Size):
                fact = graph.call("eq", graph.size(name), length, type=graph.BOOL)
                result.append(
                    Guard(fact, f"axis {axis} of {array} has length {length}")
                )
        for (op, terms), (limit, message) in self._facts.items():
            fact = graph.call(op, terms, limit, type=graph.BOOL)
            result.append(Guard(fact, message))
        return tuple(result)

    def describe(self, extents: Sequence[Node]) -> tuple[str, list[str]]:
        """A shape with letters for dynamic sizes, and what each letter is.

        ``("(n, 3)", ["n = 1000 rows of X, y"])``.
        """
        letters: dict[Size, str] = {}
        for size in graph.sizes(extents):
            letters[size] = "nmpqrs"[len(letters)] if len(letters) < 6 else size.name
        shown = [self._lettered(self.resolve(extent), letters) for extent in extents]
        classes = self.classes()
        notes = [
            f"{letter} = {self.sizes[size.name]} {_origin(classes.get(size.name, ()))}"
            for size, letter in letters.items()
        ]
        return f"({', '.join(shown)}{',' if len(shown) == 1 else ''})", notes

    def origin(self, extent: Node) -> str:
        """``rows of X, y`` where a length is a plain size, else nothing."""
        extent = self.resolve(extent)
        if not isinstance(extent, Size):
            return ""
        return _origin(self.classes().get(extent.name, ()))

    def _lettered(self, extent: Node, letters: Mapping[Size, str]) -> str:
        def rename(node: Node) -> Node:
            return graph.size(letters[node]) if node in letters else node  # pyright: ignore[reportArgumentType]

        text = graph.to_text(graph.transform(extent, rename)).replace(" + -", " - ")
        return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _origin(pairs: Pairs) -> str:
    """``rows of X, y`` for axes of inputs."""
    words = {0: "rows of", 1: "columns of"}
    named: dict[str, list[str]] = {}
    for array, axis in pairs:
        named.setdefault(words.get(axis, f"along axis {axis} of"), []).append(array)
    return ", ".join(f"{word} {', '.join(arrays)}" for word, arrays in named.items())
