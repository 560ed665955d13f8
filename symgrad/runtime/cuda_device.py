"""The GPU: memory, modules, launches, through NVIDIA's ``cuda-bindings``.

Nothing of CUDA is imported before a device is asked for. All work goes to one stream at
a time: the current one of PyTorch or CuPy if either is in use, else the default one.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from symgrad.codegen.cuda_target import architecture_of
from symgrad.errors import DeviceError

Slots = NDArray[np.int64]

LOG_BYTES = 4096
"""Of what the driver's compiler has to say."""


class Module(Protocol):
    """Kernels on a device."""

    def function(self, name: str) -> Any:
        """The kernel called ``name``, for ``launch``."""
        ...


class Device(Protocol):
    """What the runtime needs of a device; addresses are plain integers.

    arch: for :func:`symgrad.codegen.cuda_target.ptx`. processors: multiprocessors.
    """

    name: str
    arch: str
    processors: int

    def allocate(self, size: int) -> int: ...
    def free(self, address: int) -> None: ...
    def free_memory(self) -> int: ...
    def upload(self, address: int, array: NDArray[Any]) -> None: ...
    def download(self, array: NDArray[Any], address: int) -> None: ...
    def copy(self, target: int, source: int, size: int) -> None: ...
    def clear(self, address: int, size: int) -> None: ...
    def load(self, kernel: Any) -> Module: ...
    def launch(
        self, function: Any, blocks: int, block: int, context: Slots, shared: int = 0
    ) -> None:
        """Start a kernel. ``context`` is copied before this returns. shared: bytes of
        shared memory besides those that the kernel names."""
        ...

    def synchronise(self) -> None: ...
    def wait_for(self, stream: int | None) -> None:
        """Let what follows run after the work that another stream has now."""
        ...

    def repeated(self, work: Callable[[], None], times: int) -> Callable[[], None]:
        """``work``, which launches only, as one thing to start ``times`` times."""
        ...


def at_end(owner: object, action: Callable[..., None], *arguments: Any) -> None:
    """Call ``action`` when ``owner`` is gone; not at the end of the process, where the
    driver may be gone, too."""
    weakref.finalize(owner, action, *arguments).atexit = False


class Buffer:
    """Device memory that is freed with this object."""

    def __init__(self, device: Device, size: int) -> None:
        self.device, self.size = device, size
        self.address = device.allocate(max(size, 8))
        at_end(self, device.free, self.address)

    @classmethod
    def holding(cls, device: Device, array: NDArray[Any]) -> Buffer:
        """A copy of an array, in C order."""
        buffer = cls(device, array.nbytes)
        device.upload(buffer.address, np.ascontiguousarray(array))
        return buffer


_lock = Lock()
_device: Device | None = None


def device() -> Device:
    """The device that kernels run on, made ready on first use.

    Raises:
        DeviceError: a package, the driver or the device is missing; says which.
    """
    global _device  # noqa: PLW0603 one device per process, as one driver
    with _lock:
        if _device is None:
            _device = CudaDevice()
        return _device


def present() -> Device | None:
    """The device if it is ready already."""
    return _device


def _driver() -> Any:
    try:
        from cuda.bindings import driver  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DeviceError(
            "device='cuda' needs the package cuda-bindings: pip install symgrad[cuda]"
        ) from None
    return driver


