"""The table of SciPy's methods: one row each.

Each row says what the method takes, how ``tol`` (on the largest |gradient| component)
and ``steps`` are spelled in its options, and which other options pass through. SciPy's
own stopping rule on the loss is set to rounding level, so that ``tol`` decides: its
default would end L-BFGS-B at relative falls of 2e-9, far from a gradient of 1e-8.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from symgrad.errors import OptionError
from symgrad.optimize.checks import refuse_name

EPSILON = sys.float_info.epsilon


@dataclass(frozen=True)
class Method:
    """One method of ``scipy.optimize.minimize``."""

    scipy: str
    options: Callable[[float, int], dict[str, Any]]
    bounds: bool = False
    gradient: bool = True
    hvp: bool = False
    constraints: bool = False
    barrier: bool = False
    """Stays inside bounds: the gradient at the end is that of a barrier, too."""
    interpolates: bool = False
    """Fits polynomials to losses with no care: an infinite one would give it NaN."""
    own: tuple[str, ...] = ()
    """SciPy's options that may be given; all others belong to ``minimize``."""


def _gtol(tol: float, steps: int) -> dict[str, Any]:
    return {"gtol": tol, "maxiter": steps}


_TRUST = ("initial_trust_radius", "max_trust_radius", "eta")

METHODS: dict[str, Method] = {
    "lbfgs": Method(
        "L-BFGS-B",
        lambda tol, steps: {
            "gtol": tol,
            "ftol": EPSILON,
            "maxiter": steps,
            "maxfun": 20 * steps + 100,
        },
        bounds=True,
        interpolates=True,
        own=("maxcor", "maxls", "maxfun"),
    ),
    "bfgs": Method("BFGS", _gtol, own=("norm", "xrtol", "c1", "c2", "hess_inv0")),
    "cg": Method("CG", _gtol, own=("norm", "c1", "c2")),
    "newton-cg": Method(
        # Stops on the size of a step; the gradient is looked at afterwards.
        "Newton-CG",
        lambda tol, steps: {"xtol": min(tol, 1e-10), "maxiter": steps},
        hvp=True,
        own=("xtol", "c1", "c2"),
    ),
    "trust-ncg": Method("trust-ncg", _gtol, hvp=True, own=_TRUST),
    "trust-krylov": Method("trust-krylov", _gtol, hvp=True, own=(*_TRUST, "inexact")),
    "trust-constr": Method(
        "trust-constr",
        lambda tol, steps: {"gtol": tol, "xtol": 1e-14, "maxiter": steps},
        bounds=True,
        hvp=True,
        constraints=True,
        barrier=True,
        own=(
            "constraints",
            "xtol",
            "barrier_tol",
            "initial_constr_penalty",
            "initial_tr_radius",
            "initial_barrier_parameter",
            "initial_barrier_tolerance",
            "factorization_method",
            "sparse_jacobian",
        ),
    ),
    "tnc": Method(
        "TNC",
        lambda tol, steps: {"gtol": tol, "ftol": EPSILON, "maxfun": 20 * steps + 100},
        bounds=True,
        interpolates=True,
        own=(
            "scale",
            "offset",
            "maxCGit",
            "eta",
            "stepmx",
            "accuracy",
            "minfev",
            "rescale",
            "maxfun",
        ),
    ),
    "slsqp": Method(
        "SLSQP",
        lambda tol, steps: {"ftol": EPSILON, "maxiter": steps},
        bounds=True,
        constraints=True,
        own=("constraints", "ftol"),
    ),
    "nelder-mead": Method(
        "Nelder-Mead",
        lambda tol, steps: {"xatol": tol, "fatol": tol, "maxiter": steps},
        bounds=True,
        gradient=False,
        own=("initial_simplex", "adaptive", "xatol", "fatol", "maxfev"),
    ),
    "powell": Method(
        "Powell",
        lambda tol, steps: {"xtol": tol, "ftol": tol, "maxiter": steps},
        bounds=True,
        gradient=False,
        interpolates=True,
        own=("direc", "xtol", "ftol", "maxfev"),
    ),
}
ALIASES = {"l-bfgs-b": "lbfgs", "l-bfgs": "lbfgs", "newton": "newton-cg"}

INSTEAD = {
    "maxiter": "steps=...",
    "gtol": "tol=...",
    "args": "data={...}",
    "disp": "progress=True",
    "verbose": "progress=True",
    "jac": "nothing: the gradient is compiled",
    "hess": "nothing: Hessian products are compiled",
    "hessp": "nothing: Hessian products are compiled",
}
"""What to give in place of arguments and options of SciPy that are set here."""


def check_options(name: str, given: Mapping[str, Any]) -> None:
    """Refuse options that the method does not have, or that are set here.

    Raises:
        OptionError: with what to give instead, or the names that are allowed.
    """
    known = METHODS[name].own
    if "constraints" in known:
        _check_constraints(given.get("constraints", ()))
    for option in given:
        if option in known:
            continue
        if option in INSTEAD:
            raise OptionError(
                f"method {name!r} takes no {option}: give {INSTEAD[option]}"
            )
        refuse_name(f"option of method {name!r}", option, known)


def _check_constraints(given: Any) -> None:
    """SciPy's forms: a dict with type and fun, an object with bounds, or several."""
    several = given if isinstance(given, list | tuple) else [given]
    for one in several:
        is_dict = isinstance(one, Mapping) and {"type", "fun"} <= one.keys()
        if not (is_dict or (hasattr(one, "lb") and hasattr(one, "ub"))):
            raise OptionError(
                f"constraints has {one!r}: give {{'type': 'eq' or 'ineq', 'fun': "
                "...}, a LinearConstraint, a NonlinearConstraint, or a list of them"
            )
