"""Hostile and unusual texts: each has its error with a caret, or its answer."""

from __future__ import annotations

import numpy as np
import pytest

import symgrad as sg
from symgrad import errors

# --- Refused, with the place ----------------------------------------------------------

# text, column of the caret, what the message says
REFUSED = [
    ("", 1, "the text is empty"),
    (" \n\t ", 1, "the text is empty"),
    ("# a\n# b", 1, "the text is empty"),
    ("a\0 + 1", 2, r"unexpected character `\\x00`"),
    ("a + \ud800", 5, r"unexpected character `\\ud800`"),
    ("a*\u202e2", 3, r"unexpected character `\\u202e`"),
    ("a\u200b*2", 2, r"unexpected character `\\u200b`"),
    ("a*😀", 3, "unexpected character `😀`"),
    ("a − 1", 3, "write - with the minus sign of the keyboard"),
    ("a×2", 2, r"write \* to multiply"),
    ("a²", 2, r"write a power as x\*\*2"),
    ("a + 1e999", 5, "float64 ends at 1.8e308"),
    ("a + 0x10", 5, "write numbers in decimal"),
    ("a*1_000", 3, "write numbers without underscores"),
    ("a + 2j", 5, "complex numbers are not part of the language"),
    ("2a", 1, r"write 2\*a for a product"),
    ("a b", 3, r"write \* for a product"),
    ("2(a)", 2, "only functions can be called"),
    ("(a", 1, "'\\(' is never closed"),
    ("a)", 2, "'\\)' closes nothing"),
    ("lambda*a", 1, "for a parameter write lambda_"),
    ("class*a", 1, "`class` is a reserved word of Python"),
    ("import os", 1, "nothing can be imported"),
    ("__import__('os')", 1, "names that begin with two underscores"),
    ("a.__class__", 2, "only .T and .shape"),
    ("a if a else 1", 3, r"write where\(condition, a, b\)"),
    ("[a for a in b]", 4, "use sum, mean"),
    ("{a}", 1, r"group with \( \)"),
    ("a << 2", 3, "shifts are not part of the language"),
    ("a || b", 3, "write `or`"),
    ("(b := a)", 4, "assign on a line of its own"),
    ("f(x) = x\nf(a)", 6, "only a single name can be assigned to"),
    ("a + 'x'", 5, "first argument of einsum"),
    ("foo(a)", 1, "unknown function `foo`"),
    ("a(2)", 1, r"for a product write a\*"),
    ("exp*a", 1, r"`exp` is a function: write exp\(...\)"),
    ("exp()", 1, "exp takes 1 argument, 0 given"),
    ("sum(x, foo=1)", 8, "it has axis=, keepdims="),
    ("sum(x, axis=a)", 13, "axis must be an integer"),
    ("sum(x, axis=1.0)", 13, "axis must be an integer"),
    ("sum(x, axis=7)", 13, "axis 7 does not exist"),
    ("sum(x, axis=(0, 0))", 13, "axis names one axis twice"),
    ("x[0.5]*a", 3, "an index must be an integer"),
    ("a*x[9223372036854775807]", 5, "out of range for axis 0 of `x`"),
    ("a*x[99999999999999999999]", 5, "an index must be an integer"),
    ("a*sum(x[::0])", 9, "an integer literal other than 0"),
    ("a*sum(x[1.5:])", 9, "known from shapes"),
    ("a*sum(arange(-1))", 14, "negative size"),
    ("a*sum(arange(10**15))", 14, "known from shapes"),
    ("einsum('i->j', x)*a", 8, "one that no array has"),
    ("einsum('ij,jk', x, x)*a", 1, 'term "ij" has 2 indices'),
    ("a @ a", 1, r"write \*"),
    ("len(a)*a", 1, "`a` is a scalar"),
    ("a[None]", 1, r"wrap it in mean\(...\) or sum\(...\)"),
    ("a + " + "n" * 100_000, 5, "unknown name `nnn"),
    ("c*a", 1, "unknown name `c`"),
]


def given(text):
    """Data of which the texts complain if there are too many."""
    return {"x": np.ones(5)} if "x" in text else {}


