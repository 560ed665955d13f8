"""How SymPy's indices, binders and matrices are read, and our own heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symgrad.errors import SymPyError
from symgrad.language.sympy_plan import (
    Plan,
    Planner,
    Reader,
    apply,
    fold,
    folded,
    function_of,
    leaf,
    refused,
    same_as_part,
)
from symgrad.language.syntax import (
    Apply,
    Bind,
    Ellipsis_,
    Expr,
    Item,
    Name,
    NewAxis,
    Number,
    Slice,
    Subscript,
    Text,
)

# --- indices and binders --------------------------------------------------------------


def _idx(reader: Reader, expr: Any) -> Plan:
    return Plan((expr.label,), lambda parts: parts[0])


def _labelled(_: Reader, expr: Any) -> Plan:
    return leaf(Name(str(expr.label)))


def _matrix_symbol(_: Reader, expr: Any) -> Plan:
    return leaf(Name(str(expr.name)))


def _indexed(_: Reader, expr: Any) -> Plan:
    return Plan(expr.args, lambda parts: Subscript(parts[0], tuple(parts[1:])))


def _matrix_slice(_: Reader, expr: Any) -> Plan:
    numbers = [*expr.rowslice, *expr.colslice]

    def make(parts: list[Expr]) -> Expr:
        rows, columns = parts[1:4], parts[4:7]
        return Subscript(parts[0], (_slice(rows), _slice(columns)))

    import sympy

    return Plan((expr.parent, *map(sympy.sympify, numbers)), make)


def _bound(kind: str) -> Planner:
    """``Sum`` and ``Product``: the first limit is the innermost."""

    def plan(reader: Reader, expr: Any) -> Plan:
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


def _limit(reader: Reader, kind: str, limit: Any) -> tuple[str, Any, Any]:
    if len(limit) != 3:
        raise SymPyError(
            f"a {kind} over `{limit[0]}` has no limits: write ({limit[0]}, 0, n - 1)"
        )
    index, lower, upper = limit
    if upper.is_infinite or lower.is_infinite:
        raise SymPyError(f"a {kind} over `{index}` runs to infinity: {limit}")
    symbol = getattr(index, "label", index)
    return reader.name(symbol), lower, upper


def _over(reader: Reader, expr: Any) -> Plan:
    return _bound(expr.reduction)(reader, expr)


# --- matrices -------------------------------------------------------------------------


def _matrix_product(_: Reader, expr: Any) -> Plan:
    """``MatMul``: numbers and scalars multiply elementwise, matrices by ``@``."""
    scalars = [a for a in expr.args if not a.is_Matrix]
    matrices = [a for a in expr.args if a.is_Matrix]
    count = len(scalars)

    def make(parts: list[Expr]) -> Expr:
        product = fold("matmul")(parts[count:])
        if not count:
            return product
        if count == 1 and _is_minus_one(scalars[0]):
            return apply("neg", product)
        return apply("mul", fold("mul")(parts[:count]), product)

    return Plan([*scalars, *matrices], make)


def _is_minus_one(scalar: Any) -> bool:
    import sympy

    return scalar is sympy.S.NegativeOne


def _matrix_sum(_: Reader, expr: Any) -> Plan:
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
            result = apply(sign, result, tree)
        return result

    return Plan(parts, make)


def _elementwise(_: Reader, expr: Any) -> Plan:
    """``A.applyfunc(f)``: the body of f with A for its variable, as arrays have it."""
    from symgrad.language import heads

    (variable,), body = expr.function.variables, expr.function.expr
    inner = body.xreplace({variable: heads.Group(expr.expr)})
    return Plan((inner,), lambda parts: parts[0])


def _matrix_power(_: Reader, expr: Any) -> Plan:
    exponent = expr.args[1]
    if not (exponent.is_Integer and 0 < int(exponent) <= 64):
        raise SymPyError(
            f"the matrix power {expr}: only exponents 1 to 64 are supported"
        )
    count = int(exponent)
    return Plan((expr.args[0],), lambda parts: fold("matmul")(parts * count))


# --- our own heads --------------------------------------------------------------------


def _text(_: Reader, expr: Any) -> Plan:
    return leaf(Text(str(expr)))


def _let(_: Reader, expr: Any) -> Plan:
    raise SymPyError("Let may only stand at the top of an expression")


def _item(_: Reader, expr: Any) -> Plan:
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


def _slice(ends: Sequence[Expr | None]) -> Slice:
    start, stop, step = ends
    return Slice(start, stop, step)


def _fill(recipe: tuple[int, ...] | Item, trees: list[Expr]) -> Item:
    if not isinstance(recipe, tuple):
        return recipe
    if len(recipe) == 1:
        return trees[recipe[0]]
    return _slice([trees[k] if k else None for k in recipe])


def _head(_: Reader, expr: Any) -> Plan:
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


# --- the rows -------------------------------------------------------------------------

DENSE = "a matrix of numbers or symbols: use MatrixSymbol, and pass its value as data"
_MATRIX = "{} needs a linear solver or a decomposition, which symgrad does not have"


def plans() -> dict[type, Planner]:
    """One row for each class; subclasses are found through their bases."""
    import sympy as sp
    from sympy.core.symbol import Str
    from sympy.matrices.expressions.applyfunc import ElementwiseApplyFunction
    from sympy.matrices.expressions.matexpr import MatrixElement
    from sympy.matrices.expressions.slice import MatrixSlice

    from symgrad.language import heads

    return {
        sp.Idx: _idx,
        sp.IndexedBase: _labelled,
        sp.Indexed: _indexed,
        sp.Sum: _bound("sum"),
        sp.Product: _bound("prod"),
        sp.MatrixSymbol: _matrix_symbol,
        sp.MatMul: _matrix_product,
        sp.MatAdd: _matrix_sum,
        sp.MatPow: _matrix_power,
        sp.Transpose: function_of("transpose"),
        sp.Trace: function_of("trace"),
        sp.HadamardProduct: folded("mul"),
        sp.HadamardPower: function_of("pow"),
        sp.Identity: function_of("eye"),
        sp.DotProduct: function_of("dot"),
        MatrixElement: _indexed,
        MatrixSlice: _matrix_slice,
        ElementwiseApplyFunction: _elementwise,
        sp.Inverse: refused(_MATRIX),
        sp.Determinant: refused(_MATRIX),
        sp.MatrixBase: refused(DENSE),
        Str: _text,
        heads.Group: same_as_part,
        heads.NegativeZero: lambda _, expr: leaf(Number(-0.0)),
        heads.Item: _item,
        heads.Over: _over,
        heads.Let: _let,
        heads.Head: _head,
    }
