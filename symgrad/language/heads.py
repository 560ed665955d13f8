"""SymPy classes for what SymPy lacks, or would change while it builds.

Every function of the language that SymPy does not have with the same meaning is a class
here: ``HEADS["softplus"]`` makes ``softplus(x)``. None of them evaluates. They print as
the language writes them and typeset as a textbook does; ``expr.doit()`` turns those with
a definition in SymPy's own functions into it, which is how they are differentiated and
evaluated by SymPy.

This module imports SymPy, and is therefore itself imported late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy
from sympy.core.symbol import Str
from sympy.printing.precedence import PRECEDENCE

from symgrad.language.names import FUNCTIONS
from symgrad.language.syntax import INFIX, PREFIX

# SymPy is not typed: its objects are Any here.

ATOM = PRECEDENCE["Atom"]


class Head(sympy.Expr):
    """Base of all heads. Arguments may be expressions, keywords, strings, slices."""

    is_commutative = True
    language_name = ""

    def __new__(cls, *args: Any) -> Any:
        return sympy.Expr.__new__(cls, *map(sympy.sympify, args))

    def doit(self, **hints: Any) -> Any:
        args = [a.doit(**hints) if hasattr(a, "doit") else a for a in self.args]
        native = NATIVE.get(self.language_name)
        if native is None or any(isinstance(a, Keyword) for a in args):
            return self.func(*args)
        return native(*args)

    def _eval_derivative(self, s: Any) -> Any:
        native = self.doit()
        if isinstance(native, Head):
            return None  # SymPy then keeps the Derivative unevaluated
        return native.diff(s)

    def _eval_evalf(self, prec: int) -> Any:
        native = self.doit()
        return None if isinstance(native, Head) else native._eval_evalf(prec)

    def _sympystr(self, printer: Any) -> str:
        shown = (
            f'"{a}"' if isinstance(a, Str) else printer._print(a) for a in self.args
        )
        return f"{self.language_name}({', '.join(shown)})"

    _sympyrepr = _sympystr

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        return power(_typeset(self, printer), exp)


def power(body: str, exponent: str | None) -> str:
    """``body`` raised to ``exponent``, if SymPy's printer passed one."""
    return body if exponent is None else rf"\left({body}\right)^{{{exponent}}}"


def _call(name: str, printer: Any, args: Any) -> str:
    inner = ", ".join(
        rf"\text{{{a}}}" if isinstance(a, Str) else printer._print(a) for a in args
    )
    return rf"{name}\left({inner}\right)"


# --- parts that are not expressions ---------------------------------------------------


class Keyword(sympy.Basic):
    """``name=value`` among the arguments of a head."""

    def __new__(cls, name: Any, value: Any) -> Any:
        return sympy.Basic.__new__(cls, Str(str(name)), sympy.sympify(value))

    @property
    def name(self) -> str:
        return str(self.args[0])

    def _sympystr(self, printer: Any) -> str:
        return f"{self.name}={printer._print(self.args[1])}"

    def _latex(self, printer: Any) -> str:
        return rf"\mathrm{{{self.name}}}={printer._print(self.args[1])}"


class Part(sympy.Atom):
    """An item of a subscript that is no expression; ``written`` is its text."""

    written = ""
    is_commutative = True

    def _sympystr(self, printer: Any) -> str:
        return self.written

    def _latex(self, printer: Any) -> str:
        return self.written


class Missing(Part):
    """An end of a slice that is not given."""


class NewAxisPart(Part):
    """``None`` in a subscript."""

    written = "None"


class DotsPart(Part):
    """``...`` in a subscript."""

    written = "..."

    def _latex(self, printer: Any) -> str:
        return r"\ldots"


class SlicePart(sympy.Basic):
    """``start:stop:step`` in a subscript; Missing where an end is not given."""

    def _text(self, printer: Any) -> str:
        texts = [printer._print(a) for a in self.args]
        return ":".join(texts if texts[2] else texts[:2])

    def _sympystr(self, printer: Any) -> str:
        return self._text(printer)

    def _latex(self, printer: Any) -> str:
        return self._text(printer)


# --- heads with a shape of their own ---------------------------------------------------


class Group(Head):
    """Brackets: its argument, which SymPy shall not join with what is around it.

    ``a + (-b)`` and ``a - b`` are different formulas that SymPy writes alike.
    """

    precedence = ATOM

    def doit(self, **hints: Any) -> Any:
        return self.args[0].doit(**hints)

    def _sympystr(self, printer: Any) -> str:
        return f"({printer._print(self.args[0])})"

    _sympyrepr = _sympystr

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        body = rf"\left({printer._print(self.args[0])}\right)"
        return body if exp is None else f"{body}^{{{exp}}}"


