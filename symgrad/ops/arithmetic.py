"""Arithmetic: the four operations, fused products, remainders, sign and rounding."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from symgrad import graph
from symgrad.graph import Const, Node
from symgrad.ops import nodes as n
from symgrad.ops.row import (
    ANY,
    IEEE,
    INF,
    NAN,
    ONE,
    TORCH,
    declare,
    integer_call,
    mp,
    oracle,
)

# --------------------------------------------------------------------------------------
# The four operations
# --------------------------------------------------------------------------------------


def _exact_div(x: Any, y: Any) -> Any:
    if y != 0:
        return mp.mpf(x) / y
    return mp.nan if x == 0 or mp.isnan(x) else mp.inf * mp.sign(x)


def _negate_integer(x: Node) -> Node:
    return graph.const(-x.value) if isinstance(x, Const) else -x


declare(
    "add",
    arity=2,
    types="float",
    integer=partial(graph.fold_int, "add"),
    numeric=np.add,
    exact=lambda x, y: x + y,
    partials=lambda out, x, y: (ONE, ONE),
    cost=1,
    sympy="Add",
    sample=(ANY, ANY),
    edges=((INF, -INF, NAN), (INF, 1.0, INF), (-0.0, -0.0, -0.0), (1.0, -1.0, 0.0)),
    domain="all reals",
    corner="none",
    cite=IEEE,
    ulp=0.5,
)
declare(
    "sub",
    arity=2,
    types="float",
    integer=partial(graph.fold_int, "sub"),
    numeric=np.subtract,
    exact=lambda x, y: x - y,
    partials=lambda out, x, y: (ONE, graph.const(-1.0)),
    expand=lambda x, y: x + -y,
    cost=1,
    sympy=None,
    sample=(ANY, ANY),
    edges=((INF, INF, NAN), (1.0, INF, -INF), (-0.0, 0.0, -0.0), (1.0, 1.0, 0.0)),
    domain="all reals",
    corner="none",
    cite=IEEE,
    ulp=0.5,
)
declare(
    "mul",
    arity=2,
    types="float",
    integer=partial(graph.fold_int, "mul"),
    numeric=np.multiply,
    exact=lambda x, y: x * y,
    partials=lambda out, x, y: (y, x),
    cost=1,
    sympy="Mul",
    sample=(ANY, ANY),
    edges=((0.0, INF, NAN), (-2.0, INF, -INF), (-1.0, 0.0, -0.0), (NAN, 0.0, NAN)),
    domain="all reals",
    corner="none",
    cite=IEEE,
    ulp=0.5,
)
declare(
    "div",
    arity=2,
    types="float",
    numeric=np.divide,
    exact=_exact_div,
    partials=lambda out, x, y: (ONE / y, -out / y),
    cost=5,
    sympy=None,
    sample=(ANY, (0.5, 20.0)),
    edges=(
        (1.0, 0.0, INF),
        (-1.0, 0.0, -INF),
        (1.0, -0.0, -INF),
        (0.0, 0.0, NAN),
        (INF, INF, NAN),
        (1.0, -INF, -0.0),
    ),
    domain="y != 0; inf or nan there",
    corner="none: at y == 0 the derivatives are infinite or nan",
    cite=IEEE,
    ulp=0.5,
)
declare(
    "neg",
    arity=1,
    types="float",
    integer=_negate_integer,
    numeric=np.negative,
    exact=lambda x: -x,
    partials=lambda out, x: (graph.const(-1.0),),
    cost=1,
    sympy=None,
    sample=(ANY,),
    edges=((0.0, -0.0), (-0.0, 0.0), (INF, -INF), (NAN, NAN)),
    domain="all reals",
    corner="none",
    cite=IEEE,
    ulp=0.5,
)


def _fused(a: Any, b: Any, c: Any) -> Any:
    """a*b + c with the product's rounding error kept (Dekker 1971, Knuth's two-sum)."""
    a, b, c = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (a, b, c)))
    product = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    lost = a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)
    total = product + c
    rest = total - product
    lost = lost + ((product - (total - rest)) + (c - rest))
    fused = total + lost
    return np.where(np.isfinite(fused) & (lost != 0), fused, total)


def _halves(x: Any) -> tuple[Any, Any]:
    scaled = x * 134217729.0  # 2**27 + 1
    high = scaled - (scaled - x)
    return high, x - high


declare(
    "fma",
    arity=3,
    types="float",
    numeric=_fused,
    exact=lambda a, b, c: a * b + c,
    partials=lambda out, a, b, c: (b, a, ONE),
    expand=lambda a, b, c: a * b + c,
    expand_ulp=INF,  # rounds twice: after cancellation no digit need agree
    cost=1,
    sympy=None,
    sample=(ANY, ANY, ANY),
    edges=(
        (2.0, 3.0, 4.0, 10.0),
        (0.0, INF, 1.0, NAN),
        (1.0, INF, -INF, NAN),
        (1.0, 1.0, -1.0, 0.0),
        (-1.0, 0.0, -0.0, -0.0),
    ),
    domain="all reals",
    corner="none",
    cite=IEEE,
    ulp=1.0,
)

# --------------------------------------------------------------------------------------
# Division with remainder
# --------------------------------------------------------------------------------------


def _exact_mod(x: Any, y: Any) -> Any:
    if not mp.isfinite(x) or y == 0 or mp.isnan(y):
        return mp.nan
    if mp.isinf(y):
        return x if x * y >= 0 else y
    return x - y * mp.floor(x / y)


def _exact_floor_divide(x: Any, y: Any) -> Any:
    if y == 0:
        return _exact_div(x, y)
    if not mp.isfinite(x):
        return mp.nan
    return mp.floor(x / y) if mp.isfinite(y) else mp.mpf(0 if x * y >= 0 else -1)


declare(
    "mod",
    arity=2,
    types="float",
    integer=integer_call("mod", lambda x, y: x % y if y else 0),
    numeric=np.mod,
    exact=_exact_mod,
    partials=lambda out, x, y: (ONE, -n.floor_divide(x, y)),
    cost=20,
    sympy="Mod",
    sample=(ANY, (0.5, 5.0)),
    edges=(
        (-1.0, 3.0, 2.0),
        (1.0, -3.0, -2.0),
        (6.0, 3.0, 0.0),
        (6.0, -3.0, -0.0),
        (1.0, 0.0, NAN),
        (INF, 3.0, NAN),
        (1.0, INF, 1.0),
        (NAN, 1.0, NAN),
    ),
    domain="y != 0; the result has the sign of y. Integers: 0 where y == 0",
    corner="at a multiple of y: the derivative of the branch that starts there",
    cite=f"NumPy reference, mod; {TORCH} (remainder)",
    ulp=0.5,
)
declare(
    "floor_divide",
    arity=2,
    types="float",
    integer=integer_call("floor_divide", lambda x, y: x // y if y else 0),
    numeric=np.floor_divide,
    exact=_exact_floor_divide,
    partials=lambda out, x, y: (None, None),
    cost=20,
    sympy=None,
    sample=(ANY, (0.5, 5.0)),
    edges=(
        (-1.0, 3.0, -1.0),
        (7.0, 2.0, 3.0),
        (7.0, -2.0, -4.0),
        (1.0, 0.0, INF),
        (0.0, 0.0, NAN),
        (1.0, INF, 0.0),
        (NAN, 1.0, NAN),
    ),
    domain="y != 0; inf or nan there. Integers: 0 where y == 0",
    corner="0 everywhere",
    cite="NumPy reference, floor_divide",
    ulp=0.5,
)

# --------------------------------------------------------------------------------------
# Sign and rounding
# --------------------------------------------------------------------------------------

declare(
    "abs",
    arity=1,
    types="float",
    integer=lambda x: n.maximum(x, -x),
    numeric=np.abs,
    exact=abs,
    partials=lambda out, x: (n.sign(x),),
    cost=1,
    sympy="Abs",
    sample=(ANY,),
    edges=((0.0, 0.0), (-0.0, 0.0), (-3.0, 3.0), (-INF, INF), (NAN, NAN)),
    domain="all reals",
    corner="at 0: 0, as PyTorch",
    kinks=(((0.0,), (0.0,)), ((-0.0,), (0.0,))),
    cite=f"{IEEE}; {TORCH} (abs)",
    ulp=0.5,
)
declare(
    "sign",
    arity=1,
    types="float",
    integer=lambda x: n.where(x > 0, 1, n.where(x < 0, -1, 0)),
    numeric=np.sign,
    exact=oracle.sign,
    partials=lambda out, x: (None,),
    expand=lambda x: n.odd(n.where(n.equal(x, 0.0), 0.0, x), ONE),
    cost=2,
    sympy="sign",
    sample=(ANY,),
    edges=((0.0, 0.0), (-0.0, 0.0), (3.0, 1.0), (-INF, -1.0), (NAN, NAN)),
    domain="all reals; 0 at both zeros, nan at nan (NumPy)",
    corner="0 everywhere",
    cite="NumPy reference, sign",
    ulp=0.5,
)


def _declare_rounding(name: str, function: Any, sympy: str | None, **more: Any) -> None:
    """A piecewise constant function onto the integers. ``more``: exact, edges, cite."""
    declare(
        name,
        arity=1,
        types="float",
        integer=lambda x: x,
        numeric=function,
        partials=lambda out, x: (None,),
        cost=1,
        sympy=sympy,
        sample=(ANY,),
        domain="all reals",
        corner="0 everywhere",
        ulp=0.5,
        **more,
    )


_declare_rounding(
    "floor",
    np.floor,
    "floor",
    exact=oracle.floor,
    edges=((-0.5, -1.0), (2.0, 2.0), (-0.0, -0.0), (INF, INF), (NAN, NAN)),
    cite=IEEE,
)
_declare_rounding(
    "ceil",
    np.ceil,
    "ceiling",
    exact=oracle.ceil,
    edges=((-0.5, -0.0), (0.5, 1.0), (-0.0, -0.0), (-INF, -INF), (NAN, NAN)),
    cite=IEEE,
)
_declare_rounding(
    "trunc",
    np.trunc,
    None,
    exact=lambda x: mp.floor(x) if x > 0 else mp.ceil(x),
    expand=lambda x: n.where(x > 0, n.floor(x), n.ceil(x)),
    edges=((-1.5, -1.0), (-0.5, -0.0), (1.5, 1.0), (INF, INF), (NAN, NAN)),
    cite=IEEE,
)
_declare_rounding(
    "round",
    np.rint,
    None,
    exact=oracle.nint,
    edges=((0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-0.5, -0.0), (INF, INF), (NAN, NAN)),
    cite=f"{IEEE}, roundToIntegralTiesToEven (halves go to the even neighbour)",
)
