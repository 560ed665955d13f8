"""Syntax trees and SymPy: exact round trips, and what SymPy users may hand in."""

import math
import pickle
import time
import warnings

import numpy as np
import pytest
import sympy as sp

import symgrad as sg
from symgrad.errors import SymgradWarning, SymPyError
from symgrad.language import heads
from symgrad.language.function_heads import HEADS
from symgrad.language.parser import parse_text
from symgrad.language.sympy_bridge import from_sympy, to_sympy
from symgrad.language.syntax import Number, Program, same

# --- text -> SymPy -> the same tree ---------------------------------------------------

TEXTS = [
    "mean((tanh(X @ w + b) - y)**2)",
    "h = tanh(X @ W)\np = h @ W2\nmean(logsumexp(p, axis=1)) + 1e-4*sum(W**2)",
    "x = x + 1\nx = x*2\nx",
    # signs
    "-x^2", "2**-1", "-a**-b**c", "2**-x*3", "- -b", "- -1", "-0.0", "-1*b", "-(1*b)",
    "-2*b", "-a*b", "-a/b", "-(a - b)", "-(-a)*b", "-(2/3)", "+x", "+-x", "x*-1",
    "x*-y", "-1.0*x", "-x/-y",
    # sums
    "a - b", "a - -b", "a + -b", "a + -2*b", "a - -2*b", "a - 2*b", "a - 2", "a + -2",
    "a - 0", "a - 0.0", "-a + b", "-1 + b", "a + (b + c)", "(a + b) + (c + d)",
    "a - (b - c)", "1 - 1", "x + 1*-1", "x - y*-1", "a + -b/c", "a - 1/b",
    # products and powers
    "x/y", "1/y", "-1/y", "1/y/z*a", "a*(1/y)", "a/(1/y)", "1/(1/y)", "2/y", "1.0/y",
    "(a*b)*(c*d)", "a*(b/c)", "a/(b/c)", "x*y**-1", "y**-1*x", "x**-1.0", "x**0.5",
    "x**(1/2)", "sqrt(x)", "1/sqrt(x)", "sqrt(x)**2", "(1/y)**2", "x/x", "0*x", "x*0",
    "2*3", "x**1", "x**0", "1**x", "a**-1**b", "9**9**9**9", "True*x + (x > True)",
    "square(x) + reciprocal(y)", "(a + b)*(a + b)", "x*2 + x*2",
    # numbers
    "0.1 + 1e300 + 5e-324 + 123456789.123456789 + 1.7976931348623157e308",
    "9223372036854775807 + 1", "1e16 + 2", "2.0*x + 2*x",
    # conditions
    "not a < b and c", "a < b <= c < d", "(a > 0) & ~(b < 1) | (c == 2)", "x != y",
    "where(a > 0, a, 0)", "where(True, a, b)", "(x > 0)*y + (x < 1)", "a and a",
    # functions
    "exp(x) + log(x)*sin(x)", "log(exp(x))", "abs(abs(x)) - sign(x)", "e**x + E + I",
    "floor(x) + ceil(x) + round(x) + trunc(x)", "cbrt(x) + exp2(x) + log2(x)",
    "erf(x) + erfc(x) + lgamma(x) + digamma(x) + polygamma(2, x)",
    "minimum(x, x) + maximum(y, x)", "max(x, 0) + min(x)", "atan2(y, x)", "x % y // z",
    "softplus(-x) + log1p(expm1(x)) + sigmoid(x) + relu(x)", "clip(x, -1, 1)",
    # arrays
    "x[1:, None, ..., ::2, :3, i + 1]", "x[:]", "x[i, j][k]", "X[:, 0] - X[:, -1]",
    "A'*B.T", "x.shape[-1] + len(x)", "einsum('ij,kj->ik', A, B)'", "(X @ w)[1:]",
    "sum(x, axis=(0, -1), keepdims=True)", "var(x, ddof=1) + std(x, axis=0)",
    "logsumexp(x, axis=-1) - softmax(x, axis=1)", "trace(A @ B) + diag(A)",
    "eye(3) + arange(4)", "tril(A, -1) @ triu(B)", "A @ B @ C", "A @ (B @ C)",
    "-(A @ B) * 2", "θ * µ",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(text):
    program = parse_text(text)
    again = from_sympy(to_sympy(program))
    assert same(program, again), f"{program!r} came back as {again!r}"


@pytest.mark.parametrize("text", TEXTS)
def test_prints_and_typesets(text):
    expr = to_sympy(parse_text(text))
    assert str(expr)
    latex = sp.latex(expr)
    assert latex.count("{") == latex.count("}")


def test_nothing_is_evaluated():
    x = sp.Symbol("x")
    expr = to_sympy(parse_text("x/x"))
    assert expr != 1
    assert expr.args == (x, sp.Pow(x, -1))
    assert to_sympy(parse_text("0*x")) != 0
    assert to_sympy(parse_text("sin(0)")).func is sp.sin


def test_heads_pickle():
    for text in ("softplus(x[1:, None])", "where(a < b, sum(x, axis=(0, 1)), -0.5)"):
        expr = to_sympy(parse_text(text))
        assert pickle.loads(pickle.dumps(expr)) == expr


def test_sympy_can_go_on_with_it():
    expr = to_sympy(parse_text("a*exp(-b*x) + c"))
    x, a, b = sp.symbols("x a b")
    assert sp.simplify(expr.diff(x) + a * b * sp.exp(-b * x)) == 0
    soft = to_sympy(parse_text("softplus(2*x) + where(x > 0, x, 0) + hypot(x, 1)"))
    slope = soft.diff(x).subs(x, 1.5)
    expected = 2 / (1 + math.exp(-3)) + 1 + 1.5 / math.hypot(1.5, 1)
    assert float(slope) == pytest.approx(expected)


def test_let_knows_its_free_symbols():
    expr = to_sympy(parse_text("h = a*x\nk = h + b\nh*k"))
    assert isinstance(expr, heads.Let)
    assert expr.free_symbols == set(sp.symbols("a b x"))
    a, b, x = sp.symbols("a b x")
    assert sp.expand(expr.doit() - a * x * (a * x + b)) == 0


def test_floats_survive_bit_for_bit():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**63 - 1, 2000, dtype=np.uint64)
    for value in bits.view(np.float64):
        if np.isfinite(value):
            program = Program((), Number(float(value)))
            assert same(program, from_sympy(to_sympy(program)))
    negative_zero = Program((), Number(-0.0))
    assert same(negative_zero, from_sympy(to_sympy(negative_zero)))


