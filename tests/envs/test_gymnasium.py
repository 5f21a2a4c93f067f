"""Multi-agent Gymnasium packages with Tuple spaces."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from marlstone.envs.host.gymnasium import GymnasiumEnv
from marlstone.envs.make import make
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.user_file import load

rows_of = load(str(Path(__file__).parent / "test_pettingzoo.py"))

LBF = "gymnasium:lbforaging?id=Foraging-8x8-2p-2f-coop-v3"
RWARE = "gymnasium:rware?id=rware-tiny-2ag-v2"


class Pair(gym.Env):
    """Two agents of different kinds, ending after three steps."""

    observation_space = spaces.Tuple((spaces.Box(-9, 9, (2,)), spaces.Box(-9, 9, (3,)), spaces.Box(-9, 9, (2,))))
    action_space = spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, (1,)), spaces.Discrete(3)))

    def __init__(self, terminate=True):
        self.terminate = terminate

    def _see(self):
        return tuple(np.full(s.shape, k + 1, np.float32) for k, s in enumerate(self.observation_space.spaces))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._see(), {}

    def step(self, action):
        assert self.action_space.contains(tuple(action)), action
        self.t += 1
        return self._see(), [1.0, 2.0, 3.0], self.terminate and self.t == 3, not self.terminate and self.t == 3, {}


@pytest.mark.parametrize("end", ["terminate", "truncate"])
def test_truncation_bootstraps_and_termination_does_not(end):
    env = GymnasiumEnv(Pair(end == "terminate"))
    rows = rows_of.play(env)
    rows_of.check_rows(env, rows)
    assert rows_of.ends_like(rows, end) and not rows_of.ends_like(rows, "truncate" if end == "terminate" else "terminate")
    assert env.spec.agents == ("agent_0", "agent_2", "agent_1")  # groups first, then order
    np.testing.assert_array_equal(rows[1].reward, [1, 3, 2])
    np.testing.assert_array_equal(rows[1].state, [1, 1, 3, 3, 2, 2, 2])


def test_a_declared_limit_says_nothing_of_how_an_episode_ended():
    class Late(Pair):
        max_steps = 3

    env = GymnasiumEnv(Late(terminate=True))
    assert env.spec.horizon == 3 and rows_of.ends_like(rows_of.play(env), "terminate")


@pytest.mark.parametrize(("name", "limit"), [(LBF, 50), (RWARE, 500)])
def test_packages_that_call_their_time_limit_a_termination_are_corrected(name, limit):
    """Idle agents run into the limit: a truncation. In lbforaging an episode ends by termination where no food is left."""
    env = make(name)
    row, idle = env.reset(0), (np.zeros(2, np.int32),)
    for _ in range(limit):
        assert not row.last
        row = env.step(idle)
    assert row.last and row.team_discount == 1 and (row.discount == 1).all()
    if name == LBF:
        env.reset(1)
        env._env.unwrapped.field[:] = 0
        assert env.step(idle).team_discount == 0
    env.close()


@pytest.mark.parametrize(("name", "agents", "horizon"), [(LBF, 2, 50), (RWARE, 2, 500)])
def test_packages_play(name, agents, horizon):
    env = make(name)
    rows = rows_of.play(env)
    rows_of.check_rows(env, rows)
    assert env.spec.n == agents and env.spec.horizon == horizon and len(rows) - 1 <= horizon
    if len(rows) - 1 == horizon:
        assert rows_of.ends_like(rows, "truncate")
    np.testing.assert_array_equal(rows_of.play(env)[-1].state, rows[-1].state)
    env.close()


def test_options_reach_the_environment_and_wrong_ones_are_named():
    assert make(LBF + "&max_episode_steps=9&sight=2").spec.horizon == 9
    with pytest.raises(UnknownEnvironment, match=r"did you mean 'Foraging-8x8-2p-2f-coop-v3'"):
        make("gymnasium:lbforaging?id=Foraging-8x8-2p-2f-cop-v3")
    with pytest.raises(UnknownEnvironment, match="colour"):
        make(LBF + "&colour=3")
    with pytest.raises(UnknownEnvironment, match="no module"):
        make("gymnasium:lbforagin?id=x")
    with pytest.raises(UnknownEnvironment, match="option id is None"):
        make("gymnasium:lbforaging")
