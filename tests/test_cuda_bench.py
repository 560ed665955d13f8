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


@pytest.mark.skipif(cuda_target.assembler() is None, reason="ptxas is not installed")
@pytest.mark.parametrize(
    ("dtype", "arch"), [("float64", "sm_75"), ("float32", "sm_90")]
)
def test_the_standard_losses_spill_nothing(script, monkeypatch, dtype, arch):
    """As they run on a device, with many rows."""
    monkeypatch.setattr(cuda_kernel, "BLOCK", 256)
    for name, loss in script["ALL"].items():
        parameters, data = script["arrays"](loss, 5000, dtype)
        f = sg.compile(loss.text, wrt=list(parameters), dtype=dtype, device="cuda")
        text = f.specialize(**parameters, **data).ptx_for(arch)
        for kernel, used in cuda_target.assemble(text, arch).items():
            assert used.spilled == 0, (name, kernel)
            assert used.shared <= 48 << 10


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
