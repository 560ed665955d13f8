"""The graph as SymPy in index notation: same values, readable letters, valid LaTeX."""

import math
import sys
import time
from itertools import product

import numpy as np
import pytest
import sympy as sp

from symgrad import graph as g
from symgrad.differentiate import gradient
from symgrad.interpret import evaluate
from symgrad.language import heads
from symgrad.language.build import InputSpec, build, default_static
from symgrad.language.graph_to_sympy import graph_to_sympy, size_names
from symgrad.language.parser import parse_text
from symgrad.language.syntax import Name, walk

# --- a reader of the notation, independent of the graph -------------------------------

_FUNCTIONS = {
    "tanh": math.tanh, "exp": math.exp, "log": math.log, "sin": math.sin,
    "Abs": abs, "sign": lambda v: float(np.sign(v)), "cos": math.cos,
    "softplus": lambda v: math.log1p(math.exp(v)), "minimum": min, "maximum": max,
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)), "log1p": math.log1p,
    "where": lambda c, p, q: p if c else q, "clip": lambda v, p, q: min(max(v, p), q),
    "lt": lambda p, q: p < q, "le": lambda p, q: p <= q, "gt": lambda p, q: p > q,
    "ge": lambda p, q: p >= q, "eq": lambda p, q: p == q, "ne": lambda p, q: p != q,
    "and": lambda p, q: bool(p and q), "or": lambda p, q: bool(p or q),
    "not": lambda p: not p, "KroneckerDelta": lambda p, q: float(p == q),
    "Group": lambda v: v, "logaddexp": np.logaddexp, "hypot": math.hypot,
    "isinf": math.isinf,
}  # fmt: skip
_REDUCTIONS = {
    "sum": sum, "prod": math.prod, "min": min, "max": max, "norm": math.hypot,
    "logsumexp": lambda vs: float(np.logaddexp.reduce(vs)),
}  # fmt: skip


def value(expr, env):
    """The number that ``expr`` is; ``env`` has numbers, arrays and definitions."""
    if isinstance(expr, heads.Let):
        for name, definition in expr.definitions:
            env = {**env, _base(name): (getattr(name, "indices", ()), definition, env)}
        return value(expr.body, env)
    if isinstance(expr, sp.Number):
        return int(expr) if isinstance(expr, sp.Integer) else float(expr)
    if isinstance(expr, (sp.Symbol, sp.Indexed)):
        return _looked_up(expr, env)
    if isinstance(expr, (sp.Sum, sp.Product, heads.Over)):
        return _reduced(expr, env)
    args = [value(arg, env) for arg in expr.args]
    if isinstance(expr, (sp.Add, sp.Mul)):
        return math.prod(args) if isinstance(expr, sp.Mul) else sum(args)
    if isinstance(expr, sp.Pow):
        return float(args[0]) ** args[1]
    name = getattr(expr, "language_name", "") or type(expr).__name__
    return _FUNCTIONS[name](*args)


def _base(name):
    return str(name.base if isinstance(name, sp.Indexed) else name)


def _looked_up(expr, env):
    found = env[_base(expr)]
    at = [int(value(i, env)) for i in getattr(expr, "indices", ())]
    if not isinstance(found, tuple):
        return found[tuple(at)].item() if at else float(found)
    indices, definition, outer = found
    names = [str(i) for i in indices]
    return value(definition, {**outer, **dict(zip(names, at, strict=True))})


def _reduced(expr, env):
    kind = getattr(expr, "reduction", "prod" if isinstance(expr, sp.Product) else "sum")
    names, ranges = [], []
    for index, lower, upper in expr.limits:
        names.append(str(index))
        ranges.append(range(int(value(lower, env)), int(value(upper, env)) + 1))
    values = [
        value(expr.args[0], {**env, **dict(zip(names, at, strict=True))})
        for at in product(*ranges)
    ]
    return math.hypot(*values) if kind == "norm" else _REDUCTIONS[kind](values)


# --- the same values as the graph -----------------------------------------------------

SHAPES = {
    "X": (5, 3), "w": (3,), "y": (5,), "b": (), "a": (), "W": (3, 4), "Y": (5, 4),
    "x": (5,), "u": (6,), "U": (7, 3), "P": (5, 2), "C": (6, 2), "k": (5,),
}  # fmt: skip
PARAMETERS = ("w", "b", "W", "a", "U", "C", "u")

