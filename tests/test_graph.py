"""The graph: interning under binders, substitution, walks, printing."""

import gc
import math

import pytest

from symgrad import graph
from symgrad.graph import (
    BOOL,
    FLOAT,
    INT,
    Const,
    array,
    call,
    const,
    index,
    input_,
    load,
    reduce_,
    scatter,
    size,
    substitute,
)

N, M = size("X.0"), size("X.1")
R, C = index(N), index(M)
R2 = index(N, 1)
X = input_("X", (N, M))
W = input_("w", (M,))
X_RC = load(X, [R, C])
W_C = load(W, [C])

# --------------------------------------------------------------------------------------
# Interning
# --------------------------------------------------------------------------------------


def test_equal_expressions_are_one_node():
    assert X_RC * W_C + 1 is load(X, [R, C]) * load(W, [C]) + 1
    assert X_RC * W_C is not W_C * X_RC
    assert input_("X", (N, M)) is X
    assert input_("X", (N, M), INT) is not X
    assert call("exp", X_RC) is not call("log", X_RC)


def test_constants_differ_by_type_and_sign():
    assert const(1) is not const(1.0)
    assert const(1) is not const(True)
    assert const(0.0) is not const(-0.0)
    assert const(math.nan) is const(float("nan"))
    assert [const(v).type for v in (1, 1.0, True)] == [INT, FLOAT, BOOL]
    assert math.copysign(1, const(-0.0).value) == -1


def test_nodes_without_users_are_forgotten():
    node = call("exp", input_("fleeting"))
    before = len(graph._interned)
    del node
    gc.collect()
    assert len(graph._interned) <= before - 2


def test_node_has_no_truth_value():
    with pytest.raises(TypeError, match="compare nodes with 'is'"):
        bool(X_RC < 1)


# --------------------------------------------------------------------------------------
# Binders
# --------------------------------------------------------------------------------------


def test_alpha_equivalent_reductions_are_one_node():
    slots = [index(M, s) for s in (0, 1, 5)]
    sums = [reduce_("sum", [j], load(X, [R, j]) * load(W, [j])) for j in slots]
    assert sums[0] is sums[1] is sums[2]
    assert sums[0].free == {R}


def test_alpha_equivalent_nested_reductions_are_one_node():
    def row_norms(i, j, k):
        product = load(X, [i, j]) * load(X, [i, k])
        return reduce_("sum", [i], reduce_("max", [j], reduce_("sum", [k], product)))

    first = row_norms(R, C, index(M, 1))
    assert row_norms(R2, index(M, 3), C) is first
    assert row_norms(index(N, 9), index(M, 1), C) is first


def test_alpha_equivalent_arrays_are_one_node():
    assert array([R], load(X, [R, 0])) is array([R2], load(X, [R2, 0]))
    assert array([R, R2], load(X, [R, 0])) is array([R2, R], load(X, [R2, 0]))
    assert array([R, C], X_RC) is not array([C, R], X_RC)


def test_binder_avoids_a_free_index_of_its_extent():
    """sum over i2 of x[i]*x[i2]: the bound index cannot take the slot of i."""
    node = reduce_("sum", [R2], load(X, [R, 0]) * load(X, [R2, 0]))
    assert node.free == {R}
    assert node.indices == (R2,)
    other = reduce_("sum", [R], load(X, [R, 0]) * load(X, [R2, 0]))
    assert other.free == {R2}
    assert other.indices == (R,)


def test_reduction_without_indices_is_its_body():
    assert reduce_("sum", [], X_RC) is X_RC


def test_reduction_may_bind_an_index_that_the_body_lacks():
    node = reduce_("sum", [R], const(1.0))
    assert node.indices == (R,)
    assert not node.free
    assert graph.sizes(node) == [N]


def test_what_cannot_be_built():
    with pytest.raises(
        ValueError, match=r"free indices .*j<X\.1>|free indices .*i<X\.1>"
    ):
        array([R], X_RC)
    with pytest.raises(ValueError, match="free indices"):
        scatter([N], [R], [R], X_RC)
    with pytest.raises(ValueError, match="1 indices for an array of rank 2"):
        load(X, [R])
    with pytest.raises(ValueError, match="unknown kind 'mean'"):
        reduce_("mean", [R], X_RC)


# --------------------------------------------------------------------------------------
# Substitution
# --------------------------------------------------------------------------------------


def test_substitution_is_simultaneous():
    node = load(X, [R, 0]) - load(X, [R2, 0])
    swapped = substitute(node, {R: R2, R2: R})
    assert swapped is load(X, [R2, 0]) - load(X, [R, 0])


def test_substitution_does_not_capture():
    """(sum over i2 of x[i]*x[i2]) at i := i2 still sums over another index."""
    node = reduce_("sum", [R2], load(X, [R, 0]) * load(X, [R2, 0]))
    moved = substitute(node, {R: R2})
    assert moved.free == {R2}
    expected = reduce_("sum", [R], load(X, [R2, 0]) * load(X, [R, 0]))
    assert moved is expected
    assert substitute(moved, {R2: R}) is node


