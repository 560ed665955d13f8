"""A table of losses: their text, what they mean in NumPy and PyTorch, and their arrays.

``MODELS`` are losses as people write them, those of the project's specification first;
``loss_constructs`` adds a row for each construct of the language.
"""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ROWS = (1, 7, 8, 9, 1000, 5000)
"""Numbers of rows that every loss is tried with: around a vector, and many."""

LENGTH = re.compile(r"(n?)\+?(\d*)")
"""``n``, ``7`` or ``n+2``."""


@dataclass(frozen=True, eq=False)
class Case:
    """A loss.

    text: in the language. reference: takes a namespace of ``oracles`` and the arrays.
    parameters, data: a description per array, see ``make``. passes: over the data, of
    the kernel for value and gradient. rows: the least and the largest number of rows.
    kinks: the values make it not differentiable, on purpose. single: the error allowed
    in float32, relative.
    """

    name: str
    text: str
    reference: Callable[..., Any]
    parameters: dict[str, str]
    data: dict[str, str] = field(default_factory=dict)
    passes: int | None = None
    rows: tuple[int, int] = (1, 5000)
    kinks: bool = False
    single: float = 1e-4

    @property
    def wrt(self) -> list[str]:
        return list(self.parameters)

    def sizes(self) -> list[int]:
        """The numbers of rows to try."""
        return [n for n in ROWS if self.rows[0] <= n <= self.rows[1]]

    def few(self, n: int) -> int:
        """``n`` rows, or as near as can be."""
        return min(max(n, self.rows[0]), self.rows[1])

    def values(self, n: int) -> dict[str, np.ndarray]:
        """All arrays, for ``n`` rows."""
        seed = zlib.crc32(f"{self.name} {n}".encode())
        numbers = np.random.default_rng(seed)
        described = {**self.parameters, **self.data}
        return {name: make(d, n, numbers) for name, d in described.items()}

    def __str__(self) -> str:
        return self.name


def make(description: str, n: int, numbers: np.random.Generator) -> np.ndarray:
    """An array as described: ``"n 3 int 20"`` is n by 3, of integers from 0 to 19.

    Lengths are numbers, n, or n with a number to add (``n+1``); then comes what the
    elements are, a key of ``KINDS``, with its argument; the default is normal.
    """
    shape: list[int] = []
    words = description.split()
    while words and (length := LENGTH.fullmatch(words[0])):
        rows, more = length.groups()
        shape.append(n * bool(rows) + int(more or 0))
        words.pop(0)
    kind, *rest = words or ["normal"]
    return np.asarray(KINDS[kind](numbers, tuple(shape), *map(float, rest)))


def _zeros(numbers: np.random.Generator, shape: tuple[int, ...], count: float) -> Any:
    """Normal numbers, ``count`` of them zero in each row."""
    array = numbers.normal(size=shape)
    for row in array.reshape(-1, shape[-1]):
        row[numbers.permutation(shape[-1])[: int(count)]] = 0.0
    return array


