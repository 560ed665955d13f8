"""Productions of the random losses as people write them: stable or not, safe or not.

``IDIOMS`` are the textbook's formulas that a computer must not take literally;
``guarded`` is a ``where`` whose other branch is NaN or infinite where it is not taken.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from random_trees import Maker, Shape, Tree, Unsuitable, inside, tree

Function = Callable[..., Any]

# text, in the namespaces of the oracles, least and largest argument
IDIOMS: tuple[tuple[str, Function, float, float], ...] = (
    ("log(1 + exp({0}))", lambda m, x: m.log(1 + m.exp(x)), -6, 6),
    ("log(exp({0}) + exp({1}))", lambda m, x, y: m.log(m.exp(x) + m.exp(y)), -5, 5),
    ("log(sigmoid({0}))", lambda m, x: m.log(m.sigmoid(x)), -6, 6),
    ("log(1 - sigmoid({0}))", lambda m, x: m.log(1 - m.sigmoid(x)), -6, 3),
    ("(1/(1 + exp(-{0})))", lambda m, x: 1 / (1 + m.exp(-x)), -6, 6),
    ("(exp({0})/(1 + exp({0})))", lambda m, x: m.exp(x) / (1 + m.exp(x)), -6, 6),
    ("(1 - exp(-{0}))", lambda m, x: 1 - m.exp(-x), -3, 6),
    ("(exp({0}) - 1)", lambda m, x: m.exp(x) - 1, -6, 3),
    ("(1 - cos({0}))", lambda m, x: 1 - m.cos(x), 0.3, 6),
    ("sqrt({0}**2 + {1}**2)", lambda m, x, y: m.sqrt(x**2 + y**2), 0.1, 50),
    ("(sqrt({0} + 1) - sqrt({0}))", lambda m, x: m.sqrt(x + 1) - m.sqrt(x), 0.1, 50),
    ("(1/({0} + 1) - 1/{0})", lambda m, x: 1 / (x + 1) - 1 / x, 0.2, 50),
    ("({0}*log({0}))", lambda m, x: x * m.log(x), 0.05, 50),
    ("({0}*log({0}/{1}))", lambda m, x, y: x * m.log(x / y), 0.1, 20),
    ("(1 - tanh({0})**2)", lambda m, x: 1 - m.tanh(x) ** 2, -3, 3),
    ("((exp({0}) - exp(-{0}))/(exp({0}) + exp(-{0})))",
     lambda m, x: (m.exp(x) - m.exp(-x)) / (m.exp(x) + m.exp(-x)), -4, 4),
    ("(sigmoid({0})*(1 - sigmoid({0})))",
     lambda m, x: m.sigmoid(x) * (1 - m.sigmoid(x)), -6, 6),
    ("log(exp({0}))", lambda m, x: m.log(m.exp(x)), -6, 6),
    ("exp(log({0}))", lambda m, x: m.exp(m.log(x)), 0.05, 1e3),
    ("log({0}*{1})", lambda m, x, y: m.log(x * y), 0.1, 50),
    ("log({0}**2)", lambda m, x: m.log(x**2), 0.1, 50),
    ("sqrt({0}**2)", lambda m, x: m.sqrt(x**2), -50, -0.1),
    ("({0}/{0} + {1})", lambda m, x, y: x / x + y, 0.1, 50),
    ("({0}*{1}/{0})", lambda m, x, y: x * y / x, 0.2, 50),
    ("(({0} + {1})**2 - ({0} - {1})**2)",
     lambda m, x, y: (x + y) ** 2 - (x - y) ** 2, -5, 5),
    ("(0.5*log(2*pi*{1}**2) + ({0} - 1)**2/(2*{1}**2))",
     lambda m, x, y: 0.5 * m.log(2 * np.pi * y**2) + (x - 1) ** 2 / (2 * y**2), 0.3, 9),
    ("({1}*log({0}) - {0} - lgamma({1} + 1))",
     lambda m, x, y: y * m.log(x) - x - m.lgamma(y + 1), 0.3, 20),
    ("(lgamma({0} + 1) - lgamma({0}))",
     lambda m, x: m.lgamma(x + 1) - m.lgamma(x), 0.3, 20),
)  # fmt: skip

# over the axis {axis}, which the result keeps if it is a quotient
SUMS: tuple[tuple[str, Function, bool], ...] = (
    ("log(sum(exp({0}), axis={axis}))",
     lambda m, x, k: m.log(m.sum(m.exp(x), axis=k)), False),
    ("log(mean(exp({0}), axis={axis}))",
     lambda m, x, k: m.log(m.mean(m.exp(x), axis=k)), False),
    ("sqrt(sum({0}**2, axis={axis}) + 0.01)",
     lambda m, x, k: m.sqrt(m.sum(x**2, axis=k) + 0.01), False),
    ("(mean({0}**2, axis={axis}) - mean({0}, axis={axis})**2)",
     lambda m, x, k: m.mean(x**2, axis=k) - m.mean(x, axis=k) ** 2, False),
    ("(sum({0}, axis={axis})/{0}.shape[{axis}])",
     lambda m, x, k: m.sum(x, axis=k) / x.shape[k], False),
    ("(max({0}, axis={axis}) - min({0}, axis={axis}))",
     lambda m, x, k: m.max(x, axis=k) - m.min(x, axis=k), False),
    ("(exp({0})/sum(exp({0}), axis={axis}, keepdims=True))",
     lambda m, x, k: m.exp(x) / m.sum(m.exp(x), axis=k, keepdims=True), True),
    ("log(softmax({0}, axis={axis}))", lambda m, x, k: m.log(m.softmax(x, k)), True),
    ("({0} - logsumexp({0}, axis={axis}, keepdims=True))",
     lambda m, x, k: x - m.logsumexp(x, axis=k, keepdims=True), True),
    ("({0} - mean({0}, axis={axis}, keepdims=True))",
     lambda m, x, k: x - m.mean(x, axis=k, keepdims=True), True),
    ("({0}/sum(abs({0}) + 0.1, axis={axis}, keepdims=True))",
     lambda m, x, k: x / m.sum(m.abs(x) + 0.1, axis=k, keepdims=True), True),
)  # fmt: skip

# where({0} > limit, text, other): what may not be evaluated elsewhere, and a place
# where it may
GUARDED: tuple[tuple[str, float, Function, float], ...] = (
    ("log({0})", 0.0, lambda m, x: m.log(x), 1.0),
    ("sqrt({0})", 0.0, lambda m, x: m.sqrt(x), 1.0),
    ("{0}**-0.5", 0.0, lambda m, x: x**-0.5, 1.0),
    ("{0}**1.5", 0.0, lambda m, x: x**1.5, 1.0),
    ("acosh({0} + 1)", 0.0, lambda m, x: m.acosh(x + 1), 1.0),
    ("1/relu({0})", 0.0, lambda m, x: 1 / m.relu(x), 1.0),
    ("lgamma({0})", 0.0, lambda m, x: m.lgamma(x), 1.0),
    ("exp(-1/{0})", 0.0, lambda m, x: m.exp(-1 / x), 1.0),
    ("exp(-1000*{0})", 0.0, lambda m, x: m.exp(-1000 * x), 1.0),
    ("log1p({0} - 1)", 0.0, lambda m, x: m.log1p(x - 1), 1.0),
    ("{0}*log({0})", 0.0, lambda m, x: x * m.log(x), 1.0),
    ("({0} + inf*0 + 1/0)", 1e6, lambda m, x: x, 1.0),
)


def idiom(maker: Maker, shape: Shape) -> Tree:
    """A textbook's formula of one or two expressions."""
    text, function, low, high = maker.pick(IDIOMS)
    u = inside(maker, maker.make(shape), low, high)
    if "{1}" not in text:
        return tree(text, function, u)
    v = inside(maker, maker.make(shape), low, high)
    if maker.chance(0.15):
        v = u
    return tree(text, function, u, v)


