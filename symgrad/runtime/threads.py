"""Run the chunks of a pass on several threads.

Chunks do not depend on the number of threads, and each has its own partial sums, so it
does not matter which thread takes which: results have the same bits.

Handing work to a sleeping thread takes 10-50 µs, as long as a small loss. So workers
look for more work for a little while before they sleep, and all threads, the caller's
too, take one chunk after the other: a worker that is late, or gets no processor, delays
nobody. Both need atomic operations, hence a few functions of LLVM assembly. One set of
workers serves the process, one pass at a time; who finds them busy works alone.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import sys
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

from symgrad.errors import OptionError

SPINS = 2000
"""How often a worker looks for work before it sleeps; about 20-80 µs."""

PATIENCE = 100
"""How many times longer it looks after it was woken: work is on its way."""

_IDLE, _EXPECTING, _POSTED, _RUNNING, _ASLEEP, _STOP = range(6)

_BOX = 128  # bytes of a worker's mailbox: state, job, scratch memory
_JOB = 64  # bytes: next chunk, chunks, function, its four leading arguments

_TEXT = """
{pause_declaration}
{yield_declaration}

define internal void @take_chunks(ptr %job, ptr %scratch) nounwind {{
entry:
  %p1 = getelementptr i64, ptr %job, i64 1
  %chunks = load i64, ptr %p1
  %p2 = getelementptr i64, ptr %job, i64 2
  %function = load ptr, ptr %p2
  %p3 = getelementptr i64, ptr %job, i64 3
  %context = load ptr, ptr %p3
  %p4 = getelementptr i64, ptr %job, i64 4
  %params = load ptr, ptr %p4
  %p5 = getelementptr i64, ptr %job, i64 5
  %outs = load ptr, ptr %p5
  %p6 = getelementptr i64, ptr %job, i64 6
  %work = load ptr, ptr %p6
  br label %next
next:
  %chunk = atomicrmw add ptr %job, i64 1 acq_rel
  %more = icmp slt i64 %chunk, %chunks
  br i1 %more, label %run, label %done
run:
  %after = add i64 %chunk, 1
  call void %function(ptr %context, ptr %params, ptr %outs, ptr %work, ptr %scratch,
                      i64 %chunk, i64 %after)
  br label %next
done:
  ret void
}}

; A worker's life between two sleeps: 1 if it shall end, else 0.
define i64 @serve(ptr %box, i64 %spins) nounwind {{
entry:
  br label %look
look:
  %count = phi i64 [ 0, %entry ], [ 0, %run ], [ %counted, %wait ], [ 0, %drowsy ]
  %state = load atomic i64, ptr %box acquire, align 8
  switch i64 %state, label %wait [ i64 {posted}, label %claim i64 {stop}, label %end ]
claim:
  %pair = cmpxchg ptr %box, i64 {posted}, i64 {running} acq_rel monotonic
  %won = extractvalue {{i64, i1}} %pair, 1
  br i1 %won, label %run, label %wait
run:
  %p1 = getelementptr i64, ptr %box, i64 1
  %job = load ptr, ptr %p1
  %p2 = getelementptr i64, ptr %box, i64 2
  %scratch = load ptr, ptr %p2
  call void @take_chunks(ptr %job, ptr %scratch)
  store atomic i64 {idle}, ptr %box release, align 8
  br label %look
wait:
  {pause}
  %counted = add i64 %count, 1
  %expecting = icmp eq i64 %state, {expecting}
  %longer = mul i64 %spins, {patience}
  %limit = select i1 %expecting, i64 %longer, i64 %spins
  %tired = icmp sge i64 %counted, %limit
  br i1 %tired, label %drowsy, label %look
drowsy:
  %rest = cmpxchg ptr %box, i64 %state, i64 {asleep} acq_rel monotonic
  %asleep = extractvalue {{i64, i1}} %rest, 1
  br i1 %asleep, label %sleep, label %look
sleep:
  ret i64 0
end:
  ret i64 1
}}

