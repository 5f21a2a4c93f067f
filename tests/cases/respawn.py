import json, os
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Env(ParallelEnv):
    """cars: at every third row car_0 is done; mode 'same': it is back next row under its name; 'at_once': back in the same row;
    'new': a fresh name car_k each time, with possible_agents as at the start (2); 'spawn': car_1 comes only at row 5"""

    metadata = {"name": "respawn"}

    def __init__(self, mode="same"):
        self.mode = mode
        self.possible_agents = ["car_0", "car_1"]
        self.max_cycles = 12

    def observation_space(self, a):
        return spaces.Box(0, 1, (2,), np.float32)

    def action_space(self, a):
        return spaces.Discrete(2)

    def _o(self, a):
        return np.array([self.t / 12, 0], np.float32)

    def reset(self, seed=None, options=None):
        self.agents = ["car_0"] if self.mode == "spawn" else self.possible_agents[:]
        self.t, self.k, self.back = 0, 2, False
        return {a: self._o(a) for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents), (actions, self.agents)
        n = list(self.agents)
        self.t += 1
        end = self.t >= 12
        r = {a: float(actions[a]) for a in n}
        te = {a: False for a in n}
        tr = {a: end for a in n}
        obs = {a: self._o(a) for a in n}
        nxt = list(n)
        if self.back:
            nxt = ["car_0"] + nxt
            obs["car_0"] = self._o("car_0")
            self.back = False
        elif self.t % 3 == 0 and not end and self.mode != "spawn":
            first = nxt[0]
            te[first] = True
            if self.mode == "same":
                nxt.remove(first)
                self.back = True
            if self.mode == "new":
                nxt.remove(first)
                nxt.append(f"car_{self.k}")
                obs[nxt[-1]] = self._o("")
                self.k += 1
        if self.mode == "spawn" and self.t == 5:
            nxt.append("car_1")
            obs["car_1"] = self._o("car_1")
        self.agents = [] if end else nxt
        return obs, r, te, tr, {a: {} for a in n}


def make_env(mode="same"):
    return Env(mode)
