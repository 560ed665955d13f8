"""One step of a descent as the last thing that a kernel for a GPU does.

The block that completes the loss and its gradient also judges them and moves the
parameters, so a step is one launch for most losses. The fields are those of the
processor's loops (``loop_text.RECORD``) and a few more, in device memory; a rule's
formula is the row of ``rules.py``, so all bits of the update are the processor's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from symgrad.codegen.cuda_emitter import WARP
from symgrad.codegen.cuda_passes import fold_warp
from symgrad.codegen.cuda_writer import ThreadWriter
from symgrad.codegen.llvm_text import Value
from symgrad.codegen.math_lanes import Lanes
from symgrad.codegen.sums import combine
from symgrad.optimize.loop_text import CONVERGED, GROWN, NOT_FINITE, RECORD, RUNNING
from symgrad.optimize.rules import Rule

FIELDS = (*RECORD, "why", "first", "target")
"""why: a run ended, or RUNNING. first, target: the steps of this slice."""

PLACE = {name: k for k, name in enumerate(FIELDS)}
_NUMBERS = ("lr", "loss", "lowest", "largest", "limit", "tol")
_POINTERS = ("x", "gradient", "best", "state", "options", "lower", "upper", "losses",
             "rates")  # fmt: skip

Tail = Callable[[ThreadWriter], None]


class StepWriter:
    """Writes ``step``, which judges and moves, and ``move`` alone.

    bounded: whether parameters have bounds.
    """

    def __init__(self, rule: Rule, bounded: bool) -> None:
        self.rule, self.bounded = rule, bounded

    def step(self, writer: ThreadWriter) -> None:
        """The loss and the gradient are complete: note them, and move."""
        self._open(writer)
        e = self.e
        loss = writer.pointer_argument("outs", 0)
        writer.home()
        running = e.icmp("eq", self.field("why"), e.const(RUNNING, "i64"))
        left = e.icmp("slt", self.field("step"), self.field("target"))
        e.barrier()
        e.when(e.binary("and", running, left), lambda: self._judge_and_move(loss))

    def move(self, writer: ThreadWriter) -> None:
        """Move only: a slice of steps starts with it."""
        self._open(writer)
        self._move()

    # -- fields ----------------------------------------------------------------------

    def _open(self, writer: ThreadWriter) -> None:
        self.writer, self.e = writer, writer.thread
        self.record = writer.context("record", type="ptr")
        writer.home()
        self.index, self.block = writer.index, writer.block
        e = self.e
        self.is_first = e.icmp("eq", self.index, e.const(0, "i64"))
        self.at = {name: self._load(name, "ptr") for name in _POINTERS}
        self.size = self.field("size")

    def _place(self, name: str) -> Value:
        return self.e.gep(self.record, self.e.const(PLACE[name], "i64"), "i64")

    def _load(self, name: str, type: str) -> Value:
        return self.e.load(self._place(name), type)

    def field(self, name: str) -> Value:
        """A field of the record: an integer or a number."""
        return self._load(name, "double" if name in _NUMBERS else "i64")

    def store(self, name: str, value: Value) -> None:
        """Set a field; one thread does it."""
        self.e.store(value, self._place(name))

    def element(self, name: str, i: Value) -> Value:
        """Where element ``i`` of a vector is."""
        return self.e.gep(self.at[name], i, "double")

    def _over(
        self,
        body: Callable[[Value, list[Value]], Sequence[Value]],
        carried: Sequence[Value] = (),
    ) -> list[Value]:
        """All parameters, shared out among the threads of the block."""
        return self.e.loop(self.index, self.size, self.block, carried, body)

    # -- judging ---------------------------------------------------------------------

    def _judge_and_move(self, loss: Value) -> None:
        e = self.e
        value = e.load(loss, "double")
        largest = self._largest()
        improved, moving = e.shared(0, 1), e.shared(1, 1)
        e.when(self.is_first, lambda: self._weigh(value, largest, improved, moving))
        e.barrier()
        found = [e.load(flag, "i64") for flag in (improved, moving)]
        zero = e.const(0, "i64")
        e.when(e.icmp("ne", found[0], zero), self._keep_best)
        e.when(e.icmp("ne", found[1], zero), self._move)

    def _largest(self) -> Value:
        """The largest |component| of the (projected) gradient, in the first thread;
        infinity where one is not finite."""
        e = self.e

        def body(i: Value, carried: list[Value]) -> list[Value]:
            slope = Lanes(e, e.load(self.element("gradient", i), "double"))
            finite = abs(slope) < float("inf")
            if self.bounded:
                x, lower, upper = (
                    Lanes(e, e.load(self.element(name, i), "double"))
                    for name in ("x", "lower", "upper")
                )
                slope = slope.at_least(x - upper).at_most(x - lower)
            size = finite.choose(abs(slope), float("inf"))
            return [Lanes(e, carried[0]).at_least(size).value]

        own = self._over(body, [e.const(0.0, "double")])[0]
        return self._block_maximum(own)

    def _block_maximum(self, value: Value) -> Value:
        e, warps = self.e, self.block // WARP
        value = fold_warp(e, "max", value)
        warp = e.binary("lshr", self.index, e.const(5, "i64"))
        lane = e.binary("and", self.index, e.const(WARP - 1, "i64"))
        places = e.shared(2, warps)
        first = e.icmp("eq", lane, e.const(0, "i64"))
        e.when(first, lambda: e.store(value, e.gep(places, warp, "double")))
        e.barrier()
        total = e.load(places, "double")
        for k in range(1, warps):
            other = e.load(e.gep(places, e.const(k, "i64"), "double"), "double")
            total = combine(e, "max", total, other)
        return total

    def _weigh(
        self, loss: Value, largest: Value, improved: Value, moving: Value
    ) -> None:
        """By the first thread, as the processor's loops do it."""
        e = self.e
        infinity, zero = e.const(float("inf"), "double"), e.const(0, "i64")
        step = e.binary("add", self.field("step"), e.const(1, "i64"))
        self.store("step", step)
        self._record(step, loss)
        previous, lowest = self.field("loss"), self.field("lowest")
        self.store("loss", loss)
        self.store("largest", largest)
        finite = e.binary(
            "and",
            e.fcmp("olt", e.intrinsic("fabs", loss), infinity),
            e.fcmp("olt", largest, infinity),
        )
        better = e.binary("and", finite, e.fcmp("olt", loss, lowest))
        self.store("lowest", e.select(better, loss, lowest))
        self.store("best_step", e.select(better, step, self.field("best_step")))
        e.store(e.convert("zext", better, "i64"), improved)
        rises = e.fcmp("ogt", loss, previous)
        grown = e.binary("and", e.fcmp("ogt", loss, self.field("limit")), rises)
        why = e.select(grown, e.const(GROWN, "i64"), e.const(RUNNING, "i64"))
        flat = e.fcmp("olt", largest, self.field("tol"))
        why = e.select(flat, e.const(CONVERGED, "i64"), why)
        why = e.select(finite, why, e.const(NOT_FINITE, "i64"))
        self.store("why", why)
        goes_on = e.binary(
            "and",
            e.icmp("eq", why, zero),
            e.icmp("slt", step, self.field("target")),
        )
        e.store(e.convert("zext", goes_on, "i64"), moving)

    def _record(self, step: Value, loss: Value) -> None:
        """Keep the loss in the history, every 2**thin-th one."""
        e, zero, one = self.e, self.e.const(0, "i64"), self.e.const(1, "i64")
        thin = self.field("thin")
        shift = e.select(e.icmp("slt", thin, zero), zero, thin)
        mask = e.binary("sub", e.binary("shl", one, shift), one)
        due = e.icmp("eq", e.binary("and", step, mask), zero)
        kept = e.binary("and", due, e.icmp("sge", thin, zero))
        place = self.element("losses", e.binary("lshr", step, shift))
        e.when(kept, lambda: e.store(loss, place))

    def _keep_best(self) -> None:
        e = self.e

        def body(i: Value, _: list[Value]) -> list[Value]:
            e.store(e.load(self.element("x", i), "double"), self.element("best", i))
            return []

        self._over(body)

    # -- moving ----------------------------------------------------------------------

    def _move(self) -> None:
        """The rule's update of every parameter, then its projection on the bounds."""
        e, rule = self.e, self.rule
        turn = e.binary("sub", self.field("step"), self.field("first"))
        turn = e.binary("mul", turn, self.field("varies"))
        lr = Lanes(e, e.load(self.element("rates", turn), "double"))
        options = self._numbers("options", e.const(0, "i64"), rule.option_count)
        tail = e.binary("mul", self.size, e.const(rule.slots, "i64"))
        old = self._numbers("state", tail, len(rule.scalars))
        scalars, coefficients = rule.begin(old, options, lr)
        e.barrier()  # all have read the scalars
        e.when(self.is_first, lambda: self._store_scalars(tail, scalars))

        def body(i: Value, _: list[Value]) -> list[Value]:
            self._update(i, coefficients)
            return []

        self._over(body)

    def _numbers(self, name: str, start: Value, count: int) -> tuple[Lanes, ...]:
        e = self.e
        places = [
            self.element(name, e.binary("add", start, e.const(k, "i64")))
            for k in range(count)
        ]
        return tuple(Lanes(e, e.load(place, "double")) for place in places)

    def _store_scalars(self, tail: Value, scalars: Sequence[Lanes]) -> None:
        e = self.e
        for k, scalar in enumerate(scalars):
            place = self.element("state", e.binary("add", tail, e.const(k, "i64")))
            e.store(scalar.value, place)

    def _update(self, i: Value, coefficients: Sequence[Lanes]) -> None:
        e, rule = self.e, self.rule
        places = [self.element("x", i)]
        for k in range(rule.slots):
            start = e.binary("mul", self.size, e.const(k, "i64"))
            places.append(self.element("state", e.binary("add", start, i)))
        x, *slots = (Lanes(e, e.load(p, "double")) for p in places)
        g = Lanes(e, e.load(self.element("gradient", i), "double"))
        new, kept = rule.update(x, g, tuple(slots), tuple(coefficients))
        if self.bounded:
            lower, upper = (
                Lanes(e, e.load(self.element(name, i), "double"))
                for name in ("lower", "upper")
            )
            new = new.at_least(lower).at_most(upper)
        for value, place in zip((new, *kept), places, strict=True):
            e.store(value.value, place)
