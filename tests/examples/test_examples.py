"""What lies in `examples/` runs as it stands: scripts as programs, the notebook in a kernel, cell by cell."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("compiled_once")
EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = {
    "train_and_act": "actions {'",
    "pettingzoo_loop": "team return: -",
    "many_seeds": "acts: {'",
    "language_agents": "log ratio| 0.0; 48 lines in",
}
"""The last line of each holds this."""
SERVERS = {"stub_language_model"}  # which others start


def test_every_example_is_run_somewhere() -> None:
    scripts = {p.stem for p in EXAMPLES.glob("*.py") if not p.stem.startswith("my_")}  # my_*: parts, tried where their kind is
    assert scripts == set(SCRIPTS) | SERVERS
    assert {p.name for p in EXAMPLES.glob("*.ipynb")} == {"first_hour.ipynb"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_as_it_stands(name: str, tmp_path: Path) -> None:
    program = EXAMPLES / f"{name}.py"
    if name == "train_and_act":
        lines = [x for x in program.read_text().splitlines() if x and not x.startswith('"""')]
        assert len(lines) <= 10
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, cwd=tmp_path, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert SCRIPTS[name] in done.stdout.splitlines()[-1]


def test_the_notebook_runs_and_shows_progress_under_its_cells(tmp_path: Path) -> None:
    """In a kernel of its own; progress is one line that changes, not a column of lines on stderr."""
    with warnings.catch_warnings():  # of the notebook's own libraries
        warnings.simplefilter("ignore")
        import nbformat
        from nbclient import NotebookClient

        notebook: Any = nbformat.read(EXAMPLES / "first_hour.ipynb", as_version=4)
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {i: cell.outputs for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"}
    assert all(out.output_type != "error" for outs in outputs.values() for out in outs)
    text = lambda i: "".join(str(out.get("text", "")) + str(out.get("data", {}).get("text/plain", "")) for out in outputs[i])
    training = next(i for i in outputs if "ms.train(" in notebook.cells[i].source)
    assert "100% done" in text(training) and "█" * 30 in text(training)
    said = "".join(out.text for out in outputs[training] if out.output_type == "stream")
    assert "evaluating" not in said and "compiling" not in said
    last = max(outputs)
    assert "counterfactual" in text(last)
    assert any("image/png" in out.get("data", {}) for outs in outputs.values() for out in outs)
