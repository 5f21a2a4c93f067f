import json, os
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


def note(d):
    if "CASE_LOG" in os.environ:
        with open(os.environ["CASE_LOG"], "a") as f:
            f.write(json.dumps(d) + "\n")


class Env(ParallelEnv):
    """mask: info | late (info, but not at reset) | obs ({'observation','action_mask'}) | named ({'obs','action_mask'}); agent b dies early"""

    metadata = {"name": "masks"}

    def __init__(self, where="info", boolean=False):
        self.where = where
        self.dtype = bool if boolean else np.int8
        self.possible_agents = ["a", "b"]
        self.max_cycles = 10
        self.n = {"a": 5, "b": 3}

    def observation_space(self, a):
        box = spaces.Box(0, 1, (2,), np.float32)
        m = spaces.Box(0, 1, (self.n[a],), np.int8)
        return (
            spaces.Dict({"observation": box, "action_mask": m})
            if self.where == "obs"
            else spaces.Dict({"obs": box, "action_mask": m})
            if self.where == "named"
            else box
        )

    def action_space(self, a):
        return spaces.Discrete(self.n[a])

    def _rows(self, first=False):
        self.mask = {}
        obs, infos = {}, {}
        for a in self.agents:
            m = self.rng.random(self.n[a]) < 0.5
            m[self.rng.integers(self.n[a])] = True
            self.mask[a] = m
            x = np.full(2, self.t / 10, np.float32)
            obs[a] = (
                {"observation": x, "action_mask": m.astype(self.dtype)}
                if self.where == "obs"
                else {"obs": x, "action_mask": m.astype(self.dtype)}
                if self.where == "named"
                else x
            )
            infos[a] = {"action_mask": m.astype(self.dtype)} if self.where == "info" or (self.where == "late" and not first) else {}
        if first and self.where == "late":
            self.mask = {a: np.ones(self.n[a], bool) for a in self.agents}
        return obs, infos

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.agents, self.t = self.possible_agents[:], 0
        return self._rows(True)

    def step(self, actions):
        note({"illegal": [a for a, x in actions.items() if not self.mask[a][x]], "n": len(actions), "who": sorted(actions)})
        self.t += 1
        n = list(self.agents)
        te = {a: a == "b" and self.t >= 4 for a in n}
        tr = {a: self.t >= 10 for a in n}
        self.agents = [a for a in n if not (te[a] or tr[a])]
        live = self.agents
        self.agents = n
        obs, infos = self._rows()
        self.agents = live
        return obs, {a: 1.0 for a in n}, te, tr, infos


def make_env(where="info", boolean=False):
    return Env(where, boolean)
