"""Descent loops as LLVM assembly: a rule's formula between the evaluations of a loss.

The control flow is written out below; what runs over the parameters is emitted from
the rules of ``rules.py``, a vector at a time and then one by one, and a lane has the
bits of a scalar. A loop calls its loss by address, or contains it (``Inlined``): then
LLVM's passes keep parameters, gradient and state in registers, and the bits stay the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from symgrad.codegen import cpu
from symgrad.codegen.llvm_text import Emitter, Module, Value
from symgrad.codegen.math_lanes import Lanes
from symgrad.optimize.batch_text import BATCHES
from symgrad.optimize.rules import Rule
from symgrad.runtime.inline import Inlined

RECORD = (
    "function", "context", "x", "gradient", "best", "state", "options", "lower",
    "upper", "losses", "rates", "varies", "size", "bounded", "steps", "batch",
    # updated every step
    "step", "best_step", "thin",
    # float64
    "lr", "loss", "lowest", "largest", "limit", "tol",
)  # fmt: skip
"""What a loop is told, 8 bytes each: addresses and integers, then numbers."""

PLACE = {name: k for k, name in enumerate(RECORD)}

RUNNING, CONVERGED, NOT_FINITE, GROWN = 0, 1, 2, 3
"""Why a slice ended."""

_INLINE = "alwaysinline"


def loop_text(rule: Rule, inlined: Inlined | None = None) -> str:
    """The functions ``descend``, ``move`` and ``judge`` of a rule, on a record."""
    module = Module()
    writer = _Writer(module, rule)
    writer.write_update()
    writer.write_project()
    writer.write_largest()
    writer.write_copy()
    parts = [module.text(), _JUDGE]
    if inlined is None:
        parts += [BATCHES, _ENTRIES, _descend(_BY_ADDRESS)]
    else:
        parts += [inlined.text, _descend(_contained(rule, inlined))]
    return _numbered(_merged(parts))


def _merged(parts: Sequence[str]) -> str:
    """One module of several: a declaration may stand in it once only."""
    lines = [line for part in parts for line in part.splitlines()]
    declared = dict.fromkeys(line for line in lines if line.startswith("declare "))
    rest = [line for line in lines if not line.startswith("declare ")]
    return "\n".join([*declared, *rest])


def _numbered(text: str) -> str:
    """Names of the record's fields to their offsets in bytes."""
    for name, place in PLACE.items():
        text = text.replace(f"<{name}>", str(8 * place))
    return text


# ------------------------------------------------------------ loops over the parameters


