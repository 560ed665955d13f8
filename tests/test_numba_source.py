"""The printed kernels run, and compute what the interpreter computes."""

from __future__ import annotations

import ast
import importlib.util
import itertools

import numpy as np
import pytest

import symgrad as sg
from symgrad import graph, ops
from symgrad.codegen.layout import ArraySpec, Layout
from symgrad.codegen.numba_names import Names
from symgrad.codegen.numba_source import kernel_source
from symgrad.interpret import evaluate
from symgrad.runtime.derivatives import gradient_nodes, hvp_kernel
from symgrad.schedule import make_plan

SEED = 20240613
_numbers = itertools.count()


@pytest.fixture
def load(tmp_path):
    """From a kernel's text to its function, by way of a file."""

    def from_text(source):
        name = f"printed_{next(_numbers)}"
        path = tmp_path / f"{name}.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.kernel

    return from_text


DTYPES = {"float": "float64", "int": "int64", "bool": "bool"}


def layout_of(outputs, inputs):
    """A plan and a layout of graph nodes, without compiling."""
    plan = make_plan(outputs, {})
    specs = {
        name: ArraySpec(DTYPES[array.type], True, False)
        for name, array in inputs.items()
    }
    return plan, Layout(plan, inputs, specs, single=False)


def arguments(layout, values):
    """As the printed function takes them: scalars for rank 0."""
    for name in layout.inputs:
        value = np.asarray(values[name])
        yield value if value.ndim else value.item()


def assert_close(found, wanted, tolerance=1e-12):
    for have, want in zip(found, wanted, strict=True):
        assert np.shape(have) == np.shape(want)
        scale = np.maximum(1.0, np.max(np.abs(want), initial=0.0))
        np.testing.assert_allclose(have, want, rtol=0, atol=tolerance * scale)


def longest_line(source):
    return max(map(len, source.splitlines()))


# --------------------------------------------------------------------------------------
# Losses from text
# --------------------------------------------------------------------------------------


def arrays(**shapes):
    """Standard normal arrays; an integer array where the shape is (n, "below", m)."""
    rng = np.random.default_rng(SEED)
    made = {}
    for name, shape in shapes.items():
        if "below" in shape:
            made[name] = rng.integers(-shape[2], shape[2], shape[0])
        else:
            made[name] = rng.normal(size=shape)
    return made


N = 70

