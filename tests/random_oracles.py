"""More opinions on a random loss: other libraries, other routes, other arithmetic.

``CHECKS`` has all of them by name. Each takes a loss and gives a ``Verdict``; a loss
that an opinion has nothing to say about is rejected.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import mpmath
import numpy as np
from jax_math import jax_gradient
from oracles import torch_gradient, torch_hvp
from random_checks import (
    REJECTED,
    RESPONSE,
    RIGHT,
    TOLERANCE,
    Reference,
    Verdict,
    attempt,
    compare,
    compiled,
    evaluate,
    largest,
    reference,
    verdict,
)
from random_losses import RandomLoss, conditioning, random_loss, spread

import symgrad as sg
from symgrad import graph
from symgrad.differentiate import gradient
from symgrad.interpret import evaluate as interpreted
from symgrad.interpret import evaluate_exact
from symgrad.runtime import kernel
from symgrad.runtime.derivatives import gradient_nodes

SINGLE = 2.0**-21
"""Relative noise for float32: a few units in the last place, as ROUND in float64."""

SINGLE_RESPONSE = 1e-3
"""The largest answer of a gradient to that, relative, that is compared."""

FEW = 400
"""Elements of the tensors that are computed in many digits."""

MANY_ROWS = 5000
"""Rows that are cut into several chunks."""

_numbers = count()


def of_reference(
    judge: Callable[[RandomLoss, Reference], Verdict],
) -> Callable[[RandomLoss], Verdict]:
    """A check of losses where PyTorch's gradient is well conditioned."""

    def check(loss: RandomLoss) -> Verdict:
        wanted = reference(loss)
        return REJECTED if wanted is None else attempt(lambda: judge(loss, wanted))

    return check


# --------------------------------------------------------------------------------------
# Other libraries
# --------------------------------------------------------------------------------------


def by_jax(loss: RandomLoss, wanted: Reference) -> Verdict:
    """The kernel against JAX's value and gradient."""
    value, theirs = jax_gradient(loss, loss.values, loss.wrt)
    known = replace(wanted, value=value, gradient=theirs)
    return compare(known, *evaluate(loss))


def by_torch_twice(loss: RandomLoss, wanted: Reference) -> Verdict:
    """The Hessian times a vector against PyTorch's."""
    along = hessian_direction(loss)

    def product(function: Any) -> dict[str, np.ndarray]:
        return torch_hvp(function, loss.values, loss.wrt, along)

    theirs = product(loss)
    answers = spread(lambda seed: product(loss.noisy(seed)), theirs)
    overall = max(largest(theirs), 1e-3)
    if not max(answers.values()) <= RESPONSE * overall:
        return REJECTED
    known = Reference(wanted.value, theirs, answers, 1e-13 * overall)
    return compare(known, wanted.value, compiled(loss).hvp(along, **loss.values))


def hessian_direction(loss: RandomLoss) -> dict[str, np.ndarray]:
    """Along which the Hessian is asked for."""
    numbers = np.random.default_rng(loss.seed)
    shapes = {n: np.shape(loss.values[n]) for n in loss.wrt}
    return {n: np.asarray(numbers.normal(size=s)) for n, s in shapes.items()}


# --------------------------------------------------------------------------------------
# The reference interpreter
# --------------------------------------------------------------------------------------


def by_interpreter(loss: RandomLoss, wanted: Reference) -> Verdict:
    """The graph as written, and as simplified, in the interpreter."""
    found = compiled(loss)._latest()
    plain = found.built.value.body
    for roots in (
        [plain, *gradient(plain, found.parameters)],
        gradient_nodes(found),
    ):
        value, *slopes = interpreted(roots, loss.values, lengths(loss, found))
        answer = compare(wanted, float(value), dict(zip(loss.wrt, slopes, strict=True)))
        if answer.failed:
            return answer
    return RIGHT


def lengths(loss: RandomLoss, found: Any) -> dict[str, int] | None:
    """The run-time lengths of the arrays."""
    return found.lengths({n: np.asarray(v) for n, v in loss.values.items()})


