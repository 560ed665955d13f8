"""Logistic regression: a stable loss, mini-batches, and known weights to find again.

``softplus(-y*z)`` is -log(sigmoid(y*z)), and does not overflow for any z.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import symgrad as sg

LOSS = "mean(softplus(-y*(X @ w + b))) + 1e-4*sum(w**2)"
TRUTH = np.array([1.5, -2.0, 0.5])


def data(n: int = 5000) -> dict[str, np.ndarray]:
    """X of shape (n, 3), and labels y of shape (n,): -1 or 1, at random."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 3))
    chance = 1 / (1 + np.exp(-(X @ TRUTH - 0.7)))
    return {"X": X, "y": np.where(rng.random(n) < chance, 1.0, -1.0)}


def fit() -> Any:
    """The result of a descent on mini-batches."""
    start = {"w": np.zeros(3), "b": 0.0}
    options = {"method": "adam", "lr": 0.05, "steps": 600, "batch_size": 250, "seed": 0}
    return sg.minimize(LOSS, init=start, data=data(), **options)


def main() -> None:
    """Learn known weights back from their labels."""
    result = fit()
    print("weights", result.params["w"].round(2), "for", TRUTH)
    print("offset ", round(float(result.params["b"]), 2), "for -0.7")
    print("loss   ", round(result.fun, 4), "-", result.message)


if __name__ == "__main__":
    main()
