"""Passes over the rows: sums relative to a running extremum, centred sums, pairs.

That values and derivatives are right is the business of the table (``test_losses``);
here is what makes one pass possible, and what could go wrong in it.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from loss_passes import ONE_PASS
from losses import MODELS, SPECIFIED, Case
from numpy.typing import NDArray

import symgrad as sg
from symgrad import graph
from symgrad.codegen import streams
from symgrad.interpret import evaluate
from symgrad.runtime.derivatives import gradient_nodes
from symgrad.runtime.kernel import Kernel
from symgrad.runtime.specialise import Specialisation
from symgrad.schedule import choose
from symgrad.schedule.pairs import oriented

# --------------------------------------------------------------------------------------
# Infinities and NaN, with a running extremum
# --------------------------------------------------------------------------------------

STREAMED = {
    "logsumexp": "logsumexp(a*x)",
    "columns": "sum(logsumexp(x[:, None] + a*arange(3), axis=0)**2)",
    "maximum": "max(a*x)",
    "minimum": "min(a*x)",
    "softmax": "sum(softmax(a*x)*y)",
    "likelihood": "sum(y**2*(logsumexp(a*x) - a*x))",
}

Change = Callable[[NDArray[np.float64]], None]


def _set(place: Any, value: float) -> Change:
    def change(x: NDArray[np.float64]) -> None:
        x[place] = value

    return change


def _scale(x: NDArray[np.float64]) -> None:
    x *= 500.0


def _ties(x: NDArray[np.float64]) -> None:
    np.round(x, out=x)


def _rising(x: NDArray[np.float64]) -> None:
    x.sort()
    x *= 300.0


ROWS: dict[str, Change] = {
    "plain": _set(slice(0), 0.0),
    "rising": _rising,
    "large": _scale,
    "ties": _ties,
    "all -inf": _set(slice(None), -np.inf),
    "-inf first": _set(slice(0, -1), -np.inf),
    "some -inf": _set(slice(0, None, 2), -np.inf),
    "inf": _set(-1, np.inf),
    "nan": _set(-1, np.nan),
}


def arrays_for(n: int, change: Change) -> dict[str, NDArray[np.float64]]:
    numbers = np.random.default_rng(n)
    x = numbers.normal(size=n)
    change(x)
    y = numbers.normal(size=n)
    return {"a": np.array(1.5), "x": x, "y": y}


def kernel_for(text: str, values: dict[str, Any]) -> tuple[Specialisation, Kernel]:
    used = {name: values[name] for name in ("x", "y") if name in text}
    f = sg.compile(text, wrt=["a"]).specialize(a=1.5, **used)
    found = f._latest()
    return found, found.kernel("value and gradient", lambda: gradient_nodes(found))


def run(found: Specialisation, kernel: Kernel, values: dict[str, Any]) -> list[float]:
    """Loss and slope, not looked at by those who blame the data."""
    context = found.context(kernel, values)
    outs = [np.empty(()), np.empty(())]
    context([values["a"]], outs)
    return [float(out) for out in outs]


@pytest.mark.parametrize("name", STREAMED)
def test_special_values_in_one_pass(name):
    """As the interpreter's, which knows the extremum before it sums."""
    text = STREAMED[name]
    found, kernel = kernel_for(text, arrays_for(9, ROWS["plain"]))
    assert len(kernel.plan.passes) == 1
    for kind, change in ROWS.items():
        for n in (1, 8, 9, 1000, 5003):
            values = arrays_for(n, change)
            with np.errstate(all="ignore"):
                wanted = evaluate(gradient_nodes(found), values)
            size = np.abs(values["x"][np.isfinite(values["x"])]).max(initial=1.0)
            np.testing.assert_allclose(
                run(found, kernel, values),
                [float(w) for w in wanted],
                rtol=1e-10,
                atol=1e-12 * size,
                err_msg=f"{kind}, {n} rows",
            )


