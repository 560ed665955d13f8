"""Losses that were once wrong or did not compile, cut down to what it took.

In the form of the table of ``losses``; the arrays have one size each.
"""

from collections.abc import Callable
from typing import Any

from losses import Case
from oracles import pick

Row = tuple[str, Callable[..., Any], dict[str, str], dict[str, str]]


def _log_softmax_pairs(m: Any, v: Any, y: Any) -> Any:
    return m.sum(m.log_softmax((v @ y)[:, None] + v[None, :], 0))


def _picked(m: Any, u: Any, b: Any, x: Any, j: Any, k: Any) -> Any:
    return (u + m.sum(x @ b, axis=-1))[j, k] ** 2


def _largest(m: Any, c: Any, u: Any, y: Any) -> Any:
    weights = m.softmax(m.sigmoid(c), 1) ** -1
    return m.sum(m.max(weights @ m.min(y - u, -1), (1, 2)))


def _poisson_of_mean(m: Any, u: Any) -> Any:
    x = u**2 + 0.6
    return m.sum(m.exp(x * m.log(x) - x - m.lgamma(x + 1)))


def _gathered_classes(m: Any, b: Any, x: Any, k: Any) -> Any:
    return m.sum(x * (b - m.logsumexp(b, 1, True))[:, k])


def _weighed(m: Any, z: Any, x: Any, v: Any) -> Any:
    return m.min(z * (m.softmax(x, 0) @ v))


def _sampled(m: Any, w: Any, X: Any, i: Any) -> Any:
    product = X[:, :, :, None] * w[None, None, None, :]
    return m.mean(pick(m, product, (slice(None), slice(None), slice(None), i)))


