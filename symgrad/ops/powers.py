"""Powers, roots, and the length of a pair."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgrad import graph
from symgrad.graph import Const, Node
from symgrad.ops import nodes as n
from symgrad.ops.row import (
    ANNEX_F,
    ANY,
    IEEE,
    INF,
    NAN,
    ONE,
    TORCH,
    Partials,
    declare,
    mp,
    oracle,
)


def _power_partials(out: Node, x: Node, y: Node) -> Partials:
    if isinstance(y, Const):
        return _constant_power(x, float(y.value)), None
    by_x = n.where(n.equal(y, 0.0), 0.0, y * n.power(x, y - 1.0))
    return by_x, n.where(n.both(n.equal(x, 0.0), y >= 0.0), 0.0, out * n.log(x))


def _constant_power(x: Node, y: float) -> Node | None:
    if y == 0.0:
        return None
    if y == 1.0:
        return ONE
    return y * x if y == 2.0 else y * n.power(x, y - 1.0)


def _power_integer(x: Node, n: Node) -> Node:
    """Small constant powers of integers stay integers, so that they can be indices."""
    if not isinstance(n, Const) or not 0 <= n.value <= 8:
        return graph.call("pow", graph.to_float(x), graph.to_float(n))
    result: Node = graph.const(1)
    for _ in range(int(n.value)):
        result = graph.fold_int("mul", result, x)
    return result


def _exact_power(x: Any, y: Any) -> Any:
    if y == 0 or x == 1:
        return mp.mpf(1)
    if x == 0 and y < 0:
        return mp.inf
    return mp.power(x, y)


declare(
    "pow",
    arity=2,
    types="float",
    integer=_power_integer,
    numeric=np.float_power,
    exact=_exact_power,
    partials=_power_partials,
    cost=40,
    sympy="Pow",
    sample=((0.1, 8.0), (-3.0, 3.0)),
    edges=(
        (0.0, 0.0, 1.0),
        (0.0, 2.0, 0.0),
        (-0.0, 3.0, -0.0),
        (0.0, -1.0, INF),
        (-0.0, -1.0, -INF),
        (0.0, -2.0, INF),
        (0.0, 0.5, 0.0),
        (-2.0, 3.0, -8.0),
        (-2.0, 2.0, 4.0),
        (-2.0, -1.0, -0.5),
        (-8.0, 1 / 3, NAN),
        (1.0, NAN, 1.0),
        (NAN, 0.0, 1.0),
        (NAN, 1.0, NAN),
        (2.0, INF, INF),
        (0.5, INF, 0.0),
        (-1.0, INF, 1.0),
        (2.0, -INF, 0.0),
        (INF, -1.0, 0.0),
        (-INF, 3.0, -INF),
        (-INF, -1.0, -0.0),
        (2.0, 1024.0, INF),
        (2.0, -1074.0, 5e-324),
    ),
    domain="x > 0, or x <= 0 with integer y; nan elsewhere; 0**0 is 1",
    corner="by x at y == 0: 0. By y at x == 0, y >= 0: 0; at x < 0: nan. As PyTorch.",
    kinks=(
        ((0.0, 0.0), (0.0, 0.0)),
        ((0.0, 2.0), (0.0, 0.0)),
        ((0.0, 1.0), (1.0, 0.0)),
        ((0.0, 0.5), (INF, 0.0)),
        ((-2.0, 3.0), (12.0, NAN)),
    ),
    cite=f"{ANNEX_F}.4.4; {TORCH} (pow)",
    ulp=1.0,
)
declare(
    "sqrt",
    arity=1,
    types="float",
    numeric=np.sqrt,
    exact=oracle.sqrt,
    partials=lambda out, x: (0.5 / out,),
    cost=6,
    sympy="sqrt",
    sample=((0.01, 50.0),),
    edges=((0.0, 0.0), (-0.0, -0.0), (-1.0, NAN), (INF, INF), (NAN, NAN)),
    domain="x >= 0; nan below",
    corner="at 0: inf, the limit from the right, as PyTorch. Nothing finite is true.",
    kinks=(((0.0,), (INF,)),),
    cite=f"{IEEE}; {TORCH} (sqrt)",
    ulp=0.5,
)


def _expand_cbrt(x: Node) -> Node:
    size = n.absolute(x)
    root = n.exp(n.log(size) / 3.0)
    root = root - (root - size / (root * root)) / 3.0  # Newton, after exp(log)
    return n.odd(x, n.where(n.isfinite(x), root, size))


declare(
    "cbrt",
    arity=1,
    types="float",
    numeric=np.cbrt,
    exact=lambda x: mp.sign(x) * mp.cbrt(abs(x)),
    partials=lambda out, x: (1.0 / (3.0 * out * out),),
    expand=_expand_cbrt,
    cost=20,
    sympy=None,
    sample=((0.01, 50.0),),
    edges=(
        (0.0, 0.0),
        (-0.0, -0.0),
        (-8.0, -2.0),
        (27.0, 3.0),
        (INF, INF),
        (-INF, -INF),
        (NAN, NAN),
    ),
    domain="all reals; negative for negative x",
    corner="at 0: inf, the two-sided limit",
    kinks=(((0.0,), (INF,)),),
    cite=ANNEX_F,
    ulp=1.0,
)


def _expand_hypot(x: Node, y: Node) -> Node:
    large = n.maximum(n.absolute(x), n.absolute(y))
    ratio = n.minimum(n.absolute(x), n.absolute(y)) / large
    length = n.where(n.equal(large, 0.0), 0.0, large * n.sqrt(1.0 + ratio * ratio))
    return n.where(n.either(n.isinf(x), n.isinf(y)), INF, length)


declare(
    "hypot",
    arity=2,
    types="float",
    numeric=np.hypot,
    exact=lambda x, y: mp.inf if mp.isinf(x) or mp.isinf(y) else mp.hypot(x, y),
    partials=lambda out, x, y: (
        n.where(n.equal(out, 0.0), 0.0, x / out),
        n.where(n.equal(out, 0.0), 0.0, y / out),
    ),
    expand=_expand_hypot,
    cost=18,
    sympy=None,
    sample=(ANY, ANY),
    edges=(
        (3.0, -4.0, 5.0),
        (0.0, -0.0, 0.0),
        (INF, NAN, INF),
        (NAN, -INF, INF),
        (NAN, 1.0, NAN),
        (3e300, 4e300, 5e300),
        (3e-300, 4e-300, 5e-300),
    ),
    domain="all reals; no overflow or underflow inside",
    corner="at (0, 0): (0, 0), the smallest subgradient; PyTorch gives nan",
    kinks=(((0.0, 0.0), (0.0, 0.0)),),
    cite=ANNEX_F,
    ulp=1.0,
)
