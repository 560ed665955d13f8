"""Names in printed kernels: valid in Python, unique, and close to the user's."""

from __future__ import annotations

import keyword
import re
import unicodedata

from symgrad.codegen.numba_operations import RESERVED
from symgrad.graph import Call, Const, Index, Input, Load, Node, Reduce, Scatter

_LETTERS = "ijkmpqrstuv"
_ARITHMETIC = frozenset(
    "add sub mul div neg fma pow mod floor_divide cast where clip and or not "
    "lt le gt ge eq ne stop_gradient".split()
)


class Names:
    """Gives names out, each once. One node or array keeps its name."""

    def __init__(self) -> None:
        self._taken: set[str] = {*RESERVED, *keyword.kwlist}
        self._given: dict[object, str] = {}
        self._counts: dict[str, int] = {}

    def fresh(self, wish: str) -> str:
        """``wish``, or something like it that is free."""
        name, number = wish, 2
        while name in self._taken:
            name, number = f"{wish}_{number}", number + 1
        self._taken.add(name)
        return name

    def user(self, name: str) -> str:
        """A Python name for an array that the user called ``name``."""
        if name not in self._given:
            wish = identifier(name)
            while wish in self._taken:
                wish += "_"
            self._taken.add(wish)
            self._given[name] = wish
        return self._given[name]

    def numbered(self, stem: str) -> str:
        """``stem`` with the next number: v1, exp_1."""
        while True:
            number = self._counts[stem] = self._counts.get(stem, 0) + 1
            name = f"{stem}{number}" if stem == "v" else f"{stem}_{number}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    def index(self, node: Index) -> str:
        """The loop variable of an index: the next letter."""
        if node not in self._given:
            free = (c for c in _LETTERS if c not in self._taken)
            self._given[node] = self.fresh(next(free, "index"))
        return self._given[node]

    def value(self, node: Node) -> str:
        """The variable that holds the value of a node."""
        if node not in self._given:
            self._given[node] = self._value(node)
        return self._given[node]

    def give(self, node: Node, wish: str) -> str:
        """A name of one's own choice for a node that has none yet."""
        if node not in self._given:
            self._given[node] = self.fresh(wish)
        return self._given[node]

    def array(self, key: tuple[object, ...], wish: str) -> str:
        """The array that holds the values of a node; ``key`` says which, and where."""
        if key not in self._given:
            self._given[key] = self.fresh(wish)
        return self._given[key]

    def stem(self, node: Node) -> str:
        """What a node is, in a word."""
        if isinstance(node, Load):
            return self._array_of(node)
        if isinstance(node, Call):
            return "v" if node.op in _ARITHMETIC else node.op
        if isinstance(node, Reduce):
            return node.kind
        return "scatter" if isinstance(node, Scatter) else "array"

    def _value(self, node: Node) -> str:
        """X_ij for X[i, j]; a word and a number for anything less plain."""
        if isinstance(node, Load):
            parts = [self._subscript(i) for i in node.indices]
            if parts and all(parts):
                return self.fresh(f"{self.stem(node)}_{''.join(parts)}")
        return self.numbered(self.stem(node))

    def _array_of(self, node: Load) -> str:
        array = node.array
        key = array.name if isinstance(array, Input) else (array, "work", ())
        return self._given.get(key, "array")

    def _subscript(self, node: Node) -> str:
        if isinstance(node, Const):
            return str(node.value)
        return self._given.get(node, "") if isinstance(node, Index) else ""


def identifier(name: str) -> str:
    """``name`` with all that Python does not allow in names replaced."""
    plain = re.sub(r"\W", "_", unicodedata.normalize("NFKC", name))
    return plain if plain.isidentifier() else f"_{plain}"