ROWS: tuple[Row, ...] = (
    ("u[k]", lambda m, u, k: u[k], {"u": "4"}, {"k": "index 1"}),
    ("b[-1]", lambda m, b: b[-1], {"b": "2"}, {}),
    ("mean((X[:,:,:,None]*w[None,None,None,:])[:,:,:,i])", _sampled,
     {"w": "5"}, {"X": "2 2 6", "i": "index 2"}),
    ("sum(z @ u)", lambda m, u, z: m.sum(z @ u), {"u": "3 2"}, {"z": "2 2 66 3"}),
    ("mean(var(a, axis=2))", lambda m, a: m.mean(m.var(a, axis=2)),
     {"a": "70 70 2"}, {}),
    ("sum(z @ u)", lambda m, z, u: m.sum(z @ u), {"z": "5", "u": "5 7"}, {}),
    ("sum(b @ z)", lambda m, b, z: m.sum(b @ z), {"b": "7 5", "z": "5"}, {}),
    ("trace(transpose(log_softmax(softmax(v, axis=1), axis=-1)))",
     lambda m, v: m.trace(m.log_softmax(m.softmax(v, 1), -1)), {"v": "17 5"}, {}),
    ("sum(min(exp(z), axis=0))", lambda m, z: m.sum(m.min(m.exp(z), axis=0)),
     {"z": "2 40"}, {}),
    ("max(dot(z, b))", lambda m, b, z: m.max(z @ b), {"b": "8"}, {"z": "8 8"}),
    ("sum(dot(max(c, axis=1), z))", lambda m, c, z: m.sum(m.max(c, axis=1) @ z),
     {"c": "8 3 4"}, {"z": "4 2"}),
    ("sum((sigmoid(z)[2] - v) @ w)",
     lambda m, v, w, z: m.sum((m.sigmoid(z)[2] - v) @ w),
     {"v": "3 17", "w": "17"}, {"z": "17 3 1"}),
    ("sum(log_softmax((v @ y)[:, None] + v[None, :], axis=0))", _log_softmax_pairs,
     {"v": "5"}, {"y": "5 5"}),
    ("(u + sum(x @ b, axis=-1))[j, k]**2", _picked, {"u": "2 11", "b": "11 2"},
     {"x": "11 11", "j": "index 1", "k": "index 3"}),
    ("sum(log_softmax(norm(x, axis=-2, keepdims=True), axis=1) * w)",
     lambda m, w, x: m.sum(m.log_softmax(m.norm(x, -2, True), 1) * w),
     {"w": "1 5"}, {"x": "2 5"}),
    ("trace(z)", lambda m, z: m.trace(z), {"z": "70 70"}, {}),
    ("sum(digamma(z))", lambda m, z: m.sum(m.digamma(z)), {"z": "70 3 positive"}, {}),
    ("sum(sum(exp(s) + u, axis=1)[k])",
     lambda m, u, s, k: m.sum(m.sum(m.exp(s) + u, axis=1)[k]),
     {"u": "2 5"}, {"s": "", "k": "2 int 2"}),
    ("sum(atan(w @ (w @ z)))", lambda m, w, z: m.sum(m.atan(w @ (w @ z))),
     {"w": "70 70"}, {"z": "70 70"}),
    ("var(sum(abs(u @ exp(w)), axis=0))",
     lambda m, u, w: m.var(m.sum(abs(u @ m.exp(w)), axis=0)),
     {"u": "5 3 20", "w": "20 70"}, {}),
    ("sum(max(log_softmax(2.85*tanh(z)) @ y, axis=1))",
     lambda m, z, y: m.sum(m.max(m.log_softmax(2.85 * m.tanh(z)) @ y, axis=1)),
     {"z": "3 4"}, {"y": "4 4"}),
    ("sum(z @ (1/(1 + exp(-w))))", lambda m, z, w: m.sum(z @ (1 / (1 + m.exp(-w)))),
     {"z": "6 2", "w": "2 4"}, {}),
    ("mean(digamma(v**2 + 1) * max(z, axis=-2))",
     lambda m, v, z: m.mean(m.digamma(v**2 + 1) * m.max(z, axis=-2)),
     {"v": "70"}, {"z": "70 70"}),
    ("(z @ y)[:-1][0:-3] @ v", lambda m, v, z, y: (z @ y)[:-1][0:-3] @ v,
     {"v": "2"}, {"z": "6 2", "y": "2"}),
    ("h = exp(z @ y)\nh[:3] @ v + sum(h**2)",
     lambda m, v, z, y: m.exp(z @ y)[:3] @ v + m.sum(m.exp(z @ y) ** 2),
     {"v": "3"}, {"z": "6 70", "y": "70"}),
    # the weights were stored relative to the largest exponent so far
    ("min(z * (exp(x - logsumexp(x)) @ v))", _weighed,
     {"z": "66"}, {"x": "40", "v": "40 66"}),
    # the largest element had other bits where it was compared with all of them
    ('sum(amax(einsum("ijl,lk->ijk", softmax(sigmoid(c), axis=1)**-1, '
     'min(y - u, axis=-1)), axis=(1, 2)))', _largest,
     {"c": "3 4 4", "u": "3"}, {"y": "4 4 3"}),
    # a power overflowed that stood in a sum of exponents
    ("sum(exp((u**2 + 0.6)*log(u**2 + 0.6) - (u**2 + 0.6) - lgamma(u**2 + 1.6)))",
     _poisson_of_mean, {"u": "5 normal 20"}, {}),
    # an index of the gather was taken for that of the classes
    ("sum(x * (b - logsumexp(b, axis=1, keepdims=True))[:, k])", _gathered_classes,
     {"b": "2 2"}, {"x": "2 2 4", "k": "2 4 int 2"}),
    ("sum(a / len(x) * u)", lambda m, u, a, x: m.sum(a / len(x) * u),
     {"u": "3"}, {"a": "3", "x": "5 6"}),
    ("sum(-(z * (y @ v)))", lambda m, z, y, v: m.sum(-(z * (y @ v))),
     {"v": "3 4"}, {"z": "5 4", "y": "5 3"}),
    ("sum(u * z[k + k] * where(k + k > 1, 2, 1))",
     lambda m, u, z, k: m.sum(u * z[k + k] * m.where(k + k > 1, 2, 1)),
     {"u": ""}, {"z": "5", "k": "6 int 3"}),
)  # fmt: skip


REGRESSIONS = tuple(
    Case(f"regression {k}", *row, rows=(1, 1), single=1e-3)
    for k, row in enumerate(ROWS)
)