LOSSES = [
    "mean((tanh(X @ w + b) - y)**2)",
    "mean(softplus(-y*(X @ w + b)))",
    "mean(logsumexp(X @ W, axis=1) - sum(Y*(X @ W), axis=1))",
    "log(mean((y - a*x)**2))",
    "sum(100*(u[1:] - u[:-1]**2)**2 + (1 - u[:-1])**2)",
    "mean((y - sum(U[k], axis=1))**2)",
    "sum(min(sum((P[:, None, :] - C)**2, axis=2), axis=1))",
    "h = tanh(X @ W)\nmean((h - Y)**2) + 0.5*sum(h)",
    "S = X @ X.T\nZ = exp(S - logsumexp(S, axis=1)[:, None])\nmean((Z @ P)**2)",
    "mean((y - mean(y)*a)**2)",
    "norm(y - a*x) + prod(w) + max(w*2)",
    "sum(where(x > a, x*a, -x)) + (a < 1 and not b > 0)",
    "sum(u[2:] - 2*u[1:-1]*u[1:-1] + u[:-2])",
    "a**3 - 1/a + sqrt(abs(b)) + a**-2 + -0.5*b",
]


def _values():
    rng = np.random.default_rng(1)
    values = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    values["k"] = rng.integers(0, 7, 5)
    values["a"], values["b"] = np.array(0.7), np.array(-0.3)
    return values


def _built(text):
    program = parse_text(text)
    used = {n.id for n in walk(program.result) if isinstance(n, Name)}
    for assignment in program.assignments:
        used |= {n.id for n in walk(assignment.value) if isinstance(n, Name)}
    specs = {}
    for name in used & set(SHAPES):
        static = default_static(SHAPES[name], name in PARAMETERS)
        kind, is_parameter = "int" if name == "k" else "float", name in PARAMETERS
        specs[name] = InputSpec(name, SHAPES[name], kind, is_parameter, static)
    return build(program, specs)


def _environment(roots, values):
    lengths = {}
    for name, letter in size_names(roots).items():
        array, axis = name.rsplit(".", 1)
        lengths[letter] = values[array].shape[int(axis)]
    return {**values, **lengths}