def test_the_right_scale_matters(monkeypatch):
    """The check is checked: without rescaling, rising rows give another number."""
    monkeypatch.setattr(streams, "rescale", lambda *_: None)
    monkeypatch.setenv("SYMGRAD_CACHE", "off")
    values = arrays_for(1000, ROWS["plain"])
    found, kernel = kernel_for("logsumexp(a*x)", values)
    wanted = float(evaluate(gradient_nodes(found), values)[0])
    assert abs(run(found, kernel, values)[0] - wanted) > 1e-3


def test_true_feedback_stays():
    """What depends on a complete sum in other ways than linearly waits for it."""
    x = np.linspace(0, 1, 50)
    f = sg.compile("sum(tanh(a*x - mean(a*x)))", wrt=["a"])
    f.value_and_grad(a=2.0, x=x)
    assert len(f._main_kernel(f._latest()).plan.passes) == 2


# --------------------------------------------------------------------------------------
# Centred sums
# --------------------------------------------------------------------------------------


def _exact(y: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[float, float]:
    """mean((y - mean(y))**2) and its derivative along x."""
    rows = [Fraction(float(v)) for v in y]
    mean = sum(rows, Fraction(0)) / len(rows)
    spread = sum(((r - mean) ** 2 for r in rows), Fraction(0)) / len(rows)
    pairs = zip(rows, (Fraction(float(v)) for v in x), strict=True)
    slope = 2 * sum(((r - mean) * v for r, v in pairs), Fraction(0)) / len(rows)
    return float(spread), float(slope)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
@pytest.mark.parametrize("kind", ["normal", "outlier first", "trend"])
def test_one_pass_loses_no_digits(offset, kind):
    """A variance of rows far from zero, against rational arithmetic."""
    numbers = np.random.default_rng(3)
    x, y = numbers.normal(size=2000), numbers.normal(size=2000) + offset
    if kind == "outlier first":
        y[0] += 1e6
    elif kind == "trend":
        y += np.arange(2000)
    f = sg.compile("z = y + a*x\nmean((z - mean(z))**2)", wrt=["a"])
    value, gradient = f.value_and_grad(a=0.0, x=x, y=y)
    assert len(f._main_kernel(f._latest()).plan.passes) == 1
    spread, slope = _exact(y, x)
    assert value == pytest.approx(spread, rel=1e-14)
    scale = 2 * np.mean(np.abs(y - y.mean()) * np.abs(x))
    assert abs(gradient["a"] - slope) <= 1e-14 * scale


@pytest.mark.filterwarnings("ignore:x is empty")
def test_no_rows_after_some():
    """Centred sums read a row; where there is none, another kernel is used."""
    f = sg.compile("b**2 + sum((a*x - mean(a*x))**2)", wrt=["a", "b"])
    f.value_and_grad(a=2.0, b=3.0, x=np.arange(5.0))
    assert f(a=2.0, b=3.0, x=np.empty(0)) == 9.0
    assert f(a=2.0, b=3.0, x=np.array([7.0])) == 9.0


# --------------------------------------------------------------------------------------
# Pairs
# --------------------------------------------------------------------------------------


def test_symmetric_functions_of_two_rows_are_one_node():
    n = graph.size("n")
    x, i, j = graph.input_("x", [n]), graph.index(n, 0), graph.index(n, 1)
    a, b = graph.load(x, [i]), graph.load(x, [j])
    ways = [
        ((a - b) * (a - b), (b - a) * (b - a)),
        (graph.call("abs", a - b), graph.call("abs", b - a)),
        (a * b + 1.0, b * a + 1.0),
        (graph.call("exp", a + b), graph.call("exp", b + a)),
        (-((b - a) * graph.call("exp", b * a)), (a - b) * graph.call("exp", a * b)),
    ]
    for one, other in ways:
        assert oriented([one])[0] is oriented([other])[0]
    (apart,) = oriented([b - a])
    assert apart is -(a - b)
    assert oriented([a - b])[0] is not apart


PAIRS = [c for c in (*ONE_PASS, *MODELS) if c.name in ("coulomb", "kernel matrix")]


@pytest.mark.parametrize("case", PAIRS, ids=str)
def test_pairs_need_no_memory(case):
    """Each row's part of the gradient is complete in the turn of that row."""
    values = case.values(100)
    f = sg.compile(case.text, wrt=case.wrt)
    f.value_and_grad(**values)
    plan = f._main_kernel(f._latest()).plan
    assert len(plan.passes) == 1
    assert all(s.kind != "scatter" for s in plan.work)
    assert not any(p.axes for p in plan.work.values() if p.sums is None)


# --------------------------------------------------------------------------------------
# Memory
# --------------------------------------------------------------------------------------


def _long(case: Case) -> bool:
    """Whether an array of results has rows, or a table of all pairs is read."""
    described = " ".join(case.parameters.values())
    return "n" in described.split() or "n n" in case.data.values()


STREAMS = [c for c in SPECIFIED + MODELS + ONE_PASS if c.passes and not _long(c)]


@pytest.mark.parametrize(
    "case", [c for c in STREAMS if c.name != "gram matrix"], ids=str
)
def test_memory_does_not_grow_with_the_rows(case):
    """What a call asks for at so many rows, which are at most 64 chunks."""
    f = sg.compile(case.text, wrt=case.wrt)
    f.specialize(**case.values(case.few(1000)))
    found = f._latest()
    kernel = found.kernel("value and gradient", lambda: gradient_nodes(found))
    asked = []
    for n in (10**5, 10**8, 10**9):
        lengths = {name: n if name.endswith(".0") else 1 for name in _sizes(found)}
        sizes = kernel.sized(lengths).sizes
        asked.append(sizes.work_bytes + sizes.scratch_bytes)
    assert asked[0] <= asked[1] == asked[2] < 10**6


def _sizes(found: Specialisation) -> list[str]:
    return [node.name for node in graph.sizes([found.value, *found.parameters])]


# --------------------------------------------------------------------------------------
# The choice
# --------------------------------------------------------------------------------------


def test_the_choice_is_by_rows_read(monkeypatch):
    """Without the other candidates the first is taken, with more passes."""
    x = np.linspace(0, 1, 50)
    one = sg.compile("logsumexp(a*x)", wrt=["a"])
    one.value_and_grad(a=2.0, x=x)
    monkeypatch.setattr(choose._Candidate, "beats", lambda *_: False)
    other = sg.compile("logsumexp(a*x)", wrt=["a"])
    value, _ = other.value_and_grad(a=2.0, x=x)
    passes = [len(f._main_kernel(f._latest()).plan.passes) for f in (one, other)]
    assert passes == [1, 3]
    assert one(a=2.0, x=x) == pytest.approx(value, rel=1e-14)


# --------------------------------------------------------------------------------------
# Second derivatives
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SPECIFIED + MODELS + ONE_PASS, ids=str)
def test_second_derivatives_take_no_more_passes(case):
    values = case.values(case.few(1000))
    f = sg.compile(case.text, wrt=case.wrt)
    f.value_and_grad(**values)
    f.hvp({name: values[name] for name in case.wrt}, **values)
    kernels = f._latest().kernels
    first, second = (len(kernels[k].plan.passes) for k in ("value and gradient", "hvp"))
    products = case.name == "entropy over rows"  # of two sums: they would lose digits
    assert second <= first + products


SMALL = [c for c in SPECIFIED + MODELS + ONE_PASS if not _long(c) and not c.kinks]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_hessian_in_one_kernel(case):
    """Column by column it is the same."""
    values = case.values(case.few(50))
    data = {name: values[name] for name in case.data}
    bound = sg.compile(case.text, wrt=case.wrt).bind(**data)
    x = bound.pack({name: values[name] for name in case.wrt})
    found = bound.hessian(x)
    wanted = np.array([bound.hvp(x, unit) for unit in np.eye(x.size)])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11 * np.abs(wanted).max())
    np.testing.assert_array_equal(found, found.T)
