"""The language's functions in JAX, as ``oracles`` has them in NumPy and in PyTorch."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

Arrays = Mapping[str, Any]

ELSEWHERE = {
    "digamma": "scipy.special.digamma",
    "erf": "scipy.special.erf",
    "erfc": "scipy.special.erfc",
    "lgamma": "scipy.special.gammaln",
    "logsumexp": "scipy.special.logsumexp",
    "log_softmax": "nn.log_softmax",
    "relu": "nn.relu",
    "sigmoid": "nn.sigmoid",
    "softmax": "nn.softmax",
    "softplus": "nn.softplus",
}
"""Functions that are not in ``jax.numpy``: where they are below ``jax``."""


class JaxMath:
    """The language in JAX. Derivatives at kinks are PyTorch's, which are ours."""

    torch = None

    def __init__(self) -> None:
        import jax

        self._jax, self._numpy = jax, jax.numpy

    def __getattr__(self, name: str) -> Any:
        found: Any = self._jax if name in ELSEWHERE else self._numpy
        for part in ELSEWHERE.get(name, name).split("."):
            found = getattr(found, part)
        return found

    def number(self, x: Any) -> Any:
        return self._numpy.asarray(x, np.float64)

    def swap(self, x: Any, axes: Sequence[int] | None = None) -> Any:
        return self._numpy.transpose(x, axes)

    def norm(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return self._numpy.sqrt(self._numpy.sum(x * x, axis=axis, keepdims=keepdims))

    def clip(self, x: Any, low: Any, high: Any) -> Any:
        """Slope 1 at the limits; JAX's own has one half there."""
        below = self._numpy.where(x < low, low, x)
        return self._numpy.where(below > high, high, below)

    def floor_divide(self, a: Any, b: Any) -> Any:
        return self._numpy.floor(a / b)


@lru_cache(maxsize=1)
def jax_math() -> JaxMath | None:
    """The namespace; None where JAX is not installed."""
    try:
        return JaxMath()
    except ImportError:
        return None


@contextmanager
def _double() -> Iterator[None]:
    """JAX in float64, here only."""
    import jax

    with warnings.catch_warnings(), jax.enable_x64(True):
        warnings.simplefilter("ignore")
        yield


def jax_gradient(
    function: Callable[..., Any], values: Arrays, wrt: Sequence[str]
) -> tuple[float, dict[str, np.ndarray]]:
    """The value of ``function(m, **values)`` and its gradient, by JAX."""
    import jax

    def native(value: Any) -> Any:
        array = np.asarray(value)
        wide = {"f": np.float64, "i": np.int64, "b": np.bool_}[array.dtype.kind]
        return np.asarray(array, wide)

    with _double():
        data = {k: native(v) for k, v in values.items() if k not in wrt}

        def loss(parameters: Arrays) -> Any:
            return function(jax_math(), **parameters, **data)

        point = {k: jax.numpy.asarray(native(values[k])) for k in wrt}
        value, found = jax.jit(jax.value_and_grad(loss))(point)
        return float(value), {k: np.asarray(g) for k, g in found.items()}
