"""The front doors: compile, model, parse, minimize."""

from __future__ import annotations

import difflib
import keyword
import operator
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from symgrad.errors import ArgumentError, DeviceError, DTypeError, OptionError

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

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

    return to_sympy(parse_text(text, _limits(limits)))


def compile(
    expression: Any,
    wrt: Sequence[str],
    *,
    dtype: Any = "float64",
    device: str = "cpu",
    shapes: Mapping[str, int | tuple[int, ...]] | None = None,
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
        shapes: shapes of all arrays, to compile at once; 3 is short for (3,). What the
            expression indexes with is taken for int64.
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
        loss.specialize(**_shapes(shapes))
    return loss


def model(
    expression: Any,
    wrt: Sequence[str],
    *,
    dtype: Any = "float64",
    device: str = "cpu",
    shapes: Mapping[str, int | tuple[int, ...]] | None = None,
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
        result.specialize(**_shapes(shapes))
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
    data: Any = None,
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
    dtype: Any = None,
    device: str | None = None,
    threads: int | None = None,
    **options: Any,
) -> OptimizeResult:
    """Minimise a loss over its parameters.

    Args:
        loss: a text, a SymPy expression, or a compiled loss.
        init: start values of the parameters, by name; their names are ``wrt``.
        data: all other arrays: a dict by name, or a table with named columns, of which
            those are taken that the loss uses: a pandas or Polars DataFrame, an Arrow
            table, a structured array.
        method: "gd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "lbfgs", or
            another gradient method of ``scipy.optimize.minimize``.
        lr: learning rate, a number or a callable of the step (from 0), such as those of
            ``symgrad.optimize.schedules``; 0.01 by default.
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
        dtype, device, threads: as of :func:`compile`, if the loss is not compiled yet.
        options: of the method: ``momentum``, ``betas``, ... of a descent rule, or
            SciPy's, such as ``maxcor`` or ``constraints``.

    Returns:
        A ``scipy.optimize.OptimizeResult`` with params, fun, x, jac, nit, nfev,
        success, status, message, history. The best parameters are returned even after
        divergence or Ctrl-C.

    Raises:
        ArgumentError, ShapeError, DTypeError, DataError, UnknownNameError: the arrays
            do not fit the loss, or hold what is no number.
        OptionError: an option is wrong, or not one of the method's.
        ParseError, LimitError: see :func:`parse`.
    """
    from symgrad.optimize.minimize import minimize_objective
    from symgrad.runtime.arrays import by_name, columns_by_name
    from symgrad.runtime.function import Loss
    from symgrad.runtime.objective import Objective

    compiled = loss if isinstance(loss, Loss) else None
    if isinstance(loss, Objective):
        raise ArgumentError(
            "minimize takes the loss before it is bound: minimize(f, init=..., "
            "data={...}) with f = sg.compile(...)"
        )
    init = by_name(init, "init")
    if compiled is None:
        compiled = compile(
            loss,
            wrt=list(init),
            dtype=dtype or "float64",
            device=device or "cpu",
            threads=threads,
        )
    else:
        _refuse_compile_options(dtype=dtype, device=device, threads=threads)
    ordered = _in_order(compiled.wrt, init)
    used = compiled._source.names.difference(compiled.wrt)
    arrays = {} if data is None else columns_by_name(data, used)
    objective = compiled.bind(ordered, **arrays)
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


def _refuse_compile_options(**given: Any) -> None:
    """What belongs to ``compile`` has no effect on a loss that is compiled."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise ArgumentError(
            f"the loss is compiled already: give {', '.join(names)} to compile, or "
            "pass the text of the loss"
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
    missing = [name for name in wrt if name not in init]
    extra = [name for name in init if name not in wrt]
    if missing or extra:
        raise ArgumentError(
            f"init must have a start value for {', '.join(wrt)}"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; not parameters: {', '.join(extra)}" if extra else "")
        )
    return {name: init[name] for name in wrt}


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
    workers = _threads(threads)
    program = _program(expression, limits)
    if isinstance(wrt, str):
        listed = _listed(wrt, program)
        raise ArgumentError(f"wrt must be a list of names: wrt={listed}")
    names = _names(wrt)
    if not names and not empty:
        raise ArgumentError("wrt is empty: name at least one parameter")
    return program, names, _dtype(dtype), workers


def _program(expression: Any, limits: Limits | None) -> Program:
    if isinstance(expression, str):
        from symgrad.language.parser import parse_text
        from symgrad.runtime.collector import paused_collector

        with paused_collector:
            return parse_text(expression, _limits(limits))
    from symgrad.language.syntax import Program

    if isinstance(expression, Program):
        return expression
    from symgrad.language.sympy_bridge import from_sympy

    return from_sympy(expression)


def _limits(limits: Any) -> Limits:
    from symgrad.language.parser import Limits

    if limits is not None and not isinstance(limits, Limits):
        raise ArgumentError(
            f"limits is {limits!r}: pass symgrad.Limits(max_length=...), or None"
        )
    return limits or Limits()


def _threads(threads: Any) -> int | None:
    """A positive number of any integer type, or None."""
    if threads is None:
        return None
    try:
        number = 0 if isinstance(threads, bool) else operator.index(threads)
    except TypeError:
        number = 0
    if number < 1:
        raise OptionError(f"threads is {threads!r}: it must be a positive integer")
    return number


def _shapes(shapes: Any) -> dict[str, Any]:
    """Shapes as ``specialize`` takes them: a number is a vector's length."""
    from symgrad.runtime.arrays import by_name

    found: dict[str, Any] = {}
    for name, given in by_name(shapes, "shapes").items():
        shape: Any = tuple(given) if isinstance(given, list) else given
        is_length = hasattr(shape, "__index__") and not isinstance(shape, bool)
        found[name] = (operator.index(shape),) if is_length else shape
    return found


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
