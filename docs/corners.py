"""Writes docs/corners.md: what derivatives are where there is none.

    python docs/corners.py

Everything comes from the rows of the table of operations and from the reductions.
"""

from __future__ import annotations

import math
from pathlib import Path

from symgrad.differentiate.reductions import CORNERS
from symgrad.ops import OPS, Op

PAGE = Path(__file__).with_name("corners.md")

HEAD = """\
# Corners

Where a function has no derivative, symgrad's answer is one documented number:
PyTorch's where that is finite and consistent, otherwise ours with the reason. This page
is written by `python docs/corners.py` from the rows of the table of operations; the
tests run every example of it through the interpreter and through compiled kernels, in
float64 and float32, and compare it with PyTorch.

The branch of `where` that is not taken contributes nothing to a value or to a
derivative of any order, NaN and inf included: `where(x > 0, log(x), 0)` needs no second
`where`. Integers have no derivatives; `//` and `%` of integers are 0 where the divisor
is 0.
"""


def page() -> str:
    """The text of the page."""
    rows = [row for row in OPS.values() if not _smooth(row) and not _flat(row)]
    lines = [HEAD, "## Operations", ""]
    lines += ["| operation | derivative | at | is |", "|---|---|---|---|"]
    for row in rows:
        lines += _lines(row)
    lines += ["", f"The derivative is 0 everywhere: {_names(_flat)}.", ""]
    lines += [f"No corners: {_names(_smooth)}.", "", "## Reductions", ""]
    lines += ["| reduction | derivative | as |", "|---|---|---|"]
    lines += [f"| {name} | {text} | {who} |" for name, text, who in CORNERS]
    return "\n".join([*lines, ""])


def _smooth(row: Op) -> bool:
    return row.corner.startswith("none") and ":" not in row.corner and not row.kinks


def _flat(row: Op) -> bool:
    return row.corner.startswith("0 everywhere")


def _names(chosen: object) -> str:
    assert callable(chosen)
    return ", ".join(f"`{row.name}`" for row in OPS.values() if chosen(row))


def _lines(row: Op) -> list[str]:
    """One line for each example; the text beside the first."""
    text = row.corner.replace("|", r"\|")
    if not row.kinks:
        return [f"| `{row.name}` | {text} | | |"]
    lines = []
    for at, slopes in row.kinks:
        lines.append(f"| `{row.name}` | {text} | {_tuple(at)} | {_tuple(slopes)} |")
        text = ""
    return lines


def _tuple(numbers: tuple[float, ...]) -> str:
    shown = ", ".join(_number(n) for n in numbers)
    return shown if len(numbers) == 1 else f"({shown})"


def _number(number: float) -> str:
    return f"{number:g}" if math.isfinite(number) else str(number)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
