"""Pages on retries and on language models: their Python blocks run, one after the other, as pasted."""

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["retries.md", "language-agents.md"])
def test_python_blocks_run(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks))
    left = runpy.run_path(str(program))
    if "stub" in left:
        left["stub"].__exit__()
    assert len(blocks) >= 3 and capsys.readouterr().out.strip()
