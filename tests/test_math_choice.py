"""The choice between our own formulas, glibc's vector functions and C's."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "bench"))

import elementwise
import math_reference

import symgrad as sg
from symgrad.codegen import math_choice, vectormath
from symgrad.codegen.math_libmvec import MEASURED, Measured
from symgrad.errors import OptionError
from symgrad.runtime import cache

TYPES = elementwise.TYPES
HERE = elementwise.features()


def kernel(op, dtype, lanes=None, level="native", inputs=1):
    """Not cached, unlike elementwise.function: it depends on the environment."""

    def emit(emitter, values):
        return [vectormath.emit(emitter, op, list(values))]

    return elementwise.Kernel(emit, inputs, 1, dtype, lanes, level)


def needs_libmvec(op="atanh", type="double"):
    if math_choice.measured(op, type, HERE) is None:
        pytest.skip("no libmvec here, or no AVX2")


FASTER = [
    (op, dtype)
    for op in math_reference.EXACT
    for dtype, type in TYPES.items()
    if math_choice.is_faster(op, type, HERE)
]


def test_own_code_is_the_default():
    own = math_choice.groups(vectormath.SUPPORTED, frozenset({"avx2", "fma"}))
    assert own["libmvec"] == [] and own["libm"] == ["lgamma (float64)"]
    assert len(own["inline"]) == len(vectormath.SUPPORTED)


def test_without_fma_c_serves():
    found = math_choice.groups(vectormath.SUPPORTED, frozenset({"sse2"}))
    assert {"exp", "log", "erf", "lgamma"} <= set(found["libm"])
    assert {"sigmoid", "softplus", "digamma"} <= set(found["inline"])


@pytest.mark.parametrize(("op", "dtype"), FASTER)
def test_what_is_fastest_is_within_the_limits(op, dtype, monkeypatch):
    monkeypatch.setenv("SYMGRAD_MATH", "fastest")
    assert math_choice.choice(op, TYPES[dtype], HERE) == "libmvec"
    args = math_reference.points(op, dtype, 200, seed=31)
    got = kernel(op, dtype, inputs=len(args))(*args)
    error, place = math_reference.worst(op, dtype, got, args)
    assert error <= math_choice.limit(op), place


@pytest.mark.parametrize("dtype", TYPES)
def test_a_lane_of_libmvec_gives_the_bits_of_a_scalar(dtype, monkeypatch):
    needs_libmvec(type=TYPES[dtype])
    monkeypatch.setenv("SYMGRAD_MATH", "atanh=libmvec")
    (x,) = math_reference.points("atanh", dtype, 60)
    want = kernel("atanh", dtype)(x)
    width = elementwise.vector_lanes(dtype)
    for lanes in (1, 2, width // 2, 2 * width, 4 * width):
        np.testing.assert_array_equal(kernel("atanh", dtype, lanes)(x), want)
    monkeypatch.setenv("SYMGRAD_MATH", "own")
    assert np.any(kernel("atanh", dtype)(x) != want)  # it was another one


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("op", ["exp", "pow", "lgamma"])
def test_c_by_name(op, dtype, monkeypatch):
    monkeypatch.setenv("SYMGRAD_MATH", f"{op}=libm")
    args = [abs(a) for a in math_reference.points(op, dtype, 60)]
    got = kernel(op, dtype, inputs=len(args))(*args)
    error, place = math_reference.worst(op, dtype, got, args)
    assert error <= 4.0 if op == "lgamma" else 1.0, place


def test_a_loss_with_libmvec(monkeypatch):
    """The choice stands in the text, so in the key of the disk cache; values hold."""
    needs_libmvec()
    rng = np.random.default_rng(0)
    x, values = rng.uniform(-0.9, 0.9, 37), {"a": 0.7}
    found, keys = [], set()
    for setting in ("own", "atanh=libmvec", "atanh=libm"):
        monkeypatch.setenv("SYMGRAD_MATH", setting)
        f = sg.compile("mean(atanh(a*x)**2)", wrt=["a"])
        found.append(f.value_and_grad(**values, x=x))
        keys.add(cache.key(f.llvm))
        assert ("_ZGV" in f.llvm) == (setting == "atanh=libmvec")
        assert ("@atanh" in f.llvm) == (setting == "atanh=libm")
    assert len(keys) == 3
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-14)
        assert gradient["a"] == pytest.approx(found[0][1]["a"], rel=1e-14)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("fast", "did you mean fastest"),
        ("erff=libm", "did you mean erf"),
        ("erf=mkl", "FUNCTION=inline"),
        ("sigmoid=libm", "which C does not have"),
    ],
)
def test_settings_that_are_not_understood(setting, message, monkeypatch):
    monkeypatch.setenv("SYMGRAD_MATH", setting)
    with pytest.raises(OptionError, match=message):
        math_choice.choice("sigmoid" if "sig" in setting else "erf", "double", HERE)


def test_what_is_too_inaccurate_is_refused(monkeypatch):
    needs_libmvec("exp")
    monkeypatch.setenv("SYMGRAD_MATH", "exp=libmvec")
    with pytest.raises(OptionError, match=r"off by 2\.2"):
        math_choice.choice("exp", "double", HERE)
    monkeypatch.setenv("SYMGRAD_MATH", "fastest")
    bits = math_choice.vector_bits(HERE)
    for ulp, chosen in ((1.9, "inline"), (1.0, "libmvec")):
        monkeypatch.setitem(MEASURED, ("atan", "double", bits), Measured(ulp, 9.0))
        assert math_choice.choice("atan", "double", HERE) == chosen


def test_without_libmvec_own_code_stays(monkeypatch):
    monkeypatch.setattr(math_choice, "_library", lambda: None)
    monkeypatch.setenv("SYMGRAD_MATH", "fastest")
    for op in vectormath.SUPPORTED - {"lgamma"}:
        assert math_choice.choice(op, "double", frozenset({"avx2", "fma"})) == "inline"
    monkeypatch.setenv("SYMGRAD_MATH", "atanh=libmvec")
    with pytest.raises(OptionError, match="does not have"):
        math_choice.choice("atanh", "double", HERE)