class NegativeZero(Head):
    """-0.0, which SymPy's numbers lack."""

    precedence = ATOM

    def doit(self, **hints: Any) -> Any:
        return sympy.Float(0.0)

    def _sympystr(self, printer: Any) -> str:
        return "-0.0"

    _sympyrepr = _sympystr

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        return power("-0.0", exp)


class Item(Head):
    """``base[items]`` as the language has it: indices, slices, new axes, gathers."""

    precedence = ATOM

    def _sympystr(self, printer: Any) -> str:
        base, *items = self.args
        inner = ", ".join(printer._print(i) for i in items)
        return f"{printer.parenthesize(base, ATOM, strict=True)}[{inner}]"

    _sympyrepr = _sympystr

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        base, *items = self.args
        inner = ", ".join(printer._print(i) for i in items)
        body = printer._print(base)
        if not isinstance(base, sympy.Symbol):
            body = rf"\left({body}\right)"
        return power(f"{{{body}}}_{{{inner}}}", exp)


class Let(Head):
    """Definitions in order, then the expression that uses them.

    ``Let((h, value), ..., body)``. A definition is seen by all that follow.
    """

    precedence = 0

    @property
    def definitions(self) -> Any:
        return self.args[:-1]

    @property
    def body(self) -> Any:
        return self.args[-1]

    @property
    def free_symbols(self) -> Any:
        free = self.body.free_symbols
        for name, value in reversed(self.definitions):
            free = (free - {name}) | value.free_symbols
        return free

    def doit(self, **hints: Any) -> Any:
        known: dict[Any, Any] = {}
        for name, value in self.definitions:
            known[name] = value.xreplace(known)
        return self.body.xreplace(known).doit(**hints)

    def _sympystr(self, printer: Any) -> str:
        lines = [
            f"{printer._print(name)} = {printer._print(value)}"
            for name, value in self.definitions
        ]
        return "\n".join([*lines, printer._print(self.body)])

    _sympyrepr = _sympystr

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        lines = [
            rf"{printer._print(name)} &= {printer._print(value)}"
            for name, value in self.definitions
        ]
        lines.append(rf"& {printer._print(self.body)}")
        return r"\begin{aligned} " + r" \\ ".join(lines) + r" \end{aligned}"


class Over(Head):
    """A reduction over explicit indices that SymPy lacks: min, max, logsumexp, norm.

    ``Over(Str(kind), body, (i, lower, upper), ...)``, both limits included, as Sum.
    """

    @property
    def kind(self) -> str:
        return str(self.args[0])

    @property
    def body(self) -> Any:
        return self.args[1]

    @property
    def limits(self) -> Any:
        return self.args[2:]

    @property
    def free_symbols(self) -> Any:
        free = set(self.body.free_symbols)
        for index, lower, upper in self.limits:
            free = (free - {index}) | lower.free_symbols | upper.free_symbols
        return free

    def doit(self, **hints: Any) -> Any:
        return self.func(*self.args)

    def _sympystr(self, printer: Any) -> str:
        inner = ", ".join(printer._print(a) for a in self.args[1:])
        return f"{self.kind}({inner})"

    _sympyrepr = _sympystr

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        show = printer._print
        below = r" \\ ".join(
            rf"{show(lower)} \leq {show(index)} \leq {show(upper)}"
            for index, lower, upper in self.limits
        )
        if len(self.limits) > 1:
            below = rf"\substack{{{below}}}"
        name = _OVER.get(self.kind, rf"\operatorname*{{{self.kind}}}")
        return power(rf"{name}_{{{below}}} \left({show(self.body)}\right)", exp)


_OVER = {"min": r"\min", "max": r"\max"}


# --- one class for each function --------------------------------------------------------

_TIGHT = {"lt", "le", "gt", "ge", "eq", "ne"}
_LEVELS = {
    "or": PRECEDENCE["Or"], "and": PRECEDENCE["And"], "not": PRECEDENCE["Not"],
    **dict.fromkeys(_TIGHT, PRECEDENCE["Relational"]), "pow": PRECEDENCE["Pow"],
    "add": PRECEDENCE["Add"], "sub": PRECEDENCE["Add"], "neg": PRECEDENCE["Add"],
    "pos": PRECEDENCE["Add"], "transpose": ATOM,
    **dict.fromkeys(("mul", "div", "matmul", "floor_divide", "mod"), PRECEDENCE["Mul"]),
}  # fmt: skip


