"""Arrays on the device: others' in place, ours given out.

Arrays come in by the CUDA array interface (CuPy, PyTorch, Numba, JAX) or by DLPack, and
are used where they are. Results go back as arrays of the library that the parameters
came from.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad.codegen.cuda_writer import ALIGNED
from symgrad.errors import DTypeError
from symgrad.runtime.arrays import IN_PLACE
from symgrad.runtime.cuda_device import Buffer, Device


@dataclass(eq=False)
class DeviceArray:
    """An array in device memory, float64 if it is ours; it has the CUDA array
    interface, so that CuPy, PyTorch and Numba take it as it is.

    address: of the first element. strides: in elements. stream: on which its elements
    become ready, as the interface numbers streams; None if they are. owner: what keeps
    the memory.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    strides: tuple[int, ...]
    stream: int | None = None
    owner: Any = field(default=None, repr=False)

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in C order, one after the other."""
        return self.strides == c_strides(self.shape) or 0 in self.shape

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        size = self.dtype.itemsize
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": tuple(size * s for s in self.strides),
            "stream": self.stream,
            "version": 3,
        }

    def download(self, device: Device) -> NDArray[Any]:
        """A copy in ordinary memory."""
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        low = sum(min(0, s * (n - 1)) for s, n in self._axes())
        high = sum(max(0, s * (n - 1)) for s, n in self._axes())
        size = self.dtype.itemsize
        raw = np.empty(high - low + 1, self.dtype)
        device.wait_for(self.stream)
        device.download(raw, self.address + low * size)
        strides = [s * size for s in self.strides]
        view = np.lib.stride_tricks.as_strided(raw[-low:], self.shape, strides)
        return view.copy()

    def _axes(self) -> list[tuple[int, int]]:
        return list(zip(self.strides, self.shape, strict=True))


def c_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of an array in C order."""
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def on_device(name: str, value: Any) -> DeviceArray | None:
    """``value`` if it is an array in device memory, else None.

    Raises:
        DTypeError: elements that kernels cannot read in place.
    """
    if isinstance(value, (np.ndarray, float, int)):
        return None
    if isinstance(value, DeviceArray):
        return value
    if getattr(value, "requires_grad", False):
        value = value.detach()  # PyTorch gives no interface of tensors it tracks
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is not None:
        found = _from_interface(interface, value)
    elif _is_cuda_dlpack(value):
        found = _from_dlpack(name, value)
    else:
        return None
    plain = found.dtype.isnative and found.dtype.char in IN_PLACE
    if not plain or found.dtype.char in "QL":
        raise DTypeError(
            f"{name} is {found.dtype} on the device, which kernels cannot read there: "
            "convert it to float32, float64 or int64 first"
        )
    return found


def _from_interface(interface: dict[str, Any], owner: Any) -> DeviceArray:
    shape = tuple(int(n) for n in interface["shape"])
    dtype = np.dtype(interface["typestr"])
    strides = interface.get("strides")
    if strides is None:
        strides = c_strides(shape)
    else:
        strides = tuple(s // dtype.itemsize for s in strides)
    address = int(interface["data"][0])
    return DeviceArray(address, shape, dtype, strides, interface.get("stream"), owner)


def phantom(array: DeviceArray, parameter: bool) -> NDArray[Any]:
    """A NumPy array with the shape, dtype and strides of one on the device, for all
    that looks at those only. Nobody may look at its elements."""
    if parameter:
        return np.broadcast_to(np.float64(0.0), array.shape).copy()
    size = array.dtype.itemsize
    strides = [s * size for s in array.strides]
    one = np.zeros((), array.dtype)
    return np.lib.stride_tricks.as_strided(one, array.shape, strides)


# --- DLPack ---------------------------------------------------------------------------

_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}


def _is_cuda_dlpack(value: Any) -> bool:
    asked = getattr(value, "__dlpack_device__", None)
    if asked is None or not hasattr(value, "__dlpack__"):
        return False
    return int(asked()[0]) in _CUDA


def _from_dlpack(name: str, value: Any) -> DeviceArray:
    """The tensor of a capsule, which keeps the memory; stream 1 is the default one."""
    capsule = value.__dlpack__(stream=1)
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = _DLTensor.from_address(get(capsule, b"dltensor"))
    kind = _KINDS.get(tensor.code)
    if kind is None or tensor.lanes != 1:
        raise DTypeError(f"{name} has elements that are not plain numbers (DLPack)")
    dtype = np.dtype("?" if kind == "b" else f"{kind}{tensor.bits // 8}")
    shape = tuple(tensor.shape[k] for k in range(tensor.ndim))
    strides = c_strides(shape)
    if tensor.strides:
        strides = tuple(tensor.strides[k] for k in range(tensor.ndim))
    address = (tensor.data or 0) + tensor.byte_offset
    return DeviceArray(address, shape, dtype, strides, 1, (value, capsule))


# --- to and fro -----------------------------------------------------------------------


def uploaded(device: Device, array: NDArray[Any]) -> DeviceArray:
    """A copy of a NumPy array on the device, in C order."""
    buffer = Buffer.holding(device, array)
    strides = c_strides(array.shape)
    return DeviceArray(buffer.address, array.shape, array.dtype, strides, None, buffer)


def aligned(device: Device, array: DeviceArray) -> DeviceArray:
    """Data as kernels take them, on the device's stream: in place, unless the elements
    lie in C order but do not start at a multiple of ``ALIGNED`` bytes."""
    device.wait_for(array.stream)
    if not array.contiguous or array.address % ALIGNED == 0:
        return array
    buffer = Buffer(device, array.nbytes)
    device.copy(buffer.address, array.address, array.nbytes)
    return replace(array, address=buffer.address, stream=None, owner=buffer)


def as_float64(device: Device, array: DeviceArray) -> DeviceArray:
    """A parameter as kernels take it: in place if it is float64 in C order, else
    converted by its library, or by way of ordinary memory."""
    device.wait_for(array.stream)
    if array.dtype == np.float64 and array.contiguous:
        return array
    library = library_of(array.owner)
    if library == "torch":
        converted = array.owner.detach().to(sys.modules["torch"].float64).contiguous()
        return _from_interface(converted.__cuda_array_interface__, converted)
    if library == "cupy":
        cupy = sys.modules["cupy"]
        converted = cupy.ascontiguousarray(array.owner, dtype=cupy.float64)
        return _from_interface(converted.__cuda_array_interface__, converted)
    return uploaded(device, array.download(device).astype(np.float64))


def library_of(owner: Any) -> str:
    """The name of the package that an array belongs to."""
    return type(owner).__module__.partition(".")[0]


def given_out(
    device: Device, source: DeviceArray, like: DeviceArray, dtype: str
) -> Any:
    """A copy of a float64 result as an array of the library that ``like`` is of."""
    library = library_of(like.owner)
    if library == "torch":
        torch = sys.modules["torch"]
        owner = like.owner
        made = torch.empty(source.shape, dtype=torch.float64, device=owner.device)
        device.copy(made.data_ptr(), source.address, source.nbytes)
        return made.to(getattr(torch, dtype))
    if library == "cupy":
        cupy = sys.modules["cupy"]
        made = cupy.empty(source.shape, dtype=cupy.float64)
        device.copy(made.data.ptr, source.address, source.nbytes)
        return made.astype(dtype, copy=False)
    if dtype != "float64":
        return uploaded(device, source.download(device).astype(dtype))
    buffer = Buffer(device, source.nbytes)
    device.copy(buffer.address, source.address, source.nbytes)
    return DeviceArray(
        buffer.address, source.shape, source.dtype, source.strides, None, buffer
    )
