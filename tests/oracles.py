"""Second opinions: the language's functions in NumPy and in PyTorch, and comparisons.

A reference is written once, for a namespace ``m`` that is ``NUMPY`` or the one of
``torch_math()``: ``lambda m, w, X: m.sum(m.tanh(X @ w))``. What the two libraries call
alike is theirs; what they call differently has the language's name and meaning here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

Arrays = Mapping[str, Any]

# --------------------------------------------------------------------------------------
# NumPy
# --------------------------------------------------------------------------------------


SPECIAL = {
    "digamma": "digamma",
    "erf": "erf",
    "erfc": "erfc",
    "lgamma": "gammaln",
    "polygamma": "polygamma",
    "sigmoid": "expit",
}
"""Functions that are SciPy's, and what it calls them."""


class NumpyMath:
    """The language in NumPy. Reductions are over all axes unless ``axis`` is given."""

    torch = None

    def __getattr__(self, name: str) -> Any:
        if name not in SPECIAL:
            return getattr(np, name)
        import scipy.special

        return getattr(scipy.special, SPECIAL[name])

    def number(self, x: Any) -> Any:
        return np.asarray(x, np.float64)

    def softplus(self, x: Any) -> Any:
        return np.logaddexp(0.0, x)

    def relu(self, x: Any) -> Any:
        return np.maximum(x, 0.0)

    def swap(self, x: Any, axes: Sequence[int] | None = None) -> Any:
        return np.transpose(x, axes)

    def logsumexp(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        import scipy.special

        return scipy.special.logsumexp(x, axis, None, keepdims)

    def softmax(self, x: Any, axis: int = -1) -> Any:
        import scipy.special

        return scipy.special.softmax(x, axis)

    def log_softmax(self, x: Any, axis: int = -1) -> Any:
        import scipy.special

        return scipy.special.log_softmax(x, axis)

    def norm(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


NUMPY = NumpyMath()

# --------------------------------------------------------------------------------------
# PyTorch
# --------------------------------------------------------------------------------------


def _all_axes(x: Any, axis: Any) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.ndim))
    return axis if isinstance(axis, tuple) else (axis,)


