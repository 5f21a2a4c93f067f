"""Runs against frozen runs, from the command line: what they keep, what they say, where they can be judged."""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from marlstone.cli import main
from marlstone.config import load
from marlstone.core.errors import UserError
from marlstone.policy.policy import Policy
from marlstone.runs.leaves import parameters_sha256

pytestmark = pytest.mark.usefixtures("compiled_once")
SMALL = ["--steps", "64", "--seeds", "1", "--set", "rollout.envs=4", "--set", "rollout.length=8", "--set", "evaluate.episodes=4"]
SMALL += ["--set", "evaluate.logged=0", "--set", "architecture.body.hidden=[4]", "--acting", "sample", "--json"]
RPS = ["train", "--env", "proving:rps?rows=2", *SMALL]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, compiled_once: None) -> Path:
    """`first`, against chance; `second`, against the first, which is gone."""
    place = tmp_path_factory.mktemp("runs")
    assert main([*RPS, "--opponent", "blue=random", "--out", str(place / "first")]) == 0
    assert main([*RPS, "--opponent", f"blue={place / 'first'}", "--out", str(place / "second")]) == 0
    return place


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    capsys.readouterr()
    code = main([*words, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if code == 0 else None, err


def test_only_who_learns_is_in_the_run(home: Path) -> None:
    record = json.loads((home / "second" / "result.json").read_text())
    assert set(record["agent_returns"]) == {"red_0"}
    assert Policy.load(record["policy"][0]).agents == ("red_0",)
    first = Policy.load(next((home / "first" / "policy").glob("seed-*")))
    told = record["opponents"]["blue"]
    assert told["parameters_sha256"] == parameters_sha256(list(first.arrays))
    assert (told["acting"], told["agents"]) == ("sample", ["red_0"])


def test_it_stands_alone(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Moved, without the run it was trained against: its own copy is named relative to it, and plays the same."""
    shutil.copytree(home / "second", tmp_path / "moved")
    where = tomllib.loads((tmp_path / "moved" / "config.toml").read_text())["opponents"]["blue"]
    assert not Path(where).is_absolute() and (tmp_path / "moved" / where / "policy.json").is_file()
    assert load(tmp_path / "moved" / "config.toml").opponents["blue"].startswith(str(tmp_path))
    returns = [said(capsys, "evaluate", str(run))[1]["return_iqm"] for run in (home / "second", tmp_path / "moved")]
    assert returns[0] == returns[1]


def test_others_may_play_in_evaluation(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, record, _ = said(capsys, "evaluate", str(home / "second"), "--opponent", "blue=default", "--episodes", "2")
    assert record["opponents"] == {"blue": {"policy": "default"}}
    code, _, err = said(capsys, "evaluate", str(home / "second"), "--opponent", "green=random")
    assert code == 2
    assert "'green' names no agent; the agents are red_0, blue_0 (types and groups: blue, players, red)" in err


def test_runs_against_different_opponents_are_not_compared(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, "compare", str(home / "first"), str(home / "second"))
    assert code == 2
    assert "different teams or opponents" in err and "marlstone payoff" in err


def test_credit_of_the_team_works_against_frozen_opponents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is refused while blue learns is trained once it is frozen; a run that was refused leaves nothing behind."""
    code, _, err = said(capsys, *RPS[:-1], "--credit", "team", "--out", str(tmp_path / "x"))
    assert code == 2 and "--opponent blue_0=random" in err
    code, _, err = said(capsys, *RPS[:-1], "--opponent", "blue=runs/none", "--out", str(tmp_path / "y"))
    assert code == 2 and "there is no folder runs/none" in err and not (tmp_path / "y").exists()


def test_flags_that_do_not_read() -> None:
    for words, says in ((["--opponent", "blue"], "does not read"), (["--opponent", "b=x", "--opponent", "b=y"], "given twice")):
        with pytest.raises(UserError, match=says):
            from marlstone.cli.train import _parser, overrides

            overrides(_parser().read(words))
