"""``symgrad fit``: find the parameters that make a loss smallest."""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from symgrad import data as datafile
from symgrad.commands import question as asked
from symgrad.commands.question import Question
from symgrad.commands.uncertainty import standard_errors
from symgrad.errors import OptionError, UnknownFunctionError
from symgrad.optimize.result import Status
from symgrad.show import plot, table

EPILOG = """\
examples:
  symgrad fit "mean((co2 - (a + b*t))**2)" --data co2.csv --init a=300,b=1
  symgrad fit "co2 ~ a + b*t + c*t**2" --data co2.csv --init a=300,b=1,c=0 \\
      --plot fit.png
  symgrad fit "mean(softplus(-y*(X @ w + b)))" --data d.npz --init "w=[0,0,0],b=0" -v

Names in --init are parameters; all others are columns of the data file.

A least-squares model ("y ~ ...") is printed with standard errors of its parameters,
from s²(JᵀJ)⁻¹, once it has converged and without --bounds.

exit codes:
  0    converged, or made all steps on mini-batches
  1    not converged: out of --steps, stalled, diverged, or no finite start; the status
       says what to try; parameters are printed and saved in any case
  2    the request is wrong: nothing was done
  130  interrupted
"""

METHODS = (
    "lbfgs (default), bfgs, cg, newton-cg, trust-ncg, trust-krylov, trust-constr, tnc, "
    "slsqp, nelder-mead, powell; and with --lr: gd, momentum, nesterov, adam, adamw, "
    "rmsprop"
)

_PRINTED = 20
"""Elements of an array that are printed in full."""


@dataclass(frozen=True)
class Fitted:
    """A fit and what it was made from."""

    question: Question
    start: dict[str, float | np.ndarray]
    columns: datafile.Columns
    result: Any
    seconds: float
    bounded: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``fit``."""
    add = parser.add_argument
    add("expression", metavar="EXPR", help="a loss, or a model as 'y ~ a + b*x'")
    add("--data", metavar="FILE", help="CSV, NPZ or Parquet file with named columns")
    add("--init", metavar="A=1,B=2", required=True, help="parameters, where to start")
    add("--method", default="lbfgs", help=METHODS)
    add("--steps", type=_count, metavar="N", help="most steps to make (1000)")
    add("--lr", type=float, metavar="X", help="learning rate of gd to rmsprop (0.01)")
    add("--batch-size", type=_count, metavar="N", help="rows per step; default: all")
    add("--seed", type=int, metavar="N", help="of the shuffle of mini-batches")
    add(
        "--tol",
        type=float,
        metavar="X",
        help="stop when all components of the gradient are smaller (1e-8)",
    )
    add("--bounds", metavar="A=0:1,B=:5", help="limits of parameters")
    add("--dtype", choices=("float64", "float32"), default="float64")
    add("--dropna", action="store_true", help="leave out rows with missing values")
    add("--plot", type=Path, metavar="PNG", help="draw data, fit and residuals")
    add("--x", metavar="NAME", help="column along the plot's horizontal axis")
    add("--save", type=Path, metavar="JSON", help="write the result to a file")
    add("--progress", action="store_true", help="show a progress bar")
    add("-v", "--verbose", action="store_true", help="print the gradient formulas")


def run(options: argparse.Namespace) -> int:
    """Fit, print, draw and save; returns the exit code, see ``EPILOG``."""
    if options.plot is not None:
        plot.check_available(options.plot)
    if options.save is not None and not options.save.parent.is_dir():
        raise OptionError(f"cannot write {str(options.save)!r}: no such directory")
    fitted = fit(options)
    print(report(fitted, options))
    if options.verbose:
        print("\n" + formulas(fitted, options.dtype))
    if options.plot is not None:
        draw(fitted, options)
        print(f"plot        {options.plot}")
    if options.save is not None:
        save(fitted, options)
        print(f"saved       {options.save}")
    if fitted.result.status == Status.INTERRUPTED:
        return 130
    return 0 if fitted.result.success else 1


def fit(options: argparse.Namespace) -> Fitted:
    """Read the data and minimise."""
    start = datafile.parse_assignments(options.init, "--init")
    try:
        question = asked.read(options.expression)
    except UnknownFunctionError as error:
        raise _product(error, start, options) from None
    if question.response in start:  # a parameter was not observed
        question = Question(question.text, question.loss)
    columns = read_data(question, start, options)
    names = asked.names_in(question.loss)
    used = {name: a for name, a in columns.arrays.items() if name in names}
    from symgrad.api import minimize  # heavy: after all that can be wrong is checked

    begin = time.perf_counter()
    result = minimize(question.loss, init=start, data=used, **chosen(options))
    seconds = time.perf_counter() - begin
    return Fitted(question, start, columns, result, seconds, bool(options.bounds))


def _product(
    error: UnknownFunctionError,
    start: dict[str, float | np.ndarray],
    options: argparse.Namespace,
) -> UnknownFunctionError:
    """The error, with other advice where a number of that name was called."""
    name = (error.text or "")[slice(*(error.span or (0, 0)))]
    known = {*start, *(datafile.load(options.data).names if options.data else ())}
    if name not in known:
        return error
    message = f"`{name}` is no function; for a product write {name}*(...)"
    return UnknownFunctionError(message, text=error.text, span=error.span)


def read_data(
    question: Question,
    start: dict[str, float | np.ndarray],
    options: argparse.Namespace,
) -> datafile.Columns:
    """The columns that the loss uses."""
    names = asked.names_in(question.loss)
    asked.check_parameters(names, start, "--init")
    source = None if options.data is None else datafile.load(options.data)
    wanted = asked.data_names(names, start, source)
    if source is None:
        return datafile.Columns({})
    if options.x is not None and options.x not in wanted:
        wanted = (*wanted, options.x)
    return datafile.read_columns(source, wanted, options.dropna)


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of ``minimize``: those the user set, its own defaults else."""
    names = ("steps", "lr", "batch_size", "seed", "tol")
    given = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if options.bounds:
        given["bounds"] = parse_bounds(options.bounds)
    if options.dtype != "float64":
        given["dtype"] = options.dtype
    return {"method": options.method, "progress": options.progress, **given}


