"""Errors in bits beyond the condition, of values and derivatives, against mpmath.

An error is measured in units of roundoff, 2**-53 relative to the value or to the
*condition* of the value, whichever is larger: how much it changes, relative to the
change, when an input changes. Bits lost are log2 of that, at least 0 and at most 53.
Less than the smallest normal number is no error: underflow to 0 is right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from symgrad import api, graph
from symgrad.codegen.operations import native
from symgrad.differentiate import gradient
from symgrad.graph import Array, Node
from symgrad.interpret import evaluate, evaluate_exact
from symgrad.schedule.legalise import legalise
from symgrad.simplify import simplify

WORST = 53.0
"""Bits that can be lost: all."""
DIGITS = 640
"""Of the reference: 1 - sigmoid(800) needs 350, (x + 1) - x as many as x has."""
CHANGE = mpmath.mpf(10) ** -(DIGITS // 2)
PLAIN = ("canonicalise", "specialise")
STABLE = ("canonicalise", "stabilise", "specialise")

Values = Mapping[str, np.ndarray]


def bits_lost(found: Any, exact: Any, condition: Any = 0.0) -> np.ndarray:
    """Bits lost by each element; ``condition`` is |x * df/dx|, absolute."""
    found, exact, condition = np.broadcast_arrays(
        np.asarray(found, float), exact, condition
    )
    result = np.zeros(found.shape)
    for at in np.ndindex(found.shape):
        result[at] = _bits(float(found[at]), exact[at], condition[at])
    return result


def _bits(found: float, exact: Any, condition: Any) -> float:
    right = float(exact)
    if not math.isfinite(right) or not math.isfinite(found):
        same = found == right or (math.isnan(found) and math.isnan(right))
        return 0.0 if same else WORST
    error = abs(mpmath.mpf(found) - exact)
    size = max(abs(exact), abs(condition))
    unit = max(size * mpmath.mpf(2) ** -53, mpmath.mpf(2) ** -1022)
    return min(WORST, float(mpmath.log(max(error / unit, 1), 2)))


def spread(interval: tuple[float, float], size: Any, rng: Any) -> np.ndarray:
    """Values of all magnitudes of an interval; of both signs if it contains 0."""
    low, high = interval
    if low > 0:
        return np.exp(rng.uniform(math.log(low), math.log(high), size))
    if high < 0:
        return -spread((-high, -low), size, rng)
    if low == 0:
        return spread((min(1e-12, high / 2), high), size, rng)
    return spread((high * 1e-9, high), size, rng) * rng.choice([-1.0, 1.0], size)


def exact_with_condition(
    roots: Sequence[Node], values: Values, lengths: Mapping[str, int] | None = None
) -> tuple[list[Any], list[Any]]:
    """Exact values of the roots, and of each the sum of |x * df/dx| over the inputs."""
    exact = evaluate_exact(roots, values, lengths, DIGITS)
    conditions = [np.zeros(e.shape, object) for e in exact]
    with mpmath.workdps(DIGITS):
        grow = np.frompyfunc(lambda x: mpmath.mpf(x) * (1 + CHANGE), 1, 1)
        for name, array in values.items():
            if np.asarray(array).dtype.kind != "f":
                continue
            moved = {**values, name: np.asarray(grow(np.asarray(array, object)))}
            other = evaluate_exact(roots, moved, lengths, DIGITS)
            for k, (one, two) in enumerate(zip(exact, other, strict=True)):
                conditions[k] = conditions[k] + _response(one, two)
    return exact, conditions


def _response(one: Any, two: Any) -> Any:
    def response(a: Any, b: Any) -> Any:
        if not (mpmath.isfinite(a) and mpmath.isfinite(b)):
            return mpmath.mpf(0)
        return abs((b - a) / CHANGE)

    return np.frompyfunc(response, 2, 1)(one, two)


# --------------------------------------------------------------------------------------
# Expressions
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Formula:
    """One expression, elementwise in its variables, or with ``rows`` of each.

    at: the interval of each variable, of which all magnitudes are sampled; parameters
    are all of them. source: the collection that the formula is from.
    """

    name: str
    text: str
    source: str
    at: Mapping[str, tuple[float, float]]
    rows: int = 0  # each sample is a vector of so many elements, reduced by the text


def formulas(rows: Sequence[tuple[Any, ...]]) -> list[Formula]:
    """Rows (name, source, text, intervals, and perhaps elements) as formulas."""
    return [Formula(name, text, source, at, *n) for name, source, text, at, *n in rows]


@dataclass(frozen=True)
class Measured:
    """Bits lost, for the value and the derivatives, before and after rewriting."""

    value: tuple[np.ndarray, np.ndarray]
    slopes: tuple[np.ndarray, np.ndarray]


def samples(formula: Formula, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """``count`` values of each variable, the same ones at every run."""
    rng = np.random.default_rng([seed, *formula.text.encode()])
    shape = (count, formula.rows) if formula.rows else (count,)
    return {name: spread(interval, shape, rng) for name, interval in formula.at.items()}


def graph_of(formula: Formula, values: Values) -> tuple[Any, Any]:
    """The expression as it was written, with what knows its lengths."""
    model = api.model(formula.text, wrt=list(values))
    found, _ = model._prepare(values)
    return found, found.built.value


def nodes(formula: Formula, values: Values, stages: Sequence[str]) -> list[Node]:
    """The value and its derivatives by all variables, after the stages, as tensors."""
    found, written = graph_of(formula, values)
    body = graph.to_float(written.body)
    root = graph.array(written.indices, body) if written.indices else body
    (root,) = simplify([root], stages).roots
    inner = root.body if isinstance(root, Array) else root
    over = root.indices if isinstance(root, Array) else ()
    total = graph.reduce_("sum", over, inner)
    slopes = gradient(total, found.parameters)
    return list(simplify([root, *slopes], stages).roots)


def measure(formula: Formula, count: int, seed: int = 0) -> Measured:
    """Bits lost by what a kernel would compute, in float64 by the interpreter, without
    and with stable forms."""
    values = samples(formula, count, seed)
    plain = nodes(formula, values, ())
    exact, condition = exact_with_condition(plain, values)
    lost = []
    for stages in (PLAIN, STABLE):
        rewritten = legalise(nodes(formula, values, stages), native())
        found = evaluate(rewritten, values)
        known = [
            np.where(_defined(e), bits_lost(f, e, c), 0.0)
            for f, e, c in zip(found, exact, condition, strict=True)
        ]
        lost.append((known[0], np.concatenate([np.ravel(k) for k in known[1:]])))
    (v1, s1), (v2, s2) = lost
    return Measured((v1, v2), (s1, s2))


def _defined(exact: Any) -> Any:
    """Where the true value is a double: not nan, nor out of range."""
    with np.errstate(all="ignore"):
        return np.isfinite(np.asarray(exact, float))


def worst(lost: np.ndarray) -> float:
    """The most bits that a sample loses."""
    return float(lost.max(initial=0.0))
