"""What a minimization returns: SciPy's ``OptimizeResult``, with one table of statuses.

Fields beside SciPy's own (x, fun, jac, nit, nfev, success, status, message):

    params          the parameters by name, unpacked from ``x``
    method          the method's name
    history         the loss at the start and after each step, float64 (nit + 1,),
                    of the batch where there are batches; None with ``history=False``
    history_stride  steps between two entries of ``history``: 1, and a higher power of
                    two only after four million steps, so that memory stays bounded
    last            the final iterate; ``x`` is the best one, which may be another

``nit`` counts steps: updates of the parameters (with mini-batches one per batch), or
SciPy's iterations. ``nfev`` counts evaluations of the loss, with or without gradient,
on all rows or on a batch.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from symgrad.optimize.protocol import Objective, Vector

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


class Status(IntEnum):
    """Why it ended. 0 and 7 are successes; the parameters are the best seen in all."""

    CONVERGED = 0
    STEP_LIMIT = 1
    STOPPED = 2
    INTERRUPTED = 3
    DIVERGED = 4
    BAD_START = 5
    FAILED = 6
    FINISHED = 7
    STALLED = 8


STATUSES: dict[Status, tuple[bool, str]] = {
    Status.CONVERGED: (
        True,
        "the largest |gradient| component fell below tol, or the loss is at rounding",
    ),
    Status.STEP_LIMIT: (False, "all steps were made before the gradient reached tol"),
    Status.STOPPED: (False, "the callback raised StopIteration"),
    Status.INTERRUPTED: (False, "interrupted by Ctrl-C (KeyboardInterrupt)"),
    Status.DIVERGED: (False, "the loss became non-finite, or grew to the end"),
    Status.BAD_START: (False, "the loss or its gradient is not finite at the start"),
    Status.FAILED: (False, "SciPy's method gave up; the message says why"),
    Status.FINISHED: (True, "all steps on mini-batches were made"),
    Status.STALLED: (False, "no step lowers the loss, but its gradient is not small"),
}
"""Success and meaning of each status."""


def make_result(
    objective: Objective,
    *,
    x: Vector,
    status: Status,
    message: str,
    **fields: Any,
) -> OptimizeResult:
    """The result at ``x``; ``fields`` are the others of the module's docstring."""
    from scipy.optimize import OptimizeResult

    return OptimizeResult(
        params=objective.unpack(x),
        x=x,
        success=STATUSES[status][0],
        status=int(status),
        message=message,
        **fields,
    )


def intermediate(
    objective: Objective, x: Vector, fun: float, step: int, **fields: Any
) -> OptimizeResult:
    """What a callback is given after a step; ``x`` is its to keep."""
    from scipy.optimize import OptimizeResult

    params = objective.unpack(x)
    return OptimizeResult(x=x, fun=fun, nit=step, params=params, **fields)


def describe_parameters(objective: Objective, x: Vector) -> str:
    """``a=1, b=[0 0 0]``: the parameters, long arrays cut, for a message."""
    with np.printoptions(precision=4, threshold=6, edgeitems=2):
        pieces = [
            f"{k}={np.array2string(np.asarray(v))}".replace("\n", "")
            for k, v in list(objective.unpack(x).items())[:6]
        ]
    return ", ".join(pieces)
