"""The chained Rosenbrock valley with SciPy's solvers, gradient and Hessian products.

Slices in the loss become gathers in the kernel and scatters in its gradient.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize

import symgrad as sg

LOSS = "sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)"


def main() -> None:
    """Descend from -1 everywhere to the minimum at 1 everywhere."""
    objective = sg.compile(LOSS, wrt=["x"]).bind()
    start = objective.pack({"x": np.full(50, -1.0)})
    quasi = scipy.optimize.minimize(
        objective.value_and_grad, start, jac=True, method="BFGS"
    )
    newton = scipy.optimize.minimize(
        objective.value_and_grad,
        start,
        jac=True,
        hessp=objective.hvp,
        method="Newton-CG",
    )
    for name, found in (("BFGS", quasi), ("Newton-CG", newton)):
        print(f"{name:10} {found.nit:4} iterations, loss {found.fun:.2e}")


if __name__ == "__main__":
    main()