class _Writer:
    """Emits what runs over all parameters."""

    def __init__(self, module: Module, rule: Rule) -> None:
        self.module, self.rule = module, rule
        machine = cpu.host()
        self.lanes, self.features = machine.lanes("float64"), machine.features
        self.attributes = f'{_INLINE} "prefer-vector-width"="{machine.vector_bits}"'

    def _emitter(self) -> Emitter:
        return Emitter(self.module, self.features)

    def _finish(
        self,
        emitter: Emitter,
        name: str,
        parameters: Sequence[str],
        result: Value | None = None,
    ) -> None:
        emitter.finish(name, parameters, result, self.attributes, "internal")

    def _over(
        self,
        emitter: Emitter,
        carried: Value | None,
        body: Callable[[Value, int, list[Value]], Sequence[Value]],
    ) -> Value | None:
        """``body(i, lanes, carried)`` for whole vectors, then for single elements.

        carried: a scalar that both loops pass on, by maximum; None if there is none.
        """
        size, zero = Value("%size", "i64"), emitter.const(0, "i64")
        whole = emitter.binary("and", size, emitter.const(-self.lanes, "i64"))
        start = [] if carried is None else [carried]

        def vectors() -> Value:
            wide = [emitter.splat(c, self.lanes) for c in start]
            found = emitter.loop(
                zero, whole, self.lanes, wide, lambda i, c: body(i, self.lanes, c),
                nonempty=True,
            )  # fmt: skip
            return emitter.fold_lanes("maximum", found[0]) if found else zero

        some = emitter.icmp("sgt", whole, zero)
        if carried is None:
            emitter.when(some, lambda: _ignore(vectors()))
        else:
            start = [emitter.branch_if(some, vectors, carried)]
        found = emitter.loop(whole, size, 1, start, lambda i, c: body(i, 1, c))
        return found[0] if found else None

    def write_update(self) -> None:
        """``@update``: one step of the rule on all parameters."""
        e, rule = self._emitter(), self.rule
        x, g, state = (Value(f"%{n}", "ptr") for n in ("x", "g", "state"))
        size = Value("%size", "i64")
        memory = e.binary("mul", size, e.const(rule.slots, "i64"))
        tail = e.gep(state, memory, "double")
        options = _read(e, Value("%options", "ptr"), rule.option_count)
        scalars = _read(e, tail, len(rule.scalars))
        scalars, coefficients = rule.begin(
            scalars, options, Lanes(e, Value("%lr", "double"))
        )
        for k, scalar in enumerate(scalars):
            e.store(scalar.value, e.gep(tail, e.const(k, "i64"), "double"))
        places = [state]
        for _ in range(1, rule.slots):
            places.append(e.gep(places[-1], size, "double"))
        wide = {
            lanes: [Lanes(e, e.splat(c.value, lanes)) for c in coefficients]
            for lanes in (1, self.lanes)
        }

        def body(i: Value, lanes: int, _: list[Value]) -> Sequence[Value]:
            at = [e.gep(p, i, "double") for p in (x, g, *places[: rule.slots])]
            old = [Lanes(e, e.load(p, "double", lanes)) for p in at]
            new, slots = rule.update(old[0], old[1], tuple(old[2:]), tuple(wide[lanes]))
            for value, place in zip((new, *slots), (at[0], *at[2:]), strict=True):
                e.store(value.value, place)
            return []

        self._over(e, None, body)
        pointers = "ptr %x", "ptr %g", "ptr %state", "ptr %options"
        self._finish(e, "update", (*pointers, "double %lr", "i64 %size"))

    def write_project(self) -> None:
        """``@project``: x to its bounds. A NaN stays a NaN."""
        e = self._emitter()

        def body(i: Value, lanes: int, _: list[Value]) -> Sequence[Value]:
            x, lower, upper = _load(e, ("x", "lower", "upper"), i, lanes)
            clipped = x.at_least(lower).at_most(upper)
            e.store(clipped.value, e.gep(Value("%x", "ptr"), i, "double"))
            return []

        self._over(e, None, body)
        pointers = "ptr %x", "ptr %lower", "ptr %upper"
        self._finish(e, "project", (*pointers, "i64 %size"))

    def write_largest(self) -> None:
        """``@largest`` and, with bounds, ``@largest_projected``: the largest
        |component| of the gradient; infinity where one is not finite."""
        for name, bounded in (("largest", False), ("largest_projected", True)):
            e = self._emitter()

            def body(
                i: Value,
                lanes: int,
                carried: list[Value],
                e: Emitter = e,
                bounded: bool = bounded,
            ) -> Sequence[Value]:
                names = ("x", "g", "lower", "upper") if bounded else ("g",)
                slope, *ends = _load(e, names[bounded:] + names[:bounded], i, lanes)
                finite = abs(slope) < float("inf")
                if bounded:
                    # x - clip(x - slope, lower, upper): 0 where a bound holds x back
                    lower, upper, x = ends
                    slope = slope.at_least(x - upper).at_most(x - lower)
                size = finite.choose(abs(slope), float("inf"))
                return [Lanes(e, carried[0]).at_least(size).value]

            found = self._over(e, e.const(0.0, "double"), body)
            pointers = "ptr %x", "ptr %g", "ptr %lower", "ptr %upper"
            self._finish(e, name, (*pointers, "i64 %size"), found)

    def write_copy(self) -> None:
        """``@copy``: some numbers from one place to another."""
        e = self._emitter()

        def body(i: Value, lanes: int, _: list[Value]) -> Sequence[Value]:
            (value,) = _load(e, ("from",), i, lanes)
            e.store(value.value, e.gep(Value("%to", "ptr"), i, "double"))
            return []

        self._over(e, None, body)
        self._finish(e, "copy", ("ptr %to", "ptr %from", "i64 %size"))


def _ignore(_: Value) -> None:
    return None


def _read(e: Emitter, pointer: Value, count: int) -> tuple[Lanes, ...]:
    """Numbers that follow each other in memory."""
    places = [e.gep(pointer, e.const(k, "i64"), "double") for k in range(count)]
    return tuple(Lanes(e, e.load(p, "double")) for p in places)


def _load(e: Emitter, names: Sequence[str], i: Value, lanes: int) -> list[Lanes]:
    """Elements i, i+1, ... of the arguments of these names."""
    places = [e.gep(Value(f"%{name}", "ptr"), i, "double") for name in names]
    return [Lanes(e, e.load(p, "double", lanes)) for p in places]


# ------------------------------------------------------------------------- control flow
# %r is the record. Numbers in <> are offsets of its fields.

