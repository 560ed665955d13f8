"""The command line: ``symgrad fit``, ``explain``, ``info``, ``cache``.

Exit codes: 0 done; 1 done, but the result is of no use; 2 the request is wrong (the
message says how); 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType

from symgrad.commands import cache, explain, fit, info
from symgrad.errors import SymgradError

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


if __name__ == "__main__":
    sys.exit(main())
