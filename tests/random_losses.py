"""Random losses over the whole language, each with its evaluation by other libraries.

A loss is grown from the root: to make an expression of a shape, a production is drawn
with the probabilities of ``PRODUCTIONS``, which then asks for its arguments. NumPy
evaluates every tree as it is made, so that functions get arguments inside their domain
(``log`` of what is positive here, or of a square plus a constant) and nothing
overflows.

*Which losses tell something.* A gradient is compared to a relative 1e-10, which is only
meaningful where it is well conditioned: not next to a kink (``abs`` of a rounding
error) and not where everything cancels. ``noisy`` disturbs every intermediate of the
oracle's evaluation by a few units in its last place; where the gradient answers by more
than ``RESPONSE`` of the largest one, the loss is rejected.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import random_idioms as idioms
import random_shapes as shapes
from oracles import torch_gradient
from random_trees import ELEMENTS, ROUND, Maker, Shape, Tree, Unsuitable, inside, tree

RESPONSE = 2e-12
"""The largest answer of the gradient to noise, relative, of a loss that is compared."""

# --------------------------------------------------------------------------------------
# Elementwise functions
# --------------------------------------------------------------------------------------

# name, another spelling, least and largest argument
FUNCTIONS: tuple[tuple[str, str, float, float], ...] = (
    ("exp", "", -6, 4), ("exp2", "", -6, 5), ("expm1", "", -6, 4),
    ("log", "ln", 0.05, 1e4), ("log2", "", 0.05, 1e4), ("log10", "", 0.05, 1e4),
    ("log1p", "", -0.9, 1e4), ("sqrt", "", 0.02, 1e4), ("cbrt", "", 0.02, 1e4),
    ("abs", "fabs", -1e4, 1e4),
    ("sin", "", -50, 50), ("cos", "", -50, 50), ("tan", "", -1.3, 1.3),
    ("asin", "arcsin", -0.95, 0.95), ("acos", "arccos", -0.95, 0.95),
    ("atan", "arctan", -1e4, 1e4), ("sinh", "", -4, 4), ("cosh", "", -4, 4),
    ("tanh", "", -8, 8), ("asinh", "arcsinh", -1e4, 1e4),
    ("acosh", "arccosh", 1.05, 1e4), ("atanh", "arctanh", -0.9, 0.9),
    ("sigmoid", "expit", -8, 8), ("softplus", "", -8, 8), ("relu", "", -1e4, 1e4),
    ("erf", "", -3, 3), ("erfc", "", -3, 3), ("lgamma", "gammaln", 0.2, 60),
    ("digamma", "psi", 0.2, 60),
)  # fmt: skip


STEPS = "sign floor ceil trunc round".split()


def stepped(maker: Maker, shape: Shape) -> Tree:
    """A function without slope, beside one that has some."""
    name, u, v = maker.pick(STEPS), make(maker, shape), make(maker, shape)
    text = f"({{1}} - {name}({{0}}))"
    return tree(text, lambda m, x, y: y - getattr(m, name)(x), u, v)


def unary(maker: Maker, shape: Shape) -> Tree:
    """A function, of an argument that is brought into its domain if need be."""
    name, other, low, high = maker.pick(FUNCTIONS)
    u = inside(maker, make(maker, shape), low, high)
    written = other if other and maker.chance(0.3) else name
    return tree(f"{written}({{}})", lambda m, x: getattr(m, name)(x), u)


def power(maker: Maker, shape: Shape) -> Tree:
    u = make(maker, shape)
    exponent = maker.pick(
        ["2", "2", "3", "-1", "-2", "0.5", "1.5", "4", "-0.5", "tree"]
    )
    if exponent == "tree":
        u = inside(maker, u, 0.1, 20)
        v = inside(maker, make(maker, maker_part(maker, shape)), -3, 3)
        written = maker.pick(["({}**{})", "({}^{})", "pow({}, {})", "power({}, {})"])
        return tree(written, lambda m, x, y: x**y, u, v)
    if exponent not in ("2", "3", "4"):
        u = inside(maker, u, 0.1, 1e4)
    if u.value.size and np.abs(u.value).max() > 20:
        u = inside(maker, u, -3, 3)
        if exponent not in ("2", "3", "4"):
            raise Unsuitable("a power of a large number")
    k = float(exponent)
    return tree(f"({{}}**{exponent})", lambda m, x: x**k, u)


def arithmetic(maker: Maker, shape: Shape) -> Tree:
    """Sums, differences, products, quotients, with broadcasting on either side."""
    sign = maker.pick("++--***/")
    u, v = make(maker, shape), make(maker, maker_part(maker, shape))
    if maker.chance(0.3):
        u, v = v, u
    if sign == "/":
        least = np.abs(v.value).min() if v.value.size else 0
        v = v if least > 0.1 and maker.chance(0.7) else inside(maker, v, 0.2, 1e4)
    function: Callable[..., Any] = {
        "+": lambda m, a, b: a + b,
        "-": lambda m, a, b: a - b,
        "*": lambda m, a, b: a * b,
        "/": lambda m, a, b: a / b,
    }[sign]
    return tree(f"({{}} {sign} {{}})", function, u, v)


def negated(maker: Maker, shape: Shape) -> Tree:
    u = make(maker, shape)
    return tree("(-{})", lambda m, x: -x, u)


def binary(maker: Maker, shape: Shape) -> Tree:
    """Functions of two arguments."""
    name = maker.pick("minimum maximum atan2 hypot logaddexp mod floor_divide".split())
    u, v = make(maker, shape), make(maker, maker_part(maker, shape))
    if name in ("mod", "floor_divide"):
        v = inside(maker, v, 0.3, 1e4)
        if name == "mod":
            text = "({} % {})"
            return tree(text, lambda m, a, b: a - m.floor_divide(a, b) * b, u, v)
        w, text = maker.leaf(shape), "({2} + {0} // {1})"
        return tree(text, lambda m, a, b, c: c + m.floor_divide(a, b), u, v, w)
    if maker.chance(0.3):
        u, v = v, u
    spelled = {"minimum": "min", "maximum": "max", "atan2": "arctan2"}.get(name, name)
    text = f"{spelled if maker.chance(0.4) else name}({{}}, {{}})"
    return tree(text, lambda m, a, b: getattr(m, name)(*_alike(m, a, b)), u, v)


def _alike(m: Any, *args: Any) -> Any:
    return args if m.torch is None else m.torch.broadcast_tensors(*map(m.number, args))


def clipped(maker: Maker, shape: Shape) -> Tree:
    u, low = make(maker, shape), maker.pick([-0.6, -1.1, 0.0])
    high = maker.pick([0.4, 0.9, 2.3])
    return tree(f"clip({{}}, {low}, {high})", lambda m, x: m.clip(x, low, high), u)


# --------------------------------------------------------------------------------------
# Truth values and integers
# --------------------------------------------------------------------------------------


def chosen(maker: Maker, shape: Shape) -> Tree:
    """``where``; its branches may be broadcast."""
    c = condition(maker, maker_part(maker, shape))
    u, v = make(maker, shape), make(maker, maker_part(maker, shape))
    if maker.chance(0.4):
        u, v = v, u

    def function(m: Any, c: Any, a: Any, b: Any) -> Any:
        return m.where(c, m.number(a), m.number(b))

    return tree("where({}, {}, {})", function, c, u, v)


def condition(maker: Maker, shape: Shape, depth: int = 2) -> Tree:
    """A truth value."""
    kind = maker.pick("compare compare compare logic not finite data".split())
    if kind == "data":
        return maker.flags(shape)
    if kind == "logic" and depth:
        a, b = condition(maker, shape, depth - 1), condition(maker, shape, depth - 1)
        word, symbol = maker.pick([("and", "&"), ("or", "|")])
        written = word if maker.chance(0.5) else symbol
        name = f"logical_{word}"
        text = f"(({{}}) {written} ({{}}))"
        return tree(text, lambda m, a, b: getattr(m, name)(a, b), a, b)
    if kind == "not" and depth:
        a = condition(maker, shape, depth - 1)
        text = maker.pick(["(not ({}))", "(~({}))"])
        return tree(text, lambda m, a: m.logical_not(a), a)
    u = maker.leaf(shape)
    if kind == "finite":
        return tree("isfinite({})", lambda m, x: m.isfinite(m.number(x)), u)
    sign = maker.pick(["<", "<=", ">", ">="])
    v = make(maker, ()) if maker.chance(0.5) else maker.leaf(maker_part(maker, shape))
    name = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}[sign]
    text = f"({{}} {sign} {{}})"
    return tree(text, lambda m, a, b: _compare(m, name, a, b), u, v)


def _compare(m: Any, name: str, a: Any, b: Any) -> Any:
    long = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
    return getattr(m, long[name])(m.number(a), m.number(b))


def counted(maker: Maker, shape: Shape) -> Tree:
    """Integer or truth values used as numbers."""
    if maker.chance(0.4):
        c = condition(maker, shape)
        u = make(maker, shape)
        return tree("({} * {})", lambda m, c, x: m.number(c) * x, c, u)
    i, u = maker.integers(shape, -3, 4), make(maker, maker_part(maker, shape))
    sign = maker.pick("+*-")
    function: Callable[..., Any] = {
        "+": lambda m, i, x: m.number(i) + x,
        "-": lambda m, i, x: m.number(i) - x,
        "*": lambda m, i, x: m.number(i) * x,
    }[sign]
    return tree(f"({{}} {sign} {{}})", function, i, u)


# --------------------------------------------------------------------------------------
# The grammar
# --------------------------------------------------------------------------------------


def shared(maker: Maker, shape: Shape) -> Tree:
    """An expression with a name, used where it is made and perhaps again."""
    known = [t for t in maker.named.values() if t.shape == shape]
    if known and maker.chance(0.7):
        return maker.pick(known)
    return maker.named_line(make(maker, shape))


PRODUCTIONS: tuple[tuple[Callable[[Maker, Shape], Tree], float], ...] = (
    (arithmetic, 20.0),
    (unary, 20.0),
    (power, 6.0),
    (negated, 2.0),
    (stepped, 1.0),
    (binary, 5.0),
    (clipped, 1.5),
    (chosen, 5.0),
    (counted, 2.5),
    (shared, 6.0),
    (idioms.idiom, 8.0),
    (idioms.idiom_of_sums, 4.0),
    (idioms.guarded, 3.0),
    (shapes.reduced, 14.0),
    (shapes.softmaxed, 3.0),
    (shapes.product, 7.0),
    (shapes.einsum, 4.0),
    (shapes.transposed, 3.0),
    (shapes.sliced, 6.0),
    (shapes.picked, 3.0),
    (shapes.gathered, 6.0),
    (shapes.stretched, 4.0),
    (shapes.diagonal, 3.0),
    (shapes.measured, 1.5),
)
"""What an expression may be, and how often."""


def make(maker: Maker, shape: Shape) -> Tree:
    """A random expression of ``shape``; raises Unsuitable if that is large."""
    if math.prod(shape) > ELEMENTS:
        raise Unsuitable("too large")
    maker.budget -= 1
    if maker.budget < 0 or maker.chance(0.1):
        return maker.leaf(shape)
    productions, weights = zip(*PRODUCTIONS, strict=True)
    for _ in range(8):
        (production,) = maker.dice.choices(productions, weights)
        try:
            found = production(maker, shape)
            assert found.shape == shape, (found.text, found.shape, shape)
            return found
        except Unsuitable:
            maker.budget -= 1
    return maker.leaf(shape)


def maker_part(maker: Maker, shape: Shape) -> Shape:
    """A shape that broadcasts to ``shape``."""
    if maker.chance(0.5):
        return shape
    part = tuple(1 if maker.chance(0.25) else k for k in shape)
    return part[maker.dice.randint(0, len(part)) :]


# --------------------------------------------------------------------------------------
# Losses
# --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RandomLoss:
    """A loss: its tree with everything that follows from it.

    text: the program. values: the arrays by name. wrt: the names of the parameters.
    """

    seed: int
    root: Tree
    text: str
    values: dict[str, np.ndarray]
    wrt: list[str]

    def __call__(self, m: Any, **leaves: Any) -> Any:
        return self.root.evaluate(m, leaves)

    def value(self) -> float:
        """In NumPy."""
        return float(self.root.value)

    def noisy(self, seed: int, noise: float = ROUND) -> Callable[..., Any]:
        """The loss with every intermediate disturbed in its last places."""
        numbers = np.random.default_rng(seed)

        def evaluate(m: Any, **leaves: Any) -> Any:
            def disturb(x: Any) -> Any:
                return x * m.number(1 + noise * numbers.uniform(-1, 1, size=x.shape))

            return self.root.evaluate(m, leaves, disturb)

        return evaluate

    def __str__(self) -> str:
        shown = {k: (v.shape, v.dtype.str) for k, v in self.values.items()}
        return f"\nseed {self.seed}: wrt {self.wrt}\n{self.text}\n{shown}"


def loss_of(root: Tree, seed: int) -> RandomLoss:
    """The loss that computes ``root``."""
    trees = root.walk()
    lines = [f"{t.text} = {t.args[0].text}" for t in trees if t.named]
    inputs = [t for t in trees if t.array is not None]
    values = {t.text: t.array for t in inputs if t.array is not None}
    wrt = [t.text for t in inputs if t.parameter]
    return RandomLoss(seed, root, "\n".join([*lines, root.text]), values, wrt)


def random_loss(seed: int, budget: int = 14, rows: int = 0) -> RandomLoss:
    """The loss number ``seed``: always the same one. ``rows``: 0 for any number."""
    for attempt in range(100):
        try:
            root = _root(Maker(seed * 100 + attempt, make, budget, rows))
        except Unsuitable:
            continue
        loss = loss_of(root, seed)
        if loss.wrt and root.args:
            return loss
    raise AssertionError(f"no loss for seed {seed}")


def _root(maker: Maker) -> Tree:
    """A scalar: mostly a sum over rows, or a function of such sums."""
    kind = maker.pick("mean sum sum+ any".split())
    if kind == "any":
        return make(maker, ())
    rest = tuple(maker.extent() for _ in range(maker.pick([0, 0, 1, 1, 2])))
    if kind == "sum+":
        maker.budget //= 2
    u = make(maker, (maker.rows, *rest))
    name = "mean" if kind == "mean" else "sum"
    root = tree(f"{name}({{}})", lambda m, x: getattr(m, name)(x), u)
    if kind == "sum+":
        maker.budget = 6
        v = make(maker, ())
        sign, function = maker.pick(SIGNS)
        root = tree(f"{{}} {sign} {{}}", function, v, root)
    return root


SIGNS: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("+", lambda m, a, b: a + b),
    ("-", lambda m, a, b: a - b),
    ("*", lambda m, a, b: a * b),
)


def conditioning(
    loss: RandomLoss,
    wanted: dict[str, np.ndarray],
    noise: float = ROUND,
    seeds: Iterable[int] = (1, 2),
) -> dict[str, float]:
    """How much each gradient answers to rounding errors: an absolute error.

    Infinite if the oracle itself gives no finite gradient.
    """

    def gradient(seed: int) -> dict[str, np.ndarray]:
        return torch_gradient(loss.noisy(seed, noise), loss.values, loss.wrt)[1]

    return spread(gradient, wanted, seeds)


def spread(
    derivative: Callable[[int], dict[str, np.ndarray]],
    wanted: dict[str, np.ndarray],
    seeds: Iterable[int] = (1, 2),
) -> dict[str, float]:
    """The largest difference of ``derivative(seed)`` from ``wanted``, by name."""
    answers = dict.fromkeys(wanted, 0.0)
    for seed in seeds:
        found = derivative(seed)
        for name, want in wanted.items():
            answer = float(np.abs(found[name] - want).max(initial=0.0))
            answers[name] = max(answers[name], answer)
            if not np.isfinite(answer):
                answers[name] = np.inf
    return answers
