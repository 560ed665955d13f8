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
    # a series at 0, or in more than one variable
    "expq3": "the poles of two reciprocals of expm1",
    "sintan": "a quotient of two differences that vanish",
    "compound interest": "the parts of the derivative of a power by its exponent",
    "Student t density": "a difference of lgamma",
    "Student t by lgamma": "a difference of lgamma",
    "beta density": "a difference of lgamma",
    "negative binomial density": "a difference of lgamma, and k/m - (r + k)/(r + m)",
    "Dirichlet-multinomial": "a difference of lgamma",
    "negative binomial": "k/m - (r + k)/(r + m)",
    "continuous compounding": "r - log1p(r) in a difference of exponentials",
    "three roots": "a second difference",
    "Bose minus classical": "a difference of exponentials over another",
    "KL of Bernoullis": "a second difference",
    "law of cosines": "1 - cos beside a square",
    # parts of a derivative that nearly agree
    "Given's rotation": "1/r - x**2/r**3 through a scaled hypot",
    "unit vector": "1/r - x**2/r**3 through a norm",
    "cosine distance": "1/r - x**2/r**3 through a norm",
    "cosine similarity, huge": "1/r - x**2/r**3 through a norm",
    "complex modulus difference": "1/r - 1/s of two moduli",
    "sigmoid difference": "a second difference, in two cases",
    "clustering probabilities": "p - q of weights that nearly agree",
    "softmax variance": "a weighted mean of squares less the square of the mean",
    "attention": "p*(v - mean) where p is nearly 1",
    "softmax entropy": "p*log(p) where p is nearly 1",
    "softmax entropy, wide": "p*log(p) where p is nearly 1",
    "softmax cross-entropy, soft labels": "p*(1 - y) where p is nearly 1",
    "log softmax of three": "1 - p where p is nearly 1",
    "correlation": "a quotient of sums of products",
    "slope of a regression": "a quotient of sums of products",
    "coefficient of variation": "a quotient of sums of products",
    "standardised": "a quotient of sums of products",
    "skewness numerator": "cubes of differences from the mean",
    "hazard of a normal": "2*x*erfcx(x) - 2/sqrt(pi)",
    "Huber, smooth": "three parts of a derivative that nearly agree",
    "Einstein heat capacity": "the square of sinh",
    "Goldman": "two exponentials of one sign",
    "binomial deviance": "parts of a derivative that nearly agree",
    "log mean": "the logarithm of a quotient near 1",
    "generalised mean": "a logarithm of a sum that is nearly 1",
    "log-mean-exp": "a logarithm of a sum that is nearly 1",
    "log ratio of sums": "a logarithm of a quotient near 1",
    "skew normal": "a logarithm of a product near 1",
    "Cauchy distribution": "1/2 + atan(x)/pi with a rounded pi",
    # overflow outside of logarithms and lengths
    "Lambert W step": "the square of a divisor",
    "complex division, real": "squares",
    "quadratic, huge b": "squares",
    "x/(x**2 + 1)": "squares",
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
    assert len(names) == len(set(names)) >= 390
    assert set(OPEN) <= set(names)
    assert len(OPEN) <= 0.12 * len(names)


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
