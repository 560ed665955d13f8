"""The front doors: compile, model, parse, minimize."""

from __future__ import annotations

import difflib
import keyword
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from symgrad.errors import ArgumentError, DeviceError, DTypeError, OptionError

if TYPE_CHECKING:
    from symgrad.language.parser import Limits
    from symgrad.language.syntax import Program
    from symgrad.runtime.function import Loss
    from symgrad.runtime.model import Model
    from symgrad.show.drawing import Drawing
    from symgrad.show.report import Report

__all__ = ["compile", "draw", "minimize", "model", "parse", "report"]


def parse(text: str, *, limits: Limits | None = None) -> Any:
    """The SymPy expression of a text. Nothing is evaluated or executed.

    ``compile(parse(text))`` gives the same kernel as ``compile(text)``.

    Args:
        text: one or several lines; the last is the value.
        limits: on length, nesting and size; see ``symgrad.Limits``.

    Raises:
        ParseError: with line, column and a caret.
        LimitError: the text is longer or deeper than the limits allow.
    """
    from symgrad.language.parser import parse_text
    from symgrad.language.sympy_bridge import to_sympy

    return to_sympy(parse_text(text) if limits is None else parse_text(text, limits))


def compile(
    expression: Any,
    wrt: Sequence[str],
    *,
    dtype: Any = "float64",
    device: str = "cpu",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    threads: int | None = None,
    limits: Limits | None = None,
) -> Loss:
    """Compile a scalar loss with its gradient.

    Kernels are made at the first call, when ranks and dtypes are known, or now if
    ``shapes`` gives the shape of every array.

    Args:
        expression: a text in the language of losses, or a SymPy expression.
        wrt: names of the parameters; all other names are data.
        dtype: compute type, "float64" or "float32". Arrays of other types are converted
            element by element; sums over rows are float64.
        device: "cpu", or "cuda" for an NVIDIA GPU (``pip install symgrad[cuda]``).
            Arrays of CuPy, PyTorch, Numba and JAX on the device are used in place;
            without a GPU only ``specialize`` and ``ptx`` work.
        shapes: shapes of all arrays, to compile at once.
        threads: at most so many; the default is all processors, or
            ``SYMGRAD_NUM_THREADS``. Results do not depend on it.
        limits: on the size of the text.

    Returns:
        A :class:`symgrad.Loss`: call it, or its ``grad``, ``value_and_grad``, ``hvp``,
        ``hessian``, ``bind``.

    Raises:
        ParseError, LimitError: see :func:`parse`.
        ArgumentError, DTypeError, DeviceError: an option is wrong.
    """
    from symgrad.runtime.specialise import Source

    checked = _checked(expression, wrt, dtype, device, threads, limits)
    source = Source(*checked, device)
    loss = _loss_class(device)(source)
    if shapes is not None:
        loss.specialize(**named("shapes", shapes, "shapes or arrays"))
    return loss


def model(
    expression: Any,
    wrt: Sequence[str],
    *,
    dtype: Any = "float64",
    device: str = "cpu",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    threads: int | None = None,
    limits: Limits | None = None,
) -> Model:
    """Compile an array-valued expression: predictions or residuals with Jacobians.

    Arguments and errors as of :func:`compile`; the value may have any shape, and
    ``wrt`` may be empty.
    """
    from symgrad.runtime.specialise import Source

    checked = _checked(expression, wrt, dtype, device, threads, limits, True)
    source = Source(*checked, device)
    result = _model_class(device)(source)
    if shapes is not None:
        result.specialize(**named("shapes", shapes, "shapes or arrays"))
    return result


def _loss_class(device: str) -> type[Loss]:
    if device == "cuda":
        from symgrad.runtime.cuda_function import CudaLoss

        return CudaLoss
    from symgrad.runtime.function import Loss

    return Loss


