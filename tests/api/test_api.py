"""`import marlstone`: what notebooks use gives the command line's records, typed, without work at import."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import marlstone as ms
from marlstone.config import dump

pytestmark = pytest.mark.usefixtures("compiled_once")
ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "steps": 256, "seeds": 2, "progress": False, "rollout": {"envs": 4, "length": 8}, "evaluate": {"episodes": 4, "logged": 0},
    "architecture.body.hidden": [8],
}  # fmt: skip


def test_importing_it_brings_no_jax_and_every_public_name_is_there() -> None:
    code = "import sys, marlstone; assert not {'jax', 'numpy', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert all(getattr(ms, name) is not None for name in ms.__all__)
    stub = ast.parse((ROOT / "src" / "marlstone" / "__init__.pyi").read_text())
    told = {a.asname for node in stub.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert told | {"__version__"} == set(ms.__all__)
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = ms.nothing_here  # type: ignore[attr-defined]


def test_a_run_trained_in_python_is_the_command_lines(tmp_path: Path) -> None:
    """Parts by name and as they are make the same configuration, and the record is the file's."""
    run = ms.train("proving:climbing", architecture="ctde", credit="counterfactual", out=tmp_path / "named", **TINY)
    parts = {k: v for k, v in TINY.items() if k != "architecture.body.hidden"}
    same = ms.train("proving:climbing", architecture=ms.Ctde(ms.Mlp((8,))), credit=ms.Counterfactual(), out=tmp_path / "made", **parts)
    assert dump(run.config) == dump(same.config)
    result, twin = run.result, same.result
    assert result is not None and twin is not None and result.returns == twin.returns
    assert json.loads(result.to_json()) == json.loads((run.path / "result.json").read_text())
    assert result.return_iqm == pytest.approx(np.mean(result.returns)) and len(result.seeds) == 2 and result.steps == 256
    steps, returns = run.curve()
    assert returns.shape == (2, len(steps)) and len(steps) > 0
    again = ms.load(run.path)
    assert again.result == result and again.policy(result.seeds[1]).acting == result.acting
    played, compared = ms.evaluate(again, episodes=8), ms.compare(run, same, episodes=8)
    assert played.acting == result.acting and len(played.returns) == 2
    assert compared.difference == 0 and compared.better is None  # equal seeds, equal parts, equal episodes
    folder = run.path / "policy" / "seed-1000"
    for asked in (ms.evaluate, ms.audit_credit):
        with pytest.raises(ms.UserError, match=f"frozen policy of one training seed.*give {run.path}"):
            asked(folder)
    elsewhere = again.policy().save(tmp_path / "elsewhere")
    mixed = ms.compare(run, elsewhere, episodes=8)
    assert mixed.record["runs"] == [str(run.path), str(elsewhere)] and mixed.record["seeds"] == 2 and mixed.record["steps"] == [256, None]
    assert ms.compare(folder, elsewhere, episodes=8).difference == 0
    with pytest.raises(ms.UserError, match="neither policy lies in the run"):
        ms.compare(elsewhere, elsewhere)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"credit": "counterfactul"}, ("credit", "counterfactual")), ({"learner": {"lr": "fast"}}, ("learner.lr", "fast")),
        ({"steps": 0}, ("steps",)), ({"config": "nowhere.toml"}, ("nowhere.toml",)), ({"acting": "wildly"}, ("acting", "wildly")),
    ],
)  # fmt: skip
def test_mistakes_name_field_value_and_remedy_and_leave_nothing(more: dict[str, Any], words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ms.UserError) as error:
        ms.train("proving:climbing", out=tmp_path / "run", **{**TINY, **more})
    assert all(word in str(error.value) for word in words), error.value
    assert not (tmp_path / "run").exists()
    with pytest.raises(ms.UserError):
        ms.load(tmp_path / "run")


@pytest.mark.slow
def test_the_documentations_notebook_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    (program,) = re.findall(r'```python title="notebook.py"\n(.*?)```', page, re.S)
    assert len(program.strip().splitlines()) <= 10
    done = subprocess.run([sys.executable, "-c", program.replace("20_000", "512")], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "first" / "policy" / "seed-1000" / "policy.json").is_file()
