"""SymPy expressions as syntax trees.

Every class that is understood has a row in ``_PLANS``. A row says which parts of the
expression must be read first, and how the tree is made from them; the reader keeps a
stack of its own, so that depth does not matter. What has no row is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from symgrad.errors import SymPyError
from symgrad.language.names import lookup
from symgrad.language.syntax import (
    Apply,
    Assignment,
    Bind,
    Ellipsis_,
    Expr,
    Item,
    Name,
    NewAxis,
    Number,
    Program,
    Slice,
    Subscript,
    Text,
)

SYMPY_FUNCTIONS = {
    "exp": "exp", "log": "log", "sin": "sin", "cos": "cos", "tan": "tan",
    "asin": "asin", "acos": "acos", "atan": "atan", "atan2": "atan2", "sinh": "sinh",
    "cosh": "cosh", "tanh": "tanh", "asinh": "asinh", "acosh": "acosh",
    "atanh": "atanh", "abs": "Abs", "sign": "sign", "floor": "floor",
    "ceil": "ceiling", "erf": "erf", "erfc": "erfc", "lgamma": "loggamma",
    "digamma": "digamma", "polygamma": "polygamma",
}  # fmt: skip
"""Functions that SymPy has with the same meaning, by their canonical names."""


class Plan(NamedTuple):
    """How to read one expression: its parts, then the tree from the parts' trees."""

    parts: Sequence[Any]  # SymPy expressions; a syntax tree is passed through as it is
    make: Callable[[list[Expr]], Expr]


def from_sympy(expr: Any) -> Program:
    """The syntax tree of a SymPy expression.

    Accepts what ``to_sympy`` makes and what SymPy users write: symbols, numbers,
    arithmetic, elementary functions, ``Piecewise``, relations, ``Indexed``, ``Sum`` and
    ``Product`` with finite limits, and matrix expressions.

    Raises:
        SymPyError: something in it has no meaning in a real formula; the message names
            it.
    """
    import sympy

    from symgrad.language import heads

    if isinstance(expr, (int, float)):
        expr = sympy.sympify(expr)
    if not isinstance(expr, sympy.Basic):
        raise SymPyError(f"expected a SymPy expression, not {type(expr).__name__}")
    reader = _Reader()
    if not isinstance(expr, heads.Let):
        return Program((), reader.read(expr))
    values = [reader.read(value) for _, value in expr.definitions]
    names = [str(name) for name, _ in expr.definitions]
    assignments = tuple(map(Assignment, names, values))
    return Program(assignments, reader.read(expr.body))


class _Reader:
    """Reads with an explicit stack; an object that occurs twice is read once."""

    def __init__(self) -> None:
        self.done: dict[int, Expr] = {}
        self.keep: list[Any] = []  # ids stay valid as long as the objects live
        self.symbols: dict[str, Any] = {}
        self.plans = _plans()

    def read(self, root: Any) -> Expr:
        pending: list[tuple[Any, Plan | None]] = [(root, None)]
        while pending:
            expr, plan = pending.pop()
            if id(expr) in self.done:
                continue
            if plan is None:
                plan = self.plan(expr)
                pending.append((expr, plan))
                pending.extend((p, None) for p in plan.parts if not _is_tree(p))
                continue
            parts = [p if _is_tree(p) else self.done[id(p)] for p in plan.parts]
            self.done[id(expr)] = plan.make(parts)
            self.keep.append(expr)
        return self.done[id(root)]

    def plan(self, expr: Any) -> Plan:
        for cls in type(expr).__mro__:
            found = self.plans.get(cls)
            if found is not None:
                return found(self, expr)
        raise SymPyError(_refusal(expr))

    def name(self, symbol: Any) -> str:
        """The name of a symbol, which no other symbol may share."""
        known = self.symbols.setdefault(symbol.name, symbol)
        if known != symbol:
            raise SymPyError(
                f"two different symbols are called `{symbol.name}` (they differ in "
                "their assumptions, or one is a Dummy); use one symbol for one name"
            )
        return symbol.name


def _is_tree(part: Any) -> bool:
    return isinstance(part, (Number, Name, Text, Apply, Subscript, Bind))


# --- small trees ------------------------------------------------------------------------


