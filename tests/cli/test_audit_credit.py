"""`marlstone audit-credit`, really trained: its record, the same again from the run it kept, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.batches import FASTEST_COMPILE
from tests.cli.conftest import Result, record

Command = Callable[..., Result]
WORDS = ("--env", "proving:dummy?rows=2", "--credit", "counterfactual", "--steps", "64", "--seeds", "2", "--decisions", "32")
TINY = (
    "rollout.envs=4",
    "rollout.length=8",
    "evaluate.episodes=2",
    "evaluate.logged=0",
    "architecture.body.hidden=[4]",
    "learner.epochs=1",
    "learner.minibatches=1",
)
HOLDS = """from tests.twin import make as line

def make():
    env = line()
    env.log = (x for x in "cannot be copied")
    return env
"""
FIELDS = {"env", "credit", "seeds", "claims", "rank_correlation", "rank_correlation_ci95", "efficiency_error", "dummy_ci95"}


@pytest.fixture(autouse=True)
def as_jax_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """No devices or caches are set up, since JAX runs already; and programs are compiled in a hurry."""
    monkeypatch.setattr("marlstone.rollout.placement.prepare", lambda: None)
    monkeypatch.setattr("marlstone.training.fused.CPU_OPTIONS", FASTEST_COMPILE)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_an_audit_and_the_same_of_the_run_it_kept(marlstone: Command, tmp_path: Path) -> None:
    words = [w for pair in TINY for w in ("--set", pair)]
    told = record(marlstone("audit-credit", *WORDS, *words, "--out", "run", "--json"))
    assert FIELDS <= set(told) and told["env"] == WORDS[1] and told["credit"] == "counterfactual" and told["claims"] == "worth"
    assert (told["architecture"], told["learner"], told["seeds"], told["efficiency_error"]) == (
        "ctde",
        "policy_gradient",
        [1000, 1001],
        None,
    )
    agents = ["worker_0", "worker_1", "dummy", "noise"]
    assert list(told["contributions"]) == list(told["truth"]) == agents
    assert told["truth"]["dummy"] == 0 and told["truth"]["worker_1"] != 0 and "dummy" in told["dummies"]
    kept = tmp_path / "run"
    assert json.loads((kept / "credit_audit.json").read_text()) == told and (kept / "credit_audit.png").stat().st_size > 1000
    assert json.loads((kept / "result.json").read_text())["steps"] == 64
    code, out, _ = marlstone("audit-credit", "run", "--decisions", "32")
    assert code == 0 and "rank correlation with the truth, 2 seeds" in out and all(a in out for a in agents)
    again = json.loads((kept / "credit_audit.json").read_text())
    assert again | {"run": "", "picture": ""} == told | {"run": "", "picture": ""}
    played = record(marlstone("evaluate", "run", "--episodes", "3", "--log", "log", "--json"))
    assert played["episodes"] == 3 and (tmp_path / "log" / "arrays.safetensors").is_file()
    told = record(marlstone("audit-credit", "run", "--from-log", "log", "--json"))
    assert FIELDS <= set(told) and told["truth"] is told["rank_correlation"] is None and list(told["contributions"]) == agents
    assert told["team_return"] == pytest.approx(played["return_iqm"]) and told["episodes"] == [3, 3]
    assert json.loads((kept / "credit_log.json").read_text()) == told
    code, out, err = marlstone("evaluate", "run", "--log", "log")
    assert (code, out) == (2, "") and "already there" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), ["needs a RUN, or --env and --credit", "such as --env proving:additive --credit counterfactual"]),
        (("--env", "proving:dummy"), ["needs a RUN, or --env and --credit"]),
        (("--credit", "team"), ["needs a RUN, or --env and --credit"]),
        (("run", "--credit", "team"), ["audits that run as it was trained", "leave out credit"]),
        (("run", "--set", "learner.lr=1"), ["audits that run as it was trained", "leave out"]),
        (("nowhere",), ["nowhere", "does not exist"]),
        (("--env", "proving:dummy", "--credit", "team", "--from-log", "log"), ["--from-log log", "needs the RUN whose credit is asked"]),
        (("run", "--from-log", "log", "--decisions", "9"), ["--from-log log scores whole episodes", "leave out --decisions"]),
        ((*WORDS[:-1], "0"), ["--decisions is 0", "at least 1"]),
        ((*WORDS, "--continuations", "1"), ["--continuations is 1", "at least 2"]),
        ((*WORDS, "--window", "0"), ["--window is 0", "at least 1"]),
        (("run", "--from-log", "log", "--window", "3"), ["--from-log log plays nothing on", "leave out --window"]),
        (
            ("--env", "proving:dummy", "--credit", "counterfactual", "--architecture", "decentralized"),
            ["a critic of joint actions", "add --architecture ctde"],
        ),
    ],
)
def test_what_cannot_be_audited_is_refused(marlstone: Command, words: tuple[str, ...], says: list[str]) -> None:
    code, out, err = marlstone("audit-credit", *words)
    assert (code, out) == (2, "") and all(w in err for w in says), err


def test_an_environment_that_cannot_go_back_is_refused_before_it_is_trained_in(marlstone: Command, tmp_path: Path) -> None:
    """Also where a run was trained in one already."""
    (tmp_path / "holds.py").write_text(HOLDS)
    env = f"{tmp_path / 'holds.py'}:make"
    record(marlstone("train", "--env", env, "--steps", "20", "--out", "run", "--json"))
    for words in (("run",), ("--env", env, "--credit", "counterfactual", "--out", "new", "--steps", "8")):
        code, out, err = marlstone("audit-credit", *words)
        assert (code, out) == (2, "") and "cannot go back to a state it was in" in err and "environment written in JAX" in err
    assert not (tmp_path / "new").exists()
