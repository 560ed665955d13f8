"""SymPy expressions, those of the language included, as MathML that browsers typeset.

No fonts and no scripts are needed: MathML Core is part of all current browsers.
"""

from __future__ import annotations

from html import escape
from itertools import islice
from typing import Any

from symgrad.graph import Array, Node, Scatter, to_text, walk

LIMIT = 250
"""An expression of more parts is written as text."""
NODES = 700
"""A graph of more nodes is not handed to SymPy, which walks by recursion."""
_TEXT = 6000  # characters of it

_SIGNS = {
    "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "eq": "=", "ne": "≠", "and": "∧",
    "or": "∨", "matmul": "@", "mod": "mod", "floor_divide": "//", "mul": "·",
    "div": "/", "add": "+", "sub": "−", "pow": "^",
}  # fmt: skip


def formula(left: str, expression: Any) -> str:
    """``left = expression`` as an element of HTML.

    ``left`` is MathML, or empty. A ``Let`` becomes a line for each definition.
    """
    from symgrad.language.heads import Let

    pairs: list[tuple[str, Any]] = []
    body = expression
    if isinstance(expression, Let):
        pairs = [(typeset(name), value) for name, value in expression.definitions]
        body = expression.body
    pairs.append((left, body))
    return "".join(_line(*pair) for pair in pairs)


def _line(left: str, body: Any) -> str:
    if _is_long(body):
        return _as_text(left, str(body))
    equals = f"<mrow>{left}</mrow><mo>=</mo>" if left else ""
    inside = f"{equals}<mrow>{typeset(body)}</mrow>"
    return f'<div class="formula"><math displaystyle="true">{inside}</math></div>'


def _is_long(expression: Any) -> bool:
    from sympy import preorder_traversal

    parts = islice(preorder_traversal(expression), LIMIT + 1)
    return sum(1 for _ in parts) > LIMIT


def derivative(loss: str, name: str, indices: tuple[Any, ...] = ()) -> str:
    """MathML of the partial derivative of ``loss`` by ``name``, or an element of it."""
    below = identifier(name)
    if indices:
        bound = "<mo>,</mo>".join(typeset(i) for i in indices)
        below = f"<msub>{below}<mrow>{bound}</mrow></msub>"
    return (
        f"<mfrac><mrow><mo>∂</mo>{identifier(loss)}</mrow>"
        f"<mrow><mo>∂</mo>{below}</mrow></mfrac>"
    )


def identifier(name: str) -> str:
    """A name as it is written; one letter is italic, more are upright."""
    return f"<mi>{escape(name)}</mi>"


def graph_formula(
    loss: str, root: Node, name: str | None = None, sizes: dict[str, str] | None = None
) -> str:
    """``loss = root``, or the derivative by ``name`` ``= root``, as HTML.

    sizes: names for run-time lengths, see ``graph_to_sympy.size_names``.
    """
    from symgrad.language.graph_to_sympy import graph_to_sympy

    plain = identifier(loss) if name is None else derivative(loss, name)
    if len(walk(root)) > NODES:
        return _as_text(plain, to_text(root, _TEXT))
    try:
        found = graph_to_sympy(root, sizes)
        is_tensor = isinstance(root, (Array, Scatter))
        if name is not None and is_tensor:
            plain = derivative(loss, name, found.indices)
        return formula(plain, found.expression)
    except RecursionError:  # SymPy walks expressions by recursion
        return _as_text(plain, to_text(root, _TEXT))


def _as_text(left: str, text: str) -> str:
    text = text if len(text) <= _TEXT else text[:_TEXT] + " …"
    head = f"<math><mrow>{left}</mrow><mo>=</mo></math> " if left else ""
    return f'<div class="formula">{head}<code>{escape(text)}</code></div>'


def typeset(expression: Any) -> str:
    """The inside of a <math> element."""
    return _printer()._print(expression).toxml()


_made: list[Any] = []


def _printer() -> Any:
    if not _made:
        _made.append(_make_printer())
    return _made[0]


