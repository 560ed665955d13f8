"""The command line of ``bench/compare.py``."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.comparison import machine, picture, report, run
from bench.comparison.contenders import CONTENDERS, restrict
from bench.comparison.losses import STANDARD, Loss
from bench.comparison.measure import Plan
from bench.comparison.more import MORE

ALL = (*STANDARD, *MORE)

STATISTICS = ("median", "low", "cpu")
"""The median, the lowest decile, and the median of the processors' time."""


def options(description: str) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0],
        epilog="losses: " + ", ".join(loss.name for loss in ALL),
    )
    add = parser.add_argument
    add("--only", help="names of losses, with commas between them")
    add("--more", action="store_true", help="the losses that are not on the list")
    add("--dtype", default="float64,float32")
    add("--threads", default=str(machine.processors()), help="1, 2 or 1,2")
    add("--rows", type=int, help="of every loss, instead of its own")
    add("--contenders", default=",".join(CONTENDERS))
    add("--isolated", action="store_true", help="each in a process of its own")
    add("--passive", action="store_true", help="OpenMP's idle threads sleep at once")
    add("--rounds", type=int, default=Plan.rounds, help="turns of each contender")
    add("--turn", type=float, default=Plan.turn, help="seconds of a turn")
    add("--statistic", default="median", choices=STATISTICS, help="what is shown")
    add("--json", metavar="FILE", help="write all numbers (- for the output)")
    add("--png", type=Path, metavar="FILE", help="draw the times")
    return parser.parse_args()


def chosen(given: argparse.Namespace) -> list[Loss]:
    """The losses asked for."""
    known = {loss.name: loss for loss in ALL}
    if given.only:
        names = given.only.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            sys.exit(f"no loss {', '.join(unknown)}: there are {', '.join(known)}")
        losses = [known[name] for name in names]
    else:
        losses = list(MORE if given.more else STANDARD)
    return [loss.with_rows(given.rows) for loss in losses]


def prepare(threads: int, passive: bool) -> None:
    """Settings that libraries read when they are imported."""
    restrict(threads, passive)
    os.environ["SYMGRAD_CACHE"] = "off"  # compile times are those of compiling


def forwarded(given: argparse.Namespace, threads: int) -> list[str]:
    """The options of a run in another process."""
    rest = ["--threads", str(threads), "--rounds", str(given.rounds)]
    rest += ["--turn", str(given.turn), "--statistic", given.statistic]
    if given.rows:
        rest += ["--rows", str(given.rows)]
    return rest + (["--passive"] if given.passive else [])


def measured(given: argparse.Namespace) -> Iterator[run.Record]:
    """The records, as they come. Each number of threads needs a process."""
    counts = [int(count) for count in given.threads.split(",")]
    names = given.contenders.split(",")
    if given.isolated:
        for threads, (loss, dtype) in itertools.product(counts, pairs(given)):
            yield run.isolated(loss, dtype, names, forwarded(given, threads))
    elif len(counts) > 1:
        for threads in counts:
            which = ["--only", ",".join(loss.name for loss in chosen(given))]
            which += ["--dtype", given.dtype, "--contenders", given.contenders]
            yield from run.in_process([*which, *forwarded(given, threads)])
    else:
        prepare(counts[0], given.passive)
        for loss, dtype in pairs(given):
            plan = Plan(given.rounds, given.turn)
            record = run.one(loss, dtype, names, counts[0], plan)
            print(report.line(record, given.statistic), file=sys.stderr, flush=True)
            yield record


def pairs(given: argparse.Namespace) -> list[tuple[Loss, str]]:
    """Losses and types."""
    return list(itertools.product(chosen(given), given.dtype.split(",")))


def main(description: str) -> None:
    """Measure, print, write, draw."""
    given = options(description)
    about = machine.about()
    records = list(measured(given))
    settings = {name: str(value) for name, value in vars(given).items()}
    document = {"machine": about, "settings": settings, "records": records}
    text = json.dumps(document, indent=1, default=str)
    if given.json == "-":
        print(text)
        return
    print(machine.sentence(about) + "\n")
    print(report.tables(records, given.statistic))
    if given.json:
        Path(given.json).write_text(text + "\n", encoding="utf-8")
    if given.png:
        picture.draw(records, given.png, machine.sentence(about), given.statistic)
