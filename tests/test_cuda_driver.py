"""The driver's conventions: what is called, with which arguments, and what is said when
something is missing. A stand-in takes the place of NVIDIA's package."""

import ctypes
import gc
import sys
import types

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import DeviceError
from symgrad.runtime import cuda_device
from symgrad.runtime.cuda_device import CudaDevice


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(cuda_device, "_device", None)
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    f = sg.compile("sum((a * x)**2)", wrt=["a"], device="cuda")
    with pytest.raises(DeviceError, match=r"pip install symgrad\[cuda\]"):
        f(a=1.0, x=np.ones(3))


class _Driver:
    """The part of ``cuda.bindings.driver`` that is called, with its conventions: an
    answer is a tuple, the status first; memory is the processor's."""

    CU_OK = 0

    class CUdevice_attribute:
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76

    CUevent_flags = types.SimpleNamespace(CU_EVENT_DISABLE_TIMING=2)
    CUstream_flags = types.SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUjit_option = types.SimpleNamespace(
        CU_JIT_ERROR_LOG_BUFFER=5, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES=6
    )
    CUstreamCaptureMode = types.SimpleNamespace(CU_STREAM_CAPTURE_MODE_RELAXED=2)

    def __init__(self, capability=(9, 0), initial=0, refuses=b""):
        self.capability, self.initial, self.refuses = capability, initial, refuses
        self.arrays, self.calls = {}, []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments))
            return (0, 42)

        return call

    def cuInit(self, flags):
        return (self.initial,)

    def cuGetErrorString(self, error):
        return 0, b"out of everything"

    def cuDeviceGetName(self, length, device):
        return 0, b"Fast One\0" + bytes(20)

    def cuDeviceGetAttribute(self, attribute, device):
        return 0, {16: 132, 75: self.capability[0], 76: self.capability[1]}[attribute]

    def cuCtxSetCurrent(self, context):
        return (0,)

    def cuModuleLoadDataEx(self, image, count, options, values):
        assert image.endswith(b"\0") and options == [5, 6] and count == 2
        if self.refuses:
            values[0][: len(self.refuses)] = self.refuses
            return 222, None
        return 0, 42

    def cuDriverGetVersion(self):
        return 0, 11080

    def cuMemAlloc(self, size):
        if size > 1 << 20:
            return 2, None
        array = np.zeros(size, np.uint8)
        self.arrays[array.ctypes.data] = array
        return 0, array.ctypes.data

    def cuMemFree(self, address):
        del self.arrays[address]
        return (0,)

    def cuMemGetInfo(self):
        return 0, 1000, 2000

    def cuMemcpyHtoDAsync(self, target, source, size, stream):
        ctypes.memmove(target, source, size)
        return (0,)

    cuMemcpyDtoHAsync = cuMemcpyDtoDAsync = cuMemcpyHtoDAsync

    def cuLaunchKernel(self, function, *rest):
        self.calls.append(("cuLaunchKernel", function, *rest))
        pointer = ctypes.c_int64.from_address(rest[8]).value
        self.context = (ctypes.c_int64 * 3).from_address(pointer)[:]
        return (0,)

    def one(self, name):
        return [call for call in self.calls if call[0] == name]


def opened(monkeypatch, **options):
    driver = _Driver(**options)
    monkeypatch.setattr(cuda_device, "_driver", lambda: driver)
    return driver, CudaDevice


def test_the_device_is_opened(monkeypatch):
    _, opening = opened(monkeypatch, capability=(8, 6))
    found = opening()
    assert (found.name, found.arch, found.processors) == ("Fast One", "sm_86", 132)
    assert found.free_memory() == 1000


def test_no_usable_device(monkeypatch):
    _, opening = opened(monkeypatch, initial=100)
    with pytest.raises(DeviceError, match=r"no usable GPU.*out of everything"):
        opening()
    _, opening = opened(monkeypatch, capability=(6, 1))
    with pytest.raises(DeviceError, match=r"6\.1"):
        opening()


def test_copies_and_errors_of_the_driver(monkeypatch):
    driver, opening = opened(monkeypatch)
    found = opening()
    buffer = cuda_device.Buffer.holding(found, np.arange(5.0))
    back = np.empty(5)
    found.download(back, buffer.address)
    np.testing.assert_array_equal(back, np.arange(5.0))
    with pytest.raises(DeviceError, match="1000 are free"):
        found.allocate(1 << 21)
    del buffer
    gc.collect()
    assert not driver.arrays


def test_refused_kernels(monkeypatch):
    """With the version of the driver, and what its compiler says."""
    kernel = types.SimpleNamespace(ptx=lambda arch: ".version 7.8")
    driver, opening = opened(monkeypatch, refuses=b"line 3: no")
    with pytest.raises(DeviceError, match=r"sm_90.*CUDA 11\.8.*line 3: no"):
        opening().load(kernel)
    driver.refuses = b""
    assert opening().load(kernel).function("pass_0") == 42


def test_launches_pass_the_context_by_value(monkeypatch):
    driver, opening = opened(monkeypatch)
    found = opening()
    found.launch("kernel", 7, 256, np.array([11, 12, 13]))
    (call,) = driver.one("cuLaunchKernel")
    assert call[1:9] == ("kernel", 7, 1, 1, 256, 1, 1, 0)
    assert driver.context == [11, 12, 13]


def test_graphs_are_recorded_on_a_stream_of_their_own(monkeypatch):
    driver, opening = opened(monkeypatch)
    found = opening()
    context = np.array([1, 2, 3])
    start = found.repeated(lambda: found.launch("k", 1, 64, context), 3)
    assert [call[8 + 1] for call in driver.one("cuLaunchKernel")] == [42, 42, 42]
    start()
    assert driver.one("cuGraphLaunch") == [("cuGraphLaunch", 42, 0)]
    assert found.stream == 0


def test_other_streams_are_waited_for(monkeypatch):
    driver, opening = opened(monkeypatch)
    found = opening()
    for nothing in (None, 1):
        found.wait_for(nothing)
    assert not driver.one("cuStreamWaitEvent")
    found.wait_for(7)
    assert driver.one("cuEventRecord") == [("cuEventRecord", 42, 7)]
    assert driver.one("cuStreamWaitEvent") == [("cuStreamWaitEvent", 0, 42, 0)]


def test_the_stream_of_pytorch(monkeypatch):
    _, opening = opened(monkeypatch)
    found = opening()
    torch = types.ModuleType("torch")
    torch.cuda = types.SimpleNamespace(
        is_initialized=lambda: True,
        current_stream=lambda: types.SimpleNamespace(cuda_stream=99),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert found.stream == 99
