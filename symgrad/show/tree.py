"""The steps of a loss as a tree of text, with the value and the adjoint of each.

For ``(a*b + c)*f``::

    step               value  adjoint
    L = v2·f           -8      1
    ├─ v2 = v1 + c      4     -2
    │  ├─ v1 = a·b     -6     -2
    │  │  ├─ a          2      6
    │  │  └─ b         -3     -4
    │  └─ c            10     -2
    └─ f               -2      4
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from symgrad.show import table
from symgrad.show.trace import Step, Trace

MAX_LINES = 200
"""A longer tree is cut: it is for reading."""

_NARROWEST = 24  # characters that a label keeps on a narrow terminal

Paint = Callable[[str, str], str]
"""A text and the name of its style, to the text as it is printed."""

_COLOURS = {
    "head": "1", "branch": "2", "operation": "", "parameter": "1;34", "data": "36",
    "loss": "1", "value": "32", "adjoint": "35",
}  # fmt: skip

_ASCII = str.maketrans({
    "├": "|", "└": "`", "│": "|", "─": "-", "·": "*", "Σ": "sum", "∂": "d", "²": "^2",
    "³": "^3", "×": "*", "÷": "/", "−": "-", "≤": "<=", "≥": ">=", "≠": "!=", "π": "pi",
    "…": "...", "µ": "u",
})  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line: ``branch`` is drawn before ``label``; the step that it shows.

    repeated: its parts are shown where the step stands first. step: None for a remark.
    """

    branch: str
    label: str
    step: Step | None
    repeated: bool = False

    @property
    def text(self) -> str:
        """Branch and label."""
        return self.branch + self.label


def lines(trace: Trace) -> list[Line]:
    """The tree below the loss; of a step used twice, later uses refer to the first."""
    steps = trace.steps
    shown: set[int] = set()
    result: list[Line] = []
    stack: list[tuple[int, str, str]] = [(len(steps) - 1, "", "")]
    while stack:
        if len(result) == MAX_LINES:
            result.append(Line("", f"… and {len(steps) - len(shown)} more steps", None))
            break
        number, branch, below = stack.pop()
        step = steps[number]
        repeated = number in shown and bool(step.args)
        shown.add(number)
        label = f"{step.name} (see above)" if repeated else _label(step)
        result.append(Line(branch, label, step, repeated))
        args = () if repeated else step.args
        for place, arg in enumerate(reversed(args)):
            tip, pad = ("└─ ", "   ") if place == 0 else ("├─ ", "│  ")
            stack.append((arg, below + tip, below + pad))
    return result


def _label(step: Step) -> str:
    if step.kind != "operation":
        return step.name
    return f"{step.name} = {step.formula}"


def render(trace: Trace, paint: Paint | None = None, width: int | None = None) -> str:
    """The tree in aligned columns; labels are cut so that it fits into ``width``."""
    paint = paint or (lambda text, _: text)
    rows = lines(trace)
    values = ["value", *(_cell(r, "value") for r in rows)]
    adjoints = ["adjoint", *(_cell(r, "adjoint") for r in rows)]
    widths = [max(map(len, column)) for column in (values, adjoints)]
    label = max(len("step"), *(len(r.text) for r in rows))
    if width is not None:
        label = min(label, max(_NARROWEST, width - sum(widths) - 4))
    head = "  ".join(["step".ljust(label), "value".ljust(widths[0]), "adjoint"])
    result = [paint(head, "head")]
    for k, row in enumerate(rows, start=1):
        text = _cut(row.text, label)
        styled = paint(text[: len(row.branch)], "branch") + paint(
            text[len(row.branch) :].ljust(label - len(row.branch)), _style(row, trace)
        )
        cells = (
            paint(values[k].ljust(widths[0]), "value"), paint(adjoints[k], "adjoint")
        )  # fmt: skip
        result.append("  ".join((styled, *cells)).rstrip())
    if trace.rows is not None:
        result.append(f"values for the first {trace.rows[0]} of {trace.rows[1]} rows")
    return "\n".join(result)


def _cell(row: Line, which: str) -> str:
    if row.step is None or row.repeated:
        return ""
    array = row.step.value if which == "value" else row.step.adjoint
    return "" if array is None else signed(array)


def signed(array: Any) -> str:
    """``table.value`` with room for the sign of scalars, so that digits align."""
    array = np.asarray(array)
    if array.dtype.kind == "f":
        array = array + 0.0  # no -0
    text = table.value(array)
    return text if text.startswith("-") or array.ndim else f" {text}"


def _style(row: Line, trace: Trace) -> str:
    if row.step is None:
        return "branch"
    return "loss" if row.step is trace.loss else row.step.kind


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


# --- terminals ------------------------------------------------------------------------


def coloured(stream: TextIO, environment: Mapping[str, str] | None = None) -> bool:
    """Whether to colour what goes to ``stream``: see no-color.org."""
    found = os.environ if environment is None else environment
    if found.get("NO_COLOR") or found.get("TERM") == "dumb":
        return False
    if found.get("FORCE_COLOR"):
        return True
    return stream.isatty()


def ansi(text: str, style: str) -> str:
    """``text`` in the colour of ``style``, with ANSI escapes."""
    code = _COLOURS.get(style, "")
    return f"\x1b[{code}m{text}\x1b[0m" if code and text.strip() else text


def printable(text: str, stream: TextIO) -> str:
    """``text`` as the encoding of ``stream`` can show it."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
    return text
