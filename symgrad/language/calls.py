"""Function calls: known names, the number of arguments, literal keyword values.

What comes out is canonical: aliases are resolved, ``max(a, b)`` is ``maximum``,
``sum(x, 1)`` is ``sum(x, axis=1)``, and keywords that have their default value are left
out, so that equal calls are equal trees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from symgrad.errors import ParseError, Span, UnknownFunctionError
from symgrad.language.names import (
    KEYWORD_ALIASES,
    NOT_CALLED,
    Function,
    lookup,
    nearest,
)
from symgrad.language.syntax import Apply, Expr, Number, Text, to_text


@dataclass(frozen=True, slots=True)
class Keyword:
    """``name=value`` among the arguments of a call; value None is Python's None."""

    name: str
    value: Expr | None
    span: Span


_LETTERS = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron "
    "rho sigma tau upsilon phi chi psi omega".split()
)
"""Words that are names of parameters rather than of functions."""

Argument: TypeAlias = Expr | Keyword


def make_call(
    name: str, arguments: list[Argument], name_span: Span | None, span: Span | None
) -> Expr:
    """The expression for ``name(arguments)``.

    Raises:
        UnknownFunctionError: the language has no such function.
        ParseError: wrong number or kind of arguments.
    """
    function = _find(name, name_span)
    positional, keywords = _split(function, arguments)
    _check_text(function, positional, name_span)
    if function.name in ("min", "max") and len(positional) > 1 and not keywords:
        return _nested(f"{function.name}imum", positional, span)
    if function.axis_at is not None and len(positional) == function.axis_at + 1:
        axis = positional.pop()
        keywords.insert(0, Keyword("axis", axis, axis.span or (0, 0)))
    words = _keywords(function, keywords)
    _check_count(function, positional, name, name_span, span)
    return _canonical(Apply(function.name, tuple(positional), words, span))


def _find(name: str, span: Span | None) -> Function:
    function = lookup(name)
    if function is not None and name not in NOT_CALLED:
        return function
    if name == "shape":
        raise UnknownFunctionError("write x.shape[k] or len(x)", span=span)
    raise UnknownFunctionError(_unknown(name), span=span)


def _unknown(name: str) -> str:
    shown, near = name[:60], nearest(name)
    if near:
        return f"unknown function `{shown}`: did you mean `{near}`?"
    if len(name) <= 2 or name.lower() in _LETTERS or not name.isalpha():
        return f"unknown function `{shown}`; for a product write {shown}*(...)"
    near = nearest(name, cutoff=0.65)
    advice = f"; the nearest function is `{near}`" if near else ""
    return f"unknown function: `{shown}` is not in the language{advice}"


def _split(
    function: Function, arguments: list[Argument]
) -> tuple[list[Expr], list[Keyword]]:
    positional: list[Expr] = []
    keywords: list[Keyword] = []
    for argument in arguments:
        if isinstance(argument, Keyword):
            keywords.append(argument)
        elif keywords:
            raise ParseError(
                f"{function.name}: a positional argument follows a keyword argument",
                span=argument.span,
            )
        else:
            positional.append(argument)
    return positional, keywords


def _check_text(function: Function, positional: list[Expr], span: Span | None) -> None:
    """Strings and tuples are arguments only where a function takes one."""
    if function.name == "einsum" and not (
        positional and isinstance(positional[0], Text)
    ):
        message = 'einsum takes its subscripts first: einsum("ij,jk->ik", A, B)'
        raise ParseError(message, span=span)
    for k, argument in enumerate(positional):
        if isinstance(argument, Text) and not (function.name == "einsum" and k == 0):
            raise ParseError(
                "a string can only be the first argument of einsum", span=argument.span
            )
        if is_tuple(argument) and k != function.axis_at:
            raise ParseError(
                "a tuple can only be the value of axis=", span=argument.span
            )


