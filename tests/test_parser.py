"""Text to syntax tree: what is accepted, how it binds, and what every mistake says."""

import pickle
import sys
import time

import pytest

from symgrad.errors import (
    ArgumentError,
    LimitError,
    ParseError,
    SymgradError,
    UnknownFunctionError,
)
from symgrad.language import syntax
from symgrad.language.names import ALIASES, FUNCTIONS, Function, add_function, nearest
from symgrad.language.parser import parse_formula, parse_text
from symgrad.language.syntax import Apply, Limits, Number, Subscript, same, to_text

# --- what formulas mean ---------------------------------------------------------------

TREES = [
    # precedence
    ("a + b * c", "(a + (b * c))"),
    ("(a + b) * c", "((a + b) * c)"),
    ("a - b - c", "((a - b) - c)"),
    ("a / b * c", "((a / b) * c)"),
    ("a @ b + c", "((a @ b) + c)"),
    ("a % b // c", "((a % b) // c)"),
    ("-x^2", "(-(x ** 2))"),
    ("-x**2", "(-(x ** 2))"),
    ("2**-1", "(2 ** (-1))"),
    ("2**3**2", "(2 ** (3 ** 2))"),
    ("2^3**2", "(2 ** (3 ** 2))"),
    ("-a**-b**c", "(-(a ** (-(b ** c))))"),
    ("2**-x*3", "((2 ** (-x)) * 3)"),
    ("a * -b + c", "((a * (-b)) + c)"),
    ("a - -b", "(a - (-b))"),
    ("- - +a", "(-(-(+a)))"),
    # conditions
    ("a < b", "(a < b)"),
    ("a < b <= c", "((a < b) and (b <= c))"),
    ("a < b < c < d", "(((a < b) and (b < c)) and (c < d))"),
    ("(a < b) < c", "((a < b) < c)"),
    ("not a == b and c or d", "(((not (a == b)) and c) or d)"),
    ("a and not b", "(a and (not b))"),
    ("(a > 0) & ~(b < 1) | (c != 2)", "(((a > 0) and (not (b < 1))) or (c != 2))"),
    ("~a + b", "((not a) + b)"),
    ("a >= 0 and b", "((a >= 0) and b)"),
    # postfix
    ("X.T", "X.T"),
    ("X'", "X.T"),
    ("A'*B''", "(A.T * B.T.T)"),
    ("-x[0]**2", "(-(x[0] ** 2))"),
    ("x.shape[0] + x.shape[-1]", "(x.shape[0] + x.shape[-1])"),
    ("len(x)", "len(x)"),
    ("(X @ w)[1:].T", "(X @ w)[1:].T"),
    ("x[i]", "x[i]"),
    ("X[:, 0]", "X[:, 0]"),
    ("x[1:]", "x[1:]"),
    ("x[:-1]", "x[:(-1)]"),
    ("x[a:b:2]", "x[a:b:2]"),
    ("x[::2]", "x[::2]"),
    ("x[::]", "x[:]"),
    ("x[:, None]", "x[:, None]"),
    ("x[..., 0]", "x[..., 0]"),
    ("U[i, j][k + 1]", "U[i, j][(k + 1)]"),
    ("x[i,]", "x[i]"),
    # numbers
    ("1", "1"),
    ("1.", "1.0"),
    (".5", "0.5"),
    ("1e-3", "0.001"),
    ("1.5E+2", "150.0"),
    ("007", "7"),
    ("9223372036854775807", "9223372036854775807"),
    ("9223372036854775808", "9.223372036854776e+18"),
    ("0.1 + 5e-324", "(0.1 + 5e-324)"),
    ("True", "True"),
    # calls
    ("sum(x)", "sum(x)"),
    ("sum(x, axis=1)", "sum(x, axis=1)"),
    ("sum(x, 1)", "sum(x, axis=1)"),
    ("sum(x, -1)", "sum(x, axis=-1)"),
    ("sum(x, (0, -1))", "sum(x, axis=(0, -1,))"),
    ("sum(x, axis=(0,))", "sum(x, axis=(0,))"),
    ("sum(x, keepdims=True, axis=0)", "sum(x, axis=0, keepdims=True)"),
    ("sum(x, axis=None, keepdims=False)", "sum(x)"),
    ("sum(x, dim=1, keepdim=True)", "sum(x, axis=1, keepdims=True)"),
    ("var(x, ddof=1) + var(x, ddof=0)", "(var(x, ddof=1) + var(x))"),
    ("std(x, correction=1)", "std(x, ddof=1)"),
    ("max(x)", "max(x)"),
    ("max(x, 0)", "maximum(x, 0)"),
    ("min(a, b, c)", "minimum(minimum(a, b), c)"),
    ("max(x, axis=0)", "max(x, axis=0)"),
    ("where(a > 0, a, 0)", "where((a > 0), a, 0)"),
    ("einsum('ij,kj->ik', A, B)", 'einsum("ij,kj->ik", A, B)'),
    ('einsum("is,if->sf", A, B)\'', 'einsum("is,if->sf", A, B).T'),
    ("arctan(x) + power(x, 2)", "(atan(x) + (x ** 2))"),
    ("add(a, b) - logical_and(c, d)", "((a + b) - (c and d))"),
    ("square(x) + reciprocal(y)", "((x ** 2) + (1 / y))"),
    ("polygamma(0, x)", "digamma(x)"),
    ("tanh(x,)", "tanh(x)"),
    # names
    ("theta + θ", "(theta + θ)"),
    ("µ", "μ"),  # the micro sign is the Greek letter, as in Python's keyword arguments
    ("e + pi + self + s + sum", "((((e + pi) + self) + s) + sum)"),
    ("lambda_ + _x", "(lambda_ + _x)"),
    # lines
    ("a = b; a", "a = b\na"),
    ("\n\na = b # comment ( [\n\n  \n a * 2\n", "a = b\n(a * 2)"),
    ("loss = x + 1", "(x + 1)"),
    ("h = x\nloss = h", "h = x\nh"),
    ("x = x + 1; x = x*2\nx", "x = (x + 1)\nx = (x * 2)\nx"),
    ("sum(x,\n    # inside\n    axis=0\n)", "sum(x, axis=0)"),
    ("(a +\n\n b)", "(a + b)"),
    ("a + \\\n b", "(a + b)"),
    ("a\r\n", "a"),
    ("\ta\t+\xa0b ;", "(a + b)"),
]


