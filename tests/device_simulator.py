"""A GPU on the processor: the kernels' own text, thread by thread.

Every thread of a block is a fiber with a stack of its own. It runs until it must wait,
at a barrier or for the other threads of its warp, and then another one runs. Threads
and blocks can run in any order; a result that depends on it is an error of the kernel:
a barrier is missing, or a sum is not in a fixed order. A barrier that not all threads
of a block reach is an error, too.

The fibers are the C library's (``makecontext``).
"""

import ctypes
import functools
import itertools

import numpy as np

from symgrad.codegen import cpu

CONTEXT_BYTES = 4096  # more than any platform's ucontext_t
STACK_BYTES = 1 << 18
LATE_BYTES = 48 << 10  # shared memory that every device has for a block
RUNNING, BARRIER, WARP, DONE = range(4)
THREAD, BLOCK, BLOCKS, WAIT, SELF, MAIN, FUNCTION, ARGUMENT = range(8)

PRELUDE = """
@state = global [8 x i64] zeroinitializer
@slots = global [2 x [1024 x double]] zeroinitializer
@turn = global [1024 x i64] zeroinitializer
declare i32 @swapcontext(ptr, ptr)

define ptr @sim_state() { ret ptr @state }
define ptr @sim_shared_late() {
  ret ptr addrspacecast (ptr addrspace(3) @shared_late to ptr)
}
define ptr @sim_shared() {
  ret ptr addrspacecast (ptr addrspace(3) @shared to ptr)
}
define internal i64 @get(i64 %k) {
  %p = getelementptr i64, ptr @state, i64 %k
  %v = load i64, ptr %p
  ret i64 %v
}
define internal void @wait(i64 %why) {
  %p = getelementptr i64, ptr @state, i64 3
  store i64 %why, ptr %p
  %self = call i64 @get(i64 4)
  %main = call i64 @get(i64 5)
  %a = inttoptr i64 %self to ptr
  %b = inttoptr i64 %main to ptr
  %r = call i32 @swapcontext(ptr %a, ptr %b)
  ret void
}
define void @sim_entry() {
  %f = call i64 @get(i64 6)
  %c = call i64 @get(i64 7)
  %function = inttoptr i64 %f to ptr
  %context = inttoptr i64 %c to ptr
  call void %function(ptr %context)
  call void @wait(i64 3)
  unreachable
}
define void @sim_round(ptr %contexts, ptr %turns, i64 %count, ptr %waits) {
; let every thread that can go on do so, in the given order, until it waits
  %m = call i64 @get(i64 5)
  %main = inttoptr i64 %m to ptr
  br label %turn
turn:
  %k = phi i64 [ 0, %0 ], [ %next, %after ]
  %which = getelementptr i64, ptr %turns, i64 %k
  %t = load i64, ptr %which
  %waiting = getelementptr i64, ptr %waits, i64 %t
  %why = load i64, ptr %waiting
  %ready = icmp eq i64 %why, 0
  br i1 %ready, label %go, label %after
go:
  store i64 %t, ptr @state
  %place = getelementptr i64, ptr %contexts, i64 %t
  %c = load i64, ptr %place
  %self = getelementptr i64, ptr @state, i64 4
  store i64 %c, ptr %self
  %context = inttoptr i64 %c to ptr
  %r = call i32 @swapcontext(ptr %main, ptr %context)
  %reason = call i64 @get(i64 3)
  store i64 %reason, ptr %waiting
  br label %after
after:
  %next = add i64 %k, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %turn, label %done
done:
  ret void
}
define internal i64 @thread_index() { %r = call i64 @get(i64 0)
  ret i64 %r }
define internal i64 @block_index() { %r = call i64 @get(i64 1)
  ret i64 %r }
define internal i64 @block_count() { %r = call i64 @get(i64 2)
  ret i64 %r }
define internal i64 @opaque(i64 %x) { ret i64 %x }
define internal void @barrier() convergent { call void @wait(i64 1)
  ret void }
define internal void @fence_device() { fence seq_cst
  ret void }
define internal i32 @arrive(ptr %counter) {
  %r = atomicrmw add ptr %counter, i32 1 seq_cst
  ret i32 %r
}
define internal void @add_atomically(ptr %p, double %x) {
  %r = atomicrmw fadd ptr %p, double %x seq_cst
  ret void
}
define internal double @shuffle_down(double %x, i32 %distance) convergent {
  %t = call i64 @get(i64 0)
  %turn = getelementptr i64, ptr @turn, i64 %t
  %k = load i64, ptr %turn
  %next = xor i64 %k, 1
  store i64 %next, ptr %turn
  %mine = getelementptr [1024 x double], ptr @slots, i64 %k, i64 %t
  store double %x, ptr %mine
  call void @wait(i64 2)
  %d = zext i32 %distance to i64
  %lane = and i64 %t, 31
  %from = add i64 %lane, %d
  %inside = icmp ult i64 %from, 32
  %other = add i64 %t, %d
  %source = select i1 %inside, i64 %other, i64 %t
  %p = getelementptr [1024 x double], ptr @slots, i64 %k, i64 %source
  %r = load double, ptr %p
  ret double %r
}
"""