def _model_class(device: str) -> type[Model]:
    if device == "cuda":
        from symgrad.runtime.cuda_function import CudaModel

        return CudaModel
    from symgrad.runtime.model import Model

    return Model


def minimize(
    loss: Any,
    init: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    *,
    method: str = "adam",
    lr: Any = None,
    steps: int = 1000,
    batch_size: int | None = None,
    bounds: Any = None,
    tol: float = 1e-8,
    callback: Any = None,
    progress: bool = False,
    seed: int | None = None,
    history: bool = True,
    dtype: Any = "float64",
    device: str = "cpu",
    threads: int | None = None,
    **options: Any,
) -> Any:
    """Minimise a loss over its parameters.

    Args:
        loss: a text, a SymPy expression, or a compiled loss.
        init: start values of the parameters, by name; their names are ``wrt``.
        data: all other arrays, by name.
        method: "gd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "lbfgs", or
            another gradient method of ``scipy.optimize.minimize``.
        lr: learning rate, a number or a callable of the step (from 0); 0.01 by default.
        steps: at most so many steps.
        batch_size: rows per step; None: all.
        bounds: pairs (low, high) by parameter name, or one per element of the flat
            vector.
        tol: stop when the largest component of the gradient is below it.
        callback: called with an ``OptimizeResult`` after each step; ``StopIteration``
            stops the run.
        progress: show a progress bar.
        seed: of the shuffle of rows.
        history: keep the loss of every step.
        dtype, device, threads: as of :func:`compile`.
        options: of the method.

    Returns:
        A ``scipy.optimize.OptimizeResult`` with params, fun, x, jac, nit, nfev,
        success, status, message, history. The best parameters are returned even after
        divergence or Ctrl-C.
    """
    from symgrad.optimize.minimize import minimize_objective
    from symgrad.runtime.function import Loss
    from symgrad.runtime.objective import Objective

    compiled = loss if isinstance(loss, Loss) else None
    if isinstance(loss, Objective):
        raise ArgumentError(
            "minimize takes the loss before it is bound: minimize(f, init=..., "
            "data={...}) with f = sg.compile(...)"
        )
    init = named("init", init, "start values")
    data = {} if data is None else named("data", data, "arrays")
    if compiled is None:
        compiled = compile(
            loss, wrt=list(init), dtype=dtype, device=device, threads=threads
        )
    ordered = _in_order(compiled.wrt, init)
    objective = compiled.bind(ordered, **data)
    return minimize_objective(
        objective,
        objective.pack(ordered),
        method=method,
        lr=lr,
        steps=steps,
        batch_size=batch_size,
        bounds=bounds,
        tol=tol,
        callback=callback,
        progress=progress,
        seed=seed,
        history=history,
        **options,
    )


def draw(loss: Loss, /, **values: Any) -> Drawing:
    """The graph of a compiled loss, with value and adjoint at each node.

    Args:
        loss: what :func:`compile` returned.
        values: all parameters and data, by name.

    Returns:
        A drawing that notebooks show; ``svg``, ``to_dot()``, ``to_mermaid()`` and
        ``save(path)`` give it in other forms.

    Raises:
        ArgumentError, ShapeError, DTypeError: as calling the loss does.
    """
    from symgrad.show.drawing import draw as made

    return made(loss, values)


def report(loss: Loss, /, **values: Any) -> Report:
    """A page to step through in a browser: forward, loss, backward, update, kernel.

    Args:
        loss: what :func:`compile` returned.
        values: all parameters and data, by name; the descents start there.

    Returns:
        A report with ``html``, one page without any other file, and ``save(path)``.

    Raises:
        ArgumentError, ShapeError, DTypeError: as calling the loss does.
    """
    from symgrad.show.report import report as made

    return made(loss, values)


