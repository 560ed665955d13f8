"""The table of operations: every row against its own oracle.

The checkers below take a row, so that a planted mistake can show that they work.
"""

import dataclasses
import operator
import zlib
from collections.abc import Iterator

import mpmath
import numpy as np
import pytest

from symgrad import graph, interpret, ops
from symgrad.graph import BOOL, FLOAT, INT
from symgrad.ops import OPS, Op, RowError, apply
from symgrad.ops import nodes as n

ROWS = pytest.mark.parametrize("row", OPS.values(), ids=OPS.keys())
DIGITS = 40

# --------------------------------------------------------------------------------------
# The checkers
# --------------------------------------------------------------------------------------


def argument_types(row: Op) -> list[str]:
    first = {"select": BOOL, "order": INT, "cast": INT, "logic": BOOL}
    rest = BOOL if row.types == "logic" else FLOAT
    return [first.get(row.types, FLOAT), *[rest] * (row.arity - 1)]


def samples(row: Op, count: int, wide: bool = False) -> list[np.ndarray]:
    """``count`` values for each argument; ``wide``: of all magnitudes."""
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    columns = []
    for type_, (low, high) in zip(argument_types(row), row.sample, strict=True):
        if type_ == FLOAT:
            column = rng.uniform(low, high, count)
            if wide:
                column = np.sign(column) * 10 ** rng.uniform(-300, 300, count)
            elif low < 0 < high:
                column[::3] *= 10 ** rng.uniform(-12, 0, len(column[::3]))
        else:
            column = rng.integers(int(low), int(high) + 1, count)
        columns.append(column.astype(interpret.DTYPES[type_]))
    return columns


def exact_number(value):
    kind = np.asarray(value).dtype.kind
    return mpmath.mpf(float(value)) if kind == "f" else value.item()


def exact_value(row: Op, args):
    with mpmath.workdps(DIGITS):
        return row.exact(*map(exact_number, args))


def ulps(got: float, want, scale: float = 0.0) -> float:
    """The distance in units of the last place; 0 or inf where ``want`` is special."""
    rounded = float(want)
    if not np.isfinite(rounded) or rounded == 0 or not np.isfinite(got):
        return 0.0 if np.array_equal(got, rounded, equal_nan=True) else np.inf
    with mpmath.workdps(DIGITS):
        unit = np.spacing(max(abs(rounded), scale))
        return float(abs(mpmath.mpf(float(got)) - want) / unit)


def same(got: float, want: float, allowed: float, scale: float = 0.0) -> bool:
    """Equal to the sign of zero; finite numbers within ``allowed`` ulps."""
    if want == 0:
        return got == 0 and np.signbit(got) == np.signbit(np.float64(want))
    return ulps(float(got), mpmath.mpf(float(want)), scale) <= allowed


def check_numeric(row: Op) -> None:
    columns = samples(row, 80)
    got = row.numeric(*columns)
    for args, value in zip(zip(*columns, strict=True), got, strict=True):
        error = ulps(value, exact_value(row, args), row.scale)
        assert error <= row.ulp, f"{row.name}{args} = {value}: {error} ulp"


def edge_columns(row: Op) -> tuple[list[np.ndarray], list[float]]:
    types = argument_types(row)
    *columns, wanted = zip(*row.edges, strict=True)
    arrays = [
        np.array(c, interpret.DTYPES[t]) for c, t in zip(columns, types, strict=True)
    ]
    return arrays, list(wanted)


def check_edges(row: Op) -> None:
    columns, wanted = edge_columns(row)
    with np.errstate(all="ignore"):
        got = row.numeric(*columns)
    for i, want in enumerate(wanted):
        args = [c[i] for c in columns]
        assert same(got[i], want, row.ulp), f"{row.name}{args} = {got[i]}, not {want}"
        if all(np.isfinite(a) and not (a == 0 and np.signbit(float(a))) for a in args):
            exact = float(exact_value(row, args))
            assert ulps(exact, mpmath.mpf(float(want))) <= 1, (
                f"{row.name}{args}: {exact}"
            )


