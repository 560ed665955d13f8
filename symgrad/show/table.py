"""Numbers and tables as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_SHOWN = 4  # elements of an array that are written out


def number(value: float, digits: int = 6) -> str:
    """``value`` with ``digits`` significant digits, whole numbers without a point."""
    return f"{float(value):.{digits}g}"


def value(array: Any, digits: int = 6) -> str:
    """A scalar as a number, a short vector in brackets, else shape and extremes."""
    array = np.asarray(array)
    if array.ndim == 0:
        return str(bool(array)) if array.dtype.kind == "b" else number(array, digits)
    if array.ndim == 1 and array.size <= _SHOWN:
        return f"[{', '.join(number(x, digits) for x in array)}]"
    if array.size == 0:
        return f"{array.shape} empty"
    low, high = number(array.min(), digits), number(array.max(), digits)
    return f"{array.shape} {low} … {high}"


def align(rows: Sequence[Sequence[str]], indent: str = "", gap: str = "  ") -> str:
    """Rows of cells under each other, every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        indent + gap.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def indented(text: str, indent: str = "  ") -> str:
    """``text`` with ``indent`` before each line."""
    return "\n".join(indent + line if line else line for line in text.splitlines())
