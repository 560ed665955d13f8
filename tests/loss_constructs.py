"""A loss for each construct of the language, in the table's form; see ``losses``."""

from collections.abc import Callable
from typing import Any

import numpy as np
from losses import Case
from oracles import pick

V, X4 = {"w": "4"}, {"X": "n 4"}

# --------------------------------------------------------------------------------------
# Elementwise functions: name, kind of argument
# --------------------------------------------------------------------------------------

UNARY = {
    **dict.fromkeys("exp exp2 expm1 sin cos sinh cosh tanh asinh atan".split(), ""),
    **dict.fromkeys("sigmoid softplus relu erf erfc abs tan".split(), "unit"),
    **dict.fromkeys(
        "log log2 log10 log1p sqrt cbrt lgamma digamma".split(), "positive"
    ),
    **dict.fromkeys("asin acos atanh".split(), "unit"),
}


def _unary(name: str) -> Callable[..., Any]:
    return lambda m, a, x: m.sum(getattr(m, name)(a * x) * m.cos(x))


def _acosh(m: Any, a: Any, x: Any) -> Any:
    return m.sum(m.acosh(1.5 + a * x))


def _steps(m: Any, a: Any, x: Any) -> Any:
    z = a * x
    rounded = m.floor(z) + 2 * m.ceil(z) + 4 * m.trunc(z) + 8 * m.round(z)
    return m.sum((z - rounded - 16 * m.sign(z)) ** 2)


def _remainders(m: Any, a: Any, x: Any, y: Any) -> Any:
    z = 7 * a * x
    quotient = m.floor_divide(z, y)
    return m.sum((z - quotient * y) ** 2 + quotient * a)


ELEMENTWISE: tuple[Case, ...] = (
    *(
        Case(name, f"sum({name}(a*x)*cos(x))", _unary(name), {"a": "constant 0.9"},
             {"x": f"n {kind}"}, single=2e-3)
        for name, kind in UNARY.items()
    ),
    Case("acosh", "sum(acosh(1.5 + a*x))", _acosh, {"a": "positive"},
         {"x": "n positive"}),
    Case("steps",
         "z = a*x\nr = floor(z) + 2*ceil(z) + 4*trunc(z) + 8*round(z)\n"
         "sum((z - r - 16*sign(z))**2)",
         _steps, {"a": "constant 2.7"}, {"x": "n"}),
    Case("remainders", "z = 7*a*x\nsum((z % y)**2 + z // y * a)", _remainders,
         {"a": "constant 0.7"}, {"x": "n", "y": "n positive"}),
    Case("atan2", "mean(atan2(a*x, y + b))",
         lambda m, a, b, x, y: m.mean(m.atan2(a * x, y + b)),
         {"a": "", "b": ""}, {"x": "n", "y": "n"}, single=1e-3),
    Case("hypot", "mean(hypot(a*x - 1, b*y))",
         lambda m, a, b, x, y: m.mean(m.hypot(a * x - 1, b * y)),
         {"a": "", "b": ""}, {"x": "n", "y": "n"}, single=1e-3),
    Case("logaddexp", "mean(logaddexp(a*x, b*y)**2)",
         lambda m, a, b, x, y: m.mean(m.logaddexp(a * x, b * y) ** 2),
         {"a": "", "b": ""}, {"x": "n", "y": "n"}, single=1e-3),
    Case("minimum and maximum",
         "sum(minimum(a*x, y)*maximum(x, b) + max(a, min(b, x)))",
         lambda m, a, b, x, y: m.sum(
             m.minimum(a * x, y) * m.maximum(x, b)
             + m.maximum(a, m.minimum(b, x))
         ),
         {"a": "", "b": ""}, {"x": "n", "y": "n"}, single=1e-3),
    Case("clip", "mean(clip(a*x, -0.5, 0.8)**2*y) + a**2",
         lambda m, a, x, y: m.mean(m.clip(a * x, -0.5, 0.8) ** 2 * y) + a**2,
         {"a": ""}, {"x": "n", "y": "n"}, single=1e-3),
    Case("powers", "sum(a**2*x**3 - x**-1*a**0.5 + (x + 0.1)**a + 2**(a*x))",
         lambda m, a, x: m.sum(
             a**2 * x**3 - x**-1.0 * a**0.5 + (x + 0.1) ** a + 2 ** (a * x)
         ),
         {"a": "positive"}, {"x": "n positive"}),
    Case("any power", "sum((a*x)**(b*y))",
         lambda m, a, b, x, y: m.sum((a * x) ** (b * y)),
         {"a": "positive", "b": ""}, {"x": "n positive", "y": "n"}, single=1e-3),
    Case("signs", "sum(-(a*x - y)**3 * -(x - b) - (-(a - y)) + -x*-a)",
         lambda m, a, b, x, y: m.sum(
             -((a * x - y) ** 3) * -(x - b) - (-(a - y)) + -x * -a
         ),
         {"a": "", "b": ""}, {"x": "n", "y": "n"}, single=1e-3),
    Case("roots of squares", "sum(sqrt((a*x)**2)*y + sqrt(z*z)*a + sqrt(a + x*x)**2)",
         lambda m, a, x, y, z: m.sum(
             abs(a * x) * y + abs(z) * a + a + x * x
         ),
         {"a": "positive"}, {"x": "n", "y": "n", "z": "n"}, single=1e-3),
    Case("high powers", "sum((a*x)**7 - (a*x)**-3 + (a*x)**1.5 + (a*x)**-0.5)",
         lambda m, a, x: m.sum(
             (a * x) ** 7 - (a * x) ** -3.0 + (a * x) ** 1.5 + (a * x) ** -0.5
         ),
         {"a": "positive"}, {"x": "n positive"}),
    Case("quotients", "sum((a*x + 1)/(x**2 + b**2) - 1/(a/b + y**2))",
         lambda m, a, b, x, y: m.sum(
             (a * x + 1) / (x**2 + b**2) - 1 / (a / b + y**2)
         ),
         {"a": "positive", "b": "positive"}, {"x": "n", "y": "n"}),
    Case("scalars", "(a*b + c)*d - exp(a)/b",
         lambda m, a, b, c, d: (a * b + c) * d - m.exp(a) / b,
         {"a": "", "b": "positive", "c": "", "d": ""}, passes=0),
    Case("constants", "sum(sin(2*pi*x*a) + e**(a*x)) + 1e-3*a^2",
         lambda m, a, x: m.sum(m.sin(2 * np.pi * x * a) + np.e ** (a * x))
         + 1e-3 * a**2,
         {"a": "constant 0.3"}, {"x": "n unit"}),
)  # fmt: skip

