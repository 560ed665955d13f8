"""What a rewrite rule is: two expressions with wildcards, a kind, and perhaps a guard.

Both sides are ordinary expressions. A wildcard is an element of an input whose name
starts with ``?``; it stands for any expression of its type, the same one everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from symgrad import graph
from symgrad.graph import FLOAT, Call, Const, Input, Load, Node, Reduce

EXACT = "exact"
"""The same bits, nan and inf included (a nan is a nan)."""
REAL = "real"
"""Equal as real numbers wherever the left side is defined; rounding may differ."""
STABLE = "stable"
"""REAL, and measurably more accurate."""
KINDS = (EXACT, REAL, STABLE)

_REASONS = {
    EXACT: "the same bits",
    REAL: "the same number",
    STABLE: "the same number, with digits that the other form loses",
}

Bindings: TypeAlias = Mapping[Node, Node]


class RuleError(ValueError):
    """A rewrite rule contradicts itself."""


def wild(name: str, type: str = FLOAT) -> Load:
    """The wildcard called ``name``, for expressions of ``type``."""
    return graph.load(graph.input_("?" + name, type=type))


def is_wild(node: Node) -> bool:
    """Is this a wildcard?"""
    return (
        isinstance(node, Load)
        and isinstance(node.array, Input)
        and node.array.name.startswith("?")
    )


def head(node: Node) -> str | None:
    """What rules are filed under: the operation of a Call, the kind of another node."""
    if isinstance(node, Call):
        return node.op
    if isinstance(node, Reduce):
        return "reduce " + node.kind
    return "load" if isinstance(node, Load) else None


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that is proved of what the wildcards stand for; unknown means no."""

    name: str
    holds: Callable[[Bindings], bool]
    literals: frozenset[Node] = frozenset()  # wildcards that must stand for literals

    def __and__(self, other: Guard) -> Guard:
        return Guard(
            f"{self.name} and {other.name}",
            lambda bindings: self.holds(bindings) and other.holds(bindings),
            self.literals | other.literals,
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """``lhs`` may be replaced by ``rhs``, if the guard holds.

    ``why``: for people, a few words; by default what the kind and the guard say.
    Raises RuleError where a wildcard of the right side is not on the left, the types
    differ, or the kind is unknown.
    """

    name: str
    lhs: Node
    rhs: Node
    kind: str
    guard: Guard | None = None
    why: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RuleError(f"rule {self.name!r}: kind must be one of {KINDS}")
        if head(self.lhs) is None or is_wild(self.lhs):
            raise RuleError(f"rule {self.name!r}: the left side must be an operation")
        if self.lhs.type != self.rhs.type:
            raise RuleError(
                f"rule {self.name!r}: a {self.lhs.type} becomes a {self.rhs.type}"
            )
        left = {n for n in graph.walk(self.lhs) if is_wild(n)}
        for node in graph.walk(self.rhs):
            if is_wild(node) and node not in left:
                raise RuleError(f"rule {self.name!r}: {node} is unbound on the right")

    @property
    def reason(self) -> str:
        """Why the rewrite may be done."""
        proved = f", as {self.guard.name}" if self.guard else ""
        return self.why or _REASONS[self.kind] + proved

    def __str__(self) -> str:
        guard = f" if {self.guard.name}" if self.guard else ""
        return f"{self.name}: {self.lhs} -> {self.rhs} [{self.kind}]{guard}"


EVERYWHERE = ("*",)


@dataclass(frozen=True, slots=True)
class Step:
    """A rewrite that is no pattern: ``apply`` gives the new node, or None.

    ``heads`` are the heads of the nodes it is tried on, or EVERYWHERE; ``examples`` are
    expressions that it changes, on which tests sample it as they sample rules.
    ``type``: that of the nodes, if not any. ``among``: for a sum, what has to be among
    its terms, see candidates.Among.
    """

    name: str
    heads: tuple[str, ...]
    kind: str
    apply: Callable[[Node], Node | None]
    examples: tuple[Node, ...]
    why: str = ""
    type: str | None = None
    among: frozenset[frozenset[str]] = frozenset()

    @property
    def reason(self) -> str:
        """Why the rewrite may be done."""
        return self.why or _REASONS[self.kind]


# --------------------------------------------------------------------------------------
# Guards
# --------------------------------------------------------------------------------------


def constant(*names: str) -> Guard:
    """These wildcards stand for literals."""
    found = [wild(n) for n in names]
    return Guard(
        f"{' and '.join(names)} constant",
        lambda bindings: all(isinstance(bindings[w], Const) for w in found),
        frozenset(found),
    )


def literal(name: str, fact: str, holds: Callable[[float], bool]) -> Guard:
    """This wildcard stands for a literal with a property."""
    found = wild(name)

    def check(bindings: Bindings) -> bool:
        value = bindings[found]
        return isinstance(value, Const) and holds(float(value.value))

    return Guard(f"{name} {fact}", check, frozenset((found,)))


# Operations whose result is never below zero, whatever the arguments; it may be nan.
_NONNEGATIVE = frozenset(
    "abs exp exp2 sqrt cosh sigmoid softplus relu erfc hypot acos acosh".split()
)
_CLOSED = frozenset(("add", "mul", "div", "minimum", "maximum"))  # kept by these


def nonnegative(name: str) -> Guard:
    """This wildcard provably stands for something not below zero (or nan)."""
    found = wild(name)
    return Guard(f"{name} >= 0", lambda bindings: provably_nonnegative(bindings[found]))


def provably_nonnegative(root: Node, limit: int = 64) -> bool:
    """Is every value of ``root`` >= 0 or nan? Looks at up to ``limit`` nodes."""
    pending, seen = [root], 0
    while pending:
        node, seen = pending.pop(), seen + 1
        if seen > limit:
            return False
        if isinstance(node, Const) and float(node.value) >= 0:
            continue
        if isinstance(node, Call) and node.op in _NONNEGATIVE:
            continue
        if isinstance(node, Call) and _is_square(node):
            continue
        if isinstance(node, Call) and node.op in _CLOSED:
            pending.extend(node.args)
        elif isinstance(node, Reduce) and node.kind != "logsumexp":
            pending.extend([] if node.kind == "norm" else [node.body])
        else:
            return False
    return True


def _is_square(node: Call) -> bool:
    if node.op == "mul":
        return node.args[0] is node.args[1]
    exponent = node.args[-1]
    return node.op == "pow" and isinstance(exponent, Const) and exponent.value % 2 == 0