def test_every_head_reads_back():
    for name, head in HEADS.items():
        assert head.language_name == name
        assert head is pickle.loads(pickle.dumps(head))


LARGE = {
    "terms": ("+".join(f"a{k}*sin(x{k})" for k in range(10_000)), 3.0),
    "calls": ("sin(" * 1000 + "x" + ")" * 1000, 0.5),
    "own calls": ("log1p(" * 5000 + "x" + ")" * 5000, 1.0),
    "nested": ("x" + "-(y" * 3000 + ")" * 3000, 1.0),
    "lines": ("\n".join(f"a{k + 1} = a{k} + 1" for k in range(5000)), 2.0),
    "comparisons": ("<".join(["x"] * 500), 1.0),
}


@pytest.mark.parametrize("name", LARGE)
def test_large(name):
    text, seconds = LARGE[name]
    program = parse_text(text)
    start = time.perf_counter()
    again = from_sympy(to_sympy(program))
    assert time.perf_counter() - start < 5 * seconds  # the machine may be busy
    assert same(program, again)


# --- SymPy as users write it ----------------------------------------------------------

x, y, n, a = sp.symbols("x y n a")
i, j = sp.symbols("i j", integer=True)
X, w, v = sp.IndexedBase("X"), sp.IndexedBase("w"), sp.IndexedBase("v")
A, D = sp.MatrixSymbol("A", 3, 4), sp.MatrixSymbol("D", 3, 4)
B, C = sp.MatrixSymbol("B", 4, 3), sp.MatrixSymbol("C", 3, 3)

