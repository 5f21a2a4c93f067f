"""Matching pennies as a PettingZoo environment: what red wins blue loses."""

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Pennies(ParallelEnv):
    metadata: ClassVar[dict[str, Any]] = {"name": "pennies"}
    possible_agents: ClassVar[list[str]] = ["red_0", "blue_0"]

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(0, 1, (1,), np.float32)

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(2)

    def _see(self) -> dict[str, np.ndarray]:
        return {a: np.array([self.t / 5], np.float32) for a in self.possible_agents}

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.t, self.agents = 0, list(self.possible_agents)
        return self._see(), {a: {} for a in self.agents}

    def step(self, actions: dict[str, int]) -> Any:
        self.t += 1
        won = 1.0 if actions["red_0"] == actions["blue_0"] else -1.0
        over = dict.fromkeys(self.possible_agents, self.t >= 5)
        seen, none = self._see(), dict.fromkeys(self.possible_agents, False)
        self.agents = [] if self.t >= 5 else self.agents
        return seen, {"red_0": won, "blue_0": -won}, over, none, {a: {} for a in self.possible_agents}


def make() -> Pennies:
    return Pennies()
