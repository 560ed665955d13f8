"""Exponentials, logarithms, and the functions of statistics made from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symgrad.graph import Node
from symgrad.ops import nodes as n
from symgrad.ops.row import ANNEX_F, ANY, INF, NAN, TORCH, declare, mp, oracle, special

LN2, LN10 = math.log(2.0), math.log(10.0)
LN2_REST = 2.319046813846299e-17  # log(2) - LN2: the next bits of the constant

# --------------------------------------------------------------------------------------
# Exponentials
# --------------------------------------------------------------------------------------

declare(
    "exp",
    arity=1,
    types="float",
    numeric=np.exp,
    exact=oracle.exp,
    partials=lambda out, x: (out,),
    cost=12,
    sympy="exp",
    sample=(ANY,),
    edges=(
        (0.0, 1.0),
        (-0.0, 1.0),
        (710.0, INF),
        (-746.0, 0.0),
        (INF, INF),
        (-INF, 0.0),
        (NAN, NAN),
    ),
    domain="all reals; inf above 709.78, 0 below -745.13",
    corner="none",
    cite=ANNEX_F,
    ulp=1.0,
)


def _expand_exp2(x: Node) -> Node:
    """exp(x*log 2) with the rounding error of the product, which exp would magnify."""
    product = x * LN2
    lost = n.fma(x, LN2, -product) + x * LN2_REST
    careful = n.exp(product) * (1.0 + lost)
    return n.where(n.absolute(x) < 1100.0, careful, n.exp(product))


declare(
    "exp2",
    arity=1,
    types="float",
    numeric=np.exp2,
    exact=lambda x: mp.power(2, x),
    partials=lambda out, x: (LN2 * out,),
    expand=_expand_exp2,
    cost=12,
    sympy=None,
    sample=(ANY,),
    edges=(
        (0.0, 1.0),
        (1024.0, INF),
        (-1080.0, 0.0),
        (INF, INF),
        (-INF, 0.0),
        (NAN, NAN),
    ),
    domain="all reals; inf from 1024, 0 below -1075",
    corner="none",
    cite=ANNEX_F,
    ulp=1.0,
)


def _expand_expm1(x: Node) -> Node:
    """Kahan's: the rounding error of u = exp(x) cancels in (u - 1)*x/log(u)."""
    u = n.exp(x)
    near = n.where(n.equal(u, 1.0), x, (u - 1.0) * (x / n.log(u)))
    return n.where(n.absolute(x) < 1.0, near, u - 1.0)


declare(
    "expm1",
    arity=1,
    types="float",
    numeric=np.expm1,
    exact=oracle.expm1,
    partials=lambda out, x: (n.exp(x),),
    expand=_expand_expm1,
    expand_ulp=8.0,
    cost=15,
    sympy=None,
    sample=(ANY,),
    edges=(
        (0.0, 0.0),
        (-0.0, -0.0),
        (1e-300, 1e-300),
        (710.0, INF),
        (-50.0, -1.0),
        (INF, INF),
        (-INF, -1.0),
        (NAN, NAN),
    ),
    domain="all reals",
    corner="none",
    cite=f"{ANNEX_F}; Higham, Accuracy and Stability (2002), section 1.14.1",
    ulp=2.0,
)

# --------------------------------------------------------------------------------------
# Logarithms
# --------------------------------------------------------------------------------------


def _exact_log(x: Any) -> Any:
    return -mp.inf if x == 0 else mp.log(x)


declare(
    "log",
    arity=1,
    types="float",
    numeric=np.log,
    exact=_exact_log,
    partials=lambda out, x: (1.0 / x,),
    cost=13,
    sympy="log",
    sample=((0.01, 50.0),),
    edges=((0.0, -INF), (-0.0, -INF), (1.0, 0.0), (-1.0, NAN), (INF, INF), (NAN, NAN)),
    domain="x > 0; -inf at 0, nan below",
    corner="at 0: inf",
    kinks=(((0.0,), (INF,)),),
    cite=ANNEX_F,
    ulp=1.0,
)
declare(
    "log2",
    arity=1,
    types="float",
    numeric=np.log2,
    exact=lambda x: _exact_log(x) / mp.log(2),
    partials=lambda out, x: (1.0 / (x * LN2),),
    expand=lambda x: n.log(x) / LN2,
    cost=14,
    sympy=None,
    sample=((0.01, 50.0),),
    edges=((0.0, -INF), (1.0, 0.0), (-1.0, NAN), (INF, INF), (NAN, NAN)),
    domain="x > 0; -inf at 0, nan below",
    corner="at 0: inf",
    kinks=(((0.0,), (INF,)),),
    cite=ANNEX_F,
    ulp=1.0,
)
declare(
    "log10",
    arity=1,
    types="float",
    numeric=np.log10,
    exact=lambda x: _exact_log(x) / mp.log(10),
    partials=lambda out, x: (1.0 / (x * LN10),),
    expand=lambda x: n.log(x) / LN10,
    cost=14,
    sympy=None,
    sample=((0.01, 50.0),),
    edges=((0.0, -INF), (1.0, 0.0), (-1.0, NAN), (INF, INF), (NAN, NAN)),
    domain="x > 0; -inf at 0, nan below",
    corner="at 0: inf",
    kinks=(((0.0,), (INF,)),),
    cite=ANNEX_F,
    ulp=2.0,
)