def idiom_of_sums(maker: Maker, shape: Shape) -> Tree:
    """A textbook's formula with a sum over an axis."""
    text, function, keeps = maker.pick(SUMS)
    if len(shape) == 4 or (keeps and not shape):
        raise Unsuitable("the rank does not fit")
    if keeps:
        axis, inner = maker.dice.randrange(len(shape)), shape
    else:
        axis, length = maker.dice.randint(0, len(shape)), maker.extent()
        inner = (*shape[:axis], length, *shape[axis:])
    u = inside(maker, maker.make(inner), -4, 4)
    return tree(text.replace("{axis}", str(axis)), lambda m, x: function(m, x, axis), u)


def guarded(maker: Maker, shape: Shape) -> Tree:
    """``where`` with a branch that must not be looked at where it is not taken.

    The oracles' own gradients are poisoned by that, so they evaluate the branch where
    it is harmless.
    """
    text, limit, function, harmless = maker.pick(GUARDED)
    u, v = maker.make(shape), maker.make(shape)
    if np.abs(u.value - limit).min(initial=1.0) < 0.02:
        raise Unsuitable("next to the limit")

    def chosen(m: Any, x: Any, y: Any) -> Any:
        x, y = m.number(x), m.number(y)
        taken = x > limit
        return m.where(taken, function(m, m.where(taken, x, harmless + 0 * x)), y)

    if maker.chance(0.5):
        written = f"where({{0}} > {limit}, {text}, {{1}})"
    else:
        written = f"where({{0}} <= {limit}, {{1}}, {text})"
    return tree(written, chosen, u, v)
