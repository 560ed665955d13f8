"""The public contract: expressions, code, pickles; names; the package itself."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from example_loss import MODEL, MODEL_TEXT, TEXT, VALUES, B, W, X, Y

import symgrad as sg
from symgrad import errors

PACKAGE = Path(sg.__file__).parent


@pytest.fixture(scope="module")
def f():
    """The loss, called once: texts about its kernel are there."""
    loss = sg.compile(TEXT, wrt=["w", "b"])
    loss.value_and_grad(**VALUES)
    return loss


@pytest.fixture(scope="module")
def obj(f):
    return f.bind({"w": W, "b": B}, X=X, y=Y)


@pytest.fixture(scope="module")
def m():
    return sg.model(MODEL_TEXT, wrt=["a", "b", "c"])


# --- expressions ----------------------------------------------------------------------


def test_text_and_sympy_give_the_same(f):
    other = sg.compile(sg.parse(TEXT), wrt=["w", "b"])
    assert other(**VALUES) == f(**VALUES)
    np.testing.assert_array_equal(other.grad(**VALUES)["w"], f.grad(**VALUES)["w"])


def test_parse_gives_sympy_and_evaluates_nothing():
    import sympy

    expression = sg.parse("x/x + 0*x")
    assert isinstance(expression, sympy.Expr)
    assert expression != 1


def test_expr_before_and_after_a_call():
    import sympy

    f = sg.compile("sum((y - a*x)**2)", wrt=["a"])
    assert isinstance(f.expr, sympy.Basic)
    f(a=1.0, x=Y, y=Y)
    assert isinstance(f.expr, sympy.Basic)
    assert "Sum" in str(f.expr)
    assert "y[i]" in str(f.expr)


def test_gradients_are_sympy(f):
    import sympy

    assert list(f.gradient) == ["w", "b"]
    for expression in f.gradient.values():
        assert isinstance(expression, sympy.Basic)
        assert "tanh" in str(expression)


def test_latex(f):
    assert r"\tanh" in f.latex()
    assert r"\sum" in f.latex()
    assert f._repr_latex_().startswith("$")


def test_a_model_has_an_expression(m):
    import sympy

    m(**MODEL)
    assert isinstance(m.expr, sympy.Basic)
    assert "e^{" in m.latex()


# --- the kernel -----------------------------------------------------------------------


def test_code(f):
    assert "define" in f.llvm
    assert "objective" in f.asm
    assert ".visible .entry pass_" in f.ptx


def test_rewrites_are_records(f):
    for record in f.rewrites:
        assert record.rule
        assert record.before is not record.after


def test_source_runs_and_gives_the_same_numbers(f):
    f.value_and_grad(**VALUES)
    names: dict[str, object] = {}
    exec(compile(f.source, "<source>", "exec"), names)
    kernel = names["kernel"]
    inputs = f._main_kernel(f._latest()).layout.inputs
    loss, *gradients = kernel(*(np.asarray(VALUES[name]) for name in inputs))
    assert loss == pytest.approx(f(**VALUES), rel=1e-13)
    ours = f.grad(**VALUES)
    for name, array in zip(f.wrt, gradients, strict=True):
        np.testing.assert_allclose(array, ours[name], rtol=1e-11)


def test_specialize_compiles_and_runs_nothing():
    f = sg.compile(TEXT, wrt=["w", "b"])
    assert f.specialize(w=(4,), b=(), X=(10**9, 4), y=(10**9,)) is f
    assert "define" in f.llvm
    kernel = f._main_kernel(f._latest())
    f.value_and_grad(**VALUES)
    assert f._main_kernel(f._latest()) is kernel
    assert "define" in sg.compile(TEXT, wrt=["w", "b"]).specialize(**VALUES).llvm


def test_shapes_compile_at_once():
    shapes = {"w": (4,), "b": (), "X": (10, 4), "y": (10,)}
    assert "define" in sg.compile(TEXT, wrt=["w", "b"], shapes=shapes).llvm
    assert "define" in sg.model("a*x", wrt=["a"], shapes={"a": (), "x": (5,)}).llvm


@pytest.mark.parametrize("what", ["llvm", "asm", "source", "rewrites", "gradient"])
def test_what_needs_a_call_says_so(what):
    with pytest.raises(errors.ArgumentError, match="call the function once"):
        getattr(sg.compile(TEXT, wrt=["w", "b"]), what)


def test_repr(f, m):
    assert repr(f) == f"<symgrad Loss '{TEXT}' wrt ['w', 'b']>"
    assert repr(m).startswith("<symgrad Model 'a*exp")


def test_checks_are_there(f):
    assert max(f.check_grad(VALUES).values()) < 1e-7
    assert min(f.check(VALUES).values()) > 13


# --- pickling -------------------------------------------------------------------------


def test_pickling(f, obj, m):
    assert pickle.loads(pickle.dumps(f))(**VALUES) == f(**VALUES)
    again = pickle.loads(pickle.dumps(obj))
    np.testing.assert_array_equal(again.grad(np.ones(5)), obj.grad(np.ones(5)))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(m))(**MODEL), m(**MODEL))
    assert len(pickle.dumps(f)) < 20_000  # the source, not the code


def test_pickles_work_in_another_process(f, tmp_path):
    other = sg.compile(sg.parse("sum((y - a*x)**2)"), wrt=["a"])
    values = {"a": 1.5, "x": Y, "y": X[:, 0]}
    content = [(f, VALUES, f(**VALUES)), (other, values, other(**values))]
    (tmp_path / "f.pickle").write_bytes(pickle.dumps(content))
    code = """
        import pickle, sys
        for loss, values, value in pickle.load(open(sys.argv[1], "rb")):
            assert loss(**values) == value, (loss, value)
        print("good")
    """
    assert run(code, str(tmp_path / "f.pickle")) == "good"


def run(code, *arguments):
    """The output of a program."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=PACKAGE.parent,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# --- names ----------------------------------------------------------------------------

