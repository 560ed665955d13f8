"""Losses over long rows and grids, read with lanes along them, in the table's form."""

from typing import Any

from losses import Case

W, X, Y = {"w": "203 normal 0.07"}, {"X": "n 203"}, {"y": "n"}
LONG: dict[str, Any] = {"rows": (1, 64), "single": 1e-3}


def _scores(m: Any, w: Any, X: Any, y: Any) -> Any:
    return m.sum((X @ w - y) ** 2)


def _computed(m: Any, w: Any, X: Any, y: Any) -> Any:
    return m.sum(m.sum(X * m.exp(0.1 * y)[:, None] * w, axis=1) ** 2)


def _where(m: Any, w: Any, X: Any, y: Any) -> Any:
    kept = m.where(X > 0, X * w, m.number(0.0))
    return m.sum(m.sum(kept, axis=1) * y)


def _classes(m: Any, W: Any, X: Any, Y: Any) -> Any:
    z = X @ W
    return m.sum(m.logsumexp(z, axis=1)) - m.sum(Y * z)


def _classes_and_scores(m: Any, W: Any, X: Any, y: Any) -> Any:
    return m.sum(m.tanh(X @ W) * (X @ W[:, 0] - y)[:, None])


def _poisson(m: Any, u: Any, f: Any) -> Any:
    inside = 4 * u[1:-1, 1:-1] - u[:-2, 1:-1] - u[2:, 1:-1] - u[1:-1, :-2]
    return m.sum((inside - u[1:-1, 2:] - f) ** 2)


def _total_variation(m: Any, x: Any, y: Any) -> Any:
    down, right = x[1:, :-1] - x[:-1, :-1], x[:-1, 1:] - x[:-1, :-1]
    return m.sum(m.sqrt(down**2 + right**2 + 1e-3)) + 0.5 * m.sum((x - y) ** 2)


LONG_ROWS: tuple[Case, ...] = (
    Case("long rows", "sum((X @ w - y)**2)", _scores, W, {**X, **Y}, **LONG),
    Case("rows just long enough", "sum((X @ w - y)**2)", _scores,
         {"w": "96"}, {"X": "n 96", **Y}, **LONG),
    Case("rows almost long enough", "sum((X @ w - y)**2)", _scores,
         {"w": "95"}, {"X": "n 95", **Y}, **LONG),
    Case("very long rows", "sum((X @ w - y)**2)", _scores,
         {"w": "1301 normal 0.03"}, {"X": "n 1301", **Y}, **LONG),
    Case("long distances", "sum(exp(-0.01*sum((X - w)**2, axis=1))*y)",
         lambda m, w, X, y: m.sum(m.exp(-0.01 * m.sum((X - w) ** 2, axis=1)) * y),
         W, {**X, **Y}, **LONG),
    Case("two sums of long rows", "sum((X @ w)*sum(sin(X*w), axis=1)*y)",
         lambda m, w, X, y: m.sum((X @ w) * m.sum(m.sin(X * w), axis=1) * y),
         W, {**X, **Y}, **LONG),
    Case("long rows beside others", "sum((X @ w - y)**2) + sum(X**2*w)",
         lambda m, w, X, y: _scores(m, w, X, y) + m.sum(X**2 * w), W, {**X, **Y},
         **LONG),
    Case("parts of long rows", "sum(sum(where(X > 0, X*w, 0), axis=1)*y)", _where, W,
         {**X, **Y}, **LONG),
    Case("long rows less their own", "sum(sum((X - y[:, None])*w, axis=1)**2)",
         lambda m, w, X, y: m.sum(m.sum((X - y[:, None]) * w, axis=1) ** 2),
         W, {**X, **Y}, **LONG),
    Case("long rows times their own", "sum(sum(X*exp(0.1*y)[:, None]*w, axis=1)**2)",
         _computed, W, {**X, **Y}, **LONG),
    Case("largest of long rows", "max(X @ w)", lambda m, w, X: m.max(X @ w), W, X,
         **LONG),
    Case("spread of long rows", "var(X @ w)", lambda m, w, X: m.var(X @ w), W, X,
         rows=(7, 64), single=1e-3),
    Case("long rows of two arrays", "sum(sum(X*Z*w, axis=1)**2)",
         lambda m, w, X, Z: m.sum(m.sum(X * Z * w, axis=1) ** 2),
         W, {**X, "Z": "n 203"}, **LONG),
    Case("long quadratic form", "v @ (K @ v) - 2*sum(v*y)",
         lambda m, v, K, y: m.sum(v * (K @ v)) - 2 * m.sum(v * y),
         {"v": "n"}, {"K": "n n", **Y}, rows=(1, 500), single=1e-3),
    Case("classes of long rows", "z = X @ W\nsum(logsumexp(z, axis=1)) - sum(Y*z)",
         _classes, {"W": "203 5 normal 0.07"}, {**X, "Y": "n 5"}, **LONG),
    Case("many classes of long rows",
         "z = X @ W\nsum(logsumexp(z, axis=1)) - sum(Y*z)",
         _classes, {"W": "203 21 normal 0.07"}, {**X, "Y": "n 21"}, **LONG),
    Case("classes and scores of long rows",
         "sum(tanh(X @ W)*(X @ W[:, 0] - y)[:, None])",
         _classes_and_scores, {"W": "203 4 normal 0.07"}, {**X, **Y}, **LONG),
    Case("classes of two arrays of long rows", "sum(tanh(X @ W)*tanh(Z @ W))",
         lambda m, W, X, Z: m.sum(m.tanh(X @ W) * m.tanh(Z @ W)),
         {"W": "203 3 normal 0.07"}, {**X, "Z": "n 203"}, **LONG),
    Case("classes of rows of two arrays", "sum(tanh((X*Z) @ W))",
         lambda m, W, X, Z: m.sum(m.tanh((X * Z) @ W)),
         {"W": "203 3 normal 0.07"}, {**X, "Z": "n 203"}, **LONG),
    Case("poisson equation on a grid",
         "sum((4*u[1:-1, 1:-1] - u[:-2, 1:-1] - u[2:, 1:-1] - u[1:-1, :-2]"
         " - u[1:-1, 2:] - f)**2)",
         _poisson, {"u": "n+2 n+2"}, {"f": "n n"}, rows=(1, 200), single=1e-3),
    Case("narrow grid",
         "sum((4*u[1:-1, 1:-1] - u[:-2, 1:-1] - u[2:, 1:-1] - u[1:-1, :-2]"
         " - u[1:-1, 2:] - f)**2)",
         _poisson, {"u": "n+2 43"}, {"f": "n 41"}, rows=(1, 200), single=1e-3),
    Case("total variation of an image",
         "z = x[:-1, :-1]\n"
         "sum(sqrt((x[1:, :-1] - z)**2 + (x[:-1, 1:] - z)**2 + 1e-3))"
         " + 0.5*sum((x - y)**2)",
         _total_variation, {"x": "n n"}, {"y": "n n"}, rows=(2, 200), single=1e-3),
    Case("elements of a matrix", "mean((tanh(A) - Y)**2*w[:, None])",
         lambda m, A, Y, w: m.mean((m.tanh(A) - Y) ** 2 * w[:, None]),
         {"A": "n 67"}, {"Y": "n 67", "w": "n"}, rows=(1, 200), single=1e-3),
)  # fmt: skip
