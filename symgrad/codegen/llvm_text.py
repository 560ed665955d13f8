"""A small emitter of LLVM IR text.

Values are scalars or vectors ("lanes"); most operations take both and splat the scalar
one. No LLVM optimisation passes run on what is emitted here, so the text is what the
machine executes: callers hoist, share and fold themselves.

Code is emitted into *regions*. A region is the part of a function inside one loop body,
and stays open while inner loops are written: emitting into an outer region places an
instruction before the inner loop, which is how invariants are hoisted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence

BYTES = {"double": 8, "float": 4, "i64": 8, "i32": 4, "i16": 2, "i8": 1, "ptr": 8}
_MANGLED = {
    "double": "f64",
    "float": "f32",
    "i64": "i64",
    "i32": "i32",
    "i16": "i16",
    "i8": "i8",
    "i1": "i1",
    "ptr": "p0",
}
_FLOATS = ("double", "float")


class Value:
    """An SSA value or a literal: its text, element type and number of lanes."""

    __slots__ = ("lanes", "literal", "name", "type")

    def __init__(
        self, name: str, type: str, lanes: int = 1, literal: bool = False
    ) -> None:
        self.name, self.type, self.lanes, self.literal = name, type, lanes, literal

    @property
    def spelled(self) -> str:
        """The LLVM type, such as ``<8 x double>``."""
        return spell(self.type, self.lanes)

    def __repr__(self) -> str:
        return f"{self.spelled} {self.name}"


def spell(type: str, lanes: int) -> str:
    """The LLVM spelling of ``lanes`` elements of ``type``."""
    return type if lanes == 1 else f"<{lanes} x {type}>"


def literal(value: float | int | bool, type: str) -> str:
    """A constant as LLVM writes it; floating point in hexadecimal, bit for bit."""
    if type == "i1":
        return "true" if value else "false"
    if type == "double":
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    if type == "float":
        return f"0x{_float_bits(float(value)):016X}"
    return str(int(value))


def _float_bits(value: float) -> int:
    """The float32 nearest to ``value``, written as the bits of a float64."""
    try:
        single = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        single = float("inf") if value > 0 else float("-inf")
    return struct.unpack("<Q", struct.pack("<d", single))[0]


BLOCK = 1000
"""Lines after which a block may be divided."""

DIVIDED = "next"
"""How labels begin that only divide a block."""


class Region:
    """Lines of one loop body (or of the whole function) and its last block: its label,
    and the number of lines before it."""

    __slots__ = ("begin", "label", "lines")

    def __init__(self, label: str) -> None:
        self.lines: list[str] = []
        self.label, self.begin = label, 0

    def open(self, label: str) -> None:
        """Begin another block."""
        self.lines.append(f"{label}:")
        self.label, self.begin = label, len(self.lines)


class Module:
    """Declarations and functions of one LLVM module."""

    def __init__(self) -> None:
        self.declarations: dict[str, None] = {}
        self.functions: list[str] = []
        self.internal: set[str] = set()  # names of subroutines

    def text(self) -> str:
        """The module as LLVM assembly."""
        return "\n".join([*self.declarations, "", *self.functions])


class Emitter:
    """Writes one function.

    features: what the target has, LLVM's names ("avx512f", "avx2", "fma", ...).
    """

    def __init__(self, module: Module, features: frozenset[str]) -> None:
        self.module, self.features = module, features
        self.region = Region("entry")
        self._count = self._divided = 0
        self._fma = "fma" in features or "avx512f" in features or "neon" in features

    # -- names and text --------------------------------------------------------------

    def _fresh(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def label(self, stem: str) -> str:
        """A new block label."""
        self._count += 1
        return f"{stem}{self._count}"

    def raw(self, line: str) -> None:
        """Append a line as it is."""
        self.region.lines.append("  " + line)

    def _result(self, text: str, type: str, lanes: int) -> Value:
        name = self._fresh()
        self.region.lines.append(f"  {name} = {text}")
        return Value(name, type, lanes)

    def _declare(self, line: str) -> None:
        self.module.declarations[line] = None

    def divide(self, regions: Iterable[Region]) -> None:
        """Begin another block where the last one of a region is long: some of LLVM's
        steps take time that grows with the square of a block."""
        if self._count - self._divided < BLOCK // 4:
            return
        self._divided = self._count
        for region in regions:
            if len(region.lines) - region.begin >= BLOCK:
                label = self.label(DIVIDED)
                region.lines.append(f"  br label %{label}")
                region.open(label)

    # -- values ----------------------------------------------------------------------

    def const(self, value: float | int | bool, type: str, lanes: int = 1) -> Value:
        """A literal in every lane."""
        text = literal(value, type)
        if lanes > 1:
            text = f"splat ({type} {text})"
        return Value(text, type, lanes, literal=True)

    def splat(self, a: Value, lanes: int) -> Value:
        """The scalar ``a`` in every lane; a vector of that many lanes as it is."""
        if a.lanes == lanes:
            return a
        if a.lanes != 1:
            raise ValueError(f"splat: {a!r} has {a.lanes} lanes, wanted {lanes}")
        if a.literal:
            return Value(f"splat ({a.type} {a.name})", a.type, lanes, literal=True)
        spelled = spell(a.type, lanes)
        one = self._result(
            f"insertelement {spelled} poison, {a.type} {a.name}, i64 0", a.type, lanes
        )
        return self._result(
            f"shufflevector {spelled} {one.name}, {spelled} poison, "
            f"<{lanes} x i32> zeroinitializer",
            a.type,
            lanes,
        )

    def _level(self, *values: Value) -> list[Value]:
        lanes = max(v.lanes for v in values)
        return [self.splat(v, lanes) for v in values]

    def lane_numbers(self, lanes: int, type: str = "i64") -> Value:
        """0, 1, ... lanes-1."""
        if lanes == 1:
            return self.const(0, type)
        items = ", ".join(f"{type} {k}" for k in range(lanes))
        return Value(f"<{items}>", type, lanes, literal=True)

    # -- arithmetic ------------------------------------------------------------------

    def binary(self, opcode: str, a: Value, b: Value) -> Value:
        """fadd fsub fmul fdiv frem; add sub mul sdiv srem and or xor shl ashr lshr."""
        a, b = self._level(a, b)
        return self._result(f"{opcode} {a.spelled} {a.name}, {b.name}", a.type, a.lanes)

    def fneg(self, a: Value) -> Value:
        """-a, sign of zero included."""
        return self._result(f"fneg {a.spelled} {a.name}", a.type, a.lanes)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a*b + c, rounded once where the target has FMA."""
        if self._fma:
            return self.intrinsic("fma", a, b, c)
        return self.binary("fadd", self.binary("fmul", a, b), c)

    def intrinsic(self, name: str, *args: Value) -> Value:
        """``llvm.<name>`` of arguments of one type: fabs, copysign, floor, sqrt, ..."""
        args = tuple(self._level(*args))
        first = args[0]
        suffix = _MANGLED[first.type]
        if first.lanes > 1:
            suffix = f"v{first.lanes}{suffix}"
        full = f"llvm.{name}.{suffix}"
        return self.raw_call(full, first.type, first.lanes, args)

    def raw_call(
        self, symbol: str, type: str, lanes: int, args: Sequence[Value]
    ) -> Value:
        """Call a function by its full name, declaring it from the argument types."""
        spelled = spell(type, lanes)
        kinds = ", ".join(a.spelled for a in args)
        self._declare(f"declare {spelled} @{symbol}({kinds})")
        values = ", ".join(f"{a.spelled} {a.name}" for a in args)
        return self._result(f"call {spelled} @{symbol}({values})", type, lanes)

    def call_internal(
        self, name: str, type: str, lanes: int, args: Sequence[Value]
    ) -> Value:
        """Call a function of this module."""
        spelled = spell(type, lanes)
        values = ", ".join(f"{a.spelled} {a.name}" for a in args)
        return self._result(f"call {spelled} @{name}({values})", type, lanes)

    def call(self, symbol: str, type: str, args: Sequence[Value]) -> Value:
        """Call an external scalar function (libm)."""
        return self.raw_call(symbol, type, 1, args)

    # -- comparison, selection, conversion -------------------------------------------

    def fcmp(self, predicate: str, a: Value, b: Value) -> Value:
        """Floating comparison (olt, ole, ogt, oge, oeq, une, uno, ord, ...)."""
        a, b = self._level(a, b)
        return self._result(
            f"fcmp {predicate} {a.spelled} {a.name}, {b.name}", "i1", a.lanes
        )

    def icmp(self, predicate: str, a: Value, b: Value) -> Value:
        """Integer comparison (eq, ne, slt, sle, sgt, sge, ult, ...)."""
        a, b = self._level(a, b)
        return self._result(
            f"icmp {predicate} {a.spelled} {a.name}, {b.name}", "i1", a.lanes
        )

    def select(self, mask: Value, a: Value, b: Value) -> Value:
        """``a`` where ``mask``, else ``b``."""
        mask, a, b = self._level(mask, a, b)
        return self._result(
            f"select {mask.spelled} {mask.name}, {a.spelled} {a.name}, "
            f"{b.spelled} {b.name}",
            a.type,
            a.lanes,
        )

    def bitcast(self, a: Value, type: str) -> Value:
        """The same bits as another type of the same size."""
        return self._result(
            f"bitcast {a.spelled} {a.name} to {spell(type, a.lanes)}", type, a.lanes
        )

    def convert(self, opcode: str, a: Value, type: str) -> Value:
        """sitofp uitofp fptosi fpext fptrunc trunc sext zext."""
        return self._result(
            f"{opcode} {a.spelled} {a.name} to {spell(type, a.lanes)}", type, a.lanes
        )

    def extract(self, a: Value, lane: int) -> Value:
        """One lane as a scalar."""
        if a.lanes == 1:
            return a
        return self._result(
            f"extractelement {a.spelled} {a.name}, i64 {lane}", a.type, 1
        )

    def insert(self, a: Value, item: Value, lane: int) -> Value:
        """``a`` with one lane replaced."""
        if a.lanes == 1:
            return item
        return self._result(
            f"insertelement {a.spelled} {a.name}, {item.type} {item.name}, i64 {lane}",
            a.type,
            a.lanes,
        )

    def any_lane(self, mask: Value) -> Value:
        """Whether any lane of ``mask`` is true."""
        if mask.lanes == 1:
            return mask
        bits = self._result(
            f"bitcast {mask.spelled} {mask.name} to i{mask.lanes}",
            f"i{mask.lanes}",
            1,
        )
        return self._result(f"icmp ne i{mask.lanes} {bits.name}, 0", "i1", 1)

    def fold_lanes(self, opcode: str, a: Value) -> Value:
        """Combine the lanes by a fixed tree: halves, then halves of halves."""
        lanes = a.lanes
        while lanes > 1:
            lanes //= 2
            low, high = (self._slice(a, start, lanes) for start in (0, lanes))
            a = self._combine(opcode, low, high)
        return a

    def _slice(self, a: Value, start: int, lanes: int) -> Value:
        if lanes == 1:
            return self.extract(a, start)
        return self.shuffle(a, a, range(start, start + lanes))

    def shuffle(self, a: Value, b: Value, picks: Sequence[int]) -> Value:
        """Lanes ``picks`` of ``a`` followed by ``b``."""
        lanes = ", ".join(f"i32 {k}" for k in picks)
        return self._result(
            f"shufflevector {a.spelled} {a.name}, {b.spelled} {b.name}, "
            f"<{len(picks)} x i32> <{lanes}>",
            a.type,
            len(picks),
        )

    def parts(self, a: Value, lanes: int) -> list[Value]:
        """``a`` cut into vectors of ``lanes`` lanes."""
        if a.lanes <= lanes:
            return [a]
        if a.literal and a.name.startswith("splat "):
            part = Value(a.name, a.type, lanes, literal=True)
            return [part] * (a.lanes // lanes)
        return [self._slice(a, start, lanes) for start in range(0, a.lanes, lanes)]

    def join(self, parts: Sequence[Value]) -> Value:
        """The lanes of all parts, one after the other; their number a power of two."""
        parts = list(parts)
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self.concatenate(a, b) for a, b in pairs]
        return parts[0]

    def concatenate(self, a: Value, b: Value) -> Value:
        """The lanes of ``a``, then those of ``b``."""
        return self.shuffle(a, b, range(2 * a.lanes))

    def interleave(
        self, a: Value, b: Value, lanes: int, block: int, half: int
    ) -> Value:
        """Per block of lanes: a0 b0 a1 b1 ... of its lower (0) or upper (1) half."""
        picks: list[int] = []
        for start in range(0, lanes, block):
            first = start + half * (block // 2)
            for k in range(first, first + block // 2):
                picks += [k, lanes + k]
        return self.shuffle(a, b, picks)

    def interleave_pairs(self, a: Value, b: Value, lanes: int, half: int) -> Value:
        """Per four lanes: a's lower (0) or upper (1) pair, then b's."""
        picks: list[int] = []
        for start in range(0, lanes, 4):
            first = start + 2 * half
            picks += [first, first + 1, lanes + first, lanes + first + 1]
        return self.shuffle(a, b, picks)

    def _combine(self, opcode: str, a: Value, b: Value) -> Value:
        if opcode in ("maximum", "minimum"):
            return self.intrinsic(opcode, a, b)
        return self.binary(opcode, a, b)

    # -- memory ----------------------------------------------------------------------

    def gep(self, pointer: Value, offset: Value, type: str) -> Value:
        """``pointer + offset`` elements of ``type``; a vector of offsets gives one of
        pointers."""
        return self._result(
            f"getelementptr {type}, {pointer.spelled} {pointer.name}, "
            f"{offset.spelled} {offset.name}",
            "ptr",
            max(pointer.lanes, offset.lanes),
        )

    def load(
        self, pointer: Value, type: str, lanes: int = 1, mask: Value | None = None
    ) -> Value:
        """Consecutive elements from ``pointer``; lanes off in ``mask`` give zero."""
        spelled, align = spell(type, lanes), BYTES[type]
        if mask is None or lanes == 1:
            return self._result(
                f"load {spelled}, ptr {pointer.name}, align {align}", type, lanes
            )
        name = f"llvm.masked.load.v{lanes}{_MANGLED[type]}.p0"
        self._declare(f"declare {spelled} @{name}(ptr, {mask.spelled}, {spelled})")
        return self._result(
            f"call {spelled} @{name}(ptr align {align} {pointer.name}, "
            f"{mask.spelled} {mask.name}, {spelled} zeroinitializer)",
            type,
            lanes,
        )

    def prefetch(self, pointer: Value) -> None:
        """Ask for the cache line at ``pointer``; it may lie outside of all arrays."""
        self._declare("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.raw(
            f"call void @llvm.prefetch.p0(ptr {pointer.name}, i32 0, i32 3, i32 1)"
        )

    def gather(self, pointers: Value, type: str, mask: Value) -> Value:
        """One element from each pointer; lanes off in ``mask`` give zero."""
        lanes, spelled = pointers.lanes, spell(type, pointers.lanes)
        name = f"llvm.masked.gather.v{lanes}{_MANGLED[type]}.v{lanes}p0"
        self._declare(
            f"declare {spelled} @{name}({pointers.spelled}, {mask.spelled}, {spelled})"
        )
        return self._result(
            f"call {spelled} @{name}({pointers.spelled} align {BYTES[type]} "
            f"{pointers.name}, {mask.spelled} {mask.name}, {spelled} zeroinitializer)",
            type,
            lanes,
        )

    def store(self, value: Value, pointer: Value, mask: Value | None = None) -> None:
        """Consecutive elements to ``pointer``; lanes off in ``mask`` are untouched."""
        align = BYTES[value.type]
        if mask is None or value.lanes == 1:
            self.raw(
                f"store {value.spelled} {value.name}, ptr {pointer.name}, align {align}"
            )
            return
        name = f"llvm.masked.store.v{value.lanes}{_MANGLED[value.type]}.p0"
        self._declare(f"declare void @{name}({value.spelled}, ptr, {mask.spelled})")
        self.raw(
            f"call void @{name}({value.spelled} {value.name}, ptr align {align} "
            f"{pointer.name}, {mask.spelled} {mask.name})"
        )

    def scatter(self, value: Value, pointers: Value, mask: Value) -> None:
        """One element to each pointer; lanes off in ``mask`` are left alone."""
        lanes = value.lanes
        name = f"llvm.masked.scatter.v{lanes}{_MANGLED[value.type]}.v{lanes}p0"
        self._declare(
            f"declare void @{name}({value.spelled}, {pointers.spelled}, {mask.spelled})"
        )
        self.raw(
            f"call void @{name}({value.spelled} {value.name}, {pointers.spelled} "
            f"align {BYTES[value.type]} {pointers.name}, {mask.spelled} {mask.name})"
        )

    # -- control ---------------------------------------------------------------------

    def branch_if(
        self, condition: Value, then: Callable[[], Value], otherwise: Value
    ) -> Value:
        """``then()`` where the scalar ``condition`` holds, else ``otherwise``."""
        region, before = self.region, self.region.label
        taken, done = self.label("then"), self.label("done")
        self.raw(f"br i1 {condition.name}, label %{taken}, label %{done}")
        region.open(taken)
        value = then()
        last = region.label
        self.raw(f"br label %{done}")
        region.open(done)
        return self._result(
            f"phi {value.spelled} [ {value.name}, %{last} ], "
            f"[ {otherwise.name}, %{before} ]",
            value.type,
            value.lanes,
        )

    def branch_either(
        self,
        condition: Value,
        then: Callable[[], Sequence[Value]],
        otherwise: Callable[[], Sequence[Value]],
    ) -> list[Value]:
        """The values of ``then()`` where the scalar ``condition`` holds, else those of
        ``otherwise()``."""
        region = self.region
        taken, other, done = (self.label(s) for s in ("then", "else", "done"))
        self.raw(f"br i1 {condition.name}, label %{taken}, label %{other}")
        ends = []
        for label, branch in ((taken, then), (other, otherwise)):
            region.lines.append(f"{label}:")
            region.label = label
            ends.append((list(branch()), region.label))
            self.region = region
            self.raw(f"br label %{done}")
        region.lines.append(f"{done}:")
        region.label = done
        (first, first_end), (second, second_end) = ends
        return [
            self._result(
                f"phi {a.spelled} [ {a.name}, %{first_end} ], "
                f"[ {b.name}, %{second_end} ]",
                a.type,
                a.lanes,
            )
            for a, b in zip(first, second, strict=True)
        ]

    def when(self, condition: Value, then: Callable[[], None]) -> None:
        """Run ``then()`` where the scalar ``condition`` holds."""
        region = self.region
        taken, done = self.label("then"), self.label("done")
        self.raw(f"br i1 {condition.name}, label %{taken}, label %{done}")
        region.open(taken)
        then()
        self.raw(f"br label %{done}")
        region.open(done)

    def loop(
        self,
        begin: Value,
        end: Value,
        step: int | Value,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value]],
        nonempty: bool = False,
    ) -> list[Value]:
        """``for i in range(begin, end, step)``, with values carried from turn to turn.

        ``body(i, values)`` emits one turn and returns the next values; the last ones
        are returned. ``nonempty`` promises begin < end and saves the first test.
        """
        outer, before = self.region, self.region.label
        head, done = self.label("loop"), self.label("done")
        counter = Value(self._fresh(), "i64")
        phis = [Value(self._fresh(), c.type, c.lanes) for c in carried]
        self.region = inner = Region(head)
        results = list(body(counter, phis))
        if isinstance(step, int):
            step = self.const(step, "i64")
        following = self.binary("add", counter, step)
        again = self.icmp("slt", following, end)
        last = inner.label
        self.raw(f"br i1 {again.name}, label %{head}, label %{done}")
        self.region = outer
        # what the body hoisted into the outer region stands before this point
        before = outer.label
        if nonempty:
            self.raw(f"br label %{head}")
        else:
            enter = self.icmp("slt", begin, end)
            self.raw(f"br i1 {enter.name}, label %{head}, label %{done}")
        lines = outer.lines
        lines.append(f"{head}:")
        lines.append(
            f"  {counter.name} = phi i64 [ {begin.name}, %{before} ], "
            f"[ {following.name}, %{last} ]"
        )
        for phi, start, result in zip(phis, carried, results, strict=True):
            lines.append(
                f"  {phi.name} = phi {phi.spelled} [ {start.name}, %{before} ], "
                f"[ {result.name}, %{last} ]"
            )
        lines.extend(inner.lines)
        outer.open(done)
        if nonempty:
            return results
        return [
            self._result(
                f"phi {start.spelled} [ {start.name}, %{before} ], "
                f"[ {result.name}, %{last} ]",
                start.type,
                start.lanes,
            )
            for start, result in zip(carried, results, strict=True)
        ]

    # -- the end ---------------------------------------------------------------------

    def finish(
        self,
        name: str,
        parameters: Sequence[str],
        result: Value | None = None,
        attributes: str = "",
        linkage: str = "",
    ) -> None:
        """Close the function and add it to the module.

        parameters: spelled with names, such as ``"ptr %context"``.
        """
        kind = result.spelled if result is not None else "void"
        end = f"ret {kind} {result.name}" if result is not None else "ret void"
        self.module.functions.append(
            f"define {linkage} {kind} @{name}({', '.join(parameters)}) "
            f"nounwind {attributes} {{\n"
            "entry:\n" + "\n".join(self.region.lines) + f"\n  {end}\n}}\n"
        )