NAMES = (
    "self s e pi data x0 method direction values init loss wrt parameters out x lr "
    "cotangent progress steps found name kernel gradient i j lengths dtype seed"
).split()


@pytest.mark.parametrize("name", NAMES)
def test_every_name_works_as_a_parameter(name):
    f = sg.compile(f"sum(({name} - t)**2)", wrt=[name])
    values = {name: 1.0, "t": np.array([0.0, 3.0])}
    assert f(**values) == 5.0
    assert f.value_and_grad(**values)[1][name] == -2.0
    assert f.hvp({name: 1.0}, **values)[name] == 4.0
    assert f.hessian(**values) == [[4.0]]
    assert f.bind(t=values["t"]).pack({name: 1.0}) == [1.0]
    f.specialize(**{name: (), "t": (2,)})
    assert name in f.gradient
    result = sg.minimize(f, {name: 0.0}, {"t": values["t"]}, method="lbfgs")
    assert result.params[name] == pytest.approx(1.5)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_works_for_data(name):
    f = sg.compile(f"sum((a - {name})**2)", wrt=["a"])
    values = {"a": 1.0, name: np.array([0.0, 3.0])}
    assert f(**values) == 5.0
    assert f.hessian(**values) == [[4.0]]
    assert f.bind(**{name: values[name]}).value_and_grad([1.0])[1] == [-2.0]
    m = sg.model(f"a*{name}", wrt=["a"])
    np.testing.assert_array_equal(m.jacobian(**values)["a"], [0.0, 3.0])
    np.testing.assert_array_equal(m.jvp({"a": 2.0}, **values), [0.0, 6.0])
    assert m.vjp([1.0, 1.0], **values)["a"] == 3.0


def test_constants_are_shadowed():
    assert sg.compile("a*pi + e", wrt=["a"])(a=1.0) == pytest.approx(np.pi + np.e)
    assert sg.compile("e = a*b\ne + 1", wrt=["a", "b"])(a=2.0, b=3.0) == 7.0
    assert sg.compile("a*e", wrt=["a"])(a=2.0, e=5.0) == 10.0


# --- the package ----------------------------------------------------------------------


def test_import_is_light():
    heavy = ("sympy", "numba", "scipy", "llvmlite", "lark", "tqdm", "matplotlib")
    code = f"""
        import sys
        import symgrad
        print([name for name in {heavy!r} if name in sys.modules])
    """
    assert run(code) == "[]"


def test_a_call_needs_neither_sympy_nor_scipy():
    code = """
        import sys
        import symgrad as sg
        f = sg.compile("sum((y - a*x)**2)", wrt=["a"])
        f.value_and_grad(a=1.0, x=[1.0, 2.0], y=[2.0, 3.0])
        f.bind(x=[1.0], y=[2.0]).value_and_grad([1.0])
        print([name for name in ("sympy", "numba", "scipy") if name in sys.modules])
    """
    assert run(code) == "[]"


def test_public_names():
    for name in sg.__all__:
        assert getattr(sg, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sg.nonsense
    assert isinstance(sg.compile("a", wrt=["a"]), sg.Loss)
    assert isinstance(sg.model("a", wrt=["a"]), sg.Model)


FORBIDDEN = re.compile(r"(?<![\w.])(eval|exec|sympify|__import__)\s*\(|\.sympify\s*\(")


def test_nothing_in_the_package_evaluates_text():
    for path in PACKAGE.rglob("*.py"):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            assert not FORBIDDEN.search(line), f"{path}:{number}: {line}"


def test_the_search_finds_what_it_should():
    for text in ("eval(x)", "y = exec (x)", "sympy.sympify(x)", "sympify(x)"):
        assert FORBIDDEN.search(text)
    for text in ("evaluate(x)", "self.executor(x)", "eval_count"):
        assert not FORBIDDEN.search(text)
