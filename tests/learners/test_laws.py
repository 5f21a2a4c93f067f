"""The laws that ship: every learner keeps them, the newcomer's too; and each law catches the learner that breaks it."""

import functools
import json
from pathlib import Path

import pytest

from marlstone.cli import main
from marlstone.config import kinds
from marlstone.evaluation.laws import judged, title
from marlstone.evaluation.learner import law_cases
from marlstone.evaluation.learner import laws as learner_laws
from marlstone.evaluation.learner.law_cases import LearnerCase, learner_case
from marlstone.evaluation.learner.laws import LAWS
from marlstone.learners import Learner

ROOT = Path(__file__).parents[2]
NEWCOMER, BROKEN = f"{ROOT}/examples/my_learner.py:MyLearner", f"{Path(__file__).parent}/broken.py"
SMALL = {"architecture.body.hidden": "[4]", "env": "proving:dummy?rows=3"}
REPLAY = {"learner.replay.capacity": "64", "learner.replay.batch": "8"}
CAUGHT = [*zip(
    LAWS,
    ("Listing", "Explosive", "Careless", "Haunted", "Gossip", "Spectator", "Endless", "Deaf", "Quirky", "Diary", "Contrary"),
    strict=True,
), (learner_laws.only_truncated_episodes_are_bootstrapped, "Hasty")]  # fmt: skip
ALL = [*kinds.names(Learner), NEWCOMER]

small = functools.cache(lambda kind: learner_case(kind, {**SMALL, **(REPLAY if kind == "q_learning" else {})}))


@pytest.fixture(autouse=True)
def compiled_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here needs what slower compiling is for: second derivatives."""
    monkeypatch.setattr(law_cases, "SURE", 0)


@pytest.fixture(scope="module", params=ALL, ids=[*kinds.names(Learner), "my_learner.py"])
def case(request: pytest.FixtureRequest) -> LearnerCase:
    return small(request.param)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_every_learner_keeps_every_law(case: LearnerCase, law: object) -> None:
    """None is skipped."""
    verdict = judged(law, case)  # type: ignore[arg-type]
    assert verdict.held is True, verdict


@pytest.mark.parametrize(("law", "name"), CAUGHT, ids=[name for _, name in CAUGHT])
def test_a_law_catches_who_breaks_it(law: object, name: str) -> None:
    verdict = judged(law, small(f"{BROKEN}:{name}"))  # type: ignore[arg-type]
    assert verdict.held is False and len(verdict.says) > 20, verdict


def test_in_the_usual_game_agents_die_arrive_late_and_act_in_every_space() -> None:
    """There too, what is absent or was reset teaches nothing."""
    case = learner_case(f"{BROKEN}:Sound", {"architecture.body.hidden": "[4]"})
    assert case.config.env == "proving:pair"
    for law in (learner_laws.reset_steps_teach_nothing, learner_laws.the_absent_teach_nothing):
        assert judged(law, case).held is True  # type: ignore[arg-type]


def test_the_command_says_what_holds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """0 where all laws hold, 3 where one is broken, 2 for a mistake; the cheap laws alone, the others are run above."""
    monkeypatch.setattr("marlstone.rollout.placement.prepare", lambda: None)
    cheap = (LAWS[0], learner_laws.declared_queries_are_asked, learner_laws.agents_who_share_nothing_touch_nothing)
    monkeypatch.setattr(learner_laws, "LAWS", cheap)
    assert main(["check-learner", f"{BROKEN}:Deaf", "--architecture", "ctde", "--json"]) == 3
    record = json.loads(capsys.readouterr().out)
    assert record["broken"] == [title(cheap[1])] and [x["held"] for x in record["laws"]] == [True, False, None]
    assert (record["env"], record["architecture"], record["credit"]) == ("proving:pair", "ctde", "individual")
    assert main(["check-learner", f"{BROKEN}:Listing"]) == 3
    shown = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    assert "BROKEN: the figure 'value_loss' has shape [3]" in shown and shown.count("it can make no update") == 2
    assert main(["check-learner", "pqn", "--architecture", "ctde", "--set", "learner.lr=1e-3"]) == 0
    assert "critics see the global state" in " ".join(capsys.readouterr().out.replace("\u2502", " ").split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["policy_gradien"], "did you mean 'policy_gradient'"),
        (["pqn", "--env", "proving:pair"], "cannot maximize over a Box"),
        (["ppo", "--architecture", "hierarchical"], "choose --architecture"),
        (["ppo", "--env", "pettingzoo:mpe2.simple_spread_v3"], "written in JAX"),
        ([f"{BROKEN}:Sound", "--credit", "counterfactual", "--architecture", "ctde"], "never asks for 'advantage'"),
    ],
)
def test_what_cannot_be_checked_is_refused(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-learner", *words]) == 2
    assert says in capsys.readouterr().err
