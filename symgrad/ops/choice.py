"""Comparison, truth, choice: where, minimum, maximum, clip, relu."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgrad.graph import Node
from symgrad.ops import nodes as n
from symgrad.ops.row import (
    ANY,
    IEEE,
    INF,
    NAN,
    TORCH,
    Partials,
    declare,
    integer_call,
    mp,
    oracle,
)

# --------------------------------------------------------------------------------------
# Comparison and truth
# --------------------------------------------------------------------------------------


def _declare_comparison(name: str, function: Any, exact: Any, sympy: str) -> None:
    declare(
        name,
        arity=2,
        types="comparison",
        numeric=function,
        exact=lambda x, y: bool(exact(x, y)),
        partials=lambda out, x, y: (None, None),
        cost=1,
        sympy=sympy,
        sample=(ANY, ANY),
        edges=tuple(
            (x, y, bool(exact(x, y)))
            for x in (0.0, -0.0, 1.0, INF, -INF, NAN)
            for y in (0.0, 1.0, INF, NAN)
        ),
        domain="all reals; with nan only != holds",
        corner="0 everywhere",
        cite=IEEE,
        ulp=0.0,
    )


_declare_comparison("lt", np.less, lambda x, y: x < y, "StrictLessThan")
_declare_comparison("le", np.less_equal, lambda x, y: x <= y, "LessThan")
_declare_comparison("gt", np.greater, lambda x, y: x > y, "StrictGreaterThan")
_declare_comparison("ge", np.greater_equal, lambda x, y: x >= y, "GreaterThan")
_declare_comparison("eq", np.equal, lambda x, y: x == y, "Equality")
_declare_comparison("ne", np.not_equal, lambda x, y: x != y, "Unequality")


def _declare_logic(
    name: str, function: Any, exact: Any, sympy: str, arity: int
) -> None:
    truths = [(x, y) for x in (False, True) for y in (False, True)]
    cases = truths if arity == 2 else [(False,), (True,)]
    declare(
        name,
        arity=arity,
        types="logic",
        numeric=function,
        exact=exact,
        partials=lambda out, *args: (None,) * len(args),
        cost=1,
        sympy=sympy,
        sample=((0, 1),) * arity,
        edges=tuple((*case, exact(*case)) for case in cases),
        domain="truth values; numbers are true where they are not zero, nan included",
        corner="0 everywhere",
        cite="NumPy reference, logical_and, logical_or, logical_not",
        ulp=0.0,
    )


_declare_logic("and", np.logical_and, lambda x, y: bool(x) and bool(y), "And", 2)
_declare_logic("or", np.logical_or, lambda x, y: bool(x) or bool(y), "Or", 2)
_declare_logic("not", np.logical_not, lambda x: not x, "Not", 1)


def _declare_test(name: str, function: Any, exact: Any, expand: Any) -> None:
    declare(
        name,
        arity=1,
        types="predicate",
        numeric=function,
        exact=lambda x: bool(exact(x)),
        partials=lambda out, x: (None,),
        expand=expand,
        cost=1,
        sympy=None,
        sample=(ANY,),
        edges=tuple((x, bool(function(x))) for x in (0.0, -1.0, 1e308, INF, -INF, NAN)),
        domain="everything",
        corner="0 everywhere",
        cite=IEEE,
        ulp=0.0,
    )


_declare_test("isnan", np.isnan, oracle.isnan, lambda x: n.differs(x, x))
_declare_test("isinf", np.isinf, oracle.isinf, lambda x: n.equal(n.absolute(x), INF))
_declare_test("isfinite", np.isfinite, oracle.isfinite, lambda x: n.absolute(x) < INF)

# --------------------------------------------------------------------------------------
# Choice, conversion, and no derivative at all
# --------------------------------------------------------------------------------------

declare(
    "where",
    arity=3,
    types="select",
    numeric=np.where,
    exact=lambda condition, a, b: a if condition else b,
    partials=lambda out, condition, a, b: (
        None,
        n.where(condition, 1.0, 0.0),
        n.where(condition, 0.0, 1.0),
    ),
    cost=1,
    sympy=None,
    sample=((0, 1), ANY, ANY),
    edges=((True, 1.0, NAN, 1.0), (False, 1.0, -0.0, -0.0), (True, INF, 0.0, INF)),
    domain="everything; the branch not taken may be nan or inf, also in derivatives",
    corner="the derivative of the branch taken, whatever the other one is",
    cite=f"NumPy reference, where; {TORCH} (where)",
    ulp=0.0,
)
declare(
    "cast",
    arity=1,
    types="cast",
    numeric=lambda x: np.asarray(x, np.float64),
    exact=lambda x: mp.mpf(int(x)),
    partials=lambda out, x: (None,),
    cost=1,
    sympy=None,
    sample=((-1000, 1000),),
    edges=((0, 0.0), (-3, -3.0), (2**53 + 1, 2.0**53), (True, 1.0)),
    domain="integers and truth values; rounded to nearest above 2**53",
    corner="0 everywhere",
    cite=IEEE,
    ulp=0.5,
)
declare(
    "stop_gradient",
    arity=1,
    types="same",
    numeric=np.positive,
    exact=lambda x: x,
    partials=lambda out, x: (None,),
    expand=lambda x: x,
    cost=0,
    sympy=None,
    sample=(ANY,),
    edges=((1.0, 1.0), (-0.0, -0.0), (INF, INF), (NAN, NAN)),
    domain="everything",
    corner="0 everywhere, by definition",
    cite="JAX reference, jax.lax.stop_gradient",
    ulp=0.0,
)

# --------------------------------------------------------------------------------------
# The smaller, the larger, the nearest inside an interval
# --------------------------------------------------------------------------------------


def _exact_choice(better: Any) -> Any:
    def choose(x: Any, y: Any) -> Any:
        return mp.nan if mp.isnan(x) or mp.isnan(y) else better(x, y)

    return choose


def _minimum_partials(out: Node, x: Node, y: Node) -> Partials:
    tie = n.equal(x, y)
    return (
        n.where(tie, 0.5, n.where(x > y, 0.0, 1.0)),
        n.where(tie, 0.5, n.where(x < y, 0.0, 1.0)),
    )


declare(
    "minimum",
    arity=2,
    types="float",
    integer=integer_call("minimum", min),
    numeric=np.minimum,
    exact=_exact_choice(min),
    partials=_minimum_partials,
    cost=2,
    sympy="Min",
    sample=(ANY, ANY),
    edges=((1.0, 2.0, 1.0), (NAN, 1.0, NAN), (1.0, NAN, NAN), (-INF, INF, -INF)),
    domain="all reals; nan if either is (NumPy). The sign of a zero is not specified",
    corner="at a tie: one half to each, as PyTorch",
    kinks=(((1.0, 1.0), (0.5, 0.5)),),
    cite=f"{IEEE}, minimum; {TORCH} (minimum)",
    ulp=0.5,
)
declare(
    "maximum",
    arity=2,
    types="float",
    integer=integer_call("maximum", max),
    numeric=np.maximum,
    exact=_exact_choice(max),
    partials=lambda out, x, y: _minimum_partials(out, y, x),
    cost=2,
    sympy="Max",
    sample=(ANY, ANY),
    edges=((1.0, 2.0, 2.0), (NAN, 1.0, NAN), (1.0, NAN, NAN), (-INF, INF, INF)),
    domain="all reals; nan if either is (NumPy). The sign of a zero is not specified",
    corner="at a tie: one half to each, as PyTorch",
    kinks=(((1.0, 1.0), (0.5, 0.5)),),
    cite=f"{IEEE}, maximum; {TORCH} (maximum)",
    ulp=0.5,
)
declare(
    "clip",
    arity=3,
    types="float",
    integer=lambda x, low, high: n.minimum(n.maximum(x, low), high),
    numeric=lambda x, low, high: np.minimum(np.maximum(x, low), high),
    exact=lambda x, low, high: (
        mp.nan
        if mp.isnan(x) or mp.isnan(low) or mp.isnan(high)
        else min(max(x, low), high)
    ),
    partials=lambda out, x, low, high: (
        n.where(n.both(x >= low, x <= high), 1.0, 0.0),
        n.where(n.both(low < high, x < low), 1.0, 0.0),
        n.where(n.either(x > high, high < low), 1.0, 0.0),
    ),
    expand=lambda x, low, high: n.minimum(n.maximum(x, low), high),
    cost=4,
    sympy=None,
    sample=(ANY, (-10.0, -5.0), (5.0, 10.0)),
    edges=(
        (-3.0, -1.0, 1.0, -1.0),
        (3.0, -1.0, 1.0, 1.0),
        (0.5, -1.0, 1.0, 0.5),
        (NAN, -1.0, 1.0, NAN),
        (0.0, 2.0, 1.0, 1.0),
        (7.0, -1.0, INF, 7.0),
    ),
    domain="all reals; where low > high the result is high (NumPy)",
    corner="at a limit: 1 by x, 0 by the limit, as PyTorch",
    kinks=(((1.0, -1.0, 1.0), (1.0, 0.0, 0.0)), ((0.0, 2.0, 1.0), (0.0, 0.0, 1.0))),
    cite=f"NumPy reference, clip; {TORCH} (clamp)",
    ulp=0.5,
)
declare(
    "relu",
    arity=1,
    types="float",
    integer=lambda x: n.maximum(x, 0),
    numeric=lambda x: np.maximum(x, 0.0),
    exact=lambda x: x if mp.isnan(x) else max(x, mp.mpf(0)),
    partials=lambda out, x: (n.where(x > 0, 1.0, 0.0),),
    expand=lambda x: n.maximum(x, 0.0),
    cost=2,
    sympy=None,
    sample=(ANY,),
    edges=((-1.0, 0.0), (2.0, 2.0), (0.0, 0.0), (-INF, 0.0), (INF, INF), (NAN, NAN)),
    domain="all reals",
    corner="at 0: 0, as PyTorch",
    kinks=(((0.0,), (0.0,)),),
    cite=f"{TORCH} (relu)",
    ulp=0.5,
)