def parse_bounds(text: str) -> dict[str, tuple[float | None, float | None]]:
    """``"a=0:1,b=:5"`` as ``{"a": (0, 1), "b": (None, 5)}``."""
    result: dict[str, tuple[float | None, float | None]] = {}
    for item in filter(None, text.split(",")):
        name, sign, limits = item.partition("=")
        low, colon, high = limits.partition(":")
        try:
            if not (sign and colon):
                raise ValueError
            result[name.strip()] = (
                float(low) if low.strip() else None,
                float(high) if high.strip() else None,
            )
        except ValueError:
            raise OptionError(
                f"--bounds: expected NAME=LOW:HIGH (either may be empty), got {item!r}"
            ) from None
    return result


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


# --- Output ---------------------------------------------------------------------------


def report(fitted: Fitted, options: argparse.Namespace) -> str:
    """The result as text: parameters, loss, effort, and the solver's message."""
    result, columns = fitted.result, fitted.columns
    head = [fitted.question.text]
    if options.data is not None:
        dropped = f", {columns.dropped} left out" if columns.dropped else ""
        head.append(f"{options.data}: {columns.rows} rows{dropped}")
    errors = uncertainties(fitted)
    rows = [row for name, v in result.params.items() for row in _rows(name, v, errors)]
    title = ("parameter", "value", *(["standard error"] if errors else []))
    parameters = table.align([title, *rows])
    effort = f"{result.nit} ({result.nfev} evaluations), {fitted.seconds:.3g} s"
    tail = [
        f"loss        {table.number(result.fun, 10)}{_quality(fitted)}",
        f"iterations  {effort}",
        f"status      {in_options(result.message)}",
    ]
    return "\n".join([*head, "", parameters, "", *tail])


def uncertainties(fitted: Fitted) -> dict[str, np.ndarray]:
    """Standard errors of the parameters; empty where there are none to tell.

    They are told of a least-squares model that converged, without bounds.
    """
    question, result = fitted.question, fitted.result
    if question.model is None or not result.success or fitted.bounded:
        return {}
    if any(name in asked.names_in(question.response or "") for name in fitted.start):
        return {}
    names = asked.names_in(question.model)
    if not all(name in names for name in fitted.start):
        return {}
    observed, predicted = observations(fitted)
    used = _used(fitted, question.model)
    residuals = np.asarray(observed - predicted, np.float64)
    found = standard_errors(question.model, result.params, used, residuals)
    return found or {}


def _rows(
    name: str, value: Any, errors: Mapping[str, np.ndarray]
) -> list[tuple[str, ...]]:
    """A parameter in the table: small arrays in full, a line for each row."""
    lines = _lines(value, 10)
    told = _lines(errors[name], 3) if name in errors else []
    names = [name, *[""] * (len(lines) - 1)]
    return [
        (head, *(part or "" for part in parts))
        for head, *parts in zip_longest(names, lines, *([told] if errors else []))
    ]


def _lines(value: Any, digits: int) -> list[str]:
    array = np.asarray(value)
    if array.ndim == 0 or not 0 < array.size <= _PRINTED:
        return [table.value(array, digits)]
    text = np.array2string(
        array,
        separator=", ",
        max_line_width=72,
        threshold=_PRINTED,
        formatter={"float_kind": lambda x: table.number(float(x), digits)},
    )
    return text.splitlines()


_KEYWORD = re.compile(
    r"\b(lr|steps|method|tol|batch_size|seed|bounds)[=≈]('[^']*'|\.\.\.|[\w.+-]*\w)"
)


