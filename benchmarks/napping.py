"""A light environment for `many.py`: a step takes a while, but no processor; some stall for ever, as a shared folder says."""

import fcntl
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


def make(folder: str, nap: float = 0.05, length: int = 25) -> Any:
    """While `folder`/ill exists, an episode may draw one of `folder`'s tickets, files 0, 1, ...: who holds one, by its lock, never
    returns from its next step. A process that is ended lets its ticket go, so that as many are stalled at any time as there are tickets."""

    class Napping(ParallelEnv):
        metadata = {"name": "napping"}  # noqa: RUF012
        possible_agents = ["a", "b"]  # noqa: RUF012
        one, two = spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(3)

        def observation_space(self, agent: str) -> Any:
            return self.one

        def action_space(self, agent: str) -> Any:
            return self.two

        def _see(self) -> dict[str, np.ndarray]:
            return {a: np.full(4, self.t / length, np.float32) for a in self.possible_agents}

        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            self.t, self.agents, self.stalls = 0, self.possible_agents[:], (Path(folder) / "ill").exists() and self._draw()
            return self._see(), {a: {} for a in self.agents}

        def _draw(self) -> bool:
            ticket = random.choice([p for p in Path(folder).iterdir() if p.name.isdigit()])
            fd = os.open(ticket, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            return True  # held for as long as this process lives

        def step(self, actions: dict[str, int]) -> Any:
            time.sleep(1e9 if self.stalls else nap)
            self.t += 1
            over, here = self.t >= length, self.possible_agents
            self.agents = [] if over else here[:]
            rewards = {a: float(actions[a] == 1) for a in here}
            return self._see(), rewards, dict.fromkeys(here, over), dict.fromkeys(here, False), {a: {} for a in here}

        def close(self) -> None:
            pass

    return Napping()
