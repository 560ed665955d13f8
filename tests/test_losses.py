"""Every loss of the tables: values and derivatives, rows, threads, passes, arrays.

Compared with PyTorch in float64, and with NumPy and differences where it is missing.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from loss_constructs import ARRAYS, ELEMENTS
from loss_long_rows import LONG_ROWS
from loss_passes import ONE_PASS
from loss_regressions import REGRESSIONS
from losses import LARGE, MODELS, SPECIFIED, Case
from oracles import (
    NUMPY,
    assert_gradients,
    needs_torch,
    relative_error,
    torch_gradient,
    torch_hvp,
    torch_math,
)

import symgrad as sg
from symgrad.codegen import layout
from symgrad.interpret import evaluate
from symgrad.runtime import kernel, threads
from symgrad.runtime.derivatives import gradient_nodes
from symgrad.runtime.explain import passes_over_data

CASES = (
    *(*SPECIFIED, *MODELS, *LARGE, *ELEMENTS, *ARRAYS, *REGRESSIONS),
    *(*ONE_PASS, *LONG_ROWS),
)
EACH = pytest.mark.parametrize("case", CASES, ids=str)
SMOOTH = pytest.mark.parametrize("case", [c for c in CASES if not c.kinks], ids=str)
TOLERANCE = 1e-10

pytestmark = pytest.mark.filterwarnings(
    "ignore::symgrad.errors.UnusedParameterWarning",
)


@cache
def compiled(case: Case, dtype: str = "float64") -> sg.Loss:
    """The loss; the tests share it with all that it has compiled."""
    return sg.compile(case.text, wrt=case.wrt, dtype=dtype, threads=1)


def reference(case: Case, values: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Value and gradient by others: PyTorch, or NumPy and the interpreter."""
    if torch_math() is not None:
        return torch_gradient(case.reference, values, case.wrt)
    found = compiled(case)._specialiser.latest
    assert found is not None
    gradient = evaluate(gradient_nodes(found), values)[1:]
    value = float(np.asarray(case.reference(NUMPY, **values)))
    return value, dict(zip(case.wrt, gradient, strict=True))


def test_names_are_unique():
    assert len({c.name for c in CASES}) == len(CASES) > 160


# --------------------------------------------------------------------------------------
# Values and derivatives
# --------------------------------------------------------------------------------------


@EACH
def test_value_and_gradient(case):
    """With numbers of rows around a vector, and with many."""
    f = compiled(case)
    for n in case.sizes():
        values = case.values(n)
        value, gradient = f.value_and_grad(**values)
        wanted, slopes = reference(case, values)
        assert value == pytest.approx(wanted, rel=TOLERANCE), n
        plain = float(np.asarray(case.reference(NUMPY, **values)))
        assert value == pytest.approx(plain, rel=TOLERANCE), n
        assert list(gradient) == case.wrt
        assert_gradients(gradient, slopes, TOLERANCE, f" for {n} rows")
        assert f(**values) == pytest.approx(value, rel=1e-12), n


@EACH
def test_single_precision(case):
    values = case.values(case.few(1000))
    value, gradient = compiled(case, "float32").value_and_grad(**values)
    wanted, slopes = compiled(case).value_and_grad(**values)
    assert value == pytest.approx(wanted, rel=case.single)
    assert {g.dtype.name for g in gradient.values()} == {"float32"}
    assert_gradients(gradient, slopes, case.single)


def stencil(function: Callable[[float], Any], step: float = 1e-3) -> Any:
    """The derivative at 0, by differences of sixth order."""
    weights = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
    return (
        sum(w * (function(k * step) - function(-k * step)) for k, w in weights.items())
        / step
    )


def directions(case: Case, values: dict[str, Any], seed: int = 3) -> dict[str, Any]:
    numbers = np.random.default_rng(seed)
    return {name: numbers.normal(size=np.shape(values[name])) for name in case.wrt}


@SMOOTH
def test_slope_along_a_direction(case):
    """Against differences of the NumPy reference: independent of PyTorch."""
    values = case.values(case.few(9))
    along = directions(case, values)

    def shifted(t: float) -> float:
        moved = {name: values[name] + t * along[name] for name in case.wrt}
        return float(np.asarray(case.reference(NUMPY, **{**values, **moved})))

    wanted = stencil(shifted, 1e-5)  # too short to cross a kink
    gradient = compiled(case).grad(**values)
    found = sum(np.sum(gradient[name] * along[name]) for name in case.wrt)
    scale = sum(np.abs(gradient[name] * along[name]).sum() for name in case.wrt)
    assert abs(found - wanted) <= 1e-6 * max(scale, abs(shifted(0.0)))


