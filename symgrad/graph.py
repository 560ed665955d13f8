"""The expression graph: interned, immutable nodes in index notation.

A node is a scalar expression over named indices. There are few kinds:

    Const    a literal                 Call     an operation of the table (ops)
    Size     a run-time length         Reduce   sum, prod, min, ... over bound indices
    Index    a bound variable          Array    a computed tensor, closed
    Input    a named array             Scatter  a computed tensor, by accumulation
    Load     one element of an Input, an Array or a Scatter

A matrix product, a transpose, einsum, a slice, a stencil or a gather is a ``Load``
under a ``Reduce``.

*Interning.* Building the same expression twice gives the same object, so equality is
identity and sharing needs no search. Two things make this work under binders:

- an ``Index`` is named by its extent and a slot number, so every vector over ``n`` rows
  uses the same ``Index``;
- ``Reduce`` and ``Array`` rename their bound indices to the smallest slots that are not
  free in them, so that alpha-equivalent expressions are one node.

All walks use explicit stacks: a graph may be tens of thousands of nodes deep.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, cast
from weakref import WeakValueDictionary

FLOAT, INT, BOOL = "float", "int", "bool"

REDUCTIONS = ("sum", "prod", "min", "max", "logsumexp", "norm")


class Node:
    """Base of all nodes. Compare with ``is``; never construct directly, use the
    functions below.
    """

    __slots__ = ("__weakref__", "children", "digest", "facts", "free", "type")

    children: tuple[Node, ...]
    free: frozenset[Index]
    type: str
    digest: bytes  # kept by simplify.order; absent before it is first asked for
    facts: dict[object, Any]  # kept by simplify.facts; absent before the first

    def __repr__(self) -> str:
        return to_text(self)

    def __bool__(self) -> bool:
        raise TypeError("a graph node has no truth value: compare nodes with 'is'")

    def __add__(self, other: Operand) -> Node:
        return arithmetic("add", self, other)

    def __radd__(self, other: Operand) -> Node:
        return arithmetic("add", other, self)

    def __sub__(self, other: Operand) -> Node:
        return arithmetic("sub", self, other)

    def __rsub__(self, other: Operand) -> Node:
        return arithmetic("sub", other, self)

    def __mul__(self, other: Operand) -> Node:
        return arithmetic("mul", self, other)

    def __rmul__(self, other: Operand) -> Node:
        return arithmetic("mul", other, self)

    def __truediv__(self, other: Operand) -> Node:
        return call("div", to_float(lift(self)), to_float(lift(other)))

    def __rtruediv__(self, other: Operand) -> Node:
        return call("div", to_float(lift(other)), to_float(lift(self)))

    def __pow__(self, other: Operand) -> Node:
        return call("pow", to_float(lift(self)), to_float(lift(other)))

    def __neg__(self) -> Node:
        return call("neg", self, type=self.type)

    def __lt__(self, other: Operand) -> Node:
        return comparison("lt", self, other)

    def __le__(self, other: Operand) -> Node:
        return comparison("le", self, other)

    def __gt__(self, other: Operand) -> Node:
        return comparison("gt", self, other)

    def __ge__(self, other: Operand) -> Node:
        return comparison("ge", self, other)


class Const(Node):
    """A literal. ``value`` is a Python float, int or bool, according to ``type``."""

    __slots__ = ("value",)
    value: float | int | bool


class Size(Node):
    """A run-time length, known by name (``"X.0"``: axis 0 of array X)."""

    __slots__ = ("name",)
    name: str


class Index(Node):
    """A bound variable that runs over 0 .. extent-1. ``slot`` tells apart indices of
    one extent.
    """

    __slots__ = ("extent", "slot")
    extent: Node
    slot: int


class Input(Node):
    """A named array, parameter or data. ``shape``: one integer node per axis; ``type``:
    of its elements.
    """

    __slots__ = ("name", "shape")
    name: str
    shape: tuple[Node, ...]


class Load(Node):
    """One element of ``array``. ``indices``: one integer node per axis."""

    __slots__ = ("array", "indices")
    array: ArrayLike
    indices: tuple[Node, ...]


class Call(Node):
    """An operation of the table applied to scalars."""

    __slots__ = ("args", "op")
    op: str
    args: tuple[Node, ...]


class Reduce(Node):
    """``kind`` (one of REDUCTIONS) of ``body`` over all values of the bound
    ``indices``.
    """

    __slots__ = ("body", "indices", "kind")
    kind: str
    indices: tuple[Index, ...]
    body: Node


class Array(Node):
    """The tensor whose element at ``indices`` is ``body``. Closed: it has no free
    index.
    """

    __slots__ = ("body", "indices", "shape")
    indices: tuple[Index, ...]
    body: Node
    shape: tuple[Node, ...]


class Scatter(Node):
    """The tensor of ``shape`` that starts at zero and, for all values of ``over``, has
    ``value`` added at ``targets``.

    Mathematically ``out[k] = sum_over delta(k, targets) * value``. Closed. Targets must
    lie inside the shape.
    """

    __slots__ = ("over", "shape", "targets", "value")
    shape: tuple[Node, ...]
    targets: tuple[Node, ...]
    over: tuple[Index, ...]
    value: Node


ArrayLike: TypeAlias = Input | Array | Scatter
Operand: TypeAlias = Node | float | int | bool

# --------------------------------------------------------------------------------------
# Construction
# --------------------------------------------------------------------------------------

_interned: WeakValueDictionary[tuple[object, ...], Node] = WeakValueDictionary()
_CLOSED: frozenset[Index] = frozenset()


def _union(nodes: Iterable[Node]) -> frozenset[Index]:
    result = _CLOSED
    for node in nodes:
        if node.free and not node.free <= result:
            result = result | node.free if result else node.free
    return result


def const(value: float | int | bool, type: str | None = None) -> Const:
    """A literal; ``type`` is that of the Python value unless given."""
    if type is None:
        type = (
            BOOL
            if isinstance(value, bool)
            else INT
            if isinstance(value, int)
            else FLOAT
        )
    value = {FLOAT: float, INT: int, BOOL: bool}[type](value)
    identity = (
        struct.pack("<d", value) if type == FLOAT else value
    )  # tells 0.0 from -0.0, and nan is itself
    key = (Const, type, identity)
    found = _interned.get(key)
    if found is None:
        found = Const()
        found.children, found.free, found.type, found.value = (), _CLOSED, type, value
        _interned[key] = found
    return cast(Const, found)


def size(name: str) -> Size:
    """The run-time length called ``name``."""
    key = (Size, name)
    found = _interned.get(key)
    if found is None:
        found = Size()
        found.children, found.free, found.type, found.name = (), _CLOSED, INT, name
        _interned[key] = found
    return cast(Size, found)


def index(extent: Node | int, slot: int = 0) -> Index:
    """The bound variable number ``slot`` over 0 .. extent-1."""
    extent = lift(extent)
    key = (Index, extent, slot)
    found = _interned.get(key)
    if found is None:
        found = Index()
        found.children, found.type, found.extent, found.slot = (), INT, extent, slot
        found.free = frozenset((found,))
        _interned[key] = found
    return cast(Index, found)


def input_(name: str, shape: Iterable[Node | int] = (), type: str = FLOAT) -> Input:
    """The array called ``name``; rank 0 is a scalar."""
    shape = tuple(lift(extent) for extent in shape)
    key = (Input, name, shape, type)
    found = _interned.get(key)
    if found is None:
        found = Input()
        found.children, found.free, found.type, found.name, found.shape = (
            (),
            _CLOSED,
            type,
            name,
            shape,
        )
        _interned[key] = found
    return cast(Input, found)


def load(array: ArrayLike, indices: Iterable[Operand] = ()) -> Load:
    """``array[indices]``, one index per axis."""
    indices = tuple(lift(i) for i in indices)
    if len(indices) != len(array.shape):
        raise ValueError(
            f"load: {len(indices)} indices for an array of rank {len(array.shape)}"
        )
    key = (Load, array, indices)
    found = _interned.get(key)
    if found is None:
        found = Load()
        found.array, found.indices = array, indices
        found.children, found.free, found.type = (
            (array, *indices),
            _union(indices),
            array.type,
        )
        _interned[key] = found
    return cast(Load, found)


def call(op: str, *args: Operand, type: str = FLOAT) -> Call:
    """``op(*args)``. ``type`` is the type of the result."""
    nodes = tuple(lift(a) for a in args)
    key = (Call, op, type, nodes)
    found = _interned.get(key)
    if found is None:
        found = Call()
        found.op, found.args, found.children = op, nodes, nodes
        found.free, found.type = _union(nodes), type
        _interned[key] = found
    return cast(Call, found)


def reduce_(kind: str, indices: Iterable[Index], body: Node) -> Node:
    """``kind`` over ``indices`` of ``body``, which may lack some of them. No indices:
    ``body`` itself.
    """
    if kind not in REDUCTIONS:
        raise ValueError(
            f"reduce: unknown kind {kind!r}; known: {', '.join(REDUCTIONS)}"
        )
    indices = tuple(indices)
    if not indices:
        return body
    free = body.free.difference(indices)
    bound = canonical_indices([i.extent for i in indices], free)
    body = substitute(body, dict(zip(indices, bound, strict=True)))
    key = (Reduce, kind, bound, body)
    found = _interned.get(key)
    if found is None:
        found = Reduce()
        found.kind, found.indices, found.body = kind, bound, body
        found.children, found.free, found.type = (body,), free, body.type
        _interned[key] = found
    return found


def array(indices: Iterable[Index], body: Node) -> Array:
    """The tensor with ``body`` at ``indices``; ``body`` may use no other free index."""
    indices = tuple(indices)
    if not body.free <= set(indices):
        raise ValueError(
            "array: free indices "
            f"{_listed(body.free.difference(indices))} are not bound"
        )
    bound = canonical_indices([i.extent for i in indices])
    body = substitute(body, dict(zip(indices, bound, strict=True)))
    key = (Array, bound, body)
    found = _interned.get(key)
    if found is None:
        found = Array()
        found.indices, found.body, found.shape = (
            bound,
            body,
            tuple(i.extent for i in bound),
        )
        found.children, found.free, found.type = (body,), _CLOSED, body.type
        _interned[key] = found
    return cast(Array, found)


def scatter(
    shape: Iterable[Node | int],
    targets: Iterable[Operand],
    over: Iterable[Index],
    value: Node,
) -> Scatter:
    """See :class:`Scatter`. The names of ``over`` are kept, so that ``value`` stays
    shared with its other uses.
    """
    shape, targets, over = (
        tuple(lift(e) for e in shape),
        tuple(lift(t) for t in targets),
        tuple(over),
    )
    loose = _union((*targets, value)).difference(over)
    if loose:
        raise ValueError(f"scatter: free indices {_listed(loose)} are not bound")
    key = (Scatter, shape, targets, over, value)
    found = _interned.get(key)
    if found is None:
        found = Scatter()
        found.shape, found.targets, found.over, found.value = (
            shape,
            targets,
            over,
            value,
        )
        found.children, found.free, found.type = (value, *targets), _CLOSED, FLOAT
        _interned[key] = found
    return cast(Scatter, found)


def _listed(indices: Iterable[Index]) -> list[str]:
    return sorted(map(index_name, indices))


def canonical_indices(
    extents: Iterable[Node], avoid: Iterable[Index] = ()
) -> tuple[Index, ...]:
    """The indices that a binder over ``extents`` uses: the smallest slots that are not
    in ``avoid``.
    """
    taken, result = set(avoid), []
    for extent in extents:
        slot = 0
        while (candidate := index(extent, slot)) in taken:
            slot += 1
        taken.add(candidate)
        result.append(candidate)
    return tuple(result)


# --------------------------------------------------------------------------------------
# Types and Python operands
# --------------------------------------------------------------------------------------


def lift(value: Operand) -> Node:
    """A Python number as a node; a node as it is."""
    return value if isinstance(value, Node) else const(value)


def to_float(node: Node) -> Node:
    """``node`` as a floating-point value.

    Integer sums, differences and products are converted at their leaves, so that
    integer data cannot overflow.
    """
    if node.type == FLOAT:
        return node
    done: dict[Node, Node] = {}
    pending = [node]
    while pending:
        top = pending[-1]
        if top in done:
            pending.pop()
            continue
        inner = (
            top.args
            if isinstance(top, Call)
            and top.op in ("add", "sub", "mul", "neg")
            and top.type == INT
            else ()
        )
        missing = [a for a in inner if a not in done]
        if missing:
            pending.extend(missing)
            continue
        pending.pop()
        if inner:
            done[top] = call(cast(Call, top).op, *(done[a] for a in inner))
        elif isinstance(top, Const):
            done[top] = const(top.value, FLOAT)
        else:
            done[top] = top if top.type == FLOAT else call("cast", top)
    return done[node]


def _weak(value: Operand, other: Operand) -> Node:
    """Python scalars take the type of the node beside them: ``x + 1`` stays in x's
    type.
    """
    if isinstance(value, Node):
        return value
    if isinstance(other, Node) and other.type == FLOAT:
        return const(value, FLOAT)
    return const(value)


def arithmetic(op: str, left: Operand, right: Operand) -> Node:
    """add, sub or mul: integer if both sides are, else floating point."""
    a, b = _weak(left, right), _weak(right, left)
    if a.type == INT and b.type == INT:
        return fold_int(op, a, b)
    return call(op, to_float(a), to_float(b))


def comparison(op: str, left: Operand, right: Operand) -> Node:
    """lt, le, gt, ge, eq or ne: of integers if both sides are, else of floating-point
    values.
    """
    a, b = _weak(left, right), _weak(right, left)
    if a.type != INT or b.type != INT:
        a, b = to_float(a), to_float(b)
    return call(op, a, b, type=BOOL)


def fold_int(op: str, a: Node, b: Node) -> Node:
    """Integer add, sub, mul with constants folded and ``n + c`` normalised, so that
    equal extents are one node. The constant wraps around as int64 does.
    """
    if isinstance(a, Const) and isinstance(b, Const):
        x, y = int(a.value), int(b.value)
        return const(x + y if op == "add" else x - y if op == "sub" else x * y)
    if op == "sub" and a is b:
        return const(0)
    if op == "sub" and isinstance(b, Const):
        op, b = "add", const(_wrapped(-int(b.value)))
    if op in ("add", "mul") and isinstance(a, Const):
        a, b = b, a
    if isinstance(b, Const):
        if b.value == (0 if op == "add" else 1) and op in ("add", "mul"):
            return a
        if (
            op == "add"
            and isinstance(a, Call)
            and a.op == "add"
            and isinstance(a.args[1], Const)
        ):
            more = _wrapped(int(a.args[1].value) + int(b.value))
            return fold_int("add", a.args[0], const(more))
    return call(op, a, b, type=INT)


def _wrapped(number: int) -> int:
    """``number`` modulo 2**64, between -2**63 and 2**63 - 1."""
    return (number + 2**63) % 2**64 - 2**63


# --------------------------------------------------------------------------------------
# Walks
# --------------------------------------------------------------------------------------


def walk(
    roots: Node | Iterable[Node], into: Callable[[Node], Iterable[Node]] | None = None
) -> list[Node]:
    """All nodes reachable from ``roots``, each once, arguments before the nodes that
    use them.

    ``into`` gives the nodes that a node uses; by default its ``children``.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, Iterator[Node]]] = []
    for root in (roots,) if isinstance(roots, Node) else roots:
        if root in seen:
            continue
        seen.add(root)
        stack.append((root, iter(into(root) if into else root.children)))
        while stack:
            node, rest = stack[-1]
            for child in rest:
                if child not in seen:
                    seen.add(child)
                    stack.append((child, iter(into(child) if into else child.children)))
                    break
            else:
                stack.pop()
                order.append(node)
    return order


