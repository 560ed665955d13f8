"""From a graph to loop nests: legal operations, statements, fused loops, buffers.

The pipeline inside this package:

    legalise     rewrites what no target has (logsumexp, norm, ...) and inlines arrays
    feedback     takes sums out of sums over rows, so that fewer passes are needed
    statements   chooses the values that get a place of their own
    nest         fuses statements into loops, fewest passes over the rows first
    plan         decides where every value lives: register, scratch or work memory
    choose       tries several ways and takes the cheapest
"""

from symgrad.schedule.choose import schedule
from symgrad.schedule.plan import Plan, make_plan

__all__ = ["Plan", "make_plan", "schedule"]
