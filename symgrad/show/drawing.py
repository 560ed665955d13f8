"""Drawings of the graph of a loss, with value and adjoint at each node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symgrad.errors import OptionError
from symgrad.show.cards import Card, cards
from symgrad.show.svg import render
from symgrad.show.trace import Trace, trace

if TYPE_CHECKING:
    from symgrad.runtime.function import Loss

_SHAPES = {"parameter": "box", "data": "box", "fold": "note", "loss": "doubleoctagon"}


@dataclass(frozen=True)
class Drawing:
    """The graph from the inputs on the left to the loss on the right.

    In a notebook it shows itself; ``svg`` is the picture, ``save`` writes it to a file.
    Long graphs fold repeated blocks.
    """

    trace: Trace
    cards: tuple[Card, ...]

    def __repr__(self) -> str:
        title, steps = self.trace.title[:60], len(self.trace.steps)
        return f"<symgrad Drawing of {title!r}: {steps} steps; save(path) writes it>"

    @property
    def svg(self) -> str:
        """The picture: one <svg> element, without any other file."""
        return render(self.cards, self.trace.title, self.note)

    @property
    def note(self) -> str:
        """What a reader must know about the data shown."""
        if self.trace.rows is None:
            return ""
        shown, count = self.trace.rows
        return f"values for the first {shown} of {count} rows"

    def _repr_svg_(self) -> str:
        return self.svg

    def to_dot(self) -> str:
        """The graph in the language of Graphviz."""
        lines = [
            "digraph loss {",
            "  rankdir=LR;",
            '  node [shape=box, style=rounded, fontname="monospace"];',
        ]
        for k, card in enumerate(self.cards):
            label = r"\l".join(map(_dot_text, _written(card))) + r"\l"
            shape = _SHAPES.get(card.kind)
            kind = f", shape={shape}" if shape else ""
            lines.append(f'  n{k} [label="{label}"{kind}];')
        lines += [
            f"  n{a} -> n{k};" for k, card in enumerate(self.cards) for a in card.args
        ]
        return "\n".join([*lines, "}"]) + "\n"

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart, as Markdown pages draw it."""
        lines = ["flowchart LR"]
        for k, card in enumerate(self.cards):
            label = "<br/>".join(map(_mermaid_text, _written(card)))
            lines.append(f'  n{k}["{label}"]')
        lines += [
            f"  n{a} --> n{k}" for k, card in enumerate(self.cards) for a in card.args
        ]
        return "\n".join(lines) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the picture: ``.svg``, or ``.dot``, ``.mmd`` (Mermaid) as text.

        Raises:
            OptionError: another ending, or the file cannot be written.
        """
        path = Path(path)
        makers = {
            ".svg": lambda: self.svg,
            ".dot": self.to_dot,
            ".gv": self.to_dot,
            ".mmd": self.to_mermaid,
        }
        make = makers.get(path.suffix.lower())
        if make is None:
            raise OptionError(
                f"cannot draw to {str(path)!r}: name a file that ends in one of "
                f"{', '.join(makers)}"
            )
        try:
            path.write_text(make(), encoding="utf-8")
        except OSError as error:
            raise OptionError(f"cannot write {str(path)!r}: {error}") from error


def draw(loss: Loss, values: Mapping[str, Any], limit: int | None = None) -> Drawing:
    """The drawing of a compiled loss; see ``trace.trace`` for what it raises.

    ``limit``: graphs of up to so many steps are not folded.
    """
    return drawing(trace(loss, values), limit)


def drawing(found: Trace, limit: int | None = None) -> Drawing:
    """The drawing of a trace."""
    return Drawing(found, tuple(cards(found, limit)))


def _written(card: Card) -> list[str]:
    head = f"{card.title}  {card.note}" if card.note else card.title
    return [head, *(f"{word} {text}".strip() for word, text in card.rows)]


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _mermaid_text(text: str) -> str:
    for sign, code in (("#", "#35;"), ("&", "#38;"), ('"', "#quot;"), ("<", "#lt;"),
                       (">", "#gt;")):  # fmt: skip
        text = text.replace(sign, code)
    return text
