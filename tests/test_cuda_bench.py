"""The script for a fresh machine with a GPU runs: here, on the simulator."""

import runpy
from pathlib import Path

import pytest
from device_simulator import SimulatedDevice

import symgrad as sg
from symgrad.codegen import cuda_target
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


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_standard_losses(script, dtype):
    """Those that are timed agree with the processor."""
    for name, loss in script["ALL"].items():
        parameters, data = script["arrays"](loss, 70, dtype)
        given, wrt = {**parameters, **data}, list(parameters)
        f = sg.compile(loss.text, wrt=wrt, dtype=dtype, device="cuda")
        wanted = sg.compile(loss.text, wrt=wrt, dtype=dtype).value_and_grad(**given)
        error = script["difference"](f.value_and_grad(**given), wanted)
        assert error < {"float64": 1e-10, "float32": 1e-3}[dtype], name
        kernel = f._main_kernel(f._latest())
        if cuda_target.assembler() is not None:
            used = cuda_target.assemble(kernel.ptx("sm_90"), "sm_90")
            assert all(k.spilled <= 64 for k in used.values()), name


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