# --------------------------------------------------------------------------------------
# Truth values and integers
# --------------------------------------------------------------------------------------


def _logic(m: Any, a: Any, x: Any, y: Any, c: Any) -> Any:
    first = m.logical_and(x > a, m.logical_not(c))
    second = m.logical_or(first, y <= x)
    return m.sum(m.where(second, a * x, a**2 * y))


def _safe(m: Any, a: Any, x: Any) -> Any:
    """The branch that is not taken would have NaN: PyTorch needs it made harmless."""
    positive = m.number(x) * a > 0
    safe = m.where(positive, x * a, m.number(1.0))
    return m.sum(m.where(positive, m.sqrt(safe) + m.log(safe), m.number(0.0) * safe))


def _counts(m: Any, a: Any, x: Any, k: Any) -> Any:
    z = m.number(k)
    return m.sum((a * z - x) ** 2) + m.sum((z * z - z * 3) * a)


CHOICES: tuple[Case, ...] = (
    Case("where", "sum(where(x > a, sqrt(abs(x - a) + 1), (x - a)**2))",
         lambda m, a, x: m.sum(
             m.where(x > a, m.sqrt(abs(x - a) + 1), (x - a) ** 2)
         ),
         {"a": ""}, {"x": "n"}),
    Case("where that hides NaN", "sum(where(x*a > 0, sqrt(x*a) + log(x*a), 0))", _safe,
         {"a": "positive"}, {"x": "n"}, single=1e-3),
    Case("nested where", "sum(where(x > 1, a*x, where(x > 0, a**2*x, where(c, x, b))))",
         lambda m, a, b, x, c: m.sum(
             m.where(x > 1, a * x, m.where(x > 0, a**2 * x, m.where(c, x, b)))
         ),
         {"a": "", "b": ""}, {"x": "n", "c": "n bool"}),
    Case("where on rows", "sum(where(c[:, None], X, w)**2)",
         lambda m, w, X, c: m.sum(m.where(c[:, None], X, w) ** 2), V,
         {**X4, "c": "n bool"}),
    Case("logic", "sum(where((x > a and not c) or y <= x, a*x, a**2*y))", _logic,
         {"a": ""}, {"x": "n", "y": "n", "c": "n bool"}),
    Case("logic by symbols", "sum(where(((x > a) & ~c) | (y <= x), a*x, a**2*y))",
         _logic, {"a": ""}, {"x": "n", "y": "n", "c": "n bool"}),
    Case("truth as number", "sum((x > 0)*a*x + (x != y)*a**2 - c*a)",
         lambda m, a, x, y, c: m.sum(
             m.number(x > 0) * a * x + m.number(x != y) * a**2 - m.number(c) * a
         ),
         {"a": ""}, {"x": "n", "y": "n", "c": "n bool"}),
    Case("finite", "sum(where(isfinite(x) and not isnan(x*a), a*x, 0))",
         lambda m, a, x: m.sum(a * x), {"a": ""}, {"x": "n"}),
    Case("integers", "sum((a*k - x)**2) + sum((k*k - k*3)*a)", _counts,
         {"a": ""}, {"x": "n", "k": "n around 5"}),
    Case("equal integers", "sum(where(k == 2, a*x, b*x)*(k % 3) + k // 2*a)",
         lambda m, a, b, x, k: m.sum(
             m.where(k == 2, a * x, b * x) * (k % 3)
             + m.floor_divide(m.number(k), 2.0) * a
         ),
         {"a": "", "b": ""}, {"x": "n", "k": "n around 5"}),
)  # fmt: skip

