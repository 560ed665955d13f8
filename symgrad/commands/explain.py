"""``symgrad explain``: how a loss is understood, differentiated and computed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np

from symgrad import data as datafile
from symgrad.commands import question as asked
from symgrad.errors import OptionError
from symgrad.show import table, tree

EPILOG = """\
examples:
  symgrad explain "(a*b + c)*f" --wrt a,b,c,f --set a=2,b=-3,c=10,f=-2
  symgrad explain "mean((y - a*x)**2)" --wrt a --set a=1 --data points.csv

Without values for all names only the gradient formulas can be shown, and every name
without a value is taken for a number.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``explain``."""
    add = parser.add_argument
    add("expression", metavar="EXPR", help="a loss, or a model as 'y ~ a + b*x'")
    add("--wrt", metavar="A,B", help="parameters; default: the names in --set")
    add("--set", metavar="A=2,B=[1,2]", default="", help="values of names")
    add("--data", metavar="FILE", help="CSV, NPZ or Parquet file with named columns")
    add("--dropna", action="store_true", help="leave out rows with missing values")
    add("--dtype", choices=("float64", "float32"), default="float64")
    add("--code", action="store_true", help="print the kernel as Numba Python, too")


def run(options: argparse.Namespace) -> int:
    """Print the loss, its tree with values and adjoints, gradients, and passes."""
    question = asked.read(options.expression)
    names = asked.names_in(question.loss)
    values = read_values(names, options)
    wrt = parameters(names, options)
    unknown = [n for n in names if n not in values and n not in asked.CONSTANTS]
    print(f"loss\n  {question.loss}")
    if unknown:
        print(f"\nno values for {', '.join(unknown)}: taken for numbers")
        print(
            "\n" + derivation(question.loss, wrt, dict.fromkeys(unknown, 0.0) | values)
        )
    else:
        print("\n" + graph(question.loss, wrt, values))
        print("\n" + derivation(question.loss, wrt, values))
        print("\n" + kernel(question.loss, wrt, values, options))
    return 0


def parameters(names: tuple[str, ...], options: argparse.Namespace) -> list[str]:
    """The names in --wrt, else those in --set."""
    if options.wrt:
        wrt = [name.strip() for name in options.wrt.split(",") if name.strip()]
        asked.check_parameters(names, wrt, "--wrt")
    else:
        wrt = list(datafile.parse_assignments(options.set, "--set"))
    if not wrt:
        raise OptionError("name the parameters: --wrt a,b")
    return wrt


def read_values(names: tuple[str, ...], options: argparse.Namespace) -> dict[str, Any]:
    """The values from --set, and the columns of --data that the loss uses."""
    given = datafile.parse_assignments(options.set, "--set")
    asked.check_parameters(names, given, "--set")
    if options.data is None:
        return dict(given)
    source = datafile.load(options.data)
    wanted = [n for n in names if n in source.names and n not in given]
    return {**datafile.read_columns(source, wanted, options.dropna).arrays, **given}


def graph(loss: str, wrt: list[str], values: Mapping[str, Any]) -> str:
    """The tree, the value of each node, and the derivative of the loss by it."""
    from symgrad.differentiate import gradient
    from symgrad.interpret import evaluate

    arrays = {name: np.asarray(v) for name, v in values.items()}
    root = _build(loss, wrt, arrays)
    rows = tree.lines(root)
    nodes = [n for n in dict.fromkeys(r.node for r in rows) if n is not None]
    numbers = dict(zip(nodes, evaluate(nodes, arrays), strict=True))
    adjoints = tree.adjoints(root, evaluate, gradient, arrays)
    cells = [("graph", "value", "adjoint")]
    for row in rows:
        known = row.node is not None and not row.repeated
        found = [d.get(row.node) if known else None for d in (numbers, adjoints)]
        first, second = ("" if v is None else table.value(v) for v in found)
        cells.append((row.text, first, second))
    return table.align(cells)


def _build(loss: str, wrt: list[str], arrays: Mapping[str, np.ndarray]) -> Any:
    """The loss as a graph, every size as it is now."""
    from symgrad.language.build import InputSpec, build, default_static
    from symgrad.language.parser import parse_text

    specs = {
        name: InputSpec(
            name=name,
            shape=array.shape,
            type="int" if array.dtype.kind in "iu" and name not in wrt else "float",
            parameter=name in wrt,
            static=default_static(array.shape, name in wrt),
        )
        for name, array in arrays.items()
    }
    return build(parse_text(loss), specs).value.body


def derivation(loss: str, wrt: list[str], values: Mapping[str, Any]) -> str:
    """The gradient formulas."""
    from symgrad.api import compile

    f = compile(loss, wrt=wrt)
    f.specialize(**values)
    rows = [(f"d loss / d {name}", f"= {f.gradient[name]}") for name in wrt]
    return "gradient\n" + table.align(rows, indent="  ", gap=" ")


def kernel(
    loss: str, wrt: list[str], values: Mapping[str, Any], options: argparse.Namespace
) -> str:
    """Passes over the data, work per row, and the code if it is asked for."""
    from symgrad.api import compile

    f = compile(loss, wrt=wrt, dtype=options.dtype)
    f.specialize(**values)
    text = f"kernel\n{table.indented(str(f.explain()))}"
    return f"{text}\n\n{f.source}" if options.code else text
