"""Operators in the order of their precedence: a flat chain becomes a tree.

Python's precedence, with ``^`` as another ``**``: ``-x^2`` is ``-(x^2)``, ``2**-1``
works, ``a < b < c`` is ``a < b and b < c``. Two traps of Python are errors here:
``x > 0 & y < 1``, which means ``x > (0 & y) < 1``, and ``a + not b``.
"""

from __future__ import annotations

from typing import Any

from symgrad.errors import ParseError, Span
from symgrad.language.syntax import Apply, Expr
from symgrad.language.tokens import OPERATORS, SIGNS, Token

_LEVELS = [
    ("or",), ("and",), ("not",), ("lt", "le", "gt", "ge", "eq", "ne"), ("|",), ("&",),
    ("add", "sub"), ("mul", "div", "matmul", "floor_divide", "mod"),
    ("neg", "pos", "~"), ("pow",),
]  # fmt: skip
_LEVEL = {name: level for level, names in enumerate(_LEVELS) for name in names}
_NOT, _COMPARISON, _POWER = _LEVEL["not"], _LEVEL["lt"], _LEVEL["pow"]
_MEANING = {"&": "and", "|": "or", "~": "not"}


def arrange(parts: list[Any]) -> Expr:
    """The tree of a chain: operands (``Expr``) and operators (``Token``) in turn."""
    return _Chain().read(parts)


class _Chain:
    """The two stacks of Dijkstra's shunting yard.

    ``rights`` remembers the right side of each comparison of this chain, which a
    further comparison continues.
    """

    def __init__(self) -> None:
        self.operands: list[Expr] = []
        self.operators: list[tuple[str, int, bool, Token]] = []
        self.rights: dict[Expr, Expr] = {}
        self.seen: dict[str, Token] = {}

    def read(self, parts: list[Any]) -> Expr:
        for part in parts:
            if not isinstance(part, Token):
                self.operands.append(part)
            elif part.type == "PREFIX":
                self.prefix(part)
            else:
                self.infix(part)
        self.reduce(-1)
        self.check_bits()
        return self.operands[0]

    def prefix(self, token: Token) -> None:
        name = SIGNS[str(token.value)]
        level = _LEVEL[name]
        if name == "not" and self.operators and self.operators[-1][1] > _NOT:
            raise ParseError("put `not ...` into brackets here", span=token.span)
        self.operators.append((name, level, True, token))

    def infix(self, token: Token) -> None:
        name = OPERATORS[str(token.value)]
        level = _LEVEL[name]
        self.reduce(level if level == _POWER else level - 1)
        self.operators.append((name, level, False, token))
        if level == _COMPARISON:
            self.seen["comparison"] = token
        elif name in "&|":
            self.seen["bits"] = token

    def reduce(self, level: int) -> None:
        """Apply the operators on the stack that bind tighter than ``level``."""
        while self.operators and self.operators[-1][1] > level:
            name, own, is_prefix, token = self.operators.pop()
            right = self.operands.pop()
            if is_prefix:
                span = _join(token.span, right.span)
                self.operands.append(
                    Apply(_MEANING.get(name, name), (right,), (), span)
                )
            else:
                left = self.operands.pop()
                self.operands.append(self.combine(name, own, left, right))

    def combine(self, name: str, level: int, left: Expr, right: Expr) -> Expr:
        span = _join(left.span, right.span)
        if level != _COMPARISON:
            return Apply(_MEANING.get(name, name), (left, right), (), span)
        middle = self.rights.get(left)
        if middle is None:
            result = Apply(name, (left, right), (), span)
        else:
            link = Apply(name, (middle, right), (), _join(middle.span, right.span))
            result = Apply("and", (left, link), (), span)
        self.rights[result] = right
        return result

    def check_bits(self) -> None:
        if len(self.seen) == 2:
            token = self.seen["bits"]
            word = _MEANING[str(token.value)]
            raise ParseError(
                f"`{token.value}` binds tighter than a comparison: put the comparisons "
                f"into brackets, or write `{word}`",
                span=token.span,
            )


def _join(left: Span | None, right: Span | None) -> Span | None:
    return None if left is None or right is None else (left[0], right[1])
