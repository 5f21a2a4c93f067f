"""Every agent's reward is its own, and as much of the team's as is asked for."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.types import Trajectory, Views
from marlstone.credit.contract import Credit

Array = Any


@dataclass(frozen=True)
class Individual(Credit):
    """The agent's own reward, until its own end: every neutral answer. `team` in [0, 1] is the part of the team's reward instead:

        pay_i = (1 - team) own_i + team * team_reward

    until the team's end, since the team's part goes on beyond the agent's own. At 0 nothing of the team's reward reaches any agent,
    so that opponents may learn by it too; at 1 it is `Team`.
    """

    kind: ClassVar[str] = "individual"
    team: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.team <= 1:
            raise ValueError(f"Individual.team is {self.team}: give a weight from 0 (its own reward) to 1 (the team's)")

    @property
    def splits(self) -> bool:  # type: ignore[override]
        """Rewards add up to the team's only without a part of it that everybody has."""
        return not self.team

    def answers(self) -> frozenset[str]:
        """Without a part of the team's, this reward is the neutral answer."""
        neutral = not self.team and type(self).reward is Individual.reward
        return super().answers() - {"reward"} if neutral else super().answers()

    def reward(self, p: Any, views: Views, trajectory: Trajectory) -> tuple[Array, Array]:
        """The agent's own reward and its part of the team's."""
        own, discount = super().reward(p, views, trajectory)
        if not self.team:
            return own, discount
        reward = (1 - self.team) * own + self.team * trajectory.step.team_reward[1:, None]
        return reward, trajectory.step.team_discount[1:, None] + jnp.zeros_like(discount)