def _expand_log1p(x: Node) -> Node:
    """Kahan's: log(u) * x/(u - 1) undoes the rounding of u = 1 + x."""
    u = 1.0 + x
    near = n.where(n.equal(u, 1.0), x, n.log(u) * (x / (u - 1.0)))
    return n.where(n.absolute(x) < 1.0, near, n.log(u))


declare(
    "log1p",
    arity=1,
    types="float",
    numeric=np.log1p,
    exact=lambda x: -mp.inf if x == -1 else mp.log1p(x),
    partials=lambda out, x: (1.0 / (1.0 + x),),
    expand=_expand_log1p,
    cost=14,
    sympy=None,
    sample=((-0.9, 50.0),),
    edges=(
        (0.0, 0.0),
        (-0.0, -0.0),
        (1e-300, 1e-300),
        (-1.0, -INF),
        (-2.0, NAN),
        (INF, INF),
        (NAN, NAN),
    ),
    domain="x > -1; -inf at -1, nan below",
    corner="at -1: inf",
    kinks=(((-1.0,), (INF,)),),
    cite=f"{ANNEX_F}; Higham, Accuracy and Stability (2002), problem 1.5",
    ulp=2.0,
)

# --------------------------------------------------------------------------------------
# Logistic functions
# --------------------------------------------------------------------------------------


def _expand_sigmoid(x: Node) -> Node:
    decay = n.exp(-n.absolute(x))
    return n.where(x < 0, decay, 1.0) / (1.0 + decay)


declare(
    "sigmoid",
    arity=1,
    types="float",
    numeric=special.expit,
    exact=lambda x: 1 / (1 + mp.exp(-x)),
    partials=lambda out, x: (out * (1.0 - out),),
    expand=_expand_sigmoid,
    cost=18,
    sympy=None,
    sample=(ANY,),
    edges=(
        (0.0, 0.5),
        (800.0, 1.0),
        (-800.0, 0.0),
        (INF, 1.0),
        (-INF, 0.0),
        (NAN, NAN),
    ),
    domain="all reals",
    corner="none. The derivative out*(1 - out) is exact to an ulp of 1, not of itself",
    cite=f"{TORCH} (sigmoid)",
    ulp=3.0,
)


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


declare(
    "softplus",
    arity=1,
    types="float",
    numeric=_softplus,
    exact=lambda x: mp.mpf(0) if x == -mp.inf else x + mp.log1p(mp.exp(-x)),
    partials=lambda out, x: (n.sigmoid(x),),
    expand=lambda x: n.maximum(x, 0.0) + n.log1p(n.exp(-n.absolute(x))),
    cost=28,
    sympy=None,
    sample=(ANY,),
    edges=((1000.0, 1000.0), (-800.0, 0.0), (INF, INF), (-INF, 0.0), (NAN, NAN)),
    domain="all reals; log(1 + exp(x)) without overflow",
    corner="none",
    cite="Maechler, Accurately computing log(1 - exp(-|a|)), 2012",
    ulp=3.0,
)


def _expand_logaddexp(a: Node, b: Node) -> Node:
    apart = n.maximum(a, b) + n.log1p(n.exp(-n.absolute(a - b)))
    return n.where(n.equal(a, b), a + LN2, apart)


def _exact_logaddexp(a: Any, b: Any) -> Any:
    high, low = max(a, b), min(a, b)
    return high if mp.isinf(high) else high + mp.log1p(mp.exp(low - high))


declare(
    "logaddexp",
    arity=2,
    types="float",
    numeric=np.logaddexp,
    exact=_exact_logaddexp,
    partials=lambda out, a, b: (
        n.where(n.equal(a, b), 0.5, n.sigmoid(a - b)),
        n.where(n.equal(a, b), 0.5, n.sigmoid(b - a)),
    ),
    expand=_expand_logaddexp,
    cost=30,
    sympy=None,
    sample=(ANY, ANY),
    edges=(
        (-INF, -INF, -INF),
        (INF, -INF, INF),
        (INF, INF, INF),
        (-INF, 2.0, 2.0),
        (1000.0, 0.0, 1000.0),
        (NAN, 1.0, NAN),
    ),
    domain="all reals and infinities",
    corner="at a == b == -inf or inf: one half each, the value on the diagonal",
    kinks=(
        ((-INF, -INF), (0.5, 0.5)),
        ((INF, INF), (0.5, 0.5)),
        ((-INF, 0.0), (0.0, 1.0)),
        ((INF, 0.0), (1.0, 0.0)),
    ),
    cite=f"NumPy reference, logaddexp; {TORCH} (logaddexp)",
    ulp=2.0,
    scale=1.0,
)
