"""The error function, the gamma function, and their families."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symgrad import graph
from symgrad.graph import Const, Node
from symgrad.ops import nodes as n
from symgrad.ops.row import ANNEX_F, INF, NAN, Partials, declare, mp, oracle, special

DLMF = "NIST Digital Library of Mathematical Functions"
TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)

declare(
    "erf",
    arity=1,
    types="float",
    numeric=special.erf,
    exact=oracle.erf,
    partials=lambda out, x: (TWO_OVER_ROOT_PI * n.exp(-(x * x)),),
    cost=25,
    sympy="erf",
    sample=((-3.0, 3.0),),
    edges=((0.0, 0.0), (-0.0, -0.0), (10.0, 1.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN)),
    domain="all reals",
    corner="none",
    cite=f"{ANNEX_F}; {DLMF} 7.2.1",
    ulp=3.0,
)


def erfc(x: Any) -> Any:
    """The C library's: SciPy's is 30 ulp off in the tail."""
    return np.vectorize(math.erfc, otypes=[np.float64])(x)


declare(
    "erfc",
    arity=1,
    types="float",
    numeric=erfc,
    exact=oracle.erfc,
    partials=lambda out, x: (-TWO_OVER_ROOT_PI * n.exp(-(x * x)),),
    cost=35,
    sympy="erfc",
    sample=((-3.0, 8.0),),
    edges=((0.0, 1.0), (30.0, 0.0), (-10.0, 2.0), (INF, 0.0), (-INF, 2.0), (NAN, NAN)),
    domain="all reals; 1 - erf(x) without cancellation",
    corner="none",
    cite=f"{ANNEX_F}; {DLMF} 7.2.2",
    ulp=4.0,
)


def _lgamma(x: Any) -> Any:
    """SciPy's has -inf at -inf; the C standard has inf there."""
    return np.where(np.isneginf(x), INF, special.gammaln(x))


declare(
    "lgamma",
    arity=1,
    types="float",
    numeric=_lgamma,
    exact=lambda x: mp.inf if _is_pole(x) else mp.re(mp.loggamma(x)),
    partials=lambda out, x: (n.digamma(x),),
    cost=50,
    sympy="loggamma",
    sample=((0.05, 30.0),),
    edges=(
        (1.0, 0.0),
        (2.0, 0.0),
        (0.0, INF),
        (-1.0, INF),
        (INF, INF),
        (-INF, INF),
        (NAN, NAN),
    ),
    domain="log(abs(gamma(x))); inf at 0, -1, -2, ...",
    corner="at a pole: that of digamma",
    cite=f"{ANNEX_F}; {DLMF} 5.2.1",
    ulp=8.0,
    scale=1.0,
)


def _is_pole(x: Any) -> bool:
    return bool(x <= 0 and x == mp.floor(x))


declare(
    "digamma",
    arity=1,
    types="float",
    numeric=special.psi,
    exact=oracle.digamma,
    partials=lambda out, x: (n.polygamma(1, x),),
    cost=50,
    sympy="digamma",
    sample=((0.05, 30.0),),
    edges=((-1.0, NAN), (-2.0, NAN), (INF, INF), (NAN, NAN)),
    domain="all reals; nan at -1, -2, ...; -inf at 0 from the right",
    corner="none",
    cite=f"{DLMF} 5.2.2",
    ulp=4.0,
)


def _polygamma(order: Any, x: Any) -> Any:
    """psi^(n)(x). SciPy has x > 0; for n = 1 the rest is reflected (DLMF 5.15.6).

    Even orders change their sign at a pole, so that only zero, which has one, has an
    infinite value there; SciPy has -inf at all of them.
    """
    x = np.asarray(x, np.float64)
    both_sides = np.where(x == np.floor(x), INF, (math.pi / np.sin(math.pi * x)) ** 2)
    below = both_sides - special.polygamma(1, 1.0 - x)
    value = np.where((x < 0) & np.equal(order, 1), below, special.polygamma(order, x))
    at_pole = np.where(x < 0, NAN, np.copysign(INF, -x))
    pole = (np.mod(order, 2) == 0) & (x <= 0) & (x == np.floor(x))
    return np.where(np.isneginf(x), NAN, np.where(pole, at_pole, value))


def _polygamma_partials(out: Node, order: Node, x: Node) -> Partials:
    assert isinstance(order, Const), order  # apply has refused everything else
    return None, n.polygamma(graph.const(int(order.value) + 1), x)


declare(
    "polygamma",
    arity=2,
    types="order",
    numeric=_polygamma,
    exact=lambda order, x: (
        mp.inf if order % 2 and _is_pole(x) else mp.polygamma(int(order), x)
    ),
    partials=_polygamma_partials,
    cost=80,
    sympy="polygamma",
    sample=((0, 3), (0.1, 20.0)),
    edges=(
        (1, INF, 0.0),
        (1, NAN, NAN),
        (1, 0.0, INF),
        (1, -2.0, INF),
        (1, -INF, NAN),
        (2, -1.0, NAN),
    ),
    domain="x > 0; order 0 and 1 also below. The order is a constant integer >= 0",
    corner="none",
    cite=f"{DLMF} 5.15",
    ulp=32.0,
)