# --------------------------------------------------------------------------------------
# Reductions
# --------------------------------------------------------------------------------------


def _centred(m: Any, w: Any, X: Any) -> Any:
    z = X * w
    return m.sum((z - m.mean(z, axis=0)) ** 2 * (z - m.mean(z, axis=1, keepdims=True)))


def _spread(m: Any, w: Any, X: Any) -> Any:
    z = X * w
    return m.sum(m.var(z, axis=1, ddof=1) * m.std(z, axis=1))


REDUCTIONS: tuple[Case, ...] = (
    Case("prod", "prod(x*a)", lambda m, a, x: m.prod(x * a), {"a": "5"}, {"x": "5"}),
    *(
        Case(f"prod with {k} zeros", "sum(prod(X*w, axis=1))",
             lambda m, w, X: m.sum(m.prod(X * w, axis=1)), V,
             {"X": f"n 4 zeros {k}"})
        for k in (1, 2, 3)
    ),
    *(
        Case(f"prod over rows, {k} zeros", "prod(1 + 0.1*x) * prod(z*a)",
             lambda m, x, a, z: m.prod(1 + 0.1 * x) * m.prod(z * a),
             {"x": "n unit", "a": "6"}, {"z": f"6 zeros {k}"}, rows=(1, 100))
        for k in (0, 1, 2)
    ),
    Case("extremes", "max(x*a) + min(maximum(x, a))",
         lambda m, a, x: m.max(x * a) + m.min(m.maximum(x, a)), {"a": ""},
         {"x": "n"}),
    Case("ties in rows", "sum(min(X*w, axis=1)*y + max(X*w, axis=1))",
         lambda m, w, X, y: m.sum(m.min(X * w, axis=1) * y + m.max(X * w, axis=1)),
         {"w": "4 constant 1.5"}, {"X": "n 4 ties", "y": "n"}, kinks=True),
    Case("ties over rows", "max(x*a)**2 + min(X*w) + sum(max(X*w, axis=0))",
         lambda m, a, w, x, X: m.max(x * a) ** 2 + m.min(X * w)
         + m.sum(m.max(X * w, axis=0)),
         {"a": "constant 0.5", "w": "4 constant 1.5"},
         {"x": "n ties", "X": "n 4 ties"}, kinks=True),
    Case("ties of two", "sum(minimum(x*a, y) + 2*maximum(x*a, y*a) + abs(x*a))",
         lambda m, a, x, y: m.sum(
             m.minimum(x * a, y) + 2 * m.maximum(x * a, y * a) + abs(x * a)
         ),
         {"a": "constant 1"}, {"x": "n ties", "y": "n ties"}, kinks=True),
    Case("norms of rows", "sum(norm(X - w, axis=1)*y)",
         lambda m, w, X, y: m.sum(m.norm(X - w, axis=1) * y), V, {**X4, "y": "n"}),
    Case("norm at zero", "norm(w*0*X) + sum(norm(X*w, axis=0)) + norm(w)",
         lambda m, w, X: m.norm(w * 0 * X) + m.sum(m.norm(X * w, axis=0)) + m.norm(w),
         {"w": "4 constant 0"}, X4, kinks=True),
    Case("norm of a scalar and a matrix", "norm(a)*norm(M)",
         lambda m, a, M: m.norm(a) * m.norm(M), {"a": "", "M": "3 4"}),
    Case("axis tuples", "sum(sum(T*w, axis=(0, 2))**2) + sum(mean(T, axis=(-1, 1))*x)",
         lambda m, w, x, T: m.sum(m.sum(T * w, axis=(0, 2)) ** 2)
         + m.sum(m.mean(T, axis=(2, 1)) * x),
         {**V, "x": "n"}, {"T": "n 3 4"}),
    Case("keepdims", "sum((X*w/sum(exp(X*w), axis=1, keepdims=True))**2)",
         lambda m, w, X: m.sum(
             (X * w / m.sum(m.exp(X * w), axis=1, keepdims=True)) ** 2
         ),
         V, X4),
    Case("two means", "z = X*w\nsum((z - mean(z, axis=0))**2"
         "*(z - mean(z, axis=1, keepdims=True)))", _centred, V, X4,
         rows=(7, 5000), single=1e-3),
    Case("spread", "z = X*w\nsum(var(z, axis=1, ddof=1)*std(z, axis=1))", _spread, V,
         X4),
    Case("spread over rows", "std(x*a)*sum(var(X*w, axis=0, ddof=1))",
         lambda m, a, w, x, X: m.std(x * a) * m.sum(m.var(X * w, axis=0, ddof=1)),
         {"a": "", **V}, {"x": "n", **X4}, rows=(7, 5000)),
    Case("mean over both", "mean(tanh(X*w))*mean(mean(X**2, axis=0)*w)",
         lambda m, w, X: m.mean(m.tanh(X * w)) * m.mean(m.mean(X**2, axis=0) * w),
         V, X4),
    Case("softmax", "sum(softmax(X*w, axis=1)*Y)",
         lambda m, w, X, Y: m.sum(m.softmax(X * w, axis=1) * Y), V,
         {**X4, "Y": "n 4"}),
    Case("log softmax", "-mean(sum(Y*log_softmax(X @ W), axis=1))",
         lambda m, W, X, Y: -m.mean(m.sum(Y * m.log_softmax(X @ W), axis=1)),
         {"W": "4 3"}, {**X4, "Y": "n 3 share"}),
    Case("logsumexp of everything", "logsumexp(X*w) + logsumexp(X - w, axis=(0, 1))",
         lambda m, w, X: m.logsumexp(X * w) + m.logsumexp(X - w, axis=(0, 1)), V, X4),
    Case("sums in sums", "sum(exp(-sum(X*w, axis=1)**2/sum(w**2))*sum(w*sin(w)))",
         lambda m, w, X: m.sum(
             m.exp(-m.sum(X * w, axis=1) ** 2 / m.sum(w**2)) * m.sum(w * m.sin(w))
         ),
         V, X4),
    Case("sum without its index", "sum(x*0 + a) + mean(a + 0*X)",
         lambda m, a, x, X: m.sum(x * 0 + a) + m.mean(a + 0 * X), {"a": ""},
         {"x": "n", **X4}),
)  # fmt: skip