@pytest.mark.parametrize(("text", "expected"), TREES)
def test_tree(text, expected):
    program = parse_text(text)
    assert repr(program) == expected
    assert program.text == text


@pytest.mark.parametrize(("text", "expected"), TREES)
def test_printed_tree_parses_to_itself(text, expected):
    program = parse_text(text)
    again = parse_text(repr(program))
    if not any(isinstance(e, Number) and e.value < 0 for e in _exprs(program)):
        assert same(program, again)


def _exprs(program):
    return syntax.walk(*syntax.program_roots(program))


def test_issue_examples():
    program = parse_text(
        "h = tanh(X @ W1 + b1)\np = h @ W2 + b2\n"
        "mean(logsumexp(p, axis=1) - sum(Y * p, axis=1)) + 1e-4 * sum(W1**2)"
    )
    assert [a.name for a in program.assignments] == ["h", "p"]
    assert isinstance(program.result, Apply)
    assert program.result.function == "add"


def test_numbers_keep_their_type():
    values = {"1": int, "1.0": float, "True": bool, "1e2": float}
    for text, kind in values.items():
        assert type(parse_text(text).result.value) is kind


def test_spans_point_at_the_text():
    text = "mean((tanh(X @ w) - y)**2)"
    for node in _exprs(parse_text(text)):
        first, last = node.span
        assert 0 <= first < last <= len(text)
    subscript = parse_text("a + x[1:, 0]*b").result.args[1].args[0]
    assert isinstance(subscript, Subscript)
    assert subscript.span == (4, 12)


def test_every_function_can_be_called():
    for function in FUNCTIONS.values():
        if function.name in ("and", "or", "not", "shape", "einsum"):
            continue
        args = ", ".join(f"x{k}" for k in range(function.least))
        assert parse_text(f"{function.name}({args})").result is not None


def test_aliases_lead_to_functions():
    assert set(ALIASES.values()) <= set(FUNCTIONS)
    assert not set(ALIASES) & set(FUNCTIONS)


def test_added_function_is_known():
    add_function(Function("gelu_test", 1, 1))
    try:
        assert repr(parse_text("gelu_test(x)")) == "gelu_test(x)"
    finally:
        del FUNCTIONS["gelu_test"]


def test_formula():
    response, program = parse_formula("k = 2*pi\nlog(co2) ~ a + b*t + s*sin(k*t)")
    assert to_text(response) == "log(co2)"
    assert repr(program) == "k = (2 * pi)\n((a + (b * t)) + (s * sin((k * t))))"
    for text in ("a + b", "y ~ a ~ b", "y ~", "~ a", "y = a"):
        with pytest.raises(ParseError):
            parse_formula(text)


