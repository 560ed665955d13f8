"""What the files of stable forms share: named rows that know where they matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, partial

from symgrad import graph
from symgrad.graph import FLOAT, Node
from symgrad.ops import apply
from symgrad.simplify.candidates import counted
from symgrad.simplify.rule import STABLE, Step, wild
from symgrad.simplify.stable_terms import (
    Term,
    args,
    is_call,
    number,
    scaled,
    split_coefficient,
    terms,
    total,
)

Rewriting = Callable[[Node], Node | None]
Intervals = Mapping[str, tuple[float, float]]
"""Per wildcard, the values at which a form is sampled; logarithmically."""


@dataclass(frozen=True, slots=True)
class Stable(Step):
    """A Step of kind STABLE. ``at``: where its examples lose digits, or more, before.

    Tests demand that the largest error over these intervals is smaller afterwards.
    rounded: both sides are equal but for what a double rounds off: a series ends, or a
    literal is the nearest double.
    """

    at: Intervals = field(default_factory=dict, hash=False)
    rounded: bool = False


def stable(
    name: str,
    heads: str,
    apply: Rewriting,
    examples: Sequence[Node],
    kind: str = STABLE,
    rounded: bool = False,
    **at: tuple[float, float],
) -> Stable:
    """A row of the table of stable forms."""
    among = _AMONG.get(apply, frozenset())
    return Stable(
        name, tuple(heads.split(",")), kind, _in_range(apply), tuple(examples),
        type=FLOAT, among=among, at=at, rounded=rounded,
    )  # fmt: skip


@cache
def _in_range(rewriting: Rewriting) -> Rewriting:
    """The rewriting, but for sums with a coefficient that no double holds."""

    def rewrite(node: Node) -> Node | None:
        try:
            return rewriting(node)
        except OverflowError:
            return None

    return rewrite


_AMONG: dict[Rewriting, frozenset[frozenset[str]]] = {}


def among(*required: str) -> Callable[[Rewriting], Rewriting]:
    """Says of a rewriting of sums which operations must be among the terms, "1" being a
    literal: one of ``required``, each of which may list several and one of them twice.

    A necessary condition, cheaper than the rewriting itself.
    """

    def note(rewriting: Rewriting) -> Rewriting:
        _AMONG[rewriting] = frozenset(counted(line.split()) for line in required)
        return rewriting

    return note


u, v, w = wild("u"), wild("v"), wild("w")

exp, expm1, log, log1p = (partial(apply, f) for f in ("exp", "expm1", "log", "log1p"))
sqrt, power, hypot = (partial(apply, f) for f in ("sqrt", "pow", "hypot"))
sin, cos, tan = (partial(apply, f) for f in ("sin", "cos", "tan"))
sinh, cosh, tanh = (partial(apply, f) for f in ("sinh", "cosh", "tanh"))
atan, atan2, atanh = (partial(apply, f) for f in ("atan", "atan2", "atanh"))
sigmoid, softplus = (partial(apply, f) for f in ("sigmoid", "softplus"))
erf, erfc = partial(apply, "erf"), partial(apply, "erfc")
log1mexp, logaddexp = partial(apply, "log1mexp"), partial(apply, "logaddexp")
where = partial(apply, "where")
absolute, equal, maximum = (partial(apply, f) for f in ("abs", "eq", "maximum"))


def half(node: Node) -> Node:
    """``node / 2``, the literal factor of a product halved instead."""
    return total((c / 2, n) for c, n in terms(node)) if terms(node) else 0.5 * node


def double(node: Node) -> Node:
    """``2 * node``."""
    found = terms(node)
    return total((2 * c, n) for c, n in found) if found else 2.0 * node


def negative(node: Node) -> Node:
    """``-node``, signs of terms turned."""
    found = terms(node)
    return total((-c, n) for c, n in found) if found else -node


def opposite(a: Node, b: Node) -> bool:
    """Is ``a + b`` zero as a formula?"""
    mine, other = {n: c for c, n in terms(a)}, terms(b)
    return bool(other) and mine == {n: -c for c, n in other}


def plain_difference(a: Node, b: Node) -> Node:
    """``a - b``, terms that both have left out."""
    if number(b) == 0:
        return a
    if number(a) == 0:
        return negative(b)
    if not terms(a) or not terms(b):
        return a - b
    return total(joined(terms(a), tuple((-c, n) for c, n in terms(b))))


def joined(*groups: Sequence[Term]) -> tuple[Term, ...]:
    """Like terms of several sums added."""
    found: dict[Node, Fraction] = {}
    for group in groups:
        for c, node in group:
            found[node] = found.get(node, Fraction(0)) + c
    return tuple((c, n) for n, c in found.items() if c)


def scaled_terms(c: Fraction, node: Node) -> tuple[Term, ...]:
    """``c * node`` as terms; itself, if it has too many."""
    if number(node) == 0:
        return ()
    found = terms(node)
    return tuple((c * k, n) for k, n in found) if found else ((c, node),)


def times_constant(c: Fraction, node: Node) -> Node:
    """``c * node``, literal factors multiplied."""
    factor, rest = split_coefficient(node)
    return scaled(c * factor, rest)


def divided(a: Node, b: Node) -> Node:
    """``a / b``; of a square as two factors, so that it does not overflow."""
    if is_call(a, "mul") and args(a)[0] is args(a)[1]:
        root = args(a)[0]
        return root / b * root
    return a / b


def kept(a: Node, b: Node | float) -> Node:
    """``a + b`` as it was written, to the bit, in a form that no rule takes up again:
    for the branch where nothing cancels."""
    return apply("fma", 1.0, b, a)


def unguarded(node: Node) -> Node:
    """The sum that a rule has split into cases; else the node itself."""
    if is_call(node, "where") and is_call(args(node)[2], "fma"):
        _, b, a = args(args(node)[2])
        return a + b
    return node


def unpowered(node: Node) -> Node:
    """The power of ``1 + x`` that a rule has split into cases; else the node itself."""
    if is_call(node, "where") and is_call(args(node)[2], "pow"):
        base, n = args(args(node)[2])
        if is_call(base, "fma"):
            return power(args(base)[2], n)
    return node


def below(node: Node, bound: float) -> Node:
    """The condition ``abs(node) < bound``."""
    return graph.comparison("lt", absolute(node), bound)
