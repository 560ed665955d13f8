"""Carbon dioxide at Mauna Loa: a trend and a seasonal cycle, by least squares."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

import symgrad as sg

RECORD = Path(__file__).parent / "data" / "co2.csv"
MODEL = "a + b*t + c*t**2 + s*sin(2*pi*t) + k*cos(2*pi*t)"


def read_record() -> dict[str, np.ndarray]:
    """Years since 1980, and ppm."""
    with RECORD.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in ("t", "co2")}


def main() -> None:
    """Fit, and say what was found."""
    data = read_record()
    start = {"a": 300.0, "b": 1.0, "c": 0.0, "s": 0.0, "k": 0.0}
    fit = sg.minimize(
        f"mean((co2 - ({MODEL}))**2)", init=start, data=data, method="lbfgs"
    )
    p = {name: float(value) for name, value in fit.params.items()}
    print(f"{len(data['t'])} weeks, {fit.nit} iterations: {fit.message}")
    print(f"level in 1980      {p['a']:8.3f} ppm")
    print(f"growth in 1980     {p['b']:8.3f} ppm a year")
    print(f"acceleration       {2 * p['c']:8.4f} ppm a year, each year")
    print(f"seasonal amplitude {np.hypot(p['s'], p['k']):8.3f} ppm")
    print(f"typical residual   {np.sqrt(fit.fun):8.3f} ppm")

    growth = sg.model("b + 2*c*t", wrt=["b", "c"])
    years = np.array([-20.0, 0.0, 20.0])
    print("growth in 1960, 1980, 2000:", growth(b=p["b"], c=p["c"], t=years).round(2))


if __name__ == "__main__":
    main()
