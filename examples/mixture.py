"""A mixture of Gaussians by maximum likelihood: a loss of several lines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import symgrad as sg

LOGP = """
z = (x[:, None] - m) * exp(-s)
logp = a - logsumexp(a) - s - 0.5*z**2 - 0.5*log(2*pi)
"""
LOSS = LOGP + "-mean(logsumexp(logp, axis=1))"


def data() -> dict[str, np.ndarray]:
    """A thousand numbers from three groups."""
    rng = np.random.default_rng(2)
    groups = ((-3.0, 0.5, 300), (0.0, 1.0, 500), (4.0, 0.7, 200))
    return {"x": np.concatenate([rng.normal(*group) for group in groups])}


def fit() -> Any:
    """The result of the descent from three groups of one width."""
    start = {"a": np.zeros(3), "m": np.array([-1.0, 0.0, 1.0]), "s": np.zeros(3)}
    return sg.minimize(LOSS, init=start, data=data(), method="lbfgs")


def draw(params: dict[str, np.ndarray], plot: Path) -> None:
    """The histogram of the numbers, the density of each group, and their sum."""
    from matplotlib.figure import Figure

    x = np.linspace(-6.0, 7.0, 400)
    density = sg.model(LOGP + "exp(logp)", wrt=["a", "m", "s"])(x=x, **params)
    axes = (figure := Figure(figsize=(8, 4.5), layout="constrained")).subplots()
    axes.hist(data()["x"], 60, density=True, color="0.85")
    axes.plot(x, density, lw=1)
    axes.plot(x, density.sum(axis=1), "k", lw=1.5, label="mixture")
    axes.set(xlabel="x", ylabel="density")
    axes.legend(frameon=False)
    figure.savefig(plot, dpi=120)


def main(plot: Path | None = None) -> None:
    """Find the three groups."""
    result = fit()
    weights = np.exp(result.params["a"])
    print("weights", (weights / weights.sum()).round(2))
    print("means  ", result.params["m"].round(2))
    print("widths ", np.exp(result.params["s"]).round(2))
    print("loss   ", round(result.fun, 4), "-", result.message)
    if plot is not None:
        draw(result.params, plot)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="write a picture to this file")
    main(parser.parse_args().plot)
