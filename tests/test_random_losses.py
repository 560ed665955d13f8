"""Random losses over all constructs: gradients, and both routes from text to graph."""

import warnings

import numpy as np
import pytest
from loss_constructs import ARRAYS, ELEMENTS
from loss_passes import ONE_PASS
from loss_regressions import REGRESSIONS
from losses import LARGE, MODELS, SPECIFIED
from oracles import needs_torch, torch_math
from random_checks import evaluate, minimise, verdict
from random_losses import RandomLoss, random_loss

import symgrad as sg
from symgrad.errors import BroadcastWarning
from symgrad.interpret import evaluate_exact

COUNT = 360
"""Losses that are compared; ``bench/fuzz.py`` tries as many as you like."""

GROUP = 20
GROUPS = pytest.mark.parametrize("first", range(0, COUNT, GROUP))
LOSSES = SPECIFIED + MODELS + LARGE + ELEMENTS + ARRAYS + REGRESSIONS + ONE_PASS

pytestmark = pytest.mark.filterwarnings(
    "ignore::symgrad.errors.UnusedParameterWarning",
)


@needs_torch
@GROUPS
def test_value_and_gradient(first):
    """As PyTorch's, in float64, to a relative 1e-10."""
    assert torch_math() is not None
    torch_math().torch.set_num_threads(1)  # more only get in each other's way
    right = 0
    for seed in range(first, first + GROUP):
        loss = random_loss(seed)
        found = verdict(loss)
        right += found.kind == "right"
        if found.failed:
            raise AssertionError(f"{found.kind}: {found.detail}{minimise(loss)}")
    assert right >= GROUP - 3, "too few of the losses are well conditioned"


def test_constructs_are_all_tried():
    """The losses together use every function, and every kind of array."""
    texts = [random_loss(seed).text for seed in range(COUNT)]
    words = """exp log sqrt tanh sin atan2 hypot where clip minimum sum mean prod min
        max logsumexp norm var std softmax log_softmax einsum outer trace diag tril eye
        arange len shape isfinite digamma logaddexp @ .T axis keepdims ddof ::-1 None
        ... % // <= and not pi""".split()
    for word in words:
        assert any(word in text for text in texts), word


# --------------------------------------------------------------------------------------
# Without PyTorch
# --------------------------------------------------------------------------------------


def slope(loss: RandomLoss, along: dict[str, np.ndarray]) -> tuple[float, float]:
    """The derivative along a direction by differences in 50 digits, of the graph of the
    loss alone; and how much two steps disagree, which they do next to a kink."""
    import mpmath

    f = _compiled(loss)
    found = f._latest()
    root, names = found.built.value.body, loss.wrt

    def at(t):
        with mpmath.workdps(50):
            moved = {n: _exact(loss.values[n]) + along[n] * t for n in names}
            (value,) = evaluate_exact([root], {**loss.values, **moved})
            return value.item() if isinstance(value, np.ndarray) else value

    with mpmath.workdps(50):
        steps = [mpmath.mpf(10) ** -k for k in (12, 15)]
        slopes = [(at(h) - at(-h)) / (2 * h) for h in steps]
        return float(slopes[1]), float(abs(slopes[0] - slopes[1]))


def _exact(array: np.ndarray) -> np.ndarray:
    import mpmath

    return np.vectorize(lambda x: mpmath.mpf(float(x)), otypes=[object])(array)


def _compiled(loss: RandomLoss) -> sg.Loss:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BroadcastWarning)
        shapes = {n: np.asarray(v) for n, v in loss.values.items()}
        return sg.compile(loss.text, wrt=loss.wrt).specialize(**shapes)


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_slope_in_fifty_digits(first):
    """Small losses; independent of PyTorch and of differentiation."""
    for seed in range(first, first + 10):
        loss = random_loss(seed, budget=6)
        if max(t.value.size for t in loss.root.walk()) > 300:
            continue
        value, gradient = evaluate(loss)
        assert value == pytest.approx(loss.value(), rel=1e-10, abs=1e-13)
        numbers = np.random.default_rng(seed)
        along = {n: numbers.integers(1, 4, loss.values[n].shape) for n in loss.wrt}
        wanted, doubt = slope(loss, along)
        found = sum(np.sum(gradient[n] * along[n]) for n in loss.wrt)
        scale = sum(np.abs(gradient[n] * along[n]).sum() for n in loss.wrt)
        allowed = 1e-10 * max(scale, abs(value), 1e-3) + 2 * doubt
        assert abs(found - wanted) <= allowed, str(loss)


# --------------------------------------------------------------------------------------
# From text, and from the SymPy expression of it
# --------------------------------------------------------------------------------------


def assert_same_graph(text: str, wrt: list[str], values: dict) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BroadcastWarning)
        first = sg.compile(text, wrt=wrt)._specialiser
        second = sg.compile(sg.parse(text), wrt=wrt)._specialiser
        one, other = (s.match(s.arrays(values)) for s in (first, second))
    assert one.value is other.value, text


@pytest.mark.parametrize("case", LOSSES, ids=str)
def test_parsed_text_gives_the_same_graph(case):
    assert_same_graph(case.text, case.wrt, case.values(case.few(9)))


@GROUPS
def test_parsed_random_text_gives_the_same_graph(first):
    for seed in range(first, first + GROUP):
        loss = random_loss(seed)
        assert_same_graph(loss.text, loss.wrt, loss.values)
