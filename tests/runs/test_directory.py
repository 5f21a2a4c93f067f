"""A run's directory: never overwritten, never left, never half-written, never written by two."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from marlstone.api.finding import find
from marlstone.core.errors import UserError
from marlstone.runs.checkpoint import save
from marlstone.runs.directory import RunDirectory, one_line
from marlstone.runs.versions import differences, versions


def test_create_and_open(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "a" / "b", "steps = 1\n")
    assert run.config.read_text() == "steps = 1\n" and run.checkpoints.is_dir()
    assert json.loads(run.versions.read_text())["packages"]["jax"]
    run.finish({"return_iqm": np.float32(0.5), "x": math.nan, "returns": np.ones(2), "path": tmp_path})
    assert json.loads(run.result.read_text()) == {"return_iqm": 0.5, "x": None, "returns": [1.0, 1.0], "path": str(tmp_path)}
    assert RunDirectory.open(tmp_path / "a/b") == run
    assert not [p for p in run.path.rglob("*") if "partial" in p.name]


def test_never_overwrites(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "run", "old")
    RunDirectory.create(tmp_path / "run", "new")  # the first was killed before it began
    with RunDirectory.open(tmp_path / "run").store():
        pass
    with pytest.raises(UserError, match=r"already holds a run.*before its first checkpoint"):
        RunDirectory.create(tmp_path / "run", "")
    save(tmp_path / "run" / "checkpoints", 1, np.zeros(1), {})
    with pytest.raises(UserError, match=r"already holds a run.*--resume"):
        RunDirectory.create(tmp_path / "run", "")
    (tmp_path / "other").mkdir()
    RunDirectory.create(tmp_path / "other", "")  # an empty directory is free
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        RunDirectory.create(tmp_path / "full", "")
    with pytest.raises(UserError, match="is a file"):
        RunDirectory.create(tmp_path / "full" / "thesis.tex", "")
    with pytest.raises(UserError, match="cannot be made"):
        RunDirectory.create(tmp_path / "full" / "thesis.tex" / "run", "")


def test_a_run_that_never_began_leaves_nothing(tmp_path: Path) -> None:
    """Also where it was killed after its first policies were kept and before its first checkpoint was."""
    run = RunDirectory.create(tmp_path / "run", "")
    save(run.policies, 1, np.zeros(1), {}, keep=None)
    run.abandon()
    assert not run.path.exists()


def test_open_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run"):
        RunDirectory.open(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        RunDirectory.open(tmp_path / "none")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "checkpoints/../../x", ".", "link/x"])
def test_paths_cannot_leave(tmp_path: Path, name: str) -> None:
    run = RunDirectory.create(tmp_path / "run", "")
    (run.path / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="outside"):
        run.write(name, "")


def test_one_writer(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "")
    with run.claimed():
        (run.path / ".partial-1-left").write_text("half")
        with pytest.raises(UserError, match="another process"), run.claimed():
            pass
    with run.claimed():
        assert not (run.path / ".partial-1-left").exists()


def test_a_run_that_is_being_written_is_not_called_ended(tmp_path: Path) -> None:
    """Young or not: its own process holds it, and nobody is told to remove it."""
    run = RunDirectory.create(tmp_path / "run", "")
    with run.store(), run.claimed():
        assert run.claimed_elsewhere
        with pytest.raises(UserError, match="another process is training: leave it alone"):
            RunDirectory.create(tmp_path / "run", "")
        with pytest.raises(UserError, match="has no checkpoint yet: wait"):
            find(str(tmp_path / "run"))
    assert not run.claimed_elsewhere
    with pytest.raises(UserError, match="before its first checkpoint"):
        RunDirectory.create(tmp_path / "run", "")


def test_one_line() -> None:
    assert one_line({"a": np.int64(1), "b": (1.5, None), "c": {"d": [math.inf]}}) == '{"a": 1, "b": [1.5, null], "c": {"d": [null]}}'


def test_differences() -> None:
    now = versions()
    assert differences(now, now) == []
    then = {**now, "packages": {**now["packages"], "jax": "0.1"}}
    assert differences(then, now) == [f"jax 0.1 -> {now['packages']['jax']}"]
