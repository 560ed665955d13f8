"""Errors in bits, of values and derivatives, with the condition taken into account."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np

WORST = 53.0
"""Bits that can be lost: all."""


def bits_lost(found: Any, exact: Any) -> float:
    """The largest error of a value, in bits: log2 of the error in units of roundoff.

    0 for correct rounding, 53 for no correct bit, or nan and inf that are not true.
    """
    pairs = zip(np.ravel(found).tolist(), np.ravel(exact).tolist(), strict=True)
    return max((_bits(one, other) for one, other in pairs), default=0.0)


def _bits(found: float, exact: Any) -> float:
    right = float(exact)
    if not math.isfinite(right) or not math.isfinite(found):
        same = found == right or (math.isnan(found) and math.isnan(right))
        return 0.0 if same else WORST
    error = abs(mpmath.mpf(found) - exact)
    unit = max(abs(right) * 2.0**-53, 5e-324)
    relative = float(error / unit)
    return min(WORST, math.log2(max(1.0, relative)))
