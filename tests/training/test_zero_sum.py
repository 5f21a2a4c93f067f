"""A team reward that is always 0, because what one wins another loses, is refused before anything is trained on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marlstone.architectures import Ctde, Decentralized, Mlp
from marlstone.config import RunConfig
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.errors import UserError
from marlstone.core.types import Spec
from marlstone.credit import Individual, Team, Vdn
from marlstone.envs.make import make
from marlstone.learners import PolicyGradient, Pqn
from marlstone.training.loop import runtime_of
from marlstone.training.zero_sum import is_zero_sum, possible, refuse_zero_sum

pytestmark = pytest.mark.usefixtures("compiled_once")
PENNIES = f"{Path(__file__).parent / 'pennies.py'}:make"
LEARNER = PolicyGradient(epochs=1, minibatches=1)


def asked(env: str, credit: Any, team: str = "*", learner: Any = LEARNER) -> None:
    config = RunConfig(
        env,
        Ctde(Mlp((4,))) if credit != Individual() else Decentralized(Mlp((4,))),
        credit,
        learner,
        Rollout(2, 4, 1),
        Evaluation(1),
        team=team,
        seeds=1,
        seed=0,
        steps=8,
    )
    backend = runtime_of(config)
    try:
        refuse_zero_sum(backend, credit.kind)
    finally:
        backend.close()


@pytest.mark.parametrize("env", ["proving:rps", PENNIES], ids=["jax", "python"])
def test_refused_with_the_remedy(env: str) -> None:
    with pytest.raises(UserError, match=r"sum to 0 at each of [\d,]+ steps .* --team 'red_0' --opponent 'blue_0=random'"):
        asked(env, Team())


def test_mixers_too() -> None:
    with pytest.raises(UserError, match="--credit vdn learns from is always 0"):
        asked("proving:rps", Vdn(), learner=Pqn(minibatches=1))


def test_individual_credit_and_common_games_pass() -> None:
    asked("proving:rps", Individual())
    asked("proving:climbing", Team(), "")
    asked(f"{Path(__file__).parents[1] / 'twin.py'}:make", Team(), "")


def test_opponents_that_learn_are_refused_by_declaration() -> None:
    """What the environment declares needs no playing; the remedy names who to freeze."""
    with pytest.raises(ValueError, match=r"blue_0 play against the team: .* --opponent blue_0=random"):
        asked("proving:rps", Team(), "")


def test_what_is_measured() -> None:
    own = np.array([[1.0, -1.0], [0.0, 0.0], [0.5, -0.5]])
    assert is_zero_sum(own, own.sum(-1))
    assert not is_zero_sum(0 * own, np.zeros(3))  # nobody was rewarded: nothing is known
    assert not is_zero_sum(np.abs(own), np.abs(own).sum(-1))
    assert not is_zero_sum(own, np.array([0.0, 0.1, 0.0]))


def test_what_cannot_be_zero_sum_is_not_played() -> None:
    spec = make("proving:climbing").spec
    assert possible(spec)
    assert not possible(Spec(spec.groups, 0, return_bounds=(0.0, 1.0)))
    assert possible(Spec(spec.groups, 0, return_bounds=(-1.0, 1.0)))
