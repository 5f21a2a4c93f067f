"""What is public is documented: docstrings in the source, and a page of the generated reference for all that `import marlstone` offers."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import marlstone

ROOT = Path(__file__).parents[2]
SOURCE, REFERENCE = ROOT / "src" / "marlstone", ROOT / "docs" / "reference"


def undocumented(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    """Classes, functions and methods without an underscore and without a docstring."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                yield f"{prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from undocumented(node.body, f"{prefix}{node.name}.")


@pytest.mark.parametrize("folder", sorted({p.relative_to(SOURCE).parts[0].removesuffix(".py") for p in SOURCE.rglob("*.py")}))
def test_public_definitions_have_docstrings(folder: str) -> None:
    files = sorted((SOURCE / folder).rglob("*.py")) or [SOURCE / f"{folder}.py"]
    found = [f"{p.relative_to(ROOT)}: {name}" for p in files for name in undocumented(ast.parse(p.read_text()).body, "")]
    assert not found, "\n".join(["write docstrings for:", *found])


def test_docstrings_repeat_no_name() -> None:
    """A docstring of three words or fewer says no more than the name does."""
    empty = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text is not None and re.fullmatch(rf"(The|Return|Get) (the )?{node.name.replace('_', ' ')}\.?", text, re.IGNORECASE):
                    empty.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert empty == []


def test_no_document_is_cited_that_is_not_here() -> None:
    """Files named in the source are in the repository."""
    here = {p.name for p in ROOT.glob("*.md")} | {p.name for p in (ROOT / "docs").rglob("*.md")}
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert set(re.findall(r"\b[\w-]+\.md\b", text)) <= here, path
        assert not re.search(r"\b(INTERFACE|PEERS|DESIGN|REVIEW|NEWCOMER)\b", text), path


def on_pages() -> dict[str, set[str] | None]:
    """Modules on the reference's pages: which of their members are shown, None where all are."""
    shown: dict[str, set[str] | None] = {}
    for page in REFERENCE.glob("*.md"):
        for module, members in re.findall(r"^::: (\S+)(?:\n +options:\n +members: \[([^\]]*)\])?", page.read_text(), re.MULTILINE):
            shown[module] = set(members.split(", ")) if members else None
    return shown


def test_the_reference_has_every_public_name() -> None:
    shown = on_pages()
    for module, members in shown.items():
        path = ROOT / "src" / Path(*module.split("."))
        file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        defined = {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        assert (members or set()) <= defined, module
    for name in set(marlstone.__all__) - {"__version__"}:
        module = getattr(marlstone, name).__module__
        assert module in shown and (shown[module] is None or name in shown[module]), f"{name} of {module} is on no page of docs/reference"