# --- size -----------------------------------------------------------------------------

LARGE = {
    "terms": "+".join(f"a{k}*sin(x{k})" for k in range(10_000)),
    "calls": "sin(" * 1000 + "x" + ")" * 1000,
    "brackets": "(" * 5000 + "x" + ")" * 5000,
    "signs": "-" * 50_000 + "x",
    "powers": "**".join(["9"] * 20_000),
    "comparisons": "<".join(["x"] * 5000),
    "transposes": "x" + "'" * 20_000,
    "lines": "\n".join(f"a{k + 1} = a{k} + 1" for k in range(5000)),
    "subscripts": "x" + "[0]" * 5000,
}


@pytest.mark.parametrize("name", LARGE)
def test_large_formulas(name):
    start = time.perf_counter()
    program = parse_text(LARGE[name])
    assert time.perf_counter() - start < 5.0  # 0.3 s at most on a quiet machine
    assert same(program, program)


def test_recursion_limit_does_not_matter():
    limit = sys.getrecursionlimit()
    text = "sin(" * 3000 + "x" + ")" * 3000
    sys.setrecursionlimit(200)
    try:
        assert same(parse_text(text), parse_text(text))
    finally:
        sys.setrecursionlimit(limit)


LIMITS = [
    ("x + " * 50 + "x", Limits(max_length=100), "max_length", 101),
    ("((((x))))", Limits(max_depth=3), "max_depth", 4),
    ("[" * 5, Limits(max_depth=3), "max_depth", 4),
    ("a+b+c+d", Limits(max_nodes=5), "max_nodes", 6),
    ("(" * 100_000, Limits(), "max_depth", 10_001),
    ("-" * 1_000_000, Limits(), "max_nodes", 200_001),
    ("x" * 1_000_001, Limits(), "max_length", 1_000_001),
]


@pytest.mark.parametrize(("text", "limits", "name", "column"), LIMITS)
def test_limits(text, limits, name, column):
    start = time.perf_counter()
    with pytest.raises(LimitError, match=f"{name}=") as caught:
        parse_text(text, limits)
    assert caught.value.column == column
    assert time.perf_counter() - start < 5.0
    assert len(str(caught.value)) < 500


# --- mistakes -------------------------------------------------------------------------

