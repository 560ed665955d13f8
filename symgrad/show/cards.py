"""The cards of a drawing: what is written on each, and which card feeds which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symgrad.show import table
from symgrad.show.fold import Group, fold
from symgrad.show.trace import Step, Trace

_TITLE = 34  # characters
_FIRST = 3  # elements of an array that are written out


@dataclass(frozen=True)
class Card:
    """One box of a drawing.

    kind: "parameter", "data", "operation", "loss" or "fold". rows: (word, text).
    note: a small text beside the title, as of a shape. step: the number of its step;
    None for several. args: numbers of cards.
    """

    title: str
    kind: str
    note: str
    rows: tuple[tuple[str, str], ...]
    step: int | None
    args: tuple[int, ...]


def cards(trace: Trace, limit: int | None = None) -> list[Card]:
    """The cards of a trace, arguments first; ``limit``: steps that are drawn whole."""
    steps = trace.steps
    groups = fold(steps) if limit is None else fold(steps, limit)
    place = {k: number for number, g in enumerate(groups) for k in g.steps}
    result = []
    for number, group in enumerate(groups):
        inner = (place[a] for k in group.steps for a in steps[k].args)
        args = tuple(dict.fromkeys(a for a in inner if a != number))
        if group.note:
            result.append(_folded(group, steps, args))
        else:
            result.append(_single(group.steps[0], steps, args))
    return result


def _single(k: int, steps: Sequence[Step], args: tuple[int, ...]) -> Card:
    step = steps[k]
    plain = step.kind != "operation"
    title = step.name if plain else f"{step.name} = {step.formula}"
    if len(title) > _TITLE:
        title = title[: _TITLE - 1].rstrip() + "…"
    rows = [("value", summary(step.value))]
    if step.adjoint is not None:
        rows.append(("adjoint", summary(step.adjoint)))
    last = k == len(steps) - 1
    note = "×".join(map(str, np.shape(step.value)))
    return Card(title, "loss" if last else step.kind, note, tuple(rows), k, args)


def _folded(group: Group, steps: Sequence[Step], args: tuple[int, ...]) -> Card:
    names = [steps[k].name for k in group.steps if steps[k].kind == "operation"]
    names = names or [steps[k].name for k in group.steps]
    span = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
    words = group.note if len(group.note) <= _TITLE else group.note[:_TITLE] + "…"
    rows = (("", words), ("", f"{len(group.steps)} steps folded"))
    return Card(span, "fold", "", rows, None, args)


def summary(array: Any, digits: int = 4, first: int = _FIRST) -> str:
    """A scalar as a number, of an array the first elements."""
    array = np.asarray(array)
    if array.dtype.kind == "f":
        array = array + 0.0  # no -0
    if array.ndim == 0:
        return table.value(array, digits)
    items = [table.value(x, digits) for x in array.ravel()[:first]]
    more = ["…"] if array.size > first else []
    return f"[{', '.join([*items, *more])}]"
