"""A kernel as runnable Numba Python: the plan's loops, for people to read.

One lane, one thread, no chunks: what is left is the arithmetic and its order.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from symgrad import graph
from symgrad.codegen import numba_operations as operations
from symgrad.codegen.layout import Layout
from symgrad.codegen.numba_names import Names
from symgrad.codegen.numba_values import INDENT, Code, Values, is_number, subscript
from symgrad.graph import Index, Input, Node, Reduce, Size
from symgrad.schedule.nest import Item, Loop, statements_in
from symgrad.schedule.plan import Place, Plan, Step
from symgrad.schedule.statements import Statement

LINE = 88
TITLE_LIMIT = 600
"""Characters of the user's text that are repeated above the kernel."""


def kernel_source(
    plan: Plan, layout: Layout, order: Sequence[Input] = (), title: str | None = None
) -> str:
    """The text of a module with one function, ``kernel``.

    order: the parameters of an objective, whose outputs are the loss and one gradient
        per parameter; it gives the results their names.
    title: what is computed, in the user's words.

    ``kernel`` takes every input that the plan uses, in the layout's order: NumPy arrays,
    and scalars for rank 0. It returns a tuple with one float or new float64 array per
    output. Importing the text needs Numba and NumPy only.

    Raises (when called): ValueError for wrong shapes, IndexError for a gather out of
    bounds.
    """
    return _SourceWriter(plan, layout, order).text(title)


