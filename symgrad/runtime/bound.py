"""The kernels of a bound objective, with the work on fixed data done once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from symgrad.codegen.layout import ArraySpec
from symgrad.graph import Input, Node, Reduce
from symgrad.runtime.hoist import Hoisted, array_of, hoist
from symgrad.runtime.kernel import Context
from symgrad.runtime.specialise import Arrays, Specialisation

WORTH_ELEMENTS = 1000
"""Data of fewer elements are not looked at: nothing to gain."""


class BoundKernels:
    """Contexts for one set of arrays.

    found, arrays: the graphs, and all arrays by name (of parameters only the shapes
    count). hoists: whether work on the data is done once; ``stored`` has the results.
    """

    def __init__(self, found: Specialisation, arrays: Arrays, hoists: bool) -> None:
        self.found, self.arrays = found, arrays
        elements = sum(arrays[name].size for name in found.data)
        self.hoists = hoists and elements >= WORTH_ELEMENTS
        self.stored: dict[Node, NDArray[np.float64 | np.float32]] = {}

    def context(
        self,
        name: str,
        nodes: Sequence[Node],
        workers: int,
        extra: Mapping[str, Input] | None = None,
    ) -> Context:
        """The kernel that computes ``nodes``, bound to the data."""
        found = self.found
        hoisted = self._hoisted(nodes) if self.hoists else Hoisted(tuple(nodes))
        if not hoisted.sources:
            kernel = found.kernel(name, lambda: nodes, extra)
            return found.context(kernel, self.arrays)
        self._fill(hoisted, workers)
        specs = {i: self._spec(n) for n, i in hoisted.pairs()}
        title = f"{name}, hoisted {found.hoisting(hoisted.sources)}"
        kernel = found.kernel(title, lambda: hoisted.outputs, extra, specs)
        stored = {i.name: self.stored[n] for n, i in hoisted.pairs()}
        return found.context(kernel, self.arrays, stored)

    def _hoisted(self, nodes: Sequence[Node]) -> Hoisted:
        lengths = self.found.lengths(self.arrays)
        assert lengths is not None
        size = np.dtype(self.found.source.dtype).itemsize
        return hoist(nodes, self.found.data, lengths, size)

    def _spec(self, node: Node) -> ArraySpec:
        """Sums stay float64, as kernels keep them; values are of the compute type."""
        dtype = "float64" if isinstance(node, Reduce) else self.found.source.dtype
        return ArraySpec(dtype, True, False)

    def _fill(self, hoisted: Hoisted, workers: int) -> None:
        """Compute what is not stored yet."""
        missing = tuple(n for n in hoisted.sources if n not in self.stored)
        if not missing:
            return
        outputs = [array_of(node) for node in missing]
        title = f"bind, hoisted {self.found.hoisting(missing)}"
        kernel = self.found.kernel(title, lambda: outputs)
        context = self.found.context(kernel, self.arrays)
        outs = [np.empty(context.shape(node)) for node in kernel.outputs]
        context([], outs, workers)
        for node, out in zip(missing, outs, strict=True):
            self.stored[node] = out.astype(self._spec(node).dtype, copy=False)
