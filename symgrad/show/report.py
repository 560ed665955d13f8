"""One self-contained page about a loss: forward, loss, backward, update, kernel."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from symgrad.errors import OptionError
from symgrad.show import cards, mathml
from symgrad.show.descents import Landscape, Run
from symgrad.show.drawing import Drawing, draw
from symgrad.show.trace import Step, Trace, require_loss

if TYPE_CHECKING:
    from symgrad.runtime.function import Loss

_ROWS = 4  # of an array that a step shows
_REWRITES = 40  # that are listed
_TEXT = 160  # characters of one side of a rewrite


@dataclass(frozen=True)
class Report:
    """A page of HTML with all that it needs inside. In a notebook use ``save``."""

    html: str
    drawing: Drawing

    def __repr__(self) -> str:
        title = self.drawing.trace.title
        size = len(self.html) // 1000
        return f"<symgrad Report of {title[:60]!r}: {size} kB; save(path) writes it>"

    def save(self, path: str | Path) -> None:
        """Write the page.

        Raises:
            OptionError: the file cannot be written.
        """
        try:
            Path(path).write_text(self.html, encoding="utf-8")
        except OSError as error:
            raise OptionError(f"cannot write {str(path)!r}: {error}") from error


def report(
    loss: Loss, values: Mapping[str, Any], *, title: str | None = None
) -> Report:
    """The report of a compiled loss at ``values`` of all parameters and data.

    The forward and backward pass are shown at these values; the descents start there.

    Raises:
        ArgumentError, ShapeError, DTypeError: as calling the loss does.
    """
    require_loss(loss)
    loss.value_and_grad(**values)  # compiles; errors in the user's values come first
    drawn = draw(loss, values)
    land = Landscape(loss, values)
    runs = land.runs()
    around = land.map(runs)
    payload = {
        "loss": drawn.trace.loss.name,
        "steps": [_step(s, drawn.trace) for s in drawn.trace.steps],
        "names": land.names,
        "count": int(land.start.size),
        "curves": [asdict(c) for c in land.curves()],
        "runs": [asdict(r) for r in runs],
        "start": _start(runs),
        "map": None if around is None else asdict(around),
    }
    loss.value_and_grad(**values)  # what follows describes this kernel
    name = drawn.trace.loss.name
    text = title or " ; ".join(drawn.trace.title.split("\n"))
    parts = {
        "title": escape(text),
        "source": escape(drawn.trace.title),
        "formula": _loss_formula(loss, name),
        "note": f'<p class="note">{escape(drawn.note)}.</p>' if drawn.note else "",
        "summary": _summary(drawn.trace),
        "graph": drawn.svg,
        "gradients": _gradients(loss, name),
        "rewrites": _rewrites(loss),
        "passes": escape(loss.explain()),
        "kernel": escape(loss.source),
        "css": _template("report.css"),
        "js": _template("report.js"),
        "data": _json(payload),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _template("report.html"))
    return Report(page, drawn)


def _template(name: str) -> str:
    return (files("symgrad.show") / "templates" / name).read_text(encoding="utf-8")


def _json(payload: Any) -> str:
    """JSON that may stand inside a script element; what is not finite is null."""
    return json.dumps(_finite(payload), ensure_ascii=False).replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def _start(runs: list[Run]) -> int:
    """The run that the slider begins with: the lowest final loss of those that settle.

    Without any, the smallest learning rate.
    """
    tame = [k for k, r in enumerate(runs) if r.kind not in ("diverging", "unbounded")]
    return min(tame, key=lambda k: runs[k].losses[-1], default=0)


# --- steps ----------------------------------------------------------------------------


def _step(step: Step, trace: Trace) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": step.name,
        "kind": step.kind,
        "symbol": step.symbol,
        "formula": step.formula,
        "axes": list(step.axes),
        "shape": list(np.shape(step.value)),
        "value": cards.summary(step.value, 6),
        "rows": _sample(step.value),
        "numbers": substituted(step, trace),
        "adjoint": None,
        "terms": [],
    }
    if step.adjoint is not None:
        result["adjoint"] = cards.summary(step.adjoint, 6)
        result["adjointRows"] = _sample(step.adjoint)
        result["terms"] = [
            {
                "from": trace.steps[c.source].name,
                "symbol": trace.steps[c.source].symbol,
                "rule": f"∂{trace.steps[c.source].name}/∂{step.name} = {c.partial}"
                if c.partial is not None
                else "",
                "formula": c.formula,
                "number": None if c.number is None else f"{c.number:.6g}",
            }
            for c in step.contributions
        ]
    return result


def _sample(value: Any) -> list[list[str]]:
    """The first rows and columns, as text; none of a scalar."""
    array = np.asarray(value)
    if array.ndim == 0 or array.size == 0:
        return []
    flat = array.reshape(array.shape[0], -1)[:_ROWS, : _ROWS + 1]
    return [[cards.summary(x, 5) for x in row] for row in flat]


def substituted(step: Step, trace: Trace) -> str:
    """The formula with numbers in place of names; of arrays, their first elements."""
    args = [trace.steps[a] for a in step.args]
    elementwise = all(set(a.axes) <= set(step.axes) for a in args)
    plain = all(len(a.axes) == np.ndim(a.value) for a in args)
    reduced = " over " in step.symbol or step.symbol == "element"
    if step.kind != "operation" or reduced or not elementwise or not plain:
        return ""
    if any(np.size(a.value) == 0 for a in args):
        return ""
    numbers = {a.name: _first(a.value) for a in args}
    names = "|".join(re.escape(n) for n in sorted(numbers, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w.])({names})(?![\w(\[])")
    text = pattern.sub(lambda m: numbers[m[1]], step.formula) if names else ""
    return f"{text} = {_first(step.value, closed=False)}" if text else ""


def _first(value: Any, closed: bool = True) -> str:
    array = np.asarray(value)
    text = cards.summary(array.ravel()[0] if array.ndim else array, 5)
    return f"({text})" if closed and text.startswith("-") else text


def _summary(trace: Trace) -> str:
    """The parameters, as the first picture shows them."""
    rows = [
        f"<tr><th>{escape(s.name)}</th><td>{escape(cards.summary(s.value))}</td>"
        f'<td class="adjoint">{escape(cards.summary(s.adjoint))}</td></tr>'
        for s in trace.steps
        if s.kind == "parameter"
    ]
    return "".join(rows)


# --- formulas -------------------------------------------------------------------------


def _loss_formula(loss: Loss, name: str) -> str:
    """The loss as it was written, in index notation."""
    return mathml.graph_formula(name, loss._latest().built.value.body)


def _gradients(loss: Loss, name: str) -> str:
    """Each gradient before and after simplification."""
    from symgrad.differentiate import gradient
    from symgrad.language.graph_to_sympy import size_names
    from symgrad.runtime.derivatives import gradient_nodes

    found = loss._latest()
    raw = gradient(found.built.value.body, found.parameters)
    final = gradient_nodes(found)[1:]
    sizes = size_names([*raw, *final])
    parts = []
    for parameter, before, after in zip(loss.wrt, raw, final, strict=True):
        first = mathml.graph_formula(name, before, parameter, sizes)
        second = mathml.graph_formula(name, after, parameter, sizes)
        if first == second:
            second = '<p class="note">Nothing to simplify: the same.</p>'
        parts.append(
            f'<div class="pair"><section><h4>before</h4>{first}</section>'
            f"<section><h4>after</h4>{second}</section></div>"
        )
    return "".join(parts)


def _rewrites(loss: Loss) -> str:
    found = loss.rewrites
    rows = [
        f"<tr><td>{escape(rule)}</td><td><code>{_cut(before)}</code></td>"
        f"<td><code>{_cut(after)}</code></td><td>{escape(why)}</td></tr>"
        for rule, before, after, why in (r.row() for r in found[:_REWRITES])
    ]
    if len(found) > _REWRITES:
        rows.append(
            f'<tr><td colspan="4">… and {len(found) - _REWRITES} more</td></tr>'
        )
    return "".join(rows)


def _cut(text: str) -> str:
    return escape(text if len(text) <= _TEXT else text[:_TEXT] + "…")
