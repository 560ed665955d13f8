"""Reading named columns from a file: CSV, NPZ or Parquet.

``load(path)`` opens a file, ``read_columns(table, names)`` gives those arrays; what is
not asked for may hold anything. Columns of whole numbers become ``int64`` (they may be
used as indices), all others ``float64``. A value that is no number is an error that
names the file, the column and the line of the first one; so is a missing value, unless
``drop_missing`` says to leave such rows out.
"""

from __future__ import annotations

import csv
import keyword
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from symgrad.errors import DataError, OptionError

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "."))
"""Spellings of a missing value, in lower case."""

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


class Table(Protocol):
    """An open data file."""

    path: Path
    names: tuple[str, ...]

    def read(self, name: str) -> np.ndarray:
        """The whole array called ``name``; missing values are NaN."""
        ...

    def place(self, row: int) -> str:
        """Where people find row ``row``, such as ``line 12``."""
        ...


@dataclass(frozen=True)
class Columns:
    """Arrays read from a file. ``dropped``: rows left out for want of a value."""

    arrays: dict[str, np.ndarray]
    dropped: int = 0

    @property
    def rows(self) -> int:
        """The length of the longest leading axis."""
        return max((a.shape[0] for a in self.arrays.values() if a.ndim), default=0)


def load(path: str | Path) -> Table:
    """Open ``path``; the format is told by its suffix (anything unknown is CSV)."""
    path = Path(path)
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise DataError(f"data file {str(path)!r} {what}")
    readers = {".npz": NpzTable, ".parquet": ParquetTable, ".pq": ParquetTable}
    return readers.get(path.suffix.lower(), CsvTable)(path)


def read_columns(
    table: Table, names: Iterable[str], drop_missing: bool = False
) -> Columns:
    """The arrays called ``names``, checked; see the module's docstring.

    Raises:
        DataError: a name is not in the file, a value is no number, or a value is
            missing and ``drop_missing`` is false.
    """
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        if name not in table.names:
            raise DataError(unknown_column(table, name))
        arrays[name] = table.read(name)
    missing = {name: _missing_rows(a) for name, a in arrays.items()}
    missing = {name: rows for name, rows in missing.items() if len(rows)}
    if missing and not drop_missing:
        raise DataError(_missing_message(table, missing))
    return _without(arrays, missing) if missing else Columns(arrays)


def unknown_column(table: Table, name: str) -> str:
    """The message for a column that is not there, with the nearest one that is."""
    near = get_close_matches(name, table.names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    known = ", ".join(table.names) or "none"
    return f"{table.path}: no column {name!r}{hint} (columns: {known})"


# --- Missing values -------------------------------------------------------------------


def _missing_rows(array: np.ndarray) -> np.ndarray:
    """The positions on the leading axis at which any value is NaN."""
    if array.dtype.kind != "f" or array.ndim == 0:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.isnan(array).reshape(array.shape[0], -1).any(axis=1))


def _missing_message(table: Table, missing: Mapping[str, np.ndarray]) -> str:
    name, rows = min(missing.items(), key=lambda item: item[1][0])
    count = len(np.unique(np.concatenate(list(missing.values()))))
    rows_have = "1 row has" if count == 1 else f"{count} rows have"
    return (
        f"{table.path}: {rows_have} missing values, the first in column {name!r}, "
        f"{table.place(int(rows[0]))}; leave such rows out with --dropna"
    )


def _without(
    arrays: Mapping[str, np.ndarray], missing: Mapping[str, np.ndarray]
) -> Columns:
    """The arrays without the rows in ``missing``; of another length, as they are."""
    length = max(arrays[name].shape[0] for name in missing)
    keep = np.ones(length, dtype=bool)
    for name, rows in missing.items():
        if arrays[name].shape[0] != length:
            raise DataError(
                f"cannot leave out rows: {name!r} has missing values, and "
                f"{arrays[name].shape[0]} rows where others have {length}"
            )
        keep[rows] = False
    kept = {
        name: a[keep] if a.ndim and a.shape[0] == length else a
        for name, a in arrays.items()
    }
    return Columns(kept, int(length - keep.sum()))


# --- CSV ------------------------------------------------------------------------------


