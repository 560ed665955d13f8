"""Runs one loss at one precision: prepares the contenders, compares, times."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.comparison import measure
from bench.comparison.contenders import (
    CONTENDERS,
    Absent,
    Answer,
    Contender,
    symgrad,
    torch,
)
from bench.comparison.losses import Arrays, Loss
from bench.comparison.measure import TOLERANCE, Plan
from symgrad.runtime.roofline import machine

Record = dict[str, Any]


def in_type(arrays: Arrays, dtype: str) -> Arrays:
    """Floating-point arrays in ``dtype``, others as they are."""
    return {
        name: array.astype(dtype) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }


def reference(loss: Loss, parameters: Arrays, data: Arrays, threads: int) -> Answer:
    """In float64 at the same numbers, by PyTorch if it is there."""
    wide = in_type(parameters, "float64"), in_type(data, "float64")
    try:
        oracle = torch(loss, *wide, threads)
    except Absent:
        oracle = symgrad(loss, *wide, threads)
    value, gradients = oracle.result(oracle.call())
    return value, {name: np.array(g) for name, g in gradients.items()}


def one(
    loss: Loss, dtype: str, names: Sequence[str], threads: int, plan: Plan
) -> Record:
    """All contenders on one loss."""
    exact, data64 = loss.arrays()
    parameters, data = in_type(exact, dtype), in_type(data64, dtype)
    expected = reference(loss, parameters, data, threads)
    record: Record = {
        "loss": loss.name, "title": loss.title, "dtype": dtype, "threads": threads,
        "rows": loss.rows, "scalar": loss.scalar, "contenders": {},
    }  # fmt: skip
    ready: dict[str, Contender] = {}
    for name in names:
        about = record["contenders"][name] = {}
        try:
            found = CONTENDERS[name](loss, parameters, data, threads)
        except Absent as reason:
            about["absent"] = str(reason)
            continue
        about |= checked(found, expected, dtype)
        if "absent" not in about:
            ready[name] = found
    if "symgrad" in ready:
        record["roofline_s"] = ready["symgrad"].least()
        record["limits"] = machine(threads).in_words()
    times = measure.in_turns({name: c.call for name, c in ready.items()}, plan)
    for name, taken in times.items():
        record["contenders"][name] |= asdict(taken)
    return record


def checked(found: Contender, expected: Answer, dtype: str) -> Record:
    """How far a contender is from the reference; "absent" if it is too far."""
    error = measure.difference(found.result(found.call()), expected)
    about: Record = {"error": error, "compile_s": found.seconds}
    if error > TOLERANCE[dtype]:
        about["absent"] = f"differs by {error:.1e}"
    return about


def isolated(loss: Loss, dtype: str, names: Sequence[str], rest: list[str]) -> Record:
    """The same, each contender in a process of its own, one after the other."""
    records = [
        in_process(["--only", loss.name, "--dtype", dtype, "--contenders", name, *rest])
        for name in names
    ]
    merged = records[0][0]
    for (record,) in records[1:]:
        merged["contenders"] |= record["contenders"]
        merged = record | merged  # the roofline comes with symgrad's
    return merged


def in_process(arguments: list[str]) -> list[Record]:
    """The records of another run of ``compare.py``."""
    script = Path(__file__).parents[1] / "compare.py"
    command = [sys.executable, str(script), *arguments, "--json", "-"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)["records"]