@pytest.mark.parametrize(
    ("text", "column", "message"), REFUSED, ids=lambda v: str(v)[:40]
)
def test_refused_with_the_place(text, column, message):
    """A caret below the place, in lines that fit a terminal, printable everywhere."""
    with pytest.raises(errors.SymgradError, match=message) as caught:
        sg.compile(text, wrt=["a"])(a=1.0, **given(text))
    assert caught.value.column == column
    lines = str(caught.value).splitlines()
    assert lines[-1].strip().strip("~") == "^"
    assert all(len(line) <= 100 for line in lines[-2:])
    assert all(c.isprintable() for line in lines for c in line)


# --- Accepted, with the answer --------------------------------------------------------

# text, its value at a = 3, b = 2, x = [0, 1, 2, 3, 4]
ACCEPTED = [
    ("a + 007", 10.0), ("a*1.", 3.0), ("a*.5", 1.5), ("a + 1e-320", 3.0),
    ("a*123456789012345678901234567890", 3 * 123456789012345678901234567890.0),
    ("a*10**400", np.inf), ("a*(1/0)", np.inf), ("a*(1//0)", 0.0), ("a*(1 % 0)", 0.0),
    ("a*0**0", 3.0), ("a*0**-1", np.inf), ("-a^2", -9.0), ("2**-1*a", 1.5),
    ("a**2**3", 6561.0), ("0 < a < 5", 1.0), ("not a < 1", 1.0), ("a == 3 and b", 1.0),
    ("sum = 2\nsum*a", 6.0), ("pi = 3\npi*a", 9.0), ("a = a + 1\na", 4.0),
    ("c = a*2\r\nc + 1\r\n", 7.0), ("c = a; c*b", 6.0), ("a + \\\n 1", 4.0),
    ("\ta*2 # comment", 6.0), ("a\xa0*\x0c2", 6.0), ("(\na\n+\n1\n)", 4.0),
    ("ａ*2", 6.0), ("sum(a)", 3.0), ("a*True + False", 3.0),
    ("a*x[-1] + x[2*2]", 16.0), ("a*sum(x[3:99])", 21.0), ("a*sum(x[99:])", 0.0),
    ("a*x.T.T[1]", 3.0), ("a**2**2**2**2**2", np.inf),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), ACCEPTED)
def test_accepted_with_the_answer(text, value):
    values = {"a": 3.0, "b": 2.0, "x": np.arange(5.0)}
    used = {k: v for k, v in values.items() if k == "a" or k in text}
    assert sg.compile(text, wrt=["a"])(**used) == pytest.approx(value, rel=1e-15)


# --- Deep and long --------------------------------------------------------------------

