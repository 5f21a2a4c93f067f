"""What goes wrong with the rewards agents learn from. True metrics stay true.

Both leave the expected return of an episode as it is, so that returns under them can still be read: what is delayed arrives
at the latest with the episode's end, and noise has mean 0.
"""

from dataclasses import dataclass
from dataclasses import replace as put
from typing import Any, ClassVar

import numpy as np

from marlstone.core.records import replace
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.faults.by_agent import LONGEST, check_limits, push, team_mask
from marlstone.envs.faults.contract import Draws, Fault


@dataclass(frozen=True)
class RewardDelay(Fault):
    """Rewards come `rows` steps late; what is still outstanding comes with the episode's last step."""

    kind: ClassVar[str] = "reward_delay"
    rows: int = 5

    def __post_init__(self) -> None:
        check_limits(self, rows=(0, LONGEST))

    def begin(self, spec: Spec, step: Step, draw: Draws) -> tuple[Array, Array]:
        """Queues of zeros: each agent's rewards and the team's."""
        xp = step.reward.__array_namespace__()
        return xp.zeros((self.rows, spec.n), np.float32), xp.zeros(self.rows, np.float32)

    def step(self, spec: Spec, memory: tuple[Array, Array], step: Step, draw: Draws) -> tuple[Any, Step]:
        """The rewards of `rows` steps ago; at the episode's end all that are outstanding."""
        if self.rows == 0:
            return memory, step
        xp = step.reward.__array_namespace__()
        late = lambda queue, now: xp.where(step.last, xp.sum(queue, axis=0) + now, queue[0]).astype(np.float32)
        queue, team = memory
        after = push(queue, step.reward), push(team, step.team_reward)
        return after, replace(step, reward=late(queue, step.reward), team_reward=late(team, step.team_reward))


@dataclass(frozen=True)
class RewardNoise(Fault):
    """Gaussian noise on every agent's own reward, of standard deviation `scale` in the reward's own unit; the team's reward gets the sum
    of its agents' noise, managers their share of it."""

    kind: ClassVar[str] = "reward_noise"
    scale: float = 0.1

    def __post_init__(self) -> None:
        check_limits(self, scale=(0, 1e6))

    def spec(self, spec: Spec) -> Spec:
        """Without `return_bounds`, since noise leaves them."""
        return put(spec, return_bounds=None) if self.scale else spec

    def step(self, spec: Spec, memory: Any, step: Step, draw: Draws) -> tuple[Any, Step]:
        """Rewards with noise; an episode's first step has none."""
        if self.scale == 0:
            return memory, step
        xp, team = step.reward.__array_namespace__(), team_mask(spec)
        with_us = np.array([a not in spec.opponents for a in spec.agents]) & team
        z = xp.where(step.first, 0.0, self.scale * draw.normal((spec.n,))).astype(np.float32)
        whole = xp.sum(xp.where(with_us, z, xp.zeros_like(z)))
        z = xp.where(team, z, whole / int(team.sum())).astype(np.float32)
        return memory, replace(step, reward=step.reward + z, team_reward=step.team_reward + whole)
