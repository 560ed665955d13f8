"""A user's own operation: one row of the table, given as a formula."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad import graph, interpret, ops
from symgrad.differentiate import gradient
from symgrad.errors import ArgumentError
from symgrad.graph import Input, Load, Node
from symgrad.language.build import InputSpec, build
from symgrad.language.names import FUNCTIONS, Function, add_function
from symgrad.language.parser import parse_text

_HEAD = re.compile(r"\s*(\w+)\s*\(\s*(\w+(?:\s*,\s*\w+)*)\s*\)\s*")

_DEFINED: dict[str, tuple[Any, ...]] = {}
"""What the user defined: arguments, formula, partials, cost and citation."""


def define(
    signature: str,
    formula: str,
    *,
    partials: Sequence[str] | None = None,
    cost: float | None = None,
    cite: str = "defined by the user",
) -> None:
    """Add an elementwise operation to the language.

    After ``define("gelu(x)", "x * (1 + erf(x / sqrt(2))) / 2")`` any formula may use
    ``gelu``. It becomes a row of the table of operations: what it computes, its exact
    value, its derivatives and its kernel are all derived from the formula. The same
    definition again changes nothing, so that a cell of a notebook may run twice.

    Args:
        signature: the name and its arguments, such as ``"huber(r, k)"``.
        formula: the value for scalar arguments, in the language of losses.
        partials: derivatives with respect to each argument, as formulas, where a better
            form is known than the one differentiation finds.
        cost: cycles per element; by default that of the formula.
        cite: where the operation comes from.

    Raises:
        ArgumentError: the signature is malformed, the name is taken (by a function or
            by another definition), or ``cost`` is no positive number.
        ParseError, UnknownNameError: the formula is wrong.
    """
    match = _HEAD.fullmatch(signature) if isinstance(signature, str) else None
    if match is None:
        raise ArgumentError(
            f"the signature {signature!r} must be a name with arguments: 'gelu(x)'"
        )
    name, names = match[1], [part.strip() for part in match[2].split(",")]
    slopes = _slopes(name, partials, len(names))
    definition = (tuple(names), formula, slopes, cost, cite)
    if name in _DEFINED and name in FUNCTIONS:
        if _DEFINED[name] == definition:
            return
        raise ArgumentError(
            f"{name} is defined otherwise already: {_DEFINED[name][1]!r}; choose "
            "another name"
        )
    if name in FUNCTIONS or name in ops.OPS:
        raise ArgumentError(f"{name} is a function of the language already")
    if len(set(names)) != len(names):
        raise ArgumentError(f"the signature {signature!r} names an argument twice")
    if cost is not None and (isinstance(cost, bool) or not _is_positive(cost)):
        raise ArgumentError(f"cost is {cost!r}: it must be a positive number of cycles")
    _add(name, names, formula, partials, cost, cite)
    add_function(Function(name, len(names), len(names)))
    _DEFINED[name] = definition


def _slopes(name: str, partials: Any, count: int) -> tuple[str, ...] | None:
    """The partial derivatives as they were given, one for each argument."""
    if partials is None:
        return None
    if not isinstance(partials, list | tuple) or len(partials) != count:
        formulas = "one formula" if count == 1 else f"{count} formulas"
        raise ArgumentError(
            f"partials of {name}: give a list of {formulas}, one for each argument"
        )
    return tuple(partials)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(0 < value < np.inf)


def _add(
    name: str,
    names: list[str],
    formula: str,
    partials: Sequence[str] | None,
    cost: float | None,
    cite: str,
) -> None:
    body, inputs = _scalar(formula, names), [graph.input_(n) for n in names]
    slopes = gradient(body, inputs) if partials is None else None
    if partials is not None:
        slopes = [_scalar(text, names) for text in partials]
    assert slopes is not None
    total = sum(
        ops.OPS[n.op].cost for n in graph.walk(body) if isinstance(n, graph.Call)
    )
    ops.define(
        name,
        arity=len(names),
        types="float",
        numeric=lambda *arrays: _numeric(body, names, arrays),
        exact=lambda *numbers: _exact(body, names, numbers),
        partials=lambda out, *args: tuple(_put(s, inputs, args) for s in slopes),
        expand=lambda *args: _put(body, inputs, args),
        cost=total if cost is None else cost,
        sympy=None,
        sample=((-3.0, 3.0),) * len(names),
        edges=(),
        domain="where the formula is defined",
        corner="that of the formula",
        cite=cite,
        ulp=64.0,
    )


def _scalar(formula: str, names: list[str]) -> Node:
    """A formula over scalar arguments as a node."""
    specs = {n: InputSpec(n, (), graph.FLOAT, True, ()) for n in names}
    return build(parse_text(formula), specs).value.body


def _put(body: Node, inputs: Sequence[Input], args: Sequence[Node]) -> Node:
    """``body`` with arguments in the place of its inputs."""
    values = dict(zip(inputs, args, strict=True))

    def replace(node: Node) -> Node:
        if isinstance(node, Load) and isinstance(node.array, Input):
            return values.get(node.array, node)
        return node

    return graph.transform(body, replace)


def _numeric(body: Node, names: list[str], arrays: Sequence[Any]) -> NDArray[Any]:
    """The formula elementwise, by the reference interpreter."""
    grid = np.broadcast_arrays(*arrays)
    count = graph.size("elements")
    i = graph.index(count)
    inputs = [graph.input_(n) for n in names]
    loads = [graph.load(graph.input_(n, (count,)), (i,)) for n in names]
    root = graph.array((i,), _put(body, inputs, loads))
    flat = {n: np.asarray(a, float).ravel() for n, a in zip(names, grid, strict=True)}
    result = interpret.evaluate([root], flat, {"elements": grid[0].size})[0]
    return np.asarray(result).reshape(grid[0].shape)


def _exact(body: Node, names: list[str], numbers: Sequence[Any]) -> Any:
    values = {n: np.asarray(x, object) for n, x in zip(names, numbers, strict=True)}
    return np.asarray(interpret.evaluate_exact([body], values)[0], object).item()