_JUDGE = """
define internal ptr @place(ptr %r, i64 %offset) alwaysinline {
  %p = getelementptr i8, ptr %r, i64 %offset
  ret ptr %p
}

define internal ptr @address(ptr %r, i64 %offset) alwaysinline {
  %p = getelementptr i8, ptr %r, i64 %offset
  %v = load ptr, ptr %p
  ret ptr %v
}

define internal i64 @integer(ptr %r, i64 %offset) alwaysinline {
  %p = getelementptr i8, ptr %r, i64 %offset
  %v = load i64, ptr %p
  ret i64 %v
}

define internal double @number(ptr %r, i64 %offset) alwaysinline {
  %p = getelementptr i8, ptr %r, i64 %offset
  %v = load double, ptr %p
  ret double %v
}

; keep a loss in the history, every 2**thin-th one
define internal void @record(ptr %r, double %loss) alwaysinline {
  %step = call i64 @integer(ptr %r, i64 <step>)
  %thin = call i64 @integer(ptr %r, i64 <thin>)
  %kept = icmp sge i64 %thin, 0
  br i1 %kept, label %count, label %done
count:
  %one = shl i64 1, %thin
  %mask = sub i64 %one, 1
  %rest = and i64 %step, %mask
  %due = icmp eq i64 %rest, 0
  br i1 %due, label %store, label %done
store:
  %losses = call ptr @address(ptr %r, i64 <losses>)
  %k = lshr i64 %step, %thin
  %p = getelementptr double, ptr %losses, i64 %k
  store double %loss, ptr %p
  br label %done
done:
  ret void
}

define internal double @slope(ptr %r, ptr %x, ptr %g, i64 %size) alwaysinline {
  %bounded = call i64 @integer(ptr %r, i64 <bounded>)
  %lower = call ptr @address(ptr %r, i64 <lower>)
  %upper = call ptr @address(ptr %r, i64 <upper>)
  %free = icmp eq i64 %bounded, 0
  br i1 %free, label %plain, label %projected
plain:
  %a = call double @largest(ptr %x, ptr %g, ptr %lower, ptr %upper, i64 %size)
  ret double %a
projected:
  %b = call double @largest_projected(ptr %x, ptr %g, ptr %lower, ptr %upper, i64 %size)
  ret double %b
}

declare double @llvm.fabs.f64(double)

; a step is complete: note its loss; whether to stop, and why
define internal i64 @weigh(ptr %r, double %loss, ptr %x, ptr %g, i64 %size)
    alwaysinline {
  call void @record(ptr %r, double %loss)
  %previous = call double @number(ptr %r, i64 <loss>)
  %slope = call double @slope(ptr %r, ptr %x, ptr %g, i64 %size)
  %p_loss = call ptr @place(ptr %r, i64 <loss>)
  store double %loss, ptr %p_loss
  %p_largest = call ptr @place(ptr %r, i64 <largest>)
  store double %slope, ptr %p_largest
  %size_of_loss = call double @llvm.fabs.f64(double %loss)
  %loss_finite = fcmp olt double %size_of_loss, 0x7FF0000000000000
  %slope_finite = fcmp olt double %slope, 0x7FF0000000000000
  %finite = and i1 %loss_finite, %slope_finite
  br i1 %finite, label %compare, label %broken
broken:
  ret i64 2
compare:
  %lowest = call double @number(ptr %r, i64 <lowest>)
  %better = fcmp olt double %loss, %lowest
  br i1 %better, label %improve, label %test
improve:
  %p_lowest = call ptr @place(ptr %r, i64 <lowest>)
  store double %loss, ptr %p_lowest
  %step = call i64 @integer(ptr %r, i64 <step>)
  %p_step = call ptr @place(ptr %r, i64 <best_step>)
  store i64 %step, ptr %p_step
  %best = call ptr @address(ptr %r, i64 <best>)
  call void @copy(ptr %best, ptr %x, i64 %size)
  br label %test
test:
  %tol = call double @number(ptr %r, i64 <tol>)
  %flat = fcmp olt double %slope, %tol
  %limit = call double @number(ptr %r, i64 <limit>)
  %high = fcmp ogt double %loss, %limit
  %rises = fcmp ogt double %loss, %previous
  %grown = and i1 %high, %rises
  %why = select i1 %grown, i64 3, i64 0
  %result = select i1 %flat, i64 1, i64 %why
  ret i64 %result
}

; one update of x in place, projected on the bounds
define internal void @step(ptr %r, ptr %x, ptr %g, ptr %state, double %lr, i64 %size)
    alwaysinline {
  %options = call ptr @address(ptr %r, i64 <options>)
  call void @update(ptr %x, ptr %g, ptr %state, ptr %options, double %lr, i64 %size)
  %bounded = call i64 @integer(ptr %r, i64 <bounded>)
  %free = icmp eq i64 %bounded, 0
  br i1 %free, label %done, label %clip
clip:
  %lower = call ptr @address(ptr %r, i64 <lower>)
  %upper = call ptr @address(ptr %r, i64 <upper>)
  call void @project(ptr %x, ptr %lower, ptr %upper, i64 %size)
  br label %done
done:
  ret void
}
"""

