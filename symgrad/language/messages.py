"""Syntax errors in words: what was found, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterable

from symgrad.errors import ParseError, Span
from symgrad.language.names import lookup
from symgrad.language.tokens import Token

_WORDS = {
    "INFIX": "an operator",
    "RPAR": "')'",
    "RSQB": "']'",
    "LPAR": "'('",
    "LSQB": "'['",
    "COMMA": "','",
    "COLON": "':'",
    "ASSIGN": "'='",
    "TILDE": "'~'",
    "SEP": "a new line",
    "$END": "the end",
}
_STARTS_EXPRESSION = frozenset(("NAME", "NUMBER", "PREFIX", "LPAR"))
_AFTER_OPERAND = frozenset(("ATTRIBUTE", "SHAPE", "QUOTE", "LSQB"))

_ADVICE = {
    "LPAR": "write * for a product; only functions can be called",
    "TEXT": "a string can only be the first argument of einsum",
    "TILDE": "a model `y ~ a + b*x` is given to `symgrad fit`; a loss has no `~`",
    "LSQB": "lists are not part of the language; pass them as data",
    "COMMA": "tuples can only be the value of axis=",
    "NONE": "None can only be an axis in a subscript: x[:, None]",
}


def syntax_error(
    text: str, tokens: list[Token], position: int, expected: Iterable[str]
) -> ParseError:
    """The error for ``tokens[position]``, which is none of the ``expected`` types.

    A position past the last token is the end of the text.
    """
    token = tokens[position] if position < len(tokens) else None
    before = tokens[position - 1] if position else None
    span = token.span if token else _end(tokens)
    found = "end of the text" if token is None else _shown(text, token)
    advice = _advice(token, before, tokens[:position])
    wanted = _wanted(set(expected))
    message = f"unexpected {found}" + (f", expected {wanted}" if wanted else "")
    return ParseError(message + (f"; {advice}" if advice else ""), span=span)


def _end(tokens: list[Token]) -> Span:
    last = tokens[-1].end_pos if tokens else 0
    return last, last + 1


def _shown(text: str, token: Token) -> str:
    if token.type == "SEP":
        return "end of the line" if token.value == "\n" else "';'"
    if token.type == "TEXT":
        return "string"
    return f"`{text[slice(*token.span)][:40]}`"


def _wanted(expected: set[str]) -> str:
    words = []
    if expected >= {"NAME", "NUMBER"}:
        words.append("an expression")
        expected = expected - _STARTS_EXPRESSION
    elif "INFIX" in expected:
        expected = expected - _AFTER_OPERAND - {"LPAR", "TILDE", "ASSIGN"}
    words += [word for kind, word in _WORDS.items() if kind in expected]
    return " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def _advice(token: Token | None, before: Token | None, earlier: list[Token]) -> str:
    """What to do about the commonest slips; empty where there is nothing to say."""
    if token is None:
        return ""
    kind = token.type
    if kind == "SEP" and before and before.type in ("INFIX", "PREFIX", "ASSIGN"):
        return "to continue on the next line put the whole expression into brackets"
    if kind == "ASSIGN":
        return _advice_assign(before, earlier)
    if kind in _ADVICE:
        return _ADVICE[kind]
    if before and before.type == "QUOTE" and kind in ("NAME", "NUMBER"):
        return "`'` after a value transposes it; strings are only for einsum"
    if kind == "INFIX" and token.value == "|":
        return "write abs(x) for an absolute value"
    return _advice_operand(token, before) if before else ""


def _advice_assign(before: Token | None, earlier: list[Token]) -> str:
    outside = not any(t.type == "LPAR" for t in earlier)
    if before and before.type == "NAME" and not outside:
        return "to compare write =="
    return "to compare write ==; only a single name can be assigned to"


def _advice_operand(token: Token, before: Token) -> str:
    if token.type in ("NAME", "NUMBER") and before.type == "NAME":
        if lookup(str(before.value)) is not None:
            return f"write {before.value}({token.value}) to call the function"
        return "write * for a product"
    if token.type in ("NAME", "NUMBER") and before.type in ("NUMBER", "RPAR", "RSQB"):
        return "write * for a product"
    if token.type == "PREFIX" and token.value == "not":
        return "write `and not`, `or not` or `!=`"
    return ""