ACCEPTED = [
    (x - 2 * y, "(x - (2 * y))"),
    (-x / y, "(-(x / y))"),
    (2 * x / 3, "((2 * x) / 3)"),
    (-x / 3 + 1, "(1 - (x / 3))"),
    (1 / sp.sqrt(x), "(1 / sqrt(x))"),
    (y * x**-2, "(y * (x ** (-2)))"),
    (x ** sp.Rational(1, 3), "(x ** (1 / 3))"),
    (sp.exp(x) / y, "(exp(x) / y)"),
    (sp.E**x, "exp(x)"),
    (sp.pi * x, "(3.141592653589793 * x)"),
    (sp.E + x, "(2.718281828459045 + x)"),
    (sp.log(x, 2), "(log(x) / log(2))"),
    (sp.Integer(2) ** 100, "1.2676506002282294e+30"),
    (sp.Float("0.1", 50), "0.1"),
    (sp.Rational(-2, 3), "(-(2 / 3))"),
    (1.5, "1.5"),
    (sp.Max(x, y, 1), "maximum(maximum(1, x), y)"),
    (sp.Min(x, 0), "minimum(0, x)"),
    (sp.Abs(x), "abs(x)"),
    (sp.ceiling(x), "ceil(x)"),
    (sp.loggamma(x), "lgamma(x)"),
    (sp.digamma(x), "digamma(x)"),
    (sp.polygamma(2, x), "polygamma(2, x)"),
    (sp.Mod(x, 3), "(x % 3)"),
    (sp.sec(x), "(1 / cos(x))"),
    (sp.Function("softplus")(x), "softplus(x)"),
    (sp.Heaviside(x), "where((x > 0), 1, where((x < 0), 0, (1 / 2)))"),
    (sp.KroneckerDelta(i, j), "where((i == j), 1, 0)"),
    (
        sp.Piecewise((x, x > 0), (y, x < -1), (0, True)),
        "where((x > 0), x, where((x < (-1)), y, 0))",
    ),
    (sp.Piecewise((x, x > 0)), "where((x > 0), x, nan)"),
    (sp.Not(sp.Eq(y, 1)), "(y != 1)"),
    (sp.Or(x >= 0, x >= 0, evaluate=False), "(x >= 0)"),
    (sp.ITE(x > 0, y > 0, x > 1), "where((x > 0), (y > 0), (x > 1))"),
    (sp.UnevaluatedExpr(x) + y, "(y + x)"),
    (X[i + 1, j], "X[(1 + i), j]"),
    (X[sp.Idx("i", 5)], "X[i]"),
    (w[v[i]], "w[v[i]]"),
    (sp.Sum(w[i], (i, 0, n - 1)) / n, "(sum[i=0..((-1) + n)](w[i]) / n)"),
    (
        sp.Sum(X[i, j] * w[j], (j, 0, 3), (i, 0, 9)),
        "sum[i=0..9](sum[j=0..3]((w[j] * X[i, j])))",
    ),
    (sp.Sum(w[sp.Idx("k", 5)], sp.Idx("k", 5)), "sum[k=0..4](w[k])"),
    (sp.Product(w[i], (i, 1, n)), "prod[i=1..n](w[i])"),
    (A * B, "(A @ B)"),
    (2 * A * B, "(2 * (A @ B))"),
    (-A, "(-A)"),
    (A - D, "((-D) + A)"),
    ((A * B).T, "(B.T @ A.T)"),
    (sp.Trace(A * B), "trace((A @ B))"),
    (C**2, "(C @ C)"),
    (sp.HadamardProduct(A, D), "(A * D)"),
    (A[0, 1], "A[0, 1]"),
    (A[0:2, 1:3], "A[0:2:1, 1:3:1]"),
    (A.applyfunc(sp.sin), "sin(A)"),
    (sp.Identity(3), "eye(3)"),
]  # fmt: skip


@pytest.mark.parametrize(("expr", "expected"), ACCEPTED, ids=str)
def test_accepted(expr, expected):
    assert repr(from_sympy(expr)) == expected


