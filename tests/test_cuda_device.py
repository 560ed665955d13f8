"""On a real GPU: the tests of the simulator, memory, streams, and the cost of a launch.

Skipped where there is none.
"""

import gc
import os
import time

import numpy as np
import pytest
import test_cuda
import test_kernel_ops
from test_kernel_ops import DTYPES, ROWS
from test_losses import EACH, compiled

import symgrad as sg
from symgrad.errors import DeviceError
from symgrad.runtime import cuda_device
from symgrad.runtime.cuda_arrays import uploaded


def _found():
    try:
        return cuda_device.device()
    except DeviceError:
        return None


DEVICE = _found() if os.environ.get("SYMGRAD_TEST_GPU", "1") != "0" else None

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE is None, reason="there is no CUDA device"),
    pytest.mark.filterwarnings("ignore::symgrad.errors.UnusedParameterWarning"),
]


@EACH
@DTYPES
def test_losses(case, dtype):
    """Agree with the processor; twice the same bits, but for atomic additions."""
    f = sg.compile(case.text, wrt=case.wrt, dtype=dtype, device="cuda")
    relative = 1e-10 if dtype == "float64" else 10 * case.single
    for n in case.sizes():
        values = case.values(n)
        wanted, slopes = compiled(case, dtype).value_and_grad(**values)
        found = [f.value_and_grad(**values) for _ in range(2)]
        for value, gradient in found:
            test_cuda.close(value, wanted, relative, 1e-12)
            for name, slope in slopes.items():
                test_cuda.close(gradient[name], slope, relative, 1e-6 * relative)
        if "atomic" not in test_cuda.ways(f._main_kernel(f._latest())):
            assert found[0][0] == found[1][0]
            for name in slopes:
                np.testing.assert_array_equal(found[0][1][name], found[1][1][name])


class _RealKernel(test_cuda._DeviceKernel):
    """As on the simulator."""

    def context(self, data, lengths):
        device = cuda_device.device()
        placed = {name: uploaded(device, array) for name, array in data.items()}
        context = self.kernel.context(device, lengths, placed)

        def call(_, outs):
            context.start()
            for out, part in zip(outs, context.results()[0], strict=True):
                out[...] = part

        call.shape = context.shape
        return call


@DTYPES
@ROWS
def test_operations(monkeypatch, name, dtype):
    test_kernel_ops._kernel.cache_clear()
    monkeypatch.setattr(test_kernel_ops, "Kernel", _RealKernel)
    try:
        test_kernel_ops.test_samples(name, dtype, True)
        test_kernel_ops.test_edges(name, dtype, True)
        test_kernel_ops.test_special_values(name, dtype, True)
    finally:
        test_kernel_ops._kernel.cache_clear()


def test_large_data_repeat_bit_by_bit():
    values = test_cuda.logistic(2_000_000, 10)
    f = sg.compile(test_cuda.LOGISTIC, wrt=["w", "b"], device="cuda")
    data = {k: values.pop(k) for k in ("X", "y")}
    bound = f.bind(values, **data)
    x = bound.pack(values)
    first = bound.value_and_grad(x)
    for _ in range(20):
        value, gradient = bound.value_and_grad(x)
        assert value == first[0]
        np.testing.assert_array_equal(gradient, first[1])


def test_memory_does_not_grow():
    device, values = cuda_device.device(), test_cuda.logistic(1000)
    f = sg.compile(test_cuda.LOGISTIC, wrt=["w", "b"], device="cuda")
    f.value_and_grad(**values)
    gc.collect()
    free = device.free_memory()
    for _ in range(10_000):
        f.value_and_grad(**values)
    gc.collect()
    assert device.free_memory() >= free - (1 << 22)


def test_launches_cost_little():
    """Ten times the target: a machine under load is no failure."""
    values = test_cuda.logistic(1000)
    f = sg.compile(test_cuda.LOGISTIC, wrt=["w", "b"], device="cuda")
    data = {k: values.pop(k) for k in ("X", "y")}
    context = f.bind(values, **data)._gradient_context
    context.start()
    context.device.synchronise()
    begin = time.perf_counter()
    for _ in range(1000):
        context.launch()
    context.device.synchronise()
    assert (time.perf_counter() - begin) / 1000 < 100e-6


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_tensors_of_pytorch(dtype):
    torch = pytest.importorskip("torch")
    values = test_cuda.logistic(5000)
    tensors = {
        k: torch.as_tensor(np.asarray(v), dtype=getattr(torch, dtype), device="cuda")
        for k, v in values.items()
    }
    tensors["w"].requires_grad_()
    f = sg.compile(test_cuda.LOGISTIC, wrt=["w", "b"], dtype=dtype, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        stream.wait_stream(torch.cuda.default_stream())
        moved = {k: (v * 1.0).detach() for k, v in tensors.items()}
        value, gradient = f.value_and_grad(**moved)
    wanted = sg.compile(test_cuda.LOGISTIC, wrt=["w", "b"]).value_and_grad(**values)
    assert value == pytest.approx(wanted[0], rel=1e-4)
    assert gradient["w"].is_cuda
    assert gradient["w"].dtype == getattr(torch, dtype)
    np.testing.assert_allclose(gradient["w"].cpu(), wanted[1]["w"], rtol=1e-3)


def test_arrays_of_cupy():
    cupy = pytest.importorskip("cupy")
    values = test_cuda.logistic(5000)
    arrays = {k: cupy.asarray(v) for k, v in values.items()}
    f = sg.compile(test_cuda.LOGISTIC, wrt=["w", "b"], device="cuda")
    with cupy.cuda.Stream(non_blocking=True):
        gradient = f.grad(**arrays)
    wanted = sg.compile(test_cuda.LOGISTIC, wrt=["w", "b"]).grad(**values)
    assert isinstance(gradient["w"], cupy.ndarray)
    np.testing.assert_allclose(gradient["w"].get(), wanted["w"], rtol=1e-10)


def test_descents():
    values = test_cuda.logistic(3000)
    data = {k: values[k] for k in ("X", "y")}
    start = {"w": np.zeros(5), "b": 0.0}
    options = {"init": start, "data": data, "steps": 200, "lr": 0.05}
    found = sg.minimize(test_cuda.LOGISTIC, device="cuda", **options)
    wanted = sg.minimize(test_cuda.LOGISTIC, **options)
    np.testing.assert_allclose(found.x, wanted.x, rtol=1e-9)
