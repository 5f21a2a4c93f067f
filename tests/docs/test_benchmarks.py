"""Benchmarks take long and run by hand: that what they import is still there is seen here."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


def imported(text: str) -> Iterator[tuple[str, str | None]]:
    """Modules of ours that a file imports anywhere, and names from them; in the text of programs that it starts, too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "marlstone":
            yield from ((node.module, x.name) for x in node.names)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "except ModuleNotFoundError" not in node.value:
            for module, names in re.findall(r"^\s*from (marlstone[\w.]*) import ([\w, ]+)", node.value, re.M):
                yield from ((module, name.strip()) for name in names.split(","))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path: Path) -> None:
    for module, name in imported(path.read_text()):
        found = importlib.import_module(module)
        assert name is None or hasattr(found, name) or importlib.import_module(f"{module}.{name}"), f"{module} has no {name}"
