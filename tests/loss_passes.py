"""Losses that need care to take one pass over the rows, in the table's form."""

from typing import Any

from losses import Case

W3, X3 = {"w": "3"}, {"X": "n 3"}


def _partial_likelihood(m: Any, w: Any, X: Any, d: Any) -> Any:
    z = X @ w
    return m.mean(m.number(d) * (m.logsumexp(z) - z))


def _attended(m: Any, w: Any, X: Any, Y: Any) -> Any:
    p = m.softmax(X @ w, axis=0)
    return m.sum((p @ Y) ** 2)


def _entropy(m: Any, w: Any, X: Any) -> Any:
    s = m.log_softmax(X @ w, axis=0)
    return -m.sum(m.exp(s) * s)


def _spread(m: Any, w: Any, X: Any) -> Any:
    z = X @ w
    return m.mean((z - m.mean(z)) ** 2)


def _column_spread(m: Any, w: Any, X: Any) -> Any:
    z = X * w
    return m.sum(m.sqrt(m.mean((z - m.mean(z, axis=0)) ** 2, axis=0)))


def _covariance(m: Any, w: Any, X: Any, y: Any) -> Any:
    z = m.tanh(X @ w)
    return m.mean((z - m.mean(z)) * (y - m.mean(y)))


def _squared(m: Any, X: Any) -> Any:
    return m.sum((X[:, None, :] - X[None, :, :]) ** 2, axis=2)


def _coulomb(m: Any, X: Any) -> Any:
    apart = m.eye(len(X)) > 0
    return m.sum(m.where(apart, m.number(0.0), 1 / m.sqrt(_squared(m, X) + 1e-2)))


def _discrepancy(m: Any, X: Any, Y: Any) -> Any:
    between = m.sum((X[:, None, :] - Y[None, :, :]) ** 2, axis=2)
    return m.mean(m.exp(-_squared(m, X))) - 2 * m.mean(m.exp(-between))


def _one_sided(m: Any, x: Any) -> Any:
    return m.sum(m.relu(x[:, None] - 0.5 * x[None, :]) ** 2)


def _labelled(m: Any, W: Any, X: Any, c: Any) -> Any:
    s = m.tanh(m.tanh(X @ W) @ W.T)
    return m.mean(m.logsumexp(s, axis=1) - s[m.arange(len(c)), c])


ONE_PASS: tuple[Case, ...] = (
    Case("partial likelihood", "z = X @ w\nmean(d*(logsumexp(z) - z))",
         _partial_likelihood, W3, {**X3, "d": "n bool"}, passes=1, single=1e-3),
    Case("attention over rows", "p = softmax(X @ w, axis=0)\nsum((p @ Y)**2)",
         _attended, W3, {**X3, "Y": "n 2"}, passes=1, single=1e-3),
    Case("entropy over rows", "s = log_softmax(X @ w, axis=0)\n-sum(exp(s)*s)",
         _entropy, W3, X3, passes=1, single=1e-3),
    Case("largest of all", "max(X @ w) - min(X @ w)",
         lambda m, w, X: m.max(X @ w) - m.min(X @ w), W3, X3, passes=1),
    Case("largest of a table", "max(X*w)**2", lambda m, w, X: m.max(X * w) ** 2, W3,
         X3, passes=1),
    Case("largest of columns", "sum(max(X*w, axis=0)**2)",
         lambda m, w, X: m.sum(m.max(X * w, axis=0) ** 2), W3, X3, passes=1),
    Case("largest of many columns", "sum(max(X[:, None, :]*W, axis=0)**2)",
         lambda m, W, X: m.sum(m.max(X[:, None, :] * W, axis=0) ** 2),
         {"W": "20 16"}, {"X": "n 16"}, passes=1, single=1e-3),
    Case("logsumexp of a table", "logsumexp(X*w)",
         lambda m, w, X: m.logsumexp(X * w), W3, X3, passes=1),
    Case("large logsumexp", "logsumexp(300*(X @ w))/300",
         lambda m, w, X: m.logsumexp(300 * (X @ w)) / 300, W3, X3, passes=1,
         single=1e-2),
    Case("variance as written", "z = X @ w\nmean((z - mean(z))**2)", _spread, W3, X3,
         passes=1, single=1e-3),
    Case("deviations of columns",
         "z = X*w\nsum(sqrt(mean((z - mean(z, axis=0))**2, axis=0)))",
         _column_spread, W3, X3, passes=1, rows=(7, 5000), single=1e-3),
    Case("covariance", "z = tanh(X @ w)\nmean((z - mean(z))*(y - mean(y)))",
         _covariance, W3, {**X3, "y": "n"}, passes=1, rows=(7, 5000), single=1e-2),
    Case("coulomb",
         "d = sum((X[:, None, :] - X[None, :, :])**2, axis=2)\n"
         "sum(where(eye(len(X)) > 0, 0, 1/sqrt(d + 1e-2)))",
         _coulomb, {"X": "n 3"}, passes=0, rows=(7, 200), single=1e-3),
    Case("discrepancy",
         "mean(exp(-sum((X[:, None, :] - X[None, :, :])**2, axis=2)))"
         " - 2*mean(exp(-sum((X[:, None, :] - Y[None, :, :])**2, axis=2)))",
         _discrepancy, {"X": "n 2"}, {"Y": "100 2"}, rows=(1, 200), single=1e-3),
    Case("one-sided pairs", "sum(relu(x[:, None] - 0.5*x[None, :])**2)", _one_sided,
         {"x": "n"}, passes=0, rows=(1, 200), single=1e-3),
    Case("labels of a deep score",
         "s = tanh(tanh(X @ W) @ W.T)\n"
         "mean(logsumexp(s, axis=1) - s[arange(len(c)), c])",
         _labelled, {"W": "20 20 normal 0.3"}, {"X": "n 20", "c": "n int 20"},
         passes=1, single=1e-3),
)  # fmt: skip
