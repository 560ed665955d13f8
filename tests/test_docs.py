"""What the documents show is what happens: their blocks run, and print what they say.

In each file of ``docs`` the Python blocks run in order in one namespace, and so do the
commands ``$ symgrad ...`` of console blocks. What is printed must be the text of the
block that follows in ``text`` or ``mermaid`` (for a command: the rest of its own
block); ``...`` in it stands for anything, where numbers depend on the machine.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from symgrad.cli import main

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = (DOCS / "tutorial.md", DOCS / "tutoriel.md")


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line where that begins."""

    language: str
    text: str
    line: int


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a file, in order."""
    text = path.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in found]


def printed(action) -> str:
    """What ``action`` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        action()
    return output.getvalue()


def run_python(path: Path, block: Block, names: dict[str, object]) -> str:
    """Execute a block, its lines numbered as in the file; what it printed."""
    source = "\n" * (block.line - 1) + block.text
    return printed(lambda: exec(compile(source, str(path), "exec"), names))


def run_command(block: Block) -> tuple[str, str]:
    """What the command of a console block printed, and what the block says of it."""
    command, _, said = block.text.partition("\n")
    program, *arguments = shlex.split(command.removeprefix("$ "))
    assert program == "symgrad"
    return printed(lambda: main(arguments)), said


def assert_printed(path: Path, block: Block, found: str, said: str) -> None:
    """Compare line by line, blanks at the ends of lines aside."""
    found, said = ("\n".join(map(str.rstrip, t.splitlines())) for t in (found, said))
    same = doctest.OutputChecker().check_output(said, found, doctest.ELLIPSIS)
    assert same, f"{path.name}:{block.line} prints\n{found}\n\nand not\n{said}"


def files() -> list[Path]:
    """The documents that have something to run."""
    runs = {"python", "console"}
    return [p for p in sorted(DOCS.rglob("*.md")) if runs & {b[0] for b in blocks(p)}]


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_blocks_run_and_print_what_they_say(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    names: dict[str, object] = {"__name__": path.stem}
    found = blocks(path)
    for block, after in zip(found, [*found[1:], None], strict=True):
        if block.language == "python":
            output = run_python(path, block, names)
            if after is not None and after.language in {"text", "mermaid"}:
                assert_printed(path, block, output, after.text)
        elif block.language == "console":
            assert_printed(path, block, *run_command(block))


def test_a_wrong_text_is_noticed(tmp_path):
    path = tmp_path / "wrong.md"
    path.write_text("```python\nprint(1 + 1)\n```\n```text\n3\n```\n")
    code, said = blocks(path)
    output = run_python(path, code, {})
    with pytest.raises(AssertionError, match=r"wrong.md:2 prints"):
        assert_printed(path, code, output, said.text)
    assert_printed(path, code, output, "2\n")


def test_both_tutorials_show_the_same_code():
    english, french = ([b[:2] for b in blocks(path)] for path in TUTORIALS)
    assert english == french
    headings = [
        re.findall(r"^(#+) ", path.read_text(encoding="utf-8"), re.MULTILINE)
        for path in TUTORIALS
    ]
    assert headings[0] == headings[1]


@pytest.mark.parametrize(
    "path", sorted(DOCS.rglob("*.md")), ids=lambda p: str(p.relative_to(DOCS))
)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert "://" in target or (path.parent / target).exists(), target
