"""Like terms, common factors and sums over the same indices, collected.

These rewrites look at whole sums and products rather than at single nodes, know what
else uses their parts, and are done only where the estimated cost falls: that they end
needs no further proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from symgrad import graph
from symgrad.graph import FLOAT, Call, Const, Index, Input, Node, Reduce
from symgrad.simplify import cost
from symgrad.simplify.parts import (
    PRODUCTS,
    SUMS,
    Product,
    build_product,
    build_sum,
    is_float_call,
    split_product,
    split_sum,
)
from symgrad.simplify.rule import REAL
from symgrad.simplify.trace import Rewrite

ROUNDS, DEPTH = 16, 4
"""Common factors that are taken out of one sum, and of what that leaves inside."""

_SIGN = frozenset(("neg",))
_PARTS = {
    **dict.fromkeys(SUMS, SUMS | _SIGN),
    **dict.fromkeys(PRODUCTS, PRODUCTS | _SIGN),
    "neg": SUMS | PRODUCTS | _SIGN,
}
"""Per operation, those of which it and its arguments are looked at as a whole."""

_LENGTHS = frozenset(("hypot",))
"""Divided by one after the other: their square would overflow before they do."""

_WHY = {
    "collect-terms": "fewer operations: like terms, factors and sums brought together",
    "collect-factors": "fewer operations: numbers and divisors brought together",
}


class Collector:
    """Brings sums and products into their cheapest form.

    varying: the inputs that change from call to call, if known. A sum over the others
        alone stays apart, because it can be computed once and for all.
    merged: whether sums over indices became one, in which there may be more to do.
    """

    def __init__(
        self,
        roots: Sequence[Node],
        trace: list[Rewrite],
        varying: Collection[Input] | None = None,
    ) -> None:
        self.roots, self.trace = tuple(roots), trace
        self.order = graph.walk(self.roots)
        self.uses = Counter[Node](c for n in self.order for c in n.children)
        self.uses.update(self.roots)
        self.done: dict[Node, Node] = {}
        self.merged = self.merging = False
        self.varies = _varying(self.order, varying)
        self.long = _over_rows(self.order)

    def run(self) -> tuple[Node, ...]:
        inner = self.inner_parts()
        done = self.done
        for node in self.order:
            new = node
            for child in node.children:
                if done[child] is not child:
                    new = graph.rebuild(node, tuple([done[c] for c in node.children]))
                    break
            if isinstance(node, Call) and node.type == FLOAT and node not in inner:
                new = self.improved(node, new, inner)
            self.note(node, new)
        return tuple(self.done[root] for root in self.roots)

    def note(self, node: Node, new: Node) -> None:
        """``new`` takes the place of ``node``, of which it has the properties."""
        self.done[node] = new
        if new is node:
            return
        for known in (self.varies, self.long):
            if node in known:
                known.add(new)

    def inner_parts(self) -> set[Node]:
        """Parts of a larger sum or product, which is looked at as a whole."""
        found: set[Node] = set()
        for node in self.order:
            if isinstance(node, Call) and node.type == FLOAT:
                parts = _PARTS.get(node.op)
                if parts is not None:
                    found.update(
                        c
                        for c in node.args
                        if isinstance(c, Call) and c.op in parts and self.uses[c] == 1
                    )
        return found

    def once(self, node: Node) -> bool:
        """Is this a node that nothing else uses?"""
        return self.uses[node] == 1

    def improved(self, node: Call, new: Node, inner: set[Node]) -> Node:
        """What became of ``node``, or a cheaper form of it."""
        if not self.promising(node, inner):
            return new
        self.merging = False
        if node.op in SUMS:
            name, better, leaves = "collect-terms", *self.sum_(node)
        else:
            name, better, leaves = "collect-factors", *self.product(node)
        if better is None or better is new:
            return new
        if cost.cycles([better], leaves) >= cost.cycles([new], leaves):
            return new
        self.trace.append(Rewrite(name, REAL, new, better, _WHY[name]))
        self.merged |= self.merging
        return better

    def promising(self, node: Call, inner: set[Node]) -> bool:
        """A sum or product with parts of its own, or a sum of sums over indices."""
        if node.op in PRODUCTS:
            return any(a in inner for a in node.args)
        if node.op not in SUMS:
            return False
        own = any(
            a in inner or (is_float_call(a, PRODUCTS) and self.once(a))
            for a in node.args
        )
        return own or all(isinstance(a, Reduce) for a in node.args)

    # -- products --------------------------------------------------------------------

    def product(self, node: Node) -> tuple[Node | None, set[Node]]:
        parts = self.rebuilt(split_product(node, self.once))
        if any(is_float_call(f, _LENGTHS) for f in parts.below):
            return None, set()
        return build_product(parts), {*parts.above, *parts.below}

    def rebuilt(self, parts: Product) -> Product:
        above, below = (
            tuple(self.done.get(f, f) for f in side)  # literals may be new
            for side in (parts.above, parts.below)
        )
        return Product(parts.number, above, below)

    # -- sums ------------------------------------------------------------------------

    def sum_(self, node: Node) -> tuple[Node | None, set[Node]]:
        terms = [
            (minus, split_product(term, self.once))
            for minus, term in split_sum(node, self.once)
        ]
        signed = [p._replace(number=-p.number) if m else p for m, p in terms]
        products = [self.rebuilt(p) for p in signed]
        single = {self.done.get(f, f) for p in signed for f in p.above if self.once(f)}
        leaves = {f for p in products for f in (*p.above, *p.below)}
        merged = self.merge_sums(like_terms(products), single)
        if merged != products:
            leaves -= {f for f in single if isinstance(f, Reduce)}
            leaves |= {f.body for f in single if isinstance(f, Reduce)}
        factored = take_out_factors(merged)
        if factored is None and merged == products:
            return None, leaves
        return build_sum(merged) if factored is None else factored, leaves

    def merge_sums(self, terms: list[Product], single: set[Node]) -> list[Product]:
        """Sums over the same indices as one sum.

        Sums with equal factors before them always; others where there are more than
        registers.
        """
        groups: dict[object, list[tuple[Product, Reduce]]] = {}
        result: list[Product] = []
        for term in terms:
            found = self.mergeable(term, single)
            if found is None:
                result.append(term)
            else:
                groups.setdefault((found.indices, found.free), []).append((term, found))
        for group in groups.values():
            many = len(group) > cost.REGISTERS
            for rest, bodies in _by_factor(group, many).items():
                self.merging |= len(bodies) > 1
                result.append(_merged(rest, bodies))
        return result

    def mergeable(self, term: Product, single: set[Node]) -> Reduce | None:
        """The sum in a term, if its other factors may be moved into it."""
        sums = [
            f
            for f in term.above
            if isinstance(f, Reduce) and f.kind == "sum" and f in single
        ]
        if len(sums) != 1 or sums[0] not in self.varies:
            return None
        found = sums[0]
        others = [f for f in (*term.above, *term.below) if f is not found]
        if any(f in self.long or not f.free <= found.free for f in others):
            return None
        return found


def _varying(order: Sequence[Node], inputs: Collection[Input] | None) -> set[Node]:
    """The nodes that are not the same in every call."""
    if inputs is None:
        return set(order)
    found: set[Node] = set(inputs)
    for node in order:
        if any(c in found for c in node.children):
            found.add(node)
    return found


def _over_rows(order: Iterable[Node]) -> set[Node]:
    """The nodes that need a sum over rows."""
    found: set[Node] = set()
    for node in order:
        rows = isinstance(node, Reduce) and any(map(_is_long, node.indices))
        if rows or any(c in found for c in node.children):
            found.add(node)
    return found


def _is_long(i: Index) -> bool:
    return not isinstance(i.extent, Const)


# --------------------------------------------------------------------------------------
# Terms
# --------------------------------------------------------------------------------------


def like_terms(terms: Iterable[Product]) -> list[Product]:
    """``2*x + 3*x`` as ``5*x``; terms that would cancel stay, for inf and nan."""
    found: dict[object, Product] = {}
    left: list[Product] = []
    for term in terms:
        key = term.key()
        before = found.get(key)
        if before is None:
            found[key] = term
        elif before.number + term.number == 0:
            left.append(term)
        else:
            found[key] = before._replace(number=before.number + term.number)
    return [*found.values(), *left]


def _by_factor(
    group: Sequence[tuple[Product, Reduce]], many: bool
) -> dict[Product, list[tuple[Product, Reduce]]]:
    """Terms by what stays before their sums: by all of it, or by nothing."""
    found: dict[Product, list[tuple[Product, Reduce]]] = {}
    split = [(term.without(reduce), reduce) for term, reduce in group]
    common = _common([rest for rest, _ in split])
    for rest, reduce in split:
        before = common if many else rest._replace(number=abs(rest.number))
        found.setdefault(before, []).append((rest.over(before), reduce))
    return found


def _common(products: Sequence[Product]) -> Product:
    """The factors, but no number, that all products have."""
    above, below = (
        tuple(set(sides[0]).intersection(*sides[1:]))
        for sides in zip(*((p.above, p.below) for p in products), strict=True)
    )
    first = products[0]
    return Product(
        1.0,
        tuple(f for f in dict.fromkeys(first.above) if f in above),
        tuple(f for f in dict.fromkeys(first.below) if f in below),
    )


def _merged(before: Product, bodies: Sequence[tuple[Product, Reduce]]) -> Product:
    """``before`` times one sum of all bodies, each with its factors inside."""
    first = bodies[0][1]
    if len(bodies) == 1:
        inside, reduce = bodies[0]
        number = before.number * inside.number
        above = (*before.above, *inside.above, reduce)
        return Product(number, above, (*before.below, *inside.below))
    if all(inside.number < 0 for inside, _ in bodies):
        bodies = [(i._replace(number=-i.number), r) for i, r in bodies]
        before = before._replace(number=-before.number)
    body = build_sum(
        inside._replace(above=(*inside.above, reduce.body)) for inside, reduce in bodies
    )
    total = graph.reduce_("sum", first.indices, body)
    return before._replace(above=(*before.above, total))


# --------------------------------------------------------------------------------------
# Common factors
# --------------------------------------------------------------------------------------


def take_out_factors(terms: Sequence[Product], depth: int = 0) -> Node | None:
    """``x*y + x*z`` as ``x*(y + z)``, the commonest factor first; None if none is."""
    left = list(terms)
    parts: list[Product] = []
    counts = Counter[Node](f for t in terms for f in dict.fromkeys(t.above))
    while len(parts) < ROUNDS and depth < DEPTH:
        factor = _commonest(counts)
        if factor is None:
            break
        inside = [t for t in left if factor in t.above]
        left = [t for t in left if factor not in t.above]
        counts.subtract(f for t in inside for f in dict.fromkeys(t.above))
        parts.append(_taken_out(factor, inside, depth))
    return build_sum([*parts, *left]) if parts else None


def _commonest(counts: Counter[Node]) -> Node | None:
    """The factor of most terms, at least two; the one that varies most of those."""
    found = [f for f, count in counts.items() if count > 1]
    return max(found, key=lambda f: (counts[f], cost.times(f.free)), default=None)


def _taken_out(factor: Node, terms: Sequence[Product], depth: int) -> Product:
    """Terms with a common factor as a product; other factors they all have, too."""
    inside = [t.without(factor) for t in terms]
    common = [factor]
    while True:
        shared = next(
            (f for f in inside[0].above if all(f in t.above for t in inside)), None
        )
        if shared is None:
            break
        common.append(shared)
        inside = [t.without(shared) for t in inside]
    number, inside = _common_number(inside)
    rest = take_out_factors(inside, depth + 1)
    rest = build_sum(inside) if rest is None else rest
    return Product(number, (*common, rest), ())


def _common_number(terms: list[Product]) -> tuple[float, list[Product]]:
    """A number that all terms have, up to the sign, before them."""
    sizes = {abs(t.number) for t in terms}
    if len(sizes) != 1:
        return 1.0, terms
    size = sizes.pop()
    sign = -1.0 if all(t.number < 0 for t in terms) else 1.0
    return sign * size, [t._replace(number=t.number / (sign * size)) for t in terms]
