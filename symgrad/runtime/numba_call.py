"""Call a kernel by its address from code that Numba compiles.

This module imports Numba: import it inside functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from symgrad.runtime.entry import NativeEntry


@intrinsic
def call_entry(typingctx: Any, function: Any, context: Any, x: Any, g: Any) -> Any:
    """``double function(void *context, const double *x, double *g)`` on arrays."""

    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        double, void = ir.DoubleType(), ir.IntType(8).as_pointer()
        vector = double.as_pointer()
        kind = ir.FunctionType(double, [void, vector, vector])
        target = builder.inttoptr(args[0], kind.as_pointer())
        kinds = signature.args
        data = [ctx.make_array(kinds[k])(ctx, builder, args[k]).data for k in (2, 3)]
        return builder.call(target, [builder.inttoptr(args[1], void), *data])

    return types.float64(types.intp, types.intp, x, g), generate


def as_numba(entry: NativeEntry) -> Any:
    """A Numba function ``(x, gradient_out) -> value``."""
    function, context = entry.function, entry.context

    @numba.njit
    def objective(x: Any, gradient: Any) -> float:
        return call_entry(function, context, x, gradient)  # pyright: ignore[reportCallIssue]

    # code and data live as long as the function
    objective.owner = entry.owner  # pyright: ignore[reportAttributeAccessIssue]
    return objective