def _make_printer() -> Any:
    """SymPy's printer for presentation, taught the heads of the language."""
    import sympy
    from sympy.printing.mathml import MathMLPresentationPrinter
    from sympy.printing.precedence import precedence_traditional as precedence

    from symgrad.language.function_heads import ConditionHead

    class Printer(MathMLPresentationPrinter):
        def new(self, tag: str, *children: Any) -> Any:
            element = self.dom.createElement(tag)
            for child in children:
                text = isinstance(child, str)
                element.appendChild(self.dom.createTextNode(child) if text else child)
            return element

        def listed(self, args: Any) -> list[Any]:
            result: list[Any] = []
            for k, arg in enumerate(args):
                result += [self.new("mo", ",")] if k else []
                result.append(self._print(arg))
            return result

        def bracketed(self, *inner: Any, ends: str = "()") -> Any:
            first, last = (self.new("mo", end) for end in ends)
            return self.new("mrow", first, *inner, last)

        def _print_Symbol(self, sym: Any, style: str = "plain") -> Any:
            return self.new("mi", sym.name)

        def _print_IndexedBase(self, e: Any) -> Any:
            return self.new("mi", str(e.label))

        def _print_Indexed(self, e: Any) -> Any:
            row = self.new("mrow", *self.listed(e.indices))
            return self.new("msub", self._print(e.base), row)

        def _print_KroneckerDelta(self, e: Any) -> Any:
            row = self.new("mrow", *self.listed(e.args))
            return self.new("msub", self.new("mi", "δ"), row)

        def _print_Function(self, e: Any) -> Any:
            inner = self.bracketed(*self.listed(e.args))
            return self.new("mrow", self.new("mi", e.func.__name__), inner)

        def _print_exp(self, expr: Any) -> Any:
            return self._print_Function(expr)

        _print_log = _print_exp

        # SymPy's own printer drops the brackets of ``y - (a + b)`` that is unevaluated.

        def _print_Add(self, expr: Any, order: Any = None) -> Any:
            row = self.new("mrow")
            for k, term in enumerate(expr.args):
                negative, rest = _signed(term)
                if negative or k:
                    row.appendChild(self.new("mo", "−" if negative else "+"))
                level = _ADD + 1 if negative else _ADD
                row.appendChild(self.within(rest, level))
            return row

        def _print_Mul(self, expr: Any) -> Any:
            negative, rest = _signed(expr)
            above, below = _fraction(rest)
            body = self.product(above)
            if below:
                body = self.new("mfrac", body, self.product(below))
            return self.new("mrow", self.new("mo", "−"), body) if negative else body

        def _print_Pow(self, e: Any) -> Any:
            if e.exp == sympy.Rational(1, 2):
                return self.new("msqrt", self._print(e.base))
            if e.exp == -1:
                return self.new("mfrac", self.new("mn", "1"), self._print(e.base))
            plain = precedence(e.base) > _POW
            plain &= not isinstance(e.base, (sympy.Sum, sympy.Product))
            base = self._print(e.base)
            raised = base if plain else self.bracketed(base)
            return self.new("msup", raised, self._print(e.exp))

        def product(self, factors: Any) -> Any:
            if len(factors) == 1:
                return self._print(factors[0])
            row = self.new("mrow")
            for k, factor in enumerate(factors):
                if k:
                    row.appendChild(self.new("mo", "·"))
                is_sum = isinstance(factor, (sympy.Sum, sympy.Product))
                enclosed = is_sum and k + 1 < len(factors)
                shown = self.within(factor, _MUL + 1 if k else _MUL)
                row.appendChild(self.bracketed(shown) if enclosed else shown)
            return row

        def within(self, expr: Any, level: int) -> Any:
            """In brackets if it holds together less tightly than ``level``."""
            if isinstance(expr, (sympy.Sum, sympy.Product)):
                return self._print(expr)
            shown = self._print(expr)
            return self.bracketed(shown) if precedence(expr) < level else shown

        def _print_Head(self, e: Any) -> Any:
            inner = self.bracketed(*self.listed(e.args))
            return self.new("mrow", self.new("mi", e.language_name), inner)

        def _print_Group(self, e: Any) -> Any:
            return self.bracketed(self._print(e.args[0]))

        def _print_NegativeZero(self, e: Any) -> Any:
            return self.new("mn", "-0")

        def _print_Item(self, e: Any) -> Any:
            base, *items = e.args
            inner = self.bracketed(*self.listed(items), ends="[]")
            return self.new("mrow", self._print(base), inner)

        def _print_Keyword(self, e: Any) -> Any:
            value = self._print(e.args[1])
            return self.new("mrow", self.new("mi", e.name), self.new("mo", "="), value)

        def _print_Part(self, e: Any) -> Any:
            return self.new("mo", e.written)

        def _print_SlicePart(self, e: Any) -> Any:
            return self.new("mtext", e._text(_text_printer()))

        def _print_Str(self, e: Any) -> Any:
            return self.new("mtext", f'"{e}"')

        def _print_InfixHead(self, e: Any) -> Any:
            sign = self.new("mo", _SIGNS.get(e.language_name, e.language_name))
            left, right = (self.parenthesize(a, e.precedence) for a in e.args)
            return self.new("mrow", left, sign, right)

        def _print_ConditionHead(self, e: Any) -> Any:
            return self.bracketed(self.bare(e), ends="[]")

        def bare(self, e: Any) -> Any:
            """A condition without its outer brackets."""
            if not isinstance(e, ConditionHead):
                return self._print(e)
            if len(e.args) == 1:
                return self.new("mrow", self.new("mo", "¬"), self._print(e.args[0]))
            sign = self.new("mo", _SIGNS.get(e.language_name, e.language_name))
            return self.new(
                "mrow", self._print(e.args[0]), sign, self._print(e.args[1])
            )

        def _print_WhereHead(self, e: Any) -> Any:
            condition, first, second = e.args
            rows = [(first, self.bare(condition)), (second, None)]
            # The bar of the cases is a border: a brace needs a font that stretches.
            table = self.new("mtable", *(self.case(*row) for row in rows))
            table.setAttribute("class", "cases")
            return table

        def case(self, value: Any, condition: Any) -> Any:
            words = "otherwise" if condition is None else "if\u00a0"
            told = self.new("mrow", self.new("mtext", words))
            if condition is not None:
                told.appendChild(condition)
            cells = (self.new("mtd", self._print(value)), self.new("mtd", told))
            return self.new("mtr", *cells)

        def _print_TransposeHead(self, e: Any) -> Any:
            return self.new("msup", self._print(e.args[0]), self.new("mo", "⊤"))

        def _print_Over(self, e: Any) -> Any:
            below = self.new("mrow", *self.listed(limit[0] for limit in e.limits))
            name = self.new("munder", self.new("mo", e.reduction), below)
            return self.new("mrow", name, self.bracketed(self._print(e.body)))

        def _print_Let(self, e: Any) -> Any:
            rows = [*e.definitions, (None, e.body)]
            return self.new("mtable", *(self.definition(*row) for row in rows))

        def definition(self, name: Any, value: Any) -> Any:
            cell = self.new("mrow", self._print(value))
            if name is not None:
                cell = self.new("mrow", self._print(name), self.new("mo", "="), cell)
            return self.new("mtr", self.new("mtd", cell))

    return Printer({"mul_symbol": "dot", "order": "none"})


_ADD, _MUL, _POW = 40, 50, 60  # SymPy's precedences


def _signed(expr: Any) -> tuple[bool, Any]:
    """Whether ``expr`` begins with a minus, and what follows it."""
    import sympy

    if isinstance(expr, sympy.Number) and expr.is_negative:
        return True, -expr
    if not isinstance(expr, sympy.Mul):
        return False, expr
    first, *rest = expr.args
    if not (isinstance(first, sympy.Number) and first.is_negative):
        return False, expr
    factors = rest if first == -1 else [-first, *rest]
    if len(factors) == 1:
        return True, factors[0]
    return True, sympy.Mul(*factors, evaluate=False)


def _fraction(expr: Any) -> tuple[list[Any], list[Any]]:
    """The factors above and below the line of a product, as they are written."""
    import sympy

    factors = expr.args if isinstance(expr, sympy.Mul) else (expr,)
    above: list[Any] = []
    below: list[Any] = []
    for factor in factors:
        if isinstance(factor, sympy.Pow) and factor.exp == -1:
            below.append(factor.base)
        else:
            above.append(factor)
    return above or [sympy.Integer(1)], below


def _text_printer() -> Any:
    from sympy.printing.str import StrPrinter

    return StrPrinter()
