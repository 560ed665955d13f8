"""SymPy classes for what SymPy lacks, or would change while it builds.

None of these heads evaluates. They print as the language writes them and typeset as a
textbook does. ``expr.doit()`` turns those that have a definition in SymPy's own
functions into it, which is how SymPy differentiates and evaluates them. The classes for
the functions of the language are in :mod:`function_heads`.

This module imports SymPy, and is therefore itself imported late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy
from sympy.core.symbol import Str
from sympy.printing.precedence import PRECEDENCE

# SymPy is not typed: its objects are Any here.

ATOM = PRECEDENCE["Atom"]


class Head(sympy.Expr):
    """Base of all heads. Arguments may be expressions, keywords, strings, slices."""

    is_commutative = True
    language_name = ""
    precedence = PRECEDENCE["Func"]

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


def _as_basic(value: Any) -> Any:
    """A SymPy object as it is; a Python number or truth value as SymPy's."""
    if isinstance(value, sympy.Basic):
        return value
    if isinstance(value, bool):
        return sympy.true if value else sympy.false
    if isinstance(value, int):
        return sympy.Integer(value)
    if isinstance(value, float):
        return sympy.Float(value)
    raise TypeError(f"{value!r} is not a value of a keyword argument")


class Keyword(sympy.Basic):
    """``name=value`` among the arguments of a head."""

    def __new__(cls, name: Any, value: Any) -> Any:
        return sympy.Basic.__new__(cls, Str(str(name)), _as_basic(value))

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


# --- heads with a shape of their own --------------------------------------------------


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


def _put_in(definitions: list[tuple[Any, Any]], expr: Any) -> Any:
    """``expr`` with names replaced by their values, the latest definition first."""
    for name, value in reversed(definitions):
        if isinstance(name, sympy.Indexed):
            expr = expr.replace(
                lambda e, base=name.base: getattr(e, "base", None) == base,
                lambda e, n=name, v=value: _at(v, n.indices, e.indices),
            )
        else:
            expr = expr.xreplace({name: value})
    return expr


def _at(value: Any, indices: Any, positions: Any) -> Any:
    return value.subs(list(zip(indices, positions, strict=True)), simultaneous=True)


class Let(Head):
    """Definitions in order, then the expression that uses them.

    ``Let((h, value), ..., body)``; ``h`` is a symbol, or ``h[i, j]`` for a tensor whose
    element is given. A definition is seen by all that follow.
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
        free = set(self.body.free_symbols)
        for name, value in reversed(self.definitions):
            bound = name.free_symbols | {name}
            free = (free - bound) | (value.free_symbols - bound)
        return free

    def doit(self, **hints: Any) -> Any:
        """The body with all definitions put in, which may make it huge."""
        known: list[tuple[Any, Any]] = []
        for name, value in self.definitions:
            known.append((name, _put_in(known, value)))
        return _put_in(known, self.body).doit(**hints)

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

    ``Over(body, Str(kind), (i, lower, upper), ...)``, both limits included, as Sum.
    """

    @property
    def body(self) -> Any:
        return self.args[0]

    @property
    def reduction(self) -> str:
        return str(self.args[1])

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
        inner = ", ".join(printer._print(a) for a in (self.body, *self.limits))
        return f"{self.reduction}({inner})"

    _sympyrepr = _sympystr

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        show = printer._print
        below = r" \\ ".join(
            rf"{show(lower)} \leq {show(index)} \leq {show(upper)}"
            for index, lower, upper in self.limits
        )
        if len(self.limits) > 1:
            below = rf"\substack{{{below}}}"
        name = _OVER.get(self.reduction, rf"\operatorname*{{{self.reduction}}}")
        return power(rf"{name}_{{{below}}} \left({show(self.body)}\right)", exp)


_OVER = {"min": r"\min", "max": r"\max"}


# --- how ordinary heads look, and what they mean in SymPy's own functions -------------

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
    "exp2": lambda x: rf"{{2^{{{x}}}}}",
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
