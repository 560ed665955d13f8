"""Text to tokens, with the limits on length, depth and size checked on the way.

A scanner of our own rather than lark's, because three things depend on what stands
before: ``-`` is a sign or an operator, ``'`` transposes or opens a string, and a line
ends only outside brackets. Brackets are matched here, so that depth is known before
anything is parsed, and an error can name the bracket that was never closed.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NoReturn

from symgrad.errors import LimitError, ParseError, Span, line_and_column
from symgrad.language.syntax import Limits


class Token:
    """A piece of text with its type, a terminal of the grammar."""

    __slots__ = ("end_pos", "start_pos", "type", "value")
    line = column = end_line = end_column = 0  # lark copies them; spans suffice for us

    def __init__(self, kind: str, value: object, start: int, end: int) -> None:
        self.type = kind
        self.value = value
        self.start_pos = start
        self.end_pos = end

    @property
    def span(self) -> Span:
        return self.start_pos, self.end_pos

    def __repr__(self) -> str:
        return f"Token({self.type}, {self.value!r}, {self.start_pos})"


_PATTERN = re.compile(
    r"""
    (?P<NUMBER>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
  | (?P<NAME>[^\W\d][\w\u0300-\u036f]*)  # x\u0304 is x with a bar
  | (?P<SPACE>(?:[ \t\r\f\v\xa0]|\\\r?\n|\#[^\n]*)+)
  | (?P<SEP>[;\n])
  | (?P<ELLIPSIS>\.\.\.)
  | (?P<ATTRIBUTE>\.[ \t]*[^\W\d]\w*)
  | (?P<UPDATE>:=|(?:\*\*|//|[-+*/%@&|^])=(?!=)|&&|\|\||<>|=>|->|<<|>>|\+\+(?!\s*[\w(]))
  | (?P<OPERATOR>\*\*|//|<=|>=|==|!=|[-+*/%@^&|<>~])
  | (?P<LPAR>\()  | (?P<RPAR>\))  | (?P<LSQB>\[)  | (?P<RSQB>\])
  | (?P<COMMA>,)  | (?P<COLON>:)  | (?P<ASSIGN>=)
  | (?P<DOUBLE>"[^"\n]*"?)
  | (?P<QUOTE>')
    """,
    re.VERBOSE,
)

OPERATORS = {
    "+": "add", "-": "sub", "*": "mul", "/": "div", "//": "floor_divide", "%": "mod",
    "@": "matmul", "**": "pow", "^": "pow", "<": "lt", "<=": "le", ">": "gt",
    ">=": "ge", "==": "eq", "!=": "ne", "and": "and", "or": "or", "&": "&", "|": "|",
}  # fmt: skip
"""Canonical names of infix operators; ``&`` and ``|`` bind tighter than and, or."""

SIGNS = {"-": "neg", "+": "pos", "~": "~", "not": "not"}
"""Canonical names of prefix operators; ``~`` binds tighter than not."""

_LITERALS = {"True": True, "False": False}

_RESERVED = {
    "lambda": "lambda expressions are not part of the language; "
    "for a parameter write lambda_ or λ",
    "if": "`if` is not part of the language: write where(condition, a, b)",
    "else": "`else` is not part of the language: write where(condition, a, b)",
    "for": "loops and comprehensions are not part of the language: "
    "use sum, mean, ... over arrays",
    "import": "nothing can be imported: the functions of the language are built in",
    "from": "nothing can be imported: the functions of the language are built in",
    "in": "`in` is not part of the language: compare with == and join with `or`",
    "is": "`is` is not part of the language: compare with ==",
    "def": "functions cannot be defined in a formula: "
    "assign intermediate values to names instead",
    "return": "leave out `return`: the last line of a formula is its value",
}
_KEYWORDS = frozenset(
    "as assert async await break class continue del elif except finally global "
    "nonlocal pass raise try while with yield".split()
)

_UPDATES = {
    ":=": "`:=` is not part of the language: assign on a line of its own, name = value",
    "&&": "write `and` instead of `&&`",
    "||": "write `or` instead of `||`",
    "<>": "write `!=` instead of `<>`",
    "=>": "write `>=` instead of `=>`",
    "->": "`->` is not part of the language",
    "<<": "shifts are not part of the language: multiply by a power of 2",
    ">>": "shifts are not part of the language: divide by a power of 2",
    "++": "`++` is not part of the language",
}

_CHARACTERS = {
    **dict.fromkeys("×·⋅∗∙", "write * to multiply"),
    **dict.fromkeys("÷∕", "write / to divide"),
    **dict.fromkeys("−–—", "write - with the minus sign of the keyboard"),
    **dict.fromkeys("²³¹⁴⁵⁰", "write a power as x**2"),
    **dict.fromkeys("≤≥≠", "write <=, >= or !="),
    **dict.fromkeys("“”‘’`´", "write plain quotation marks, and only around the "
                    "subscripts of einsum"),
    "√": "write sqrt(x)",
    "∑": "write sum(x)",
    "∞": "write inf",
    "!": "write `not` to negate, `!=` to compare, exp(lgamma(n + 1)) for a factorial",
    "?": "write where(condition, a, b)",
    "{": "sets, dicts and braces are not part of the language; group with ( )",
    "}": "sets, dicts and braces are not part of the language; group with ( )",
    ".": "a point belongs to a number (0.5), to `.T`, `.shape[0]` or `...`",
    "\\": "a backslash may only end a line",
}  # fmt: skip

_CLOSERS = {"(": ")", "[": "]"}
_OPENERS = {"RPAR": "(", "RSQB": "["}
_ENDS_OPERAND = frozenset(
    ("NAME", "NUMBER", "RPAR", "RSQB", "QUOTE", "ATTRIBUTE", "TEXT", "NONE", "ELLIPSIS")
)
_NODES = frozenset(("NUMBER", "NAME", "INFIX", "PREFIX", "ATTRIBUTE", "QUOTE", "LSQB"))


def tokenize(text: str, limits: Limits) -> list[Token]:
    """The tokens of ``text``.

    Raises:
        ParseError: a character or word that has no meaning, brackets that do not match.
        LimitError: the text exceeds one of ``limits``.
    """
    if len(text) > limits.max_length:
        raise _limit("max_length", limits.max_length, "characters", limits.max_length)
    return _Scanner(text, limits).scan()


class _Scanner:
    """The state of one scan: position, open brackets, tokens so far."""

    def __init__(self, text: str, limits: Limits) -> None:
        self.text = text
        self.limits = limits
        self.tokens: list[Token] = []
        self.open: list[Token] = []
        self.nodes = 0
        self.after_operand = False

    def scan(self) -> list[Token]:
        position, length, match = 0, len(self.text), _PATTERN.match
        while position < length:
            found = match(self.text, position)
            if found is None or found.lastgroup is None:
                _unknown_character(self.text[position], position)
            kind = found.lastgroup
            end = found.end()
            if kind != "SPACE":
                end = self.add(kind, found.group(), position, end)
            position = end
        self.finish()
        return self.tokens

    def add(self, kind: str, value: str, start: int, end: int) -> int:
        """Take one match; returns where the next one starts."""
        if kind == "SEP":
            self.separate(value, start)
            return end
        special = _SPECIAL.get(kind)
        if special is None:
            token = Token(kind, value, start, end)
        else:
            token = special(self, value, start, end)
        self.append(token)
        return token.end_pos

    def append(self, token: Token) -> None:
        kind = token.type
        self.tokens.append(token)
        self.after_operand = kind in _ENDS_OPERAND
        if kind in _NODES:
            self.nodes += 1
            if self.nodes > self.limits.max_nodes:
                what = "names, numbers and operators"
                raise _limit("max_nodes", self.limits.max_nodes, what, token.start_pos)

    def separate(self, value: str, start: int) -> None:
        """End a statement, unless inside brackets or after an empty line."""
        if self.open and value == "\n":
            return
        if self.tokens and self.tokens[-1].type != "SEP":
            self.append(Token("SEP", value, start, start + 1))

    def finish(self) -> None:
        if self.tokens and self.tokens[-1].type == "SEP":
            self.tokens.pop()
        if self.open:
            token = self.open[-1]
            raise ParseError(f"'{token.value}' is never closed", span=token.span)

    # --- one method for each kind of match that needs thought ---

    def number(self, value: str, start: int, end: int) -> Token:
        following = self.text[end : end + 1]
        if following.isalpha() or following == "_":
            _bad_number(self.text, start, end)
        return Token("NUMBER", read_number(value, (start, end)), start, end)

    def name(self, value: str, start: int, end: int) -> Token:
        span = (start, end)
        if value in ("and", "or"):
            return Token("INFIX", value, start, end)
        if value == "not":
            return Token("PREFIX", "not", start, end)
        if value == "None":
            return Token("NONE", value, start, end)
        if value in _LITERALS:
            return Token("NUMBER", _LITERALS[value], start, end)
        return Token("NAME", read_name(value, span), start, end)

    def operator(self, value: str, start: int, end: int) -> Token:
        if value == "~" and self.after_operand:
            return Token("TILDE", value, start, end)
        if value in SIGNS and not self.after_operand:
            return Token("PREFIX", value, start, end)
        return Token("INFIX", value, start, end)

    def attribute(self, value: str, start: int, end: int) -> Token:
        word = value[1:].strip()
        if word == "T":
            return Token("ATTRIBUTE", "T", start, end)
        if word == "shape":
            return Token("SHAPE", "shape", start, end)
        return _bad_attribute(word, self.tokens, (start, end))

    def quote(self, value: str, start: int, end: int) -> Token:
        if self.after_operand:
            return Token("QUOTE", value, start, end)
        last = self.text.find("'", end)
        line = self.text.find("\n", end)
        if last < 0 or 0 <= line < last:
            raise ParseError(
                "`'` transposes what stands before it (A'), but nothing stands there",
                span=(start, end),
            )
        return Token("TEXT", self.text[end:last], start, last + 1)

    def double(self, value: str, start: int, end: int) -> Token:
        if len(value) < 2 or not value.endswith('"'):
            raise ParseError("the string is never closed", span=(start, end))
        return Token("TEXT", value[1:-1], start, end)

    def opener(self, value: str, start: int, end: int) -> Token:
        token = Token("LPAR" if value == "(" else "LSQB", value, start, end)
        self.open.append(token)
        if len(self.open) > self.limits.max_depth:
            raise _limit("max_depth", self.limits.max_depth, "nested brackets", start)
        return token

    def closer(self, value: str, start: int, end: int) -> Token:
        kind = "RPAR" if value == ")" else "RSQB"
        if not self.open:
            raise ParseError(f"'{value}' closes nothing", span=(start, end))
        opened = self.open.pop()
        if opened.value != _OPENERS[kind]:
            line, column = line_and_column(self.text, opened.start_pos)
            expected = _CLOSERS[str(opened.value)]
            raise ParseError(
                f"expected '{expected}' to close the '{opened.value}' at line {line}, "
                f"column {column}, found '{value}'",
                span=(start, end),
            )
        return Token(kind, value, start, end)

    def update(self, value: str, start: int, end: int) -> Token:
        default = f"write name = name {value[:-1]} ... instead of `{value}`"
        advice = _UPDATES.get(value, default)
        raise ParseError(advice, span=(start, end))


_SPECIAL = {
    "NUMBER": _Scanner.number,
    "NAME": _Scanner.name,
    "OPERATOR": _Scanner.operator,
    "ATTRIBUTE": _Scanner.attribute,
    "QUOTE": _Scanner.quote,
    "DOUBLE": _Scanner.double,
    "LPAR": _Scanner.opener,
    "LSQB": _Scanner.opener,
    "RPAR": _Scanner.closer,
    "RSQB": _Scanner.closer,
    "UPDATE": _Scanner.update,
}


def read_number(text: str, span: Span | None = None) -> int | float:
    """An int where the text is one and fits 64 bits, else a float."""
    if text.isdecimal() and len(text) <= 19:
        value = int(text)
        return value if value < 2**63 else float(value)
    number = float(text)
    if number in (float("inf"), float("-inf")):
        message = "the number is too large: float64 ends at 1.8e308"
        raise LimitError(message, span=span)
    return number


def read_name(text: str, span: Span | None = None) -> str:
    """``text`` as a name, normalised as Python normalises keyword arguments.

    Python turns ``f(µ=1)`` with the micro sign into ``f(μ=1)`` with the Greek letter,
    so that a formula has to do the same to find its data.
    """
    if text in _RESERVED:
        raise ParseError(_RESERVED[text], span=span)
    if text in _KEYWORDS:
        raise ParseError(f"`{text}` is a reserved word of Python", span=span)
    if text.startswith("__"):
        raise ParseError(
            f"`{text[:40]}`: names that begin with two underscores are not allowed",
            span=span,
        )
    if text.isascii():
        return text
    if not text.isidentifier():
        position = next(i for i in range(len(text)) if not text[: i + 1].isidentifier())
        _unknown_character(text[position], (span or (0, 0))[0] + position)
    return unicodedata.normalize("NFKC", text)


def _limit(name: str, value: int, what: str, offset: int) -> LimitError:
    return LimitError(
        f"the formula has more than {value} {what}; "
        f"pass limits=Limits({name}=...) to allow more",
        span=(offset, offset + 1),
    )


def _unknown_character(character: str, position: int) -> NoReturn:
    shown = character if character.isprintable() else repr(character)[1:-1]
    advice = _CHARACTERS.get(character)
    quoted = f"'{shown}'" if shown == "`" else f"`{shown}`"
    message = f"unexpected character {quoted}" + (f": {advice}" if advice else "")
    raise ParseError(message, span=(position, position + 1))


def _bad_number(text: str, start: int, end: int) -> NoReturn:
    """A number runs into a letter: 2x, 1_000, 0x1F, 1j."""
    rest = re.compile(r"\w*").match(text, end)
    word = rest.group() if rest else ""
    digits = text[start:end]
    if word.startswith("_"):
        advice = "write numbers without underscores"
    elif word.lower() == "j":
        advice = "complex numbers are not part of the language"
    elif digits == "0" and word[0] in "xXbBoO":
        advice = "write numbers in decimal"
    else:
        advice = f"write {digits}*{word[:20]} for a product"
    raise ParseError(f"a number runs into `{word[:20]}`: {advice}", span=(start, end))


_MODULES = frozenset("np numpy math jnp torch sp sympy scipy tf np_ cp".split())


def _bad_attribute(word: str, tokens: list[Token], span: Span) -> NoReturn:
    from symgrad.language.names import lookup

    base = tokens[-1] if tokens else None
    message = f"`.{word[:40]}` is not part of the language"
    if base is not None and base.type == "NAME" and base.value in _MODULES:
        message += f": write {word[:40]}(...) without `{base.value}.`"
    elif lookup(word) is not None:
        of = str(base.value)[:40] if base is not None and base.type == "NAME" else "x"
        message += f": there are no methods, write {word}({of})"
    elif word in ("real", "size", "ndim", "dtype"):
        message += ": of an array's attributes only .T and .shape[k] are"
    else:
        message += ": only .T and .shape[k] are; a point cannot be part of a name"
    raise ParseError(message, span=span)
