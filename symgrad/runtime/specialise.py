"""From a program and arrays to graphs and kernels, once per kind of arrays.

A specialisation fixes ranks, dtypes and small static sizes; the number of rows is free.
An axis that shows a second size becomes dynamic, so a third one never recompiles.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from numpy.typing import NDArray

from symgrad import graph
from symgrad.codegen.layout import ArraySpec
from symgrad.errors import ArgumentError, UnusedParameterWarning, warn
from symgrad.graph import Input, Node
from symgrad.language import syntax
from symgrad.language.build import Built, InputSpec, build
from symgrad.language.dims import default_static, read_sizes, violated
from symgrad.runtime.arrays import as_array, as_parameter, by_name, graph_type
from symgrad.runtime.building import building
from symgrad.runtime.collector import paused_collector
from symgrad.runtime.kernel import Context, Kernel
from symgrad.schedule.legalise import inline_arrays
from symgrad.simplify import STAGES, Rewrite, Simplifier

Arrays = dict[str, NDArray[Any]]

DIRECTION = "direction "
COTANGENT = "the cotangent"
"""Names of extra inputs, with spaces, which no user's name has."""

BEFORE_DERIVATIVES = ("canonicalise", "stabilise")
"""What specialises hides structure: x**3 has a simpler derivative than x*x*x."""


@dataclass(frozen=True)
class Source:
    """What a user compiled: the program, the parameters, the options.

    text: the source if it was text. wrt: parameter names, in order. device: "cpu", or
    "cuda", where kernels are :class:`symgrad.runtime.cuda_kernel.CudaKernel`.
    """

    program: syntax.Program
    wrt: tuple[str, ...]
    dtype: str
    threads: int | None
    device: str = "cpu"

    @property
    def text(self) -> str | None:
        """The text of the program, for messages."""
        return self.program.text

    @property
    def head(self) -> str:
        """The beginning of the text, to tell it from others."""
        text = self.text or "<SymPy expression>"
        return text if len(text) < 60 else text[:57] + "..."

    @cached_property
    def names(self) -> frozenset[str]:
        """All names that the program mentions."""
        program = self.program
        parts = syntax.walk(*(a.value for a in program.assignments), program.result)
        return frozenset(part.id for part in parts if isinstance(part, syntax.Name))