@SMOOTH
@needs_torch
def test_second_derivatives(case):
    """The Hessian times a direction."""
    n = case.few(9)
    values = case.values(n)
    along = directions(case, values)
    found = compiled(case).hvp(along, **values)
    wanted = torch_hvp(case.reference, values, case.wrt, along)
    first = compiled(case).grad(**values)
    size = max(np.abs(g).max(initial=0.0) for g in (*wanted.values(), *first.values()))
    for name in case.wrt:
        assert found[name].shape == wanted[name].shape
        error = np.abs(found[name] - wanted[name]).max(initial=0.0)
        assert error <= TOLERANCE * size, name


@pytest.mark.parametrize("case", SPECIFIED + MODELS, ids=str)
def test_second_derivatives_are_differences_of_first(case):
    values = case.values(case.few(9))
    along = directions(case, values)
    f = compiled(case)

    def gradient(t: float) -> np.ndarray:
        moved = {name: values[name] + t * along[name] for name in case.wrt}
        slopes = f.grad(**{**values, **moved})
        return np.concatenate([g.ravel() for g in slopes.values()])

    wanted = stencil(gradient)
    found = np.concatenate([h.ravel() for h in f.hvp(along, **values).values()])
    scale = max(np.abs(wanted).max(), np.abs(gradient(0.0)).max())
    assert np.abs(found - wanted).max() <= 1e-5 * scale


# --------------------------------------------------------------------------------------
# Rows, threads, passes
# --------------------------------------------------------------------------------------


@EACH
def test_a_number_of_rows_needs_no_kernel_of_its_own(case):
    few, many = case.few(1000), case.few(700)
    f = sg.compile(case.text, wrt=case.wrt)
    used = []
    for n in (few, many, case.few(12)):
        f.value_and_grad(**case.values(n))
        used.append(f._main_kernel(f._latest()))
    assert used[0] is used[1] is used[2] or "n n" in case.data.values()


@pytest.mark.parametrize("case", [c for c in CASES if c.passes is not None], ids=str)
def test_passes_over_the_data(case):
    f = compiled(case)
    f.value_and_grad(**case.values(case.few(1000)))
    plan = f._main_kernel(f._latest()).plan
    assert len(passes_over_data(plan, case.data)) == case.passes


def assert_same_bits(case: Case, counts: tuple[int, ...]) -> None:
    """Of functions that are new: the first call's sizes shape the kernel."""
    values = case.values(case.few(5000))
    results = [
        sg.compile(case.text, wrt=case.wrt, threads=count).value_and_grad(**values)
        for count in counts
    ]
    value, gradient = results[0]
    for again, slopes in results[1:]:
        assert again == value
        for name in case.wrt:
            np.testing.assert_array_equal(slopes[name], gradient[name])