# text, line, column, part of the message
MISTAKES = [
    ("", 1, 1, "empty"),
    ("  \n# only a comment", 1, 1, "empty"),
    ("(x", 1, 1, "never closed"),
    ("mean((x - y)**2", 1, 5, "never closed"),
    ("x)", 1, 2, "closes nothing"),
    ("sin(x]", 1, 6, "expected ')' to close the '(' at line 1, column 4"),
    ("a = (b]\na", 1, 7, "expected ')'"),
    ("()", 1, 2, "expected an expression"),
    ("x[]", 1, 3, "expected an expression or ':'"),
    ("1 +", 1, 4, "end of the text, expected an expression"),
    ("a +\nb", 1, 4, "brackets"),
    ("* x", 1, 1, "expected an expression"),
    ("x +* y", 1, 4, "unexpected `*`"),
    ("x y", 1, 3, "write * for a product"),
    ("2x", 1, 1, "2*x"),
    ("2(x)", 1, 2, "write *"),
    ("sin x", 1, 5, "sin(x)"),
    ("(x)(y)", 1, 4, "only functions can be called"),
    ("x[0](y)", 1, 5, "only functions can be called"),
    ("1_000", 1, 1, "underscores"),
    ("0x1F", 1, 1, "decimal"),
    ("1j", 1, 1, "complex"),
    ("3.4.5", 1, 4, "unexpected `.5`"),
    ("1e999", 1, 1, "too large"),
    ("9" * 400, 1, 1, "too large"),
    ("x.", 1, 2, "point"),
    (".x", 1, 1, "not part of the language"),
    ("tahn(x)", 1, 1, "did you mean `tanh`?"),
    ("a = 1\nb = logsumxep(x)\nb", 2, 5, "did you mean `logsumexp`?"),
    ("Sin(x)", 1, 1, "did you mean `sin`?"),
    ("w(x + 1)", 1, 1, "w*(...)"),
    ("qqzzxx(1)", 1, 1, "`qqzzxx` is not in the language"),
    ("np.sin(x)", 1, 3, "without `np.`"),
    ("x.sum()", 1, 2, "sum(x)"),
    ("x.mean(axis=0)", 1, 2, "mean(x)"),
    ("x.real", 1, 2, "only .T and .shape[k]"),
    ("a.b.c", 1, 2, "point cannot be part of a name"),
    ("x.T()", 1, 4, "unexpected `(`"),
    ("x.shape", 1, 8, "expected '['"),
    ("x.shape[i]", 1, 9, "integer literal"),
    ("shape(x)", 1, 1, "x.shape[k]"),
    ("x[..., ...]", 1, 8, "once"),
    ("x[1:2:3:4]", 1, 8, "unexpected `:`"),
    ("x[(1, 2)]", 1, 5, "tuples"),
    ("x + None", 1, 5, "x[:, None]"),
    ("x, y", 1, 2, "tuples"),
    ("[1, 2, 3]", 1, 1, "pass them as data"),
    ("{1, 2}", 1, 1, "braces"),
    ("{i: 1}", 1, 1, "braces"),
    ("x = ", 1, 4, "expected an expression"),
    ("= x", 1, 1, "unexpected `=`"),
    ("a = b = c", 1, 7, "=="),
    ("sin(x) = 3", 1, 8, "only a single name"),
    ("x[0] = 3\nx", 1, 6, "only a single name"),
    ("mean(x = y)", 1, 6, "no keyword argument `x`"),
    ("(x = y)", 1, 4, "=="),
    ("x; y", 1, 1, "only the last line"),
    ("x\ny", 1, 1, "only the last line"),
    ("x > 0 & y < 1", 1, 7, "binds tighter"),
    ("a + not b", 1, 5, "brackets"),
    ("x not y", 1, 3, "and not"),
    ("x is y", 1, 3, "=="),
    ("x in y", 1, 3, "`in`"),
    ("x && y", 1, 3, "`and`"),
    ("x || y", 1, 3, "`or`"),
    ("!x", 1, 1, "`not`"),
    ("x <> y", 1, 3, "!="),
    ("x += 1", 1, 3, "name = name + ..."),
    ("x := 3", 1, 3, "line of its own"),
    ("x ? y : z", 1, 3, "where"),
    ("x if y else z", 1, 3, "where"),
    ("|x|", 1, 1, "abs(x)"),
    ("x << 2", 1, 3, "power of 2"),
    ("x × y", 1, 3, "*"),
    ("x²", 1, 2, "x**2"),
    ("x − y", 1, 3, "-"),
    ("x ≤ y", 1, 3, "<="),
    ("x $ y", 1, 3, "`$`"),
    ("y ~ a + b", 1, 3, "model"),
    ("sum(x, axis=i)", 1, 13, "integer"),
    ("sum(x, axis=1.5)", 1, 13, "integer"),
    ("sum(x, y)", 1, 8, "integer"),
    ("sum(x, 0, 1)", 1, 8, "takes 1 argument"),
    ("sum(x, axis=0, axis=1)", 1, 16, "twice"),
    ("sum(axis=0, x)", 1, 13, "follows a keyword"),
    ("sum((1, 2))", 1, 5, "tuple"),
    ("mean(x, keepdims=3)", 1, 18, "True or False"),
    ("var(x, ddof=y)", 1, 13, "integer literal"),
    ("tanh(x, y)", 1, 9, "takes 1 argument, 2 given"),
    ("tanh()", 1, 1, "takes 1 argument, 0 given"),
    ("where(x, y)", 1, 1, "takes 3 arguments"),
    ("max(x, y, axis=0)", 1, 8, "takes 1 argument"),
    ("einsum(A, B)", 1, 1, "subscripts first"),
    ('einsum("ij", "ij")', 1, 14, "only be the first argument"),
    ('tanh("x")', 1, 6, "only be the first argument"),
    ("'abc'", 1, 1, "einsum"),
    ("x + 'abc'", 1, 5, "einsum"),
    ('"abc', 1, 1, "never closed"),
    ("x'abc'", 1, 3, "transposes"),
]