def _checked(notation, expected, env):
    for at in np.ndindex(expected.shape):
        indices = dict(zip(map(str, notation.indices), at, strict=True))
        got = value(notation.expression, {**env, **indices})
        assert got == pytest.approx(expected[at], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("limit", [1, 150])
@pytest.mark.parametrize("text", LOSSES)
def test_values(text, limit):
    built, values = _built(text), _values()
    root = built.value.body
    notation = graph_to_sympy(root, limit=limit)
    assert notation.indices == ()
    _checked(notation, evaluate([root], values)[0], _environment(root, values))
    assert _is_balanced(sp.latex(notation.expression))


@pytest.mark.parametrize("limit", [1, 150])
@pytest.mark.parametrize("text", LOSSES)
def test_gradients(text, limit):
    built, values = _built(text), _values()
    wrt = [array for name, array in built.inputs.items() if name in PARAMETERS]
    for node in gradient(built.value.body, wrt):
        notation = graph_to_sympy(node, limit=limit)
        expected = evaluate([node], values)[0]
        _checked(notation, expected, _environment(node, values))
        assert len(notation.indices) == expected.ndim
        assert _is_balanced(sp.latex(notation.expression))


def _is_balanced(latex):
    begins, ends = latex.count(r"\begin"), latex.count(r"\end")
    lefts, rights = latex.count(r"\left"), latex.count(r"\right")
    return latex.count("{") == latex.count("}") and (begins, lefts) == (ends, rights)


# --- how it reads ---------------------------------------------------------------------

n = g.size("X.0")
i, j = g.index(n), g.index(3)
X, w = g.input_("X", (n, 3)), g.input_("w", (3,))
y, b = g.input_("y", (n,)), g.input_("b")
DOT = g.reduce_("sum", [j], g.load(X, [i, j]) * g.load(w, [j]))
PREDICTION = g.call("tanh", DOT + g.load(b))
ROWS = g.input_("r", (n,), "int")

READS = [
    (
        g.reduce_("sum", [i], (PREDICTION - g.load(y, [i])) ** 2) / n,
        "Sum((tanh(b + Sum(X[i, j]*w[j], (j, 0, 2))) - y[i])**2, (i, 0, n - 1))/n",
    ),
    (
        g.array([j], g.reduce_("sum", [i], DOT * g.load(X, [i, j]))),
        "Sum(X[j, i]*Sum(X[j, k]*w[k], (k, 0, 2)), (j, 0, n - 1))",
    ),
    (
        g.scatter((7, 3), (g.load(ROWS, [i]), j), (i, j), g.load(X, [i, j])),
        "Sum(KroneckerDelta(i, r[k])*X[k, j], (k, 0, n - 1))",
    ),
    (
        g.scatter((n + 1,), (i + 1,), (i,), g.load(y, [i])),
        "Sum(KroneckerDelta(i, j + 1)*y[j], (j, 0, n - 1))",
    ),
    (
        g.reduce_("min", [j], -g.load(w, [j]) + g.const(-1.5)),
        "min(-w[i] - 1.5, (i, 0, 2))",
    ),
    (g.reduce_("prod", [j], g.load(w, [j])), "Product(w[i], (i, 0, 2))"),
    (g.load(b) * g.load(b) + g.const(2.0), "b**2 + 2"),
    (g.load(b) + (-g.load(y, [g.const(0)])), "b - y[0]"),
    (g.const(-1.0) * g.load(b), "-b"),
    (g.call("fma", g.load(b), 2.0, 0.5), "b*2 + 0.5"),
    (g.call("cast", n), "n"),
    (g.const(-0.0), "-0.0"),
]


@pytest.mark.parametrize(("node", "expected"), READS, ids=lambda v: str(v)[:30])
def test_reads(node, expected):
    assert str(graph_to_sympy(node).expression) == expected


def test_typeset_as_in_a_textbook():
    loss = g.reduce_("sum", [i], (PREDICTION - g.load(y, [i])) ** 2) / n
    assert sp.latex(graph_to_sympy(loss).expression) == (
        r"\frac{\sum_{i=0}^{n - 1} \left(\tanh{\left(b + \sum_{j=0}^{2} {X}_{i,j} "
        r"{w}_{j} \right)} - {y}_{i}\right)^{2}}{n}"
    )


def test_negative_indices_are_not_spelled_out():
    row = g.load(ROWS, [i])
    wrapped = g.call("where", row < 0, row + 7, row, type="int")
    node = g.reduce_("sum", [i], g.load(g.input_("U", (7,)), [wrapped]))
    assert str(graph_to_sympy(node).expression) == "Sum(U[r[i]], (i, 0, n - 1))"


def test_letters_avoid_the_names_in_use():
    array = g.input_("i", (n,))
    node = g.reduce_("sum", [g.index(n)], g.load(array, [g.index(n)]))
    assert str(graph_to_sympy(node).expression) == "Sum(i[j], (j, 0, n - 1))"
    scalar = g.input_("n")
    node = g.load(scalar) * g.call("cast", n)
    assert str(graph_to_sympy(node).expression) == "m*n"


def test_computed_array_loaded_twice_gets_a_name():
    h = g.array([i], PREDICTION)
    k = g.index(n - 1)
    steps = (g.load(h, [k + 1]) - g.load(h, [k])) ** 2
    lines = str(graph_to_sympy(g.reduce_("sum", [k], steps)).expression).splitlines()
    assert lines == [
        "T1[i] = tanh(b + Sum(X[i, j]*w[j], (j, 0, 2)))",
        "Sum((T1[i + 1] - T1[i])**2, (i, 0, n - 2))",
    ]


def test_let_can_be_undone():
    h = g.array([i], PREDICTION)
    k = g.index(n - 1)
    node = g.reduce_("sum", [k], (g.load(h, [k + 1]) - g.load(h, [k])) ** 2)
    expr = graph_to_sympy(node).expression
    plain = expr.doit(deep=False)
    assert not plain.has(sp.IndexedBase("T1"))
    assert {"X", "w", "b", "n"} <= {str(s) for s in plain.free_symbols}


def test_shared_letters_for_sizes():
    other = g.size("Z.0")
    roots = [g.call("cast", n), g.call("cast", other)]
    names = size_names(roots)
    assert [str(graph_to_sympy(r, names).expression) for r in roots] == ["n", "m"]


# --- large graphs ---------------------------------------------------------------------


def test_deep_graph_without_recursion():
    node = g.load(b)
    for _ in range(3000):
        node = g.call("sin", node)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    try:
        assert graph_to_sympy(node).expression.func is sp.sin
    finally:
        sys.setrecursionlimit(limit)


def test_shared_parts_of_a_large_graph_get_names():
    node = g.load(b)
    for _ in range(300):  # 2**300 nodes, written out
        node = node * node + g.call("sin", node)
    start = time.perf_counter()
    expr = graph_to_sympy(node).expression
    assert isinstance(expr, heads.Let)
    assert len(sp.latex(expr)) < 50_000
    assert time.perf_counter() - start < 5.0


def test_many_terms():
    node = g.load(b)
    for k in range(10_000):
        node = node + g.load(g.input_(f"x{k}"))
    start = time.perf_counter()
    assert len(graph_to_sympy(node).expression.args) == 10_001
    assert time.perf_counter() - start < 5.0
