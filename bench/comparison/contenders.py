"""Who is compared: each takes a loss and its arrays, and returns a call to be timed.

All get their data once and keep them. A call evaluates loss and all gradients in the
form that the library gives them: nothing is converted inside it. ``result`` makes
numbers of what a call returned, for the comparison of values.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.comparison.losses import Arrays, Loss

Answer = tuple[float, Arrays]
COMPILE_SECONDS = 300
"""What torch.compile may take for one loss."""


@dataclass(frozen=True)
class Contender:
    """A loss, ready to be evaluated.

    call: takes nothing. result: of what ``call`` returns. seconds: taken to compile.
    least: the seconds that symgrad's roofline states.
    """

    call: Callable[[], Any]
    result: Callable[[Any], Answer]
    seconds: float
    least: Callable[[], float] = lambda: 0.0


class Absent(Exception):
    """A contender that cannot take part, with the reason."""


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise Absent after so many seconds, where the system has alarms."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def late(*_: object) -> None:
        raise Absent(f"not compiled within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# --- symgrad --------------------------------------------------------------------------


def symgrad(loss: Loss, parameters: Arrays, data: Arrays, threads: int) -> Contender:
    """The bound objective on the flat vector."""
    import symgrad as sg
    from symgrad.runtime.explain import describe_bound
    from symgrad.runtime.roofline import machine

    dtype = next(str(a.dtype) for a in parameters.values())
    begin = time.perf_counter()
    f = sg.compile(loss.text, wrt=list(parameters), dtype=dtype, threads=threads)
    f.specialize(**parameters, **data)
    seconds = time.perf_counter() - begin
    objective = f.bind(**data)
    x = objective.pack(parameters)
    out = np.empty(x.size)

    def result(found: tuple[float, np.ndarray]) -> Answer:
        return found[0], objective.unpack(found[1])

    def call() -> tuple[float, np.ndarray]:
        return objective.value_and_grad(x, out)

    def least() -> float:
        report = describe_bound(f._source, objective._kernels, threads)
        return report.roofline(machine(report.threads)).seconds

    return Contender(call, result, seconds, least)


# --- PyTorch --------------------------------------------------------------------------


def torch_names() -> Any:
    """NumPy's names in PyTorch."""
    import torch
    from torch.nn import functional as F

    def axis(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(x: Any, axis: int | None = None) -> Any:
            return function(x) if axis is None else function(x, dim=axis)

        return call

    return SimpleNamespace(
        sum=axis(torch.sum), mean=axis(torch.mean), min=axis(torch.amin),
        logsumexp=axis(torch.logsumexp), softplus=F.softplus, relu=torch.relu,
        exp=torch.exp, log1p=torch.log1p, cos=torch.cos, tanh=torch.tanh,
        sqrt=torch.sqrt, abs=torch.abs, where=torch.where, lgamma=torch.lgamma,
        logaddexp=torch.logaddexp, cross_entropy=F.cross_entropy,
    )  # fmt: skip


def _torch(
    loss: Loss, parameters: Arrays, data: Arrays, threads: int, compiled: bool
) -> Contender:
    try:
        import torch
    except ImportError:
        raise Absent("not installed") from None
    torch.set_num_threads(threads)
    names = torch_names()
    fixed = {name: torch.from_numpy(a) for name, a in data.items()}
    leaves = {n: torch.tensor(a, requires_grad=True) for n, a in parameters.items()}
    several = list(leaves.values())

    def forward(leaves: Any, fixed: Any) -> Any:
        return loss.formula(names, **leaves, **fixed)

    function: Any = torch.compile(forward, dynamic=False) if compiled else forward

    def call() -> Any:
        value = function(leaves, fixed)
        return value, torch.autograd.grad(value, several)

    def result(found: Any) -> Answer:
        value, gradients = found
        named = zip(parameters, gradients, strict=True)
        return value.item(), {name: g.numpy() for name, g in named}

    if not compiled:
        return Contender(call, result, 0.0)
    begin = time.perf_counter()
    torch._dynamo.reset()  # pyright: ignore
    with time_limit(COMPILE_SECONDS):
        call()
    return Contender(call, result, time.perf_counter() - begin)


def torch(loss: Loss, parameters: Arrays, data: Arrays, threads: int) -> Contender:
    """Eager PyTorch."""
    return _torch(loss, parameters, data, threads, False)


def compiled(loss: Loss, parameters: Arrays, data: Arrays, threads: int) -> Contender:
    """torch.compile, with its default options."""
    return _torch(loss, parameters, data, threads, True)


# --- JAX ------------------------------------------------------------------------------


def jax_names() -> Any:
    """NumPy's names in JAX."""
    import jax
    import jax.numpy as jnp

    def cross_entropy(z: Any, Y: Any) -> Any:
        return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(z, axis=1), axis=1))

    return SimpleNamespace(
        sum=jnp.sum, mean=jnp.mean, min=jnp.min,
        logsumexp=jax.scipy.special.logsumexp, softplus=jax.nn.softplus,
        relu=jax.nn.relu, exp=jnp.exp, log1p=jnp.log1p, cos=jnp.cos, tanh=jnp.tanh,
        sqrt=jnp.sqrt, abs=jnp.abs, where=jnp.where,
        lgamma=jax.scipy.special.gammaln, logaddexp=jnp.logaddexp,
        cross_entropy=cross_entropy,
    )  # fmt: skip


