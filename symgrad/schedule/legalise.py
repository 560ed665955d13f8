"""Rewrite a graph into what kernels can run directly.

- ``logsumexp`` and ``norm`` become sums around their maximum or square;
- operations that the target lacks become their ``expand`` form (ops.py);
- computed arrays that are cheap to recompute are inlined where they are read, because a
  stored array costs a pass over memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from symgrad import graph, ops
from symgrad.graph import Array, Call, Const, Index, Load, Node, Reduce, Scatter
from symgrad.schedule import cost

INLINE_COST = 60.0
"""An array cheaper than this is recomputed where it is read rather than stored."""


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

    return [graph.transform(root, rewrite, memo) for root in roots]


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
    """exp(body - logsumexp(body)) from the exponentials that the sum needs anyway."""
    if node.op != "exp" or not isinstance(node.args[0], Call):
        return None
    difference = node.args[0]
    parts = sums.get(difference.args[-1])
    if difference.op != "sub" or parts is None or difference.args[0] is not parts.body:
        return None
    return graph.call("exp", parts.body - parts.shift) * (1.0 / parts.total)


def gather_form(
    roots: Sequence[Node], hints: Mapping[str, int] | None = None
) -> list[Node]:
    """Turn scatters to shifted indices into array elements.

    ``out[i + c] += value(i)`` is ``out[k] = value(k - c)`` where ``k - c`` is in range:
    no memory to accumulate in, and rows are independent. Only where ``value`` is cheap,
    because it is then evaluated apart from its other uses.
    """
    costs = cost.total_costs(roots, hints)
    done: dict[Node, Node] = {}
    for node in graph.walk(roots):
        new = graph.rebuild(node, tuple(done[c] for c in node.children))
        if isinstance(new, Scatter) and costs[node] < INLINE_COST:
            gathered = _gathered(new)
            new = new if gathered is None else gathered
        done[node] = new
    return [done[root] for root in roots]


def _gathered(node: Scatter) -> Node | None:
    """The scatter as an array; None if its targets are not distinct shifted indices."""
    own = graph.canonical_indices(node.shape)
    mapping: dict[Index, Node] = {}
    inside: list[Node] = []
    for k, target in zip(own, node.targets, strict=True):
        if isinstance(target, Const) and k.extent is graph.const(1):
            continue
        i, shift = _shifted(target)
        if i is None or i in mapping or i not in node.over:
            return None
        source = graph.arithmetic("sub", k, shift)
        mapping[i] = source
        if shift > 0:
            inside.append(k >= shift)
        if k.extent is not graph.arithmetic("add", i.extent, shift) or shift < 0:
            inside.append(source < i.extent)
    if not inside or not any(cost.is_dynamic(i) for i in mapping):
        return None
    rest = [i for i in node.over if i not in mapping]
    body = graph.substitute(graph.reduce_("sum", rest, node.value), mapping)
    for condition in inside:
        body = graph.call("where", condition, body, 0.0)
    return graph.array(own, body)


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
    roots: Sequence[Node], hints: Mapping[str, int] | None = None
) -> list[Node]:
    """Replace reads of computed arrays by their elements where that is cheaper.

    Always where the array is read at its own indices, or in one place under a plain
    renaming; otherwise if recomputing costs less than INLINE_COST.
    """
    reads: dict[Array, set[tuple[Node, ...]]] = {}
    for node in graph.walk(roots):
        if isinstance(node, Load) and isinstance(node.array, Array):
            reads.setdefault(node.array, set()).add(node.indices)
    costs = cost.total_costs(roots, hints)
    done: dict[Node, Node] = {}
    for node in graph.walk(roots):
        new = graph.rebuild(node, tuple(done[c] for c in node.children))
        if isinstance(node, Load) and isinstance(node.array, Array):
            assert isinstance(new, Load) and isinstance(new.array, Array)
            once = len(reads[node.array]) == 1 and _plain(node.indices)
            if once or _identity(node) or costs[node.array] < INLINE_COST:
                array = new.array
                mapping = dict(zip(array.indices, new.indices, strict=True))
                new = graph.substitute(array.body, mapping)
        done[node] = new
    return [done[root] for root in roots]


def _identity(node: Load) -> bool:
    assert isinstance(node.array, Array)
    return node.indices == node.array.indices


def _plain(indices: Sequence[Node]) -> bool:
    """Whether the indices are distinct bound variables."""
    return len(set(indices)) == len(indices) and all(
        isinstance(i, Index) for i in indices
    )


def invert_divisors(roots: Sequence[Node]) -> list[Node]:
    """Multiply by the reciprocal of a divisor that inner loops leave alone.

    A division takes as long as ten products; the reciprocal is computed once, outside.
    Only divisors that are the same for all rows (parameters, lengths), or are at least
    one: where the reciprocal overflows, the quotient need not. One more rounding.
    """

    def rewrite(node: Node) -> Node:
        if not isinstance(node, Call) or node.op != "div":
            return node
        top, bottom = node.args
        if not bottom.free < node.free or isinstance(top, Const):
            return node
        constant = not any(cost.is_dynamic(i) for i in bottom.free)
        if not constant and not _counts(bottom):
            return node
        return top * graph.call("div", 1.0, bottom)

    memo: dict[Node, Node] = {}
    return [graph.transform(root, rewrite, memo) for root in roots]


def _counts(node: Node) -> bool:
    """Whether the value is the number of ties of a reduction: a sum of ones where an
    element equals the extreme one, which is 1 or more (or NaN divides NaN)."""
    if not isinstance(node, Reduce) or node.kind != "sum":
        return False
    body = node.body
    return (
        isinstance(body, Call)
        and body.op == "where"
        and all(isinstance(a, Const) for a in body.args[1:])
        and [a.value for a in body.args[1:] if isinstance(a, Const)] == [1, 0]
    )
