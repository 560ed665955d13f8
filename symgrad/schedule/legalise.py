"""Rewrite a graph into what kernels can run directly.

- pairs such as tanh and its derivative share an exponential (shared.py);
- ``logsumexp`` and ``norm`` become sums around their maximum or square;
- operations that the target lacks become their ``expand`` form (ops.py);
- computed arrays that are cheap to recompute are inlined where they are read, because a
  stored array costs a pass over memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

from symgrad import graph, ops
from symgrad.graph import Array, Call, Const, Index, Load, Node, Reduce, Scatter
from symgrad.schedule import cost
from symgrad.schedule.cost import CHECKED
from symgrad.schedule.shared import share_exponentials

INLINE_COST = 60.0
"""An array cheaper than this is recomputed where it is read rather than stored."""

PICKED_EXTENT = 64
"""On an axis this short, one element of a computed row is picked by comparing indices,
so that the row need not be stored."""


def legalise(roots: Sequence[Node], native: frozenset[str]) -> list[Node]:
    """The roots with only ``native`` operations and primitive reductions."""
    memo: dict[Node, Node] = {}
    sums: dict[Node, _Exponentials] = {}

    def rewrite(node: Node) -> Node:
        if isinstance(node, Call):
            softmax = _softmax(node, sums)
            return _legal_call(node, native) if softmax is None else softmax
        if isinstance(node, Reduce) and node.kind == "logsumexp":
            parts = _log_sum_exp(node, native)
            sums[parts.result] = parts
            return parts.result
        if isinstance(node, Reduce) and node.kind == "norm":
            squares = graph.reduce_("sum", node.indices, node.body * node.body)
            return graph.call("sqrt", squares)
        return node

    return [graph.transform(root, rewrite, memo) for root in share_exponentials(roots)]


def _legal_call(node: Call, native: frozenset[str]) -> Node:
    if node.op == "stop_gradient":
        return node.args[0]
    if node.op in native:
        return node
    expand = ops.OPS[node.op].expand
    if expand is None:
        raise NotImplementedError(f"the target has no {node.op} and no expansion of it")
    return _expanded(expand(*node.args), node.args, native)


def _expanded(node: Node, legal: Sequence[Node], native: frozenset[str]) -> Node:
    """Legalise an expansion, whose ``legal`` parts already are."""
    memo: dict[Node, Node] = {part: part for part in legal}
    for part in legal:
        memo.update((n, n) for n in graph.walk(part))

    def rewrite(inner: Node) -> Node:
        return _legal_call(inner, native) if isinstance(inner, Call) else inner

    return graph.transform(node, rewrite, memo)


class _Exponentials(NamedTuple):
    """The parts of a log-sum-exp: result = shift + log(sum(exp(body - shift)))."""

    result: Node
    body: Node
    shift: Node
    total: Node


def _log_sum_exp(node: Reduce, native: frozenset[str]) -> _Exponentials:
    """max + log(sum(exp(body - max))), the maximum replaced by 0 where it is infinite.

    Source: Blanchard, Higham & Higham, IMA J. Numer. Anal. 41 (2021) 2311.
    """
    top = graph.reduce_("max", node.indices, node.body)
    finite = graph.call("isfinite", top, type=graph.BOOL)
    shift = _expanded(graph.call("where", finite, top, 0.0), (top,), native)
    total = graph.reduce_("sum", node.indices, graph.call("exp", node.body - shift))
    result = shift + graph.call("log", total)
    return _Exponentials(result, node.body, shift, total)


def _softmax(node: Call, sums: Mapping[Node, _Exponentials]) -> Node | None:
    """exp(body - logsumexp(body)) from the exponentials that the sum needs anyway; at
    whatever indices, so that an element has the same bits everywhere."""
    if node.op != "exp" or not isinstance(node.args[0], Call):
        return None
    difference = node.args[0]
    parts = sums.get(difference.args[-1])
    if difference.op != "sub" or parts is None:
        return None
    body = difference.args[0]
    if body is not parts.body and not _is_element(body, parts):
        return None
    return graph.call("exp", body - parts.shift) * (1.0 / parts.total)


def _is_element(x: Node, parts: _Exponentials) -> bool:
    """Is ``x`` the body with other indices for those of the sum?"""
    assert isinstance(parts.total, Reduce)
    bound = parts.total.indices
    own = sorted(x.free, key=lambda i: i.slot)
    if len(bound) > 2 or len(own) > 6:
        return False
    for names in permutations(own, len(bound)):
        mapping: dict[Index, Node] = dict(zip(bound, names, strict=True))
        alike = all(i.extent is n.extent for i, n in zip(bound, names, strict=True))
        if alike and graph.substitute(parts.body, mapping) is x:
            return True
    return False


def gather_form(
    roots: Sequence[Node],
    hints: Mapping[str, int] | None = None,
    everywhere: bool = False,
) -> list[Node]:
    """Turn scatters to shifted indices into array elements.

    ``out[i + c] += value(i)`` is ``out[k] = value(k - c)`` where ``k - c`` is in range:
    no memory to accumulate in, and rows are independent. Only where ``value`` is cheap,
    because it is then evaluated apart from its other uses, and c is not zero; unless
    ``everywhere``.
    """
    order = graph.walk(roots)
    if not any(isinstance(node, Scatter) for node in order):
        return list(roots)
    costs = cost.total_costs(roots, hints)
    done: dict[Node, Node] = {}
    for node in order:
        new = graph.rebuild(node, tuple([done[c] for c in node.children]))
        if isinstance(new, Scatter):
            gathered = _gathered(new, everywhere)
            cheap = everywhere or costs[node] < INLINE_COST or _picks(new)
            new = gathered if cheap and gathered is not None else new
        done[node] = new
    return [done[root] for root in roots]


def _gathered(node: Scatter, unshifted: bool) -> Node | None:
    """The scatter as an array; None if its targets are not distinct shifted indices.

    On a short axis the target may be anything: ``out[i, t(i)] += value(i)`` is
    ``out[k, j] = value(k) if j == t(k)``. unshifted: also where no index is shifted.
    """
    own = graph.canonical_indices(node.shape)
    mapping: dict[Index, Node] = {}
    inside: list[Node] = []
    picked: list[Node] = []
    for axis, (k, target) in enumerate(zip(own, node.targets, strict=True)):
        if isinstance(target, Const) and k.extent is graph.const(1):
            continue
        i, shift = _shifted(target)
        if i is None and is_short(k.extent):
            picked.append(graph.comparison("eq", k, checked(target, k.extent, axis)))
            continue
        if i is None or i in mapping or i not in node.over:
            return None
        source = graph.arithmetic("sub", k, shift)
        mapping[i] = source
        if shift > 0:
            inside.append(k >= shift)
        if k.extent is not graph.arithmetic("add", i.extent, shift) or shift < 0:
            inside.append(source < i.extent)
    if not (inside or unshifted or picked) or not any(map(cost.is_dynamic, mapping)):
        return None
    rest = [i for i in node.over if i not in mapping]
    if picked and (rest or any(i is not k for i, k in mapping.items())):
        return None  # the value would be evaluated for each element
    body = graph.substitute(graph.reduce_("sum", rest, node.value), mapping)
    for condition in (*inside, *picked):
        body = graph.call("where", condition, body, 0.0)
    return graph.array(own, body)


def _picks(node: Scatter) -> bool:
    """Whether some target is computed: its value is then evaluated where it was."""
    return any(
        _shifted(target)[0] is None and not isinstance(target, Const)
        for target in node.targets
    )


def is_short(extent: Node) -> bool:
    """Whether an axis is so short that elements are picked by comparing indices."""
    return isinstance(extent, Const) and 1 < extent.value <= PICKED_EXTENT


def checked(place: Node, extent: Node, axis: int) -> Node:
    """``place`` on an axis of ``extent``, with a run-time check."""
    return graph.call(CHECKED, place, extent, graph.const(axis), type=graph.INT)


def _shifted(target: Node) -> tuple[Index | None, int]:
    """``i + c`` as (i, c)."""
    if isinstance(target, Index):
        return target, 0
    if isinstance(target, Call) and target.op == "add":
        i, shift = target.args
        if isinstance(i, Index) and isinstance(shift, Const):
            return i, int(shift.value)
    return None, 0


def inline_arrays(
    roots: Sequence[Node], hints: Mapping[str, int] | None = None, picks: bool = False
) -> list[Node]:
    """Replace reads of computed arrays by their elements where that is cheaper.

    Always where the array is read at its own indices, or in one place under a plain
    renaming; otherwise if recomputing costs less than INLINE_COST. picks: for kernels
    only, also one element of a row that is computed anyway.
    """
    reads: dict[Array, set[tuple[Node, ...]]] = {}
    order = graph.walk(roots)
    for node in order:
        if isinstance(node, Load) and isinstance(node.array, Array):
            reads.setdefault(node.array, set()).add(node.indices)
    if not reads:
        return list(roots)
    computed = _computed_anyway(roots, reads)
    costs = cost.total_costs(roots, hints)
    done: dict[Node, Node] = {}
    for node in order:
        new = graph.rebuild(node, tuple([done[c] for c in node.children]))
        if isinstance(node, Load) and isinstance(node.array, Array):
            assert isinstance(new, Load) and isinstance(new.array, Array)
            once = len(reads[node.array]) == 1 and _plain(node.indices)
            if once or _identity(node) or costs[node.array] < INLINE_COST:
                array = new.array
                mapping = dict(zip(array.indices, new.indices, strict=True))
                new = graph.substitute(array.body, mapping)
            elif picks and node.array in computed:
                new = _picked(new, new.array)
        done[node] = new
    return [done[root] for root in roots]


def _computed_anyway(
    roots: Sequence[Node], reads: Mapping[Array, set[tuple[Node, ...]]]
) -> set[Array]:
    """The arrays of which all elements are computed for other uses."""
    used = {
        child
        for node in graph.walk(roots)
        if not isinstance(node, Array)
        for child in node.children
    }
    return {
        array
        for array, places in reads.items()
        if array.body in used or any(_plain(indices) for indices in places)
    }


def _picked(node: Load, array: Array) -> Node:
    """One element of a row of ``array``, all of which is computed anyway.

    The sum of the row with all but that element replaced by zero. ``node`` as it is,
    where other axes than short ones are read at computed places.
    """
    mapping: dict[Index, Node] = {}
    conditions: list[tuple[Index, Node]] = []
    taken = set(node.free)
    for axis, (own, place) in enumerate(zip(array.indices, node.indices, strict=True)):
        if isinstance(place, Index) and place not in mapping.values():
            mapping[own] = place
        elif is_short(own.extent):
            (fresh,) = graph.canonical_indices([own.extent], taken)
            taken.add(fresh)
            mapping[own] = fresh
            conditions.append((fresh, checked(place, own.extent, axis)))
        else:
            return node
    body = graph.substitute(array.body, mapping)
    for fresh, place in conditions:
        same = graph.comparison("eq", fresh, place)
        body = graph.call("where", same, body, 0.0, type=body.type)
    return graph.reduce_("sum", [fresh for fresh, _ in conditions], body)


def _identity(node: Load) -> bool:
    assert isinstance(node.array, Array)
    return node.indices == node.array.indices


def _plain(indices: Sequence[Node]) -> bool:
    """Whether the indices are distinct bound variables."""
    return len(set(indices)) == len(indices) and all(
        isinstance(i, Index) for i in indices
    )


def hoist_factors(roots: Sequence[Node]) -> list[Node]:
    """Bring factors and divisors together that inner loops leave alone.

    ``c*a*b`` becomes ``a*(c*b)`` where ``a`` varies with more indices than ``c`` and
    ``b``; the constant of ``sum(where(c, 0, 2*x))`` multiplies the sum instead. A
    divisor becomes its reciprocal: a division takes as long as ten products. But only
    divisors that are the same for all rows (parameters, lengths), or are at least one:
    where the reciprocal overflows, the quotient need not. One more rounding.
    """

    def rewrite(node: Node) -> Node:
        if isinstance(node, Reduce) and node.kind == "sum":
            return _without_constant(node)
        if not isinstance(node, Call) or node.type != graph.FLOAT:
            return node
        if not any(cost.is_dynamic(i) for i in node.free):
            return node  # not work of rows
        if node.op == "div":
            node = _by_reciprocal(node)
        return _regrouped(node) if node.op == "mul" else node

    memo: dict[Node, Node] = {}
    return [graph.transform(root, rewrite, memo) for root in roots]


def _without_constant(node: Reduce) -> Node:
    """A sum of what ``where`` chooses, times the constant factor of its terms."""
    body = node.body
    if not isinstance(body, Call) or body.op != "where":
        return node
    condition, yes, no = body.args
    for zero, value in ((yes, no), (no, yes)):
        if isinstance(zero, Const) and zero.value == 0:
            constant, rest = _split_product(value)
            if constant is not None:
                branches = (yes, rest) if zero is yes else (rest, no)
                chosen = graph.call("where", condition, *branches)
                return constant * graph.reduce_("sum", node.indices, chosen)
    return node


def _split_product(node: Node, depth: int = 3) -> tuple[Const | None, Node]:
    """A constant factor of a product and the rest."""
    if not isinstance(node, Call) or node.op not in ("mul", "neg") or not depth:
        return None, node
    if node.op == "neg":
        constant, rest = _split_product(node.args[0], depth - 1)
        return constant, node if constant is None else graph.call("neg", rest)
    for a, b in (node.args, node.args[::-1]):
        if isinstance(a, Const):
            return a, b
        constant, rest = _split_product(a, depth - 1)
        if constant is not None:
            return constant, graph.call("mul", rest, b)
    return None, node


def _by_reciprocal(node: Call) -> Call:
    top, bottom = node.args
    if not bottom.free < node.free or isinstance(top, Const):
        return node
    constant = not any(cost.is_dynamic(i) for i in bottom.free)
    if not constant and not counts(bottom):
        return node
    return graph.call("mul", top, graph.call("div", 1.0, bottom))


def _regrouped(node: Call) -> Call:
    left, right = node.args
    for product, b in ((left, right), (right, left)):
        if not isinstance(product, Call) or product.op != "mul":
            continue
        for c, a in (product.args, product.args[::-1]):
            if c.free < a.free and b.free < a.free:
                return graph.call("mul", a, graph.call("mul", c, b))
    return node


def counts(node: Node) -> bool:
    """Whether the value is the number of elements for which something holds, such as
    ties of a reduction (1 or more, or NaN divides NaN)."""
    if not isinstance(node, Reduce) or node.kind != "sum":
        return False
    body = node.body
    return (
        isinstance(body, Call)
        and body.op == "where"
        and all(isinstance(a, Const) for a in body.args[1:])
        and [a.value for a in body.args[1:] if isinstance(a, Const)] == [1, 0]
    )
