"""The functions that kernels call, as an NVIDIA device has them.

Kernels are the same text for the device and for the simulator of the tests, which has
its own definitions of these.
"""

from __future__ import annotations

from collections.abc import Sequence

PRELUDE = """
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.nctaid.x()
declare void @llvm.nvvm.barrier0() convergent
declare void @llvm.nvvm.membar.gl()
declare i32 @llvm.nvvm.shfl.sync.down.i32(i32, i32, i32, i32) convergent

define internal i64 @thread_index() alwaysinline {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %r = zext i32 %t to i64
  ret i64 %r
}
define internal i64 @block_index() alwaysinline {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %r = zext i32 %t to i64
  ret i64 %r
}
define internal i64 @block_count() alwaysinline {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.nctaid.x()
  %r = zext i32 %t to i64
  ret i64 %r
}
define internal i64 @opaque(i64 %x) alwaysinline {
  %r = call i64 asm sideeffect "", "=l,0"(i64 %x)
  ret i64 %r
}
define internal void @barrier() alwaysinline convergent {
  call void @llvm.nvvm.barrier0()
  ret void
}
define internal void @fence_device() alwaysinline {
  call void @llvm.nvvm.membar.gl()
  ret void
}
define internal i32 @arrive(ptr %counter) alwaysinline {
  %r = atomicrmw add ptr %counter, i32 1 syncscope("device") monotonic
  ret i32 %r
}
define internal void @add_atomically(ptr %p, double %x) alwaysinline {
  %r = atomicrmw fadd ptr %p, double %x syncscope("device") monotonic
  ret void
}
define internal double @shuffle_down(double %x, i32 %distance) alwaysinline convergent {
  %bits = bitcast double %x to i64
  %low = trunc i64 %bits to i32
  %above = lshr i64 %bits, 32
  %high = trunc i64 %above to i32
  %a = call i32 @llvm.nvvm.shfl.sync.down.i32(i32 -1, i32 %low, i32 %distance, i32 31)
  %b = call i32 @llvm.nvvm.shfl.sync.down.i32(i32 -1, i32 %high, i32 %distance, i32 31)
  %wide_a = zext i32 %a to i64
  %wide_b = zext i32 %b to i64
  %moved = shl i64 %wide_b, 32
  %both = or i64 %moved, %wide_a
  %r = bitcast i64 %both to double
  ret double %r
}
"""


def for_device(text: str, kernels: Sequence[str], shared: int, block: int) -> str:
    """A complete module for the device.

    shared: doubles of shared memory. block: threads per block; one block at a time may
    have all registers, so that none need be spilled to have room for two. Metadata of
    kernels have even numbers, those of loops odd.
    """
    memory = f"@shared = internal addrspace(3) global [{max(1, shared)} x double] undef"
    wishes = {"maxntidx": block, "minctasm": 1}
    notes = [
        f'!{{ptr @{name}, !"{wish}", i32 {number}}}'
        for name in kernels
        for wish, number in wishes.items()
    ]
    listed = ", ".join(f"!{2 * k + 2}" for k in range(len(notes)))
    numbered = [f"!{2 * k + 2} = {note}" for k, note in enumerate(notes)]
    late = "@shared_late = external addrspace(3) global [0 x double], align 16"
    head = [PRELUDE, f"{memory}, align 16", late]
    return "\n".join([*head, text, f"!nvvm.annotations = !{{{listed}}}", *numbered])
