"""The update rules: one row, one optimizer.

A row is a formula for one parameter, the values that it needs once a step, the amount
of state that it keeps, and its options with their defaults. The formulas are written
with operators, so that they run on numbers and NumPy arrays (the definition, for tests
and readers) as well as on emitted values: ``loops.py`` puts them into compiled loops,
and a new optimizer is a new row here and nothing else. Semantics and defaults are those
of ``torch.optim``, except the default learning rate: ours is 0.01 for every rule, as a
run makes 1000 full-batch steps by default and Adam at torch's 0.001 could move no
parameter further than about 1.

    begin(scalars, options, lr) -> scalars, coefficients    once a step
    update(x, g, slots, coefficients) -> x, slots           for each parameter

    x, g          a parameter and its component of the gradient
    slots         the rule's memory of this parameter
    scalars       the rule's memory of the run
    options       the row's options, flat, in their order
    lr            the learning rate of this step
    coefficients  what ``begin`` hands to ``update``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from symgrad.codegen.math_lanes import Lanes

Number = Any
"""A float, a NumPy array, or an emitted value (``Lanes``)."""
Numbers = tuple[Number, ...]
Begin = Callable[[Numbers, Numbers, Number], tuple[Numbers, Numbers]]
Update = Callable[[Number, Number, Numbers, Numbers], tuple[Number, Numbers]]

_LEAST_POWER = 1e-300
"""Powers of beta stop here: 1 - power is 1 long before, and subnormal numbers are slow
on some processors."""


def _sqrt(a: Number) -> Number:
    return a.sqrt() if isinstance(a, Lanes) else np.sqrt(a)


def _at_least(a: Number, limit: float) -> Number:
    return a.at_least(limit) if isinstance(a, Lanes) else np.maximum(a, limit)


# ------------------------------------------------------------------------- the formulas


def _rate(scalars: Numbers, options: Numbers, lr: Number) -> tuple[Numbers, Numbers]:
    """The learning rate, then the options."""
    return scalars, (lr, *options)


def descend_gradient(
    x: Number, g: Number, slots: Numbers, coefficients: Numbers
) -> tuple[Number, Numbers]:
    (lr,) = coefficients
    return x - lr * g, ()


def heavy_ball(
    x: Number, g: Number, slots: Numbers, coefficients: Numbers
) -> tuple[Number, Numbers]:
    lr, momentum = coefficients
    velocity = momentum * slots[0] + g
    return x - lr * velocity, (velocity,)


def nesterov(
    x: Number, g: Number, slots: Numbers, coefficients: Numbers
) -> tuple[Number, Numbers]:
    lr, momentum = coefficients
    velocity = momentum * slots[0] + g
    return x - lr * (g + momentum * velocity), (velocity,)


def rmsprop(
    x: Number, g: Number, slots: Numbers, coefficients: Numbers
) -> tuple[Number, Numbers]:
    lr, alpha, epsilon = coefficients
    square = alpha * slots[0] + (1.0 - alpha) * g * g
    return x - lr * g / (_sqrt(square) + epsilon), (square,)


def _bias_corrected(
    scalars: Numbers, options: Numbers, lr: Number
) -> tuple[Numbers, Numbers]:
    """Running powers of beta: a call of pow would cost more than the rest of a step.

    The bias correction of the root is moved to the rate and to epsilon.
    """
    beta1, beta2, epsilon, decay = options
    power1 = _at_least(scalars[0] * beta1, _LEAST_POWER)
    power2 = _at_least(scalars[1] * beta2, _LEAST_POWER)
    root = _sqrt(1.0 - power2)
    rate = lr * root / (1.0 - power1)
    return (power1, power2), (rate, epsilon * root, beta1, beta2, decay, lr)


def _adam_step(
    x: Number, g: Number, slots: Numbers, coefficients: Numbers
) -> tuple[Number, Numbers]:
    """x after Adam's step without decay, from the moments of ``g``."""
    rate, floor, beta1, beta2, _, _ = coefficients
    mean = slots[0] + (1.0 - beta1) * (g - slots[0])
    square = beta2 * slots[1] + (1.0 - beta2) * g * g
    return x - rate * mean / (_sqrt(square) + floor), (mean, square)


def adam(
    x: Number, g: Number, slots: Numbers, coefficients: Numbers
) -> tuple[Number, Numbers]:
    """Weight decay joins the gradient: ``g + decay * x``."""
    decay = coefficients[4]
    return _adam_step(x, g + decay * x, slots, coefficients)


def adamw(
    x: Number, g: Number, slots: Numbers, coefficients: Numbers
) -> tuple[Number, Numbers]:
    """Weight decay acts on the parameters, not on the gradient's moments."""
    decay, lr = coefficients[4:]
    return _adam_step(x * (1.0 - lr * decay), g, slots, coefficients)


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
    begin: Begin = _rate
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

    @property
    def option_count(self) -> int:
        """The length of the flat options."""
        return self.flat_options({}).size


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
            begin=_bias_corrected,
            cite="Kingma and Ba, arXiv:1412.6980; torch.optim.Adam",
            scalars=(1.0, 1.0),
            options={**_BETAS, "weight_decay": 0.0},
        ),
        Rule(
            "adamw",
            adamw,
            slots=2,
            begin=_bias_corrected,
            cite="Loshchilov and Hutter, arXiv:1711.05101; torch.optim.AdamW",
            scalars=(1.0, 1.0),
            options={**_BETAS, "weight_decay": 0.01},
        ),
    )
}
