"""A kernel as runnable Numba Python: the plan's loops, for people to read.

One lane, one thread, no chunks: what is left is the arithmetic and its order.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from symgrad import graph
from symgrad.codegen import numba_operations as operations
from symgrad.codegen.layout import Layout
from symgrad.codegen.numba_names import Names, identifier
from symgrad.codegen.numba_values import (
    INDENT,
    Code,
    Values,
    is_number,
    quoted,
    subscript,
)
from symgrad.graph import Index, Input, Node, Reduce, Size
from symgrad.schedule.nest import Item, Loop, statements_in
from symgrad.schedule.plan import Place, Plan, Step
from symgrad.schedule.statements import Statement
from symgrad.schedule.streaming import DROPPED

LINE = 88
DECORATOR = '@njit(error_model="numpy")'
REMARK = (
    "One row at a time and on one thread. The kernel itself takes several rows at once "
    "and adds them up in another order, so last digits may differ."
)
TITLE_LIMIT = 600
"""Characters of the user's text that are repeated above the kernel."""


def kernel_source(
    plan: Plan, layout: Layout, order: Sequence[Input] = (), title: str | None = None
) -> str:
    """The text of a module with one function, ``kernel``.

    order: the parameters of an objective, whose outputs are the loss and one gradient
        per parameter; it gives the results their names.
    title: what is computed, in the user's words.

    ``kernel`` takes the inputs that the plan uses, in the layout's order: NumPy arrays,
    and scalars for rank 0. It returns a tuple with one float or new float64 array per
    output. Importing the text needs Numba and NumPy only.

    Raises (when called): ValueError for wrong shapes, IndexError for a gather out of
    bounds.
    """
    return _SourceWriter(plan, layout, order).text(title)


