"""A crossing in Python, `crossing.py:make`: two lights choose the main road (1) or the side road (0), and the reward counts main-road cars.

What is wanted is a short wait on the side road, `waited`: it grows while no light lets the side road go. `honest`: the reward is minus it,
and `flow`, the cars on the main road, is no metric.
"""

from typing import Any

import numpy as np

from marlstone.core.distributions import Discrete
from marlstone.core.types import Group, Leaf, Metric, Spec, Step
from marlstone.envs.host.host_step import host_step

LENGTH = 6


class Crossing:
    def __init__(self, honest: bool) -> None:
        group = Group("lights", ("north", "south"), {"queue": Leaf("vector", (2,))}, Discrete(2))
        metrics = {"waited": Metric("down", "mean"), "flow": Metric("up", "sum")}
        self.spec, self.honest = Spec((group,), 1, LENGTH, {k: m for k, m in metrics.items() if k == "waited" or not honest}), honest

    def reset(self, seed: int) -> Step:
        self.random, self.t, self.waited = np.random.default_rng(seed), 0, 0.0
        return self._row(np.zeros(2), 0.0, first=True)

    def step(self, action: tuple[np.ndarray, ...]) -> Step:
        self.t += 1
        main = np.asarray(action[0], float)
        self.waited = self.waited + 1 if main.all() else 0.0
        flow = main * (1 + 0.2 * self.random.random(2))
        return self._row(np.full(2, -self.waited) if self.honest else flow, float(flow.sum()))

    def _row(self, reward: np.ndarray, flow: float, first: bool = False) -> Step:
        obs = np.array([[self.waited, i] for i in range(2)], np.float32)
        metrics = {k: x for k, x in (("waited", self.waited), ("flow", flow)) if k in self.spec.metrics}
        row = {"first": first, "last": self.t >= LENGTH, "metrics": metrics}
        return host_step(({"queue": obs},), np.array([self.waited], np.float32), (None,), reward.astype(np.float32), **row)

    def close(self) -> None:
        pass


def make(honest: bool = False) -> Any:
    return Crossing(honest)
