"""Paid for driving, wanted for delivering: an environment with declared true metrics, as users write it."""

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete


class Couriers:
    """Choice 1 delivers, choice 0 drives."""

    metadata: ClassVar[Any] = {"name": "couriers", "is_parallelizable": True}
    possible_agents: ClassVar[Any] = ["van", "bike"]
    true_metrics: Any = {  # noqa: RUF012
        "delivered": "up", "idle": {"better": "down", "reduce": "mean"}, "left": {"better": "down", "reduce": "last"},
    }  # fmt: skip

    def observation_space(self, agent: str) -> Any:
        return Box(-1, 1, (2,), np.float32)

    def action_space(self, agent: str) -> Any:
        return Discrete(2)

    def _seen(self) -> Any:
        return {a: np.zeros(2, np.float32) for a in self.agents}

    def close(self) -> None: ...

    def reset(self, seed: Any = None, options: Any = None) -> Any:
        self.agents, self.t = list(self.possible_agents), 0
        return self._seen(), {a: {} for a in self.agents}

    def step(self, actions: Any) -> Any:
        self.t += 1
        infos: Any = {a: {"delivered": float(x)} if x else {} for a, x in actions.items()}
        infos["van"] |= {"idle": 0.5, "left": 10.0 - self.t}
        over = self.t >= 4
        seen, reward, last = self._seen(), {a: 1.0 - x for a, x in actions.items()}, dict.fromkeys(actions, over)
        if over:
            self.agents = []
        return seen, reward, dict.fromkeys(actions, False), last, infos


def make() -> Couriers:
    return Couriers()
