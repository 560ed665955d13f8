"""Arrays as users pass them, and as kernels take them.

Data are used in place: any native real, integer or boolean dtype, any strides that are
whole elements; each element is converted when it is loaded. What a kernel cannot read
(big-endian, float16, longdouble, unaligned) is converted once. Parameters become
float64, C order.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symgrad import graph
from symgrad.errors import (
    ArgumentError,
    DataError,
    DTypeError,
    GatherIndexError,
    ShapeError,
)

IN_PLACE = frozenset("dfqlihbQLIHB?")
"""NumPy's characters of the types that kernels read: floats, integers and bool."""

FLOAT64 = np.dtype(np.float64)


def by_name(values: Any, what: str = "the values") -> Mapping[str, Any]:
    """``values`` under the names that Python gives to keyword arguments (NFKC), which
    are those of formulas: a dict may spell them otherwise.

    Raises:
        ArgumentError: not a dict of names (``what`` is named), or two names are one.
    """
    if not isinstance(values, Mapping):
        raise ArgumentError(
            f"{what}: a dict of arrays by name is wanted, such as {{'a': ...}}, not "
            f"{_kind(values)}"
        )
    try:
        if all(map(str.isascii, values)):
            return values
    except TypeError:
        wrong = next(name for name in values if not isinstance(name, str))
        raise ArgumentError(
            f"{what}: a dict of arrays by name is wanted, but {wrong!r} is no name"
        ) from None
    found: dict[str, Any] = {}
    for name, value in values.items():
        normal = unicodedata.normalize("NFKC", name)
        if normal in found:
            raise ArgumentError(f"{normal} is given twice, spelled differently")
        found[normal] = value
    return found


def _kind(value: Any) -> str:
    """What ``value`` is, for a message."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeioun' else 'a'} {name}"


def columns_by_name(table: Any, names: Collection[str]) -> dict[str, Any]:
    """Data by name: all of a dict, or those columns of a table that are ``names``.

    A table is what has columns by name: a DataFrame, an Arrow table, a structured
    array, or anything with ``keys()`` and ``[name]``. A dict holds what is meant, so
    that what is not used there is an error later on; a table may hold more.

    Raises:
        ArgumentError: neither a dict nor a table.
    """
    if isinstance(table, Mapping):
        return dict(by_name(table, "data"))
    columns = _column_names(table)
    if columns is None:
        hint = "; read the file first" if isinstance(table, str | PathLike) else ""
        raise ArgumentError(
            "data: a dict of arrays by name is wanted, such as {'x': ...}, or a table "
            f"with named columns, not {_kind(table)}{hint}"
        )
    known = {name: unicodedata.normalize("NFKC", name) for name in columns}
    return {normal: table[name] for name, normal in known.items() if normal in names}


def _column_names(table: Any) -> list[str] | None:
    """The names of the columns of a table; None if it is none."""
    if isinstance(table, np.ndarray):
        found: Any = table.dtype.names
    elif hasattr(table, "column_names"):
        found = table.column_names
    elif callable(getattr(table, "keys", None)) and hasattr(table, "__getitem__"):
        found = table.keys()
    else:
        found = getattr(table, "columns", None)
    return None if found is None else [n for n in found if isinstance(n, str)]


def as_array(name: str, value: Any) -> NDArray[Any]:
    """``value`` as an array of numbers that kernels can read.

    Raises:
        DTypeError: complex, object, text and structured arrays.
        DataError: ragged lists, masked elements, integers beyond int64.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DataError(
            f"{name} has masked elements, and a loss has no such thing: pass "
            f"{name}.filled(nan) and use where(isfinite({name}), ..., 0)"
        )
    array = _converted(name, value)
    kind = array.dtype.kind
    if kind == "O":
        array = _from_objects(name, array, value)
    elif kind == "c":
        raise DTypeError(
            f"{name} is complex ({array.dtype}): symgrad works with real numbers; "
            "pass real and imaginary parts as two arrays"
        )
    elif kind not in "fiub":
        raise DTypeError(
            f"{name} has dtype {array.dtype}, which is not a number; convert it first"
        )
    if array.dtype.char in "QLN":
        _check_range(name, array)
    return _readable(array)


