"""The times of a comparison as bars on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.comparison.report import FRAMEWORKS, LABELS, Record, ratio, seconds

TITLE = "Loss and all gradients, one call. In red: times as fast as the best framework"

COLOURS = {
    "symgrad": "#c1272d",
    "torch": "#e8a33d",
    "torch.compile": "#b07aa1",
    "jax": "#4e79a7",
    "C": "#8c8c8c",
}


def draw(records: Sequence[Record], path: Path, about: str, statistic: str) -> None:
    """Write a picture: one panel per type and number of threads."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys((r["threads"], r["dtype"]) for r in records))
    losses = len({r["loss"] for r in records})
    figure = Figure(figsize=(6.5 * len(kinds) + 2.5, 0.62 * losses + 1.8))
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for panel, (threads, dtype) in zip(panels, kinds, strict=True):
        mine = [r for r in records if (r["threads"], r["dtype"]) == (threads, dtype)]
        _panel(panel, mine, statistic)
        plural = "" if threads == 1 else "s"
        panel.set_title(f"{dtype}, {threads} thread{plural}", fontsize=11)
    panels[0].set_ylim(losses - 0.4, -0.6)
    inches = 0.62 * losses + 1.8
    figure.suptitle(TITLE, fontsize=13)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="upper center", ncols=len(LABELS),
        bbox_to_anchor=(0.5, 1 - 0.34 / inches), fontsize=9, frameon=False,
    )  # fmt: skip
    figure.text(0.01, 0.005, about, fontsize=6.5, color="#555555")
    figure.tight_layout(rect=(0, 0.015, 1, 1 - 0.42 / inches))
    figure.savefig(path, dpi=110)


def _panel(panel: Any, records: Sequence[Record], statistic: str) -> None:
    names = [n for n in LABELS if any(n in r["contenders"] for r in records)]
    height = 0.84 / len(names)
    for k, name in enumerate(names):
        found = [seconds(r, name, statistic) for r in records]
        places = [i + (k - (len(names) - 1) / 2) * height for i in range(len(records))]
        shown = [(p, 1e3 * t) for p, t in zip(places, found, strict=True) if t]
        panel.barh(
            [p for p, _ in shown], [t for _, t in shown], 0.92 * height,
            color=COLOURS[name], label=LABELS[name], zorder=2,
        )  # fmt: skip
    panel.set_xscale("log")
    panel.set_xlabel("ms")
    panel.set_yticks(range(len(records)), [r["title"] for r in records], fontsize=9)
    panel.grid(axis="x", which="major", color="#dddddd", zorder=0)
    for i, record in enumerate(records):
        best = ratio(record, FRAMEWORKS, statistic)
        ours = seconds(record, "symgrad", statistic)
        if best is None or ours is None:
            continue
        first = i - (len(names) - 1) / 2 * height
        text = f" {best:.2g}x" if best < 10 else f" {best:.0f}x"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}
        panel.text(
            1e3 * ours, first, text, va="center", fontsize=7.5, bbox=box,
            color=COLOURS["symgrad"], zorder=3, clip_on=True,
        )  # fmt: skip