def rebuild(node: Node, children: tuple[Node, ...]) -> Node:
    """``node`` with other children. The bound indices of binders stay as they are
    written in ``node``.
    """
    if children == node.children:
        return node
    if isinstance(node, Call):
        if node.type == INT and node.op in ("add", "sub", "mul"):
            return fold_int(node.op, *children)
        return call(node.op, *children, type=node.type)
    if isinstance(node, Load):
        return load(cast(ArrayLike, children[0]), children[1:])
    if isinstance(node, Reduce):
        return reduce_(node.kind, node.indices, children[0])
    if isinstance(node, Array):
        return array(node.indices, children[0])
    if isinstance(node, Scatter):
        return scatter(node.shape, children[1:], node.over, children[0])
    raise TypeError(f"rebuild: {type(node).__name__} has no children")


def transform(
    root: Node, function: Callable[[Node], Node], memo: dict[Node, Node] | None = None
) -> Node:
    """Apply ``function`` to every node, bottom-up, to nodes whose children are already
    transformed.
    """
    done = {} if memo is None else memo
    for node in walk(root):
        if node not in done:
            new = rebuild(node, tuple([done[c] for c in node.children]))
            done[node] = function(new)
    return done[root]


def substitute(root: Node, mapping: Mapping[Index, Node]) -> Node:
    """Replace free indices, all at once; bound indices are renamed where they would
    capture.
    """
    start = _restrict(mapping, root)
    if not start:
        return root
    done: dict[tuple[Node, frozenset[tuple[Index, Node]]], Node] = {}
    pending = [(root, start)]
    while pending:
        node, m = pending[-1]
        if (node, m) in done:
            pending.pop()
            continue
        if isinstance(node, Index):
            done[node, m] = dict(m).get(node, node)
            continue
        inner, bound = m, ()
        if isinstance(node, Reduce):
            lookup = dict(m)
            avoid = _union(lookup.get(i, i) for i in node.free)
            bound = canonical_indices([i.extent for i in node.indices], avoid)
            inner = m | frozenset(zip(node.indices, bound, strict=True))
        tasks = [(c, _restrict(dict(inner), c)) for c in node.children]
        missing = [t for t in tasks if t[1] and t not in done]
        if missing:
            pending.extend(missing)
            continue
        children = tuple(done[t] if t[1] else t[0] for t in tasks)
        done[node, m] = (
            reduce_(node.kind, bound, children[0])
            if isinstance(node, Reduce)
            else rebuild(node, children)
        )
    return done[root, start]