def loads(row: Op, columns: list[np.ndarray]):
    """Input arrays ``x0, x1, ...`` with one axis, their elements, and their values."""
    index = graph.index(len(columns[0]))
    nodes = []
    for i, type_ in enumerate(argument_types(row)):
        array = graph.input_(f"x{i}", (len(columns[0]),), type_)
        nodes.append(graph.load(array, [index]))
    return nodes, {f"x{i}": column for i, column in enumerate(columns)}


def check_expand(row: Op) -> None:
    assert row.expand is not None
    for columns in (
        samples(row, 80),
        samples(row, 80, wide=True),
        edge_columns(row)[0],
    ):
        nodes, values = loads(row, columns)
        (got,) = interpret.evaluate([row.expand(*nodes)], values)
        with np.errstate(all="ignore"):
            want = row.numeric(*columns)
        for i, value in enumerate(got):
            args = [c[i] for c in columns]
            good = same(value, want[i], row.expand_ulp, row.scale)
            assert good, f"{row.name}{args}: expansion {value}, numeric {want[i]}"


def float_partials(row: Op, columns) -> Iterator[tuple[int, list, np.ndarray]]:
    """For each differentiable argument: its number and the partials' values."""
    orders = sorted(set(columns[0].tolist())) if row.types == "order" else [None]
    for order in orders:
        chosen = columns if order is None else [c[columns[0] == order] for c in columns]
        nodes, values = loads(row, chosen)
        if order is not None:
            nodes[0] = graph.const(order)
        partials = row.partials(apply(row.name, *nodes), *nodes)
        assert len(partials) == row.arity
        for i, partial in enumerate(partials):
            if argument_types(row)[i] == FLOAT:
                yield i, chosen, partial, values


def evaluated(partial, values, function, count: int):
    if partial is None:
        return np.zeros(count)
    (result,) = function([partial], values)
    return np.broadcast_to(result, (count,))


def check_partials(row: Op) -> None:
    """Against numeric differentiation of ``exact``, in exact and in float numbers."""
    for i, columns, partial, values in float_partials(row, samples(row, 12)):
        count = len(columns[0])
        exact = evaluated(partial, values, interpret.evaluate_exact, count)
        rounded = evaluated(partial, values, interpret.evaluate, count)
        for j, args in enumerate(zip(*columns, strict=True)):
            want = derivative(row, args, i)
            where = f"{row.name}{args} by argument {i}: {exact[j]}, not {want}"
            assert abs(exact[j] - want) <= 1e-15 * abs(want), where
            assert abs(rounded[j] - want) <= 1e-13 * max(1, abs(want)), where


def derivative(row: Op, args, i: int):
    with mpmath.workdps(DIGITS):
        numbers = list(map(exact_number, args))

        def along(x):
            return row.exact(*numbers[:i], x, *numbers[i + 1 :])

        return mpmath.diff(along, numbers[i])


def check_kinks(row: Op) -> None:
    for args, wanted in row.kinks:
        columns = [np.array([a]) for a in args]
        for i, _, partial, values in float_partials(row, columns):
            (got,) = evaluated(partial, values, interpret.evaluate, 1)
            good = np.array_equal(got, wanted[i], equal_nan=True)
            assert good, f"{row.name}{args} by argument {i}: {got}, not {wanted[i]}"


# --------------------------------------------------------------------------------------
# Every row
# --------------------------------------------------------------------------------------


@ROWS
def test_numeric_agrees_with_the_oracle(row):
    check_numeric(row)


@ROWS
def test_edges(row):
    check_edges(row)


@ROWS
def test_partials_agree_with_numeric_differentiation(row):
    if row.types in ("comparison", "logic", "predicate", "cast", "same"):
        assert all(p is None for _, _, p, _ in float_partials(row, samples(row, 3)))
    else:
        check_partials(row)


@ROWS
def test_corners_are_as_documented(row):
    check_kinks(row)


