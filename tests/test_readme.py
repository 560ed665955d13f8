"""What the README shows is what happens: its Python blocks run, in order."""

from __future__ import annotations

import re
from pathlib import Path

from symgrad.language.build import CONSTANTS
from symgrad.language.names import FUNCTIONS, NOT_CALLED
from symgrad.runtime.define import _DEFINED

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_python_blocks_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "readme"}
    found = blocks("python")
    assert found
    for source in found:
        exec(compile(source, "README.md", "exec"), names)


def test_the_two_commands():
    commands = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert len(commands) == 2
    assert "symgrad fit" in commands[0]
    assert commands[1].endswith("python -m pytest")


def test_functions_and_constants_are_listed():
    """All that can be called by its own name; operators and a user's own aside."""
    listed = re.search(
        r"The functions are: (.*?)\. Other.*?are (.*?), unless", README, re.S
    )
    assert listed is not None
    operators = {
        "add", "sub", "mul", "div", "pow", "mod", "floor_divide", "neg", "pos",
        "lt", "le", "gt", "ge", "eq", "ne",
    }  # fmt: skip
    own = {*NOT_CALLED, *operators, *_DEFINED}
    functions, constants = (re.findall(r"`(\w+)`", text) for text in listed.groups())
    assert functions == sorted(set(FUNCTIONS) - own)
    assert set(constants) == set(CONSTANTS)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
