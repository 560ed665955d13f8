"""Arithmetic of lengths: integer nodes over run-time sizes.

``evaluate`` gives the value of such a node for known sizes. ``normal`` and its
relatives bring sums of multiples into one form, so that lengths (and index expressions)
that are equal as affine forms are one node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from symgrad import graph
from symgrad.graph import Call, Const, Index, Node, Size

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
    if not _arithmetic_arguments(node):
        return _linear_step(node, [])
    forms: dict[Node, Linear] = {}
    for inner in graph.walk(node, into=_arithmetic_arguments):
        args = [forms[argument] for argument in _arithmetic_arguments(inner)]
        forms[inner] = _linear_step(inner, args)
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