ELEMENTS = ELEMENTWISE + CHOICES + REDUCTIONS

# --------------------------------------------------------------------------------------
# Products
# --------------------------------------------------------------------------------------

PRODUCTS: tuple[Case, ...] = (
    Case("batched matmul", "sum((A @ B)**2)", lambda m, B, A: m.sum((A @ B) ** 2),
         {"B": "n 3 2"}, {"A": "n 4 3"}),
    Case("broadcast matmul", "sum(tanh(A @ B)*y[:, None, None])",
         lambda m, B, A, y: m.sum(m.tanh(A @ B) * y[:, None, None]),
         {"B": "3 2"}, {"A": "n 4 3", "y": "n"}),
    Case("matmul of ranks 4 and 3", "mean((A @ B)**2)",
         lambda m, B, A: m.mean((A @ B) ** 2), {"B": "5 3 2"}, {"A": "n 5 4 3"},
         rows=(1, 1000)),
    Case("vector by batch", "sum(sin(v @ A))",
         lambda m, v, A: m.sum(m.sin(v @ A)), {"v": "4"}, {"A": "n 4 3"}),
    Case("matrix by rows", "sum((A @ X)**2)",
         lambda m, A, X: m.sum((A @ X) ** 2), {"A": "3 n"}, X4),
    Case("bilinear", "x @ A @ y + sum(X @ A)",
         lambda m, A, x, y, X: x @ A @ y + m.sum(X @ A),
         {"A": "4 3"}, {"x": "4", "y": "3", **X4}),
    Case("dot", "dot(X @ w, y)/dot(y, y) + dot(w, w)",
         lambda m, w, X, y: m.sum((X @ w) * y) / m.sum(y * y) + m.sum(w * w),
         V, {**X4, "y": "n"}, single=1e-3),
    Case("outer", "sum((outer(x, w) - X)**2)",
         lambda m, x, w, X: m.sum((m.outer(x, w) - X) ** 2), {"x": "n", **V}, X4),
    Case("einsum of three", 'sum(einsum("ni,ij,nj->n", X, A, X)**2)',
         lambda m, A, X: m.sum(m.einsum("ni,ij,nj->n", X, A, X) ** 2),
         {"A": "4 4"}, X4),
    Case("einsum of batches", 'sum(exp(einsum("bij,bjk->bik", A, B)))',
         lambda m, B, A: m.sum(m.exp(m.einsum("bij,bjk->bik", A, B))),
         {"B": "n 3 2 normal 0.3"}, {"A": "n 2 3"}),
    Case("einsum with dots", 'sum(einsum("...i,...i->...", T, U)**2)',
         lambda m, U, T: m.sum(m.einsum("...i,...i->...", T, U) ** 2),
         {"U": "3 4"}, {"T": "n 3 4"}),
    Case("einsum transposed", 'sum(einsum("ij->ji", X*w)[1]*einsum("ii->i", M)[0])',
         lambda m, w, M, X: m.sum((X * w).T[1] * M[0, 0]), {**V, "M": "4 4"}, X4),
    Case("trace", "trace(M @ M.T) + trace(X.T @ X*M)",
         lambda m, M, X: m.trace(M @ M.T) + m.trace(X.T @ X * M), {"M": "4 4"}, X4),
    Case("determinant by hand", "M[0, 0]*M[1, 1] - M[0, 1]*M[1, 0] + M[-1, -1]**2",
         lambda m, M: M[0, 0] * M[1, 1] - M[0, 1] * M[1, 0] + M[-1, -1] ** 2,
         {"M": "2 2"}),
    Case("diagonals", "sum(diag(M)**2) + sum((X @ diag(w))**2)",
         lambda m, M, w, X: m.sum(m.diag(M) ** 2) + m.sum((X @ m.diag(w)) ** 2),
         {"M": "4 4", **V}, X4),
    Case("triangles", "L = tril(M)\nsum((X @ L)**2) + sum(triu(M, 1)**3 + tril(M, -1))",
         lambda m, M, X: m.sum((X @ m.tril(M)) ** 2)
         + m.sum(m.triu(M, 1) ** 3 + m.tril(M, -1)),
         {"M": "4 4"}, X4),
    Case("eye", "sum((M @ M - eye(4))**2) + sum(eye(len(x))*outer(x, x))",
         lambda m, M, x: m.sum((M @ M - m.eye(4)) ** 2) + m.sum(x * x),
         {"M": "4 4", "x": "n"}, rows=(1, 200)),
    Case("arange", "sum((x - a*arange(len(x)))**2/len(x)**2) + sum(w*arange(4))",
         lambda m, a, w, x: m.sum(
             (x - a * m.number(m.arange(len(x)))) ** 2 / len(x) ** 2
         ) + m.sum(w * m.number(m.arange(4))),
         {"a": "", **V}, {"x": "n"}),
    Case("transposes", "sum((X.T @ y - w)**2) + sum(X'[1]*y) + sum(transpose(T)*w)",
         lambda m, w, X, y, T: m.sum((X.T @ y - w) ** 2) + m.sum(X[:, 1] * y)
         + m.sum(m.swap(T) * w),
         V, {**X4, "y": "n", "T": "4 2 3"}),
)  # fmt: skip

