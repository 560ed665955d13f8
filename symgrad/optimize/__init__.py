"""Optimizers: compiled descent loops, SciPy's methods, schedules, results.

A *rule* (``rules.py``) says how a step is made, a *loop* (``loops.py``) makes many of
them in compiled code, a *run* (``descent.py``) slices it so that Ctrl-C, callbacks and
progress stay alive, and ``minimize.py`` chooses between these and SciPy.
"""

from symgrad.optimize import schedules
from symgrad.optimize.minimize import method_name, minimize_objective
from symgrad.optimize.protocol import NativeEntry, Objective
from symgrad.optimize.result import STATUSES, Status
from symgrad.optimize.rules import RULES
from symgrad.optimize.scipy_methods import METHODS

__all__ = [
    "METHODS",
    "RULES",
    "STATUSES",
    "NativeEntry",
    "Objective",
    "Status",
    "method_name",
    "minimize_objective",
    "schedules",
]