def split_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks on all threads, however little there is to do."""
    monkeypatch.setattr(kernel, "PARALLEL_SECONDS", 0.0)
    monkeypatch.setattr(layout, "CHUNK_COST", 1.0)
    monkeypatch.setattr(layout, "PARTIAL_COST", 0.0)


@EACH
def test_threads_give_the_same_bits(case, monkeypatch):
    """Every pass split among threads, however little there is to do."""
    split_anyway(monkeypatch)
    assert_same_bits(case, (1, 2))


@pytest.mark.parametrize("case", SPECIFIED, ids=str)
def test_any_number_of_threads_gives_the_same_bits(case, monkeypatch):
    split_anyway(monkeypatch)
    assert_same_bits(case, (1, 3, 5))


def test_threads_are_used(monkeypatch):
    split_anyway(monkeypatch)
    split = []
    plain = threads.in_parallel

    def noted(function: int, common: Any, scratch: list[int], chunks: int) -> None:
        split.append((chunks, len(scratch)))
        plain(function, common, scratch, chunks)

    monkeypatch.setattr(threads, "in_parallel", noted)
    case = SPECIFIED[0]
    sg.compile(case.text, wrt=case.wrt, threads=2).grad(**case.values(5000))
    assert split
    assert all(chunks > 1 and count == 2 for chunks, count in split)


@EACH
def test_the_same_call_gives_the_same_bits(case):
    """Again, in memory that has been used, and with the data bound."""
    f = compiled(case)
    values = case.values(case.few(9))
    value, gradient = f.value_and_grad(**values)
    for _ in range(2):
        again, slopes = f.value_and_grad(**values)
        assert again == value
        for name in case.wrt:
            np.testing.assert_array_equal(slopes[name], gradient[name])
    parameters = {name: values[name] for name in case.wrt}
    bound = f.bind(parameters, **{name: values[name] for name in case.data})
    for _ in range(2):
        again, flat = bound.value_and_grad(bound.pack(parameters))
        assert again == pytest.approx(value, rel=1e-12)
        assert_gradients(bound.unpack(flat), gradient, 1e-12)


# --------------------------------------------------------------------------------------
# Arrays
# --------------------------------------------------------------------------------------


def _strided(array: np.ndarray) -> np.ndarray:
    wide = np.repeat(array, 3, axis=-1)
    wide[..., 1::3] = 0
    return wide[..., ::3]


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _offset(array: np.ndarray) -> np.ndarray:
    """The same numbers at an odd address: aligned for no vector, or not at all."""
    raw = np.empty(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _rows_apart(array: np.ndarray) -> np.ndarray:
    """Rows that are part of longer rows: whole elements in between."""
    longer = np.zeros((*array.shape[:-1], array.shape[-1] + 3), array.dtype)
    longer[..., 2:-1] = array
    return longer[..., 2:-1]


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Fortran order": np.asfortranarray,
    "strided": _strided,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "reversed columns": lambda a: a[..., ::-1].copy()[..., ::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "read-only": _read_only,
    "unaligned": _offset,
    "rows apart": _rows_apart,
}

WITH_DATA = [c for c in SPECIFIED + MODELS + LARGE[:4] if c.data]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", WITH_DATA, ids=str)
def test_data_in_any_layout(case, layout):
    values = case.values(case.few(1000))
    value, gradient = compiled(case).value_and_grad(**values)
    moved = {
        name: LAYOUTS[layout](values[name]) if values[name].ndim else values[name]
        for name in case.data
    }
    again, slopes = compiled(case).value_and_grad(**{**values, **moved})
    assert again == pytest.approx(value, rel=1e-13)
    assert_gradients(slopes, gradient, 1e-12)


DTYPES = {"f": "f4 f8 f2", "i": "i8 i4 i2 i1 u1 u4", "b": "?"}


@pytest.mark.parametrize("case", WITH_DATA, ids=str)
def test_data_of_any_dtype(case):
    """Numbers that the narrower type holds exactly."""
    values = case.values(case.few(1000))
    for turn in range(6):
        narrow = {}
        for name in case.data:
            array = values[name]
            kinds = DTYPES[array.dtype.kind].split()
            narrow[name] = array.astype(kinds[turn % len(kinds)])
        wide = {
            name: array.astype({"f": "f8", "i": "i8", "u": "i8", "b": "?"}[k])
            for name, array in narrow.items()
            for k in array.dtype.kind
        }
        value, gradient = compiled(case).value_and_grad(**{**values, **narrow})
        wanted, slopes = compiled(case).value_and_grad(**{**values, **wide})
        assert value == pytest.approx(wanted, rel=1e-13)
        assert_gradients(gradient, slopes, 1e-12)


def test_integers_and_truth_values_as_numbers():
    numbers = np.random.default_rng(2)
    X, y = numbers.integers(-9, 9, (300, 5)), numbers.integers(0, 2, 300)
    w = numbers.normal(size=5)
    f = sg.compile("mean((tanh(X @ w) - y)**2)", wrt=["w"])
    value, gradient = f.value_and_grad(w=w, X=X.astype(float), y=y.astype(float))
    for kind in (np.int64, np.int32, np.int16, np.int8, np.float16):
        for flag in (np.bool_, np.uint8, np.uint64):
            again = f.value_and_grad(w=w, X=X.astype(kind), y=y.astype(flag))
            assert again[0] == pytest.approx(value, rel=1e-14)
            assert relative_error(again[1]["w"], gradient["w"]) < 1e-13


def test_parameters_in_any_layout():
    case = next(c for c in SPECIFIED if c.name == "mixture")
    values = case.values(100)
    value, gradient = compiled(case).value_and_grad(**values)
    for change in (np.asfortranarray, _strided, np.ndarray.tolist, _read_only):
        moved = {name: change(values[name]) for name in case.wrt}
        again, slopes = compiled(case).value_and_grad(**{**values, **moved})
        assert again == value
        for name in case.wrt:
            np.testing.assert_array_equal(slopes[name], gradient[name])
