"""A PettingZoo world with every kind of space: pictures, numbers, choices, masks; agents of unequal sizes, who leave and come back."""

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces as gs


class Worlds:
    """`shy`: one agent is gone every third step; `masks`: in observations, in infos, or nowhere."""

    metadata: ClassVar[dict[str, Any]] = {"name": "worlds", "is_parallelizable": True}

    def __init__(self, masks: str = "observation", length: int = 12, shy: bool = True) -> None:
        self.masks, self.length, self.shy = masks, length, shy
        self.possible_agents = ["cam_0", "cam_1", "arm_0", "arm_1", "dj"]
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> Any:
        if agent.startswith("cam"):
            seen = gs.Dict({"eye": gs.Box(0, 255, (9, 10, 3), np.uint8), "at": gs.Discrete(4, start=1)})
            return gs.Dict({"observation": seen, "action_mask": gs.MultiBinary(3)}) if self.masks == "observation" else seen
        if agent.startswith("arm"):
            return gs.Tuple((gs.Box(-np.inf, np.inf, (2 + (agent == "arm_1"),)), gs.MultiDiscrete([2, 3])))
        return gs.Box(-1, 1, (2, 3), np.float64)

    def action_space(self, agent: str) -> Any:
        if agent.startswith("cam"):
            return gs.Discrete(3, start=-1)
        if agent.startswith("arm"):
            low = np.array([-2.0] * (1 + (agent == "arm_1")), np.float32)
            return gs.Box(low, -2 * low, dtype=np.float32)
        return gs.Tuple((gs.Discrete(2), gs.MultiBinary(2)))

    def _give(self) -> tuple[dict[str, Any], dict[str, Any]]:
        random = self.random
        mask = lambda: np.eye(3, dtype=np.int8)[random.integers(3)] | np.eye(3, dtype=np.int8)[random.integers(3)]
        seen: dict[str, Any] = {}
        infos: dict[str, Any] = {a: {} for a in self.agents}
        for a in self.agents:
            if a.startswith("cam"):
                it = {"eye": random.integers(0, 256, (9, 10, 3)).astype(np.uint8), "at": random.integers(1, 5)}
                seen[a] = {"observation": it, "action_mask": mask()} if self.masks == "observation" else it
                if self.masks == "info":
                    infos[a]["action_mask"] = mask()
            elif a.startswith("arm"):
                seen[a] = (random.normal(size=2 + (a == "arm_1")).astype(np.float32), random.integers(0, [2, 3]))
            else:
                seen[a] = random.uniform(-1, 1, (2, 3))
        return seen, infos

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.random, self.t = np.random.default_rng(seed), 0
        self.agents = list(self.possible_agents)
        return self._give()

    def step(self, actions: dict[str, Any]) -> Any:
        assert set(actions) == set(self.agents)
        assert all(self.action_space(a).contains(x) for a, x in actions.items()), actions
        self.t += 1
        over = self.t >= self.length
        asked = self.agents
        self.agents = [a for a in self.possible_agents if not (self.shy and a == "arm_0" and self.t % 3 == 0)]
        seen, infos = self._give()
        ended = dict.fromkeys(set(asked) | set(self.agents), over)
        if over:
            self.agents = []
        return seen, dict.fromkeys(ended, 0.0), dict.fromkeys(ended, False), ended, infos

    def close(self) -> None: ...


def make(masks: str = "observation", length: int = 12, shy: bool = True) -> Worlds:
    return Worlds(masks, length, shy)
