"""What a kernel does on a GPU, as text."""

from __future__ import annotations

from collections.abc import Mapping

from symgrad.codegen.cuda_layout import DeviceSizes, elements, grid, measure_device
from symgrad.codegen.cuda_module import Launch
from symgrad.codegen.cuda_writer import way
from symgrad.runtime import cuda_device
from symgrad.runtime.cuda_kernel import CudaKernel
from symgrad.schedule import cost

ASSUMED_PROCESSORS = 132
"""Multiprocessors of a large device, where none is present."""

_WAYS = {
    "register": "in registers of each thread",
    "array": "in registers of each thread",
    "tiled": "elements shared out among the threads of a block, tile by tile",
    "private": "in memory of each thread",
    "atomic": "by atomic additions: the last bits may differ from run to run",
}


def explain_kernel(kernel: CudaKernel, lengths: Mapping[str, int]) -> str:
    """Launches, blocks and memory of one call with these run-time lengths."""
    device = cuda_device.present()
    processors = ASSUMED_PROCESSORS if device is None else device.processors
    where = "no device: as on one" if device is None else device.name
    sizes = measure_device(
        kernel.layout, lengths, kernel.block, processors, shared=8 * kernel.shared
    )
    lines = [
        f"{len(kernel.launches)} launches in {kernel.dtype} on {where} with "
        f"{processors} multiprocessors, {kernel.block} threads a block",
    ]
    for launch in kernel.launches:
        lines += _described(launch, sizes, lengths)
    lines.append(f"work memory: {sizes.bytes} bytes")
    return "\n".join(lines)


def _described(
    launch: Launch, sizes: DeviceSizes, lengths: Mapping[str, int]
) -> list[str]:
    step = launch.step
    blocks = grid(launch, sizes)
    if step is None or step.row is None or not launch.rows:
        return [f"  {launch.name}: {blocks} blocks"]
    rows = cost.length(step.row.extent, lengths)
    lines = [f"  {launch.name}: {rows} rows, one per thread, {blocks} blocks"]
    for place in step.sums:
        count = elements(place.shape, lengths)
        many = "a sum" if count == 1 else f"{count} sums"
        lines.append(f"    {many} {_WAYS[way(place, step)]}")
    return lines
