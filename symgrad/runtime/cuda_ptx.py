"""PTX of a compiled loss or model, with or without a GPU."""

from __future__ import annotations

from collections.abc import Sequence

from symgrad.graph import Node
from symgrad.runtime import cuda_device
from symgrad.runtime.cuda_kernel import CudaKernel
from symgrad.runtime.kernel import Kernel
from symgrad.runtime.specialise import Specialisation


def ptx_of(kernel: Kernel | CudaKernel, found: Specialisation, arch: str | None) -> str:
    """PTX of the same outputs as a kernel's.

    Raises:
        DeviceError: unknown architecture.
    """
    if arch is None:
        device = cuda_device.present()
        arch = None if device is None else device.arch
    if not isinstance(kernel, CudaKernel):
        kernel = _on_device(kernel, found, kernel.outputs)
    return kernel.ptx(arch)


def _on_device(
    kernel: Kernel, found: Specialisation, outputs: Sequence[Node]
) -> CudaKernel:
    layout = kernel.layout
    return CudaKernel(
        outputs, layout.inputs, layout.specs, kernel.dtype, found.hints, kernel.order
    )
