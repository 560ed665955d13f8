"""Stable forms of logarithms near 1, and of exponentials of logarithms."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

from symgrad import graph
from symgrad.graph import Const, Index, Node
from symgrad.ops import apply
from symgrad.simplify.stable_algebra import multiple, polynomial
from symgrad.simplify.stable_differences import argument, with_form
from symgrad.simplify.stable_exponentials import (
    Exponential,
    are_positive,
    exponentials,
    log_of_exponentials,
)
from symgrad.simplify.stable_fractions import difference, radicand
from symgrad.simplify.stable_logsumexp import (
    log_of_difference,
    log_of_expm1,
    log_of_mixed_sigmoids,
    log_of_reduced,
    log_of_sigmoids_apart,
    log_of_sum,
    logsumexp_minus_element,
)
from symgrad.simplify.stable_products import log_cosh, log_of_product
from symgrad.simplify.stable_step import (
    absolute,
    among,
    below,
    cosh,
    double,
    erf,
    erfc,
    exp,
    expm1,
    half,
    kept,
    log,
    log1mexp,
    log1p,
    negative,
    power,
    sigmoid,
    sin,
    sinh,
    softplus,
    sqrt,
    stable,
    tanh,
    times_constant,
    u,
    unguarded,
    v,
    w,
    where,
)
from symgrad.simplify.stable_sums import gap, log_of_ratio, symmetric_log
from symgrad.simplify.stable_terms import (
    ONE,
    Term,
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

_UNIT = (Fraction(1), ONE)


@among("softplus")
def log_cosh_by_softplus(node: Node) -> Node | None:
    """``softplus(2*x) - x - log(2) -> log(cosh(x))``."""
    parts = terms(node)
    for p in parts:
        inside = argument(p[1], "softplus")
        log2 = next((t for t in parts if _is_log_2(t, -p[0])), None)
        if inside is None or log2 is None:
            continue
        taken = tuple((-p[0] * c / 2, n) for c, n in terms(inside))
        if taken and all(t in parts for t in taken):
            return with_form(parts, (p, log2, *taken), p[0], log_cosh(half(inside)))
    return None


@among("softplus")
def entropy_of_sigmoid(node: Node) -> Node | None:
    """``softplus(x) - x*sigmoid(x)``, which is even, from its side without
    cancellation."""
    parts = terms(node)
    for p in parts:
        x = argument(p[1], "softplus")
        if x is None:
            continue
        for q in parts:
            if multiple(polynomial(q[1]), q[0]) != multiple(
                polynomial(x * sigmoid(x)), -p[0]
            ):
                continue
            y = negative(x)
            high = kept(softplus(y), x * sigmoid(y))
            low = kept(p[1], -(x * sigmoid(x)))
            form = where(graph.comparison("gt", x, 0.0), high, low)
            return with_form(parts, (p, q), p[0], form)
    return None


_LOG_2 = Fraction(0.6931471805599453)


def _is_log_2(term: Term, c: Fraction) -> bool:
    """Is this ``c*log(2)``, also as a rounded literal?"""
    if term[1] is ONE:
        return abs(term[0] / c - _LOG_2) <= Fraction(1, 2**52)
    inside = argument(term[1], "log")
    return inside is not None and number(inside) == 2 and term[0] == c


def log_of_one_plus(node: Node) -> Node | None:
    """``log(1 + x) -> log1p(x)``; of longer sums only where they are near 1."""
    inside = unguarded(args(node)[0])
    size = is_call(inside, "abs")
    parts = terms(args(inside)[0] if size else inside)
    if _UNIT not in parts or not 2 <= len(parts) <= 6:
        return None
    rest = without(parts, _UNIT)
    small = total(rest)
    if len(rest) == 1 and not size:
        return log1p(small)
    plain = kept(graph.const(1.0), small)
    far = log(absolute(plain) if size else plain)
    return where(below(small, 0.25), log1p(small), far)


def log_of_quotient(node: Node) -> Node | None:
    """``log((1 + x)/(1 - x)) -> 2*atanh(x)``; ``log(a/b)`` by log1p where a - b
    simplifies."""
    inside = args(node)[0]
    if not is_call(inside, "div"):
        return None
    a, b = args(inside)
    if a is ONE:
        near = log_of_one_plus(log(b))
        return -(log(b) if near is None else near)
    if isinstance(a, Const) or isinstance(b, Const):
        return None
    if is_call(a, "sigmoid") and is_call(b, "sigmoid"):
        x, y = args(a)[0], args(b)[0]
        return x if negative(x) is y or negative(y) is x else None
    form = symmetric_log(a, b)
    if form is not None:
        return form
    apart = gap(a, b)
    return None if apart is None else log_of_ratio(a, b, apart)


def log_of_sum_with_root(node: Node) -> Node | None:
    """``log(x + sqrt(x*x + 1)) -> asinh(x)``, with ``x*x - 1`` ``acosh(x)``."""
    parts = terms(unguarded(args(node)[0]))
    if len(parts) != 2:
        return None
    for (c, root), (d, x) in (parts, parts[::-1]):
        inside = radicand(root)
        if inside is None or c != 1 or abs(d) != 1:
            continue
        rest = terms(_expanded(inside, x))
        if rest == ((Fraction(1), ONE),):
            return apply("asinh", times_constant(d, x))
        if rest == ((Fraction(-1), ONE),) and d == 1:
            return apply("acosh", x)
    return None


def _expanded(inside: Node, x: Node) -> Node:
    """inside - x*x, as a polynomial."""
    apart = difference(inside, x * x)
    return graph.const(0.0) if apart is None else apart


def log_near_one(node: Node) -> Node | None:
    """log of cos, tanh, erf and erfc by how much they lack to 1."""
    c, x = split_coefficient(args(node)[0])
    if is_call(x, "erfc") and c in (1, Fraction(1, 2)):
        name = "logerfc" if c == 1 else "loghalferfc"
        return apply(name, args(x)[0])
    if c != 1:
        return None
    if is_call(x, "tanh"):
        twice = negative(double(args(x)[0]))
        return log1mexp(twice) - softplus(twice)
    if is_call(x, "erf"):
        (y,) = args(x)
        high = graph.comparison("gt", y, 0.5)
        tail = erfc(where(high, y, 1.0))
        return where(high, log1p(-tail), log(kept(x, -0.0)))
    if is_call(x, "cos"):
        root = sin(args(x)[0])
        high = graph.comparison("gt", x, 0.75)
        square = where(high, root * root, 0.0)
        return where(high, 0.5 * log1p(-square), log(kept(x, -0.0)))
    return None


def log1p_of_special(node: Node) -> Node | None:
    """``log1p(exp(x)) -> softplus(x)``, ``log1p(-exp(x)) -> log1mexp(x)``, ..."""
    inside = args(node)[0]
    c, x = split_coefficient(inside)
    if is_call(x, "sigmoid") and c == -1:
        return -softplus(args(x)[0])
    if is_call(x, "expm1") and c == 1:
        return args(x)[0]
    if is_call(x, "tanh") and abs(c) == 1:
        y = times_constant(c, args(x)[0])
        return log(graph.const(2.0)) - softplus(negative(double(y)))
    parts = exponentials(inside)
    if not parts:
        return None
    if c == -1 and is_call(x, "exp"):
        return log1mexp(args(x)[0])
    whole = [*parts, Exponential(Fraction(1), ONE, None)]
    if len(whole) > 6 or not are_positive(whole):
        return None
    return log_of_exponentials(whole)


def other_bases(base: float) -> Callable[[Node], Node | None]:
    """log2 and log10 by the forms of log."""

    def rewrite(node: Node) -> Node | None:
        inner = log(args(node)[0])
        for form in (log_of_sum, log_of_expm1, log_of_reduced, log_of_product,
                     log_of_one_plus, log_of_quotient):  # fmt: skip
            found = form(inner)
            if found is not None:
                return found / log(graph.const(base))
        return None

    return rewrite


def exp_of_logs(node: Node) -> Node | None:
    """``exp(x + log(y)) -> y*exp(x)``, ``exp(y*log(x)) -> x**y``. The exponential in
    two halves: y may be small where exp(x) overflows. Powers, which may overflow while
    the rest underflows, are formed where there is no rest."""
    found = terms(args(node)[0])
    bases = [_exp_of_term(c, part) for c, part in found]
    if all(base is None for base in bases):
        return None
    known = [base for base in bases if base is not None]
    if len(known) == len(bases):
        apart = len(known) > 2 or any(is_call(base, "pow") for base in known)
        return None if apart and len(known) > 1 else _product_of_bases(known)
    logs = [k for k, (c, part) in enumerate(found) if is_call(part, "log", "log1p")]
    taken = [k for k in logs if bases[k] is not None and abs(found[k][0]) == 1]
    if len(taken) != 1:
        return None
    (k,) = taken
    root = exp(half(total(found[:k] + found[k + 1 :])))
    (c, _), base = found[k], bases[k]
    assert base is not None
    return root / args(base)[1] * root if c < 0 else base * root * root


def _product_of_bases(bases: Iterable[Node]) -> Node:
    outside = ONE
    for base in bases:
        if is_call(base, "div") and args(base)[0] is ONE:
            outside = over(outside, args(base)[1])
        else:
            outside = times(outside, base)
    return outside


def _exp_of_term(c: Fraction, part: Node) -> Node | None:
    if is_call(part, "log"):
        (x,) = args(part)
        return x if c == 1 else ONE / x if c == -1 else power(x, constant(c))
    if is_call(part, "log1p") and c == 1:
        return 1.0 + args(part)[0]
    if is_call(part, "mul"):
        a, b = args(part)
        for x, n in ((a, b), (b, a)):
            if is_call(x, "log") and not is_call(n, "log"):
                return power(args(x)[0], times_constant(c, n))
    return None


_ROW = graph.index(4)


_X = graph.load(graph.input_("rows", (4,)), [_ROW])


_THIRD: dict[Index, Node] = {_ROW: graph.const(2)}


def _sum(body: Node) -> Node:
    return graph.reduce_("sum", [_ROW], body)


_WIDE = (1.0, 850.0)


# fmt: off
LOGS = (
    stable("log-of-mixed-sigmoids", "log", log_of_mixed_sigmoids,
           (log(sigmoid(u) + sigmoid(-u)*exp(-v)),), u=(5.0, 30.0), v=(0.1, 3.0)),
    stable("entropy-of-sigmoid", "sub,add", entropy_of_sigmoid,
           (softplus(u) - u*sigmoid(u), v + u*sigmoid(u) - softplus(u)),
           u=(10.0, 300.0), v=(1e-99, 1e-90)),
    stable("log-cosh-by-softplus", "sub,add", log_cosh_by_softplus,
           (u + softplus(-2.0*u) - log(graph.const(2.0)),), u=(1e-9, 1e-3)),
    stable("log-of-expm1", "log", log_of_expm1,
           (log(-expm1(u)), log(expm1(-u)), log(2.0*sinh(-u))), u=(-3000.0, -1e-9)),
    stable("log-of-sum-of-exps", "log", log_of_sum,
           (log(1.0 + exp(u)), log(exp(u) + exp(v)), log(exp(u) + exp(v) + 3.0),
            log(2.0*cosh(u)), log(w*exp(u) + (1.0 - w)*exp(v))),
           u=_WIDE, v=_WIDE, w=(0.1, 0.9)),
    stable("log-of-difference-of-exps", "log", log_of_difference,
           (log(where(below(u - v, 1.0), exp(v)*expm1(u - v), kept(exp(u), -exp(v)))),),
           u=(900.0, 3000.0), v=(1.0, 800.0)),
    stable("log-of-sigmoids-apart", "log", log_of_sigmoids_apart,
           (log(where(below(u - v, 1.0), sigmoid(u)*sigmoid(-v)*-expm1(v - u),
                      kept(sigmoid(u), -sigmoid(v)))),),
           u=(900.0, 3000.0), v=(1.0, 800.0)),
    stable("log-of-summed-exps", "log", log_of_reduced,
           (log(_sum(exp(_X))), log(_sum(_X*_X*exp(_X)))), rows=_WIDE),
    stable("log-of-summed-sigmoids", "log", log_of_reduced,
           (log(_sum(sigmoid(_X))),), rows=(-900.0, -750.0)),
    stable("log-of-summed-exps-and-more", "log", log_of_sum,
           (log(_sum(exp(_X)) + exp(u)),), rows=(720.0, 850.0), u=(720.0, 850.0)),
    stable("log1p-of-summed-exps", "log1p", log1p_of_special,
           (log1p(_sum(exp(_X))),), rows=_WIDE),
    stable("log-near-one", "log", log_near_one,
           (log(apply("cos", u)), log(tanh(v)), log(erf(v)), log(erfc(v)),
            log(0.5*erfc(v))), u=(1e-9, 0.5), v=(4.0, 18.0)),
    stable("log-of-product", "log", log_of_product,
           (log(exp(-u*u)/sqrt(v)), log(power(v, u)*exp(-v)/w), log(cosh(u)),
            log(w*sigmoid(-u)), log(graph.reduce_("prod", [_ROW], _X*_X)),
            log(v/sinh(u)), log(v/power(1.0 + power(v, w), 4.0))),
           u=(30.0, 3000.0), v=(2.0, 100.0), w=(2.0, 9.0), rows=(1e-100, 1e-90)),
    stable("log-with-root", "log", log_of_sum_with_root,
           (log(u + apply("hypot", u, 1.0)), log(v + sqrt(v*v - 1.0))),
           u=(1e-9, 1e-4), v=(1e200, 1e300)),
    stable("log-of-quotient", "log", log_of_quotient,
           (log((1.0 + u)/(1.0 - u)), log((v + 1.0)/v), log(sigmoid(u)/sigmoid(-u)),
            log(1.0/(1.0 - u))),
           u=(1e-9, 1e-4), v=(1e5, 1e12)),
    stable("log1p", "log", log_of_one_plus,
           (log(1.0 + u), log(1.0 - u), log(1.0 + u + u*v),
            log(absolute(1.0 + u))), u=(1e-12, 1e-3),
           v=(0.1, 1.0)),
    stable("log1p-of-exp", "log1p", log1p_of_special,
           (log1p(exp(u)), log1p(2.0*exp(u)), log1p(-exp(-u)), log1p(-sigmoid(u))),
           u=_WIDE),
    stable("log-of-expm1-plus-one", "log1p", log1p_of_special,
           (log1p(expm1(u)), log1p(tanh(-u))), u=(10.0, 850.0)),
    stable("logsumexp-minus-element", "sub,add", logsumexp_minus_element,
           (graph.reduce_("logsumexp", [_ROW], _X) - graph.substitute(_X, _THIRD),),
           rows=(1.0, 3000.0)),
    stable("log2", "log2", other_bases(2.0), (apply("log2", 1.0 + exp(u)),),
           u=(600.0, 850.0)),
    stable("log10", "log10", other_bases(10.0), (apply("log10", 1.0 + u),),
           u=(1e-12, 1e-3)),
    stable("exp-of-logs", "exp", exp_of_logs,
           (exp(0.01*u + log(v)), exp(-u*log(v)), exp(log(v) - log(w)),
            exp(0.01*u - log(w))),
           u=(1.0, 60.0), v=(2.0, 1e4), w=(1e10, 1e100)),
)
