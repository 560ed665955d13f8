"""Functions that come together share their exponential, and keep its digits.

``1 - tanh(x)**2``, the derivative of tanh, loses all digits where tanh is nearly 1;
from ``t = 1 - tanh(abs(x))``, which tanh needs anyway, it is ``t*(2 - t)``.
``sigmoid(x)`` and ``sigmoid(-x)``, whose product is the derivative of sigmoid, both
come from ``sigmoid(-abs(x))``.

What is done to a function is done to it at all indices: an element that is compared
with the maximum over all of them must have the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from symgrad import graph
from symgrad.graph import Call, Const, Node
from symgrad.ops import apply
from symgrad.schedule.alike import Alike

_ONE = graph.const(1.0)


def share_exponentials(roots: Sequence[Node]) -> list[Node]:
    """The roots with such pairs computed from one exponential."""
    order, alike = graph.walk(roots), Alike()
    found = (_slope_of_tanh(node) for node in order)
    slopes = alike.numbers(x for x in found if x is not None)
    pairs = _opposite_sigmoids(order, alike)
    if not slopes and not pairs:
        return list(roots)
    done: dict[Node, Node] = {}
    for node in order:
        x = _slope_of_tanh(node)
        if x is not None:
            tail = graph.call("tanh_tail", done[x])
            slope = tail * (2.0 - tail)
            assert isinstance(node, Call)
            done[node] = slope if node.args[0] is _ONE else -slope
        elif _is(node, "tanh") and alike.number(node.args[0]) in slopes:
            x = done[node.args[0]]
            done[node] = graph.call("tanh_of_tail", x, graph.call("tanh_tail", x))
        elif (small := _slope_of_sigmoid(node, pairs, done)) is not None:
            done[node] = small * (1.0 - small)
        elif _is(node, "sigmoid") and node.args[0] in pairs:
            base, positive = pairs[node.args[0]]
            done[node] = _sigmoid(_rebuilt(base, done), positive)
        else:
            done[node] = graph.rebuild(node, tuple(done[c] for c in node.children))
    return [done[root] for root in roots]


def _is(node: Node, op: str) -> TypeGuard[Call]:
    return isinstance(node, Call) and node.op == op


def _slope_of_tanh(node: Node) -> Node | None:
    """x of 1 - tanh(x)*tanh(x), or of the difference with the other sign."""
    if not _is(node, "sub") or _ONE not in node.args:
        return None
    square = node.args[1 if node.args[0] is _ONE else 0]
    if not isinstance(square, Call) or square.op != "mul":
        return None
    a, b = square.args
    if a is not b or not isinstance(a, Call) or a.op != "tanh":
        return None
    return a.args[0]


def _opposite_sigmoids(
    order: Sequence[Node], alike: Alike
) -> dict[Node, tuple[Node, bool]]:
    """Arguments x and -x of sigmoids: for each, x and whether it is x."""
    found = [
        node.args[0]
        for node in order
        if isinstance(node, Call) and node.op == "sigmoid"
    ]
    seen, signs = set(found), dict[int, bool]()
    for x in found:
        other = _negated(x)
        if other is not None and other in seen:
            signs[alike.number(x)], signs[alike.number(other)] = False, True
    pairs: dict[Node, tuple[Node, bool]] = {}
    for x in found if signs else ():
        positive = signs.get(alike.number(x))
        base = x if positive else _negated(x)
        if positive is not None and base is not None:
            pairs[x] = (base, positive)
    return pairs


def _negated(x: Node) -> Node | None:
    """y, if x is -y as it is written: -y, or -c*z where y is c*z."""
    if not isinstance(x, Call):
        return None
    if x.op == "neg":
        return x.args[0]
    if x.op == "mul" and isinstance(x.args[0], Const) and x.args[0].value < 0:
        return graph.call("mul", graph.const(-x.args[0].value), x.args[1])
    return None


def _rebuilt(x: Node, done: dict[Node, Node]) -> Node:
    """What x has become: it may come later, but what it is made of does not."""
    if x not in done:
        done[x] = graph.rebuild(x, tuple(done.get(c, c) for c in x.children))
    return done[x]


def _slope_of_sigmoid(
    node: Node, pairs: dict[Node, tuple[Node, bool]], done: dict[Node, Node]
) -> Node | None:
    """sigmoid(-abs(x)), if the node is sigmoid(x)*sigmoid(-x)."""
    if not isinstance(node, Call) or node.op != "mul":
        return None
    first, second = (pairs.get(a.args[0]) if _is(a, "sigmoid") else None
                     for a in node.args)  # fmt: skip
    if first is None or second is None:
        return None
    if first[0] is not second[0] or first[1] is second[1]:
        return None
    return _smaller(_rebuilt(first[0], done))


def _smaller(x: Node) -> Node:
    return graph.call("sigmoid_tail", x)


def _sigmoid(x: Node, positive: bool) -> Node:
    """sigmoid(x), or sigmoid(-x), from the smaller of the two."""
    small = _smaller(x)
    low, high = (small, 1.0 - small) if positive else (1.0 - small, small)
    return apply("where", x < 0.0, low, high)
