"""What the user asked: an expression, the names in it, and where their values are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from symgrad.data import Table, read_columns
from symgrad.errors import ParseError, SymgradError, UnknownNameError, placed

CONSTANTS = ("pi", "π", "e", "inf", "nan")
"""Names that have a value of their own unless the user gives them another."""


@dataclass(frozen=True)
class Question:
    """A loss, and the model in it if it is one of least squares.

    Attributes:
        text: as it was written.
        loss: the scalar to minimise.
        response: formula of what is observed, such as ``"co2"``; None without a model.
        model: formula of what is predicted.
    """

    text: str
    loss: str
    response: str | None = None
    model: str | None = None


def read(text: str) -> Question:
    """``text`` as a question; ``response ~ model`` asks for least squares.

    Raises:
        SymgradError: the text is no formula; the error says where.
    """
    from symgrad.language.parser import parse_formula
    from symgrad.language.syntax import Limits
    from symgrad.language.tokens import tokenize

    try:
        tokens = tokenize(text, Limits())
    except SymgradError as error:
        raise placed(error, text) from None
    tilde = next((t for t in tokens if t.type == "TILDE"), None)
    if tilde is None:
        _check_equals(text, tokens)
        return Question(text, text, *_least_squares(text))
    parse_formula(text)
    before = [t for t in tokens if t.start_pos < tilde.start_pos]
    split = max((t.end_pos for t in before if t.type == "SEP"), default=0)
    setting = text[:split]  # the assignments
    response = text[split : before[-1].end_pos].strip()
    model = text[tilde.end_pos : tokens[-1].end_pos].strip()
    loss = f"{setting}mean(({response} - ({model}))**2)"
    return Question(text, loss, setting + response, setting + model)


def _least_squares(text: str) -> tuple[str, str] | tuple[None, None]:
    """Response and model of ``mean((response - model)**2)``; None for another form.

    The response is a name, so that it is clear which of the two was observed.
    """
    from symgrad.language.parser import parse_text
    from symgrad.language.syntax import Name, Program

    program = parse_text(text)
    sides = _squared_difference(program.result)
    assigned = {assignment.name for assignment in program.assignments}
    for response, model in (sides, sides[::-1]) if sides else ():
        if isinstance(response, Name) and response.id not in assigned:
            return response.id, repr(Program(program.assignments, model))
    return None, None


def _check_equals(text: str, tokens: list[Any]) -> None:
    """``y = a*x`` alone is a model with the wrong sign."""
    ends = [t.end_pos for t in tokens if t.type == "SEP"]
    filled = [t for t in tokens if t.type != "SEP"]
    start = max((end for end in ends if filled and end < filled[-1].end_pos), default=0)
    line = [t for t in filled if t.start_pos >= start]
    depth = 0
    for token in line:
        depth += (token.type in ("LPAR", "LSQB")) - (token.type in ("RPAR", "RSQB"))
        if token.type == "ASSIGN" and depth == 0:
            left = text[line[0].start_pos : token.start_pos].strip()
            right = text[token.end_pos : line[-1].end_pos].strip()
            raise ParseError(
                f"`=` names a value; for a model of data write `{left} ~ {right}`",
                text=text,
                span=token.span,
            )


def _squared_difference(loss: Any) -> tuple[Any, Any] | None:
    """The two sides of ``mean((left - right)**2)``, or of its sum."""
    inner = _argument(loss, "mean") or _argument(loss, "sum")
    square = _argument(inner, "square") or _base_of_square(inner)
    if getattr(square, "function", "") != "sub":
        return None
    left, right = square.args
    return left, right


def _argument(expr: Any, function: str) -> Any:
    """What ``function`` is applied to in ``expr``, without keywords; else None."""
    if getattr(expr, "function", None) != function or expr.keywords:
        return None
    return expr.args[0]


def _base_of_square(expr: Any) -> Any:
    if getattr(expr, "function", None) != "pow":
        return None
    base, exponent = expr.args
    return base if getattr(exponent, "value", None) == 2 else None


def names_in(text: str) -> tuple[str, ...]:
    """The names that ``text`` uses and does not itself assign, as they first occur."""
    from symgrad.language.parser import parse_text
    from symgrad.language.syntax import Name, walk

    program = parse_text(text)
    found: dict[str, None] = {}
    assigned: set[str] = set()
    for assignment in program.assignments:
        found.update(_loose(walk(assignment.value), assigned, Name))
        assigned.add(assignment.name)
    found.update(_loose(walk(program.result), assigned, Name))
    return tuple(found)


def _loose(nodes: Iterable[Any], assigned: set[str], kind: type) -> dict[str, None]:
    names = (node.id for node in nodes if isinstance(node, kind))
    return {name: None for name in names if name not in assigned}


def check_parameters(names: Iterable[str], given: Iterable[str], option: str) -> None:
    """Every name given as ``option`` must occur among ``names``."""
    names = tuple(names)
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownNameError(
                f"{option}: the expression does not use {name!r}{hint} "
                f"(it uses {', '.join(names) or 'no names'})"
            )


def data_names(
    names: Iterable[str], given: Mapping[str, Any] | Iterable[str], table: Table | None
) -> tuple[str, ...]:
    """Those ``names`` that must be columns: not ``given``, and not constants.

    Raises:
        UnknownNameError: a name is neither given nor a column.
    """
    columns = () if table is None else table.names
    wanted = []
    for name in names:
        if name in given or (name in CONSTANTS and name not in columns):
            continue
        if name not in columns:
            raise UnknownNameError(_nowhere(name, given, table))
        wanted.append(name)
    return tuple(wanted)


def _nowhere(name: str, given: Iterable[str], table: Table | None) -> str:
    if table is None:
        return f"{name!r} has no value: give one, or --data FILE with that column"
    near = get_close_matches(name, (*table.names, *given), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return (
        f"{name!r} is neither a parameter (start it with --init {name}=0) "
        f"nor a column of {table.path} ({', '.join(table.names)}){hint}"
    )


__all__ = [
    "CONSTANTS",
    "Question",
    "check_parameters",
    "data_names",
    "names_in",
    "read",
    "read_columns",
]
