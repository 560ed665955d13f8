"""Formulas of about so many operations, in shapes that compilers find hard."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

X = np.linspace(-1.0, 1.0, 100)


class Formula(NamedTuple):
    """A loss with values for its parameters and data."""

    text: str
    parameters: dict[str, Any]
    data: dict[str, Any]


def chain(count: int) -> Formula:
    """Each line on the two before it."""
    lines = ["t0 = a*x", "t1 = b*x"]
    lines += [
        f"t{k} = tanh(t{k - 1}*a + b) - {0.1 + 1 / k}*t{k - 2}"
        for k in range(2, max(3, count // 5))
    ]
    text = "\n".join([*lines, f"mean(t{len(lines) - 1}**2)"])
    return Formula(text, {"a": 0.5, "b": 0.25}, {"x": X})


def wide(count: int) -> Formula:
    """One sum of terms that are alike."""
    terms = [f"(a*x - {k})**2*sin({k}*b)" for k in range(max(1, count // 6))]
    return Formula(f"mean({' + '.join(terms)})", {"a": 0.5, "b": 0.25}, {"x": X})


def sines(count: int) -> Formula:
    """One sum of sines of different frequencies."""
    terms = [f"sin({k + 0.5}*a*x)" for k in range(max(1, count // 4))]
    return Formula(f"mean({' + '.join(terms)})", {"a": 0.5}, {"x": X})


def nested(count: int) -> Formula:
    """One function in another."""
    depth = min(count, 9_000)  # brackets have a limit of their own
    return Formula(f"mean({'sin(' * depth}a*x{')' * depth})", {"a": 0.5}, {"x": X})


def polynomial(count: int) -> Formula:
    """Many terms in few powers."""
    terms = [
        f"{1 + k / 7:.6f}*a**{k % 9}*b**{k % 7}*x**{k % 5}"
        for k in range(max(1, count // 6))
    ]
    text = f"mean(({' + '.join(terms)} - y)**2)"
    return Formula(text, {"a": 0.5, "b": 0.25}, {"x": X, "y": X})


def parameters(count: int) -> Formula:
    """A scalar parameter for every ten operations."""
    n = max(2, count // 10)
    terms = [f"(p{k} - {k}*p{k + 1}*x)**2 + exp(-p{k}**2)" for k in range(n)]
    values = {f"p{k}": 0.1 * k / n for k in range(n + 1)}
    return Formula(f"mean({' + '.join(terms)})", values, {"x": X})


def rosenbrock(count: int) -> Formula:
    """Rosenbrock's function, written out element by element."""
    n = max(2, count // 8)
    terms = [f"100*(w[{k + 1}] - w[{k}]**2)**2 + (1 - w[{k}])**2" for k in range(n)]
    return Formula(" + ".join(terms), {"w": np.linspace(0.0, 1.0, n + 1)}, {})


_LINES = (
    "sin({0}) + {1}", "{0}*{1}/(1 + {2}**2)", "tanh({0} - {1})", "cos({0})*{2}",
    "{0} - 0.5*{1}", "exp(-{0}**2)",
)  # fmt: skip


def network(count: int) -> Formula:
    """Lines of random operations on random earlier lines."""
    rng = random.Random(5)
    lines = ["t0 = a*x", "t1 = b + x", "t2 = c*x"]
    for k in range(3, max(4, count // 2)):
        used = (f"t{rng.randrange(max(0, k - 50), k)}" for _ in range(3))
        lines.append(f"t{k} = {rng.choice(_LINES).format(*used)}")
    last = len(lines) - 1
    text = "\n".join([*lines, f"mean(t{last}**2 + t{last - 1})"])
    return Formula(text, {"a": 0.5, "b": 0.25, "c": 0.1}, {"x": X})


SHAPES: dict[str, Callable[[int], Formula]] = {
    "chain": chain,
    "wide": wide,
    "sines": sines,
    "nested": nested,
    "polynomial": polynomial,
    "parameters": parameters,
    "rosenbrock": rosenbrock,
    "network": network,
}