def _converted(name: str, value: Any) -> NDArray[Any]:
    """NumPy's reading of ``value``, which may run code of other libraries."""
    try:
        return np.asarray(value)
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        if isinstance(value, list | tuple):
            raise DataError(
                f"{name} is not a rectangular array of numbers: {reason}"
            ) from None
        kind = type(value)
        raise DataError(
            f"{name}, a {kind.__module__}.{kind.__qualname__}, cannot be read as an "
            f"array: {reason}"
        ) from error


def _check_range(name: str, array: NDArray[Any]) -> None:
    """Kernels compute in int64: larger unsigned numbers would become negative."""
    largest = int(array.max(initial=0))
    if largest > np.iinfo(np.int64).max:
        raise DataError(
            f"{name} holds {largest}, which is beyond int64: pass {name}.astype(float)"
        )


def _from_objects(name: str, array: NDArray[Any], value: Any) -> NDArray[Any]:
    try:
        if any(item is None for item in array.flat):  # which NumPy makes NaN
            raise TypeError
        return array.astype(np.float64)
    except OverflowError:
        raise DataError(
            f"{name} holds an integer that is beyond float64, which ends at 1.8e308"
        ) from None
    except (ValueError, TypeError):
        pass
    if array.ndim == 0 and value is not None and not isinstance(value, np.ndarray):
        raise DTypeError(
            f"{name} is a {type(value).__name__}, which NumPy does not take for an "
            "array of numbers; pass a dense array or a list"
        )
    raise DTypeError(
        f"{name} holds Python objects that are not all numbers; "
        "convert it with numpy.asarray(..., dtype=float)"
    )


def _readable(array: NDArray[Any]) -> NDArray[Any]:
    dtype = array.dtype
    if not dtype.isnative:
        dtype = dtype.newbyteorder("=")
    if dtype.char not in IN_PLACE:
        dtype = np.dtype(np.float64 if dtype.kind == "f" else np.int64)
    if dtype != array.dtype:
        with np.errstate(over="ignore"):  # long double: inf, as for other data
            array = array.astype(dtype)
    whole = all(s % array.itemsize == 0 for s in array.strides)
    if not whole or not array.flags.aligned:
        array = np.ascontiguousarray(array).reshape(array.shape)
    return array


def as_parameter(name: str, value: Any) -> NDArray[np.float64]:
    """``value`` as a float64 array in C order; a scalar has shape ()."""
    if type(value) is np.ndarray and value.dtype is FLOAT64:
        flags = value.flags
        if flags.c_contiguous and flags.aligned:
            return value  # the usual case
    array = as_array(name, value)
    result = np.ascontiguousarray(array, dtype=np.float64)
    return result.reshape(array.shape)  # ascontiguousarray makes scalars 1-D


def graph_type(array: NDArray[Any]) -> str:
    """The graph's type of the elements."""
    return {"f": graph.FLOAT, "b": graph.BOOL}.get(array.dtype.kind, graph.INT)


def bad_element(name: str, array: NDArray[Any]) -> str | None:
    """``x[3] is nan`` for the first element that is not finite; None if all are."""
    bad = first_bad(array)
    if bad is None:
        return None
    place, value = bad
    position = f"[{', '.join(map(str, place))}]" if place else ""
    return f"{name}{position} is {value}"


def first_bad(array: NDArray[Any]) -> tuple[tuple[int, ...], float] | None:
    """Position and value of the first NaN or infinity; None if there is none."""
    if array.dtype.kind != "f" or array.size == 0:
        return None
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum(dtype=np.float64)):
            return None  # one pass, no temporary: the usual case
    bad = ~np.isfinite(array)
    if not bad.any():
        return None
    position = np.unravel_index(int(np.argmax(bad)), array.shape)
    place = tuple(int(k) for k in position)
    return place, float(array[position])


def row_selection(rows: Any, count: int) -> slice | NDArray[Any]:
    """What selects some of ``count`` rows: a slice, numbers of rows, or a mask."""
    if isinstance(rows, slice):
        return rows
    found = np.asarray(rows)
    if found.ndim != 1 or found.dtype.kind not in "iub":
        what = f"{type(rows).__name__} {rows!r:.40}"
        raise ArgumentError(
            f"rows: a slice, or a vector of row numbers or of truth values, not {what}"
        )
    if found.dtype.kind == "b":
        if found.size != count:
            raise ShapeError(f"rows: a mask of {found.size} for {count} rows")
    elif found.size and not -count <= found.min() <= found.max() < count:
        outside = found.min() if found.min() < -count else found.max()
        raise GatherIndexError(f"rows: {outside} is out of range for {count} rows")
    return found
