"""Linear regression: from one number per name to arrays, and the normal equations."""

from __future__ import annotations

import numpy as np

import symgrad as sg

LOSS = "mean((X @ w + b - y)**2)"
TRUTH = np.array([1.5, -2.0, 0.5])


def data(n: int = 400) -> dict[str, np.ndarray]:
    """X of shape (n, 3), and y of shape (n,): a plane with noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    return {"X": X, "y": X @ TRUTH + 0.7 + rng.normal(0, 0.1, n)}


def fit(method: str = "lbfgs", **options: object) -> dict[str, np.ndarray]:
    """The parameters found by descent from zero."""
    start = {"w": np.zeros(3), "b": 0.0}
    result = sg.minimize(LOSS, init=start, data=data(), method=method, **options)
    print(f"{method:5} w = {result.params['w'].round(4)}, b = {result.params['b']:.4f}")
    print(f"      {result.message}")
    return result.params


def main() -> None:
    """Two descents, and linear algebra without any."""
    fit("gd", lr=0.3)
    fit("lbfgs")
    X, y = data().values()
    exact = np.linalg.lstsq(np.c_[X, np.ones(len(X))], y, rcond=None)[0]
    print(f"exact w = {exact[:3].round(4)}, b = {exact[3]:.4f}")


if __name__ == "__main__":
    main()
