"""Standard errors of the parameters of a least-squares fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

WORST_CONDITION = 1e14
"""Of JᵀJ with columns of length 1: beyond it the parameters are not told apart."""


def standard_errors(
    model: str,
    parameters: Mapping[str, Any],
    data: Mapping[str, Vector],
    residuals: Vector,
) -> dict[str, Vector] | None:
    """The standard error of each parameter, shaped as it is; None where unknown.

    The square roots of the diagonal of s²(JᵀJ)⁻¹, with J the Jacobian of the model at
    the fit and s² = r·r/(n - p) for n residuals r and p parameters: right for a model
    that is nearly linear over the errors, and independent errors of equal variance.
    Unknown are they for n ≤ p, and where the parameters are not told apart.

    Source: Seber & Wild, Nonlinear Regression (1989), section 2.1.2.
    """
    from symgrad.api import model as compiled

    values = {name: np.asarray(v, np.float64) for name, v in parameters.items()}
    count = sum(v.size for v in values.values())
    if residuals.size <= count:
        return None
    found = compiled(model, wrt=list(values))
    shape = np.shape(found(**values, **data))
    if shape not in ((), residuals.shape):
        return None
    # A model without data predicts the same for every row.
    rows = 1 if shape == residuals.shape else residuals.size
    spread = _diagonal(rows * found.gauss_newton(**values, **data).hess)
    if spread is None:
        return None
    errors = np.sqrt(np.sum(residuals**2) / (residuals.size - count) * spread)
    parts = np.split(errors, np.cumsum([v.size for v in values.values()])[:-1])
    pairs = zip(values.items(), parts, strict=True)
    return {name: part.reshape(v.shape) for (name, v), part in pairs}


def _diagonal(matrix: Vector) -> Vector | None:
    """The diagonal of the inverse of JᵀJ; None where it is singular."""
    lengths = np.sqrt(np.diag(matrix))
    if not (np.isfinite(matrix).all() and (lengths > 0.0).all()):
        return None
    scaled = matrix / np.outer(lengths, lengths)
    if np.linalg.cond(scaled) > WORST_CONDITION:
        return None
    return np.diag(np.linalg.inv(scaled)) / lengths**2