def in_many_digits(loss: RandomLoss, wanted: Reference) -> Verdict:
    """The graph as written, in mpmath's numbers, against the kernel."""
    if max(t.value.size for t in loss.root.walk()) > FEW:
        return REJECTED
    found = compiled(loss)
    plain = found._latest().built.value.body
    roots = [plain, *gradient(plain, found._latest().parameters)]
    sizes = lengths(loss, found._latest())
    value, *slopes = evaluate_exact(roots, loss.values, sizes)
    exact = {n: np.asarray(g, float) for n, g in zip(loss.wrt, slopes, strict=True)}
    known = replace(wanted, value=float(np.asarray(value)[()]), gradient=exact)
    return compare(known, *found.value_and_grad(**loss.values))


STEP = 1e-20
"""For derivatives of gradients in many digits."""


def excused(loss: RandomLoss) -> bool:
    """Is the kernel right by mpmath, in gradient and Hessian, so that what disagrees
    with it has lost digits? As the derivative ``1 - t**2`` of ``t = tanh(x)`` has
    where that is nearly 1."""
    f = compiled(loss)
    found = f._latest()
    plain = graph.to_float(found.built.value.body)
    roots = [plain, *gradient(plain, found.parameters)]
    along = hessian_direction(loss)

    def exact(step: float) -> list[Any]:
        moved = {n: _moved(loss.values[n], along[n], step) for n in loss.wrt}
        values = {**loss.values, **moved}
        return evaluate_exact(roots, values, lengths(loss, found), 60)

    middle, left, right = exact(0.0), exact(-STEP), exact(STEP)
    value, slopes = f.value_and_grad(**loss.values)
    curves = f.hvp(along, **loss.values)
    pairs = [(value, middle[0])]
    for k, n in enumerate(loss.wrt, start=1):
        with mpmath.workdps(60):
            curve = (right[k] - left[k]) / (2 * mpmath.mpf(STEP))
        pairs += [(slopes[n], middle[k]), (curves[n], curve)]
    return all(_close(a, np.asarray(b, float)) for a, b in pairs)


def _moved(value: Any, direction: np.ndarray, step: float) -> Any:
    with mpmath.workdps(60):
        exact = np.frompyfunc(mpmath.mpf, 1, 1)
        numbers = exact(np.asarray(value, float).astype(object))
        return np.asarray(numbers + exact(direction.astype(object)) * step, object)


def _close(found: Any, wanted: np.ndarray) -> bool:
    scale = np.abs(wanted).max(initial=0.0)
    error = np.abs(np.asarray(found) - wanted).max(initial=0.0)
    return bool(error <= TOLERANCE * scale + 1e-18)


# --------------------------------------------------------------------------------------
# Other arithmetic
# --------------------------------------------------------------------------------------


def in_single(loss: RandomLoss) -> Verdict:
    """The float32 kernel against PyTorch in float64, of inputs that are float32."""
    kinds = {k: np.asarray(v).dtype.kind for k, v in loss.values.items()}
    rounded = {
        k: np.asarray(v, np.float32) if kinds[k] == "f" else v
        for k, v in loss.values.items()
    }
    loss = replace(loss, values=rounded)
    value, exact = torch_gradient(loss, loss.values, loss.wrt)
    answers = conditioning(loss, exact, SINGLE, range(4))
    overall = max(largest(exact), 1e-3)
    if not max(answers.values()) <= SINGLE_RESPONSE * overall:
        return REJECTED
    noisy = [
        float(torch_gradient(loss.noisy(k, SINGLE), loss.values, loss.wrt)[0])
        for k in range(4)
    ]
    doubt = 20 * max(abs(v - value) for v in noisy)

    def judge() -> Verdict:
        found, slopes = compiled(loss, dtype="float32").value_and_grad(**loss.values)
        if abs(found - value) <= doubt + 1e-5 * abs(value) + 1e-7:
            found = value
        least = 1e-6 * max(overall, abs(value), 1.0)  # squares that cancel are fused
        return compare(Reference(value, exact, answers, least), found, slopes, 1e-5)

    answer = attempt(judge)
    hard = answer.kind == "wrong" and _hard_in_single(loss, exact)
    return REJECTED if hard else answer


