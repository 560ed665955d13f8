"""The update rules: one row, one optimizer.

A row is an ``update`` in plain Python over indexable memory, the amount of state that
it keeps, and its options with their defaults. Loops call an update by the address of
its compiled form (``loops.update_address``), so a new optimizer is a new row here and
nothing else. Semantics and defaults are those of ``torch.optim``, except the default
learning rate: ours is 0.01 for every rule, as a run makes 1000 full-batch steps by
default and Adam at torch's 0.001 could move no parameter further than about 1.

An update takes ``(x, g, state, options, lr, size)``:

    x        the parameters, changed in place           (size,)
    g        the gradient at x                          (size,)
    state    ``slots`` vectors, then the ``scalars``    (slots*size + len(scalars),)
    options  the row's options, flat, in their order
    lr       the learning rate of this step
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Update = Callable[[Any, Any, Any, Any, float, int], None]


def descend_gradient(
    x: Any, g: Any, state: Any, options: Any, lr: float, size: int
) -> None:
    for i in range(size):
        x[i] -= lr * g[i]


def heavy_ball(x: Any, g: Any, state: Any, options: Any, lr: float, size: int) -> None:
    momentum = options[0]
    for i in range(size):
        velocity = momentum * state[i] + g[i]
        state[i] = velocity
        x[i] -= lr * velocity


def nesterov(x: Any, g: Any, state: Any, options: Any, lr: float, size: int) -> None:
    momentum = options[0]
    for i in range(size):
        velocity = momentum * state[i] + g[i]
        state[i] = velocity
        x[i] -= lr * (g[i] + momentum * velocity)


def rmsprop(x: Any, g: Any, state: Any, options: Any, lr: float, size: int) -> None:
    alpha, epsilon = options[0], options[1]
    for i in range(size):
        square = alpha * state[i] + (1.0 - alpha) * g[i] * g[i]
        state[i] = square
        x[i] -= lr * (g[i] / (math.sqrt(square) + epsilon))


def adam(x: Any, g: Any, state: Any, options: Any, lr: float, size: int) -> None:
    """Weight decay joins the gradient: ``g + decay * x``."""
    beta1, beta2, epsilon, decay = options[0], options[1], options[2], options[3]
    # Running powers of beta: a call of pow would cost more than the rest of a step.
    power1 = state[2 * size] * beta1
    power2 = state[2 * size + 1] * beta2
    state[2 * size] = power1
    state[2 * size + 1] = power2
    # The bias correction of the root is moved to the rate and to epsilon.
    root = math.sqrt(1.0 - power2)
    rate = lr * root / (1.0 - power1)
    floor = epsilon * root
    for i in range(size):
        slope = g[i] + decay * x[i]
        mean = state[i] + (1.0 - beta1) * (slope - state[i])
        square = beta2 * state[size + i] + (1.0 - beta2) * slope * slope
        state[i] = mean
        state[size + i] = square
        x[i] -= rate * (mean / (math.sqrt(square) + floor))


def adamw(x: Any, g: Any, state: Any, options: Any, lr: float, size: int) -> None:
    """Weight decay acts on the parameters, not on the gradient's moments."""
    beta1, beta2, epsilon, decay = options[0], options[1], options[2], options[3]
    power1 = state[2 * size] * beta1
    power2 = state[2 * size + 1] * beta2
    state[2 * size] = power1
    state[2 * size + 1] = power2
    # The bias correction of the root is moved to the rate and to epsilon.
    root = math.sqrt(1.0 - power2)
    rate = lr * root / (1.0 - power1)
    floor = epsilon * root
    for i in range(size):
        mean = state[i] + (1.0 - beta1) * (g[i] - state[i])
        square = beta2 * state[size + i] + (1.0 - beta2) * g[i] * g[i]
        state[i] = mean
        state[size + i] = square
        shrunk = x[i] * (1.0 - lr * decay)
        x[i] = shrunk - rate * (mean / (math.sqrt(square) + floor))


# ------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Rule:
    """One optimizer.

    ``stable`` gives, from the flat options, the constant c for which a learning rate
    above c/L diverges on a quadratic whose largest curvature is L; None where the
    step does not scale with the gradient.
    """

    name: str
    update: Update
    slots: int
    cite: str
    scalars: tuple[float, ...] = ()
    options: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)
    stable: Callable[[np.ndarray], float] | None = None
    lr: float = 0.01

    def new_state(self, size: int) -> np.ndarray:
        """Zeros and the initial scalars, float64 (slots*size + len(scalars),)."""
        return np.concatenate([np.zeros(self.slots * size), self.scalars])

    def flat_options(self, given: Mapping[str, Any]) -> np.ndarray:
        """The values in the order of ``options``, pairs flattened."""
        values = [np.ravel(given.get(k, v)) for k, v in self.options.items()]
        return np.concatenate([np.empty(0), *values]).astype(np.float64)


_MOMENTUM = {"momentum": 0.9}
_BETAS = {"betas": (0.9, 0.999), "eps": 1e-8}

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "gd",
            descend_gradient,
            slots=0,
            cite="Cauchy 1847; torch.optim.SGD",
            stable=lambda _: 2.0,
        ),
        Rule(
            "momentum",
            heavy_ball,
            slots=1,
            cite="Polyak 1964; torch.optim.SGD(momentum=0.9)",
            options=_MOMENTUM,
            stable=lambda o: 2.0 * (1.0 + o[0]),
        ),
        Rule(
            "nesterov",
            nesterov,
            slots=1,
            cite="Nesterov 1983; torch.optim.SGD(momentum=0.9, nesterov=True)",
            options=_MOMENTUM,
            stable=lambda o: 2.0 * (1.0 + o[0]) / (1.0 + 2.0 * o[0]),
        ),
        Rule(
            "rmsprop",
            rmsprop,
            slots=1,
            cite="Tieleman and Hinton 2012; torch.optim.RMSprop",
            options={"alpha": 0.99, "eps": 1e-8},
        ),
        Rule(
            "adam",
            adam,
            slots=2,
            cite="Kingma and Ba, arXiv:1412.6980; torch.optim.Adam",
            scalars=(1.0, 1.0),
            options={**_BETAS, "weight_decay": 0.0},
        ),
        Rule(
            "adamw",
            adamw,
            slots=2,
            cite="Loshchilov and Hutter, arXiv:1711.05101; torch.optim.AdamW",
            scalars=(1.0, 1.0),
            options={**_BETAS, "weight_decay": 0.01},
        ),
    )
}
