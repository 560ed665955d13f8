"""The order of the arguments of commutative operations: the same in every process.

Constants come first, then elements of inputs by name, then calls by operation. Ties are
broken by a digest of the structure.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TypeAlias
from weakref import WeakKeyDictionary

from symgrad import graph
from symgrad.graph import (
    Array,
    Call,
    Const,
    Index,
    Input,
    Load,
    Node,
    Reduce,
    Scatter,
    Size,
)

Key: TypeAlias = tuple[int, str, bytes]

_digests: WeakKeyDictionary[Node, bytes] = WeakKeyDictionary()


def key(node: Node) -> Key:
    """Smaller keys come first. Equal for one node only, but for hash collisions."""
    return (*_rank(node), digest(node))


def _rank(node: Node) -> tuple[int, str]:
    if isinstance(node, Const):
        return 0, ""
    if isinstance(node, (Size, Index)):
        return 1, ""
    if isinstance(node, Load):
        return 2, node.array.name if isinstance(node.array, Input) else "~"
    return (3, node.op) if isinstance(node, Call) else (4, "")


def digest(root: Node) -> bytes:
    """A fingerprint of the structure, independent of addresses and of the process."""
    found = _digests.get(root)
    if found is not None:
        return found

    def unknown(node: Node) -> list[Node]:
        return [n for n in graph.uses(node) if n not in _digests]

    order = graph.walk(root, into=unknown) if unknown(root) else [root]
    for node in order:
        parts = (_own(node), *(_digests[n] for n in graph.uses(node)))
        _digests[node] = hashlib.blake2b(b"".join(parts), digest_size=16).digest()
    return _digests[root]


def _own(node: Node) -> bytes:
    """What tells a node from others of the same parts."""
    if isinstance(node, Const):
        number = struct.pack("<d", node.value) if node.type == graph.FLOAT else b""
        return f"const {node.type} {node.value!r} ".encode() + number
    if isinstance(node, Index):
        return f"index {node.slot} ".encode()
    if isinstance(node, Call):
        return f"call {node.op} {node.type} {len(node.args)} ".encode()
    if isinstance(node, (Size, Input)):
        return f"{type(node).__name__} {node.name!r} {node.type} ".encode()
    if isinstance(node, Reduce):
        return f"reduce {node.kind} {len(node.indices)} ".encode()
    if isinstance(node, Scatter):
        return f"scatter {len(node.shape)} {len(node.over)} ".encode()
    if isinstance(node, Array):
        return f"array {len(node.indices)} ".encode()
    return f"load {len(node.children)} ".encode()
