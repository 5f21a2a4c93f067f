"""What goes wrong with what agents are paid in training. True metrics stay the truth.

Both leave the expected return of an episode as it is, so that returns under them can still be read: what is delayed is paid
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
    """Rewards come `rows` rows late, and what is still owed comes with the episode's last row."""

    kind: ClassVar[str] = "reward_delay"
    rows: int = 5

    def __post_init__(self) -> None:
        check_limits(self, rows=(0, LONGEST))

    def begin(self, spec: Spec, row: Step, draw: Draws) -> tuple[Array, Array]:
        xp = row.reward.__array_namespace__()
        return xp.zeros((self.rows, spec.n), np.float32), xp.zeros(self.rows, np.float32)

    def row(self, spec: Spec, memory: tuple[Array, Array], row: Step, draw: Draws) -> tuple[Any, Step]:
        if self.rows == 0:
            return memory, row
        xp = row.reward.__array_namespace__()
        paid = lambda owed, now: xp.where(row.last, xp.sum(owed, axis=0) + now, owed[0]).astype(np.float32)
        owed, team = memory
        after = push(owed, row.reward), push(team, row.team_reward)
        return after, replace(row, reward=paid(owed, row.reward), team_reward=paid(team, row.team_reward))


@dataclass(frozen=True)
class RewardNoise(Fault):
    """Gaussian noise on every agent's own reward, of standard deviation `scale` in the reward's own unit; the team's reward gets the sum
    of its agents' noise, managers their share of it."""

    kind: ClassVar[str] = "reward_noise"
    scale: float = 0.1

    def __post_init__(self) -> None:
        check_limits(self, scale=(0, 1e6))

    def spec(self, spec: Spec) -> Spec:
        return put(spec, return_bounds=None) if self.scale else spec

    def row(self, spec: Spec, memory: Any, row: Step, draw: Draws) -> tuple[Any, Step]:
        if self.scale == 0:
            return memory, row
        xp, team = row.reward.__array_namespace__(), team_mask(spec)
        with_us = np.array([a not in spec.opponents for a in spec.agents]) & team
        z = xp.where(row.first, 0.0, self.scale * draw.normal((spec.n,))).astype(np.float32)
        whole = xp.sum(xp.where(with_us, z, xp.zeros_like(z)))
        z = xp.where(team, z, whole / int(team.sum())).astype(np.float32)
        return memory, replace(row, reward=row.reward + z, team_reward=row.team_reward + whole)
