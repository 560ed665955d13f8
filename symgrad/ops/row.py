"""What a row of the table of operations is, and how a node is built from one.

A row says everything about an operation in one place: what it computes, how it is
differentiated, what it costs, and what it answers where mathematics has no answer.
Tests, simplification and code generation are derived from it. A row that lacks a field,
or whose fields contradict each other, is refused when it is written.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any

from symgrad import graph
from symgrad.errors import SymgradError
from symgrad.graph import BOOL, FLOAT, INT, Const, Node, Operand

INF, NAN = float("inf"), float("nan")

Partials = tuple[Node | None, ...]

# What rows share.
ONE = graph.const(1.0)
ANY = (-20.0, 20.0)
IEEE = "IEEE 754-2019"
ANNEX_F = "ISO C17, annex F.10"
TORCH = "PyTorch, tools/autograd/derivatives.yaml"


class RowError(SymgradError, ValueError):
    """A row of the table of operations, or a use of one, is wrong."""


class Lazy:
    """A module that is imported when one of its attributes is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


class LazyFunctions(Lazy):
    """The functions of a module, which is imported when one of them is first called."""

    def __getattr__(self, attribute: str) -> Callable[..., Any]:
        def function(*args: Any) -> Any:
            return getattr(importlib.import_module(self._name), attribute)(*args)

        return function


