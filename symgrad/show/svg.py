"""Cards with places as an SVG picture, readable in light and in dark."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from html import escape

from symgrad.show.cards import Card
from symgrad.show.layout import Placement, place

SIZE = 12.0  # of the text, in px
LINE = 17.0
PAD = 10.0
MARGIN = 14.0
_WIDE = 0.62  # of a character, in em: no common monospaced font is wider

STYLE = """
.sg-drawing{--sg-paper:#fff;--sg-ink:#1c2430;--sg-soft:#5b6675;--sg-line:#8793a3;
--sg-card:#f6f8fa;--sg-parameter:#2360b8;--sg-data:#6c7783;--sg-operation:#a9b4c0;
--sg-loss:#b3541e;--sg-adjoint:#a8327a;--sg-value:#0b6b50;background:var(--sg-paper)}
@media (prefers-color-scheme:dark){.sg-drawing{--sg-paper:#12161c;--sg-ink:#e8edf3;
--sg-soft:#9fabb9;--sg-line:#6b7888;--sg-card:#1c232c;--sg-parameter:#6ea8ff;
--sg-data:#8d99a6;--sg-operation:#4a5665;--sg-loss:#f0914f;--sg-adjoint:#f08cc8;
--sg-value:#5fd3ae}}
.sg-drawing text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,
"DejaVu Sans Mono",monospace;fill:var(--sg-ink);white-space:pre}
.sg-drawing .sg-title{font-weight:600}.sg-drawing .sg-soft{fill:var(--sg-soft)}
.sg-drawing .sg-value{fill:var(--sg-value)}
.sg-drawing .sg-adjoint{fill:var(--sg-adjoint)}
.sg-drawing rect.sg-box{fill:var(--sg-card);stroke:var(--sg-operation);
stroke-width:1.3}
.sg-drawing .sg-parameter .sg-box{stroke:var(--sg-parameter);stroke-width:2}
.sg-drawing .sg-data .sg-box{stroke:var(--sg-data);stroke-dasharray:4 3}
.sg-drawing .sg-loss .sg-box{stroke:var(--sg-loss);stroke-width:2.4}
.sg-drawing .sg-fold .sg-box{stroke-dasharray:1.5 3;stroke:var(--sg-soft)}
.sg-drawing .sg-edge{fill:none;stroke:var(--sg-line);stroke-width:1.3}
.sg-drawing .sg-tip{fill:var(--sg-line)}
""".replace("\n", "")

LEGEND = (
    ("parameter", "parameter"),
    ("data", "data"),
    ("operation", "operation"),
    ("loss", "loss"),
)


def columns(text: str) -> int:
    """How many columns a monospaced font needs, at most."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide


def measure(text: str) -> float:
    """Width of a text in px, rather too much than too little."""
    return columns(text) * _WIDE * SIZE


def card_size(card: Card) -> tuple[float, float]:
    """Width and height of a card with all that is written on it."""
    title = measure(card.title) + (measure("  " + card.note) if card.note else 0)
    label = max((measure(word + "  ") for word, _ in card.rows if word), default=0.0)
    rows = max((measure(text) for _, text in card.rows), default=0.0) + label
    return max(title, rows, 60.0) + 2 * PAD, LINE * (1 + len(card.rows)) + 1.4 * PAD


def render(cards: Sequence[Card], title: str, note: str = "") -> str:
    """The whole picture."""
    sizes = [card_size(c) for c in cards]
    placed = place(sizes, [c.args for c in cards])
    legend = _legend(note)
    least = max(measure(note) + 2 * MARGIN, _LEGEND_WIDTH + 2 * MARGIN)
    width = max(placed.width + 2 * MARGIN, least)
    drawn = placed.height + 2 * MARGIN
    height = drawn + LINE * (2 if note else 1) + MARGIN
    parts = [
        f'<svg class="sg-drawing" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" aria-label="{_attribute(title)}">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="var(--sg-paper)"/>',
        f'<g transform="translate({(width - placed.width) / 2:.1f} {MARGIN})">',
        *_edges(cards, sizes, placed),
        *(
            _card(c, s, xy)
            for c, s, xy in zip(cards, sizes, placed.centres, strict=True)
        ),
        "</g>",
        f'<g transform="translate({MARGIN} {drawn + LINE * 0.5:.1f})">{legend}</g>',
        "</svg>",
    ]
    return "\n".join(parts)


def _attribute(text: str) -> str:
    return escape(" ; ".join(text.split("\n")), quote=True)


def _card(card: Card, size: tuple[float, float], centre: tuple[float, float]) -> str:
    (w, h), (x, y) = size, centre
    left, top = x - w / 2, y - h / 2
    number = "" if card.step is None else f' data-step="{card.step}"'
    inner = [
        f'<rect class="sg-box" x="{left:.1f}" y="{top:.1f}" width="{w:.1f}" '
        f'height="{h:.1f}" rx="7"/>',
        _text(left + PAD, top + LINE, "sg-title", card.title),
    ]
    if card.note:
        inner.append(_text(left + w - PAD, top + LINE, "sg-soft", card.note, end=True))
    label = max((measure(word + "  ") for word, _ in card.rows if word), default=0.0)
    for k, (word, text) in enumerate(card.rows, start=2):
        line = top + LINE * k
        style = f"sg-{word}" if word else "sg-soft"
        if word:
            inner.append(_text(left + PAD, line, f"sg-soft sg-{word}-word", word))
        inner.append(_text(left + PAD + label, line, style, text))
    return f'<g class="sg-card sg-{card.kind}"{number}>{"".join(inner)}</g>'


def _text(x: float, y: float, style: str, text: str, *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}"{anchor}>{escape(text)}</text>'
    )


def _edges(
    cards: Sequence[Card], sizes: Sequence[tuple[float, float]], placed: Placement
) -> list[str]:
    """Curves from each argument to its users, which they enter below each other."""
    result = []
    for user, card in enumerate(cards):
        (x, y), (w, h) = placed.centres[user], sizes[user]
        ends = {a: [*placed.routes[a, user], (x, y)] for a in card.args}
        order = sorted(card.args, key=lambda a: (_last(ends[a], placed, a), a))
        for k, source in enumerate(order):
            spread = (k + 1) / (len(order) + 1) - 0.5
            port = (x - w / 2 - 6, y + spread * h * 0.7)
            start = placed.centres[source]
            start = (start[0] + sizes[source][0] / 2, start[1])
            points = [start, *placed.routes[source, user], port]
            result.append(_curve(points, source, user))
    return result


def _last(route: list[tuple[float, float]], placed: Placement, source: int) -> float:
    """The height from which an edge arrives."""
    return route[-2][1] if len(route) > 1 else placed.centres[source][1]


def _curve(points: list[tuple[float, float]], source: int, user: int) -> str:
    """A smooth curve, level at each point, with a tip at its end."""
    x, y = points[0]
    path = [f"M{x:.1f} {y:.1f}"]
    for a, b in points[1:]:
        bend = (a - x) / 2
        path.append(f"C{x + bend:.1f} {y:.1f} {a - bend:.1f} {b:.1f} {a:.1f} {b:.1f}")
        x, y = a, b
    tip = f"M{x + 6:.1f} {y:.1f}l-8 -3.6v7.2z"
    return (
        f'<path class="sg-edge" data-from="{source}" data-to="{user}" '
        f'd="{"".join(path)}"/><path class="sg-tip" d="{tip}"/>'
    )


_LEGEND_WIDTH = sum(measure(text) + 46 for _, text in LEGEND) + measure(
    "adjoint = ∂loss/∂value"
)


def _legend(note: str) -> str:
    parts, x = [], 0.0
    for kind, text in LEGEND:
        parts.append(
            f'<g class="sg-{kind}"><rect class="sg-box" x="{x:.1f}" y="-10" width="20" '
            f'height="12" rx="3"/></g>'
        )
        parts.append(_text(x + 26, 0, "sg-soft", text))
        x += measure(text) + 46
    parts.append(_text(x, 0, "sg-adjoint", "adjoint = ∂loss/∂value"))
    if note:
        parts.append(_text(0, LINE, "sg-soft", note))
    return "".join(parts)
