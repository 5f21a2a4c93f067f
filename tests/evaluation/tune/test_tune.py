"""A sweep: which settings are tried, who goes on, on which seeds; and that a sweep which was broken off ends as one that was not."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marlstone.cli import main
from marlstone.config import load
from marlstone.core.errors import UserError
from marlstone.evaluation.select.executors import Here
from marlstone.evaluation.select.trial import MEASURED, Job, Stopped, kept, work
from marlstone.evaluation.tune.question import Question, question, rung_updates
from marlstone.evaluation.tune.sampler import sampler_of
from marlstone.evaluation.tune.space import Choices, Range, drawn, flag, option, shown
from marlstone.evaluation.tune.sweep import Sweep, evidence

SMALL = {
    "env": "proving:additive?rows=2", "architecture.body.hidden": "[8]", "rollout.envs": "4", "rollout.length": "8", "credit": "team",
    "evaluate.logged": "0", "evaluate.episodes": "4", "steps": "128",
}  # fmt: skip
SPACE: dict[str, Any] = {"learner.lr": {"low": 1e-4, "high": 1e-1, "scale": "log"}, "learner.epochs": {"choices": [1, 2]}}


def asked(space: Mapping[str, Any] = SPACE, **more: Any) -> Question:
    return question(None, SMALL, space, **{"trials": 4, "eta": 2, "tuning_seeds": 1, "seeds": 2, **more})


# ---- the space
@pytest.mark.parametrize(
    ("pair", "name", "found"),
    [
        ("learner.lr=1e-4..1e-2:log", "learner.lr", Range(1e-4, 1e-2, "log")),
        ("learner.epochs=1..8", "learner.epochs", Range(1, 8)),
        ("learner.epochs=1|4", "learner.epochs", Choices((1, 4))),
        ("architecture.body.hidden=[64]|[64, 64]", "architecture.body.hidden", Choices(([64], [64, 64]))),
        ("credit=team|counterfactual", "credit", Choices(("team", "counterfactual"))),
    ],
)
def test_a_flag_says_what_a_table_says(pair: str, name: str, found: Any) -> None:
    assert (flag(pair)[0], option(*flag(pair))) == (name, found)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"learner.lrr": {"low": 1, "high": 2}}, "did you mean 'lr'"),
        ({"learner.lr": {"low": -1.0, "high": 2.0, "scale": "log"}}, "log scale"),
        ({"learner.lr": {"low": 2.0, "high": 1.0}}, "low must be less"),
        ({"learner.lr": {"lo": 2.0, "high": 1.0}}, "did you mean 'low'"),
        ({"learner.epochs": {"choices": [4]}}, "at least two"),
        ({"learner.epochs": {"low": 0, "high": 4}}, "0 does not fit"),
        ({"architecture": {"choices": ["ctde", "ctdx"]}}, "ctdx.*did you mean"),
        ({"env": {"choices": ["a", "b"]}}, "do not compare"),
        ({"steps": {"choices": [1, 2]}}, "--steps"),
        ({"rollout.envs": {"choices": [4, 8]}}, "both set and in the space"),
        ({}, "nothing to tune"),
    ],
)
def test_what_cannot_be_tuned_is_refused(space: Mapping[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        question(None, SMALL, space)


def test_values_lie_in_their_ranges_and_fill_them() -> None:
    random = np.random.default_rng(0)
    logs = np.log10([Range(1e-4, 1e-2, "log").draw(random) for _ in range(400)])
    assert logs.min() >= -4 and logs.max() <= -2 and abs(np.median(logs) + 3) < 0.15
    whole = [Range(1, 4).draw(random) for _ in range(400)]
    assert set(whole) == {1, 2, 3, 4} and min(whole.count(k) for k in (1, 4)) > 60
    assert {Range(1, 16, "log").draw(random) for _ in range(600)} == set(range(1, 17))
    both = {"a": Choices((1, 2)), "b": Choices((1, 2))}
    before: list[dict[str, Any]] = []
    for _ in range(4):
        before.append(drawn(both, random, before))
    assert len({shown(x) for x in before}) == 4


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"fleet.kind": "local"}, "leave it out"),
        ({"evaluate.every": "64", "evaluate.suites": '["edge-cases"]'}, "makes no checks"),
        ({"seeds": "3"}, "for the question to say"),
    ],
)
def test_what_a_sweep_would_not_do_is_refused(more: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        question(None, {**SMALL, **more}, SPACE)


# ---- halving
def test_rungs_share_the_budget() -> None:
    q = asked(trials=9, eta=3)
    assert [q.left(k) for k in range(q.rungs)] == [9, 3]  # of 4 updates, a third rung would have less than one
    q = asked()
    config = q.config({}, 0, 1)
    assert q.rungs == 3 and [q.left(k) for k in range(3)] == [4, 2, 1] and [rung_updates(q, config, k) for k in range(3)] == [1, 2, 4]


@contextlib.contextmanager
def quiet() -> Iterator[Any]:
    yield lambda progress, name="": None


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_a_sweep_that_was_broken_off_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """Stopped after three jobs, it goes on: each rung keeps its best; tuning and reporting seeds are apart; and the winner's trial, which
    paused at every rung, is to the bit what it would have been alone."""
    rate = {"learner.lr": SPACE["learner.lr"]}  # one program for all trials
    q, home, said, done = asked(rate), tmp_path / "sweep", list[str](), list[str]()

    def stop() -> bool:
        return len(list(home.glob("trials/*-at-*.json"))) >= 3

    with pytest.raises(Stopped):
        Sweep(q, home, Here(said.append, quiet, stop), said.append).run()
    assert any("joint steps" in line for line in said)

    def counted(jobs: list[Job], what: str) -> None:
        done.extend(job.name for job in jobs if not job.done)
        Here(said.append, quiet, lambda: False)(jobs, what)

    record = Sweep(q, home, counted, said.append).run()
    assert done.count("trial-3") >= 1 and len(done) == 1 + 2 + 1 + len({"best", "baseline"} & set(done))
    trials = record["trials"]
    assert [len(x["rungs"]) for x in trials] == [3, 2, 1, 1] and trials[0]["name"] == record["best"]
    assert [r["steps"] for r in trials[0]["rungs"]] == [32, 64, 128] and trials[1]["stopped_at"] == 64
    first = {x["name"]: x["rungs"][0]["return_iqm"] for x in trials}
    assert min(first[x["name"]] for x in trials[:2]) >= max(first[x["name"]] for x in trials[2:])
    assert record["seeds"] == [1000, 1001] and record["configurations"] == 4
    assert record["selection_bias"] == pytest.approx(record["tuning_return_iqm"] - record["return_iqm"])
    again = Sweep(q, home, Here(said.append, quiet, lambda: True), said.append).run()  # no job is left that could be stopped
    assert json.dumps(again) == json.dumps(record)

    number = record["best"].removeprefix("trial-")
    config = Sweep(q, home, counted, said.append)._job(int(number), record["settings"], q.rungs - 1).config
    alone = tmp_path / "alone" / "run"
    alone.parent.mkdir()
    work(Job(str(alone), str(alone.parent), config, light=True))
    ours, its = ((kept(folder, MEASURED) or {})["record"]["parameters_sha256"] for folder in (home / "trials" / record["best"], alone))
    assert ours == its

    best = load(home / "best.toml")
    assert best.seed == 1000 and best.seeds == 2 and (not record["settings"] or best.learner.lr == record["settings"]["learner.lr"])
    with pytest.raises(UserError, match="another trials"):
        Sweep(asked(rate, trials=5), home, counted, said.append).run()


@pytest.mark.usefixtures("compiled_once")
def test_the_command_prints_a_table_and_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two trials on one rung, one of them the configuration as it is: the first table fits 80 columns, the second time it is JSON."""
    (tmp_path / "c.toml").write_text(
        'env = "proving:additive?rows=2"\nsteps = 32\ncredit = "team"\nseeds = 2\n[tune]\ntrials = 2\ntuning_seeds = 1\n'
        '[tune.space.learner]\nlr = { low = 1e-4, high = 1e-1, scale = "log" }\n'
    )
    more = [f"--set={k}={v}" for k, v in SMALL.items() if "." in k]
    command = ["tune", str(tmp_path / "c.toml"), *more, "--out", str(tmp_path / "sweep")]
    assert main(command) == 0
    out = capsys.readouterr()
    assert (
        max(map(len, out.out.splitlines()[:-3])) <= 80 and "marlstone train" in out.out and "expect the latter" in " ".join(out.out.split())
    )
    assert "about" in out.err and "joint steps" in out.err
    assert main([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    page = Path(record["report"]).read_text()
    assert "data:image/png" in page and record["best"].removeprefix("trial-") in page
    assert record["configurations"] == 2 and record["baseline"]["return_iqm"] is not None
    assert main(["train", str(tmp_path / "c.toml"), "--out", str(tmp_path / "run")]) == 2  # [tune] is not for train


def test_optuna_proposes_what_the_space_has_and_the_same_again() -> None:
    pytest.importorskip("optuna")
    seen = []
    for _ in range(2):
        sampler, got = sampler_of(asked(sampler="optuna", trials=12)), []
        for _ in range(3):
            batch = sampler.ask(4)
            sampler.tell([-abs(np.log10(x["learner.lr"]) + 2) if x["learner.epochs"] == 1 else float("nan") for x in batch])
            got += batch
        seen.append(got)
    assert seen[0] == seen[1] and all(1e-4 <= x["learner.lr"] <= 1e-1 and x["learner.epochs"] in (1, 2) for x in seen[0])
    assert len({x["learner.lr"] for x in seen[0]}) > 6


def test_the_evidence_says_what_a_winner_is_worth() -> None:
    record: dict[str, Any] = {
        "settings": {"learner.lr": 0.01}, "configurations": 9, "tuning_return_iqm": 3.0, "tuning_seeds": 2, "return_iqm": 2.0,
        "return_ci95": [1.5, 2.5], "seeds": [1, 2, 3], "baseline": {"return_iqm": 1.0}, "difference": 1.0, "difference_ci95": [0.2, 1.8],
    }  # fmt: skip
    text = evidence(record)
    assert "Best of 9" in text and "returned 3 on the 2 seeds it was chosen by, and 2 [1.5 to 2.5] on 3 others" in text
    assert "significantly better" in text and "significantly worse" in evidence(record | {"difference_ci95": [-2.0, -0.1]})
    assert "not significantly different" in evidence(record | {"difference_ci95": [-0.1, 2.0]})
    assert "nothing tried was better" in evidence(record | {"settings": {}})