# --------------------------------------------------------------------------------------
# Subscripts
# --------------------------------------------------------------------------------------

ALL = slice(None)

SUBSCRIPTS: tuple[Case, ...] = (
    Case("slices with steps", "sum(x[::2]**2) + sum(x[1::3]*a) + sum(x[:-2:2]**3)",
         lambda m, x, a: m.sum(x[::2] ** 2) + m.sum(x[1::3] * a)
         + m.sum(x[:-2:2] ** 3),
         {"x": "n", "a": ""}),
    Case("backwards", "sum(x*x[::-1]*y) + sum(x[::-2]**2) + sum(x[5:1:-1])",
         lambda m, x, y: m.sum(x * pick(m, x, (slice(None, None, -1),)) * y)
         + m.sum(pick(m, x, (slice(None, None, -2),)) ** 2)
         + m.sum(pick(m, x, (slice(5, 1, -1),))),
         {"x": "n"}, {"y": "n"}),
    Case("columns", "sum(X[:, 0]*w[0] + X[:, -1]*w[-1]**2) + sum(X[:, 1:3] @ w[:2])",
         lambda m, w, X: m.sum(X[:, 0] * w[0] + X[:, -1] * w[-1] ** 2)
         + m.sum(X[:, 1:3] @ w[:2]),
         V, X4),
    Case("columns backwards", "sum((X[:, ::-1] @ w)*X[::-1, 0])",
         lambda m, w, X: m.sum(
             (pick(m, X, (ALL, slice(None, None, -1))) @ w)
             * pick(m, X, (slice(None, None, -1),))[:, 0]
         ),
         V, X4),
    Case("ellipsis", "sum(T[..., 0]*u) + sum(T[0, ...]*w) + sum(T[..., None, :]*w)",
         lambda m, u, w, T: m.sum(T[..., 0] * u) + m.sum(T[0, ...] * w)
         + m.sum(T[..., None, :] * w),
         {"u": "n 3", **V}, {"T": "n 3 4"}),
    Case("slice of a slice", "z = tanh(X @ w)[1:]\nsum(z[::2]) + sum(z[:-1][::-1]**2)",
         lambda m, w, X: m.sum(m.tanh(X @ w)[1:][::2])
         + m.sum(m.tanh(X @ w)[1:][:-1] ** 2),
         V, X4),
    Case("gather rows", "mean((M[i] @ w)**2*x)",
         lambda m, M, w, i, x: m.mean((M[i] @ w) ** 2 * x),
         {"M": "6 4", **V}, {"i": "n int 6", "x": "n"}),
    Case("gather by matrices", "sum(sum(M[J]*w, axis=(1, 2))**2)",
         lambda m, M, w, J: m.sum(m.sum(M[J] * w, axis=(1, 2)) ** 2),
         {"M": "6 4", **V}, {"J": "n 3 int 6"}),
    Case("gather columns", "mean(exp(X*w)[:, J]*u)",
         lambda m, w, u, X, J: m.mean(m.exp(X * w)[:, J] * u),
         {**V, "u": "2 3"}, {**X4, "J": "2 3 int 4"}),
    Case("gather pairs", "sum(M[i, j]**2*x) + sum(M[i, 1]*x)",
         lambda m, M, i, j, x: m.sum(M[i, j] ** 2 * x) + m.sum(M[i, 1] * x),
         {"M": "6 4"}, {"i": "n int 6", "j": "n int 4", "x": "n"}),
    Case("gather from the end", "sum(v[k]*x)",
         lambda m, v, k, x: m.sum(v[k] * x), {"v": "5"},
         {"k": "n around 5", "x": "n"}),
    Case("gather a computed index", "sum(v[(k + 1) % 5]*x)",
         lambda m, v, k, x: m.sum(v[(k + 1) % 5] * x), {"v": "5"},
         {"k": "n int 5", "x": "n"}),
    Case("gather from many", "sum(v[k]**2*x)", lambda m, v, k, x: m.sum(v[k] ** 2 * x),
         {"v": "500"}, {"k": "n int 500", "x": "n"}),
    Case("gather of rows", "z = tanh(X @ w)\nsum(z[k]*z*x)",
         lambda m, w, X, k, x: m.sum(m.tanh(X @ w)[k] * m.tanh(X @ w) * x), V,
         {**X4, "k": "n row", "x": "n"}),
    Case("one row", "sum(X[0]*w) + X[-1, 2]*w[1] + x[-1]**2",
         lambda m, w, x, X: m.sum(X[0] * w) + X[-1, 2] * w[1] + x[-1] ** 2,
         {**V, "x": "n"}, X4),
)  # fmt: skip

