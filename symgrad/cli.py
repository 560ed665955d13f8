"""The command line: ``symgrad fit``, ``explain``, ``info``, ``cache``.

Exit codes: 0 done; 1 done, but not to an end (a fit that did not converge); 2 the
request is wrong (the message says how); 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import TextIO

from symgrad.commands import cache, explain, fit, info
from symgrad.errors import SymgradError, SymgradWarning

COMMANDS: dict[str, tuple[ModuleType, str]] = {
    "fit": (fit, "find the parameters that make a loss smallest"),
    "explain": (explain, "show the graph, the gradient formulas and the kernel"),
    "info": (info, "show versions, processor, threads, cache and CUDA"),
    "cache": (cache, "list or clear the compiled kernels on disk"),
}


def parser() -> argparse.ArgumentParser:
    """The argument parser of all commands."""
    top = argparse.ArgumentParser(
        prog="symgrad",
        description="Compile losses written as formulas, with their gradients.",
        epilog="Exit codes: 0 done; 1 a fit that did not converge; 2 the request is "
        "wrong; 130 interrupted. `symgrad COMMAND --help` tells more.",
    )
    top.add_argument("--version", action="store_true", help="print the version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; ``arguments`` default to those of the process."""
    top = parser()
    options = top.parse_args(arguments)
    if options.version:
        from symgrad import __version__

        print(f"symgrad {__version__}")
        return 0
    if options.command is None:
        top.print_help()
        return 0
    module, _ = COMMANDS[options.command]
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _run(module, options)


def _run(module: ModuleType, options: argparse.Namespace) -> int:
    try:
        return module.run(options)
    except SymgradError as error:
        print(f"symgrad: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("symgrad: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (such as `head`) has gone; nothing more can be told to anyone.
        sys.stderr.close()
        return 0


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as a line: where in symgrad it was raised helps nobody here."""
    if issubclass(category, SymgradWarning):
        print(f"symgrad: warning: {message}", file=file or sys.stderr)
        return
    text = warnings.formatwarning(message, category, filename, lineno, line)
    print(text, end="", file=file or sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