def _share(numbers: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Positive numbers that add up to one along the last axis."""
    array = numbers.uniform(0.1, 1, shape)
    return array / array.sum(-1, keepdims=True)


KINDS: dict[str, Callable[..., Any]] = {
    "normal": lambda g, shape, scale=1.0: scale * g.normal(size=shape),
    "positive": lambda g, shape: g.uniform(0.3, 2.0, shape),
    "unit": lambda g, shape: g.uniform(-0.9, 0.9, shape),
    "sign": lambda g, shape: g.choice([-1.0, 1.0], shape),
    "int": lambda g, shape, high: g.integers(0, int(high), shape),
    "around": lambda g, shape, high: g.integers(-int(high), int(high), shape),
    "row": lambda g, shape: g.integers(0, shape[0], shape),
    "bool": lambda g, shape: g.integers(0, 2, shape) > 0,
    "ties": lambda g, shape: g.integers(-1, 2, shape).astype(float),
    "index": lambda g, shape, value: np.full(shape, int(value)),
    "constant": lambda g, shape, value: np.full(shape, value),
    "zeros": _zeros,
    "share": _share,
}

# --------------------------------------------------------------------------------------
# References that take more than a line
# --------------------------------------------------------------------------------------


def cross_entropy(m: Any, W: Any, X: Any, Y: Any) -> Any:
    return m.mean(m.logsumexp(X @ W, axis=1) - m.sum(Y * (X @ W), axis=1))


def softmax_regression(m: Any, W: Any, b: Any, X: Any, c: Any) -> Any:
    scores = X @ W + b
    right = scores[m.arange(len(c)), c]
    return m.mean(m.logsumexp(scores, axis=1) - right) + 0.01 * m.sum(W**2)


def mixture(m: Any, alpha: Any, q: Any, mu: Any, x: Any) -> Any:
    square = m.sum((m.exp(q) * (x[:, None, :] - mu)) ** 2, axis=2)
    return m.sum(m.logsumexp(alpha + m.sum(q, axis=1) - 0.5 * square, axis=1))


def attention(m: Any, Q: Any, K: Any, V: Any, Y: Any) -> Any:
    S = Q @ K.T
    P = m.exp(S - m.logsumexp(S, axis=1)[:, None])
    return m.mean((P @ V - Y) ** 2)


def network(m: Any, W1: Any, b1: Any, W2: Any, b2: Any, W3: Any, X: Any, y: Any) -> Any:
    h = m.tanh(X @ W1 + b1)
    g = m.tanh(h @ W2 + b2)
    return m.mean((g @ W3 - y) ** 2)


def classifier(m: Any, W1: Any, b1: Any, W2: Any, X: Any, Y: Any) -> Any:
    p = m.relu(X @ W1 + b1) @ W2
    return m.mean(m.logsumexp(p, axis=1) - m.sum(Y * p, axis=1))


def correlation(m: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    p = a * y**3 + b * y
    return m.mean((x - m.mean(x)) * (p - m.mean(p))) / (m.std(x) * m.std(p))


def huber(m: Any, w: Any, X: Any, y: Any) -> Any:
    r = X @ w - y
    return m.mean(m.where(abs(r) < 1, 0.5 * r**2, abs(r) - 0.5))


def column_softmax(m: Any, w: Any, X: Any) -> Any:
    P = m.exp(X * w) / m.sum(m.exp(X * w), axis=0)
    return m.sum(P**2)


def standardised(m: Any, w: Any, X: Any, y: Any) -> Any:
    z = X @ w
    s = (z - m.mean(z)) / m.sqrt(m.var(z) + 0.1)
    return m.mean((m.tanh(s) - y) ** 2)


def layer_norm(m: Any, g: Any, W: Any, X: Any) -> Any:
    h = X @ W
    z = (h - m.mean(h, axis=1, keepdims=True)) / m.sqrt(
        m.var(h, axis=1, keepdims=True) + 1e-3
    )
    return m.mean((g * z) ** 3)


def convolution(m: Any, k: Any, x: Any, y: Any) -> Any:
    return m.mean((k[0] * x[2:] + k[1] * x[1:-1] + k[2] * x[:-2] - y) ** 2)


def expectation(m: Any, a: Any, b: Any, k: Any, t: Any) -> Any:
    rate = m.exp(a + b * t)
    return m.sum(rate - k * m.log(rate) + m.lgamma(m.number(k) + 1))


# --------------------------------------------------------------------------------------
# The table
# --------------------------------------------------------------------------------------

XY = {"X": "n 7", "y": "n"}

SPECIFIED: tuple[Case, ...] = (
    Case("tanh regression", "mean((tanh(X @ w + b) - y)**2)",
         lambda m, w, b, X, y: m.mean((m.tanh(X @ w + b) - y) ** 2),
         {"w": "7", "b": ""}, XY, passes=1),
    Case("logistic", "mean(softplus(-y*(X @ w + b)))",
         lambda m, w, b, X, y: m.mean(m.softplus(-y * (X @ w + b))),
         {"w": "7", "b": ""}, {"X": "n 7", "y": "n sign"}, passes=1),
    Case("cross entropy", "mean(logsumexp(X @ W, axis=1) - sum(Y*(X @ W), axis=1))",
         cross_entropy, {"W": "7 5"}, {"X": "n 7", "Y": "n 5 share"}, passes=1),
    Case("log of mean", "log(mean((y - a*x)**2))",
         lambda m, a, x, y: m.log(m.mean((y - a * x) ** 2)),
         {"a": ""}, {"x": "n", "y": "n"}, passes=1, single=1e-3),
    Case("rosenbrock", "sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)",
         lambda m, x: m.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
         {"x": "n"}, passes=0),
    Case("factors", "mean((r - sum(U[i]*V[j], axis=1))**2)",
         lambda m, U, V, r, i, j: m.mean((r - m.sum(U[i] * V[j], axis=1)) ** 2),
         {"U": "20 3", "V": "30 3"},
         {"r": "n", "i": "n int 20", "j": "n int 30"}, passes=1),
    Case("k-means", "sum(min(sum((P[:, None, :] - C)**2, axis=2), axis=1))",
         lambda m, C, P: m.sum(
             m.min(m.sum((P[:, None, :] - C) ** 2, axis=2), axis=1)
         ),
         {"C": "5 2"}, {"P": "n 2"}, passes=1),
    Case("mixture",
         "sum(logsumexp(alpha + sum(q, axis=1) - 0.5*sum((exp(q)*(x[:, None, :]"
         " - mu))**2, axis=2), axis=1))",
         mixture, {"alpha": "5", "q": "5 3 normal 0.3", "mu": "5 3"}, {"x": "n 3"},
         passes=1),
    Case("attention",
         "S = Q @ K.T; P = exp(S - logsumexp(S, axis=1)[:, None])\n"
         "mean((P @ V - Y)**2)",
         attention, {"Q": "n 4", "K": "50 4", "V": "50 3"}, {"Y": "n 3"}, passes=1),
    Case("variance", "var(y - a*x)", lambda m, a, x, y: m.var(y - a * x),
         {"a": ""}, {"x": "n", "y": "n"}, passes=1),
    Case("second difference", "sum((u[2:] - 2*u[1:-1] + u[:-2])**2)",
         lambda m, u: m.sum((u[2:] - 2 * u[1:-1] + u[:-2]) ** 2),
         {"u": "n"}, passes=0, rows=(7, 5000)),
)  # fmt: skip

MODELS: tuple[Case, ...] = (
    Case("line", "mean((y - (a + b*x))**2)",
         lambda m, a, b, x, y: m.mean((y - (a + b * x)) ** 2),
         {"a": "", "b": ""}, {"x": "n", "y": "n"}, passes=1),
    Case("ridge and lasso", "mean((X@w - y)**2) + 0.1*sum(w**2) + 0.01*sum(abs(w))",
         lambda m, w, X, y: m.mean((X @ w - y) ** 2) + 0.1 * m.sum(w**2)
         + 0.01 * m.sum(abs(w)),
         {"w": "7"}, XY, passes=1),
    Case("huber", "r = X@w - y; mean(where(abs(r) < 1, 0.5*r**2, abs(r) - 0.5))",
         huber, {"w": "7"}, XY, passes=1),
    Case("network",
         "h = tanh(X @ W1 + b1)\ng = tanh(h @ W2 + b2)\nmean((g @ W3 - y)**2)",
         network,
         {"W1": "2 16", "b1": "16", "W2": "16 16", "b2": "16", "W3": "16"},
         {"X": "n 2", "y": "n"}, passes=1, single=1e-3),
    Case("odd network",
         "h = tanh(X @ W1 + b1)\ng = tanh(h @ W2 + b2)\nmean((g @ W3 - y)**2)",
         network,
         {"W1": "3 13", "b1": "13", "W2": "13 11", "b2": "11", "W3": "11"},
         {"X": "n 3", "y": "n"}, passes=1, single=1e-3),
    Case("correlation",
         "p = a*y**3 + b*y\n"
         "mean((x - mean(x))*(p - mean(p)))/(std(x)*std(p))",
         correlation, {"a": "positive", "b": "positive"}, {"x": "n", "y": "n"},
         passes=1, rows=(7, 5000), single=1e-2),
    Case("error of a ratio", "sqrt(mean((X@w - y)**2))/mean(abs(y))",
         lambda m, w, X, y: m.sqrt(m.mean((X @ w - y) ** 2)) / m.mean(abs(y)),
         {"w": "7"}, XY, passes=1),
    Case("norm of a residual", "norm(X@w - y)",
         lambda m, w, X, y: m.norm(X @ w - y), {"w": "7"}, XY, passes=1),
    Case("softmax over rows", "logsumexp(a*x + b)",
         lambda m, a, b, x: m.logsumexp(a * x + b), {"a": "", "b": ""}, {"x": "n"},
         passes=1),
    Case("logsumexp of a column", "sum(logsumexp(X*w, axis=0)**2)",
         lambda m, w, X: m.sum(m.logsumexp(X * w, axis=0) ** 2), {"w": "4"},
         {"X": "n 4"}, passes=1),
    Case("column softmax", "P = exp(X*w)/sum(exp(X*w), axis=0)\nsum(P**2)",
         column_softmax, {"w": "4"}, {"X": "n 4"}, passes=2),
    Case("softmax of columns", "sum(softmax(X*w, axis=0)*Y)",
         lambda m, w, X, Y: m.sum(m.softmax(X * w, axis=0) * Y), {"w": "4"},
         {"X": "n 4", "Y": "n 4"}, passes=1),
    Case("standardised",
         "z = X@w\ns = (z - mean(z))/sqrt(var(z) + 0.1)\nmean((tanh(s) - y)**2)",
         standardised, {"w": "7"}, XY, passes=2, single=1e-3),
    Case("layer norm",
         "h = X@W\nz = (h - mean(h, axis=1, keepdims=True))"
         "/sqrt(var(h, axis=1, keepdims=True) + 1e-3)\nmean((g*z)**3)",
         layer_norm, {"g": "5", "W": "4 5"}, {"X": "n 4"}, passes=1, single=1e-3),
    Case("nonlinear after sums", "exp(-mean(a*x))*sin(sum(b*x**2)/len(x)) + log(a**2)",
         lambda m, a, b, x: m.exp(-m.mean(a * x)) * m.sin(m.sum(b * x**2) / len(x))
         + m.log(a**2),
         {"a": "positive", "b": ""}, {"x": "n"}, passes=1),
    Case("kernel matrix", "sum(exp(-0.5*(x[:, None] - x[None, :])**2/s**2))",
         lambda m, x, s: m.sum(m.exp(-0.5 * (x[:, None] - x[None, :]) ** 2 / s**2)),
         {"x": "n", "s": "positive"}, passes=0, rows=(1, 200), single=1e-3),
    Case("kernel of data", "mean(K @ v*v)",
         lambda m, v, K: m.mean(K @ v * v), {"v": "n"}, {"K": "n n"}, passes=1,
         rows=(1, 200)),
    Case("gram matrix", "h = tanh(X@W)\nsum((h @ h.T)**2)",
         lambda m, W, X: m.sum((m.tanh(X @ W) @ m.tanh(X @ W).T) ** 2),
         {"W": "4 3"}, {"X": "n 4"}, passes=2, rows=(1, 200)),
    Case("neighbours", "h = tanh(X@w)\nsum((h[1:] - h[:-1])**2)",
         lambda m, w, X: m.sum((m.tanh(X @ w)[1:] - m.tanh(X @ w)[:-1]) ** 2),
         {"w": "4"}, {"X": "n 4"}, passes=1),
    Case("convolution", "mean((k[0]*x[2:] + k[1]*x[1:-1] + k[2]*x[:-2] - y)**2)",
         convolution, {"k": "3"}, {"x": "n+2", "y": "n"}, passes=1),
    Case("poisson", "rate = exp(a + b*t)\nsum(rate - k*log(rate) + lgamma(k + 1))",
         expectation, {"a": "", "b": ""}, {"k": "n int 9", "t": "n"}, passes=1),
    Case("embedding", "mean((sum(E[i], axis=1) @ w - y)**2)",
         lambda m, E, w, i, y: m.mean((m.sum(E[i], axis=1) @ w - y) ** 2),
         {"E": "12 4", "w": "4"}, {"i": "n 3 int 12", "y": "n"}, passes=1),
    Case("group effects", "mean((y - g[i] - X@w)**2) + sum(g**2)",
         lambda m, g, w, y, i, X: m.mean((y - g[i] - X @ w) ** 2) + m.sum(g**2),
         {"g": "9", "w": "7"}, {**XY, "i": "n int 9"}, passes=1),
    Case("calibration", "mean(where(m, (s*x + t - y)**2, 0))",
         lambda m_, s, t, x, y, m: m_.mean(
             m_.where(m, (s * x + t - y) ** 2, m_.number(0.0))
         ),
         {"s": "", "t": ""}, {"x": "n", "y": "n", "m": "n bool"}, passes=1),
)  # fmt: skip

LARGE: tuple[Case, ...] = (
    Case("factors of many", "mean((r - sum(U[i]*V[j], axis=1))**2)",
         lambda m, U, V, r, i, j: m.mean((r - m.sum(U[i] * V[j], axis=1)) ** 2),
         {"U": "200 3", "V": "300 3"},
         {"r": "n", "i": "n int 200", "j": "n int 300"}),
    *(
        Case(f"factors of rank {k}", "mean((r - sum(U[i]*V[j], axis=1))**2)",
             lambda m, U, V, r, i, j: m.mean((r - m.sum(U[i] * V[j], axis=1)) ** 2),
             {"U": f"20 {k} normal 0.3", "V": f"30 {k} normal 0.3"},
             {"r": "n", "i": "n int 20", "j": "n int 30"}, passes=1)
        for k in (1, 2, 8, 17, 32, 40, 70)
    ),
    Case("chosen matrices", "mean((r - sum(sum(U[i]*V[j], axis=2), axis=1))**2)",
         lambda m, U, V, r, i, j: m.mean(
             (r - m.sum(m.sum(U[i] * V[j], axis=2), axis=1)) ** 2
         ),
         {"U": "20 3 5", "V": "30 3 5"},
         {"r": "n", "i": "n int 20", "j": "n int 30"}, passes=1),
    Case("chosen rows of data", "mean((T[i] @ w + U[i, 0] - y)**2)",
         lambda m, w, U, T, i, y: m.mean((T[i] @ w + U[i, 0] - y) ** 2),
         {"w": "9", "U": "50 2"}, {"T": "50 9", "i": "n int 50", "y": "n"}, passes=1),
    Case("attention to many",
         "S = Q @ K.T; P = exp(S - logsumexp(S, axis=1)[:, None])\n"
         "mean((P @ V - Y)**2)",
         attention, {"Q": "n 4", "K": "150 4", "V": "150 3"}, {"Y": "n 3"},
         rows=(1, 1000)),
    *(
        Case(f"softmax regression {d}x{k}",
             "s = X @ W + b\n"
             "mean(logsumexp(s, axis=1) - s[arange(len(c)), c]) + 0.01*sum(W**2)",
             softmax_regression, {"W": f"{d} {k} normal 0.1", "b": f"{k}"},
             {"X": f"n {d}", "c": f"n int {k}"}, rows=(1, 1000), single=1e-3)
        for d, k in [(84, 10), (100, 20), (200, 10), (128, 16), (65, 11)]
    ),
    Case("softmax regression by shares",
         "mean(logsumexp(X @ W, axis=1) - sum(Y*(X @ W), axis=1))",
         cross_entropy, {"W": "150 12 normal 0.1"}, {"X": "n 150", "Y": "n 12 share"},
         rows=(1, 1000), single=1e-3),
    *(
        Case(f"network {a}-{b}-{c}",
             "h = tanh(X @ W1 + b1)\ng = tanh(h @ W2 + b2)\nmean((g @ W3 - y)**2)",
             network,
             {"W1": f"{a} {b} normal 0.2", "b1": f"{b}", "W2": f"{b} {c} normal 0.2",
              "b2": f"{c}", "W3": f"{c}"},
             {"X": f"n {a}", "y": "n"}, rows=(1, 1000), single=3e-3)
        for a, b, c in [(2, 13, 70), (10, 100, 70), (70, 130, 3), (90, 128, 96)]
    ),
    Case("wide classifier",
         "p = relu(X @ W1 + b1) @ W2\nmean(logsumexp(p, axis=1) - sum(Y*p, axis=1))",
         classifier, {"W1": "100 80 normal 0.2", "b1": "80", "W2": "80 10 normal 0.2"},
         {"X": "n 100", "Y": "n 10 share"}, rows=(1, 1000), single=3e-3),
)  # fmt: skip