class InfixHead(Head):
    """A binary operator that SymPy lacks: ``@``, ``//``, ``%``."""

    def _sympystr(self, printer: Any) -> str:
        level = self.precedence
        left, right = self.args
        first = printer.parenthesize(left, level, strict=True)
        second = printer.parenthesize(right, level, strict=False)
        return f"{first} {INFIX[self.language_name]} {second}"

    _sympyrepr = _sympystr

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        level = self.precedence
        left, right = self.args
        first = printer.parenthesize(left, level, is_neg=False, strict=True)
        second = printer.parenthesize(right, level, is_neg=False, strict=False)
        sign = _LATEX_INFIX.get(self.language_name)
        if sign is None:
            return power(f"{first} {second}", exp)
        body = rf"\left({first} {sign} {second}\right)"
        return body if exp is None else f"{body}^{{{exp}}}"


class PrefixHead(Head):
    """``+x``."""

    def _sympystr(self, printer: Any) -> str:
        inner = printer.parenthesize(self.args[0], self.precedence)
        return f"{PREFIX[self.language_name]}{inner}"

    _sympyrepr = _sympystr

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        return power(f"+{printer.parenthesize(self.args[0], self.precedence)}", exp)


class ConditionHead(InfixHead):
    """Comparisons, and, or, not: numbers 0 or 1, in Iverson's brackets in LaTeX."""

    def _sympystr(self, printer: Any) -> str:
        if len(self.args) == 2:
            return InfixHead._sympystr(self, printer)
        return f"not {printer.parenthesize(self.args[0], self.precedence)}"

    _sympyrepr = _sympystr

    def bare(self, printer: Any) -> str:
        """LaTeX without the outer brackets, for where it stands as a condition."""
        inner = [self._side(printer, a) for a in self.args]
        if len(inner) == 1:
            return rf"\neg {inner[0]}"
        return f" {_LATEX_CONDITION[self.language_name]} ".join(inner)

    def _side(self, printer: Any, side: Any) -> str:
        if not isinstance(side, ConditionHead):
            return printer._print(side)
        body = side.bare(printer)
        looser = side.precedence <= self.precedence and side.func is not self.func
        return rf"\left({body}\right)" if looser else body

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        body = rf"\left[{self.bare(printer)}\right]"
        return body if exp is None else f"{body}^{{{exp}}}"


def _condition(condition: Any, printer: Any) -> str:
    """LaTeX of a condition where a truth value is expected."""
    if isinstance(condition, ConditionHead):
        return condition.bare(printer)
    return printer._print(condition)


class WhereHead(Head):
    """``where(c, a, b)``, typeset by cases."""

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        condition, first, second = self.args
        rows = [(first, rf"\text{{if}}\: {_condition(condition, printer)}")]
        while isinstance(second, WhereHead):
            condition, first, second = second.args
            rows.append((first, rf"\text{{if}}\: {_condition(condition, printer)}"))
        rows.append((second, r"\text{otherwise}"))
        lines = r" \\ ".join(f"{printer._print(v)} & {text}" for v, text in rows)
        return power(rf"\begin{{cases}} {lines} \end{{cases}}", exp)


class ShapeHead(Head):
    """``x.shape[k]``."""

    def _sympystr(self, printer: Any) -> str:
        base = printer.parenthesize(self.args[0], ATOM, strict=True)
        return f"{base}.shape[{printer._print(self.args[1])}]"

    _sympyrepr = _sympystr


class TransposeHead(Head):
    """``A.T``."""

    precedence = ATOM

    def _sympystr(self, printer: Any) -> str:
        return f"{printer.parenthesize(self.args[0], ATOM, strict=True)}.T"

    _sympyrepr = _sympystr

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        inner = printer.parenthesize(self.args[0], PRECEDENCE["Pow"])
        return power(rf"{inner}^{{\top}}", exp)


_LATEX_INFIX = {"mod": r"\bmod", "floor_divide": r"\mathbin{/\!/}"}
_LATEX_CONDITION = {
    "lt": "<", "le": r"\leq", "gt": ">", "ge": r"\geq", "eq": "=", "ne": r"\neq",
    "and": r"\wedge", "or": r"\vee",
}  # fmt: skip