_ENTRIES = """
; parts of a step, for losses that only Python may call
define void @move(ptr %r) {
  %x = call ptr @address(ptr %r, i64 <x>)
  %g = call ptr @address(ptr %r, i64 <gradient>)
  %state = call ptr @address(ptr %r, i64 <state>)
  %lr = call double @number(ptr %r, i64 <lr>)
  %size = call i64 @integer(ptr %r, i64 <size>)
  call void @step(ptr %r, ptr %x, ptr %g, ptr %state, double %lr, i64 %size)
  ret void
}

define i64 @judge(ptr %r, double %loss) {
  %x = call ptr @address(ptr %r, i64 <x>)
  %g = call ptr @address(ptr %r, i64 <gradient>)
  %size = call i64 @integer(ptr %r, i64 <size>)
  %why = call i64 @weigh(ptr %r, double %loss, ptr %x, ptr %g, i64 %size)
  ret i64 %why
}
"""

_DESCEND = """
; up to <steps> steps; why it ended. A step moves x along the gradient there, then
; evaluates. From step -1 there is no gradient yet: the first turn only evaluates.
define i64 @descend(ptr noalias %r) nounwind "prefer-vector-width"="{bits}" {{
entry:
  %user_x = call ptr @address(ptr %r, i64 <x>)
  %user_g = call ptr @address(ptr %r, i64 <gradient>)
  %user_state = call ptr @address(ptr %r, i64 <state>)
  %steps = call i64 @integer(ptr %r, i64 <steps>)
  %rates = call ptr @address(ptr %r, i64 <rates>)
  %varies = call i64 @integer(ptr %r, i64 <varies>)
  %p_step = call ptr @place(ptr %r, i64 <step>)
{prologue}
  br label %turn
turn:
  %k = phi i64 [ 0, %entry ], [ %k1, %next ]
  %step = load i64, ptr %p_step
  %has_gradient = icmp sge i64 %step, 0
  br i1 %has_gradient, label %go, label %look
go:
  %which = mul i64 %k, %varies
  %p_rate = getelementptr double, ptr %rates, i64 %which
  %lr = load double, ptr %p_rate
  call void @step(ptr %r, ptr {x}, ptr {g}, ptr {state}, double %lr, i64 {size})
  br label %look
look:
  %made = add i64 %step, 1
  store i64 %made, ptr %p_step
{evaluate}
  %why = call i64 @weigh(ptr %r, double %loss, ptr {x}, ptr {g}, i64 {size})
  %runs = icmp eq i64 %why, 0
  br i1 %runs, label %next, label %end
next:
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %steps
  br i1 %more, label %turn, label %end
end:
{epilogue}
  ret i64 %why
}}
"""

_BY_ADDRESS = {
    "prologue": "  %size = call i64 @integer(ptr %r, i64 <size>)\n"
    "  %function = call ptr @address(ptr %r, i64 <function>)\n"
    "  %all = call ptr @address(ptr %r, i64 <context>)\n"
    "  %batch = call ptr @address(ptr %r, i64 <batch>)",
    "evaluate": "  %context = call ptr @choose(ptr %all, ptr %batch)\n"
    "  %loss = call double %function(ptr %context, ptr %user_x, ptr %user_g)",
    "epilogue": "",
    "x": "%user_x",
    "g": "%user_g",
    "state": "%user_state",
    "size": "%size",
}


def _contained(rule: Rule, inlined: Inlined) -> dict[str, str]:
    """The loss inside the loop, everything in local memory of known size."""
    size = inlined.size
    sizes = {"x": size, "g": size, "state": size * rule.slots + len(rule.scalars)}
    local = [
        f"  %{name} = alloca [{max(1, count)} x double], align 64"
        for name, count in sizes.items()
    ]
    copies = [(f"%{n}", f"%user_{n}", count) for n, count in sizes.items()]
    into = [_copy(to, source, count) for to, source, count in copies]
    back = [_copy(source, to, count) for to, source, count in copies]
    return {
        "prologue": "\n".join([*local, inlined.prologue, *into]),
        "evaluate": "  %loss = call double @evaluate(ptr %local, ptr %x, ptr %g, "
        "ptr %work)",
        "epilogue": "\n".join(back),
        "x": "%x",
        "g": "%g",
        "state": "%state",
        "size": str(size),
    }


def _copy(to: str, source: str, count: int) -> str:
    return f"  call void @copy(ptr {to}, ptr {source}, i64 {count})"


def _descend(parts: dict[str, str]) -> str:
    return _DESCEND.format(bits=cpu.host().vector_bits, **parts)
