"""Poisson regression: counts whose logarithm of the mean is linear in the inputs.

At the minimum the fitted counts balance the observed ones: sum(exp(eta) - y) = 0, and
the same weighted by each column of X. The gradient *is* that balance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import symgrad as sg

LOSS = """
eta = X @ w + b
mean(exp(eta) - y * eta)
"""
TRUTH = np.array([0.4, -0.3])


def data(n: int = 1000) -> dict[str, np.ndarray]:
    """X of shape (n, 2), and counts y of shape (n,)."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(n, 2))
    return {"X": X, "y": rng.poisson(np.exp(X @ TRUTH + 1.0)).astype(float)}


def fit() -> Any:
    """The result of the descent from zero."""
    start = {"w": np.zeros(2), "b": 0.0}
    return sg.minimize(LOSS, init=start, data=data(), method="lbfgs")


def standard_errors(params: dict[str, np.ndarray]) -> np.ndarray:
    """Of w and b, in the order of the parameters: from the curvature of the loss."""
    f = sg.compile(LOSS, wrt=["w", "b"])
    values = data()
    information = len(values["y"]) * f.hessian(**params, **values)
    return np.sqrt(np.diag(np.linalg.inv(information)))


def main() -> None:
    """Fit, with standard errors, and check the balance."""
    result = fit()
    found = np.append(result.params["w"], result.params["b"])
    rows = zip((*TRUTH, 1.0), found, standard_errors(result.params), strict=True)
    for true, value, error in rows:
        print(f"true {true:5.2f}   found {value:6.3f} ± {error:.3f}")
    X, y = data().values()
    mean = np.exp(X @ result.params["w"] + result.params["b"])
    print(f"{y.sum():.0f} events observed, {mean.sum():.3f} fitted")
    print(result.message)


if __name__ == "__main__":
    main()