def in_options(message: str) -> str:
    """Advice in keyword arguments, ``lr=0.4``, as options of the command line."""

    def option(found: re.Match[str]) -> str:
        name, value = found.groups()
        value = "NAME=LOW:HIGH" if name == "bounds" else value.strip("'")
        return f"--{name.replace('_', '-')} {value}"

    return _KEYWORD.sub(option, message)


def _quality(fitted: Fitted) -> str:
    """For a model: the share of the variance explained, and the typical residual."""
    if fitted.question.model is None or not math.isfinite(fitted.result.fun):
        return ""
    observed, predicted = observations(fitted)
    square, spread = np.mean((observed - predicted) ** 2), np.var(observed)
    share = f"R² {1 - square / spread:.6f}, " if spread > 0 else ""
    return f"  ({share}typical residual {table.number(math.sqrt(square), 4)})"


def formulas(fitted: Fitted, dtype: str) -> str:
    """The gradient with respect to each parameter, and the passes over the data."""
    from symgrad.api import compile

    f = compile(fitted.question.loss, wrt=list(fitted.start), dtype=dtype)
    f.specialize(**fitted.start, **_used(fitted, fitted.question.loss))
    lines = [f"d loss / d {name} = {f.gradient[name]}" for name in fitted.start]
    return "\n".join(["gradient", *lines, "", str(f.explain())])


def save(fitted: Fitted, options: argparse.Namespace) -> None:
    """Write the result as JSON."""
    from symgrad import __version__

    result = fitted.result
    record = {
        "expression": fitted.question.text,
        "loss_expression": fitted.question.loss,
        "parameters": {n: np.asarray(v).tolist() for n, v in result.params.items()},
        "standard_errors": {n: e.tolist() for n, e in uncertainties(fitted).items()},
        "loss": float(result.fun),
        "start": {n: np.asarray(v).tolist() for n, v in fitted.start.items()},
        "data": options.data,
        "rows": fitted.columns.rows,
        "method": options.method,
        "dtype": options.dtype,
        "iterations": int(result.nit),
        "evaluations": int(result.nfev),
        "success": bool(result.success),
        "status": Status(result.status).name.lower(),
        "message": in_options(str(result.message)),
        "seconds": fitted.seconds,
        "symgrad": __version__,
    }
    try:
        options.save.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OptionError(f"cannot write {str(options.save)!r}: {error}") from error


# --- Plots ----------------------------------------------------------------------------


def draw(fitted: Fitted, options: argparse.Namespace) -> None:
    """Data, curve and residuals for a model; the loss at each step for a loss."""
    if fitted.question.model is None:
        result = fitted.result
        plot.plot_history(
            options.plot, result.history, fitted.question.text, result.history_stride
        )
    else:
        plot.plot_fit(options.plot, picture(fitted, options.x))


def picture(fitted: Fitted, x_name: str | None = None) -> plot.Fit:
    """What there is to draw of a fitted model."""
    observed, predicted = observations(fitted)
    used = _used(fitted, fitted.question.model or "")
    along = x_name or next((n for n, a in used.items() if a.ndim == 1), "row")
    x = fitted.columns.arrays.get(along, np.empty(0)).astype(np.float64)
    if x.shape != observed.shape:
        along, x = "row", np.arange(observed.size, dtype=np.float64)
    return plot.Fit(
        title=fitted.question.text,
        x_name=along,
        y_name=(fitted.question.response or "").splitlines()[-1],
        x=x,
        observed=observed.ravel(),
        predicted=predicted.ravel(),
        curve=_curve(fitted, along, x) if set(used) == {along} else None,
    )


def observations(fitted: Fitted) -> tuple[np.ndarray, np.ndarray]:
    """Response and prediction at the data."""
    arrays = fitted.columns.arrays
    observed = _evaluate(fitted, fitted.question.response or "", arrays)
    predicted = _evaluate(fitted, fitted.question.model or "", arrays)
    return observed, np.broadcast_to(predicted, observed.shape)


def _curve(
    fitted: Fitted, name: str, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """The model along its only column, much finer than the data."""
    if fitted.columns.arrays[name].dtype.kind != "f":
        return None  # perhaps an index, which has nothing in between
    grid = np.linspace(x.min(), x.max(), int(np.clip(8 * x.size, 1_000, 20_000)))
    curve = _evaluate(fitted, fitted.question.model or "", {name: grid})
    return grid, np.broadcast_to(curve, grid.shape)


def _used(fitted: Fitted, text: str) -> dict[str, np.ndarray]:
    """The columns that ``text`` mentions."""
    arrays = fitted.columns.arrays
    return {n: arrays[n] for n in asked.names_in(text) if n in arrays}


def _evaluate(fitted: Fitted, text: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """``text`` at the fitted parameters, in float64."""
    from symgrad.api import model

    if text in arrays:
        return np.asarray(arrays[text], dtype=np.float64)
    names = asked.names_in(text)
    values = {**arrays, **fitted.result.params}
    wrt = [name for name in fitted.start if name in names]
    predict = model(text, wrt=wrt)
    return np.asarray(predict(**{n: values[n] for n in names if n in values}))
