"""Every operation of the table as a compiled kernel computes it.

Two loops are tried: over rows, with a value of the operation in each lane of a vector,
and over nothing, where a value is a scalar. Both against the row's own semantics: the
exact values over its samples to the stated ulp, and its edges.
"""

import functools
import itertools

import numpy as np
import pytest
from test_ops import argument_types, edge_columns, exact_value, samples, ulps

from symgrad import graph, interpret
from symgrad.codegen import vectormath
from symgrad.codegen.layout import ArraySpec
from symgrad.codegen.operations import native
from symgrad.graph import BOOL, FLOAT, INT
from symgrad.ops import OPS, Op, apply
from symgrad.runtime.kernel import Kernel

ROWS = pytest.mark.parametrize("name", OPS)
DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])
COUNT = 61
"""Samples: vectors of any width, and some left over."""


# --------------------------------------------------------------------------------------
# Running one operation
# --------------------------------------------------------------------------------------


def computed(row: Op, columns: list[np.ndarray], dtype: str, lanes: bool) -> np.ndarray:
    """The operation of each row of ``columns`` by a kernel, as float64."""
    if row.types != "order":
        return _run(row.name, None, tuple(argument_types(row)), columns, dtype, lanes)
    result = np.empty(len(columns[0]))
    for order in set(columns[0].tolist()):
        chosen = columns[0] == order
        rest = [c[chosen] for c in columns[1:]]
        result[chosen] = _run(row.name, order, (FLOAT,), rest, dtype, lanes)
    return result


def _run(
    name: str,
    order: int | None,
    types: tuple[str, ...],
    columns: list[np.ndarray],
    dtype: str,
    lanes: bool,
) -> np.ndarray:
    kernel = _kernel(name, order, types, dtype, lanes)
    data = {f"x{k}": np.ascontiguousarray(c) for k, c in enumerate(columns)}
    if lanes:
        return _call(kernel, data, {"x0.0": len(columns[0])})
    count = len(columns[0])
    each = [{k: np.asarray(c[i]) for k, c in data.items()} for i in range(count)]
    return np.array([_call(kernel, row, {}) for row in each])


def _call(
    kernel: Kernel, data: dict[str, np.ndarray], lengths: dict[str, int]
) -> np.ndarray:
    context = kernel.context(data, lengths)
    outs = [np.empty(context.shape(node)) for node in kernel.outputs]
    context([], outs)
    return outs[0]


@functools.cache
def _kernel(
    name: str, order: int | None, types: tuple[str, ...], dtype: str, lanes: bool
) -> Kernel:
    shape = (graph.size("x0.0"),) if lanes else ()
    index = [graph.index(extent) for extent in shape]
    inputs = [graph.input_(f"x{k}", shape, t) for k, t in enumerate(types)]
    args = [graph.load(x, index) for x in inputs]
    if order is not None:
        args.insert(0, graph.const(order))
    root = graph.to_float(apply(name, *args))
    specs = {
        x.name: ArraySpec(np.dtype(interpret.DTYPES[t]).name, True, False)
        for x, t in zip(inputs, types, strict=True)
    }
    output = graph.array(tuple(index), root) if lanes else root
    hints = {"x0.0": 1000} if lanes else {}
    return Kernel([output], {x.name: x for x in inputs}, specs, dtype, hints)


def rounded(columns: list[np.ndarray], dtype: str) -> list[np.ndarray]:
    """Numbers as the compute type has them, in float64."""
    with np.errstate(over="ignore"):
        return [
            c.astype(dtype).astype(np.float64) if c.dtype.kind == "f" else c
            for c in columns
        ]


def error(got: float, want, dtype: str, scale: float) -> float:
    """In units of the last place of the compute type."""
    if dtype == "float64":
        return ulps(float(got), want, scale)
    nearest = np.float32(float(want))
    if not np.isfinite(nearest) or nearest == 0 or not np.isfinite(got):
        return ulps(float(got), float(nearest))
    unit = float(np.spacing(np.float32(max(abs(nearest), scale))))
    return float(abs(float(got) - want) / unit)


def allowed(row: Op) -> float:
    """The stated bound, in units of the last place."""
    own = row.ulp if row.name in native() or row.expand is None else row.expand_ulp
    return max(own, vectormath.ERROR_BOUNDS.get(row.name, 0.0))


LANES = pytest.mark.parametrize("lanes", [True, False], ids=["lanes", "scalar"])


@LANES
@DTYPES
@ROWS
def test_samples(name, dtype, lanes):
    row = OPS[name]
    columns = rounded(samples(row, COUNT), dtype)
    got = computed(row, columns, dtype, lanes)
    for args, value in zip(zip(*columns, strict=True), got, strict=True):
        found = error(value, exact_value(row, args), dtype, row.scale)
        assert found <= allowed(row), f"{name}{args} = {value}: {found} ulp"


