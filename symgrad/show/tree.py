"""The graph of a loss as a tree of text, with the value and the adjoint of each node.

The adjoint of a node is the derivative of the loss with respect to it: what reverse
mode hands from each operation to its arguments. For ``(a*b + c)*f``::

    mul            -8   1
    ├─ add          4  -2
    │  ├─ mul      -6  -2
    │  │  ├─ a      2   6
    │  │  └─ b     -3  -4
    │  └─ c        10  -2
    └─ f           -2   4
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symgrad.graph import (
    FLOAT,
    Array,
    Call,
    Const,
    Index,
    Input,
    Load,
    Node,
    Reduce,
    Scatter,
    Size,
    index_name,
    input_,
    load,
    rebuild,
    to_text,
    walk,
)

MAX_LINES = 200
"""A longer tree is cut: it is for reading."""

_SYMBOLS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "neg": "-",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of a tree: ``text`` with its branches drawn, and the node it shows."""

    text: str
    node: Node | None
    repeated: bool = False


def parts(node: Node) -> tuple[Node, ...]:
    """The nodes that the tree shows below ``node``: no index arithmetic, no sizes."""
    if isinstance(node, Load):
        # An input's line says it all; a computed array is shown with what computes it.
        gathers = tuple(i for i in node.indices if _is_computed(i))
        return gathers if isinstance(node.array, Input) else (node.array, *gathers)
    return tuple(c for c in node.children if not isinstance(c, (Index, Size)))


def _is_computed(index: Node) -> bool:
    """Whether an index depends on data (a gather), rather than on positions alone."""
    return any(isinstance(n, Load) for n in walk(index))


def label(node: Node) -> str:
    """What one line says of ``node`` itself."""
    if isinstance(node, Call):
        return _SYMBOLS.get(node.op, node.op)
    if isinstance(node, Reduce):
        return f"{node.kind} over {_bound(node.indices)}"
    if isinstance(node, Array):
        return f"array over {_bound(node.indices)}"
    if isinstance(node, Scatter):
        return f"scatter over {_bound(node.over)}"
    if isinstance(node, Load) and not isinstance(node.array, Input):
        return f"element [{', '.join(map(_position, node.indices))}]"
    if isinstance(node, Load) and node.indices:
        return f"{to_text(node.array)}[{', '.join(map(_position, node.indices))}]"
    if isinstance(node, Const) and node.type == FLOAT:
        return f"{node.value:g}"
    return to_text(node, limit=60)


def _position(index: Node) -> str:
    if isinstance(index, Index):
        return index_name(index).partition("<")[0]
    return to_text(index, limit=30)


def _bound(indices: Sequence[Index]) -> str:
    return ", ".join(f"{_position(i)} < {to_text(i.extent)}" for i in indices)


def lines(root: Node) -> list[Line]:
    """The tree below ``root``; of a node used twice, later uses refer to the first."""
    marks = _marks(root)
    shown: set[Node] = set()
    result: list[Line] = []
    stack: list[tuple[Node, str, str]] = [(root, "", "")]
    while stack:
        if len(result) == MAX_LINES:
            rest = len(walk(root, into=parts)) - len(shown)
            result.append(Line(f"… and {rest} more nodes", None))
            break
        node, branch, below = stack.pop()
        repeated = node in shown and bool(parts(node))
        shown.add(node)
        mark = f" (see #{marks[node]})" if repeated else ""
        if node in marks and not repeated:
            mark = f" #{marks[node]}"
        result.append(Line(f"{branch}{label(node)}{mark}", node, repeated))
        inner = () if repeated else parts(node)
        for position, child in enumerate(reversed(inner)):
            tip, pad = ("└─ ", "   ") if position == 0 else ("├─ ", "│  ")
            stack.append((child, below + tip, below + pad))
    return result


def _marks(root: Node) -> dict[Node, int]:
    """A number for each node with parts of its own that is used more than once."""
    uses: dict[Node, int] = {}
    for node in walk(root, into=parts):
        for child in parts(node):
            uses[child] = uses.get(child, 0) + 1
    repeated = (n for n, count in uses.items() if count > 1 and parts(n))
    return {node: number for number, node in enumerate(repeated, start=1)}


def adjoints(
    loss: Node,
    evaluate: Callable[[Sequence[Node], Mapping[str, Any]], Sequence[Any]],
    gradient: Callable[[Node, Sequence[Input]], Sequence[Node]],
    values: Mapping[str, Any],
) -> dict[Node, Any]:
    """The derivative of ``loss`` with respect to every float node of it, as arrays.

    To each node a new input of the same extents is added, and set to zero: the
    derivative with respect to that input is the node's adjoint. So this shows what the
    ordinary gradient does, and needs no access to its insides.
    """
    probes: dict[Node, Input] = {}
    done: dict[Node, Node] = {}
    for node in walk(loss):
        new = rebuild(node, tuple(done[c] for c in node.children))
        if node.type == FLOAT and not isinstance(node, (Input, Array, Scatter)):
            free = sorted(node.free, key=lambda i: (to_text(i.extent), i.slot))
            probes[node] = input_(f"·{len(probes)}", [i.extent for i in free])
            new = new + load(probes[node], free)
        done[node] = new
    inputs = dict(values)
    for probe in probes.values():
        shape = [int(np.asarray(n)) for n in evaluate(probe.shape, values)]
        inputs[probe.name] = np.zeros(shape)
    gradients = gradient(done[loss], list(probes.values()))
    return dict(zip(probes, evaluate(gradients, inputs), strict=True))
