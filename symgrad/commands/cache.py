"""``symgrad cache``: the compiled kernels that are kept on disk."""

from __future__ import annotations

import argparse
import time

from symgrad.runtime import cache
from symgrad.show import table

EPILOG = (
    "SYMGRAD_CACHE names the directory, or is 'off'. SYMGRAD_CACHE_SIZE bounds it, "
    "such as 100M."
)


_LISTED = 20
"""Entries that are listed, the newest."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``cache``."""
    parser.add_argument("--clear", action="store_true", help="remove all kernels")


def run(options: argparse.Namespace) -> int:
    """List the entries, the one used last first, or remove them."""
    place = cache.directory()
    if place is None:
        print("the cache is off (SYMGRAD_CACHE=off)")
        return 0
    if options.clear:
        print(f"{place}: removed {_kernels(cache.clear(place))}")
        return 0
    found = cache.entries(place)
    taken = size(sum(entry.size for entry in found))
    limit = size(cache.size_limit())
    print(f"{place}: {_kernels(len(found))}, {taken} of at most {limit}")
    if found:
        rows = [("kernel", "size", "last used"), *map(_row, found[:_LISTED])]
        print(f"\n{table.align(rows)}")
    if found[_LISTED:]:
        print(f"... and {len(found) - _LISTED} older")
    return 0


def _row(entry: cache.Entry) -> tuple[str, str, str]:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    return entry.path.stem[:16], size(entry.size), used


def _kernels(count: int) -> str:
    return f"{count} kernel" if count == 1 else f"{count} kernels"


def size(count: float) -> str:
    """Bytes for people: ``14 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"
