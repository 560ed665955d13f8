"""symgrad: symbolic differentiation, compiled.

A loss as a string or a SymPy expression becomes one fast kernel for its value and all
its gradients. Start with :func:`compile`, :func:`model` and :func:`minimize`.
"""

from typing import TYPE_CHECKING

from symgrad import errors
from symgrad.api import compile, draw, minimize, model, parse, report
from symgrad.errors import SymgradError, SymgradWarning

if TYPE_CHECKING:  # imported on first use, see __getattr__
    from symgrad.language.parser import Limits
    from symgrad.runtime.define import define
    from symgrad.runtime.function import Loss
    from symgrad.runtime.model import GaussNewton, Model
    from symgrad.runtime.objective import Objective
    from symgrad.show.drawing import Drawing
    from symgrad.show.report import Report

__version__ = "0.1.0"

__all__ = [
    "Drawing",
    "GaussNewton",
    "Limits",
    "Loss",
    "Model",
    "Objective",
    "Report",
    "SymgradError",
    "SymgradWarning",
    "__version__",
    "compile",
    "define",
    "draw",
    "errors",
    "minimize",
    "model",
    "parse",
    "report",
]

_LAZY = {
    "Drawing": "symgrad.show.drawing",
    "GaussNewton": "symgrad.runtime.model",
    "Limits": "symgrad.language.parser",
    "Loss": "symgrad.runtime.function",
    "Model": "symgrad.runtime.model",
    "Objective": "symgrad.runtime.objective",
    "Report": "symgrad.show.report",
    "define": "symgrad.runtime.define",
}


def __getattr__(name: str) -> object:
    """Names that need more than NumPy are imported on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module 'symgrad' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
