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

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import Call, Const, Index, Node, Reduce, Scatter
from symgrad.ops import apply
from symgrad.schedule import cost
from symgrad.schedule.streaming import DROPPED, Stream, running, streamed

MAX_TERMS = 8
"""A sum is not taken apart into more terms than this."""

MAX_ELEMENTS = 8192
"""Nor if they have more elements, each kept in every lane."""

ZERO, ONE = graph.const(0.0), graph.const(1.0)
_EXTREMA = ("max", "min")


class Apart(NamedTuple):
    """Roots without feedback. firsts: extents of rows of which the first is read, so
    that there must be one."""

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
        if isinstance(new, Reduce):
            new = _rewritten(new, late, hints or {}, firsts)
        done[node] = new
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
    if node.kind != "sum" or not late.feeds(node.body, row):
        return node
    taking = _Terms(node, row, late, hints)
    terms = taking.of(node.body)
    if terms is None or _elements(node, terms, hints) > MAX_ELEMENTS:
        return node
    firsts |= taking.firsts
    return _total(node, row, terms)


class _Late:
    """Remembers which nodes wait for a sum over rows."""

    def __init__(self) -> None:
        self.known: dict[Node, bool] = {}
        self.inside: dict[tuple[Node, Index], bool] = {}

    def waits(self, root: Node) -> bool:
        """Does evaluating ``root`` need a reduction over run-time many rows?"""

        def unknown(node: Node) -> list[Node]:
            return [c for c in node.children if c not in self.known]

        if root not in self.known:
            for node in graph.walk(root, into=unknown):
                bound = _bound(node)
                long = any(cost.is_dynamic(i) for i in bound)
                self.known[node] = long or any(self.known[c] for c in node.children)
        return self.known[root]

    def feeds(self, root: Node, row: Index) -> bool:
        """Does ``root`` contain something that waits, and is the same in every row?"""

        def unknown(node: Node) -> Iterable[Node]:
            if row not in node.free:
                return ()
            return [c for c in node.children if (c, row) not in self.inside]

        if (root, row) not in self.inside:
            for node in graph.walk(root, into=unknown):
                self.inside[node, row] = (
                    any(self.inside[c, row] for c in node.children)
                    if row in node.free
                    else self.waits(node)
                )
        return self.inside[root, row]


def _bound(node: Node) -> tuple[Index, ...]:
    if isinstance(node, Reduce):
        return node.indices
    return node.over if isinstance(node, Scatter) else ()


# --------------------------------------------------------------------------------------
# Terms
# --------------------------------------------------------------------------------------


class Term(NamedTuple):
    """``factor * row`` where all masks hold, else zero.

    factor and masks (conditions, and whether they are to hold) are the same in every
    row; row is free of feedback, but for what it is relative to (``stream``).
    """

    factor: Node
    row: Node
    stream: Stream | None = None
    masks: tuple[tuple[Node, bool], ...] = ()


