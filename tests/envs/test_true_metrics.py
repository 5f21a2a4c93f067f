"""Environments of other libraries declare what is really wanted: it is recorded beside the reward, by whom and how they say."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces as gs

from marlstone.config import dump, load, parse
from marlstone.core.errors import UserError
from marlstone.core.types import Metric
from marlstone.envs.conformance import NonConforming, first_legal
from marlstone.envs.host.gymnasium import GymnasiumEnv
from marlstone.envs.host.pettingzoo import PettingZooEnv
from marlstone.envs.host.recognize import adapt
from marlstone.envs.make import make as make_env
from marlstone.envs.own_metrics import Info, measured
from marlstone.envs.user_file import load as load_file
from marlstone.rollout.fault_log import FaultLog
from marlstone.rollout.worker_pool import Workers
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import train
from tests.envs.couriers import make

LIBRARIES = load_file(str(Path(__file__).parents[1] / "cases" / "other_libraries.py"))


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


@pytest.mark.parametrize(
    ("made", "name", "total"),
    [
        (LIBRARIES.TurnBased, "length", 1 + 2 + 3 + 4),  # infos by agent, the last one under __common__
        (LIBRARIES.DictSpaces, "late", 1 + 2 + 3),  # a team's info
        (LIBRARIES.Cells, "number connections", 4 * 3),
        (LIBRARIES.Rail, "speed", 4 * 1.5),  # infos by field, then by agent
        (LIBRARIES.City, "cost", 3 * 2.5),
        (LIBRARIES.Marines, "battle_won", 1),
        (LIBRARIES.Foragers, "food", 4),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_a_configuration_may_read_them_from_infos_of_any_library(made: Any, name: str, total: float) -> None:
    env = measured(adapt(made(), "here"), [Info(name, "down", "mean")])
    assert env.spec.metrics == {name: Metric("down", "mean")}
    step, found = env.reset(1), 0.0
    while not step.last:
        step = env.step(first_legal(env.spec, step))
        found += float(step.metrics[name])
    assert found == total


def test_how_a_configuration_says_so() -> None:
    wanted = (Info("delivered", "up"), Info("waiting", "down", "mean"))
    table = 'env = "a:b"\nmetrics = { delivered = "up", waiting = { better = "down", reduce = "mean" } }'
    assert parse(table).metrics == parse(dump(parse(table))).metrics == wanted
    assert load(None, {"env": "a:b", "metric": '["delivered=up", "waiting=down:mean"]'}).metrics == wanted
    refused = {'{ x = "more" }': "better = 'more'", "{ x = 3 }": "which way is better", '[{ kind = "info" }]': "needs a name"}
    for text, words in refused.items():
        with pytest.raises(UserError, match=words):
            parse(f'env = "a:b"\nmetrics = {text}')


def test_where_there_are_no_infos_or_one_is_declared_already_it_is_refused() -> None:
    for env, name, words in (
        (make_env("proving:climbing"), "x", "written in JAX: declare it in its Spec"),
        (PettingZooEnv(make()), "delivered", "declares one of that name"),
    ):
        with pytest.raises(UserError, match=words):
            measured(env, [Info(name)])


def test_one_that_never_arrives_is_told_once_with_the_names_that_infos_had() -> None:
    told: list[str] = []
    with Workers(
        f"{Path(__file__).parent}/couriers.py:make", 2, num_workers=1, metrics=[Info("deliverd")], log=FaultLog(write=told.append)
    ) as env:
        env.init(np.arange(4, dtype=np.uint32).reshape(2, 2))
        for _ in range(12):
            env.step(None, (np.ones((2, 2), np.int32),))
        assert not any(env.counts.values())  # a note, no fault
    assert len(told) == 1 and "'deliverd' stood in no info of a whole episode" in told[0] and "delivered" in told[0], told
