"""The disk cache: what is kept, what is refused, what happens when it cannot be used.

``compile_cached`` is given modules of one function that returns a number, so that a
wrong entry would show; ``Loss`` is used where the whole way matters.
"""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import symgrad as sg
from symgrad.cli import main
from symgrad.codegen import cpu
from symgrad.errors import CacheWarning, OptionError
from symgrad.runtime import cache

ROOT = Path(__file__).parents[1]

needs_owners = pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners here")


def module(number: int, padding: int = 0) -> str:
    text = f"define i32 @answer() {{\n  ret i32 {number}\n}}\n"
    if padding:
        text += f'@padding = constant [{padding} x i8] c"{"x" * padding}"\n'
    return text


def answer(code: bytes) -> int:
    loaded = cpu.load_object(code)
    return ctypes.CFUNCTYPE(ctypes.c_int32)(loaded.address("answer"))()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache of its own for a test."""
    path = tmp_path / "cache"
    monkeypatch.setenv("SYMGRAD_CACHE", str(path))
    monkeypatch.delenv("SYMGRAD_CACHE_SIZE", raising=False)
    return path


@pytest.fixture
def compiled(monkeypatch):
    """The texts that were compiled, rather than read from disk."""
    texts: list[str] = []
    real = cpu.compile_text

    def counting(text, simplify=False):
        texts.append(text)
        return real(text, simplify)

    monkeypatch.setattr(cpu, "compile_text", counting)
    return texts


def entry(place: Path, number: int) -> Path:
    return place / (cache.key(module(number)) + cache.SUFFIX)


# --- Use ------------------------------------------------------------------------------


def test_the_second_time_is_from_disk(place, compiled):
    first = cache.compile_cached(module(1))
    assert cache.compile_cached(module(1)) == first
    assert len(compiled) == 1
    assert answer(first) == 1
    assert cache.compile_cached(module(2)) != first
    assert len(compiled) == 2


def test_kernels_with_the_same_names_live_side_by_side(place):
    codes = [cache.compile_cached(module(k)) for k in range(5)]
    loaded = [cpu.load_object(code) for code in codes]
    calls = [ctypes.CFUNCTYPE(ctypes.c_int32)(x.address("answer")) for x in loaded]
    assert [call() for call in calls] == [0, 1, 2, 3, 4]


def test_a_loss_is_not_compiled_again(place, compiled):
    def run():
        f = sg.compile("mean((a*x - y)**2)", wrt=["a"])
        x = np.arange(5.0)
        return f.value_and_grad(a=2.0, x=x, y=x)

    first = run()
    count = len(compiled)
    assert count > 0
    assert run() == first == (6.0, {"a": 12.0})
    assert len(compiled) == count


def test_the_key_depends_on_all_that_decides_the_code(monkeypatch):
    keys = {cache.key(module(1)), cache.key(module(2))}
    recipe = cpu.recipe()
    for position in range(len(recipe)):
        other = [*recipe[:position], "other", *recipe[position + 1 :]]
        monkeypatch.setattr(cpu, "recipe", lambda other=other: tuple(other))
        cache._surroundings.cache_clear()
        keys.add(cache.key(module(1)))
    cache._surroundings.cache_clear()
    assert len(keys) == 2 + len(recipe)


def test_off(place, compiled, monkeypatch):
    monkeypatch.setenv("SYMGRAD_CACHE", " OFF ")
    for _ in range(2):
        assert answer(cache.compile_cached(module(3))) == 3
    assert len(compiled) == 2
    assert not place.exists()


def test_default_directories(monkeypatch, tmp_path):
    monkeypatch.delenv("SYMGRAD_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache.directory() == tmp_path / ".cache" / "symgrad"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache.directory() == tmp_path / "x" / "symgrad"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.directory() == tmp_path / "Library" / "Caches" / "symgrad"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert cache.directory() == tmp_path / "AppData" / "Local" / "symgrad" / "cache"


# --- Entries that must not be used ----------------------------------------------------


def flip(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


DAMAGE = {
    "empty": lambda content: b"",
    "only the magic": lambda content: content[:16],
    "only the header": lambda content: content[:88],
    "half": lambda content: content[: len(content) // 2],
    "without the last byte": lambda content: content[:-1],
    "with more bytes": lambda content: content + b"\0",
    "other magic": lambda content: flip(content, 0),
    "other key": lambda content: flip(content, 20),
    "other checksum": lambda content: flip(content, 50),
    "other length": lambda content: flip(content, 80),
    "other code": lambda content: flip(content, len(content) - 5),
    "foreign": lambda content: b"\x7fELF" + b"\0" * 500,
    "text": lambda content: b"not a kernel\n",
    "a pickle": lambda content: b"cos\nsystem\n(S'exit 1'\ntR.",
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_entries_are_written_anew(place, compiled, damage):
    cache.compile_cached(module(4))
    path = entry(place, 4)
    good = path.read_bytes()
    path.write_bytes(damage(good))
    assert answer(cache.compile_cached(module(4))) == 4
    assert len(compiled) == 2
    assert path.read_bytes() == good


def test_an_entry_under_another_name_is_refused(place, compiled):
    for number in (5, 6):
        cache.compile_cached(module(number))
    five, six = entry(place, 5), entry(place, 6)
    os.replace(five, six)
    assert answer(cache.compile_cached(module(6))) == 6
    assert answer(cache.compile_cached(module(5))) == 5
    assert len(compiled) == 4


def test_a_link_and_a_directory_are_refused(place, compiled, tmp_path):
    cache.compile_cached(module(7))
    path, outside = entry(place, 7), tmp_path / "outside"
    os.replace(path, outside)
    path.symlink_to(outside)
    cache.compile_cached(module(7))
    assert len(compiled) == 2
    assert not path.is_symlink()
    path.unlink()
    path.mkdir()
    with pytest.warns(CacheWarning):
        assert answer(cache.compile_cached(module(7))) == 7


@needs_owners
def test_a_pipe_does_not_block(place, compiled):
    cache.compile_cached(module(8))
    path = entry(place, 8)
    path.unlink()
    os.mkfifo(path)
    assert answer(cache.compile_cached(module(8))) == 8
    assert path.is_file()


@needs_owners
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_entry_that_others_may_write_is_refused(place, compiled, mode):
    cache.compile_cached(module(9))
    path = entry(place, 9)
    path.chmod(mode)
    cache.compile_cached(module(9))
    assert len(compiled) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@needs_owners
def test_an_entry_of_another_user_is_refused(place, compiled, monkeypatch):
    cache.compile_cached(module(10))
    status = entry(place, 10).stat()
    values = list(status)
    values[stat.ST_UID] = os.getuid() + 12345
    stranger = os.stat_result(values)
    assert cache._private(status, stat.S_ISREG)
    assert not cache._private(stranger, stat.S_ISREG)


@needs_owners
def test_permissions(tmp_path, monkeypatch):
    monkeypatch.setenv("SYMGRAD_CACHE", str(tmp_path / "a" / "b"))
    before = os.umask(0)
    try:
        cache.compile_cached(module(11))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE(entry(tmp_path / "a" / "b", 11).stat().st_mode) == 0o600


# --- Directories that cannot be used --------------------------------------------------


def warned_once(compiled) -> str:
    """Two modules compile, with one warning; its message."""
    texts = [module(12), module(13)]
    with pytest.warns(CacheWarning) as caught:
        codes = [cache.compile_cached(text) for text in texts]
    assert [answer(code) for code in codes] == [12, 13]
    assert len(caught) == 1
    assert len(compiled) == 2
    return str(caught[0].message)


def test_a_file_in_its_place(place, compiled):
    place.write_text("a file")
    message = warned_once(compiled)
    assert str(place) in message
    assert "SYMGRAD_CACHE" in message


def test_below_a_file(place, compiled, monkeypatch):
    place.write_text("a file")
    monkeypatch.setenv("SYMGRAD_CACHE", str(place / "below"))
    warned_once(compiled)


@needs_owners
def test_a_directory_that_others_may_write(place, compiled):
    place.mkdir()
    place.chmod(0o777)
    assert "others may write" in warned_once(compiled)
    assert not cache.entries(place)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may")
def test_a_directory_that_is_read_only(place, compiled):
    cache.compile_cached(module(14))
    place.chmod(0o500)
    try:
        assert answer(cache.compile_cached(module(14))) == 14  # still read
        compiled.clear()
        warned_once(compiled)
    finally:
        place.chmod(0o700)


def test_a_full_disk(place, compiled, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "No space left" in warned_once(compiled)
    assert not list(place.iterdir())  # nothing half-written stays


# --- Room -----------------------------------------------------------------------------


def test_the_oldest_entries_go_first(place, monkeypatch):
    for number in range(10):
        cache.compile_cached(module(number, 10_000))
        path = place / (cache.key(module(number, 10_000)) + cache.SUFFIX)
        os.utime(path, (number, number))
    one = cache.entries(place)[0].size
    cache.compile_cached(module(0, 10_000))  # read: now the one used last
    monkeypatch.setenv("SYMGRAD_CACHE_SIZE", str(5 * one))
    cache._totals.clear()  # as another process
    cache.compile_cached(module(10, 10_000))
    names = {found.path.stem for found in cache.entries(place)}
    assert names == {cache.key(module(k, 10_000)) for k in (0, 8, 9, 10)}


def test_it_stays_bounded(place, monkeypatch):
    cache.compile_cached(module(0, 10_000))
    limit = 3 * cache.entries(place)[0].size
    monkeypatch.setenv("SYMGRAD_CACHE_SIZE", str(limit))
    for number in range(12):
        cache.compile_cached(module(number, 10_000))
        assert sum(found.size for found in cache.entries(place)) <= limit


def test_an_entry_that_is_too_large_is_not_kept(place, monkeypatch):
    monkeypatch.setenv("SYMGRAD_CACHE_SIZE", "100")
    assert answer(cache.compile_cached(module(15))) == 15
    assert not cache.entries(place)


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 256 << 20), ("5000", 5000), ("2k", 2048), ("3MB", 3 << 20), ("1G", 1 << 30)],
)
def test_sizes(monkeypatch, text, size):
    monkeypatch.setenv("SYMGRAD_CACHE_SIZE", text)
    assert cache.size_limit() == size


@pytest.mark.parametrize("text", ["many", "-5", "M", "1.5G", "²"])
def test_sizes_that_are_none(monkeypatch, text):
    monkeypatch.setenv("SYMGRAD_CACHE_SIZE", text)
    with pytest.raises(OptionError, match="SYMGRAD_CACHE_SIZE"):
        cache.size_limit()


def test_stale_partial_files_go_and_strangers_stay(place):
    place.mkdir(mode=0o700)
    stale, recent = place / f"a{cache.PARTIAL}", place / f"b{cache.PARTIAL}"
    stranger = place / "notes.txt"
    for path in (stale, recent, stranger):
        path.write_text("x")
        path.chmod(0o600)
    os.utime(stale, (0, 0))
    os.utime(stranger, (0, 0))
    cache.compile_cached(module(16))
    assert not stale.exists()
    assert recent.exists()
    assert cache.clear(place) == 1
    assert list(place.iterdir()) == [stranger]


# --- Several processes ----------------------------------------------------------------

WRITER = """
import sys
from symgrad.runtime import cache
from tests.test_cache import answer, module
for turn in range(30):
    for number in range(6):
        text = module(number, 2000)
        assert answer(cache.compile_cached(text)) == number
        if turn % 3 == int(sys.argv[1]):
            (cache.directory() / (cache.key(text) + cache.SUFFIX)).unlink(True)