def _nested(name: str, arguments: list[Expr], span: Span | None) -> Expr:
    result = arguments[0]
    for argument in arguments[1:]:
        result = Apply(name, (result, argument), (), span)
    return result


def _check_count(
    function: Function,
    positional: list[Expr],
    name: str,
    name_span: Span | None,
    span: Span | None,
) -> None:
    given = len(positional)
    if given >= function.least and (function.most is None or given <= function.most):
        return
    excess = function.most is not None and given > function.most
    place = positional[function.most].span if excess and function.most else name_span
    message = f"{name} takes {function.arity()}, {given} given"
    if excess and "axis" in function.keywords:
        message += "; name the axis: axis=..."
    raise ParseError(message, span=place or span)


def _keywords(
    function: Function, keywords: list[Keyword]
) -> tuple[tuple[str, Expr], ...]:
    """Checked keywords in the order of the function's row, without defaults."""
    given: dict[str, Keyword] = {}
    for keyword in keywords:
        word = KEYWORD_ALIASES.get(keyword.name, keyword.name)
        if word not in function.keywords:
            raise ParseError(_no_keyword(function, keyword.name), span=keyword.span)
        if word in given:
            raise ParseError(
                f"{function.name}: {word}= is given twice", span=keyword.span
            )
        given[word] = keyword
    values = [(word, _value(word, given[word])) for word in function.keywords
              if word in given]  # fmt: skip
    return tuple((word, value) for word, value in values if value is not None)


def _no_keyword(function: Function, word: str) -> str:
    message = f"{function.name} has no keyword argument `{word[:40]}`"
    if function.keywords:
        return f"{message}; it has {', '.join(f'{w}=' for w in function.keywords)}"
    return message


def _value(word: str, keyword: Keyword) -> Expr | None:
    """The literal value of a keyword, None where it is the default."""
    value = keyword.value
    if word == "axis":
        return None if value is None else _axis(value, keyword.span)
    if value is None:
        raise ParseError(f"{word}= cannot be None", span=keyword.span)
    number = literal_int(value)
    if number is None or (word == "keepdims" and number not in (0, 1)):
        kind = "True or False" if word == "keepdims" else "an integer literal"
        raise ParseError(f"{word}= takes {kind}", span=value.span or keyword.span)
    if number == 0:
        return None
    return Number(True if word == "keepdims" else number, value.span)


def _axis(value: Expr, span: Span) -> Expr:
    if is_tuple(value):
        assert isinstance(value, Apply)
        inner = [_axis(v, span) for v in value.args if not is_tuple(v)]
        if len(inner) == len(value.args):
            return Apply("tuple", tuple(inner), (), value.span)
    number = literal_int(value)
    if number is None:
        shown = to_text(value, limit=40)
        raise ParseError(
            f"axis must be an integer or a tuple of integers, not {shown}",
            span=value.span or span,
        )
    return Number(number, value.span)


def literal_int(value: Expr) -> int | None:
    """The int that a literal (with or without a sign) is, or None."""
    if isinstance(value, Number) and isinstance(value.value, int):
        return int(value.value)
    if isinstance(value, Apply) and value.function in ("neg", "pos"):
        inner = value.args[0]
        if isinstance(inner, Number) and isinstance(inner.value, int):
            return -inner.value if value.function == "neg" else int(inner.value)
    return None


def is_tuple(value: object) -> bool:
    """Whether ``value`` is a tuple in brackets."""
    return isinstance(value, Apply) and value.function == "tuple"


def _canonical(call: Apply) -> Expr:
    """Functions that are an operator under another name."""
    if call.function == "square":
        return Apply("pow", (call.args[0], Number(2)), (), call.span)
    if call.function == "reciprocal":
        return Apply("div", (Number(1), call.args[0]), (), call.span)
    if call.function == "polygamma" and literal_int(call.args[0]) == 0:
        return Apply("digamma", call.args[1:], (), call.span)
    return call
