"""The figures of a comparison as a table, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

Record = dict[str, Any]

FRAMEWORKS = ("torch", "torch.compile", "jax")
"""With whom the best peer is sought. C has a column of its own: it is not what a user
could take instead."""

LABELS = {
    "symgrad": "symgrad",
    "torch": "PyTorch",
    "torch.compile": "torch.compile",
    "jax": "JAX",
    "C": "C",
}


def seconds(record: Record, name: str, statistic: str = "median") -> float | None:
    """What one contender takes; None if it was not timed."""
    return record["contenders"].get(name, {}).get(statistic)


def ratio(
    record: Record, names: Iterable[str], statistic: str = "median"
) -> float | None:
    """How many times longer the fastest of ``names`` takes than symgrad."""
    ours = seconds(record, "symgrad", statistic)
    theirs = [t for name in names if (t := seconds(record, name, statistic))]
    return min(theirs) / ours if ours and theirs else None


def share(record: Record, statistic: str = "median") -> float | None:
    """Of the roofline, as ``f.explain()`` states it."""
    ours, least = seconds(record, "symgrad", statistic), record.get("roofline_s")
    return least / ours if ours and least and not record["scalar"] else None


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of ratios."""
    return math.exp(sum(map(math.log, values)) / len(values))


def time_text(taken: float | None) -> str:
    """In ms, or µs with the unit."""
    if taken is None:
        return "–"
    if taken < 1e-4:
        return f"{1e6 * taken:.3g} µs"
    return f"{1e3 * taken:.3g}"


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def row(record: Record, names: Sequence[str], statistic: str) -> list[str]:
    """The cells of one loss."""
    found = [time_text(seconds(record, name, statistic)) for name in names]
    part = share(record, statistic)
    return [
        record["title"],
        *found,
        _times(ratio(record, FRAMEWORKS, statistic)),
        _times(ratio(record, ["C"], statistic)),
        "–" if part is None else f"{100 * part:.0f} %",
    ]


def line(record: Record, statistic: str) -> str:
    """One record while others are still measured."""
    parts = [f"{record['loss']} {record['dtype']} x{record['threads']}:"]
    for name, about in record["contenders"].items():
        told = time_text(about.get(statistic)) if statistic in about else "–"
        why = f" ({about['absent']})" if "absent" in about else ""
        parts.append(f"{name} {told}{why}")
    return "  ".join(parts)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def rows_table(rows: Sequence[dict[str, Any]]) -> str:
    """A table of rows with the same names."""
    head = list(rows[0])
    return markdown([head, *([_cell(row[name]) for name in head] for row in rows)])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "–" if value is None else str(value)


def tables(records: Sequence[Record], statistic: str = "median") -> str:
    """One table per type and number of threads, with their geometric means."""
    kinds = dict.fromkeys((r["threads"], r["dtype"]) for r in records)
    return "\n\n".join(
        _table([r for r in records if (r["threads"], r["dtype"]) == kind], statistic)
        for kind in kinds
    )


def _table(records: Sequence[Record], statistic: str) -> str:
    names = [n for n in LABELS if any(seconds(r, n, statistic) for r in records)]
    head = [f"{records[0]['dtype']}, {_threads(records[0]['threads'])}; ms"]
    head += [LABELS[name] for name in names] + ["x best", "x C", "roofline"]
    rows = [head, *(row(record, names, statistic) for record in records)]
    return markdown(rows) + "\n\n" + summary(records, statistic)


def _threads(count: int) -> str:
    return f"{count} thread" + ("" if count == 1 else "s")


def summary(records: Sequence[Record], statistic: str) -> str:
    """Geometric means over the rows with data, and the rows that are lost."""
    parts = []
    with_data = [r for r in records if not r["scalar"]]
    for who, names in (("the best framework", FRAMEWORKS), ("C", ("C",))):
        found = {r["loss"]: ratio(r, names, statistic) for r in with_data}
        known = {loss: value for loss, value in found.items() if value is not None}
        if not known:
            continue
        text = f"Geometric mean over {len(known)} losses with data: {who} takes "
        text += f"{geometric_mean(list(known.values())):.2f} times as long"
        lost = [f"{loss} ({value:.2f})" for loss, value in known.items() if value < 1]
        parts.append(text + (f"; faster than symgrad on {', '.join(lost)}." if lost
                             else "."))  # fmt: skip
    return " ".join(parts)
