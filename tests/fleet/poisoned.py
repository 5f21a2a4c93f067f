"""A small environment in which the episodes of some seeds end the process, or never go on."""

import os
import time
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


def make(divisor: int = 5, how: str = "exit", length: int = 4) -> Any:
    if how == "unbuildable":
        raise RuntimeError("the licence server is down")

    class Poisoned(ParallelEnv):
        metadata = {"name": "poisoned"}  # noqa: RUF012
        possible_agents = ["a", "b"]  # noqa: RUF012

        def observation_space(self, agent: str) -> Any:
            return spaces.Box(-1, 1, (2,), np.float32)

        def action_space(self, agent: str) -> Any:
            return spaces.Discrete(2)

        def _see(self) -> dict[str, np.ndarray]:
            return {a: np.zeros(2, np.float32) for a in self.possible_agents}

        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            self.t, self.poisoned, self.agents = 0, bool(seed) and seed % divisor == 0, self.possible_agents[:]
            return self._see(), {a: {} for a in self.agents}

        def step(self, actions: dict[str, int]) -> Any:
            self.t += 1
            if self.poisoned and self.t == 2:
                os._exit(3) if how == "exit" else time.sleep(1000)
            over = self.t >= length
            here, self.agents = self.possible_agents, [] if over else self.possible_agents[:]
            flags = lambda v: dict.fromkeys(here, v)
            return self._see(), flags(0.0), flags(over), flags(False), {a: {} for a in here}

        def close(self) -> None:
            pass

    return Poisoned()