def test_matrix_element_of_a_product_has_a_bound_dummy():
    m = sp.Symbol("m", integer=True)
    left, right = sp.MatrixSymbol("P", 3, m), sp.MatrixSymbol("Q", m, 3)
    text = repr(from_sympy((left * right)[i, j]))
    assert text == "sum[_i_1_0=0..((-1) + m)]((P[i, _i_1_0] * Q[_i_1_0, j]))"


def test_conditions_in_any_order():
    assert repr(from_sympy(sp.And(x > 0, y < 1))) in (
        "((x > 0) and (y < 1))",
        "((y < 1) and (x > 0))",
    )


REFUSED = [
    (sp.I * x, "holds I"),
    (sp.zoo, "holds zoo"),
    (sp.nan, "holds nan"),
    (x * sp.oo, "holds oo"),
    (sp.Symbol("x", positive=True) + x, "two different symbols are called `x`"),
    (sp.LambertW(x), "LambertW"),
    (sp.gamma(x), "lgamma"),
    (sp.Function("f")(x), "unknown function `f`"),
    (sp.Function("tahn")(x), "did you mean `tanh`"),
    (sp.Derivative(sp.Function("f")(x), x), "doit"),
    (sp.Integral(sp.exp(x**2), x), "doit"),
    (sp.Sum(1 / i**2, (i, 1, sp.oo)), "infinity"),
    (C.inv(), "linear solver"),
    (sp.det(C), "linear solver"),
    (sp.Matrix([[x, 1]]), "MatrixSymbol"),
    (sp.ImmutableMatrix([[x, 1]]), "MatrixSymbol"),
    (sp.Tuple(x), "Tuple"),
    ("x + 1", "not str"),
    (None, "not NoneType"),
]


@pytest.mark.parametrize(("expr", "part"), REFUSED, ids=lambda e: str(e)[:30])
def test_refused(expr, part):
    with pytest.raises(SymPyError) as caught:
        from_sympy(expr)
    assert part in str(caught.value)


# --- how it looks ---------------------------------------------------------------------

PRINTED = [
    ("softplus(x)", "softplus(x)"),
    ("(a + b)[1:, ::2, None]", "(a + b)[1:, ::2, None]"),
    ("(X @ w).T", "(X @ w).T"),
    ("a < b and not c", "a < b and not c"),
    ("einsum('ij->i', A)", 'einsum("ij->i", A)'),
    ("sum(x, axis=1)", "sum(x, axis=1)"),
]

TYPESET = [
    ("maximum(x, y)", r"\max\left(x, y\right)"),
    ("X.T**2", r"{X^{\top}}^{2}"),
    ("x[i, 1:]", r"{x}_{i, 1:}"),
    ("x > 0", r"\left[x > 0\right]"),
    ("sigmoid(x)**2", r"\sigma\left(x\right)^{2}"),
    (
        "where(x > 0, x, -x)",
        r"\begin{cases} x & \text{if}\: x > 0 \\ - x & \text{otherwise} \end{cases}",
    ),
]


@pytest.mark.parametrize(("text", "expected"), PRINTED)
def test_printed(text, expected):
    assert str(to_sympy(parse_text(text))) == expected


@pytest.mark.parametrize(("text", "expected"), TYPESET)
def test_typeset(text, expected):
    assert sp.latex(to_sympy(parse_text(text))) == expected


@pytest.mark.parametrize(
    ("lower", "upper", "body", "warns"),
    [
        (1, n, w[i], True),
        (1, n, sp.cos(w[i] + X[i, 0]), True),
        (0, n - 1, w[i], False),
        (1, n, w[i] - w[i - 1], False),
        (1, n, w[i - 1], False),
        (1, n - 1, w[i], False),
    ],
)
def test_a_sum_that_counts_from_1_warns(lower, upper, body, warns):
    values = {"w": np.arange(4.0), "X": np.ones((4, 2))}
    names = [name for name in values if name in str(body)]
    f = sg.compile(sp.Sum(body, (i, lower, upper)), wrt=["w"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        f(**{name: values[name] for name in names})
    assert bool(caught) == warns
    for warning in caught:
        assert warning.category is SymgradWarning and warning.filename == __file__
        assert "arrays count from 0; write (i, 0, n - 1)" in str(warning.message)
