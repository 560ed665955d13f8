"""Stable forms of variances and covariances: data relative to their means."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

from symgrad import graph
from symgrad.graph import Node
from symgrad.simplify.facts import Fact
from symgrad.simplify.stable_algebra import multiple, plus, polynomial, product
from symgrad.simplify.stable_differences import root_of_square, with_form
from symgrad.simplify.stable_terms import ONE, Term, args, is_call, number, terms, times


def variance(node: Node) -> Node | None:
    """``mean(x*y) - mean(x)*mean(y) -> mean((x - mean(x))*(y - mean(y)))``, also with
    sums. Not where the data are shifted already, as those of ``var``.

    Source: Chan, Golub & LeVeque, The American Statistician 37 (1983) 242.
    """
    parts = terms(node)
    inside = {p: found for p in parts if (found := _factor_sums(p[1]))}
    means = [p for p, found in inside.items() if len(found) == 1]
    products = [p for p, found in inside.items() if len(found) == 2]
    for p, q in ((p, q) for p in means for q in products):
        squares, sums = inside[p], inside[q]
        (whole,), (a, b) = squares, sums
        if not _is_product(whole, a, b):
            continue
        count = ONE
        for i in whole.indices:
            count = times(count, graph.to_float(i.extent))
        balance = plus(_times_poly(p, a * b), _times_poly(q, whole * count))
        if balance:
            continue
        inner = (a.body - a / count) * (b.body - b / count)
        centred = graph.reduce_("sum", whole.indices, inner)
        scale = _replaced(p[1], whole, centred)
        if scale is not None:
            return with_form(parts, (p, q), p[0], scale)
    return None


def distance(node: Node) -> Node | None:
    """``sum(x*x) - 2*sum(x*y) + sum(y*y) -> sum((x - y)**2)``, and with a plus. Not
    where x and y have indices of their own: sums of products are cheaper there."""
    parts = terms(node)
    sums = [(c, n) for c, n in parts if isinstance(n, graph.Reduce) and n.kind == "sum"]
    for (c, a), (d, b) in combinations(sums, 2):
        x, y = (root_of_square(Fraction(1), n.body) for n in (a, b))
        alike = a.indices == b.indices and a.free == b.free
        if x is None or y is None or x is y or c != d or not alike:
            continue
        both = product(polynomial(x), polynomial(y))
        for k, r in sums:
            if abs(k) != 2 * c or r.indices != a.indices or polynomial(r.body) != both:
                continue
            gap = x - y if k < 0 else x + y
            form = graph.reduce_("sum", a.indices, gap * gap)
            return with_form(parts, ((c, a), (d, b), (k, r)), c, form)
    return None


def _times_poly(term: Term, factor: Node) -> dict:
    found = product(multiple(polynomial(term[1]), term[0]), polynomial(factor))
    return {frozenset(): Fraction(1)} if found is None else found


def _factor_sums(node: Node) -> list[graph.Reduce]:
    """See _reductions."""
    if isinstance(node, graph.Reduce):
        return _reductions(node)
    return _sums_in_product(node) if is_call(node, "mul", "div", "pow") else []


@Fact
def _sums_in_product(node: Node) -> list[graph.Reduce]:
    return _reductions(node)


def _reductions(node: Node, depth: int = 6) -> list[graph.Reduce]:
    """The sums that are factors of a product, each as often as it occurs."""
    if isinstance(node, graph.Reduce) and node.kind == "sum":
        return [node]
    if depth and is_call(node, "mul"):
        return [r for a in args(node) for r in _reductions(a, depth - 1)]
    if depth and is_call(node, "div"):
        return _reductions(args(node)[0], depth - 1)
    if depth and is_call(node, "pow") and number(args(node)[1]) == 2:
        return _reductions(args(node)[0], depth - 1) * 2
    return []


def _is_product(whole: graph.Reduce, a: graph.Reduce, b: graph.Reduce) -> bool:
    if not whole.indices == a.indices == b.indices or not a.body.free:
        return False
    if any(is_call(n, "stop_gradient") for n in graph.walk((a.body, b.body))):
        return False
    both = product(polynomial(a.body), polynomial(b.body))
    return both is not None and both == polynomial(whole.body)


def _replaced(node: Node, old: Node, new: Node, depth: int = 6) -> Node | None:
    """A product with one factor exchanged."""
    if node is old:
        return new
    if depth and is_call(node, "mul", "div"):
        a, b = args(node)
        left = _replaced(a, old, new, depth - 1)
        if left is not None:
            return graph.rebuild(node, (left, b))
        right = _replaced(b, old, new, depth - 1) if is_call(node, "mul") else None
        return None if right is None else graph.rebuild(node, (a, right))
    return None
