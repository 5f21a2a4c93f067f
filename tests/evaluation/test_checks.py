"""Checks while a run trains: what is found, what is an alert, how the command ends."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marlstone.cli import main
from marlstone.config import load
from marlstone.core.errors import UserError
from marlstone.evaluation.checks import CHANCE, NOMINAL, Checks, baseline_of
from marlstone.runs.directory import RunDirectory

CREDIT, CASE = "check/credit/rank_correlation", "check/edge-cases/an agent dies"
FEW = {
    "rollout.envs": "8", "rollout.length": "12", "architecture.body.hidden": "[16]", "evaluate.episodes": "16", "evaluate.logged": "0",
    "learner.lr": "1e-2", "seeds": "2", "steps": "9600", "evaluate.every": "9600", "evaluate.suites": '["edge-cases"]',
}  # fmt: skip
ENV = "proving:additive?rows=2"


def checks(tmp_path: Path, **evaluate: Any) -> Checks:
    fields = {f"evaluate.{k}": json.dumps(v) for k, v in {"every": 10, "suites": ["edge-cases"], **evaluate}.items()}
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    return Checks(load(None, {"env": ENV, **fields}), RunDirectory(run))


def found(nominal: float, case: float, chance: float = 0.0) -> dict[str, np.ndarray]:
    spread = np.array([-0.01, 0.0, 0.01, 0.0, 0.0])
    return {CHANCE: np.full(5, chance), NOMINAL: nominal + spread, CASE: case + spread}


def test_what_fell_out_of_the_best_earlier_band_by_more_than_the_tolerance_is_an_alert(tmp_path: Path) -> None:
    it = checks(tmp_path, tolerance=0.1)
    assert it.judge(found(0.2, 0.1), 10) == []  # there is nothing yet to fall below
    it._learn(found(0.2, 0.1))
    it.chance = 0.0
    assert it.judge(found(1.0, 0.9), 20) == []  # better is never an alert
    it._learn(found(1.0, 0.9))
    it._learn(found(0.3, 0.1))  # the best stays the baseline
    assert it.judge(found(0.95, 0.85), 30) == []
    (alert,) = it.judge(found(0.95, 0.7), 40)
    assert alert["name"] == "edge-cases/an agent dies" and alert["step"] == 40 and alert["value"] < alert["least"] < 0.8
    assert {a["name"] for a in it.judge(found(0.1, 0.1), 50)} == {"edge-cases/an agent dies", "edge-cases/undisturbed"}


@pytest.mark.parametrize(
    ("every", "gap", "rows"), [(50_000, 10_000, 32_768), (50_000, 20_000, 16_384), (10_000, 10_000, 3_000), (500, 100, 100)]
)
def test_checks_are_due_once_every_so_many_steps_wherever_checkpoints_fall(tmp_path: Path, every: int, gap: int, rows: int) -> None:
    it = checks(tmp_path, every=every)
    it.config = load(None, {
        "env": ENV, "steps": "1000000", "checkpoint_every": str(gap), "rollout.envs": "1", "rollout.length": str(rows),
        "learner.minibatches": "1", "evaluate.every": str(every), "evaluate.suites": '["edge-cases"]',
    })  # fmt: skip
    kept = range(gap // rows * rows or rows, 1_000_000, gap // rows * rows or rows)
    due = [step for step in kept if it.due(step)]
    first = [min(step for step in kept if step >= k) for k in range(every, kept[-1], every)]
    assert due == sorted(set(first))


def test_the_tolerance_is_of_the_span_for_returns_and_of_one_for_correlations(tmp_path: Path) -> None:
    it = checks(tmp_path, tolerance=0.1)
    it.chance = -100.0
    it._learn(found(0.0, 0.0) | {CREDIT: np.full(5, 0.9)})
    assert it.judge(found(-9.0, -9.0) | {CREDIT: np.full(5, 0.81)}, 1) == []
    assert len(it.judge(found(-11.0, -11.0) | {CREDIT: np.full(5, 0.79)}, 1)) == 3
    assert it.judge({CREDIT: np.array([0.1, np.nan, 0, 0, 0])}, 1) == []  # a correlation that is not defined says nothing


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_a_run_that_fell_below_its_baseline_is_told_of_and_ends_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "--env", ENV, "--json", *(w for k, v in FEW.items() for w in ("--set", f"{k}={v}"))]
    assert main([*words, "--out", "good"]) == 0
    assert json.loads(capsys.readouterr().out)["alerts"] == []
    bands, chance = baseline_of("good")
    assert NOMINAL in bands and len(bands) > 10 and chance is not None and bands[NOMINAL][0] > 0.9 > 0.2 > chance
    with RunDirectory.open("good").store() as store:
        assert [list(s.step) for s in store.series(NOMINAL)] == [[9600]] * 2
    slow = [*words, "--set", "evaluate.baseline=good", "--out", "slow"]
    slow[slow.index("learner.lr=1e-2")] = "learner.lr=1e-9"
    assert main(slow) == 3
    out, err = capsys.readouterr()
    alerts = json.loads(out)["alerts"]
    assert {9600} == {a["step"] for a in alerts} and "edge-cases/undisturbed" in {a["name"] for a in alerts}
    assert "alert: edge-cases/undisturbed" in err
    assert [json.loads(x) for x in (tmp_path / "slow" / "alerts.jsonl").read_text().splitlines()] == alerts
    with RunDirectory.open("slow").store() as store:
        assert any(name == "alert" for name, _ in store.counts())


def test_a_baseline_that_was_never_checked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    with pytest.raises(UserError, match=r"was never checked: train it with evaluate\.every"):
        baseline_of(str(tmp_path))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"evaluate.every": "10"}, "evaluate.every is given without evaluate.suites"),
        ({"evaluate.suites": '["credit"]'}, "evaluate.suites is given without evaluate.every"),
        ({"evaluate.baseline": "x"}, "nothing is checked"),
        ({"evaluate.every": "10", "evaluate.suites": '["all"]'}, "no such choice"),
        ({"evaluate.every": "10", "evaluate.suites": '["credit"]', "evaluate.tolerance": "2"}, "evaluate.tolerance is 2.0"),
        ({"evaluate.every": "10", "evaluate.suites": '["credit"]', "fleet.kind": "local"}, "a fleet's learner makes no checks"),
    ],
)
def test_half_a_wish_is_refused(fields: dict[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says.replace("[", r"\[")):
        load(None, {"env": ENV, **fields})
