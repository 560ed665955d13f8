"""Open loops while code is written: where instructions go and what is known there.

Scopes mirror the open loops: scope 0 is the function, scope k the k-th loop. A value is
emitted into the outermost scope that has all it needs, which hoists invariants, and is
kept there, which shares common subexpressions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from symgrad.codegen.layout import Layout
from symgrad.codegen.llvm_text import Emitter, Region, Value
from symgrad.graph import Index, Node
from symgrad.schedule.nest import Loop
from symgrad.schedule.plan import Plan, Step
from symgrad.schedule.statements import Statement

STRETCH = 8
"""Elements handled at a time where an array is only cleared, added up or converted."""


@dataclass(eq=False)
class Scope:
    """One open loop: where its code goes and what has been computed in it."""

    region: Region
    loop: Loop | None = None
    values: dict[object, Value] = field(default_factory=dict)


Placed = tuple[Value, int]
"""A value and the number of its scope."""


class Scopes:
    """The open loops of one function.

    lanes: rows of a block: one or more hardware vectors of ``vector`` lanes, which
    share the loads of what rows have in common. More than 1 only inside a pass.
    """

    def __init__(
        self, emitter: Emitter, plan: Plan, layout: Layout, step: Step, vector: int
    ) -> None:
        self.emitter, self.plan, self.layout, self.step = emitter, plan, layout, step
        self.vector = vector
        self.lanes = vector * step.vectors if vector > 1 else 1
        self.type = "float" if layout.single else "double"
        self.scopes = [Scope(emitter.region)]
        # the index that lanes run along, while its loop is open: the rows of a pass,
        # or another axis in deferred sums
        self.row: Index | None = None
        self.row_base: Value | None = None
        self.row_level = 1
        self.tile_begin: Value | None = None  # first row of the current tile
        self.tile_level = 1  # and where it is known
        self.mask: Value | None = None
        self.jam: Index | None = None  # a loop of which several turns run together
        self.variant = 0  # which of these turns is being emitted
        self.repeated: Index | None = None  # the same, and while the rest is emitted
        self.fixed: dict[Index, int] = {}  # loops that are written out: their turn
        self.written: dict[Statement, tuple[Loop | None, ...]] = {}
        self.checks = 0

    def at(self, level: int) -> Emitter:
        """The emitter, writing into scope ``level``."""
        self.emitter.region = self.scopes[level].region
        return self.emitter

    def home(self) -> Emitter:
        """The emitter, writing into the innermost scope."""
        return self.at(len(self.scopes) - 1)

    def divide(self) -> None:
        """Divide blocks that have become long."""
        self.emitter.divide(scope.region for scope in self.scopes)

    def keep(self, key: object, value: Value, level: int) -> Placed:
        """Remember a value in its scope."""
        self.scopes[level].values[self._turn(key)] = value
        return value, level

    def _turn(self, key: object) -> object:
        """The key of a value that differs between turns which run together, or which
        are written out one after the other."""
        if not isinstance(key, Node):
            return (key, tuple(self.fixed.items())) if self.fixed else key
        turns = [(i, k) for i, k in self.fixed.items() if i in key.free]
        if self.jam is not None and self.jam in key.free:
            turns.append((self.jam, self.variant))
        return (key, *turns) if turns else key

    def find(self, key: object) -> Placed | None:
        """A value computed before, in any open scope."""
        key = self._turn(key)
        for level in range(len(self.scopes) - 1, -1, -1):
            value = self.scopes[level].values.get(key)
            if value is not None:
                return value, 0 if value.literal else level
        return None

    # -- counting loops --------------------------------------------------------------

    def counted(
        self,
        begin: Value | int,
        end: Value,
        body: Callable[[Value, list[Value]], Sequence[Value] | None],
        carried: Sequence[Value] = (),
        step: int | Value = 1,
    ) -> list[Value]:
        """A plain counting loop with a scope of its own."""

        def inside(counter: Value, phis: list[Value]) -> Sequence[Value]:
            self.scopes.append(Scope(self.emitter.region))
            results = body(counter, phis) or ()
            self.home()
            self.scopes.pop()
            return results

        emitter = self.home()
        start = emitter.const(begin, "i64") if isinstance(begin, int) else begin
        results = emitter.loop(start, end, step, carried, inside)
        self.home()
        return results

    def stretches(self, count: Value, body: Callable[[Value, int], None]) -> None:
        """``body`` at 0, 8, 16, … with 8 elements to handle, then one by one."""
        emitter = self.home()
        if count.literal and int(count.name) == 1:
            body(emitter.const(0, "i64"), 1)
            return
        width = emitter.const(STRETCH, "i64")
        main = emitter.binary("sub", count, emitter.binary("srem", count, width))
        self.counted(0, main, lambda k, _: body(k, STRETCH), step=STRETCH)
        self.counted(main, count, lambda k, _: body(k, 1))

    def counted_inside(
        self, end: Value, step: int, body: Callable[[Value], None]
    ) -> None:
        """``counted`` from 0 that may stand inside a branch: it emits where the emitter
        is, and its body must not evaluate nodes."""

        def turn(counter: Value, _: list[Value]) -> Sequence[Value]:
            body(counter)
            return ()

        emitter = self.emitter
        emitter.loop(emitter.const(0, "i64"), end, step, (), turn)

    # -- what the function is given --------------------------------------------------

    def context(self, *key: object, type: str) -> Value:
        """A slot of the context, loaded at the top of the function."""
        found = self.find(("context", key))
        if found is not None:
            return found[0]
        emitter = self.at(0)
        slot = emitter.const(self.layout.slot(*key), "i64")
        pointer = emitter.gep(Value("%context", "ptr"), slot, "i64")
        value = emitter.load(pointer, type)
        return self.keep(("context", key), value, 0)[0]

    def memory(self, base: str, *key: object) -> Value:
        """``base`` ("work", "scratch" or "partial") plus an offset of the context."""
        found = self.find((base, key))
        if found is not None:
            return found[0]
        offset = self.context(*key, type="i64")
        pointer = self.at(0).gep(Value(f"%{base}", "ptr"), offset, "i8")
        return self.keep((base, key), pointer, 0)[0]

    def pointer_argument(self, table: str, number: int) -> Value:
        """Entry ``number`` of the table of parameter or output pointers."""
        key = (table, number)
        found = self.find(key)
        if found is not None:
            return found[0]
        emitter = self.at(0)
        slot = emitter.gep(
            Value(f"%{table}", "ptr"), emitter.const(number, "i64"), "ptr"
        )
        return self.keep(key, emitter.load(slot, "ptr"), 0)[0]