class CsvTable:
    """Text with a header line: comma, semicolon, tab or blanks between the columns.

    Empty lines and lines that begin with ``#`` are passed over. A heading that is no
    name becomes one: ``CO2 (ppm)`` is ``CO2_ppm``, ``lambda`` is ``lambda_``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines, records = _records(path)
        if not records:
            raise DataError(f"{path}: the file is empty")
        header, self._rows = records[0], records[1:]
        if all(_is_number(field) for field in header):
            raise DataError(
                f"{path}: line {self._lines[0]} should name the columns, "
                f"but holds numbers: {', '.join(header[:4])}"
            )
        self.names = tuple(_as_name(field) for field in header)
        self._check_widths()

    def _check_widths(self) -> None:
        if not self._rows:
            raise DataError(f"{self.path}: no rows below the header")
        for row, fields in enumerate(self._rows):
            if len(fields) != len(self.names):
                raise DataError(
                    f"{self.path}, {self.place(row)}: {len(fields)} fields where "
                    f"the header has {len(self.names)}"
                )

    def place(self, row: int) -> str:
        return f"line {self._lines[row + 1]}"

    def read(self, name: str) -> np.ndarray:
        if self.names.count(name) > 1:
            raise DataError(f"{self.path}: two columns are called {name!r}")
        position = self.names.index(name)
        texts = [fields[position].strip() for fields in self._rows]
        if all(map(_WHOLE_NUMBER.fullmatch, texts)):
            return np.array(texts).astype(np.int64)
        return np.array(
            [self._number(name, row, text) for row, text in enumerate(texts)]
        )

    def _number(self, name: str, row: int, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            if text.lower() in MISSING:
                return float("nan")
        comma = ", write decimals with a point" if _is_number(text, ",") else ""
        raise DataError(
            f"{self.path}, {self.place(row)}: column {name!r} "
            f"holds {text[:40]!r}, which is not a number{comma}"
        )


def _records(path: Path) -> tuple[list[int], list[list[str]]]:
    """Line number and fields of each line that is neither empty nor a comment."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error
    numbered = [
        (number, line)
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not numbered:
        return [], []
    numbers, texts = map(list, zip(*numbered, strict=True))
    separator = _separator(texts[0])
    if separator is None:
        return numbers, [line.split() for line in texts]
    reader = csv.reader(texts, delimiter=separator, skipinitialspace=True)
    places, records = [], []
    try:
        for fields in reader:  # a quoted field may span lines: line_num is its last
            places.append(numbers[reader.line_num - 1])
            records.append(fields)
    except csv.Error as error:
        raise DataError(
            f"{path}, line {numbers[reader.line_num - 1]}: {error}"
        ) from error
    return places, records


def _separator(header: str) -> str | None:
    """The commonest of comma, semicolon and tab in the header; None is blanks."""
    best = max(",;\t", key=header.count)
    if best in header:
        return best
    return None if len(header.split()) > 1 else ","


def _is_number(text: str, point: str = ".") -> bool:
    try:
        float(text.replace(point, "."))
    except ValueError:
        return False
    return True


def _as_name(heading: str) -> str:
    """``heading`` as a name that an expression can use, in the spelling that formulas
    are read in (NFKC); ``lambda``, a keyword of Python, is ``lambda_``."""
    text = unicodedata.normalize("NFKC", heading.strip())
    name = re.sub(r"\W+", "_", text).strip("_")
    if keyword.iskeyword(name):
        return f"{name}_"
    return name if name.isidentifier() or not name else f"_{name}"


# --- NPZ and Parquet ------------------------------------------------------------------


class NpzTable:
    """Named arrays of any rank, as ``numpy.savez`` writes them. Pickles are refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as archive:
                self.names: tuple[str, ...] = tuple(archive.files)
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: not an NPZ archive: {error}") from error

    def place(self, row: int) -> str:
        return f"index {row}"

    def read(self, name: str) -> np.ndarray:
        with np.load(self.path, allow_pickle=False) as archive:
            try:
                return _numeric(self.path, name, archive[name])
            except ValueError as error:
                raise DataError(f"{self.path}: array {name!r}: {error}") from error


class ParquetTable:
    """A Parquet file, read with pyarrow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parquet = _pyarrow_parquet(path)
        try:
            self.names = tuple(self._parquet.read_schema(path).names)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a Parquet file: {error}") from error

    def place(self, row: int) -> str:
        return f"row {row + 1}"

    def read(self, name: str) -> np.ndarray:
        column = self._parquet.read_table(self.path, columns=[name]).column(0)
        return _numeric(self.path, name, column.to_numpy())


def _pyarrow_parquet(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"{path}: reading Parquet needs pyarrow: pip install 'symgrad[parquet]'"
        ) from error
    return pyarrow.parquet


def _numeric(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """``array`` if it holds numbers or truth values."""
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path}: {name!r} holds {array.dtype}, not numbers")
    return array


# --- Values written by people ---------------------------------------------------------


def parse_assignments(text: str, option: str) -> dict[str, float | np.ndarray]:
    """``"a=300,w=[0,0.5]"`` as a dictionary; ``option`` is named in errors.

    A value is a number, or numbers in (nested) brackets: an array.
    """
    result: dict[str, float | np.ndarray] = {}
    for item in _split_outside_brackets(text):
        name, sign, value = (part.strip() for part in item.partition("="))
        if not sign or not name.isidentifier():
            raise OptionError(f"{option}: expected NAME=VALUE, got {item.strip()!r}")
        if name in result:
            raise OptionError(f"{option}: {name!r} is given twice")
        result[name] = _value(value, f"{option}: {name}")
    return result


def _value(text: str, where: str) -> float | np.ndarray:
    if text.startswith("["):
        return _bracketed(text, where)
    try:
        return float(text)
    except ValueError:
        raise OptionError(f"{where}={text!r} is not a number") from None


def _bracketed(text: str, where: str) -> np.ndarray:
    """Nested brackets, read as JSON with Python's spellings of numbers; never code."""
    import json

    try:
        text_of_json = re.sub(r"[^\[\],\s]+", _json_number, text)
        return np.array(json.loads(text_of_json), dtype=np.float64)
    except (ValueError, TypeError, RecursionError):
        raise OptionError(
            f"{where}={text[:40]!r} is no array; write rows of equal length, "
            "such as [[1, 2], [3, 4]]"
        ) from None


def _json_number(found: re.Match[str]) -> str:
    """``.5``, ``+1`` or ``2.`` as JSON has it."""
    return repr(float(found[0]))


def _split_outside_brackets(text: str) -> Sequence[str]:
    """``text`` cut at its commas that stand in no bracket; empty items are left out."""
    depth, start, items = 0, 0, []
    for position, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            items.append(text[start:position])
            start = position + 1
    return [item for item in (*items, text[start:]) if item.strip()]
