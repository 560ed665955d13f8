"""The standard losses, with their data.

Each is written twice: as symgrad's text, and as a formula over a namespace ``m`` with
NumPy's names, which PyTorch and JAX share (see ``contenders``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Maker = Callable[[np.random.Generator, int], tuple[Arrays, Arrays]]


@dataclass(frozen=True)
class Loss:
    """A loss over data.

    title: with the shapes. text: in symgrad's language. formula: ``(m, **arrays)``.
    make: ``(generator, rows)`` to parameters and data, float64 or integers. rows: of
    the benchmark. kernel: the file of the C and its macros, or why there is none.
    scalar: too few data to speak of; what is measured is the call.
    """

    name: str
    title: str
    text: str
    formula: Callable[..., Any]
    make: Maker
    rows: int
    kernel: tuple[str, ...] = ()
    no_kernel: str = "not written"
    scalar: bool = False

    def arrays(self, rows: int | None = None, seed: int = 0) -> tuple[Arrays, Arrays]:
        """Parameters and data, always the same for the same rows and seed."""
        generator = np.random.default_rng([seed, len(self.name), *self.name.encode()])
        parameters, data = self.make(generator, rows or self.rows)
        return (
            {name: np.asarray(array) for name, array in parameters.items()},
            {name: np.asarray(array) for name, array in data.items()},
        )

    def with_rows(self, rows: int | None) -> Loss:
        """The same loss over fewer or more rows."""
        if rows is None or self.scalar:
            return self
        return replace(self, rows=rows, title=f"{self.title}; here {rows} rows")


# --- Scalars --------------------------------------------------------------------------


def product_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    values = {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0}
    return {name: np.array(value) for name, value in values.items()}, {}


def neuron_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    data = {"X": np.array([[2.0, 1.0], [-1.0, 0.5]]), "y": np.array([0.5, -0.5])}
    return {"w": np.array([-3.0, 1.0]), "b": np.array(0.7)}, data


# --- Regression -----------------------------------------------------------------------


def regression_arrays(columns: int, scale: float = 1.0) -> Maker:
    """Rows of normal features and a noisy linear answer."""

    def make(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
        X = g.normal(size=(n, columns))
        y = X @ g.normal(size=columns) + g.normal(size=n)
        parameters = {"w": scale * g.normal(size=columns), "b": np.array(0.1)}
        return parameters, {"X": X, "y": y}

    return make


def logistic_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    parameters, data = regression_arrays(10)(g, n)
    return parameters, {**data, "y": np.where(data["y"] > 0, 1.0, -1.0)}


def poisson_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    parameters, data = regression_arrays(20, 0.1)(g, n)
    return parameters, {**data, "y": g.poisson(1.5, n).astype(float)}


def peaks_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    x = np.linspace(-5.0, 5.0, n)
    parameters = {
        "A": g.uniform(0.5, 2.0, 5),
        "m": np.linspace(-4.0, 4.0, 5) + 0.1 * g.normal(size=5),
        "s": g.uniform(0.3, 0.8, 5),
    }
    return parameters, {"x": x, "y": 1.5 * np.exp(-(x**2)) + 0.1 * g.normal(size=n)}


def wave_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    t = np.linspace(0.0, 10.0, n)
    y = 2.0 * np.exp(-0.3 * t) * np.cos(4.0 * t + 0.5) + 0.1 * g.standard_cauchy(n)
    parameters = {"A": 1.8, "k": 0.25, "w": 4.1, "p": 0.4}
    values = {name: np.array(value) for name, value in parameters.items()}
    return values, {"t": t, "y": np.clip(y, -50, 50)}


# --- Many parameters ------------------------------------------------------------------


def softmax_arrays(columns: int, classes: int) -> Maker:
    def make(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
        Y = np.eye(classes)[g.integers(0, classes, n)]
        W = 0.05 * g.normal(size=(columns, classes))
        parameters = {"W": W, "b": 0.1 * g.normal(size=classes)}
        return parameters, {"X": g.uniform(size=(n, columns)), "Y": Y}

    return make


def softmax(m, W, b, X, Y):
    return m.cross_entropy(X @ W + b, Y)


def mixture_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    d, k = 10, 25
    parameters = {
        "alpha": 0.1 * g.normal(size=k),
        "mu": g.normal(size=(k, d)),
        "q": 0.1 * g.normal(size=(k, d)),
    }
    return parameters, {"x": g.normal(size=(n, d))}


def network_arrays(*widths: int) -> Maker:
    """tanh networks with parameters W1, b1, W2, b2, W3, b3; a last width of 1 is a
    vector."""

    def make(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
        parameters: Arrays = {}
        for k, (a, b) in enumerate(itertools.pairwise(widths), 1):
            parameters[f"W{k}"] = g.normal(size=(a, b)) / np.sqrt(a)
            parameters[f"b{k}"] = 0.1 * g.normal(size=b)
        X = (
            g.normal(size=(n, widths[0]))
            if widths[0] < 100
            else g.uniform(size=(n, widths[0]))
        )
        if widths[-1] > 1:
            return parameters, {"X": X, "Y": g.normal(size=(n, widths[-1]))}
        last = len(widths) - 1
        parameters[f"W{last}"] = parameters[f"W{last}"][:, 0]
        parameters[f"b{last}"] = parameters[f"b{last}"][0]
        return parameters, {"X": X, "y": np.sin(X[:, 0]) * X[:, 1]}

    return make


def network(m, W1, b1, W2, b2, W3, b3, X, y):
    h = m.tanh(m.tanh(X @ W1 + b1) @ W2 + b2)
    return m.mean((h @ W3 + b3 - y) ** 2)


def factors_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    """As many ratings a user and a film as in a large collection of films."""
    users, films = max(2, n // 50), max(2, n // 100)
    parameters = {
        "U": 0.3 * g.normal(size=(users, 16)),
        "V": 0.3 * g.normal(size=(films, 16)),
    }
    i, j = g.integers(0, users, n), g.integers(0, films, n)
    return parameters, {"i": i, "j": j, "r": g.normal(size=n)}


def valley_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    return {"x": g.normal(size=n)}, {}


def centres_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    return {"C": g.uniform(size=(25, 2))}, {"P": g.uniform(size=(n, 2))}


# --- The table ------------------------------------------------------------------------

SOFTMAX = """z = X @ W + b
mean(logsumexp(z, axis=1) - sum(Y*z, axis=1))"""

NETWORK = """h = tanh(tanh(X @ W1 + b1) @ W2 + b2)
mean((h @ W3 + b3 - {y})**2)"""

STANDARD = (
    Loss(
        "product", "(a*b + c)*f, scalars", "(a*b + c)*f",
        lambda m, a, b, c, f: (a * b + c) * f,
        product_arrays, 1, scalar=True, no_kernel="a call from Python is measured",
    ),
    Loss(
        "neuron", "tanh neuron, 2 samples", "mean((tanh(X @ w + b) - y)**2)",
        lambda m, w, b, X, y: m.mean((m.tanh(X @ w + b) - y) ** 2),
        neuron_arrays, 2, scalar=True, no_kernel="a call from Python is measured",
    ),
    Loss(
        "linear", "linear regression 10⁶×10", "mean((X @ w + b - y)**2)",
        lambda m, w, b, X, y: m.mean((X @ w + b - y) ** 2),
        regression_arrays(10), 1_000_000, ("glm.c", "D=10", "LINEAR"),
    ),
    Loss(
        "logistic", "logistic regression 10⁶×10", "mean(softplus(-y*(X @ w + b)))",
        lambda m, w, b, X, y: m.mean(m.softplus(-y * (X @ w + b))),
        logistic_arrays, 1_000_000, ("glm.c", "D=10", "LOGISTIC"),
    ),
    Loss(
        "peaks", "5 Gaussian peaks, 10⁶ points",
        "mean((sum(A*exp(-0.5*((x[:, None] - m)/s)**2), axis=1) - y)**2)",
        lambda n, A, m, s, x, y: n.mean(
            (n.sum(A * n.exp(-0.5 * ((x[:, None] - m) / s) ** 2), axis=1) - y) ** 2
        ),
        peaks_arrays, 1_000_000, ("peaks.c",),
    ),
    Loss(
        "wave", "Cauchy loss of a damped cosine, 10⁶",
        "mean(log1p((y - A*exp(-k*t)*cos(w*t + p))**2))",
        lambda m, A, k, w, p, t, y: m.mean(
            m.log1p((y - A * m.exp(-k * t) * m.cos(w * t + p)) ** 2)
        ),
        wave_arrays, 1_000_000, ("wave.c",),
    ),
    Loss(
        "poisson", "Poisson regression 10⁶×20",
        "z = X @ w + b\nmean(exp(z) - y*z)",
        lambda m, w, b, X, y: m.mean(m.exp(X @ w + b) - y * (X @ w + b)),
        poisson_arrays, 1_000_000, ("glm.c", "D=20", "POISSON"),
    ),
    Loss(
        "softmax", "softmax regression 20 000×784×10", SOFTMAX, softmax,
        softmax_arrays(784, 10), 20_000, ("softmax.c",),
    ),
    Loss(
        "mixture", "Gaussian mixture (diagonal) 20 000×10, K=25",
        "z = (x[:, None, :] - mu)*exp(q)\n"
        "s = logsumexp(alpha + sum(q, axis=1) - 0.5*sum(z**2, axis=2), axis=1)\n"
        "len(x)*logsumexp(alpha) - sum(s)",
        lambda m, alpha, mu, q, x: len(x) * m.logsumexp(alpha, axis=0) - m.sum(
            m.logsumexp(
                alpha + m.sum(q, axis=1)
                - 0.5 * m.sum(((x[:, None, :] - mu) * m.exp(q)) ** 2, axis=2),
                axis=1,
            )
        ),
        mixture_arrays, 20_000, ("mixture.c",),
    ),
    Loss(
        "network", "network 2-16-16-1, 10⁴ rows", NETWORK.format(y="y"), network,
        network_arrays(2, 16, 16, 1), 10_000, ("network.c",),
    ),
    Loss(
        "wide", "network 784-128-128-10, 10⁴ rows", NETWORK.format(y="Y"),
        lambda m, Y, **others: network(m, **others, y=Y),
        network_arrays(784, 128, 128, 10), 10_000, ("wide.c",),
    ),
    Loss(
        "factors", "matrix factorisation, 5·10⁵ ratings, k=16",
        "mean((r - sum(U[i]*V[j], axis=1))**2)",
        lambda m, U, V, i, j, r: m.mean((r - m.sum(U[i] * V[j], axis=1)) ** 2),
        factors_arrays, 500_000, ("factors.c",),
    ),
    Loss(
        "rosenbrock", "Rosenbrock, 10⁶",
        "sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)",
        lambda m, x: m.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
        valley_arrays, 1_000_000, ("rosenbrock.c",),
    ),
    Loss(
        "kmeans", "k-means loss 2·10⁵×2, K=25",
        "sum(min(sum((P[:, None, :] - C)**2, axis=2), axis=1))",
        lambda m, C, P: m.sum(m.min(m.sum((P[:, None, :] - C) ** 2, axis=2), axis=1)),
        centres_arrays, 200_000, ("kmeans.c",),
    ),
)  # fmt: skip
