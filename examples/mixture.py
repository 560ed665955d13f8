"""A mixture of Gaussians by maximum likelihood: a loss of several lines."""

from __future__ import annotations

import numpy as np

import symgrad as sg

LOSS = """
z = (x[:, None] - m) * exp(-s)
logp = a - logsumexp(a) - s - 0.5*z**2 - 0.5*log(2*pi)
-mean(logsumexp(logp, axis=1))
"""


def main() -> None:
    """Find three groups in a thousand numbers."""
    rng = np.random.default_rng(2)
    x = np.concatenate(
        [rng.normal(-3, 0.5, 300), rng.normal(0, 1, 500), rng.normal(4, 0.7, 200)]
    )
    start = {"a": np.zeros(3), "m": np.array([-1.0, 0.0, 1.0]), "s": np.zeros(3)}
    fit = sg.minimize(LOSS, init=start, data={"x": x}, method="lbfgs")
    weights = np.exp(fit.params["a"])
    print("weights", (weights / weights.sum()).round(2))
    print("means  ", fit.params["m"].round(2))
    print("widths ", np.exp(fit.params["s"]).round(2))
    print("loss   ", round(fit.fun, 4), "-", fit.message)


if __name__ == "__main__":
    main()