HOSTILE = [
    "__import__('os').system('touch /tmp/owned')",
    "__builtins__", "__name__", "x.__class__", "().__class__.__bases__[0]",
    "x.__dict__['a']", "eval('1')", 'exec("x")', "open('/etc/passwd').read()",
    "getattr(x, 'y')", "globals()", "locals()['x']", "compile('1', '', 'eval')",
    "import os", "from os import system", "os.system('ls')", "print(x)", "type(x)",
    "lambda x: x", "(lambda: 0)()", "[i for i in x]", "sum(i for i in x)",
    "{i: 1 for i in x}", "def f(x): return x", "return x", "class A: pass",
    "while 1: x", "for i in x: i", "with x as y: y", "yield x", "await x", "async",
    "global x", "nonlocal x", "del x", "assert x", "raise x", "try: x", "pass",
    "f'{x}'", 'f"{x}"', 'f"{__import__(1)}"', "b'x'", "r'x'", "'''x'''",
    "(x := 3)", "*x", "sin(*x)", "sin(**x)", "x -> y", "@x", "x@", "...", ":", "x:y",
    "`x`", "x\\y", "\x00", "x\x00y", "\ud800", "\u202e(x", "x\u200by", "\ufeffx",
    "(" * 100_000, "sin(" * 100_000, "x" + "[" * 100_000, ")" * 100_000,
    "-" * 1_000_000, "((" * 400 + "x", "9" * 100_000, "1e99999999", "a" * 2_000_000,
    "x=" * 10_000 + "1", "x" + ".T2" * 10_000, "a" * 5000 + "(1)", ";" * 10_000,
    "\n" * 10_000, "#" * 10_000, '"' * 10_001, "'" * 10_001, "!" * 100, "x{" * 50,
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("cumsum", "`cumsum` is not in the language; the nearest function is `sum`"),
        ("convolve", "`convolve` is not in the language"),
        ("tahn", "did you mean `tanh`?"),
        ("k", "for a product write k*(...)"),
        ("w2", "for a product write w2*(...)"),
        ("theta", "for a product write theta*(...)"),
    ],
)
def test_only_names_of_numbers_are_taken_for_products(name, part):
    with pytest.raises(UnknownFunctionError) as caught:
        parse_text(f"{name}(x + 1)")
    assert part in caught.value.message
    assert ("product" in caught.value.message) == ("product" in part)


@pytest.mark.parametrize(("text", "line", "column", "part"), MISTAKES)
def test_mistake(text, line, column, part):
    with pytest.raises(SymgradError) as caught:
        parse_text(text)
    error = caught.value
    assert part in error.message
    assert (error.line, error.column) == (line, column)
    assert f"line {error.line}, column {error.column}:" in str(error)
    assert str(error).splitlines()[-1].strip(" ~") == "^"


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: ascii(t[:24]))
def test_hostile_text_is_refused(text):
    start = time.perf_counter()
    with pytest.raises((ParseError, LimitError)) as caught:
        parse_text(text)
    assert time.perf_counter() - start < 2.0
    assert caught.value.line is not None
    assert len(str(caught.value)) < 800


def test_hostile_text_runs_nothing():
    """The interpreter's audit sees no compile, exec, open, import or system call."""
    parse_text("x")  # lark is imported and the grammar made
    with pytest.raises(ParseError):
        parse_text("x +")
    events, recording = [], [True]
    sys.addaudithook(lambda event, _: recording[0] and events.append(event))
    for text in HOSTILE:
        with pytest.raises(SymgradError):
            parse_text(text)
    recording[0] = False
    assert not {e for e in events if e.split(".")[0] in _FORBIDDEN}


_FORBIDDEN = {"compile", "exec", "open", "import", "os", "subprocess", "ctypes"}


def test_power_towers_are_not_computed():
    assert repr(parse_text("9**9**9**9")) == "(9 ** (9 ** (9 ** 9)))"


def test_caret_under_the_mistake():
    with pytest.raises(UnknownFunctionError) as caught:
        parse_text("a = 1\nmean((tahn(X @ w) - y)**2)")
    assert str(caught.value).splitlines() == [
        "unknown function `tahn`: did you mean `tanh`?",
        "  line 2, column 7:",
        "    mean((tahn(X @ w) - y)**2)",
        "          ^~~~",
    ]


def test_long_lines_are_cut_around_the_mistake():
    with pytest.raises(ParseError) as caught:
        parse_text("x + " * 1000 + "? + x" * 10)
    lines = str(caught.value).splitlines()
    assert max(map(len, lines)) < 100
    assert lines[2][lines[3].index("^")] == "?"


def test_errors_are_also_builtin_errors_and_pickle():
    with pytest.raises(ValueError) as caught:
        parse_text("a +")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    with pytest.raises(NameError):
        parse_text("f(x)")
    with pytest.raises(ArgumentError, match="not bytes"):
        parse_text(b"x")


def test_nearest():
    near = {"tahn": "tanh", "EXP": "exp", "maen": "mean", "logsumxep": "logsumexp"}
    for word, expected in near.items():
        assert nearest(word) == expected
    assert nearest("zzzzqqq") is None