def host_text(kernel) -> str:
    """The module of a kernel for the processor: the same text, other intrinsics."""
    size = max(1, kernel.shared)
    shared = f"@shared = global [{size} x double] zeroinitializer, align 16"
    shared += "\n@shared_late = global [6144 x double] zeroinitializer, align 16"
    shared = shared.replace("global", "addrspace(3) global")
    body = kernel.body.replace("define ptx_kernel ", "define ")
    start, end = "ptr byval([", "] align 8 %context"
    while start in body:
        before, _, rest = body.partition(start)
        body = before + "ptr %context" + rest.partition(") align 8 %context")[2]
    assert end not in body
    return "\n".join([PRELUDE, shared, body])


class SimulatedDevice:
    """A device with few multiprocessors.

    order: "forward", "backward" or a seed: of blocks, of warps and threads in a block.
    """

    name, arch = "simulated", "sm_90"

    def __init__(self, processors=1, order="forward", memory=1 << 30):
        self.processors, self.order, self.memory = processors, order, memory
        self.held: dict[int, np.ndarray] = {}
        self.launches = 0
        self.shared: list[int] = []  # bytes that launches ask for
        self.waited: list[int | None] = []

    # -- memory ----------------------------------------------------------------------

    def allocate(self, size):
        from symgrad.errors import DeviceError

        if size > self.free_memory():
            raise DeviceError(f"the device has no {size} bytes left")
        raw = np.empty(size + 256, np.uint8)
        raw.view(np.uint8)[:] = 0xFF  # as float64 and float32 that is NaN
        address = -(-raw.ctypes.data // 256) * 256
        self.held[address] = raw
        return address

    def free(self, address):
        del self.held[address]

    def free_memory(self):
        return self.memory - sum(raw.nbytes for raw in self.held.values())

    def upload(self, address, array):
        assert array.flags.c_contiguous
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array, address):
        assert array.flags.c_contiguous
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def copy(self, target, source, size):
        ctypes.memmove(target, source, size)

    def clear(self, address, size):
        ctypes.memset(address, 0, size)

    def wait_for(self, stream):
        self.waited.append(stream)

    def synchronise(self):
        pass

    def repeated(self, work, times):
        def run():
            for _ in range(times):
                work()

        return run

    # -- kernels ---------------------------------------------------------------------

    def load(self, kernel):
        return _module(host_text(kernel), kernel.shared, kernel.by_value)

    def launch(self, function, blocks, block, context, shared=0):
        self.launches += 1
        self.shared.append(shared)
        assert 8 * function[0].shared + shared <= LATE_BYTES
        module, address = function
        argument = context.copy().ctypes if module.by_value else None
        pointer = int(context[0]) if argument is None else argument.data
        for number in self._ordered(blocks):
            module.poison()
            fibers().run_block(
                module, address, pointer, number, blocks, block, self._ordered
            )

    def _ordered(self, count):
        if self.order == "forward":
            return list(range(count))
        if self.order == "backward":
            return list(range(count))[::-1]
        return np.random.default_rng(self.order).permutation(count).tolist()