def _restrict(
    mapping: Mapping[Index, Node], node: Node
) -> frozenset[tuple[Index, Node]]:
    if not node.free:
        return frozenset()
    return frozenset(
        (i, mapping[i]) for i in node.free if i in mapping and mapping[i] is not i
    )


def sizes(roots: Node | Iterable[Node]) -> list[Size]:
    """The run-time lengths that the roots mention, in extents too, in order of first
    use.
    """
    found: dict[Size, None] = {}
    for node in walk(roots, into=uses):
        if isinstance(node, Size):
            found[node] = None
    return list(found)


def uses(node: Node) -> tuple[Node, ...]:
    """All that ``node`` is made of: its children, then bound indices and extents.

    For ``walk``, where extents matter; ``children`` alone leaves them out.
    """
    if isinstance(node, Index):
        return (node.extent,)
    if isinstance(node, (Reduce, Array)):
        return (*node.children, *node.indices)
    if isinstance(node, Scatter):
        return (*node.children, *node.shape, *node.over)
    return node.shape if isinstance(node, Input) else node.children


# --------------------------------------------------------------------------------------
# Printing
# --------------------------------------------------------------------------------------

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "pow": "**",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
    "and": "and",
    "or": "or",
}
_LETTERS = "ijklpqrst"


def index_name(i: Index) -> str:
    """A letter for the slot and the extent as a subscript: ``i<n>``."""
    letter = _LETTERS[i.slot] if i.slot < len(_LETTERS) else f"i{i.slot}"
    return f"{letter}<{to_text(i.extent)}>"


