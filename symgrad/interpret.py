"""The reference evaluator: what a graph means, in NumPy float64 or in mpmath numbers.

Slow, strict and short; everything else is tested against it. The value of a node is an
array with one axis for each of its free indices, so a closed node has a single value.
Unlike in a kernel,

- both branches of a ``where`` are evaluated, and so are the loads in them: an index out
  of bounds is an error wherever it stands;
- a reduction over nothing gives the neutral element: 0 for sum and norm, 1 for prod,
  inf for min, -inf for max and logsumexp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from symgrad.errors import DataError, GatherIndexError, ShapeError
from symgrad.graph import (
    BOOL,
    FLOAT,
    INT,
    Array,
    Call,
    Const,
    Index,
    Input,
    Load,
    Node,
    Reduce,
    Scatter,
    Size,
    uses,
    walk,
)
from symgrad.ops import OPS

Value: TypeAlias = np.ndarray[Any, np.dtype[Any]]

DTYPES: dict[str, type] = {FLOAT: np.float64, INT: np.int64, BOOL: np.bool_}


def evaluate(
    roots: Sequence[Node],
    inputs: Mapping[str, Any],
    sizes: Mapping[str, int] | None = None,
) -> list[Value]:
    """The values of ``roots`` in float64, int64 or bool, each according to its type.

    ``inputs``: an array for every Input by name. ``sizes``: a length for every Size by
    name; without it, a size named ``"X.0"`` is the length of axis 0 of input X.
    Arrays come back with their shape, closed scalars with shape (). A root with free
    indices has an axis for each, in the order in which a walk of the roots meets them.

    Raises DataError for a missing input, ShapeError for one of another shape than the
    graph says, GatherIndexError for a load or scatter out of bounds.
    """
    with np.errstate(all="ignore"):
        return _Evaluation(_Doubles(), dict(inputs), sizes).run(roots)


def evaluate_exact(
    roots: Sequence[Node],
    inputs: Mapping[str, Any],
    sizes: Mapping[str, int] | None = None,
    digits: int = 50,
) -> list[Value]:
    """Like ``evaluate``, with floats as mpmath numbers of ``digits`` decimal digits.

    Inputs are the binary numbers they are. Float results are object arrays.
    """
    import mpmath

    with mpmath.workdps(digits), np.errstate(all="ignore"):
        return _Evaluation(_Exact(), dict(inputs), sizes).run(roots)


def sizes_of(
    dims: Mapping[str, Iterable[tuple[str, int]]], inputs: Mapping[str, Any]
) -> dict[str, int]:
    """The length of each size; ``dims`` gives the (input, axis) pairs that have it.

    Raises ShapeError where two of these differ.
    """
    found: dict[str, int] = {}
    for name, places in dims.items():
        lengths = {place: np.shape(inputs[place[0]])[place[1]] for place in places}
        if len(set(lengths.values())) != 1:
            listed = ", ".join(f"{a} axis {i}: {n}" for (a, i), n in lengths.items())
            raise ShapeError(f"size {name!r} must be one length, not {listed}")
        found[name] = next(iter(lengths.values()))
    return found


# --------------------------------------------------------------------------------------
# The evaluation of one set of roots
# --------------------------------------------------------------------------------------


@dataclass
class _Evaluation:
    numbers: _Doubles
    inputs: dict[str, Any]
    sizes: Mapping[str, int] | None
    values: dict[Node, Value] = field(default_factory=dict)
    place: dict[Index, int] = field(default_factory=dict)  # the order of all axes

    def run(self, roots: Sequence[Node]) -> list[Value]:
        for node in walk(roots, into=uses):
            if isinstance(node, Index):
                self.place[node] = len(self.place)
            self.values[node] = self._value(node)
        return [self.values[root] for root in roots]

    def _value(self, node: Node) -> Value:
        if isinstance(node, Const):
            return self.numbers.array(node.value, node.type)
        if isinstance(node, Size):
            return np.asarray(self._length(node.name), np.int64)
        if isinstance(node, Index):
            return np.arange(self._count(node), dtype=np.int64)
        if isinstance(node, Input):
            return self._input(node)
        if isinstance(node, Load):
            return self._load(node)
        if isinstance(node, Call):
            axes = self._axes(node.free)
            return self.numbers.call(node, [self._on(axes, a) for a in node.args])
        if isinstance(node, Reduce):
            return self._reduce(node)
        if isinstance(node, Array):
            return self._over(node.indices, node.body)
        assert isinstance(node, Scatter), type(node)
        return self._scatter(node)

    # Sizes and grids

    def _length(self, name: str) -> int:
        if self.sizes is not None and name in self.sizes:
            return self.sizes[name]
        array, _, axis = name.rpartition(".")
        if array not in self.inputs or not axis.isdecimal():
            raise DataError(f"the length {name!r} is not known: pass it in sizes")
        return np.shape(self.inputs[array])[int(axis)]

    def _count(self, index: Index) -> int:
        return max(0, int(self.values[index.extent]))

    def _axes(self, indices: Iterable[Index]) -> tuple[Index, ...]:
        return tuple(sorted(indices, key=self.place.__getitem__))

    def _on(self, axes: Sequence[Index], node: Node) -> Value:
        """The value of ``node`` on ``axes``, of length 1 where it does not depend."""
        own = self._axes(node.free)
        order = [own.index(i) for i in axes if i in node.free]
        shape = [self._count(i) if i in node.free else 1 for i in axes]
        return self.values[node].transpose(order).reshape(shape)

    def _over(self, axes: Sequence[Index], node: Node) -> Value:
        """The value of ``node`` repeated along those of ``axes`` that it lacks."""
        return np.broadcast_to(self._on(axes, node), [self._count(i) for i in axes])

    # Tensors

    def _input(self, node: Input) -> Value:
        if node.name not in self.inputs:
            raise DataError(f"no value for the input {node.name!r}")
        value = self.numbers.array(self.inputs[node.name], node.type)
        shape = tuple(int(self.values[extent]) for extent in node.shape)
        if value.shape != shape:
            raise ShapeError(f"{node.name} has shape {value.shape}, not {shape}")
        return value

    def _load(self, node: Load) -> Value:
        axes, tensor = self._axes(node.free), self.values[node.array]
        where = tuple(self._on(axes, i) for i in node.indices)
        _check_bounds(where, tensor.shape, _title(node.array))
        return np.asarray(tensor[where], tensor.dtype)  # a lone object loses its array

    def _scatter(self, node: Scatter) -> Value:
        shape = [int(self.values[extent]) for extent in node.shape]
        where = tuple(self._over(node.over, t) for t in node.targets)
        _check_bounds(where, shape, "scatter")
        result = self.numbers.array(np.zeros(shape), node.type)
        np.add.at(result, where, self._over(node.over, node.value))
        return result

    def _reduce(self, node: Reduce) -> Value:
        kept = self._axes(node.free)
        grid = self._over((*kept, *node.indices), node.body)
        count = int(np.prod(grid.shape[len(kept) :], dtype=np.int64))
        return self.numbers.reduce(node, grid.reshape(*grid.shape[: len(kept)], count))


def _check_bounds(where: Sequence[Value], shape: Sequence[int], title: str) -> None:
    for axis, (index, extent) in enumerate(zip(where, shape, strict=True)):
        outside = (index < 0) | (index >= extent)
        if outside.any():
            raise GatherIndexError(
                f"{title}: index {index[outside][0]} is out of bounds for axis {axis}, "
                f"whose length is {extent}"
            )


def _title(array: Node) -> str:
    return array.name if isinstance(array, Input) else f"computed array {array}"


# --------------------------------------------------------------------------------------
# The two kinds of numbers
# --------------------------------------------------------------------------------------


def _sum(x: Value) -> Value:
    """In one order wherever the values lie: equal sums have equal bits."""
    return np.sum(np.ascontiguousarray(x), axis=-1)


def _logsumexp(x: Value) -> Value:
    top = np.max(x, axis=-1, initial=-np.inf)
    shift = np.where(np.isfinite(top), top, 0.0)
    return np.log(np.sum(np.exp(x - shift[..., None]), axis=-1)) + shift


def _norm(x: Value) -> Value:
    top = np.max(np.abs(x), axis=-1, initial=0.0)
    scale = np.where((top > 0) & np.isfinite(top), top, 1.0)
    return np.sqrt(np.sum((x / scale[..., None]) ** 2, axis=-1)) * scale


def _least(x: Value) -> Value:
    return np.min(x, axis=-1, initial=_limit(x, max))


def _largest(x: Value) -> Value:
    return np.max(x, axis=-1, initial=_limit(x, min))


def _limit(x: Value, end: Callable[..., Any]) -> Any:
    if x.dtype.kind == "f":
        return end(-np.inf, np.inf)
    return end(False, True) if x.dtype.kind == "b" else end(-(2**63), 2**63 - 1)


# Each takes the values to reduce along the last axis.
_REDUCTIONS: dict[str, Callable[[Value], Value]] = {
    "sum": _sum,
    "prod": lambda x: np.prod(x, axis=-1),
    "min": _least,
    "max": _largest,
    "logsumexp": _logsumexp,
    "norm": _norm,
}


class _Doubles:
    """Values as NumPy computes them."""

    def array(self, value: Any, type: str) -> Value:
        return np.array(value, DTYPES[type])

    def call(self, node: Call, args: Sequence[Value]) -> Value:
        return np.asarray(OPS[node.op].numeric(*args), DTYPES[node.type])

    def reduce(self, node: Reduce, values: Value) -> Value:
        return np.asarray(_REDUCTIONS[node.kind](values), DTYPES[node.type])


def _mp_extreme(better: Callable[..., Any], neutral: str) -> Callable[[list[Any]], Any]:
    import mpmath

    def extreme(x: list[Any]) -> Any:
        if any(mpmath.isnan(v) for v in x):
            return mpmath.nan
        return better(x, default=mpmath.mpf(neutral))

    return extreme


_GUARD = 8
"""Digits more than asked for that functions are computed in."""


class _Exact(_Doubles):
    """Floats as mpmath numbers in object arrays; integers and bools as they are."""

    def __init__(self) -> None:
        import mpmath as mp

        self.number = mp.mpf
        self.reductions: dict[str, Callable[[list[Any]], Any]] = {
            "sum": mp.fsum,
            "prod": mp.fprod,
            "min": _mp_extreme(min, "inf"),
            "max": _mp_extreme(max, "-inf"),
            "logsumexp": lambda x: OPS["log"].exact(mp.fsum(map(mp.exp, x))),
            "norm": lambda x: mp.sqrt(mp.fsum(x, squared=True)),
        }

    def array(self, value: Any, type: str) -> Value:
        if type != FLOAT:
            return super().array(value, type)
        convert = np.frompyfunc(self.number, 1, 1)
        return np.asarray(convert(np.asarray(value, object)), object)

    def call(self, node: Call, args: Sequence[Value]) -> Value:
        if FLOAT not in (node.type, *(a.type for a in node.args)):
            return super().call(node, args)
        import mpmath as mp

        with mp.workdps(mp.mp.dps + _GUARD):
            values = np.frompyfunc(OPS[node.op].exact, len(args), 1)(*args)
        if node.type != FLOAT:
            return np.asarray(values, DTYPES[node.type])
        # rounded: a function has the same digits whatever was computed before
        rounded = np.frompyfunc(lambda v: +self.number(v), 1, 1)(values)
        return np.asarray(rounded, object)

    def reduce(self, node: Reduce, values: Value) -> Value:
        if node.type != FLOAT:
            return super().reduce(node, values)
        result = np.empty(values.shape[:-1], object)
        for place in np.ndindex(result.shape):
            result[place] = self.number(self.reductions[node.kind](list(values[place])))
        return result
