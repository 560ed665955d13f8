"""THE TABLE of rewrite rules, by stage.

*canonicalise* gives equal expressions one form, so that they become one node: signs
leave products, ``x + (-y)`` is ``x - y``, constants come first. *stabilise* replaces
forms that lose digits by forms that do not. *specialise* chooses what is cheapest to
compute, and is the last, since it hides structure (``x**3`` becomes ``x*x*x``).

What is not here, because it is not true: ``x - x -> 0``, ``0*x -> 0`` and ``x/x -> 1``
hide nan and inf.
"""

from __future__ import annotations

from functools import partial
from math import frexp, isfinite

from symgrad import graph
from symgrad.graph import BOOL, INT, Node
from symgrad.ops import apply
from symgrad.simplify import steps
from symgrad.simplify.rule import (
    EXACT,
    REAL,
    Rule,
    Step,
    constant,
    literal,
    nonnegative,
    wild,
)
from symgrad.simplify.stable import LATE, STABILISE

u, v, w, c, d = (wild(name) for name in "uvwcd")
p, q = wild("p", BOOL), wild("q", BOOL)
TRUE, FALSE, ONE = graph.const(True), graph.const(False), graph.const(1.0)

power, sqrt, abs_ = partial(apply, "pow"), partial(apply, "sqrt"), partial(apply, "abs")
and_, or_, not_ = partial(apply, "and"), partial(apply, "or"), partial(apply, "not")
where, neg, exp2 = (partial(apply, f) for f in ("where", "neg", "exp2"))
u_squared = power(u, 2.0)


def _is_tame(x: float) -> bool:
    """Neither zero nor near the ends of float32, so that products stay in range."""
    return isfinite(x) and 1e-18 < abs(x) < 1e18


def _is_power_of_two(x: float) -> bool:
    return _is_tame(x) and abs(frexp(x)[0]) == 0.5


c_negative = literal("c", "< 0", lambda x: x < 0)
c_constant, u_nonnegative = constant("c"), nonnegative("u")
tame = literal("c", "tame", _is_tame) & literal("d", "tame", _is_tame)
c_even = literal("c", "even", lambda x: x % 2 == 0)
c_odd = literal("c", "odd", lambda x: x % 2 == 1)
c_binary = literal("c", "a power of two", _is_power_of_two)


# fmt: off
SIGNS = (
    Rule("minus-minus",           neg(-u),           u,           EXACT),
    Rule("plus-minus",            u + -v,            u - v,       EXACT),
    Rule("minus-of-minus",        u - -v,            u + v,       EXACT),
    Rule("minus-difference",      -(u - v),          v - u,       REAL),
    Rule("zero-minus",            0.0 - u,           -u,          REAL),
    Rule("sign-leaves-product",   -u * v,            -(u * v),    EXACT),
    Rule("sign-leaves-quotient",  -u / v,            -(u / v),    EXACT),
    Rule("sign-leaves-divisor",   u / -v,            -(u / v),    EXACT),
    Rule("sign-into-constant",    -(c * u),          -c * u,      EXACT, c_constant),
    Rule("sign-into-numerator",   -(c / u),          -c / u,      EXACT, c_constant),
    Rule("plus-negative",         u + c,             u - -c,      EXACT, c_negative),
    Rule("minus-negative",        u - c,             u + -c,      EXACT, c_negative),
    Rule("plus-negative-times",   u + c * v,         u - -c * v,  EXACT, c_negative),
    Rule("minus-negative-times",  u - c * v,         u + -c * v,  EXACT, c_negative),
    Rule("abs-abs",               abs_(abs_(u)),     abs_(u),     EXACT),
    Rule("abs-minus",             abs_(-u),          abs_(u),     EXACT),
    Rule("abs-of-nonnegative",    abs_(u),           u,           REAL, u_nonnegative),
)

IDENTITIES = (
    Rule("times-one",             u * 1.0,           u,           EXACT),
    Rule("times-minus-one",       u * -1.0,          -u,          EXACT),
    Rule("over-one",              u / 1.0,           u,           EXACT),
    Rule("over-minus-one",        u / -1.0,          -u,          EXACT),
    Rule("plus-minus-zero",       u + -0.0,          u,           EXACT),
    Rule("minus-zero",            u - 0.0,           u,           EXACT),
    Rule("plus-zero",             u + 0.0,           u,           REAL),  # -0 + 0 = 0
    Rule("minus-minus-zero",      u - -0.0,          u,           REAL),
    Rule("twice",                 u + u,             2.0 * u,     EXACT),
    Rule("minus-twice",           -u - u,            -2.0 * u,    EXACT),
    Rule("plus-twice",            u + (u + v),       2.0 * u + v, REAL),
    Rule("minus-then-minus",      v - u - u,         v - 2.0 * u, REAL),
    Rule("like-terms",            c * u + d * u,     (c + d) * u, REAL, tame),
    Rule("like-terms-minus",      c * u - d * u,     (c - d) * u, REAL, tame),
    Rule("constants-together",    c * (d * u),       (c * d) * u, REAL, tame),
    Rule("constant-quotient",     (c * u) / d,       (c / d) * u, REAL, tame),
)