def jax(loss: Loss, parameters: Arrays, data: Arrays, threads: int) -> Contender:
    """``jit(value_and_grad(...))``, compiled ahead; its threads are the processors
    that this process may use."""
    try:
        import jax
    except ImportError:
        raise Absent("not installed") from None
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    names = jax_names()
    fixed = {name: jax.device_put(a) for name, a in data.items()}
    values = {name: jax.device_put(a) for name, a in parameters.items()}
    both = jax.value_and_grad(lambda p, d: loss.formula(names, **p, **d))
    jax.jit(lambda x: x + 1)(1.0)  # start the backend, which is not compilation
    begin = time.perf_counter()
    function = jax.jit(both).lower(values, fixed).compile()
    seconds = time.perf_counter() - begin

    def result(found: Any) -> Answer:
        return float(found[0]), {n: np.asarray(g) for n, g in found[1].items()}

    return Contender(
        lambda: jax.block_until_ready(function(values, fixed)), result, seconds
    )


# --- C --------------------------------------------------------------------------------


def c(loss: Loss, parameters: Arrays, data: Arrays, threads: int) -> Contender:
    """gcc with OpenMP, see ``kernels``."""
    from bench.comparison import c_kernels

    begin = time.perf_counter()
    try:
        kernel = c_kernels.load(loss, parameters, data)
    except c_kernels.NoKernel as reason:
        raise Absent(str(reason)) from None
    seconds = time.perf_counter() - begin
    gradients = {name: np.zeros_like(a) for name, a in parameters.items()}
    call = kernel.bind(parameters, data, gradients, threads)

    def result(found: float) -> Answer:
        return found, {name: g.copy() for name, g in gradients.items()}

    return Contender(call, result, seconds)


CONTENDERS: dict[str, Callable[[Loss, Arrays, Arrays, int], Contender]] = {
    "symgrad": symgrad,
    "torch": torch,
    "torch.compile": compiled,
    "jax": jax,
    "C": c,
}


def restrict(threads: int, passive: bool = False) -> None:
    """Let this process use so many processors, before any library counts them.

    passive: OpenMP's idle threads sleep at once.
    """
    if passive:
        os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ["SYMGRAD_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_getaffinity"):
        mine = sorted(os.sched_getaffinity(0))
        if threads < len(mine):
            os.sched_setaffinity(0, mine[:threads])
