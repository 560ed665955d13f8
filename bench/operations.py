"""Operations of loss and gradient: simplified by symgrad, and written by hand.

    python bench/operations.py

For each standard loss, the loss with its gradient as symgrad simplifies them, beside
the textbook's formulas for the same gradients, typed in the language of losses with
intermediate results named and used again. Both are counted as graphs in the same way:
an operation counts once for every value of its free indices (1000 rows), what is shared
counts once, a sum counts one addition per term.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from symgrad import graph
from symgrad.differentiate import gradient
from symgrad.graph import FLOAT, Call, Node, Reduce, Scatter
from symgrad.language.build import InputSpec, build
from symgrad.language.dims import default_static
from symgrad.language.parser import parse_text
from symgrad.simplify import Simplifier
from symgrad.simplify.cost import times

_FREE = ("cast", "stop_gradient")


@dataclass(frozen=True)
class Standard:
    """A loss, and what a person would write for its gradients.

    steps: assignments that loss and gradients share. gradients: by parameter.
    """

    steps: str
    loss: str
    gradients: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    integers: tuple[str, ...] = ()


ROWS = 1000

LOSSES = {
    "linear": Standard(
        "r = X @ w + b - y",
        "sum(r**2)/len(y)",
        {"w": "2/len(y)*(r @ X)", "b": "2/len(y)*sum(r)"},
        {"w": (10,), "b": (), "X": (ROWS, 10), "y": (ROWS,)},
    ),
    "logistic": Standard(
        "z = -y*(X @ w + b)\ns = y*sigmoid(z)",
        "sum(softplus(z))/len(y)",
        {"w": "-(s @ X)/len(y)", "b": "-sum(s)/len(y)"},
        {"w": (10,), "b": (), "X": (ROWS, 10), "y": (ROWS,)},
    ),
    "peaks": Standard(
        "u = (x[:, None] - m)/s\nE = exp(-u**2)\nr = E @ a - y\n"
        "q = r[:, None]*E*u",
        "sum(r**2)/len(y)",
        {
            "a": "2/len(y)*(r @ E)",
            "m": "4/len(y)*a/s*sum(q, axis=0)",
            "s": "4/len(y)*a/s*sum(q*u, axis=0)",
        },
        {"a": (5,), "m": (5,), "s": (5,), "x": (ROWS,), "y": (ROWS,)},
    ),
    "cauchy": Standard(
        "E = exp(-b*t)\nC = cos(c*t + d)\nr = y - a*E*C\nv = r/s\n"
        "g = r/(1 + v**2)\nh = g*E*C\nk = g*E*sin(c*t + d)\nf = 2/(s*s*len(y))",
        "sum(log(1 + v**2))/len(y)",
        {
            "a": "-f*sum(h)",
            "b": "f*a*sum(h*t)",
            "c": "f*a*sum(k*t)",
            "d": "f*a*sum(k)",
        },
        {"a": (), "b": (), "c": (), "d": (), "s": (), "t": (ROWS,), "y": (ROWS,)},
    ),
    "poisson": Standard(
        "z = X @ w\ne1 = exp(z)",
        "sum(e1 - y*z)/len(y)",
        {"w": "((e1 - y) @ X)/len(y)"},
        {"w": (20,), "X": (ROWS, 20), "y": (ROWS,)},
    ),
    "softmax regression": Standard(
        "z = X @ W + b\nl = logsumexp(z, axis=1)\np = exp(z - l[:, None]) - Y",
        "sum(l - sum(Y*z, axis=1))/len(X)",
        {"W": "(X.T @ p)/len(X)", "b": "sum(p, axis=0)/len(X)"},
        {"W": (30, 10), "b": (10,), "X": (ROWS, 30), "Y": (ROWS, 10)},
    ),
    "mixture": Standard(
        "s = exp(q)\nz = (x[:, None, :] - mu)*s\n"
        "u = alpha + sum(q, axis=1) - 0.5*sum(z**2, axis=2)\n"
        "l = logsumexp(u, axis=1)\np = exp(u - l[:, None])\nv = p[:, :, None]*z\n"
        "t = sum(p, axis=0)",
        "-sum(l)",
        {
            "alpha": "-t",
            "mu": "-s*sum(v, axis=0)",
            "q": "sum(v*z, axis=0) - t[:, None]",
        },
        {"alpha": (25,), "mu": (25, 10), "q": (25, 10), "x": (ROWS, 10)},
    ),
    "network": Standard(
        "h1 = tanh(X @ W1 + b1)\nh2 = tanh(h1 @ W2 + b2)\nr = h2 @ w3 + b3 - y\n"
        "f = 2/len(y)\nd2 = r[:, None]*w3*(1 - h2**2)\nd1 = (d2 @ W2.T)*(1 - h1**2)",
        "sum(r**2)/len(y)",
        {
            "W1": "f*(X.T @ d1)",
            "b1": "f*sum(d1, axis=0)",
            "W2": "f*(h1.T @ d2)",
            "b2": "f*sum(d2, axis=0)",
            "w3": "f*(r @ h2)",
            "b3": "f*sum(r)",
        },
        {
            "W1": (2, 16), "b1": (16,), "W2": (16, 16), "b2": (16,), "w3": (16,),
            "b3": (), "X": (ROWS, 2), "y": (ROWS,),
        },
    ),
    "k-means": Standard(
        "D = sum((P[:, None, :] - C)**2, axis=2)\nm = min(D, axis=1)\n"
        "k = where(D == m[:, None], 1.0, 0.0)\nn = k/sum(k, axis=1)[:, None]",
        "sum(m)",
        {"C": "-2*sum(n[:, :, None]*(P[:, None, :] - C), axis=0)"},
        {"C": (25, 2), "P": (ROWS, 2)},
    ),
}  # fmt: skip
"""Losses whose gradients the language can say."""

# Gradients that scatter have no formula in the language. What they take by hand is
# counted: text, parameters, shapes, names of integer data, operations.
COUNTED = {
    "factorisation": (
        "mean((sum(U[i]*V[j], axis=1) - y)**2)",
        ("U", "V"),
        {"U": (90, 16), "V": (80, 16), "i": (ROWS,), "j": (ROWS,), "y": (ROWS,)},
        ("i", "j"),
        # per rating: products and sums of the dot product, residual, its square and
        # sum, 2/n times it; per factor and side a product and an addition
        ROWS * (2 * 16 + 4 + 2 * 2 * 16) + 2,
    ),
    "rosenbrock": (
        "sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)",
        ("x",),
        {"x": (ROWS,)},
        (),
        # per term: x², u = y - x², v = 1 - x, 100 u², + v², the sum; gradients 200 u
        # and -400 u x - 2 v, each added
        ROWS * (3 + 2 + 2 + 1 + 1 + 5 + 2),
    ),
}


def graphs(
    text: str, shapes: dict[str, tuple[int, ...]], wrt: tuple[str, ...], integers: Any
) -> Any:
    """A formula as built for arrays of these shapes."""
    specs = {
        name: InputSpec(
            name,
            shape,
            graph.INT if name in integers else FLOAT,
            name in wrt,
            default_static(shape, name in wrt),
        )
        for name, shape in shapes.items()
    }
    return build(parse_text(text), specs)


def operations(roots: list[Node]) -> float:
    """How many operations ``roots`` take, at 1000 for every run-time length."""
    total = 0.0
    for node in graph.walk(roots):
        if isinstance(node, Call) and node.type == FLOAT and node.op not in _FREE:
            total += times(node.free)
        elif isinstance(node, Reduce):
            total += times({*node.free, *node.indices})
        elif isinstance(node, Scatter):
            total += times(node.over)
    return total


def ours(
    text: str, wrt: tuple[str, ...], shapes: dict[str, tuple[int, ...]], integers: Any
) -> list[Node]:
    """Loss and gradients as symgrad compiles them."""
    built = graphs(text, shapes, wrt, integers)
    parameters = [built.inputs[name] for name in wrt]
    simplifier = Simplifier(varying=parameters)
    first = simplifier([built.value.body], ("canonicalise", "stabilise")).roots[0]
    return list(simplifier([first, *gradient(first, parameters)]).roots)


def by_hand(standard: Standard) -> list[Node]:
    """The loss and the typed gradients, with powers multiplied out and no more."""
    wrt = tuple(standard.gradients)
    roots: list[Node] = []
    for text in (standard.loss, *standard.gradients.values()):
        program = f"{standard.steps}\n{text}"
        value = graphs(program, standard.shapes, wrt, standard.integers).value
        body = graph.to_float(value.body)
        roots.append(graph.array(value.indices, body) if value.indices else body)
    steps = Simplifier()
    return list(steps(roots, ("canonicalise",)).roots)


def counts() -> dict[str, tuple[float, float]]:
    """Operations of each standard loss and its gradient: ours, and by hand."""
    found: dict[str, tuple[float, float]] = {}
    for name, standard in LOSSES.items():
        text, wrt = f"{standard.steps}\n{standard.loss}", tuple(standard.gradients)
        mine = operations(ours(text, wrt, standard.shapes, standard.integers))
        found[name] = mine, operations(by_hand(standard))
    for name, (text, wrt, shapes, integers, hand) in COUNTED.items():
        found[name] = operations(ours(text, wrt, shapes, integers)), float(hand)
    return found


def main() -> None:
    """Print the table."""
    print("| loss and gradient | symgrad | by hand | ratio |")
    print("| --- | --- | --- | --- |")
    found = counts()
    for name, (mine, hand) in found.items():
        print(f"| {name} | {mine:.0f} | {hand:.0f} | {mine / hand:.3f} |")
    mean = float(np.exp(np.mean([np.log(a / b) for a, b in found.values()])))
    print(f"| geometric mean | | | {mean:.3f} |")


if __name__ == "__main__":
    main()
