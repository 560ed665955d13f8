"""Compiled kernels kept on disk, so that a second process does not compile again.

One file per kernel, named by the SHA-256 of everything that decides its machine code:
the LLVM text, the processor, the options and the versions. An entry is used only if its
header names that key, its checksum is right, and its owner is this user (or root) with
nobody else allowed to write: what is in it will be executed. Anything else is treated
as absent and written anew. Entries are replaced in one step, so that processes may
share a directory.

``SYMGRAD_CACHE`` names the directory, or is ``off``. ``SYMGRAD_CACHE_SIZE`` bounds it
(bytes, or with a suffix K, M or G; 256M by default); the entries unused for the longest
time go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache as memoise
from pathlib import Path

from symgrad.codegen import cpu
from symgrad.errors import CacheWarning, OptionError, warn

SUFFIX, PARTIAL = ".kernel", ".partial"
DEFAULT_SIZE = 256 << 20

_MAGIC = b"symgrad kernel 1"
_HEADER = struct.Struct("<16s32s32sQ")  # magic, key, checksum and length of the code
_OPEN = os.O_RDONLY | sum(
    # no links, no waiting for the writer of a pipe, no translation of line ends
    getattr(os, name, 0)
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")
)
_LARGEST = 1 << 30  # bytes of an entry that is still read
_STALE_SECONDS = 3600.0  # a partial file this old has lost its writer
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

_unusable: set[Path] = set()  # directories that a warning was given for
_totals: dict[Path, int] = {}  # bytes in each, as far as this process knows


@dataclass(frozen=True)
class Entry:
    """A file of the cache. ``used``: seconds since the epoch, of the last use."""

    path: Path
    size: int
    used: float


def compile_cached(text: str, simplify: bool = False) -> bytes:
    """LLVM assembly to an object file, from disk if it was compiled before.

    simplify: with LLVM's passes, as ``cpu.compile_text`` says.
    """
    place = directory()
    if place is None:
        return cpu.compile_text(text, simplify)
    name = key(text, simplify)
    code = load(place, name)
    if code is None:
        code = cpu.compile_text(text, simplify)
        store(place, name, code)
    return code


# --- Settings -------------------------------------------------------------------------


def directory() -> Path | None:
    """Where entries are kept; None if the cache is off."""
    wanted = os.environ.get("SYMGRAD_CACHE", "").strip()
    if wanted.lower() == "off":
        return None
    if not wanted:
        return _default_directory()
    return Path(os.path.expanduser(wanted)).absolute()  # Path's may raise


def _default_directory() -> Path | None:
    """The user's cache directory, by the conventions of the platform."""
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home
        return None
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
        return Path(local) / "symgrad" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "symgrad"
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else home / ".cache") / "symgrad"


def size_limit() -> int:
    """Most bytes that the entries may take.

    Raises:
        OptionError: ``SYMGRAD_CACHE_SIZE`` is not a size.
    """
    text = os.environ.get("SYMGRAD_CACHE_SIZE", "").strip().upper().removesuffix("B")
    if not text:
        return DEFAULT_SIZE
    unit = _UNITS.get(text[-1])
    digits = text[:-1] if unit else text
    if not (digits.isascii() and digits.isdigit()):
        raise OptionError(
            f"SYMGRAD_CACHE_SIZE is {text!r}: give bytes, or a number with K, M or G"
        )
    return int(digits) * (unit or 1)


