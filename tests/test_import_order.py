"""The layout is the pipeline: every file imports only from what stands above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "symgrad"

PIPELINE = (
    "errors",
    "graph",
    "ops",
    "interpret",
    "language",
    "differentiate",
    "simplify",
    "schedule",
    "codegen",
    "runtime",
    "optimize",
    "data",
    "show",
    "api",
    "commands",
    "cli",
)
OUTSIDE = {"__init__", "__main__"}  # re-exports, and the entry point

HEAVY = ("sympy", "numba", "llvmlite", "scipy", "lark", "tqdm", "matplotlib")


def module_name(path: Path) -> str:
    """``symgrad.language.parser`` for its file; a package for its ``__init__``."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {module_name(path): path for path in FILES}


def imports(tree: ast.AST, module: str, is_package: bool) -> list[str]:
    """Every module of symgrad that ``tree`` imports, inside functions too."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                above = above[: len(above) - node.level + is_package]
                base = ".".join([*above, *filter(None, [base])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            # `from symgrad.a import b`: b may be a module, or a name in a
            found += [n if n in MODULES else base for n in names]
    return [name for name in found if name.split(".")[0] == "symgrad"]


def imports_of(path: Path) -> list[str]:
    """The modules of symgrad that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return imports(tree, module_name(path), path.name == "__init__.py")


def stage(module: str) -> str:
    """The entry of PIPELINE that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_every_file_has_a_stage():
    stages = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert stages - OUTSIDE <= set(PIPELINE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_up(path):
    here = stage(module_name(path))
    if here in OUTSIDE:
        return
    allowed = PIPELINE[: PIPELINE.index(here) + 1]
    for name in imports_of(path):
        if name == "symgrad":
            # only `from symgrad import __version__`, which comes before everything
            allowed_here = ("runtime", "commands", "cli")
            assert here in allowed_here, f"{path} imports the whole package"
            continue
        assert stage(name) in allowed, f"{path.name} ({here}) imports {name}"


def test_no_import_cycles():
    uses = {
        module: {n for n in imports_of(path) if n in MODULES and n != "symgrad"}
        for module, path in MODULES.items()
    }
    done: set[str] = set()
    while True:
        ready = {m for m, needs in uses.items() if m not in done and needs <= done}
        if not ready:
            break
        done |= ready
    assert done == set(uses), f"in a cycle: {sorted(set(uses) - done)}"


def test_the_check_sees_what_it_must():
    source = (
        "from . import errors\nimport symgrad.graph\ndef f():\n from ..api import g"
    )
    found = imports(ast.parse(source), "symgrad.language.parser", False)
    assert found == ["symgrad.language", "symgrad.graph", "symgrad.api"]


def test_import_is_light():
    code = (
        "import sys, symgrad; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    assert result.stdout.strip() == "[]"