"""


def test_two_writers(place):
    command = [sys.executable, "-W", "error", "-c", WRITER]
    both = [subprocess.Popen([*command, str(k)], cwd=ROOT) for k in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert not list(place.glob("*" + cache.PARTIAL))


def test_another_process_compiles_nothing(place):
    code = (
        "import symgrad as sg\nfrom symgrad.codegen import cpu\n"
        "if {again}: cpu.compile_text = None\n"
        "f = sg.compile('sum(exp(a*x))', wrt=['a'])\n"
        "for k in range(3): print(f.value_and_grad(a=0.0, x=[1.0, 2.0]))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code.format(again=again)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for again in (False, True)
    ]
    assert outputs[0] == outputs[1] == "(2.0, {'a': array(3.)})\n" * 3


# --- The command ----------------------------------------------------------------------


def test_the_command(place, capsys):
    assert main(["cache"]) == 0
    assert "0 kernels, 0 B of at most 256 MiB" in capsys.readouterr().out
    assert not place.exists()  # looking creates nothing
    cache.compile_cached(module(17))
    cache.compile_cached(module(18))
    assert main(["cache"]) == 0
    output = capsys.readouterr().out
    assert "2 kernels" in output
    assert str(place) in output
    assert cache.key(module(17))[:16] in output
    assert main(["cache", "--clear"]) == 0
    assert "removed 2 kernels" in capsys.readouterr().out
    assert not list(place.iterdir())
