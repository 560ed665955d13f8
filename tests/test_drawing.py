"""Drawings of graphs: what is written on them, where it stands, what is folded."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import OptionError
from symgrad.show import svg
from symgrad.show.cards import summary
from symgrad.show.fold import LIMIT, MOST
from symgrad.show.layout import place

LESSON = {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0}
NS = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def lesson():
    f = sg.compile("e = a*b\nd = e + c\nd*f", wrt=list("abcf"))
    return sg.draw(f, **LESSON)


def chain(blocks):
    text = "\n".join(["h = x", *(f"h = tanh(h*w{k} + b{k})" for k in range(blocks))])
    names = [f"{n}{k}" for k in range(blocks) for n in "wb"]
    f = sg.compile(text + "\n(h - y)**2", wrt=names)
    return sg.draw(f, x=1.0, y=2.0, **dict.fromkeys(names, 0.5))


def tangle(count, seed=1):
    """A graph with no repeated block."""
    rng = np.random.default_rng(seed)
    pool, lines = [f"p{k}" for k in range(10)], []
    for k in range(count):
        a, b = rng.choice(pool[-12:], 2, replace=False)
        function = rng.choice(["", "tanh", "sin", "cos", "sigmoid"])
        lines.append(f"t{k} = {function}({a} {rng.choice(list('+*-'))} {b})")
        pool.append(f"t{k}")
    text = "\n".join(lines) + "\n" + " + ".join(pool[-12:])
    names = [n for n in pool if n.startswith("p") and re.search(rf"\b{n}\b", text)]
    return sg.draw(sg.compile(text, wrt=names), **dict.fromkeys(names, 0.3))


def texts(card):
    return [t.text for t in card.iter(f"{NS}text")]


def boxes(picture):
    root = ET.fromstring(picture)
    cards = [g for g in root.iter(f"{NS}g") if "sg-card" in g.get("class", "")]
    rects = [next(c.iter(f"{NS}rect")) for c in cards]
    sides = ("x", "y", "width", "height")
    return cards, [tuple(float(r.get(s)) for s in sides) for r in rects]


# --- what is written ------------------------------------------------------------------


def test_numbers_of_the_lesson_are_the_compilers(lesson):
    cards, _ = boxes(lesson.svg)
    found = {t[0].partition(" = ")[0]: t for t in map(texts, cards)}
    values = {"a": 2, "b": -3, "c": 10, "f": -2, "e": -6, "d": 4, "L": -8}
    adjoints = {"a": 6, "b": -4, "c": -2, "f": 4, "e": -2, "d": -2, "L": 1}
    assert set(found) == set(values)
    for name, (_, word, value, other, adjoint) in found.items():
        assert (word, other) == ("value", "adjoint")
        assert float(value) == values[name]
        assert float(adjoint) == adjoints[name]


def test_titles_say_how_values_are_computed(lesson):
    titles = [c.title for c in lesson.cards]
    assert titles == ["a", "b", "e = a·b", "c", "d = e + c", "f", "L = d·f"]


def test_arrays_show_shape_and_first_elements():
    x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    drawn = sg.draw(sg.compile("sum(X @ w)", wrt=["w"]), X=x, w=np.ones(3))
    card = next(c for c in drawn.cards if c.title == "X")
    assert card.note == "2×3"
    assert dict(card.rows)["value"] == "[1, 2, 3, …]"
    assert summary(np.array([-0.0, 1])) == "[0, 1]"


@pytest.mark.parametrize(
    "name", ["κόστος", "成本", "a_rather_long_name_of_a_parameter"]
)
def test_text_is_never_wider_than_its_card(name):
    values = {name: 1.5e-300, "b": -1 / 3}
    drawn = sg.draw(sg.compile(f"exp({name}*b)**2", wrt=[name, "b"]), **values)
    cards, rects = boxes(drawn.svg)
    for card, (x, _, width, _) in zip(cards, rects, strict=True):
        for text in card.iter(f"{NS}text"):
            wide = svg.measure(text.text)
            start = float(text.get("x"))
            if text.get("text-anchor") == "end":
                start -= wide
            assert start >= x
            assert start + wide <= x + width


def test_names_are_escaped():
    drawn = sg.draw(sg.compile("sum(where(x < 1, x, 2))", wrt=["x"]), x=np.ones(3))
    assert "x &lt; 1" in drawn.svg
    ET.fromstring(drawn.svg)


def test_dark_and_light(lesson):
    assert "prefers-color-scheme:dark" in lesson.svg
    assert lesson.svg == lesson._repr_svg_()


# --- where it stands ------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: chain(4), lambda: tangle(60)])
def test_cards_do_not_overlap_and_run_left_to_right(make):
    drawn = make()
    _, rects = boxes(drawn.svg)
    for k, (x, y, w, h) in enumerate(rects):
        for a, b, c, d in rects[:k]:
            assert x + w <= a or a + c <= x or y + h <= b or b + d <= y
    for card, (x, *_) in zip(drawn.cards, rects, strict=True):
        for arg in card.args:
            assert rects[arg][0] + rects[arg][2] < x


def test_the_picture_holds_all_cards(lesson):
    root = ET.fromstring(lesson.svg)
    width, height = float(root.get("width")), float(root.get("height"))
    _, rects = boxes(lesson.svg)
    assert max(x + w for x, _, w, _ in rects) < width
    assert max(y + h for _, y, _, h in rects) < height


def test_layout_avoids_crossings():
    """Two chains whose inputs come in the wrong order are drawn without a crossing."""
    args = [[], [], [], [], [3, 2], [1, 0], [4, 5]]
    placed = place([(50.0, 20.0)] * 7, args)
    y = [p[1] for p in placed.centres]
    upper = (2, 3) if y[4] < y[5] else (0, 1)
    lower = (0, 1) if y[4] < y[5] else (2, 3)
    assert max(y[k] for k in upper) < min(y[k] for k in lower)


# --- folding --------------------------------------------------------------------------


def test_small_graphs_are_drawn_whole():
    drawn = chain(10)
    assert len(drawn.trace.steps) < LIMIT
    assert len(drawn.cards) == len(drawn.trace.steps)


def test_repeated_blocks_are_folded():
    drawn = chain(40)
    folds = [c for c in drawn.cards if c.kind == "fold"]
    assert len(drawn.cards) < 25
    assert len(folds) == 1
    assert "times" in folds[0].rows[0][1]
    assert drawn.cards[-1].kind == "loss"


def test_terms_alike_are_folded():
    names = [f"a{k}" for k in range(40)]
    model = " + ".join(f"{n}*exp(-(x - {k})**2)" for k, n in enumerate(names))
    f = sg.compile(f"mean(({model})**2)", wrt=names)
    drawn = sg.draw(f, x=np.linspace(0, 1, 7), **dict.fromkeys(names, 1.0))
    assert len(drawn.cards) < 40
    assert any("37 more terms" in c.rows[0][1] for c in drawn.cards)


def test_a_tangle_of_150_steps_is_drawn_and_a_larger_one_is_cut():
    drawn = tangle(130)
    assert len(drawn.cards) > 100
    larger = tangle(400)
    assert len(larger.cards) <= MOST + 10
    assert any("more steps" in c.rows[0][1] for c in larger.cards)
    for drawing in (drawn, larger):
        order = [a < k for k, c in enumerate(drawing.cards) for a in c.args]
        assert all(order)


# --- other forms ----------------------------------------------------------------------


def test_dot_and_mermaid(lesson):
    dot, mermaid = lesson.to_dot(), lesson.to_mermaid()
    assert dot.startswith("digraph loss {")
    assert dot.count("->") == mermaid.count("-->") == 6
    assert r"value -6\l" in dot
    assert 'n2["e = a·b<br/>value -6<br/>adjoint -2"]' in mermaid


def test_quotes_and_signs_in_labels():
    drawn = sg.draw(sg.compile("sum(where(x < 1, x, 2))", wrt=["x"]), x=np.ones(3))
    assert "x #lt; 1" in drawn.to_mermaid()
    assert "x < 1" in drawn.to_dot()


@pytest.mark.parametrize("ending", ["svg", "dot", "gv", "mmd"])
def test_save(lesson, tmp_path, ending):
    path = tmp_path / f"graph.{ending}"
    lesson.save(path)
    assert "e = a·b" in path.read_text(encoding="utf-8")


def test_save_refuses_other_endings(lesson, tmp_path):
    with pytest.raises(OptionError, match=r"ends in one of \.svg"):
        lesson.save(tmp_path / "graph.png")
    with pytest.raises(OptionError, match="cannot write"):
        lesson.save(tmp_path / "none" / "graph.svg")