def _in_order(wrt: Sequence[str], init: Mapping[str, Any]) -> dict[str, Any]:
    from symgrad.runtime.arrays import by_name

    init = by_name(init)
    missing = [name for name in wrt if name not in init]
    extra = [name for name in init if name not in wrt]
    if missing or extra:
        raise ArgumentError(
            f"init must have a start value for {', '.join(wrt)}"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; not parameters: {', '.join(extra)}" if extra else "")
        )
    return {name: init[name] for name in wrt}


def named(option: str, value: Any, of: str) -> dict[str, Any]:
    """A mapping from names, as a dict. Raises ArgumentError for anything else."""
    if not isinstance(value, Mapping):
        found = f"not {type(value).__name__}"
    elif not all(isinstance(name, str) for name in value):
        found = "and names are strings"
    else:
        return dict(value)
    raise ArgumentError(
        f"{option} must be a dict of {of} by name, {found}; such as "
        f'{option}={{"w": ...}}'
    )


# --- checks of options ----------------------------------------------------------------


def _checked(
    expression: Any,
    wrt: Sequence[str],
    dtype: Any,
    device: str,
    threads: int | None,
    limits: Limits | None,
    empty: bool = False,
) -> tuple[Program, tuple[str, ...], str, int | None]:
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"unknown device {device!r}: use 'cpu' or 'cuda'")
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise OptionError(f"threads is {threads!r}: it must be a positive integer")
    program = _program(expression, limits)
    if isinstance(wrt, str):
        listed = _listed(wrt, program)
        raise ArgumentError(f"wrt must be a list of names: wrt={listed}")
    names = _names(wrt)
    if not names and not empty:
        raise ArgumentError("wrt is empty: name at least one parameter")
    return program, names, _dtype(dtype), threads


def _program(expression: Any, limits: Limits | None) -> Program:
    if isinstance(expression, str):
        from symgrad.language.parser import Limits, parse_text
        from symgrad.runtime.collector import paused_collector

        with paused_collector:
            return parse_text(expression, limits or Limits())
    from symgrad.language.syntax import Program

    if isinstance(expression, Program):
        return expression
    from symgrad.language.sympy_bridge import from_sympy

    return from_sympy(expression)


def _names(wrt: Sequence[str]) -> tuple[str, ...]:
    try:
        names = tuple(unicodedata.normalize("NFKC", str(name)) for name in wrt)
    except TypeError:
        raise ArgumentError(f"wrt must be a list of names, not {wrt!r}") from None
    wrong = next((n for n in names if not n.isidentifier()), None)
    if wrong is not None:
        raise ArgumentError(f"wrt has {wrong!r}, which is not a name")
    reserved = next((n for n in names if keyword.iskeyword(n)), None)
    if reserved is not None:
        raise ArgumentError(
            f"wrt has {reserved!r}, a reserved word of Python that no formula can use; "
            f"{reserved}_ would be a name"
        )
    seen: set[str] = set()
    double = next((n for n in names if n in seen or seen.add(n)), None)
    if double is not None:
        raise ArgumentError(f"wrt names {double} twice")
    return names


def _listed(text: str, program: Program) -> list[str]:
    """The names that were meant by a string: ``"a, b"``, ``"a b"`` or ``"ab"``."""
    from symgrad.language.syntax import Name, walk

    names = text.replace(",", " ").split()
    if len(names) != 1:
        return names or [text]
    parts = walk(*(a.value for a in program.assignments), program.result)
    used = {part.id for part in parts if isinstance(part, Name)}
    letters = list(dict.fromkeys(names[0]))
    return letters if names[0] not in used and used.issuperset(letters) else names


def _dtype(dtype: Any) -> str:
    import numpy as np

    known = ("float64", "float32")
    try:
        name = np.dtype(dtype).name
    except TypeError:
        near = difflib.get_close_matches(str(dtype), known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DTypeError(f"unknown dtype {dtype!r}{hint}") from None
    if name not in known:
        raise DTypeError(f"dtype is {name}: symgrad computes in {' or '.join(known)}")
    return name
