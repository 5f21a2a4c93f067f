"""Two robots whose action is a tool, a throttle and two flags at once: a Dict of a choice, numbers and bits."""

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Robots(ParallelEnv):
    """Shown which tool, throttle and flags are wanted. `masks`: `none`, or one that forbids a wrong tool, in infos, `nested` as the action
    or `flat`. Each step rewards .5 for throttles near the wanted one with the right tool in hand, and .25 for each right flag. An action
    that is not in the space, of other types than its samples, or forbidden ends the program."""

    metadata = {"name": "robots"}
    true_metrics = {"right_tool": {"better": "up", "reduce": "mean"}}
    default_actions = {"robot_0": {"tool": 3, "throttle": [1.0], "flags": [0, 1]}, "robot_1": {"tool": 3, "throttle": [1.0, -2.0], "flags": [0, 1]}}

    def __init__(self, masks="none", length=8):
        self.masks, self.max_cycles, self.possible_agents = masks, length, ["robot_0", "robot_1"]
        self.acts = {
            a: spaces.Dict({"tool": spaces.Discrete(3, start=1), "throttle": spaces.Box(-2, 4, (1 + i,)), "flags": spaces.MultiBinary(2)})
            for i, a in enumerate(self.possible_agents)
        }

    def observation_space(self, agent):
        return spaces.Box(-1, 1, (6,), np.float32)

    def action_space(self, agent):
        return self.acts[agent]

    def _next(self):
        self.wanted = {a: (self.rng.integers(1, 4), self.rng.uniform(-2, 4), self.rng.integers(0, 2, 2)) for a in self.agents}
        self.wrong = {a: (self.wanted[a][0] % 3) + 1 for a in self.agents}
        see = lambda w: np.concatenate([np.eye(3)[w[0] - 1], [(w[1] - 1) / 3], w[2]]).astype(np.float32)
        return {a: see(w) for a, w in self.wanted.items()}, {a: self._mask(a) for a in self.agents}

    def _mask(self, agent):
        tools = (np.arange(1, 4) != self.wrong[agent]).astype(np.int8)
        if self.masks == "nested":
            return {"action_mask": {"tool": tools}}
        return {"action_mask": np.concatenate([[1, 1, 1, 1], tools])} if self.masks == "flat" else {}

    def reset(self, seed=None, options=None):
        self.rng, self.agents, self.t = np.random.default_rng(seed), list(self.possible_agents), 0
        return self._next()

    def step(self, actions):
        reward, infos = {}, {}
        for a, x in actions.items():
            if not self.acts[a].contains(x) or type(x["tool"]) is not int or x["throttle"].dtype != np.float32 or x["flags"].dtype != np.int8:
                raise SystemExit(f"{a}: {x} is not in {self.acts[a]}")
            if self.masks != "none" and x["tool"] == self.wrong[a]:
                raise SystemExit(f"{a}: tool {x['tool']} was forbidden")
            tool, throttle, flags = self.wanted[a]
            near = float(np.clip(1 - np.abs(x["throttle"] - throttle) / 3, 0, 1).mean())
            reward[a] = 0.5 * near * (x["tool"] == tool) + 0.25 * float((x["flags"] == flags).sum())
            infos[a] = {"right_tool": float(x["tool"] == tool) / 2}
        self.t += 1
        over = self.t >= self.max_cycles
        seen, masks = self._next()
        infos = {a: {**infos[a], **masks[a]} for a in actions}
        flags = lambda v: dict.fromkeys(actions, v)
        self.agents = [] if over else self.agents
        return seen, reward, flags(False), flags(over), infos


def make_env(masks="none", length=8):
    return Robots(masks, length)
