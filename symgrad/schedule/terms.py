"""Terms of sums over rows, ``factor * sum_i row_i``: what feedback.py takes apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import Call, Const, Index, Node, Reduce
from symgrad.schedule import cost
from symgrad.schedule.streaming import DROPPED, Stream, streamed

MAX_FACTORS = 32
"""A product of more factors is not recognised as a mean."""

ZERO, ONE = graph.const(0.0), graph.const(1.0)


class Term(NamedTuple):
    """``factor * row`` where all masks hold, else zero, summed over ``over``.

    factor and masks (conditions, and whether they are to hold) are the same in every
    row; row is free of feedback, but for what it is relative to (``stream``). over:
    indices of sums inside of the row that its factor varies with.
    """

    factor: Node
    row: Node
    stream: Stream | None = None
    masks: tuple[tuple[Node, bool], ...] = ()
    over: tuple[Index, ...] = ()

    @property
    def varies(self) -> frozenset[Index]:
        """What all but the row depends on."""
        parts = [self.factor, *(condition for condition, _ in self.masks)]
        if self.stream is not None:
            parts.append(self.stream.top)
        return frozenset[Index]().union(*(part.free for part in parts))

    def substituted(self, mapping: Mapping[Index, Node]) -> Term:
        """The term at other indices."""

        def at(node: Node) -> Node:
            return graph.substitute(node, mapping)

        masks = tuple((at(condition), keep) for condition, keep in self.masks)
        stream = self.stream
        if stream is not None:
            top = at(stream.top)
            assert isinstance(top, Reduce)
            stream = Stream(top, stream.degree)
        return Term(at(self.factor), at(self.row), stream, masks, self.over)


Terms = list[Term]


def compatible(a: Stream | None, b: Stream | None) -> bool:
    """Whether a product can be relative to both."""
    if a is None or b is None:
        return True
    return a.top is b.top and (a.degree == DROPPED) == (b.degree == DROPPED)


def joined(a: Stream | None, b: Stream | None) -> Stream | None:
    """What a product is relative to."""
    if a is None or b is None:
        return a or b
    return Stream(a.top, a.degree + b.degree)


# --------------------------------------------------------------------------------------
# Products
# --------------------------------------------------------------------------------------


class Factors(NamedTuple):
    """A product: numerators, denominators, and the sign."""

    above: Counter[Node]
    below: Counter[Node]
    negative: bool


def factors(root: Node) -> Factors:
    """``root`` as a product."""
    above, below, negative = Counter[Node](), Counter[Node](), False
    pending = [(root, False)]
    while pending:
        node, under = pending.pop()
        few = len(above) + len(below) + len(pending) < MAX_FACTORS
        if isinstance(node, Call) and node.op in ("mul", "div") and few:
            a, b = node.args
            pending += [(a, under), (b, under != (node.op == "div"))]
        elif isinstance(node, Call) and node.op == "neg":
            negative = not negative
            pending.append((node.args[0], under))
        else:
            (below if under else above)[node] += 1
    return Factors(above, below, negative)


def number(indices: Iterable[Index]) -> Node:
    """How many values the indices take together."""
    count: Node = graph.const(1)
    for i in indices:
        count = graph.fold_int("mul", count, i.extent)
    return graph.to_float(count)


# --------------------------------------------------------------------------------------
# Putting terms together
# --------------------------------------------------------------------------------------


def is_zero(node: Node) -> bool:
    return isinstance(node, Const) and node.value == 0


def negated(node: Node) -> Node:
    if isinstance(node, Const):
        return graph.const(-node.value)
    return node.args[0] if isinstance(node, Call) and node.op == "neg" else -node


def times(a: Node, b: Node) -> Node:
    return b if a is ONE else a if b is ONE else a * b


def collected(terms: Terms) -> Terms:
    """Terms with the same row (or the same factor) together."""
    by_row: dict[object, Term] = {}
    for t in terms:
        key = (t.row, t.stream, t.masks, t.over)
        same = by_row.get(key)
        by_row[key] = t if same is None else t._replace(factor=same.factor + t.factor)
    by_factor: dict[object, Term] = {}
    for t in by_row.values():
        key = (t.factor, t.stream, t.masks, t.over)
        same = by_factor.get(key)
        by_factor[key] = t if same is None else t._replace(row=same.row + t.row)
    return list(by_factor.values())


def total_of(node: Reduce, row: Index, terms: Terms) -> Node:
    """The sum of all terms."""
    result: Node | None = None
    for t in terms:
        one = _summed(node, row, t)
        result = one if result is None else result + one
    return ZERO if result is None else result


def _summed(node: Reduce, row: Index, term: Term) -> Node:
    """One term, summed: over the rows first, then over what its factor varies with."""
    outer = _outer(node, term)
    inner = [i for i in node.indices if i not in outer]
    lacking = [i for i in inner if i not in term.row.free]
    body = term.row
    if term.stream is not None:
        body = streamed(body, term.stream, row)
        lacking = [i for i in lacking if i is not row]
    inner = [i for i in inner if i not in lacking]
    total = graph.reduce_("sum", inner, body)
    for i in lacking:
        total = times(graph.to_float(i.extent), total)
    total = times(term.factor, total)
    for condition, keep in term.masks:
        branches = (total, ZERO) if keep else (ZERO, total)
        total = graph.call("where", condition, *branches)
    return graph.reduce_("sum", outer, total)


def _outer(node: Reduce, term: Term) -> list[Index]:
    """The indices that must stay outside of the sum over the rows."""
    return [*(i for i in node.indices if i in term.varies), *term.over]


def elements(node: Reduce, terms: Terms, hints: Mapping[str, int]) -> int:
    """How many numbers the sums over the rows accumulate."""
    total = 0
    for t in terms:
        count = 1
        for i in {*node.free, *_outer(node, t)}:
            count *= max(1, cost.length(i.extent, hints))
        total += count
    return total