@pytest.mark.parametrize("name", [name for name in OPS if OPS[name].expand])
def test_expansion_agrees_with_numeric(name):
    check_expand(OPS[name])


@ROWS
def test_expansion_ends(row):
    """Replacing operations by their expansions comes to an end."""
    left = {row.name}
    for _ in range(10):
        used: set[str] = set()
        for name in left:
            if OPS[name].expand:
                nodes, _ = loads(OPS[name], samples(OPS[name], 1))
                walk = graph.walk(OPS[name].expand(*nodes))
                used |= {node.op for node in walk if isinstance(node, graph.Call)}
        left = used
    assert not left


@pytest.mark.parametrize("name", [name for name in OPS if OPS[name].sympy])
def test_sympy_function_means_the_same(name):
    import sympy

    row = OPS[name]
    columns = samples(row, 5)
    for args, value in zip(
        zip(*columns, strict=True), row.numeric(*columns), strict=True
    ):
        numbers = [sympy.sympify(a.item()) for a in args]
        result = getattr(sympy, row.sympy)(*numbers)
        if isinstance(result, sympy.logic.boolalg.Boolean):
            assert bool(result) == value
        else:
            assert float(result.evalf(20)) == pytest.approx(float(value), rel=1e-12)


TORCH_NAMES = {"relu": "nn.functional.relu", "pow": "pow", "clip": "clamp"}
NOT_IN_TORCH = set("cbrt log1mexp exprel spherical_j0 sigmoid_tail tanh_tail".split())


@pytest.mark.parametrize("name", [n for n in OPS if OPS[n].kinks])
def test_corners_are_those_of_torch_where_finite(name):
    torch = pytest.importorskip("torch")
    if name in NOT_IN_TORCH:
        return
    function = operator.attrgetter(TORCH_NAMES.get(name, name))(torch)
    for args, ours in OPS[name].kinks:
        leaves = [
            torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in args
        ]
        theirs = torch.autograd.grad(function(*leaves), leaves)
        for mine, other in zip(ours, (float(t) for t in theirs), strict=True):
            assert mine == other or not np.isfinite(other), f"{name}{args}: {other}"


# --------------------------------------------------------------------------------------
# The checkers see mistakes; bad rows are refused
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checker", "name", "wrong"),
    [
        (check_partials, "sin", {"partials": lambda out, x: (out,)}),
        (check_partials, "mul", {"partials": lambda out, x, y: (x, y)}),
        (check_partials, "tanh", {"partials": lambda out, x: (1.0 + out * out,)}),
        (check_partials, "exp", {"partials": lambda out, x: (None,)}),
        (check_partials, "log1p", {"partials": lambda out, x: (1.0 / (1.0001 + x),)}),
        (check_kinks, "abs", {"partials": lambda out, x: (out / x,)}),
        (check_numeric, "log1p", {"numeric": lambda x: np.log(1 + x)}),
        (check_edges, "sqrt", {"numeric": lambda x: np.sqrt(np.abs(x))}),
        (check_edges, "neg", {"numeric": lambda x: 0.0 - x}),
        (check_expand, "softplus", {"expand": lambda x: n.log(1 + n.exp(x))}),
        (check_expand, "hypot", {"expand": lambda x, y: n.sqrt(x * x + y * y)}),
    ],
)
def test_planted_mistake_is_caught(checker, name, wrong):
    checker(OPS[name])
    with pytest.raises(AssertionError, match=name):
        checker(dataclasses.replace(OPS[name], **wrong))


@pytest.fixture(autouse=True)
def _restored_table():
    yield
    assert OPS.pop("planted", None) is None, "a refused row was left in the table"


def fields_of(name: str) -> dict:
    row = OPS[name]
    return {f.name: getattr(row, f.name) for f in dataclasses.fields(row)[1:]}


