"""Which index was out of bounds: looked for only after a kernel said that one was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad import graph
from symgrad.errors import GatherIndexError
from symgrad.graph import Input, Load, Node, Scatter
from symgrad.interpret import evaluate
from symgrad.schedule import cost


def index_error(
    outputs: Sequence[Node],
    data: Mapping[str, NDArray[Any]],
    lengths: Mapping[str, int],
) -> GatherIndexError:
    """The error for the first index in the graph of ``outputs`` that is outside."""
    for index, extent, target, axis in _computed(outputs):
        sources = [n for n in graph.walk(index) if isinstance(n, Input)]
        if not all(s.name in data for s in sources):
            continue  # computed from parameters
        size = cost.length(extent, lengths)
        values = np.asarray(evaluate([index], data, lengths)[0])
        outside = (values < 0) | (values >= size)
        if outside.any():
            place = int(np.argmax(outside.ravel()))
            what = _described(sources, data, values, place)
            return GatherIndexError(
                f"{what} is out of bounds: axis {axis} of {target} has length {size}"
            )
    return GatherIndexError("an index computed from the parameters is out of bounds")


def _computed(outputs: Sequence[Node]) -> Iterator[tuple[Node, Node, str, int]]:
    """Indices that depend on values: index, extent, name of the array, axis."""
    for node in graph.walk(outputs):
        if isinstance(node, Load):
            indices, shape = node.indices, node.array.shape
            array = node.array
            name = array.name if isinstance(array, Input) else "a computed array"
            if " " in name and isinstance(array, Input):
                continue  # a direction: its parameter is indexed alike
        elif isinstance(node, Scatter):
            indices, shape, name = node.targets, node.shape, "a gradient"
        else:
            continue
        for axis, (index, extent) in enumerate(zip(indices, shape, strict=True)):
            if any(isinstance(n, Load) for n in graph.walk(index)):
                yield index, extent, name, axis


def _described(
    sources: Sequence[Input],
    data: Mapping[str, NDArray[Any]],
    values: NDArray[Any],
    place: int,
) -> str:
    """The element of the user's array if the index is one, else its value."""
    # axes of length 1 are not in the graph
    if len(sources) == 1 and data[sources[0].name].size == values.size:
        array = data[sources[0].name]
        where = ", ".join(str(int(k)) for k in np.unravel_index(place, array.shape))
        position = f"[{where}]" if where else ""
        return f"{sources[0].name}{position} = {array.ravel()[place]}"
    return f"index {values.ravel()[place]} (from {', '.join(s.name for s in sources)})"