def to_text(root: Node, limit: int = 2000) -> str:
    """One line, fully parenthesised; for people. Cut at ``limit`` characters."""
    text: dict[Node, str] = {}
    for node in walk(root):
        line = _one_line(node, text)
        text[node] = line if len(line) <= limit else line[:limit] + "…"
    return text[root]


def _one_line(node: Node, text: dict[Node, str]) -> str:
    if isinstance(node, Const):
        return repr(node.value)
    if isinstance(node, (Size, Input)):
        return node.name
    if isinstance(node, Index):
        return index_name(node)
    if isinstance(node, Load):
        return (
            f"{text[node.array]}[{', '.join(text[i] for i in node.indices)}]"
            if node.indices
            else text[node.array]
        )
    if isinstance(node, Call):
        args = [text[a] for a in node.args]
        if node.op in _INFIX and len(args) == 2:
            return f"({args[0]} {_INFIX[node.op]} {args[1]})"
        return f"(-{args[0]})" if node.op == "neg" else f"{node.op}({', '.join(args)})"
    if isinstance(node, Reduce):
        bound = ", ".join(map(index_name, node.indices))
        return f"{node.kind}[{bound}]({text[node.body]})"
    if isinstance(node, Array):
        return f"{{{', '.join(map(index_name, node.indices))}: {text[node.body]}}}"
    assert isinstance(node, Scatter), type(node)
    targets = ", ".join(text[t] for t in node.targets)
    over = ", ".join(map(index_name, node.over))
    return f"scatter[{over}]([{targets}] += {text[node.value]})"
