"""SymPy expressions, those of the language included, as MathML that browsers typeset.

No fonts and no scripts are needed: MathML Core is part of all current browsers.
"""

from __future__ import annotations

from html import escape
from itertools import islice
from typing import Any

from symgrad.graph import Array, Node, Scatter

LIMIT = 250
"""An expression of more parts is written as text."""
_TEXT = 6000  # characters of it

_SIGNS = {
    "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "eq": "=", "ne": "≠", "and": "∧",
    "or": "∨", "matmul": "@", "mod": "mod", "floor_divide": "//", "mul": "·",
    "div": "/", "add": "+", "sub": "−", "pow": "^",
}  # fmt: skip


def formula(left: str, expression: Any, indices: tuple[Any, ...] = ()) -> str:
    """``left = expression`` as an element of HTML.

    ``left`` is MathML, or empty. A ``Let`` becomes a line for each definition.
    """
    from symgrad.language.heads import Let

    pairs: list[tuple[str, Any]] = []
    body = expression
    if isinstance(expression, Let):
        pairs = [(typeset(name), value) for name, value in expression.definitions]
        body = expression.body
    if left and indices:
        bound = "<mo>,</mo>".join(typeset(i) for i in indices)
        left = f"<msub><mrow>{left}</mrow><mrow>{bound}</mrow></msub>"
    pairs.append((left, body))
    return "".join(f'<div class="formula">{_line(*pair)}</div>' for pair in pairs)


def _line(left: str, body: Any) -> str:
    try:
        if not _is_long(body):
            right = typeset(body)
            equals = f"<mrow>{left}</mrow><mo>=</mo>" if left else ""
            return f'<math display="block">{equals}<mrow>{right}</mrow></math>'
    except RecursionError:
        pass  # deep rather than wide; as text, then
    text = str(body)
    text = text if len(text) <= _TEXT else text[:_TEXT] + " …"
    head = f"<math><mrow>{left}</mrow><mo>=</mo></math> " if left else ""
    return f"{head}<code>{escape(text)}</code>"


def _is_long(expression: Any) -> bool:
    from sympy import preorder_traversal

    parts = islice(preorder_traversal(expression), LIMIT + 1)
    return sum(1 for _ in parts) > LIMIT


def derivative(loss: str, name: str) -> str:
    """MathML of the partial derivative of ``loss`` by ``name``."""
    return (
        f"<mfrac><mrow><mo>∂</mo>{identifier(loss)}</mrow>"
        f"<mrow><mo>∂</mo>{identifier(name)}</mrow></mfrac>"
    )


def identifier(name: str) -> str:
    """A name as it is written; one letter is italic, more are upright."""
    return f"<mi>{escape(name)}</mi>"


def notation(root: Node, sizes: dict[str, str] | None = None) -> tuple[Any, Any]:
    """Expression and axes of a closed scalar or of an element of a tensor."""
    from symgrad.language.graph_to_sympy import graph_to_sympy

    found = graph_to_sympy(root, sizes)
    return found.expression, found.indices if _is_tensor(root) else ()


def _is_tensor(root: Node) -> bool:
    return isinstance(root, (Array, Scatter))


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
    from sympy.printing.mathml import MathMLPresentationPrinter

    from symgrad.language.function_heads import ConditionHead

    class Printer(MathMLPresentationPrinter):
        def new(self, tag: str, *children: Any) -> Any:
            element = self.dom.createElement(tag)
            for child in children:
                if isinstance(child, str):
                    child = self.dom.createTextNode(child)
                element.appendChild(child)
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

        def _print_Function(self, expr: Any) -> Any:
            inner = self.bracketed(*self.listed(expr.args))
            return self.new("mrow", self.new("mi", expr.func.__name__), inner)

        def _print_exp(self, expr: Any) -> Any:
            return self._print_Function(expr)

        _print_log = _print_exp

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


def _text_printer() -> Any:
    from sympy.printing.str import StrPrinter

    return StrPrinter()
