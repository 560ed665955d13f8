"""Productions of the random losses that change shapes: sums, products, subscripts.

Each takes the shape that it must make, invents the shapes of its arguments, and asks
``maker.make`` for them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from oracles import pick
from random_trees import ELEMENTS, Maker, Shape, Tree, Unsuitable, inside, tree

RANK = 4
"""Tensors have at most so many axes."""

# --------------------------------------------------------------------------------------
# Reductions
# --------------------------------------------------------------------------------------

REDUCTIONS = "sum sum sum mean mean prod min max logsumexp norm var std".split()


def reduced(maker: Maker, shape: Shape) -> Tree:
    """A reduction over one or two axes, or over everything."""
    name = maker.pick(REDUCTIONS)
    most = 5 if name == "prod" else 10**9
    inner, axes, keepdims = _opened(maker, shape, most)
    u = maker.make(inner)
    if name in ("logsumexp", "prod"):
        u = inside(maker, u, -5, 5)
    options: dict[str, Any] = {"axis": axes, "keepdims": keepdims}
    words = _axis_words(maker, axes, len(inner), keepdims)
    if name in ("var", "std"):
        count = np.prod([inner[k] for k in axes or range(len(inner))], dtype=int)
        if count < 2:
            raise Unsuitable("variance of one number")
        options["ddof"] = maker.pick([0, 0, 1])
        words += ["ddof=1"] if options["ddof"] else []
    written = (
        name if name in ("norm", "std", "sum") else maker.pick([name, _other(name)])
    )
    text = f"{written}({', '.join(['{}', *words])})"
    found = tree(text, lambda m, x: getattr(m, name)(x, **options), u)
    if name in ("std", "norm") and np.abs(found.value).min(initial=1.0) < 1e-2:
        raise Unsuitable("next to a singularity")
    return found


def _other(name: str) -> str:
    return {"min": "amin", "max": "amax"}.get(name, name)


def _opened(
    maker: Maker, shape: Shape, most: int
) -> tuple[Shape, tuple[int, ...] | None, bool]:
    """The shape of the argument, the axes to reduce (None: all) and keepdims."""
    if not shape and maker.chance(0.6):
        rank = maker.pick([1, 1, 2, 2, 3])
        return tuple(maker.extent(most) for _ in range(rank)), None, False
    ones = [k for k, length in enumerate(shape) if length == 1]
    if ones and maker.chance(0.6):
        axes = tuple(sorted(maker.dice.sample(ones, maker.dice.randint(1, len(ones)))))
        inner = list(shape)
        for k in axes:
            inner[k] = maker.extent(most)
        return tuple(inner), axes, True
    count = 2 if maker.chance(0.25) else 1
    if len(shape) + count > RANK:
        raise Unsuitable("too many axes")
    inner = list(shape)
    for _ in range(count):
        inner.insert(maker.dice.randint(0, len(inner)), -1)
    axes = tuple(k for k, length in enumerate(inner) if length == -1)
    return tuple(maker.extent(most) if k == -1 else k for k in inner), axes, False


def _axis_words(
    maker: Maker, axes: tuple[int, ...] | None, rank: int, keepdims: bool
) -> list[str]:
    if axes is None:
        return []
    written = [k - rank if maker.chance(0.3) else k for k in axes]
    shown = f"({', '.join(map(str, written))})" if len(written) > 1 else str(written[0])
    return [f"axis={shown}", *(["keepdims=True"] if keepdims else [])]


def softmaxed(maker: Maker, shape: Shape) -> Tree:
    if not shape:
        raise Unsuitable("softmax of a scalar")
    name = maker.pick(["softmax", "log_softmax"])
    u = inside(maker, maker.make(shape), -6, 6)
    axis = maker.dice.randint(-len(shape), len(shape) - 1)
    last = axis in (-1, len(shape) - 1) and maker.chance(0.5)
    text = f"{name}({{}})" if last else f"{name}({{}}, axis={axis})"
    return tree(text, lambda m, x: getattr(m, name)(x, axis), u)


# --------------------------------------------------------------------------------------
# Products
# --------------------------------------------------------------------------------------


def product(maker: Maker, shape: Shape) -> Tree:
    """``@``, also of vectors and batches, ``dot`` and ``outer``."""
    k = maker.extent()
    if len(shape) == 2 and maker.chance(0.2):
        u, v = maker.make(shape[:1]), maker.make(shape[1:])
        return tree("outer({}, {})", lambda m, a, b: m.outer(a, b), u, v)
    if len(shape) <= 1 and maker.chance(0.5):
        left, right = ((*shape, k), (k,))
        if maker.chance(0.3):
            left, right = (k,), (k, *shape)
    elif len(shape) >= 2:
        left, right = (*shape[:-1], k), (*shape[:-2], k, shape[-1])
        if len(shape) > 2 and maker.chance(0.5):
            right = right[-2:]
        elif len(shape) > 2 and maker.chance(0.3):
            left = left[-2:]
    else:
        left, right = ((*shape, k), (k,))
    u, v = maker.make(left), maker.make(right)
    flat = len(left) <= 2 and len(right) <= 2
    text = "dot({}, {})" if flat and maker.chance(0.3) else "({} @ {})"
    return tree(text, lambda m, a, b: a @ b, u, v)


# The output's subscripts and the inputs'.
SUBSCRIPTS = {
    0: ("i,i->", "ij,ij->", "ii->", "ij,i,j->", "ijk,k,ij->", "i,ij,j->"),
    1: ("ij,j->i", "ij->i", "ii->i", "ij,ij->i", "ijk,k,j->i", "j,ij->i", "ij,jk,k->i"),
    2: ("ik,kj->ij", "ki,kj->ij", "i,j->ij", "ji->ij", "ijk,k->ij", "...i,...j->...ij"),
    3: ("ij,k->ijk", "ijl,lk->ijk", "il,jl,kl->ijk", "kji->ijk", "ij,jk->ijk"),
}


def einsum(maker: Maker, shape: Shape) -> Tree:
    if len(shape) not in SUBSCRIPTS:
        raise Unsuitable("no subscripts for this rank")
    rule = maker.pick(SUBSCRIPTS[len(shape)])
    inputs, output = rule.split("->")
    lengths = dict(zip(output.replace("...", ""), shape, strict=True))
    terms = inputs.replace("...", "").split(",")
    for letter in "".join(terms):
        lengths.setdefault(letter, maker.extent())
    if math.prod(lengths.values()) > 20 * ELEMENTS:
        raise Unsuitable("too large")
    args = [maker.make(tuple(lengths[c] for c in term)) for term in terms]
    text = f'einsum("{rule}", {", ".join(["{}"] * len(args))})'
    return tree(text, lambda m, *args: m.einsum(rule, *args), *args)


# --------------------------------------------------------------------------------------
# Subscripts
# --------------------------------------------------------------------------------------


def transposed(maker: Maker, shape: Shape) -> Tree:
    if not shape:
        raise Unsuitable("transpose of a scalar")
    u = maker.make(shape[::-1])
    text = maker.pick(["{}.T", "{}'", "transpose({})"])
    return tree(text, lambda m, x: m.swap(x), u)


def sliced(maker: Maker, shape: Shape) -> Tree:
    """A slice of one axis, by a positive or a negative step."""
    if not shape:
        raise Unsuitable("slice of a scalar")
    axis = maker.dice.randrange(len(shape))
    extent, written, chosen = _slice(maker, shape[axis])
    base = maker.make((*shape[:axis], extent, *shape[axis + 1 :]))
    items = (slice(None),) * axis + (chosen,)
    before = ":, " * axis
    if axis == len(shape) - 1 and maker.chance(0.3):
        items, before = (Ellipsis, chosen), "..., "
    return tree(f"{{}}[{before}{written}]", lambda m, x: pick(m, x, items), base)


def _slice(maker: Maker, length: int) -> tuple[int, str, slice]:
    """The length of the base and a slice of it with ``length`` elements."""
    more, step = maker.dice.randint(1, 4), maker.dice.randint(2, 3)
    start = maker.dice.randint(0, 2)
    strided = (length - 1) * step + 1
    choices: list[tuple[int, str, slice]] = [
        (length + more, f"{more}:", slice(more, None)),
        (length + more, f":-{more}", slice(None, -more)),
        (length + more + start, f"{start}:-{more}", slice(start, -more)),
        (length, "::-1", slice(None, None, -1)),
        (length, f":{length + more}", slice(None, length + more)),
        (strided + start, f"{start}::{step}", slice(start, None, step)),
        (strided, f"::-{step}", slice(None, None, -step)),
        (length + more + 2, f"{more}:{more + length}", slice(more, more + length)),
        (length + more, f"-{length}:", slice(-length, None)),
        (length + more + 1, f"{length}:0:-1", slice(length, 0, -1)),
    ]
    return maker.pick(choices)


def picked(maker: Maker, shape: Shape) -> Tree:
    """One element along a new axis."""
    if len(shape) == RANK:
        raise Unsuitable("too many axes")
    axis, extent = maker.dice.randint(0, len(shape)), maker.extent()
    at = maker.dice.randrange(-extent, extent)
    base = maker.make((*shape[:axis], extent, *shape[axis:]))
    items = (slice(None),) * axis + (at,)
    return tree(f"{{}}[{':, ' * axis}{at}]", lambda m, x: pick(m, x, items), base)


def gathered(maker: Maker, shape: Shape) -> Tree:
    """Integer arrays as subscripts: on any axis, of rank 0 to 2, also two at a time."""
    axis = maker.dice.randint(0, len(shape))
    rank = maker.dice.randint(0, min(2, len(shape) - axis))
    inner, rest = shape[axis : axis + rank], shape[axis + rank :]
    if axis + 1 + len(rest) > RANK:
        raise Unsuitable("too many axes")
    if axis == 0 and maker.chance(0.25):
        return _gathered_twice(maker, inner, rest)
    extent = maker.extent()
    base = maker.make((*shape[:axis], extent, *rest))
    index = _index(maker, inner, extent)

    def function(m: Any, x: Any, i: Any) -> Any:
        return pick(m, x, (slice(None),) * axis + (i,))

    return tree(f"{{}}[{':, ' * axis}{{}}]", function, base, index)


def _index(maker: Maker, shape: Shape, extent: int) -> Tree:
    """Integer data, perhaps inside a formula, that points into an axis."""
    negative = maker.chance(0.3)
    i = maker.integers(shape, -extent if negative else 0, extent)
    if maker.chance(0.25):
        return tree(f"({{}} + 1) % {extent}", lambda m, i: (i + 1) % extent, i)
    return i


def _gathered_twice(maker: Maker, inner: Shape, rest: Shape) -> Tree:
    if len(rest) + 2 > RANK:
        raise Unsuitable("too many axes")
    lengths = maker.extent(), maker.extent()
    base = maker.make((*lengths, *rest))
    i = _index(maker, inner, lengths[0])
    j = _index(maker, inner[1:] if maker.chance(0.3) else inner, lengths[1])
    return tree("{}[{}, {}]", lambda m, x, i, j: x[i, j], base, i, j)


def stretched(maker: Maker, shape: Shape) -> Tree:
    """Axes of length one by ``None``, broadcast against each other."""
    if len(shape) < 2:
        raise Unsuitable("needs two axes")
    cut = maker.dice.randint(1, len(shape) - 1)
    u, v = maker.make(shape[:cut]), maker.make(shape[cut:])
    after = (slice(None),) * cut + (None,) * (len(shape) - cut)
    before = (None,) * cut + (slice(None),) * (len(shape) - cut)
    sign = maker.pick("+-*")
    function: Callable[..., Any] = {
        "+": lambda m, a, b: a[after] + b[before],
        "-": lambda m, a, b: a[after] - b[before],
        "*": lambda m, a, b: a[after] * b[before],
    }[sign]
    left = ", ".join([":"] * cut + ["None"] * (len(shape) - cut))
    right = ", ".join(["None"] * cut + [":"] * (len(shape) - cut))
    return tree(f"({{}}[{left}] {sign} {{}}[{right}])", function, u, v)


# --------------------------------------------------------------------------------------
# Diagonals, triangles and lengths
# --------------------------------------------------------------------------------------


def diagonal(maker: Maker, shape: Shape) -> Tree:
    """``trace``, ``diag``, ``tril``, ``triu`` and ``eye``."""
    if len(shape) == 0:
        u = maker.make((maker.extent(), maker.extent()))
        return tree("trace({})", lambda m, x: m.trace(x), u)
    if len(shape) == 1:
        more = (shape[0], shape[0] + maker.dice.randint(0, 2))
        u = maker.make(more if maker.chance(0.5) else more[::-1])
        return tree("diag({})", lambda m, x: m.diag(x), u)
    if len(shape) > 2:
        raise Unsuitable("matrices only")
    if shape[0] == shape[1] and maker.chance(0.5):
        n = shape[0]
        if maker.chance(0.5):
            u = maker.make(shape[:1])
            return tree("diag({})", lambda m, x: m.diag(x), u)
        u = maker.make(shape)
        return tree(f"(eye({n}) - {{}})", lambda m, x: m.eye(n) - x, u)
    name, k = maker.pick(["tril", "triu"]), maker.pick([0, 0, 1, -1])
    u = maker.make(shape)
    text = f"{name}({{}}, {k})" if k else f"{name}({{}})"
    return tree(text, lambda m, x: getattr(m, name)(x, k), u)


def measured(maker: Maker, shape: Shape) -> Tree:
    """Lengths and positions as numbers."""
    u = maker.make(shape)
    if not shape:
        return tree("({} + 0.25)", lambda m, x: x + 0.25, u)
    axis = maker.dice.randrange(len(shape))
    length, last = shape[axis], shape[-1]
    kind = maker.pick("len shape arange".split())
    if kind == "len":
        source = maker.leaf(shape)
        return tree("({} / len({}))", lambda m, x, y: x / shape[0], u, source)
    if kind == "shape":
        return tree(f"({{0}} / {{0}}.shape[{axis}])", lambda m, x: x / length, u)

    def function(m: Any, x: Any) -> Any:
        return x * m.number(m.arange(last)) / last

    return tree(f"({{}} * arange({last}) / {last})", function, u)
