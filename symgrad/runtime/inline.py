"""Objectives as text, to be compiled together with a loop around them.

All that a bound objective knows besides its data, lengths and offsets and strides,
becomes constants; the addresses of the data are still read from its context.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from symgrad.codegen.chunks import HASTY
from symgrad.runtime.kernel import Context

MAX_LINES = 2500
"""Kernels longer than this take too long to optimise for what it gains."""

MAX_BYTES = 1 << 13
"""Work memory that may stand in the frame of the loop."""

_DEFINE = re.compile(r"^define +(?:internal +)?(.*) nounwind(.*)$", re.M)
_DECLARE = re.compile(r"^(declare .* @(?!llvm\.).*)$", re.M)


@dataclass(frozen=True)
class Inlined:
    """An objective over P parameters, without its function ``objective``.

    text: functions, all internal; ``double @evaluate(context, x, gradient, work)`` is
        the loss. prologue: instructions that make ``%local``, the context, from
        ``%r``'s field <context>, and ``%work``. size: P. address: of the context that
        the data are read from. owner: keeps the data alive.
    """

    text: str
    prologue: str
    size: int
    address: int
    owner: object = field(repr=False, compare=False)


def few_lanes(context: Context) -> int | None:
    """Rows per vector that hold all rows, if half of a vector or less does.

    Shorter vectors divide faster and are summed in fewer steps. The sums keep their
    bits: a vector holds every row once, and the lanes left out held zeros. Where lanes
    run along something else than rows that would not be so.
    """
    kernel, rows = context.kernel, max(context.sizes.rows, default=0)
    if not rows or any(step.deferred for step in kernel.plan.steps):
        return None
    lanes = 2 if kernel.dtype == "float64" else 4  # 128 bits
    while lanes < rows:
        lanes *= 2
    return lanes if 2 * lanes <= kernel.lanes else None


def inlined(context: Context, size: int) -> Inlined | None:
    """The objective with this context, if it is small enough to gain by it."""
    kernel, sizes = context.kernel, context.sizes
    much = sizes.work_bytes + sizes.scratch_bytes > MAX_BYTES
    if much or kernel.llvm.count("\n") > MAX_LINES:
        return None
    return Inlined(
        _internal(kernel.llvm), _prologue(context), size, context.address, context
    )


def _internal(text: str) -> str:
    """The module's functions as parts of a larger one; subroutines stay apart.

    What runs once per chunk was not worth optimising (``chunks.HASTY``): here it is,
    because it runs in every step. C's functions are not LLVM's to know: it would turn
    pow(x, 2) into x*x, other bits.
    """

    def define(match: re.Match[str]) -> str:
        head, attributes = match.groups()
        attributes = attributes.replace(HASTY, "")
        inline = "" if "noinline" in attributes else "alwaysinline "
        return f"define internal {head} {inline}nounwind{attributes}"

    return _DECLARE.sub(r"\1 nobuiltin", _DEFINE.sub(define, text))


def _prologue(context: Context) -> str:
    """%local: the slots of the context; %work: memory."""
    sizes, slots = context.sizes, context.slots
    data = {slot for _, slot in context.sized.data}
    lines = [
        f"  %local = alloca [{slots.size} x i64], align 64",
        f"  %work = alloca i8, i64 {sizes.work_bytes + sizes.scratch_bytes + 64}, "
        "align 64",
        "  %bound = call ptr @address(ptr %r, i64 <context>)",
    ]
    for k, value in enumerate(slots.tolist()):
        lines.append(f"  %slot{k} = getelementptr i64, ptr %local, i64 {k}")
        number = str(value)
        if k in data:
            lines.append(f"  %from{k} = getelementptr i64, ptr %bound, i64 {k}")
            lines.append(f"  %data{k} = load i64, ptr %from{k}")
            number = f"%data{k}"
        lines.append(f"  store i64 {number}, ptr %slot{k}")
    return "\n".join(lines)
