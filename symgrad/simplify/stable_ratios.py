"""Stable forms of quotients, products, roots and powers: lengths, and quotients of two
small numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import reduce

from symgrad import graph
from symgrad.graph import Node, Reduce
from symgrad.ops import apply
from symgrad.simplify.rule import REAL, provably_nonnegative
from symgrad.simplify.stable_algebra import Monomial, Poly, polynomial, product, to_node
from symgrad.simplify.stable_differences import root_of_square
from symgrad.simplify.stable_exponentials import as_exponential, factors, product_of
from symgrad.simplify.stable_fractions import ratio
from symgrad.simplify.stable_logistic import (
    hyperbolic_cotangent,
    hyperbolic_tangent,
    logistic,
    repetitions,
    softmax,
)
from symgrad.simplify.stable_series import argument_over_expm1, ratio_of, removable
from symgrad.simplify.stable_step import (
    below,
    cosh,
    erfc,
    exp,
    expm1,
    half,
    hypot,
    kept,
    log1p,
    negative,
    power,
    sigmoid,
    sin,
    sinh,
    softplus,
    sqrt,
    stable,
    times_constant,
    u,
    v,
    w,
    where,
)
from symgrad.simplify.stable_terms import (
    ONE,
    args,
    constant,
    is_call,
    number,
    over,
    split_coefficient,
    terms,
    times,
    total,
    without,
)


def quotient_of_expm1(node: Node) -> Node | None:
    """``exp(x)/(exp(x) - 1) -> -1/expm1(-x)``, ``expm1(2*x)/expm1(x) -> exp(x) + 1``,
    and ``(exp(x) - 1)/x`` by a function that is 1 at 0."""
    (c, a), (d, b) = (split_coefficient(x) for x in args(node))
    if is_call(b, "expm1"):
        (x,) = args(b)
        above = as_exponential(c, a)
        if above.exponent is x:
            return times_constant(-above.c / d, over(above.factor, expm1(negative(x))))
        if is_call(a, "expm1") and terms(args(a)[0]) == _doubled(x):
            return times_constant(c / d, exp(x) + 1.0)
        scale = _multiple(a, x)
        if scale is None:
            return None
        return times_constant(c / d * scale, argument_over_expm1(x))
    if is_call(a, "expm1"):
        ratio = _multiple(args(a)[0], b)
        if ratio is not None:
            return times_constant(c / d * ratio, apply("exprel", args(a)[0]))
    return None


def _doubled(x: Node) -> tuple[tuple[Fraction, Node], ...]:
    return tuple((2 * c, n) for c, n in terms(x))


def _multiple(a: Node, b: Node) -> Fraction | None:
    """The literal a/b, if it is one and b no literal."""
    (c, x), (d, y) = split_coefficient(a), split_coefficient(b)
    return c / d if x is y and x is not ONE and d else None


def mills_ratio(node: Node) -> Node | None:
    """``exp(-x*x)/erfc(x) -> 1/erfcx(x)``; the x of a normal distribution is divided by
    a rounded root of 2, whose square is 2 but for that rounding."""
    (c, a), (d, b) = (split_coefficient(x) for x in args(node))
    above = as_exponential(c, a)
    if not is_call(b, "erfc") or above.exponent is None:
        return None
    (x,) = args(b)
    base, exponent = polynomial(x), polynomial(above.exponent)
    square = product(base, base)
    if square is None or square.keys() != exponent.keys():
        return None
    gaps = (abs(k + exponent[m]) / abs(exponent[m]) for m, k in square.items())
    if any(gap > Fraction(1, 2**50) for gap in gaps):
        return None
    far = graph.comparison("gt", x, 0.0)
    inverse = ONE / apply("erfcx", where(far, x, 0.0))
    plain = exp(above.exponent) / kept(b, -0.0)
    return times_constant(above.c / d, times(above.factor, where(far, inverse, plain)))


def exp_over_expm1(node: Node) -> Node | None:
    """``y/expm1(x)*exp(x) -> -y/expm1(-x)``, where neither factor overflows;
    ``exp(x)/expm1(x)**2 -> 1/(2*sinh(x/2))**2``."""
    found = []
    for f, sign in factors(node):
        count, base = repetitions(f)
        known = is_call(base, "expm1")
        found += [(base, sign)] * count if known else [(f, sign)]
    for above, sign in found:
        if sign < 0 or not is_call(above, "exp"):
            continue
        (x,) = args(above)
        under = [f for f in found if f[1] < 0 and f[0] is expm1(x)]
        rest = [f for f in found if f[0] is not above and f not in under]
        if len(under) == 1:
            return product_of(constant(Fraction(-1)) / expm1(negative(x)), rest)
        if len(under) == 2:
            root = 2.0 * sinh(half(x))
            return product_of(ONE, [*rest, (root * root, -1)])
    return None


def quotient_in_cases(node: Node) -> Node | None:
    """A form in two cases over what its first case has as a factor: ``a`` of the
    quadratic formula, ``n`` of ``(x**n - 1)/n``, ``b - a`` of ``exp(b) - exp(a)``; or
    such a factor over the form."""
    found = factors(node)
    for k, (cases, sign) in enumerate(found):
        if not is_call(cases, "where") or not is_call(args(cases)[2], "fma"):
            continue
        condition, near, other = args(cases)
        for j, (b, s) in enumerate(found):
            better = None if j == k or s == sign else _without_factor(near, b)
            if better is None:
                continue
            if sign < 0:
                better, other = ONE / better, b / other
            else:
                other = other / b
            rest = [f for i, f in enumerate(found) if i not in (j, k)]
            return product_of(where(condition, better, other), rest)
    return None


def _without_factor(near: Node, b: Node) -> Node | None:
    """near/b, if a factor of b is one of near and b is a product of powers; or if an
    expm1 in near vanishes with b."""
    for part, sign in factors(near):
        if sign > 0 and is_call(part, "expm1"):
            (inside,) = args(part)
            over_b = _ratio_without_factor(inside, b)
            if over_b is None:
                continue
            rest = factors(near)
            rest.remove((part, sign))
            small = over_b * apply("exprel", inside)
            plain = part / kept(b, -0.0)
            return product_of(where(below(inside, 1.0), small, plain), rest)
    return _ratio_without_factor(near, b)


def _ratio_without_factor(a: Node, b: Node) -> Node | None:
    divisor = polynomial(b)
    if len(divisor) > 1:
        scale = ratio_of(polynomial(a), divisor)
        return None if scale is None else to_node(scale)
    if not divisor:
        return None
    ((m, c),) = divisor.items()
    found = ratio(a)
    if not m or found is None or not found.above:
        return None
    if any(
        k > 0 and any(dict(p).get(atom, 0) < k for p in found.above) for atom, k in m
    ):
        return removable(a / b)
    left = product(
        found.above, {frozenset((atom, -k) for atom, k in m): Fraction(1) / c}
    )
    if left is None:
        return None
    result = to_node(left)
    for node in found.below:
        result = result / node
    return result


def sine_over_argument(node: Node) -> Node | None:
    """``sin(x)/x`` and ``sin(x)**2/x**2`` by the spherical Bessel function, 1 at 0."""
    (c, a), (d, b) = (split_coefficient(x) for x in args(node))
    if is_call(a, "sin"):
        ratio = _multiple(args(a)[0], b)
        if ratio is not None:
            return times_constant(c / d * ratio, apply("spherical_j0", args(a)[0]))
    sine = root_of_square(Fraction(1), a)
    if sine is not None and is_call(sine, "sin"):
        (x,) = args(sine)
        root = root_of_square(Fraction(1), b)
        ratio = None if root is None else _multiple(x, root)
        if ratio is not None:
            bessel = apply("spherical_j0", x)
            return times_constant(c / d * ratio * ratio, bessel * bessel)
    return None


def length(node: Node) -> Node | None:
    """``sqrt(x*x + y*y) -> hypot(x, y)``, which neither overflows nor underflows."""
    inside = args(node)[0]
    parts = terms(inside)
    if not 2 <= len(parts) <= 4:
        return None
    roots = [root_of_square(c, n) if c > 0 else None for c, n in parts]
    if any(r is None for r in roots):
        return None
    return reduce(hypot, (r for r in roots if r is not None))


def length_of_sum(node: Node) -> Node | None:
    """``sqrt(sum(x*x)) -> norm(x)``, whose gradient at 0 is 0."""
    inside = args(node)[0]
    if not isinstance(inside, Reduce) or inside.kind != "sum":
        return None
    root = root_of_square(Fraction(1), inside.body)
    return None if root is None else graph.reduce_("norm", inside.indices, root)


def root_of_product(node: Node) -> Node | None:
    """``sqrt(sum(x*x)*y) -> norm(x)*sqrt(y)``, whose product may overflow, for y that
    is not negative."""
    found = factors(args(node)[0])
    sums = [(f, s) for f, s in found if length_of_sum(sqrt(f)) is not None]
    rest = [f for f in found if f not in sums]
    if len(found) < 2 or not sums or not all(provably_nonnegative(f) for f, _ in rest):
        return None
    result = product_of(ONE, rest)
    result = ONE if result is ONE else sqrt(result)
    lengths = [(length_of_sum(sqrt(f)), s) for f, s in sums]
    return product_of(result, [(x, s) for x, s in lengths if x is not None])


def root_of_exp(node: Node) -> Node | None:
    """``sqrt(exp(x)) -> exp(x/2)``."""
    inside = args(node)[0]
    return exp(half(args(inside)[0])) if is_call(inside, "exp") else None


def power_of_exp(node: Node) -> Node | None:
    """``exp(x)**n -> exp(n*x)``."""
    base, n = args(node)
    return exp(n * args(base)[0]) if is_call(base, "exp") else None


def power_near_one(node: Node) -> Node | None:
    """``(1 + x)**n -> exp(n*log1p(x))`` where x is small."""
    base, n = args(node)
    value = number(n)
    if value is not None and (value * 2).denominator == 1 and abs(value) <= 8:
        return None
    parts = terms(base)
    if (Fraction(1), ONE) not in parts or len(parts) != 2:
        return None
    small = total(without(parts, (Fraction(1), ONE)))
    near = exp(n * log1p(where(below(small, 0.5), small, 0.0)))
    return where(below(small, 0.5), near, power(kept(base, -0.0), n))


def arc_cosine(node: Node) -> Node | None:
    """``acos(1 - x) -> 2*asin(sqrt(x/2))``."""
    parts = terms(args(node)[0])
    if (Fraction(1), ONE) not in parts or len(parts) != 2:
        return None
    small = total((-c, x) for c, x in without(parts, (Fraction(1), ONE)))
    return 2.0 * apply("asin", sqrt(half(small)))


def arc_hyperbolic_cosine(node: Node) -> Node | None:
    """``acosh(1 + x) -> 2*asinh(sqrt(x/2))``."""
    parts = terms(args(node)[0])
    if (Fraction(1), ONE) not in parts or len(parts) != 2:
        return None
    small = total(without(parts, (Fraction(1), ONE)))
    return 2.0 * apply("asinh", sqrt(half(small)))


def _meets(m: Monomial, scale: Poly) -> bool:
    """Does something cancel in the product of two monomials?"""
    ((n, _),) = scale.items()
    powers = dict(n)
    return any(k * powers.get(atom, 0) < 0 for atom, k in m)


def softplus_over_argument(node: Node) -> Node | None:
    """``softplus(b*x)/b -> x + softplus(-b*x)/b`` where b*x > 0: what grows with b*x
    leaves the derivative by b as a formula."""
    found = factors(node)
    for k, (f, sign) in enumerate(found):
        if sign < 0 or not is_call(f, "softplus"):
            continue
        (x,) = args(f)
        rest = [g for j, g in enumerate(found) if j != k]
        outside = product_of(ONE, rest)
        scale, own = polynomial(outside), polynomial(x)
        if len(scale) != 1 or not 1 <= len(own) <= 3:
            continue
        whole = product(scale, own)
        if whole is None or not all(_meets(n, scale) for n in own):
            continue
        low = outside * softplus(kept(x, -0.0))
        high = to_node(whole) + outside * softplus(kept(negative(x), -0.0))
        return where(graph.comparison("gt", x, 0.0), high, low)
    return None


def slope_of_sigmoid(node: Node) -> Node | None:
    """``sigmoid(x)/sigmoid(-x) -> exp(x)``."""
    a, b = args(node)
    if not is_call(a, "sigmoid") or not is_call(b, "sigmoid"):
        return None
    x, y = args(a)[0], args(b)[0]
    return exp(x) if negative(x) is y or negative(y) is x else None


_ROW = graph.index(4)


_X = graph.load(graph.input_("rows", (4,)), [_ROW])


def _sum(body: Node) -> Node:
    return graph.reduce_("sum", [_ROW], body)


_Rewrite = Callable[[Node], Node | None]


# fmt: off
RATIOS = (
    stable("tanh", "div", hyperbolic_tangent,
           (expm1(-2.0*u)/(1.0 + exp(-2.0*u)), sinh(u)/cosh(-u),
            (exp(u) - exp(v))/(exp(u) + exp(v)), cosh(u)/sinh(u)),
           u=(750.0, 3000.0), v=(750.0, 3000.0)),
    stable("sigmoid", "div", logistic,
           (exp(u)/(1.0 + exp(u)), exp(u)/(exp(u) + exp(v)), w/(1.0 + exp(-u)),
            exp(-u)/power(1.0 + exp(-u), 2.0), 3.0/(2.0 + 5.0*exp(-u))),
           u=(711.0, 3000.0), v=(710.0, 3000.0), w=(1.0, 2.0)),
    stable("hyperbolic-cotangent", "div,mul", hyperbolic_cotangent,
           (v*cosh(u)/sinh(u)/w,), u=(750.0, 3000.0)),
    stable("quotient-of-expm1", "div", quotient_of_expm1,
           (exp(u)/expm1(u), expm1(2.0*u)/expm1(u)), u=(750.0, 3000.0)),
    stable("expm1-over-argument", "div", quotient_of_expm1,
           (expm1(2.0*u)/u, u/expm1(u)), REAL,
           rounded=True),
    stable("sine-over-argument", "div", sine_over_argument,
           (sin(u)/u, sin(0.5*u)*sin(0.5*u)/(u*u)), REAL),
    stable("sigmoid-over-sigmoid", "div", slope_of_sigmoid,
           (sigmoid(u)/sigmoid(-u),), REAL),
    stable("softmax", "div", softmax,
           (exp(u)/_sum(exp(_X)), _sum(_X*exp(_X))/_sum(exp(_X)),
            exp(u)/_sum(_X*_X*exp(_X)), exp(u)/(exp(u) + exp(v) + exp(w))),
           u=(750.0, 760.0), v=(750.0, 760.0), w=(750.0, 760.0), rows=(750.0, 760.0)),
    stable("hypot", "sqrt", length,
           (sqrt(u*u + v*v), sqrt(1.0 + power(u, 2.0)), sqrt(u*u + v*v + 4.0*w*w)),
           u=(1e160, 1e300), v=(1e160, 1e300), w=(1e160, 1e300)),
    stable("norm", "sqrt", length_of_sum, (sqrt(_sum(_X*_X)),), rows=(1e160, 1e300)),
    stable("root-of-product", "sqrt", root_of_product,
           (sqrt(_sum(_X*_X)*_sum(power(_X, 2.0))), sqrt(2.0/_sum(_X*_X))),
           rows=(1e100, 1e150)),
    stable("root-of-exp", "sqrt", root_of_exp, (sqrt(exp(u)),), u=(750.0, 1400.0)),
    stable("mills-ratio", "div", mills_ratio,
           (w*exp(-u*u)/erfc(u),),
           u=(30.0, 300.0)),
    stable("power-of-exp", "pow", power_of_exp, (power(exp(v), u),),
           u=(1e-3, 1e-2), v=(750.0, 1e4)),
    stable("quotient-in-cases", "div,mul", quotient_in_cases,
           (where(v > 0.0, u*v/(u + v), kept(u, v))/u,
            where(v > 0.0, expm1(u*v), kept(u, v))/u,
            u/where(v > 0.0, expm1(v*log1p(u)), kept(u, v)),
            w/(u - v)*where(v > 0.0, exp(v)*expm1(w*u - w*v), kept(u, v))), REAL,
           rounded=True),
    stable("exp-over-expm1", "mul,div", exp_over_expm1,
           (v/expm1(u)*exp(u), exp(u)/power(expm1(u), 2.0)), u=(750.0, 3000.0)),
    stable("arc-cosine", "acos", arc_cosine, (apply("acos", 1.0 - u),),
           u=(1e-12, 1e-3)),
    stable("arc-hyperbolic-cosine", "acosh", arc_hyperbolic_cosine,
           (apply("acosh", 1.0 + u),), u=(1e-12, 1e-3)),
    stable("softplus-over-argument", "div,mul", softplus_over_argument,
           (softplus(u*v)/v, softplus(u/v)*v), REAL),
)


POWER_NEAR_ONE = stable(
    "power-near-one", "pow", power_near_one,
    (power(1.0 + u, v),), u=(1e-9, 1e-5), v=(1e6, 1e9))
