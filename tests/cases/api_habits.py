import numpy as np
import gymnasium as gym
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Base(ParallelEnv):
    metadata = {"name": "ids"}

    def __init__(self, ids):
        self.possible_agents = list(ids)
        self.max_cycles = 5

    def observation_space(self, a):
        return spaces.Box(0, 1, (2,), np.float32)

    def action_space(self, a):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.agents, self.t = self.possible_agents[:], 0
        return {a: np.zeros(2, np.float32) for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions):
        self.t += 1
        end = self.t >= 5
        n = self.agents
        out = ({a: np.zeros(2, np.float32) for a in n}, {a: 1.0 for a in n}, {a: False for a in n}, {a: end for a in n}, {a: {} for a in n})
        if end:
            self.agents = []
        return out


class OldReset(Base):
    def reset(self, seed=None, options=None):
        return super().reset()[0]


class NoSeed(Base):
    def reset(self):
        return super().reset()


class Four(Base):
    def step(self, actions):
        o, r, te, tr, i = super().step(actions)
        return o, r, {a: te[a] or tr[a] for a in te}, i


class Scalar(gym.Env):
    """Tuple spaces and one scalar reward for the whole team (EPyMARL/SMAC habit)"""

    observation_space = spaces.Tuple([spaces.Box(0, 1, (2,), np.float32)] * 2)
    action_space = spaces.Tuple([spaces.Discrete(2)] * 2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return (np.zeros(2, np.float32),) * 2, {}

    def step(self, acts):
        self.t += 1
        return (np.zeros(2, np.float32),) * 2, 1.0, self.t >= 5, False, {}


def make_old():
    return OldReset("ab")


def make_noseed():
    return NoSeed("ab")


def make_four():
    return Four("ab")


def make_scalar():
    return Scalar()


class TupleOnly(Scalar):
    """as HighwayEnv's MultiAgentAction: actions of a Tuple space must be a tuple"""

    def step(self, acts):
        assert isinstance(acts, tuple)
        o, r, te, tr, i = super().step(acts)
        return o, (r, r), te, tr, i


def make_tuple():
    return TupleOnly()