def test_substitution_does_not_capture_through_nested_binders():
    third = index(N, 2)
    inner = reduce_(
        "sum", [third], load(X, [R, 0]) + load(X, [R2, 0]) + load(X, [third, 0])
    )
    node = reduce_("max", [R2], inner)
    moved = substitute(node, {R: R2 + 1})
    assert moved.free == {R2}
    assert substitute(moved, {R2: const(0)}) is substitute(node, {R: const(1)})


def test_substitution_leaves_bound_indices_alone():
    node = reduce_("sum", [C], X_RC)
    assert substitute(node, {C: const(0)}) is node
    assert substitute(node, {R: const(3)}).free == frozenset()
    tensor = array([R], load(X, [R, 0]))
    assert substitute(load(tensor, [R]), {R: const(2)}) is load(tensor, [2])


def test_substitution_shares():
    """A chain in which every node uses its child twice has as many nodes after it."""
    node = load(X, [R, 0])
    for _ in range(200):
        node = node * node
    assert len(graph.walk(substitute(node, {R: R2}))) == len(graph.walk(node))


# --------------------------------------------------------------------------------------
# Types and integers
# --------------------------------------------------------------------------------------


def test_python_numbers_are_weak():
    k = load(input_("k", type=INT))
    x = load(input_("x"))
    assert (x + 1).args[1] is const(1.0)
    assert (k + 1).type == INT
    assert (k * 1.5).type == FLOAT
    assert (k / 2).type == FLOAT
    assert (k < 2).args[1] is const(2)
    assert (x < 2).args[1] is const(2.0)


def test_integer_arithmetic_folds():
    assert N + 0 is N
    assert N - 0 is N
    assert N * 1 is N
    assert (N - 1) + 1 is N
    assert N - 2 + 1 is N - 1
    assert 1 + N is N + 1
    assert N - N is const(0)
    assert const(3) * const(4) is const(12)
    assert isinstance(const(3) - const(4), Const)


def test_integers_become_floats_at_the_leaves():
    k = load(input_("k", type=INT))
    converted = graph.to_float(k * k + 1)
    cast = call("cast", k)
    assert converted is cast * cast + 1.0
    assert graph.to_float(cast) is cast


# --------------------------------------------------------------------------------------
# Walks
# --------------------------------------------------------------------------------------


def deep(length, leaf=X_RC):
    node = leaf
    for _ in range(length):
        node = call("sin", node)
    return node


def test_walk_gives_each_node_once_and_arguments_first():
    node = reduce_("sum", [R, C], X_RC * W_C + X_RC)
    order = graph.walk(node)
    assert len(order) == len(set(order))
    place = {n: k for k, n in enumerate(order)}
    assert all(place[c] < place[n] for n in order for c in n.children)
    assert order[-1] is node


def test_deep_graphs():
    node = deep(40_000)
    assert len(graph.walk(node)) == 40_000 + len(graph.walk(X_RC))
    moved = substitute(node, {R: R2})
    assert moved.free == {R2, C}
    assert substitute(moved, {R2: R}) is node
    total = reduce_("sum", [R2, C], moved)
    assert total is reduce_("sum", [R, C], node)
    swapped = graph.transform(
        node, lambda n: call("cos", *n.args) if isinstance(n, graph.Call) else n
    )
    assert swapped.op == "cos"
    assert len(repr(node)) < 5000
    assert graph.sizes(total) == [N, M]


def test_deep_integer_arithmetic_converts():
    node = load(input_("k", type=INT))
    leaf = node
    for _ in range(20_000):
        node = node * leaf
    assert graph.to_float(node).type == FLOAT


def test_rebuild_keeps_what_did_not_change():
    node = reduce_("sum", [C], X_RC * W_C)
    assert graph.rebuild(node, node.children) is node
    assert graph.transform(node, lambda n: n) is node


def test_uses_adds_bound_indices_and_extents():
    total = reduce_("sum", [R], const(1.0))
    assert set(graph.walk(total, into=graph.uses)) == {total, const(1.0), R, N}
    filled = scatter([M], [C], [R, C], const(1.0))
    assert graph.sizes(filled) == [M, N]
    assert graph.sizes(X) == [N, M]


# --------------------------------------------------------------------------------------
# Printing
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (X_RC * W_C + 1, "((X[i<X.0>, i<X.1>] * w[i<X.1>]) + 1.0)"),
        (-load(input_("b")), "(-b)"),
        (load(X, [R2, 0]), "X[j<X.0>, 0]"),
        (call("exp", load(input_("b"))), "exp(b)"),
        (call("where", load(input_("b")) < 1, 1.0, 0.0), "where((b < 1.0), 1.0, 0.0)"),
        (reduce_("sum", [C], W_C), "sum[i<X.1>](w[i<X.1>])"),
        (array([R], load(X, [R, 0])), "{i<X.0>: X[i<X.0>, 0]}"),
        (index(N - 1), "i<(X.0 + -1)>"),
        (
            scatter([M], [C], [C], W_C),
            "scatter[i<X.1>]([i<X.1>] += w[i<X.1>])",
        ),
    ],
)
def test_text(node, text):
    assert repr(node) == text


def test_long_text_is_cut():
    node = load(input_("x"))
    for _ in range(300):
        node = node + node
    assert len(graph.to_text(node, limit=100)) <= 101
