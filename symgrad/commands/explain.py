"""``symgrad explain``: how a loss is understood, differentiated and computed."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from symgrad import data as datafile
from symgrad.commands import question as asked
from symgrad.errors import OptionError
from symgrad.show import table, tree

EPILOG = """\
examples:
  symgrad explain "(a*b + c)*f" --wrt a,b,c,f --set a=2,b=-3,c=10,f=-2
  symgrad explain "mean((y - a*x)**2)" --wrt a --set a=1 --data points.csv
  symgrad explain "y ~ a*x + b" --set a=0,b=0 --data points.csv --html report.html

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
    add("-v", "--verbose", action="store_true", help="print every rewrite, and why")
    add("--html", metavar="FILE", help="write a page to step through in a browser")
    add("--draw", metavar="FILE", help="write the graph as .svg, .dot or .mmd")


def run(options: argparse.Namespace) -> int:
    """Print the loss, its tree with values and adjoints, gradients, and passes."""
    question = asked.read(options.expression)
    names = asked.names_in(question.loss)
    values = read_values(names, options)
    wrt = parameters(names, options)
    unknown = [n for n in names if n not in values and n not in asked.CONSTANTS]
    if unknown and (options.html or options.draw):
        option = "--html" if options.html else "--draw"
        raise OptionError(
            f"{option} shows values, and there are none "
            f"for {', '.join(unknown)}: give them with --set or --data"
        )
    say(f"loss\n{table.indented(question.loss.strip())}\n")
    if unknown:
        say(f"no values for {', '.join(unknown)}: taken for numbers\n")
        numbers = dict.fromkeys(unknown, 0.0) | values
        say(derivation(question.loss, wrt, numbers, options.verbose))
        return 0
    say(graph(question.loss, wrt, values))
    say("\n" + derivation(question.loss, wrt, values, options.verbose))
    say("\n" + kernel(question.loss, wrt, values, options))
    write(question.loss, wrt, values, options)
    return 0


def say(text: str) -> None:
    """Print, also where the terminal lacks some of the characters."""
    print(tree.printable(text, sys.stdout))


def write(
    loss: str, wrt: list[str], values: Mapping[str, Any], options: argparse.Namespace
) -> None:
    """The files that --html and --draw ask for."""
    from symgrad.api import compile, draw, report

    f = compile(loss, wrt=wrt, dtype=options.dtype)
    for path, make in ((options.html, report), (options.draw, draw)):
        if path:
            make(f, **values).save(Path(path))
            say(f"\nwrote {path}")


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
    """The tree, the value of each step, and the derivative of the loss by it."""
    from symgrad.api import compile
    from symgrad.show.trace import trace

    found = trace(compile(loss, wrt=wrt), values)
    paint = tree.ansi if tree.coloured(sys.stdout) else None
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return tree.render(found, paint, width)


def derivation(
    loss: str, wrt: list[str], values: Mapping[str, Any], verbose: bool = False
) -> str:
    """The gradient formulas; with ``verbose`` also how they were simplified."""
    from symgrad.api import compile

    f = compile(loss, wrt=wrt)
    f.specialize(**values)
    rows = [(f"d loss / d {name}", f"= {f.gradient[name]}") for name in wrt]
    text = "gradient\n" + table.align(rows, indent="  ", gap=" ")
    if not verbose:
        return text
    steps = [
        f"  {rule}: {why}\n      {before}\n   -> {after}"
        for rule, before, after, why in (r.row() for r in f.rewrites)
    ]
    return "\n".join([text, "", "rewrites", *(steps or ["  none"])])


def kernel(
    loss: str, wrt: list[str], values: Mapping[str, Any], options: argparse.Namespace
) -> str:
    """Passes over the data, work per row, and the code if it is asked for."""
    from symgrad.api import compile

    f = compile(loss, wrt=wrt, dtype=options.dtype)
    f.specialize(**values)
    text = f"kernel\n{table.indented(str(f.explain()))}"
    return f"{text}\n\n{f.source}" if options.code else text
