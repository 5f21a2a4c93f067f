"""Environments of other libraries declare what is really wanted: it is recorded beside the reward, by whom and how they say."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces as gs

from marlstone.config import dump, load
from marlstone.core.types import Metric
from marlstone.envs.conformance import NonConforming
from marlstone.envs.host.gymnasium import GymnasiumEnv
from marlstone.envs.host.pettingzoo import PettingZooEnv
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import train
from tests.envs.couriers import make


def test_infos_by_agent_are_summed_and_a_reset_says_nothing() -> None:
    env = PettingZooEnv(make())
    assert env.spec.metrics == {"delivered": Metric("up"), "idle": Metric("down", "mean"), "left": Metric("down", "last")}
    assert set(env.reset(0).metrics.values()) == {0.0}
    both, one = (env.step((np.array(x, np.int32),)).metrics for x in ([1, 1], [0, 1]))
    assert both == {"delivered": 2.0, "idle": 0.5, "left": 9.0} and one == {"delivered": 1.0, "idle": 0.5, "left": 8.0}


class Team(gym.Env):
    """Two agents; the team's info has the metric itself."""

    true_metrics: Any = {"score": "up"}  # noqa: RUF012
    observation_space = gs.Tuple((gs.Box(-1, 1, (1,)), gs.Box(-1, 1, (1,))))
    action_space = gs.Tuple((gs.Discrete(2), gs.Discrete(2)))

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return tuple(np.zeros(1, np.float32) for _ in range(2)), {}

    def step(self, action: Any) -> Any:
        return tuple(np.zeros(1, np.float32) for _ in range(2)), [0.0, 0.0], False, False, {"score": 3}


def test_a_teams_info_has_them_itself() -> None:
    env = GymnasiumEnv(Team())
    env.reset(0)
    assert env.step((np.zeros(2, np.int32),)).metrics == {"score": 3.0}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("delivered", ("true_metrics", "'delivered'", "up")), ({"delivered": "more"}, ("delivered", "'more'", "up, down")),
        ({"delivered": {"better": "up", "reduc": "sum"}}, ("reduc", "reduce")), ({"delivered": 3}, ("delivered", "3")),
    ],
)  # fmt: skip
def test_what_does_not_read_is_refused_with_the_remedy(said: Any, words: tuple[str, ...]) -> None:
    env = make()
    env.true_metrics = said
    with pytest.raises(NonConforming) as error:
        PettingZooEnv(env)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.usefixtures("compiled_once")
def test_a_run_records_them(tmp_path: Path) -> None:
    """By the learned policy, which drives: episodes of four steps, nothing delivered by those who never do."""
    asked = {
        "env": f"{Path(__file__).parent}/couriers.py:make", "steps": "64", "seeds": "1", "rollout.envs": "4", "rollout.length": "8",
        "architecture.body.hidden": "[4]", "evaluate.episodes": "8", "evaluate.logged": "0",
    }  # fmt: skip
    config = load(None, asked)
    record = train(config, RunDirectory.create(tmp_path / "run", dump(config)), limited=False)
    metrics = record["true_metrics"]
    assert metrics["idle"] == 0.5 and metrics["left"] == 6.0
    assert metrics["delivered"] == pytest.approx(8 - np.mean(record["episode_returns"]), abs=1e-5)  # who does not drive delivers
