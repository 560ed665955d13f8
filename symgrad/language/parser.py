"""Text to syntax tree: ``parse_text`` for a formula, ``parse_formula`` for a model.

The grammar is LALR(1) (:mod:`grammar`), read by lark from tokens of our own scanner
(:mod:`tokens`). Text is never evaluated, whatever it says.
"""

from __future__ import annotations

from typing import Any

from symgrad.errors import ArgumentError, ParseError, SymgradError, placed
from symgrad.language.grammar import parser
from symgrad.language.messages import syntax_error
from symgrad.language.syntax import Expr, Limits, Program
from symgrad.language.tokens import tokenize

_DEFAULT = Limits()


def parse_text(text: str, limits: Limits = _DEFAULT) -> Program:
    """The syntax tree of a formula.

    Args:
        text: assignments, one a line or separated by ``;``, then the result. A last
            line ``loss = ...`` has its value as the result.
        limits: largest length, depth and size.

    Raises:
        ParseError: the text is not a formula; with line, column and advice.
        LimitError: the text exceeds ``limits``.
    """
    program: Program = _read(text, limits, "program")
    return Program(program.assignments, program.result, text)


def parse_formula(text: str, limits: Limits = _DEFAULT) -> tuple[Expr, Program]:
    """The response and the prediction of a model: ``y ~ a + b*t``.

    Lines with assignments may stand before; they belong to the program of the
    prediction, and the response may use them too. Raises as :func:`parse_text`.
    """
    response, program = _read(text, limits, "formula")
    return response, Program(program.assignments, program.result, text)


def _read(text: str, limits: Limits, start: str) -> Any:
    if not isinstance(text, str):
        raise ArgumentError(f"a formula is a str, not {type(text).__name__}")
    try:
        return _parse(text, limits, start)
    except SymgradError as error:
        raise placed(error, text, (0, 1)) from None


def _parse(text: str, limits: Limits, start: str) -> Any:
    from lark import UnexpectedToken

    tokens = tokenize(text, limits)
    if not tokens:
        raise ParseError("the text is empty: expected an expression", span=(0, 1))
    try:
        return parser().parse(tokens, start=start)  # pyright: ignore
    except UnexpectedToken as error:
        positions = (k for k, token in enumerate(tokens) if token is error.token)
        failed = next(positions, len(tokens))
        wanted = error.accepts or error.expected
        raise syntax_error(text, tokens, failed, wanted) from None
