"""The script for a fresh machine with a GPU runs: here, on the simulator."""

import runpy
from pathlib import Path

import pytest
from device_simulator import SimulatedDevice

from symgrad.runtime import cuda_device, cuda_kernel

SCRIPT = Path(__file__).parents[1] / "bench" / "cuda.py"


@pytest.fixture
def script(monkeypatch):
    """Its names. It changes the search path, which is put back."""
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(cuda_kernel, "BLOCK", 32)
    monkeypatch.setattr(cuda_device, "_device", SimulatedDevice(1))
    return runpy.run_path(str(SCRIPT))


def test_parity(script, capsys):
    assert script["parity"](limit=2) == 0
    assert "8 comparisons" in capsys.readouterr().out


def test_parity_finds_differences(script, capsys, monkeypatch):
    case = next(iter(script["cases"]()))
    script["compare_case"].__globals__["difference"] = lambda a, b: 1.0
    assert "differs from the processor" in script["compare_case"](case, "float64")


def test_timing(script, capsys):
    options = script["parsed"](
        "--losses logistic,softmax --dtypes float32 --rows 40 --repeat 1 "
        "--libraries symgrad".split()
    )
    records = script["timing"](options)
    assert [r["loss"] for r in records] == ["logistic", "softmax"]
    assert all(r["device"] > 0 for r in records)
    assert "% of copy" in capsys.readouterr().out
