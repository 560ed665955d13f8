"""Make ``co2.csv`` from the weekly record as statsmodels ships it.

The source file is ``statsmodels/datasets/co2/co2.csv`` inside the statsmodels wheel
(``pip download --no-deps statsmodels``, then unzip): two columns, the date as YYYYMMDD
and the concentration in ppm, empty where no week's mean exists.

    python prepare_co2.py path/to/statsmodels/datasets/co2/co2.csv co2.csv
"""

from __future__ import annotations

import csv
import sys
from datetime import date
from pathlib import Path

EPOCH = 1980  # the middle of the record: powers of t stay small and nearly uncorrelated


def decimal_year(day: date) -> float:
    """The year with its elapsed fraction; leap years have 366 parts."""
    start, end = date(day.year, 1, 1), date(day.year + 1, 1, 1)
    return day.year + (day - start).days / (end - start).days


def rows(source: Path) -> list[tuple[str, str, str]]:
    """(year, t, co2) of each week with a value, as they are written to the file."""
    found: list[tuple[str, str, str]] = []
    with source.open(newline="", encoding="utf-8") as file:
        for record in csv.DictReader(file):
            if not record["co2"]:
                continue
            text = record["date"]
            year = decimal_year(date(int(text[:4]), int(text[4:6]), int(text[6:])))
            found.append((f"{year:.4f}", f"{year - EPOCH:.4f}", record["co2"]))
    return found


def main() -> None:
    """Read the first argument, write the second."""
    source, target = map(Path, sys.argv[1:])
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("year", "t", "co2"))
        writer.writerows(rows(source))


if __name__ == "__main__":
    main()
