"""Fewer passes: sums over rows that no longer wait for other sums over rows.

A term that depends on the result of another sum (*feedback*) needs one more pass over
the rows. Often it depends on it in a way that can be taken out of the sum:

    sum_i L*h_i               = L * sum_i h_i
    sum_i (f_i - L)*g_i       = sum_i f_i*g_i - L * sum_i g_i
    sum_i exp(b_i - max b)*g_i  is relative to the maximum so far (streaming.py)

Each sum is written as terms ``factor * sum_i row_i`` whose rows are free of feedback. A
sum for which that is impossible stays as it is: true feedback.

*Accuracy.* The second line is as accurate as what it replaces, as L is rounded itself,
so it is done where L enters to first order. A product of two differences from means,
as in a variance or a correlation, would lose digits to cancellation: there the rows are
taken relative to a typical row, the median of three,

    f_i - mean(f) = u_i - mean(u),    u_i = f_i - f_k

Source: Chan, Golub & LeVeque, The American Statistician 37 (1983) 242.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import Call, Index, Node, Reduce, Scatter
from symgrad.ops import apply
from symgrad.schedule import cost
from symgrad.schedule.streaming import DROPPED, Stream, running
from symgrad.schedule.terms import (
    ONE,
    ZERO,
    Term,
    Terms,
    collected,
    compatible,
    elements,
    factors,
    is_zero,
    joined,
    negated,
    number,
    times,
    total_of,
)

MAX_TERMS = 8
"""A sum is not taken apart into more terms than this."""

MAX_ELEMENTS = 8192
"""Nor if they have more elements, each kept in every lane."""

FRESH = 1000
"""Slots from here on name indices that occur nowhere else."""

_EXTREMA = ("max", "min")


class Apart(NamedTuple):
    """Roots without feedback. firsts: extents of rows of which there must be one: it is
    read, or a factor that left the sum is infinite without it."""

    roots: list[Node]
    firsts: frozenset[Node]


def without_feedback(
    roots: Sequence[Node], hints: Mapping[str, int] | None = None
) -> Apart:
    """``roots`` with sums over rows taken apart where that avoids feedback."""
    late, firsts = _Late(), set[Node]()
    done: dict[Node, Node] = {}
    for node in graph.walk(roots):
        new = graph.rebuild(node, tuple(done[c] for c in node.children))
        done[node] = new
        if isinstance(new, Reduce):
            done[node] = _rewritten(new, late, hints or {}, firsts)
            late.origin[done[node]] = new
    return Apart([done[root] for root in roots], frozenset(firsts))


def _rewritten(
    node: Reduce, late: _Late, hints: Mapping[str, int], firsts: set[Node]
) -> Node:
    rows = [i for i in node.indices if cost.is_dynamic(i)]
    if not rows:
        return node
    row = max(rows, key=lambda i: (cost.length(i.extent, hints), -i.slot))
    closed = not any(map(cost.is_dynamic, node.free))
    if node.kind in _EXTREMA and closed and len(node.indices) > 1:
        rest = [i for i in node.indices if i is not row]
        return graph.reduce_(
            node.kind, [row], graph.reduce_(node.kind, rest, node.body)
        )
    if node.kind != "sum" or cost.length(row.extent, hints) < 1:
        return node  # of no terms even an infinite factor is nothing
    for level in range(1, late.depth(node)):
        late.level = level
        if not late.feeds(node.body, row):
            break
        taking = _Terms(node, row, late, hints)
        terms = taking.of(node.body)
        if terms is not None and elements(node, terms, hints) <= MAX_ELEMENTS:
            firsts |= {row.extent, *taking.firsts}
            return total_of(node, row, terms)
    return node


class _Late:
    """Remembers which nodes wait for sums over rows, and for how many in a row.

    level: sums of a lower depth are taken as known: they have had passes of their own.
    origin: of a sum that was taken apart, the sum.
    """

    def __init__(self) -> None:
        self.level = 1
        self.origin: dict[Node, Reduce] = {}
        self.known: dict[Node, int] = {}
        self.inside: dict[tuple[Node, Index, int], bool] = {}

    def depth(self, root: Node) -> int:
        """How many reductions over run-time many rows wait for each other in it."""

        def unknown(node: Node) -> list[Node]:
            return [c for c in node.children if c not in self.known]

        if root not in self.known:
            for node in graph.walk(root, into=unknown):
                long = any(cost.is_dynamic(i) for i in _bound(node))
                below = max((self.known[c] for c in node.children), default=0)
                self.known[node] = below + long
        return self.known[root]

    def feeds(self, root: Node, row: Index) -> bool:
        """Does ``root`` contain something that waits, and is the same in every row?"""
        level = self.level

        def unknown(node: Node) -> Iterable[Node]:
            if row not in node.free:
                return ()
            return [c for c in node.children if (c, row, level) not in self.inside]

        if (root, row, level) not in self.inside:
            for node in graph.walk(root, into=unknown):
                self.inside[node, row, level] = (
                    any(self.inside[c, row, level] for c in node.children)
                    if row in node.free
                    else self.depth(node) >= level
                )
        return self.inside[root, row, level]


def _bound(node: Node) -> tuple[Index, ...]:
    if isinstance(node, Reduce):
        return node.indices
    return node.over if isinstance(node, Scatter) else ()


# --------------------------------------------------------------------------------------
# Taking a sum apart
# --------------------------------------------------------------------------------------


class _Terms:
    """Takes the body of one sum over ``row`` apart."""

    def __init__(
        self, total: Reduce, row: Index, late: _Late, hints: Mapping[str, int]
    ) -> None:
        self.total, self.row, self.late, self.hints = total, row, late, hints
        self.firsts: set[Node] = set()
        self.done: dict[Node, Terms | None] = {}
        # to which degree feedback was added to something; and was it not centred?
        self.degree: dict[Node, int] = {}
        self.plain: set[Node] = set()
        self.names = 0

    def of(self, root: Node) -> Terms | None:
        """The terms of ``root``; None if it cannot be written so."""

        def into(node: Node) -> Iterable[Node]:
            mixed = self.row in node.free and self.late.feeds(node, self.row)
            opens = isinstance(node, Call) or _is_sum(node)
            return node.children if mixed and opens else ()

        for node in graph.walk(root, into):
            below = [self.degree.get(a, 0) for a in node.children]
            product = isinstance(node, Call) and node.op == "mul"
            self.degree[node] = (sum if product else max)(below or [0])
            if any(a in self.plain for a in node.children):
                self.plain.add(node)
            found = self._visit(node)
            degree = self.degree[node]
            accurate = degree < 2 or (degree == 2 and node not in self.plain)
            small = found is not None and len(found) <= MAX_TERMS
            self.done[node] = found if accurate and small else None
        return self.done[root]

    def _visit(self, node: Node) -> Terms | None:
        if not self.late.feeds(node, self.row):
            return [Term(ONE, node)]
        if self.row not in node.free:
            return [Term(node, ONE)] if node.type == graph.FLOAT else None
        if isinstance(node, Reduce) and _is_sum(node):
            return self._inner(node)
        if not isinstance(node, Call):
            return None
        visit = {
            "add": self._add, "sub": self._add, "mul": self._mul, "div": self._div,
            "neg": self._neg, "exp": self._exp, "where": self._where,
        }.get(node.op)  # fmt: skip
        return None if visit is None or node.type != graph.FLOAT else visit(node)

    def _inner(self, node: Reduce) -> Terms | None:
        """A sum within the row. Its index gets a name that occurs nowhere else."""
        terms = self.done[node.body]
        if terms is None:
            return None
        found: Terms = []
        for t in terms:
            kept = [i for i in node.indices if i in t.varies]
            own = [i for i in node.indices if i not in kept]
            lacking = [i for i in own if i not in t.row.free]
            row = graph.reduce_("sum", [i for i in own if i not in lacking], t.row)
            for i in lacking:
                row = times(graph.to_float(i.extent), row)
            self.names += len(kept)
            fresh = [
                graph.index(i.extent, FRESH + self.names - k)
                for k, i in enumerate(kept)
            ]
            mapping: dict[Index, Node] = dict(zip(kept, fresh, strict=True))
            moved = t._replace(row=row).substituted(mapping)
            found.append(moved._replace(over=(*t.over, *fresh)))
        return found

    def _add(self, node: Call) -> Terms | None:
        left, right = (self.done[a] for a in node.args)
        centred = self._centred(node)
        if centred is not None:
            self.plain.discard(node)
            return centred
        if left is None or right is None:
            return None
        if node.op == "sub":
            right = [t._replace(factor=negated(t.factor)) for t in right]
        self.degree[node] = max(1, self.degree[node])
        self.plain.add(node)
        return collected([*left, *right])

    def _centred(self, node: Call) -> Terms | None:
        """``f - mean(f)`` relative to the first row."""
        f, mean = node.args
        if node.op != "sub" or self.row in mean.free:
            return None
        found = self._mean_of(mean, f)
        if found is None:
            return None
        if self.late.feeds(f, self.row):  # centred twice is centred
            centred = self.degree[f] == 1 and f not in self.plain
            return self.done[f] if centred else None
        matched, count = found
        if any(cost.length(i.extent, self.hints) < 1 for i in matched):
            return None
        self.firsts.update(i.extent for i in matched if cost.is_dynamic(i))
        shifted = f - self._typical(f, matched)
        moved = graph.reduce_("sum", matched, shifted)
        delta = moved / count
        self.degree[node] = 1
        return [Term(ONE, shifted), Term(negated(delta), ONE)]

    def _typical(self, f: Node, over: Iterable[Index]) -> Node:
        """The median of ``f`` in the first, the middle and the last row."""
        zero, extent = graph.const(0), self.row.extent
        middle = apply("floor_divide", extent, graph.const(2))
        last = graph.fold_int("sub", extent, graph.const(1))
        places: dict[Index, Node] = dict.fromkeys(over, zero)
        a, b, c = (
            graph.substitute(f, {**places, self.row: row})
            for row in (zero, middle, last)
        )
        low, high = apply("minimum", a, b), apply("maximum", a, b)
        return apply("maximum", low, apply("minimum", high, c))

    def _mean_of(self, mean: Node, f: Node) -> tuple[list[Index], Node] | None:
        """The indices over which ``mean`` is the mean of ``f``, and their number.

        Factors that are the same in all rows may stand before the sum.
        """
        whole, wanted = factors(mean), factors(f)
        for part in whole.above:
            total = self.late.origin.get(part, part)
            if not isinstance(total, Reduce) or total.kind != "sum":
                continue
            rest = [self.row, *ordered(f.free - {self.row})]
            mapping = _by_extent(total.indices, rest)
            if mapping is None or self.row not in mapping.values():
                continue
            count = number(total.indices)
            expected = factors(graph.substitute(total.body, mapping))
            expected.above.update(whole.above - Counter[Node]([part]))
            expected.below.update(whole.below - Counter([count]))
            negative = expected.negative != whole.negative
            if whole.below[count] and expected._replace(negative=negative) == wanted:
                return list(mapping.values()), count
        return None

    def _mul(self, node: Call) -> Terms | None:
        left, right = (self.done[a] for a in node.args)
        if left is None or right is None or len(left) * len(right) > 2 * MAX_TERMS:
            return None
        found: Terms = []
        for a in left:
            for b in right:
                if not compatible(a.stream, b.stream) or set(a.over) & set(b.over):
                    return None
                stream = joined(a.stream, b.stream)
                masks = tuple(dict.fromkeys((*a.masks, *b.masks)))
                factor, row = times(a.factor, b.factor), times(a.row, b.row)
                found.append(Term(factor, row, stream, masks, (*a.over, *b.over)))
        return collected(found)

    def _div(self, node: Call) -> Terms | None:
        above, below = node.args
        terms = self.done[above]
        if terms is None:
            return None
        if self.row not in below.free:
            return [t._replace(factor=t.factor / below) for t in terms]
        if self.late.feeds(below, self.row):
            return None
        return [t._replace(row=t.row / below) for t in terms]

    def _neg(self, node: Call) -> Terms | None:
        terms = self.done[node.args[0]]
        if terms is None:
            return None
        return [t._replace(factor=negated(t.factor)) for t in terms]

    # -- streams ---------------------------------------------------------------------

    def _exp(self, node: Call) -> Terms | None:
        """``exp(b - max(b))``, the maximum guarded against being infinite."""
        inner = node.args[0]
        if not isinstance(inner, Call) or inner.op != "sub":
            return None
        body, shift = inner.args
        top = _guarded_maximum(shift)
        if top is None or not self._is_top(top, body):
            return None
        self.degree[node] = 0  # the difference is within the exponential
        self.plain.discard(node)
        so_far = running(top, self.row)
        guard = graph.call("isfinite", so_far, type=graph.BOOL)
        shift = graph.call("where", guard, so_far, 0.0)
        return [Term(ONE, graph.call("exp", body - shift), Stream(top, 1))]

    def _is_top(self, top: Reduce, body: Node) -> bool:
        """Whether ``top`` is the extremum over the rows of something at least as
        extreme as ``body``, which itself is free of feedback. A sum for each of other
        rows comes in a pass over those, when the extremum is known: what is relative to
        the rows so far would be stored for it before it is settled."""
        if self.late.feeds(body, self.row):
            return False
        if any(map(cost.is_dynamic, (*top.free, *self.total.free))):
            return False
        (i,) = top.indices if len(top.indices) == 1 else (None,)
        if i is None or i.extent is not self.row.extent:
            return False
        inner = graph.substitute(top.body, {i: self.row})
        if inner is body:
            return True
        if not isinstance(inner, Reduce) or inner.kind != top.kind:
            return False
        mapping = _by_extent(inner.indices, ordered(body.free - {self.row}))
        return mapping is not None and graph.substitute(inner.body, mapping) is body

    def _where(self, node: Call) -> Terms | None:
        condition, yes, no = node.args
        if self.row not in condition.free:
            return self._masked(condition, yes, no)
        if not self.late.feeds(condition, self.row):
            return self._selected(condition, yes, no)
        return self._winners(condition, yes, no)

    def _masked(self, condition: Node, yes: Node, no: Node) -> Terms | None:
        found: Terms = []
        for branch, keep in ((yes, True), (no, False)):
            terms = [] if is_zero(branch) else self.done[branch]
            if terms is None:
                return None
            mask = (condition, keep)
            found += [t._replace(masks=(*t.masks, mask)) for t in terms]
        return found

    def _selected(self, condition: Node, yes: Node, no: Node) -> Terms | None:
        found: Terms = []
        for branch, keep in ((yes, True), (no, False)):
            terms = [] if is_zero(branch) else self.done[branch]
            if terms is None:
                return None
            for t in terms:
                choice = (t.row, ZERO) if keep else (ZERO, t.row)
                found.append(t._replace(row=graph.call("where", condition, *choice)))
        return collected(found)

    def _winners(self, condition: Node, yes: Node, no: Node) -> Terms | None:
        """``where(b == max(b), x, 0)``: terms of the rows that attain the extremum."""
        if not isinstance(condition, Call) or condition.op != "eq":
            return None
        terms = self.done[yes]
        if not is_zero(no) or terms is None or any(t.stream for t in terms):
            return None
        body, top = condition.args
        if self.row in top.free:
            body, top = top, body
        extremum = isinstance(top, Reduce) and top.kind in _EXTREMA
        if not extremum or not self._is_top(top, body):  # type: ignore[arg-type]
            return None
        assert isinstance(top, Reduce)
        wins = graph.comparison("eq", body, running(top, self.row))
        stream = Stream(top, DROPPED)
        return [
            t._replace(row=graph.call("where", wins, t.row, 0.0), stream=stream)
            for t in terms
        ]


def _guarded_maximum(shift: Node) -> Reduce | None:
    """M of ``where(isfinite(M), M, 0)``, as legalise writes it."""
    if not isinstance(shift, Call) or shift.op != "where":
        return None
    guard, top, otherwise = shift.args
    finite = isinstance(guard, Call) and guard.op == "isfinite"
    if not finite or not is_zero(otherwise):
        return None
    if not isinstance(top, Reduce) or top.kind != "max":
        return None
    return top if guard.args[0] is top else None  # type: ignore[attr-defined]


def _is_sum(node: Node) -> bool:
    """Whether this is a sum over axes of known lengths."""
    summed = isinstance(node, Reduce) and node.kind == "sum"
    return summed and not any(map(cost.is_dynamic, node.indices))  # type: ignore[attr-defined]


def _by_extent(
    bound: Sequence[Index], among: Sequence[Index]
) -> dict[Index, Index] | None:
    """For each of ``bound`` another one of ``among`` with the same extent."""
    rest = list(among)
    mapping: dict[Index, Index] = {}
    for i in bound:
        same = next((k for k in rest if k.extent is i.extent), None)
        if same is None:
            return None
        rest.remove(same)
        mapping[i] = same
    return mapping


def ordered(indices: Iterable[Index]) -> list[Index]:
    """Indices in an order that does not depend on the process."""
    return sorted(indices, key=lambda i: (i.slot, graph.to_text(i.extent)))