def _leaf(tree: Expr) -> Plan:
    return Plan((), lambda _: tree)


def _apply(function: str, *args: Expr) -> Apply:
    return Apply(function, args)


def _fold(function: str) -> Callable[[list[Expr]], Expr]:
    """Combine any number of parts with a binary function, from the left."""

    def make(parts: list[Expr]) -> Expr:
        result = parts[0]
        for part in parts[1:]:
            result = _apply(function, result, part)
        return result

    return make


def _number(value: int | float) -> Expr:
    """A number as the language writes it: a sign, and a literal without one."""
    if isinstance(value, int) and abs(value) >= 2**63:
        value = float(value)
    return _apply("neg", Number(-value)) if value < 0 else Number(value)


# --- numbers and names --------------------------------------------------------------------


def _integer(_: _Reader, expr: Any) -> Plan:
    return _leaf(_number(int(expr)))


def _rational(_: _Reader, expr: Any) -> Plan:
    quotient = _apply("div", _number(abs(int(expr.p))), _number(int(expr.q)))
    return _leaf(_apply("neg", quotient) if expr.p < 0 else quotient)


def _float(_: _Reader, expr: Any) -> Plan:
    return _leaf(_number(float(expr)))


def _constant(_: _Reader, expr: Any) -> Plan:
    return _leaf(_number(float(expr.evalf(25))))


def _symbol(reader: _Reader, expr: Any) -> Plan:
    return _leaf(Name(reader.name(expr)))


def _idx(reader: _Reader, expr: Any) -> Plan:
    return Plan((expr.label,), lambda parts: parts[0])


def _labelled(_: _Reader, expr: Any) -> Plan:
    return _leaf(Name(str(expr.label)))


def _matrix_symbol(_: _Reader, expr: Any) -> Plan:
    return _leaf(Name(str(expr.name)))


def _truth(value: bool) -> Callable[[_Reader, Any], Plan]:
    return lambda _, expr: _leaf(Number(value))


# --- arithmetic ---------------------------------------------------------------------------


def _sum(_: _Reader, expr: Any) -> Plan:
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
            result = _apply(sign, result, tree)
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


def _product(_: _Reader, expr: Any) -> Plan:
    """``Mul``: a leading -1 negates, a reciprocal divides, a rational does both."""
    import sympy

    first, *rest = expr.args
    if first is sympy.S.NegativeOne:
        inner = rest[0] if len(rest) == 1 else sympy.Mul._from_args(rest)
        return Plan((inner,), lambda parts: _apply("neg", parts[0]))
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
            result = _apply("div", Number(1), result)
        for sign, tree in zip(signs[1:], trees[1:], strict=True):
            result = _apply(sign, result, tree)
        return result

    return Plan(parts, make)


def _rational_product(first: Any, rest: Sequence[Any]) -> Plan:
    """``(p/q)*x`` as ``p*x/q``, which rounds once less than it reads."""
    import sympy

    above = list(rest) if first.p in (1, -1) else [sympy.Integer(abs(first.p)), *rest]
    inner = above[0] if len(above) == 1 else sympy.Mul._from_args(above)

    def make(parts: list[Expr]) -> Expr:
        quotient = _apply("div", *parts)
        return _apply("neg", quotient) if first.p < 0 else quotient

    return Plan((inner, sympy.Integer(first.q)), make)


def _reciprocal(factor: Any) -> Any:
    """``b`` for ``1/b``, else None."""
    import sympy

    if isinstance(factor, sympy.Pow) and factor.args[1] is sympy.S.NegativeOne:
        return factor.args[0]
    return None


def _power(_: _Reader, expr: Any) -> Plan:
    import sympy

    base, exponent = expr.args
    if exponent is sympy.S.NegativeOne:
        return Plan((base,), lambda parts: _apply("div", Number(1), parts[0]))
    if exponent is sympy.S.Half:
        return Plan((base,), lambda parts: _apply("sqrt", parts[0]))
    if exponent == -sympy.S.Half and isinstance(exponent, sympy.Rational):
        return Plan(
            (base,), lambda p: _apply("div", Number(1), _apply("sqrt", p[0]))
        )
    if base is sympy.S.Exp1:
        return Plan((exponent,), lambda parts: _apply("exp", parts[0]))
    return Plan((base, exponent), lambda parts: _apply("pow", *parts))


