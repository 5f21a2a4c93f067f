"""How the code reads, before and after: what is counted of `src/` at two commits.

    python benchmarks/house.py [BEFORE [AFTER]] [--ci-minutes BEFORE AFTER]

Counted are words that are not the field's (whole words, and parts of identifiers), public definitions without a docstring,
`Any` where training and playing meet, the folder with the most files, exemptions of the layering, and lines. The minutes of CI are
measured elsewhere and passed in. Results go to results/house.json; `benchmarks/render.py` puts the table into docs/design.md.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections import Counter
from typing import Any

from record import HERE, stamp, write

WORDS = {
    "row, rows (of time)": r"rows?",
    "pay, paid, pays": r"pay|paid|pays|paying",
    "said": r"said",
    "told, tells": r"told|tells?",
    "chunk": r"chunks?",
    "mend": r"mend(s|ed|ing)?",
    "doubt": r"doubts?",
    "befall": r"befall(s|ing)?|befallen",
    "surprised": r"surprised",
    "lagged": r"lagged",
    "bereaved, mourn, confess, endure": r"bereaved|mourn|confess|endure",
    "nothing_yet": r"nothing_yet",
}
"""Words and the patterns that find them; some also stand for what they should, such as rows of a table, and are counted all the same."""
OPAQUE = ("envs", "learners", "core")  # where a state is a simulator's or an optimizer's own, of any type
SEAM = re.compile(r"\b(?:runtime|backend|player|state): Any\b")


def sources(commit: str) -> dict[str, str]:
    """Every Python file of `src/` at a commit, by path."""
    git = lambda *words: subprocess.run(["git", *words], cwd=HERE.parent, capture_output=True, text=True, check=True).stdout
    names = git("ls-tree", "-r", "--name-only", commit, "--", "src").split()
    return {n: git("show", f"{commit}:{n}") for n in names if n.endswith(".py")}


def undocumented(text: str) -> tuple[int, int]:
    """Public definitions of a module, at its top level and in public classes, and how many of them have no docstring."""

    def walk(body: list[ast.stmt]) -> tuple[int, int]:
        total = missing = 0
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                total, missing = total + 1, missing + (ast.get_docstring(node) is None)
                if isinstance(node, ast.ClassDef):
                    more = walk(node.body)
                    total, missing = total + more[0], missing + more[1]
        return total, missing

    return walk(ast.parse(text).body)


def exemptions(commit: str) -> int:
    """Imports that the layering ignores."""
    text = subprocess.run(
        ["git", "show", f"{commit}:pyproject.toml"], cwd=HERE.parent, capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    found = re.search(r"ignore_imports = \[(.*?)\]", text, re.S)
    return len(re.findall(r"->", found.group(1))) if found else 0


def counted(commit: str) -> dict[str, Any]:
    """What is counted at one commit."""
    files = sources(commit)
    text = "\n".join(files.values())
    tokens = Counter(t for word in re.findall(r"[A-Za-z_]+", text) for t in word.split("_"))
    documented = [undocumented(x) for x in files.values()]
    folders = Counter(name.rpartition("/")[0] for name in files)
    largest, most = folders.most_common(1)[0]
    return {
        "words": {k: sum(n for t, n in tokens.items() if re.fullmatch(v, t)) for k, v in WORDS.items()},
        "public": sum(a for a, _ in documented),
        "undocumented": sum(b for _, b in documented),
        "any_at_the_seam": sum(len(SEAM.findall(x)) for n, x in files.items() if n.split("/")[2] not in OPAQUE),
        "largest_folder": [largest.removeprefix("src/marlstone/"), most],
        "exemptions": exemptions(commit),
        "files": len(files),
        "lines": text.count("\n") + 1,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", nargs="?", default="8b65044")
    parser.add_argument("after", nargs="?", default="HEAD")
    parser.add_argument("--ci-minutes", nargs=2, type=float, metavar=("BEFORE", "AFTER"))
    flags = parser.parse_args()
    record = {"before": counted(flags.before), "after": counted(flags.after), "commits": [flags.before, flags.after]}
    if flags.ci_minutes:
        record["ci_minutes"] = flags.ci_minutes
    print(write("house", record | stamp()), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
