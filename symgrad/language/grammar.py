"""The grammar, and the actions that build the syntax tree while lark reads.

The grammar leaves a run of operators flat: a ``chain`` is operands with infix and
prefix operators between them, which :mod:`precedence` puts in order. One rule for each
level of precedence would cost a dozen reductions for every name. The actions are called
as lark reduces, bottom-up, so that no tree is walked and nothing recurses.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from symgrad.errors import ParseError, Span
from symgrad.language.calls import Argument, Keyword, literal_int, make_call
from symgrad.language.precedence import arrange
from symgrad.language.syntax import (
    Apply,
    Assignment,
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
from symgrad.language.tokens import Token

if TYPE_CHECKING:
    from lark import Lark

GRAMMAR = r"""
program: statement (SEP statement)*
formula: (statement SEP)* chain TILDE chain

statement: NAME ASSIGN chain                        -> assignment
         | chain                                    -> value

chain: PREFIX* operand (INFIX PREFIX* operand)*

operand: NUMBER                                     -> number
       | NAME                                       -> name
       | LPAR chain RPAR                            -> group
       | NAME LPAR [arguments] RPAR                 -> call
       | operand LSQB items RSQB                    -> subscript
       | operand SHAPE LSQB chain RSQB              -> shape
       | operand ATTRIBUTE                          -> transposed
       | operand QUOTE                              -> transposed

arguments: argument (COMMA argument)* COMMA?
?argument: chain
         | TEXT                                     -> text
         | tuple
         | NAME ASSIGN (chain | tuple | NONE)       -> keyword
tuple: LPAR chain COMMA (chain (COMMA chain)* COMMA?)? RPAR

items: item (COMMA item)* COMMA?
?item: chain
     | ELLIPSIS                                     -> ellipsis
     | NONE                                         -> newaxis
     | chain? COLON chain? (COLON chain?)?          -> slice

%declare NUMBER NAME TEXT NONE INFIX PREFIX TILDE ASSIGN SEP COMMA COLON
%declare LPAR RPAR LSQB RSQB ELLIPSIS ATTRIBUTE SHAPE QUOTE
"""


class Actions:
    """One method for each rule; lark passes the values of its parts as a list."""

    def number(self, parts: list[Any]) -> Expr:
        return Number(parts[0].value, parts[0].span)

    def name(self, parts: list[Any]) -> Expr:
        return Name(parts[0].value, parts[0].span)

    def text(self, parts: list[Any]) -> Expr:
        return Text(parts[0].value, parts[0].span)

    def group(self, parts: list[Any]) -> Expr:
        return parts[1]

    def chain(self, parts: list[Any]) -> Expr:
        return parts[0] if len(parts) == 1 else arrange(parts)

    def call(self, parts: list[Any]) -> Expr:
        name, _, arguments, last = parts
        span = (name.start_pos, last.end_pos)
        return make_call(name.value, arguments or [], name.span, span)

    def arguments(self, parts: list[Any]) -> list[Argument]:
        return [part for part in parts if not isinstance(part, Token)]

    def keyword(self, parts: list[Any]) -> Keyword:
        name, _, value = parts
        value = None if isinstance(value, Token) else cast(Expr, value)
        return Keyword(name.value, value, name.span)

    def tuple(self, parts: list[Any]) -> Expr:
        inner = tuple(part for part in parts if not isinstance(part, Token))
        return Apply("tuple", inner, (), _span(parts[0], parts[-1]))

    def subscript(self, parts: list[Any]) -> Expr:
        base, _, items, last = parts
        return Subscript(base, items, _span(base, last))

    def items(self, parts: list[Any]) -> tuple[Item, ...]:
        items = tuple(part for part in parts if not isinstance(part, Token))
        dots = [item for item in items if isinstance(item, Ellipsis_)]
        if len(dots) > 1:
            raise ParseError("`...` may stand once in a subscript", span=dots[1].span)
        return items

    def ellipsis(self, parts: list[Any]) -> Item:
        return Ellipsis_(parts[0].span)

    def newaxis(self, parts: list[Any]) -> Item:
        return NewAxis(parts[0].span)

    def slice(self, parts: list[Any]) -> Item:
        ends: list[Expr | None] = [None, None, None]
        position = 0
        for part in parts:
            if isinstance(part, Token):
                position += 1
            else:
                ends[position] = part
        return Slice(*ends, span=_span(parts[0], parts[-1]))

    def shape(self, parts: list[Any]) -> Expr:
        base, _, _, axis, last = parts
        number = literal_int(axis)
        if number is None:
            raise ParseError(".shape[k] takes an integer literal", span=axis.span)
        return Apply("shape", (base, Number(number, axis.span)), (), _span(base, last))

    def transposed(self, parts: list[Any]) -> Expr:
        return Apply("transpose", (parts[0],), (), _span(parts[0], parts[1]))

    def assignment(self, parts: list[Any]) -> Assignment:
        name, _, value = parts
        return Assignment(name.value, value, _span(name, value))

    def value(self, parts: list[Any]) -> Expr:
        return parts[0]

    def program(self, parts: list[Any]) -> Program:
        statements = [part for part in parts if not isinstance(part, Token)]
        last = statements.pop()
        assignments = _assignments(statements)
        return Program(assignments, last.value if _is_assignment(last) else last)

    def formula(self, parts: list[Any]) -> tuple[Expr, Program]:
        statements = [part for part in parts if not isinstance(part, Token)]
        *statements, response, prediction = statements
        return response, Program(_assignments(statements), prediction)


def _is_assignment(statement: Expr | Assignment) -> bool:
    return isinstance(statement, Assignment)


def _assignments(statements: list[Expr | Assignment]) -> tuple[Assignment, ...]:
    for statement in statements:
        if not isinstance(statement, Assignment):
            raise ParseError(
                "only the last line is the value of the formula; "
                "give this line a name (name = ...) or remove it",
                span=statement.span,
            )
    return tuple(cast(list[Assignment], statements))


def _span(first: Any, last: Any) -> Span | None:
    if first.span is None or last.span is None:
        return None
    return first.span[0], last.span[1]


@lru_cache(maxsize=1)
def parser() -> Lark:
    """The LALR parser; made once, at first use."""
    from lark import Lark
    from lark.lexer import Lexer

    class Tokens(Lexer):
        """Hands lark the tokens that :mod:`tokens` made."""

        def __init__(self, lexer_conf: object) -> None:
            pass

        def lex(self, tokens: Any) -> Iterator[Any]:  # pyright: ignore
            return iter(tokens)

    return Lark(
        GRAMMAR,
        parser="lalr",
        lexer=Tokens,
        start=["program", "formula"],
        transformer=cast(Any, Actions()),
    )
