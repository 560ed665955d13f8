"""One tanh neuron with two inputs: one sample, two samples, mini-batches.

By hand, with z = w1*x1 + w2*x2 + b, p = tanh(z) and L = (p - y)**2:

    dL/dp = 2*(p - y)    dp/dz = 1 - p**2    dz/db = 1    dz/dw1 = x1    dz/dw2 = x2

and the chain rule multiplies along the way: dL/db = 2*(p - y)*(1 - p**2), and
dL/dw1 = dL/db * x1.
"""

from __future__ import annotations

import numpy as np

import symgrad as sg

ONE = "(tanh(w1*x1 + w2*x2 + b) - y)**2"
ALL = "sum((tanh(X @ w + b) - y)**2)"
MEAN = "mean((tanh(X @ w + b) - y)**2)"
START = {"w1": 0.5, "w2": -0.25, "b": 0.1}


def samples(n: int) -> tuple[np.ndarray, np.ndarray]:
    """``n`` points of shape (n, 2), and what a neuron that we forget says of them."""
    X = np.random.default_rng(3).normal(size=(n, 2))
    return X, np.tanh(X @ [1.5, -0.8] + 0.3)


def one_sample(x: np.ndarray, y: float) -> dict[str, float]:
    """The gradient for one sample: every quantity is a number."""
    f = sg.compile(ONE, wrt=["w1", "w2", "b"])
    gradient = f.grad(**START, x1=x[0], x2=x[1], y=y)
    for name, formula in f.gradient.items():
        print(f"dL/d{name:2} = {formula}\n      = {gradient[name]:.6f}")
    return {name: float(g) for name, g in gradient.items()}


def main() -> None:
    """Gradients of one and two samples; then learn from 200, 20 at a time."""
    X, y = samples(200)
    print("One sample")
    first = one_sample(X[0], y[0])
    print("\nAnother sample")
    second = one_sample(X[1], y[1])

    print("\nBoth at once: the loss is a sum, so the gradients add")
    start = {"w": np.array([START["w1"], START["w2"]]), "b": START["b"]}
    f = sg.compile(ALL, wrt=["w", "b"])
    both = f.grad(**start, X=X[:2], y=y[:2])
    print(f"dL/db = {f.gradient['b']}")
    print(f"{first['b']:.6f} + {second['b']:.6f} = {both['b']:.6f}")

    print("\nA mini-batch: 20 of 200 rows stand for all of them")
    f = sg.compile(MEAN, wrt=["w", "b"])
    print(f"all rows  dL/db = {f.grad(**start, X=X, y=y)['b']:.4f}")
    for rows in np.split(np.arange(200), 10)[:3]:
        part = f.grad(**start, X=X[rows], y=y[rows])["b"]
        print(f"rows {rows[0]:3} to {rows[-1]:3}   {part:.4f}")

    options = {"method": "gd", "lr": 0.5, "steps": 400, "batch_size": 20, "seed": 0}
    fit = sg.minimize(f, init=start, data={"X": X, "y": y}, **options)
    print(f"\nlearned w = {fit.params['w'].round(3)}, b = {fit.params['b']:.3f}")
    print(fit.message)


if __name__ == "__main__":
    main()
