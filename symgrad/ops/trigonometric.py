"""Trigonometric and hyperbolic functions and their inverses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symgrad.graph import Node
from symgrad.ops import nodes as n
from symgrad.ops.row import ANNEX_F, ANY, INF, NAN, TORCH, declare, mp, oracle

LN2, PI = math.log(2.0), math.pi

# --------------------------------------------------------------------------------------
# Circular functions
# --------------------------------------------------------------------------------------

declare(
    "sin",
    arity=1,
    types="float",
    numeric=np.sin,
    exact=oracle.sin,
    partials=lambda out, x: (n.cos(x),),
    cost=16,
    sympy="sin",
    sample=(ANY,),
    edges=((0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)),
    domain="all reals; nan at infinities",
    corner="none",
    cite=ANNEX_F,
    ulp=1.0,
)
declare(
    "cos",
    arity=1,
    types="float",
    numeric=np.cos,
    exact=oracle.cos,
    partials=lambda out, x: (-n.sin(x),),
    cost=16,
    sympy="cos",
    sample=(ANY,),
    edges=((0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN), (NAN, NAN)),
    domain="all reals; nan at infinities",
    corner="none",
    cite=ANNEX_F,
    ulp=1.0,
)
declare(
    "tan",
    arity=1,
    types="float",
    numeric=np.tan,
    exact=oracle.tan,
    partials=lambda out, x: (1.0 + out * out,),
    expand=lambda x: n.sin(x) / n.cos(x),
    cost=30,
    sympy="tan",
    sample=((-1.5, 1.5),),
    edges=((0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)),
    domain="all reals; no double is a pole; nan at infinities",
    corner="none",
    cite=ANNEX_F,
    ulp=3.0,
)


def _root(x: Node) -> Node:
    """sqrt(1 - x*x) without cancellation near 1."""
    return n.sqrt((1.0 - x) * (1.0 + x))


declare(
    "asin",
    arity=1,
    types="float",
    numeric=np.arcsin,
    exact=oracle.asin,
    partials=lambda out, x: (1.0 / _root(x),),
    expand=lambda x: n.atan2(x, _root(x)),
    cost=25,
    sympy="asin",
    sample=((-0.95, 0.95),),
    edges=((0.0, 0.0), (-0.0, -0.0), (1.0, PI / 2), (1.5, NAN), (INF, NAN), (NAN, NAN)),
    domain="-1 <= x <= 1; nan outside",
    corner="at -1 and 1: inf",
    kinks=(((1.0,), (INF,)), ((-1.0,), (INF,))),
    cite=ANNEX_F,
    ulp=1.0,
)
declare(
    "acos",
    arity=1,
    types="float",
    numeric=np.arccos,
    exact=oracle.acos,
    partials=lambda out, x: (-1.0 / _root(x),),
    expand=lambda x: n.atan2(_root(x), x),
    cost=25,
    sympy="acos",
    sample=((-0.95, 0.95),),
    edges=((1.0, 0.0), (-1.0, PI), (0.0, PI / 2), (1.5, NAN), (INF, NAN), (NAN, NAN)),
    domain="-1 <= x <= 1; nan outside",
    corner="at -1 and 1: -inf",
    kinks=(((1.0,), (-INF,)), ((-1.0,), (-INF,))),
    cite=ANNEX_F,
    ulp=1.0,
)
declare(
    "atan",
    arity=1,
    types="float",
    numeric=np.arctan,
    exact=oracle.atan,
    partials=lambda out, x: (1.0 / (1.0 + x * x),),
    cost=20,
    sympy="atan",
    sample=(ANY,),
    edges=((0.0, 0.0), (-0.0, -0.0), (INF, PI / 2), (-INF, -PI / 2), (NAN, NAN)),
    domain="all reals",
    corner="none",
    cite=ANNEX_F,
    ulp=1.0,
)


def _exact_atan2(y: Any, x: Any) -> Any:
    if mp.isinf(x) and mp.isinf(y):
        return mp.sign(y) * (mp.pi / 4 if x > 0 else 3 * mp.pi / 4)
    return mp.atan2(y, x)


def _expand_atan2(y: Node, x: Node) -> Node:
    """An octant of atan, turned and mirrored. 1/x tells -0 from 0."""
    high = n.maximum(n.absolute(y), n.absolute(x))
    low = n.minimum(n.absolute(y), n.absolute(x))
    ratio = n.where(n.equal(low, high), n.where(high > 0, 1.0, 0.0), low / high)
    angle = n.atan(ratio)
    angle = n.where(n.absolute(y) > n.absolute(x), PI / 2 - angle, angle)
    angle = n.where(_negative(x), PI - angle, angle)
    angle = n.where(n.either(n.differs(x, x), n.differs(y, y)), x + y, angle)
    return n.where(_negative(y), -angle, angle)


def _negative(x: Node) -> Node:
    return n.either(x < 0, n.both(n.equal(x, 0), 1.0 / x < 0))


def _atan2_partial(y: Node, x: Node, over: Node) -> Node:
    square = x * x + y * y
    return n.where(n.equal(square, 0.0), 0.0, over / square)


declare(
    "atan2",
    arity=2,
    types="float",
    numeric=np.arctan2,
    exact=_exact_atan2,
    partials=lambda out, y, x: (_atan2_partial(y, x, x), _atan2_partial(y, x, -y)),
    expand=_expand_atan2,
    cost=30,
    sympy="atan2",
    sample=((0.1, 20.0), ANY),
    edges=(
        (0.0, 0.0, 0.0),
        (-0.0, 0.0, -0.0),
        (0.0, -0.0, PI),
        (-0.0, -0.0, -PI),
        (0.0, 1.0, 0.0),
        (-0.0, 1.0, -0.0),
        (0.0, -1.0, PI),
        (-0.0, -1.0, -PI),
        (1.0, 0.0, PI / 2),
        (-1.0, 0.0, -PI / 2),
        (INF, 1.0, PI / 2),
        (1.0, INF, 0.0),
        (1.0, -INF, PI),
        (INF, INF, PI / 4),
        (-INF, -INF, -3 * PI / 4),
        (NAN, 1.0, NAN),
    ),
    domain="all reals; the angle of the point (x, y), in [-pi, pi]",
    corner="at (0, 0): (0, 0), as PyTorch",
    kinks=(((0.0, 0.0), (0.0, 0.0)),),
    cite=f"{ANNEX_F}.1.4; {TORCH} (atan2)",
    ulp=1.0,
)

# --------------------------------------------------------------------------------------
# Hyperbolic functions
# --------------------------------------------------------------------------------------


def _expand_sinh(x: Node) -> Node:
    size = n.absolute(x)
    small = n.expm1(size)
    half = n.exp(0.5 * size)  # its square overflows no earlier than sinh does
    small = 0.5 * (small + small / (small + 1.0))
    return n.odd(x, n.where(size > 22.0, (0.5 * half) * half, small))


def _expand_cosh(x: Node) -> Node:
    size = n.absolute(x)
    half, whole = n.exp(0.5 * size), n.exp(size)
    return n.where(size > 22.0, (0.5 * half) * half, 0.5 * whole + 0.5 / whole)


def _expand_tanh(x: Node) -> Node:
    decay = n.expm1(-2.0 * n.absolute(x))
    return n.odd(x, -decay / (2.0 + decay))


declare(
    "sinh",
    arity=1,
    types="float",
    numeric=np.sinh,
    exact=oracle.sinh,
    partials=lambda out, x: (n.cosh(x),),
    expand=_expand_sinh,
    cost=25,
    sympy="sinh",
    sample=(ANY,),
    edges=(
        (0.0, 0.0),
        (-0.0, -0.0),
        (711.0, INF),
        (-INF, -INF),
        (INF, INF),
        (NAN, NAN),
    ),
    domain="all reals; overflows beyond 710.4",
    corner="none",
    cite=ANNEX_F,
    ulp=2.0,
)
declare(
    "cosh",
    arity=1,
    types="float",
    numeric=np.cosh,
    exact=oracle.cosh,
    partials=lambda out, x: (n.sinh(x),),
    expand=_expand_cosh,
    cost=25,
    sympy="cosh",
    sample=(ANY,),
    edges=(
        (0.0, 1.0),
        (711.0, INF),
        (-711.0, INF),
        (-INF, INF),
        (INF, INF),
        (NAN, NAN),
    ),
    domain="all reals; overflows beyond 710.4",
    corner="none",
    cite=ANNEX_F,
    ulp=2.0,
)
declare(
    "tanh",
    arity=1,
    types="float",
    numeric=np.tanh,
    exact=oracle.tanh,
    partials=lambda out, x: (1.0 - out * out,),
    expand=_expand_tanh,
    cost=18,
    sympy="tanh",
    sample=(ANY,),
    edges=(
        (0.0, 0.0),
        (-0.0, -0.0),
        (1e-300, 1e-300),
        (30.0, 1.0),
        (INF, 1.0),
        (-INF, -1.0),
        (NAN, NAN),
    ),
    domain="all reals",
    corner="none. The derivative 1 - out*out is exact to an ulp of 1, not of itself",
    cite=ANNEX_F,
    ulp=2.0,
)

# --------------------------------------------------------------------------------------
# Inverse hyperbolic functions
# --------------------------------------------------------------------------------------

_LARGE = 2.0**28  # from here x*x + 1 and x*x are one number


def _expand_asinh(x: Node) -> Node:
    size = n.absolute(x)
    square = size * size
    small = n.log1p(size + square / (1.0 + n.sqrt(1.0 + square)))
    return n.odd(x, n.where(size > _LARGE, n.log(size) + LN2, small))


def _expand_acosh(x: Node) -> Node:
    above = x - 1.0
    small = n.log1p(above + n.sqrt(above) * n.sqrt(x + 1.0))
    return n.where(x > _LARGE, n.log(x) + LN2, small)


def _expand_atanh(x: Node) -> Node:
    size = n.absolute(x)
    return n.odd(x, 0.5 * n.log1p(2.0 * size / (1.0 - size)))


declare(
    "asinh",
    arity=1,
    types="float",
    numeric=np.arcsinh,
    exact=oracle.asinh,
    partials=lambda out, x: (1.0 / n.sqrt(1.0 + x * x),),
    expand=_expand_asinh,
    cost=30,
    sympy="asinh",
    sample=(ANY,),
    edges=(
        (0.0, 0.0),
        (-0.0, -0.0),
        (1e-300, 1e-300),
        (INF, INF),
        (-INF, -INF),
        (NAN, NAN),
    ),
    domain="all reals",
    corner="none",
    cite=ANNEX_F,
    ulp=2.0,
)
declare(
    "acosh",
    arity=1,
    types="float",
    numeric=np.arccosh,
    exact=oracle.acosh,
    partials=lambda out, x: (1.0 / (n.sqrt(x - 1.0) * n.sqrt(x + 1.0)),),
    expand=_expand_acosh,
    cost=30,
    sympy="acosh",
    sample=((1.05, 50.0),),
    edges=((1.0, 0.0), (0.5, NAN), (-2.0, NAN), (-INF, NAN), (INF, INF), (NAN, NAN)),
    domain="x >= 1; nan below",
    corner="at 1: inf",
    kinks=(((1.0,), (INF,)),),
    cite=ANNEX_F,
    ulp=2.0,
)
declare(
    "atanh",
    arity=1,
    types="float",
    numeric=np.arctanh,
    exact=lambda x: mp.sign(x) * mp.inf if abs(x) == 1 else mp.atanh(x),
    partials=lambda out, x: (1.0 / ((1.0 - x) * (1.0 + x)),),
    expand=_expand_atanh,
    cost=25,
    sympy="atanh",
    sample=((-0.95, 0.95),),
    edges=(
        (0.0, 0.0),
        (-0.0, -0.0),
        (1e-300, 1e-300),
        (1.0, INF),
        (-1.0, -INF),
        (1.5, NAN),
        (INF, NAN),
        (NAN, NAN),
    ),
    domain="-1 < x < 1; infinite at the ends, nan outside",
    corner="at -1 and 1: inf",
    kinks=(((1.0,), (INF,)), ((-1.0,), (INF,))),
    cite=ANNEX_F,
    ulp=2.0,
)
