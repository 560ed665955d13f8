"""Products and sums of derivatives: what a chain rule needs, and nothing that rounds.

A derivative that is zero whatever the values are is ``None`` here, never a node. It
vanishes from products and sums, so that ``0 * x -> 0`` need not be a rewrite rule (it
is not true of inf and nan). A factor ``where(c, x, 0)`` is a *mask*: a product with it
is formed inside the mask, so that the branch not taken cannot poison the result with
the inf or nan of its own derivative.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from symgrad import graph
from symgrad.graph import Call, Const, Index, Node

ZERO, ONE = graph.const(0.0), graph.const(1.0)

_MASKED_SUM = 8  # terms; beyond this a sum of masks is multiplied as a whole
_PRODUCTS = ("mul", "neg", "div")
_CHAIN = 64  # nodes of a product that are searched for invariant factors


class Mask(NamedTuple):
    """``where(condition, value, 0)``; or, if not ``keep``, with branches exchanged."""

    condition: Node
    keep: bool
    value: Node

    def around(self, value: Node | None) -> Node | None:
        """The same mask around another value."""
        return mask(self.condition, value, self.keep)


# --------------------------------------------------------------------------------------
# Masks
# --------------------------------------------------------------------------------------


def is_zero(node: Node) -> bool:
    """Is this the literal zero, of either sign?"""
    return isinstance(node, Const) and node.value == 0


def is_call(node: Node, op: str) -> bool:
    """Is this a call of ``op``?"""
    return isinstance(node, Call) and node.op == op


def as_mask(node: Node) -> Mask | None:
    """``node`` read as a mask, if it is one."""
    if isinstance(node, Call) and node.op == "where":
        condition, yes, no = node.args
        if is_zero(no):
            return Mask(condition, True, yes)
        if is_zero(yes):
            return Mask(condition, False, no)
    return None


def mask(condition: Node, value: Node | None, keep: bool = True) -> Node | None:
    """``value`` where ``condition`` is ``keep``, elsewhere zero."""
    if value is None or is_zero(value):
        return None
    if isinstance(condition, Const):
        return value if bool(condition.value) is keep else None
    inner = as_mask(value)
    if inner is not None and inner.condition is condition:
        return value if inner.keep is keep else None
    yes, no = (value, ZERO) if keep else (ZERO, value)
    return graph.call("where", condition, yes, no)


def indicator(condition: Node) -> Node:
    """1.0 where ``condition`` holds, else 0.0."""
    return graph.call("where", condition, ONE, ZERO)


# --------------------------------------------------------------------------------------
# Products
# --------------------------------------------------------------------------------------


def negate(node: Node | None) -> Node | None:
    """``-node``, inside masks."""
    if node is None or is_zero(node):
        return None
    masks: list[Mask] = []
    while (outer := as_mask(node)) is not None:
        masks.append(outer)
        node = outer.value
    if isinstance(node, Const):
        result: Node | None = graph.const(-node.value, node.type)
    else:
        result = node.args[0] if isinstance(node, Call) and node.op == "neg" else -node
    for outer in reversed(masks):
        result = outer.around(result)
    return result


def scale(g: Node | None, partial: Node | None) -> Node | None:
    """The product of an adjoint (or tangent) and a partial derivative; None is zero.

    Masks of either come to the outside, ones and signs are dropped.
    """
    if g is None or partial is None or is_zero(g) or is_zero(partial):
        return None
    terms = _masked_terms(g)
    if len(terms) > 1:  # also by what is finite itself: the product may be scaled again
        return add_up(scale(term, partial) for term in terms)
    masks: list[Mask] = []
    factors = [g, partial]
    for k in range(2):
        while (outer := as_mask(factors[k])) is not None:
            masks.append(outer)
            factors[k] = outer.value
    result = _product(*factors)
    for outer in reversed(masks):
        result = outer.around(result)
    return result


def _product(g: Node, p: Node) -> Node | None:
    if p is ONE:
        return g
    if g is ONE:
        return p
    if isinstance(p, Const) and p.value == -1:
        return negate(g)
    if isinstance(g, Const) and g.value == -1:
        return negate(p)
    if isinstance(p, Call) and p.op == "neg":
        return negate(scale(g, p.args[0]))
    if isinstance(g, Call) and g.op == "neg":
        return negate(scale(g.args[0], p))
    if isinstance(p, Call) and p.op == "div":
        above, below = p.args
        if isinstance(above, Const):  # g * (1/y): one operation less, one rounding less
            raised = scale(g, above)
            return None if raised is None else raised / below
        if isinstance(above, Call) and above.op == "div" and above.args[1] is below:
            return g / below * above  # d(x/y) = g/y and -(g/y) * (x/y): g/y is shared
    return g * p


def _masked_terms(g: Node) -> list[Node]:
    """The terms of a short sum that are all zero somewhere; else ``g`` alone.

    ``where(c, x, y)`` is the sum of two masks: it counts as that where ``x`` or ``y``
    is zero somewhere, too.
    """
    terms: list[Node] = []
    pending, hidden = [g], False
    while pending:
        node = pending.pop()
        short = len(pending) + len(terms) < _MASKED_SUM
        if is_call(node, "add") and short:
            pending.extend(reversed(node.children))
        elif as_mask(node) is not None:
            terms.append(node)
        elif is_call(node, "where") and short:
            condition, yes, no = node.children
            hidden = hidden or _is_masked(yes) or _is_masked(no)
            both = (mask(condition, yes), mask(condition, no, False))
            terms.extend(term for term in both if term is not None)
        else:
            return [g]
    plain = is_call(g, "where") and not hidden
    return [g] if plain or len(terms) > _MASKED_SUM else terms


def _is_masked(node: Node) -> bool:
    """Is this a mask, or a sum or choice of some?"""
    return as_mask(node) is not None or is_call(node, "add") or is_call(node, "where")


# --------------------------------------------------------------------------------------
# Sums
# --------------------------------------------------------------------------------------


def add_up(terms: Iterable[Node | None]) -> Node | None:
    """The sum of the terms that are there. Masks with one condition become one."""
    plain: list[Node] = []
    masked: dict[Node, tuple[list[Node], list[Node]]] = {}
    for term in terms:
        if term is None or is_zero(term):
            continue
        outer = as_mask(term)
        if outer is None:
            plain.append(term)
        else:
            branches = masked.setdefault(outer.condition, ([], []))
            branches[not outer.keep].append(outer.value)
    for condition, (yes, no) in masked.items():
        plain.append(graph.call("where", condition, _chain(yes), _chain(no)))
    return _chain(plain) if plain else None


def _chain(terms: Sequence[Node]) -> Node:
    if not terms:
        return ZERO
    total = terms[0]
    for term in terms[1:]:
        if isinstance(term, Call) and term.op == "neg":
            total = total - term.args[0]
        else:
            total = total + term
    return total


def sum_over(
    indices: Iterable[Index], body: Node | None, maybe_empty: bool = False
) -> Node | None:
    """``body`` summed over ``indices``, invariant factors and masks outside the sum.

    An index that ``body`` lacks counts: the sum is then the extent times the body. A
    factor ``j == p`` (Kronecker's delta) picks one term of the sum over ``j``.

    maybe_empty: the sum of no terms must stay 0, so that nothing leaves it that is not
    finite where a run-time extent is zero, such as 1/n**2.
    """
    bound = {i: None for i in indices if not _is_one(i.extent)}
    if body is None or not bound:
        return body
    inside: list[Mask] = []
    while (outer := as_mask(body)) is not None:
        body = outer.value
        inside.append(outer)
    body, deltas = _delta_factors(bound, body)
    body, inside = _eliminate_deltas(bound, body, inside + deltas)
    outside = [m for m in inside if m.condition.free.isdisjoint(bound)]
    for m in reversed([m for m in inside if m not in outside]):
        body = m.around(body)
        if body is None:
            return None
    total: Node | None = _sum_product(bound, body, maybe_empty)
    for m in reversed(outside):
        total = m.around(total)
    return total


def _is_one(extent: Node) -> bool:
    return isinstance(extent, Const) and extent.value == 1


def _delta_factors(bound: dict[Index, None], body: Node) -> tuple[Node, list[Mask]]:
    """Factors ``where(j == p, x, 0)`` with ``j`` bound as x, and their masks.

    All other terms of the sum are products with zero.
    """
    found: dict[Node, Mask] = {}
    pending, looked = [body], 0
    while pending and looked < _CHAIN:
        node, looked = pending.pop(), looked + 1
        if isinstance(node, Call) and node.op == "mul":
            pending.extend(node.args)
        elif (m := as_mask(node)) is not None and _delta(bound, m) is not None:
            found[node] = m
    if not found:
        return body, []

    def products(node: Node) -> Sequence[Node]:
        return node.children if is_call(node, "mul") else ()

    done: dict[Node, Node] = {}
    for node in graph.walk(body, into=products):
        if node in found:
            done[node] = found[node].value
        else:
            parts = tuple(done[c] for c in products(node))
            done[node] = graph.rebuild(node, parts) if parts else node
    return done[body], list(found.values())


def _eliminate_deltas(
    bound: dict[Index, None], body: Node, masks: list[Mask]
) -> tuple[Node, list[Mask]]:
    """Drop each bound index that a mask fixes; ``bound`` is changed in place."""
    kept: list[Mask] = []
    pending = list(masks)
    while pending:
        m = pending.pop(0)
        fixed = _delta(bound, m)
        if fixed is None:
            kept.append(m)
            continue
        j, p = fixed
        del bound[j]
        body = graph.substitute(body, {j: p})
        pending, kept = (
            [m._replace(condition=graph.substitute(m.condition, {j: p})) for m in group]
            for group in (pending, kept)
        )
    return body, kept


def _delta(bound: dict[Index, None], m: Mask) -> tuple[Index, Index] | None:
    """(j, p) if the mask is ``j == p`` with ``j`` bound and both of one extent."""
    c = m.condition
    if not m.keep or not isinstance(c, Call) or c.op != "eq":
        return None
    for j, p in (c.args, c.args[::-1]):
        if not isinstance(j, Index) or not isinstance(p, Index) or j not in bound:
            continue
        if j is not p and j.extent is p.extent:
            return j, p
    return None


def _sum_product(bound: Iterable[Index], body: Node, maybe_empty: bool) -> Node:
    lacking = [i for i in bound if i not in body.free]
    summed = tuple(i for i in bound if i in body.free)
    outside = [graph.to_float(i.extent) for i in lacking]
    lengths = {i.extent for i in bound if not isinstance(i.extent, Const)}
    split = _Split(summed, body, lengths if maybe_empty else ())
    above = outside + split.above
    total = graph.reduce_("sum", summed, split.inner)
    result = _multiply([*above, total] if total is not ONE or not above else above)
    for divisor in split.below:
        result = result / divisor
    return -result if split.negative else result


def _multiply(factors: Sequence[Node]) -> Node:
    product = factors[0]
    for factor in factors[1:]:
        product = factor if product is ONE else product * factor
    return product


class _Split:
    """A product parted into factors that are invariant in ``bound`` and the rest.

    ``body = (-1)**negative * prod(above) * inner / prod(below)``. Parts in which
    nothing is invariant stay the nodes they are, so that they remain shared.
    """

    def __init__(
        self, bound: Iterable[Index], body: Node, lengths: Collection[Node] = ()
    ) -> None:
        self.lengths = lengths  # that may be zero, and with them divisors
        self.above: list[Node] = []
        self.below: list[Node] = []
        self.negative = False
        self.inner = body
        indices = frozenset(bound)
        if indices:
            inner = self._strip(indices, body)
            self.inner = ONE if inner is None else inner

    def _strip(self, bound: frozenset[Index], body: Node) -> Node | None:
        """The part of ``body`` that varies; None if there is none."""
        chain = _product_nodes(bound, body)
        rest: dict[Node, Node | None] = {}

        def varying(x: Node) -> Node | None:
            return None if self.leaves(bound, x) else rest.get(x, x)

        for node in chain:  # arguments first
            a, b = (varying(x) for x in (*node.args, *node.args)[:2])
            if node.op == "div" and not self.divides(bound, node.args[1]):
                b = node.args[1]
            if node.op == "mul":
                rest[node] = b if a is None else a if b is None else _same(node, a, b)
            elif node.op == "neg" or b is None:
                rest[node] = a
            elif node.op == "div":
                rest[node] = _same(node, ONE if a is None else a, node.args[1])
        self._collect(bound, body, set(chain))
        return rest.get(body, body)

    def _collect(self, bound: frozenset[Index], body: Node, chain: set[Call]) -> None:
        """Gather the invariant factors, once for each time they occur."""
        pending = [body]
        while pending:
            node = pending.pop()
            if self.leaves(bound, node):
                if node is not ONE:
                    self.above.append(node)
            elif node not in chain or not isinstance(node, Call):
                continue
            elif node.op == "mul":
                pending.extend(reversed(node.args))
            elif node.op == "neg":
                self.negative = not self.negative
                pending.append(node.args[0])
            else:
                pending.append(node.args[0])
                if self.divides(bound, node.args[1]):
                    self.below.append(node.args[1])

    def leaves(self, bound: frozenset[Index], x: Node) -> bool:
        """May the factor ``x`` leave the sum?"""
        return x.free.isdisjoint(bound) and (
            not self.lengths or _is_finite_for_lengths(x, self.lengths)
        )

    def divides(self, bound: frozenset[Index], x: Node) -> bool:
        """May the divisor ``x`` leave the sum? Not if it is zero for an empty one."""
        if not x.free.isdisjoint(bound):
            return False
        return not self.lengths or not _mentions(x, self.lengths)


def _mentions(x: Node, lengths: Collection[Node]) -> bool:
    """Does ``x`` depend on a length? What is large might."""
    pending, seen = [x], set[Node]()
    while pending:
        node = pending.pop()
        if node in lengths or len(seen) > _CHAIN:
            return True
        seen.add(node)
        pending.extend(c for c in node.children if c not in seen)
    return False


def _is_finite_for_lengths(x: Node, lengths: Collection[Node]) -> bool:
    """Is ``x`` finite whatever the lengths are, as far as they decide?"""
    pending = [x]
    while pending:
        node = pending.pop()
        if not _mentions(node, lengths):
            continue
        if isinstance(node, Call) and node.op in ("add", "sub", "mul", "neg"):
            pending.extend(node.args)
        elif not is_call(node, "cast"):
            return False
    return True


def _same(node: Call, a: Node, b: Node) -> Node:
    return node if node.args == (a, b) else graph.call(node.op, a, b)


def _product_nodes(bound: frozenset[Index], body: Node) -> list[Call]:
    """The top of ``body`` that is a tree of products, arguments first; at most _CHAIN.

    Nodes used twice in it are leaves: ``((x*x)*(x*x))*...`` has 2**n factors.
    """

    def varying_factors(node: Node) -> tuple[Node, ...]:
        if not isinstance(node, Call) or node.op not in _PRODUCTS:
            return ()
        args = node.args if node.op == "mul" else node.args[:1]
        return tuple(a for a in args if not a.free.isdisjoint(bound))

    uses: dict[Node, int] = {}
    pending = [body]
    while pending and len(uses) < _CHAIN:
        for factor in varying_factors(pending.pop()):
            uses[factor] = uses.get(factor, 0) + 1
            if uses[factor] == 1:
                pending.append(factor)

    def single(node: Node) -> list[Node]:
        return [a for a in varying_factors(node) if uses.get(a) == 1]

    tree = graph.walk(body, into=single)
    return [n for n in tree if isinstance(n, Call) and n.op in _PRODUCTS]
