"""Carbon dioxide at Mauna Loa: a trend and a seasonal cycle, by least squares."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np

import symgrad as sg

RECORD = Path(__file__).parent / "data" / "co2.csv"
MODEL = "a + b*t + c*t**2 + s*sin(2*pi*t) + k*cos(2*pi*t)"
LOSS = f"mean((co2 - ({MODEL}))**2)"


def data() -> dict[str, np.ndarray]:
    """Years since 1980, and ppm."""
    with RECORD.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in ("t", "co2")}


def fit() -> Any:
    """The result of the descent from a rough guess."""
    start = {"a": 300.0, "b": 1.0, "c": 0.0, "s": 0.0, "k": 0.0}
    return sg.minimize(LOSS, init=start, data=data(), method="lbfgs")


def draw(params: dict[str, np.ndarray], plot: Path) -> None:
    """The record, the fit and the residuals."""
    from matplotlib.figure import Figure

    t, co2 = data().values()
    fitted = sg.model(MODEL, wrt=list(params))(t=t, **params)
    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    above.plot(1980 + t, co2, ".", ms=2, label="weekly means")
    above.plot(1980 + t, fitted, lw=0.8, label="trend and season")
    above.set_ylabel("CO2 in ppm")
    above.legend(frameon=False)
    below.plot(1980 + t, co2 - fitted, ".", ms=2)
    below.set(xlabel="year", ylabel="residual")
    figure.savefig(plot, dpi=120)


def main(plot: Path | None = None) -> None:
    """Fit, and say what was found."""
    result = fit()
    p = {name: float(value) for name, value in result.params.items()}
    print(f"{len(data()['t'])} weeks, {result.nit} iterations: {result.message}")
    print(f"level in 1980      {p['a']:8.3f} ppm")
    print(f"growth in 1980     {p['b']:8.3f} ppm a year")
    print(f"acceleration       {2 * p['c']:8.4f} ppm a year, each year")
    print(f"seasonal amplitude {np.hypot(p['s'], p['k']):8.3f} ppm")
    print(f"typical residual   {np.sqrt(result.fun):8.3f} ppm")
    growth = sg.model("b + 2*c*t", wrt=["b", "c"])
    years = np.array([-20.0, 0.0, 20.0])
    print("growth in 1960, 1980, 2000:", growth(b=p["b"], c=p["c"], t=years).round(2))
    if plot is not None:
        draw(result.params, plot)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="write a picture to this file")
    main(parser.parse_args().plot)
