"""Runs name users' files relative to themselves: folders move; what is missing or has changed is said."""

import json
import shutil
from pathlib import Path

import pytest

from marlstone.config import load
from marlstone.config.paths import FILES, beside, changed_files, files_of, missing, portable, recorded

CREDIT = """
from dataclasses import dataclass
from marlstone.credit import Credit
from shares import HALF

@dataclass(frozen=True)
class Mine(Credit):
    share: float = HALF
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A configuration with an environment and a credit method of its own, and its run as a command leaves it."""
    home = tmp_path / "project"
    (home / "envs").mkdir(parents=True)
    (home / "envs" / "game.py").write_text("import rules\ndef make_env(x=1): ...\n")
    (home / "envs" / "rules.py").write_text("A = 1\n")
    (home / "mine.py").write_text(CREDIT)
    (home / "shares.py").write_text("HALF = 0.5\n")
    (home / "base" / "checkpoints").mkdir(parents=True)
    (home / "run.toml").write_text(
        'credit = "mine.py:Mine"\nenv = {name = "envs/game.py:make_env", options = {x = [1, 2]}}\n'
        'evaluate = {baseline = "base", every = 10, suites = ["edge-cases"]}\n'
    )
    run = home / "runs" / "r"
    run.mkdir(parents=True)
    config = load(home / "run.toml")
    (run / "config.toml").write_text(recorded(config, run))
    (run / FILES).write_text(json.dumps(files_of(config, run)))
    return home


def test_a_project_moves(project: Path, tmp_path: Path) -> None:
    before, run = load(project / "runs" / "r" / "config.toml"), "runs/r/config.toml"
    text = (project / run).read_text()
    assert 'env = "../../envs/game.py:make_env?x:=[1,2]"' in text and 'kind = "../../mine.py:Mine"' in text and str(tmp_path) not in text
    assert 'baseline = "../../base"' in text
    moved = tmp_path / "elsewhere" / "deep"
    moved.parent.mkdir()
    shutil.move(project, moved)
    after = load(moved / run)
    assert after.env == before.env.replace(str(project), str(moved)) == f"{moved}/envs/game.py:make_env?x:=[1,2]"
    assert after.evaluate.baseline == str(moved / "base") and after.credit.share == 0.5  # type: ignore[attr-defined]
    assert changed_files(after, moved / "runs/r") == [] and not list(missing(moved / "runs/r"))
    assert recorded(after, moved / "runs/r") == text


def test_a_run_that_moves_alone_finds_what_stayed(project: Path, tmp_path: Path) -> None:
    alone = tmp_path / "archive" / "r"
    shutil.copytree(project / "runs" / "r", alone)
    assert load(alone / "config.toml").env == f"{project}/envs/game.py:make_env?x:=[1,2]"
    other = tmp_path / "other"
    shutil.move(project, other)
    gone = dict(missing(alone))
    assert gone == {"env": tmp_path / "envs" / "game.py", "credit": tmp_path / "mine.py"}
    name = f"{other}/envs/game.py:make_env"
    assert not list(missing(alone, name))  # the method lies beside the environment as it did then
    config = load(alone / "config.toml", {"env": name})
    assert config.env == name and changed_files(config, alone) == []


def test_runs_with_absolute_paths_still_load(project: Path) -> None:
    run = project / "runs" / "r"
    (run / FILES).unlink()
    (run / "config.toml").write_text((run / "config.toml").read_text().replace("../../", f"{project}/"))
    assert load(run / "config.toml").env.startswith(f"{project}/envs/game.py") and not list(missing(run))
    assert changed_files(load(run / "config.toml"), run) == []


def test_what_changed_is_named(project: Path) -> None:
    run = project / "runs" / "r"
    (project / "envs" / "rules.py").write_text("A = 2\n")
    (project / "shares.py").write_text("HALF = 0.25\n")
    (project / "envs" / "game.py").write_text("import rules, more\ndef make_env(x=1): ...\n")
    (project / "envs" / "more.py").touch()
    assert sorted(changed_files(load(run / "config.toml"), run)) == ["game.py", "more.py (new)", "rules.py", "shares.py"]


def test_portable_and_beside_are_inverse(project: Path) -> None:
    told = {"a": ["jax:" + str(project / "mine.py") + ":f?x=1", 3], "b": {"c": "nowhere.py:X"}, "d": "jumanji:LevelBasedForaging"}
    there = portable(told, project / "runs")
    assert there["a"][0] == "jax:../mine.py:f?x=1" and beside(there, project / "runs") == told


def test_what_shares_only_the_root_is_named_in_full(project: Path) -> None:
    assert portable(f"{project}/mine.py:f", Path("/nowhere/run")) == f"{project}/mine.py:f"
