"""The emitter of LLVM assembly, for threads of a GPU: scalars only.

Kernels are written once. What differs between the device and the simulator that the
tests run (simulator.py) are a few functions that a kernel calls, such as
``thread_index``; each target puts its own definitions in front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from symgrad.codegen import cuda_math
from symgrad.codegen.llvm_text import BYTES, Emitter, Module, Value, spell

FEATURES = frozenset({"fma", "device"})
"""Fused multiply-add is one instruction; there is no library of C."""

WARP = 32
"""Threads that run in step."""

SHARED = "addrspacecast (ptr addrspace(3) @shared to ptr)"

SHARED_LATE = "addrspacecast (ptr addrspace(3) @shared_late to ptr)"
"""Shared memory whose size is known when a kernel is started."""

UNROLLED_LINES = 600
"""Loops of known length are unrolled unless they become longer than this."""


class ThreadEmitter(Emitter):
    """Writes one function of one thread."""

    def __init__(self, module: Module, features: frozenset[str] = FEATURES) -> None:
        super().__init__(module, features)
        self._repeated = [0]  # lines that unrolling adds, per open loop
        self._arrays: list[str] = []
        self._reserved = 0  # doubles of shared memory
        self.as_is = False  # whether loops are to stay loops, where they are opened

    def call(self, symbol: str, type: str, args: Sequence[Value]) -> Value:
        """C's functions are subroutines of the module."""
        return cuda_math.call(self, symbol, list(args))

    # -- what a thread knows and does ------------------------------------------------

    def thread_index(self) -> Value:
        """The number of this thread in its block."""
        return self._result("call i64 @thread_index()", "i64", 1)

    def block_index(self) -> Value:
        """The number of this block."""
        return self._result("call i64 @block_index()", "i64", 1)

    def block_count(self) -> Value:
        """The number of blocks of this launch."""
        return self._result("call i64 @block_count()", "i64", 1)

    def barrier(self) -> None:
        """All threads of the block come here before any goes on."""
        self.raw("call void @barrier() convergent")

    def fence(self) -> None:
        """What this thread wrote is seen by all before what it writes next, and what
        it reads next is what others wrote before their fence."""
        self.raw("call void @fence_device()")

    def arrive(self, counter: Value) -> Value:
        """Add one to a counter that all blocks share; its value before (i32)."""
        return self._result(f"call i32 @arrive(ptr {counter.name})", "i32", 1)

    def shuffle_down(self, value: Value, distance: int) -> Value:
        """The value of the thread ``distance`` further on in the warp."""
        return self._result(
            f"call double @shuffle_down(double {value.name}, i32 {distance}) "
            "convergent",
            "double",
            1,
        )

    def add_atomically(self, pointer: Value, value: Value) -> None:
        """Add to an element that other threads add to; the order is not fixed."""
        self.raw(f"call void @add_atomically(ptr {pointer.name}, double {value.name})")

    def assume_aligned(self, pointer: Value, size: int) -> None:
        """Promise that an address is a multiple of ``size`` bytes."""
        self._declare("declare void @llvm.assume(i1)")
        bundle = f'[ "align"(ptr {pointer.name}, i64 {size}) ]'
        self.raw(f"call void @llvm.assume(i1 true) {bundle}")

    def opaque(self, value: Value) -> Value:
        """The same integer, of which LLVM knows nothing: what is computed from it is
        not computed earlier, to be kept in registers."""
        return self._result(f"call i64 @opaque(i64 {value.name})", "i64", 1)

    def load_aligned(self, pointer: Value, type: str, lanes: int) -> Value:
        """Some elements at an address that is a multiple of their size together."""
        spelled, size = spell(type, lanes), BYTES[type] * lanes
        return self._result(
            f"load {spelled}, ptr {pointer.name}, align {size}", type, lanes
        )

    def array(self, type: str, count: int) -> Value:
        """Memory of this thread: registers, once the loops over it are unrolled."""
        name = self._fresh()
        self._arrays.append(f"  {name} = alloca [{count} x {type}], align 8")
        return Value(name, "ptr")

    def reserve(self, count: int) -> Value:
        """``count`` doubles of shared memory for the whole function."""
        start, self._reserved = self._reserved, self._reserved + count
        return self.shared(start - self._reserved, count)

    def shared(self, start: int, count: int) -> Value:
        """``count`` doubles of the memory that the threads of a block share, behind
        what is reserved."""
        module = self.module
        assert isinstance(module, ThreadModule)
        start += self._reserved
        module.shared = max(module.shared, start + count)
        return self.gep(Value(SHARED, "ptr"), self.const(start, "i64"), "double")

    def finish(
        self,
        name: str,
        parameters: Sequence[str],
        result: Value | None = None,
        attributes: str = "",
        linkage: str = "",
    ) -> None:
        """Close the function; its arrays are made where it is entered."""
        self.region.lines[:0] = self._arrays
        super().finish(name, parameters, result, attributes, linkage)

    # -- loops -----------------------------------------------------------------------

    def loop(
        self,
        begin: Value,
        end: Value,
        step: int | Value,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value]],
        nonempty: bool = False,
    ) -> list[Value]:
        """As the base class; loops of known length are marked for unrolling."""
        as_is, self.as_is = self.as_is, False
        self._repeated.append(0)
        lines = [0]

        def measured(counter: Value, phis: list[Value]) -> Sequence[Value]:
            results = body(counter, phis)
            lines[0] = len(self.region.lines)
            return results

        results = super().loop(begin, end, step, carried, measured, nonempty)
        total = lines[0] + self._repeated.pop()
        turns = None if as_is else _turns(begin, end, step)
        if as_is:
            self._mark("llvm.loop.unroll.disable")
        if turns is not None and turns > 1 and turns * total <= UNROLLED_LINES:
            self._mark("llvm.loop.unroll.full")
            total *= turns
        self._repeated[-1] += total
        return results

    def _mark(self, wish: str) -> None:
        """Add metadata to the branch back, which stands before the last label."""
        lines = self.region.lines
        label = max(k for k, line in enumerate(lines) if line.endswith(":"))
        module = self.module
        assert isinstance(module, ThreadModule)
        module.wishes.append(wish)
        number = len(module.wishes)
        lines[label - 1] += f", !llvm.loop !{4 * number + 1}"


class ThreadModule(Module):
    """A module of kernels.

    kernels: their names. shared: doubles that the threads of a block share.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wishes: list[str] = []  # one for each loop that has any
        self.kernels: list[str] = []
        self.shared = 0

    def text(self) -> str:
        """The kernels and what they call, without the target's own functions."""
        return "\n".join([super().text(), *self._metadata()])

    def _metadata(self) -> list[str]:
        lines: list[str] = []
        for k, wish in enumerate(self.wishes, 1):
            lines.append(f'!{4 * k + 3} = !{{!"{wish}"}}')
            lines.append(f"!{4 * k + 1} = distinct !{{!{4 * k + 1}, !{4 * k + 3}}}")
        return lines


def _turns(begin: Value, end: Value, step: int | Value) -> int | None:
    """How often a loop of literals turns; None if that is not known."""
    if not (begin.literal and end.literal and isinstance(step, int)):
        return None
    return max(0, -(-(int(end.name) - int(begin.name)) // step))
