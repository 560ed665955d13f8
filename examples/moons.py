"""A network of two layers learns to tell two interlocked half-moons apart."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import symgrad as sg

NETWORK = """
h = tanh(X @ W1 + b1)
z = h @ w2 + b2
"""
LOSS = NETWORK + "mean(softplus(-y*z)) + 1e-4 * (sum(W1**2) + sum(w2**2))"
WIDTH = 16


def data(n: int = 400) -> dict[str, np.ndarray]:
    """Points X of shape (n, 2), and their moon y: -1 or 1."""
    rng = np.random.default_rng(6)
    angle, second = rng.uniform(0.0, np.pi, n), np.arange(n) % 2 == 1
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    X = np.where(second[:, None], [1.0, 0.5] - arc, arc)
    return {"X": X + rng.normal(0.0, 0.15, (n, 2)), "y": np.where(second, 1.0, -1.0)}


def start() -> dict[str, Any]:
    """Small random weights: equal ones would stay equal."""
    rng = np.random.default_rng(7)
    W1, w2 = rng.normal(size=(2, WIDTH)), 0.3 * rng.normal(size=WIDTH)
    return {"W1": W1, "b1": np.zeros(WIDTH), "w2": w2, "b2": 0.0}


def fit() -> Any:
    """The result of a descent on mini-batches."""
    options = {"method": "adam", "lr": 0.03, "steps": 800, "batch_size": 100, "seed": 0}
    return sg.minimize(LOSS, init=start(), data=data(), **options)


def draw(result: Any, plot: Path) -> None:
    """The probability of the second moon and the boundary; the loss by step."""
    from matplotlib.figure import Figure

    x, y = np.linspace(-1.6, 2.6, 240), np.linspace(-1.2, 1.7, 170)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    second = sg.model(NETWORK + "sigmoid(z)", wrt=list(result.params))
    p = second(X=points, **result.params).reshape(len(y), len(x))
    left, right = (figure := Figure(figsize=(11, 4.5), layout="constrained")).subplots(
        1, 2, width_ratios=(3, 2)
    )
    shades = left.contourf(x, y, p, np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.6)
    left.contour(x, y, p, [0.5], colors="black")
    X, moon = data().values()
    left.scatter(*X.T, c=moon, cmap="RdBu_r", s=14, edgecolors="white", linewidths=0.5)
    left.set_title("the boundary: where both moons are equally likely")
    figure.colorbar(shades, label="probability of the second moon")
    right.semilogy(result.history, lw=0.8)
    right.set(xlabel="step", ylabel="loss of the mini-batch", title="descent")
    figure.savefig(plot, dpi=120)


def main(plot: Path | None = None) -> None:
    """Train, and count mistakes."""
    result = fit()
    z = sg.model(NETWORK + "z", wrt=["b2"])(X=data()["X"], **result.params)
    right = (np.sign(z) == data()["y"]).mean()
    print(f"{result.x.size} parameters, {100 * right:.1f} % of the points right")
    print(result.message)
    if plot is not None:
        draw(result, plot)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="write a picture to this file")
    main(parser.parse_args().plot)
