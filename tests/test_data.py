"""Reading columns: formats, missing values, and errors that say where."""

from __future__ import annotations

import numpy as np
import pytest

import symgrad as sg
from symgrad.data import load, parse_assignments, read_columns
from symgrad.errors import DataError, OptionError


def write(tmp_path, text, name="d.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def read(path, *names, drop_missing=False):
    return read_columns(load(path), names, drop_missing)


@pytest.mark.parametrize(
    "text",
    [
        "t,y\n1,2.5\n2,3.5\n",
        "t;y\n1;2.5\n2;3.5\n",
        "t\ty\n1\t2.5\n2\t3.5\n",
        "t  y\n1   2.5\n2 3.5\n",
        "\ufeff# a comment\n\n t , y\r\n1, 2.5\r\n\r\n2 ,3.5\r\n",
        '"t","y"\n"1","2.5"\n"2","3.5"',
    ],
    ids=["comma", "semicolon", "tab", "blanks", "untidy", "quoted"],
)
def test_csv_dialects(tmp_path, text):
    columns = read(write(tmp_path, text), "t", "y")
    assert columns.arrays["t"].dtype == np.int64
    assert columns.arrays["t"].tolist() == [1, 2]
    assert columns.arrays["y"].tolist() == [2.5, 3.5]
    assert (columns.rows, columns.dropped) == (2, 0)


HEADINGS = {
    "CO2 (ppm)": "CO2_ppm",
    "2nd": "_2nd",
    "x": "x",
    "größe": "größe",
    "α": "α",
    "T₀": "T0",
    "µ": "μ",
    "lambda": "lambda_",
    "m²/s": "m2_s",
}


def test_headings_become_names(tmp_path):
    """Names that a formula can use, as it spells them."""
    values = ",".join(map(str, range(len(HEADINGS))))
    table = load(write(tmp_path, f"{','.join(HEADINGS)}\n{values}\n"))
    assert table.names == tuple(HEADINGS.values())
    for k, name in enumerate(table.names):
        column = read_columns(table, [name]).arrays[name]
        assert sg.compile(f"a*sum({name})", ["a"])(a=1.0, **{name: column}) == k


def test_one_column(tmp_path):
    assert read(write(tmp_path, "y\n1.5\n2\n"), "y").arrays["y"].tolist() == [1.5, 2]


def test_columns_not_asked_for_may_hold_anything(tmp_path):
    path = write(tmp_path, 'day,y\n"1958, March",1.5\nMonday,2.5\n')
    assert read(path, "y").arrays["y"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize("mark", ["", "NA", "nan", "null", "."])
def test_missing_values(tmp_path, mark):
    path = write(tmp_path, f"t,y\n1,2.5\n2,{mark}\n3,3.5\n4,{mark}\n")
    with pytest.raises(DataError, match=r"2 rows have .* 'y', line 3; .*--dropna"):
        read(path, "t", "y")
    columns = read(path, "t", "y", drop_missing=True)
    assert columns.arrays["t"].tolist() == [1, 3]
    assert columns.dropped == 2
    assert read(path, "t").rows == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t,y\n1,2\n2,abc\n", r"line 3: column 'y' holds 'abc', which is not a number"),
        ('t;y\n1;"2,5"\n', r"line 2: .*'2,5'.*decimals with a point"),
        ("# c\nt,y\n1,2\n\n2\n", r"line 5: 1 fields where the header has 2"),
        ("1,2\n3,4\n", r"line 1 should name the columns"),
        ("", r"the file is empty"),
        ("t,y\n", r"no rows below the header"),
        ("t,z\n1,2\n", r"no column 'y' .*\(columns: t, z\)"),
        ("y,y\n1,2\n", r"two columns are called 'y'"),
        ('n,y\n"two\nlines",1\nb,x\n', r"line 4: column 'y' holds 'x'"),
    ],
)
def test_csv_errors(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, text), "y")


def test_unknown_column_suggests(tmp_path):
    with pytest.raises(DataError, match="did you mean 'height'"):
        read(write(tmp_path, "height,w\n1,2\n"), "heigth")


def test_not_a_file(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is a directory"):
        load(tmp_path)


def test_not_text(tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="cannot be read as text"):
        load(path)


def test_npz(tmp_path):
    path = tmp_path / "d.npz"
    features = np.arange(6.0).reshape(3, 2)
    features[1, 0] = np.nan
    np.savez(path, X=features, y=np.arange(3), w=np.ones(2))
    with pytest.raises(DataError, match="'X', index 1"):
        read(path, "X")
    columns = read(path, "X", "y", "w", drop_missing=True)
    assert columns.arrays["X"].tolist() == [[0, 1], [4, 5]]
    assert columns.arrays["y"].tolist() == [0, 2]
    assert columns.arrays["w"].tolist() == [1, 1]


def test_npz_without_numbers(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, s=np.array(["a"]), o=np.array([None]))
    for name in "so":
        with pytest.raises(DataError, match=f"'{name}'"):
            read(path, name)
    path.write_text("no archive")
    with pytest.raises(DataError, match="not an NPZ archive"):
        load(path)


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "d.parquet"
    table = pyarrow.table({"t": [1, 2, 3], "y": [1.5, None, 2.5], "s": ["a", "b", "c"]})
    parquet.write_table(table, path)
    assert read(path, "t").arrays["t"].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="'y', row 2"):
        read(path, "y")
    assert read(path, "t", "y", drop_missing=True).arrays["t"].tolist() == [1, 3]
    with pytest.raises(DataError, match="'s' holds"):
        read(path, "s")


def test_assignments():
    values = parse_assignments("a=300, b=-1e-3,w=[1, 2],W=[[1,2],[3,4]]", "--init")
    assert values["a"] == 300
    assert values["b"] == -1e-3
    assert values["w"].tolist() == [1, 2]
    assert values["W"].shape == (2, 2)
    assert parse_assignments("", "--set") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "expected NAME=VALUE, got 'a'"),
        ("a=1,a=2", "'a' is given twice"),
        ("a=one", "a='one' is not a number"),
        ("a=[1,[2]]", "is no array"),
        ("a=[1", "is no array"),
        ('a=["x"]', "is no array"),
        ("a-b=1", "expected NAME=VALUE"),
        ("a=" + "[" * 100_000, "is no array"),
    ],
)
def test_bad_assignments(text, message):
    with pytest.raises(OptionError, match=message):
        parse_assignments(text, "--init")
