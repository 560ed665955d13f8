"""Writes the tables of docs/performance.md: ``bench/page.py``.

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``, and is made of the
JSON files next to the page. All else on the page is written by people.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.comparison import footprint, machine, picture, report
from bench.comparison.machine import sentence

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"
FOLDER = ROOT / "docs" / "performance"

Documents = dict[str, dict[str, Any]]

_BETWEEN = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


# --- The tables -----------------------------------------------------------------------


def statistic(document: dict[str, Any]) -> str:
    """Which figure of each measurement was asked for."""
    return document["settings"]["statistic"]


def _most_threads(records: list[report.Record]) -> list[report.Record]:
    most = max(r["threads"] for r in records)
    return [r for r in records if r["threads"] == most]


def about(found: Documents) -> str:
    """The machine, its limits, and how times were taken."""
    compare = found["compare"]
    limits = dict.fromkeys(r["limits"] for r in compare["records"] if r.get("limits"))
    lines = [sentence(compare["machine"]), *limits, how(compare["settings"])]
    return "\n".join(f"- {line}" for line in lines)


STATISTICS = {
    "median": "medians",
    "low": "lowest deciles (the machine did other work, too)",
    "cpu": "medians of the processor time of all threads (the machine did other "
    "work, too)",
}


def how(settings: dict[str, str]) -> str:
    """How ``compare.py`` was run."""
    where = "in one process on the same arrays"
    if settings["isolated"] == "True":
        where = "each contender in a process of its own"
    milliseconds = 1000 * float(settings["turn"])
    turns = f"{settings['rounds']} turns of about {milliseconds:.0f} ms"
    sleep = "; idle OpenMP threads sleep at once" * (settings["passive"] == "True")
    return f"times: {STATISTICS[settings['statistic']]} over {turns}, {where}{sleep}"


def standard(found: Documents) -> str:
    """The losses of the list, with all processors."""
    records = _most_threads(found["compare"]["records"])
    return report.tables(records, statistic(found["compare"]))


def more(found: Documents) -> str:
    """The losses that are not on it."""
    return report.tables(found["more"]["records"], statistic(found["more"]))


def threads(found: Documents) -> str:
    """How many times faster with all processors than with one."""
    records, which = found["compare"]["records"], statistic(found["compare"])
    taken = {
        (r["loss"], r["dtype"], r["threads"]): report.seconds(r, "symgrad", which)
        for r in records
    }
    most = max(r["threads"] for r in records)
    if most == 1:
        return "Measured on one thread only, so far."
    titles = {r["loss"]: r["title"] for r in records if not r["scalar"]}
    dtypes = list(dict.fromkeys(r["dtype"] for r in records))
    rows = [["symgrad, ms on one thread (times faster)", *dtypes]]
    for loss, title in titles.items():
        pairs = [(taken.get((loss, d, 1)), taken.get((loss, d, most))) for d in dtypes]
        rows.append([title, *(_speed_up(one, all_) for one, all_ in pairs)])
    return report.markdown(rows)


def _speed_up(one: float | None, several: float | None) -> str:
    if not one or not several:
        return "–"
    return f"{report.time_text(one)} ({one / several:.2f})"


def memory(found: Documents) -> str:
    """Peak memory against rows."""
    return footprint.table(found["memory"]["records"])


def latency(part: str) -> Callable[[Documents], str]:
    """A part of compile.py."""
    return lambda found: report.rows_table(found["latency"][part])


TABLES: dict[str, Callable[[Documents], str]] = {
    "about": about,
    "standard": standard,
    "threads": threads,
    "more": more,
    "start": latency("start"),
    "losses": latency("losses"),
    "sizes": latency("sizes"),
    "memory": memory,
}


def documents(folder: Path = FOLDER) -> Documents:
    """All that was measured, by the name of its file."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def rendered(page: str, found: Documents) -> str:
    """The page with its tables written anew."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{TABLES[match[2]](found)}\n\n{match[3]}"

    return _BETWEEN.sub(table, page)


# --- Measuring ------------------------------------------------------------------------


def commands(given: argparse.Namespace) -> dict[str, list[str]]:
    """The benchmarks with their options, by what they write."""
    how = ["--statistic", given.statistic] + ["--passive"] * given.passive
    most = given.threads.split(",")[-1]
    return {
        "compare": ["compare.py", "--threads", given.threads, *how],
        "more": ["compare.py", "--more", "--threads", most, *how],
        "latency": ["compile.py", "--torch"],
        "memory": ["memory.py"],
    }


def run(given: argparse.Namespace) -> None:
    """Run the benchmarks asked for; each writes its file."""
    for name, arguments in commands(given).items():
        if name in given.run.split(","):
            script, *rest = arguments
            into = ["--json", str(FOLDER / f"{name}.json")]
            command = [sys.executable, str(ROOT / "bench" / script), *rest, *into]
            print(" ".join([script, *rest]), file=sys.stderr, flush=True)
            subprocess.run(command, check=True)


def main(description: str) -> None:
    """Measure if asked to, and write the page."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--run", default="", help="compare, more, latency, memory")
    parser.add_argument("--threads", default=f"1,{machine.processors()}")
    parser.add_argument("--passive", action="store_true", help="see compare.py")
    parser.add_argument("--statistic", default="median", help="see compare.py")
    given = parser.parse_args()
    run(given)
    found = documents()
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(rendered(text, found), encoding="utf-8")
    records = _most_threads(found["compare"]["records"])
    told = sentence(found["compare"]["machine"])
    picture.draw(records, FOLDER / "compare.png", told, statistic(found["compare"]))
