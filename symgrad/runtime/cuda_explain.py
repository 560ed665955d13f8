"""What a kernel does on a GPU, as text."""

from __future__ import annotations

from collections.abc import Mapping

from symgrad.codegen.cuda_layout import DeviceSizes, elements, grid, measure_device
from symgrad.codegen.cuda_module import Launch
from symgrad.codegen.cuda_writer import way
from symgrad.runtime import cuda_device
from symgrad.runtime.cuda_kernel import CudaKernel
from symgrad.schedule import cost
from symgrad.schedule.phases import Product

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
    products = sum(isinstance(phase, Product) for phase in step.phases)
    if products:
        tile = sizes.values["size", step.tile.name] if step.tile is not None else 0
        lines.append(
            f"    matrix products of {tile} rows at a time in shared memory: {products}"
        )
    for place in step.sums:
        count = elements(place.shape, lengths)
        many = "a sum" if count == 1 else f"{count} sums"
        how = _WAYS[way(place, step)]
        if place.statement in step.products:
            how = "as a matrix product in shared memory, tile by tile"
        elif sizes.values.get(("own target", place), -1) >= 0:
            how = f"in shared memory of each block, {how}"
        lines.append(f"    {many} {how}")
    return lines
