"""A line through points of which every seventh is wrong: squares against Cauchy.

A square hands each point an adjoint that grows with its residual r; log(1 + r**2)
hands on 2*r/(1 + r**2), which fades for the wildest points.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import symgrad as sg

SQUARES = "mean((a + b*x - y)**2)"
CAUCHY = "mean(log(1 + ((a + b*x - y)/s)**2))"
TRUTH = {"a": 1.0, "b": 0.5}


def data(n: int = 70) -> dict[str, np.ndarray]:
    """x and y of shape (n,); s, the width of the honest noise, is a number."""
    rng = np.random.default_rng(5)
    x = np.linspace(0.0, 10.0, n)
    y = TRUTH["a"] + TRUTH["b"] * x + rng.normal(0.0, 0.2, n)
    y[::7] += rng.uniform(2.0, 9.0, len(y[::7]))
    return {"x": x, "y": y, "s": np.array(0.2)}


def fit(loss: str) -> dict[str, float]:
    """a and b of the line that minimises ``loss``."""
    known = data()
    if loss is SQUARES:
        del known["s"]
    start = {"a": 0.0, "b": 0.0}
    result = sg.minimize(loss, init=start, data=known, method="lbfgs")
    return {name: float(value) for name, value in result.params.items()}


def draw(lines: dict[str, dict[str, float]], plot: Path) -> None:
    """The points and the lines."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(8, 5), layout="constrained")).subplots()
    x, y, _ = data().values()
    axes.plot(x, y, ".", color="0.4", label="data")
    for name, p in lines.items():
        style = "k:" if name == "truth" else "-"
        text = f"{name}: {p['a']:.2f} + {p['b']:.2f} x"
        axes.plot(x, p["a"] + p["b"] * x, style, label=text)
    axes.set(xlabel="x", ylabel="y", title="every seventh point is wrong")
    axes.legend(frameon=False)
    figure.savefig(plot, dpi=120)


def main(plot: Path | None = None) -> None:
    """Fit both, compare with the truth."""
    lines = {"truth": TRUTH, "squares": fit(SQUARES), "Cauchy": fit(CAUCHY)}
    for name, p in lines.items():
        print(f"{name:8} y = {p['a']:.3f} + {p['b']:.3f} x")
    if plot is not None:
        draw(lines, plot)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="write a picture to this file")
    main(parser.parse_args().plot)