# --- functions ------------------------------------------------------------------------------


def _function(name: str) -> Callable[[_Reader, Any], Plan]:
    return lambda _, expr: Plan(expr.args, lambda parts: _apply(name, *parts))


def _folded(name: str) -> Callable[[_Reader, Any], Plan]:
    return lambda _, expr: Plan(expr.args, _fold(name))


def _composed(build: Callable[..., Expr]) -> Callable[[_Reader, Any], Plan]:
    return lambda _, expr: Plan(expr.args, lambda parts: build(*parts))


def _one_over(name: str) -> Callable[[_Reader, Any], Plan]:
    return _composed(lambda x: _apply("div", Number(1), _apply(name, x)))


def _heaviside(x: Expr, at_zero: Expr) -> Expr:
    below = _apply("where", _apply("lt", x, Number(0)), Number(0), at_zero)
    return _apply("where", _apply("gt", x, Number(0)), Number(1), below)


def _delta(i: Expr, j: Expr, *_: Expr) -> Expr:
    return _apply("where", _apply("eq", i, j), Number(1), Number(0))


def _undefined(_: _Reader, expr: Any) -> Plan:
    """``Function("softplus")(x)``: a name of the language is taken as that function."""
    from symgrad.language.calls import make_call

    name = expr.func.__name__
    if lookup(name) is None:
        raise SymPyError(_refusal(expr))
    return Plan(expr.args, lambda parts: make_call(name, [*parts], None, None))


def _piecewise(_: _Reader, expr: Any) -> Plan:
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
            result = _apply("where", trees[2 * k + 1], trees[2 * k], result)
        return result

    return Plan([*parts, *default], make)


# --- indices and binders ----------------------------------------------------------------------


def _indexed(_: _Reader, expr: Any) -> Plan:
    return Plan(expr.args, lambda parts: Subscript(parts[0], tuple(parts[1:])))


def _matrix_slice(_: _Reader, expr: Any) -> Plan:
    numbers = [*expr.rowslice, *expr.colslice]

    def make(parts: list[Expr]) -> Expr:
        return Subscript(parts[0], (Slice(*parts[1:4]), Slice(*parts[4:7])))

    import sympy

    return Plan((expr.parent, *map(sympy.sympify, numbers)), make)


def _bound(kind: str) -> Callable[[_Reader, Any], Plan]:
    """``Sum`` and ``Product``: the first limit is the innermost."""

    def plan(reader: _Reader, expr: Any) -> Plan:
        limits = [_limit(reader, kind, limit) for limit in expr.limits]
        ends = [end for _, *both in limits for end in both]
        body = getattr(expr, "body", None)
        return Plan((expr.function if body is None else body, *ends), make(limits))

    def make(limits: list[tuple[str, Any, Any]]) -> Callable[[list[Expr]], Expr]:
        def build(trees: list[Expr]) -> Expr:
            result = trees[0]
            for k, (name, _, _) in enumerate(limits):
                lower, upper = trees[2 * k + 1 : 2 * k + 3]
                result = Bind(kind, result, name, lower, upper)
            return result

        return build

    return plan


def _limit(reader: _Reader, kind: str, limit: Any) -> tuple[str, Any, Any]:
    if len(limit) != 3:
        raise SymPyError(
            f"a {kind} over `{limit[0]}` has no limits: write ({limit[0]}, 0, n - 1)"
        )
    index, lower, upper = limit
    if upper.is_infinite or lower.is_infinite:
        raise SymPyError(f"a {kind} over `{index}` runs to infinity: {limit}")
    symbol = getattr(index, "label", index)
    return reader.name(symbol), lower, upper


def _over(reader: _Reader, expr: Any) -> Plan:
    return _bound(expr.kind)(reader, expr)


# --- matrices -----------------------------------------------------------------------------------


def _matrix_product(_: _Reader, expr: Any) -> Plan:
    """``MatMul``: numbers and scalars multiply elementwise, matrices by ``@``."""
    scalars = [a for a in expr.args if not a.is_Matrix]
    matrices = [a for a in expr.args if a.is_Matrix]
    count = len(scalars)

    def make(parts: list[Expr]) -> Expr:
        product = _fold("matmul")(parts[count:])
        if not count:
            return product
        if count == 1 and _is_minus_one(scalars[0]):
            return _apply("neg", product)
        return _apply("mul", _fold("mul")(parts[:count]), product)

    return Plan([*scalars, *matrices], make)