# SciPy and mpmath take longer to import than all of symgrad.
mp, oracle = Lazy("mpmath"), LazyFunctions("mpmath")
special = LazyFunctions("scipy.special")


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operation on scalars.

    Required:

    - ``name``; ``arity``: the number of arguments.
    - ``types``: the type rule, a key of ``TYPES``.
    - ``numeric(*arrays)``: NumPy arrays in, one out, elementwise; float64 unless the
      rule says otherwise. ``ulp`` bounds its error against ``exact`` over ``sample``.
    - ``exact(*numbers)``: the same in mpmath numbers. Complex results, poles and values
      outside the domain come back as nan (``define`` wraps it).
    - ``partials(out, *args)``: the partial derivative for each argument as a node, None
      where it is zero everywhere or undefined. ``out`` is the operation's own node.
    - ``cost``: rough cycles per element on a vector unit; an addition is 1.
    - ``sympy``: the name of SymPy's function, or None where SymPy has none.
    - ``sample``: one interval per argument, inside the domain.
    - ``edges``: tuples ``(*arguments, result)`` that every implementation must give: an
      infinite, nan or zero result to the sign, any other within ``ulp``.
    - ``domain``, ``corner``, ``cite``: for people; ``corner`` says what the derivative
      is where there is none.

    Optional:

    - ``expand(*args)``: an equal node in more basic operations, for targets without a
      native form; within ``expand_ulp`` of ``numeric`` and equal to it at the edges.
    - ``integer(*args)``: the node for arguments that are all integers; without it they
      are converted to floating point.
    - ``scale``: errors are counted in ulps of the result or of this, whichever is
      larger: a sum of terms that cancel has no better answer.
    - ``kinks``: pairs ``(arguments, partials)`` that pin ``corner`` down.
    """

    name: str
    arity: int
    types: str
    numeric: Callable[..., Any]
    exact: Callable[..., Any]
    partials: Callable[..., Partials]
    cost: float
    sympy: str | None
    sample: tuple[tuple[float, float], ...]
    edges: tuple[tuple[float, ...], ...]
    domain: str
    corner: str
    cite: str
    ulp: float
    expand: Callable[..., Node] | None = None
    expand_ulp: float = 4.0
    integer: Callable[..., Node] | None = None
    scale: float = 0.0
    kinks: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()


OPS: dict[str, Op] = {}

# --------------------------------------------------------------------------------------
# Defining rows
# --------------------------------------------------------------------------------------


def define(name: str, **row: Any) -> Op:
    """Check a row completely, its derivatives included, and add it to ``OPS``.

    Raises RowError, and adds nothing, if a field is missing, unknown or contradictory.
    """
    op = declare(name, **row)
    try:
        check_nodes(op)
    except Exception:
        del OPS[name]
        raise
    return op


def declare(name: str, **row: Any) -> Op:
    """Like ``define``, but leave out what needs other rows: see ``check_nodes``."""
    known = {f.name: f for f in fields(Op) if f.name != "name"}
    missing = [k for k, f in known.items() if f.default is MISSING and k not in row]
    if missing:
        raise RowError(f"operation {name!r}: the row lacks {', '.join(missing)}")
    unknown = sorted(set(row) - set(known))
    if unknown:
        raise RowError(f"operation {name!r}: no such field: {', '.join(unknown)}")
    if name in OPS:
        raise RowError(f"operation {name!r} is already defined")
    if not name.isidentifier():
        raise RowError(f"operation {name!r}: the name must be an identifier")
    op = Op(name=name, **{**row, "exact": _real(row["exact"])})
    _check_fields(op, row["exact"])
    OPS[name] = op
    return op


def _check_fields(op: Op, exact: Callable[..., Any]) -> None:
    if op.types not in TYPES:
        raise RowError(f"operation {op.name!r}: types must be one of {sorted(TYPES)}")
    if len(op.sample) != op.arity:
        raise RowError(f"operation {op.name!r}: sample needs {op.arity} intervals")
    for edge in op.edges:
        if len(edge) != op.arity + 1:
            raise RowError(f"operation {op.name!r}: edge {edge} is not (*args, result)")
    for kink in op.kinks:
        if len(kink[0]) != op.arity or len(kink[1]) != op.arity:
            raise RowError(
                f"operation {op.name!r}: kink {kink} is not (args, partials)"
            )
    wanted = {
        "exact": (exact, 0),
        "partials": (op.partials, 1),
        "expand": (op.expand, 0),
    }
    for field, (function, extra) in wanted.items():
        if function and not _takes(function, op.arity + extra):
            raise RowError(
                f"operation {op.name!r}: {field} must take {op.arity + extra} arguments"
            )


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*(None,) * count)
    except TypeError:
        return False
    return True


def check_nodes(op: Op) -> None:
    """Build the derivatives and the expansion of ``op`` once, on named arguments.

    Apart from ``declare`` because these may use rows that come later in the table.
    """
    kinds = {"logic": [BOOL] * 3, "select": [BOOL, FLOAT, FLOAT], "cast": [INT]}
    types = kinds.get(op.types, [FLOAT] * op.arity)[: op.arity]
    args: list[Operand] = [
        graph.load(graph.input_(f"x{i}", type=t)) for i, t in enumerate(types)
    ]
    if op.types == "order":
        args[0] = graph.const(1)
    result = op.partials(apply(op.name, *args), *args)
    if not isinstance(result, tuple) or len(result) != op.arity:
        raise RowError(f"operation {op.name!r}: partials must give {op.arity} values")
    nodes: list[object] = [partial for partial in result if partial is not None]
    nodes += [op.expand(*args)] if op.expand else []
    for node in nodes:
        if not isinstance(node, Node):
            raise RowError(f"operation {op.name!r}: {node!r} is not a node")


def _real(exact: Callable[..., Any]) -> Callable[..., Any]:
    """``exact`` over the real numbers: nan where the result is complex or undefined."""

    @functools.wraps(exact)
    def real(*args: Any) -> Any:
        try:
            value = exact(*args)
        except (ValueError, ZeroDivisionError, mp.mp.NoConvergence):
            return mp.nan
        if isinstance(value, mp.mpc):
            return value.real if value.imag == 0 else mp.nan
        return value

    return real


# --------------------------------------------------------------------------------------
# Building nodes
# --------------------------------------------------------------------------------------


def apply(name: str, *args: Operand) -> Node:
    """``name(*args)`` as a node, with arguments converted by the row's type rule."""
    row = OPS.get(name)
    if row is None:
        near = difflib.get_close_matches(name, OPS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise RowError(f"unknown operation {name!r}{hint}")
    if len(args) != row.arity:
        raise RowError(f"{name} takes {row.arity} argument(s), not {len(args)}")
    nodes = tuple(map(graph.lift, args))
    if row.integer and all(a.type == INT for a in nodes):
        return row.integer(*nodes)
    return TYPES[row.types](name, *nodes)


def to_bool(node: Node) -> Node:
    """``node`` as a truth value: numbers are true where they are not zero."""
    return node if node.type == BOOL else graph.comparison("ne", node, 0)


def _float(name: str, *args: Node) -> Node:
    return graph.call(name, *map(graph.to_float, args))


def _predicate(name: str, *args: Node) -> Node:
    return graph.call(name, *map(graph.to_float, args), type=BOOL)


def _logic(name: str, *args: Node) -> Node:
    return graph.call(name, *map(to_bool, args), type=BOOL)


def _select(name: str, condition: Node, a: Node, b: Node) -> Node:
    if a.type != b.type:
        a, b = graph.to_float(a), graph.to_float(b)
    return graph.call(name, to_bool(condition), a, b, type=a.type)


def _order(name: str, n: Node, x: Node) -> Node:
    if not isinstance(n, Const) or n.type != INT or n.value < 0:
        raise RowError(f"{name}: the order must be a constant integer >= 0, not {n}")
    return graph.call(name, n, graph.to_float(x))


def _same(name: str, x: Node) -> Node:
    return graph.call(name, x) if x.type == FLOAT else x


# How the types of the arguments give the node.
TYPES: dict[str, Callable[..., Node]] = {
    "float": _float,  # numbers -> float
    "predicate": _predicate,  # numbers -> bool
    "comparison": graph.comparison,  # two integers, or two floats -> bool
    "logic": _logic,  # bools -> bool
    "select": _select,  # (bool, T, T) -> T
    "order": _order,  # (constant integer, float) -> float
    "cast": lambda name, x: graph.to_float(x),  # integer or bool -> float
    "same": _same,  # float -> float; others have no derivative to begin with
}


def integer_call(name: str, fold: Callable[[int, int], int]) -> Callable[..., Node]:
    """The ``integer`` field of a binary operation: a call, folded if constant."""

    def build(a: Node, b: Node) -> Node:
        if isinstance(a, Const) and isinstance(b, Const):
            return graph.const(fold(int(a.value), int(b.value)))
        return graph.call(name, a, b, type=INT)

    return build
