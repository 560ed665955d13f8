"""Losses over long rows, which are read with lanes along them, in the table's form."""

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
)  # fmt: skip