Terms = list[Term]


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

    def of(self, root: Node) -> Terms | None:
        """The terms of ``root``; None if it cannot be written so."""

        def into(node: Node) -> Iterable[Node]:
            mixed = self.row in node.free and self.late.feeds(node, self.row)
            return node.children if mixed and isinstance(node, Call) else ()

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
        if not isinstance(node, Call):
            return None
        visit = {
            "add": self._add, "sub": self._add, "mul": self._mul, "div": self._div,
            "neg": self._neg, "exp": self._exp, "where": self._where,
        }.get(node.op)  # fmt: skip
        return None if visit is None or node.type != graph.FLOAT else visit(node)

    def _add(self, node: Call) -> Terms | None:
        left, right = (self.done[a] for a in node.args)
        centred = self._centred(node)
        if centred is not None:
            return centred
        if left is None or right is None:
            return None
        if node.op == "sub":
            right = [t._replace(factor=_negated(t.factor)) for t in right]
        self.degree[node] = max(1, self.degree[node])
        self.plain.add(node)
        return _collected([*left, *right])

    def _centred(self, node: Call) -> Terms | None:
        """``f - mean(f)`` relative to the first row."""
        f, mean = node.args
        if node.op != "sub" or self.row in mean.free or self.late.feeds(f, self.row):
            return None
        total = _total_of_mean(mean)
        matched = None if total is None else self._matched(total, f)
        if total is None or matched is None or self.row not in matched:
            return None
        if any(cost.length(i.extent, self.hints) < 1 for i in matched):
            return None
        self.firsts.update(i.extent for i in matched if cost.is_dynamic(i))
        shifted = f - self._typical(f, matched)
        moved = graph.reduce_("sum", matched, shifted)
        delta = graph.call("div", moved, mean.args[1])  # type: ignore[attr-defined]
        self.degree[node] = 1
        return [Term(ONE, shifted), Term(_negated(delta), ONE)]

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

    def _matched(self, other: Reduce, body: Node) -> list[Index] | None:
        """The indices of ``body`` that ``other``, a reduction of the same, binds."""
        rest = [self.row, *ordered(body.free - {self.row})]
        mapping = _by_extent(other.indices, rest)
        if mapping is None or graph.substitute(other.body, mapping) is not body:
            return None
        return list(mapping.values())

    def _mul(self, node: Call) -> Terms | None:
        left, right = (self.done[a] for a in node.args)
        if left is None or right is None or len(left) * len(right) > 2 * MAX_TERMS:
            return None
        found: Terms = []
        for a in left:
            for b in right:
                if not _compatible(a.stream, b.stream):
                    return None
                stream = _joined(a.stream, b.stream)
                masks = tuple(dict.fromkeys((*a.masks, *b.masks)))
                factor, row = _times(a.factor, b.factor), _times(a.row, b.row)
                found.append(Term(factor, row, stream, masks))
        return _collected(found)

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
        return [t._replace(factor=_negated(t.factor)) for t in terms]

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
        extreme as ``body``, which itself is free of feedback."""
        if self.late.feeds(body, self.row) or any(map(cost.is_dynamic, top.free)):
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
            terms = [] if _is_zero(branch) else self.done[branch]
            if terms is None:
                return None
            mask = (condition, keep)
            found += [t._replace(masks=(*t.masks, mask)) for t in terms]
        return found

    def _selected(self, condition: Node, yes: Node, no: Node) -> Terms | None:
        found: Terms = []
        for branch, keep in ((yes, True), (no, False)):
            terms = [] if _is_zero(branch) else self.done[branch]
            if terms is None:
                return None
            for t in terms:
                choice = (t.row, ZERO) if keep else (ZERO, t.row)
                found.append(t._replace(row=graph.call("where", condition, *choice)))
        return _collected(found)

    def _winners(self, condition: Node, yes: Node, no: Node) -> Terms | None:
        """``where(b == max(b), x, 0)``: terms of the rows that attain the extremum."""
        if not isinstance(condition, Call) or condition.op != "eq":
            return None
        terms = self.done[yes]
        if not _is_zero(no) or terms is None or any(t.stream for t in terms):
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
    if not finite or not _is_zero(otherwise):
        return None
    if not isinstance(top, Reduce) or top.kind != "max":
        return None
    return top if guard.args[0] is top else None  # type: ignore[attr-defined]


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


def _compatible(a: Stream | None, b: Stream | None) -> bool:
    """Whether a product can be relative to both."""
    if a is None or b is None:
        return True
    return a.top is b.top and (a.degree == DROPPED) == (b.degree == DROPPED)


def _joined(a: Stream | None, b: Stream | None) -> Stream | None:
    """What a product is relative to."""
    if a is None or b is None:
        return a or b
    return Stream(a.top, a.degree + b.degree)


def _total_of_mean(mean: Node) -> Reduce | None:
    """The sum of ``sum(f)/n``, n being the number of its terms."""
    if not isinstance(mean, Call) or mean.op != "div":
        return None
    total, count = mean.args
    if not isinstance(total, Reduce) or total.kind != "sum":
        return None
    number: Node = graph.const(1)
    for i in total.indices:
        number = graph.fold_int("mul", number, i.extent)
    return total if graph.to_float(number) is count else None


# --------------------------------------------------------------------------------------
# Putting terms together
# --------------------------------------------------------------------------------------


def _is_zero(node: Node) -> bool:
    return isinstance(node, Const) and node.value == 0


def _negated(node: Node) -> Node:
    if isinstance(node, Const):
        return graph.const(-node.value)
    return node.args[0] if isinstance(node, Call) and node.op == "neg" else -node


def _times(a: Node, b: Node) -> Node:
    return b if a is ONE else a if b is ONE else a * b


def _collected(terms: Terms) -> Terms:
    """Terms with the same row (or the same factor) together."""
    by_row: dict[object, Term] = {}
    for t in terms:
        key = (t.row, t.stream, t.masks)
        same = by_row.get(key)
        by_row[key] = t if same is None else t._replace(factor=same.factor + t.factor)
    by_factor: dict[object, Term] = {}
    for t in by_row.values():
        key = (t.factor, t.stream, t.masks)
        same = by_factor.get(key)
        by_factor[key] = t if same is None else t._replace(row=same.row + t.row)
    return list(by_factor.values())


def _total(node: Reduce, row: Index, terms: Terms) -> Node:
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
        total = _times(graph.to_float(i.extent), total)
    total = _times(term.factor, total)
    for condition, keep in term.masks:
        branches = (total, ZERO) if keep else (ZERO, total)
        total = graph.call("where", condition, *branches)
    return graph.reduce_("sum", outer, total)


def _outer(node: Reduce, term: Term) -> list[Index]:
    """The bound indices that must stay outside of the sum over the rows."""
    varies = term.factor.free
    if term.stream is not None:
        varies = varies | term.stream.top.free
    for condition, _ in term.masks:
        varies = varies | condition.free
    return [i for i in node.indices if i in varies]


def _elements(node: Reduce, terms: Terms, hints: Mapping[str, int]) -> int:
    """How many numbers the sums over the rows accumulate."""
    total = 0
    for t in terms:
        count = 1
        for i in {*node.free, *_outer(node, t)}:
            count *= max(1, cost.length(i.extent, hints))
        total += count
    return total