class TorchMath:
    """The language in PyTorch, in float64 or in float32."""

    def __init__(self, single: bool = False) -> None:
        import torch

        self.torch, self.float = torch, torch.float32 if single else torch.float64
        self.erf, self._polygamma = torch.erf, _polygamma_of_torch()
        self.softplus = lambda x: torch.logaddexp(x, torch.zeros_like(x))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.torch, name)

    def number(self, x: Any) -> Any:
        return self.torch.as_tensor(x, dtype=self.float)

    def _reduce(self, name: str, x: Any, axis: Any, keepdims: bool) -> Any:
        axes = _all_axes(x, axis)
        if not axes:
            return abs(x) if name == "norm" else x
        return getattr(self.torch, name)(x, axes, keepdim=keepdims)

    def sum(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return self._reduce("sum", x, axis, keepdims)

    def mean(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return self._reduce("mean", x, axis, keepdims)

    def max(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return self._reduce("amax", x, axis, keepdims)

    def min(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return self._reduce("amin", x, axis, keepdims)

    def logsumexp(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return self._reduce("logsumexp", x, axis, keepdims)

    def norm(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        axes = _all_axes(x, axis)
        if not axes:
            return abs(x)
        return self.torch.linalg.vector_norm(x, dim=axes, keepdim=keepdims)

    def prod(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        for k in sorted((a % x.ndim for a in _all_axes(x, axis)), reverse=True):
            x = self.torch.prod(x, k, keepdim=keepdims)
        return x

    def var(
        self, x: Any, axis: Any = None, keepdims: bool = False, ddof: int = 0
    ) -> Any:
        axes = _all_axes(x, axis)
        return self.torch.var(x, axes, correction=ddof, keepdim=keepdims)

    def std(
        self, x: Any, axis: Any = None, keepdims: bool = False, ddof: int = 0
    ) -> Any:
        return self.torch.sqrt(self.var(x, axis, keepdims, ddof))

    def softmax(self, x: Any, axis: int = -1) -> Any:
        return self.torch.softmax(x, axis)

    def log_softmax(self, x: Any, axis: int = -1) -> Any:
        return self.torch.log_softmax(x, axis)

    def minimum(self, a: Any, b: Any) -> Any:
        return self.torch.minimum(*self.torch.broadcast_tensors(*map(self._as, (a, b))))

    def maximum(self, a: Any, b: Any) -> Any:
        return self.torch.maximum(*self.torch.broadcast_tensors(*map(self._as, (a, b))))

    def where(self, c: Any, a: Any, b: Any) -> Any:
        return self.torch.where(c, self._as(a), self._as(b))

    def clip(self, x: Any, low: Any, high: Any) -> Any:
        return self.torch.clip(*map(self._as, (x, low, high)))

    def sigmoid(self, x: Any) -> Any:
        return self.torch.sigmoid(x)

    def lgamma(self, x: Any) -> Any:
        return self._polygamma.apply(-1, x)

    def digamma(self, x: Any) -> Any:
        return self._polygamma.apply(0, x)

    def polygamma(self, n: int, x: Any) -> Any:
        return self._polygamma.apply(n, x)

    def cbrt(self, x: Any) -> Any:
        return self.torch.sign(x) * self.torch.abs(x) ** (1 / 3)

    def swap(self, x: Any, axes: Sequence[int] | None = None) -> Any:
        return x.permute(tuple(range(x.ndim)[::-1] if axes is None else axes))

    def floor_divide(self, a: Any, b: Any) -> Any:
        return self.torch.floor(a / b)

    def arange(self, n: int) -> Any:
        return self.torch.arange(n)

    def eye(self, n: int) -> Any:
        return self.torch.eye(n, dtype=self.float)

    def _as(self, x: Any) -> Any:
        return x if isinstance(x, self.torch.Tensor) else self.number(x)


def _polygamma_of_torch() -> Any:
    """lgamma (order -1), digamma (0) and polygamma for PyTorch, computed by SciPy.

    PyTorch's own trigamma, the derivative of its digamma, has errors of up to 5e-10
    relative to mpmath, between 0.1 and 20; SciPy's 6e-16.
    """
    import scipy.special
    import torch

    class PolyGamma(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, order: int, x: Any) -> Any:
            ctx.order = order
            ctx.save_for_backward(x)
            known = {-1: scipy.special.gammaln, 0: scipy.special.psi}
            numbers = x.detach().numpy()
            if order in known:
                return torch.as_tensor(known[order](numbers))
            return torch.as_tensor(scipy.special.polygamma(order, numbers))

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:  # differentiable: g and x are tensors
            (x,) = ctx.saved_tensors
            return None, g * PolyGamma.apply(ctx.order + 1, x)

    return PolyGamma


@lru_cache(maxsize=2)
def torch_math(single: bool = False) -> TorchMath | None:
    """The PyTorch namespace; None where PyTorch is not installed."""
    try:
        return TorchMath(single)
    except ImportError:
        return None


def pick(m: Any, x: Any, items: tuple[Any, ...]) -> Any:
    """``x[items]``; PyTorch has no negative steps, so that such axes are listed."""
    if m.torch is None:
        return x[items]
    items = tuple(items)
    axis = 0
    plain: list[Any] = []
    for item in items:
        if item is Ellipsis:
            axis = x.ndim - sum(i is not None for i in items[len(plain) + 1 :])
        elif isinstance(item, slice) and item.step is not None and item.step < 0:
            chosen = m.torch.tensor(range(x.shape[axis])[item], dtype=m.torch.int64)
            x = x.index_select(axis, chosen)
            item = slice(None)  # noqa: PLW2901
            axis += 1
        elif item is not None:
            axis += 1
        plain.append(item)
    return x[tuple(plain)]


# --------------------------------------------------------------------------------------
# Values and derivatives
# --------------------------------------------------------------------------------------


def torch_leaves(
    values: Arrays, wrt: Sequence[str], single: bool = False
) -> dict[str, Any]:
    """The arrays as tensors: numbers in float64 (or 32), integers in int64."""
    import torch

    real = torch.float32 if single else torch.float64
    kinds = {"f": real, "i": torch.int64, "u": torch.int64, "b": torch.bool}
    leaves = {}
    for name, value in values.items():
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        array = array.astype(array.dtype.newbyteorder("="))
        kind = real if name in wrt else kinds[array.dtype.kind]
        leaves[name] = torch.tensor(array, dtype=kind, requires_grad=name in wrt)
    return leaves


def torch_gradient(
    function: Callable[..., Any],
    values: Arrays,
    wrt: Sequence[str],
    single: bool = False,
) -> tuple[float, dict[str, np.ndarray]]:
    """The value of ``function(m, **values)`` and its gradient, by PyTorch."""
    leaves = torch_leaves(values, wrt, single)
    loss = function(torch_math(single), **leaves)
    return float(loss.detach()), _gradients(loss, leaves, wrt)


def _gradients(loss: Any, leaves: Arrays, wrt: Sequence[str]) -> dict[str, np.ndarray]:
    import torch

    if not loss.requires_grad:
        return {name: np.zeros(leaves[name].shape) for name in wrt}
    found = torch.autograd.grad(
        loss, [leaves[n] for n in wrt], allow_unused=True, materialize_grads=True
    )
    # force: zeros that PyTorch has not written yet
    found = [g.numpy(force=True) for g in found]
    return dict(zip(wrt, found, strict=True))


def torch_hvp(
    function: Callable[..., Any],
    values: Arrays,
    wrt: Sequence[str],
    direction: Arrays,
) -> dict[str, np.ndarray]:
    """The Hessian times ``direction``, by PyTorch."""
    import torch

    leaves = torch_leaves(values, wrt)
    along = [torch.as_tensor(direction[name]) for name in wrt]
    inputs = [leaves[name] for name in wrt]
    loss = function(torch_math(), **leaves)
    if not loss.requires_grad:
        return {name: np.zeros(leaves[name].shape) for name in wrt}
    first = torch.autograd.grad(
        loss, inputs, create_graph=True, allow_unused=True, materialize_grads=True
    )
    slope = sum((g * d).sum() for g, d in zip(first, along, strict=True))
    return _gradients(slope, leaves, wrt)


def relative_error(found: Any, wanted: Any) -> float:
    """The largest difference, relative to the largest element of ``wanted``."""
    found, wanted = np.asarray(found, float), np.asarray(wanted, float)
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    if not found.size:
        return 0.0
    if not np.isfinite(wanted).all():
        return 0.0 if np.array_equal(found, wanted, equal_nan=True) else np.inf
    largest = np.abs(found - wanted).max()
    scale = np.abs(wanted).max()
    return float(largest / scale) if scale else float(largest)


def assert_gradients(
    found: Arrays, wanted: Arrays, tolerance: float, message: str = ""
) -> None:
    """Every gradient to ``tolerance`` of its largest element.

    A gradient that vanishes next to the others is only known to their rounding errors.
    """
    overall = max((np.abs(w).max(initial=0.0) for w in wanted.values()), default=0.0)
    for name, want in wanted.items():
        got = np.asarray(found[name], float)
        assert got.shape == want.shape, (name, got.shape, want.shape, message)
        scale = np.abs(want).max(initial=0.0)
        allowed = tolerance * scale + tolerance * 1e-3 * overall + 1e-300
        if overall == 0.0:  # terms of order one cancel, in one order of operations
            allowed = 1e-300
        error = np.abs(got - want).max(initial=0.0)
        assert error <= allowed, (
            f"d/d{name}: off by {error:.2e} of {scale:.2e}{message}"
        )


needs_torch = pytest.mark.skipif(
    torch_math() is None, reason="PyTorch is not installed"
)