POWERS = (
    Rule("power-minus-one",       power(u, -1.0),    1.0 / u,     REAL),
    Rule("times-reciprocal",      u * (1.0 / v),     u / v,       REAL),
    Rule("over-reciprocal",       u / (1.0 / v),     u * v,       REAL),
    Rule("power-zero",            power(u, 0.0),     ONE,         EXACT),
    Rule("power-one",             power(u, 1.0),     u,           EXACT),
    Rule("power-half",            power(u, 0.5),     sqrt(u),     REAL),
    Rule("root-of-square",        sqrt(u * u),       abs_(u),     REAL),
    Rule("root-of-power-two",     sqrt(u_squared),   abs_(u),     REAL),
    Rule("square-of-root",        sqrt(u) * sqrt(u), u,           REAL, u_nonnegative),
    Rule("power-two-of-root",     power(sqrt(u), 2.0), u,         REAL, u_nonnegative),
    Rule("even-power-of-minus",   power(-u, c),      power(u, c), EXACT, c_even),
    Rule("odd-power-of-minus",    power(-u, c),      -power(u, c), EXACT, c_odd),
    Rule("even-power-of-abs",     power(abs_(u), c), power(u, c), EXACT, c_even),
)

TRUTH = (
    Rule("not-not",               not_(not_(p)),     p,           EXACT),
    Rule("and-true",              and_(p, TRUE),     p,           EXACT),
    Rule("and-false",             and_(p, FALSE),    FALSE,       EXACT),
    Rule("and-same",              and_(p, p),        p,           EXACT),
    Rule("or-true",               or_(p, TRUE),      TRUE,        EXACT),
    Rule("or-false",              or_(p, FALSE),     p,           EXACT),
    Rule("or-same",               or_(p, p),         p,           EXACT),
)


def _choices(a: Node, b: Node, x: Node) -> tuple[Rule, ...]:
    """The rules of ``where`` for one type of value."""
    inner, suffix = where(p, a, b), f" ({a.type})"
    return (
        Rule("where-true" + suffix,     where(TRUE, a, b),    a,              EXACT),
        Rule("where-false" + suffix,    where(FALSE, a, b),   b,              EXACT),
        Rule("where-same" + suffix,     where(p, a, a),       a,              EXACT),
        Rule("where-not" + suffix,      where(not_(p), a, b), where(p, b, a), EXACT),
        Rule("where-in-yes" + suffix,   where(p, inner, x),   where(p, a, x), EXACT),
        Rule("where-in-no" + suffix,    where(p, x, inner),   where(p, x, b), EXACT),
    )


CHOICES = _choices(u, v, w) + _choices(*(wild(n, INT) for n in "klm"))

ODD = ("sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "erf", "cbrt")
EVEN = ("cos", "cosh")

PARITY = (
    *(Rule(f"odd-{f}",  apply(f, -u),  -apply(f, u),  EXACT) for f in ODD),
    *(Rule(f"even-{f}", apply(f, -u),  apply(f, u),   EXACT) for f in EVEN),
)

CHEAPER = (
    Rule("power-of-two",          power(2.0, u),     exp2(u),     REAL),
    Rule("over-power-of-two",     u / c,             u * (1.0 / c), EXACT, c_binary),
)
# fmt: on

STAGES: dict[str, tuple[Rule | Step, ...]] = {
    "canonicalise": (
        steps.FOLD_CONSTANTS,
        steps.FOLD_INTEGERS,
        *SIGNS,
        *IDENTITIES,
        *POWERS,
        *TRUTH,
        *CHOICES,
        *PARITY,
        steps.DROP,
        steps.PULL,
        steps.ORDER,
    ),
    "stabilise": STABILISE,
    "specialise": (
        steps.FOLD_CONSTANTS,
        *LATE,
        *CHEAPER,
        steps.EXPAND_POWERS,
        steps.ORDER,
    ),
}
"""What is tried at each stage, in this order."""
