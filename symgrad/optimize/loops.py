"""Compiled descent loops, generic over the loss, and one with the loss inside.

``entries(rule)`` is compiled once and kept on disk; it calls losses by address.
``contained(objective, rule)`` is a loop around one loss, compiled for it, which takes
20 ms and halves the time of a small loss. All state lives in arrays of the caller
that are consistent after every call: a Ctrl-C between two slices finds the step,
the best parameters and the history as they should be.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from symgrad.codegen import cpu
from symgrad.optimize.loop_text import (
    CONVERGED,
    GROWN,
    NOT_FINITE,
    PLACE,
    RECORD,
    RUNNING,
    loop_text,
)
from symgrad.optimize.protocol import Objective
from symgrad.optimize.rules import RULES
from symgrad.runtime.cache import compile_cached
from symgrad.runtime.object_layout import address

__all__ = [
    "CONVERGED", "GROWN", "NOT_FINITE", "RUNNING", "Contained", "Entries", "Record",
    "contained", "entries", "known",
]  # fmt: skip

_NUMBERS = PLACE["lr"]  # from here on the fields are float64
_KEPT = 64  # loops that a process keeps

Descend = Callable[[int], int]


class Record:
    """The fields of ``loop_text.RECORD`` by name; arrays are given as arrays."""

    def __init__(self) -> None:
        self.fields = np.zeros(len(RECORD), np.int64)
        self.numbers = self.fields.view(np.float64)
        self.address = address(self.fields)
        self.kept: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> Any:
        place = PLACE[name]
        return (self.numbers if place >= _NUMBERS else self.fields)[place].item()

    def __setitem__(self, name: str, value: Any) -> None:
        place = PLACE[name]
        if isinstance(value, np.ndarray):
            self.kept[name] = value
            value = address(value)
        (self.numbers if place >= _NUMBERS else self.fields)[place] = value


@dataclass(frozen=True)
class Entries:
    """A rule's compiled functions on a record's address; they release the GIL.

    descend: up to ``steps`` steps; why it ended. move: an update of x in place,
    projected on the bounds. judge(record, loss): note the loss and gradient at x;
    whether to stop, and why. next_batch: fill the buffers of a batch; 1 if it is short.
    """

    code: cpu.NativeCode
    descend: Descend
    move: Callable[[int], None]
    judge: Callable[[int, float], int]
    next_batch: Callable[[int], int]


_Word, _Pointer = ctypes.c_int64, ctypes.c_void_p


@cache
def entries(name: str) -> Entries:
    """The loop of a rule around losses that are called by address."""
    code = _compiled(loop_text(RULES[name]))
    place = code.address
    return Entries(
        code,
        _descend(code),
        ctypes.CFUNCTYPE(None, _Pointer)(place("move")),
        ctypes.CFUNCTYPE(_Word, _Pointer, ctypes.c_double)(place("judge")),
        ctypes.CFUNCTYPE(_Word, _Pointer)(place("next_batch")),
    )


@dataclass(frozen=True)
class Contained:
    """A loop around one loss: ``descend``, and the context that it reads data from."""

    descend: Descend
    context: int
    owner: object


_contained: WeakKeyDictionary[Objective, dict[str, Contained]] = WeakKeyDictionary()


def contained(objective: Objective, name: str) -> Contained | None:
    """The loop of a rule around this loss, compiled where it is not yet; None where
    that would gain nothing."""
    found, inlined = known(objective, name), objective.inlined
    if found is None and inlined is not None:
        descend = _descend(_compiled(loop_text(RULES[name], inlined)))
        found = Contained(descend, inlined.address, inlined.owner)
        _contained.setdefault(objective, {})[name] = found
    return found


def known(objective: Objective, name: str) -> Contained | None:
    """The same, if it was compiled before."""
    return _contained.get(objective, {}).get(name)


@lru_cache(maxsize=_KEPT)
def _compiled(text: str) -> cpu.NativeCode:
    return cpu.load_object(compile_cached(text, simplify=True))


def _descend(code: cpu.NativeCode) -> Descend:
    function = ctypes.CFUNCTYPE(_Word, _Pointer)(code.address("descend"))

    def descend(record: int) -> int:
        return function(record)

    descend.code = code  # pyright: ignore[reportFunctionMemberAccess]
    return descend