class CudaDevice:
    """The first visible device (``CUDA_VISIBLE_DEVICES`` chooses), by its primary
    context, which PyTorch, CuPy and Numba use, too."""

    def __init__(self) -> None:
        self._cuda = _driver()
        try:
            (error,) = self._cuda.cuInit(0)
        except Exception as missing:  # the loader's own errors, of many types
            raise DeviceError(
                "device='cuda' needs NVIDIA's driver, which is not installed: "
                f"{str(missing).splitlines()[0]}"
            ) from None
        if int(error):
            raise DeviceError(
                "device='cuda' finds no usable GPU: cuInit says "
                f"{self._described(error)}"
            )
        self._handle = self._check(self._cuda.cuDeviceGet(0), "finding the device")
        self._context = self._check(
            self._cuda.cuDevicePrimaryCtxRetain(self._handle), "opening the device"
        )
        self._enter()
        name = self._check(self._cuda.cuDeviceGetName(100, self._handle), "its name")
        self.name = name.split(b"\0")[0].decode()
        kinds = self._cuda.CUdevice_attribute
        prefix = "CU_DEVICE_ATTRIBUTE_"
        self.processors = self._attribute(kinds, prefix + "MULTIPROCESSOR_COUNT")
        major = self._attribute(kinds, prefix + "COMPUTE_CAPABILITY_MAJOR")
        minor = self._attribute(kinds, prefix + "COMPUTE_CAPABILITY_MINOR")
        self.capability = (major, minor)
        self.arch = architecture_of(major, minor)
        self._own_stream: int | None = None

    # -- errors ----------------------------------------------------------------------

    def _described(self, error: Any) -> str:
        _, text = self._cuda.cuGetErrorString(error)
        return f"{getattr(error, 'name', error)} ({(text or b'').decode()})"

    def _check(self, answer: tuple[Any, ...], doing: str) -> Any:
        """What a call returned besides its status.

        Raises:
            DeviceError: the driver reports an error.
        """
        error, *values = answer
        if int(error):
            raise DeviceError(f"CUDA fails while {doing}: {self._described(error)}")
        return values[0] if len(values) == 1 else tuple(values)

    def _attribute(self, kinds: Any, name: str) -> int:
        kind = getattr(kinds, name)
        return self._check(self._cuda.cuDeviceGetAttribute(kind, self._handle), name)

    def _enter(self) -> None:
        """Contexts are current per thread, and others may have changed it."""
        self._check(self._cuda.cuCtxSetCurrent(self._context), "entering its context")

    # -- streams ---------------------------------------------------------------------

    @property
    def stream(self) -> int:
        """Where work goes: the libraries' current stream, as their arrays are ready in
        its order."""
        if self._own_stream is not None:
            return self._own_stream
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            return int(torch.cuda.current_stream().cuda_stream)
        cupy = sys.modules.get("cupy")
        if cupy is not None:
            return int(cupy.cuda.get_current_stream().ptr)
        return 0

    def wait_for(self, stream: int | None) -> None:
        """Order this device's stream after ``stream`` of the array interface: 1 is the
        default stream, 2 the per-thread one; None needs nothing."""
        if stream is None or stream in (self.stream, self.stream or 1):
            return
        self._enter()
        flags = int(self._cuda.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        event = self._check(self._cuda.cuEventCreate(flags), "making an event")
        self._check(self._cuda.cuEventRecord(event, stream), "recording an event")
        waiting = self._cuda.cuStreamWaitEvent(self.stream, event, 0)
        self._check(waiting, "waiting for a stream")
        self._check(self._cuda.cuEventDestroy(event), "freeing an event")

    def synchronise(self) -> None:
        """Wait until all work is done.

        Raises:
            DeviceError: a kernel failed.
        """
        self._enter()
        self._check(self._cuda.cuStreamSynchronize(self.stream), "running a kernel")

    # -- memory ----------------------------------------------------------------------

    def allocate(self, size: int) -> int:
        """Device memory; its address.

        Raises:
            DeviceError: there is not enough.
        """
        self._enter()
        error, pointer = self._cuda.cuMemAlloc(size)
        if int(error):
            free = self.free_memory()
            raise DeviceError(
                f"the device has no {size} bytes left ({free} are free): "
                f"{self._described(error)}"
            )
        return int(pointer)

    def free(self, address: int) -> None:
        """Give memory back."""
        self._enter()
        self._cuda.cuMemFree(address)

    def free_memory(self) -> int:
        """Bytes that are free on the device."""
        self._enter()
        return int(self._check(self._cuda.cuMemGetInfo(), "asking for memory")[0])

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy an array in C order to the device."""
        if array.nbytes:
            self._enter()
            source = array.ctypes.data
            answer = self._cuda.cuMemcpyHtoDAsync(
                address, source, array.nbytes, self.stream
            )
            self._check(answer, "copying to the device")

    def download(self, array: NDArray[Any], address: int) -> None:
        """Copy from the device into an array in C order, and wait for it."""
        if array.nbytes:
            self._enter()
            answer = self._cuda.cuMemcpyDtoHAsync(
                array.ctypes.data, address, array.nbytes, self.stream
            )
            self._check(answer, "copying from the device")
        self.synchronise()

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy on the device."""
        if size:
            self._enter()
            answer = self._cuda.cuMemcpyDtoDAsync(target, source, size, self.stream)
            self._check(answer, "copying on the device")

    def clear(self, address: int, size: int) -> None:
        """Set memory to zero."""
        if size:
            self._enter()
            answer = self._cuda.cuMemsetD8Async(address, 0, size, self.stream)
            self._check(answer, "clearing memory")

    # -- kernels ---------------------------------------------------------------------

    def load(self, kernel: Any) -> Module:
        """Compile and load a kernel's PTX for this device; the driver does that, and
        keeps what it compiled on disk.

        Raises:
            DeviceError: it refuses the PTX; with what it and its compiler say.
        """
        self._enter()
        image, log = kernel.ptx(self.arch).encode() + b"\0", bytearray(LOG_BYTES)
        kinds = self._cuda.CUjit_option
        options = [
            kinds.CU_JIT_ERROR_LOG_BUFFER, kinds.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES
        ]  # fmt: skip
        error, handle = self._cuda.cuModuleLoadDataEx(
            image, len(options), options, [log, len(log)]
        )
        if int(error):
            version = self._check(self._cuda.cuDriverGetVersion(), "asking for it")
            raise DeviceError(
                f"CUDA fails while loading a kernel for {self.arch}: "
                f"{self._described(error)}; the driver is for CUDA "
                f"{version // 1000}.{version % 1000 // 10}, a later one may be needed. "
                f"{log.partition(bytes(1))[0].decode(errors='replace').strip()}"
            )
        return _CudaModule(self, handle)

    def launch(
        self, function: Any, blocks: int, block: int, context: Slots, shared: int = 0
    ) -> None:
        """Start a kernel; its one argument is the context, which the driver copies."""
        self._enter()
        arguments = np.array([context.ctypes.data], np.uint64)
        answer = self._cuda.cuLaunchKernel(
            function, blocks, 1, 1, block, 1, 1, shared, self.stream,
            int(arguments.ctypes.data), 0,
        )  # fmt: skip
        self._check(answer, "starting a kernel")

    def repeated(self, work: Callable[[], None], times: int) -> Callable[[], None]:
        """``work`` as a CUDA graph, started as often as wanted with one call.

        The graph is recorded on a stream of its own and runs on the current one. Memory
        may be freed meanwhile (by the garbage collector), so the mode is relaxed.
        """
        self._enter()
        cuda = self._cuda
        flags = int(cuda.CUstream_flags.CU_STREAM_NON_BLOCKING)
        stream = self._check(cuda.cuStreamCreate(flags), "making a stream")
        mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        self._check(cuda.cuStreamBeginCapture(stream, mode), "recording a graph")
        self._own_stream = int(stream)
        try:
            for _ in range(times):
                work()
        finally:
            self._own_stream = None
            graph = self._check(cuda.cuStreamEndCapture(stream), "recording a graph")
        ready = self._check(cuda.cuGraphInstantiate(graph, 0), "preparing a graph")
        self._check(cuda.cuGraphDestroy(graph), "freeing a graph")
        self._check(cuda.cuStreamDestroy(stream), "freeing a stream")
        return _Graph(self, ready)


class _CudaModule:
    def __init__(self, device: CudaDevice, handle: Any) -> None:
        self._device, self._handle = device, handle
        self._found: dict[str, Any] = {}
        at_end(self, _unload, device, handle)

    def function(self, name: str) -> Any:
        if name not in self._found:
            answer = self._device._cuda.cuModuleGetFunction(self._handle, name.encode())
            self._found[name] = self._device._check(answer, f"finding {name}")
        return self._found[name]


class _Graph:
    def __init__(self, device: CudaDevice, handle: Any) -> None:
        self._device, self._handle = device, handle
        at_end(self, _destroy, device, handle)

    def __call__(self) -> None:
        device = self._device
        device._enter()
        answer = device._cuda.cuGraphLaunch(self._handle, device.stream)
        device._check(answer, "starting a graph")


def _unload(device: CudaDevice, handle: Any) -> None:
    device._enter()
    device._cuda.cuModuleUnload(handle)


def _destroy(device: CudaDevice, handle: Any) -> None:
    device._enter()
    device._cuda.cuGraphExecDestroy(handle)