@pytest.mark.parametrize(
    "field",
    [f.name for f in dataclasses.fields(Op) if f.default is dataclasses.MISSING],
)
def test_missing_field_is_refused(field):
    if field == "name":
        return
    row = fields_of("tanh")
    del row[field]
    with pytest.raises(RowError, match=f"'planted'.* lacks {field}"):
        ops.define("planted", **row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"partials": lambda out: (None,)}, "partials must take 2"),
        ({"partials": lambda out, x: (out, out)}, "partials must give 1"),
        ({"partials": lambda out, x: out}, "partials must give 1"),
        ({"partials": lambda out, x: (1.0,)}, "not a node"),
        ({"exact": lambda x, y: x}, "exact must take 1"),
        ({"expand": lambda x, y: x}, "expand must take 1"),
        ({"expand": lambda x: None}, "not a node"),
        ({"types": "number"}, "types must be one of"),
        ({"sample": ()}, "sample needs 1"),
        ({"edges": ((1.0,),)}, "edge"),
        ({"kinks": (((0.0,), ()),)}, "kink"),
        ({"gradient": None}, "no such field: gradient"),
    ],
)
def test_contradictory_row_is_refused(change, message):
    with pytest.raises(RowError, match=message):
        ops.define("planted", **{**fields_of("tanh"), **change})


def test_defined_row_is_used_and_defined_once():
    row = ops.define("planted", **fields_of("tanh"))
    check_partials(row)
    with pytest.raises(RowError, match="already defined"):
        ops.define("planted", **fields_of("tanh"))
    assert OPS.pop("planted") is row


# --------------------------------------------------------------------------------------
# Building nodes
# --------------------------------------------------------------------------------------

X, N = graph.load(graph.input_("x")), graph.load(graph.input_("n", type=INT))
B = graph.load(graph.input_("b", type=BOOL))


def test_integers_stay_integers_where_they_can():
    kept = ["add", "sub", "mul", "floor_divide", "mod", "minimum", "maximum"]
    assert {apply(name, N, 2).type for name in kept} == {INT}
    assert {apply(name, N, X).type for name in kept} == {FLOAT}
    kept = ["neg", "abs", "sign", "floor", "ceil", "trunc", "round", "relu"]
    assert {apply(name, N).type for name in kept} == {INT}
    assert apply("clip", N, 0, 5).type == INT
    assert apply("pow", N, 2) is N * N
    assert apply("pow", N, -1).type == FLOAT
    assert apply("div", N, 2).type == FLOAT


def test_integer_constants_fold():
    one = graph.const
    assert apply("floor_divide", one(-7), one(2)) is one(-4)
    assert apply("mod", one(-7), one(3)) is one(2)
    assert apply("maximum", one(3), one(5)) is one(5)
    assert apply("neg", one(3)) is one(-3)


def test_integer_calls_mean_what_they_say():
    names = ["neg", "abs", "sign", "relu", "round"]
    for value in (-3, 0, 4):
        got = interpret.evaluate([apply(name, N) for name in names], {"n": value})
        assert got == [-value, abs(value), np.sign(value), max(value, 0), value]


def test_types_of_results():
    assert apply("lt", N, 2.5).type == BOOL
    assert apply("lt", N, 2) is graph.comparison("lt", N, 2)
    assert apply("where", B, N, 2).type == INT
    assert apply("where", B, N, X).type == FLOAT
    assert apply("where", X, B, B).type == BOOL
    assert apply("and", X, B) is apply("and", apply("ne", X, 0.0), B)
    assert apply("isnan", N).type == BOOL
    assert apply("cast", B).type == FLOAT
    assert apply("cast", X) is X
    assert apply("stop_gradient", N) is N
    assert apply("exp", N) is apply("exp", graph.to_float(N))


def test_wrong_use_is_refused():
    with pytest.raises(RowError, match="did you mean 'tanh'"):
        apply("tanhh", X)
    with pytest.raises(RowError, match="exp takes 1 argument"):
        apply("exp", X, X)
    for order in (X, N, graph.const(-1), 1.5):
        with pytest.raises(RowError, match="constant integer"):
            apply("polygamma", order, X)