LOSSES = {
    "regression": (
        "mean((tanh(X @ w + b) - y)**2)",
        ["w", "b"],
        {"X": (N, 4), "w": (4,), "b": (), "y": (N,)},
    ),
    "logistic": (
        "mean(softplus(-y*(X @ w + b))) + 1e-3*sum(w**2)",
        ["w", "b"],
        {"X": (N, 4), "w": (4,), "b": (), "y": (N,)},
    ),
    "network": (
        "h = tanh(X @ W1 + b1)\np = h @ W2 + b2\n"
        "mean(logsumexp(p, axis=1) - sum(Y * p, axis=1)) + 1e-4 * sum(W1**2)",
        ["W1", "b1", "W2", "b2"],
        {"X": (N, 4), "W1": (4, 5), "b1": (5,), "W2": (5, 3), "b2": (3,), "Y": (N, 3)},
    ),
    "two passes": ("log(mean((y - a*x)**2))", ["a"], {"y": (N,), "a": (), "x": (N,)}),
    "variance": ("var(y - a*x)", ["a"], {"y": (N,), "a": (), "x": (N,)}),
    "stencil": (
        "sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)",
        ["x"],
        {"x": (N,)},
    ),
    "gather": (
        "mean((r - sum(U[i]*V[j], axis=1))**2)",
        ["U", "V"],
        {
            "U": (20, 3),
            "V": (9, 3),
            "r": (N,),
            "i": (N, "below", 20),
            "j": (N, "below", 9),
        },
    ),
    "clusters": (
        "sum(min(sum((P[:, None, :] - C)**2, axis=2), axis=1))",
        ["C"],
        {"P": (N, 2), "C": (5, 2)},
    ),
    "mixture": (
        "sum(logsumexp(alpha + sum(q, axis=1)"
        " - 0.5*sum((exp(q)*(x[:, None, :] - mu))**2, axis=2), axis=1))",
        ["alpha", "q", "mu"],
        {"alpha": (3,), "q": (3, 2), "mu": (3, 2), "x": (N, 2)},
    ),
    "attention": (
        "S = Q @ K.T\nP = exp(S - logsumexp(S, axis=1)[:, None])\nmean((P @ V - Y)**2)",
        ["Q", "K", "V"],
        {"Q": (N, 3), "K": (N + 5, 3), "V": (N + 5, 2), "Y": (N, 2)},
    ),
    "product": (
        "prod(1 + 0.1*u*v) + max(u*a)",
        ["v", "a"],
        {"u": (9,), "v": (9,), "a": ()},
    ),
    "scalars": ("(a*b + c)**2 * exp(-a)", ["a", "b", "c"], {"a": (), "b": (), "c": ()}),
    "sums by tiles of rows": (
        "sum(dot(u**2 + 0.4, u) % z)",
        ["u"],
        {"u": (N, N), "z": (N,)},
    ),
    "one element": ("cos(u)[-4] + u[0]**2", ["u"], {"u": (6,)}),
    "names": (
        "mean((lambda_*np + i*kernel + j - n*x)**2)",
        ["np", "kernel", "i"],
        {"lambda_": (N,), "np": (), "i": (), "kernel": (), "j": (), "n": (), "x": (N,)},
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, load):
    text, wrt, shapes = LOSSES[name]
    values = arrays(**shapes)
    f = sg.compile(text, wrt=wrt)
    f.specialize(**values)
    found = f._latest()
    source = f.source
    assert longest_line(source) <= 100
    _, layout = f._main_kernel(found).row_by_row()
    results = load(source)(*arguments(layout, values))
    assert_close(
        results, evaluate(gradient_nodes(found), values, found.lengths(values))
    )


def test_second_derivatives(load):
    values = arrays(X=(N, 3), w=(3,), y=(N,))
    f = sg.compile("mean(softplus(-y*(X @ w)))", wrt=["w"])
    f.specialize(**values)
    kernel = hvp_kernel(f._latest())
    direction = {"w": np.array([1.0, -2.0, 0.5])}
    given = {**values, "direction w": direction["w"]}
    source = kernel_source(kernel.plan, kernel.layout)
    results = load(source)(*arguments(kernel.layout, given))
    assert_close(results, [f.hvp(direction, **values)["w"]])


def test_single_precision(load):
    values = arrays(X=(N, 4), w=(4,), b=(), y=(N,))
    values["X"] = values["X"].astype(np.float32)
    f = sg.compile("mean((tanh(X @ w + b) - y)**2)", wrt=["w", "b"], dtype="float32")
    loss, grads = f.value_and_grad(**values)
    _, layout = f._main_kernel(f._latest()).row_by_row()
    results = load(f.source)(*arguments(layout, values))
    assert_close(results, [loss, *grads.values()], 1e-6)
    exact = sg.compile("mean((tanh(X @ w + b) - y)**2)", wrt=["w", "b"])(**values)
    assert 0 < abs(results[0] - exact) < 1e-5  # it does compute in float32


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64", "float32", "bool"])
def test_element_types(dtype, load):
    """Small integers and float32 data are converted before any arithmetic."""
    k = (np.arange(N) % 2 if dtype == "bool" else 100 + np.arange(N) % 20).astype(dtype)
    values = {**arrays(a=(), y=(N,)), "k": k}
    f = sg.compile("mean((a*k*k - y)**2)", wrt=["a"])
    f.specialize(**values)
    found = f._latest()
    _, layout = f._main_kernel(found).row_by_row()
    results = load(f.source)(*arguments(layout, values))
    assert_close(
        results, evaluate(gradient_nodes(found), values, found.lengths(values))
    )


def test_wrong_input_is_refused(load):
    values = arrays(U=(20, 3), i=(N, "below", 20), y=(N,))
    f = sg.compile("mean((sum(U[i], axis=1) - y)**2)", wrt=["U"])
    f.specialize(**values)
    _, layout = f._main_kernel(f._latest()).row_by_row()
    kernel = load(f.source)
    kernel(*arguments(layout, values))
    wrong = {**values, "i": values["i"].copy()}
    wrong["i"][7] = 20
    with pytest.raises(IndexError, match="axis 0 of U"):
        kernel(*arguments(layout, wrong))
    with pytest.raises(ValueError, match="y must have shape"):
        kernel(*arguments(layout, {**values, "y": np.zeros(N + 1)}))


# --------------------------------------------------------------------------------------
# Every operation of the table
# --------------------------------------------------------------------------------------

TYPES = {"logic": ["bool"] * 2, "select": ["bool", "float", "float"], "cast": ["int"]}
LENGTH = 50  # of the arguments: edges, then samples


def operation_case(op):
    """Arguments of a row: its edges, and samples inside its domain."""
    rng = np.random.default_rng(SEED)
    types = TYPES.get(op.types, ["float"] * op.arity)[: op.arity]
    dtypes = {"float": np.float64, "int": np.int64, "bool": np.bool_}
    columns = []
    for k, (low, high) in enumerate(op.sample):
        edges = [edge[k] for edge in op.edges]
        values = [*edges, *rng.uniform(low, high, LENGTH - len(edges))]
        columns.append(np.array(values).astype(dtypes[types[k]]))
    if op.types == "order":  # the order is a constant
        columns = [np.full_like(columns[1], 1.0), columns[1]]
    return types, columns


NAMES = list(ops.OPS)
GROUP = 8  # operations in one kernel: few compilations, none of them large


@pytest.mark.parametrize("start", range(0, len(NAMES), GROUP))
def test_every_operation(start, load):
    rows = [ops.OPS[name] for name in NAMES[start : start + GROUP]]
    inputs, values, outputs, wanted = {}, {}, [], []
    i = graph.index(graph.size("n"))
    for op in rows:
        types, columns = operation_case(op)
        args = []
        for k, (type_, column) in enumerate(zip(types, columns, strict=True)):
            array = graph.input_(f"{op.name}{k}", [i.extent], type_)
            args.append(graph.load(array, [i]))
            inputs[array.name], values[array.name] = array, column
        if op.types == "order":
            args[0] = graph.const(1)
        outputs.append(graph.array([i], ops.apply(op.name, *args)))
        with np.errstate(all="ignore"):
            wanted.append(np.asarray(op.numeric(*columns), np.float64))
    plan, layout = layout_of(outputs, inputs)
    results = load(kernel_source(plan, layout))(*arguments(layout, values))
    for op, have, want in zip(rows, results, wanted, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=2e-15, err_msg=op.name)
        if op.name not in ("minimum", "maximum"):
            zero = want == 0
            signs = np.signbit(have[zero]), np.signbit(want[zero])
            np.testing.assert_array_equal(*signs, err_msg=op.name)


def test_integer_operations(load):
    a_values, b_values = np.divmod(np.arange(121), 11)
    values = {"a": a_values - 5, "b": b_values - 5}
    inputs = {name: graph.input_(name, [121], "int") for name in values}
    i = graph.index(121)
    a, b = (graph.load(array, [i]) for array in inputs.values())
    nodes = [
        ops.apply(name, a, other)
        for name in ("mod", "floor_divide", "minimum", "maximum", "add", "mul", "lt")
        for other in (b, graph.const(-3))
    ]
    nodes += [ops.apply("sign", a), ops.apply("abs", -a), ops.apply("cast", a < b)]
    outputs = [graph.array([i], node) for node in nodes]
    plan, layout = layout_of(outputs, inputs)
    results = load(kernel_source(plan, layout))(*arguments(layout, values))
    assert_close(results, evaluate(outputs, values))


# --------------------------------------------------------------------------------------
# The text
# --------------------------------------------------------------------------------------


def test_long_sums_and_deep_nesting_stay_parsable():
    x = graph.load(graph.input_("x"))
    total, nested, chain = graph.const(0.0) + x, x, x
    for k in range(10_000):
        total = total + ops.apply("sin", x * float(k))
    for k in range(1_000):
        nested = ops.apply("sin", nested)
        chain = ops.apply("where", x < float(k), float(k), chain + 1.0)
    plan, layout = layout_of([total, nested, chain], {"x": graph.input_("x")})
    source = kernel_source(plan, layout)
    ast.parse(source)
    assert longest_line(source) <= 120


def test_precedence(load):
    """Parentheses are where Python needs them, and the order of sums is kept."""
    names = ("a", "b", "c")
    inputs = {name: graph.input_(name) for name in names}
    a, b, c = (graph.load(array) for array in inputs.values())
    both = ops.apply("and", a < b, ops.apply("or", b < c, ops.apply("not", c < a)))
    nodes = [
        a - (b - c),
        a / (b / c),
        a / (b * c),
        a + (b + c),
        -(a + b) * c,
        (-a) ** 2.0,
        -(a**2.0),
        a ** (b**c),
        (a**b) ** c,
        a - -b - (-(b * c)),
        graph.const(-2.0) ** 3.0 * a,
        ops.apply("where", both, a, b) + ops.apply("where", a < c, 1.0, b),
        ops.apply("where", ops.apply("eq", ops.apply("cast", a < b), 1.0), a, b) * 2.0,
    ]
    plan, layout = layout_of(nodes, inputs)
    kernel = load(kernel_source(plan, layout))
    for values in itertools.permutations([1.5, 2.25, 0.7]):
        given = dict(zip(names, values, strict=True))
        assert_close(kernel(*values), evaluate(nodes, given), 1e-15)


def test_length_without_an_array(load):
    """A result may have a length that no argument has: it is an argument then."""
    i = graph.index(graph.size("X.0"))
    outputs = [graph.array([i], graph.call("cast", i))]
    plan, layout = layout_of(outputs, {})
    results = load(kernel_source(plan, layout))(4)
    assert_close(results, [np.arange(4.0)])


def test_names():
    names = Names()
    assert names.user("lambda") == "lambda_"
    assert names.user("np") == "np_"
    assert names.user("direction w") == "direction_w"
    assert names.user("direction_w") == "direction_w_"
    assert names.user("2x") == "_2x"
    assert names.user("np") == "np_"
    assert names.fresh("direction_w") == "direction_w_2"


def test_title_cannot_end_the_docstring():
    x = graph.input_("x")
    plan, layout = layout_of([graph.load(x)], {"x": x})
    for title in ('a """ b', "a\\", 'a"', "x\n" * 9, "x + " * 1000):
        tree = ast.parse(kernel_source(plan, layout, title=title))
        assert [type(item).__name__ for item in tree.body] == [
            "Expr",
            "ImportFrom",
            "FunctionDef",
        ]


def test_text_of_a_small_kernel():
    f = sg.compile("sum((y - a*x)**2)", wrt=["a"])
    f.specialize(a=1.0, x=np.ones(100), y=np.ones(100))
    body = f.source.partition("# pass 1 of 1, over n rows\n")[2]
    assert body == EXPECTED


EXPECTED = """\
    loss_sum = 0.0
    grad_a_sum = 0.0
    for i in range(n):
        x_i = x[i]
        v1 = y[i] - a * x_i
        loss_sum += v1 * v1
        grad_a_sum += x_i * v1

    # results
    loss = loss_sum
    grad_a = -2.0 * grad_a_sum

    return loss, grad_a
"""
