"""Small PettingZoo environments, well-behaved and not, named by tests as `host_examples.py:factory?option=value`."""

import os
import time
from typing import ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

FLOAT = spaces.Box(-1e6, 1e6, (3,), np.float32)


class Toy(ParallelEnv):
    """`n` agents; observation = [step, agent, seed mod 1000]; reward = step. Ends after `length` by `end`."""

    metadata: ClassVar = {"name": "toy"}

    def __init__(self, n=2, length=4, end="terminate", die=-1, late=-1, cut=-1, fault="none", at=2, scale=1.0, sleep=0.0, load=0.0):
        self.possible_agents = [f"walker_{i}" for i in range(n)]
        self.n, self.length, self.end, self.die, self.late, self.cut = n, length, end, die, late, cut
        self.fault, self.at, self.scale, self.sleep, self.load = fault, at, scale, sleep, load

    def observation_space(self, agent):
        return FLOAT

    def action_space(self, agent):
        return spaces.Discrete(3)

    def _see(self, agents):
        return {a: np.array([self.t, self.possible_agents.index(a), self.seed % 1000], np.float32) for a in agents}

    def reset(self, seed=None, options=None):
        self.t, self.seed = 0, seed or 0
        time.sleep(self.load)
        self.agents = [a for i, a in enumerate(self.possible_agents) if not (self.late > 0 and i == 0)]
        if self.fault == "reset" and seed and seed != 0:
            raise RuntimeError("reset broke")
        return self._see(self.agents), {a: {} for a in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents), (actions, self.agents)
        assert all(isinstance(a, int) and 0 <= a < 3 for a in actions.values())
        self.t += 1
        if self.sleep:
            time.sleep(self.sleep)
        if self.late == self.t:
            self.agents = self.possible_agents[:]
        here = self.agents
        over = self.t >= self.length
        terminated = {a: (over and self.end in ("terminate", "mixed" if a.endswith("_0") else "terminate")) for a in here}
        truncated = {a: over and not terminated[a] and self.end != "vanish" for a in here}
        first = self.possible_agents[0]
        if self.t == self.die:
            terminated[first] = True
        if self.t == self.cut:
            truncated[first] = True
        seen, reward = self._see(here), {a: float(self.t) * self.scale for a in here}
        if self.t == self.at:
            seen, reward = self._break(seen, reward, here[-1])
        self.agents = [] if over else [a for a in here if not (terminated[a] or truncated[a])]
        return seen, reward, terminated, truncated, {a: {} for a in here}

    def _break(self, seen, reward, who):
        match self.fault:
            case "blank":
                seen[who] = np.full(3, np.nan, np.float32)
            case "endless":
                reward[who] = float("inf")
            case "shape":
                seen[who] = np.zeros(5, np.float32)
            case "dtype":
                seen[who] = np.array(["a", "b", "c"])
            case "reward_dtype":
                reward[who] = "much"
            case "bounds":
                reward[who] = 1e9
            case "raise":
                raise RuntimeError("the simulator lost its mind")
            case "hang":
                time.sleep(1000)
            case "spin":
                while True:
                    pass
            case "exit":
                os._exit(3)
            case "sysexit":
                raise SystemExit(4)
        return seen, reward

    def close(self):
        pass


class Spaces(ParallelEnv):
    """One agent per entry of `seen` and `acts`; what it observes is sampled from its space, what it did is kept."""

    metadata: ClassVar = {"name": "spaces"}

    def __init__(self, seen, acts, masks=None, infos=None):
        self.possible_agents = list(seen)
        self.seen, self.acts, self.masks, self.infos = seen, acts, masks or {}, infos or {}

    def observation_space(self, agent):
        return self.seen[agent]

    def action_space(self, agent):
        return self.acts[agent]

    def _sample(self):
        out = {}
        for a in self.agents:
            x = self.seen[a].sample()
            if a in self.masks:
                x["action_mask"] = np.asarray(self.masks[a], np.int8)
            out[a] = x
        self.latest = out
        return out, {a: dict(self.infos.get(a, {})) for a in self.agents}

    def reset(self, seed=None, options=None):
        for k, a in enumerate(self.possible_agents):
            self.seen[a].seed((seed or 0) + k)
        self.agents = self.possible_agents[:]
        return self._sample()

    def step(self, actions):
        for a, x in actions.items():
            assert self.acts[a].contains(x), (a, x)
        self.done = actions
        seen, infos = self._sample()
        return seen, dict.fromkeys(self.agents, 1.0), dict.fromkeys(self.agents, False), dict.fromkeys(self.agents, False), infos

    def close(self):
        pass


def toy(**options):
    return Toy(**options)


def pictures():
    camera = spaces.Box(0, 255, (16, 12, 3), np.uint8)
    inner = spaces.Dict({"speed": spaces.Box(-1, 1, (2,), np.float32), "gear": spaces.Discrete(3)})
    space = spaces.Dict({"camera": spaces.Dict({"front": camera}), "body": inner})
    return Spaces({"car_0": space, "car_1": space}, dict.fromkeys(("car_0", "car_1"), spaces.Discrete(4)))


def unseeded():
    """Observations of the wrong kind from the start: found at construction."""
    env = Toy()
    env._see = lambda agents: {a: np.zeros(7, np.float32) for a in agents}
    return env


def jax_env():
    """Not a host environment at all."""
    from marlstone.envs.make import make

    return make("jumanji:LevelBasedForaging?task=8x8-2p-2f-coop")
