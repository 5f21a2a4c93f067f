"""A team whose steps are plain but for one in six, which is unusual or wrong in one of many ways, as its seed decides."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces

KINDS = 15


class Unusual(gym.Env):
    """Three agents, one of which has fewer actions; episodes of 3 to 11 steps, terminated or truncated."""

    observation_space = spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.Box(-5, 5, (2,)), spaces.Box(-np.inf, np.inf, (2,))))
    action_space = spaces.Tuple((spaces.Discrete(3), spaces.Discrete(4), spaces.Discrete(4, start=1)))

    def __init__(self, only=-1):
        self.only = only

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.length = int(self.np_random.integers(3, 12))
        return self._see(), {}

    def _see(self):
        return [self.np_random.uniform(-1, 1, 2).astype(np.float32) for _ in range(3)]

    def step(self, action):
        assert self.action_space.contains(tuple(action)), action
        self.t += 1
        seen, agent = self._see(), int(self.np_random.integers(3))
        rewards, info = [0.1 * float(action[0]), 0.3, int(action[2])], {"success": 0.0}
        over = self.t >= self.length
        ended, late = over and self.length % 2 == 0, np.bool_(over and self.length % 2 == 1)
        kind = int(self.np_random.integers(0, 6 * KINDS))
        match kind if self.only < 0 or kind >= KINDS else self.only:
            case 0:
                seen[agent][1] = 1e5
            case 1:
                seen[agent][0] = np.nan
            case 2:
                seen[agent] = seen[agent].tolist()
            case 3:
                seen[agent] = seen[agent][:1]
            case 4:
                seen[agent] = seen[agent].astype(np.float64) * 99
            case 5:
                seen[agent] = None
            case 6:
                rewards[agent] = "much"
            case 7:
                rewards = 1.5
            case 8:
                rewards[agent] = np.float32(np.inf)
            case 9:
                info = {"action_mask": [np.eye(n, dtype=np.int8)[0] for n in (3, 4, 4)]}
            case 10:
                info = {agent: {"legal_actions": [0]}}
            case 11:
                raise RuntimeError("the simulator fell over")
            case 12:
                rewards = np.array(rewards)
            case 13:
                seen.pop()
            case 14:
                info = {"action_mask": [np.zeros(n, np.int8) for n in (3, 4, 4)]}  # all of them wait
        return tuple(seen) if agent else seen, rewards, ended, late, info


def make(only=-1):
    """`only`: which unusual thing happens; -1: any."""
    return Unusual(only)


class Sharing(Unusual):
    """One that shows all of its copies' agents what they see in the same arrays."""

    seen = tuple(np.zeros(2, np.float32) for _ in range(3))

    def _see(self):
        for x in self.seen:
            x[:] = self.np_random.uniform(-1, 1, 2)
        return list(self.seen)


def sharing(only=-1):
    return Sharing(only)
