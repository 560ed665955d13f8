"""Losses and shapes that are not on the standard list: nobody tunes a kernel to them.

There is no C for these: the array libraries are what they are compared with.
"""

from __future__ import annotations

import numpy as np

from bench.comparison.losses import (
    NETWORK,
    SOFTMAX,
    Arrays,
    Loss,
    Maker,
    network,
    network_arrays,
    regression_arrays,
    softmax,
    softmax_arrays,
)


def decay_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    t = np.linspace(0.0, 5.0, n)
    values = {"a": np.array(2.1), "b": np.array(0.8), "c": np.array(0.4)}
    return values, {"t": t, "y": 2 * np.exp(-0.7 * t) + 0.5 + 0.1 * g.normal(size=n)}


def grid_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    return {"u": g.normal(size=(n, n))}, {"f": g.normal(size=(n - 2, n - 2))}


def form_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    return {"v": g.normal(size=n)}, {"K": g.normal(size=(n, n)), "y": g.normal(size=n)}


def counts_arrays(columns: int) -> Maker:
    def make(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
        parameters, data = regression_arrays(columns, 0.1)(g, n)
        y = g.poisson(2.0, n).astype(float)
        return {**parameters, "r": np.array(0.3)}, {**data, "y": y}

    return make


def positive_arrays(columns: int) -> Maker:
    def make(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
        parameters, data = regression_arrays(columns, 0.1)(g, n)
        return parameters, {**data, "y": g.gamma(2.0, 1.0, n) + 0.01}

    return make


def kernel_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    x = g.normal(size=(n, 3))
    return {"s": np.array(0.2), "v": g.normal(size=n)}, {"x": x, "y": g.normal(size=n)}


def cox_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    X = g.normal(size=(n, 8))
    events = (g.uniform(size=n) < 0.3).astype(float)
    return {"w": 0.3 * g.normal(size=8)}, {"X": X, "e": events}


def components_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    return {"W": 0.3 * g.normal(size=(32, 4))}, {"X": g.normal(size=(n, 32))}


def trend_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    y = np.cumsum(g.normal(size=n))
    return {"u": y + 0.1 * g.normal(size=n)}, {"y": y}


def groups_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    parameters, data = regression_arrays(6, 0.3)(g, n)
    parameters["a"] = 0.1 * g.normal(size=200)
    del parameters["b"]
    return parameters, {**data, "i": g.integers(0, 200, n)}


def correlation_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    return regression_arrays(5)(g, n)


def attention_arrays(g: np.random.Generator, n: int) -> tuple[Arrays, Arrays]:
    d, keys = 16, 64
    parameters = {"K": 0.3 * g.normal(size=(keys, d)), "V": g.normal(size=(keys, d))}
    return parameters, {"Q": g.normal(size=(n, d)), "Y": g.normal(size=(n, d))}


def attention(m, K, V, Q, Y):
    S = Q @ K.T
    P = m.exp(S - m.logsumexp(S, axis=1)[:, None])
    return m.mean((P @ V - Y) ** 2)


def huber(m, w, b, X, y):
    r = m.abs(X @ w + b - y)
    return m.mean(m.where(r < 1, 0.5 * r**2, r - 0.5))


def negative_binomial(m, w, b, r, X, y):
    k, z = m.exp(r), X @ w + b
    return m.mean(
        (y + k) * m.logaddexp(z, r) - y * z - k * r - m.lgamma(y + k) + m.lgamma(k)
    )


def correlation(m, w, b, X, y):
    p = m.tanh(X @ w + b)
    u, v = p - m.mean(p), y - m.mean(y)
    return -m.sum(u * v) / m.sqrt(m.sum(u**2) * m.sum(v**2))


MORE = (
    Loss(
        "huber", "Huber regression 10⁶×7",
        "r = abs(X @ w + b - y)\nmean(where(r < 1, 0.5*r**2, r - 0.5))",
        huber, regression_arrays(7), 1_000_000,
    ),
    Loss(
        "student", "Student t likelihood 10⁵×13",
        "mean(log1p((X @ w + b - y)**2*exp(-2*s)/4)*2.5 + s)",
        lambda m, w, b, s, X, y: m.mean(
            m.log1p((X @ w + b - y) ** 2 * m.exp(-2 * s) / 4) * 2.5 + s
        ),
        lambda g, n: (
            (pd := regression_arrays(13)(g, n))[0] | {"s": np.array(0.2)}, pd[1]
        ),
        100_000,
    ),
    Loss(
        "elastic", "elastic net 10⁵×50",
        "mean((X @ w + b - y)**2) + 0.1*sum(w**2) + 0.1*sum(abs(w))",
        lambda m, w, b, X, y: m.mean((X @ w + b - y) ** 2)
        + 0.1 * m.sum(w**2) + 0.1 * m.sum(m.abs(w)),
        regression_arrays(50), 100_000,
    ),
    Loss(
        "gamma", "gamma regression 10⁶×4",
        "z = X @ w + b\nmean(y*exp(-z) + z)",
        lambda m, w, b, X, y: m.mean(y * m.exp(-(X @ w + b)) + (X @ w + b)),
        positive_arrays(4), 1_000_000,
    ),
    Loss(
        "negative binomial", "negative binomial 10⁵×8",
        "k = exp(r)\nz = X @ w + b\n"
        "mean((y + k)*logaddexp(z, r) - y*z - k*r - lgamma(y + k) + lgamma(k))",
        negative_binomial, counts_arrays(8), 100_000,
    ),
    Loss(
        "decay", "exponential decay, 10⁵ points", "mean((a*exp(-b*t) + c - y)**2)",
        lambda m, a, b, c, t, y: m.mean((a * m.exp(-b * t) + c - y) ** 2),
        decay_arrays, 100_000,
    ),
    Loss(
        "small decay", "exponential decay, 1 000 points",
        "mean((a*exp(-b*t) + c - y)**2)",
        lambda m, a, b, c, t, y: m.mean((a * m.exp(-b * t) + c - y) ** 2),
        decay_arrays, 1000,
    ),
    Loss(
        "classes", "softmax regression 10⁵×20×5", SOFTMAX, softmax,
        softmax_arrays(20, 5), 100_000,
    ),
    Loss(
        "pixels", "softmax regression 5 000×300×40", SOFTMAX, softmax,
        softmax_arrays(300, 40), 5000,
    ),
    Loss(
        "kernel", "Gaussian kernel energy, n=2 000",
        "D = sum((x[:, None, :] - x[None, :, :])**2, axis=2)\n"
        "mean((exp(-s**2*D) @ v - y)**2)",
        lambda m, s, v, x, y: m.mean(
            (m.exp(-(s**2) * m.sum((x[:, None, :] - x[None, :, :]) ** 2, axis=2)) @ v
             - y) ** 2
        ),
        kernel_arrays, 2000,
    ),
    Loss(
        "cox", "Cox-like, logsumexp over 10⁶ rows",
        "z = X @ w\nsum(e)*logsumexp(z) - sum(e*z)",
        lambda m, w, X, e: m.sum(e) * m.logsumexp(X @ w, axis=0) - m.sum(e * (X @ w)),
        cox_arrays, 1_000_000,
    ),
    Loss(
        "components", "reconstruction 10⁵×32, 4 components",
        "mean((X - X @ W @ W.T)**2)",
        lambda m, W, X: m.mean((X - X @ W @ W.T) ** 2),
        components_arrays, 100_000,
    ),
    Loss(
        "small network", "network 5-32-8-1, 1 000 rows", NETWORK.format(y="y"), network,
        network_arrays(5, 32, 8, 1), 1000,
    ),
    Loss(
        "relu network", "relu network 20-64-64-1, 10⁴ rows",
        "h = relu(relu(X @ W1 + b1) @ W2 + b2)\nmean((h @ W3 + b3 - y)**2)",
        lambda m, W1, b1, W2, b2, W3, b3, X, y: m.mean(
            (m.relu(m.relu(X @ W1 + b1) @ W2 + b2) @ W3 + b3 - y) ** 2
        ),
        network_arrays(20, 64, 64, 1), 10_000,
    ),
    Loss(
        "trend", "second differences, 10⁶",
        "sum((u - y)**2) + 10*sum((u[2:] - 2*u[1:-1] + u[:-2])**2)",
        lambda m, u, y: m.sum((u - y) ** 2)
        + 10 * m.sum((u[2:] - 2 * u[1:-1] + u[:-2]) ** 2),
        trend_arrays, 1_000_000,
    ),
    Loss(
        "groups", "group effects, 10⁶×6, 200 groups",
        "mean((y - a[i] - X @ w)**2) + sum(a**2)",
        lambda m, w, a, X, y, i: m.mean((y - a[i] - X @ w) ** 2) + m.sum(a**2),
        groups_arrays, 1_000_000,
    ),
    Loss(
        "correlation", "correlation of tanh(X@w+b) 10⁵×5",
        "p = tanh(X @ w + b)\nu = p - mean(p)\nv = y - mean(y)\n"
        "-sum(u*v)/sqrt(sum(u**2)*sum(v**2))",
        correlation, correlation_arrays, 100_000,
    ),
    Loss(
        "attention", "attention of 2 000 queries to 64 keys, d=16",
        "S = Q @ K.T\nP = exp(S - logsumexp(S, axis=1)[:, None])\nmean((P @ V - Y)**2)",
        attention, attention_arrays, 2000,
    ),
    Loss(
        "ridge", "ridge regression 5 000×1 000",
        "mean((y - X @ w - b)**2) + 0.01*sum(w**2)",
        lambda m, w, b, X, y: m.mean((y - X @ w - b) ** 2) + 0.01 * m.sum(w**2),
        regression_arrays(1000, 0.1), 5000,
    ),
    Loss(
        "form", "quadratic form, n=2 000", "v @ (K @ v) - 2*sum(v*y)",
        lambda m, v, K, y: m.sum(v * (K @ v)) - 2 * m.sum(v * y), form_arrays, 2000,
    ),
    Loss(
        "grid", "Poisson equation on a grid of 1 000²",
        "sum((4*u[1:-1, 1:-1] - u[:-2, 1:-1] - u[2:, 1:-1] - u[1:-1, :-2]"
        " - u[1:-1, 2:] - f)**2)",
        lambda m, u, f: m.sum(
            (
                4 * u[1:-1, 1:-1] - u[:-2, 1:-1] - u[2:, 1:-1] - u[1:-1, :-2]
                - u[1:-1, 2:] - f
            ) ** 2
        ),
        grid_arrays, 1000,
    ),
)  # fmt: skip
