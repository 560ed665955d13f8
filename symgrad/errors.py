"""Every exception and warning of symgrad.

Each exception subclasses :class:`SymgradError` and the built-in it refines, so that
``except ValueError`` works as well. A message names the thing, and says what to do. An
error that concerns a place in a formula carries ``text`` and ``span``; it then prints
line, column, the line itself and a caret below it::

    unknown function `tahn`: did you mean `tanh`?
      line 2, column 9:
        mean((tahn(X @ w + b) - y)**2)
              ^~~~
"""

from __future__ import annotations

import sys
import warnings
from typing import TypeAlias, TypeVar

Span: TypeAlias = tuple[int, int]
"""Character offsets in a source text: first, and one past the last."""

_WINDOW = 76
"""Longest piece of a source line that a message shows."""


class SymgradError(Exception):
    """Base of all errors.

    Args:
        message: what is wrong and what to do, without a position.
        text: the source text of the formula, if there is one.
        span: the place in ``text`` that the message is about.
    """

    def __init__(
        self, message: str, *, text: str | None = None, span: Span | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.text = text
        self.span = span

    @property
    def line(self) -> int | None:
        """Line of the error, counted from 1; None without a position."""
        return self._position()[0]

    @property
    def column(self) -> int | None:
        """Column of the error, counted from 1; None without a position."""
        return self._position()[1]

    def _position(self) -> tuple[int, int] | tuple[None, None]:
        if self.text is None or self.span is None:
            return None, None
        return line_and_column(self.text, self.span[0])

    def __str__(self) -> str:
        if self.text is None or self.span is None:
            return self.message
        return f"{self.message}\n{point(self.text, self.span)}"


# --- the formula ---------------------------------------------------------------------


class ParseError(SymgradError, ValueError):
    """The text is not a formula of the language."""


class UnknownFunctionError(ParseError, NameError):
    """A formula calls a function that the language does not have."""


class UnknownNameError(SymgradError, NameError):
    """A formula or a call mentions a name that is not defined, or one is missing."""


class LimitError(SymgradError, ValueError):
    """A formula exceeds a limit of :class:`symgrad.Limits`."""


class SymPyError(SymgradError, ValueError):
    """A SymPy expression holds something that has no meaning as a real formula."""


class ShapeError(SymgradError, ValueError):
    """Shapes do not fit together, or the loss is not a scalar."""


class DTypeError(SymgradError, TypeError):
    """A value has a type that the operation does not take."""


class UnsupportedError(SymgradError, NotImplementedError):
    """The formula is meaningful, but symgrad cannot do this with it (yet)."""


# --- values and options --------------------------------------------------------------


class ArgumentError(SymgradError, TypeError):
    """A function of the public interface is called with wrong arguments."""


class OptionError(SymgradError, ValueError):
    """An option has a value outside its choices."""


class DataError(SymgradError, ValueError):
    """Data cannot be used: NaN or inf, empty, of no numeric type."""


class GatherIndexError(SymgradError, IndexError):
    """An integer index lies outside the axis that it indexes."""


# --- compilation and running ---------------------------------------------------------


class DeviceError(SymgradError, RuntimeError):
    """A device is missing, or refused to run a kernel."""


class SymgradWarning(UserWarning):
    """Base of all warnings."""


class BroadcastWarning(SymgradWarning):
    """Shapes broadcast in a way that is almost always a mistake: (n, 1) with (n,)."""


class DataWarning(SymgradWarning):
    """Data hold NaN or infinity."""


class UnusedParameterWarning(SymgradWarning):
    """A parameter does not occur in the expression: most likely a typo."""


class RewriteWarning(SymgradWarning):
    """Simplification gave up on a formula, which is then computed as it was."""


class CacheWarning(SymgradWarning):
    """The disk cache cannot be used; everything works without it."""


def warn(message: str, category: type[SymgradWarning]) -> None:
    """Warn at the innermost line outside of symgrad that led here."""
    level, frame = 2, sys._getframe(1)
    package = __name__.split(".", maxsplit=1)[0]
    while frame is not None and _is_inside(frame.f_globals, package):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_inside(namespace: dict[str, object], package: str) -> bool:
    """Whether a frame is the package's, or of a ``cached_property`` between two."""
    name = str(namespace.get("__name__", "")).split(".", maxsplit=1)[0]
    return name in (package, "functools")


# --- positions -----------------------------------------------------------------------


AnyError = TypeVar("AnyError", bound=SymgradError)


def placed(error: AnyError, text: str | None, span: Span | None = None) -> AnyError:
    """``error`` with source text (and span) filled in where it has none yet."""
    if error.text is None:
        error.text = text
    if error.span is None:
        error.span = span
    return error


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Line and column of a character, both counted from 1."""
    offset = max(0, min(offset, len(text)))
    line = text.count("\n", 0, offset) + 1
    return line, offset - (text.rfind("\n", 0, offset) + 1) + 1


def point(text: str, span: Span) -> str:
    """Line, column, the source line and a caret under ``span``; long lines are cut."""
    start = max(0, min(span[0], len(text)))
    line, column = line_and_column(text, start)
    first = start - (column - 1)
    last = text.find("\n", start)
    source = text[first:] if last < 0 else text[first:last]
    width = max(1, min(span[1] - start, len(source) - (column - 1)))
    shown, shift = _window(source, column - 1)
    marks = "^" + "~" * (min(width, len(shown) - shift) - 1)
    return f"  line {line}, column {column}:\n    {shown}\n    {' ' * shift}{marks}"


def _window(source: str, column: int) -> tuple[str, int]:
    """The part of a long line around ``column``, and where that column now is."""
    source = "".join(c if c.isprintable() else " " for c in source[: column + _WINDOW])
    if len(source) <= _WINDOW:
        return source, column
    begin = max(0, column - _WINDOW // 2)
    piece = source[begin : begin + _WINDOW]
    return ("…" + piece, column - begin + 1) if begin else (piece, column)
