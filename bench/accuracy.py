"""Bits lost by every expression of the accuracy table, without and with stable forms.

    python bench/accuracy.py [--samples 64] [--seed 0] [--only NAME] [--write]

Each expression and its derivatives are evaluated at random values of all magnitudes in
float64 and compared with mpmath in 640 digits. Bits lost are log2 of the error in units
of roundoff relative to the value or to its condition, whichever is larger
(tests/accuracy_measure.py). ``--write`` replaces the table in docs/accuracy.md.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
sys.path.remove(str(ROOT / "bench"))  # files there would shadow modules

from accuracy_expressions import FORMULAS  # noqa: E402
from accuracy_measure import Formula, Measured, measure, worst  # noqa: E402

PAGE = ROOT / "docs" / "accuracy.md"
LIMIT = 4.0
START, END = "<!-- table -->\n", "<!-- end of table -->\n"


def line(formula: Formula, found: Measured) -> str:
    """A row of the table."""
    numbers = [f"{worst(x):.1f}" for x in (*found.value, *found.slopes)]
    text = formula.text.replace("|", "\\|")
    return f"| {formula.name} | `{text}` | " + " | ".join(numbers) + " |"


def summary(found: list[Measured]) -> str:
    """What the table comes to."""
    count = len(found)
    values = sum(worst(m.value[1]) <= LIMIT for m in found)
    slopes = sum(worst(m.slopes[1]) <= LIMIT for m in found)
    both = sum(
        worst(m.value[1]) <= LIMIT and worst(m.slopes[1]) <= LIMIT for m in found
    )
    before = sum(
        worst(m.value[0]) <= LIMIT and worst(m.slopes[0]) <= LIMIT for m in found
    )
    means = [
        np.mean([getattr(m, kind)[k].mean() for m in found])
        for kind in ("value", "slopes")
        for k in (0, 1)
    ]
    gaps = [max(float((a - b).max()) for b, a in (m.value, m.slopes)) for m in found]
    worse = sum(gap > 2.0 for gap in gaps)
    return (
        f"- {count} expressions. At most {LIMIT:.0f} bits lost by every sample of the "
        f"value: {values} ({100 * values / count:.0f} %); of all derivatives: {slopes} "
        f"({100 * slopes / count:.0f} %); of both: {both} "
        f"({100 * both / count:.0f} %), "
        f"before rewriting {before}.\n"
        f"- Mean bits lost: values {means[0]:.2f} before and {means[1]:.2f} after; "
        f"derivatives {means[2]:.2f} and {means[3]:.2f}.\n"
        f"- Expressions of which some sample is more than 2 bits worse: {worse}.\n"
    )


def page(formulas: list[Formula], found: list[Measured]) -> str:
    """The summary and the table, by source."""
    parts = [summary(found)]
    for source in dict.fromkeys(f.source for f in formulas):
        parts.append(
            f"\n### {source}\n\n| | formula | value before | after | derivatives "
            "before | after |\n|---|---|---:|---:|---:|---:|\n"
        )
        for formula, measured in zip(formulas, found, strict=True):
            if formula.source == source:
                parts.append(line(formula, measured) + "\n")
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="the expressions whose name contains this")
    parser.add_argument("--write", action="store_true", help="update docs/accuracy.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen = [f for f in FORMULAS if options.only is None or options.only in f.name]
    found = []
    for formula in chosen:
        found.append(measure(formula, options.samples, options.seed))
        print(line(formula, found[-1]), flush=True)
    print(summary(found))
    if options.write and options.only is None:
        head, _, rest = PAGE.read_text().partition(START)
        _, _, tail = rest.partition(END)
        PAGE.write_text(head + START + page(chosen, found) + END + tail)


if __name__ == "__main__":
    main()
