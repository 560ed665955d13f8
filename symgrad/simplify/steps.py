"""Rewrites that are no pattern: constants, integers, argument order, sums, powers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite

import numpy as np

from symgrad import graph
from symgrad.differentiate import sum_over
from symgrad.graph import BOOL, FLOAT, INT, Call, Const, Node, Reduce
from symgrad.ops import OPS, apply
from symgrad.simplify.candidates import COMMUTATIVE
from symgrad.simplify.order import in_order
from symgrad.simplify.rule import EVERYWHERE, EXACT, REAL, Step, wild

_U, _V = wild("u"), wild("v")
_ROW = graph.index(4)
_LARGEST = 2**53  # integers beyond it are left to the kernel

# --------------------------------------------------------------------------------------
# Constants, integers, order
# --------------------------------------------------------------------------------------


def fold_constants(node: Node) -> Node | None:
    """The value of an operation on literals, computed as float64 or int64.

    Results that are not finite stay formulas: what made them is then still to be seen.
    """
    if not isinstance(node, Call):
        return None
    for arg in node.args:
        if not isinstance(arg, Const):
            return None
    values = [a.value for a in node.args if isinstance(a, Const)]
    if any(isinstance(v, int) and abs(v) > _LARGEST for v in values):
        return None
    if node.type == INT and node.op in ("floor_divide", "mod") and values[1] == 0:
        return None
    with np.errstate(all="ignore"):
        result = OPS[node.op].numeric(*map(np.asarray, values))
    if node.type == BOOL:
        return graph.const(bool(result))
    if not isfinite(result) or (node.type == INT and abs(result) > _LARGEST):
        return None
    return graph.const(result.item(), node.type)


def fold_integers(node: Node) -> Node | None:
    """Integer sums and products as graph.fold_int writes them: ``(n-1) + 1 = n``."""
    if not isinstance(node, Call) or node.type != INT:
        return None
    folded = graph.fold_int(node.op, *node.args)
    return None if folded is node else folded


def order_arguments(node: Node) -> Node | None:
    """Commutative operations with their smaller argument first.

    But for integers: graph.fold_int, which writes ``n + 1``, has its own order.
    """
    if not isinstance(node, Call) or node.type == INT:
        return None
    a, b = node.args
    if a is b or in_order(a, b):
        return None
    return graph.call(node.op, b, a, type=node.type)


# --------------------------------------------------------------------------------------
# Reductions
# --------------------------------------------------------------------------------------


def pull_out_of_sum(node: Node) -> Node | None:
    """Invariant factors, signs and masks leave a sum; an unused index is its extent."""
    if not isinstance(node, Reduce) or node.type != FLOAT:
        return None
    pulled = sum_over(node.indices, node.body, maybe_empty=True)
    return None if pulled is node else pulled


def drop_index_of_one(node: Node) -> Node | None:
    """A reduction over an axis of length 1 is the body at 0."""
    if not isinstance(node, Reduce):
        return None
    single = [
        i for i in node.indices if isinstance(i.extent, Const) and i.extent.value == 1
    ]
    if not single:
        return None
    body = graph.substitute(node.body, dict.fromkeys(single, graph.const(0)))
    rest = tuple(i for i in node.indices if i not in single)
    if not rest and node.kind == "norm":
        return apply("abs", body)
    return graph.reduce_(node.kind, rest, body)


# --------------------------------------------------------------------------------------
# Powers
# --------------------------------------------------------------------------------------

_HIGHEST = 64


def _power_tree(highest: int) -> dict[int, int]:
    """Knuth's power tree: exponent -> the exponent before it on the way from 1.

    The way to n is a shortest addition chain for every n below 77. (TAOCP 4.6.3.)
    """
    parent = {1: 0}
    level = [1]
    while level:
        found: list[int] = []
        for n in level:
            way = [n]
            while parent[way[-1]]:
                way.append(parent[way[-1]])
            for step in reversed(way):
                if n + step <= highest and n + step not in parent:
                    parent[n + step] = n
                    found.append(n + step)
        level = found
    return parent


_PARENT = _power_tree(_HIGHEST)


def _chain(n: int) -> Sequence[int]:
    way = []
    while n:
        way.append(n)
        n = _PARENT[n]
    return way[::-1]


def multiply_out(x: Node, n: int) -> Node:
    """``x**n`` for 1 <= n <= 64 with the fewest multiplications."""
    powers = {1: x}
    chain = _chain(n)
    for before, now in pairwise(chain):
        powers[now] = powers[before] * powers[now - before]
    return powers[n]


def expand_power(node: Node) -> Node | None:
    """Integer and half-integer powers as products, quotients and square roots."""
    if not isinstance(node, Call) or not isinstance(node.args[1], Const):
        return None
    x, n = node.args[0], float(node.args[1].value)
    if not abs(n) <= _HIGHEST or not (2 * n).is_integer() or n == 0:
        return None
    whole, half = divmod(abs(n), 1.0)
    result = multiply_out(x, int(whole)) if whole else None
    if half:
        root = apply("sqrt", x)
        result = root if result is None else result * root
    assert result is not None
    return result if n > 0 else 1.0 / result


# --------------------------------------------------------------------------------------
# The rows
# --------------------------------------------------------------------------------------

_ENTRY = graph.load(graph.input_("rows", (4,)), [_ROW])
_LONE = graph.index(1)
_NESTED = graph.load(graph.input_("single", (1, 4)), [_LONE, _ROW])

FOLD_CONSTANTS = Step(
    "fold-constants",
    EVERYWHERE,  # operations that users define later, too
    EXACT,
    fold_constants,
    (
        apply("exp", 1.5),
        apply("lt", 1.0, 2.0),
        graph.call("cast", graph.const(3)),
    ),
)
FOLD_INTEGERS = Step(
    "fold-integers",
    ("add", "sub", "mul"),
    EXACT,
    fold_integers,
    (graph.call("add", graph.size("rows.0") - 1, graph.const(1), type=INT),),
)
ORDER = Step(
    "order-arguments",
    tuple(COMMUTATIVE),
    EXACT,
    order_arguments,
    (_V * _U, apply("exp", _U) + 2.0, apply("eq", _V, _U), apply("hypot", _V, _U)),
)
PULL = Step(
    "invariants-leave-sums",
    ("reduce sum",),
    REAL,
    pull_out_of_sum,
    (
        graph.reduce_("sum", [_ROW], _U * _ENTRY),
        graph.reduce_("sum", [_ROW], -(_ENTRY / _U)),
        graph.reduce_("sum", [_ROW], _U),
        graph.reduce_("sum", [_ROW], apply("where", _U > 0.0, _ENTRY, 0.0)),
    ),
)
DROP = Step(
    "axis-of-length-one",
    tuple("reduce " + k for k in graph.REDUCTIONS),
    EXACT,
    drop_index_of_one,
    (
        *(graph.reduce_(k, [_LONE, _ROW], _NESTED) for k in graph.REDUCTIONS),
        graph.reduce_("norm", [_LONE], _U * graph.to_float(_LONE + 1)),
    ),
)
EXPAND_POWERS = Step(
    "multiply-powers-out",
    ("pow",),
    REAL,
    expand_power,
    tuple(apply("pow", _U, n) for n in (2.0, 3.0, 15.0, 64.0, -7.0, 0.5, 1.5, -2.5)),
)
