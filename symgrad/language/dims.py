"""Lengths of axes: integer nodes over run-time sizes, and the facts known about them.

A length is a ``Const`` (static), a ``Size`` (dynamic) or affine in these (``n - 1`` for a
slice). *Lengths are nodes*, so two of them are surely equal when they are the same node;
``normal`` brings sums into one form for this. Where a formula needs two different nodes
to be equal, ``Dimensions.equal`` looks at the sizes at hand and then *binds* one to the
other, so that the next pass over the formula uses one node for both. What had to be
assumed about sizes on the way becomes a ``Guard``: data that violates one needs a new
build.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from symgrad import graph
from symgrad.graph import Call, Const, Index, Node, Size

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


# --- Evaluation -----------------------------------------------------------------------


def evaluate(node: Node, sizes: Mapping[str, int]) -> int:
    """The integer (or truth value) of a node over sizes and integer operations.

    Raises TypeError if the node depends on anything but sizes.
    """
    values: dict[Node, int] = {}
    for inner in graph.walk(node):
        if isinstance(inner, Const):
            values[inner] = int(inner.value)
        elif isinstance(inner, Size):
            values[inner] = int(sizes[inner.name])
        elif isinstance(inner, Call) and inner.op in _OPERATIONS:
            values[inner] = int(_OPERATIONS[inner.op](*(values[a] for a in inner.args)))
        else:
            raise TypeError(f"{inner} is not determined by shapes")
    return values[node]


_OPERATIONS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "floor_divide": lambda a, b: a // b if b else 0,
    "mod": lambda a, b: a % b if b else 0,
    "minimum": min,
    "maximum": max,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "not": lambda a: not a,
    "where": lambda c, a, b: a if c else b,
}


def known_from_shapes(node: Node) -> bool:
    """Whether ``node`` is an integer that the shapes of the inputs determine."""
    return node.type == graph.INT and all(
        isinstance(inner, (Const, Size))
        or (isinstance(inner, Call) and inner.op in _OPERATIONS)
        for inner in graph.walk(node)
    )


# --- Affine forms ---------------------------------------------------------------------

_ARITHMETIC = frozenset(("add", "sub", "mul", "neg"))


@dataclass(frozen=True, slots=True)
class Linear:
    """``constant + sum(factor * atom)``: an integer node with like terms collected."""

    terms: Mapping[Node, int]
    constant: int

    def plus(self, other: Linear, factor: int = 1) -> Linear:
        """``self + factor * other``."""
        terms = dict(self.terms)
        for atom, count in other.terms.items():
            terms[atom] = terms.get(atom, 0) + factor * count
        terms = {atom: count for atom, count in terms.items() if count}
        return Linear(terms, self.constant + factor * other.constant)

    def node(self) -> Node:
        """The normal form as a node: positive terms, negative terms, the constant."""
        ordered = list(self.terms.items())
        if len(ordered) > 1:
            ordered.sort(key=_term_order)
        result: Node | None = None
        for atom, count in ordered:
            size = abs(count)
            term = atom if size == 1 else graph.fold_int("mul", atom, graph.const(size))
            if count < 0:
                left = graph.const(0) if result is None else result
                result = graph.fold_int("sub", left, term)
            else:
                result = term if result is None else graph.fold_int("add", result, term)
        constant = graph.const(self.constant)
        return constant if result is None else graph.fold_int("add", result, constant)


def _term_order(term: tuple[Node, int]) -> tuple[bool, bool, str]:
    atom, count = term
    return (count < 0, not isinstance(atom, Index), graph.to_text(atom))


def linear(node: Node) -> Linear:
    """``node`` as an affine form; whatever is not arithmetic is an atom."""
    forms: dict[Node, Linear] = {}
    for inner in graph.walk(node, into=_arithmetic_arguments):
        forms[inner] = _linear_step(inner, [forms[a] for a in _arithmetic_arguments(inner)])
    return forms[node]


def _arithmetic_arguments(node: Node) -> tuple[Node, ...]:
    arithmetic = isinstance(node, Call) and node.op in _ARITHMETIC
    return node.args if isinstance(node, Call) and arithmetic else ()


def _linear_step(node: Node, args: list[Linear]) -> Linear:
    if isinstance(node, Const):
        return Linear({}, int(node.value))
    if isinstance(node, Call) and node.op in _ARITHMETIC:
        if node.op == "neg":
            return Linear({}, 0).plus(args[0], -1)
        left, right = args
        if node.op in ("add", "sub"):
            return left.plus(right, 1 if node.op == "add" else -1)
        for one, other in ((left, right), (right, left)):
            if not one.terms:
                return Linear({}, 0).plus(other, one.constant)
    return Linear({node: 1}, 0)


def normal(node: Node) -> Node:
    """An equal node in normal form: nodes of equal affine forms become one node."""
    if isinstance(node, (Const, Size, Index)):
        return node
    return linear(node).node()


def plus(left: Node, right: Node | int) -> Node:
    """``left + right`` in normal form."""
    return linear(left).plus(linear(graph.lift(right))).node()


def minus(left: Node, right: Node | int) -> Node:
    """``left - right`` in normal form."""
    return linear(left).plus(linear(graph.lift(right)), -1).node()


def product(extents: Iterable[Node]) -> Node:
    """The product of lengths."""
    result: Node = graph.const(1)
    for extent in extents:
        result = graph.fold_int("mul", result, extent)
    return result


def is_const(node: Node, value: int) -> bool:
    """Whether ``node`` is the literal ``value``."""
    return isinstance(node, Const) and node.value == value


# --- What is known --------------------------------------------------------------------


class Dimensions:
    """The run-time sizes of the inputs, which of them are equal, and what was assumed.

    The bindings outlive a pass over the formula, guards do not: see ``next_pass``.
    """

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self._axes: dict[str, tuple[str, int]] = {}
        self._bound: dict[str, Node] = {}
        self._guards: dict[Node, str] = {}
        self._resolved: dict[Node, Node] = {}
        self.changed = False

    def next_pass(self) -> None:
        """Forget what a pass has assumed; keep what it found to be equal."""
        self._guards.clear()
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
            if isinstance(inner, Size):
                bound = self._bound.get(inner.name)
                return inner if bound is None else self.resolve(bound)
            return inner

        return normal(graph.transform(node, replace))

    def actual(self, node: Node) -> int:
        """The value of ``node`` for the sizes at hand."""
        return evaluate(node, self.sizes)

    def require(self, op: str, left: Node, right: Node | int, message: str) -> None:
        """Assume ``left op right``, which holds for the sizes at hand."""
        difference = linear(self.resolve(minus(left, right)))
        if not difference.terms:
            return
        never_negative = difference.constant >= 0 and min(difference.terms.values()) > 0
        if op == "ge" and never_negative:
            return
        terms = Linear(difference.terms, 0).node()
        fact = graph.call(op, terms, -difference.constant, type=graph.BOOL)
        self._guards.setdefault(fact, message)

    def equal(self, left: Node, right: Node) -> Node | None:
        """The one length that both are, or None if they differ for the sizes at hand."""
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
        facts: dict[Node, str] = {}
        for name, (array, axis) in self._axes.items():
            length = self.resolve(graph.size(name))
            if not isinstance(length, Size):
                fact = graph.call("eq", graph.size(name), length, type=graph.BOOL)
                facts[fact] = f"axis {axis} of {array} has length {length}"
        facts.update((self._final(f), m) for f, m in self._guards.items())
        return tuple(Guard(f, m) for f, m in facts.items() if not isinstance(f, Const))

    def _final(self, fact: Node) -> Node:
        assert isinstance(fact, Call), fact
        return graph.call(
            fact.op, *(self.resolve(a) for a in fact.args), type=graph.BOOL
        )

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

    def _lettered(self, extent: Node, letters: Mapping[Size, str]) -> str:
        def rename(node: Node) -> Node:
            return graph.size(letters[node]) if node in letters else node  # pyright: ignore[reportArgumentType]

        text = graph.to_text(graph.transform(extent, rename))
        return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _origin(pairs: Pairs) -> str:
    """``rows of X, y`` for axes of inputs."""
    words = {0: "rows of", 1: "columns of"}
    named: dict[str, list[str]] = {}
    for array, axis in pairs:
        named.setdefault(words.get(axis, f"along axis {axis} of"), []).append(array)
    return ", ".join(f"{word} {', '.join(arrays)}" for word, arrays in named.items())
