"""The order of the arguments of commutative operations: the same in every process.

Constants come first, then elements of inputs by name, then calls by operation. Ties are
broken by a digest of the structure.
"""

from __future__ import annotations

import hashlib
import struct

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


def key(node: Node) -> tuple[int, str, bytes]:
    """Smaller keys come first. Equal for one node only, but for hash collisions."""
    return (*_rank(node), digest(node))


def in_order(a: Node, b: Node) -> bool:
    """Does ``a`` come before ``b``, or is it the same?"""
    first, second = _rank(a), _rank(b)
    return first < second or (first == second and digest(a) <= digest(b))


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
    if _has_digest(root):
        return root.digest
    pending = [root]
    while pending:
        node = pending[-1]
        parts = graph.uses(node)
        missing = [n for n in parts if not _has_digest(n)]
        if missing:
            pending.extend(missing)
            continue
        pending.pop()
        whole = _own(node) + b"".join([n.digest for n in parts])
        node.digest = hashlib.blake2b(whole, digest_size=16).digest()
    return root.digest


def _has_digest(node: Node) -> bool:
    return hasattr(node, "digest")


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
