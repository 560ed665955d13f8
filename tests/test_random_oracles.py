"""Random losses by the opinions of ``random_oracles``: a few each, as ``bench/fuzz.py``
asks them about thousands. And: each of the checks sees a mistake."""

from __future__ import annotations

import numpy as np
import pytest
import random_oracles
from jax_math import jax_math
from oracles import needs_torch, torch_math
from random_checks import attempt
from random_losses import random_loss
from random_oracles import CHECKS

import symgrad as sg

COUNTS = {
    "interpreter": 30, "float32": 30, "threads": 8, "digits": 10, "hvp": 10,
    "sympy": 10, "jax": 6, "numba": 2,
}  # fmt: skip
"""How many losses each is asked about here."""

pytestmark = [
    needs_torch,
    pytest.mark.filterwarnings("ignore::symgrad.errors.UnusedParameterWarning"),
]


@pytest.fixture(autouse=True)
def _one_thread():
    math = torch_math()
    assert math is not None
    math.torch.set_num_threads(1)


@pytest.mark.parametrize("name", COUNTS)
def test_opinions(name):
    if name == "jax" and jax_math() is None:
        pytest.skip("JAX is not installed")
    first = 5000 + 1000 * list(COUNTS).index(name)
    kinds = []
    for seed in range(first, first + COUNTS[name]):
        loss = random_loss(seed, budget=10)
        found = attempt(lambda loss=loss: CHECKS[name](loss))
        assert not found.failed, f"{name}: {found.kind}: {found.detail}{loss}"
        kinds.append(found.kind)
    assert "right" in kinds


def test_every_opinion_is_asked():
    assert COUNTS.keys() | {"torch"} == CHECKS.keys()


class Wrong(sg.Loss):
    """A loss whose kernels are slightly wrong."""

    def value_and_grad(self, /, **values):
        value, slopes = super().value_and_grad(**values)
        return value, {n: np.array(g) * (1 + 1e-2) for n, g in slopes.items()}

    def hvp(self, direction, /, **values):
        slopes = super().hvp(direction, **values)
        return {n: np.array(g) * (1 + 1e-2) for n, g in slopes.items()}


@pytest.mark.parametrize("name", ["jax", "hvp", "digits", "float32", "sympy", "torch"])
def test_a_planted_wrong_kernel_is_found(name, monkeypatch):
    if name == "jax" and jax_math() is None:
        pytest.skip("JAX is not installed")
    plain = random_oracles.compiled

    def wrong(loss, *expression, **options):
        found = Wrong(plain(loss, *expression, **options)._source)
        return found.specialize(**{n: np.asarray(v) for n, v in loss.values.items()})

    monkeypatch.setattr(random_oracles, "compiled", wrong)
    monkeypatch.setattr("random_checks.compiled", wrong)
    loss = random_loss(7)
    assert attempt(lambda: CHECKS[name](loss)).kind == "wrong"


def test_a_planted_wrong_source_is_found(monkeypatch):
    plain = random_oracles.function_of

    def wrong(source):
        kernel = plain(source.replace("@njit", "# @njit"))
        return lambda *args: [2 * np.asarray(r) for r in kernel(*args)]

    monkeypatch.setattr(random_oracles, "function_of", wrong)
    assert CHECKS["numba"](random_loss(7)).kind == "wrong"


def test_planted_wrong_bits_are_found(monkeypatch):
    bits = iter(range(100))
    monkeypatch.setattr(random_oracles, "_bits", lambda *_: [next(bits)])
    kinds = {CHECKS["threads"](random_loss(seed)).kind for seed in range(4)}
    assert "wrong" in kinds


def test_a_planted_wrong_rewrite_is_found(monkeypatch):
    """The simplified graph, evaluated by the interpreter."""
    plain = random_oracles.gradient_nodes
    monkeypatch.setattr(
        random_oracles,
        "gradient_nodes",
        lambda found: [plain(found)[0] * 1.01, *plain(found)[1:]],
    )
    assert CHECKS["interpreter"](random_loss(7)).kind == "wrong"
