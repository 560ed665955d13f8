"""Logistic regression: a stable loss, mini-batches, and a check of the gradient."""

from __future__ import annotations

import numpy as np

import symgrad as sg


def main() -> None:
    """Learn known weights back from their labels."""
    rng = np.random.default_rng(1)
    truth = np.array([1.5, -2.0, 0.5])
    X = rng.normal(size=(5000, 3))
    y = np.where(rng.random(5000) < 1 / (1 + np.exp(-(X @ truth - 0.7))), 1.0, -1.0)

    fit = sg.minimize(
        "mean(softplus(-y*(X @ w + b))) + 1e-4*sum(w**2)",
        init={"w": np.zeros(3), "b": 0.0},
        data={"X": X, "y": y},
        method="adam",
        lr=0.05,
        steps=600,
        batch_size=250,
        seed=0,
    )
    print("weights", fit.params["w"].round(2), "for", truth)
    print("offset ", round(float(fit.params["b"]), 2), "for -0.7")
    print("loss   ", round(fit.fun, 4), "-", fit.message)


if __name__ == "__main__":
    main()