class _SourceWriter(Values):
    def __init__(self, plan: Plan, layout: Layout, order: Sequence[Input]) -> None:
        names = Names()
        for name in layout.inputs:
            names.user(name)
        wishes = _output_names(plan, order)
        self.outputs = [names.fresh(wish) for wish in wishes]
        super().__init__(plan, layout, names)
        self.open: list[Index] = []
        self.sums: set[Statement] = set()  # running sums held in variables
        self.allocated: set[str] = set()
        self.direct, self.reached = _outputs_of(plan)

    # -- the module ------------------------------------------------------------------

    def text(self, title: str | None) -> str:
        """The whole module."""
        for array in self.layout.inputs.values():
            self._shape(array.shape)  # names the lengths in their order
        passes = 0
        for step in self.plan.steps:
            passes += step.row is not None
            self._step(step, passes)
        lines = [*self._heading(title), *self._signature(), *self._prelude()]
        lines += [*self.scopes[0].lines, "", *_returned(self.outputs), ""]
        return "\n".join(lines)

    def _heading(self, title: str | None) -> Iterator[str]:
        what = "The loss and its gradient" if self.outputs[0] == "loss" else "Results"
        yield f'"""{what} as symgrad\'s kernel computes them.'
        yield ""
        yield from _quoted(title)
        yield from textwrap.wrap(REMARK, LINE)
        yield from ('"""', "")
        body = "".join(self.scopes[0].lines)
        if self.helpers or "math." in body:
            yield from ("import math", "")
        if self.single or self.helpers or "np." in body:
            yield "import numpy as np"
        yield from ("from numba import njit", "")
        if self.single:
            yield from ("f32 = np.float32  # the compute type", "")
        for name, text in operations.HELPERS.items():
            if name in self.helpers:
                yield from ("", DECORATOR, text)

    def _signature(self) -> Iterator[str]:
        """One line per argument, with its type and shape."""
        yield from ("", DECORATOR, "def kernel(")
        for name, array in self.layout.inputs.items():
            dtype = self.layout.specs[name].dtype
            shape = self._shape(array.shape) if array.shape else "scalar"
            yield f"{INDENT}{self.names.user(name)},  # {dtype} {shape}"
        sources = self._sources()
        for size, name in self.sizes.items():
            if size not in sources:
                yield f"{INDENT}{name},  # the length {size.name}"
        yield "):"

    def _shape(self, shape: Sequence[Node]) -> str:
        texts = [self.value(extent).text for extent in shape]
        return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"

    def _extents(self, shape: Sequence[Node]) -> str:
        """A shape as NumPy takes it: a number will do for one axis."""
        return self.value(shape[0]).text if len(shape) == 1 else self._shape(shape)

    def _sources(self) -> dict[Node, str]:
        """Where run-time lengths are read off."""
        found: dict[Node, str] = {}
        for name, array in self.layout.inputs.items():
            for axis, extent in enumerate(array.shape):
                if isinstance(extent, Size):
                    found.setdefault(extent, f"{self.names.user(name)}.shape[{axis}]")
        return found

    def _prelude(self) -> Iterator[str]:
        """Lengths, and the check of all shapes."""
        sources = self._sources()
        for size, name in self.sizes.items():
            if size in sources:
                yield f"{INDENT}{name} = {sources[size]}"
        for name, array in self.layout.inputs.items():
            wrong: list[str] = []
            for axis, extent in enumerate(array.shape):
                length = f"{self.names.user(name)}.shape[{axis}]"
                if sources.get(extent) != length:
                    wrong.append(f"{length} != {self.value(extent).text}")
            if wrong:
                message = f"{name} must have shape {self._shape(array.shape)}"
                yield f"{INDENT}if {' or '.join(wrong)}:"
                yield f"{INDENT * 2}raise ValueError({quoted(message)})"

    # -- steps -----------------------------------------------------------------------

    def _step(self, step: Step, number: int) -> None:
        self.step = step
        self.write("")
        if self.plan.passes:
            self.write(f"# {self._step_title(step, number)}")
        for place in step.sums:
            self._start(place)
        self._items(step.items)
        self.sums.clear()
        self.forget_text()

    def _step_title(self, step: Step, number: int) -> str:
        count = len(self.plan.passes)
        if step.row is not None:
            rows = self.value(step.row.extent).text
            return f"pass {number} of {count}, over {rows} rows"
        if number == 0:
            return "before the rows"
        return (
            f"between passes {number} and {number + 1}" if number < count else "results"
        )

    def _items(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, Loop):
                self._loop(item)
            else:
                self._statement(item)

    # -- loops and sums --------------------------------------------------------------

    def _loop(self, item: Loop) -> None:
        running = self._begin_sums(item)
        self.open_loop(item)
        self.open.append(item.index)
        self._items(item.items)
        self.open.pop()
        self.close_loop(item)
        for s in running:
            self.sums.remove(s)
            self._store(s, self.now(s.node, self.names.value(s.node)))

    def _begin_sums(self, item: Loop) -> list[Statement]:
        """Start the sums of which this is the outermost loop.

        Returns those that run in a variable: no loop of their domain is in the sum.
        """
        running: list[Statement] = []
        of_rows = {place.statement for place in self.step.sums}
        for s in item.statements():
            begun = any(i in s.bound for i in self.open)
            if not s.accumulates or item.index not in s.bound or begun or s in of_rows:
                continue
            if s.kind == "reduce" and all(i in self.open for i in s.domain):
                running.append(s)
                zero = self._number(operations.IDENTITY[_kind(s)])
                self.write(f"{self.names.value(s.node)} = {zero}")
            else:
                self._clear(s)
        self.sums.update(running)
        return running

    def _number(self, text: str) -> str:
        return f"f32({text})" if self.single else text

    def _clear(self, s: Statement) -> None:
        """Set a sum in memory to its identity."""
        place = self.step.local.get(s) or self.plan.work[s]
        zero = operations.IDENTITY[_kind(s)]
        if not self.open:
            self._allocate(place, zero)
            return
        name = self._allocate(place)
        axes = (self.value(i).text if i in self.open else ":" for i in place.axes)
        self.write(f"{name}[{', '.join(axes)}] = {zero}")

    def _start(self, place: Place) -> None:
        """A sum over the rows, before its pass. It is in float64."""
        s, zero = place.statement, operations.IDENTITY[_kind(place.statement)]
        direct, reached = self.direct.get(s, []), self.reached.get(s, [])
        wish = ""
        note = f"  # for {', '.join(self.outputs[k] for k in reached)}"
        if len(direct) == 1 and len(self.outputs) > 1:
            wish = f"{self.outputs[direct[0]]}_{_kind(s)}"
            note = ""
        elif len(reached) in (0, len(self.outputs)) or len(note) > LINE // 2:
            note = ""
        if is_number(place):
            name = self.names.give(s.node, wish) if wish else self.names.value(s.node)
            self.write(f"{name} = {zero}{note}")
            self.sums.add(s)
        else:
            self._allocate(place, zero, wish, note)

    def _allocate(
        self, place: Place, number: str | None = None, wish: str = "", note: str = ""
    ) -> str:
        """The name of an array, allocated before all loops if it is not yet.

        number: fill it with this now.
        """
        name = self.memory_name(place, wish)
        shape = self._extents(place.shape)
        if number is not None:
            text = f"np.full({shape}, {number})"
            text = f"np.zeros({shape})" if number == "0.0" else text
            self.write(f"{name} = {text}{note}", 0)
        elif name not in self.allocated:
            self.write(f"{name} = np.empty({shape}{self._dtype(place)})", 0)
        self.allocated.add(name)
        return name

    def _dtype(self, place: Place) -> str:
        kind = place.statement.node.type
        if kind == graph.FLOAT:
            return ", f32" if self.single and not place.wide else ""
        return ", np.int64" if kind == graph.INT else ", np.bool_"

    # -- statements ------------------------------------------------------------------

    def _statement(self, s: Statement) -> None:
        if s.kind == "let":
            assert isinstance(s.node, graph.Call | graph.Load)
            self._store(s, self.computed(s.node))
        elif s.kind == "reduce":
            self._accumulate(s)
        elif s.kind == "scatter":
            self._scatter(s)
        elif s.kind == "array":
            self.written[s] = ()
            name = self._allocate(self.plan.work[s])
            self._assign(name, s.targets, self.value(s.value).text)
        else:
            self._output(s)

    def _store(self, s: Statement, code: Code) -> None:
        """Keep a value that others read from memory."""
        self.written[s] = tuple(scope.loop for scope in self.scopes[1:])
        for place in (self.step.local.get(s), self.plan.work.get(s)):
            if place is None or place.memory == "register" or place.sums is not None:
                continue
            if not is_number(place):
                self._allocate(place)
            target = self.element(place)
            if target != code.text:
                self.write(f"{target} = {code.text}")
            if not code.plain:
                code = self.now(s.node, target)

    def _assign(self, name: str, targets: Sequence[Node], text: str) -> None:
        indices = [self.value(target) for target in targets]
        self.write(f"{name}{subscript(indices)} = {text}")

    def _output(self, s: Statement) -> None:
        """A result, or one element of it, in float64."""
        assert s.output is not None
        name, node = self.outputs[s.output], self.plan.outputs[s.output]
        text = self.value(s.value).text
        if s.value.type == graph.BOOL:
            text = f"1.0 if {text} else 0.0"
        if not isinstance(node, graph.Array | graph.Scatter):
            convert = self.single or s.value.type == graph.INT
            self.write(f"{name} = {f'float({text})' if convert else text}")
            return
        if name not in self.allocated:
            self.write(f"{name} = np.empty({self._extents(node.shape)})", 0)
            self.allocated.add(name)
        self._assign(name, s.targets, text)

    def _accumulate(self, s: Statement) -> None:
        """One turn of a reduction."""
        if s in self.sums:
            target = self.names.value(s.node)
        else:
            place = self.step.local.get(s) or self.plan.work[s]
            target = self.element(place)
            self.written[s] = self._written_path(s)
        self._update(s, target)

    def _update(self, s: Statement, target: str) -> None:
        code = self.value(s.value)
        update = operations.update(_kind(s), target, (code.text, code.rank))
        relative = [p for p in self.step.sums if p.top and p.top.statement is s]
        if not relative:
            self.write(update)
            return
        before = self.names.array((s.node, "before"), "before")
        self.write(f"{before} = {target}")
        self.write(update)
        self.write(f"if {target} != {before}:  # what is relative to it follows")
        for place in relative:
            self.write(f"{INDENT}{self._rescaled(place, before, target)}")

    def _rescaled(self, place: Place, before: str, now: str) -> str:
        """A sum that was relative to ``before`` relative to ``now``."""
        assert place.top is not None and place.statement.stream is not None
        degree = place.statement.stream[1]
        name = self.memory_name(place)
        if not is_number(place):
            own = [self.value(i).text for i in place.top.axes]
            rest = [":"] * (len(place.axes) - len(own))
            name = f"{name}[{', '.join([*own, *rest])}]"
        if degree == DROPPED:
            return f"{name} = 0.0"
        difference = f"{before} - {now}"
        change = difference if degree == 1 else f"{degree} * ({difference})"
        return f"{name} *= math.exp({change})"

    def _written_path(self, s: Statement) -> tuple[Loop | None, ...]:
        """The loops that readers may share: those outside of the sum."""
        loops = [scope.loop for scope in self.scopes[1:]]
        inside = [k for k, loop in enumerate(loops) if loop and loop.index in s.bound]
        return tuple(loops[: inside[0]] if inside else loops)

    def _scatter(self, s: Statement) -> None:
        self.written[s] = ()
        indices = self.checked(s.targets, s.node)
        place = self.plan.work[s]
        name = self.memory_name(place)
        if name not in self.allocated:  # no loop has begun it: a single element
            self._allocate(place, "0.0")
        self._update(s, f"{name}{subscript(indices)}")


