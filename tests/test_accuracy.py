"""The accuracy table: at most 4 bits beyond the condition, and not worse than before.

Fewer samples than ``bench/accuracy.py``, which writes docs/accuracy.md; a part of the
expressions is also run through compiled kernels.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from accuracy_expressions import FORMULAS
from accuracy_measure import (
    Formula,
    Measured,
    bits_lost,
    exact_with_condition,
    measure,
    nodes,
    samples,
    worst,
)

import symgrad as sg

LIMIT = 4.0
SAMPLES = 6
OPEN = {
    "expq3": "a difference of two reciprocals of expm1, by h",
    "qlog": "the two parts of a quotient's derivative nearly agree",
    "invcot": "a series at 0",
    "sintan": "a series at 0",
    "bug 500": "a series at 0",
    "Given's rotation": "1/r - x**2/r**3 through a scaled hypot",
    "compound interest": "the two parts of a quotient's derivative nearly agree",
    "sinh(x)/x": "the two parts of a quotient's derivative nearly agree",
    "softmax, first": "p*(1 - p) where p is nearly 1",
    "cross-entropy": "logsumexp(z) - z[k] where z[k] is far above the others",
    "cross-entropy of softmax": "as cross-entropy",
    "attention": "p*(v - mean) where p is nearly 1",
    "unit vector": "1/r - x**2/r**3 through a norm",
    "negative binomial": "k/m - (r + k)/(r + m)",
    "Student t": "log1p(z) - z/(1 + z)",
    "(1 + 1/n)**n": "log1p(1/n) - 1/(n + 1)",
    "Langevin": "a series at 0",
    "Debye": "the two parts of a quotient's derivative nearly agree",
}
"""What is known to lose more, and why. The rest must not."""


@functools.cache
def measured(formula_name: str) -> Measured:
    return measure(by_name(formula_name), SAMPLES)


def by_name(name: str) -> Formula:
    (found,) = (f for f in FORMULAS if f.name == name)
    return found


def test_table_is_long_enough_and_names_differ():
    names = [f.name for f in FORMULAS]
    assert len(names) == len(set(names)) >= 200
    assert set(OPEN) <= set(names)
    assert len(OPEN) <= 0.1 * len(names)


@pytest.mark.parametrize("name", [f.name for f in FORMULAS if f.name not in OPEN])
def test_digits(name):
    found = measured(name)
    assert worst(found.value[1]) <= LIMIT
    assert worst(found.slopes[1]) <= LIMIT
    for before, after in (found.value, found.slopes):
        assert float((after - before).max()) <= 2.5


def test_mean_is_not_worse():
    found = [measured(f.name) for f in FORMULAS if f.name not in OPEN]
    for kind in ("value", "slopes"):
        before, after = (
            np.mean([getattr(m, kind)[k].mean() for m in found]) for k in (0, 1)
        )
        assert after < before / 4


COMPILED = (
    "2sqrt", "3frac", "2sin", "cos2", "exp2", "quadp", "hyperbolic tangent",
    "inverse hyperbolic sine", "log of sum of exp", "cross-entropy by exp",
    "tanh from sigmoid", "sigmoid slope", "log-cosh loss", "zero-inflated Poisson",
    "logsumexp", "variance by squares", "binomial", "normal by product", "probit",
    "log of a normal tail", "log(exp(x) - exp(y))",
)  # fmt: skip


@pytest.mark.parametrize("name", COMPILED)
def test_digits_of_kernels(name):
    formula = by_name(name)
    values = samples(formula, 5)
    roots = nodes(formula, values, ())
    exact, condition = exact_with_condition(roots, values)
    f = sg.model(formula.text, wrt=list(values))
    total = sg.compile(_summed(formula.text), wrt=list(values))
    got = [f(**values), *total.grad(**values).values()]
    for mine, true, scale in zip(got, exact, condition, strict=True):
        assert worst(bits_lost(mine, true, scale)) <= LIMIT + 1


def _summed(text: str) -> str:
    *lines, last = text.split("\n")
    return "\n".join([*lines, f"sum({last})"])