class _SourceWriter(Values):
    def __init__(self, plan: Plan, layout: Layout, order: Sequence[Input]) -> None:
        names = Names()
        self.arguments = [names.user(name) for name in layout.inputs]
        super().__init__(plan, layout, names)
        self.outputs = [names.fresh(wish) for wish in _output_names(plan, order, names)]
        self.open: list[Index] = []
        self.sums: set[Statement] = set()  # running sums held in variables
        self.allocated: set[Place] = set()
        self.results = _results_of(plan)

    # -- the module ------------------------------------------------------------------

    def text(self, title: str | None) -> str:
        """The whole module."""
        for item in self.layout.inputs.values():
            for extent in item.shape:
                self._evaluated(extent)
        passes = 0
        for step in self.plan.steps:
            passes += step.row is not None
            self._step(step, passes)
        body = self.scopes[0].lines
        returned = _bracketed(f"{INDENT}return ", self.outputs)
        lines = [
            *self._heading(title),
            *self._signature(),
            *self._prelude(),
            *body,
            "",
            *returned,
        ]
        return "\n".join(lines) + "\n"

    def _heading(self, title: str | None) -> list[str]:
        what = "Results" if self.outputs[0] != "loss" else "The loss and its gradient"
        precision = " in float32" if self.single else ""
        lines = [f'"""{what}, computed{precision} as the kernel does.', ""]
        lines += _quoted(title)
        lines += textwrap.wrap(
            "One row at a time and on one thread; the kernel itself takes several rows "
            "at once and adds up in another order, so last digits may differ.",
            LINE,
        )
        lines += ['"""', "", "import math", "", "import numpy as np"]
        lines += ["from numba import njit", ""]
        if self.single:
            lines += ["f32 = np.float32", ""]
        for name in operations.HELPERS:
            if name in self.helpers:
                helper = operations.HELPERS[name]
                lines += ["", '@njit(error_model="numpy")', helper]
        return lines

    def _signature(self) -> Iterator[str]:
        """One line per argument, with its type and shape."""
        yield from ("", '@njit(error_model="numpy")', "def kernel(")
        for name, array in self.layout.inputs.items():
            dtype = self.layout.specs[name].dtype
            shape = self._shape(array.shape) if array.shape else "scalar"
            yield f"{INDENT}{self.names.user(name)},  # {dtype} {shape}"
        for size in self._loose_sizes():
            yield f"{INDENT}{self.sizes[size]},  # the length {size.name}"
        yield "):"

    def _shape(self, shape: Sequence[Node]) -> str:
        texts = [self._evaluated(extent).text for extent in shape]
        return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"

    def _sources(self) -> dict[Size, str]:
        """Where run-time lengths are read off."""
        found: dict[Size, str] = {}
        for name, array in self.layout.inputs.items():
            for axis, extent in enumerate(array.shape):
                if isinstance(extent, Size):
                    found.setdefault(extent, f"{self.names.user(name)}.shape[{axis}]")
        return found

    def _loose_sizes(self) -> list[Size]:
        """Lengths that no argument has: arguments themselves."""
        sources = self._sources()
        return [size for size in self.sizes if size not in sources]

    def _prelude(self) -> Iterator[str]:
        """Lengths and the check of all shapes."""
        sources = self._sources()
        for size, name in self.sizes.items():
            if size in sources:
                yield f"{INDENT}{name} = {sources[size]}"
        for name, array in self.layout.inputs.items():
            known = [(name, axis) for axis in range(len(array.shape))]
            text = self.names.user(name)
            fixed = [
                f"{text}.shape[{axis}] != {self._evaluated(extent).text}"
                for (_, axis), extent in zip(known, array.shape, strict=True)
                if sources.get(extent) != f"{text}.shape[{axis}]"  # type: ignore[arg-type]
            ]
            if fixed:
                message = f"{name} must have shape {self._shape(array.shape)}"
                yield f"{INDENT}if {' or '.join(fixed)}:"
                yield f"{INDENT * 2}raise ValueError({message!r})"
        yield ""

    # -- steps -----------------------------------------------------------------------

    def _step(self, step: Step, number: int) -> None:
        self.step = step
        if self.plan.passes:
            self._blank()
            self.write(f"# {self._step_title(step, number)}")
        self._allocate(step)
        for place in step.sums:
            self._start(place)
        self._items(step.items)
        self._forget()

    def _step_title(self, step: Step, number: int) -> str:
        if step.row is not None:
            rows = self.value(step.row.extent).text
            return f"pass {number} of {len(self.plan.passes)}, over {rows} rows"
        if number == 0:
            return "before the rows"
        return f"after pass {number}" if number < len(self.plan.passes) else "results"

    def _blank(self) -> None:
        if self.scopes[0].lines:
            self.scopes[0].lines.append("")

    def _forget(self) -> None:
        """Only variables stay known in the next step, not text that is yet to be
        written: it belongs where the plan has it."""
        values = self.scopes[0].values
        for key in [key for key, code in values.items() if not code.plain]:
            del values[key]

    def _allocate(self, step: Step) -> None:
        """Memory that is filled in this step, sums excepted."""
        for s in statements_in(step.items):
            if s.kind == "output":
                self._allocate_output(s)
                continue
            for place in (step.local.get(s), self.plan.work.get(s)):
                if place is not None and not self._is_started(place):
                    self._allocate_place(place)

    def _is_started(self, place: Place) -> bool:
        """Memory that is allocated when a sum starts."""
        alone = not place.axes and place.statement.kind == "scatter"
        return place.sums is not None or alone or place.memory == "register"

    def _allocate_output(self, s: Statement) -> None:
        assert s.output is not None
        shape = getattr(self.plan.outputs[s.output], "shape", None)
        if shape is not None:
            self.write(f"{self.outputs[s.output]} = np.empty({self._shape(shape)})")

    def _allocate_place(self, place: Place) -> None:
        if is_number(place) or place in self.allocated:
            return
        self.allocated.add(place)
        kind = place.statement.node.type
        dtype = {graph.INT: ", np.int64", graph.BOOL: ", np.bool_"}.get(kind, "")
        if self.single and kind == graph.FLOAT and not place.wide:
            dtype = ", f32"
        name = self.memory_name(place)
        self.write(f"{name} = np.empty({self._shape(place.shape)}{dtype})")

    # -- loops -----------------------------------------------------------------------

    def _items(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, Loop):
                self._loop(item)
            else:
                self._statement(item)

    def _loop(self, item: Loop) -> None:
        rows = {place.statement for place in self.step.sums}
        starting = [s for s in self._starting(item) if s not in rows]
        for s in starting:
            if self._in_variable(s):
                self.sums.add(s)
                zero = operations.IDENTITY[_kind(s)]
                self.write(f"{self.names.value(s.node)} = {self._number(zero)}")
            else:
                self._clear(s)
        self.open_loop(item)
        self.open.append(item.index)
        self._items(item.items)
        self.open.pop()
        self.close_loop(item)
        for s in starting:
            if s in self.sums:
                self.sums.remove(s)
                name = self.names.value(s.node)
                self._store(s, self.now(s.node, name))

    def _number(self, text: str) -> str:
        return f"f32({text})" if self.single else text

    def _starting(self, item: Loop) -> list[Statement]:
        """Sums of which this is the outermost loop."""
        return [
            s
            for s in item.statements()
            if s.accumulates
            and item.index in s.bound
            and not any(i in s.bound for i in self.open)
        ]

    def _in_variable(self, s: Statement) -> bool:
        """Whether one running value is enough: no domain loop inside the sum."""
        return s.kind == "reduce" and all(i in self.open for i in s.domain)

    # -- statements ------------------------------------------------------------------

    def _statement(self, s: Statement) -> None:
        if s.kind == "let":
            assert isinstance(s.node, graph.Call | graph.Load)
            self._store(s, self.computed(s.node))
        elif s.kind == "reduce":
            self._accumulate(s)
        elif s.kind == "scatter":
            self._scatter(s)
        else:
            self._assign(s)

    def _store(self, s: Statement, code: Code) -> None:
        """Keep a value that others read from memory."""
        self.written[s] = tuple(scope.loop for scope in self.scopes[1:])
        for place in (self.step.local.get(s), self.plan.work.get(s)):
            if place is None or place.memory == "register" or place.sums is not None:
                continue
            target = self.element(place)
            if target != code.text:
                self.write(f"{target} = {code.text}")
            if not code.plain:
                code = self.now(s.node, target)

    def _assign(self, s: Statement) -> None:
        """An element of an array or of an output."""
        code = self.value(s.value)
        if s.kind == "array":
            self.written[s] = ()
            name = self.memory_name(self.plan.work[s])
        else:
            assert s.output is not None
            name = self.outputs[s.output]
        text = code.text
        if s.kind == "output" and s.value.type != graph.FLOAT:
            text = f"float({text})"
        if not hasattr(self.plan.outputs[s.output or 0], "shape") and s.kind == "output":
            self.write(f"{name} = {f'float({text})' if self.single else text}")
            return
        indices = [self._evaluated(target) for target in s.targets]
        self.write(f"{name}{subscript(indices)} = {text}")

    # -- sums ------------------------------------------------------------------------

    def _start(self, place: Place) -> None:
        """A sum over the rows, before its pass."""
        s = place.statement
        wish = self._sum_name(s)
        zero = operations.IDENTITY[_kind(s)]
        note = self._note(s, wish)
        if is_number(place):
            name = self.names.give(s.node, wish)
            self.write(f"{name} = {zero}{note}")
            self.sums.add(s)
            return
        self.allocated.add(place)
        name = self.names.array(s.node, wish)
        self.write(f"{name} = {self._filled(place.shape, zero)}{note}")

    def _filled(self, shape: Sequence[Node], number: str) -> str:
        if number == "0.0":
            return f"np.zeros({self._shape(shape)})"
        return f"np.full({self._shape(shape)}, {number})"

    def _sum_name(self, s: Statement) -> str:
        """loss_sum, where the loss alone needs the sum directly."""
        direct = [k for k, needed in self.results.items() if s in needed.direct]
        if len(direct) == 1 and len(self.outputs) > 1:
            return f"{self.outputs[direct[0]]}_{_kind(s)}"
        return self.names.numbered(_kind(s))