def _kind(s: Statement) -> str:
    """The reduction that a statement accumulates by."""
    return s.node.kind if isinstance(s.node, Reduce) else "sum"


def _outputs_of(
    plan: Plan,
) -> tuple[dict[Statement, list[int]], dict[Statement, list[int]]]:
    """Per statement the outputs that use it directly, and those that need it at all."""
    direct: dict[Statement, list[int]] = {}
    reached: dict[Statement, list[int]] = {}
    for step in plan.steps:
        for s in statements_in(step.items):
            if s.output is None:
                continue
            stack = [*s.pointwise, *s.whole]
            for other in stack:
                direct.setdefault(other, []).append(s.output)
            seen: set[Statement] = set()
            while stack:
                top = stack.pop()
                if top not in seen:
                    seen.add(top)
                    reached.setdefault(top, []).append(s.output)
                    stack += [*top.pointwise, *top.whole]
    return direct, reached


def _output_names(plan: Plan, order: Sequence[Input]) -> list[str]:
    """loss, grad_w, ... where the outputs are these; else out_1, out_2, ..."""
    shapes = [getattr(node, "shape", ()) for node in plan.outputs]
    if shapes == [(), *(parameter.shape for parameter in order)]:
        grads = (f"grad_{identifier(parameter.name)}" for parameter in order)
        return ["loss", *grads]
    if len(shapes) == 1:
        return ["value"]
    return [f"out_{k}" for k in range(1, len(shapes) + 1)]


def _returned(names: Sequence[str]) -> list[str]:
    """The return statement; it always returns a tuple."""
    line = f"{INDENT}return {', '.join(names)}{',' if len(names) == 1 else ''}"
    if len(line) <= LINE:
        return [line]
    return [f"{INDENT}return (", *(f"{INDENT * 2}{n}," for n in names), f"{INDENT})"]


def _quoted(title: str | None) -> Iterator[str]:
    """The user's text, indented, fit for a docstring; the beginning of a long one."""
    if not title or not title.strip():
        return
    text = title if len(title) <= TITLE_LIMIT else f"{title[:TITLE_LIMIT]} ..."
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    for line in text.strip().splitlines():
        yield from textwrap.wrap(
            line, LINE, initial_indent=INDENT, subsequent_indent=INDENT * 2
        )
    yield ""
