"""Value-based learning that runs away says so, by name, with the setting to change."""

from pathlib import Path

import pytest

from marlstone.architectures import Decentralized, Mlp
from marlstone.config import Evaluation, Rollout, RunConfig, dump
from marlstone.core.errors import Diverging
from marlstone.credit import Vdn
from marlstone.learners import PolicyGradient, Pqn, QLearning
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import train


@pytest.mark.parametrize("learner", [QLearning(gamma=0.9), Pqn(gamma=0.9)], ids=["q_learning", "pqn"])
def test_values_beyond_anything_pay_adds_up_to_are_doubted(learner: QLearning | Pqn) -> None:
    """A pay of at most 2 adds up to at most 20; twice that is doubted, and so is what is no number."""
    highest = {"largest_pay": 2.0}
    assert learner.check_divergence({"q": 39.0}, highest) is None and learner.check_divergence({"q": 50.0}, {"largest_pay": 0.0}) is None
    for q in (41.0, float("inf"), float("nan")):
        said = learner.check_divergence({"q": q}, highest)
        assert said is not None and "diverge" in said and "learner.lr" in said
        assert ("learner.target_every" in said) == isinstance(learner, QLearning)
    assert PolicyGradient().check_divergence({"q": 41.0}, highest) is None


def test_a_run_that_diverges_warns_once_and_remembers_when(compiled_once: None, tmp_path: Path) -> None:
    learner = Pqn(lr=100.0, gamma=0.9, epochs=1, minibatches=1)
    body = Mlp((8,))
    config = RunConfig("proving:climbing", Decentralized(body), Vdn(), learner, Rollout(4, 8), Evaluation(1), steps=256, seeds=1, seed=0)
    run = RunDirectory.create(tmp_path / "run", dump(config))
    with pytest.warns(Diverging, match=r"seed 0, step .*action values diverge.*learner\.lr") as caught:
        train(config, run)
    assert len(caught) == 1
    with run.store() as store:
        assert any("diverging" in key for key in store.counts())