; Whether the worker slept; it then is to be woken, and its state is the new one.
define i64 @change(ptr %box, i64 %state) nounwind {{
  %old = atomicrmw xchg ptr %box, i64 %state acq_rel
  %slept = icmp eq i64 %old, {asleep}
  %result = zext i1 %slept to i64
  ret i64 %result
}}

; Offer the job to workers that are awake, take part, and return when nobody is at it
; any more.
define void @share(ptr %boxes, i64 %workers, ptr %job, ptr %scratch) nounwind {{
entry:
  br label %post
post:
  %k = phi i64 [ 0, %entry ], [ %k1, %post ]
  %offset = mul i64 %k, {box}
  %box = getelementptr i8, ptr %boxes, i64 %offset
  %p1 = getelementptr i64, ptr %box, i64 1
  store ptr %job, ptr %p1
  %first = cmpxchg ptr %box, i64 {idle}, i64 {posted} acq_rel monotonic
  %second = cmpxchg ptr %box, i64 {expecting}, i64 {posted} acq_rel monotonic
  %k1 = add i64 %k, 1
  %again = icmp slt i64 %k1, %workers
  br i1 %again, label %post, label %own
own:
  call void @take_chunks(ptr %job, ptr %scratch)
  br label %collect
collect:
  %m = phi i64 [ 0, %own ], [ %m1, %collected ]
  %offset2 = mul i64 %m, {box}
  %other = getelementptr i8, ptr %boxes, i64 %offset2
  %pair = cmpxchg ptr %other, i64 {posted}, i64 {idle} acq_rel acquire
  %withdrawn = extractvalue {{i64, i1}} %pair, 1
  br i1 %withdrawn, label %collected, label %busy
busy:
  %count = phi i64 [ 0, %collect ], [ %counted, %waiting ], [ 0, %long ]
  %state = load atomic i64, ptr %other acquire, align 8
  %running = icmp eq i64 %state, {running}
  br i1 %running, label %waiting, label %collected
waiting:
  {pause}
  %counted = add i64 %count, 1
  %late = icmp sge i64 %counted, 1000
  br i1 %late, label %long, label %busy
long:
  {yield}
  br label %busy
collected:
  %m1 = add i64 %m, 1
  %rest = icmp slt i64 %m1, %workers
  br i1 %rest, label %collect, label %done
done:
  ret void
}}
"""


def default_threads() -> int:
    """``SYMGRAD_NUM_THREADS`` if set, else the processors this process may use.

    Raises:
        OptionError: it is set to something else than a positive number.
    """
    wanted = os.environ.get("SYMGRAD_NUM_THREADS")
    if wanted:
        if not (wanted.strip().isdecimal() and int(wanted) > 0):
            raise OptionError(
                f"the environment has SYMGRAD_NUM_THREADS={wanted!r}: set it to a "
                "positive number, or not at all"
            )
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_parallel(
    function: int, common: Sequence[int], scratch: Sequence[int], chunks: int
) -> None:
    """Run the chunks 0 .. chunks-1 on as many threads as there is scratch memory.

    function: the address of ``void f(context, params, outs, work, scratch, low, high)``
    common: its first four arguments. The caller is one of the threads.
    """
    workers = min(len(scratch), chunks) - 1
    job = (ctypes.c_int64 * (_JOB // 8))(0, chunks, function, *common)
    if workers > 0 and _pool.run(job, scratch, workers):
        return
    _CHUNKS(function)(*common, scratch[0], 0, chunks)


_CHUNKS = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5, ctypes.c_int64, ctypes.c_int64)


class _Pool:
    """The workers of this process, as many as any call has asked for."""

    def __init__(self) -> None:
        self.free = threading.Lock()
        self.threads: list[threading.Thread] = []
        self.doors: list[threading.Lock] = []  # a sleeping worker waits at its own
        self.memory, self.boxes = _aligned_boxes(0)

    def run(self, job: Any, scratch: Sequence[int], workers: int) -> bool:
        """Share ``job`` out; false if the workers are busy."""
        if not self.free.acquire(blocking=False):
            return False
        try:
            if workers > len(self.threads):
                self._hire(workers)
            for k in range(workers):
                box = self._box(k)
                box[2] = scratch[k + 1]
                if box[0] == _ASLEEP and _functions().change(self._at(k), _EXPECTING):
                    self.doors[k].release()
            address = ctypes.addressof(job)
            _functions().share(self.boxes, workers, address, scratch[0])
        finally:
            self.free.release()
        return True

    def _at(self, k: int) -> int:
        return self.boxes + _BOX * k

    def _box(self, k: int) -> Any:
        return (ctypes.c_int64 * 3).from_address(self._at(k))

    def _hire(self, workers: int) -> None:
        """A larger set of workers, with new mailboxes; the old ones go home."""
        self.dismiss()
        functions = _functions()  # before there is a second thread that wants them
        self.memory, self.boxes = _aligned_boxes(workers)
        self.doors = [threading.Lock() for _ in range(workers)]
        for k, door in enumerate(self.doors):
            door.acquire()
            arguments = (functions, self._at(k), door, self.memory)
            thread = threading.Thread(
                target=_serve, args=arguments, name=f"symgrad-{k}", daemon=True
            )
            thread.start()
            self.threads.append(thread)

    def dismiss(self) -> None:
        """End all workers, who must have nothing to do."""
        for k, door in enumerate(self.doors):
            if _functions().change(self._at(k), _STOP):
                door.release()
        for thread in self.threads:
            thread.join()
        self.threads, self.doors = [], []


def _serve(functions: _Functions, box: int, door: threading.Lock, memory: Any) -> None:
    """A worker. ``memory`` is kept alive as long as its mailbox is in use."""
    while not functions.serve(box, SPINS):
        door.acquire()


def _aligned_boxes(count: int) -> tuple[Any, int]:
    """Mailboxes that share no cache line: their memory and the first one's address."""
    memory = (ctypes.c_int64 * ((count + 1) * _BOX // 8))()
    address = ctypes.addressof(memory)
    return memory, address + -address % _BOX


class _Functions:
    """The compiled functions of ``_TEXT``; they let other Python threads run."""

    def __init__(self) -> None:
        from symgrad.codegen import cpu
        from symgrad.runtime.cache import compile_cached

        self.code = cpu.load_object(compile_cached(_text()))
        word, pointer = ctypes.c_int64, ctypes.c_void_p

        def entry(name: str, *kinds: Any) -> Any:
            return ctypes.CFUNCTYPE(*kinds)(self.code.address(name))

        self.serve = entry("serve", word, pointer, word)
        self.change = entry("change", word, pointer, word)
        self.share = entry("share", None, pointer, word, pointer, pointer)


@cache
def _functions() -> _Functions:
    return _Functions()


def _text() -> str:
    machine = platform.machine().lower()
    pause = machine in ("x86_64", "amd64", "i686")
    posix = sys.platform != "win32"
    return _TEXT.format(
        idle=_IDLE,
        expecting=_EXPECTING,
        patience=PATIENCE,
        posted=_POSTED,
        running=_RUNNING,
        asleep=_ASLEEP,
        stop=_STOP,
        box=_BOX,
        pause="call void @llvm.x86.sse2.pause()" if pause else "",
        pause_declaration="declare void @llvm.x86.sse2.pause()" if pause else "",
        **{
            "yield": "%ignored = call i32 @sched_yield()" if posix else "",
            "yield_declaration": "declare i32 @sched_yield()" if posix else "",
        },
    )


def _forget() -> None:
    """In a forked child, where the threads of its parent do not exist."""
    _pool.__init__()


def _close() -> None:
    """End the workers while the interpreter and the compiled code still live."""
    if _pool.free.acquire(timeout=1.0):  # kept: later passes run on their own thread
        _pool.dismiss()


_pool = _Pool()
atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