def key(text: str, simplify: bool = False) -> str:
    """The name of the entry of a kernel, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in (*_surroundings(), str(simplify), text):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))  # "ab", "c" is not "a", "bc"
        digest.update(data)
    return digest.hexdigest()


@memoise
def _surroundings() -> tuple[str, ...]:
    from symgrad import __version__

    return (_MAGIC.decode(), __version__, *cpu.recipe())


# --- Reading --------------------------------------------------------------------------


def load(place: Path, name: str) -> bytes | None:
    """The object file called ``name``, or None if there is none to be trusted."""
    path = place / (name + SUFFIX)
    try:
        with open(os.open(path, _OPEN), "rb") as file:
            if not _private(os.fstat(file.fileno()), stat.S_ISREG):
                return None
            content = file.read(_LARGEST + 1)
        code = _unwrap(content, name)
    except OSError:
        return None
    if code is not None:
        with contextlib.suppress(OSError):  # a cache that is read only still serves
            os.utime(path)
    return code


def _private(status: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    """Of the right kind, and nobody but this user or root can have written it."""
    if not is_kind(status.st_mode):
        return False
    if not hasattr(os, "getuid"):
        return True  # Windows: the user's profile is private by its access list
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid in (os.getuid(), 0) and not shared


def _wrap(code: bytes, name: str) -> bytes:
    checksum = hashlib.sha256(code).digest()
    return _HEADER.pack(_MAGIC, bytes.fromhex(name), checksum, len(code)) + code


def _unwrap(content: bytes, name: str) -> bytes | None:
    """The object file in an entry; None if the entry is damaged or of another key."""
    code = content[_HEADER.size :]
    return code if code and content == _wrap(code, name) else None


# --- Writing --------------------------------------------------------------------------


def store(place: Path, name: str, code: bytes) -> None:
    """Write an entry, and make room.

    Warns:
        CacheWarning: the directory cannot be written; it is not tried again.
    """
    limit = size_limit()
    content = _wrap(code, name)
    if place in _unusable or len(content) > limit:
        return
    try:
        _prepare(place)
        _write(place, place / (name + SUFFIX), content)
        _make_room(place, len(content), limit)
    except OSError as error:
        _give_up(place, error)


def _prepare(place: Path) -> None:
    """Create the directory for this user alone, or check that it is."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _private(place.stat(), stat.S_ISDIR):
        raise PermissionError("others may write there, or own it")


def _write(place: Path, path: Path, content: bytes) -> None:
    """Replace ``path`` in one step: readers see the old file, the new one, or none."""
    handle, partial = tempfile.mkstemp(PARTIAL, path.stem[:16], place)  # mode 0600
    try:
        with open(handle, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def _give_up(place: Path, error: OSError) -> None:
    _unusable.add(place)
    reason = error.strerror or str(error)
    warn(
        f"compiled kernels are not kept on disk, because {place} cannot be used "
        f"({reason}): set SYMGRAD_CACHE to a directory of your own, or to off",
        CacheWarning,
    )


# --- Room -----------------------------------------------------------------------------


def entries(place: Path) -> list[Entry]:
    """All entries, the one used last first."""
    found = [entry for entry in _files(place) if entry.path.suffix == SUFFIX]
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def _files(place: Path) -> list[Entry]:
    """Entries and partial files. Other files are none of our business."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(place) as files:
        for file in files:
            if file.name.endswith((SUFFIX, PARTIAL)):
                with contextlib.suppress(OSError):  # gone meanwhile
                    status = file.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        path = Path(file.path)
                        found.append(Entry(path, status.st_size, status.st_mtime))
    return found


def _make_room(place: Path, added: int, limit: int) -> None:
    """Remove the entries unused for the longest time, down to nine tenths of the limit.

    Directories are counted once, and again when they seem to be full: other processes
    write too.
    """
    if place in _totals:
        _totals[place] += added
        if _totals[place] <= limit:
            return
    _remove_stale(place)
    kept = entries(place)
    total = sum(entry.size for entry in kept)
    if total > limit:
        while len(kept) > 1 and total > limit * 9 // 10:
            oldest = kept.pop()
            _remove(oldest.path)
            total -= oldest.size
    _totals[place] = total


def _remove_stale(place: Path) -> None:
    """Partial files of writers that were interrupted."""
    before = time.time() - _STALE_SECONDS
    for entry in _files(place):
        if entry.path.suffix == PARTIAL and entry.used < before:
            _remove(entry.path)


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False  # gone already, or open on Windows
    return True


def clear(place: Path) -> int:
    """Remove all entries; how many were removed."""
    _totals.pop(place, None)
    removed = [entry for entry in _files(place) if _remove(entry.path)]
    return sum(entry.path.suffix == SUFFIX for entry in removed)
