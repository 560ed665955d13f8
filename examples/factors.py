"""Matrix factorisation: guess the ratings that nobody gave, from those that are known.

Row i of U describes a person, row j of V a film, their product a rating. ``U[i]`` is a
gather; in the gradient it becomes a scatter: each rating adds to the rows it used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import symgrad as sg

LOSS = """
error = sum(U[i] * V[j], axis=1) - r
mean(error**2) + 1e-3 * (mean(U**2) + mean(V**2))
"""
PEOPLE, FILMS, RANK = 60, 40, 3


def ratings(n: int = 1500) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """``n`` known ratings r of film j by person i, and 300 others to test on."""
    rng = np.random.default_rng(8)
    chosen = rng.choice(PEOPLE * FILMS, n + 300, replace=False)
    i, j = np.divmod(chosen, FILMS)
    U, V = rng.normal(size=(PEOPLE, RANK)), rng.normal(size=(FILMS, RANK))
    r = np.sum(U[i] * V[j], axis=1) + rng.normal(0.0, 0.05, n + 300)
    names = {"i": i, "j": j, "r": r}
    known = {name: values[:n] for name, values in names.items()}
    return known, {name: values[n:] for name, values in names.items()}


def start() -> dict[str, np.ndarray]:
    """Small random factors."""
    rng = np.random.default_rng(9)
    shapes = {"U": (PEOPLE, RANK), "V": (FILMS, RANK)}
    return {name: 0.3 * rng.normal(size=shape) for name, shape in shapes.items()}


def fit() -> Any:
    """The result of the descent on the known ratings."""
    return sg.minimize(LOSS, start(), ratings()[0], method="lbfgs", steps=500)


def main() -> None:
    """Fit, and say how well unknown ratings are guessed."""
    result = fit()
    U, V = result.params["U"], result.params["V"]
    for name, table in zip(("known", "unknown"), ratings(), strict=True):
        guess = np.sum(U[table["i"]] * V[table["j"]], axis=1)
        error = np.sqrt(np.mean((guess - table["r"]) ** 2))
        print(f"{name:8} ratings: spread {table['r'].std():.2f}, error {error:.3f}")
    print(result.message)


if __name__ == "__main__":
    main()
