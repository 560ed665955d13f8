"""The benchmarks run, compare values before they time, and the page tells the figures.

Sizes are tiny and no time is asserted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.comparison import (
    c_kernels,
    contenders,
    footprint,
    measure,
    page,
    report,
    run,
)
from bench.comparison.losses import STANDARD
from bench.comparison.more import MORE

ROOT = Path(__file__).parents[1]
QUICK = measure.Plan(rounds=1, turn=0.0, rest=0.0)
LOSSES = {loss.name: loss for loss in (*STANDARD, *MORE)}
WITH_C = [loss for loss in STANDARD if loss.kernel]


def small(loss):
    return loss.with_rows(101)


def record(loss="linear", dtype="float64", threads=2, scalar=False, **taken):
    """A record as ``run.one`` makes it."""
    found = {name: {"median": t, "low": t / 2} for name, t in taken.items() if t}
    absent = {name: {"absent": "why"} for name, t in taken.items() if not t}
    return {
        "loss": loss, "title": f"the {loss} loss", "dtype": dtype, "threads": threads,
        "rows": 10, "scalar": scalar, "roofline_s": 0.5e-3,
        "contenders": {**found, **absent},
    }  # fmt: skip


# --- the losses -----------------------------------------------------------------------


def test_the_lists():
    assert len(STANDARD) == 14
    assert len(LOSSES) == len(STANDARD) + len(MORE)
    for loss in LOSSES.values():
        assert loss.no_kernel or loss.kernel


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_text_and_formula_are_the_same_loss(loss):
    pytest.importorskip("torch")
    parameters, data = small(loss).arrays()
    expected = run.reference(small(loss), parameters, data, 1)
    ours = contenders.symgrad(small(loss), parameters, data, 1)
    found = ours.result(ours.call())
    assert measure.difference(found, expected) < 1e-9
    assert list(found[1]) == list(parameters)


@pytest.mark.parametrize("name", ["logistic", "softmax", "factors", "kmeans", "cox"])
def test_jax_computes_the_same(name):
    pytest.importorskip("jax")
    loss = small(LOSSES[name])
    parameters, data = loss.arrays()
    ours = contenders.symgrad(loss, parameters, data, 1)
    theirs = contenders.jax(loss, parameters, data, 1)
    found = theirs.result(theirs.call())
    assert measure.difference(found, ours.result(ours.call())) < 1e-9


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", WITH_C, ids=[loss.name for loss in WITH_C])
def test_the_c_computes_the_same(loss, dtype, monkeypatch):
    """Over a number of rows that fills neither a tile nor a vector, on two threads."""
    quick = tuple("-O1" if flag == "-O3" else flag for flag in c_kernels.FLAGS)
    monkeypatch.setattr(c_kernels, "FLAGS", quick)
    loss = loss.with_rows(1051)
    exact, given = loss.arrays()
    parameters, data = run.in_type(exact, dtype), run.in_type(given, dtype)
    try:
        c = contenders.c(loss, parameters, data, 2)
    except contenders.Absent as reason:
        pytest.skip(str(reason))
    wide = run.in_type(parameters, "float64"), run.in_type(data, "float64")
    ours = contenders.symgrad(loss, *wide, 1)
    error = measure.difference(c.result(c.call()), ours.result(ours.call()))
    assert error < {"float64": 1e-12, "float32": 1e-4}[dtype]


def test_without_a_compiler_there_is_no_c(monkeypatch):
    monkeypatch.setattr(c_kernels, "compiler", lambda: None)
    loss = small(LOSSES["linear"])
    with pytest.raises(contenders.Absent, match="no gcc"):
        contenders.c(loss, *loss.arrays(), 1)
    with pytest.raises(contenders.Absent, match="not written"):
        contenders.c(small(LOSSES["huber"]), *loss.arrays(), 1)


# --- comparing, then timing -----------------------------------------------------------


def test_who_computes_something_else_is_not_timed(monkeypatch):
    """The check itself is checked: a contender with a wrong gradient."""

    def wrong(loss, parameters, data, threads):
        right = contenders.symgrad(loss, parameters, data, threads)

        def result(found):
            value, gradients = right.result(found)
            return value, {**gradients, "b": gradients["b"] * (1 + 1e-6)}

        return replace(right, result=result)

    monkeypatch.setitem(contenders.CONTENDERS, "jax", wrong)
    found = run.one(small(LOSSES["linear"]), "float64", ["symgrad", "jax"], 1, QUICK)
    assert "median" in found["contenders"]["symgrad"]
    assert "differs" in found["contenders"]["jax"]["absent"]
    assert "median" not in found["contenders"]["jax"]
    assert found["roofline_s"] > 0
    assert "Gflop/s" in found["limits"]


def test_difference():
    right = (2.0, {"a": np.array([1.0, -4.0])})
    assert measure.difference(right, right) == 0.0
    assert measure.difference((2.2, right[1]), right) == pytest.approx(0.1)
    shifted = (2.0, {"a": np.array([1.4, -4.0])})
    assert measure.difference(shifted, right) == pytest.approx(0.1)
    broken = (2.0, {"a": np.array([np.nan, -4.0])})
    assert measure.difference(broken, right) == float("inf")


def test_all_take_their_turns():
    calls = {"a": [], "b": []}
    plan = measure.Plan(rounds=3, turn=0.0, rest=0.0)
    timed = {name: (lambda log=log: log.append(sum(range(100)))) for name, log in
             calls.items()}  # fmt: skip
    found = measure.in_turns(timed, plan)
    assert set(found) == {"a", "b"}
    assert len(calls["a"]) >= found["a"].count >= 9
    assert 0 < found["a"].low <= found["a"].median


# --- the report -----------------------------------------------------------------------


def test_ratios_and_shares():
    found = record(symgrad=1e-3, torch=4e-3, jax=3e-3, C=0.5e-3)
    assert report.ratio(found, report.FRAMEWORKS) == pytest.approx(3.0)
    assert report.ratio(found, ["C"]) == pytest.approx(0.5)
    assert report.ratio(found, ["C"], "low") == pytest.approx(0.5)
    assert report.share(found) == pytest.approx(0.5)
    assert report.share(record(scalar=True, symgrad=1e-3)) is None
    assert report.ratio(record(torch=1.0), report.FRAMEWORKS) is None


def test_tables_say_who_is_faster():
    records = [
        record("linear", symgrad=1e-3, torch=4e-3, C=0.5e-3),
        record("kmeans", symgrad=1e-3, torch=9e-3, C=None),
        record("product", symgrad=1e-6, torch=9e-3, C=None, scalar=True),
    ]
    text = report.tables(records)
    assert "| the linear loss | 1 | 4 | 0.5 | 4.00 | 0.50 | 50 % |" in text
    assert "| the kmeans loss | 1 | 9 | – | 9.00 | – | 50 % |" in text
    assert "over 2 losses with data: the best framework takes 6.00 times" in text
    assert "faster than symgrad on linear (0.50)" in text


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from bench.comparison import picture

    records = [
        record(name, dtype, symgrad=1e-3, torch=4e-3, C=None)
        for name in ("linear", "kmeans") for dtype in ("float64", "float32")
    ]  # fmt: skip
    picture.draw(records, tmp_path / "p.png", "a machine", "median")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


# --- the page -------------------------------------------------------------------------


def test_the_page_tells_what_was_measured():
    text = page.PAGE.read_text(encoding="utf-8")
    found = page.documents()
    assert set(found) == {"compare", "more", "latency", "memory"}
    assert page.rendered(text, found) == text, "run `python bench/page.py`"
    assert all(f"<!-- table {name} -->" in text for name in page.TABLES)


def test_tables_of_the_page_follow_the_files():
    found = page.documents()
    found["memory"]["records"][0]["measured"] = 123_456_000
    text = page.rendered(page.PAGE.read_text(encoding="utf-8"), found)
    assert "123456 (" in text


# --- the commands ---------------------------------------------------------------------


def command(script, *options):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *options],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip


def test_compare(tmp_path):
    options = ["--only", "linear", "--rows", "99", "--contenders", "symgrad,C",
               "--rounds", "1", "--turn", "0", "--dtype", "float64"]  # fmt: skip
    target = tmp_path / "found.json"
    done = command("compare.py", *options, "--threads", "1", "--json", str(target))
    assert "| linear regression 10⁶×10; here 99 rows |" in done.stdout
    document = json.loads(target.read_text(encoding="utf-8"))
    (found,) = document["records"]
    assert found["contenders"]["symgrad"]["median"] > 0
    assert document["machine"]["versions"]["numpy"] == np.__version__


def test_compile():
    done = command("compile.py", "--parts", "sizes", "--sizes", "40", "--repeat", "1")
    assert "| chain | 40 |" in done.stdout


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no /proc")
def test_memory():
    found = footprint.in_process(footprint.TEXTS["logistic regression"], 20_000)
    assert found["data"] == 20_000 * 4 * 8
    assert 0 <= found["measured"] < 20_000_000
    assert 0 < found["stated"] < 1_000_000
