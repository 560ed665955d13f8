"""What a benchmark ran on, for whoever reads its figures."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "torch", "jax", "scipy", "llvmlite", "numba")


def processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def about() -> dict[str, Any]:
    """The machine, the versions, the day, and how busy the machine was."""
    import symgrad
    from symgrad.codegen.cpu import host
    from symgrad.commands.info import model_name

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {
        "processor": f"{model_name()} ({host().cpu}), {processors()} processors, "
        f"{host().vector_bits} bit vectors",
        "system": platform.platform(),
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "load": round(load, 2),
        "versions": {
            "symgrad": " ".join(filter(None, [symgrad.__version__, revision()])),
            "python": platform.python_version(),
            **versions(),
        },
    }


def versions() -> dict[str, str]:
    """Of the packages that are installed, and of gcc."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    gcc = _output("gcc", "-dumpfullversion")
    return found | ({"gcc": gcc} if gcc else {})


def revision() -> str:
    """The commit that this is a copy of, if it is one."""
    return _output("git", "-C", str(Path(__file__).parent), "rev-parse", "--short=8",
                   "HEAD")  # fmt: skip


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def sentence(found: dict[str, Any]) -> str:
    """``about()`` for people."""
    named = ", ".join(f"{name} {v}" for name, v in found["versions"].items())
    return (
        f"{found['processor']}; {found['system']}; {named}; {found['day']}, "
        f"load {found['load']} before"
    )
