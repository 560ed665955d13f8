"""Where are the operations stored? In the graph of T1 = log(T2*T3 + T4), not in T1.

A tape, as PyTorch keeps it, hangs on the result of each operation and is made again at
each forward pass. Here numbers are only numbers. The formula is kept once, as a graph;
its derivatives are formulas too, made once; and both become one kernel.
"""

from __future__ import annotations

from typing import Any

import symgrad as sg
from symgrad.commands.explain import graph

T1 = "log(T2*T3 + T4)"
VALUES = {"T2": 2.0, "T3": 3.0, "T4": 1.5}


def operations(expression: Any) -> list[str]:
    """The operations of a SymPy expression, the last to be computed first."""
    found, waiting = [], [expression]
    while waiting:
        node = waiting.pop(0)
        if node.args:
            found.append(node.func.__name__)
            waiting.extend(node.args)
    return found


def main() -> None:
    """Print the graph, what it says of derivatives, and the kernel that runs."""
    f = sg.compile(T1, wrt=list(VALUES))
    value, gradient = f.value_and_grad(**VALUES)
    print(f"T1 = {value:.6f} is a {type(value).__name__}: it knows no operations.")
    print(f"f.expr = {f.expr} knows {', '.join(operations(f.expr))}.")

    print("\nThe graph, with the value and the adjoint of each node:\n")
    print(graph(T1, list(VALUES), VALUES))

    print("\nThe derivatives are formulas as well:")
    for name, formula in f.gradient.items():
        print(f"  dT1/d{name} = {formula} = {float(gradient[name]):.6f}")

    print("\nWhat simplification did before anything was compiled:")
    for rewrite in f.rewrites:
        print(f"  {rewrite.rule}: {rewrite.before} -> {rewrite.after}")

    print("\nWhat is computed, and when:\n")
    print(f.explain())
    print("\nThe kernel as Python; T2*T3 + T4 is computed once and used four times:\n")
    print(f.source)


if __name__ == "__main__":
    main()
