"""The lesson on one expression: forward, backward, update of L = (a*b + c)*f.

The forward pass computes e = a*b, then d = e + c, then L = d*f. The backward pass goes
back through the same three steps and gives every node its adjoint: how much L grows
for each unit by which that node grows.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import symgrad as sg
from symgrad.commands.explain import graph

LOSS = "e = a*b\nd = e + c\nd*f"
STEPS = {"e": ("a*b", "ab"), "d": ("e + c", "ec"), "L": ("d*f", "df")}
VALUES = {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0}


def forward(values: dict[str, float]) -> dict[str, float]:
    """The value of every node, inputs first."""
    values = dict(values)
    for name, (formula, inputs) in STEPS.items():
        step = sg.compile(formula, wrt=list(inputs))
        values[name] = step(**{i: values[i] for i in inputs})
    return values


def backward() -> dict[str, Any]:
    """The adjoint of every node as a formula, by the chain rule, from L to the inputs.

    A step knows only the derivatives of its own formula. It multiplies the adjoint that
    it is given by each of them, and hands the products on to its inputs.
    """
    adjoints: dict[str, Any] = {"L": 1}
    for name, (formula, inputs) in reversed(STEPS.items()):
        step = sg.compile(formula, wrt=list(inputs), shapes=dict.fromkeys(inputs, ()))
        for i in inputs:
            adjoints[i] = adjoints.get(i, 0) + adjoints[name] * step.gradient[i]
    return adjoints


def main(plot: Path | None = None) -> None:
    """Print each node with its value and adjoint; then take one step downhill."""
    values, adjoints = forward(VALUES), backward()
    print("node        value   adjoint")
    for name, value in values.items():
        formula = STEPS[name][0] if name in STEPS else ""
        number = float(adjoints[name].subs(values)) if name != "L" else 1.0
        print(f"{name:1} {formula:8} {value:5g} {number:9g}  = {adjoints[name]}")

    print("\nThe same by one compiled function:")
    f = sg.compile(LOSS, wrt=["a", "b", "c", "f"])
    loss, gradient = f.value_and_grad(**VALUES)
    print("L =", loss, {name: float(g) for name, g in gradient.items()})
    print("\n" + graph(LOSS, list(VALUES), VALUES))

    moved = {name: VALUES[name] - 0.01 * float(gradient[name]) for name in VALUES}
    print(f"\nAfter one step against the gradient, lr = 0.01: L = {f(**moved):.6f}")
    if plot is not None:
        sg.draw(f, **VALUES).save(plot)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="write a drawing to this .svg file")
    main(parser.parse_args().plot)
