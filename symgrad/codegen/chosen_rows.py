"""Which rows of arrays a pass reads and adds to at places that the data choose.

``U[i]`` with one index per row of the pass reads whole rows of U. Element by element
that is one gather for each column, and its gradient one scalar addition for each column
and lane. Whole rows are contiguous: see embedding.py for how they are moved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from symgrad import graph
from symgrad.graph import Call, Const, Index, Input, Load, Node
from symgrad.schedule.nest import statements_in
from symgrad.schedule.plan import Place, Step
from symgrad.schedule.statements import Statement

FEW_COLUMNS = 2
"""Rows of fewer elements are gathered."""


@dataclass(frozen=True)
class RowGather:
    """Rows of ``array``, numbered by ``index``, one for each row of the pass."""

    array: Input
    index: Node


def find_row_gathers(
    step: Step, contiguous: Collection[str], of: Mapping[Node, Statement]
) -> tuple[RowGather, ...]:
    """The gathers of whole rows, in order of first use.

    The array is floating point and among the ``contiguous`` ones, which are in C order;
    its first index depends on the row of the pass, through data, and the others do not.
    """
    found: dict[RowGather, None] = {}
    roots = [e for s in statements_in(step.items) for e in s.expressions]
    for node in graph.walk(roots):
        if isinstance(node, Load) and isinstance(node.array, Input):
            gather = RowGather(node.array, node.indices[0] if node.indices else node)
            if gather not in found and _is_row_gather(node, step, contiguous, of):
                found[gather] = None
    return tuple(found)


def _is_row_gather(
    node: Load,
    step: Step,
    contiguous: Collection[str],
    of: Mapping[Node, Statement],
) -> bool:
    array = node.array
    assert isinstance(array, Input)
    if len(node.indices) < 2 or array.type != graph.FLOAT:
        return False
    if array.name not in contiguous or is_narrow(array.shape[1:]):
        return False
    first, *rest = node.indices
    return is_chosen(first, step, of) and not any(step.row in i.free for i in rest)


def is_chosen(index: Node, step: Step, of: Mapping[Node, Statement]) -> bool:
    """Whether an index is data of the current row, and of nothing else."""
    if index.free != {step.row} or isinstance(index, Index):
        return False
    parts = graph.walk(index)
    reads = any(isinstance(n, Load) for n in parts)
    return reads and not any(n in of for n in parts)


def elements(shape: Sequence[Node]) -> Node:
    """The number of elements of an array of ``shape``."""
    total: Node = graph.const(1)
    for extent in shape:
        total = graph.fold_int("mul", total, extent)
    return total


def is_narrow(shape: Sequence[Node]) -> bool:
    """Whether rows of this shape have too few elements to be moved as rows."""
    count = elements(shape)
    return isinstance(count, Const) and count.value < FEW_COLUMNS


def adds_rows(place: Place, step: Step, of: Mapping[Node, Statement]) -> bool:
    """Whether a scatter adds one value to every element of a chosen row."""
    s = place.statement
    if s.kind != "scatter" or place.sums != "folded" or len(s.targets) < 2:
        return False
    first, *rest = s.targets
    if not is_chosen(first, step, of) or is_narrow(place.shape[1:]):
        return False
    for target, extent in zip(rest, place.shape[1:], strict=True):
        one = isinstance(extent, Const) and extent.value == 1
        if not ((isinstance(target, Index) and target.extent is extent) or one):
            return False
    own = [t for t in rest if isinstance(t, Index)]
    return len(set(own)) == len(own) and set(s.bound) == {step.row, *own}


@dataclass(frozen=True)
class ScaledRow:
    """What a scatter adds to a chosen row: another chosen row times a factor, which is
    one number for each row of the pass; or the negative of that."""

    source: RowGather
    factor: Node
    negative: bool


def scaled_row(
    place: Place,
    step: Step,
    of: Mapping[Node, Statement],
    gathers: Collection[RowGather],
) -> ScaledRow | None:
    """The terms of a scatter for which ``adds_rows`` holds, as such a product."""
    value, columns = place.statement.value, place.statement.targets[1:]
    negative = isinstance(value, Call) and value.op == "neg" and value not in of
    if negative:
        (value,) = value.children
    if not isinstance(value, Call) or value.op != "mul" or value in of:
        return None
    for load, factor in (value.args, value.args[::-1]):
        if not isinstance(load, Load) or not isinstance(load.array, Input):
            continue
        source = RowGather(load.array, load.indices[0]) if load.indices else None
        same = load.indices[1:] == columns and load not in of
        same = same and load.array.shape[1:] == place.shape[1:]
        if same and source in gathers and factor.free == {step.row}:
            assert source is not None
            return ScaledRow(source, factor, negative)
    return None