@functools.lru_cache(maxsize=64)
def _module(text, shared, by_value):
    return _Module(text, shared, by_value)


class _Module:
    def __init__(self, text, shared, by_value):
        self.by_value = by_value
        self.code = cpu.load_object(cpu.compile_text(text))
        self.shared = shared
        pointer = ctypes.CFUNCTYPE(ctypes.c_void_p)
        self.state = np.ctypeslib.as_array(
            (ctypes.c_int64 * 8).from_address(pointer(self.code.address("sim_state"))())
        )
        self.memory = pointer(self.code.address("sim_shared"))()
        self.late = pointer(self.code.address("sim_shared_late"))()
        self.entry = self.code.address("sim_entry")
        whole, place = ctypes.c_int64, ctypes.c_void_p
        kind = ctypes.CFUNCTYPE(None, place, place, whole, place)
        self.round = kind(self.code.address("sim_round"))

    def function(self, name):
        return self, self.code.address(name)

    def poison(self):
        """Shared memory holds anything when a block starts."""
        ctypes.memset(self.memory, 0xFF, 8 * max(1, self.shared))
        ctypes.memset(self.late, 0xFF, LATE_BYTES)


@functools.cache
def fibers():
    """One set serves all devices: blocks run one after the other."""
    return _Fibers()


class _Fibers:
    """Contexts and stacks of the threads of one block, used again and again."""

    def __init__(self):
        library = ctypes.CDLL(None)
        self.get, self.make = library.getcontext, library.makecontext
        self.get.argtypes = [ctypes.c_void_p]
        self.make.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
        self.make.restype = None
        self.main = ctypes.create_string_buffer(CONTEXT_BYTES)
        self.contexts: list[ctypes.Array] = []
        self.stacks: list[ctypes.Array] = []

    def _prepare(self, thread, entry):
        while len(self.contexts) <= thread:
            self.contexts.append(ctypes.create_string_buffer(CONTEXT_BYTES))
            self.stacks.append(ctypes.create_string_buffer(STACK_BYTES))
        context = ctypes.addressof(self.contexts[thread])
        self.get(context)
        # ucontext_t: flags, link, then the stack's address, flags and size
        fields = (ctypes.c_int64 * 5).from_address(context)
        fields[1] = 0
        fields[2] = ctypes.addressof(self.stacks[thread])
        fields[4] = STACK_BYTES
        self.make(context, entry, 0)
        return context

    def run_block(self, module, function, argument, number, blocks, block, ordered):
        state, main = module.state, ctypes.addressof(self.main)
        state[[BLOCK, BLOCKS, MAIN]] = number, blocks, main
        state[[FUNCTION, ARGUMENT]] = function, argument
        contexts = np.array([self._prepare(t, module.entry) for t in range(block)])
        waits = np.zeros(block, np.int64)
        turns = np.array(ordered(block), np.int64)
        arrays = [a.ctypes.data for a in (contexts, turns, waits)]
        while (waits != DONE).any():
            module.round(arrays[0], arrays[1], block, arrays[2])
            self._release(waits)

    def _release(self, waits):
        """Let threads go on whose warp, or whose block, has arrived."""
        warps = waits.reshape(-1, 32)
        arrived = (warps == WARP).all(axis=1)
        if arrived.any():
            warps[arrived] = RUNNING
        elif (waits == BARRIER).all():
            waits[:] = RUNNING
        elif not (waits == DONE).all():
            counted = {int(k): int((waits == k).sum()) for k in set(waits.tolist())}
            raise AssertionError(f"threads wait for ever: {counted}")


def all_orders():
    """Orders of blocks and threads to try."""
    return itertools.chain(["forward", "backward"], range(2))