# --------------------------------------------------------------------------------------
# Shapes and programs
# --------------------------------------------------------------------------------------


def _many_uses(m: Any, w: Any, X: Any) -> Any:
    z = X @ w
    return (m.sum(z**2) + m.sum(w * m.sum(X, axis=0)) + w[0] * w[-1]) * m.exp(
        -m.sum(w**2)
    ) + m.mean(m.tanh(z) * z * w[1])


def _rank_four(m: Any, W: Any, b: Any, T: Any) -> Any:
    h = m.tanh(T[:, :, None, :] * W + b)
    return m.mean(m.sum(h, axis=(1, 3)) ** 2)


def _assigned(m: Any, a: Any, b: Any, x: Any) -> Any:
    e = a * b
    t = e * x
    t = t + m.sin(t)
    return m.sum(t**2) + e


BROADCASTS: tuple[Case, ...] = (
    Case("rank four", "h = tanh(T[:, :, None, :]*W + b)\nmean(sum(h, axis=(1, 3))**2)",
         _rank_four, {"W": "3 5 4", "b": "5 1"}, {"T": "n 3 4"}, rows=(1, 1000)),
    Case("broadcast rows", "sum((x[:, None]*w - y[:, None])**2*X)",
         lambda m, x, w, y, X: m.sum((x[:, None] * w - y[:, None]) ** 2 * X),
         {"x": "n", **V}, {"y": "n", **X4}),
    Case("ranks 0 to 3", "sum((a*T*P + U*v)**2)",
         lambda m, a, v, U, P, T: m.sum((a * T * P + U * v) ** 2),
         {"a": "", "v": "4", "U": "3 4", "P": "n 3 4"}, {"T": "n 3 4"}),
    Case("one parameter many times",
         "z = X @ w\n(sum(z**2) + sum(w*sum(X, axis=0)) + w[0]*w[-1])*exp(-sum(w**2))"
         " + mean(tanh(z)*z*w[1])",
         _many_uses, V, X4, single=1e-3),
    Case("unused parameter", "mean(x*a)",
         lambda m, a, b, x: m.mean(x * a), {"a": "", "b": "3"}, {"x": "n"}),
    Case("shadowed names", "e = a*b; t = e*x\nt = t + sin(t)\nsum(t**2) + e", _assigned,
         {"a": "", "b": ""}, {"x": "n"}),
    Case("lengths", "sum(x*a)/len(x) + sum(X*w)/(X.shape[0]*X.shape[1])",
         lambda m, a, w, x, X: m.mean(x * a) + m.mean(X * w),
         {"a": "", **V}, {"x": "n", **X4}),
    Case("length one", "sum((U*x[:, None] + U[0])**2) + sum(c*w)",
         lambda m, U, c, w, x: m.sum((U * x[:, None] + U[0]) ** 2) + m.sum(c * w),
         {"U": "1 4", "c": "1", **V}, {"x": "n"}),
    Case("long parameter", "mean((X @ w - y)**2) + sum(w[1:]*w[:-1])",
         lambda m, w, X, y: m.mean((X @ w - y) ** 2) + m.sum(w[1:] * w[:-1]),
         {"w": "130"}, {"X": "n 130", "y": "n"}, single=1e-3),
    Case("matrix of parameters", "sum((A - u @ v)**2*B) + sum(abs(u))",
         lambda m, u, v, A, B: m.sum((A - u @ v) ** 2 * m.number(B)) + m.sum(abs(u)),
         {"u": "n 2", "v": "2 9"}, {"A": "n 9", "B": "n 9 bool"}),
    Case("all pairs of rows", "sum(tanh(sum((X[:, None, :] - X[None, :, :])**2*w, "
         "axis=2)))",
         lambda m, w, X: m.sum(
             m.tanh(m.sum((X[:, None, :] - X[None, :, :]) ** 2 * w, axis=2))
         ),
         {"w": "4 positive"}, X4, rows=(1, 100), single=1e-3),
    Case("only parameters", "sum(exp(-(M @ v)**2)) + sum(M**4)",
         lambda m, M, v: m.sum(m.exp(-((M @ v) ** 2))) + m.sum(M**4),
         {"M": "3 4", "v": "4"}, passes=0),
)  # fmt: skip

ARRAYS = PRODUCTS + SUBSCRIPTS + BROADCASTS