_LATEX_NAMES = {
    "sigmoid": r"\sigma", "minimum": r"\min", "maximum": r"\max", "min": r"\min",
    "max": r"\max", "sum": r"\textstyle\sum", "prod": r"\textstyle\prod",
    "log2": r"\log_{2}", "log10": r"\log_{10}", "trace": r"\operatorname{tr}",
}  # fmt: skip


def _typeset(head: Head, printer: Any) -> str:
    """LaTeX of an ordinary head: a written form if there is one, else a call."""
    name, args = head.language_name, head.args
    form = _FORMS.get(name)
    if form is not None and not any(isinstance(a, Keyword) for a in args):
        return form(*(printer._print(a) for a in args))
    shown = _LATEX_NAMES.get(name)
    if shown is None:
        shown = rf"\operatorname{{{name.replace('_', ' ')}}}"
    below = [a for a in args if isinstance(a, Keyword)]
    if below:
        shown += "_{" + ", ".join(printer._print(a) for a in below) + "}"
    return _call(shown, printer, [a for a in args if not isinstance(a, Keyword)])


_FORMS: dict[str, Callable[..., str]] = {
    "log1p": lambda x: rf"\log\left(1 + {x}\right)",
    "expm1": lambda x: rf"\left(e^{{{x}}} - 1\right)",
    "exp2": lambda x: rf"2^{{{x}}}",
    "cbrt": lambda x: rf"\sqrt[3]{{{x}}}",
    "norm": lambda x: rf"\left\lVert {x} \right\rVert",
    "isnan": lambda x: rf"{x} \text{{ is NaN}}",
}


def _native() -> dict[str, Callable[..., Any]]:
    """Definitions in SymPy's own functions, for ``doit``."""
    exp, log, one = sympy.exp, sympy.log, sympy.Integer(1)
    return {
        "exp2": lambda x: sympy.Integer(2) ** x,
        "expm1": lambda x: exp(x) - 1,
        "log1p": lambda x: log(1 + x),
        "log2": lambda x: log(x) / log(2),
        "log10": lambda x: log(x) / log(10),
        "cbrt": lambda x: sympy.sign(x) * abs(x) ** sympy.Rational(1, 3),
        "sigmoid": lambda x: one / (1 + exp(-x)),
        "softplus": lambda x: log(1 + exp(x)),
        "relu": lambda x: sympy.Max(x, 0),
        "minimum": sympy.Min,
        "maximum": sympy.Max,
        "clip": lambda x, low, high: sympy.Min(sympy.Max(x, low), high),
        "hypot": lambda x, y: sympy.sqrt(x**2 + y**2),
        "logaddexp": lambda x, y: log(exp(x) + exp(y)),
        "where": lambda c, a, b: sympy.Piecewise((a, c), (b, True)),
        "trunc": lambda x: sympy.sign(x) * sympy.floor(abs(x)),
        "mod": lambda x, y: x - y * sympy.floor(x / y),
        "floor_divide": lambda x, y: sympy.floor(x / y),
        "lt": sympy.Lt, "le": sympy.Le, "gt": sympy.Gt, "ge": sympy.Ge,
        "eq": sympy.Eq, "ne": sympy.Ne, "and": sympy.And, "or": sympy.Or,
        "not": sympy.Not, "pos": lambda x: x,
    }  # fmt: skip


NATIVE: dict[str, Callable[..., Any]] = _native()

_SHAPES: dict[str, type[Head]] = {
    **dict.fromkeys(INFIX, InfixHead),
    **dict.fromkeys((*_LATEX_CONDITION, "not"), ConditionHead),
    "pos": PrefixHead,
    "transpose": TransposeHead,
    "where": WhereHead,
    "shape": ShapeHead,
}
_OWN_LEVEL = PRECEDENCE["Func"]


def _make(name: str) -> type[Head]:
    body = {
        "language_name": name,
        "precedence": _LEVELS.get(name, _OWN_LEVEL),
        "__module__": __name__,
        "__doc__": f"``{name}`` of the language.",
    }
    return type(name, (_SHAPES.get(name, Head),), body)


HEADS: dict[str, type[Head]] = {name: _make(name) for name in FUNCTIONS}


def __getattr__(name: str) -> type[Head]:
    """Heads by name, so that they pickle."""
    try:
        return HEADS[name]
    except KeyError:
        raise AttributeError(name) from None


def head(name: str) -> type[Head]:
    """The class for a function of the language, made now if it is a user's own."""
    found = HEADS.get(name)
    if found is None:
        found = HEADS[name] = _make(name)
    return found
