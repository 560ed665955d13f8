"""Is a random loss compiled to the right number and gradient? If not, why not?

``verdict`` compares with PyTorch; ``minimise`` cuts a failing loss down to what it
takes to fail.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from oracles import torch_gradient
from random_losses import RESPONSE, RandomLoss, conditioning, loss_of
from random_trees import Tree, Unsuitable, tree

import symgrad as sg
from symgrad.errors import BroadcastWarning

TOLERANCE = 1e-10
"""Of values and gradients, relative to the largest element."""


@dataclass(frozen=True)
class Verdict:
    """kind: "right", "rejected", "wrong" or the name of an exception."""

    kind: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        return self.kind not in ("right", "rejected")


RIGHT, REJECTED = Verdict("right"), Verdict("rejected")


def verdict(loss: RandomLoss) -> Verdict:
    """Compile ``loss``, evaluate it, compare with PyTorch."""
    wanted = reference(loss)
    if wanted is None:
        return REJECTED
    return attempt(lambda: compare(wanted, *evaluate(loss)))


@dataclass(frozen=True)
class Reference:
    """What PyTorch makes of a loss.

    answers: by how much each gradient changes if every intermediate is disturbed in
    its last places. least: a difference that is nothing beside the other numbers.
    """

    value: float
    gradient: dict[str, np.ndarray]
    answers: dict[str, float]
    least: float


@lru_cache(maxsize=4)  # of the loss that several are asked about
def reference(loss: RandomLoss) -> Reference | None:
    """None where rounding errors decide what the gradient is."""
    value, wanted = torch_gradient(loss, loss.values, loss.wrt)
    answers = conditioning(loss, wanted)
    overall = largest(wanted)
    if not max(answers.values()) <= RESPONSE * max(overall, 1e-3):
        return None
    return Reference(value, wanted, answers, 1e-13 * max(overall, abs(value), 1e-3))


def largest(arrays: dict[str, np.ndarray]) -> float:
    """The largest magnitude in any of the arrays."""
    return max(float(np.abs(a).max(initial=0.0)) for a in arrays.values())


def attempt(judge: Callable[[], Verdict]) -> Verdict:
    """The verdict, or the exception there was instead: a finding whatever it is."""
    try:
        return judge()
    except Exception as error:
        return Verdict(type(error).__name__, " ".join(str(error).split())[:300])


def compare(
    wanted: Reference,
    value: float,
    gradient: Mapping[str, Any],
    tolerance: float = TOLERANCE,
) -> Verdict:
    """A value and gradients against PyTorch's."""
    if not abs(value - wanted.value) <= tolerance * max(abs(wanted.value), 1e-3):
        return Verdict("wrong", f"value {value!r}, wanted {wanted.value!r}")
    for name, want in wanted.gradient.items():
        got = np.asarray(gradient[name])
        if got.shape != want.shape:
            return Verdict("wrong", f"d/d{name} has shape {got.shape}")
        scale = np.abs(want).max(initial=0.0)
        allowed = tolerance * scale + 50 * wanted.answers[name] + wanted.least
        error = np.abs(got - want).max(initial=0.0)
        if not error <= allowed:
            return Verdict("wrong", f"d/d{name} is off by {error:.1e} of {scale:.1e}")
    return RIGHT


def evaluate(loss: RandomLoss) -> tuple[float, dict[str, np.ndarray]]:
    """The compiled loss and gradient. Columns against rows are meant here."""
    return compiled(loss).value_and_grad(**loss.values)


@lru_cache(maxsize=4)
def compiled(loss: RandomLoss, expression: Any = None, **options: Any) -> sg.Loss:
    """The loss, or another ``expression`` for it, compiled for its arrays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BroadcastWarning)
        text = loss.text if expression is None else expression
        values = {n: np.asarray(v) for n, v in loss.values.items()}
        return sg.compile(text, wrt=loss.wrt, **options).specialize(**values)


# --------------------------------------------------------------------------------------
# Smaller losses that fail alike
# --------------------------------------------------------------------------------------


def minimise(
    loss: RandomLoss,
    judge: Callable[[RandomLoss], Verdict] = verdict,
    tries: int = 400,
) -> RandomLoss:
    """A smaller loss with the same kind of verdict."""
    kind = judge(loss).kind
    while tries > 0:
        for root in _smaller(loss.root):
            tries -= 1
            candidate = loss_of(root, loss.seed)
            if not candidate.wrt or not root.args:
                continue
            if judge(candidate).kind == kind:
                loss = candidate
                break
            if tries <= 0:
                break
        else:
            break
    return loss


def _smaller(root: Tree) -> Iterator[Tree]:
    """Trees with one part less, the smallest first."""
    trees = root.walk()
    used = {t.text for t in trees}
    free = (name for k in range(10**6) if (name := f"z{k}") not in used)
    for t in trees:
        if t is not root and t.kind == "f" and t.args:
            try:
                total = tree("sum({})", lambda m, x: m.sum(x), t)
            except Unsuitable:
                continue
            if len(total.walk()) < len(trees):
                yield total
    for t in reversed(trees):
        if not t.args:
            continue
        for other in _stand_ins(t, free):
            try:
                yield substitute(root, t, other)
            except Unsuitable:
                continue


def _stand_ins(t: Tree, names: Iterator[str]) -> Iterator[Tree]:
    """What may stand for ``t``: an input with its value, or one of its parts."""
    if t.kind == "f":
        parameters = any(a.parameter for a in t.walk())
        for parameter in (False, True) if parameters else (False,):
            name = next(names)
            yield Tree(name, None, (), t.value, name, t.value, parameter)
    if t.named:
        yield t.args[0]
    for part in t.walk()[::-1]:
        if part is not t and part.shape == t.shape and part.kind == t.kind:
            yield part


def substitute(root: Tree, old: Tree, new: Tree) -> Tree:
    """``root`` with ``new`` for ``old``."""
    done: dict[Tree, Tree] = {}
    for t in root.walk():
        if t is old:
            done[t] = new
            continue
        args = tuple(done[a] for a in t.args)
        if all(a is b for a, b in zip(args, t.args, strict=True)):
            done[t] = t
        else:
            assert t.function is not None
            done[t] = replace(tree(t.template, t.function, *args), named=t.named)
    return done[root]