def _is_minus_one(scalar: Any) -> bool:
    import sympy

    return scalar is sympy.S.NegativeOne


def _matrix_sum(_: _Reader, expr: Any) -> Plan:
    import sympy

    signs, parts = ["add"], [expr.args[0]]
    for term in expr.args[1:]:
        minus = isinstance(term, sympy.MatMul) and _is_minus_one(term.args[0])
        rest = term.args[1:] if minus else ()
        signs.append("sub" if minus else "add")
        parts.append(
            term if not minus else rest[0] if len(rest) == 1 else sympy.MatMul(*rest)
        )

    def make(trees: list[Expr]) -> Expr:
        result = trees[0]
        for sign, tree in zip(signs[1:], trees[1:], strict=True):
            result = _apply(sign, result, tree)
        return result

    return Plan(parts, make)


def _matrix_power(_: _Reader, expr: Any) -> Plan:
    exponent = expr.args[1]
    if not (exponent.is_Integer and 0 < int(exponent) <= 64):
        raise SymPyError(
            f"the matrix power {expr}: only exponents 1 to 64 are supported"
        )
    count = int(exponent)
    return Plan((expr.args[0],), lambda parts: _fold("matmul")(parts * count))


# --- our own heads --------------------------------------------------------------------------------


def _group(_: _Reader, expr: Any) -> Plan:
    return Plan(expr.args, lambda parts: parts[0])


def _text(_: _Reader, expr: Any) -> Plan:
    return _leaf(Text(str(expr)))


def _let(_: _Reader, expr: Any) -> Plan:
    raise SymPyError("Let may only stand at the top of an expression")


def _item(_: _Reader, expr: Any) -> Plan:
    """``Item``: slices and the other marks are put back between the expressions."""
    from symgrad.language import heads

    base, *items = expr.args
    parts: list[Any] = [base]
    recipes: list[tuple[int, ...] | Item] = []
    for item in items:
        if isinstance(item, heads.SlicePart):
            given = [end for end in item.args if not isinstance(end, heads.Missing)]
            places = iter(range(len(parts), len(parts) + len(given)))
            recipes.append(
                tuple(
                    0 if isinstance(end, heads.Missing) else next(places)
                    for end in item.args
                )
            )
            parts += given
        elif isinstance(item, heads.Part):
            is_axis = isinstance(item, heads.NewAxisPart)
            recipes.append(NewAxis() if is_axis else Ellipsis_())
        else:
            recipes.append((len(parts),))
            parts.append(item)

    def make(trees: list[Expr]) -> Expr:
        return Subscript(trees[0], tuple(_fill(r, trees) for r in recipes))

    return Plan(parts, make)


def _fill(recipe: tuple[int, ...] | Item, trees: list[Expr]) -> Item:
    if not isinstance(recipe, tuple):
        return recipe
    if len(recipe) == 1:
        return trees[recipe[0]]
    return Slice(*(trees[k] if k else None for k in recipe))


def _head(_: _Reader, expr: Any) -> Plan:
    """A function of the language: arguments, then keywords with literal values."""
    from symgrad.language import heads

    name = expr.language_name
    args = [a for a in expr.args if not isinstance(a, heads.Keyword)]
    words = tuple(
        (a.name, _literal(a.args[1])) for a in expr.args if isinstance(a, heads.Keyword)
    )
    if name == "shape":
        args[1] = _literal(args[1])
    return Plan(args, lambda parts: Apply(name, tuple(parts), words))


def _literal(value: Any) -> Expr:
    import sympy

    if isinstance(value, sympy.Tuple):
        return Apply("tuple", tuple(map(_literal, value)))
    if value in (sympy.true, sympy.false):
        return Number(bool(value))
    return Number(int(value) if value.is_Integer else float(value))


# --- what is refused --------------------------------------------------------------------------------


