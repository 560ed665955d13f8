"""The command line, from arguments to files and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from symgrad.cli import main
from symgrad.commands import question
from symgrad.commands.fit import in_options, parse_bounds
from symgrad.errors import OptionError

ROOT = Path(__file__).parents[1]
CO2 = str(ROOT / "examples" / "data" / "co2.csv")
MODEL = "a + b*t + c*t**2 + s*sin(2*pi*t) + k*cos(2*pi*t)"
INIT = "a=300,b=1,c=0,s=0,k=0"


@pytest.fixture
def points(tmp_path):
    """y = 2x - 1 without noise, and a column with a hole."""
    path = tmp_path / "points.csv"
    rows = [f"{x},{2 * x - 1},{'' if x == 3 else x}" for x in range(10)]
    path.write_text("\n".join(["x,y,z", *rows]))
    return str(path)


def least_squares():
    data = np.genfromtxt(CO2, delimiter=",", names=True)
    t = data["t"]
    phase = 2 * np.pi * t
    design = np.stack([t**0, t, t**2, np.sin(phase), np.cos(phase)], axis=1)
    return np.linalg.lstsq(design, data["co2"], rcond=None)[0]


# --- What is asked --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "loss", "response", "model"),
    [
        ("y ~ a*x", "mean((y - (a*x))**2)", "y", "a*x"),
        ("y ~ a # why", "mean((y - (a))**2)", "y", "a"),
        ("(y)/2 ~ a;", "mean(((y)/2 - (a))**2)", "(y)/2", "a"),
        ("h = a*x\ny ~ h", "h = a*x\nmean((y - (h))**2)", "h = a*x\ny", "h = a*x\nh"),
        ("mean((y - (a*x))**2)", None, "y", "(a * x)"),
        ("sum(square(a*x - y))", None, "y", "(a * x)"),
        ("h = a*x\nmean((h - y)**2)", None, "y", "h = (a * x)\nh"),
        ("mean((y - a*x)**4)", None, None, None),
        ("mean((y + a*x)**2)", None, None, None),
        ("mean((y - a*x)**2) + a**2", None, None, None),
        ("sum(where(~m, a*x, y))", None, None, None),
    ],
)
def test_read(text, loss, response, model):
    asked = question.read(text)
    assert asked.loss == (text if loss is None else loss)
    assert (asked.response, asked.model) == (response, model)


def test_names():
    text = "e = a*x\nb = e + a\nmean((b - y)**2)*e + pi"
    assert question.names_in(text) == ("a", "x", "y", "pi")
    assert question.names_in("e = e + 1; e") == ("e",)


def test_bounds():
    assert parse_bounds("a=0:1, b=:5,c=-1:") == {
        "a": (0.0, 1.0),
        "b": (None, 5.0),
        "c": (-1.0, None),
    }
    for text in ("a", "a=1", "a=x:1"):
        with pytest.raises(OptionError, match="NAME=LOW:HIGH"):
            parse_bounds(text)


# --- fit ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["loss", "model"])
def test_fit_of_the_record(form, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    text = f"co2 ~ {MODEL}" if form == "model" else f"mean((co2 - ({MODEL}))**2)"
    picture, record = tmp_path / "fit.png", tmp_path / "fit.json"
    arguments = ["--plot", str(picture), "--save", str(record)]
    assert main(["fit", text, "--data", CO2, "--init", INIT, *arguments]) == 0
    output = capsys.readouterr().out
    assert "2225 rows" in output
    assert "R²" in output
    saved = json.loads(record.read_text())
    assert saved["success"]
    found = [saved["parameters"][name] for name in "abcsk"]
    np.testing.assert_allclose(found, least_squares(), rtol=1e-4)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_fit_shows_formulas(points, capsys):
    assert (
        main(["fit", "y ~ a*x + b", "--data", points, "--init", "a=0,b=0", "-v"]) == 0
    )
    output = capsys.readouterr().out
    assert "d loss / d a = " in output
    assert "d loss / d b = " in output


def test_fit_of_another_loss_draws_its_history(points, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "history.png"
    options = ["--method", "adam", "--lr", "0.1", "--steps", "50"]
    command = ["fit", "mean(abs(y - a*x))", "--data", points, "--init", "a=0"]
    assert main([*command, *options, "--plot", str(picture)]) == 1  # not converged
    assert picture.exists()
    assert "try --steps 500, or --method lbfgs" in capsys.readouterr().out


def test_fit_of_arrays(tmp_path, capsys):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(100, 3))
    path, record = tmp_path / "d.npz", tmp_path / "fit.json"
    np.savez(path, X=features, y=features @ [1.0, -2.0, 0.5] + 3.0)
    command = ["fit", "y ~ X @ w + b", "--data", str(path), "--save", str(record)]
    assert main([*command, "--init", "w=[0,0,0],b=0"]) == 0
    parameters = json.loads(record.read_text())["parameters"]
    np.testing.assert_allclose(parameters["w"], [1.0, -2.0, 0.5], atol=1e-5)
    np.testing.assert_allclose(parameters["b"], 3.0, atol=1e-5)


@pytest.mark.parametrize("text", ["y ~ X @ w + b", "mean((y - (X @ w + b))**2)"])
def test_standard_errors_are_those_of_linear_regression(text, tmp_path, capsys):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(60, 3)) * [1.0, 50.0, 0.1]
    observed = features @ [1.0, -2.0, 0.5] + 3.0 + rng.normal(size=60)
    path, record = tmp_path / "d.npz", tmp_path / "fit.json"
    np.savez(path, X=features, y=observed)
    command = ["fit", text, "--data", str(path), "--init", "w=[0,0,0],b=0"]
    assert main([*command, "--save", str(record)]) == 0
    design = np.c_[features, np.ones(60)]
    _, square, *_ = np.linalg.lstsq(design, observed, rcond=None)
    wanted = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * square[0] / 56)
    found = json.loads(record.read_text())["standard_errors"]
    np.testing.assert_allclose([*found["w"], found["b"]], wanted, rtol=1e-6)
    assert f"{wanted[0]:.3g}" in capsys.readouterr().out


def test_the_standard_error_of_a_mean(tmp_path):
    path, record = tmp_path / "d.npz", tmp_path / "fit.json"
    observed = np.arange(20.0) ** 2
    np.savez(path, y=observed)
    command = ["fit", "y ~ a", "--data", str(path), "--init", "a=0"]
    assert main([*command, "--save", str(record)]) == 0
    found = json.loads(record.read_text())["standard_errors"]["a"]
    assert found == pytest.approx(observed.std(ddof=1) / np.sqrt(20))


@pytest.mark.parametrize(
    ("text", "init", "more"),
    [
        ("y ~ a*x + b*x", "a=0,b=0", []),  # not told apart
        ("mean(abs(y - a*x))", "a=2", ["--method", "nelder-mead"]),  # no least squares
        ("y ~ a*x - 1", "a=0", ["--bounds", "a=:1.5"]),
    ],
)
def test_no_standard_errors_where_they_mean_nothing(text, init, more, points, capsys):
    main(["fit", text, "--data", points, "--init", init, *more])
    assert "standard error" not in capsys.readouterr().out


def test_fit_without_data(capsys):
    assert main(["fit", "(a - 3)**2 + (b + 1)**2", "--init", "a=0,b=0"]) == 0
    output = capsys.readouterr().out
    assert "3" in output
    assert "-1" in output


def test_fit_within_bounds(points, tmp_path):
    record = tmp_path / "fit.json"
    command = ["fit", "y ~ a*x - 1", "--data", points, "--init", "a=0"]
    assert main([*command, "--bounds", "a=:1.5", "--save", str(record)]) == 0
    assert json.loads(record.read_text())["parameters"]["a"] == pytest.approx(1.5)


def test_fit_leaves_out_missing_rows(points, capsys):
    command = ["fit", "y ~ a*z + b", "--data", points, "--init", "a=0,b=0"]
    assert main(command) == 2
    assert "'z', line 5" in capsys.readouterr().err
    assert main([*command, "--dropna"]) == 0
    assert "9 rows, 1 left out" in capsys.readouterr().out


def test_a_bad_start_is_reported(points, capsys):
    command = ["fit", "mean((y - log(a)*x)**2)", "--data", points, "--init", "a=-1"]
    assert main(command) == 1
    assert "status" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["y ~ a*x", "--init", "a=0", "--data", "none.csv"],
            "'none.csv' does not exist",
        ),
        (["y ~ a*x", "--init", "a=0"], "'y' has no value: give one, or --data"),
        (
            ["y ~ a*q", "--init", "a=0", "--data", "POINTS"],
            "'q' is neither a parameter",
        ),
        (["y ~ a*x", "--init", "a=0,bb=1", "--data", "POINTS"], "does not use 'bb'"),
        (["y ~ a*x", "--init", "a", "--data", "POINTS"], "expected NAME=VALUE"),
        (["y = a*x # why", "--init", "a=0", "--data", "POINTS"], "write `y ~ a*x`"),
        (["u=a\ny = u*x\n", "--init", "a=0"], "write `y ~ u*x`"),
        (["y ~ slope(x+1)", "--init", "slope=0"], "write slope*(...)"),
        (["y ~ slope(x+1)", "--init", "a=0"], "`slope` is not in the language"),
        (["sum(w)", "--init", "w=[.5,a]"], "is no array"),
        (["y ~ a*(x", "--init", "a=0", "--data", "POINTS"], "line 1, column 7"),
        (["y ~ a*tahn(x)", "--init", "a=0", "--data", "POINTS"], "tanh"),
        (["y - a*x", "--init", "a=0", "--data", "POINTS"], "wrap it in mean(...)"),
        (
            ["y ~ a*x", "--init", "a=0", "--data", "POINTS", "--method", "adm"],
            "did you mean 'adam'",
        ),
        (
            ["y ~ a*x", "--init", "a=0", "--data", "POINTS", "--save", "no/where.json"],
            "no/where.json",
        ),
        (
            ["y ~ a*x", "--init", "a=0", "--data", "POINTS", "--plot", "fit.doc"],
            "ends in one of",
        ),
    ],
)
def test_errors_are_told_without_a_traceback(arguments, message, points, capsys):
    arguments = [points if a == "POINTS" else a for a in arguments]
    assert main(["fit", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("symgrad: ")
    assert message in error
    assert "Traceback" not in error


def test_plots_without_matplotlib(points, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    command = ["fit", "y ~ a*x", "--data", points, "--init", "a=0"]
    assert main([*command, "--plot", str(tmp_path / "fit.png")]) == 2
    assert "symgrad[viz]" in capsys.readouterr().err


@pytest.mark.parametrize("steps", ["3", "200"])
def test_the_exit_code_says_whether_it_converged(steps, capsys):
    model = "co2 ~ a + b*t + c*t**2"
    command = ["fit", model, "--data", CO2, "--init", "a=300,b=1,c=0"]
    assert main([*command, "--steps", steps]) == (1 if steps == "3" else 0)
    output = capsys.readouterr().out
    assert ("did not converge in 3" if steps == "3" else "converged") in output


def test_help_tells_methods_defaults_and_exit_codes(capsys):
    from symgrad.optimize.rules import RULES
    from symgrad.optimize.scipy_methods import METHODS

    with pytest.raises(SystemExit) as caught:
        main(["fit", "--help"])
    assert caught.value.code == 0
    output = " ".join(capsys.readouterr().out.replace("-\n", "-").split())
    for part in (*RULES, *METHODS, "(1000)", "(0.01)", "(1e-8)", "exit codes"):
        assert part.split("-")[-1] in output
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "Exit codes" in capsys.readouterr().out


def test_fit_of_a_transformed_response(points, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "fit.png"
    command = ["fit", "log(y + 2) ~ log(a*x + b)", "--data", points]
    options = ["--init", "a=1,b=2", "--plot", str(picture)]
    assert main([*command, *options]) == 0
    assert "R² 1.000000" in capsys.readouterr().out
    assert picture.exists()


def test_fit_prints_small_arrays_in_full(capsys):
    text = "sum((w - 3)**2) + sum((v - 2)**2) + sum((u - 1)**2)"
    many = ",".join(["0"] * 21)
    init = f"w=[[.5,+1,2.],[1,1e0,-1]],v=[0,0,0,0,0,0],u=[{many}]"
    assert main(["fit", text, "--init", init]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "w          [[3, 3, 3]," in lines
    assert "[3, 3, 3]]" in lines
    assert "v          [2, 2, 2, 2, 2, 2]" in lines
    assert "u          (21,) 1 … 1" in lines


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "lr=5 is above 2/L≈0.9, try lr=0.4;",
            "--lr 5 is above 2/L≈0.9, try --lr 0.4;",
        ),
        ("try lr≈1e-05 (1/L), or method='cg'", "try --lr 1e-05 (1/L), or --method cg"),
        ("0.2 > tol 1e-08; try steps=100", "0.2 > tol 1e-08; try --steps 100"),
        ("another start, bounds=..., or", "another start, --bounds NAME=LOW:HIGH, or"),
    ],
)
def test_advice_is_in_options(message, expected):
    assert in_options(message) == expected


@pytest.mark.filterwarnings("default")
def test_warnings_are_lines_without_source(tmp_path, capsys):
    path = tmp_path / "d.npz"
    np.savez(path, x=np.array([1.0, np.inf, 2.0]), y=np.ones(3))
    assert main(["fit", "y ~ a*x", "--data", str(path), "--init", "a=1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("symgrad: warning: x[1] is inf: ")


# --- explain, info, cache -------------------------------------------------------------


def test_explain(capsys):
    assert main(["explain", "(a*b + c)*f", "--set", "a=2,b=-3,c=10,f=-2"]) == 0
    output = capsys.readouterr().out
    rows = [line.split() for line in output.splitlines()]
    assert ["L", "=", "v2·f", "-8", "1"] in rows
    assert ["│", "└─", "c", "10", "-2"] in rows
    assert "d loss / d a = " in output
    assert "kernel" in output


def test_explain_indents_every_line_of_a_loss(capsys):
    assert main(["explain", "\nz = a*b\nz**2", "--set", "a=2,b=-3"]) == 0
    assert capsys.readouterr().out.startswith("loss\n  z = a*b\n  z**2\n\n")


def test_explain_with_data(points, capsys):
    command = ["explain", "y ~ a*x", "--wrt", "a", "--set", "a=1", "--data", points]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "mean_i" in output
    assert "1 over the data" in output


def test_explain_without_values(capsys):
    assert main(["explain", "(a*b + c)**2", "--wrt", "a,b"]) == 0
    output = capsys.readouterr().out
    assert "no values for a, b, c" in output
    assert "d loss / d b = " in output


def test_explain_needs_parameters(capsys):
    assert main(["explain", "(a*b + c)**2"]) == 2
    assert "--wrt" in capsys.readouterr().err
    assert main(["explain", "(a*b + c)**2", "--wrt", "d"]) == 2
    assert "does not use 'd'" in capsys.readouterr().err


def test_info(capsys):
    assert main(["info"]) == 0
    output = capsys.readouterr().out
    for word in ("symgrad", "numpy", "llvmlite", "processor", "vectors", "cuda"):
        assert word in output
    assert "math: inline" in output and "softplus" in output
    assert "lgamma (float64)" in output and "libmvec" in output


def test_cache_that_is_off(monkeypatch, capsys):
    monkeypatch.setenv("SYMGRAD_CACHE", "off")
    assert main(["cache"]) == 0
    assert "off" in capsys.readouterr().out


def test_cache_lists_the_newest(monkeypatch, tmp_path, capsys):
    from symgrad.runtime import cache

    found = [cache.Entry(tmp_path / f"{k:020d}.o", 1024, float(k)) for k in range(25)]
    monkeypatch.setattr(cache, "entries", lambda place: found[::-1])
    assert main(["cache"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert "25 kernels, 25 KiB of at most" in first
    assert len(rest) == 1 + 1 + 20 + 1
    assert rest[-1] == "... and 5 older"


def test_no_command_shows_help(capsys):
    assert main([]) == 0
    assert "explain" in capsys.readouterr().out


def test_python_m_symgrad():
    from symgrad import __version__

    result = subprocess.run(
        [sys.executable, "-m", "symgrad", "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert result.stdout == f"symgrad {__version__}\n"
