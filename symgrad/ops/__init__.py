"""THE TABLE of operations: ``OPS`` maps a name to its row, ``apply`` builds a node.

One row says everything about one operation (see ``row.Op``). The rows by family:

    arithmetic.py      the four operations, fma, remainders, sign and rounding
    powers.py          powers, roots, hypot
    nodes.py           short names for building nodes
    choice.py          comparison, truth, where, minimum, maximum, clip, relu
    exponential.py     exponentials, logarithms, logistic functions
    trigonometric.py   circular and hyperbolic functions and their inverses
    special.py         the error function, the gamma function and their families
    tails.py           forms that neither cancel nor underflow: log1mexp, erfcx, ...
"""

from symgrad.ops import (  # importing a family fills the table
    arithmetic,
    choice,
    exponential,
    nodes,
    powers,
    special,
    tails,
    trigonometric,
)
from symgrad.ops.row import OPS, Op, RowError, apply, check_nodes, define, to_bool

for _op in OPS.values():
    check_nodes(_op)

__all__ = [
    "OPS",
    "Op",
    "RowError",
    "apply",
    "arithmetic",
    "choice",
    "define",
    "exponential",
    "nodes",
    "powers",
    "special",
    "tails",
    "to_bool",
    "trigonometric",
]
