"""The emitted mathematical functions: errors, special values, and the same bits
whatever the number of lanes and the instruction set."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))

import derive_coefficients
import elementwise
import math_reference

from symgrad.codegen import math_coefficients, vectormath
from symgrad.codegen.llvm_text import Emitter, Module

OPS = list(math_reference.EXACT)
DTYPES = ["float64", "float32"]
INF, NAN = math.inf, math.nan
HUGE, TINY, SUBNORMAL = 1.7e308, 2.3e-308, 5e-324


def bits(array):
    """Comparable bits: every NaN is one NaN."""
    array = np.where(np.isnan(array), np.array(NAN, array.dtype), array)
    return array.view(np.int64 if array.itemsize == 8 else np.int32)


def bound(op):
    return vectormath.ERROR_BOUNDS["polygamma" if op.startswith("polyg") else op]


def test_every_function_has_a_bound_and_a_reference():
    assert vectormath.ERROR_BOUNDS.keys() == vectormath.SUPPORTED
    assert {op.rstrip("12") if op.startswith("poly") else op for op in OPS} == (
        vectormath.SUPPORTED
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_error_against_mpmath(op, dtype):
    count = 100 if op.startswith("polygamma") else 250
    args = math_reference.points(op, dtype, count)
    if op in ("logaddexp", "lgamma", "digamma"):
        args = [abs(a) for a in args]
    got = elementwise.function(op, dtype, inputs=len(args))(*args)
    error, place = math_reference.worst(op, dtype, got, args)
    assert error <= bound(op), f"{op}{place}: {error:.3f} units in the last place"


WIDER = {  # float64 functions whose error is nothing to float32's
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2,
    "log10": np.log10, "log1p": np.log1p, "sinh": np.sinh, "cosh": np.cosh,
    "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "erf": special.erf, "erfc": special.erfc, "cbrt": np.cbrt,
}  # fmt: skip


@pytest.mark.parametrize("op", WIDER)
def test_float32_over_the_whole_range(op):
    """Every 12289th bit pattern: all exponents, both signs, infinities and NaN."""
    x = np.arange(0, 2**32, 12289, dtype=np.uint64).astype(np.uint32).view(np.float32)
    with np.errstate(all="ignore"):  # signalling NaNs are among them
        got = elementwise.function(op, "float32")(x).astype(np.float64)
        want = WIDER[op](x.astype(np.float64))
        rounded = want.astype(np.float32)
        unit = np.spacing(np.maximum(abs(rounded), np.float32(2.0**-126)))
        unit = np.where(np.isinf(rounded), 1.0, unit.astype(np.float64))
        error = abs(got - want) / unit
    assert np.array_equal(np.isnan(got), np.isnan(rounded))
    finite = np.isfinite(rounded)
    assert np.array_equal(got[~finite], rounded[~finite], equal_nan=True)
    # a power of two from below has the smaller unit: allow for it
    assert error[finite].max() <= bound(op) * 1.01


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_a_lane_gives_the_bits_of_a_scalar(op, dtype):
    """One lane, whole and double vectors, AVX-512 and not."""
    args = math_reference.points(op, dtype, 400, seed=1)
    inputs = len(args)
    want = bits(elementwise.function(op, dtype, inputs=inputs)(*args))
    width = elementwise.vector_lanes(dtype)
    for lanes, level in [(1, "native"), (2 * width, "native"), (None, "avx2")]:
        got = elementwise.function(op, dtype, lanes, level, inputs)(*args)
        np.testing.assert_array_equal(bits(got), want, err_msg=f"{lanes} {level}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["exp", "sigmoid", "softplus", "pow", "tan", "atan2"])
def test_without_fused_multiply_add(op, dtype):
    args = math_reference.points(op, dtype, 60, seed=2)
    got = elementwise.function(op, dtype, level="sse2", inputs=len(args))(*args)
    error, place = math_reference.worst(op, dtype, got, args)
    assert error <= 2.0, place


SPECIAL = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (1e9, INF), (-1e9, 0.0)],
    "exp2": [(-0.0, 1.0), (10.0, 1024.0), (-20.0, 2.0**-20), (INF, INF), (-INF, 0.0)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1.0), (-1e9, -1.0)],
    "log": [(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (-1.0, NAN), (INF, INF)],
    "log2": [(1.0, 0.0), (8.0, 3.0), (2.0**-126, -126.0), (0.0, -INF), (-INF, NAN)],
    "log10": [(1.0, 0.0), (1000.0, 3.0), (1e10, 10.0), (0.0, -INF), (INF, INF)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1.0, -INF), (-2.0, NAN), (INF, INF)],
    "sigmoid": [(0.0, 0.5), (INF, 1.0), (-INF, 0.0), (1e9, 1.0), (-1e9, 0.0)],
    "softplus": [(INF, INF), (-INF, 0.0), (1e9, 1e9), (-1e9, 0.0)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF)],
    "cosh": [(0.0, 1.0), (INF, INF), (-INF, INF)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (30.0, 1.0)],
    "asinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF)],
    "acosh": [(1.0, 0.0), (0.5, NAN), (-1e10, NAN), (INF, INF), (-INF, NAN)],
    "atanh": [(-0.0, -0.0), (1.0, INF), (-1.0, -INF), (1.5, NAN), (INF, NAN)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN)],
    "asin": [(0.0, 0.0), (-0.0, -0.0), (1.5, NAN), (-INF, NAN)],
    "acos": [(1.0, 0.0), (1.5, NAN), (-1.5, NAN), (INF, NAN)],
    "atan": [(0.0, 0.0), (-0.0, -0.0)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (10.0, 1.0)],
    "erfc": [(0.0, 1.0), (INF, 0.0), (-INF, 2.0), (30.0, 0.0), (-10.0, 2.0)],
    "cbrt": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF)],
    "lgamma": [(1.0, 0.0), (2.0, 0.0), (0.0, INF), (-1.0, INF), (INF, INF)],
    "digamma": [(0.0, -INF), (-1.0, NAN), (-2.0, NAN), (INF, INF), (-INF, NAN)],
    "polygamma1": [(0.0, INF), (-1.0, INF), (INF, 0.0)],
    "polygamma2": [(0.0, -INF), (-1.0, NAN)],
}
# fmt: off
SPECIAL_PAIRS = {
    "logaddexp": [(INF, INF, INF), (-INF, -INF, -INF), (INF, -INF, INF),
                  (-INF, 1.0, 1.0), (NAN, 1.0, NAN), (1.0, NAN, NAN),
                  (1e30, -1e30, 1e30)],
    "hypot": [(3.0, 4.0, 5.0), (INF, NAN, INF), (NAN, -INF, INF), (NAN, 1.0, NAN),
              (0.0, -0.0, 0.0), (1e38, 0.0, 1e38)],
    "pow": [(NAN, 0.0, 1.0), (1.0, NAN, 1.0), (NAN, 1.0, NAN), (2.0, NAN, NAN),
            (-1.0, INF, 1.0), (-1.0, -INF, 1.0), (0.5, INF, 0.0), (0.5, -INF, INF),
            (-2.0, INF, INF), (-2.0, -INF, 0.0), (0.0, 3.0, 0.0), (-0.0, 3.0, -0.0),
            (-0.0, 2.0, 0.0), (0.0, -3.0, INF), (-0.0, -3.0, -INF), (-0.0, -2.0, INF),
            (-0.0, 0.5, 0.0), (INF, 2.0, INF), (INF, -2.0, 0.0), (-INF, 3.0, -INF),
            (-INF, 2.0, INF), (-INF, -3.0, -0.0), (-INF, 0.5, INF), (-8.0, 1/3, NAN),
            (-2.0, 3.0, -8.0), (-2.0, 2.0, 4.0), (10.0, 1e9, INF), (-10.0, -1e9, 0.0),
            (2.0, 10.0, 1024.0), (3.0, 4.0, 81.0), (NAN, INF, NAN)],
}
# fmt: on


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", elementwise.LEVELS)
@pytest.mark.parametrize("op", [*SPECIAL, *SPECIAL_PAIRS])
def test_special_values(op, level, dtype):
    rows = [*SPECIAL.get(op, []), *SPECIAL_PAIRS.get(op, [])]
    if op in SPECIAL:
        rows.append((NAN, NAN))
    *args, want = (np.array(column, dtype) for column in zip(*rows, strict=True))
    got = elementwise.function(op, dtype, level=level, inputs=len(args))(*args)
    np.testing.assert_array_equal(got, want)
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(want[numbers]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", ["native", "avx2"])
def test_atan2_at_zeros_and_infinities(level, dtype):
    values = np.array([0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, HUGE, -TINY], "float64")
    if dtype == "float32":
        values[7:] = 3e38, -1.2e-38
    y, x = (a.ravel().astype(dtype) for a in np.meshgrid(values, values))
    got = elementwise.function("atan2", dtype, level=level, inputs=2)(y, x)
    with np.errstate(all="ignore"):
        want = np.arctan2(y.astype("float64"), x.astype("float64")).astype(dtype)
    np.testing.assert_allclose(got, want, rtol=3e-16 if dtype == "float64" else 2e-7)
    same = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[same]), np.signbit(want[same]))


def test_atan2_of_the_smallest_numbers():
    v, u = np.meshgrid(np.arange(1, 9), np.arange(1, 9))
    for dtype in DTYPES:
        unit = np.finfo(dtype).smallest_subnormal
        y, x = (n.ravel().astype(dtype) * unit for n in (v, u))
        got = elementwise.function("atan2", dtype, inputs=2)(y, x)
        error, place = math_reference.worst("atan2", dtype, got, [y, x])
        assert error <= bound("atan2"), place


def test_limits_of_overflow_and_underflow():
    at = {
        "exp": [
            709.782712893384,
            709.7827128933841,
            -745.1332191019411,
            -745.1332191019412,
        ],
        "exp2": [1023.9999999999999, 1024.0, -1074.9999, -1075.0],
        "expm1": [709.782712893384, 709.7827128933841, SUBNORMAL, -SUBNORMAL],
        "cosh": [710.4758600739439, 710.475860073944, -710.475860073944, 1e-300],
        "sinh": [710.4758600739439, 710.475860073944, SUBNORMAL, -TINY / 2],
        "sigmoid": [-709.9, -744.0, -746.0, 800.0],
        "log": [SUBNORMAL, TINY / 4, HUGE, 1 + 2.0**-52],
        "log1p": [SUBNORMAL, -TINY / 2, HUGE, -1 + 2.0**-53],
        "tanh": [SUBNORMAL, -TINY / 2, HUGE, -HUGE],
        "asinh": [SUBNORMAL, -TINY / 2, HUGE, -HUGE],
        "acosh": [1 + 2.0**-52, 2.0**30, 2.0**30 * 1.01, HUGE],
        "erfc": [26.5432, 27.22, 27.3, 1e-300],
        "cbrt": [SUBNORMAL, -TINY / 2, HUGE, -HUGE],
        "sin": [SUBNORMAL, -TINY / 2, HUGE, 2.0**30 * 1.5],
    }
    for op, numbers in at.items():
        x = np.array(numbers)
        for level in ("native", "avx2"):
            got = elementwise.function(op, level=level)(x)
            error, place = math_reference.worst(op, "float64", got, [x])
            assert error <= 2.0, (op, level, place, error)


def near_multiples_of_half_pi(dtype):
    """The floats next to k*pi/2, where the reduced argument is smallest."""
    k = np.unique(np.round(np.geomspace(1, 6e8 if dtype == "float64" else 8e4, 800)))
    return (k * (np.pi / 2)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["sin", "cos", "tan"])
def test_arguments_next_to_multiples_of_half_pi(op, dtype):
    x = near_multiples_of_half_pi(dtype)
    got = elementwise.function(op, dtype)(x)
    error, place = math_reference.worst(op, dtype, got, [x])
    assert error <= bound(op), place


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_angles_go_to_libm_and_leave_their_neighbours_alone(dtype):
    alone = np.linspace(-3, 3, 64).astype(dtype)
    mixed = alone.copy()
    mixed[::5] = 1e30
    sine = elementwise.function("sin", dtype)
    kept = np.arange(64) % 5 != 0
    np.testing.assert_array_equal(sine(mixed)[kept], sine(alone)[kept])
    assert abs(sine(mixed)[0] - np.sin(np.array(1e30, dtype))) < 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
def test_softplus_and_sigmoid_share_an_exponential(dtype):
    pair = elementwise.Kernel(
        lambda e, values: vectormath.softplus_sigmoid(e, values[0]), 1, 2, dtype
    )
    (x,) = math_reference.points("softplus", dtype, 500)
    softplus, sigmoid = pair.all(x)
    np.testing.assert_array_equal(
        bits(softplus), bits(elementwise.function("softplus", dtype)(x))
    )
    np.testing.assert_array_equal(
        bits(sigmoid), bits(elementwise.function("sigmoid", dtype)(x))
    )


def test_polygamma_wants_a_constant_order():
    emitter = Emitter(Module(), elementwise.features())
    x = emitter.const(1.0, "double")
    order = emitter.binary("add", emitter.const(1, "i64"), emitter.const(1, "i64"))
    with pytest.raises(ValueError, match="not a constant"):
        vectormath.emit(emitter, "polygamma", [order, x])


def test_coefficients_are_those_of_their_script():
    """Two tables, derived anew: they cannot have been edited by hand."""
    for name in ("LOG", "EXP2"):
        fit = next(f for f in derive_coefficients.FITS if f.name == name)
        for type in ("double", "float"):
            derived = derive_coefficients.table(fit, type)
            assert tuple(derived) == getattr(math_coefficients, name)[type]