# text of a size, its value and slope at a = 1, x = [0, 1, 2]
DEEP = {
    "brackets": (lambda n: "(" * n + "a" + ")" * n, 1.0, 1.0),
    "signs": (lambda n: "-" * (2 * n) + "a", 1.0, 1.0),
    "functions": (lambda n: "abs(" * n + "a" + ")" * n, 1.0, 1.0),
    "branches": (lambda n: "where(a > 0, " * n + "a" + ", 1)" * n, 1.0, 1.0),
    "maxima": (lambda n: "max(0, " * n + "a" + ")" * n, 1.0, 1.0),
    "a sum": (lambda n: " + ".join(["a"] * n), None, None),
    "a product": (lambda n: "*".join(["a"] * n), 1.0, None),
    "quotients": (lambda n: "/".join(["a"] * n), 1.0, None),
    "comparisons": (lambda n: " <= ".join(["a"] * n), 1.0, 0.0),
    "conditions": (lambda n: " and ".join(["a"] * n), 1.0, 0.0),
    "negations": (lambda n: "not " * (2 * n) + "a", 1.0, 0.0),
    "subscripts": (lambda n: "a*x" + "[:]" * n + "[1]", 1.0, 1.0),
    "transposes": (lambda n: "a*x" + ".T" * n + "[1]", 1.0, 1.0),
    "lines": (
        lambda n: "\n".join(f"v{k} = a*{k}" for k in range(n)) + "\nv1",
        1.0,
        1.0,
    ),
    "squares": (lambda n: "b = a\n" + "b = b*b\n" * n + "b", 1.0, None),
    "exponents": (lambda n: "**".join(["a"] * (n // 20)), 1.0, 1.0),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_and_long_texts(name):
    """No recursion: several hundred of everything, which Python itself stops at 200."""
    n = 600
    make, value, slope = DEEP[name]
    text = make(n)
    values = {"a": 1.0} | (
        {"x": np.arange(3.0)} if "x" in text and "max" not in text else {}
    )
    found, slopes = sg.compile(text, wrt=["a"]).value_and_grad(**values)
    assert found == (n if value is None else value)
    powers = {"a product": n, "quotients": 2 - n, "squares": np.inf, "a sum": n}
    wanted = powers[name] if slope is None else slope
    if name == "squares":
        assert slopes["a"] == pytest.approx(2.0**n, rel=1e-12)
    else:
        assert slopes["a"] == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(" * 100_000 + "a" + ")" * 100_000, "nested brackets"),
        ("sin(" * 100_000 + "a" + ")" * 100_000, "nested brackets"),
        ("a + " * 3_000_000 + "a", "characters|operations|nodes|terms|tokens"),
    ],
    ids=["brackets", "functions", "terms"],
)
def test_texts_beyond_the_limits(text, message):
    with pytest.raises(errors.LimitError, match=message) as caught:
        sg.compile(text, wrt=["a"])
    assert "limits=Limits(" in str(caught.value)


# --- Names ----------------------------------------------------------------------------

NAMES = [
    *"self sum pi e inf nan exp len print abs x0 values parameters direction".split(),
    *"np kernel args kwargs name out cls _ _1 n i loss T shape data wrt dtype".split(),
    "µ", "ａ", "e\u0301", "ﬁ", "x\u0304", "ñ", "变量", "λ", "x" * 300,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda n: ascii(n)[:20])
def test_names_that_users_choose(name):
    """They shadow functions and constants, and mean what Python's keywords would."""
    f = sg.compile(f"({name} - ｂ)**2", wrt=[name])
    (known,) = f.wrt
    assert known.isidentifier()
    for _ in range(3):
        value, slopes = f.value_and_grad(**{name: 2.0, "b": 0.0})
        assert (value, slopes) == (4.0, {known: 4.0})
    assert f.hvp({name: 1.0}, **{name: 2.0, "b": 0.0}) == {known: 2.0}
    bound = f.bind({name: 2.0}, **{"ｂ": 0.0})
    assert bound.pack({name: 2.0}) == [2.0]
    assert bound.grad(bound.pack({known: 2.0})) == [4.0]
    assert f.check_grad({name: 2.0, "b": 0.0})[known] < 1e-6
    result = sg.minimize(f, {name: 2.0}, {"b": 0.0}, method="gd", lr=0.25, steps=1)
    assert result.params == {known: 1.0}
    compile(f.source, "kernel", "exec")


@pytest.mark.parametrize(
    ("wrt", "message"),
    [
        (["a", "a"], "wrt names a twice"),
        (["a", "ａ"], "wrt names a twice"),
        ([""], "not a name"), (["a b"], "not a name"), (["1a"], "not a name"),
        ([1], "not a name"), ([b"a"], "not a name"), (["a\0"], "not a name"),
        (["lambda"], "'lambda', a reserved word.*lambda_ would be a name"),
        (["None"], "reserved word"),
        ("a", r"a list of names: wrt=\['a'\]"), (None, "list"),
        ([], "wrt is empty"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_lists_of_parameters(wrt, message):
    with pytest.raises(errors.ArgumentError, match=message):
        sg.compile("a**2", wrt=wrt)


def test_one_name_spelled_in_two_ways():
    f = sg.compile("a**2", wrt=["a"])
    with pytest.raises(errors.ArgumentError, match="a is given twice"):
        f(**{"a": 1.0, "ａ": 2.0})


def test_a_parameter_that_is_not_in_the_loss_warns():
    f = sg.compile("a**2", wrt=["a", "b"])
    with pytest.warns(errors.UnusedParameterWarning, match="b does not occur"):
        assert f.grad(a=1.0, b=2.0) == {"a": 2.0, "b": 0.0}


@pytest.mark.parametrize("text", ["a +* 2", "sum(", "tahn(a)", "c*a"])
def test_the_front_doors_say_the_same(text):
    messages = set()
    for door in (sg.compile, sg.model):
        with pytest.raises(errors.SymgradError) as caught:
            door(text, wrt=["a"])(a=1.0)
        messages.add(str(caught.value))
    with pytest.raises(errors.SymgradError) as caught:
        sg.minimize(text, {"a": 1.0}, steps=1)
    messages.add(str(caught.value))
    assert len(messages) == 1
