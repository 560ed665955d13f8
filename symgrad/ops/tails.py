"""Functions that stay accurate where their textbook forms cancel or underflow.

Stable forms (simplify/stable.py) are written with them; users may call them, too.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np

from symgrad.graph import Node
from symgrad.ops import nodes as n
from symgrad.ops.row import INF, NAN, apply, declare, mp, special
from symgrad.ops.special import DLMF, TWO_OVER_ROOT_PI, erfc

LN2 = math.log(2.0)
REST = 1.5335459613165881e-17  # 2/sqrt(pi) - TWO_OVER_ROOT_PI: the next bits
MAECHLER = "Maechler, Accurately computing log(1 - exp(-|a|)), 2012"


def horner(x: Node, coefficients: list[float]) -> Node:
    """The polynomial with these coefficients, the constant first."""
    *rest, last = coefficients
    start = last + 0.0 * x
    return reduce(lambda total, c: c + x * total, reversed(rest), start)


# --------------------------------------------------------------------------------------
# Exponentials
# --------------------------------------------------------------------------------------


def _log1mexp(x: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.where(x > -LN2, np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


declare(
    "log1mexp",
    arity=1,
    types="float",
    numeric=_log1mexp,
    exact=lambda x: -mp.inf if x == 0 else mp.log(-mp.expm1(x)),
    partials=lambda out, x: (-1.0 / n.expm1(-x),),
    expand=lambda x: n.where(x > -LN2, n.log(-n.expm1(x)), n.log1p(-n.exp(x))),
    cost=40,
    sympy=None,
    sample=((-20.0, -0.01),),
    edges=(
        (0.0, -INF),
        (1.0, NAN),
        (-INF, -0.0),
        (-1e-300, math.log(1e-300)),
        (NAN, NAN),
    ),
    domain="x < 0: log(1 - exp(x)); -inf at 0, nan above",
    corner="at 0: -inf",
    kinks=(((-INF,), (0.0,)),),
    cite=MAECHLER,
    ulp=3.0,
)


def _exprel(x: Any) -> Any:
    plain = (x == 0) | (x == INF)
    return np.where(plain, 1.0 + x, np.expm1(x) / np.where(plain, 1.0, x))


def _exprel_partial(out: Node, x: Node) -> Node:
    series = horner(x, [k / math.factorial(k + 1) for k in range(1, 19)])
    far = n.where(x < 0.0, (n.exp(x) - out) / x, out * (1.0 - 1.0 / x) + 1.0 / x)
    return n.where(n.absolute(x) < 1.0, series, far)


declare(
    "exprel",
    arity=1,
    types="float",
    numeric=_exprel,
    exact=lambda x: (
        mp.mpf(1)
        if x == 0
        else (x if x > 0 else mp.mpf(0))
        if mp.isinf(x)
        else mp.expm1(x) / x
    ),
    partials=lambda out, x: (_exprel_partial(out, x),),
    expand=lambda x: n.where(
        n.equal(x, INF), INF, n.where(n.equal(x, 0.0), 1.0, n.expm1(x) / x)
    ),
    cost=22,
    sympy=None,
    sample=((-20.0, 20.0),),
    edges=((0.0, 1.0), (-0.0, 1.0), (1e-300, 1.0), (720.0, INF), (-INF, 0.0)),
    domain="all reals: (exp(x) - 1)/x; 1 at 0",
    corner="none",
    kinks=(((0.0,), (0.5,)),),
    cite="SciPy reference, exprel",
    ulp=4.0,
)

# --------------------------------------------------------------------------------------
# Circular functions
# --------------------------------------------------------------------------------------


def _spherical_j0_partial(out: Node, x: Node) -> Node:
    terms = [(-1) ** k * 2 * k / math.factorial(2 * k + 1) for k in range(1, 10)]
    series = x * horner(x * x, terms)
    return n.where(n.absolute(x) < 1.0, series, (n.cos(x) - out) / x)


def _spherical_j0(x: Any) -> Any:
    inner = np.where((x == 0) | np.isinf(x), 1.0, x)
    return np.where(np.isinf(x), 0.0, np.where(x == 0, 1.0, np.sin(inner) / inner))


declare(
    "spherical_j0",
    arity=1,
    types="float",
    numeric=_spherical_j0,
    exact=lambda x: (
        mp.mpf(1) if x == 0 else mp.mpf(0) if mp.isinf(x) else mp.sin(x) / x
    ),
    partials=lambda out, x: (_spherical_j0_partial(out, x),),
    expand=lambda x: n.where(
        n.isinf(x), 0.0, n.where(n.equal(x, 0.0), 1.0, n.sin(x) / x)
    ),
    cost=24,
    sympy=None,
    sample=((-20.0, 20.0),),
    edges=((0.0, 1.0), (-0.0, 1.0), (1e-300, 1.0), (NAN, NAN)),
    domain="all reals: sin(x)/x; 1 at 0",
    corner="none",
    kinks=(((0.0,), (0.0,)),),
    cite=f"{DLMF} 10.49.3",
    ulp=3.0,
)

# --------------------------------------------------------------------------------------
# tanh, sigmoid and their derivatives from one exponential (schedule/shared.py)
# --------------------------------------------------------------------------------------

TAIL_FROM = 0.625
"""Beyond this tanh is 1 - tail."""

STANDARD = {
    "sigmoid_tail": "sigmoid(-abs({0}))",
    "tanh_tail": "1 - tanh(abs({0}))",
    "tanh_of_tail": "tanh({0})",
}
"""How people are shown what only kernels have a name for, by its arguments."""


declare(
    "sigmoid_tail",
    arity=1,
    types="float",
    numeric=lambda x: special.expit(-np.abs(x)),
    exact=lambda x: 1 / (1 + mp.exp(abs(x))),
    partials=lambda out, x: (-n.sign(x) * (out * (1.0 - out)),),
    expand=lambda x: 1.0 / (1.0 + n.exp(n.absolute(x))),
    cost=17,
    sympy=None,
    sample=((-20.0, 20.0),),
    edges=((0.0, 0.5), (-0.0, 0.5), (INF, 0.0), (-INF, 0.0), (NAN, NAN)),
    domain="all reals: sigmoid(-abs(x)); kernels make sigmoid(x) and sigmoid(-x) of it",
    corner="at 0: 0, the mean of both sides",
    kinks=(((0.0,), (0.0,)),),
    cite=f"{DLMF} 4.28.3",
    ulp=3.0,
)


def _tanh_tail(x: Any) -> Any:
    with np.errstate(over="ignore"):
        return 2.0 / (np.exp(2.0 * np.abs(x)) + 1.0)


declare(
    "tanh_tail",
    arity=1,
    types="float",
    numeric=_tanh_tail,
    exact=lambda x: 2 / (mp.exp(2 * abs(x)) + 1),
    partials=lambda out, x: (-n.sign(x) * (out * (2.0 - out)),),
    expand=lambda x: 2.0 / (n.exp(2.0 * n.absolute(x)) + 1.0),
    cost=16,
    sympy=None,
    sample=((-20.0, 20.0),),
    edges=((0.0, 1.0), (-0.0, 1.0), (INF, 0.0), (-INF, 0.0), (NAN, NAN)),
    domain="all reals: 1 - tanh(abs(x)); kernels make tanh and 1 - tanh(x)**2 from it",
    corner="at 0: 0, the mean of both sides",
    kinks=(((0.0,), (0.0,)),),
    cite=f"{DLMF} 4.28.3",
    ulp=4.0,
)


def _tanh_of_tail(x: Any, tail: Any) -> Any:
    return np.where(np.abs(x) > TAIL_FROM, np.copysign(1.0 - tail, x), np.tanh(x))


declare(
    "tanh_of_tail",
    arity=2,
    types="float",
    numeric=_tanh_of_tail,
    exact=lambda x, tail: (
        mp.sign(x) * abs(1 - tail) if abs(x) > TAIL_FROM else mp.tanh(x)
    ),
    partials=lambda out, x, tail: (
        n.where(n.absolute(x) > TAIL_FROM, 0.0, 1.0 - out * out),
        n.where(n.absolute(x) > TAIL_FROM, -n.sign(x), 0.0),
    ),
    expand=lambda x, tail: n.where(
        n.absolute(x) > TAIL_FROM, n.odd(x, n.absolute(1.0 - tail)), apply("tanh", x)
    ),
    cost=10,
    sympy=None,
    sample=((-20.0, 20.0), (0.0, 1.0)),
    edges=(
        (0.0, 1.0, 0.0),
        (-0.0, 1.0, -0.0),
        (INF, 0.0, 1.0),
        (-INF, 0.0, -1.0),
        (NAN, NAN, NAN),
    ),
    domain="tanh(x), where tail is tanh_tail(x)",
    corner="none",
    cite=f"{DLMF} 4.28.3",
    ulp=2.0,
)

# --------------------------------------------------------------------------------------
# The tail of the normal distribution
# --------------------------------------------------------------------------------------

_ASYMPTOTIC = 8.0  # from here on the series in 1/x**2; exp(x*x) fits into float32


def _expand_erfcx(x: Node) -> Node:
    """exp(x*x) with the rounding error of the square, times erfc; an asymptotic series
    (DLMF 7.12.1) where erfc is too small."""
    square = x * x
    lost = n.fma(x, x, -square)
    near = n.exp(square) * (1.0 + lost) * n.erfc(x)
    near = n.where(square > 1e5, INF, near)
    terms = [1.0]
    for k in range(1, 19):
        terms.append(-terms[-1] * (2 * k - 1) / 2)
    inverse = 1.0 / x
    far = 0.5 * TWO_OVER_ROOT_PI * inverse * horner(inverse * inverse, terms)
    return n.where(x < _ASYMPTOTIC, near, n.where(n.equal(x, x), far, x))


declare(
    "erfcx",
    arity=1,
    types="float",
    numeric=special.erfcx,
    exact=lambda x: (
        mp.mpf(0)
        if x == mp.inf
        else mp.inf
        if x < -1e4
        else 1 / (x * mp.sqrt(mp.pi))
        if x > 1e25
        else mp.exp(x * x) * mp.erfc(x)
    ),
    partials=lambda out, x: (2.0 * (x * out) - TWO_OVER_ROOT_PI - REST,),
    expand=_expand_erfcx,
    expand_ulp=8.0,
    cost=90,
    sympy=None,
    sample=((-5.0, 30.0),),
    edges=((0.0, 1.0), (INF, 0.0), (-INF, INF), (-30.0, INF), (NAN, NAN)),
    domain="all reals: exp(x*x)*erfc(x); overflows below -26.6",
    corner="none",
    cite=f"{DLMF} 7.2.3, 7.12.1",
    ulp=8.0,
)


def _declare_log_erfc(name: str, share: float, domain: str) -> None:
    """log(share*erfc(x)) for share 1 or 1/2."""

    def numeric(x: Any) -> Any:
        tail = np.where(x == INF, 1.0, special.erfcx(np.maximum(x, 0.0)) * share)
        right = np.log(tail) - x * x
        left = np.minimum(x, 0.5)
        inner = special.erf(left) if share == 1 else 0.5 * erfc(-left)
        return np.where(x > 0.5, right, np.log1p(-inner))

    def exact(x: Any) -> Any:
        if mp.isinf(x):
            return -mp.inf if x > 0 else mp.log(2 * mp.mpf(share))
        if x > 1e20:
            return -x * x - mp.log(x * mp.sqrt(mp.pi) / share)
        return mp.log(share * mp.erfc(x))

    def expand(x: Node) -> Node:
        inner = n.erf(x) if share == 1 else 0.5 * n.erfc(-x)
        right = n.log(share * n.erfcx(n.maximum(x, 0.0))) - x * x
        right = n.where(n.equal(x, INF), -INF, right)
        return n.where(x > 0.5, right, n.log1p(-inner))

    declare(
        name,
        arity=1,
        types="float",
        numeric=numeric,
        exact=exact,
        partials=lambda out, x: (-TWO_OVER_ROOT_PI / n.erfcx(x),),
        expand=expand,
        expand_ulp=12.0,
        cost=160,
        sympy=None,
        sample=((-5.0, 30.0),),
        edges=(
            (INF, -INF),
            (-INF, math.log(2.0) if share == 1 else -0.0),
            (0.0, math.log(share) if share < 1 else -0.0),
            (NAN, NAN),
        ),
        domain=domain,
        corner="none",
        cite=f"{DLMF} 7.2.2, 7.2.3",
        ulp=8.0,
        scale=0.5 if share == 1 else 0.0,
    )


_declare_log_erfc("logerfc", 1.0, "all reals: log(erfc(x)), also where erfc is 0")
_declare_log_erfc(
    "loghalferfc", 0.5, "all reals: log(erfc(x)/2), the log of a normal distribution"
)
