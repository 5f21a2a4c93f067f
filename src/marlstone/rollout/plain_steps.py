"""Steps of a process's environments, written into one block at once: what is the same for all of them is done once, in arrays.

Each environment writes its observations (`PlainEnv.step_plainly`); limits, rewards, flags, masks and the state of all of them follow
together. What is written is what their `step` would have been, number for number.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from marlstone.core.types import Step
from marlstone.envs.protocol import PlainEnv


class PlainSteps:
    """The plain steps of one advance of `b` environments.

    Args:
      step: the block's arrays of these environments, `[b ...]`.
      action: the block's actions of them, per group `[b n_g ...]`.
      env: any of the environments.

    Attributes:
      rows: per environment and agent, where its observation is written, `[f]`.
    """

    def __init__(self, step: Step, action: tuple[np.ndarray, ...], env: PlainEnv) -> None:
        (self.obs,) = step.obs[0].values()
        self.step, self.action, self.arranged = step, action, env.arranged
        self.rows = [list(x) for x in self.obs]
        self.begin()

    def begin(self) -> None:
        """Read the actions; no step has been made."""
        self._choices = self.arranged.listed(self.action)
        self._at: list[int] = []
        self._rewards: list[Sequence[float]] = []
        self._ended: list[tuple[int, bool]] = []

    def choices(self, k: int) -> list[Any]:
        """Environment k's actions, as `step_plainly` takes them."""
        return [x[k] for x in self._choices]

    def add(self, k: int, reward: Sequence[float], terminated: bool, truncated: bool) -> bool:
        """Environment k has made a plain step. Returns whether its episode is over."""
        self._at.append(k)
        self._rewards.append(reward)
        if over := terminated or truncated:
            self._ended.append((k, terminated))
        return over

    def complete(self, clip: Callable[[int, np.ndarray], None]) -> None:
        """Write all but the observations of the steps that were added; `clip(k, obs)` is called where environment k's observations `[n f]`
        may be outside their limits, and repairs them in place."""
        if not self._at:
            return
        step, obs = self.step, self.obs
        at: Any = slice(None) if len(self._at) == len(obs) else self._at
        seen, limits = obs[at], self.arranged.plain_limits
        if limits is not None and ((seen < limits[0]) | (seen > limits[1])).any():
            for k in self._at:
                clip(k, obs[k])
            seen = obs[at]
        step.state[at] = seen.reshape(len(seen), -1)
        step.reward[at] = self._rewards
        step.team_reward[at] = [sum(r) for r in step.reward[at].tolist()]
        step.discount[at] = step.team_discount[at] = 1.0
        step.first[at] = step.last[at] = False
        step.present[at] = step.deciding[at] = True
        for mine, mask in zip(step.legal, self.arranged.structural, strict=True):
            if mine is not None:
                mine[at] = mask
        for k, terminated in self._ended:
            step.last[k] = True
            if terminated:
                step.discount[k] = step.team_discount[k] = 0.0