def _hard_in_single(loss: RandomLoss, exact: dict[str, np.ndarray]) -> bool:
    """Next to a step or a kink, or where PyTorch's float32 loses as many digits: as in
    the slope ``1 - t**2`` of ``t = tanh(x)`` that is nearly 1."""
    overall = max(largest(exact), 1e-3)
    answers = conditioning(loss, exact, 8 * SINGLE, range(40))
    if max(answers.values()) > SINGLE_RESPONSE * overall:
        return True
    _, theirs = torch_gradient(loss, loss.values, loss.wrt, single=True)
    _, ours = compiled(loss, dtype="float32").value_and_grad(**loss.values)

    def error(found: Mapping[str, Any]) -> float:
        return largest({n: found[n] - exact[n] for n in loss.wrt})

    return error(ours) <= 4 * error(theirs)


def by_threads(loss: RandomLoss) -> Verdict:
    """The same bits for 1, 2 and 8 threads, of a loss like this one with more rows."""
    loss = random_loss(loss.seed, budget=8, rows=MANY_ROWS)
    if not any(MANY_ROWS in np.shape(v) for v in loss.values.values()):
        return REJECTED
    with mock.patch.object(kernel, "PARALLEL_SECONDS", 0.0):
        first = compiled(loss, threads=1)
        wanted = _bits(first, loss)
        for threads in (2, 8):
            other = compiled_like(first, threads)
            if _bits(other, loss) != wanted:
                return Verdict("wrong", f"other bits with {threads} threads")
    return RIGHT


def compiled_like(loss: sg.Loss, threads: int) -> sg.Loss:
    """A loss that runs the same kernels on another number of threads."""
    source = replace(loss._source, threads=threads)
    other = sg.Loss(source)
    other._specialiser = loss._specialiser
    return other


def _bits(f: sg.Loss, loss: RandomLoss) -> list[bytes]:
    value, slopes = f.value_and_grad(**loss.values)
    return [np.float64(value).tobytes(), *(slopes[n].tobytes() for n in loss.wrt)]


# --------------------------------------------------------------------------------------
# Other routes
# --------------------------------------------------------------------------------------


def by_numba(loss: RandomLoss, wanted: Reference) -> Verdict:
    """The printed source, compiled by Numba."""
    f = compiled(loss)
    found = f._latest()
    _, layout = f._main_kernel(found).row_by_row()
    given = [_printed(loss.values[n], layout.specs[n]) for n in layout.inputs]
    sizes = lengths(loss, found) or {}
    given += [sizes[n] for n in re.findall(r"# the length (\S+)$", f.source, re.M)]
    value, *slopes = function_of(f.source)(*given)
    return compare(wanted, float(value), dict(zip(loss.wrt, slopes, strict=True)))


def _printed(value: Any, spec: Any) -> Any:
    array = np.array(value, np.dtype(spec.dtype), order="C")
    return array if array.ndim else array.item()


def function_of(source: str) -> Callable[..., Any]:
    """The function of a printed kernel, by way of a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"printed_{next(_numbers)}.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module.kernel


def by_sympy(loss: RandomLoss, wanted: Reference) -> Verdict:
    """Text to SymPy: the same graph. SymPy's text, which may have another order of
    terms, back again: the same loss."""
    expression = sg.parse(loss.text)
    first, second = compiled(loss), compiled(loss, expression)
    if first._latest().built.value.body is not second._latest().built.value.body:
        return Verdict("wrong", "another graph by way of SymPy")
    return compare(
        wanted, *compiled(loss, str(expression)).value_and_grad(**loss.values)
    )


CHECKS: Mapping[str, Callable[[RandomLoss], Verdict]] = {
    "torch": verdict,
    "interpreter": of_reference(by_interpreter),
    "jax": of_reference(by_jax),
    "hvp": of_reference(by_torch_twice),
    "digits": of_reference(in_many_digits),
    "float32": in_single,
    "threads": by_threads,
    "numba": of_reference(by_numba),
    "sympy": of_reference(by_sympy),
}
