"""Where CPython and NumPy keep the fields of an array object.

NumPy's C macros read the same fields, so their places do not change; but other Pythons
and other builds may differ, so they are compared with a real array before use.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEAD = object.__basicsize__  # a PyObject, whose last field is its type

OFFSETS = {
    "type": _HEAD - 8,
    "data": _HEAD,
    "rank": _HEAD + 8,
    "shape": _HEAD + 16,
    "dtype": _HEAD + 40,
    "flags": _HEAD + 48,
    "bytes": bytes.__basicsize__ - 1,  # the content of a bytes object
}

READABLE = 0x101  # NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED
WRITEABLE = 0x400

_DATA = OFFSETS["data"]
_word, _number = ctypes.c_int64, ctypes.c_int32


@cache
def is_known() -> bool:
    """Whether objects are laid out in memory as this module says."""
    known = sys.implementation.name == "cpython" and struct.calcsize("P") == 8
    if not known or np.ndarray.__basicsize__ < OFFSETS["flags"] + 4:
        return False
    array, record = np.arange(3.0), b"12345678"
    place = {name: id(array) + offset for name, offset in OFFSETS.items()}
    return (
        _word.from_address(place["type"]).value == id(np.ndarray)
        and _word.from_address(place["data"]).value == array.ctypes.data
        and _number.from_address(place["rank"]).value == 1
        and _word.from_address(place["dtype"]).value == id(np.dtype(np.float64))
        and _number.from_address(place["flags"]).value == array.flags.num
        and _word.from_address(_word.from_address(place["shape"]).value).value == 3
        and ctypes.string_at(id(record) + OFFSETS["bytes"], 8) == record
    )


def address(array: NDArray[Any]) -> int:
    """Where the first element of an array is."""
    if is_known():  # four times as fast as asking the array
        return _word.from_address(id(array) + _DATA).value
    return array.__array_interface__["data"][0]
