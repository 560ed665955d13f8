"""How SymPy's numbers, arithmetic and functions are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symgrad.errors import SymPyError
from symgrad.language.calls import make_call
from symgrad.language.names import lookup, nearest
from symgrad.language.sympy_plan import (
    Plan,
    Planner,
    Reader,
    apply,
    folded,
    function_of,
    leaf,
    number,
    refused,
    same_as_part,
)
from symgrad.language.syntax import Expr, Name, Number

SYMPY_FUNCTIONS = {
    "exp": "exp", "log": "log", "sin": "sin", "cos": "cos", "tan": "tan",
    "asin": "asin", "acos": "acos", "atan": "atan", "atan2": "atan2", "sinh": "sinh",
    "cosh": "cosh", "tanh": "tanh", "asinh": "asinh", "acosh": "acosh",
    "atanh": "atanh", "abs": "Abs", "sign": "sign", "floor": "floor",
    "ceil": "ceiling", "erf": "erf", "erfc": "erfc", "lgamma": "loggamma",
    "digamma": "digamma", "polygamma": "polygamma",
}  # fmt: skip
"""Functions that SymPy has with the same meaning, by their canonical names."""

# --- numbers and names ----------------------------------------------------------------


def _integer(_: Reader, expr: Any) -> Plan:
    return leaf(number(int(expr)))


def _rational(_: Reader, expr: Any) -> Plan:
    quotient = apply("div", number(abs(int(expr.p))), number(int(expr.q)))
    return leaf(apply("neg", quotient) if expr.p < 0 else quotient)


def _float(_: Reader, expr: Any) -> Plan:
    return leaf(number(float(expr)))


def _constant(_: Reader, expr: Any) -> Plan:
    return leaf(number(float(expr.evalf(25))))


def _symbol(reader: Reader, expr: Any) -> Plan:
    return leaf(Name(reader.name(expr)))


def _truth(value: bool) -> Planner:
    return lambda _, expr: leaf(Number(value))


# --- arithmetic -----------------------------------------------------------------------


def _sum(_: Reader, expr: Any) -> Plan:
    """``Add``: terms with a minus sign are subtracted, except the first."""
    parts: list[Any] = []
    signs: list[str] = []
    for position, term in enumerate(expr.args):
        negated = _without_minus(term) if position else None
        parts.append(term if negated is None else negated)
        signs.append("add" if negated is None else "sub")

    def make(trees: list[Expr]) -> Expr:
        result = trees[0]
        for sign, tree in zip(signs[1:], trees[1:], strict=True):
            result = apply(sign, result, tree)
        return result

    return Plan(parts, make)


def _without_minus(term: Any) -> Any:
    """``-term`` if ``term`` is written with a minus sign, else None."""
    import sympy

    if isinstance(term, sympy.Number):
        return -term if term < 0 else None
    if not isinstance(term, sympy.Mul):
        return None
    first, *rest = term.args
    if first is sympy.S.NegativeOne:
        return rest[0] if len(rest) == 1 else sympy.Mul._from_args(rest)
    if isinstance(first, sympy.Number) and first < 0:
        return sympy.Mul._from_args([-first, *rest])
    return None


def _product(_: Reader, expr: Any) -> Plan:
    """``Mul``: a leading -1 negates, a reciprocal divides, a rational does both."""
    import sympy

    first, *rest = expr.args
    if first is sympy.S.NegativeOne:
        inner = rest[0] if len(rest) == 1 else sympy.Mul._from_args(rest)
        return Plan((inner,), lambda parts: apply("neg", parts[0]))
    if isinstance(first, sympy.Rational) and not isinstance(first, sympy.Integer):
        return _rational_product(first, rest)
    factors = [(_reciprocal(f), f) for f in expr.args]
    if factors[0][0] is not None:  # SymPy's own order: all that divides goes last
        factors.sort(key=lambda pair: pair[0] is not None)
    parts = [f if below is None else below for below, f in factors]
    signs = ["mul" if below is None else "div" for below, _ in factors]

    def make(trees: list[Expr]) -> Expr:
        result = trees[0]
        if signs[0] == "div":
            result = apply("div", Number(1), result)
        for sign, tree in zip(signs[1:], trees[1:], strict=True):
            result = apply(sign, result, tree)
        return result

    return Plan(parts, make)


def _rational_product(first: Any, rest: Sequence[Any]) -> Plan:
    """``(p/q)*x`` as ``p*x/q``, which rounds once less than it reads."""
    import sympy

    above = list(rest) if first.p in (1, -1) else [sympy.Integer(abs(first.p)), *rest]
    inner = above[0] if len(above) == 1 else sympy.Mul._from_args(above)

    def make(parts: list[Expr]) -> Expr:
        quotient = apply("div", *parts)
        return apply("neg", quotient) if first.p < 0 else quotient

    return Plan((inner, sympy.Integer(first.q)), make)


def _reciprocal(factor: Any) -> Any:
    """``b`` for ``1/b``, else None."""
    import sympy

    if isinstance(factor, sympy.Pow) and factor.args[1] is sympy.S.NegativeOne:
        return factor.args[0]
    return None


def _power(_: Reader, expr: Any) -> Plan:
    import sympy

    base, exponent = expr.args
    if exponent is sympy.S.NegativeOne:
        return Plan((base,), lambda parts: apply("div", Number(1), parts[0]))
    if exponent is sympy.S.Half:
        return Plan((base,), lambda parts: apply("sqrt", parts[0]))
    if exponent == -sympy.S.Half and isinstance(exponent, sympy.Rational):
        return Plan((base,), lambda p: apply("div", Number(1), apply("sqrt", p[0])))
    if base is sympy.S.Exp1:
        return Plan((exponent,), lambda parts: apply("exp", parts[0]))
    return Plan((base, exponent), lambda parts: apply("pow", *parts))


# --- functions ------------------------------------------------------------------------


def _composed(build: Callable[..., Expr]) -> Planner:
    return lambda _, expr: Plan(expr.args, lambda parts: build(*parts))


def _one_over(name: str) -> Planner:
    return _composed(lambda x: apply("div", Number(1), apply(name, x)))


def _polygamma(order: Expr, x: Expr) -> Expr:
    """SymPy has no digamma of its own: it is polygamma of order 0."""
    if isinstance(order, Number) and order.value == 0:
        return apply("digamma", x)
    return apply("polygamma", order, x)


def _heaviside(x: Expr, at_zero: Expr) -> Expr:
    below = apply("where", apply("lt", x, Number(0)), Number(0), at_zero)
    return apply("where", apply("gt", x, Number(0)), Number(1), below)


def _delta(i: Expr, j: Expr, *_: Expr) -> Expr:
    return apply("where", apply("eq", i, j), Number(1), Number(0))


def _undefined(_: Reader, expr: Any) -> Plan:
    """``Function("softplus")(x)``: a name of the language is taken as that function."""
    name = expr.func.__name__
    if lookup(name) is None:
        near = nearest(name)
        advice = f": did you mean `{near}`?" if near else ""
        raise SymPyError(f"unknown function `{name}`{advice}")
    return Plan(expr.args, lambda parts: make_call(name, [*parts], None, None))


def _piecewise(_: Reader, expr: Any) -> Plan:
    """Nested ``where``; without a default branch the value is nan."""
    import sympy

    parts: list[Any] = []
    default: list[Any] = []
    for value, condition in expr.args:
        if condition == sympy.true:
            default = [value]
            break
        parts += [value, condition]
    pairs = len(parts) // 2

    def make(trees: list[Expr]) -> Expr:
        result = trees[-1] if default else Number(float("nan"))
        for k in reversed(range(pairs)):
            result = apply("where", trees[2 * k + 1], trees[2 * k], result)
        return result

    return Plan([*parts, *default], make)


# --- the rows -------------------------------------------------------------------------

_COMPLEX = "the expression holds {}, but symgrad's numbers are real"
_INFINITE = "the expression holds {}: it was already undefined or infinite in SymPy"
_FIRST = "{} is not evaluated: call .doit() first"


def plans() -> dict[type, Planner]:
    """One row for each class; subclasses are found through their bases."""
    import sympy as sp
    from sympy.core.function import AppliedUndef

    own = {getattr(sp, theirs): ours for ours, theirs in SYMPY_FUNCTIONS.items()}
    return {
        **{cls: function_of(name) for cls, name in own.items()},
        sp.Integer: _integer,
        sp.Rational: _rational,
        sp.Float: _float,
        sp.NumberSymbol: _constant,
        sp.Symbol: _symbol,
        type(sp.true): _truth(True),
        type(sp.false): _truth(False),
        sp.Add: _sum,
        sp.Mul: _product,
        sp.Pow: _power,
        sp.UnevaluatedExpr: same_as_part,
        sp.polygamma: _composed(_polygamma),
        sp.Max: folded("maximum"),
        sp.Min: folded("minimum"),
        sp.Mod: function_of("mod"),
        sp.sec: _one_over("cos"),
        sp.csc: _one_over("sin"),
        sp.cot: _one_over("tan"),
        sp.sech: _one_over("cosh"),
        sp.csch: _one_over("sinh"),
        sp.coth: _one_over("tanh"),
        sp.Heaviside: _composed(_heaviside),
        sp.KroneckerDelta: _composed(_delta),
        sp.Piecewise: _piecewise,
        sp.ITE: function_of("where"),
        sp.Lt: function_of("lt"),
        sp.Le: function_of("le"),
        sp.Gt: function_of("gt"),
        sp.Ge: function_of("ge"),
        sp.Eq: function_of("eq"),
        sp.Ne: function_of("ne"),
        sp.And: folded("and"),
        sp.Or: folded("or"),
        sp.Not: function_of("not"),
        AppliedUndef: _undefined,
        type(sp.I): refused(_COMPLEX),
        type(sp.zoo): refused(_INFINITE),
        type(sp.nan): refused(_INFINITE),
        type(sp.oo): refused(_INFINITE),
        type(-sp.oo): refused(_INFINITE),
        sp.Derivative: refused(_FIRST),
        sp.Integral: refused(_FIRST),
        sp.Limit: refused(_FIRST),
        sp.Subs: refused(_FIRST),
    }
