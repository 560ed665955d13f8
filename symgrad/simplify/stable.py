"""The stage *stabilise*: forms that lose digits become forms that do not.

    stable_terms.py         sums as terms
    stable_algebra.py       polynomials
    stable_fractions.py     fractions, and differences in which something cancels
    stable_step.py          what a row is: a Step that knows where it matters
    stable_differences.py   one function at two places, or and a constant
    stable_variance.py      variances and covariances
    stable_sums.py          other sums and differences; the table of them all
    stable_exponentials.py  sums of exponentials, shifted
    stable_logsumexp.py     their logarithms
    stable_products.py      logarithms of products
    stable_logs.py          other logarithms, exponentials; the table of them all
    stable_logistic.py      quotients of exponentials
    stable_ratios.py        other quotients, roots and powers; the table of them all
    stable_series.py        quotients and differences that vanish at 0
    stable_corners.py       zero times infinity

Every row is a Step of kind STABLE: equal as real numbers wherever its left side is
defined, and measurably more accurate somewhere; a few are REAL, which other rows need.
Rows are tried in this order at every node, arguments first.
"""

from __future__ import annotations

from symgrad.simplify.stable_corners import ZERO_TIMES_LOG
from symgrad.simplify.stable_logs import LOGS
from symgrad.simplify.stable_ratios import POWER_NEAR_ONE, RATIOS
from symgrad.simplify.stable_series import SERIES
from symgrad.simplify.stable_step import Stable
from symgrad.simplify.stable_sums import SUMS

STABILISE: tuple[Stable, ...] = (*SUMS, *LOGS, *RATIOS, *SERIES)

LATE: tuple[Stable, ...] = (ZERO_TIMES_LOG, POWER_NEAR_ONE)
"""For the stage *specialise*: they hide logarithms and powers from the other rows."""
