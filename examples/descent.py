"""Descent W <- W - lr*G: too small a learning rate, a good one, and two too large.

The loss is a parabola with second derivative 2 here. A step multiplies the distance to
the minimum by 1 - 2*lr: nearly 1 if lr is small, negative above 0.5 (W jumps across the
minimum), beyond -1 above 1 (each jump is longer than the last).
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

import symgrad as sg

LOSS = "mean((W*x - y)**2)"
DATA = {"x": np.array([-1.0, 1.0, -1.0, 1.0]), "y": np.array([-1.5, 2.5, -2.5, 1.5])}
START = -1.0  # the minimum is at 2
RATES = {"slow": 0.01, "converging": 0.2, "oscillating": 0.95, "diverging": 1.05}
SHOWN = 8  # steps drawn of each path


def descend(lr: float) -> tuple[np.ndarray, Any]:
    """W at the start and after every step, and the result of the descent."""
    path = [START]
    result = sg.minimize(
        LOSS,
        init={"W": START},
        data=DATA,
        method="gd",
        lr=lr,
        steps=100,
        callback=lambda step: path.append(float(step.params["W"])),
    )
    return np.array(path), result


def draw(runs: dict[str, tuple[np.ndarray, Any]], plot: Path) -> None:
    """Each path on the parabola, with its message; below, the loss by step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8), layout="constrained")
    panels = figure.subplot_mosaic([[*RATES], ["loss"] * 4], height_ratios=(3, 2))
    f = sg.compile(LOSS, wrt=["W"])
    grid = np.linspace(-5.0, 9.0, 200)
    curve = [f(W=w, **DATA) for w in grid]
    for name, (path, result) in runs.items():
        shown = path[: SHOWN + 1]
        panels[name].plot(grid, curve, color="0.7")
        heights = [f(W=w, **DATA) for w in shown]
        panels[name].plot(shown, heights, ".-", lw=1, color="C3")
        title = f"{name}: lr = {RATES[name]:g}, first {SHOWN} steps"
        panels[name].set_title(title, fontsize=10)
        panels[name].set_ylim(-2, 46)
        panels[name].set_xlabel("W\n\n" + textwrap.fill(result.message, 44), fontsize=9)
        panels["loss"].semilogy(result.history, label=f"{name}, lr = {RATES[name]:g}")
    panels["slow"].set_ylabel("loss")
    panels["loss"].set(xlabel="step", ylabel="loss", ylim=(0.2, 1e4), xlim=(0, 100))
    panels["loss"].legend(frameon=False)
    figure.savefig(plot, dpi=120)


def main(plot: Path | None = None) -> None:
    """Descend four times from the same start, and print the advice."""
    runs = {name: descend(lr) for name, lr in RATES.items()}
    for name, (path, result) in runs.items():
        print(f"{name}, lr = {RATES[name]:g}: W =", path[:5].round(3), "...")
        print(f"    {result.message}")
    if plot is not None:
        draw(runs, plot)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="write a picture to this file")
    main(parser.parse_args().plot)
