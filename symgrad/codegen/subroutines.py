"""Vector functions as subroutines, where a kernel uses one many times.

Inlined, a function like ``sin`` is some forty instructions in one basic block, and
LLVM's time grows faster than the block. Beyond a few uses a call costs less than it
saves. The instructions are the same, and so are the results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from symgrad import graph
from symgrad.codegen import operations, vectormath
from symgrad.codegen.llvm_text import Emitter, Value
from symgrad.graph import Call, Node

INLINED_USES = 16
"""A function used more often than this in one kernel is called."""


def often_used(roots: Iterable[Node]) -> frozenset[str]:
    """The functions that a kernel for ``roots`` should call."""
    uses = Counter(n.op for n in graph.walk(roots) if isinstance(n, Call))
    inline_only = {"polygamma"}  # its order is an immediate
    return frozenset(
        op
        for op, count in uses.items()
        if op in vectormath.SUPPORTED - inline_only and count > INLINED_USES
    )


def call(emitter: Emitter, op: str, args: list[Value], attributes: str) -> Value:
    """``op(*args)`` through a subroutine, written on first use."""
    lanes = max(a.lanes for a in args)
    wide = [emitter.splat(a, lanes) for a in args]
    kind = wide[0].type
    name = f"{op}_{kind}_{lanes}"
    _write(emitter, name, op, wide, attributes)
    return emitter.call_internal(name, kind, lanes, wide)


def _write(
    emitter: Emitter,
    name: str,
    op: str,
    args: list[Value],
    attributes: str,
) -> None:
    module = emitter.module
    if name in module.internal:
        return
    module.internal.add(name)
    inner = type(emitter)(module, emitter.features)
    parameters = [Value(f"%x{k}", a.type, a.lanes) for k, a in enumerate(args)]
    result = operations.emit(inner, op, parameters)
    spelled = [repr(p) for p in parameters]
    inner.finish(name, spelled, result, f"noinline {attributes}", linkage="internal")