def _refused(reason: str) -> Callable[[_Reader, Any], Plan]:
    def plan(_: _Reader, expr: Any) -> Plan:
        raise SymPyError(reason.format(expr))

    return plan


def _refusal(expr: Any) -> str:
    from symgrad.language.names import nearest

    name = type(expr).__name__
    near = nearest(name)
    advice = f"; the language has `{near}`" if near else ""
    return f"SymPy's `{name}` has no meaning in symgrad{advice}"


_COMPLEX = "the expression holds {}, but symgrad's numbers are real"
_INFINITE = "the expression holds {}: it was already undefined or infinite in SymPy"
_MATRIX = "{} needs a linear solver or a decomposition, which symgrad does not have"
_FIRST = "{} is not evaluated: call .doit() first"


@lru_cache(maxsize=1)
def _plans() -> dict[type, Callable[[_Reader, Any], Plan]]:
    """One row for each SymPy class; subclasses are found through their bases."""
    import sympy as sp
    from sympy.core.function import AppliedUndef
    from sympy.core.symbol import Str
    from sympy.matrices.expressions.slice import MatrixSlice

    from symgrad.language import heads

    return {
        sp.Integer: _integer,
        sp.Rational: _rational,
        sp.Float: _float,
        sp.NumberSymbol: _constant,
        sp.Symbol: _symbol,
        sp.Idx: _idx,
        sp.IndexedBase: _labelled,
        sp.MatrixSymbol: _matrix_symbol,
        type(sp.true): _truth(True),
        type(sp.false): _truth(False),
        sp.Add: _sum,
        sp.Mul: _product,
        sp.Pow: _power,
        **{getattr(sp, other): _function(name) for name, other in SYMPY_FUNCTIONS.items()},
        sp.Max: _folded("maximum"),
        sp.Min: _folded("minimum"),
        sp.Mod: _function("mod"),
        sp.sec: _one_over("cos"),
        sp.csc: _one_over("sin"),
        sp.cot: _one_over("tan"),
        sp.sech: _one_over("cosh"),
        sp.csch: _one_over("sinh"),
        sp.coth: _one_over("tanh"),
        sp.Heaviside: _composed(_heaviside),
        sp.KroneckerDelta: _composed(_delta),
        sp.Piecewise: _piecewise,
        sp.ITE: _function("where"),
        sp.Lt: _function("lt"),
        sp.Le: _function("le"),
        sp.Gt: _function("gt"),
        sp.Ge: _function("ge"),
        sp.Eq: _function("eq"),
        sp.Ne: _function("ne"),
        sp.And: _folded("and"),
        sp.Or: _folded("or"),
        sp.Not: _function("not"),
        AppliedUndef: _undefined,
        sp.Indexed: _indexed,
        sp.Sum: _bound("sum"),
        sp.Product: _bound("prod"),
        sp.MatMul: _matrix_product,
        sp.MatAdd: _matrix_sum,
        sp.MatPow: _matrix_power,
        sp.Transpose: _function("transpose"),
        sp.Trace: _function("trace"),
        sp.HadamardProduct: _folded("mul"),
        sp.HadamardPower: _function("pow"),
        sp.Identity: _function("eye"),
        sp.matrices.expressions.matexpr.MatrixElement: _indexed,
        MatrixSlice: _matrix_slice,
        sp.DotProduct: _function("dot"),
        Str: _text,
        heads.Group: _group,
        heads.NegativeZero: lambda _, expr: _leaf(Number(-0.0)),
        heads.Item: _item,
        heads.Over: _over,
        heads.Let: _let,
        heads.Head: _head,
        type(sp.I): _refused(_COMPLEX),
        type(sp.zoo): _refused(_INFINITE),
        type(sp.nan): _refused(_INFINITE),
        type(sp.oo): _refused(_INFINITE),
        type(-sp.oo): _refused(_INFINITE),
        sp.Inverse: _refused(_MATRIX),
        sp.Determinant: _refused(_MATRIX),
        sp.Derivative: _refused(_FIRST),
        sp.Integral: _refused(_FIRST),
        sp.Limit: _refused(_FIRST),
        sp.Subs: _refused(_FIRST),
        sp.MatrixBase: _refused(
            "a matrix of numbers or symbols: use MatrixSymbol, and pass it as data"
        ),
    }
