"""``symgrad cache``: the compiled kernels that are kept on disk."""

from __future__ import annotations

import argparse
import os

from symgrad.errors import UnsupportedError

EPILOG = "SYMGRAD_CACHE names the directory, or is 'off'."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``cache``."""
    parser.add_argument("action", nargs="?", choices=("list", "clear"), default="list")


def run(options: argparse.Namespace) -> int:
    """List the entries, or remove them."""
    if os.environ.get("SYMGRAD_CACHE", "").lower() == "off":
        print("the cache is off (SYMGRAD_CACHE=off)")
        return 0
    raise UnsupportedError("this version keeps no compiled kernels on disk")
