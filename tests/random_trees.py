"""Expression trees that know their text, their NumPy value and how to evaluate them.

``Tree`` is what the generator of random losses builds; ``Maker`` has what every
production of the generator needs: dice, lengths, names and leaves.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from oracles import NUMPY

Shape = tuple[int, ...]

ROUND = 2.0**-50
"""Relative noise for the conditioning of a loss: a few units in the last place."""

LARGEST = 1e4
"""Values beyond this are not built upon: products of them tell nothing."""

ELEMENTS = 20_000
"""Intermediate tensors have at most so many elements."""


class Unsuitable(Exception):
    """This choice leads nowhere (not finite, too large): take another one."""


@dataclass(frozen=True, eq=False)
class Tree:
    """One expression.

    text: in the language. function: takes a namespace of ``oracles`` and the values of
    ``args``; None for an input. value: in NumPy. template: the text with ``{}`` for the
    arguments. array: of an input, as the user would pass it. parameter: whether an
    input is one. named: whether the text is the name that a line gives to the argument.
    """

    text: str
    function: Callable[..., Any] | None
    args: tuple["Tree", ...]
    value: np.ndarray
    template: str = ""
    array: np.ndarray | None = None
    parameter: bool = False
    named: bool = False

    @property
    def shape(self) -> Shape:
        return self.value.shape

    @property
    def kind(self) -> str:
        return self.value.dtype.kind

    def walk(self) -> list["Tree"]:
        """All trees below, arguments first, each once."""
        found: dict[Tree, None] = {}
        pending: list[Tree] = [self]
        while pending:
            top = pending[-1]
            missing = [a for a in top.args if a not in found]
            if missing:
                pending.append(missing[0])
            else:
                found.setdefault(pending.pop())
        return list(found)

    def evaluate(self, m: Any, leaves: dict[str, Any], noise: Any = None) -> Any:
        """The value in namespace ``m``.

        ``noise``: a function that disturbs floating-point intermediates, anew for each
        use. So a difference of equal terms is not zero: neither is it in a kernel that
        fuses one of the two products with the subtraction.
        """

        def used(a: Tree) -> Any:
            exact = noise is None or a.function is None or a.kind != "f"
            return done[a] if exact else noise(done[a])

        done: dict[Tree, Any] = {}
        for t in self.walk():
            if t.function is None:
                done[t] = leaves[t.text]
                continue
            done[t] = t.function(m, *map(used, t.args))
        return used(self)


def tree(template: str, function: Callable[..., Any], *args: Tree) -> Tree:
    """A tree with its value; raises Unsuitable where that is not a good number."""
    text = template.format(*(a.text for a in args))
    with np.errstate(all="ignore"):
        value = np.asarray(function(NUMPY, *(a.value for a in args)))
    if value.dtype.kind == "f":
        if not np.isfinite(value).all() or np.abs(value).max(initial=0.0) > LARGEST:
            raise Unsuitable(text)
        value = value.astype(np.float64)
    if value.size > ELEMENTS:
        raise Unsuitable(text)
    return Tree(text, function, args, value, template)


@dataclass
class Maker:
    """Dice, names and leaves of one random loss.

    grow: makes an expression of a shape. budget: operations, roughly. rows: the length
    of the longest axes; 0: any.
    """

    seed: int
    grow: Callable[["Maker", Shape], Tree]
    budget: int = 14
    rows: int = 0
    dice: random.Random = field(init=False)
    numbers: np.random.Generator = field(init=False)
    inputs: dict[str, Tree] = field(default_factory=dict)
    named: dict[str, Tree] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.numbers = np.random.default_rng(self.seed)
        rows = self.dice.choice([2, 5, 7, 8, 9, 11, 17, 40, 70])
        self.rows = self.rows or rows
        self.small = [self.dice.choice([2, 3, 4, 5]) for _ in range(2)]
        if self.chance(0.08):  # an axis that is too long to be specialised
            self.small[1] = self.dice.choice([65, 66, 80])

    # -- dice --

    def chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    def pick(self, items: Any) -> Any:
        return self.dice.choice(list(items))

    def extent(self, most: int = 10**9) -> int:
        """The length of a new axis."""
        lengths = [k for k in (self.rows, self.rows, *self.small, 1 + self.small[0])
                   if k <= most]  # fmt: skip
        return self.pick(lengths or [2])

    # -- expressions --

    def make(self, shape: Shape) -> Tree:
        """A random expression of ``shape``."""
        return self.grow(self, shape)

    def leaf(self, shape: Shape) -> Tree:
        """An array that there is, a name, a new array or a number."""
        known = [
            t
            for t in (*self.inputs.values(), *self.named.values())
            if t.shape == shape and t.kind == "f"
        ]
        if known and self.chance(0.6):
            return self.pick(known)
        if not shape and self.chance(0.3):
            number = self.pick(["0.5", "2", "-1.5", "3", "pi", "0.7", "1e-1"])
            fixed = np.pi if number == "pi" else float(number)
            text = f"({number})" if number[0] == "-" else number
            return Tree(text, lambda m: m.number(fixed), (), np.asarray(fixed))
        parameter = not self.inputs or self.chance(0.5)
        return self.parameter(shape) if parameter else self.data(shape)

    def parameter(self, shape: Shape) -> Tree:
        name = f"{self.pick('abcuvw')}{len(self.inputs)}"
        return self.input(name, np.asarray(self.numbers.normal(size=shape)), True)

    def data(self, shape: Shape) -> Tree:
        """Floating-point data in some dtype and memory order."""
        name = f"{self.pick('XYZxyz')}{len(self.inputs)}"
        value = np.asarray(self.numbers.normal(size=shape))
        layout = self.pick("C C C F strided reversed float32 big".split())
        if layout == "F" and shape:
            value = np.asfortranarray(value)
        elif layout == "strided" and shape:
            value = np.repeat(value, 2, axis=-1)[..., ::2]
        elif layout == "reversed" and shape:
            value = value[::-1]
        elif layout == "float32":
            value = value.astype(np.float32)
        elif layout == "big":
            value = value.astype(">f8")
        return self.input(name, value)

    def integers(self, shape: Shape, low: int, high: int) -> Tree:
        """Integer data with ``low <= value < high``."""
        name = f"{self.pick('ijk')}{len(self.inputs)}"
        kind = self.pick([np.int64, np.int64, np.int32, np.int16])
        value = self.numbers.integers(low, high, size=shape).astype(kind)
        return self.input(name, np.asarray(value))

    def flags(self, shape: Shape) -> Tree:
        """Boolean data."""
        name = f"m{len(self.inputs)}"
        return self.input(name, self.numbers.integers(0, 2, size=shape) > 0)

    def input(self, name: str, array: np.ndarray, parameter: bool = False) -> Tree:
        kind = {"f": np.float64, "i": np.int64, "b": np.bool_}[array.dtype.kind]
        value = np.asarray(array, kind)
        found = Tree(name, None, (), value, name, array, parameter)
        self.inputs[name] = found
        return found

    # -- names --

    def named_line(self, body: Tree) -> Tree:
        """``body`` as a line of its own: the name stands for it from now on."""
        name = f"{self.pick('hpqst')}_{len(self.named)}"
        found = Tree(name, same, (body,), body.value, name, named=True)
        self.named[name] = found
        return found


def inside(maker: Maker, u: Tree, low: float, high: float) -> Tree:
    """``u``, or a function of it with values between ``low`` and ``high``."""
    if u.value.size and low <= u.value.min() and u.value.max() <= high:
        return u
    if low < 0:
        c = round(min(-low, high, 3.0) * 0.95, 3)
        if maker.chance(0.5):
            return tree(f"({c}*tanh({{}}))", lambda m, x: c * m.tanh(x), u)
        return tree(f"({c}*sin({{}}))", lambda m, x: c * m.sin(x), u)
    c = round(low + 0.3, 3)
    if u.value.size and np.abs(u.value).max() < 50 and maker.chance(0.5):
        return tree(f"({{}}**2 + {c})", lambda m, x: x**2 + c, u)
    return tree(f"(abs({{}}) + {c})", lambda m, x: m.abs(x) + c, u)


def same(m: Any, x: Any) -> Any:
    """What a name does."""
    return x