@dataclass(eq=False)
class Specialisation:
    """Graphs and kernels for one kind of arrays.

    indices and value: the expression after the first simplification.
    parameters: in the order of wrt. data: names of the data arrays in use.
    """

    source: Source
    built: Built
    indices: tuple[graph.Index, ...]
    value: Node
    parameters: list[Input]
    specs: dict[str, ArraySpec]
    hints: dict[str, int]
    gradients: list[Node] = field(default_factory=list)  # the loss first
    rewrites: list[Rewrite] = field(default_factory=list)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    hoisted: list[tuple[Node, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.simplifier = Simplifier(varying=self.parameters)

    @property
    def data(self) -> list[str]:
        """Names of the data arrays that the expression uses."""
        wrt = set(self.source.wrt)
        return [name for name in self.built.inputs if name not in wrt]

    def simplified(
        self, nodes: Sequence[Node], stages: Sequence[str] = tuple(STAGES)
    ) -> list[Node]:
        """Simplify, and note what was done."""
        result = self.simplifier(nodes, stages)
        self.rewrites.extend(result.trace)
        return list(result.roots)

    def kernel(
        self,
        name: str,
        outputs: Callable[[], Sequence[Node]],
        extra: Mapping[str, Input] | None = None,
        stored: Mapping[Input, ArraySpec] | None = None,
        lanes: int | None = None,
    ) -> Kernel:
        """The kernel called ``name``, compiled on first use.

        extra: inputs that are not the user's (directions), passed like parameters.
        stored: more data, with their types.
        lanes: rows per vector, if not as many as it holds.
        """
        found = self.kernels.get(name)
        if found is not None:
            return found
        with building:
            if name not in self.kernels:
                with paused_collector:
                    self.kernels[name] = self._kernel(outputs, extra, stored, lanes)
            return self.kernels[name]

    def _kernel(
        self,
        outputs: Callable[[], Sequence[Node]],
        extra: Mapping[str, Input] | None,
        stored: Mapping[Input, ArraySpec] | None,
        lanes: int | None,
    ) -> Kernel:
        inputs = {p.name: p for p in self.parameters}
        inputs.update(self.built.inputs)
        specs = dict(self.specs)
        for other in (extra or {}).values():
            inputs[other.name] = other
            specs[other.name] = ArraySpec("float64", True, True)
        for other, spec in (stored or {}).items():
            inputs[other.name] = other
            specs[other.name] = spec
        return self._made(outputs(), inputs, specs, lanes)

    def _made(
        self,
        outputs: Sequence[Node],
        inputs: Mapping[str, Input],
        specs: Mapping[str, ArraySpec],
        lanes: int | None,
    ) -> Kernel:
        """A kernel for the source's device; those of a GPU are called otherwise, by
        the classes of cuda_function.py, which are the only ones to see them."""
        dtype, hints, order = self.source.dtype, self.hints, self.parameters
        if self.source.device == "cpu":
            return Kernel(outputs, inputs, specs, dtype, hints, order, lanes)
        from symgrad.runtime.cuda_kernel import CudaKernel

        return cast(Kernel, CudaKernel(outputs, inputs, specs, dtype, hints, order))

    def hoisting(self, sources: tuple[Node, ...]) -> int:
        """The number of a set of nodes computed at bind: kernels without are others."""
        if sources not in self.hoisted:
            self.hoisted.append(sources)
        return self.hoisted.index(sources)

    def lengths(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, int] | None:
        """All run-time lengths, or None if these arrays need another specialisation."""
        shapes = {name: a.shape for name, a in arrays.items()}
        sizes = read_sizes(self.built.dims, shapes)
        if sizes is None or violated(self.built.guards, sizes) is not None:
            return None
        return sizes

    def context(
        self, kernel: Kernel, arrays: Arrays, stored: Arrays | None = None
    ) -> Context:
        """``kernel`` bound to data, and to what is ``stored`` beside them."""
        lengths = self.lengths(arrays)
        assert lengths is not None
        data = {name: arrays[name] for name in self.data}
        return kernel.context(data | (stored or {}), lengths)


class Specialiser:
    """All specialisations of one source."""

    def __init__(self, source: Source, tensor: bool = False) -> None:
        self.source, self.tensor = source, tensor
        self._dynamic: set[tuple[str, int]] = set()
        self._seen: dict[tuple[str, int], int] = {}
        self._found: dict[Any, Specialisation] = {}
        self.latest: Specialisation | None = None
        self.latest_lengths: dict[str, int] = {}

    # -- arrays ----------------------------------------------------------------------

    def arrays(self, values: Mapping[str, Any]) -> Arrays:
        """The user's values as arrays, in a fixed order.

        Raises:
            ArgumentError: a parameter has no value.
        """
        values, wrt = by_name(values), self.source.wrt
        missing = [name for name in wrt if name not in values]
        if missing:
            others = [name for name in values if name not in wrt]
            near = difflib.get_close_matches(missing[0], others, 1)
            hint = f" (given is {near[0]}: a typo?)" if near else ""
            raise ArgumentError(
                f"no value for parameter {', '.join(missing)}: pass "
                + ", ".join(f"{name}=..." for name in missing)
                + hint
            )
        result = {name: as_parameter(name, values[name]) for name in wrt}
        for name, value in values.items():
            if name not in result:
                result[name] = as_array(name, value)
        return result

    def match(self, arrays: Arrays) -> Specialisation:
        """The specialisation for these arrays, built if needed."""
        found, lengths = self._fitting(arrays)
        if found is None or lengths is None:
            with building:  # another thread may have built it meanwhile
                found, lengths = self._built(arrays)
        self.note(found, lengths)
        return found

    def _built(self, arrays: Arrays) -> tuple[Specialisation, dict[str, int]]:
        self._note_sizes(arrays)
        found, lengths = self._fitting(arrays)
        if found is None or lengths is None:
            with paused_collector:
                found = self._found[self._key(arrays)] = self._build(arrays)
            lengths = found.hints
        return found, lengths

    def note(self, found: Specialisation, lengths: dict[str, int]) -> None:
        """Remember what the latest call used."""
        self.latest, self.latest_lengths = found, lengths

    def _fitting(
        self, arrays: Arrays
    ) -> tuple[Specialisation | None, dict[str, int] | None]:
        """The specialisation for these arrays if there is one, and their lengths."""
        found = self._found.get(self._key(arrays))
        lengths = None if found is None else found.lengths(arrays)
        return (None if lengths is None else found), lengths

    def _static(self, name: str, array: NDArray[Any]) -> tuple[bool, ...]:
        flags = default_static(array.shape, name in self.source.wrt)
        return tuple(
            flag and (array.shape[axis] == 1 or (name, axis) not in self._dynamic)
            for axis, flag in enumerate(flags)
        )

    def _key(self, arrays: Arrays) -> tuple[Any, ...]:
        parts = []
        for name, array in arrays.items():
            static = self._static(name, array)
            fixed = tuple(
                length if flag else -1
                for length, flag in zip(array.shape, static, strict=True)
            )
            contiguous = array.flags.c_contiguous
            parts.append((name, array.dtype.char, contiguous, fixed))
        return tuple(parts)

    def _note_sizes(self, arrays: Arrays) -> None:
        """A static axis with a second size is dynamic from now on."""
        for name, array in arrays.items():
            for axis, length in enumerate(array.shape):
                before = self._seen.setdefault((name, axis), length)
                if before != length and 1 not in (before, length):
                    self._dynamic.add((name, axis))
                self._seen[name, axis] = length

    # -- building --------------------------------------------------------------------

    def _build(self, arrays: Arrays) -> Specialisation:
        wrt = self.source.wrt
        specs = {
            name: InputSpec(
                name,
                a.shape,
                graph_type(a),
                name in wrt,
                self._static(name, a),
            )
            for name, a in arrays.items()
        }
        built = build(self.source.program, specs)
        self._reject_unused(built, arrays)
        if not self.tensor:
            from symgrad.language.build import require_scalar

            require_scalar(built, self.source.program)
        shapes = {name: a.shape for name, a in arrays.items()}
        hints = read_sizes(built.dims, shapes) or {}
        parameters = [self._parameter(built, name, arrays[name]) for name in wrt]
        kernels = {
            name: ArraySpec(a.dtype.name, a.flags.c_contiguous, name in wrt)
            for name, a in arrays.items()
        }
        result = Specialisation(
            self.source, built, built.value.indices, built.value.body,
            parameters, kernels, hints,
        )  # fmt: skip
        self._simplify(result)
        return result

    def _simplify(self, found: Specialisation) -> None:
        body = graph.to_float(found.value)
        if self.tensor and found.indices:
            root: Node = graph.array(found.indices, body)
        else:
            root = body
        root = found.simplified([root], BEFORE_DERIVATIVES)[0]
        if isinstance(root, graph.Array):
            inner = inline_arrays([root.body], found.hints)[0]
            found.indices, found.value = root.indices, inner
        else:
            found.value = inline_arrays([root], found.hints)[0]

    def _parameter(self, built: Built, name: str, array: NDArray[Any]) -> Input:
        """A parameter that the expression does not use has a gradient of zeros."""
        found = built.inputs.get(name)
        if found is not None:
            return found
        others = [n for n in built.inputs if n not in self.source.wrt]
        near = difflib.get_close_matches(name, others, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        warn(
            f"parameter {name} does not occur in the expression, so its gradient is "
            f"zero{hint}",
            UnusedParameterWarning,
        )
        return graph.input_(name, array.shape)

    def _reject_unused(self, built: Built, arrays: Arrays) -> None:
        known = [*built.inputs, *self.source.wrt]
        for name in arrays:
            if name not in known:
                near = difflib.get_close_matches(name, list(built.inputs), 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                used = ", ".join(built.inputs)
                raise ArgumentError(
                    f"{name} is not used by the expression, which uses {used}{hint}"
                )
