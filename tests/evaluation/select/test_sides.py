"""A selection against a frozen opponent: whoever learns is judged against it, and its copy lies with every trial."""

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from marlstone.cli.select import asked, parser
from marlstone.config import load
from marlstone.core.errors import UserError
from marlstone.envs.make import make
from marlstone.evaluation.select.executors import Here
from marlstone.evaluation.select.question import Budget, Candidate, Question
from marlstone.evaluation.select.study import Study
from marlstone.evaluation.select.trial import kept
from marlstone.policy.policy import Policy
from marlstone.rollout.sides import Sides
from marlstone.runs.leaves import parameters_sha256
from tests.rollout.test_opponents import artifact

pytestmark = pytest.mark.usefixtures("compiled_once")
ENV, TINY = "proving:rps?rows=2", {"kind": "decentralized", "body": {"kind": "mlp", "hidden": [4]}}
SMALL = {"rollout.envs": "4", "rollout.length": "8", "evaluate.logged": "0", "learner.minibatches": "1"}


@contextmanager
def unseen() -> Any:
    yield lambda progress, name: None


def study(folder: Path, *candidates: Candidate, **common: str) -> Study:
    question = Question(
        ENV, Budget(steps=64), candidates, seeds=1, tuning=0.0, episodes=4, survivors=0, soak=0, confirm=False,
        common=tuple(sorted((SMALL | common).items())),
    )  # fmt: skip
    return Study(question, folder, Here(lambda text: None, unseen, lambda: False), lambda text: None)


def candidate(name: str, credit: str, **settings: Any) -> Candidate:
    return Candidate(name, {"architecture": TINY, "credit": credit, **settings}, ({},))


@pytest.mark.slow
def test_a_candidate_is_trained_and_judged_against_the_opponent(tmp_path: Path) -> None:
    """Team credit fits, since blue does not learn; costs are of one agent; the recommended configuration names the opponent."""
    frozen = artifact(Sides("", {"blue": "random"}).over(make(ENV)), tmp_path / "before")
    it = study(tmp_path / "s", candidate("a", "team"), opponent=json.dumps({"blue": str(frozen)}))
    record = it.run()
    assert not it.refused
    trial = kept(tmp_path / "s" / "trials" / "a", "measured.json")
    assert trial is not None and set(trial["record"]["agent_returns"]) == {"red_0"}
    assert trial["record"]["opponents"]["blue"]["parameters_sha256"] == parameters_sha256(list(Policy.load(frozen).arrays))
    cost = record["candidates"][0]["cost"]
    assert cost["per_agent"] == cost["train_per_seed"]
    assert load(record["config"]).opponents == {"blue": str(frozen)}


def test_flags_name_the_sides_of_every_candidate() -> None:
    question = asked(parser().read(["--env", ENV, "--quick", "--team", "red", "--opponent", "blue=random"]))
    assert Study(question, Path(), print, print).sides.opponents == {"blue": "random"}
    assert [c.config(ENV, dict(question.common), {}).team for c in question.candidates] == ["red"] * 3


def test_candidates_with_different_opponents_are_refused(tmp_path: Path) -> None:
    other = candidate("b", "individual", opponents={"blue": "default"})
    with pytest.raises(UserError, match="'a' and 'b' have different teams or opponents"):
        _ = study(tmp_path / "s", candidate("a", "individual"), other).candidates
    same = study(tmp_path / "s", candidate("a", "individual"), other, opponent=json.dumps({"blue": "default"}))
    assert [c.name for c in same.candidates] == ["a", "b"]
