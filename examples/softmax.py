"""Softmax regression: three classes, cross-entropy, and where its gradient comes from.

With p the scores of a row and k its class, the loss is logsumexp(p) - p[k], and its
derivative by the scores is softmax(p) - onehot(k): predicted minus observed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import symgrad as sg

LOSS = """
p = X @ W + b
mean(logsumexp(p, axis=1) - sum(Y * p, axis=1)) + 1e-3 * sum(W**2)
"""
CENTRES = np.array([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
COLOURS = np.array([[0.90, 0.60, 0.00], [0.34, 0.71, 0.91], [0.00, 0.62, 0.45]])


def data(n: int = 450) -> dict[str, np.ndarray]:
    """Points X (n, 2) around three centres, and their classes Y (n, 3), one-hot."""
    rng = np.random.default_rng(1)
    k = rng.integers(0, 3, n)
    return {"X": CENTRES[k] + rng.normal(size=(n, 2)), "Y": np.eye(3)[k]}


def fit() -> Any:
    """The result of the descent from zero."""
    start = {"W": np.zeros((2, 3)), "b": np.zeros(3)}
    return sg.minimize(LOSS, init=start, data=data(), method="lbfgs")


def draw(params: dict[str, np.ndarray], plot: Path) -> None:
    """The points, over the probability of the likeliest class."""
    from matplotlib.figure import Figure

    grid = np.linspace(-5, 5, 200)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    softmax = sg.model("softmax(X @ W + b, axis=1)", wrt=["W", "b"])
    p = softmax(X=points, **params).reshape(200, 200, 3)
    X, Y = data().values()
    axes = (figure := Figure(figsize=(6, 6), layout="constrained")).subplots()
    axes.imshow(0.5 + 0.5 * p @ COLOURS, extent=(-5, 5, -5, 5), origin="lower")
    axes.scatter(*X.T, c=0.75 * Y @ COLOURS, s=14, edgecolors="white", linewidths=0.4)
    axes.set(xlim=(-5, 5), ylim=(-5, 5), xlabel="X[:, 0]", ylabel="X[:, 1]")
    axes.set_title("three classes: the colours mix as the probabilities do")
    figure.savefig(plot, dpi=120)


def main(plot: Path | None = None) -> None:
    """Fit, and count mistakes."""
    result = fit()
    X, Y = data().values()
    scores = X @ result.params["W"] + result.params["b"]
    right = (scores.argmax(axis=1) == Y.argmax(axis=1)).mean()
    print("weights", *result.params["W"].round(3), sep="\n  ")
    print(f"loss {result.fun:.4f}, {100 * right:.1f} % of the points right")
    print(result.message)
    if plot is not None:
        draw(result.params, plot)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="write a picture to this file")
    main(parser.parse_args().plot)
