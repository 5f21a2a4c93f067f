"""Which files a user's Python file is made of, and their hashes: itself and the modules beside it that it imports.

Imports are read from the source, not watched while it runs: those inside functions count before they are executed, and what only worker
processes load is known here too. A module whose name is computed at run time is not seen.
"""

import ast
import hashlib
from collections.abc import Iterator, Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def fingerprints(path: str | Path) -> dict[str, str]:
    """SHA-256 by path from the file's folder (`env.py`, `sim/core.py`). Files that are gone are left out."""
    first = Path(path).expanduser().resolve()
    root, found, waiting = first.parent, dict[Path, str](), [first]
    while waiting:
        file = waiting.pop()
        if file in found or not file.is_file():
            continue
        data = file.read_bytes()
        found[file] = hashlib.sha256(data).hexdigest()
        if file.suffix == ".py":
            waiting += _imported(data, file, root)
    return {file.relative_to(root).as_posix(): found[file] for file in sorted(found)}


def changed_fingerprints(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The files that differ, were added or are gone."""
    return sorted(name for name in {*then, *now} if then.get(name) != now.get(name))


def _imported(data: bytes, file: Path, root: Path) -> Iterator[Path]:
    """Files below `root` that the source `data` of `file` may import."""
    try:
        nodes = list(ast.walk(ast.parse(data)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # it does not load either
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [(root, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = file.parents[node.level - 1] if 0 < node.level <= len(file.parents) else root
            names = [(base, f"{node.module}.{alias.name}" if node.module else alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            names = [(root, node.args[0].value)] if called in ("import_module", "__import__") else []
        else:
            continue
        for base, name in names:
            path = base
            if base.is_relative_to(root):
                for part in name.split("."):
                    path = path / part
                    yield path / "__init__.py"
                    yield from (path.with_name(f"{part}{end}") for end in (".py", *EXTENSION_SUFFIXES))
