"""Every stable form is more accurate where it says so, and worse nowhere."""

import dataclasses
import gc
import sys
import zlib
from functools import partial

import numpy as np
import pytest
from accuracy_measure import bits_lost, exact_with_condition, spread, worst

from symgrad import graph as g
from symgrad.interpret import evaluate
from symgrad.ops import apply
from symgrad.simplify import STABLE, simplify
from symgrad.simplify.candidates import Candidates
from symgrad.simplify.rule import is_wild
from symgrad.simplify.stable import LATE, STABILISE
from symgrad.simplify.stable_step import Stable, below, exp, sqrt, stable, u, v
from symgrad.simplify.stable_sums import SUMS
from symgrad.simplify.stable_terms import terms, total

SAMPLES = 12
SLACK = 2.0
"""Bits by which a sample may be worse: a few roundings more, where nothing cancels."""

ROWS = [row for row in (*STABILISE, *LATE) if row.kind == STABLE]
row_by_name = pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)


# --------------------------------------------------------------------------------------
# The checker
# --------------------------------------------------------------------------------------


def draw(row: Stable, node: g.Node, rng) -> dict[str, np.ndarray]:
    values = {}
    for x in g.walk(node):
        if isinstance(x, g.Input):
            shape = tuple(int(e.value) for e in x.shape if isinstance(e, g.Const))
            interval = row.at.get(x.name.removeprefix("?"), (0.5, 2.0))
            values[x.name] = spread(interval, shape, rng)
    return values


def lost(row: Stable, before: g.Node, after: g.Node) -> list[tuple[float, float]]:
    """Bits of error before and after, for each sample."""
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    result = []
    for _ in range(SAMPLES):
        values = draw(row, before, rng)
        (exact,), (condition,) = exact_with_condition([before], values)
        one, other = evaluate([before, after], values)
        lost = (worst(bits_lost(f, exact, condition)) for f in (one, other))
        result.append(tuple(lost))
    return result


def check_accuracy(row: Stable) -> None:
    """Fail if the largest error over the row's intervals is not smaller afterwards."""
    pairs = []
    for before in row.examples:
        after = row.apply(before)
        assert after is not None, before
        pairs += lost(row, before, after)
    before, after = (max(p[k] for p in pairs) for k in (0, 1))
    assert after + 1 < before, f"{row.name}: {before:.1f} bits, then {after:.1f}"
    worse = max(b - a for a, b in pairs)
    assert worse <= SLACK, f"{row.name}: {worse:.1f} bits worse"


@row_by_name
def test_row_is_more_accurate(row):
    check_accuracy(row)


PLANTED = {
    "no better": stable(
        "planted", "mul", lambda x: 4.0 * (0.25 * x), [u * u], u=(1.0, 9.0)
    ),
    "worse": stable(
        "planted", "sqrt", lambda x: exp(0.5 * apply("log", x.args[0])),
        [sqrt(u)], u=(1e100, 1e200),
    ),
    "better, and elsewhere worse": stable(
        "planted", "sub", lambda x: apply("expm1", u) + 0.0 * exp(u),
        [exp(u) - 1.0], u=(1e-9, 1e6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_planted_row_is_caught(name):
    with pytest.raises(AssertionError):
        check_accuracy(PLANTED[name])


# --------------------------------------------------------------------------------------
# Termination
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", STABILISE, ids=lambda r: r.name)
def test_result_does_not_contain_what_it_replaces(row):
    """It would be rewritten for ever."""
    for before in row.examples:
        after = row.apply(before)
        assert after is not None
        assert before not in g.walk(after), f"{before} -> {after}"


@pytest.mark.parametrize("row", STABILISE, ids=lambda r: r.name)
def test_stage_is_done_after_one_run(row):
    for before in row.examples:
        once = simplify([before], ["stabilise"]).roots
        assert simplify(once, ["stabilise"]).roots == once


FIND = Candidates(STABILISE)


def is_left_out(row, node):
    """Does the row change a node on which it is not tried, nor its like?"""
    tried = {r.apply for r in FIND(node)}
    return row.apply(node) is not None and row.apply not in tried


@pytest.mark.parametrize("row", SUMS, ids=lambda row: row.name)
def test_what_must_be_among_the_terms_leaves_nothing_out(row):
    sums = [n for other in SUMS for n in other.examples]
    sums += [total(terms(n)[::-1]) for n in sums] + [u * v + n for n in sums]
    sums = [n for n in sums if n.op in ("add", "sub")]
    assert sum(row.apply(n) is not None for n in sums) >= 2
    assert not any(is_left_out(row, n) for n in sums)


def test_planted_condition_is_caught(monkeypatch):
    row = next(r for r in SUMS if r.name == "exp-minus-one")
    wrong = dataclasses.replace(row, among=frozenset([frozenset(("exp", "exp exp"))]))
    monkeypatch.setattr(sys.modules[__name__], "FIND", Candidates([wrong]))
    assert any(is_left_out(row, n) for n in row.examples)


def test_integers_are_no_sums():
    n = g.size("n")
    twice = g.call("add", n, n, type=g.INT)
    assert simplify([twice], ["stabilise"]).roots == (twice,)


def renamed(node, name):
    """Another wildcard for a wildcard."""
    return g.load(g.input_(name + node.array.name)) if is_wild(node) else node


@pytest.mark.parametrize("row", STABILISE, ids=lambda row: row.name)
def test_facts_keep_no_node_alive(row):
    gc.collect()
    gc.disable()
    try:
        before = len(g._interned)
        (node, *_) = row.examples
        root = g.transform(node, partial(renamed, name="only here"))
        simplify([root], ["stabilise"])
        del root
        assert len(g._interned) == before
    finally:
        gc.enable()


def test_long_sums_are_left_alone():
    terms = [exp(g.load(g.input_(f"x{k}"))) for k in range(40)]
    total = terms[0]
    for term in terms[1:]:
        total = total - term
    assert simplify([total], ["stabilise"]).roots[0] is not None


@pytest.mark.parametrize("c", [5e-324, 1e-300, 1e308])
def test_literals_whose_squares_or_quotients_no_double_holds(c):
    node = c * (u * u) - c * (c * (v * v))
    (found,) = simplify([node], ["canonicalise", "stabilise"]).roots
    values = {"?u": np.array(3.0), "?v": np.array(1.0)}
    before, after = evaluate([node, found], values)
    np.testing.assert_array_equal(after, before)


def test_condition_keeps_the_other_branch():
    x = below(u, 1.0)
    assert simplify([x], ["stabilise"]).roots[0] is x
