"""The stage *stabilise*: forms that lose digits become forms that do not.

    stable_algebra.py   sums as terms, polynomials and fractions
    stable_step.py      what a row is: a Step that knows where it matters
    stable_sums.py      sums and differences
    stable_logs.py      logarithms and exponentials
    stable_ratios.py    quotients, roots and powers
    stable_series.py    quotients and differences that vanish at 0

Every row is a Step of kind STABLE: equal as real numbers wherever its left side is
defined, and measurably more accurate somewhere; a few are REAL, which other rows need.
Rows are tried in this order at every node, arguments first.
"""

from __future__ import annotations

from symgrad.simplify.stable_logs import LOGS, ZERO_TIMES_LOG
from symgrad.simplify.stable_ratios import POWER_NEAR_ONE, RATIOS
from symgrad.simplify.stable_series import SERIES
from symgrad.simplify.stable_step import Stable
from symgrad.simplify.stable_sums import SUMS

STABILISE: tuple[Stable, ...] = (*SUMS, *LOGS, *RATIOS, *SERIES)

LATE: tuple[Stable, ...] = (ZERO_TIMES_LOG, POWER_NEAR_ONE)
"""For the stage *specialise*: they hide logarithms and powers from the other rows."""
