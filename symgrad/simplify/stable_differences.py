"""Stable forms of one function at two places, and of one function and a constant.

Most forms are those of Hamming, Numerical Methods for Scientists and Engineers
(2nd ed., 1973), chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import permutations
from math import isqrt, pi

from symgrad import graph
from symgrad.graph import Node
from symgrad.ops import apply
from symgrad.simplify.stable_fractions import difference
from symgrad.simplify.stable_step import (
    absolute,
    among,
    atan2,
    atanh,
    below,
    cos,
    cosh,
    double,
    erf,
    erfc,
    exp,
    expm1,
    half,
    joined,
    kept,
    log,
    log1p,
    negative,
    opposite,
    plain_difference,
    power,
    sigmoid,
    sin,
    sinh,
    tanh,
    times_constant,
    unpowered,
    where,
)
from symgrad.simplify.stable_terms import (
    ONE,
    ZERO,
    Term,
    args,
    is_call,
    number,
    split_coefficient,
    terms,
    total,
    without,
)

Parts = Sequence[Term]


def argument(node: Node, op: str) -> Node | None:
    """What ``op`` is applied to, if the node is such a call."""
    return args(node)[0] if is_call(node, op) else None


def _opposites(parts: Parts, op: str) -> Iterator[tuple[Term, Term, Node, Node]]:
    """Pairs of terms ``c*op(a)`` and ``-c*op(b)``, c > 0."""
    found = [t for t in parts if is_call(t[1], op)]
    for p, q in permutations(found, 2):
        if p[0] == -q[0] and p[0] > 0:
            yield p, q, args(p[1])[0], args(q[1])[0]


def with_form(parts: Parts, used: Parts, c: Fraction, node: Node) -> Node:
    """The sum in which ``c * node`` stands for the terms ``used``."""
    rest = without(parts, *used)
    stands = times_constant(c, node)
    return total((*rest, split_coefficient(stands))) if rest else stands


def root_of_square(c: Fraction, node: Node) -> Node | None:
    """What ``c*node`` (c > 0) is the square of, if that can be seen."""
    root = exact_root(c)
    if root is None:
        return None
    if node is ONE:
        base: Node | None = ONE
    elif is_call(node, "mul") and args(node)[0] is args(node)[1]:
        base = args(node)[0]
    elif is_call(node, "pow"):
        x, n = args(node)
        k = number(n)
        base = None if k is None or k % 2 or k <= 0 else _integer_power(x, k / 2)
    else:
        base = None
    return None if base is None else times_constant(root, base)


def _integer_power(x: Node, k: Fraction) -> Node:
    return x if k == 1 else power(x, float(k))


def exact_root(c: Fraction) -> Fraction | None:
    if c < 0:
        return None
    root = Fraction(isqrt(c.numerator), isqrt(c.denominator))
    return root if root * root == c else None


def plain_sum(a: Node, b: Node) -> Node:
    return total(joined(terms(a), terms(b))) if terms(a) and terms(b) else a + b


@among("mul mul", "pow pow", "mul pow", "mul 1", "pow 1")
def difference_of_squares(node: Node) -> Node | None:
    """``a**2 - b**2 -> (a - b)*(a + b)``: squares overflow, and round."""
    parts = terms(node)
    if len(parts) != 2:
        return None
    (c, a), (d, b) = sorted(parts, key=lambda t: -t[0])
    if not c > 0 > d or any(is_call(n, "mul") and _is_tanh(n) for n in (a, b)):
        return None
    scale = c if exact_root(c) is None and c == -d else Fraction(1)
    one, other = root_of_square(c / scale, a), root_of_square(-d / scale, b)
    if one is None or other is None or (one is ONE and other is ONE):
        return None
    low = difference(one, other)
    return times_constant(
        scale, (one - other if low is None else low) * plain_sum(one, other)
    )


def _is_tanh(square: Node) -> bool:
    """The 1 - tanh(x)**2 of derivatives stays one fused operation."""
    return is_call(args(square)[0], "tanh")


@among("exp exp")
def difference_of_exponentials(node: Node) -> Node | None:
    """``exp(a) - exp(b) -> exp(b)*expm1(a - b)`` where a is near b; else as it was."""
    parts = terms(node)
    for p, q, a, b in _opposites(parts, "exp"):
        if opposite(a, b):
            return with_form(parts, (p, q), 2 * p[0], sinh(a))
        apart = plain_difference(a, b)
        near = exp(b) * expm1(apart)
        guarded = where(below(apart, 1.0), near, kept(p[1], -q[1]))
        return with_form(parts, (p, q), p[0], guarded)
    return None


@among("exp 1")
def exponential_minus_one(node: Node) -> Node | None:
    """``c*exp(u) - c -> c*expm1(u)``."""
    parts = terms(node)
    for p in parts:
        inside = argument(p[1], "exp")
        if inside is not None and (-p[0], ONE) in parts:
            return with_form(parts, (p, (-p[0], ONE)), p[0], expm1(inside))
    return None


def _even_pair(parts: Parts, op: str) -> tuple[Term, Term, Node] | None:
    """``c*op(a)`` and ``c*op(-a)``."""
    found = [t for t in parts if is_call(t[1], op)]
    for p, q in permutations(found, 2):
        if p[0] == q[0] and opposite(args(p[1])[0], args(q[1])[0]):
            return p, q, args(p[1])[0]
    return None


@among("exp exp", "expm1 expm1")
def second_difference_of_exp(node: Node) -> Node | None:
    """``exp(x) - 2 + exp(-x) -> 4*sinh(x/2)**2``."""
    parts = terms(node)
    pair = _even_pair(parts, "exp")
    if pair is not None:
        p, q, a = pair
        used = (p, q, (-2 * p[0], ONE))
        if used[2] not in parts:
            return None
    else:
        pair = _even_pair(parts, "expm1")
        if pair is None:
            return None
        p, q, a = pair
        used = (p, q)
    root = sinh(half(a))
    return with_form(parts, used, 4 * p[0], root * root)


@among("exp exp")
def sum_of_exponentials(node: Node) -> Node | None:
    """``exp(x) + exp(-x) -> 2*cosh(x)``."""
    parts = terms(node)
    pair = _even_pair(parts, "exp")
    if pair is None or any(t[1] is ONE for t in parts):
        return None
    p, q, a = pair
    return with_form(parts, (p, q), 2 * p[0], cosh(a))


@among("sigmoid sigmoid", "softplus softplus")
def difference_of_sigmoids(node: Node) -> Node | None:
    """``sigmoid(x) - sigmoid(-x) -> tanh(x/2)``, of softplus x."""
    parts = terms(node)
    for op in ("sigmoid", "softplus"):
        for p, q, a, b in _opposites(parts, op):
            if opposite(a, b):
                form = tanh(half(a)) if op == "sigmoid" else a
                return with_form(parts, (p, q), p[0], form)
    return None


def _angles(
    op: str, form: Callable[[Node, Node, Node], Node]
) -> Callable[[Node], Node | None]:
    """``c*op(a) - c*op(b)`` by ``form(a, b, a - b)``, where a - b simplifies."""

    @among(f"{op} {op}")
    def rewrite(node: Node) -> Node | None:
        parts = terms(node)
        for p, q, a, b in _opposites(parts, op):
            apart = difference(a, b)
            if apart is not None:
                chosen = form(a, b, apart)
                if op in _NEAR_ONLY:
                    chosen = where(below(apart, 1.0), chosen, kept(p[1], -q[1]))
                return with_form(parts, (p, q), p[0], chosen)
        return None

    return rewrite


_NEAR_ONLY = frozenset(("cosh", "sinh", "tanh", "sigmoid"))
"""Their differences, as products, overflow where the arguments are far apart."""


def _middle(a: Node, b: Node) -> Node:
    return half(plain_sum(a, b))


difference_of_sines = _angles(
    "sin", lambda a, b, gap: 2.0 * sin(half(gap)) * cos(_middle(a, b))
)


difference_of_cosines = _angles(
    "cos", lambda a, b, gap: -2.0 * sin(half(gap)) * sin(_middle(a, b))
)


difference_of_tangents = _angles("tan", lambda a, b, gap: sin(gap) / (cos(a) * cos(b)))


difference_of_arctangents = _angles("atan", lambda a, b, gap: atan2(gap, 1.0 + a * b))


difference_of_sinh = _angles(
    "sinh", lambda a, b, gap: 2.0 * sinh(half(gap)) * cosh(_middle(a, b))
)


difference_of_cosh = _angles(
    "cosh", lambda a, b, gap: 2.0 * sinh(half(gap)) * sinh(_middle(a, b))
)


difference_of_tanh = _angles("tanh", lambda a, b, gap: sinh(gap) / cosh(a) / cosh(b))


sigmoids_apart = _angles(
    "sigmoid",
    lambda a, b, gap: sigmoid(a) * sigmoid(negative(b)) * -expm1(negative(gap)),
)


_NODES = (
    (0.1834346424956498, 0.362683783378362),
    (0.525532409916329, 0.3137066458778873),
    (0.7966664774136267, 0.22238103445337448),
    (0.9602898564975363, 0.10122853629037626),
)
"""Half of the nodes and weights of Gauss and Legendre. (DLMF 3.5.)"""


@among("erf erf", "erfc erfc")
def difference_of_erf(node: Node) -> Node | None:
    """``erf(a) - erf(b)``, and of erfc: in the tails by erfc of both, and where a and b
    are near each other the integral between them by eight points of Gauss and Legendre.
    """
    parts = terms(node)
    for op in ("erf", "erfc"):
        for p, q, a, b in _opposites(parts, op):
            apart = difference(a, b)
            if apart is not None:
                form = _integral_of_erf(a, b, apart, kept(p[1], -q[1]), op == "erf")
                return with_form(parts, (p, q), p[0], form)
    return None


def _integral_of_erf(a: Node, b: Node, apart: Node, plain: Node, rising: bool) -> Node:
    middle, reach = _middle(a, b), half(apart)
    near = ZERO
    for x, weight in _NODES:
        for place in (middle - x * reach, middle + x * reach):
            near = near + weight * exp(-(place * place))
    near = 2.0 / pi**0.5 * (reach * near)
    close = below(apart * (1.0 + absolute(middle)), 0.5)
    low, high = (apply(f, a, b) for f in ("minimum", "maximum"))
    right, left = graph.comparison("gt", low, 0.5), graph.comparison("lt", high, -0.5)
    tails = where(
        right, kept(erfc(b), -erfc(a)), kept(erfc(negative(a)), -erfc(negative(b)))
    )
    if not rising:
        near, tails = -near, -tails
    return where(close, near, where(apply("or", right, left), tails, plain))


@among("loghalferfc loghalferfc")
def log_odds_of_normal(node: Node) -> Node | None:
    """``log(erfc(-x)/2) - log(erfc(x)/2) -> 2*atanh(erf(x))`` near 0."""
    parts = terms(node)
    for p, q, a, b in _opposites(parts, "loghalferfc"):
        if opposite(a, b):
            near = 2.0 * atanh(erf(where(below(b, 1.0), b, 0.0)))
            form = where(below(b, 1.0), near, kept(p[1], -q[1]))
            return with_form(parts, (p, q), p[0], form)
    return None


@among("cosh sinh")
def cosh_minus_sinh(node: Node) -> Node | None:
    """``cosh(x) - sinh(x) -> exp(-x)``, and with a sum ``exp(x)``."""
    parts = terms(node)
    for p, q in permutations(parts, 2):
        x, y = argument(p[1], "cosh"), argument(q[1], "sinh")
        if x is not None and x is y and abs(p[0]) == abs(q[0]):
            sign = negative(x) if p[0] == -q[0] else x
            return with_form(parts, (p, q), p[0], exp(sign))
    return None


def _square_of_sine(x: Node) -> Node:
    root = sin(half(x))
    return -2.0 * (root * root)


def _square_of_sinh(x: Node) -> Node:
    root = sinh(half(x))
    return 2.0 * (root * root)


@among("softplus")
def softplus_minus_argument(node: Node) -> Node | None:
    """``softplus(x) - x -> softplus(-x)``."""
    parts = terms(node)
    for p in parts:
        inside = argument(p[1], "softplus")
        taken = (
            () if inside is None else tuple((-p[0] * c, n) for c, n in terms(inside))
        )
        if inside is not None and taken and all(t in parts for t in taken):
            form = apply("softplus", negative(inside))
            return with_form(parts, (p, *taken), p[0], form)
    return None


# c*f(u) + k for k = ratio*c:  (f, ratio) -> form of f(u) + ratio
COMPLEMENTS: dict[tuple[str, Fraction], Callable[[Node], Node]] = {
    ("cos", Fraction(-1)): _square_of_sine,
    ("cosh", Fraction(-1)): _square_of_sinh,
    ("sigmoid", Fraction(-1)): lambda x: -sigmoid(negative(x)),
    ("sigmoid", Fraction(-1, 2)): lambda x: 0.5 * tanh(half(x)),
    ("tanh", Fraction(-1)): lambda x: -2.0 * sigmoid(negative(double(x))),
    ("tanh", Fraction(1)): lambda x: 2.0 * sigmoid(double(x)),
    ("erf", Fraction(-1)): lambda x: -erfc(x),
    ("erf", Fraction(1)): lambda x: erfc(negative(x)),
    ("erfc", Fraction(-1)): lambda x: -erf(x),
    ("erfc", Fraction(-2)): lambda x: -erfc(negative(x)),
}


@among("1 cos", "1 cosh", "1 sigmoid", "1 tanh", "1 erf", "1 erfc")
def complement(node: Node) -> Node | None:
    """``1 - cos(x) -> 2*sin(x/2)**2``, ``1 - sigmoid(x) -> sigmoid(-x)``, and so on."""
    parts = terms(node)
    literal = [t for t in parts if t[1] is ONE]
    if not literal:
        return None
    for p in parts:
        if is_call(p[1], "cos", "cosh", "sigmoid", "tanh", "erf", "erfc"):
            (x,) = args(p[1])
            assert isinstance(p[1], graph.Call)
            form = COMPLEMENTS.get((p[1].op, literal[0][0] / p[0]))
            if form is not None:
                return with_form(parts, (p, literal[0]), p[0], form(x))
    return None


@among("1 mul", "1 pow")
def complement_of_square(node: Node) -> Node | None:
    """``1 - cos(x)**2 -> sin(x)**2`` and the reverse."""
    parts = terms(node)
    for p in parts:
        if (-p[0], ONE) not in parts:
            continue
        base = root_of_square(Fraction(1), p[1]) if p[1] is not ONE else None
        if base is not None and is_call(base, "sin", "cos"):
            other = (cos if is_call(base, "sin") else sin)(args(base)[0])
            return with_form(parts, (p, (-p[0], ONE)), -p[0], other * other)
    return None


@among("pow pow", "pow cbrt", "cbrt cbrt")
def difference_of_powers(node: Node) -> Node | None:
    """``a**c - b**c -> b**c*expm1(c*log1p((a - b)/b))`` where a is near b."""
    parts = terms(node)
    found = [(t, b) for t in parts if (b := _power_parts(t[1])) is not None]
    for (p, (a, n)), (q, (b, k)) in permutations(found, 2):
        if p[0] != -q[0] or p[0] < 0 or n is not k:
            continue
        apart = difference(a, b)
        if apart is not None:
            near = q[1] * expm1(n * log1p(apart / b))
            chosen = where(below(apart / b, 0.5), near, kept(p[1], -q[1]))
            return with_form(parts, (p, q), p[0], chosen)
    return None


def _power_parts(node: Node) -> tuple[Node, Node] | None:
    if is_call(node, "pow"):
        x, n = args(node)
        return x, n
    if is_call(node, "cbrt"):
        return args(node)[0], graph.const(1.0) / 3.0
    return None


@among("pow 1", "where 1")
def power_minus_one(node: Node) -> Node | None:
    """``(1 + x)**n - 1 -> expm1(n*log1p(x))`` where x is small, ``x**n - 1 ->
    expm1(n*log(x))`` where n is."""
    parts = terms(node)
    for p in parts:
        whole = unpowered(p[1])
        if (-p[0], ONE) not in parts or not is_call(whole, "pow"):
            continue
        x, n = args(whole)
        inside = terms(x)
        if (Fraction(1), ONE) in inside:
            small = total(without(inside, (Fraction(1), ONE)))
            exponent, near = n * log1p(small), below(small, 0.5)
        elif number(n) is None:
            exponent = n * log(x)
            near = below(exponent, 1.0)
        else:
            continue
        chosen = where(near, expm1(exponent), kept(whole, -1.0))
        return with_form(parts, (p, (-p[0], ONE)), p[0], chosen)
    return None
