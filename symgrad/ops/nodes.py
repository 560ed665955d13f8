"""Short names for building nodes, in which derivatives and expansions are written."""

from __future__ import annotations

from functools import partial

from symgrad.graph import Node
from symgrad.ops.row import apply

where = partial(apply, "where")
equal = partial(apply, "eq")
differs = partial(apply, "ne")
both = partial(apply, "and")
either = partial(apply, "or")
fma = partial(apply, "fma")
floor = partial(apply, "floor")
ceil = partial(apply, "ceil")
floor_divide = partial(apply, "floor_divide")
absolute = partial(apply, "abs")
sign = partial(apply, "sign")
minimum = partial(apply, "minimum")
maximum = partial(apply, "maximum")
isinf = partial(apply, "isinf")
isfinite = partial(apply, "isfinite")
sqrt = partial(apply, "sqrt")
exp = partial(apply, "exp")
expm1 = partial(apply, "expm1")
log = partial(apply, "log")
log1p = partial(apply, "log1p")
power = partial(apply, "pow")
sigmoid = partial(apply, "sigmoid")
sin = partial(apply, "sin")
cos = partial(apply, "cos")
atan = partial(apply, "atan")
atan2 = partial(apply, "atan2")
sinh = partial(apply, "sinh")
cosh = partial(apply, "cosh")
erf = partial(apply, "erf")
erfc = partial(apply, "erfc")
erfcx = partial(apply, "erfcx")
digamma = partial(apply, "digamma")
polygamma = partial(apply, "polygamma")


def odd(x: Node, magnitude: Node) -> Node:
    """An odd function from its values at ``abs(x)``; zeros and nan stay as they are."""
    return where(x < 0, -magnitude, where(x > 0, magnitude, x))
