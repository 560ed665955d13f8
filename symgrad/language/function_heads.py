"""One SymPy class for each function of the language, and how operators look.

``HEADS["softplus"]`` makes ``softplus(x)``. Functions that SymPy has with the same
meaning have a head too, which is used where SymPy's own class would evaluate.
"""

from __future__ import annotations

from typing import Any

from sympy.printing.precedence import PRECEDENCE

from symgrad.language.heads import ATOM, Head, power
from symgrad.language.names import FUNCTIONS
from symgrad.language.syntax import INFIX, PREFIX

_TIGHT = {"lt", "le", "gt", "ge", "eq", "ne"}
_LEVELS = {
    "or": PRECEDENCE["Or"], "and": PRECEDENCE["And"], "not": PRECEDENCE["And"] + 1,
    **dict.fromkeys(_TIGHT, PRECEDENCE["Relational"]), "pow": PRECEDENCE["Pow"],
    "add": PRECEDENCE["Add"], "sub": PRECEDENCE["Add"], "neg": PRECEDENCE["Add"],
    "pos": PRECEDENCE["Add"], "transpose": ATOM,
    **dict.fromkeys(("mul", "div", "matmul", "floor_divide", "mod"), PRECEDENCE["Mul"]),
}  # fmt: skip
# SymPy prints the factors of -x*y as those of a sum: `-(x*(y @ z))` needs its brackets
_SHOWN = {
    name: PRECEDENCE["Add"] if level == PRECEDENCE["Mul"] else level
    for name, level in _LEVELS.items()
}


class InfixHead(Head):
    """A binary operator that SymPy lacks: ``@``, ``//``, ``%``."""

    @property
    def level(self) -> int:
        """Its precedence in the language."""
        return _LEVELS[self.language_name]

    def _sympystr(self, printer: Any) -> str:
        left, right = self.args
        first = _bracketed(printer, left, self.level, strict=True)
        second = _bracketed(printer, right, self.level, strict=False)
        return f"{first} {INFIX[self.language_name]} {second}"

    _sympyrepr = _sympystr

    def _latex(self, printer: Any, exp: str | None = None, **_: Any) -> str:
        level = self.level
        left, right = self.args
        first = printer.parenthesize(left, level, is_neg=False, strict=True)
        second = printer.parenthesize(right, level, is_neg=False, strict=False)
        sign = _LATEX_INFIX.get(self.language_name)
        if sign is None:
            return power(f"{first} {second}", exp)
        body = rf"\left({first} {sign} {second}\right)"
        return body if exp is None else f"{body}^{{{exp}}}"


def _bracketed(printer: Any, side: Any, level: int, strict: bool) -> str:
    """The text of one side, in brackets unless it binds tighter than ``level``."""
    if isinstance(side, InfixHead):
        own = side.level
    elif side.is_Pow and side.exp.could_extract_minus_sign():
        own = PRECEDENCE["Mul"]  # SymPy prints 1/x
    else:
        return printer.parenthesize(side, level, strict=strict)
    text = printer._print(side)
    return f"({text})" if own < level or (own == level and not strict) else text


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
        level = PRECEDENCE["Not"] if self.language_name == "not" else self.precedence
        looser = side.precedence <= level and side.func is not self.func
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
        return power(rf"{{{inner}^{{\top}}}}", exp)


_LATEX_INFIX = {"mod": r"\bmod", "floor_divide": r"\mathbin{/\!/}"}
_LATEX_CONDITION = {
    "lt": "<", "le": r"\leq", "gt": ">", "ge": r"\geq", "eq": "=", "ne": r"\neq",
    "and": r"\wedge", "or": r"\vee",
}  # fmt: skip

_SHAPES: dict[str, type[Head]] = {
    **dict.fromkeys(INFIX, InfixHead),
    **dict.fromkeys((*_LATEX_CONDITION, "not"), ConditionHead),
    "pos": PrefixHead,
    "transpose": TransposeHead,
    "where": WhereHead,
    "shape": ShapeHead,
}


def _make(name: str) -> type[Head]:
    body = {
        "language_name": name,
        "precedence": _SHOWN.get(name, Head.precedence),
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