@LANES
@DTYPES
@ROWS
def test_edges(name, dtype, lanes):
    row = OPS[name]
    columns, wanted = edge_columns(row)
    fits = representable(columns, dtype)
    columns = [c[fits] for c in columns]
    got = computed(row, columns, dtype, lanes)
    check_same(row, columns, got, np.asarray(wanted, float)[fits], dtype)


SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e30, -1e30, np.inf, -np.inf, np.nan)


@LANES
@DTYPES
@ROWS
def test_special_values(name, dtype, lanes):
    """Every combination of them gives what NumPy gives."""
    row = OPS[name]
    values = {FLOAT: SPECIAL, INT: (0, 1, 2), BOOL: (False, True)}
    types = argument_types(row)
    places = list(itertools.product(*(values[t] for t in types)))
    columns = [
        np.array(c, interpret.DTYPES[t])
        for c, t in zip(zip(*places, strict=True), types, strict=True)
    ]
    columns = rounded(columns, dtype)
    with np.errstate(all="ignore"):
        wanted = row.numeric(*columns)
    if name == "polygamma":  # even orders: above 0 and at the poles (its domain)
        order, x = columns
        inside = (order < 2) | ~(x < 0) | (x == np.floor(x))
        columns, wanted = [c[inside] for c in columns], wanted[inside]
    got = computed(row, columns, dtype, lanes)
    check_same(row, columns, got, np.asarray(wanted, float), dtype)


def representable(columns: list[np.ndarray], dtype: str) -> np.ndarray:
    """Where all numbers stay finite, or not zero, in the compute type."""
    fits = np.ones(len(columns[0]), bool)
    for column, narrow in zip(columns, rounded(columns, dtype), strict=True):
        fits &= (np.isfinite(column) == np.isfinite(narrow)) | np.isnan(column)
        fits &= (column == 0) == (narrow == 0)
    return fits


def check_same(
    row: Op, columns: list[np.ndarray], got: np.ndarray, wanted: np.ndarray, dtype: str
) -> None:
    """The same infinities, NaN and zeros with their signs; others to the bound."""
    for place, value, want in zip(zip(*columns, strict=True), got, wanted, strict=True):
        with np.errstate(over="ignore", under="ignore"):
            nearest = float(np.dtype(dtype).type(want))
        if nearest == 0:
            signs = np.signbit(value) == np.signbit(nearest)
            good = value == 0 and (signs or row.name in ("minimum", "maximum", "clip"))
        else:
            good = error(value, nearest, dtype, row.scale) <= allowed(row) + 1
        assert good, f"{row.name}{place} = {value}, not {want}"


# --------------------------------------------------------------------------------------
# Integers
# --------------------------------------------------------------------------------------

EXACT = [name for name, row in OPS.items() if row.integer and name != "pow"]
COMPARISONS = [name for name, row in OPS.items() if row.types == "comparison"]


def integers(row: Op) -> list[np.ndarray]:
    """Of both signs and of all sizes; no divisor is zero."""
    numbers = np.random.default_rng(7)
    columns = [numbers.integers(-9, 10, 200) for _ in range(row.arity)]
    columns[0][::5] = numbers.integers(-(2**40), 2**40, 40)
    if row.name in ("mod", "floor_divide"):
        columns[1][columns[1] == 0] = 4
    return columns


@LANES
@pytest.mark.parametrize("name", EXACT + COMPARISONS)
def test_integers(name, lanes):
    """In int64, exactly as the interpreter."""
    row = OPS[name]
    columns = integers(row)
    types = (INT,) * row.arity
    got = _run(name, None, types, columns, "float64", lanes)
    index = graph.index(len(columns[0]))
    arrays = [graph.input_(f"x{k}", (len(c),), type=INT) for k, c in enumerate(columns)]
    root = apply(name, *(graph.load(x, [index]) for x in arrays))
    values = {f"x{k}": c for k, c in enumerate(columns)}
    (wanted,) = interpret.evaluate([root], values)
    np.testing.assert_array_equal(got, wanted.astype(float))


@pytest.mark.parametrize("dtype", "i1 i2 i4 i8 u1 u2 u4 u8 f4 f8 ?".split())
def test_elements_are_converted_when_loaded(dtype):
    array = np.array([0, 1, 1, 100, 7]).astype(dtype)
    index = graph.index(graph.size("x0.0"))
    kind = {"f": FLOAT, "b": BOOL}.get(array.dtype.kind, INT)
    x = graph.input_("x0", (index.extent,), type=kind)
    root = graph.array((index,), graph.to_float(graph.load(x, [index])))
    spec = ArraySpec(array.dtype.name, True, False)
    kernel = Kernel([root], {"x0": x}, {"x0": spec}, "float64", {"x0.0": 1000})
    found = _call(kernel, {"x0": array}, {"x0.0": 5})
    np.testing.assert_array_equal(found, array.astype(float))
